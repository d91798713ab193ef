"""Files of a manifest are laid out as written, and a hostile manifest writes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from headframe.base.errors import Invalid, NotFound, StoreFailed
from headframe.engines import workdir
from headframe.engines.blobs import Blobs

ORGANIZATION = "org_1"


def upload(data: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    Blobs(data).write(ORGANIZATION, digest, iter([content]))
    return digest


def entry(data: Path, path: str, content: bytes = b"x", **changed: Any) -> dict[str, Any]:
    return {"path": path, "sha256": upload(data, content), "size": len(content), "mode": 0o644} | changed


def manifest(data: Path, *entries: dict[str, Any]) -> str:
    return upload(data, json.dumps({"files": list(entries)}, separators=(",", ":")).encode())


def test_files_links_and_modes_are_laid_out(tmp_path: Path) -> None:
    listed = manifest(
        tmp_path,
        entry(tmp_path, "a/b/run.sh", b"#!/bin/sh\n", mode=0o755),
        entry(tmp_path, "empty", b""),
        entry(tmp_path, "naïve.txt", b"z" * 3_000_000),
        {"path": "a/link", "link": "../empty"},
    )
    owner = (70_001, 70_001) if os.geteuid() == 0 else None
    into = tmp_path / "jobs/j/work"
    for _ in range(2):  # again after an interruption: the same
        workdir.materialize(tmp_path, ORGANIZATION, listed, into, owner)
    assert (into / "a/b/run.sh").read_bytes() == b"#!/bin/sh\n"
    assert (into / "a/b/run.sh").stat().st_mode & 0o777 == 0o755
    assert (into / "empty").read_bytes() == b""
    assert (into / "naïve.txt").stat().st_size == 3_000_000
    assert os.readlink(into / "a/link") == "../empty"
    if owner:
        for path in (into, *into.rglob("*")):
            assert path.lstat().st_uid == owner[0], path


BAD: list[tuple[str, list[dict[str, Any]]]] = [
    ("absolute", [{"path": "/etc/x"}]),
    ("climbs", [{"path": "../x"}]),
    ("climbs within", [{"path": "a/../../x"}]),
    ("dot", [{"path": "./x"}]),
    ("empty part", [{"path": "a//x"}]),
    ("empty", [{"path": ""}]),
    ("control character", [{"path": "a\nb"}]),
    ("zero", [{"path": "a\0b"}]),
    ("too long", [{"path": "a" * 300}]),
    ("twice", [{"path": "x"}, {"path": "x"}]),
    ("case", [{"path": "Read.me"}, {"path": "read.ME"}]),
    ("case of folder", [{"path": "A/x"}, {"path": "a/y"}]),
    ("two forms of a letter", [{"path": "\u00e9"}, {"path": "e\u0301"}]),
    ("file and folder", [{"path": "a"}, {"path": "a/b"}]),
    ("link as folder", [{"path": "a", "link": "b"}, {"path": "a/x"}]),
    ("link out", [{"path": "l", "link": "../x"}]),
    ("link absolute", [{"path": "l", "link": "/etc/passwd"}]),
    ("link climbs later", [{"path": "q/r/s", "link": "../../a"}, {"path": "l", "link": "q/r/s/../../y"}]),
    ("link empty", [{"path": "l", "link": ""}]),
    ("setuid", [{"path": "x", "mode": 0o4755}]),
    ("size is a truth", [{"path": "x", "size": True}]),
    ("size below zero", [{"path": "x", "size": -1}]),
    ("no hash", [{"path": "x", "sha256": "../../../../etc/passwd"}]),
    ("unknown field", [{"path": "x", "device": 3}]),
    ("wrong size", [{"path": "x", "size": 7}]),
]


@pytest.mark.parametrize(("what", "entries"), BAD, ids=[name for name, _ in BAD])
def test_a_hostile_manifest_is_refused(tmp_path: Path, what: str, entries: list[dict[str, Any]]) -> None:
    full = [item if "link" in item else entry(tmp_path, "") | item for item in entries]
    into = tmp_path / "work"
    with pytest.raises(Invalid) as caught:
        workdir.materialize(tmp_path, ORGANIZATION, manifest(tmp_path, *full), into, None)
    assert caught.value.field == "files"
    assert caught.value.next_step
    assert not into.exists() or not any(into.iterdir())


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"files":3}', b"\xff", b"[" * 100_000, b'{"files":[3]}'])
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid):
        workdir.parse_manifest(raw)


def test_content_that_was_never_uploaded_is_named(tmp_path: Path) -> None:
    listed = manifest(tmp_path, entry(tmp_path, "x") | {"sha256": "0" * 64})
    with pytest.raises(NotFound, match="never uploaded"):
        workdir.materialize(tmp_path, ORGANIZATION, listed, tmp_path / "work", None)
    with pytest.raises(NotFound):
        workdir.materialize(tmp_path, "org_2", listed, tmp_path / "work", None)


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    into, outside = tmp_path / "work", tmp_path / "outside"
    into.mkdir()
    outside.mkdir()
    (into / "a").symlink_to(outside)
    with pytest.raises(StoreFailed):
        workdir.materialize(tmp_path, ORGANIZATION, manifest(tmp_path, entry(tmp_path, "a/x")), into, None)
    assert not any(outside.iterdir())


def test_a_damaged_manifest_is_noticed(tmp_path: Path) -> None:
    listed = manifest(tmp_path, entry(tmp_path, "x"))
    path = tmp_path / "blobs" / ORGANIZATION / listed[:2] / listed
    path.write_bytes(path.read_bytes().replace(b"x", b"y"))
    with pytest.raises(StoreFailed, match="damaged"):
        workdir.read_manifest(tmp_path, ORGANIZATION, listed)


def test_a_dataset_is_laid_out_once_and_read_only(tmp_path: Path) -> None:
    listed = manifest(tmp_path, *(entry(tmp_path, f"d/{n}", b"%d" % n) for n in range(50)))
    partial = tmp_path / "datasets" / ORGANIZATION / f"{listed}.partial"
    partial.mkdir(parents=True)
    (partial / "debris").write_text("of one that was killed")
    places: list[Path] = []
    threads = [
        threading.Thread(target=lambda: places.append(workdir.dataset(tmp_path, ORGANIZATION, listed)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(places)) == 1
    assert len(places) == 4
    assert sorted(os.listdir(places[0])) == ["d"]
    assert (places[0] / "d/7").read_bytes() == b"7"
    assert (places[0] / "d/7").stat().st_mode & 0o222 == 0
    changed = (places[0] / "d/7").stat().st_ino
    assert (workdir.dataset(tmp_path, ORGANIZATION, listed) / "d/7").stat().st_ino == changed
