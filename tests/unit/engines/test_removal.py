"""Removal of what jobs leave, whatever its shape."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from headframe.engines import checkpoints
from headframe.engines.agent_trash import Trash
from headframe.engines.removal import remove_tree


def make_deep(folder: Path, levels: int = 2 * sys.getrecursionlimit()) -> None:
    """A tree of so many levels, with a file at its end."""
    folder.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("end", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def remove(folder: Path, name: str) -> None:
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        remove_tree(here, name)
    finally:
        os.close(here)


def test_a_tree_goes_however_deep_and_links_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    place = tmp_path / "place"
    place.mkdir()
    make_deep(place / "tree")
    (place / "tree" / "link").symlink_to(outside)
    os.mkfifo(place / "tree" / "pipe")
    (place / ".removed.0").mkdir()  # a name that is taken
    (place / ".removed.0" / "mine").write_text("x")
    remove(place, "tree")
    assert sorted(os.listdir(place)) == [".removed.0"]
    assert (outside / "kept").exists()
    (place / "link").symlink_to(outside)
    with pytest.raises(OSError, match="link"):
        remove(place, "link")


def test_deep_checkpoints_are_cleared_away(tmp_path: Path) -> None:
    for number in range(3):
        make_deep(tmp_path / f"step-{number}")
        (tmp_path / f"step-{number}" / "model.bin").write_bytes(b"x")
        os.utime(tmp_path / f"step-{number}" / "model.bin", (2_000_000_000 + number,) * 2)
    (tmp_path / ".removed.7").mkdir()  # what a removal that was cut off has left
    checkpoints.prune(tmp_path, 1)
    assert os.listdir(tmp_path) == ["step-2"]
    remove(tmp_path, "step-2")


def test_one_deep_folder_does_not_keep_others_in_the_trash(tmp_path: Path) -> None:
    trash = Trash(tmp_path / "trash")
    for number in range(3):
        make_deep(tmp_path / f"attempt-{number}")
        trash.put(tmp_path / f"attempt-{number}", f"attempt-{number}")
    removed: list[int] = []
    trash.sweep(removed.append)
    assert (removed, os.listdir(tmp_path / "trash")) == ([3], [])
