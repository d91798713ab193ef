"""How a series stays small: what is new is kept as it came, what is older ever more coarsely.

Points lie in chunks of `CHUNK`. Each level keeps `KEEP` full ones; of one more the two oldest become one of the next
level, each of whose points stands for two. So a series holds its newest 512 points as they came, before them 512 that
stand for two each, then for four, and so on; what falls off the last level is gone. At a point every two seconds that
is a quarter of an hour as it came, a day to two minutes, and more than a month in all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from headframe.metrics.records import Chunk, Point, Series

CHUNK = 128
KEEP = 4
LEVELS = 12
MOST = (KEEP + 1) * CHUNK * LEVELS


@dataclass(slots=True)
class Track:
    """A series that is being written: its newest chunk, and the numbers of the full ones at each level, in order."""

    series: Series
    head: Chunk | None
    full: list[list[int]]
    next: int = 0  # the number of the next chunk, of whatever level

    @classmethod
    def of(cls, series: Series, chunks: Sequence[Chunk]) -> Track:
        """A series as its chunks tell it."""
        made = cls(series, None, [[] for _ in range(LEVELS)])
        for chunk in sorted(chunks, key=lambda one: one.number):
            made.next = max(made.next, chunk.number + 1)
            if chunk.level == 0 and len(chunk.at_us) < CHUNK:
                made.head = chunk
            else:
                made.full[chunk.level].append(chunk.number)
        last = max((chunk for chunk in chunks if chunk.level == 0), key=lambda one: one.number, default=None)
        if made.head is None and last is not None:
            made.head = last  # full: only what comes next tells that it is over
            made.full[0].remove(last.number)
        return made

    @property
    def last_us(self) -> int:
        """The moment of the newest point; 0 when there is none."""
        return self.head.at_us[-1] if self.head is not None else 0


def outline(chunks: Sequence[Chunk]) -> Chunk:
    """A series that nobody adds to, in one chunk."""
    ordered = sorted(chunks, key=lambda one: one.at_us[0])
    rows = sparse([row for chunk in ordered for row in rows_of(chunk)], CHUNK)
    like = replace(ordered[0], level=LEVELS - 1, number=max(one.number for one in ordered))
    return _chunk_of(rows, _name_of(like.series_id, like.level, like.number), like)


Lookup = Callable[[str], Chunk | None]


def add(track: Track, points: Sequence[Point], find: Lookup) -> tuple[list[Chunk], list[str]]:
    """Add points to a series: the chunks to write, and the ids of those that are gone.

    Points that are not newer than the newest one are passed over: they have been told before.
    """
    written: dict[str, Chunk] = {}
    gone: list[str] = []

    def known(number: int, level: int) -> Chunk | None:
        name = _name(track.series, level, number)
        return written.get(name) or find(name)

    for point in points:
        if point.at_us <= track.last_us:
            continue
        if track.head is None or len(track.head.at_us) >= CHUNK:
            if track.head is not None:
                track.full[0].append(track.head.number)
                _settle(track, known, written, gone)
            track.head = Chunk(
                _name(track.series, 0, track.next), track.series.id, track.series.subject, 0, track.next, (), ()
            )
            track.next += 1
        track.head = _with(track.head, point)
        written[track.head.id] = track.head
    return [chunk for name, chunk in written.items() if name not in set(gone)], gone


def _name(series: Series, level: int, number: int) -> str:
    return _name_of(series.id, level, number)


def _name_of(series_id: str, level: int, number: int) -> str:
    return f"{series_id} {level:02} {number:08}"


def _with(chunk: Chunk, point: Point) -> Chunk:
    steps = chunk.steps
    if point.step is not None or steps:
        steps = (*(steps or (None,) * len(chunk.at_us)), point.step)
    return replace(chunk, at_us=(*chunk.at_us, point.at_us), means=(*chunk.means, point.value), steps=steps)


def _settle(
    track: Track, known: Callable[[int, int], Chunk | None], written: dict[str, Chunk], gone: list[str]
) -> None:
    """Where a level holds too many chunks, make one of its two oldest."""
    for level in range(LEVELS):
        while len(track.full[level]) > KEEP:
            first, second = track.full[level][:2]
            gone += [_name(track.series, level, first), _name(track.series, level, second)]
            del track.full[level][:2]
            chunks = [chunk for number in (first, second) if (chunk := known(number, level)) is not None]
            if level + 1 == LEVELS or not chunks:
                continue
            merged = merge(chunks, _name(track.series, level + 1, second), level + 1, second)
            written[merged.id] = merged
            track.full[level + 1].append(second)


def merge(chunks: Sequence[Chunk], name: str, level: int, number: int) -> Chunk:
    """One chunk of half as many points."""
    rows = [row for chunk in chunks for row in rows_of(chunk)]
    pairs = [fold(rows[place : place + 2]) for place in range(0, len(rows), 2)]
    return _chunk_of(pairs, name, replace(chunks[0], level=level, number=number))


def _chunk_of(rows: Sequence[Row], name: str, like: Chunk) -> Chunk:
    """Points as a chunk with the level and number of another."""
    steps = tuple(row.step for row in rows)
    return Chunk(
        name, like.series_id, like.subject, like.level, like.number, tuple(row.at_us for row in rows),
        tuple(row.mean for row in rows), tuple(row.low for row in rows), tuple(row.high for row in rows),
        tuple(row.count for row in rows), steps if any(step is not None for step in steps) else (),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A point as it is read: what it stands for lies between `low` and `high`."""

    at_us: int
    mean: float | None
    low: float | None
    high: float | None
    count: int
    step: int | None


def rows_of(chunk: Chunk) -> list[Row]:
    """The points of a chunk."""
    size = len(chunk.at_us)
    lows, highs = chunk.lows or chunk.means, chunk.highs or chunk.means
    counts, steps = chunk.counts or (1,) * size, chunk.steps or (None,) * size
    return [Row(*values) for values in zip(chunk.at_us, chunk.means, lows, highs, counts, steps, strict=True)]


def fold(rows: Sequence[Row]) -> Row:
    """Several neighbouring points as one."""
    told = [row for row in rows if row.mean is not None]
    count = sum(row.count for row in told)
    last = rows[-1]
    if not told:
        return Row(last.at_us, None, None, None, sum(row.count for row in rows), last.step)
    mean = sum((row.mean or 0.0) * (row.count / count) for row in told)
    low = min(row.low for row in told if row.low is not None)
    high = max(row.high for row in told if row.high is not None)
    return Row(last.at_us, min(max(mean, low), high), low, high, count, last.step)


def sparse(rows: Sequence[Row], most: int) -> list[Row]:
    """At most `most` points, each of as many neighbours."""
    if len(rows) <= most:
        return list(rows)
    width = -(-len(rows) // most)
    return [fold(rows[place : place + width]) for place in range(0, len(rows), width)]
