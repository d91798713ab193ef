"""How the agent starts a task: a plain fork of its small self, so that a start costs a millisecond."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headframe.engines import sandbox
from headframe.engines.agent_state import boot_id, claim, now_us
from headframe.engines.cgroups import join_paths

PIPE_BYTES = 1 << 20
NOT_FIRST = 124  # the child's exit code when another one has claimed the task
STREAMS = ("stdout", "stderr")
SOFT_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # before the agent raises its own
_BOOT = boot_id()


@dataclass(frozen=True, slots=True)
class Start:
    """A task that is ready to be started. `arguments` and `environment` hold secrets and live in memory only."""

    rank: int
    run: Path
    command: tuple[str, ...]
    work: str
    groups: tuple[str, ...]
    memory_mib: int
    arguments: bytes = field(repr=False, default=b"")
    environment: bytes = field(repr=False, default=b"")


def make_pipes(run: Path, uid: int | None) -> None:
    """The named pipes of a task. The task's user owns its two, so that it may open /dev/stdout again."""
    for name in (*STREAMS, "ended"):
        os.mkfifo(run / name, 0o600)
        if uid is not None and name != "ended":
            os.chown(run / name, uid, uid)


def open_pipe(run: Path, name: str) -> int:
    """The agent's end of a task's pipe."""
    handle = os.open(run / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # beyond the user's share of pipe memory it stays small
        fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return handle


def _memory_file(name: str, content: bytes) -> int:
    handle = os.memfd_create(name, os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]
    os.lseek(handle, 0, os.SEEK_SET)
    return handle


def spawn(start: Start) -> int:
    """Fork the task and return its leader's pid. The agent's ends of the pipes must be open already."""
    # Read and write: the task gets no SIGPIPE, and loses nothing, while no agent reads.
    pipes = [os.open(start.run / name, os.O_RDWR | os.O_CLOEXEC) for name in (*STREAMS, "ended")]
    status = os.open(start.run / "status", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    arguments = _memory_file("arguments", start.arguments)
    environment = _memory_file("environment", start.environment)
    hold = os.pipe()
    joins = join_paths(start.groups)
    wiring = {
        1: pipes[0], 2: pipes[1], sandbox.ARGS_FD: arguments, sandbox.STATUS_FD: status, sandbox.ENDED_FD: pipes[2],
        sandbox.HOLD_READ_FD: hold[0], sandbox.HOLD_WRITE_FD: hold[1], sandbox.ENV_FD: environment,
    }  # fmt: skip
    try:
        pid = os.fork()
        if pid == 0:
            _become(start, wiring, joins)
        return pid
    finally:
        for handle in (*pipes, status, arguments, environment, *hold):
            os.close(handle)


def _become(start: Start, wiring: dict[int, int], joins: Sequence[bytes]) -> None:
    """In the child: be the task. Never returns."""
    code = 125
    try:
        os.setsid()
        for name in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)
        for path in joins:
            handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            os.write(handle, b"0")
            os.close(handle)
        if not claim(start.run, _BOOT, now_us()):
            os._exit(NOT_FIRST)
        os.umask(0o022)
        os.chdir(start.work)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        # Out of the way of the numbers that are about to be given, then into place.
        high = {target: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 64) for target, source in wiring.items()}
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        for target, source in high.items():
            os.dup2(source, target)
        os.execve(start.command[0], start.command, {"PATH": sandbox.SYSTEM_PATH})  # noqa: S606
    except BaseException as problem:
        os.write(2, f"headframe: the task could not be started: {problem}\n".encode("utf-8", "replace"))
    finally:
        os._exit(code)
