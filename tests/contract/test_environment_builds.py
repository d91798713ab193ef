"""Environments are really built: once, whole, confined, and usable by the organization's tasks.

The packages are made here as wheels and sources in a folder, so that no index is needed.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import signal
import subprocess
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headframe.base.errors import Invalid, StoreFailed
from headframe.base.progress import Progress, read_progress
from headframe.engines import cgroups, environments

ORGANIZATION = "org_1"
OWNER = (71_234, 71_234) if os.geteuid() == 0 else None


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages, the only one that builds know."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    wheel(folder, "tiny", {"tiny.py": "VALUE = 42\n"})
    # Everybody may pass to what is asked for, as it is in a data folder that tasks can use without a sandbox.
    for path in (tmp_path, *list(tmp_path.parents)[:2]):
        if path.name.startswith("pytest-"):
            path.chmod(0o755)
    tmp_path.chmod(0o755)
    return folder


def wheel(folder: Path, name: str, files: dict[str, str]) -> None:
    files = files | {
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(content)}\n"
        archive.writestr(f"{name}-1.0.dist-info/RECORD", record + f"{name}-1.0.dist-info/RECORD,,\n")


def source(folder: Path, name: str, backend: str) -> None:
    """A source package whose build runs `backend`, a module that may do anything."""
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    project += f'[project]\nname = "{name}"\nversion = "1.0"\n'
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    with tarfile.open(folder / f"{name}-1.0.tar.gz", "w:gz") as archive:
        for path, content in (("pyproject.toml", project), ("backend.py", backend), ("PKG-INFO", about)):
            member = tarfile.TarInfo(f"{name}-1.0/{path}")
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))


def prepare(data: Path, *packages: str) -> tuple[Path, list[str]]:
    """The environment, and the sentences that were said; not the steps of a build."""
    said: list[str | Progress] = []
    folder = environments.prepare(data, ORGANIZATION, None, packages, said.append, OWNER)
    return folder, [line for line in said if isinstance(line, str)]


def test_an_environment_is_built_then_reused(tmp_path: Path, index: Path) -> None:
    folder, said = prepare(tmp_path / "data", "tiny")
    assert said[0].endswith(": tiny")
    assert "built in" in said[-1]
    assert "1 package" in said[-1]
    again, said = prepare(tmp_path / "data", "Tiny")
    assert again == folder
    assert len(said) == 1
    assert "reused" in said[0]
    answer = subprocess.run(
        [folder / "bin/python", "-c", "import tiny, sys; print(tiny.VALUE, sys.prefix)"], capture_output=True, text=True
    )
    assert answer.stdout.split() == ["42", str(folder)], answer.stderr
    for shown in environments.visible(folder):
        assert shown.is_dir()


def test_tasks_can_read_but_not_change_it(tmp_path: Path, index: Path) -> None:
    if OWNER is None:
        pytest.skip("only the superuser can be somebody else")
    folder, _ = prepare(tmp_path / "data", "tiny")
    for path in (folder, *folder.rglob("*")):
        seen = path.lstat()
        if not path.is_symlink():
            assert seen.st_uid == 0, path
            assert seen.st_mode & 0o6022 == 0, path
            assert seen.st_mode & 0o044 == 0o044, path
    shared = folder.parent.stat()
    assert (shared.st_uid, shared.st_gid, shared.st_mode & 0o777) == (0, OWNER[1], 0o750)


def test_a_build_tells_how_far_it_is(tmp_path: Path, index: Path) -> None:
    for name in ("second", "third"):
        wheel(index, name, {f"{name}.py": ""})
    said: list[str | Progress] = []
    environments.prepare(tmp_path / "data", ORGANIZATION, None, ["tiny", "second", "third"], said.append, OWNER)
    steps = [step for step in said if isinstance(step, Progress)]
    assert steps[0] == Progress("resolving packages")
    assert Progress("installing", 3, 3) in steps
    assert all(step.done <= step.total for step in steps)
    assert [read_progress(str(step)) for step in steps] == steps


def _build_in_process(data: Path, say: multiprocessing.SimpleQueue[str]) -> None:
    environments.prepare(data, ORGANIZATION, None, ["tiny"], lambda line: say.put(str(line)), OWNER)


def test_builds_at_once_in_threads_and_processes_do_the_work_once(tmp_path: Path, index: Path) -> None:
    data = tmp_path / "data"
    context = multiprocessing.get_context("spawn")
    said: multiprocessing.SimpleQueue[str] = context.SimpleQueue()
    processes = [context.Process(target=_build_in_process, args=(data, said)) for _ in range(2)]
    threads = [threading.Thread(target=_build_in_process, args=(data, said)) for _ in range(2)]
    for one in (*processes, *threads):
        one.start()
    for one in (*processes, *threads):
        one.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    lines = []
    while not said.empty():
        lines.append(said.get())
    assert sum("built in" in line for line in lines) == 1, lines
    assert sum("reused" in line for line in lines) == 3, lines


HANGS = """
import os, pathlib, time
def build_wheel(folder, settings=None, metadata=None):
    time.sleep(600)
"""


def test_a_build_that_was_killed_is_cleaned_up_and_done_again(tmp_path: Path, index: Path) -> None:
    data = tmp_path / "data"
    source(index, "slow", HANGS)
    context = multiprocessing.get_context("spawn")
    builder = context.Process(
        target=environments.prepare, args=(data, ORGANIZATION, None, ["slow", "tiny"], repr, OWNER)
    )
    builder.start()
    # Half-way: the environment is there, and the package's build hangs (the sandbox's two processes, uv, the build).
    wait_for(lambda: list(data.glob(f"envs/{ORGANIZATION}/*/pyvenv.cfg")) and len(processes_of(data)) >= 4)
    assert builder.pid is not None
    os.kill(builder.pid, signal.SIGKILL)
    builder.join(10)
    wait_for(lambda: not processes_of(data))
    half = next(data.glob(f"envs/{ORGANIZATION}/*/pyvenv.cfg")).parent
    (half / "debris").write_text("x")
    (index / "slow-1.0.tar.gz").unlink()
    wheel(index, "slow", {"slow.py": ""})
    folder, said = prepare(data, "slow", "tiny")
    assert folder == half
    assert "built in" in said[-1]
    assert not (folder / "debris").exists()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_build_ends_with_its_builder_at_any_moment(tmp_path: Path, index: Path, count: int) -> None:
    """Also while the sandbox is being set up: those that are there when the builder dies are held still meanwhile."""
    source(index, "slow", HANGS)
    data = tmp_path / "data"
    builder = multiprocessing.get_context("spawn").Process(
        target=environments.prepare, args=(data, ORGANIZATION, None, ["slow"], repr, OWNER)
    )
    builder.start()
    assert builder.pid is not None
    began: list[int] = []

    def begun() -> bool:
        began[:] = [pid for pid in children_of(builder.pid) if belongs(pid, data) and installs(pid)]
        return len(began) >= count

    wait_for(begun, 0)
    for pid in began:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    builder.kill()
    builder.join(10)
    for pid in began:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not processes_of(data))


def children_of(pid: int | None) -> list[int]:
    """All processes below one, parents first."""
    found = []
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(word) for word in child.read_text().split()]
    return found + [below for child in found for below in children_of(child)]


def belongs(pid: int, data: Path) -> bool:
    """Whether a program is one of a build below this data folder, by its environment."""
    try:
        return f"UV_CACHE_DIR={data}/".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def installs(pid: int) -> bool:
    """Whether it is part of the second step of a build, the one that may take long."""
    try:
        return b"\0install\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def processes_of(data: Path) -> list[int]:
    """Programs of builds below this data folder."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if belongs(pid, data)]


def wait_for(condition: object, pause: float = 0.02) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(pause)


def test_a_failed_build_is_told_and_not_kept(tmp_path: Path, index: Path) -> None:
    data = tmp_path / "data"
    with pytest.raises(Invalid, match="absent") as caught:
        prepare(data, "absent")
    assert caught.value.field == "packages"
    assert not list(data.glob(f"envs/{ORGANIZATION}/*/"))[1:], "only the cache is left"
    assert not list(data.glob(f"envs/{ORGANIZATION}/*.json"))
    wheel(index, "absent", {"absent.py": ""})
    folder, _ = prepare(data, "absent")
    assert folder.is_dir()


SPIES = """
import json, os, pathlib
def attempt(what):
    try:
        return str(what())
    except OSError as error:
        return type(error).__name__
def build_wheel(folder, settings=None, metadata=None):
    raise SystemExit("SEEN " + json.dumps({
        "uid": os.getuid(), "environ": [name for name in os.environ if "HEADFRAME" in name],
        "other": attempt(lambda: pathlib.Path(%(other)r).read_text()),
        "write": attempt(lambda: pathlib.Path(%(inside)r, "evil").write_text("x")),
        "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
    }))
"""


def test_build_code_is_confined(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not environments.sandbox_works():
        pytest.skip("bubblewrap is not there or does not work")
    data = tmp_path / "data"
    other = data / "jobs/other/secret"
    other.parent.mkdir(parents=True)
    other.write_text("of another tenant")
    other.chmod(0o644)
    monkeypatch.setenv("HEADFRAME_KEY", "hf_secret")
    source(index, "spy", SPIES % {"other": str(other), "inside": f"{data}/envs/{ORGANIZATION}"})
    with pytest.raises(Invalid) as caught:
        prepare(data, "spy")
    seen = json.loads(caught.value.message.partition("SEEN ")[2].splitlines()[0])
    assert seen["uid"] == (OWNER[0] if OWNER else os.getuid())
    assert seen["other"] == "FileNotFoundError"
    if OWNER:
        assert seen["write"] == "PermissionError"
    assert seen["processes"] < 15
    assert seen["environ"] == []
    assert not (data / "envs" / ORGANIZATION / "evil").exists()


GREEDY = """
import os, signal
def build_wheel(folder, settings=None, metadata=None):
    children = 0
    try:
        while children < 5000:
            if not os.fork():
                os.closerange(0, 100)  # uv waits for whoever could still say something
                signal.pause()
            children += 1
    except OSError:
        pass
    raise SystemExit(f"SEEN {children}")
"""


def test_a_build_is_held_to_limits_and_leaves_no_process(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, why = cgroups.usable("build-tests")
    if groups is None:
        pytest.skip(why)
    monkeypatch.setattr(environments, "_BUILD_PROCESSES", 150)
    source(index, "greedy", GREEDY)
    try:
        with pytest.raises(Invalid) as caught:
            environments.prepare(tmp_path, ORGANIZATION, None, ["greedy"], lambda said: None, OWNER, groups)
        assert 1 <= int(caught.value.message.partition("SEEN ")[2].split()[0]) < 150
        assert not processes_of(tmp_path)
    finally:
        groups.leave()


TRAPS = """
import os, pathlib, zipfile
def build_wheel(folder, settings=None, metadata=None):
    base = pathlib.Path(%(base)r)
    environment = next(path for path in base.iterdir() if (path / "pyvenv.cfg").exists() and path.name[0] != ".")
    %(trap)s
    name = "trap-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        archive.writestr("trap-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: trap\\nVersion: 1.0\\n")
        wheel = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        archive.writestr("trap-1.0.dist-info/WHEEL", wheel)
        archive.writestr("trap-1.0.dist-info/RECORD", "")
    return name
"""
TRAP = {
    "interpreter": "(environment / 'bin/python').unlink(); (environment / 'bin/python').symlink_to('/bin/sh')",
    "pipe": "os.mkfifo(environment / 'pipe')",
    "hard link": "(environment / 'a').write_text('x'); os.link(environment / 'a', environment / 'b')",
}


@pytest.mark.parametrize("trap", sorted(TRAP))
def test_traps_that_a_build_lays_are_found(tmp_path: Path, index: Path, trap: str) -> None:
    data = tmp_path / "data"
    source(index, "trap", TRAPS % {"base": f"{data}/envs/{ORGANIZATION}", "trap": TRAP[trap]})
    with pytest.raises(Invalid):
        prepare(data, "trap")
    assert not list(data.glob(f"envs/{ORGANIZATION}/*.json"))


def test_links_and_privileges_left_by_a_build_do_no_harm(tmp_path: Path, index: Path) -> None:
    data = tmp_path / "data"
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o600)
    trap = f"(environment / 'out').symlink_to({str(outside)!r}); (environment / 'su').write_text('x'); "
    trap += "(environment / 'su').chmod(0o6777)"
    source(index, "trap", TRAPS % {"base": f"{data}/envs/{ORGANIZATION}", "trap": trap})
    folder, _ = prepare(data, "trap")
    assert outside.stat().st_mode & 0o777 == 0o600
    assert outside.stat().st_uid == os.geteuid()
    assert (folder / "su").stat().st_mode & 0o7777 == 0o755


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, index: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(data)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.decode().strip()}")
    try:
        wheel(index, "large", {"large.py": "#" * 2_000_000})
        with pytest.raises(StoreFailed, match=r"full|kept|made"):
            prepare(data, "large")
        assert not list(data.glob(f"envs/{ORGANIZATION}/*.json"))
    finally:
        subprocess.run(["umount", str(data)], check=True)
