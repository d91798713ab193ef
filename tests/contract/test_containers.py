"""A task in a container behaves as one outside: exit code, environment, files, limits and signals."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headframe.base.errors import EngineError, Invalid
from headframe.engines import containers
from headframe.engines.containers import Container, Mount

IMAGE = "localhost/headframe-test:1"


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """podman with a storage of our own that holds one image, made of busybox."""
    busybox = shutil.which("busybox", path="/bin:/usr/bin")
    if busybox is None:
        pytest.skip("busybox, of which the test image is made, is not installed")
    folder = tmp_path_factory.mktemp("podman")
    storage = (f"--root={folder}/storage", f"--runroot={folder}/run")
    works, reason = containers.available(storage)
    if not works:
        pytest.skip(reason)
    with tarfile.open(folder / "root.tar", "w") as archive:
        archive.add(busybox, "bin/busybox")
        for name in ("sh", "cat", "sleep", "id", "kill", "touch", "test", "dd", "env"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    made = subprocess.run(["podman", *storage, "import", folder / "root.tar", IMAGE], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"podman cannot make an image here: {made.stderr.strip()[-200:]}")
    probe = [
        "podman",
        "--cgroup-manager=cgroupfs",
        *storage,
        "run",
        "--rm",
        "--network=host",
        "--ulimit=nofile=512:512",
    ]
    probe += ["--ulimit=nproc=4096:4096", IMAGE, "/bin/sh", "-c", ":"]
    tried = subprocess.run(probe, capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"podman cannot run a container here: {tried.stderr.strip()[-200:]}")
    yield storage
    subprocess.run(["podman", *storage, "rm", "--all", "--force", "--time=0"], capture_output=True)
    subprocess.run(["umount", f"{folder}/storage/overlay"], capture_output=True)


def container(folder: Path, flags: tuple[str, ...], script: str, name: str = "task", **more: object) -> Container:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    (folder / "script").write_text(script)
    user = (71_234, 71_234) if os.geteuid() == 0 else None
    if user:
        os.chown(work, *user)
    mounts = (Mount(work, "/work", writable=True), Mount(folder / "script", "/script"))
    return Container(IMAGE, name, "/script", "/work", mounts, user=user, flags=flags, **more)  # type: ignore[arg-type]


def run(wanted: Container, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    containers.fetch(wanted.image, str.strip, wanted.flags)
    try:
        words, given = containers.command(wanted), containers.standard_input(env or {})
        return subprocess.run(words, input=given, capture_output=True, timeout=60, env={})
    finally:
        containers.remove(wanted.name, wanted.flags)


def test_output_exit_code_environment_and_files(tmp_path: Path, flags: tuple[str, ...]) -> None:
    script = 'echo "$A|$B"; id -u; cat; echo made > made; echo no > /script || echo kept; echo wrong >&2; exit 7\n'
    wanted = container(tmp_path, flags, script)
    env = {"A": "it's\ntwo lines", "B": "$(id) `id`", "bad name": "x"}
    done = run(wanted, env)
    uid = wanted.user[0] if wanted.user else 0
    assert done.stdout.decode() == f"it's\ntwo lines|$(id) `id`\n{uid}\nkept\n", done.stderr
    assert b"wrong" in done.stderr
    assert done.returncode == 7
    assert (tmp_path / "work/made").read_text() == "made\n"
    assert "two lines" not in " ".join(containers.command(wanted))
    assert containers.state("task", flags) == (None, None)


def test_a_failing_line_ends_the_task(tmp_path: Path, flags: tuple[str, ...]) -> None:
    done = run(container(tmp_path, flags, "echo one\ntest a = b\necho two\n"))
    assert (done.stdout, done.returncode) == (b"one\n", 1)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.01)


def test_signals_reach_the_program_and_its_answer_counts(tmp_path: Path, flags: tuple[str, ...]) -> None:
    inner = "trap 'touch warned' USR1; trap 'touch saved; exit 0' TERM; touch ready; while :; do sleep 0.05; done"
    wanted = container(tmp_path, flags, f'/bin/sh -c "{inner}"\ntouch went-on\n', pidfile=tmp_path / "conmon.pid")
    with subprocess.Popen(containers.command(wanted), stdin=subprocess.PIPE, start_new_session=True) as client:
        try:
            assert client.stdin is not None
            client.stdin.close()
            wait_for(tmp_path / "work/ready")
            pid, code = containers.state("task", flags)
            assert pid is not None
            assert code is None
            assert int((tmp_path / "conmon.pid").read_text()) > 0
            client.send_signal(signal.SIGUSR1)
            wait_for(tmp_path / "work/warned")
            client.send_signal(signal.SIGTERM)
            assert client.wait(30) == 143
        finally:
            containers.remove("task", flags)
    assert (tmp_path / "work/saved").exists()
    assert not (tmp_path / "work/went-on").exists()


def test_a_removed_container_is_gone_with_all_it_ran(tmp_path: Path, flags: tuple[str, ...]) -> None:
    wanted = container(tmp_path, flags, "touch ready; sleep 600\n")
    with subprocess.Popen(containers.command(wanted), stdin=subprocess.DEVNULL, start_new_session=True) as client:
        wait_for(tmp_path / "work/ready")
        pid, _ = containers.state("task", flags)
        containers.remove("task", flags)
        assert client.wait(30) != 0
        assert not Path(f"/proc/{pid}").exists()
    containers.remove("task", flags)


def test_memory_is_limited(tmp_path: Path, flags: tuple[str, ...]) -> None:
    if os.geteuid() != 0:
        pytest.skip("limits of containers are for the superuser to set")
    script = "dd if=/dev/zero of=/dev/null bs=256M count=1\n"
    assert run(container(tmp_path, flags, script)).returncode == 0
    assert run(container(tmp_path, flags, script, memory_mib=64, cpu_milli=1500)).returncode != 0


def test_an_image_that_cannot_be_had_is_told(flags: tuple[str, ...]) -> None:
    with pytest.raises(EngineError, match="cannot be fetched"):
        containers.fetch("localhost:1/absent:1", str.strip, flags)


@pytest.mark.parametrize(
    "image",
    ["python", "python:3.12", "nvcr.io/nvidia/pytorch:24.05-py3", "localhost:5000/a/b_c", "x@sha256:" + "0" * 64],
)
def test_names_of_images_are_taken(image: str) -> None:
    containers.check_image(image)


@pytest.mark.parametrize("image", ["-v", "--root=/", "", "a b", "a;b", "../x", "dir:/etc", "oci:x", "A", "a//b", "x\n"])
def test_what_is_no_image_is_refused(image: str) -> None:
    with pytest.raises(Invalid) as caught:
        containers.check_image(image)
    assert caught.value.field == "image"


def test_a_mount_cannot_bring_options_along() -> None:
    evil = Container("a", "t", "/s", "/w", (Mount(Path("/x"), "/y,rw=true"),))
    with pytest.raises(Invalid):
        containers.command(evil)
    with pytest.raises(Invalid):
        containers.command(Container("a", "t", "/s", "/w", devices=("/etc/passwd",)))
