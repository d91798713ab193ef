"""Bad luck: a store that fails, a program that dies at any point, engines and clocks that go wrong when planned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headframe.base.changes import Changes
from headframe.base.errors import StoreFailed
from headframe.base.quantities import HOUR_US, MINUTE_US, SECOND_US
from headframe.control.ports import Engine, Store
from headframe.engines.scripted import Action, ScriptedEngine, Temper
from headframe.fleet.engine_words import Observation, Report
from headframe.sim.clock import SeededRng, VirtualClock


class Killed(BaseException):
    """The program dies here. Not an `Exception`: nothing inside the program can catch its own death."""


class Doom:
    """Counts the points at which the program can die: before and after each commit, before and after each order."""

    def __init__(self) -> None:
        self.crossed = 0
        self.next: int | None = None  # the number of the crossing at which it dies
        self.deaths: list[str] = []

    def cross(self, point: str) -> None:
        self.crossed += 1
        if self.next is not None and self.crossed >= self.next:
            self.next = None
            self.deaths.append(point)
            raise Killed(point)


class FragileStore:
    """The real store, which may fail, and by which the program may die. Keeps what was committed, for the checkers.

    `failing` counts the commits still to fail with nothing written; `unclear` those that are written although the
    caller is told that they failed, as when a connection is lost during a commit.
    """

    def __init__(self, inner: Store, doom: Doom) -> None:
        self._inner, self._doom = inner, doom
        self.committed: list[Changes] = []
        self.commits = 0
        self.failing = 0
        self.unclear = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def apply(self, changes: Changes) -> None:
        self._doom.cross("before a commit")
        if self.failing:
            self.failing -= 1
            raise StoreFailed("The disk is full.", next_step="Simulated: it passes.")
        self._inner.apply(changes)
        self.commits += 1
        self.committed.append(changes)
        if self.unclear:
            self.unclear -= 1
            raise StoreFailed("The connection was lost during the commit.", next_step="Simulated: it passes.")
        self._doom.cross("after a commit")


class FragileEngine:
    """The port of an engine as the program sees it: between any two orders the program may die."""

    def __init__(self, inner: ScriptedEngine, doom: Doom) -> None:
        self._inner, self._doom = inner, doom
        self.name = inner.name

    def start(self, deliver: Callable[[Observation | Report], None]) -> None:
        self._inner.start(deliver)

    def close(self) -> None:
        self._inner.close()

    def act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self._doom.cross(f"before a {type(action).__name__.lower()}")
            self._inner.act([action])
        self._doom.cross("after orders")

    def request_report(self) -> None:
        self._inner.request_report()


def as_port(engine: FragileEngine) -> Engine:
    """The same, checked to be the port."""
    return engine


@dataclass(frozen=True, slots=True)
class Weather:
    """How much goes wrong in the faulty part of a scenario. Counts of faults, and thousandths of answers."""

    lost_per_mille: int = 0
    twice_per_mille: int = 0
    late_per_mille: int = 0
    slow_us: int = 0  # the longest way of an answer, beyond the usual 20 ms
    node_deaths: int = 0
    node_silences: int = 0  # a node, or a device, is not well for a while; its jobs go on
    outages: int = 0  # an engine cannot be reached for a while
    hours_down: int = 0  # an engine cannot be reached for an hour
    memory_losses: int = 0  # an engine starts again and knows nothing
    store_failures: int = 0
    jumps: int = 0  # of the machine's clock
    crossings_to_death: int = 0  # how many points the program passes before it dies, at most; 0: it lives

    def temper(self) -> Temper:
        return Temper(
            delay_most_us=20_000 + self.slow_us,
            lost_per_mille=self.lost_per_mille,
            twice_per_mille=self.twice_per_mille,
            late_per_mille=self.late_per_mille,
        )


Fault = tuple[int, Callable[[], None]]  # true moment, what happens


def plan(
    weather: Weather,
    rng: SeededRng,
    engines: Mapping[str, ScriptedEngine],
    store: FragileStore,
    clock: VirtualClock,
    begin_us: int,
    end_us: int,
) -> Iterator[Fault]:
    """When what goes wrong, from a seed. Everything is mended again by `end_us`."""
    names = sorted(engines)

    def moment() -> int:
        return rng.between(begin_us, end_us - MINUTE_US)

    for _ in range(weather.node_deaths):
        at_us, engine = moment(), engines[rng.pick(names)]
        node_id = rng.pick(engine.node_ids())
        yield at_us, lambda engine=engine, node_id=node_id: engine.kill_node(node_id)  # type: ignore[misc]
        back_us = min(at_us + rng.between(SECOND_US, 10 * MINUTE_US), end_us)
        yield back_us, lambda engine=engine, node_id=node_id: engine.revive_node(node_id)  # type: ignore[misc]
    for _ in range(weather.node_silences):
        at_us, engine = moment(), engines[rng.pick(names)]
        node_id, device = rng.pick(engine.node_ids()), rng.chance(400)
        yield at_us, lambda engine=engine, node_id=node_id, device=device: engine.ail(node_id, device)  # type: ignore[misc]
        back_us = min(at_us + rng.between(SECOND_US, 40 * MINUTE_US), end_us)
        yield back_us, lambda engine=engine, node_id=node_id: engine.revive_node(node_id)  # type: ignore[misc]
    for _ in range(weather.outages):
        at_us, engine = moment(), engines[rng.pick(names)]
        yield at_us, lambda engine=engine: engine.set_reachable(False)  # type: ignore[misc]
        back_us = min(at_us + rng.between(SECOND_US, 15 * MINUTE_US), end_us)
        yield back_us, lambda engine=engine: engine.set_reachable(True)  # type: ignore[misc]
    for _ in range(weather.hours_down):
        at_us, engine = rng.between(begin_us, max(end_us - HOUR_US, begin_us)), engines[rng.pick(names)]
        yield at_us, lambda engine=engine: engine.set_reachable(False)  # type: ignore[misc]
        yield min(at_us + HOUR_US, end_us), lambda engine=engine: engine.set_reachable(True)  # type: ignore[misc]
    for _ in range(weather.memory_losses):
        yield moment(), engines[rng.pick(names)].lose_memory
    for _ in range(weather.store_failures):
        failing, unclear = (0, 1) if rng.chance(300) else (rng.between(1, 3), 0)

        def fail(failing: int = failing, unclear: int = unclear) -> None:
            store.failing, store.unclear = failing, unclear

        yield moment(), fail
    for _ in range(weather.jumps):
        longest = rng.pick((SECOND_US, 30 * SECOND_US, 20 * MINUTE_US))
        by_us = rng.between(-longest, longest)
        yield moment(), lambda by_us=by_us: clock.jump(by_us)  # type: ignore[misc]
