"""Logs of several tasks are printed in whole lines, whatever parts they were written in."""

from headframe.cli.logs import Lines


def piece(rank: int, text: str, stream: str = "stdout") -> dict[str, object]:
    return {"at_us": 0, "attempt": 1, "rank": rank, "stream": stream, "text": text}


def test_lines_of_a_gang_stay_whole(capsys):
    lines = Lines(ranks=True)
    for one in (piece(0, "rank 0 "), piece(1, "rank 1 line\nand "), piece(0, "line\n\n"), piece(1, "its rest")):
        lines.add(one)
    lines.end()
    assert capsys.readouterr().out == "[1] rank 1 line\n[0] rank 0 line\n[0] \n[1] and its rest\n"


def test_one_tasks_output_goes_out_as_it_comes(capsys):
    lines = Lines()
    lines.add(piece(0, "50 %"))
    assert capsys.readouterr().out == "50 %"
    lines.add(piece(0, "oh\n", "stderr"))
    lines.end()
    assert capsys.readouterr() == ("", "oh\n")
