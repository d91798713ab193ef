"""What was measured: taken in as it comes, written soon after, read in stretches as fine as asked for.

Nothing here decides anything, so it goes past the loop: `take` from any thread, written by a thread of the driver's.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headframe.base.errors import StoreFailed
from headframe.control.ports import Store
from headframe.jobs.records import Job
from headframe.metrics.names import MOST_REPORTED
from headframe.metrics.records import Chunk, Measured, Point, Series
from headframe.metrics.thin import Row, Track, add, outline, rows_of, sparse

WAITING_LIMIT = 200_000  # points that wait to be written; the oldest go first when the store is away
BATCH = 5_000  # points that are written at once, so that others have their turn at the store
SUBJECTS_LIMIT = 5_000  # subjects whose newest chunks stay in memory
POINTS = 500  # of one series in one answer, unless asked otherwise
MOST_POINTS = 5_000
MOST_CHUNKS = 20_000
SERIES_PAGE = 200  # that are looked through at once for what is old
_GAUGES = {
    "gpu_busy_milli": ("use_percent", 10), "gpu_memory_mib": ("memory_mib", 1), "power_mw": ("power_w", 1000),
    "temperature_c": ("temperature_c", 1), "memory_errors": ("errors", 1),
}  # fmt: skip
Wake = Callable[[frozenset[str]], None]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A series from one moment to another, thinned to what was asked for."""

    series: Series
    rows: list[Row]


class Metrics:
    """All series of one cloud. Every call may come from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.tell: Callable[..., None] = lambda accelerator_id, at_us, **gauges: None  # the newest of each device
        self._waiting: deque[Point] = deque(maxlen=WAITING_LIMIT)
        self._tracks: dict[str, dict[tuple[str, str], Track]] = {}  # by subject; by name and part
        self._writing = threading.Lock()
        self._listeners: dict[int, Wake] = {}
        self.turn = threading.Lock()  # for what is read and then written: runs
        self.tokens: dict[str, str] = {}  # of jobs, which have been looked at: the job
        self._reported_us: dict[tuple[str, str, str], int] = {}
        self.newest: dict[str, dict[str, float]] = {}  # of nodes: what was last measured, by name
        self.told = 0  # points, since the server started
        self.refused = 0  # of those, beyond what one job may report

    def take(self, measured: Measured) -> None:
        """Take in what was measured; `write` puts it on record."""
        self._waiting.extend(measured.points)
        self.told += len(measured.points)
        for point in measured.points:
            if point.subject.startswith("nod_") and point.value is not None:
                self.newest.setdefault(point.subject, {})[point.name] = point.value
        gauges: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
        for point in measured.points:
            if point.subject.startswith("acc_") and point.name in _GAUGES and point.value is not None:
                name, part = _GAUGES[point.name]
                gauges[point.subject, point.at_us][name] = round(point.value / part)
        for (accelerator_id, at_us), told in gauges.items():
            self.tell(accelerator_id, at_us, **told)

    def report(self, points: Sequence[Point]) -> None:
        """Take in what a job reports by calls, of which several may be of one moment: they keep their order."""
        kept = []
        for point in points:
            key = point.subject, point.name, point.part
            at_us = max(point.at_us, self._reported_us.pop(key, 0) + 1)
            self._reported_us[key] = at_us
            kept.append(replace(point, at_us=at_us))
        while len(self._reported_us) > SUBJECTS_LIMIT:
            del self._reported_us[next(iter(self._reported_us))]
        self.take(Measured(tuple(kept)))

    @property
    def waiting(self) -> int:
        """How many points are not on record yet."""
        return len(self._waiting)

    def put(self, rows: Sequence[Any]) -> None:
        """Keep what jobs tell besides: experiments and runs."""
        self._store.put(rows)

    def write(self) -> int:
        """Put on record what waits; how many points that were. Raises `StoreFailed`, and keeps them then."""
        whole = 0
        while self._waiting:
            with self._writing:
                points = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                try:
                    subjects = self._write(points)
                except StoreFailed:
                    self._tracks.clear()
                    self._waiting.extendleft(reversed(points[-(WAITING_LIMIT - len(self._waiting)) :]))
                    raise
            whole += len(points)
            for wake in list(self._listeners.values()):
                wake(subjects)
        return whole

    def _write(self, points: Sequence[Point]) -> frozenset[str]:
        groups: dict[tuple[str, str, str], list[Point]] = defaultdict(list)
        for point in points:
            groups[point.subject, point.name, point.part].append(point)
        rows: list[Any] = []
        removed: list[tuple[type[Any], str]] = []
        for (subject, name, part), told in groups.items():
            known = self._known(subject)
            track = known.get((name, part))
            if track is None:
                if told[0].reported and sum(one.series.reported for one in known.values()) >= MOST_REPORTED:
                    self.refused += len(told)
                    continue
                made = Series(f"{subject} {len(known):05}", subject, name, part, told[0].reported, told[0].at_us)
                track = known[name, part] = Track.of(made, ())
                rows.append(made)
            chunks, gone = add(track, told, self._chunk)
            rows += chunks
            removed += [(Chunk, name) for name in gone]
        self._store.put(rows, removed)
        return frozenset(subject for subject, _name, _part in groups)

    def _known(self, subject: str) -> dict[tuple[str, str], Track]:
        """The series of a subject that is written to."""
        known = self._tracks.pop(subject, None)
        if known is None:
            chunks: dict[str, list[Chunk]] = defaultdict(list)
            for chunk in self._store.find(Chunk, subject=subject, limit=MOST_CHUNKS):
                chunks[chunk.series_id].append(chunk)
            found = self._store.find(Series, subject=subject, limit=MOST_CHUNKS)
            known = {(one.name, one.part): Track.of(one, chunks[one.id]) for one in found}
            while len(self._tracks) >= SUBJECTS_LIMIT:
                del self._tracks[next(iter(self._tracks))]
        self._tracks[subject] = known  # the newest last: what is long not told of leaves first
        return known

    def _chunk(self, name: str) -> Chunk | None:
        found: Chunk | None = self._store.get(Chunk, name)
        return found

    def prune(self, now_us: int, full_us: int, outline_us: int) -> Iterator[int]:
        """Thin what was measured of jobs that ended `full_us` ago, and remove it `outline_us` after their end; after
        each page of series, how many chunks are gone."""
        after: str | None = None
        while page := self._store.find(Series, after=after, limit=SERIES_PAGE, from_us__lt=now_us - full_us):
            after = page[-1].id
            gone = 0
            for subject in dict.fromkeys(one.subject for one in page):
                job: Job | None = self._store.get(Job, subject)
                if job is not None and job.ended_us is not None and now_us - job.ended_us >= full_us:
                    gone += self._outline(subject, now_us - job.ended_us >= outline_us)
            yield gone

    def _outline(self, subject: str, remove: bool) -> int:
        """Leave one chunk of each series of a subject that is told of no more, or none."""
        counts = self._store.tally(Chunk, ("series_id",), subject=subject)
        many = [one["series_id"] for one in counts if one["count"] > 1]
        if not many and not remove:
            return 0
        chunks: dict[str, list[Chunk]] = defaultdict(list)
        for chunk in self._store.find(Chunk, subject=subject, limit=MOST_CHUNKS):
            chunks[chunk.series_id].append(chunk)
        rows = [] if remove else [outline(chunks[series_id]) for series_id in many]
        stays = {one.id for one in rows}
        gone: list[tuple[type[Any], str]] = [
            (Chunk, one.id)
            for series_id, each in chunks.items()
            for one in each
            if (remove or series_id in many) and one.id not in stays
        ]
        if remove:
            gone += [(Series, one.id) for one in self._store.find(Series, subject=subject, limit=MOST_CHUNKS)]
        with self._writing:
            self._tracks.pop(subject, None)
            self._store.put(rows, gone)
        return len(gone)

    def read(
        self, subjects: Iterable[str], *, from_us: int = 0, to_us: int = 1 << 62, points: int = POINTS
    ) -> list[Stretch]:
        """The series of some subjects between two moments, each of at most `points` points; by subject, name, part."""
        found: list[Stretch] = []
        for subject in sorted(subjects):
            chunks: dict[str, list[Chunk]] = defaultdict(list)
            for chunk in self._store.find(Chunk, subject=subject, limit=MOST_CHUNKS):
                if chunk.at_us[-1] >= from_us and chunk.at_us[0] <= to_us:
                    chunks[chunk.series_id].append(chunk)
            for series in self._store.find(Series, subject=subject, limit=MOST_CHUNKS):
                rows = [row for one in sorted(chunks[series.id], key=_begin) for row in rows_of(one)]
                inside = [row for row in rows if from_us <= row.at_us <= to_us]
                if inside:
                    found.append(Stretch(series, sparse(inside, points)))
        found.sort(key=lambda one: (one.series.subject, one.series.reported, one.series.name, one.series.part))
        return found

    def newest_points(self, subjects: Iterable[str], span_us: int) -> tuple[int, list[Stretch]]:
        """What was put on record last, from memory: each series over the span up to its newest point, as far as its
        newest chunk reaches. With the moment from which on nothing is left out."""
        found, from_us = list[Stretch](), 0
        for subject in sorted(subjects):
            for track in list(self._tracks.get(subject, {}).values()):
                if track.head is None:
                    continue
                begin_us = track.last_us - span_us
                rows = [row for row in rows_of(track.head) if row.at_us >= begin_us]
                cut = rows[0].at_us == track.head.at_us[0] and track.next > 1
                from_us = max(from_us, rows[0].at_us if cut else begin_us)
                found.append(Stretch(track.series, rows))
        return from_us, found

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        """Call `wake` with the subjects of which something was put on record; returns the call that ends it."""
        token = id(wake)
        self._listeners[token] = wake
        return lambda: self._listeners.pop(token, None) and None


def _begin(chunk: Chunk) -> int:
    return chunk.at_us[0]
