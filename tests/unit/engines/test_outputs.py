"""Outputs are shown as they are, and no name or link leads out of the job's folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headframe.base.errors import NotFound
from headframe.engines.outputs import Outputs


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "jobs/job_1"
    (folder / "outputs/deep/er").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "outputs/metrics.jsonl").write_text('{"step":1}\n')
    (folder / "outputs/deep/er/x.bin").write_bytes(b"abc")
    (folder / "checkpoints/step-1.pt").write_bytes(b"weights")
    (tmp_path / "secret").write_text("secret")
    return folder


def test_files_are_listed_and_opened(tmp_path: Path, job: Path) -> None:
    outputs = Outputs(tmp_path)
    listed = outputs.list("job_1")
    assert [item["path"] for item in listed] == ["checkpoints/step-1.pt", "deep/er/x.bin", "metrics.jsonl"]
    assert [item["size_bytes"] for item in listed] == [7, 3, 11]
    for item in listed:
        size, content = outputs.open("job_1", item["path"])
        assert len(b"".join(content)) == size == item["size_bytes"]
    assert outputs.list("job_2") == []


def test_an_output_folder_named_checkpoints_is_reached_behind_the_real_one(tmp_path: Path, job: Path) -> None:
    (job / "outputs/checkpoints").mkdir()
    (job / "outputs/checkpoints/own").write_text("own")
    (job / "outputs/checkpoints/step-1.pt").write_text("not this")
    assert b"".join(Outputs(tmp_path).open("job_1", "checkpoints/own")[1]) == b"own"
    assert b"".join(Outputs(tmp_path).open("job_1", "checkpoints/step-1.pt")[1]) == b"weights"


@pytest.mark.parametrize(
    "path",
    ["../../../secret", "deep/../../../../secret", "/etc/passwd", "", ".", "deep", "deep/", "./metrics.jsonl",
     "a\0b", "link", "folder-link/secret", "pipe", "checkpoints/", "checkpoints/../outputs/metrics.jsonl", "\ud800",
     "x/" * 100 + "y"],
)  # fmt: skip
def test_nothing_but_plain_files_of_the_job_can_be_opened(tmp_path: Path, job: Path, path: str) -> None:
    (job / "outputs/link").symlink_to(tmp_path / "secret")
    (job / "outputs/folder-link").symlink_to(tmp_path)
    os.mkfifo(job / "outputs/pipe")
    with pytest.raises(NotFound):
        Outputs(tmp_path).open("job_1", path)
    assert "secret" not in str(Outputs(tmp_path).list("job_1"))


@pytest.mark.parametrize("job_id", ["..", "../jobs/job_1", "", "job_1/outputs", "x\0"])
def test_a_job_id_is_no_path(tmp_path: Path, job: Path, job_id: str) -> None:
    assert Outputs(tmp_path).list(job_id) == []
    with pytest.raises(NotFound):
        Outputs(tmp_path).open(job_id, "metrics.jsonl")


def test_a_whole_folder_replaced_by_a_link_is_not_followed(tmp_path: Path, job: Path) -> None:
    (job / "checkpoints/step-1.pt").unlink()
    (job / "checkpoints").rmdir()
    (job / "checkpoints").symlink_to(tmp_path)
    assert all("secret" not in item["path"] for item in Outputs(tmp_path).list("job_1"))
    with pytest.raises(NotFound):
        Outputs(tmp_path).open("job_1", "checkpoints/secret")


def test_names_that_are_no_text_are_left_out(tmp_path: Path, job: Path) -> None:
    (job / "outputs" / os.fsdecode(b"bad\xff")).write_text("x")
    assert "bad" not in str(Outputs(tmp_path).list("job_1"))
