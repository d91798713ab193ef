"""A simulated world: the real loop on the real store, driven through virtual time until everything has ended."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import orjson

from headframe.base.errors import HeadframeError, NotFound, OurError, StoreFailed
from headframe.base.quantities import HOUR_US, MINUTE_US, SECOND_US
from headframe.control.loop import Loop
from headframe.control.ports import Reads
from headframe.control.queries import story
from headframe.control.steady import Steady, on_record_us
from headframe.engines.scripted import ScriptedEngine, Temper
from headframe.fleet.records import Allocation, Reservation
from headframe.jobs.records import Attempt, Job, JobState
from headframe.sim.arrivals import People, fleet
from headframe.sim.auditor import Audit, audit
from headframe.sim.checkers import CHECKERS, Checker, Scene, Violation
from headframe.sim.checkers_clusters import CLUSTERS, STEADY_CLOCK
from headframe.sim.checkers_order import Borrowed, FairUses, MakingWay
from headframe.sim.checkers_time import HONEST, TIME
from headframe.sim.clock import CountedIds, SeededRng, VirtualClock
from headframe.sim.faults import Doom, FragileEngine, FragileStore, Killed, as_port, plan
from headframe.sim.scenarios import SCENARIOS, Scenario
from headframe.store.schema import tables
from headframe.store.sql_store import SqlStore

REST_US = 12 * HOUR_US  # how long after the last fault and arrival everything must have ended
QUIET_US = 10 * MINUTE_US  # nothing is open for so long: the world has ended
LATENCY_US = 3_000  # the longest that a nudged program takes to tick
FRUITLESS_LIMIT = 1_000  # timers in a row that bring nothing
PAGE = 2_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a world. `problem` is "" when everything held."""

    seed: int
    scenario: str
    digest: str
    problem: str
    ticks: int
    commits: int
    deaths: int
    virtual_us: int
    jobs: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    audit: Audit | None = None

    @property
    def command(self) -> str:
        """What replays it."""
        return f"headframe sim --seed {self.seed} --scenario {self.scenario}"


class PlainVault:
    """Seals nothing: there are no secrets in a simulation."""

    def seal(self, text: str) -> str:
        return f"sealed:{text}"

    def unseal(self, sealed: str) -> str:
        return sealed.removeprefix("sealed:")


class NoBlobs:
    """Holds no content: no simulated job brings files."""

    def missing(self, organization_id: str, hashes: Sequence[str]) -> list[str]:
        return list(hashes)

    def write(self, organization_id: str, sha256: str, content: Iterator[bytes]) -> int:
        raise NotFound("There are no files in a simulation.")

    def open(self, organization_id: str, sha256: str) -> Iterator[bytes]:
        raise NotFound("There are no files in a simulation.")

    def read(self, organization_id: str, sha256: str) -> bytes:
        raise NotFound("There are no files in a simulation.")


class Simulation:
    """One world. `run` takes it to its end; `ticks` ends it early. `deaths` are crossings at which the program dies,
    on top of what the scenario's weather brings.
    """

    def __init__(
        self,
        seed: int,
        name: str,
        *,
        ticks: int | None = None,
        deaths: Sequence[int] = (),
        checkers: Sequence[type[Checker]] = (*CHECKERS, MakingWay, Borrowed, FairUses, *TIME, *CLUSTERS),
    ) -> None:
        self.seed, self.name, self.scenario = seed, name, SCENARIOS[name]
        self.clock = VirtualClock()
        self.doom = Doom()
        self.inner_store = SqlStore("sqlite://")
        self.store = FragileStore(self.inner_store, self.doom)
        self.ids = CountedIds(seed)
        rng = SeededRng(seed, name)
        self._luck, self._latency = rng.fork("luck"), rng.fork("latency")
        places = fleet(self.scenario, rng.fork("fleet"))
        self.engines = {
            cluster.id: ScriptedEngine(
                nodes, devices, true_us=lambda: self.clock.true_us, stamp_us=self.clock.machine_us,
                rng=rng.fork(cluster.id),
            )
            for _, cluster, nodes, devices in places
        }  # fmt: skip
        self.checkers: list[Checker] = [make() for make in checkers]
        if self.scenario.honest:
            self.checkers += [make() for make in HONEST]
        if not self.scenario.weather.jumps:
            self.checkers += [make() for make in STEADY_CLOCK]
        self.refused: Counter[str] = Counter()
        self._ticks_left = ticks
        self._planned_deaths = sorted(deaths, reverse=True)
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        self._looked = 0
        self._ticks = 0
        self._tick_us: int | None = None  # true moment of the next tick
        self._timer = False  # whether that tick is a timer's
        self._fruitless = 0
        self._foul = False  # whether the weather is
        self._weather_over = False
        self._stale = False  # whether the last tick's commit failed
        self._defects: list[BaseException] = []
        self.people = People(self.scenario, rng.fork("people"), self._ask, self.clock.machine_us)
        self._began_us = self.clock.true_us
        self._boot()
        self._open(places)
        self._plan(rng)

    # The life of the world.

    def run(self) -> Outcome:
        """Let it happen; what does not hold is told in the outcome, never raised."""
        problem = ""
        report: Audit | None = None
        try:
            self._go()
            report = audit(self.inner_store)
            if not report.clean:
                raise Violation("Auditor", str(report.differences[0]))
        except Violation as violation:
            problem = str(violation)
        states = Counter(job.state.value for job in every(self.inner_store, Job))
        outcome = Outcome(
            self.seed, self.name, digest(self.inner_store), problem, self._ticks, self.store.commits,
            len(self.doom.deaths), self.clock.true_us - self._began_us, dict(sorted(states.items())),
            dict(sorted(self.refused.items())), report,
        )  # fmt: skip
        self.inner_store.close()
        return outcome

    def _go(self) -> None:
        quiet_since: int | None = None
        limit_us = self._began_us + self.scenario.span_us + REST_US
        while self._ticks_left is None or self._ticks < self._ticks_left:
            self._step()
            if not self._weather_over or self._busy():
                quiet_since = None
            elif quiet_since is None:
                quiet_since = self.clock.true_us
            elif self.clock.true_us - quiet_since >= QUIET_US:
                break
            if self.clock.true_us > limit_us:
                break
        if self._ticks_left is None:
            self._end()

    def _end(self) -> None:
        """One more tick, in which everything that still waits has to say why; then the last look."""
        answers = {name: self._ask(story, self.people.operator, name) for name in sorted(self.loop.world.all(Job))}
        self._tick()
        self._look({name: answer.result()(self.inner_store)["waiting"] for name, answer in answers.items()})

    def _busy(self) -> bool:
        world = self.loop.world
        waits = (JobState.PENDING, JobState.QUEUED)
        if world.all(Allocation) or world.all(Attempt):
            return True
        jobs = world.all(Job).values()
        if jobs and world.all(Reservation):
            return True  # whoever waits for it, or for its place, goes on when it ends
        parents = {job.parent_id for job in jobs}
        return any(job.state not in waits and job.id not in parents for job in jobs)

    def _step(self) -> None:
        """On to the next moment at which anything happens."""
        dues = [engine.next_due_us() for engine in self.engines.values()]
        dues += [self._agenda[0][0] if self._agenda else None, self._tick_us]
        self.clock.advance_to(max(self.clock.true_us, min(due for due in dues if due is not None)))
        now_us = self.clock.true_us
        while self._agenda and self._agenda[0][0] <= now_us:
            heapq.heappop(self._agenda)[2]()
        for _, engine in sorted(self.engines.items()):
            engine.advance()
        if self._tick_us is not None and self._tick_us <= now_us:
            self._tick()

    # The program.

    def _boot(self) -> None:
        """Start the program on what the store holds; nothing of an earlier one is left but the engines' work."""
        self._steady = Steady(self.clock.machine_us, on_record_us(self.inner_store))
        ports = {name: as_port(FragileEngine(engine, self.doom)) for name, engine in self.engines.items()}
        self.loop = Loop(self.store, ports, self.ids, PlainVault(), NoBlobs(), self._steady.now_us(),
                         rules=self.scenario.rules)  # fmt: skip
        self.loop.nudge = self._nudge
        self.loop.complain = self._complain
        loop = self.loop
        for name, port in ports.items():
            port.start(lambda item, name=name: loop.deliver(name, item))  # type: ignore[misc]
        self._tick_us, self._timer = self.clock.true_us, False
        self._doom_next()

    def _nudge(self) -> None:
        self._tick_by(self.clock.true_us + self._latency.below(LATENCY_US), timer=False)

    def _tick_by(self, due_us: int, *, timer: bool) -> None:
        if self._tick_us is None or due_us < self._tick_us:
            self._tick_us, self._timer = due_us, timer

    def _complain(self, error: BaseException) -> None:
        if isinstance(error, StoreFailed):
            self._stale = True
        else:
            self._defects.append(error)

    def _tick(self) -> None:
        self._ticks += 1
        self._tick_us, self._stale = None, False
        written, timer = self.store.commits, self._timer
        try:
            self.loop.tick(self._steady.now_us())
        except Killed:
            self._boot()
            self._look()  # the orders may not have gone out; all else must hold at once
            return
        self._look()
        self._fruitless = self._fruitless + 1 if timer and self.store.commits == written else 0
        if self._fruitless > FRUITLESS_LIMIT:
            raise Violation("Idle", f"{self._fruitless} timers in a row brought nothing")
        now_us = self._steady.now_us()
        wake_us = self.loop.next_wake_us(now_us)
        if wake_us is not None:
            self._tick_by(self.clock.true_us + max(wake_us - now_us, 100), timer=True)

    def _ask(self, command: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand in a command (or a question, which returns no changes) and note how it is answered."""
        call = self.loop.ask if command.__module__.startswith("headframe.control.queries") else self.loop.run
        answer = call(command, *args, **kwargs)
        answer.add_done_callback(self._answered)
        return answer

    def _answered(self, answer: Future[Any]) -> None:
        error = answer.exception()
        if isinstance(error, HeadframeError):
            self.refused[error.code] += 1
        if isinstance(error, OurError) and not isinstance(error, StoreFailed):
            self._defects.append(error.__cause__ or error)

    # What checkers see.

    def _look(self, waiting: Mapping[str, Any] | None = None) -> None:
        if self._defects:
            raise Violation("Defects", f"{type(self._defects[0]).__name__}: {self._defects[0]}") from self._defects[0]
        if self._stale:
            return  # the program knows that its world is ahead of the store, and will load it anew
        committed = self.store.committed[self._looked :]
        self._looked = len(self.store.committed)
        scene = Scene(
            self._ticks, self._steady.now_us(), self.loop.world, self.inner_store, self.engines, committed,
            waiting is not None, waiting or {},
        )  # fmt: skip
        for checker in self.checkers:
            checker.look(scene)

    # Plans.

    def _open(self, places: Any) -> None:
        """Found the cloud before anything can go wrong: each command is answered at once."""
        ask, self.people.ask = self.people.ask, self._at_once
        self.people.open(places)
        self.people.ask = ask

    def _at_once(self, command: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        answer = self._ask(command, *args, **kwargs)
        self.clock.advance_to(self.clock.true_us + 1000)
        self._tick()
        return answer

    def _plan(self, rng: SeededRng) -> None:
        begin_us = self.clock.true_us + SECOND_US
        end_us = begin_us + self.scenario.span_us
        orders = [*self.people.submissions(begin_us), *self.people.orders(begin_us)]
        orders += plan(
            self.scenario.weather, rng.fork("weather"), self.engines, self.store, self.clock, begin_us, end_us
        )
        for moment, act in sorted(orders, key=lambda order: order[0]):
            self._at(moment, act)
        self._at(begin_us, self._turn_foul)
        self._at(end_us, self._turn_fair)

    def _at(self, moment: int, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (moment, self._number, act))

    def _turn_foul(self) -> None:
        for engine in self.engines.values():
            engine.set_temper(self.scenario.weather.temper())
        self._foul = True
        self._doom_next()

    def _turn_fair(self) -> None:
        """Faults and arrivals end: everything is mended, schedules are stopped, and what is left has to end."""
        self._foul = False
        self.doom.next = None
        self.store.failing = self.store.unclear = 0
        for engine in self.engines.values():
            engine.set_temper(Temper())
            engine.set_reachable(True)
            for node_id in engine.node_ids():
                engine.revive_node(node_id)
        self.people.end()
        self._end_schedules()

    def _end_schedules(self) -> None:
        jobs = sorted(self.loop.world.all(Job).values(), key=lambda job: job.id)
        self.people.end_schedules(jobs)
        self._weather_over = True

    def _doom_next(self) -> None:
        most = self.scenario.weather.crossings_to_death
        if self._planned_deaths:
            self.doom.next = self._planned_deaths.pop()
        elif most and self._foul:
            self.doom.next = self.doom.crossed + self._luck.between(1, most)


def every(reads: Reads, kind: type[Any]) -> Iterator[Any]:
    """All records of a class, by id."""
    after: str | None = None
    while page := reads.find(kind, after=after, limit=PAGE):
        yield from page
        after = page[-1].id


def digest(store: Reads) -> str:
    """SHA-256 over all rows and events in the order of their classes' names and of their ids."""
    total = hashlib.sha256()
    for kind in sorted(tables, key=lambda kind: kind.__name__):
        total.update(kind.__name__.encode())
        for row in every(store, kind):
            total.update(orjson.dumps(row, option=orjson.OPT_SORT_KEYS))
    return total.hexdigest()


def simulate(seed: int, name: str, *, ticks: int | None = None, deaths: Sequence[int] = ()) -> Outcome:
    """Make a world, and let it run to its end."""
    return Simulation(seed, name, ticks=ticks, deaths=deaths).run()


def scenario_of(seed: int) -> str:
    """The scenario that a seed gets when none is named: all of them in turn."""
    names = sorted(SCENARIOS)
    return names[seed % len(names)]


__all__ = ["Outcome", "Scenario", "Simulation", "digest", "scenario_of", "simulate"]
