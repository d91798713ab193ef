"""Builds Python environments with uv, once for each content, shared by the jobs of an organization.

An environment lies at `envs/<organization>/<digest>/`; beside it `<digest>.json` says that it is complete. That
marker is written last, by us, in a folder that builds cannot write: an environment without it is debris of a build
that was cut off, and is built anew. Simultaneous builds of one environment wait for the first (`shelf`). It is built
where it stays, because scripts in it name their own place.

Build code (setup.py) is a tenant's: it runs as the organization's user where we can switch users, and in a sandbox
that sees the system, the package indexes, its cache and the new environment where bubblewrap works. Where control
groups work it has one of its own, as no job pays for it: half of the machine's memory, and so many processes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headframe.base.errors import EngineError, Invalid, StoreFailed
from headframe.base.progress import Progress
from headframe.base.quantities import counted
from headframe.engines import cgroups, indexes, interpreters, shelf
from headframe.engines.build_progress import BuildProgress

Owner = tuple[int, int]
Say = Callable[[str | Progress], None]

# Raise it when environments are built differently, so that those of before are not taken for new ones.
_SCHEMA = 1
_BUILD_SECONDS = 3600
_BUILD_PROCESSES = 2048
_BURIAL_SECONDS = 5.0
_SAID_LINES = 200
_MOST_PACKAGES = 500

_ORGANIZATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_EXTRAS = rf"(?:\s*\[\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\])?"
_VERSION = r"\s*(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9][A-Za-z0-9.+!_-]*(?:\.\*)?\s*"
_CONDITION = r";\s*[A-Za-z0-9_.'\"<>=!~() -]+"
_PLAIN = re.compile(rf"({_NAME}){_EXTRAS}\s*(?:{_VERSION}(?:,{_VERSION})*)?(?:{_CONDITION})?")
_LINK = re.compile(rf"({_NAME}){_EXTRAS}\s*@\s*(?:git\+)?https://[A-Za-z0-9][^\s;'\"\\]*(?:\s+{_CONDITION})?")
_ARCHIVE = (".whl", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".txt", ".toml", ".py")
# A build reads nothing. Its standard input is a pipe that we hold open: when we end, however that is and whatever the
# sandbox has come to by then, one who reads it inside ends the build, and the sandbox ends with it.
_WATCHED = 'exec 3<&0; (read -r _ <&3; kill -KILL 0) & exec "$@" 3<&- </dev/null'
_COVERED = ("/tmp", "/var/tmp", "/home", "/root")  # noqa: S108 - hidden from builds, not written to
_NETWORK = re.compile(r"Failed to fetch|error sending request|dns error|timed out|Could not connect|HTTP status", re.I)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]|\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class _Build:
    """One environment to make: what, where, and as whom."""

    folder: Path
    cache: Path
    interpreter: interpreters.Interpreter
    packages: tuple[str, ...]
    hidden: Path
    owner: Owner | None
    groups: cgroups.Writer | None


def prepare(
    data: Path,
    organization_id: str,
    python: str | None,
    packages: Sequence[str],
    say: Say,
    owner: Owner | None,
    groups: cgroups.Writer | None = None,
) -> Path:
    """The folder of an environment with these packages, built if it is not there yet.

    Blocks while it is built, by us or by another thread or process. `say` gets a sentence about what was done, what
    uv says, and the `Progress` of a build. Raises `Invalid` for packages or a version that cannot be had,
    `EngineError` when an index is out of reach, `StoreFailed` when the disk is full. A failed build leaves nothing
    behind.
    """
    wanted = requirements(packages)
    interpreter = interpreters.find(python, owner)
    organization = _organization_folder(data, organization_id, owner)
    digest = _digest(interpreter, wanted)
    folder, marker = organization / digest, shelf.marker_of(organization, digest)
    lock = shelf.lock_of(organization, digest)
    build = _Build(folder, organization / shelf.CACHE, interpreter, wanted, data, owner, groups)

    def waiting() -> None:
        say(f"environment {digest[:8]}: waiting for its build")

    try:
        with shelf.locked(lock, waiting, shared=True):
            if shelf.take(organization, digest):
                say(f"environment {digest[:8]} reused")
                return folder
        with shelf.locked(lock, waiting):
            if shelf.take(organization, digest):
                say(f"environment {digest[:8]} reused")
                return folder
            if folder.exists():
                shutil.rmtree(folder)
            marker.unlink(missing_ok=True)
            began = time.monotonic()
            cache = shelf.lock_of(organization, shelf.CACHE)
            try:
                with shelf.locked(cache, shared=True):
                    os.utime(cache)
                    count = _build(build, digest, say)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            seconds = time.monotonic() - began
            _write_marker(marker, build, count)
            say(f"environment {digest[:8]} built in {seconds:.1f} s: {counted(count, 'package')}")
    except OSError as error:
        raise StoreFailed(
            f"The environment cannot be kept: {error.strerror or error}.",
            next_step=f"Make room on the disk of {data}, or check who may write there.",
        ) from error
    return folder


def visible(environment: Path) -> list[Path]:
    """What a sandbox must show, read-only and at the same path, for the environment to work.

    Taken from our marker: links inside the environment are whatever its build made of them.
    """
    marker = json.loads(environment.with_name(environment.name + ".json").read_text(encoding="utf-8"))
    return [environment, Path(marker["prefix"])]


def requirements(packages: Sequence[str]) -> tuple[str, ...]:
    """The packages in one canonical form: sorted, each once. Raises `Invalid` for options, paths and other tricks."""
    if len(packages) > _MOST_PACKAGES:
        raise Invalid(
            f"packages: {len(packages)} are more than {_MOST_PACKAGES}.",
            field="packages",
            value=len(packages),
            allowed=f"at most {_MOST_PACKAGES}",
            next_step="Leave out those that others bring along.",
        )
    return tuple(sorted({_requirement(text) for text in packages}))


def _requirement(text: str) -> str:
    line = " ".join(text.split()) if text.isprintable() else ""
    match = (_PLAIN.fullmatch(line) or _LINK.fullmatch(line)) if len(line) <= 500 else None
    if match is None or match[1].lower().endswith(_ARCHIVE):
        raise Invalid(
            f"packages: {text[:200]!r} is not a package requirement.",
            field="packages",
            value=text[:200],
            allowed="NAME, NAME[extra], NAME==1.2, NAME>=1,<2 or NAME @ https://...",
            next_step="Options and paths of this machine are not taken; send local code along with `files`.",
        )
    name = re.sub(r"[-_.]+", "-", match[1]).lower()
    rest, semicolon, condition = line[match.end(1) :].partition(";")
    if match.re is _PLAIN:
        rest = rest.replace(" ", "")
    return f"{name}{rest}{semicolon}{condition}"


def _digest(interpreter: interpreters.Interpreter, wanted: tuple[str, ...]) -> str:
    content = {
        "schema": _SCHEMA,
        "python": str(interpreter),
        "interpreter": str(interpreter.path),
        "machine": platform.machine(),
        "packages": wanted,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _organization_folder(data: Path, organization_id: str, owner: Owner | None) -> Path:
    """`envs/<organization>/`: ours to write, for the organization's user to pass through, closed to all others."""
    if not _ORGANIZATION.fullmatch(organization_id):
        raise Invalid("The organization's id is malformed.", field="organization_id", value=organization_id)
    folder = data / "envs" / organization_id
    try:
        folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.mkdir(mode=0o750, exist_ok=True)
        cache = folder / shelf.CACHE
        cache.mkdir(mode=0o700, exist_ok=True)
        if owner is not None and os.geteuid() == 0:
            os.chown(folder, 0, owner[1])
            os.chmod(folder, 0o750)  # noqa: S103 - its group is the organization
            if cache.stat().st_uid != owner[0]:
                os.chown(cache, *owner)
    except OSError as error:
        raise StoreFailed(
            f"{folder} cannot be made: {error.strerror}.",
            next_step="Make room on the disk, or check who may write there.",
        ) from error
    return folder


def _write_marker(marker: Path, build: _Build, count: int) -> None:
    content = {
        "python": str(build.interpreter),
        "prefix": str(build.interpreter.prefix),
        "packages": build.packages,
        "installed": count,
    }
    fresh = marker.with_suffix(".new")
    with open(fresh, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, marker)


def _build(build: _Build, digest: str, say: Say) -> int:
    """Make the environment in its folder; returns how many packages it holds."""
    names = ", ".join(build.packages[:6]) + (", ..." if len(build.packages) > 6 else "")
    say(f"environment {digest[:8]}: building with Python {build.interpreter}" + (f": {names}" if names else ""))
    build.folder.mkdir(mode=0o755)
    if build.owner is not None and os.geteuid() == 0:
        os.chown(build.folder, *build.owner)
    uv = str(_uv())
    _uv_run(build, [uv, "venv", "--quiet", "--no-project", "--python", str(build.interpreter.path), "--clear"], say)
    if build.packages:
        python = str(build.folder / "bin/python")
        install = [uv, "pip", "install", "--python", python, "--compile-bytecode", "--", *build.packages]
        progress = BuildProgress(build.folder, say)
        try:
            _uv_run(build, install, say, progress.line)
        finally:
            progress.end()
    _seal(build.folder)
    # Others find the interpreter through this link, and show its surroundings to jobs.
    if os.path.realpath(build.folder / "bin/python") != str(build.interpreter.path):
        raise Invalid(
            "A package changed the interpreter of the environment.",
            field="packages",
            next_step="Leave out the package that does so.",
        )
    return len(list(build.folder.glob("lib/python3.*/site-packages/*.dist-info")))


def _uv() -> Path:
    """The uv program: beside our interpreter (its wheel puts it there), or on PATH."""
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("uv")
    if not found:
        raise EngineError(
            "The program uv, which builds environments, is not there.",
            next_step="Install Headframe again with its dependencies, or put uv on PATH.",
        )
    return Path(found)


def _uv_run(build: _Build, command: list[str], say: Say, heard: Callable[[str], None] = lambda line: None) -> None:
    """Run one uv command confined; raises with the end of what it printed when it fails. `heard` gets each line."""
    sources = indexes.settings()
    if sources.pop("UV_NO_INDEX", "") and command[1] == "pip":
        # uv knows this one as an option only.
        command[3:3] = ["--no-index"]
    environment = sources | {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108 - the sandbox's own
        "TMPDIR": "/tmp",  # noqa: S108
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "UV_CACHE_DIR": str(build.cache),
        # Own copies: links into the cache would let later builds change environments in use.
        "UV_LINK_MODE": "copy",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    if command[1] == "venv":
        command = [*command, str(build.folder)]
    if "UV_CONFIG_FILE" not in environment and not Path("/etc/uv/uv.toml").is_file():
        environment["UV_NO_CONFIG"] = "1"
    confined = _confined(build, [Path(command[0]), *indexes.local_paths(sources)])
    with _group(build) as joining:
        _watch([*joining, *confined, *command], build, environment, say, heard)


@contextmanager
def _group(build: _Build) -> Iterator[list[str]]:
    """The words by which a build enters a control group of its own; whatever is left in there ends with it."""
    if build.groups is None:
        yield []
        return
    memory_mib = max(1024, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 >> 20)
    limits = cgroups.Limits(memory_mib, (os.cpu_count() or 1) * 1000, None, _BUILD_PROCESSES)
    folders = build.groups.make(f"build-{build.folder.parent.name}-{build.folder.name}", limits)
    joins = [f"echo 0 > {shlex.quote(os.fsdecode(path))}" for path in cgroups.join_paths(folders)]
    try:
        yield ["/bin/sh", "-c", " && ".join([*joins, 'exec "$@"']), "build"]
    finally:
        cgroups.kill(folders)
        deadline = time.monotonic() + _BURIAL_SECONDS
        while not cgroups.remove(folders) and time.monotonic() < deadline:
            time.sleep(0.01)  # the kernel buries what was killed


def _watch(
    words: list[str], build: _Build, environment: dict[str, str], say: Say, heard: Callable[[str], None]
) -> None:
    """Run it to its end, and hear what it says."""
    child = subprocess.Popen(
        words,
        env=environment,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    watchdog = threading.Timer(_BUILD_SECONDS, child.kill)
    watchdog.daemon = True
    watchdog.start()
    ending: deque[str] = deque(maxlen=30)
    assert child.stdin is not None
    assert child.stderr is not None
    try:
        said = 0
        while raw := child.stderr.readline(8192):
            line = _CONTROL.sub("", raw.decode(errors="replace")).rstrip()[:400]
            ending.append(line)
            heard(line)
            if said < _SAID_LINES and line.lstrip().startswith(
                ("Resolved", "Downloading", "Building", "Built", "Prepared", "Installed")
            ):
                said += 1
                say(f"uv: {line.strip()}")
        code = child.wait()
    finally:
        watchdog.cancel()
        child.stdin.close()
        child.kill()
        child.wait()
        child.stderr.close()
    if code != 0:
        raise _failure(build, code, "\n".join(ending))


def _failure(build: _Build, code: int, text: str) -> Exception:
    if "No space left" in text or "Disk quota" in text:
        return StoreFailed(
            "The disk is full: the environment cannot be built.", next_step=f"Make room on the disk of {build.hidden}."
        )
    if code in (-9, 137):
        return EngineError(
            f"The build of the environment was killed (memory, or more than {_BUILD_SECONDS} s).",
            next_step="Try again, with fewer packages or ones that need no compiling.",
        )
    if _NETWORK.search(text):
        return EngineError(
            f"Packages cannot be fetched:\n{text}",
            next_step="Check the machine's network, proxy and package index (UV_INDEX_URL, PIP_INDEX_URL, pip.conf).",
        )
    return Invalid(
        f"The environment cannot be built:\n{text}",
        field="packages",
        allowed="packages that go together and with the Python version",
        next_step="Change `packages` or `python` in the job file.",
    )


def _confined(build: _Build, needed: Sequence[Path]) -> list[str]:
    """The words before a build command: the sandbox where it works, then the organization's user."""
    switch = build.owner if build.owner is not None and os.geteuid() == 0 else None
    drop: list[str] = []
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if setpriv:
        drop = [setpriv, "--no-new-privs", "--inh-caps=-all"]
        if switch:
            drop += ["--reuid", str(switch[0]), "--regid", str(switch[1]), "--clear-groups"]
        drop.append("--")
    elif switch:
        raise EngineError(
            "The program setpriv is not there, so builds cannot run as the organization's user.",
            next_step="Install util-linux.",
        )
    watched = ["/bin/sh", "-c", _WATCHED, "build", *drop]
    if not sandbox_works():
        return watched
    words = [
        "bwrap",
        "--ro-bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--die-with-parent",
        "--new-session",
    ]
    words += ["--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    if os.geteuid() == 0:
        words += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_KILL"]
    covered = [
        place
        for place in dict.fromkeys(os.path.realpath(place) for place in (*_COVERED, build.hidden))
        if os.path.isdir(place)
    ]
    for place in covered:
        words += ["--perms", "1777" if place.endswith("tmp") else "0755", "--tmpfs", place]
    shown = [*needed, build.interpreter.prefix]
    kept = [build.cache, build.folder]
    # bubblewrap makes missing parents for the superuser only, so they are made here, outermost first.
    for parent in sorted({str(parent) for path in (*shown, *kept) for parent in path.parents}):
        if any(parent.startswith(place + "/") for place in covered):
            words += ["--perms", "0755", "--dir", parent]
    for path in shown:
        words += ["--ro-bind-try", str(path), str(path)]
    for path in kept:
        words += ["--bind", str(path), str(path)]
    return [*words, "--", *watched]


@functools.cache
def sandbox_works() -> bool:
    """Whether bubblewrap is there and may make namespaces on this machine; tried once."""
    if not shutil.which("bwrap"):
        return False
    attempt = ["bwrap", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--unshare-pid", "true"]
    try:
        return subprocess.run(attempt, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _seal(folder: Path) -> None:
    """Make it ours and read-only for others. The build's user may have left traps: nothing is followed or trusted."""
    root = os.geteuid() == 0
    for _, folders, files, here in os.fwalk(folder, follow_symlinks=False):
        if root:
            os.fchown(here, 0, 0)
        os.fchmod(here, 0o755)
        for name in files:
            # A link (also one to a folder, which stands among `folders`) is left as it is: it grants nothing.
            if stat.S_ISLNK(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                continue
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
            try:
                seen = os.fstat(handle)
                if not stat.S_ISREG(seen.st_mode) or seen.st_nlink > 1:
                    raise Invalid(
                        f"The build left {name!r}, which is not a plain file of its own.",
                        field="packages",
                        next_step="Leave out the package that does so.",
                    )
                if root:
                    os.fchown(handle, 0, 0)
                os.fchmod(handle, 0o755 if seen.st_mode & 0o111 else 0o644)
            finally:
                os.close(handle)
        del folders
