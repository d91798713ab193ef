"""A full disk, and two jobs that want the same environment at the same moment."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import Running, check_books, end_of, log_text, told, until

from headframe.base.errors import StoreFailed
from headframe.client import Client

SMALL = {"cpu": 0.1, "memory": "64MB"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "headframe-test", str(folder)], capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_refuses_requests_and_nothing_is_lost_when_there_is_room_again(
    small_disk: Path, serve: Callable[..., Running]
) -> None:
    running = serve(data=small_disk / "data")
    client, hasty = running.client(), running.client(patience_s=0)
    run = 'echo begun; while [ ! -e "$HEADFRAME_OUTPUTS/enough" ]; do sleep 0.02; done'
    before = client.submit({"name": "before", "run": run, "resources": SMALL})
    until(lambda: log_text(client, before["id"]))
    (running.outputs(before["id"]) / "enough").write_bytes(b"")  # while there is room for its name
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue

    def refused() -> bool:
        """The store's last pages may still have room for a few jobs."""
        try:
            accepted.append(hasty.submit({"run": "true", "resources": SMALL})["id"])
        except StoreFailed as error:
            refusals.append(error)
        return bool(refusals)

    accepted: list[str] = []
    refusals: list[StoreFailed] = []
    until(refused)
    assert refusals[0].status == 503
    assert "disk" in refusals[0].message
    assert hasty.jobs(limit=1), "what only reads goes on"
    filler.unlink()
    after = client.submit({"name": "after", "run": "echo after", "resources": SMALL})
    assert end_of(client, after["id"])["state"] == "succeeded"
    assert end_of(client, before["id"])["state"] == "succeeded"
    assert sorted(job["id"] for job in client.jobs()) == sorted([before["id"], *accepted, after["id"]])
    for job_id in accepted:
        end_of(client, job_id)
    check_books(running)


def test_two_jobs_that_want_one_environment_build_it_once(tmp_path: Path, serve: Callable[..., Running]) -> None:
    index = tmp_path / "index"
    index.mkdir()
    _wheel(index, "tiny", "VALUE = 42\n")
    tmp_path.chmod(0o755)
    running = serve(UV_FIND_LINKS=str(index), UV_NO_INDEX="1")
    client = running.client()
    document = {"run": "python -c 'import tiny; print(tiny.VALUE)'", "packages": ["tiny"], "resources": SMALL}
    jobs = [client.submit(document)["id"] for _ in range(2)]
    for job_id in jobs:
        assert end_of(client, job_id)["state"] == "succeeded", _said(client, job_id)
        assert client.job(job_id)["attempt"] == 1, told(client, job_id)
        assert log_text(client, job_id) == "42\n"
    said = [_said(client, job_id) for job_id in jobs]
    assert sorted(" built in " in text for text in said) == [False, True]
    assert sorted("reused" in text for text in said) == [False, True]
    held = [client.story(job_id)["allocations"][0] for job_id in jobs]
    charged = [{row["meter"]: row["quantity"] for row in client.charges(job_id)} for job_id in jobs]
    assert all(one["running_us"] > one["held_us"] for one in held)
    assert all(charged), "only what ran is charged"
    check_books(running)


def _said(client: Client, job_id: str) -> str:
    """What the engine wrote into a job's log."""
    return log_text(client, job_id, "system")


def _wheel(folder: Path, name: str, content: str) -> None:
    files = {
        f"{name}.py": content,
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{name}-1.0.dist-info/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(text)}\n"
        archive.writestr(f"{name}-1.0.dist-info/RECORD", record)
    for parent in list(folder.parents)[:3]:  # tasks pass through on their way
        if os.access(parent, os.W_OK) and parent.name.startswith("pytest-"):
            parent.chmod(0o755)
