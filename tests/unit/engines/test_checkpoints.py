"""The newest checkpoint that can be read is chosen; what cannot is put aside and told."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest

from headframe.engines import checkpoint_formats, checkpoints


def zipped(**parts: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def saved(save: Callable[[io.BytesIO], None]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}, "__metadata__": {}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(256)


WHOLE = {
    "a.pt": zipped(data=os.urandom(5000), version=b"3"),
    "a.npz": saved(lambda buffer: numpy.savez_compressed(buffer, x=numpy.arange(9000))),
    "a.zip": zipped(a=b"x" * 1000),
    "a.safetensors": safetensors(),
    "a.npy": saved(lambda buffer: numpy.save(buffer, numpy.ones((3, 5), dtype="<f4"))),
    "b.npy": saved(lambda buffer: numpy.save(buffer, numpy.array(["ab", "c"]))),
    "a.json": b'{"step": 3}\n',
    "a.gz": gzip.compress(os.urandom(3000)),
    "a.model": b"any",
}


def put(folder: Path, name: str, content: bytes, at: int) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (at, at))
    for parent in path.parents:
        if parent == folder:
            break
        os.utime(parent, (at, at))
    return path


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_whole_file_is_chosen_without_a_word(tmp_path: Path, name: str) -> None:
    put(tmp_path, name, WHOLE[name], 10)
    said: list[str] = []
    assert checkpoints.choose(tmp_path, said.append) == tmp_path / name
    assert said == []


@pytest.mark.parametrize("part", [0, 0.5, 0.98])
@pytest.mark.parametrize("name", sorted(set(WHOLE) - {"a.model"}))
def test_one_that_is_cut_off_is_put_aside_and_the_one_before_is_used(tmp_path: Path, name: str, part: float) -> None:
    before = put(tmp_path, "before.bin", b"older", 10)
    # A JSON file may end in a line end: cut off what is part of the value.
    whole = WHOLE[name].rstrip() if name.endswith(".json") else WHOLE[name]
    put(tmp_path, name, whole[: min(int(len(whole) * part), len(whole) - 1)], 20)
    said: list[str] = []
    assert checkpoints.choose(tmp_path, said.append) == before
    assert len(said) == 1
    assert name in said[0]
    assert os.listdir(tmp_path / ".unreadable") == [name]
    assert checkpoints.choose(tmp_path, said.append) == before
    assert len(said) == 1


def test_a_flipped_bit_in_an_archive_is_found(tmp_path: Path) -> None:
    content = bytearray(WHOLE["a.pt"])
    content[2000] ^= 1
    put(tmp_path, "a.pt", bytes(content), 10)
    said: list[str] = []
    assert checkpoints.choose(tmp_path, said.append) is None
    assert "archive" in said[0]


def test_what_was_never_written_out_is_put_aside_but_numbers_may_be_zero(tmp_path: Path) -> None:
    before = put(tmp_path, "weights.bin", bytes(1000), 10)
    for at, name in enumerate(("a.pt", "b.pth", "c.ckpt"), 11):
        put(tmp_path, name, bytes(5000), at)
    said: list[str] = []
    assert checkpoints.choose(tmp_path, said.append) == before
    assert len(said) == 3


@pytest.mark.parametrize("name", ["bomb.gz", "bomb.npz"])
def test_what_unpacks_to_a_thousand_times_its_size_is_not_unpacked_to_its_end(tmp_path: Path, name: str) -> None:
    zeros = bytes(1 << 26)
    packed = io.BytesIO()
    if name.endswith("gz"):
        packed.write(gzip.compress(zeros))
    else:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", zeros)
    content = bytearray(packed.getvalue())
    content[len(content) // 2] ^= 0xFF  # whoever came so far would find it
    (tmp_path / name).write_bytes(content)
    with open(tmp_path / name, "rb") as file:
        assert checkpoint_formats.fault(file, name, len(content), thorough=True) is None


def test_a_sidecar_is_believed(tmp_path: Path) -> None:
    good, bad = put(tmp_path, "good.bin", b"good", 10), put(tmp_path, "bad.bin", b"baad", 20)
    for path, content in ((good, b"good"), (bad, b"bad")):
        put(tmp_path, path.name + ".sha256", f"{hashlib.sha256(content).hexdigest()}  {path.name}\n".encode(), 30)
    said: list[str] = []
    assert checkpoints.choose(tmp_path, said.append) == good
    assert "SHA-256" in said[0]
    assert sorted(os.listdir(tmp_path / ".unreadable")) == ["bad.bin", "bad.bin.sha256"]


def test_folders_are_checkpoints_as_new_as_their_newest_file(tmp_path: Path) -> None:
    put(tmp_path, "step-1/model.safetensors", WHOLE["a.safetensors"], 10)
    put(tmp_path, "step-2/model.safetensors", WHOLE["a.safetensors"][:-1], 20)
    put(tmp_path, "step-2/_DONE", b"", 21)
    (tmp_path / "step-3").mkdir()
    said: list[str] = []
    assert checkpoints.choose(tmp_path, said.append) == tmp_path / "step-1"
    assert ["step-3" in said[0], "model.safetensors" in said[1]] == [True, True]
    assert checkpoints.newest_us(tmp_path) == 10_000_000


def test_unfinished_ones_links_and_pipes_are_no_checkpoints(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside", "x.pt", WHOLE["a.pt"], 99)
    folder = tmp_path / "ckpt"
    folder.mkdir()
    for name in ("a.pt.tmp", "b.part", ".hidden", "c.sha256"):
        put(folder, name, b"x", 50)
    (folder / "link.pt").symlink_to(outside)
    (folder / "folder").symlink_to(outside.parent)
    os.mkfifo(folder / "pipe.pt")
    said: list[str] = []
    assert checkpoints.choose(folder, said.append) is None
    assert checkpoints.newest_us(folder) is None
    assert said == []
    assert checkpoints.choose(tmp_path / "nowhere", said.append) is None


def test_putting_aside_follows_no_link(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "ckpt"
    outside.mkdir()
    put(folder, "bad.pt", b"PK", 20)
    good = put(folder, "good.bin", b"x", 10)
    (folder / ".unreadable").symlink_to(outside)
    said: list[str] = []
    assert checkpoints.choose(folder, said.append) == good
    assert os.listdir(outside) == []
    assert len(said) == 1


def test_several_of_one_name_can_be_put_aside(tmp_path: Path) -> None:
    for _ in range(3):
        put(tmp_path, "last.json", b"{", 10)
        assert checkpoints.choose(tmp_path, lambda _said: None) is None
    assert sorted(os.listdir(tmp_path / ".unreadable")) == ["last.json", "last.json.1", "last.json.2"]


def test_names_are_made_fit_for_the_story(tmp_path: Path) -> None:
    put(tmp_path, "\x1b[31mevil\n.json", b"{", 10)
    said: list[str] = []
    checkpoints.choose(tmp_path, said.append)
    assert said[0].isprintable()


def test_pruning_keeps_the_newest_whole_ones_and_what_is_being_written(tmp_path: Path) -> None:
    for number in range(1, 6):
        put(tmp_path, f"step-{number}.pt", WHOLE["a.pt"], number)
        put(tmp_path, f"step-{number}.pt.sha256", b"0" * 64, number)
    put(tmp_path, "folder-0/x.bin", b"x", 1)
    put(tmp_path, "step-6.pt", WHOLE["a.pt"][:-30], 6)
    put(tmp_path, "step-7.pt.tmp", b"", 7)
    checkpoints.prune(tmp_path, 2)
    assert sorted(os.listdir(tmp_path)) == [
        "step-4.pt", "step-4.pt.sha256", "step-5.pt", "step-5.pt.sha256", "step-6.pt", "step-7.pt.tmp",
    ]  # fmt: skip


def test_while_a_job_runs_what_it_may_still_be_writing_does_not_count(tmp_path: Path) -> None:
    for name, at in (("old.bin", 10), ("whole.bin", 20), ("fresh.bin", 30)):
        (tmp_path / name).write_bytes(b"content")
        os.utime(tmp_path / name, (at, at))
    checkpoints.prune(tmp_path, 1, settled_us=25_000_000)
    assert sorted(os.listdir(tmp_path)) == ["fresh.bin", "whole.bin"]
    checkpoints.prune(tmp_path, 1, settled_us=35_000_000)
    assert os.listdir(tmp_path) == ["fresh.bin"]
