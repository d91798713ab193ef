"""How far a build is, from what uv prints and from what is installed."""

from __future__ import annotations

import threading
from pathlib import Path

from headframe.base.progress import Progress, read_progress
from headframe.engines import build_progress
from headframe.engines.build_progress import BuildProgress

MIB = 1 << 20


def told_of(tmp_path: Path, *lines: str) -> list[Progress]:
    told: list[Progress] = []
    progress = BuildProgress(tmp_path, told.append)
    for line in lines:
        progress.line(line)
    progress.end()
    return told


def test_large_downloads_are_counted_in_bytes_and_named(tmp_path: Path) -> None:
    told = told_of(
        tmp_path, "Resolved 3 packages in 3ms", "Downloading numpy (16.0MiB)", "Downloading torch (1.0GiB)",
        " Downloaded numpy", " Downloaded torch", "Prepared 3 packages in 1s", "Installed 3 packages in 2ms",
    )  # fmt: skip
    assert told == [
        Progress("resolving packages"),
        Progress("fetching packages"),
        Progress("fetching numpy", 0, 16 * MIB, "bytes"),
        Progress("fetching numpy, torch", 0, 1040 * MIB, "bytes"),
        Progress("fetching torch", 16 * MIB, 1040 * MIB, "bytes"),
        Progress("fetching packages", 1040 * MIB, 1040 * MIB, "bytes"),
        Progress("installing", 0, 3),
        Progress("installing", 3, 3),
        Progress("compiling"),
    ]


def test_what_is_installed_is_counted_while_nothing_is_printed(tmp_path: Path) -> None:
    site = tmp_path / "lib/python3.11/site-packages"
    counted = threading.Event()

    def tell(step: Progress) -> None:
        if step == Progress("installing", 2, 4):
            counted.set()

    progress = BuildProgress(tmp_path, tell)
    progress.line("Resolved 4 packages in 3ms")
    for name in ("a", "b"):
        (site / f"{name}-1.dist-info").mkdir(parents=True)
    assert counted.wait(20)
    progress.end()


def test_reports_are_bounded_and_names_cannot_make_lines(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(build_progress, "MOST_REPORTS", 10)
    lines = [f"Building x{number}" for number in range(50)]
    told = told_of(tmp_path, *lines)
    assert len(told) == 10
    assert all(read_progress(str(step)) == step for step in told)


def test_lines_that_tell_no_progress_are_none(tmp_path: Path) -> None:
    assert read_progress("installing: 3 of 13 packages\n") == Progress("installing", 3, 13)
    for line in ("", "3 of 13 packages", "a: b of 3 packages", "x: 1 of 2 sheep"):
        assert read_progress(line) is None
