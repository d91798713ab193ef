"""The life of one task on this machine, from fork to exit code, found again by a later agent."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from headframe.engines import cgroups
from headframe.engines.agent_roles import Holding, Host
from headframe.engines.agent_spawn import NOT_FIRST, STREAMS, Start, open_pipe, spawn
from headframe.engines.agent_state import (
    CONTAINER,
    Identity,
    Status,
    bar,
    identity,
    last_sign_of_life,
    now_us,
    status,
)
from headframe.engines.cgroups import Use
from headframe.engines.joblog import STREAMS as LOG_STREAMS
from headframe.fleet.engine_words import Seen

TAKE_BYTES = 256 << 10  # from one pipe in one round, so that a chatty task leaves room for the others
LAST_BYTES = 16 << 20  # the most that is taken from a pipe after the end
CLAIM_TRIES = 20  # times 50 ms
LINGER_SECONDS = 0.02  # how often it is looked after what outlives a stopped task's shell
REMOVE_TRIES = 20  # times 50 ms
DRAIN_SECONDS = 2.0  # how long pipes may stay open after the end (by processes that escaped a plain group)
UNSEEN_KILLS = 100  # times 50 ms: what podman gets to notice the end of a killed container
SAME_SECONDS = 0.5
KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True, slots=True)
class End:
    """How a task ended. `seen` is EXITED, FAILED (never ran) or LOST."""

    seen: Seen
    code: int | None
    at_us: int
    use: Use
    detail: str = ""


def _process_space(pid: int) -> int:
    """The pid namespace of a process (its inode number), 0 when it is gone."""
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return 0


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    masks = [line.split()[1] for line in text.splitlines() if line.startswith("SigCgt:")]
    return bool(masks) and bool(int(masks[0], 16) >> (number - 1) & 1)


def _is_copy_of_parent(pid: int) -> bool:
    """Whether a process is a fork that has not become a program of its own: its parent hears the signal already, and
    handlers that it has only until it becomes one must not be trusted."""
    try:
        parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        return Path(f"/proc/{pid}/cmdline").read_bytes() == Path(f"/proc/{parent}/cmdline").read_bytes()
    except OSError:
        return True


def _started(pid: int) -> int:
    """When a process began, in ticks since the machine did; numbers of processes begin anew and say nothing."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return 0


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


class Task:
    """One rank."""

    def __init__(self, host: Host, held: Holding, rank: int) -> None:
        self.host, self.held, self.rank = host, held, rank
        self.run = host.folders.rank(held.record.job_id, held.record.generation, rank) / "run"
        self.who: Identity | None = None
        self.groups = held.record.groups.get(str(rank), [])
        self.contained = held.record.contained
        self.memory_mib = held.record.memory.get(str(rank), 0)
        self.end: End | None = None
        self._pidfd = self._ended_pipe = -1
        self._pipes: dict[int, int] = {}  # descriptor -> stream
        self._ending = False
        self._wait_code: int | None = None
        self._found: Status | None = None  # what was on file when its leader was found to be gone
        self._signalled: set[int] = set()
        self._unseen_kills = 0
        self._seen, self._looked = Use(), -SAME_SECONDS  # what was used when it was last looked at, and when that was
        self._gone_us = 0  # when the last process ended, where that was after the task's own end

    # Beginning

    def start(self, start: Start) -> None:
        """Fork it."""
        self._open_pipes()
        pid = spawn(start)
        self.who = Identity(pid, self.run)
        self._watch(pid)

    def adopt(self) -> None:
        """Take over a task that an earlier agent started, or find out how it ended."""
        self._open_pipes()
        self._take_over(CLAIM_TRIES)

    def _take_over(self, tries: int) -> None:
        who = self.who = identity(self.run)
        if who is None and tries:  # forked just before the agent died: it is about to write down who it is
            self.host.loop.later(0.05, lambda: self._take_over(tries - 1))
            return
        if who is None:
            bar(self.run)
        if who is not None and who.alive():
            try:
                self._watch(who.pid)
            except ProcessLookupError:
                self._begin_end()
            return
        self._begin_end()

    def _open_pipes(self) -> None:
        for stream, name in enumerate(STREAMS):
            with contextlib.suppress(FileNotFoundError):
                handle = open_pipe(self.run, name)
                self._pipes[handle] = stream
                self.host.loop.watch(handle, partial(self._took, handle))
        with contextlib.suppress(FileNotFoundError):
            self._ended_pipe = open_pipe(self.run, "ended")
            self.host.loop.watch(self._ended_pipe, self._begin_end)

    def _watch(self, pid: int) -> None:
        self._pidfd = os.pidfd_open(pid)
        self.host.loop.watch(self._pidfd, self._leader_gone)

    # Output

    def _took(self, handle: int) -> None:
        self._take(handle)

    def _take(self, handle: int, limit: int = TAKE_BYTES) -> int:
        """Move output into the log; the number of bytes, 0 when there is none now."""
        record, stream = self.held.record, self._pipes[handle]
        try:
            log = self.host.log_of(record.job_id)
            moved = log.take(handle, record.generation, self.rank, LOG_STREAMS.index(STREAMS[stream]), limit)
        except BlockingIOError:
            return 0
        except OSError as problem:
            # A full disk: the output waits in the pipe, and the task with it, until there is room again.
            self.host.loop.unwatch(handle)
            self.held.tell(
                f"The log cannot be written: {os.strerror(problem.errno or errno.EIO)}. The job's output waits."
            )
            self.host.loop.later(1.0, lambda: self._retake(handle))
            return 0
        if moved == 0:
            self._close_pipe(handle)
            return 0
        self.host.grew(record.job_id)
        return moved

    def _retake(self, handle: int) -> None:
        if handle in self._pipes:
            self.host.loop.watch(handle, partial(self._took, handle))

    def _close_pipe(self, handle: int) -> None:
        self.host.loop.unwatch(handle)
        os.close(handle)
        del self._pipes[handle]
        if self._ending and not self._pipes:
            self.host.loop.later(0, self._finish)

    def _drain(self) -> None:
        """Take all that is in the pipes now."""
        for handle in list(self._pipes):
            left = LAST_BYTES
            while left > 0 and handle in self._pipes:
                moved = self._take(handle)
                if moved == 0:
                    break
                left -= moved

    # Signals

    def _inside(self) -> list[int]:
        """The task's own processes: without the leader, the sandbox program and the sandbox's first process."""
        assert self.who is not None
        found = status(self.run)
        if self.held.record.sandboxed and found.space is None:
            return []  # the sandbox is still being made
        pids = cgroups.members(self.groups) if self.groups else [int(n) for n in os.listdir("/proc") if n.isdigit()]
        if self.held.record.sandboxed:
            return [pid for pid in sorted(pids) if pid != found.inside and _process_space(pid) == found.space]
        if self.groups:
            return [pid for pid in pids if pid != self.who.pid]
        return [pid for pid in sorted(pids) if pid != self.who.pid and _session_of(pid) == self.who.pid]

    def signal(self, number: int) -> bool:
        """Send a signal to all of the task's processes; False when there was none to send it to.

        The oldest is first: a shell is to have heard before what it waits for ends by the same signal.
        """
        pids = sorted(self._inside(), key=_started)
        for pid in pids:
            self._signalled.add(pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        return bool(pids)

    def warn(self, number: int) -> None:
        """Send a signal to those who listen: it must not end a shell that does not know it."""
        for pid in self._inside():
            if not _is_copy_of_parent(pid) and _catches(pid, number):  # in this order: a copy may become a program now
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)

    def _lingers(self) -> bool:
        """After a stop the task's shell is gone at once; what it had started gets the rest of the grace to save its
        work, and what it started in the very moment of the signal gets the signal now."""
        stop = self.held.record.stop
        if stop is None or self._pidfd < 0 or now_us() >= stop["deadline_us"]:
            return False
        pids = self._inside()
        for pid in pids:
            if pid not in self._signalled:
                self._signalled.add(pid)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.Signals[stop["signal"]])
        self._gone_us = now_us() if pids else self._gone_us
        return bool(pids)

    def kill(self) -> None:
        """End the whole tree at once. The leader stays, to write down how it ended."""
        found = status(self.run)
        if found.inside is not None and found.space is not None and _process_space(found.inside) == found.space:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.inside, signal.SIGKILL)  # the kernel ends all of its namespace with it
            return
        if self.contained:
            # A container that is there but not seen is about to begin or has ended: podman gets a while for its work.
            self._unseen_kills += 1
            left_alone = (self.run / CONTAINER).exists() and self._unseen_kills <= UNSEEN_KILLS
            if not left_alone and found.exit_code is None and found.leader_code is None:
                self._kill_client()
            return
        for _round in range(20):
            if not self.signal(signal.SIGKILL):
                break
        if self.held.record.sandboxed and self.groups:
            for pid in cgroups.members(self.groups):  # a sandbox that is still being made
                if self.who is not None and pid != self.who.pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def _kill_client(self) -> None:
        """Podman's client, while its container is still being made. What the leader does afterwards must not be hit."""
        assert self.who is not None
        for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
            if pid != self.who.pid and _session_of(pid) == self.who.pid:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    # Ending

    def _leader_gone(self) -> None:
        self._begin_end()
        self._reap()
        if not self._pipes:
            self._finish()

    def _begin_end(self) -> None:
        """The task itself has ended: end what it left behind, secure its output, let the leader go."""
        self.host.loop.unwatch(self._ended_pipe)
        if self._ending:
            return
        if self._lingers():
            self.host.loop.later(LINGER_SECONDS, self._begin_end)
            return
        self._ending = True
        if self._pidfd < 0:
            self._found = status(self.run)  # before what is left is killed: that is not how it ended
        if self.who is not None and (self._pidfd >= 0 or status(self.run).space is not None):
            self.kill()
        self._drain()
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self.host.loop.later(DRAIN_SECONDS, self._finish)
        else:
            self.host.loop.later(0, self._finish)

    def _reap(self) -> None:
        if self._pidfd < 0:
            return
        assert self.who is not None
        self.host.loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        with contextlib.suppress(ChildProcessError):  # a task of an earlier agent is not our child
            _pid, how = os.waitpid(self.who.pid, 0)
            self._wait_code = os.waitstatus_to_exitcode(how)

    def _finish(self) -> None:
        if self.end is not None or (self._pidfd >= 0 and self._leader_lives()):
            return
        self._reap()
        if self._wait_code == NOT_FIRST and identity(self.run) is not None:
            self._begin_again()
            return
        self._drain()
        for handle in list(self._pipes):
            self.host.loop.unwatch(handle)
            os.close(handle)
        self._pipes.clear()
        if self._ended_pipe >= 0:
            self.host.loop.unwatch(self._ended_pipe)
            os.close(self._ended_pipe)
            self._ended_pipe = -1
        self.end = self._how()
        self._remove_groups(REMOVE_TRIES)
        self.held.task_ended(self)

    def _leader_lives(self) -> bool:
        """Whether the leader has still not gone; asks again a little later if so."""
        who = self.who
        if who is None or not os.path.exists(f"/proc/{who.pid}"):
            return False
        try:
            state = Path(f"/proc/{who.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state == "Z":
            return False
        self.host.loop.later(0.05, self._finish)
        return True

    def _begin_again(self) -> None:
        """Another agent's child was first: that one is the task."""
        for handle in (*self._pipes, self._ended_pipe):
            self.host.loop.unwatch(handle)
            os.close(handle)
        self._pipes.clear()
        self._ended_pipe, self._ending, self._wait_code, self._found = -1, False, None, None
        self.adopt()

    def use(self) -> Use:
        """What it has used until now, or in all."""
        if self.end is not None:
            return self.end.use
        if self.host.groups is not None and self.groups:
            return self.host.groups.use(self.groups)
        return Use()

    def use_now(self) -> Use:
        """The same, told by the processes where there are no groups; once for all who look in one moment."""
        if self.end is not None:
            return self.end.use
        if time.monotonic() - self._looked > SAME_SECONDS:
            processes = self.who is not None and not self.groups
            self._seen = cgroups.of_processes(self._inside()) if processes else self.use()
            self._looked = time.monotonic()
        return self._seen

    def _how(self) -> End:
        found, use = self._found or status(self.run), self.use()
        sandboxed, stopping = self.held.record.sandboxed, self.held.record.stop is not None
        code = found.exit_code if sandboxed else found.leader_code
        at_us = max(found.at_us, self._gone_us, self.held.record.running_us)
        full_text = f"out of memory: the kernel ended a process at the limit of {self.memory_mib} MiB"
        if code is not None:
            # Of a container's own group below ours the kernel (v1) leaves no count of what it killed, only the peak.
            full = self.contained and code == KILLED and not stopping and use.memory_peak_mib >= self.memory_mib > 0
            full = full or (use.out_of_memory > 0 and code != 0)
            return End(Seen.EXITED, code, at_us, use, full_text if full else "")
        if stopping:
            return End(Seen.EXITED, KILLED, at_us if found.leader_code is not None else now_us(), use, "killed")
        if use.out_of_memory:  # what the task filled outlived its processes, so the sandbox's own had to go as well
            return End(Seen.EXITED, KILLED, at_us if found.leader_code is not None else now_us(), use, full_text)
        if found.leader_code is not None or (self._wait_code is not None and self._wait_code > 0):
            return End(Seen.FAILED, None, at_us or now_us(), use, "the sandbox could not be started: see the log")
        if self._wait_code is not None:
            return End(Seen.EXITED, 128 - self._wait_code, now_us(), use, "killed from outside of the job")
        sign = last_sign_of_life(self.host.folders, self.held.record)
        return End(Seen.LOST, None, sign, use, "the machine restarted or the task's processes were removed")

    def _remove_groups(self, tries: int) -> None:
        """Remove the control groups. What is killed already takes the kernel a moment to bury, which nobody waits for:
        so once and only once every process is killed at first, and until none is left when that was not enough."""
        if self.groups and not cgroups.remove(self.groups):
            cgroups.kill(self.groups, 1 if tries == REMOVE_TRIES else 100)
            if tries:
                self.host.loop.later(0.05, lambda: self._remove_groups(tries - 1))
