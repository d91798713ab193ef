"""Disks that are full on a real Slurm: the controller's state, a node's spool, the folder that all see."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from headframe.cli.throwaway_slurm import SlurmCluster
from headframe.engines import slurm_care
from headframe.fleet.engine_words import Seen, Stop
from headframe.fleet.records import NodeState
from tests.contract.engine_contract import OVER, STARTS, SlurmPlace, launch, wait_until

LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of so many bytes over a folder; what was there is seen again afterwards."""
    if LIBC.mount(b"none", os.fsencode(folder), b"tmpfs", 0, f"size={size},mode=0755".encode()) != 0:
        pytest.skip(f"no file system can be mounted here: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        wait_until(lambda: LIBC.umount2(os.fsencode(folder), 2) == 0, f"{folder} is let go")


def fill(folder: Path) -> Path:
    """Take all that is free; returns the file to remove."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return path


@pytest.fixture
def place(slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmPlace]:
    for name in ("AGAIN_S", "NOTES_S", "STUCK_S", "FORCE_S"):
        monkeypatch.setattr(slurm_care, name, 0.5)
    place = SlurmPlace(tmp_path, slurm)
    try:
        yield place
    finally:
        slurm.mend()
        place.end()


def copy(one: Path, two: Path) -> None:
    """All below a folder, with its owners."""
    subprocess.run(["cp", "-a", f"{one}/.", str(two)], check=True, timeout=20)


def test_a_controller_that_cannot_write_its_state_gets_the_job_again(place: SlurmPlace, tmp_path: Path) -> None:
    slurm, state, kept = place.slurm, place.slurm.root / "state", tmp_path / "kept"
    kept.mkdir()
    slurm.kill("slurmctld")
    copy(state, kept)
    with small_disk(state, "2m"):
        copy(kept, state)
        slurm.start_controller()
        filler = fill(state)
        place.act([launch("full", STARTS + "exit 3")])
        (told,) = place.wait_for(lambda seen: getattr(seen, "story", ()) != (), "a story of the full disk").story
        filler.unlink()
        end = place.wait_seen("alc_full", *OVER)
        slurm.kill("slurmctld")
        copy(state, kept)
    copy(kept, state)
    slurm.start_controller()
    assert "It is asked again until it does" in told
    assert (end.seen, end.exit_code, place.starts("full")) == (Seen.EXITED, 3, 1)


def test_a_node_whose_spool_is_full_takes_nothing(place: SlurmPlace) -> None:
    node = place.slurm.nodes[0]
    with small_disk(place.slurm.root / "spool" / node, "64k"):
        fill(place.slurm.root / "spool" / node)
        end = place.run("spool", STARTS + "exit 4")  # Slurm ends it by itself, as if somebody had cancelled it
    assert (end.seen, end.fault, place.starts("spool")) == (Seen.FAILED, "node", 0)
    assert end.detail == f"Node {node} could not start it, and takes no more work: SlurmdSpoolDir is full."
    (found,) = [one for one in place.report().nodes if one.name == node]
    assert (found.state, "is full" in found.reason) == (NodeState.DRAINING, True)


def test_when_the_shared_folder_is_full_jobs_are_ended_and_told_apart(
    slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AGAIN_S", "NOTES_S", "FORCE_S"):
        monkeypatch.setattr(slurm_care, name, 0.5)
    node, blocked = slurm.nodes[1], tmp_path / "jobs/job_ends/outputs/go.not"
    with small_disk(tmp_path, "4m"):
        place = SlurmPlace(tmp_path, slurm)
        try:
            wait = 'echo ready; until [ -e "$HEADFRAME_OUTPUTS/go" ]; do sleep 0.05; done; exit 5'
            place.act([launch("stopped", "echo ready; sleep 100"), launch("ends", wait)])
            for name in ("stopped", "ends"):
                wait_until(lambda name=name: "ready" in place.text(name), "the job is ready")  # type: ignore[misc]
            slurm.call("scontrol", "update", f"nodename={node}", "state=drain", "reason=so that it waits")
            waits = launch("waits", "true")
            place.act([replace(waits, slices=(replace(waits.slices[0], node_id=place.node(1)),))])
            wait_until(lambda: (held := place.engine.held.get("alc_waits")) and held.number, "it is submitted")
            blocked.touch()
            filler = fill(tmp_path)
            late = place.run("late", "true")
            slurm.resume(node)
            begun = place.wait_seen("alc_waits", *OVER)
            blocked.rename(blocked.with_name("go"))
            place.act([Stop("alc_stopped", 1, "user", grace_us=300_000)])
            stopped, ended = place.wait_seen("alc_stopped", *OVER), place.wait_seen("alc_ends", *OVER)
            assert (late.seen, late.fault, "No space left" in late.detail) == (Seen.FAILED, "engine", True)
            assert (begun.seen, begun.fault, "is there room in it?" in begun.detail) == (Seen.FAILED, "engine", True)
            assert stopped.seen is Seen.EXITED
            assert ended.seen in OVER
            filler.unlink()
            kept = tmp_path / "slurm/lab/state/alc_ends.json"
            wait_until(lambda: json.loads(kept.read_text())["end"], "its end is written down, as there is room again")
        finally:
            slurm.resume(node)
            place.end()
