"""How the agent starts a task: no fork of itself (a fork costs more than all the rest) but a shell, the task's leader,
which enters the task's control group and writes down who it is before it starts anything."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headframe.engines import sandbox
from headframe.engines.agent_state import STATUS_FD
from headframe.engines.cgroups import join_paths
from headframe.engines.containers import SOFT_FILES

PIPE_BYTES = 1 << 20
NOT_FIRST = 124  # the leader's exit code when another one has claimed the task
STREAMS = ("stdout", "stderr")
LOWEST_FREE = 10  # descriptors below are given to tasks by number
_DEFAULTED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Start:
    """A task that is ready to be started. `arguments` and `environment` hold secrets and live in memory only."""

    rank: int
    run: Path
    command: tuple[str, ...]
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


def keep_low_descriptors() -> None:
    """Occupy the numbers that tasks get, so that none of ours is in the way when they are given."""
    while (handle := os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)) < LOWEST_FREE - 1:
        pass
    if handle >= LOWEST_FREE:
        os.close(handle)


def beginning(run: Path, work: str, groups: Sequence[str]) -> str:
    """What the leader does first, as shell text: enter the group, then claim the task.

    The file that says who it is can be made once only: so the identity is on disk before anything runs, and of two
    agents that follow each other never both start a task.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = SOFT_FILES if hard == resource.RLIM_INFINITY else min(SOFT_FILES, hard)
    steps = [f"echo 0 > {shlex.quote(os.fsdecode(path))}" for path in join_paths(groups)]
    steps += [f"cd {shlex.quote(work)}", f"ulimit -S -n {files}", "set -C"]
    claim = f"echo $$ 2>&- > {shlex.quote(str(run / 'pid'))} || exit {NOT_FIRST}; set +C\n"
    return " && ".join(steps) + f" || exit 125\n{claim}"


def spawn(start: Start) -> int:
    """Start the task and return its leader's pid. The agent's ends of the pipes must be open already."""
    # Read and write: the task gets no SIGPIPE, and loses nothing, while no agent reads.
    pipes = [os.open(start.run / name, os.O_RDWR | os.O_CLOEXEC) for name in (*STREAMS, "ended")]
    status = os.open(start.run / "status", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    arguments = _memory_file("arguments", start.arguments)
    environment = _memory_file("environment", start.environment)
    hold = os.pipe()
    wiring = {
        1: pipes[0], 2: pipes[1], sandbox.ARGS_FD: arguments, STATUS_FD: status, sandbox.ENDED_FD: pipes[2],
        sandbox.HOLD_READ_FD: hold[0], sandbox.HOLD_WRITE_FD: hold[1], sandbox.ENV_FD: environment,
    }  # fmt: skip
    try:
        return os.posix_spawn(
            start.command[0],
            start.command,
            {"PATH": sandbox.SYSTEM_PATH},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                *((os.POSIX_SPAWN_DUP2, source, target) for target, source in wiring.items()),
            ],
            setsid=True,
            setsigdef=_DEFAULTED,
        )
    finally:
        for handle in (*pipes, status, arguments, environment, *hold):
            os.close(handle)
