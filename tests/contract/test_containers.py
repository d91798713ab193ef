"""A task in a container behaves as one outside: exit code, environment, files, limits and signals."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from headframe.base.errors import EngineError, Invalid
from headframe.engines import containers
from headframe.engines.containers import Container, Mount
from headframe.fleet.engine_words import Forget, Seen, Signal, Stop
from tests.contract.engine_contract import Place, launch, wait_until

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
        for name in ("sh", "cat", "sleep", "id", "kill", "touch", "test", "dd", "env", "ls"):
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
    containers.fetch(wanted.image, print, wanted.flags)
    try:
        words, given = containers.command(wanted), containers.standard_input(env or {})
        # Podman's companion leaves a file `oom` where it was started when the memory ran out.
        cwd = wanted.mounts[0].source
        return subprocess.run(words, input=given, capture_output=True, timeout=60, env={}, cwd=cwd)
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
    wanted = container(tmp_path, flags, f'/bin/sh -c "{inner}"\ntouch went-on\n', pidfile=tmp_path / "pid")
    with subprocess.Popen(containers.command(wanted), stdin=subprocess.PIPE, start_new_session=True) as client:
        try:
            assert client.stdin is not None
            client.stdin.close()
            wait_for(tmp_path / "work/ready")
            pid, code = containers.state("task", flags)
            assert pid is not None
            assert code is None
            assert int((tmp_path / "pid").read_text()) == pid
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
        containers.fetch("localhost:1/absent:1", print, flags)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[int]]]:
    """The address of a registry on this machine, and the status that it answers with, which may be changed."""
    status = [404]

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/v2/" else status[0])
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_words: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Registry)
    address = f"127.0.0.1:{server.server_port}"
    (tmp_path / "registries.conf").write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield address, status
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("status", [404, 401, 403])
def test_an_image_that_the_registry_does_not_give_is_the_jobs_own_fault(
    flags: tuple[str, ...], registry: tuple[str, list[int]], status: int
) -> None:
    address, answer = registry
    answer[0] = status
    with pytest.raises(Invalid, match="cannot be had") as refused:
        containers.fetch(f"{address}/absent:1", print, flags)
    assert refused.value.details["field"] == "image"
    with pytest.raises(Invalid, match="cannot be had"):
        containers.fetch("absent-and-without-a-registry", print, flags)


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


@pytest.fixture
def place(tmp_path: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An engine whose podman has the test's storage."""
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin/podman"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("podman")} {" ".join(flags)} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "data").mkdir()
    place = Place(tmp_path / "data")
    try:
        yield place
    finally:
        place.end()


def left(flags: tuple[str, ...]) -> str:
    """The containers that podman still knows."""
    listed = subprocess.run(["podman", *flags, "ps", "--all", "--quiet"], capture_output=True, text=True, check=True)
    return listed.stdout


def test_a_job_with_an_image_runs_to_its_exit_code(place: Place, flags: tuple[str, ...]) -> None:
    run_text = (
        'echo "$GREETING $SECRET $RANK"; ls /etc/headframe-test-none /bin/busybox || :; cat file\n'
        'echo made > "$HEADFRAME_OUTPUTS/made"; echo saved > saves/one; cat "$HEADFRAME_DATASETS/x" || echo none\n'
        "echo wrong >&2; id -u; exit 7"
    )
    end = place.run(
        "image", run_text, image=IMAGE, setup=["echo set up", "echo hello > file"], env={"GREETING": "it's"},
        secrets={"SECRET": "hidden"}, checkpoints={"path": "saves", "keep": 2},
    )  # fmt: skip
    assert (end.seen, end.exit_code) == (Seen.EXITED, 7), (end.detail, place.text("image"))
    out = place.text("image", "stdout")
    uid = 200_001 if os.geteuid() == 0 else 0
    assert out == f"set up\nit's hidden 0\n/bin/busybox\nhello\nnone\n{uid}\n"
    assert "wrong" in place.text("image", "stderr")
    assert (place.data / "jobs/job_image/outputs/made").read_text() == "made\n"
    assert (place.data / "jobs/job_image/checkpoints/one").read_text() == "saved\n"
    assert left(flags) == ""


def test_a_container_gets_the_usual_limit_of_open_files(place: Place) -> None:
    place.run("files", "ulimit -S -n", image=IMAGE)
    assert place.text("files", "stdout") == "1024\n"


def test_a_secret_is_on_no_command_line_while_the_container_runs(place: Place) -> None:
    place.engine.act([launch("quiet", "echo ready; sleep 100", image=IMAGE, secrets={"TOKEN": "hidden-word"})])
    wait_until(lambda: "ready" in place.text("quiet"), "the job is ready")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert b"hidden-word" not in path.read_bytes()
        except OSError:
            continue


def test_a_stop_lets_a_contained_program_save_and_a_kill_ends_a_deaf_one(place: Place, flags: tuple[str, ...]) -> None:
    polite = "trap 'echo saved; exit 0' TERM; trap 'echo warned' USR1; echo ready; while :; do sleep 0.05; done"
    place.engine.act([
        launch("polite", f'/bin/sh -c "{polite}"', image=IMAGE),
        launch("deaf", "trap '' TERM; echo ready; while :; do sleep 100; done", image=IMAGE),
    ])  # fmt: skip
    for name in ("polite", "deaf"):
        wait_until(lambda name=name: "ready" in place.text(name), "the job is ready")  # type: ignore[misc]
    place.engine.act([Signal("alc_polite", 1)])
    wait_until(lambda: "warned" in place.text("polite"), "the warning")
    place.engine.act([Stop("alc_polite", 1, "user"), Stop("alc_deaf", 1, "user", grace_us=200_000)])
    assert place.wait_seen("alc_polite", Seen.EXITED).exit_code == 143
    assert "saved" in place.text("polite")
    assert place.wait_seen("alc_deaf", Seen.EXITED).exit_code == 137
    assert left(flags) == ""


def test_a_stop_right_behind_the_launch_leaves_no_container(place: Place, flags: tuple[str, ...]) -> None:
    place.engine.act([launch("brief", "sleep 100", image=IMAGE)])
    place.wait_seen("alc_brief", Seen.RUNNING)
    place.engine.act([Stop("alc_brief", 1, "user", "SIGKILL", 0)])
    assert place.wait_seen("alc_brief", Seen.EXITED).exit_code == 137
    assert left(flags) == ""


def test_a_container_outlives_agent_and_server(place: Place, flags: tuple[str, ...]) -> None:
    waiting = 'echo ready; while ! test -e "$HEADFRAME_OUTPUTS/go"; do sleep 0.05; done; echo went on; exit 5'
    place.engine.act([launch("lasting", waiting, image=IMAGE)])
    wait_until(lambda: "ready" in place.text("lasting"), "the job is ready")
    running = place.wait_seen("alc_lasting", Seen.RUNNING)
    place.kill_agent()
    assert [(seen.seen, seen.pid) for seen in place.report().observations] == [(Seen.RUNNING, running.pid)]
    place.restart()
    (place.data / "jobs/job_lasting/outputs/go").touch()
    assert place.wait_seen("alc_lasting", Seen.EXITED).exit_code == 5
    assert place.text("lasting", "stdout") == "ready\nwent on\n"
    assert left(flags) == ""


def test_an_adopted_container_can_be_stopped(place: Place, flags: tuple[str, ...]) -> None:
    place.engine.act([launch("adopted", "echo ready; sleep 100", image=IMAGE)])
    wait_until(lambda: "ready" in place.text("adopted"), "the job is ready")
    place.kill_agent()
    place.engine.act([Stop("alc_adopted", 1, "user", "SIGKILL", 0)])
    assert place.wait_seen("alc_adopted", Seen.EXITED).exit_code == 137
    assert left(flags) == ""


def test_a_container_whose_leader_was_killed_goes_with_its_allocation(place: Place, flags: tuple[str, ...]) -> None:
    place.engine.act([launch("orphan", "echo ready; sleep 100", image=IMAGE)])
    wait_until(lambda: "ready" in place.text("orphan"), "the job is ready")
    pid = place.wait_seen("alc_orphan", Seen.RUNNING).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert place.wait_seen("alc_orphan", Seen.EXITED).exit_code == 137
    place.engine.act([Forget("alc_orphan", 1)])
    wait_until(lambda: left(flags) == "", "the container is removed")


def test_a_job_over_its_memory_is_told_so(place: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("limits of containers are for the superuser to set")
    end = place.run("large", "dd if=/dev/zero of=/dev/null bs=256M count=1", image=IMAGE, memory_mib=64)
    assert end.exit_code not in (0, None)
    assert "out of memory" in end.detail
    assert end.use["memory_peak_mib"] > 32


def test_an_image_that_is_not_there_fails_with_a_reason(place: Place) -> None:
    end = place.run("absent", "true", image="localhost:1/absent:1")
    assert end.seen is Seen.FAILED
    assert "cannot be fetched" in end.detail


def test_without_podman_a_job_with_an_image_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "data").mkdir()
    place = Place(tmp_path / "data")
    try:
        end = place.run("nopodman", "true", image=IMAGE)
    finally:
        place.end()
    assert (end.seen, end.fault) == (Seen.FAILED, "job")
    assert "apt-get install podman" in end.detail
