"""Groups of agents that are gone are cleared away, and no others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from headframe.engines import cgroup_owners
from headframe.engines.cgroup_owners import clear, sign

OURS, THEIRS = "headframe-00000000000a", "headframe-00000000000b"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    try:
        os.setxattr(tmp_path, cgroup_owners.NOTE, b"x")
    except OSError as problem:
        pytest.skip(f"no extended attributes in {tmp_path}: {problem}")
    return tmp_path


def made(parent: Path, name: str, *inside: str) -> Path:
    for each in ("", *inside):
        (parent / name / each).mkdir(parents=True)
    return parent / name


def sign_as_dead(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that ends right after."""
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as other, monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: other.pid)
        sign([folder])


def test_what_a_dead_agent_left_goes_from_all_trees(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, cpu = tree / "memory", tree / "cpu"
    for parent in (memory, cpu):
        made(parent, THEIRS, "alc_1.1.0/inner", "probe")
        made(parent, OURS, "alc_2.1.0")
        made(parent, "another-program")
    sign_as_dead(memory / THEIRS, monkeypatch)
    sign_as_dead(memory / OURS, monkeypatch)
    clear(OURS, [memory, cpu])
    for parent in (memory, cpu):
        assert sorted(path.name for path in parent.iterdir()) == ["another-program", OURS]


def test_what_may_be_anybodys_stays(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        what: f"headframe-{number:012x}" for number, what in enumerate(("living", "unsigned", "odd", "foreign", "busy"))
    }
    for name in names.values():
        made(tree, name)
    sign([tree / names["living"]])
    os.setxattr(tree / names["odd"], cgroup_owners.NOTE, b'{"pid": "x"')
    os.setxattr(tree / names["foreign"], cgroup_owners.NOTE, b'{"pid": 999999999, "space": 1, "started": 1}')
    sign_as_dead(tree / names["busy"], monkeypatch)
    (made(tree / names["busy"], "alc_1.1.0") / "cgroup.procs").write_text(f"{os.getpid()}\n")
    clear(OURS, [tree])
    assert sorted(path.name for path in tree.iterdir()) == sorted(names.values())


def test_a_number_that_was_given_to_another_process_is_not_its_owner(tree: Path) -> None:
    folder = made(tree, THEIRS)
    sign([folder])
    note = os.getxattr(folder, cgroup_owners.NOTE).replace(b'"started": ', b'"started": 1')
    os.setxattr(folder, cgroup_owners.NOTE, note)
    clear(OURS, [tree])
    assert not folder.exists()
