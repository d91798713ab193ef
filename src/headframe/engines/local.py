"""The local engine: this machine, through its agent. Lives in the server, owns one thread."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from headframe.base.errors import TooBusy
from headframe.control.ports import LogPiece
from headframe.engines import agent_wire, joblog_reader, machine
from headframe.engines.agent import BUILD
from headframe.engines.agent_disk import JOB_BYTES
from headframe.engines.agent_state import Folders, now_us
from headframe.engines.homes import Home
from headframe.engines.joblog import DEFAULT_BOUND
from headframe.engines.local_points import measured
from headframe.fleet.engine_words import Forget, Launch, Observation, Report, Seen, Signal, Stop
from headframe.metrics.records import Measured

Action = Launch | Stop | Signal | Forget

QUEUE_LIMIT = 100_000  # messages that wait for the agent
START_SECONDS = 15.0  # how long a new agent may take until its socket answers
# What an agent may need of the server's environment: package indexes, the way to them, podman's folders. Nothing else
# is passed on, as it could hold the server's own secrets.
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
           "REQUESTS_CA_BUNDLE")  # fmt: skip
_PASSED_PREFIXES = (
    "UV_", "PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "COVERAGE_", "XDG_",
)  # fmt: skip


class LocalEngine:
    """See `control.ports.Engine`; also tells when logs grow (for `LocalLogs`)."""

    name = "local"

    def __init__(
        self,
        data: Path,
        *,
        fake_gpus: str = "",
        log_bound: int = DEFAULT_BOUND,
        disk_bound: int = JOB_BYTES,
        sandbox: bool = True,
    ) -> None:
        self.folders = Folders(data.resolve())
        self.agent: dict[str, Any] = {}  # what the agent said of itself: for `doctor`
        self.trouble = ""  # why there is no agent, in a sentence
        self._fake_gpus, self._log_bound, self._use_sandbox = fake_gpus, log_bound, sandbox
        self._disk_bound = disk_bound
        self._deliver: Callable[[Observation | Report | Measured], None] = lambda _seen: None
        self._queue: deque[dict[str, Any]] = deque()
        self._unseen: dict[str, dict[str, Any]] = {}  # launches of which nothing was heard: said again to a new agent
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = False
        self._machine: machine.Found | None = None
        self._thread = threading.Thread(target=self._run, name="local-engine", daemon=True)
        self.follows = joblog_reader.Follows(self._tell_follow)
        self._follow_lock = threading.Lock()

    @classmethod
    def at(cls, home: Home) -> LocalEngine:
        """This machine, as a server's own cluster; raises `Invalid` for an unknown setting."""
        return cls(home.data, **home.known("fake_gpus", "log_bound", "disk_bound"))

    # The port

    def start(self, deliver: Callable[[Observation | Report | Measured], None]) -> None:
        self._deliver = deliver
        self._machine = machine.discover(self.folders.data, self._fake_gpus)
        self._thread.start()
        self.request_report()

    def close(self) -> None:
        self._closing = True
        os.eventfd_write(self._wake, 1)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(5)

    def act(self, actions: Sequence[Action]) -> None:
        messages = []
        for action in actions:
            message = agent_wire.action_out(action)
            if isinstance(action, Launch):
                message["devices"] = self._devices(action)
                with self._lock:
                    self._unseen[action.allocation_id] = message
            messages.append(message)
        self._say(*messages)

    def request_report(self) -> None:
        self._say({"report": {}})

    def _devices(self, launch: Launch) -> dict[str, dict[str, Any]]:
        wanted = {share.accelerator_id for piece in launch.slices for share in piece.shares}
        known = self._machine.devices if self._machine is not None else {}
        return {key: known[key] for key in sorted(wanted) if key in known}

    # Logs

    def follow(self, job_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        with self._follow_lock:
            number = self.follows.add(job_id, wake)

        def end() -> None:
            with self._follow_lock:
                self.follows.drop(job_id, number)

        return end

    def _tell_follow(self, job_id: str, begin: bool) -> None:
        self._say({"follow" if begin else "unfollow": job_id})

    # The thread

    def _say(self, *messages: dict[str, Any]) -> None:
        if len(self._queue) + len(messages) > QUEUE_LIMIT:
            raise TooBusy("The local engine's queue is full.", next_step="Look at the agent's log in agent/agent.log.")
        self._queue.extend(messages)
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        pause = 0.05
        while not self._closing:
            wire = self._reach()
            if wire is None:
                select.select([self._wake], [], [], pause)
                pause = min(2.0, pause * 2)
                continue
            pause = 0.05
            try:
                self._converse(wire)
            except OSError as problem:
                self.trouble = f"The connection to the agent broke: {problem}"
            finally:
                wire.close()

    def _reach(self) -> socket.socket | None:
        """A connection to the agent, started if need be."""
        self.folders.state.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            return agent_wire.connect(self.folders.agent)
        try:
            self._start_agent()
        except OSError as problem:
            self.trouble = f"The agent could not be started: {problem}"
            return None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not self._closing:
            with contextlib.suppress(OSError):
                return agent_wire.connect(self.folders.agent)
            time.sleep(0.005)
        self.trouble = "The agent does not answer: see agent/agent.log in the data folder."
        return None

    def _start_agent(self) -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED or name.upper().startswith(_PASSED_PREFIXES)
        }
        command = [sys.executable, "-m", "headframe.engines.agent", "--data", str(self.folders.data)]
        command += ["--log-bound", str(self._log_bound), "--disk-bound", str(self._disk_bound)]
        command += ["--no-sandbox"] if not self._use_sandbox else []
        with open(self.folders.agent / "agent.log", "ab") as log:
            # It forks away at once, so waiting for it takes as long as its start.
            subprocess.run(
                command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, check=False, timeout=START_SECONDS,
            )  # fmt: skip

    def _converse(self, wire: socket.socket) -> None:
        """Speak with one agent until it is gone."""
        lines = agent_wire.Lines()
        wire.setblocking(False)
        with self._lock:
            again = list(self._unseen.values())
        outgoing = bytearray(agent_wire.encode({"hello": {"build": BUILD}}))
        for message in (*again, {"report": {}}, {"measure": {}}, *({"follow": job_id} for job_id in self._followed())):
            outgoing += agent_wire.encode(message)
        self._wake_followers(self._followed())
        while not self._closing:
            while self._queue and len(outgoing) < 1 << 20:
                outgoing += agent_wire.encode(self._queue.popleft())
            waiting: list[socket.socket | int] = [wire, self._wake]
            readable, writable, _ = select.select(waiting, [wire] if outgoing else [], [])
            if self._wake in readable:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            if writable:
                with contextlib.suppress(BlockingIOError):
                    del outgoing[: wire.send(outgoing)]
            if wire in readable:
                chunk = wire.recv(1 << 18)
                if not chunk:
                    self.trouble = "The agent has ended; it is started again."
                    return
                try:
                    messages = lines.feed(chunk)
                except ValueError as problem:
                    raise OSError(f"what the agent says is not understood: {problem}") from None
                for message in messages:
                    self._hear(message, outgoing)

    def _hear(self, message: dict[str, Any], outgoing: bytearray) -> None:
        if "observation" in message:
            seen = agent_wire.observation_in(message["observation"])
            self._heard_of(seen)
            self._deliver(seen)
        elif "report" in message:
            self._deliver(self._report(message["report"]))
        elif "grew" in message:
            self._wake_followers([message["grew"]])
        elif "measured" in message:
            if self._machine is not None:
                self._deliver(measured(self._machine, message["measured"]))
        elif "hello" in message:
            self.agent, self.trouble = message["hello"], ""
            if self.agent["build"] != BUILD:
                outgoing += agent_wire.encode({"leave": {}})

    def _heard_of(self, seen: Observation) -> None:
        """A launch that runs or has ended needs not be said again."""
        if seen.seen is not Seen.PREPARING:
            with self._lock:
                known = self._unseen.get(seen.allocation_id)
                if known is not None and known["launch"]["generation"] <= seen.generation:
                    del self._unseen[seen.allocation_id]

    def _report(self, plain: dict[str, Any]) -> Report:
        observations = tuple(agent_wire.observation_in(item) for item in plain["observations"])
        for seen in observations:
            self._heard_of(seen)
        self._machine = machine.discover(self.folders.data, self._fake_gpus)
        return Report(plain["at_us"], observations, (self._machine.node,), self._machine.accelerators)

    def _followed(self) -> list[str]:
        with self._follow_lock:
            return self.follows.jobs()

    def _wake_followers(self, job_ids: Sequence[str]) -> None:
        for job_id in job_ids:
            with self._follow_lock:
                wakes = self.follows.wakes(job_id)
            for wake in wakes:
                wake()


@runtime_checkable
class Follow(Protocol):
    """An engine whose jobs' logs lie in the data folder, and grow."""

    def follow(self, job_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` whenever the log grows; returns the call that ends it."""
        ...


@runtime_checkable
class Bring(Protocol):
    """An engine whose tasks write elsewhere first."""

    def bring(self, job_id: str) -> None:
        """Have in the log what the job's tasks have written until now."""
        ...


class LocalLogs:
    """See `control.ports.Logs`: the logs of jobs in the data folder, whatever engine wrote them."""

    def __init__(self, data: Path, *engines: object) -> None:
        self._folders = Folders(data.resolve())
        self._growing = [engine for engine in engines if isinstance(engine, Follow)]
        self._bringing = [engine for engine in engines if isinstance(engine, Bring)]

    def _bring(self, job_id: str) -> None:
        for engine in self._bringing:
            engine.bring(job_id)

    def read(self, job_id: str, offset: int, limit: int) -> tuple[list[LogPiece], int]:
        self._bring(job_id)
        return joblog_reader.read_log(self._folders.log(job_id), offset, limit)

    def end(self, job_id: str) -> int:
        self._bring(job_id)
        return joblog_reader.log_end(self._folders.log(job_id))

    def tail(self, job_id: str, lines: int) -> int:
        self._bring(job_id)
        return joblog_reader.log_tail(self._folders.log(job_id), lines)

    def follow(self, job_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        ends = [engine.follow(job_id, wake) for engine in self._growing]

        def end() -> None:
            for one in ends:
                one()

        return end


__all__ = ["LocalEngine", "LocalLogs", "now_us"]
