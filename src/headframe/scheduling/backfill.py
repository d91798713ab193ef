"""What may start now without breaking a promise: around reservations, and around the places of those who wait first.

A promise is a place from a moment on: a reservation (firm), or the place that a waiting head of the queue is expected
to get (its shadow). A job may take what is free now, less what promises need that begin before it has ended and that
nothing gives back by then. For firm promises only a max_duration counts as an end; for shadows an estimate does.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice

from headframe.base.quantities import DAY_US
from headframe.fleet.records import Slice
from headframe.scheduling.calendar import NODE_CELLS, Cell, cells, slices_of
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.fit import fit
from headframe.scheduling.want import Want

NEVER_US = 1 << 62
HEADS = 4  # waiting jobs whose places are promised: each costs one search
SEARCH_LIMIT = 4096  # ends of running jobs that one search looks at
FAR_US = DAY_US  # promises that begin so long after a search's own job would have ended are not in its way
FIRST_STEP = 16  # how many ends it takes together at first; twice as many each time


@dataclass(frozen=True, slots=True)
class Ending:
    """What a running job gives back: to reservations surely by `sure_us`, to others as far as known at `likely_us`.

    `began_us` is when it took its place, `notice_us` how far off a reservation must have been then for the job to be
    stopped for it (None: never); `always`: also for one that was made later.
    """

    sure_us: int
    likely_us: int
    slices: tuple[Slice, ...]
    job_id: str = ""
    source: str = ""
    began_us: int = 0
    notice_us: int | None = None
    always: bool = False

    def yields(self, promise: Promise) -> bool:
        """Whether it is stopped in time for a promise, however long it would run."""
        if self.notice_us is None:
            return False
        known = promise.made_us <= self.began_us
        return promise.from_us >= self.began_us + self.notice_us if known else self.always


def by_end(one: Ending) -> tuple[int, str]:
    """The order in which things end; ties end on an id."""
    return one.likely_us, one.job_id


class Endings:
    """All that runs, in the order in which it is likely to end. Kept up to date row by row, worked out when asked."""

    def __init__(self) -> None:
        self._order: list[tuple[int, str]] = []
        self._known: dict[str, Ending] = {}
        self._stale: dict[str, None] = {}

    def changed(self, name: str) -> None:
        """Something about this one is other than it was."""
        self._stale[name] = None

    def gone(self, name: str) -> None:
        self._stale.pop(name, None)
        self._forget(name)

    def soonest(self, now_us: int, look: Callable[[str], Ending | None]) -> Iterator[Ending]:
        """In order of likely end; `look` says of one when it ends. Those who are overdue are asked again."""
        late = bisect_left(self._order, (now_us + 1, ""))
        for name in [*self._stale, *(name for _, name in self._order[:late])]:
            self._forget(name)
            found = look(name)
            if found is not None:
                self._known[name] = found
                insort(self._order, (found.likely_us, name))
        self._stale.clear()
        return (self._known[name] for _, name in self._order)

    def _forget(self, name: str) -> None:
        known = self._known.pop(name, None)
        if known is not None:
            del self._order[bisect_left(self._order, (known.likely_us, name))]


@dataclass(slots=True)
class Promise:
    """A place from `from_us` until `to_us`, and how much of it has not been taken by its owner yet."""

    owner: str
    from_us: int
    to_us: int
    amounts: Counter[Cell]
    firm: bool
    made_us: int = 0

    def at(self, moment_us: int) -> bool:
        return self.from_us <= moment_us < self.to_us


@dataclass(frozen=True, slots=True)
class Shadow:
    """Where and when a waiting job is expected to start; `source` is the weakest estimate that this rests on."""

    job_id: str
    start_us: int
    slices: tuple[Slice, ...]
    made_us: int
    source: str


@dataclass(slots=True)
class _Layer:
    """What may be taken by those who end between two promises: a capacity less what promises need beyond it.

    `key` are the last beginnings of promises that it minds, firm and soft; `out` are jobs that are taken to be gone.
    """

    capacity: Capacity
    key: tuple[int, int] = (0, 0)
    applied: Counter[Cell] = field(default_factory=Counter)
    out: dict[str, None] = field(default_factory=dict)

    def minds(self, promise: Promise) -> bool:
        return promise.from_us <= self.key[0 if promise.firm else 1]


class Ground:
    """A room from which running jobs can be let out, to try who may make way. `capacity` is its own.

    What promises then lack is not free: a job that would have gone in time for one gives it nothing back any more.
    """

    def __init__(self, capacity: Capacity, outlook: Outlook | None = None, layer: _Layer | None = None) -> None:
        """A copy of a capacity; of a layer of an outlook, where there is one."""
        self.capacity, self._outlook = capacity.scratch(), outlook
        self._layer = layer and _Layer(self.capacity, layer.key, layer.applied.copy(), layer.out.copy())

    def copy(self) -> Ground:
        return Ground(self.capacity, self._outlook, self._layer)

    def release(self, job_id: str, slices: tuple[Slice, ...]) -> None:
        """Let a job out."""
        self.capacity.release(slices)
        if self._layer is not None:
            self._layer.out[job_id] = None
            self._mind(slices)

    def hold(self, job_id: str, slices: tuple[Slice, ...]) -> None:
        """Let it in again."""
        self.capacity.hold(slices)
        if self._layer is not None:
            self._layer.out.pop(job_id, None)
            self._mind(slices)

    def _mind(self, slices: tuple[Slice, ...]) -> None:
        assert self._outlook is not None
        assert self._layer is not None
        self._outlook.refresh(self._layer, cells(slices))


class Outlook:
    """Free now, and free for how long. One for each pass; `capacity` is the pass's own scratch copy.

    `endings` gives, for a node, what runs there. Costs nothing without promises; else one more capacity for each
    different horizon that is asked for, and work on the cells of promises only.
    """

    def __init__(
        self,
        now_us: int,
        capacity: Capacity,
        promises: Iterable[Promise] = (),
        endings: Callable[[str], Iterable[Ending]] = lambda _node_id: (),
    ) -> None:
        self.now_us, self.capacity = now_us, capacity
        self._endings = endings
        self._promises: list[Promise] = []
        self._firm: list[int] = []  # moments at which promises begin, ascending
        self._soft: list[int] = []
        self._on: dict[str, list[tuple[Ending, Counter[Cell]]]] = {}  # by node: who is there, and what it gives back
        self._by_cell: dict[Cell, list[Promise]] = {}
        self._layers: dict[tuple[int, int], _Layer] = {}
        for promise in promises:
            self.promise(promise)

    @property
    def promises(self) -> tuple[Promise, ...]:
        return tuple(self._promises)

    def promise(self, promise: Promise) -> None:
        """Keep a place from now on. Earlier decisions stand."""
        self._promises.append(promise)
        for cell in promise.amounts:
            self._by_cell.setdefault(cell, []).append(promise)
        moments = self._firm if promise.firm else self._soft
        if promise.from_us not in moments:
            insort(moments, promise.from_us)
        for layer in self._layers.values():
            self.refresh(layer, promise.amounts)

    def withdraw(self, owner: str) -> None:
        """Keep nothing for this owner any more."""
        kept = [one for one in self._promises if one.owner != owner]
        self._promises, self._firm, self._soft = [], [], []
        self._by_cell.clear()
        self._layers.clear()
        for one in kept:
            self.promise(one)

    def without(self, owner: str) -> Outlook:
        """Another outlook, as if nothing were kept for this owner."""
        return Outlook(self.now_us, self.capacity, (one for one in self._promises if one.owner != owner), self._endings)

    def moments(self) -> tuple[int, ...]:
        """When promises begin that are still to come, ascending."""
        return tuple(sorted({one.from_us for one in self._promises if one.from_us > self.now_us}))

    def room(self, sure_us: int, likely_us: int) -> Capacity:
        """What a job may take that has ended by `sure_us` for certain and by `likely_us` in all likelihood.

        A capacity to look at and to fit on; not to be altered.
        """
        return self._layer(sure_us, likely_us).capacity if self._promises else self.capacity

    def ground(self, sure_us: int, likely_us: int) -> Ground:
        """The same room, to try who may make way."""
        layer = self._layer(sure_us, likely_us)
        return Ground(layer.capacity, self, layer)

    def _layer(self, sure_us: int, likely_us: int) -> _Layer:
        key = self.key(sure_us, likely_us)
        if key == (0, 0):
            return _Layer(self.capacity)
        layer = self._layers.get(key)
        if layer is None:
            layer = self._layers[key] = _Layer(self.capacity.scratch(), key)
            self.refresh(layer, self._by_cell)
        return layer

    def key(self, sure_us: int, likely_us: int) -> tuple[int, int]:
        """The last beginnings of promises that a horizon minds; equal for those who have the same room.

        Beyond the last of all it is `NEVER_US`, so that such a room minds what is promised later, too.
        """
        return _last(self._firm, sure_us), _last(self._soft, likely_us)

    def take(self, slices: tuple[Slice, ...], begun: Ending, owner: str = "") -> None:
        """A job starts there now. Its own promise (`owner`) shrinks by as much; the base is the caller's to alter."""
        if not self._promises:
            return
        if owner:
            held = cells(slices)
            for promise in self._promises:
                if promise.owner == owner:
                    for cell in held.keys() & promise.amounts.keys():  # each by itself: the order does not matter
                        promise.amounts[cell] = max(promise.amounts[cell] - held[cell], 0)
        minded = [part for part in slices if part.node_id in self._on]
        for part in minded:
            self._on[part.node_id].append((begun, cells((part,))))
        changed = cells(slices if owner else minded)
        for layer in self._layers.values():
            layer.capacity.hold(slices)
            if changed:
                self.refresh(layer, changed)

    def refresh(self, layer: _Layer, changed: Iterable[Cell]) -> None:
        """Bring what a layer holds back for promises up to date, on these cells."""
        more: Counter[Cell] = Counter()
        less: Counter[Cell] = Counter()
        for cell in changed:
            there = self._by_cell.get(cell, ())
            blocked = max((self._blocked(cell, one.from_us, layer.out) for one in there if layer.minds(one)), default=0)
            by = blocked - layer.applied[cell]
            if by > 0:
                more[cell] = by
            elif by < 0:
                less[cell] = -by
            layer.applied[cell] = blocked
        if more:
            layer.capacity.hold(slices_of(more))
        if less:
            layer.capacity.release(slices_of(less))

    def _blocked(self, cell: Cell, moment_us: int, out: Mapping[str, None]) -> int:
        """How much of what is free now must stay free for promises that are in force at a moment."""
        there = [one for one in self._by_cell[cell] if one.at(moment_us) and one.amounts[cell]]
        need = sum(one.amounts[cell] for one in there)
        if not need or moment_us <= self.now_us:
            return need
        firm = [one for one in there if one.firm]
        back = 0
        for one, held in self._of_node(cell[0]):
            if not held[cell] or one.job_id in out:
                continue
            gone = (one.sure_us if firm else one.likely_us) <= moment_us
            if gone or (firm and (self._evicted(held, firm) or all(one.yields(promise) for promise in firm))):
                back += held[cell]
        return max(need - back, 0)

    @staticmethod
    def _evicted(held: Mapping[Cell, int], firm: list[Promise]) -> bool:
        """Whether what is held lies on a device of a firm promise: then it is stopped in time, whatever it says."""
        return any(
            amount and cell[1] not in NODE_CELLS and any(one.amounts[cell] for one in firm)
            for cell, amount in held.items()
        )

    def _of_node(self, node_id: str) -> list[tuple[Ending, Counter[Cell]]]:
        found = self._on.get(node_id)
        if found is None:
            found = [
                (one, cells(part for part in one.slices if part.node_id == node_id)) for one in self._endings(node_id)
            ]
            self._on[node_id] = found
        return found


def _last(moments: list[int], before_us: int) -> int:
    """The last of the moments before another one: 0 for none of them, `NEVER_US` for all."""
    place = bisect_left(moments, before_us)
    return NEVER_US if place == len(moments) else moments[place - 1] if place else 0


def shadow(outlook: Outlook, want: Want, job_id: str, lasts_us: int, endings: Iterable[Ending]) -> Shadow | None:
    """The place that a waiting job is expected to get: found by giving back what runs, in order of expected end.

    `lasts_us` is how long the job would run, `endings` all that runs, in order of likely end. None when it does not
    fit even then, within the first `SEARCH_LIMIT` ends. The moment is the earliest that the
    estimates allow: were it later, others could take the place until then, and each search would push it further away.
    """
    now_us = outlook.now_us
    minded = [one for one in outlook.promises if one.from_us < now_us + lasts_us + FAR_US]
    trial = outlook.capacity.scratch()
    trial.hold(slices_of(sum((one.amounts for one in minded), Counter())))
    back = [Ending(one.to_us, one.to_us, slices_of(one.amounts), one.owner) for one in minded if one.to_us < NEVER_US]
    order = islice(merge(endings, sorted(back, key=by_end), key=by_end), SEARCH_LIMIT)
    kept = {one.owner for one in minded}  # only asked
    step, guessed = FIRST_STEP, False
    while some := list(islice(order, step)):
        step *= 2
        for one in some:
            trial.release(one.slices)
        found = fit(trial, want)
        if found is not None:
            some, found = _fewest(trial, want, some, found)
        guessed = guessed or any(one.source == "guess" for one in some)
        if found is None:
            continue
        start_us = max(some[-1].likely_us, now_us + 1)
        if any(one.from_us < start_us + lasts_us for one in outlook.promises if one not in minded):
            return None
        known = "kept" if some[-1].job_id in kept else "estimates"
        return Shadow(job_id, start_us, found, now_us, "guess" if guessed else known)
    return None


def _fewest(
    trial: Capacity, want: Want, some: list[Ending], found: tuple[Slice, ...]
) -> tuple[list[Ending], tuple[Slice, ...]]:
    """Which of the ends, from the first, must have come before a want fits, and where it does.

    `trial` has been given all of them back, and has room at `found`; it is used up.
    """
    short, enough, given = 0, len(some), len(some)
    while enough - short > 1:
        middle = (short + enough) // 2
        for one in some[middle:given]:
            trial.hold(one.slices)
        for one in some[given:middle]:
            trial.release(one.slices)
        given, place = middle, fit(trial, want)
        if place is None:
            short = middle
        else:
            enough, found = middle, place
    return some[:enough], found
