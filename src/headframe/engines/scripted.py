"""The scripted engine: runs nothing, but tells the story that a job's script asks for, on a clock that is handed in.

For simulations and tests. A job's `run` line is its script: attempts apart by `|`, steps by `;`:

    prepare 3s; run 40s; exit 1 | run 20s; exit 0

means that the first attempt prepares for three seconds, runs for forty and ends with exit code 1, and that every later
one runs for twenty and succeeds. Other steps: `fail job`, `fail node`, `fail engine` (cannot be started, and by whose
fault), `on-stop 0` (the exit code after the stop signal, 143 unless said), `stubborn` (ignores the stop signal until it
is killed), `checkpoint 5m` (writes one so often, and when it is warned; later attempts go on from the newest) and
`scales` (what it runs is for its least number of nodes; on twice as many it takes half the time). Anything else is
skipped, so that every job has a script: one second, exit code 0.

The engine notes in `violations` what no correct caller makes it do: two attempts of one job at once, a device given out
twice, a start of what has been forgotten.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from headframe.base.errors import Invalid
from headframe.base.ports import Rng
from headframe.base.quantities import HOUR_US, MILLI, SECOND_US, parse_span_us
from headframe.fleet.engine_words import Forget, Launch, Observation, Report, Seen, Signal, Stop
from headframe.fleet.records import Accelerator, Node, NodeState

Action = Launch | Stop | Signal | Forget
LIVE = frozenset({Seen.PREPARING, Seen.RUNNING})


@dataclass(frozen=True, slots=True)
class Script:
    """What one attempt does. Times in microseconds of true time."""

    prepare_us: int = 0
    run_us: int = SECOND_US
    exit_code: int = 0
    on_stop: int = 143
    stubborn: bool = False
    fails: str = ""  # "job", "node" or "engine": cannot be started, by whose fault
    checkpoint_us: int = 0  # 0: none
    scales: bool = False


def parse_script(run: str, attempt: int) -> Script:
    """The script of an attempt (1, 2, ...); the last one written answers for all later ones."""
    attempts = run.split("|")
    script = Script()
    for step in attempts[min(attempt, len(attempts)) - 1].split(";"):
        word, _, value = step.strip().partition(" ")
        value = value.strip()
        try:
            if word == "prepare":
                script = replace(script, prepare_us=parse_span_us(value, field="prepare"))
            elif word == "run":
                script = replace(script, run_us=parse_span_us(value, field="run"))
            elif word == "checkpoint":
                script = replace(script, checkpoint_us=max(parse_span_us(value, field="checkpoint"), SECOND_US))
        except Invalid:
            continue
        if word == "exit" and value.isdecimal():
            script = replace(script, exit_code=int(value) % 256)
        elif word == "on-stop" and value.isdecimal():
            script = replace(script, on_stop=int(value) % 256)
        elif word == "stubborn":
            script = replace(script, stubborn=True)
        elif word == "scales":
            script = replace(script, scales=True)
        elif word == "fail" and value in ("job", "node", "engine"):
            script = replace(script, fails=value)
    return script


@dataclass(slots=True)
class Temper:
    """How well the engine's answers travel. Faults turn these while the world runs; thousandths and microseconds."""

    delay_least_us: int = 2_000
    delay_most_us: int = 20_000
    lost_per_mille: int = 0
    twice_per_mille: int = 0
    late_per_mille: int = 0  # held back long enough that others overtake it
    late_us: int = 5 * SECOND_US
    stop_us: int = 100_000  # what a job takes to end after the stop signal
    reachable: bool = True


@dataclass(slots=True)
class _Run:
    """What the engine keeps of one allocation."""

    launch: Launch
    script: Script
    seen: Seen
    since_us: int  # machine time
    plan: int = 0  # counts the moves planned: an older plan that comes due is void
    exit_code: int | None = None
    fault: str = "job"
    detail: str = ""
    pid: int | None = None
    started_us: int = 0  # true time
    running_us: int | None = None  # machine time
    story: tuple[str, ...] = ()
    signals: list[str] = field(default_factory=list)
    warned_us: int | None = None  # true time of the last warning, at which it saved
    resumed_us: int = 0  # the work that it found done

    @property
    def speed(self) -> tuple[int, int]:
        """Work done in a stretch of time, as (numerator, denominator)."""
        least = int(self.launch.work.get("nodes_min", 1))
        return (len(self.launch.slices), max(least, 1)) if self.script.scales else (1, 1)

    def saved_after_us(self, true_us: int) -> int:
        """How long it had run at its newest checkpoint, 0 when there is none of this attempt."""
        if not self.script.checkpoint_us or self.running_us is None:
            return 0
        ran_us = true_us - self.started_us
        return max(ran_us - ran_us % self.script.checkpoint_us, (self.warned_us or 0) - self.started_us, 0)

    @property
    def live(self) -> bool:
        return self.seen in LIVE


class ScriptedEngine:
    """An engine whose work is a script. `true_us` tells the time by which things go on, `stamp_us` the machine's time
    that observations carry. Nothing happens on its own: whoever drives the time calls `advance`. `busy` tells how busy
    a launch was that has run for so long (words of `Observation.use`); without it next to nothing was used.
    """

    name = "scripted"

    def __init__(
        self,
        nodes: Sequence[Node],
        accelerators: Sequence[Accelerator],
        *,
        true_us: Callable[[], int],
        stamp_us: Callable[[], int],
        rng: Rng,
        temper: Temper | None = None,
        busy: Callable[[Launch, int], dict[str, int]] | None = None,
    ) -> None:
        self.temper = temper or Temper()
        self._busy = busy
        self.violations: list[str] = []
        self.launches = 0
        self.ends: dict[str, int] = {}  # when allocations came to an end of their own, in machine time
        self._nodes = {node.id: node for node in sorted(nodes, key=lambda node: node.id)}
        self._accelerators = tuple(sorted(accelerators, key=lambda device: device.id))
        self._ailing: set[str] = set()  # nodes whose first device is not well
        self._true_us, self._stamp_us, self._rng = true_us, stamp_us, rng
        self._deliver: Callable[[Observation | Report], None] | None = None
        self._epoch = 0  # one for each program that listened: what was sent to an earlier one is lost
        self._runs: dict[str, _Run] = {}
        self._live: dict[str, dict[str, Launch]] = {}  # job -> what of it is live, by allocation
        self._used: dict[str, int] = {}  # thousandths and MiB that live runs hold, by device, node/cpu and node/memory
        self._latest: dict[str, int] = {}  # job -> highest generation ever launched
        self._forgotten: set[str] = set()
        self._saved: dict[str, int] = {}  # work that a job's checkpoints hold, by job
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0
        self._heard_us = 0  # true moment at which the last words sent in order are heard

    # The port.

    def start(self, deliver: Callable[[Observation | Report], None]) -> None:
        self._deliver = deliver
        self._epoch += 1
        self.request_report()

    def close(self) -> None:
        self._deliver = None
        self._epoch += 1

    def act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if not self.temper.reachable:
                continue  # it never arrives: only a later report tells
            match action:
                case Launch():
                    self._launch(action)
                case Stop():
                    self._stop(action)
                case Signal():
                    run = self._runs.get(action.allocation_id)
                    if run is not None and run.launch.generation == action.generation:
                        run.signals.append(action.signal)
                        run.warned_us = self._true_us() if run.seen is Seen.RUNNING else run.warned_us
                case Forget():
                    self._forget(action)

    def request_report(self) -> None:
        self._send(self._report())

    # For whoever drives the time, and for faults.

    @property
    def epoch(self) -> int:
        """Counts the programs that have listened."""
        return self._epoch

    def next_due_us(self) -> int | None:
        """The true moment at which something happens next (None: nothing will)."""
        return self._agenda[0][0] if self._agenda else None

    def advance(self) -> None:
        """Let everything happen that is due by now, in order."""
        while self._agenda and self._agenda[0][0] <= self._true_us():
            heapq.heappop(self._agenda)[2]()

    def live(self) -> list[Launch]:
        """What runs now, by allocation id."""
        return [run.launch for _, run in sorted(self._runs.items()) if run.live]

    def known(self) -> list[str]:
        """The allocations that have not been forgotten."""
        return sorted(self._runs)

    def kill_node(self, node_id: str, reason: str = "The machine lost power.") -> None:
        """The node dies and takes with it every gang that had a part on it."""
        self._nodes[node_id] = replace(self._nodes[node_id], state=NodeState.DOWN, reason=reason)
        for _, run in sorted(self._runs.items()):
            if run.live and any(part.node_id == node_id for part in run.launch.slices):
                run.fault, run.detail = "node", f"{self._nodes[node_id].name}: {reason}"
                self._move(run, Seen.LOST)
        self.request_report()

    def ail(self, node_id: str, device_only: bool = False) -> None:
        """The node, or the first device on it, is not well; what runs there goes on."""
        if device_only:
            self._ailing.add(node_id)
        else:
            node = self._nodes[node_id]
            self._nodes[node_id] = replace(node, state=NodeState.DOWN, reason="It does not answer.")
        self.request_report()

    def revive_node(self, node_id: str) -> None:
        """The node and its devices are well again."""
        self._ailing.discard(node_id)
        self._nodes[node_id] = replace(self._nodes[node_id], state=NodeState.READY, reason="")
        self.request_report()

    def node_ids(self) -> list[str]:
        return list(self._nodes)

    def set_reachable(self, reachable: bool) -> None:
        """Cut the way to the engine, or open it again; then it says how things are."""
        self.temper.reachable = reachable
        if reachable:
            self.request_report()

    def set_temper(self, temper: Temper) -> None:
        """Answer otherwise from now on; what is under way keeps its way."""
        temper.reachable = self.temper.reachable
        self.temper = temper

    def lose_memory(self) -> None:
        """The engine starts again and knows nothing: its work is gone, and so is every trace of it."""
        for run in self._runs.values():
            self._count(run, -1)
        self._runs.clear()
        self.request_report()

    # Inside.

    def _plan(self, after_us: int, step: Callable[[], None]) -> None:
        self._planned += 1
        heapq.heappush(self._agenda, (self._true_us() + after_us, self._planned, step))

    def _send(self, words: Observation | Report) -> None:
        """Say it now, to be heard after a delay and in order; by bad luck it is lost, heard twice, or overtaken."""
        epoch, temper = self._epoch, self.temper

        def hear() -> None:
            if self._deliver is not None and self._epoch == epoch and self.temper.reachable:
                self._deliver(words)

        if not temper.reachable or self._rng.below(1000) < temper.lost_per_mille:
            return
        delay = temper.delay_least_us + self._rng.below(temper.delay_most_us - temper.delay_least_us + 1)
        if self._rng.below(1000) < temper.late_per_mille:
            self._plan(delay + self._rng.below(temper.late_us + 1), hear)
        else:
            self._heard_us = max(self._heard_us, self._true_us() + delay)
            self._plan(self._heard_us - self._true_us(), hear)
        if self._rng.below(1000) < temper.twice_per_mille:
            self._plan(delay + self._rng.below(temper.late_us + 1), hear)

    def _observe(self, run: _Run) -> Observation:
        ended = run.seen is Seen.EXITED
        saved_us = run.saved_after_us(self._true_us()) if run.live else 0
        return Observation(
            allocation_id=run.launch.allocation_id,
            generation=run.launch.generation,
            seen=run.seen,
            at_us=run.since_us,
            running_us=run.running_us,
            exit_code=run.exit_code if ended else None,
            fault=run.fault,
            detail=run.detail,
            pid=run.pid,
            resumed_from=f"{run.resumed_us} us" if run.resumed_us else "",
            checkpoint_us=run.running_us + saved_us if run.running_us is not None and saved_us else None,
            story=run.story,
            use=self._use(run, ended),
        )

    def _use(self, run: _Run, ended: bool) -> dict[str, int]:
        if self._busy is None or run.running_us is None:
            return {"cpu_us": 1000, "memory_peak_mib": 10} if ended else {}
        ran_us = (run.since_us if ended else self._stamp_us()) - run.running_us
        # Of what runs by whole hours, or every report would be news.
        return self._busy(run.launch, ran_us if ended else ran_us - ran_us % HOUR_US)

    def _report(self) -> Report:
        observations = tuple(self._observe(run) for _, run in sorted(self._runs.items()))
        devices = tuple(
            replace(device, healthy=False, reason="Errors of its memory.")
            if device.index == 0 and device.node_id in self._ailing
            else device
            for device in self._accelerators
        ) if self._ailing else self._accelerators  # fmt: skip
        return Report(self._stamp_us(), observations, tuple(self._nodes.values()), devices)

    def _push(self, run: _Run) -> None:
        self._send(self._observe(run))

    def _absent(self, allocation_id: str, generation: int) -> None:
        self._send(Observation(allocation_id, generation, Seen.ABSENT, self._stamp_us()))

    def _move(self, run: _Run, seen: Seen) -> None:
        if seen not in LIVE:
            self._count(run, -1)
        if run.seen is Seen.RUNNING and run.script.checkpoint_us:
            faster, slower = run.speed
            done_us = run.resumed_us + run.saved_after_us(self._true_us()) * faster // slower
            self._saved[run.launch.job_id] = min(done_us, run.script.run_us)
        run.seen, run.since_us, run.plan = seen, self._stamp_us(), run.plan + 1
        self._push(run)

    def _later(self, run: _Run, after_us: int, step: Callable[[_Run], None]) -> None:
        """Plan a run's next move; any move before it makes the plan void."""
        run.plan += 1
        plan = run.plan

        def go() -> None:
            if run.plan == plan and self._runs.get(run.launch.allocation_id) is run:
                step(run)

        self._plan(after_us, go)

    def _launch(self, launch: Launch) -> None:
        known = self._runs.get(launch.allocation_id)
        if known is not None and known.launch.generation == launch.generation:
            self._push(known)
            return
        if not self._accepts(launch):
            self._absent(launch.allocation_id, launch.generation)
            return
        self._latest[launch.job_id] = launch.generation
        self.launches += 1
        script = parse_script(str(launch.work.get("run", "")), launch.generation)
        run = _Run(launch, script, Seen.PREPARING, self._stamp_us())
        self._runs[launch.allocation_id] = run
        self._count(run, 1)
        down = [part.node_id for part in launch.slices if self._nodes[part.node_id].state is NodeState.DOWN]
        if down or script.fails:
            run.fault = "node" if down else script.fails
            run.detail = "The node is down." if down else "It could not be started."
            self._move(run, Seen.FAILED)
            return
        self._check_room(launch)
        self._push(run)
        self._later(run, script.prepare_us, self._begin)

    def _accepts(self, launch: Launch) -> bool:
        """Whether it may start. Refusing is right; being asked for a second run of a job is a fault of the caller."""
        live = [one for _, one in sorted(self._live.get(launch.job_id, {}).items())]
        newest = self._latest.get(launch.job_id, 0)
        if launch.allocation_id in self._forgotten:
            self.violations.append(f"{launch.allocation_id} was launched after it had been forgotten")
            return False
        if live:
            self.violations.append(
                f"{launch.job_id}: generation {launch.generation} was launched while "
                f"{live[0].allocation_id} of generation {live[0].generation} runs"
            )
        return launch.generation >= newest and not live

    def _count(self, run: _Run, sign: int) -> None:
        """Count a live run in or out."""
        if not run.live:
            return
        launch = run.launch
        if sign > 0:
            self._live.setdefault(launch.job_id, {})[launch.allocation_id] = launch
        elif self._live.get(launch.job_id, {}).pop(launch.allocation_id, None) and not self._live[launch.job_id]:
            del self._live[launch.job_id]
        for name, amount in _held(launch):
            self._used[name] = self._used.get(name, 0) + sign * amount

    def _check_room(self, launch: Launch) -> None:
        """Nothing that this launch holds is given out twice."""
        for name in sorted({share.accelerator_id for part in launch.slices for share in part.shares}):
            if self._used[name] > MILLI:
                self.violations.append(f"{self._used[name]} thousandths of accelerator {name} run at once")
        for name in sorted({part.node_id for part in launch.slices}):
            node = self._nodes[name]
            if self._used[f"{name}/cpu"] > node.cpu_milli or self._used[f"{name}/memory"] > node.memory_mib:
                self.violations.append(f"node {name} runs more than it has")

    def _begin(self, run: _Run) -> None:
        run.pid, run.started_us = 1000 + self.launches, self._true_us()
        run.running_us = self._stamp_us()
        run.resumed_us = self._saved.get(run.launch.job_id, 0) if run.script.checkpoint_us else 0
        faster, slower = run.speed
        left_us = -(-(run.script.run_us - run.resumed_us) * slower // faster)
        self._move(run, Seen.RUNNING)
        self._later(run, max(left_us, 0), lambda run: self._exit(run, run.script.exit_code))

    def _exit(self, run: _Run, code: int) -> None:
        run.exit_code = code
        self._move(run, Seen.EXITED)
        self.ends[run.launch.allocation_id] = run.since_us

    def _stop(self, stop: Stop) -> None:
        run = self._runs.get(stop.allocation_id)
        if run is None:
            self._absent(stop.allocation_id, stop.generation)
        elif run.launch.generation == stop.generation:
            if not run.live:
                self._push(run)
            elif "SIGTERM" not in run.signals:  # the same stop twice is one stop
                run.signals.append("SIGTERM")
                if run.script.stubborn and run.seen is Seen.RUNNING:
                    ends_us = run.started_us + run.script.run_us - self._true_us()
                    if ends_us > stop.grace_us:  # else it comes to its own end first
                        self._later(run, stop.grace_us, lambda run: self._exit(run, 137))
                else:
                    code = run.script.on_stop if run.seen is Seen.RUNNING else 143
                    self._later(run, self.temper.stop_us, lambda run: self._exit(run, code))

    def _forget(self, forget: Forget) -> None:
        run = self._runs.get(forget.allocation_id)
        if run is None or run.launch.generation != forget.generation:
            return
        if run.live:
            self.violations.append(f"{forget.allocation_id} was to be forgotten while it runs")
            return
        del self._runs[forget.allocation_id]
        self._forgotten.add(forget.allocation_id)


def _held(launch: Launch) -> Iterator[tuple[str, int]]:
    """What a launch holds, by the name that it is counted under."""
    for part in launch.slices:
        yield f"{part.node_id}/cpu", part.cpu_milli
        yield f"{part.node_id}/memory", part.memory_mib
        for share in part.shares:
            yield share.accelerator_id, share.milli
