"""Series stay small, in order and truthful, however much is added and however often it is told."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from headframe.metrics.names import LONGEST_NAME, figures_in, name_in, step_in
from headframe.metrics.records import Chunk, Point, Series
from headframe.metrics.thin import CHUNK, KEEP, LEVELS, MOST, Row, Track, add, fold, rows_of, sparse

SERIES = Series("job_1 00000", "job_1", "loss", "", True, 0)


class Kept:
    """What a store would hold of one series."""

    def __init__(self) -> None:
        self.chunks: dict[str, Chunk] = {}
        self.track = Track.of(SERIES, ())

    def add(self, values: list[float | None], begin: int) -> None:
        points = [Point("job_1", "loss", "", begin + place, value, begin + place) for place, value in enumerate(values)]
        written, gone = add(self.track, points, self.chunks.get)
        self.chunks |= {chunk.id: chunk for chunk in written}
        for name in gone:
            self.chunks.pop(name, None)

    def rows(self) -> list[Row]:
        ordered = sorted(self.chunks.values(), key=lambda chunk: chunk.at_us[0])
        return [row for chunk in ordered for row in rows_of(chunk)]

    def again(self) -> None:
        """As after a restart: known from what is kept alone."""
        self.track = Track.of(SERIES, tuple(self.chunks.values()))


@given(st.lists(st.integers(1, 700), min_size=1, max_size=12), st.booleans())
def test_nothing_is_lost_that_was_lowest_or_highest(sizes: list[int], restarts: bool):
    kept, begin = Kept(), 1
    for size in sizes:
        kept.add([float(begin + place) for place in range(size)], begin)
        begin += size
        if restarts:
            kept.again()
    rows = kept.rows()
    assert [row.at_us for row in rows] == sorted({row.at_us for row in rows})
    assert (min(row.low for row in rows), max(row.high for row in rows)) == (1.0, begin - 1.0)
    assert sum(row.count for row in rows) == begin - 1, "each point is part of one row"
    assert all(row.low <= row.mean <= row.high for row in rows)
    newest = rows[-min(len(rows), CHUNK * (KEEP - 1)) :]
    assert all(row.count == 1 and row.step == row.at_us for row in newest), "what is new is kept as it came"


def test_a_series_without_end_is_bounded():
    kept, begin = Kept(), 1
    for _ in range(24):
        kept.add([1.0] * 4000, begin)
        begin += 4000
    assert len(kept.rows()) <= MOST
    assert len(kept.chunks) <= (KEEP + 1) * LEVELS
    assert max(chunk.level for chunk in kept.chunks.values()) >= 6


def test_what_is_told_twice_is_kept_once():
    kept = Kept()
    kept.add([1.0, 2.0, 3.0], 1)
    kept.add([1.0, 2.0, 3.0, 4.0], 1)
    kept.again()
    kept.add([3.0], 3)
    assert [row.mean for row in kept.rows()] == [1.0, 2.0, 3.0, 4.0]


def test_what_is_no_number_stays_a_gap_and_spoils_no_mean():
    rows = [Row(1, 1.0, 1.0, 1.0, 1, None), Row(2, None, None, None, 1, None), Row(3, 3.0, 3.0, 3.0, 1, 7)]
    assert fold(rows) == Row(3, 2.0, 1.0, 3.0, 2, 7)
    assert fold([rows[1]]).mean is None


@given(st.lists(st.one_of(st.none(), st.floats(-1e300, 1e300)), min_size=1, max_size=300), st.integers(1, 50))
def test_a_thinned_answer_lies_within_what_was_told(values: list[float | None], most: int):
    rows = [Row(place, value, value, value, 1, None) for place, value in enumerate(values)]
    thinned = sparse(rows, most)
    assert len(thinned) <= most
    assert thinned[-1].at_us == len(values) - 1
    told = [value for value in values if value is not None]
    assert max((row.high for row in thinned if row.high is not None), default=None) == max(told, default=None)
    assert all(row.mean is None or row.low <= row.mean <= row.high for row in thinned)


def test_names_and_values_of_jobs_are_judged():
    row = {
        "loss": 0.5,
        "step": 3,
        "at": 1.0,
        "nan": math.nan,
        "huge": 10**400,
        "text": "x",
        "yes": True,
        "": 1,
        "a\nb": 2,
    }
    assert figures_in(row) == [("loss", 0.5), ("nan", None), ("huge", None)]
    assert name_in("<script>") == "<script>", "hostile names are told as they are; pages escape them"
    assert name_in("x" * (LONGEST_NAME + 1)) is None
    assert [step_in(value) for value in (3, 3.0, 3.5, True, "3", 1 << 60)] == [3, 3, None, None, None, None]
