"""What jobs take of the disk is counted cheaply, and a job beyond its bound is ended once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headframe.engines import agent_disk
from headframe.engines.agent_disk import ENTRY_BYTES, Disk, taken
from headframe.engines.agent_state import Folders, Record

MIB = 1 << 20


def fill(path: Path, mib: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(mib * MIB))


def test_what_lies_in_folders_is_counted_as_the_disk_holds_it(tmp_path: Path) -> None:
    fill(tmp_path / "a/one", 2)
    fill(tmp_path / "a/deep/er/two", 3)
    whole = taken([tmp_path / "a", tmp_path / "missing"], 1 << 40)
    assert 5 * MIB <= whole <= 5 * MIB + 64 * ENTRY_BYTES


def test_links_lead_nowhere_and_shared_files_are_shared(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere/large", 4)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a/loop").symlink_to(".")
    os.link(tmp_path / "elsewhere/large", tmp_path / "a/second-name")
    assert 2 * MIB <= taken([tmp_path / "a"], 1 << 40) < 3 * MIB


def test_holes_cost_nothing_and_empty_files_something(tmp_path: Path) -> None:
    with open(tmp_path / "hole", "wb") as file:
        file.truncate(1 << 40)
    assert taken([tmp_path], 1 << 40) < MIB
    for number in range(100):
        (tmp_path / str(number)).touch()
    assert taken([tmp_path], 1 << 40) >= 100 * ENTRY_BYTES


def test_counting_stops_beyond_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        fill(tmp_path / f"{number}/file", 1)
    looked: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(path) or scandir(path))
    assert MIB < taken([tmp_path], MIB) < 4 * MIB
    assert len(looked) < 5


@dataclass
class Host:
    folders: Folders


@dataclass
class Running:
    """As much of an allocation as is looked at."""

    host: Host
    record: Record
    active: bool = True
    preparing: bool = False
    ends: list[str] = field(default_factory=list)

    def end_beyond(self, why: str, grace_us: int) -> None:
        self.record.beyond = why
        self.ends.append(why)


def running(data: Path, name: str, disk_mib: int = 0) -> Running:
    record = Record(f"alc_{name}", 1, f"job_{name}", "org_1", [0], True, disk_mib=disk_mib)
    return Running(Host(Folders(data)), record)


def at_once(call: Callable[[], None]) -> None:
    call()


def test_a_job_beyond_its_bound_is_ended_once(tmp_path: Path) -> None:
    disk = Disk(tmp_path, 4 * MIB, at_once, at_once)
    small, large, asked = running(tmp_path, "small"), running(tmp_path, "large"), running(tmp_path, "asked", 16)
    for job in (large, asked):
        folder = tmp_path / "jobs" / job.record.job_id
        fill(folder / "attempts" / "1" / "0" / "work" / "file", 2)
        fill(folder / "outputs/file", 2)
        fill(folder / "checkpoints/file", 2)
    jobs: list[Any] = [small, large, asked]
    disk.look(jobs)
    disk.look(jobs)
    assert [len(job.ends) for job in jobs] == [0, 1, 0]
    assert large.ends[0].startswith("disk_limit: ")
    assert "4 MiB" in large.ends[0]


def test_a_job_is_walked_through_again_when_enough_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, walks = running(tmp_path, "one"), []
    real, filled = agent_disk.taken, os.statvfs(tmp_path)
    monkeypatch.setattr(agent_disk, "taken", lambda folders, limit: walks.append(1) or real(folders, limit))
    free = filled.f_bfree

    def statvfs(_path: Path) -> os.statvfs_result:
        return os.statvfs_result((*filled[:3], free, *filled[4:]))

    monkeypatch.setattr(os, "statvfs", statvfs)
    disk = Disk(tmp_path, 8 * MIB, at_once, at_once)
    jobs: list[Any] = [job]
    for _look in range(5):
        disk.look(jobs)
    assert len(walks) == 1
    free -= 9 * MIB // filled.f_frsize
    fill(tmp_path / "jobs/job_one/outputs/file", 9)
    disk.look(jobs)
    assert len(walks) == 2
    assert len(job.ends) == 1
