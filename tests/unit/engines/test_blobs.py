"""Content is kept whole, with its hash, apart for each organization, or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headframe.base.errors import Invalid, NotFound, StoreFailed, TooLarge
from headframe.engines.blobs import Blobs
from headframe.engines.content import Content

TEXT = b"hello" * 1000
HASH = hashlib.sha256(TEXT).hexdigest()


def files(data: Path) -> list[Path]:
    return [path for path in data.rglob("*") if path.is_file()]


def test_what_is_written_can_be_read_by_its_organization_only(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    assert blobs.missing("org_1", [HASH, HASH]) == [HASH]
    assert blobs.write("org_1", HASH, iter([TEXT[:7], TEXT[7:]])) == len(TEXT)
    assert blobs.write("org_1", HASH, iter([TEXT])) == len(TEXT)
    assert blobs.missing("org_1", [HASH]) == []
    assert blobs.read("org_1", HASH) == TEXT
    assert b"".join(blobs.open("org_1", HASH)) == TEXT
    assert blobs.missing("org_2", [HASH]) == [HASH]
    with pytest.raises(NotFound):
        blobs.open("org_2", HASH)


def test_content_with_another_hash_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        Blobs(tmp_path).write("org_1", HASH, iter([TEXT, b"!"]))
    assert files(tmp_path) == []


def test_too_much_is_refused_while_it_arrives(tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    with pytest.raises(TooLarge):
        Blobs(tmp_path, limit_bytes=10_000).write("org_1", HASH, endless())
    assert files(tmp_path) == []


def test_an_organization_may_hold_so_much_and_no_more(tmp_path: Path) -> None:
    """What breaks off, and what is here already, takes no room; what lies there from before does."""
    more = hashlib.sha256(b"y" * 4000).hexdigest()
    blobs = Blobs(tmp_path, house_bytes=12_000)
    with pytest.raises(Invalid):
        blobs.write("org_1", HASH, iter([b"z" * 9000]))
    for _again in range(3):
        blobs.write("org_1", HASH, iter([TEXT]))
    blobs.write("org_1", more, iter([b"y" * 4000]))
    for one in (blobs, Blobs(tmp_path, house_bytes=12_000)):
        with pytest.raises(TooLarge, match="12000 bytes"):
            one.write("org_1", hashlib.sha256(b"w" * 3001).hexdigest(), iter([b"w" * 3001]))
    assert len(files(tmp_path)) == 2
    blobs.write("org_2", HASH, iter([TEXT]))


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield TEXT
        raise ConnectionResetError("gone")

    with pytest.raises((StoreFailed, ConnectionResetError)):
        Blobs(tmp_path).write("org_1", HASH, broken())
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["../org_2", "", "a/b", ".", "..", "x\0", "-"])
def test_names_cannot_lead_elsewhere(tmp_path: Path, name: str) -> None:
    blobs = Blobs(tmp_path)
    with pytest.raises(Invalid):
        blobs.write(name, HASH, iter([TEXT]))
    with pytest.raises(Invalid):
        blobs.missing("org_1", [name])


def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.decode().strip()}")
    try:
        content = os.urandom(1 << 20)
        with pytest.raises(StoreFailed, match="disk is full") as caught:
            Blobs(small).write("org_1", hashlib.sha256(content).hexdigest(), iter([content]))
        assert "room" in caught.value.next_step
        assert files(small) == []
        assert Blobs(small).write("org_1", HASH, iter([TEXT])) == len(TEXT)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_disk_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = Blobs(tmp_path)
    blobs.write("org_1", HASH, iter([TEXT]))
    content = blobs.open("org_1", HASH)

    def broken(handle: int, count: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", broken)
    with pytest.raises(StoreFailed, match="cannot be read"):
        next(content)


def test_a_file_that_grows_is_sent_as_large_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    content = Content(os.open(path, os.O_RDONLY))
    with path.open("ab") as file:
        file.write(b"def")
    assert b"".join(content) == b"abc"
    content = Content(os.open(path, os.O_RDONLY))
    path.write_bytes(b"")
    with pytest.raises(StoreFailed):
        list(content)


def test_what_was_arriving_when_a_server_was_killed_is_cleared_away(tmp_path: Path) -> None:
    def killed() -> Iterator[bytes]:
        yield b"x" * 100
        Blobs(tmp_path).clear()  # the next server begins, and this one's file is gone under its hands
        yield b""

    whole = hashlib.sha256(b"whole").hexdigest()
    Blobs(tmp_path).write("org_1", whole, iter([b"whole"]))
    with pytest.raises(StoreFailed):
        Blobs(tmp_path).write("org_1", hashlib.sha256(b"x" * 100).hexdigest(), killed())
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [whole]
