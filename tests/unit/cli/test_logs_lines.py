"""Logs of several tasks are printed in whole lines, whatever parts they were written in."""

from headframe.cli.logs import Lines
from headframe.cli.printing import Bar


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


def test_jobs_of_an_array_are_told_apart_by_their_index(capsys):
    lines = Lines()
    for index, text in ((3, "half "), (10, "whole\n"), (3, "a line\n")):
        lines.add({**piece(0, text), "index": index})
    lines.end()
    assert capsys.readouterr().out == "[10] whole\n[3] half a line\n"


def test_steps_of_a_build_are_a_bar_on_a_terminal_and_nothing_elsewhere(capsys, monkeypatch):
    steps = [piece(0, "fetching torch: 16777216 of 33554432 bytes\n", "progress"), piece(0, "hello\n")]
    lines = Lines(bar=Bar())
    for one in steps:
        lines.add(one)
    lines.end()
    assert capsys.readouterr() == ("hello\n", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    for one in steps:
        lines.add(one)
    lines.end()
    shown = capsys.readouterr()
    assert shown.out == "hello\n"
    assert "fetching torch" in shown.err
    assert "16 MiB of 32 MiB" in shown.err
