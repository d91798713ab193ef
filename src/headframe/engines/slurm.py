"""The engine of a Slurm cluster: batch jobs, one for each allocation, and a shared file system.

What Slurm is asked: to start a batch job on the nodes that we chose, to end one, and, once in a while and for all jobs
in one call, how they are. What happens inside an attempt stands in its folder, which its leader (`slurm_leader.bash`)
writes: so the end of a job is known exactly, also when the controller has forgotten it or is away.

Nothing is started twice: a batch job's name holds allocation and generation, and of several batch jobs of one attempt
only the one runs it that first makes the attempt's file `claim`. Whoever wants it never to run makes that file itself.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
import shutil
import socket
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from headframe.base.errors import HeadframeError
from headframe.engines import sandbox, slurm_held
from headframe.engines.agent_loop import AgentLoop
from headframe.engines.agent_prepare import Machine
from headframe.engines.agent_state import Folders, now_us
from headframe.engines.homes import Home
from headframe.engines.job_library import lay_out
from headframe.engines.joblog import DEFAULT_BOUND
from headframe.engines.sandbox_etc import Etc
from headframe.engines.slurm_calls import Calls
from headframe.engines.slurm_care import Care
from headframe.engines.slurm_fleet import SlurmFleet
from headframe.engines.slurm_held import Held, hold
from headframe.engines.slurm_open import open_calls
from headframe.engines.slurm_output import BRING_S, Output
from headframe.engines.slurm_prepare import LEADER
from headframe.engines.slurm_relay import REST_S, Relay
from headframe.engines.slurm_sender import Sender
from headframe.engines.slurm_settings import SlurmSettings, ear_address, settings_of
from headframe.engines.slurm_users import Users
from headframe.engines.slurm_words import JobRow, NodeRow, Switches, Version
from headframe.engines.workers import Workers
from headframe.fleet.engine_words import Forget, Launch, Observation, Report, Seen, Signal, Stop, Unreachable
from headframe.fleet.records import Accelerator, Cluster, Node

LOG = logging.getLogger("headframe.engines")
Action = Launch | Stop | Signal | Forget
SENDERS, BUILDERS, BRINGERS = 6, 2, 2  # threads
NODES_S, IDLE_S = 10.0, 30.0  # how often nodes are looked at, and everything when nothing runs
LEAVE_S = 3.0  # what Slurm may take to free the nodes of a job that has ended
SILENT_S = 10.0  # after which a cluster that does not answer is said to be unreachable
STOPPED_LIMIT = 10_000
BEGUN_S = 0.05  # how much later the beginning of one of many short jobs is seen


class SlurmEngine:
    """See `control.ports.Engine`. Everything but the port's calls belongs to the engine's own thread."""

    name = "slurm"

    def __init__(
        self, cluster: Cluster, data: Path, settings: SlurmSettings, calls: Calls, log_bound: int = DEFAULT_BOUND
    ) -> None:
        self.cluster, self.settings, self.calls = cluster, settings, calls
        self.folders = Folders(data.resolve())
        self.home = self.folders.data / "slurm" / cluster.name
        self.state = self.home / "state"
        self.loop = AgentLoop()
        self.held: dict[str, Held] = {}
        self.trouble = ""
        self.version: Version | None = None  # of Slurm, once it has answered
        self.fleet = SlurmFleet(cluster.id, cluster.name, settings)
        self.care, self.sender, self.relay = Care(self), Sender(self), Relay()
        self.users = Users(settings)
        self.skew_us = 0
        self.senders = Workers(f"slurm-{cluster.name}-send", SENDERS)
        self.bringers = Workers(f"slurm-{cluster.name}-bring", BRINGERS)
        self._builders = Workers(f"slurm-{cluster.name}-build", BUILDERS)
        self._poller = Workers(f"slurm-{cluster.name}-poll", 1)
        self._deliver: Callable[[Observation | Report | Unreachable], None] = lambda _seen: None
        self.output = Output(self, log_bound)
        self._saving = threading.Lock()
        self._stopped: dict[str, int] = {}  # stops of what was not here yet
        self._polling, self._poll_again, self._report_wanted = False, False, False
        self._nodes_at = self._answered_at = self._polled_at = 0.0
        self._told_silent = False
        self._unsettled = self._handed = False
        self._leaving: dict[str, tuple[Held, float]] = {}
        self._told: tuple[tuple[Node, ...], tuple[Accelerator, ...]] = ((), ())
        self._forgotten: dict[str, None] = {}
        self._ghosts: dict[str, tuple[int, JobRow]] = {}  # batch jobs of ours that nothing here holds
        self._thread = threading.Thread(target=self._run, name=f"slurm-{cluster.name}", daemon=True)
        self._ear: socket.socket | None = None
        self._word = secrets.token_hex(8)

    @classmethod
    def at(cls, home: Home) -> SlurmEngine:
        """The cluster that a file describes; raises `Invalid`."""
        settings = settings_of(home)
        return cls(home.cluster, home.data, settings, open_calls(settings, home.data / "slurm" / home.cluster.name))

    # The port

    def start(self, deliver: Callable[[Observation | Report | Unreachable], None]) -> None:
        self._deliver = deliver
        self._settle_in()
        self._thread.start()
        self.request_report()

    def close(self) -> None:
        def leave() -> None:
            self.loop.leaving = True

        self.loop.post(leave)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(5)
        if self._ear is not None:
            self._ear.close()
        self.calls.close()

    def act(self, actions: Sequence[Action]) -> None:
        self.loop.post(lambda: self._act(actions))

    def request_report(self) -> None:
        def ask() -> None:
            self._report_wanted = True
            self.poll()

        self.loop.post(ask)

    # Logs

    def follow(self, job_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        return self.output.follow(job_id, wake)

    def bring(self, job_id: str) -> None:
        """Move what the job's tasks have written until now into its log; from any thread."""
        self.output.bring(job_id)

    # The thread

    def _settle_in(self) -> None:
        """Make the engine's folders, read what an earlier server left, and open the ear."""
        self.state.mkdir(parents=True, exist_ok=True)
        self.folders.jobs.mkdir(parents=True, exist_ok=True)
        for folder in (self.folders.jobs, self.home.parent, self.home):
            folder.chmod(0o711)  # leaders and tasks of other users pass through
        text = LEADER.read_bytes()
        self.leader = self.home / f"leader-{zlib.crc32(text):08x}.bash"
        if not self.leader.exists():
            fresh = self.leader.with_suffix(".new")
            fresh.write_bytes(text)
            fresh.chmod(0o644)
            fresh.replace(self.leader)
        tag = self.home / "tag"
        if not tag.exists():
            tag.write_text(secrets.token_hex(3))
        self.tag = tag.read_text().strip()
        box = (
            sandbox.probe(self._as_root()) if self.settings.sandbox else sandbox.without("the cluster's entry says so")
        )
        self.machine = Machine(
            self.folders, box, None, Etc(self.home / "etc"), tasks_as=self.users.number,
            library=lay_out(self.home / "library"),
        )  # fmt: skip
        self._listen()
        records, damaged = slurm_held.load(self.state)
        for name in damaged:
            self.trouble = f"The record {name} is damaged and was moved aside."
        for held in records:
            if held.active and not held.sent:
                held.drop(self.state)  # it was never submitted: whoever wants it launches it again
                continue
            self.held[held.allocation_id] = held
            if held.active and not held.number:
                held.unclear_since = time.monotonic()

    def _as_root(self) -> bool:
        return os.geteuid() == 0 and not self.settings.users

    def _listen(self) -> None:
        if ear_address(self.settings):
            self._ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._ear.bind(("127.0.0.1" if self.settings.ear == "localhost" else "", 0))
            self.loop.watch(self._ear.fileno(), self._heard)

    def ear_words(self, held: Held) -> str:
        """Where its leader says that there is news; "" where nobody listens."""
        if self._ear is None:
            return ""
        return f"{ear_address(self.settings)} {self._ear.getsockname()[1]} {self._word} {held.allocation_id}"

    def _heard(self) -> None:
        """A leader says that it has written something down. That is all it can say: the files are looked at."""
        assert self._ear is not None
        for _one in range(256):
            try:
                text = self._ear.recv(512).decode("ascii", "replace")
            except OSError:
                return
            word, _, allocation_id = text.partition(" ")
            held = self.held.get(allocation_id)
            if held is not None and hmac.compare_digest(word.encode(), self._word.encode()):
                self.relay.heard()
                if held.rests and not held.hinted:  # it has begun; of many short ones its end will be told with that
                    held.hinted = True
                    self.loop.later(BEGUN_S, partial(self._look, held))
                else:
                    self.care.look(held)

    def _look(self, held: Held) -> None:
        self.care.look(held)

    def _run(self) -> None:
        for held in list(self.held.values()):
            if held.active:
                self.care.look(held)
                self.care.arm(held)
        self.senders.do(self._measure_clock)
        self.loop.later(BRING_S, self.output.bring_all)
        self.poll()
        while not self.loop.leaving:
            try:
                self.loop.run()
            except Exception:  # a defect of ours in one allocation must not leave the others alone
                LOG.exception("The engine of the cluster %s failed and goes on.", self.cluster.name)
                self._polling = False
                self.loop.later(1.0, self.poll)

    def _measure_clock(self) -> None:
        """How far the shared file system's clock, by which nodes' notes are dated, is ahead of ours."""
        probe = self.home / "clock"
        with contextlib.suppress(OSError):
            before = now_us()
            probe.write_text("x")
            after, seen = now_us(), probe.stat().st_mtime_ns // 1000
            apart = seen - (before + after) // 2
            self.skew_us = apart if abs(apart) > 100_000 + (after - before) else 0
        self.loop.post(lambda: self.loop.later(600.0, lambda: self.senders.do(self._measure_clock)))

    def push(self, held: Held) -> None:
        self._deliver(held.observe(self.folders, full=not held.active))

    def save(self, held: Held) -> None:
        with self._saving:
            held.save(self.state)

    def tell(self, held: Held, sentence: str) -> None:
        """Add a sentence to the story, once."""
        if sentence not in held.story:
            held.story.append(sentence)
            self.push(held)

    # Actions

    def _act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            held = self.held.get(action.allocation_id)
            if isinstance(action, Launch):
                self._launch(action, held)
            elif held is None or held.generation != action.generation:
                if isinstance(action, Stop):
                    self._stop_unknown(action, held)
            elif isinstance(action, Stop):
                self.care.stop(held, action)
            elif isinstance(action, Signal):
                self.care.warn(held, action.signal)
            else:
                self._forget(held)

    def _stop_unknown(self, action: Stop, held: Held | None) -> None:
        if held is None:
            self._stopped[action.allocation_id] = max(action.generation, self._stopped.get(action.allocation_id, 0))
            while len(self._stopped) > STOPPED_LIMIT:
                del self._stopped[next(iter(self._stopped))]
            ghost = self._ghosts.get(action.allocation_id)
            if ghost is not None and ghost[0] <= action.generation:
                row = ghost[1]
                self.senders.do(lambda: self.calls.cancel(row.id, row.name))
                self.poll()
        self._push_absent(action.allocation_id, action.generation)

    def _push_absent(self, allocation_id: str, generation: int) -> None:
        self._deliver(Observation(allocation_id, generation, Seen.ABSENT, now_us(), detail="unknown here"))

    def _launch(self, launch: Launch, held: Held | None) -> None:
        if held is not None and held.generation >= launch.generation:
            self.push(held)
            return
        others = [one for one in self.held.values() if one.job_id == launch.job_id]
        newer = any(one.generation > launch.generation for one in others)
        if newer or self._stopped.get(launch.allocation_id, -1) >= launch.generation:
            self._push_absent(launch.allocation_id, launch.generation)
            return
        for one in others:  # a job has one attempt at a time: an older one must not write beside it
            if one.active:
                stop = Stop(one.allocation_id, one.generation, "a newer attempt was started", "SIGKILL", 0)
                self.care.stop(one, stop)
        held = hold(launch, f"hf{self.tag}", self.machine.sandbox.kind != "none")
        self.held[launch.allocation_id] = held  # not on disk before it is submitted: until then nothing is lost
        self.push(held)
        work = launch.work
        slow = work.get("python") or work.get("packages") or work.get("files") or launch.datasets
        (self._builders if slow else self.senders).do(lambda: self.sender.begin(held, launch))

    def _forget(self, held: Held) -> None:
        if held.active:
            return  # its end is not on record, whatever the server says
        del self.held[held.allocation_id]
        held.drop(self.state)
        self._forgotten[held.slurm_name] = None  # Slurm may still be at its end
        while len(self._forgotten) > STOPPED_LIMIT:
            del self._forgotten[next(iter(self._forgotten))]
        folder = self.folders.attempt(held.job_id, held.generation)
        self.loop.later(  # not from under a leader that may take another attempt
            2 * REST_S if held.rests else 0, lambda: self.bringers.do(lambda: shutil.rmtree(folder, ignore_errors=True))
        )
        if not any(one.job_id == held.job_id for one in self.held.values()):
            self.output.let_go(held.job_id)

    # Looking

    def poll(self) -> None:
        """Ask the controller how things are, now or as soon as it has answered the last time."""
        if self._polling:
            self._poll_again = True
            return
        self._polling, self._poll_again = True, False
        self._polled_at = time.monotonic()
        stale = (
            self._unsettled
            or self._handed
            or self._polled_at - self._nodes_at >= (NODES_S if self._busy() else IDLE_S / 2)
        )
        want_nodes = self._report_wanted or stale
        self._poller.do(lambda: self._ask(want_nodes))

    def look_at_nodes(self) -> None:
        """Something is wrong with one: do not wait for the next look at them."""
        self._unsettled = True
        self.poll()

    def _busy(self) -> bool:
        return any(held.active for held in self.held.values())

    def _ask(self, want_nodes: bool) -> None:
        at_us, began = now_us(), time.monotonic()
        try:
            self.version = self.version or self.calls.version()
            rows = self.calls.jobs()
            nodes = self.calls.nodes() if want_nodes else None
            tree = self.calls.switches() if nodes is not None else None
        except Exception as problem:
            why = problem.message if isinstance(problem, HeadframeError) else f"{type(problem).__name__}: {problem}"
            self.loop.post(lambda: self._unanswered(why))
            return
        self.loop.post(lambda: self._answered(at_us, began, rows, nodes, tree))

    def _unanswered(self, why: str) -> None:
        self.trouble = why
        now = time.monotonic()
        self._answered_at = self._answered_at or now
        if now - self._answered_at >= SILENT_S or not self.fleet.rows:
            self._told_silent = True
            self._deliver(Unreachable(now_us() - int((now - self._answered_at) * 1e6), why))
        self._polling = False
        for held in list(self.held.values()):  # their leaders write down what happens all the same
            if held.active and held.sent:
                self.care.look(held)
        self.loop.later(max(self.settings.poll_s, 1.0), self.poll)

    def _answered(
        self, at_us: int, began: float, rows: Sequence[JobRow], nodes: list[NodeRow] | None, tree: Switches | None
    ) -> None:
        self.trouble, self._polling = "", False
        took = time.monotonic() - began
        self._answered_at = time.monotonic()
        fresh = nodes is not None and tree is not None
        if nodes is not None and tree is not None:
            self.fleet.take_in(nodes, tree)
            self._nodes_at, self._handed = self._answered_at, False
        self.care.compare(rows, began)
        self._find_ghosts(rows)  # what runs in another's batch job is known now by its notes
        if fresh:
            told, self._told = self._told, self.fleet.records(self._ours({row.name for row in rows}))
            self._unsettled = told != self._told  # what others hold counts when it is seen twice: look again soon
            if self._report_wanted or self._told_silent or self._unsettled:
                full, self._report_wanted, self._told_silent = self._report_wanted, False, False
                self._deliver(self._report(at_us, full))
        if self._poll_again or self._report_wanted:
            self.poll()
            return
        soon = self._busy() or self._unsettled or self._leaving
        pause = max(self.settings.poll_s, 10 * took) if soon else IDLE_S
        self.loop.later(pause, self.poll_when_due)

    def poll_when_due(self) -> None:
        """Several timers may be under way; only one poll is to come of them."""
        if time.monotonic() - self._polled_at >= self.settings.poll_s * 0.9:
            self.poll()

    def _ours(self, names: set[str]) -> list[Held]:
        """Our allocations on which Slurm spends something: those it has, and those it is just about to let go."""
        now = time.monotonic()
        self._leaving = {
            name: (held, since) for name, (held, since) in self._leaving.items()
            if name in names or now - since < LEAVE_S
        }  # fmt: skip
        live = [held for held in self.held.values() if held.active and held.number]
        return live + [held for held, _since in self._leaving.values()]

    def left(self, held: Held) -> None:
        """It has ended: Slurm takes a moment to let its nodes go."""
        if held.number:
            self._leaving[held.slurm_name] = held, time.monotonic()

    def stays(self, name: str) -> None:
        """A batch job whose attempt had ended runs another: Slurm does not let its nodes go. As it is not asked, it
        cannot refuse, so nodes are looked at each time from then on."""
        self._leaving.pop(name, None)
        self._handed = True

    def _find_ghosts(self, rows: Sequence[JobRow]) -> None:
        self._ghosts.clear()
        carriers = {held.batch for held in self.held.values()}
        for row in rows:
            words = row.name.split("-")
            if len(words) != 3 or words[0] != f"hf{self.tag}" or not words[2].isdigit():
                continue
            known = words[1] in self.held or row.name in self._forgotten or row.name in carriers
            if not known and row.state in ("PENDING", "RUNNING"):
                self._ghosts[words[1]] = (int(words[2]), row)

    def _report(self, at_us: int, full: bool) -> Report:
        nodes, cards = self._told
        seen = [self.held[key].observe(self.folders, full) for key in sorted(self.held)]
        seen += [
            Observation(key, generation, Seen.RUNNING, at_us, detail="found in Slurm's queue")
            for key, (generation, row) in sorted(self._ghosts.items())
            if key not in self.held
        ]
        return Report(at_us, tuple(seen), nodes, cards)
