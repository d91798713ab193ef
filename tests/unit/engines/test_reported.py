"""What jobs report of themselves is read as it is added, whatever lies in its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headframe.engines.job_library import lay_out
from headframe.engines.reported import LONGEST_LINE, PIECE_BYTES, ReportedFile, figures_of, size_of

NOW = 1_000_000_000


def told(file: ReportedFile, now_us: int = NOW) -> list[tuple[str, float | None, int | None]]:
    return [(name, value, step) for name, _part, _at, value, step in file.more(0, now_us)]


def test_whole_lines_are_read_once_and_in_order(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    file = ReportedFile(path)
    assert told(file) == []
    path.write_text('{"step": 1, "loss": 3}\n{"step": 2, "lo')
    assert told(file) == [("loss", 3.0, 1)]
    with path.open("a") as more:
        more.write('ss": 2.5}\nno json\n[1]\n{"loss": NaN}\n')
    assert told(file) == [("loss", 2.5, 2), ("loss", None, None)]
    assert told(file) == []
    path.write_text('{"loss": 1}\n')  # begun anew
    assert told(file) == [("loss", 1.0, None)]


def test_lines_without_a_moment_keep_their_order(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"loss": {number}}}\n' for number in range(5)))
    file = ReportedFile(path)
    moments = [at_us for _name, _part, at_us, _value, _step in file.more(1000, 2000)]
    assert moments == sorted(set(moments))
    assert (min(moments) > 1000, max(moments)) == (True, 2000)


def test_a_job_s_word_on_when_it_was_counts_within_its_attempt():
    line = b'{"at": 0.5, "rank": 3, "loss": 1}'
    assert figures_of(line, 400_000, 700_000, 800_000) == [("loss", "3", 500_000, 1.0, None)]
    assert figures_of(line, 600_000, 700_000, 800_000)[0][2] == 700_000, "before it began"
    assert figures_of(b'{"at": 9e300, "loss": 1}', 0, 700_000, 800_000)[0][2] == 700_000


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "missing"])
def test_only_a_plain_file_is_read(tmp_path: Path, kind: str):
    path = tmp_path / "metrics.jsonl"
    secret = tmp_path / "secret"
    secret.write_text('{"secret": 1}\n')
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    assert told(ReportedFile(path)) == []


def test_an_endless_line_is_passed_over_a_piece_at_a_time(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"x" * (PIECE_BYTES + 5) + b'\n{"loss": 1}\n' + b"[" * LONGEST_LINE + b'\n{"loss": 2}\n')
    file = ReportedFile(path)
    found = [one for _ in range(4) for one in told(file)]
    assert found == [("loss", 1.0, None), ("loss", 2.0, None)]
    assert size_of(path) == file.place


def test_a_hole_of_terabytes_costs_a_piece(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"loss": 1}\n')
    os.truncate(path, 1 << 42)
    file = ReportedFile(path)
    assert told(file) == [("loss", 1.0, None)]
    assert told(file) == []
    assert file.place <= 2 * PIECE_BYTES


def test_one_line_of_python_reports(tmp_path: Path):
    lay_out(tmp_path / "lib")
    code = (
        "import headframe; headframe.log(step=1, loss=0.5); headframe.log(step=2, loss=float('nan'));"
        "print(headframe.__version__)"
    )
    env = {
        "PYTHONPATH": str(tmp_path / "lib"),
        "HEADFRAME_OUTPUTS": str(tmp_path),
        "RANK": "2",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["rank"]) for row in rows] == [(1, 2), (2, 2)]
    assert told(ReportedFile(tmp_path / "metrics.jsonl"), 1 << 62) == [("loss", 0.5, 1), ("loss", None, 2)]


def test_a_report_that_cannot_be_written_ends_no_training(tmp_path: Path):
    lay_out(tmp_path / "lib")
    code = "import headframe; headframe.log(loss=1); headframe.log(loss=2); print('trained')"
    env = {"PYTHONPATH": str(tmp_path / "lib"), "HEADFRAME_OUTPUTS": str(tmp_path / "gone"), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert done.stderr.count("nothing more is reported") == 1
