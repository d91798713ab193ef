"""What becomes of the allocations that a Slurm engine holds: how they begin, are stopped, warned, lost and end.

The leader's notes come first. What the controller says matters where the notes are silent: an attempt that waits, one
whose leader was killed with its node, one that somebody cancelled by hand.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from headframe.base.errors import ClusterDown, HeadframeError
from headframe.engines import checkpoints
from headframe.engines.agent_state import now_us
from headframe.engines.slurm_calls import Ended
from headframe.engines.slurm_ends import (
    BY_HAND,
    NEVER,
    SIGNALLED,
    TERMED,
    WHY,
    by_itself,
    lost,
    named_after,
    tail,
    too_long,
    where,
)
from headframe.engines.slurm_held import (
    KILLED,
    Held,
    Notes,
    bar,
    claimant,
    claimed,
    conclusion,
    last_life_us,
    order,
    read_notes,
    used,
)  # fmt: skip
from headframe.engines.slurm_relay import Seat
from headframe.engines.slurm_words import LIVE, NODE_FAULTS, PENDING, JobRow, NodeRow, hosts
from headframe.fleet.engine_words import Seen, Stop
from headframe.workloads.sbatch_values import span

if TYPE_CHECKING:
    from headframe.engines.slurm import SlurmEngine

FORCE_S = 15.0  # after the end of a grace, until Slurm is told to end the job
AGAIN_S = 3.0  # until what was submitted without an answer is submitted again
NOTES_S = 3.0  # how long the notes of a job that Slurm runs no more may take to be seen
STUCK_S = 10.0  # how long a job waits for a node that takes no work
CUT_S = 90.0  # how long for Slurm to cut its time down to the partition's: its backfill does, every 30 s by default
WAITING_S = 5.0  # after which a job's story says what it waits for
WHY_TRIES = 5
PRUNE_S = 30.0


class Care:
    """The care for allocations. Everything runs on the engine's own thread, what is slow on threads of its workers."""

    def __init__(self, engine: SlurmEngine) -> None:
        self.engine = engine
        self._asking = False

    # Submission

    def sent(self, held: Held, number: str) -> None:
        """Slurm has taken it."""
        held.submitting, held.unclear_since, held.number = False, None, number
        if not held.active:
            self._cancel(held)  # it was stopped meanwhile, and its leader will find that out anyway
        self.look(held)
        self.engine.poll_when_due()  # it may have rested

    def handed(self, held: Held, seat: Seat) -> None:
        """It is with the leader of an attempt that has ended, unless that has just died or leaves as it was told to."""
        held.submitting, held.unclear_since, held.number, held.batch = False, None, seat.number, seat.name
        held.handed_since = time.monotonic()
        if held.active:
            self.engine.stays(seat.name)
            self.look(held)

    def _send_again(self, held: Held) -> None:
        """It was never begun, by whatever Slurm or another's leader had taken it."""
        held.number, held.batch, held.gone_since, held.submitting = "", "", None, True
        self.engine.senders.do(lambda: self.engine.sender.send(held))

    def unclear(self, held: Held, why: str) -> None:
        """Slurm may have taken it or not: the next answer of the controller tells."""
        held.submitting, held.unclear_since = False, time.monotonic()
        if why and held.active:
            self.engine.trouble = why
            self.engine.tell(held, f"Slurm did not answer clearly: {why.rstrip('.')}. It is asked again until it does.")
        self.engine.poll()

    def fail(self, held: Held, why: str, fault: str) -> None:
        """It cannot be started."""
        held.submitting = False
        if held.active:
            long = too_long(held.launch, why)
            self._finish(held, Seen.FAILED, None, long or why, "job" if long else fault)

    # Notes

    def look(self, held: Held) -> Notes | None:
        """Read what its leader has written down, and act on it."""
        if held.ending or not held.active or not held.sent:
            return None
        engine = self.engine
        notes = read_notes(engine.folders.attempt(held.job_id, held.generation), held.ranks)
        batch = notes.batch if notes.batch != held.name else ""
        theirs = bool(engine.settings.users) and (held.number != "" or batch != "")  # a user could name any other's
        if notes.number and (notes.number, batch) != (held.number, held.batch) and not theirs:
            held.number, held.batch, held.unclear_since = notes.number, batch, None
        if notes.begun_us and not held.running_us:
            held.running_us = min(max(notes.begun_us - engine.skew_us, held.at_us), now_us())
            held.places = notes.nodes
            self._unveil(held)
            if not engine.settings.pinned:
                held.story.append(f"Slurm chose {notes.nodes}.")
            if len(notes.over) < len(held.ranks):  # or else its end says all
                engine.push(held)
            if held.stop is not None:
                self._order_stop(held)
        if len(notes.over) == len(held.ranks):
            end = conclusion(held, notes, engine.skew_us)
            if held.lost and end["exit_code"] != 0:  # it did not end by itself: we had it ended with its node
                end |= {"seen": Seen.LOST.value, "exit_code": None, "detail": held.lost, "fault": "node"}
            if held.stop is None and not held.lost and end["exit_code"] in SIGNALLED:
                self._ask_why(held, end)
            else:
                self._finish_as(held, end)
        return notes

    def _ask_why(self, held: Held, end: dict[str, Any]) -> None:
        """A signal ended it that we did not send: the controller may know whose that was."""
        if held.asking_why:
            return
        held.asking_why, held.why_tries = True, held.why_tries + 1

        def ask() -> None:
            told: Ended | None = None
            with contextlib.suppress(HeadframeError):
                told = self.engine.calls.ended([(held.number, held.slurm_name)]).get(held.slurm_name)
            self.engine.loop.post(lambda: self._why(held, end, told))

        self.engine.senders.do(ask)

    def _why(self, held: Held, end: dict[str, Any], told: Ended | None) -> None:
        held.asking_why = False
        state = told.state if told is not None else ""
        if state in LIVE and held.why_tries < WHY_TRIES:  # it is about to end there, too
            self.engine.loop.later(1.0, lambda: self._look_again(held))
        elif state in NODE_FAULTS:
            self._finish(held, Seen.LOST, None, lost(told), "node", end["at_us"])
        else:
            code, detail = next((why for name, why in WHY if state.startswith(name)), (end["exit_code"], ""))
            self._finish_as(held, end | {"exit_code": code, "detail": named_after(held, detail) or end["detail"]})

    def _look_again(self, held: Held) -> None:
        self.look(held)

    def _unveil(self, held: Held) -> None:
        """Its half of the secrets has been read."""
        folder = self.engine.folders.attempt(held.job_id, held.generation)
        for path in folder.glob("sealed.*"):
            path.unlink(missing_ok=True)

    # Stopping

    def stop(self, held: Held, action: Stop) -> None:
        """Signal now, kill after the grace; a second stop may only shorten it."""
        engine = self.engine
        if not held.active or held.ending:
            engine.push(held)
            return
        folder = engine.folders.attempt(held.job_id, held.generation)
        if not held.sent or (not held.running_us and not claimed(folder) and (bar(folder) or not folder.exists())):
            held.cancelled = True
            if held.number and not held.batch:
                self._cancel(held)
            code = 128 + signal.Signals[action.signal]
            self._finish(held, Seen.EXITED, code, "stopped before it started", "job")
            return
        deadline_us = now_us() + action.grace_us
        before = held.stop
        if before is None or deadline_us < before["deadline_us"]:
            held.stop = {"signal": action.signal, "deadline_us": deadline_us, "why": action.reason}
            self._keep(held)
            self._order_stop(held)

    def _order_stop(self, held: Held) -> None:
        assert held.stop is not None
        left_us = max(0, int(held.stop["deadline_us"]) - now_us())
        name = str(held.stop["signal"]).removeprefix("SIG")
        try:
            order(self.engine.folders.attempt(held.job_id, held.generation), f"stop {name} {left_us}")
        except OSError:  # no room for an order: Slurm asks its leader to end, and kills what stays
            self._cancel(held)
        self._ring(held)
        self.arm(held)

    def warn(self, held: Held, name: str) -> None:
        """Warn all tasks that listen."""
        self.look(held)
        if held.active and held.running_us and not held.ending:
            try:
                order(self.engine.folders.attempt(held.job_id, held.generation), f"warn {name.removeprefix('SIG')}")
            except OSError as problem:
                self.engine.tell(held, f"It could not be warned: {problem.strerror} in the shared folder.")
            self._ring(held)

    def arm(self, held: Held) -> None:
        """Have Slurm end the job if its leader does not in time."""
        if held.stop is not None:
            left_s = max(0, int(held.stop["deadline_us"]) - now_us()) / 1e6
            self.engine.loop.later(left_s + FORCE_S, lambda: self._force(held))

    def _force(self, held: Held) -> None:
        if not held.active or held.ending or held.stop is None:
            return
        if now_us() >= int(held.stop["deadline_us"]) + (FORCE_S - 1) * 1e6:
            self._cancel(held)
            self.engine.loop.later(FORCE_S, lambda: self._force(held))

    def _ring(self, held: Held) -> None:
        if held.number:
            self._quietly(lambda: self.engine.calls.ring(held.number))

    def _cancel(self, held: Held) -> None:
        if held.number:
            self._quietly(lambda: self.engine.calls.cancel(held.number, held.slurm_name))

    def _quietly(self, call: Any) -> None:
        """Where the controller is away, the leader reads its orders all the same, only later."""

        def go() -> None:
            with contextlib.suppress(ClusterDown):
                call()

        self.engine.senders.do(go)

    # What the controller says

    def compare(self, rows: Sequence[JobRow], asked: float) -> None:
        """Hold what the controller runs against what we hold. `asked`: when (monotonic) it was asked."""
        by_name: dict[str, list[JobRow]] = {}
        for row in rows:
            by_name.setdefault(row.name, []).append(row)
        gone = [
            held for held in list(self.engine.held.values()) if self._compare(held, by_name.get(held.slurm_name), asked)
        ]
        if gone and not self._asking:
            self._asking = True
            numbers = [(held.number, held.slurm_name) for held in gone if held.number]
            self.engine.senders.do(lambda: self._ask_for(gone, numbers))

    def _compare(self, held: Held, rows: list[JobRow] | None, asked: float) -> bool:
        """One allocation; True when Slurm runs it no more, and what became of it must be asked for."""
        if not held.active or held.ending or held.submitting or not held.sent:
            return False
        if rows:
            return self._present(held, rows)
        notes = self.look(held)
        if not held.active or held.ending or notes is None:
            return False
        if not held.number:
            self._resubmit(held, asked)
            return False
        return held.unclear_since is None or asked > held.unclear_since

    def _present(self, held: Held, rows: list[JobRow]) -> bool:
        row = next((one for one in rows if one.id == held.number), rows[0])
        held.gone_since, held.unclear_since = None, None
        if not held.number:
            held.number = row.id
        if row.state in PENDING:
            self._waits(held, row)
            return False
        launch, limit_s = held.launch, row.limit_s
        if limit_s and launch is not None and not launch.work.get("max_duration_us"):
            self.engine.tell(held, f"Slurm ends it after {span(limit_s)}: nothing may run longer in its partition.")
        if row.state != "RUNNING" or not held.running_us:
            notes = self.look(held)
            late = held.handed_since is not None and time.monotonic() - held.handed_since > NOTES_S
            if late and held.batch and notes is not None and not notes.number and held.prepared is not None:
                self._send_again(held)  # that leader does not see it
        return False

    def _resubmit(self, held: Held, asked: float) -> None:
        """The controller answers, and knows nothing of what was submitted without an answer."""
        engine = self.engine
        if held.unclear_since is None or asked - held.unclear_since < AGAIN_S:
            return
        if held.prepared is not None and held.launch is not None:
            held.submitting = True
            engine.senders.do(lambda: engine.sender.send(held))
            return
        # Of an earlier server, which had the other half of its secrets. Barred, it can be launched anew.
        folder = engine.folders.attempt(held.job_id, held.generation)
        if bar(folder) or not folder.exists():
            held.drop(engine.state)
            engine.held.pop(held.allocation_id, None)
            engine.request_report()

    def _waits(self, held: Held, row: JobRow) -> None:
        """It waits in Slurm's queue though we had found it a place."""
        now = time.monotonic()
        held.pending_since = held.pending_since or now
        waited = now - held.pending_since
        patience = CUT_S if row.reason == "PartitionTimeLimit" else STUCK_S
        if waited >= patience and self._stuck(held, row):
            if bar(self.engine.folders.attempt(held.job_id, held.generation)):
                self._cancel(held)
                self.fail(held, f"Slurm cannot start it there: {row.reason}.", "node")
        elif waited >= WAITING_S and row.reason not in ("None", ""):
            self.engine.tell(held, f"It waits in Slurm's queue: {row.reason}.")

    def _stuck(self, held: Held, row: JobRow) -> bool:
        """Whether it would wait for ever, or for a node that takes no work: another place may be free."""
        if any(word in row.reason for word in NEVER):
            return True
        nodes = [self.engine.fleet.rows.get(node_id) for node_id in held.asked]
        return self.engine.settings.pinned and any(node is None or node.shut for node in nodes)

    def _ask_for(self, gone: list[Held], numbers: list[tuple[str, str]]) -> None:
        try:
            found = self.engine.calls.ended(numbers) if numbers else {}
        except HeadframeError:
            found = None
        self.engine.loop.post(partial(self._told, gone, found))

    def _told(self, gone: list[Held], found: dict[str, Ended] | None) -> None:
        self._asking = False
        if found is None:
            return
        for held in gone:
            if held.active and not held.ending:
                self._is_gone(held, found.get(held.slurm_name))

    def _is_gone(self, held: Held, told: Ended | None) -> None:
        """Slurm runs it no more, or has forgotten it, and its notes do not say how it ended."""
        notes = self.look(held)
        if not held.active or held.ending or notes is None:
            return
        if told is not None and (told.state in PENDING or told.state == "RUNNING") and held.gone_since is None:
            return  # it was not in the list by chance
        now, engine, state = time.monotonic(), self.engine, told.state if told is not None else ""
        if held.gone_since is None:
            held.gone_since = now
            engine.look_at_nodes()
        folder = engine.folders.attempt(held.job_id, held.generation)
        if not notes.number:
            if now - held.gone_since >= NOTES_S:
                self._gone_before_it_began(held, told)
            return
        if state in ("", "RUNNING", "PENDING"):
            alive_us = last_life_us(folder, held.ranks) - engine.skew_us
            if now_us() - alive_us < 3 * engine.settings.watch_s * 1_000_000:
                engine.tell(held, "Slurm has forgotten the job. Its leader goes on, and so does it.")
                return
        if now - held.gone_since < NOTES_S:
            return
        if held.fenced_since is None:
            held.fenced_since = now
            engine.look_at_nodes()  # before anything is placed there again
            with contextlib.suppress(OSError):
                order(folder, "stop KILL 0")  # what may live on there ends as soon as it reads this
            if state in NODE_FAULTS or not state:
                held.lost = f"{where(told)} failed ({state})." if state else "Slurm has lost the job."
                engine.tell(held, f"{where(told)} is lost: what may still run there is told to end.")
        killed = state.startswith(("CANCELLED", "TIMEOUT", "OUT_OF_ME", "COMPLETED", "FAILED", "DEADLINE"))
        if killed or now - held.fenced_since >= engine.settings.watch_s + 2:
            self._ended_as(held, told, folder)

    def _gone_before_it_began(self, held: Held, told: Ended | None) -> None:
        engine = self.engine
        if (told is None or held.handed_since) and held.prepared is not None and held.launch is not None:
            if not held.handed_since:
                engine.tell(held, "Slurm has forgotten the job before it began: it is submitted again.")
            self._send_again(held)
            return
        folder = engine.folders.attempt(held.job_id, held.generation)
        over = told is not None and told.state not in LIVE | PENDING
        if bar(folder) or (over and claimant(folder) in ("", held.number)):  # it ended right behind its claim
            self._never_began(held, told)

    def _never_began(self, held: Held, told: Ended | None) -> None:
        state = told.state if told is not None else ""
        if state.startswith("CANCELLED") and (shut := self._shut(told)) is not None:
            why = f"Node {shut.name} could not start it, and takes no more work: {shut.reason or shut.state}."
            self._finish(held, Seen.FAILED, None, why, "node")
        elif state.startswith("CANCELLED"):
            self._finish(held, Seen.EXITED, TERMED, BY_HAND, "job")
        elif state in NODE_FAULTS:
            self._finish(held, Seen.FAILED, None, f"{where(told)} failed before it began ({state}).", "node")
        elif not state:
            self._finish(held, Seen.FAILED, None, "Slurm has lost the job before it began.", "engine")
        else:
            said = tail(self.engine.folders.attempt(held.job_id, held.generation) / "slurm.out")
            why = f"The batch job ended before it began ({state}){f': {said}' if said else ''}."
            hint = " Do the nodes see the data folder, and is there room in it?"
            hint = hint if not said or "No such file" in said else ""
            self._finish(held, Seen.FAILED, None, why + hint, "engine")

    def _shut(self, told: Ended | None) -> NodeRow | None:
        """Of the nodes that were to start it, one that takes no work now: what cannot start a job ends it by itself."""
        fleet = self.engine.fleet
        rows = [fleet.rows.get(fleet.node_id(name)) for name in hosts(told.nodes if told is not None else "")]
        return next((row for row in rows if row is not None and row.shut), None)

    def _ended_as(self, held: Held, told: Ended | None, folder: Any) -> None:
        """How it ended, by what the controller says: its leader was killed before it could write that down."""
        state = told.state if told is not None else ""
        life_us = min(max(last_life_us(folder, held.ranks) - self.engine.skew_us, held.running_us), now_us())
        if held.stop is not None and not (state in NODE_FAULTS or not state):
            self._finish(held, Seen.EXITED, KILLED, "killed", "job")
        elif known := next((why for name, why in WHY if state.startswith(name)), None):
            self._finish(held, Seen.EXITED, known[0], named_after(held, known[1]), "job")
        elif state in NODE_FAULTS:
            self._finish(held, Seen.LOST, None, lost(told), "node", life_us)
        elif state == "COMPLETED":
            why = "It ended, and could not write down how: is there room in the shared folder?"
            self._finish(held, Seen.LOST, None, why, "node", life_us)
        elif state:
            self._finish(held, Seen.LOST, None, f"Its leader was killed on the node ({state}).", "node", life_us)
        else:
            self._finish(held, Seen.LOST, None, "Slurm has lost the job, and nothing of it lives.", "node", life_us)

    # The end

    def _finish(
        self, held: Held, seen: Seen, code: int | None, detail: str, fault: str, at_us: int | None = None
    ) -> None:
        self._finish_as(held, {
            "seen": seen.value, "at_us": at_us or now_us(), "exit_code": code, "detail": detail, "fault": fault,
        })  # fmt: skip

    def _finish_as(self, held: Held, end: dict[str, Any]) -> None:
        """The end: first its output, then its record on disk, then everybody hears of it."""
        if held.ending or not held.active:
            return
        held.ending = True
        if not held.running_us:
            self._record_end(held, end)
            return

        def bring() -> None:
            with contextlib.suppress(OSError):
                self.engine.output.log_of(held.job_id).bring(held.generation, held.ranks)
            use = used(self.engine.folders.attempt(held.job_id, held.generation), held.ranks)
            self.engine.loop.post(lambda: self._record_end(held, end | {"use": use}))

        self.engine.bringers.do(bring)

    def _record_end(self, held: Held, end: dict[str, Any]) -> None:
        engine = self.engine
        held.end, held.ending, held.launch, held.prepared = end, False, None, None
        engine.left(held)
        if held.sent:
            self._keep(held)
        if engine.settings.users:  # whose files its notes are: what they say has ended is to have ended
            engine.loop.later(FORCE_S, lambda: self._cancel(held))
        engine.output.wake_followers(held.job_id)
        if held.rests and held.stop is None and held.running_us and by_itself(end):
            folder = engine.folders.attempt(held.job_id, held.generation)
            engine.relay.offer(held.shape, folder, held.number, held.slurm_name)
        engine.push(held)
        if held.keep:
            engine.bringers.do(lambda: self.prune(held, settled=False))

    def _keep(self, held: Held) -> None:
        """Write down what is held of it, now or, where the disk is full, as soon as there is room."""
        try:
            self.engine.save(held)
        except OSError as problem:
            self.engine.trouble = f"The state of jobs cannot be written: {problem.strerror}."
            self.engine.loop.later(AGAIN_S, lambda: self._keep_later(held))

    def _keep_later(self, held: Held) -> None:
        if self.engine.held.get(held.allocation_id) is held:
            self._keep(held)

    def prune(self, held: Held, settled: bool) -> None:
        """Old checkpoints go, of running jobs only such that are not being written."""
        before_us = now_us() - int(PRUNE_S * 1e6) if settled else None
        with contextlib.suppress(OSError, HeadframeError):
            checkpoints.prune(self.engine.folders.job(held.job_id) / "checkpoints", held.keep, before_us)
