"""What lies in the data folder: how much, and what of it goes when it is told to."""

from __future__ import annotations

import os
from pathlib import Path

from headframe.engines import shelf
from headframe.engines.storage import Storage

DAY_S = 86_400


def environment(data: Path, organization: str, digest: str, unused_s: int) -> Path:
    folder = data / "envs" / organization
    (folder / digest / "bin").mkdir(parents=True)
    (folder / digest / "bin" / "python").write_bytes(b"p" * 5000)
    marker = folder / f"{digest}.json"
    marker.write_text("{}")
    at = marker.stat().st_mtime - unused_s
    os.utime(marker, (at, at))
    return folder


def test_each_kind_is_counted_with_what_it_takes(tmp_path: Path) -> None:
    job = tmp_path / "jobs" / "job_1"
    for name in ("log", "outputs", "checkpoints", "attempts/1/0/work"):
        (job / name).mkdir(parents=True)
    (job / "log" / "0.raw").write_bytes(b"l" * 9000)
    (job / "outputs" / "model").write_bytes(b"m" * 90_000)
    (tmp_path / "jobs" / ".hidden").mkdir()
    environment(tmp_path, "org_1", "abc", 0)
    blobs = tmp_path / "blobs" / "org_1"
    blobs.mkdir(parents=True)
    (blobs / "x").write_bytes(b"x" * 4096)
    (tmp_path / "headframe.db").write_bytes(b"d" * 100)
    piles = {one.kind: one for one in Storage(tmp_path).piles()}
    assert set(piles) == {"store", "logs", "outputs", "working folders", "environments", "uploads"}
    assert piles["store"].bytes == 100
    assert piles["outputs"].bytes >= 90_000 > piles["logs"].bytes >= 9000
    assert Storage(tmp_path / "nowhere").piles() == []


def test_a_hostile_folder_goes_and_takes_nothing_with_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    job = tmp_path / "jobs" / "job_1"
    deep = job / "outputs"
    deep.mkdir(parents=True)
    for name in ("log", "checkpoints"):
        (job / name).symlink_to(outside)
    (deep / "loop").symlink_to(deep)
    (deep / "..\n'\"").write_text("odd")
    os.mkfifo(deep / "pipe")
    (tmp_path / "jobs" / "job_2").symlink_to(outside)
    storage = Storage(tmp_path)
    assert storage.jobs() == ["job_1"]
    assert storage.size_bytes("job_1", "logs") == 0, "what lies elsewhere is not looked through"
    assert "logs" not in {one.kind for one in storage.piles()}
    storage.remove("../outside", "files")
    storage.remove("job_1", "logs")
    assert (job / "outputs").exists()
    storage.remove("job_1", "files")
    storage.remove("job_1", "files")
    assert not job.exists()
    assert (outside / "kept").read_text() == "kept"


def test_an_environment_goes_unless_it_was_used_meanwhile_or_is_used_now(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    folder = environment(tmp_path, "org_1", "abc", 20 * DAY_S)
    [before] = storage.environments()
    assert shelf.take(folder, "abc")
    assert not storage.remove_environment(before), "it was used since it was looked at"
    [now] = storage.environments()
    assert now.used_us > before.used_us
    with shelf.locked(shelf.lock_of(folder, "abc"), shared=True):
        assert not storage.remove_environment(now), "somebody takes it right now"
    assert storage.remove_environment(now)
    assert not shelf.take(folder, "abc")
    assert list(folder.iterdir()) == []
    assert storage.environments() == []


def test_the_cache_of_packages_goes_when_nothing_was_built_for_long(tmp_path: Path) -> None:
    folder = environment(tmp_path, "org_1", "abc", 0)
    (folder / shelf.CACHE / "wheels").mkdir(parents=True)
    storage = Storage(tmp_path)
    assert [one.kind for one in storage.environments()] == ["environments"], "of unknown use: it stays"
    lock = shelf.lock_of(folder, shelf.CACHE)
    lock.touch()
    [cache] = [one for one in storage.environments() if one.kind == "packages"]
    with shelf.locked(lock, shared=True):
        assert not storage.remove_environment(cache)
    assert storage.remove_environment(cache)
    assert not (folder / shelf.CACHE).exists()
    assert (folder / "abc").exists()


def test_who_waits_for_a_lock_that_was_cleared_away_takes_the_new_one(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    said = []
    with shelf.locked(lock):
        first = lock.stat().st_ino
        lock.unlink()
        lock.touch()
    with shelf.locked(lock, lambda: said.append("waited")):
        assert lock.stat().st_ino != first or lock.exists()
    assert said == []
