"""A whole engine in one file, for reading: tasks are plain processes of the server's machine, without a sandbox.

What control relies on is here, and the engine contract passes on it but for one rule: its tasks end with the server
(a real engine leaves them to something that outlives it, and finds them again when it comes back). What else it lacks
to be of use: nothing is limited, and nobody is kept apart from anybody.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from headframe.base.errors import CallerError, HeadframeError
from headframe.engines import checkpoints, machine
from headframe.engines.agent_prepare import Machine, Surroundings, TaskPlace, free_port, surroundings
from headframe.engines.agent_state import Folders, now_us
from headframe.engines.homes import Home
from headframe.engines.joblog import LogWriter
from headframe.engines.sandbox import Sandbox, task_path
from headframe.engines.sandbox_etc import Etc
from headframe.engines.variables import Places, hostfile, hosts_of, slurm_twins, variables
from headframe.fleet.engine_words import Forget, Launch, Observation, Report, Seen, Signal, Stop
from headframe.fleet.records import Node

Action = Launch | Stop | Signal | Forget
LIVE = (Seen.PREPARING, Seen.RUNNING)
GANG_GRACE_US = 2_000_000  # what the rest of a gang gets when one of its tasks has failed


@dataclass
class Attempt:
    """What is kept of a launch until it is forgotten."""

    launch: Launch
    seen: Seen = Seen.PREPARING
    at_us: int = 0
    running_us: int | None = None
    exit_code: int | None = None
    fault: str = "job"
    detail: str = ""
    resumed_from: str = ""
    checkpoint_us: int | None = None
    story: list[str] = field(default_factory=list)
    tasks: list[subprocess.Popen[bytes]] = field(default_factory=list)
    stop: Stop | None = None

    def observation(self) -> Observation:
        return Observation(
            self.launch.allocation_id, self.launch.generation, self.seen, self.at_us, self.running_us, self.exit_code,
            self.fault, self.detail, self.tasks[0].pid if self.tasks else None, self.resumed_from, self.checkpoint_us,
            tuple(self.story),
        )  # fmt: skip


class PlainEngine:
    """See `control.ports.Engine`. One thread for each attempt; all that they share is behind `_lock`."""

    name = "plain"

    def __init__(self, home: Home) -> None:
        settings = home.known("cpu", "memory")
        self._folders = Folders(home.data.resolve())
        none = Sandbox("none", "this engine has none")
        self._machine = Machine(self._folders, none, None, Etc(home.data / "plain-etc"), None, lambda _launch: None)
        self._node = Node(
            f"nod_{home.cluster.name}-1", home.cluster.id, f"{home.cluster.name}-1",
            1000 * int(settings.get("cpu", 0)) or machine.cpus_milli(), machine.memory_mib(), 100 << 10,
        )  # fmt: skip
        self._deliver: Callable[[Observation | Report], None] = lambda _words: None
        self._lock = threading.RLock()
        self._attempts: dict[str, Attempt] = {}  # by allocation
        self._newest: dict[str, int] = {}  # the highest generation of each job
        self._barred: set[tuple[str, int]] = set()  # stopped before they were launched
        self._logs: dict[str, LogWriter] = {}
        self._wakes: dict[str, list[Callable[[], None]]] = {}

    # The port.

    def start(self, deliver: Callable[[Observation | Report], None]) -> None:
        self._deliver = deliver
        self.request_report()

    def close(self) -> None:
        with self._lock:
            for one in self._attempts.values():
                self._signal(one, signal.SIGKILL)

    def act(self, actions: Sequence[Action]) -> None:
        with self._lock:
            for action in actions:
                match action:
                    case Launch():
                        self._launch(action)
                    case Stop():
                        self._stop(action)
                    case Signal():
                        self._warn(action)
                    case Forget():
                        self._forget(action)

    def request_report(self) -> None:
        with self._lock:
            seen = tuple(one.observation() for _, one in sorted(self._attempts.items()))
            self._deliver(Report(now_us(), seen, (self._node,)))

    def follow(self, job_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when a job's log grows; returns the call that ends it."""
        self._wakes.setdefault(job_id, []).append(wake)
        return lambda: self._wakes[job_id].remove(wake)

    # Orders. Each may come twice, late, or before the one that should come first.

    def _launch(self, launch: Launch) -> None:
        known = self._attempts.get(launch.allocation_id)
        if known is not None and known.launch.generation == launch.generation:
            self._deliver(known.observation())  # the same launch twice is one launch: tell again
            return
        barred = (launch.allocation_id, launch.generation) in self._barred
        if barred or launch.generation < self._newest.get(launch.job_id, 0):
            self._absent(launch.allocation_id, launch.generation)
            return
        self._newest[launch.job_id] = launch.generation
        attempt = self._attempts[launch.allocation_id] = Attempt(launch, at_us=now_us())
        self._deliver(attempt.observation())
        threading.Thread(target=self._live, args=(attempt,), daemon=True).start()

    def _stop(self, stop: Stop) -> None:
        attempt = self._attempts.get(stop.allocation_id)
        if attempt is None:
            self._barred.add((stop.allocation_id, stop.generation))
            self._absent(stop.allocation_id, stop.generation)
        elif attempt.launch.generation == stop.generation:
            if attempt.seen not in LIVE:
                self._deliver(attempt.observation())
            elif attempt.stop is None:
                attempt.stop = stop
                self._end(attempt, getattr(signal, stop.signal), stop.grace_us)

    def _warn(self, warning: Signal) -> None:
        """To those processes only that listen: to all others it would be the end."""
        attempt = self._attempts.get(warning.allocation_id)
        if attempt is None or attempt.launch.generation != warning.generation:
            return
        number = getattr(signal, warning.signal)
        groups = {task.pid for task in attempt.tasks}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                group = int((place / "stat").read_text().rpartition(")")[2].split()[2])
                caught = int((place / "status").read_text().partition("SigCgt:")[2].split()[0], 16)
                if group in groups and caught >> (number - 1) & 1:
                    os.kill(int(place.name), number)
            except (OSError, ValueError, IndexError):
                continue  # it has ended meanwhile

    def _forget(self, forget: Forget) -> None:
        attempt = self._attempts.get(forget.allocation_id)
        if attempt is None or attempt.launch.generation != forget.generation or attempt.seen in LIVE:
            return
        del self._attempts[forget.allocation_id]
        shutil.rmtree(self._folders.attempt(attempt.launch.job_id, attempt.launch.generation), ignore_errors=True)

    def _absent(self, allocation_id: str, generation: int) -> None:
        self._deliver(Observation(allocation_id, generation, Seen.ABSENT, now_us()))

    # The life of an attempt, in a thread of its own.

    def _live(self, attempt: Attempt) -> None:
        launch = attempt.launch
        try:
            around = surroundings(self._machine, launch, attempt.story, lambda line: self._say(attempt, line))
            attempt.resumed_from = around.resumed_from
            places = [TaskPlace(self._machine, launch, piece, None) for piece in launch.slices]
            for place in places:
                place.make_folders(around.datasets)
        except (HeadframeError, OSError) as error:
            attempt.fault, attempt.detail = ("job" if isinstance(error, CallerError) else "engine"), str(error)
            self._move(attempt, Seen.FAILED)
            return
        readers = []
        with self._lock:
            if attempt.stop is not None:  # before it began
                attempt.exit_code = 128 + signal.SIGTERM
                self._move(attempt, Seen.EXITED)
                return
            port = free_port()
            for place in places:
                task = self._begin(launch, place, around, port)
                attempt.tasks.append(task)
                for stream, pipe in enumerate((task.stdout, task.stderr)):
                    readers.append(threading.Thread(target=self._read, args=(attempt, place.piece.rank, stream, pipe)))
            attempt.running_us = now_us()
            self._move(attempt, Seen.RUNNING)
        for reader in readers:
            reader.start()
        code = self._wait(attempt)
        if attempt.stop is None:
            self._signal(attempt, signal.SIGKILL)  # what it left behind
        for reader in readers:
            reader.join()  # until nobody holds the pipes: whatever saves after a stop is heard
        with self._lock:
            attempt.exit_code = code
            attempt.checkpoint_us = checkpoints.newest_us(self._folders.job(launch.job_id) / "checkpoints")
            self._move(attempt, Seen.EXITED)

    def _begin(self, launch: Launch, place: TaskPlace, around: Surroundings, port: int) -> subprocess.Popen[bytes]:
        hosts = hosts_of(launch, {})
        (place.task / "hostfile").write_text(hostfile(launch, hosts))
        folders = Places(
            str(place.work), str(place.job / "checkpoints"), str(place.job / "outputs"), str(place.datasets),
            str(place.task / "hostfile"), around.environment, around.resumed_from,
        )  # fmt: skip
        values = variables(
            launch, place.piece.rank, folders, hosts=hosts, port=port, devices={}, fake=False, path=task_path()
        )
        values = {**slurm_twins(launch, place.piece.rank, values), **values}
        place.write_script("\n".join([*(launch.work.get("setup") or ()), str(launch.work.get("run") or ""), ""]))
        return subprocess.Popen(
            ["/bin/sh", "-e", str(place.task / "script")], cwd=place.work, env=values, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def _wait(self, attempt: Attempt) -> int:
        """The exit code of a gang: 0, or that of the first task that failed, which ends the others."""
        ended: queue.Queue[int] = queue.Queue()
        for task in attempt.tasks:
            threading.Thread(target=lambda task=task: ended.put(task.wait()), daemon=True).start()  # type: ignore[misc]
        code = 0
        for _ in attempt.tasks:
            found = ended.get()
            if found and not code:
                code = found if found > 0 else 128 - found
                if attempt.stop is None:
                    self._end(attempt, signal.SIGTERM, GANG_GRACE_US)
        return code

    def _end(self, attempt: Attempt, number: int, grace_us: int) -> None:
        self._signal(attempt, number)
        later = threading.Timer(grace_us / 1_000_000, self._signal, (attempt, signal.SIGKILL))
        later.daemon = True
        later.start()

    @staticmethod
    def _signal(attempt: Attempt, number: int) -> None:
        for task in attempt.tasks:
            try:
                os.killpg(task.pid, number)
            except (ProcessLookupError, PermissionError):
                continue

    def _move(self, attempt: Attempt, seen: Seen) -> None:
        attempt.seen, attempt.at_us = seen, now_us()
        self._deliver(attempt.observation())

    # Logs: into the server's data folder, where everybody looks for them.

    def _log(self, job_id: str) -> LogWriter:
        with self._lock:
            if job_id not in self._logs:
                self._logs[job_id] = LogWriter(self._folders.log(job_id), now_us)
            return self._logs[job_id]

    def _read(self, attempt: Attempt, rank: int, stream: int, pipe: IO[bytes]) -> None:
        log, job_id = self._log(attempt.launch.job_id), attempt.launch.job_id
        with pipe:
            while chunk := pipe.read1(1 << 16):  # type: ignore[attr-defined]
                with self._lock:
                    log.put(chunk, attempt.launch.generation, rank, stream)
                for wake in list(self._wakes.get(job_id, ())):
                    wake()

    def _say(self, attempt: Attempt, line: str) -> None:
        with self._lock:
            self._log(attempt.launch.job_id).say(line, attempt.launch.generation)
