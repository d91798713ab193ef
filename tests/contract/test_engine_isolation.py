"""What a task may see, touch and use: the sandbox and the limits, with real processes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headframe.engines import cgroups, sandbox
from headframe.fleet.engine_words import Seen
from headframe.fleet.records import Share
from tests.contract.engine_contract import Place, launch, wait_until

BOX = sandbox.probe()
GROUPS, GROUPS_WORD = cgroups.usable("tests")
needs_sandbox = pytest.mark.skipif(BOX.kind == "none", reason=f"no sandbox here: {BOX.reason}")
needs_groups = pytest.mark.skipif(GROUPS is None, reason=GROUPS_WORD)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, fake_gpus="H100:4")
    try:
        yield place
    finally:
        place.end()


@needs_sandbox
def test_the_system_is_read_only_and_tmp_is_private(place: Place) -> None:
    marker = Path("/tmp") / f"headframe-{os.getpid()}"
    marker.write_text("x")
    try:
        end = place.run("system", f"[ ! -e {marker} ] || exit 1; echo x > /tmp/mine; ! touch /usr/x && ! touch /etc/x")
    finally:
        marker.unlink()
    assert end.exit_code == 0, place.text("system")
    assert not Path("/tmp/mine").exists()


@needs_sandbox
@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="/dev/shm is not writable here")
def test_a_data_folder_may_lie_in_memory() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.chmod(folder, 0o755)
        place = Place(Path(folder))
        try:
            end = place.run("quick", "echo x > file; cat file; ls /dev/shm | wc -l")
            assert end.exit_code == 0, place.text("quick")
        finally:
            place.end()


@needs_sandbox
def test_other_tenants_are_invisible(place: Place) -> None:
    place.engine.act([launch("theirs", "echo ready; echo x > file; sleep 100", organization=2)])
    wait_until(lambda: "ready" in place.text("theirs"), "the other tenant's job")
    (place.data / "vault.key").write_text("secret")
    run = (
        f"set +e; ls -a {place.data} {place.data}/jobs; cat {place.data}/vault.key;"
        "find / -name '*job_theirs*' 2>/dev/null;"
        "for each in /proc/[0-9]*; do tr '\\0' ' ' < $each/cmdline; echo; done; ls /root /home 2>/dev/null; true"
    )
    assert place.run("mine", run).exit_code == 0
    seen = place.text("mine", "stdout")
    assert "job_mine" in seen
    for hidden in ("job_theirs", "sleep 100", "vault.key", "agent"):
        assert hidden not in seen, seen


@needs_sandbox
def test_a_task_of_root_is_nobody_special(place: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: tasks run as ourselves in a user namespace")
    place.run("who", "id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; id -un", organization=7)
    uid, *rest, name = place.text("who").split("\n")[:-1]
    assert (uid, name) == ("200007", "headframe")
    assert [line.split()[1] for line in rest] == ["0" * 16, "0" * 16, "1"]


@needs_sandbox
def test_a_linker_variable_reaches_the_job_only(place: Place) -> None:
    end = place.run("linker", 'echo "$LD_PRELOAD"', env={"LD_PRELOAD": "/nowhere.so"})
    assert end.exit_code == 0
    assert "/nowhere.so" in place.text("linker", "stdout")
    assert "bwrap" not in place.text("linker", "stderr")


@needs_sandbox
def test_streams_can_be_opened_again(place: Place) -> None:
    assert place.run("again", "echo a > /dev/stdout; echo b | tee /dev/stderr > /dev/null").exit_code == 0
    assert (place.text("again", "stdout"), place.text("again", "stderr")) == ("a\n", "b\n")


@needs_sandbox
def test_what_a_task_leaves_running_ends_with_it(place: Place) -> None:
    place.run("leaves", "setsid sleep 4711 & echo started")
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert b"sleep\x004711\x00" not in commands


def test_secrets_are_on_no_command_line_and_no_disk(place: Place) -> None:
    secret = "s3cr3t-4711"
    more = {"secrets": {"TOKEN": secret}, "env": {"PASSED": secret + "-env"}}
    place.engine.act([launch("hush", 'echo "${#TOKEN} ${#PASSED}"; sleep 100', **more)])
    wait_until(lambda: place.text("hush") == "11 15\n", "the job has its secret")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert secret.encode() not in path.read_bytes()
        except OSError:
            continue
    for file in place.data.rglob("*"):
        if file.is_file() and not file.is_socket() and not file.is_fifo():
            assert secret.encode() not in file.read_bytes(), file


@needs_groups
def test_memory_beyond_the_limit_ends_the_task_with_a_reason(place: Place) -> None:
    end = place.run("greedy", "python3 -c 'x = bytearray(300 << 20); print(len(x))'", memory_mib=64)
    assert end.exit_code == 137
    assert end.detail.startswith("out of memory")
    assert "64 MiB" in end.detail


@needs_sandbox
@needs_groups
@pytest.mark.parametrize("place_of_it", ["/tmp", "/dev/shm"])
def test_memory_that_outlives_its_writer_is_the_jobs_own_fault(place: Place, place_of_it: str) -> None:
    run = f"head -c 300000000 /dev/zero > {place_of_it}/full; sleep 1"
    end = place.run("filler", run, memory_mib=64, resources={"shm_mib": 1000})
    assert end.exit_code == 137
    assert end.detail.startswith("out of memory")


@needs_groups
def test_a_fork_bomb_stays_small(tmp_path: Path) -> None:
    assert GROUPS is not None
    folders = GROUPS.make("bomb", cgroups.Limits(memory_mib=256, cpu_milli=1000, cpu_max_milli=None, pids=20))
    bomb = "import os, signal\nn = 0\ntry:\n  while os.fork(): n += 1\n  signal.pause()\nexcept OSError: print(n)\n"
    joins = [f"echo 0 > {os.fsdecode(path)}" for path in cgroups.join_paths(folders)]
    try:
        run = subprocess.run(
            ["sh", "-c", " && ".join([*joins, f"exec {sys.executable} -S -c '{bomb}' > {tmp_path}/count"])], timeout=20
        )
        assert run.returncode == 0
        assert (tmp_path / "count").read_text() == "19\n"
    finally:
        cgroups.kill(folders)
        for _try in range(200):
            if cgroups.remove(folders):
                break
            time.sleep(0.01)
    assert not any(Path(folder).exists() for folder in folders)


def test_a_job_gets_the_usual_limit_of_open_files(place: Place) -> None:
    """Not what our programs have raised theirs to: some programs close all that they might have open."""
    place.run("files", "ulimit -S -n; ulimit -H -n")
    assert place.text("files").split() == ["1024", str(resource.getrlimit(resource.RLIMIT_NOFILE)[1])]


@needs_groups
def test_use_is_measured(place: Place) -> None:
    end = place.run("busy", "python3 -c 'x = bytearray(100 << 20); sum(range(3_000_000))'")
    assert end.use["cpu_us"] > 20_000
    assert 100 <= end.use["memory_peak_mib"] <= 256


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that every user may reach; the one of pytest is closed to others."""
    with tempfile.TemporaryDirectory(prefix="headframe-plain-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_without_a_sandbox_the_superuser_runs_nothing_of_a_tenant(passable: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: tasks run as ourselves")
    place = Place(passable, sandbox=False)
    try:
        run = 'id -u; id -G; grep NoNewPrivs /proc/self/status; echo out > "$HEADFRAME_OUTPUTS/file"; echo x > here'
        end = place.run("who", run, organization=7)
        assert end.exit_code == 0, place.text("who")
        assert place.text("who") == "200007\n200007\nNoNewPrivs:\t1\n"
        others = 'ls "$HEADFRAME_OUTPUTS/../.." || cat "$HEADFRAME_OUTPUTS/../../job_who/outputs/file"'
        assert place.run("other", others, organization=8).exit_code != 0
        assert place.text("other", "stdout") == ""
        passable.chmod(0o700)
        closed = place.run("closed", "true")
        assert (closed.seen, closed.fault) == (Seen.FAILED, "engine")
        assert f"chmod o+x {passable}" in closed.detail
    finally:
        place.end()


def test_required_isolation_is_refused_where_there_is_none(passable: Path) -> None:
    place = Place(passable, sandbox=False)
    try:
        refused = place.run("strict", "true", isolation="required")
        assert (refused.seen, refused.fault) == (Seen.FAILED, "job")
        assert "isolation" in refused.detail
        plain = place.run("easy", "echo ran; exit 3", isolation="preferred")
        assert (plain.seen, plain.exit_code, place.text("easy")) == (Seen.EXITED, 3, "ran\n")
        assert any("without a sandbox" in sentence for sentence in plain.story)
        place.engine.act([launch("kept", "echo ready; sleep 100; true")])
        running = place.wait_seen("alc_kept", Seen.RUNNING)
        wait_until(lambda: "ready" in place.text("kept"), "the plain job")
        place.kill_agent()
        assert running.pid in [seen.pid for seen in place.report().observations if seen.seen is Seen.RUNNING]
    finally:
        place.end()


def test_leased_devices_are_the_ones_that_are_visible(place: Place) -> None:
    cards = place.report().accelerators
    shares = tuple(Share(card.id, card.index, card.kind, 1000) for card in cards[1:3])
    place.run("gpus", 'echo "$CUDA_VISIBLE_DEVICES $NPROC_PER_NODE $HEADFRAME_FAKE_GPUS"', shares=shares)
    place.run("none", 'echo "[$CUDA_VISIBLE_DEVICES]${HEADFRAME_FAKE_GPUS-}"')
    assert place.text("gpus") == "1,2 2 1\n"
    assert place.text("none") == "[]\n"
    assert all(card.fake for card in cards)
