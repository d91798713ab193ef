"""The agent: one small long-lived program for each data folder, which starts tasks and watches over them.

It is started by the server when its socket does not answer, outlives the server, and is crash-only: a killed agent's
successor finds everything on disk and takes the running tasks over. It imports the standard library alone.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from headframe import __version__
from headframe.base.errors import CallerError, HeadframeError
from headframe.base.progress import Progress
from headframe.engines import agent_containers, agent_wire, cgroup_owners, cgroups, sandbox
from headframe.engines.agent_alone import alone, detach
from headframe.engines.agent_disk import JOB_BYTES, Disk
from headframe.engines.agent_held import Held
from headframe.engines.agent_loop import AgentLoop
from headframe.engines.agent_orphans import end_orphans
from headframe.engines.agent_points import Plain, Points
from headframe.engines.agent_prepare import Device, Machine, Ready, is_quick, prepare, record_of
from headframe.engines.agent_roles import Holding
from headframe.engines.agent_spawn import keep_low_descriptors
from headframe.engines.agent_state import Folders, Record, load_records, now_us
from headframe.engines.agent_trash import QUIET_SECONDS, Trash
from headframe.engines.agent_use import PULSE_SECONDS, Looks
from headframe.engines.job_library import lay_out
from headframe.engines.joblog import LogWriter
from headframe.engines.sandbox_etc import Etc
from headframe.fleet.engine_words import Launch, Observation, Seen, Signal, Stop

BUILD = f"{__version__}/{agent_wire.VERSION}"  # a server of another build brings its own agent
PREPARERS = 4  # threads
GREW_SECONDS = 0.005  # followers of a log hear of growth at most this often
ALIVE_SECONDS = 10.0
OUTGOING_LIMIT = 64 << 20  # bytes that wait for a server; one that does not read is cut off and asks anew
STOPPED_LIMIT = 10_000
UNWANTED_SECONDS = 60.0
POINTS_EACH = 5_000  # in one message
PRUNE_SECONDS = 30.0  # also how long a checkpoint must have been left alone to count as written


class Connection:
    """One server that listens. Never blocks the loop."""

    def __init__(self, agent: Agent, wire: socket.socket) -> None:
        self.agent, self.wire = agent, wire
        self.following: set[str] = set()
        self.measuring = False  # whether it wants to hear what is measured
        self._lines = agent_wire.Lines()
        self._outgoing = bytearray()
        self._blocked = False  # more waits than the wire takes now
        wire.setblocking(False)
        agent.loop.watch(wire.fileno(), self._ready)

    def send(self, message: dict[str, Any]) -> None:
        """Say it at the end of this round of the loop, with all else that is said in it."""
        if not self._outgoing:
            self.agent.loop.at_last(self._flush)
        self._outgoing += agent_wire.encode(message)
        if len(self._outgoing) > OUTGOING_LIMIT:
            self.close()

    def _flush(self) -> None:
        if self.wire.fileno() < 0:
            return
        try:
            while self._outgoing:
                del self._outgoing[: self.wire.send(self._outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if bool(self._outgoing) is not self._blocked:
            self._blocked = bool(self._outgoing)
            self.agent.loop.watch_writing(self.wire.fileno(), self._blocked)

    def _ready(self) -> None:
        self._flush()
        if self.wire.fileno() < 0:
            return
        try:
            chunk = self.wire.recv(1 << 18)
            messages = self._lines.feed(chunk)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            chunk, messages = b"", []
        for message in messages:
            self.agent.obey(self, message)
        if not chunk:
            self.close()

    def close(self) -> None:
        if self.wire.fileno() >= 0:
            self.agent.loop.unwatch(self.wire.fileno())
            self.wire.close()
            self.agent.connections.remove(self)


class Agent:
    """All that one agent holds: allocations, logs, connections."""

    def __init__(self, data: Path, log_bound: int, disk_bound: int, use_sandbox: bool, unwanted: float) -> None:
        self.loop = AgentLoop()
        self.folders = Folders(data)
        self.log_bound = log_bound
        tag = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
        self.groups, self.groups_word = cgroups.usable(tag)
        if self.groups is not None:
            cgroup_owners.sign(self.groups.own())
        self.sandbox = sandbox.probe() if use_sandbox else sandbox.without("it was switched off")
        self.connections: list[Connection] = []
        self.held: dict[str, Held] = {}
        self._stopped: dict[str, int] = {}  # stops of what was not here yet
        self._logs: dict[str, LogWriter] = {}
        self._grown: set[str] = set()
        self._told = 0.0
        etc = Etc(self.folders.agent / "etc")
        self._machine = Machine(self.folders, self.sandbox, self.groups, etc, lay_out(data / "lib"))
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._threads = 0
        self._trash = Trash(self.folders.agent / "trash")
        self._sweeping = False
        self.points = Points(data, self._tell_points)
        self._looks = Looks(lambda: list(self.held.values()), self._in_thread, self.loop.post, self.points.measure)
        self._disk = Disk(data, disk_bound, self._in_thread, self.loop.post)
        self._unwanted = unwanted  # seconds
        self._wanted = time.monotonic()  # the last moment at which somebody needed us

    # What tasks need of us

    def log_of(self, job_id: str) -> LogWriter:
        if job_id not in self._logs:
            self._logs[job_id] = LogWriter(self.folders.log(job_id), now_us, self.log_bound)
        return self._logs[job_id]

    def grew(self, job_id: str) -> None:
        if any(job_id in connection.following for connection in self.connections):
            if not self._grown:
                self.loop.later(max(0.0, self._told + GREW_SECONDS - time.monotonic()), self._tell_grown)
            self._grown.add(job_id)

    def _tell_grown(self) -> None:
        self._told = time.monotonic()
        grown, self._grown = sorted(self._grown), set()
        for connection in list(self.connections):
            for job_id in grown:
                if job_id in connection.following:
                    connection.send({"grew": job_id})

    def push(self, held: Holding) -> None:
        message = {"observation": agent_wire.observation_out(held.observe(full=not held.active))}
        for connection in list(self.connections):
            connection.send(message)

    def ended(self, held: Holding) -> None:
        """Nothing of the allocation lives any more: its log may be closed, old checkpoints may go."""
        record = held.record
        self.grew(record.job_id)
        if not any(other.record.job_id == record.job_id and other.active for other in self.held.values()):
            log = self._logs.pop(record.job_id, None)
            if log is not None:
                log.close()
        if record.keep:
            self._in_thread(lambda: self._prune(record, None))

    def _prune(self, record: Record, settled_us: int | None) -> None:
        from headframe.engines import checkpoints

        with contextlib.suppress(OSError, HeadframeError):
            checkpoints.prune(self.folders.job(record.job_id) / "checkpoints", record.keep, settled_us)

    def _prune_running(self) -> None:
        """Old checkpoints of running jobs go too: a long job would fill the disk."""
        settled_us = now_us() - int(PRUNE_SECONDS * 1e6)
        for held in self.held.values():
            if held.record.keep and held.active and not held.preparing:
                self._in_thread(partial(self._prune, held.record, settled_us))
        self.loop.later(PRUNE_SECONDS, self._prune_running)

    def _look(self) -> None:
        if self._looks.pulse():
            self._disk.look(self.held.values())
        self.loop.later(PULSE_SECONDS, self._look)

    def _tell_points(self, points: list[Plain]) -> None:
        for connection in list(self.connections):
            if connection.measuring:
                connection.send({"measured": points})

    # What servers say

    def obey(self, connection: Connection, message: dict[str, Any]) -> None:
        try:
            if "hello" in message:
                connection.send({"hello": self._hello()})
            elif "report" in message:
                connection.send({"report": self._report()})
            elif "follow" in message:
                connection.following.add(str(message["follow"]))
                connection.send({"grew": message["follow"]})  # it may have grown while the wish was on its way
            elif "unfollow" in message:
                connection.following.discard(str(message["unfollow"]))
            elif "measure" in message:
                connection.measuring = True
                self._tell_kept(connection)
            elif "leave" in message:
                self.loop.leaving = True
            else:
                self._act(message)
        except (ValueError, TypeError, KeyError) as problem:
            connection.send({"refused": f"{type(problem).__name__}: {problem}"})

    def _tell_kept(self, connection: Connection) -> None:
        """What was measured while no server listened; one that knows it already passes it over."""
        points = list(self.points.kept)
        for place in range(0, len(points), POINTS_EACH):
            connection.send({"measured": points[place : place + POINTS_EACH]})

    def _hello(self) -> dict[str, Any]:
        return {
            "build": BUILD,
            "pid": os.getpid(),
            "sandbox": self.sandbox.kind,
            "sandbox_reason": self.sandbox.reason,
            "groups": self.groups.version if self.groups is not None else 0,
            "groups_reason": self.groups_word,
        }

    def _report(self) -> dict[str, Any]:
        observations = [self.held[key].observe() for key in sorted(self.held)]
        return {"at_us": now_us(), "observations": [agent_wire.observation_out(seen) for seen in observations]}

    def _act(self, message: dict[str, Any]) -> None:
        action = agent_wire.action_in(message)
        if action is None:
            raise ValueError("an unknown message")
        held = self.held.get(action.allocation_id)
        if isinstance(action, Launch):
            devices = {key: Device(**plain) for key, plain in message.get("devices", {}).items()}
            self._launch(action, held, devices)
            return
        if held is None or held.record.generation != action.generation:
            if isinstance(action, Stop):
                if held is None:
                    self._remember_stop(action)
                self._push_absent(action.allocation_id, action.generation)
            return
        if isinstance(action, Stop):
            self._stop(held, action)
        elif isinstance(action, Signal):
            held.warn(action.signal)
        else:
            self._forget(held)

    def _remember_stop(self, action: Stop) -> None:
        self._stopped[action.allocation_id] = max(action.generation, self._stopped.get(action.allocation_id, 0))
        while len(self._stopped) > STOPPED_LIMIT:
            del self._stopped[next(iter(self._stopped))]

    def _push_absent(self, allocation_id: str, generation: int) -> None:
        gone = Observation(allocation_id, generation, Seen.ABSENT, now_us(), detail="unknown here")
        for connection in list(self.connections):
            connection.send({"observation": agent_wire.observation_out(gone)})

    def _launch(self, launch: Launch, held: Held | None, devices: dict[str, Device]) -> None:
        if held is not None and held.record.generation >= launch.generation:
            self.push(held)  # known already, or older than what we hold
            return
        newer = [other for other in self.held.values() if other.record.job_id == launch.job_id]
        if self._stopped.get(launch.allocation_id, -1) >= launch.generation or any(
            other.record.generation > launch.generation for other in newer
        ):
            self._push_absent(launch.allocation_id, launch.generation)
            return
        self._trash.launched()
        for other in newer:  # a job has one attempt at a time: an older one must not write beside it
            if other.active:
                other.stop("SIGKILL", 0, "a newer attempt was started")
        held = Held(self, record_of(self._machine, launch, devices))
        self.held[launch.allocation_id] = held
        if is_quick(self._machine, launch):
            self.loop.start_soon(lambda: self._prepare(held, launch, devices))
        else:
            self.push(held)
            self._in_thread(lambda: self._prepare(held, launch, devices))

    def _prepare(self, held: Held, launch: Launch, devices: dict[str, Device]) -> None:
        """Make it ready, on the loop's thread or on another, and then start it on the loop's."""
        on_loop = threading.current_thread() is threading.main_thread()
        hand_over = (lambda call: call()) if on_loop else self.loop.post

        def say(text: str | Progress) -> None:
            hand_over(lambda: self._say(held, text))

        if held.cancelled or not held.active:
            return
        try:
            ready = prepare(self._machine, launch, devices, say)
        except Exception as problem:
            why, fault = _explain(problem)
            hand_over(lambda: self._failed(held, why, fault))
            return
        hand_over(lambda: self._start(held, ready))

    def _say(self, held: Held, text: str | Progress) -> None:
        stream = "progress" if isinstance(text, Progress) else "system"
        with contextlib.suppress(OSError):
            self.log_of(held.record.job_id).say(str(text), held.record.generation, stream=stream)
            self.grew(held.record.job_id)

    def _start(self, held: Held, ready: Ready) -> None:
        if held.cancelled or not held.active:
            for start in ready.starts:
                cgroups.remove(start.groups)
            return
        held.record.story += ready.story
        held.record.resumed_from = ready.resumed_from
        try:
            held.start(ready.starts)
        except OSError as problem:
            if held.tasks:  # some run already
                held.stop("SIGKILL", 0)
            else:
                self._failed(held, f"The task could not be started: {problem}", "engine")

    def _failed(self, held: Held, why: str, fault: str) -> None:
        if not held.active or held.cancelled:
            return
        self._say(held, why)
        held.at_us = now_us()
        held.finish(Seen.FAILED, None, why, fault)

    def _stop(self, held: Held, action: Stop) -> None:
        if not held.active:
            self.push(held)
        elif held.preparing:
            held.cancelled = True
            held.at_us = now_us()
            held.finish(Seen.EXITED, 128 + signal.Signals[action.signal], "stopped before it started", "job")
        else:
            held.stop(action.signal, action.grace_us, action.reason)

    def _forget(self, held: Held) -> None:
        if held.active:
            return  # its end is not on record, whatever the server says
        record = held.record
        del self.held[record.allocation_id]
        record.drop(self.folders.state)
        if names := agent_containers.left_by(self.folders, record):
            self._in_thread(lambda: agent_containers.remove(names))
        self._trash.put(self.folders.attempt(record.job_id, record.generation), record.allocation_id)
        self._sweep_later()

    def _sweep_later(self) -> None:
        """Remove what is put aside when the machine has been quiet for a while."""
        if self._trash.count and not self._sweeping:
            self._sweeping = True
            self.loop.later(QUIET_SECONDS, lambda: self._in_thread(lambda: self._trash.sweep(self._swept)))

    def _swept(self, removed: int) -> None:
        def count() -> None:
            self._trash.count -= removed
            self._sweeping = False
            self._sweep_later()

        self.loop.post(count)

    # Threads and life

    def _in_thread(self, call: Callable[[], None]) -> None:
        self._work.put(call)
        if self._threads < PREPARERS:
            self._threads += 1
            threading.Thread(target=self._preparer, name=f"prepare-{self._threads}", daemon=True).start()

    def _preparer(self) -> None:
        while True:
            call = self._work.get()
            try:
                call()
            except Exception as problem:
                print(f"agent: {type(problem).__name__}: {problem}", file=sys.stderr, flush=True)

    def _touch_alive(self) -> None:
        """So that after a loss of power the last moment of life is known."""
        if any(held.active for held in self.held.values()):
            (self.folders.agent / "alive").touch()
        self.loop.later(ALIVE_SECONDS, self._touch_alive)

    def _leave_when_unwanted(self) -> None:
        """Without a server, and with no task to watch over, there is nothing to be here for."""
        if self.connections or any(held.active for held in self.held.values()) or not self._work.empty():
            self._wanted = time.monotonic()
        left = self._wanted + self._unwanted - time.monotonic()
        if left <= 0:
            self.loop.leaving = True
        else:
            self.loop.later(min(left, self._unwanted / 10), self._leave_when_unwanted)

    def adopt(self) -> None:
        """Take over what earlier agents left."""
        records, damaged = load_records(self.folders.state)
        for name in damaged:
            print(f"agent: the record {name} is damaged and was moved aside", file=sys.stderr, flush=True)
        for task in end_orphans(self.folders, {(record.job_id, record.generation) for record in records}):
            print(f"agent: the task {task} has no record and was ended", file=sys.stderr, flush=True)
        for record in records:
            held = Held(self, record)
            self.held[record.allocation_id] = held
            held.adopt()
        self._sweep_later()
        if self.groups is not None:
            own, parents = self.groups.own()[0].name, self.groups.parents()
            self._in_thread(lambda: cgroup_owners.clear(own, parents))

    def run(self) -> None:
        server = agent_wire.listen(self.folders.agent)
        self.loop.watch(server.fileno(), lambda: self._accept(server))
        self._touch_alive()
        self.loop.later(PULSE_SECONDS, self._look)
        self._leave_when_unwanted()
        self._prune_running()
        self.loop.run()
        if self.groups is not None:
            self.groups.leave()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            wire, _address = server.accept()
            self.connections.append(Connection(self, wire))


def _explain(problem: Exception) -> tuple[str, str]:
    """A sentence for the job's story, and whose fault it is."""
    if isinstance(problem, HeadframeError):
        return str(problem), "job" if isinstance(problem, CallerError) else "engine"
    if isinstance(problem, OSError):
        return f"The task could not be prepared: {problem.strerror or problem} ({problem.filename or ''}).", "engine"
    return f"The task could not be prepared: {type(problem).__name__}: {problem}", "engine"


def main() -> None:
    parser = argparse.ArgumentParser(prog="headframe-agent")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--log-bound", type=int, required=True)
    parser.add_argument("--disk-bound", type=int, default=JOB_BYTES)
    parser.add_argument("--no-sandbox", action="store_true")
    parser.add_argument("--foreground", action="store_true")
    parser.add_argument("--unwanted-seconds", type=float, default=UNWANTED_SECONDS)
    asked = parser.parse_args()
    if not asked.foreground:
        detach()
    folders = Folders(asked.data.resolve())
    folders.state.mkdir(parents=True, exist_ok=True)
    keep_low_descriptors()
    if not alone(folders.agent / "lock"):
        return  # another agent serves this folder
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.umask(0o022)
    folders.jobs.mkdir(exist_ok=True)
    folders.jobs.chmod(0o711)  # tasks without a sandbox pass through it, and see nothing of others
    agent = Agent(folders.data, asked.log_bound, asked.disk_bound, not asked.no_sandbox, asked.unwanted_seconds)
    agent.adopt()
    gc.freeze()  # what is there now stays: less memory is copied at each fork
    agent.run()


if __name__ == "__main__":
    main()
