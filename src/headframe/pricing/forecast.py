"""What a month will cost by its end, as far as its days so far can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

from headframe.base.money import divide_half_even

WEEK = 7
# Of a bell curve nine in ten lie above minus 1.2816 deviations, and nine in ten below plus as many.
_BAND_MILLI = 1282


@dataclass(frozen=True, slots=True)
class Forecast:
    """`spent_nano` so far; by the end of the month probably `expected_nano`.

    In eight of ten months like this one it is between `low_nano` and `high_nano`. `days` is how many whole days that is
    taken from: with none of them nothing is known of what is to come, and it is left out.
    """

    spent_nano: int
    expected_nano: int
    low_nano: int
    high_nano: int
    days: int = 0


def forecast(daily_nano: Sequence[int], spent_nano: int, left_us: int, day_us: int, fixed_nano: int = 0) -> Forecast:
    """From whole days before now (oldest first, at most two weeks are used) to the end of the month.

    What is to come is the mean of the last days times the time left; its spread grows with the root of the days left.
    `fixed_nano` is what contracts will ask for besides. With fewer than two days nothing is known of the spread: the
    band then reaches from what is spent to twice what is expected to come.
    """
    days = list(daily_nano)[-2 * WEEK :]
    count = len(days)
    mean = divide_half_even(sum(days), count) if count else 0
    coming = divide_half_even(mean * left_us, day_us)
    sure = spent_nano + fixed_nano
    if count < 2:
        return Forecast(spent_nano, sure + coming, sure, sure + 2 * coming, count)
    variance = sum((day - mean) ** 2 for day in days) // (count - 1)
    # The mean itself is uncertain too: its error goes with the days left, the days' own spread with their root.
    spread = isqrt(variance * left_us // day_us + variance * left_us**2 // (day_us**2 * count))
    band = spread * _BAND_MILLI // 1000
    return Forecast(spent_nano, sure + coming, max(sure, sure + coming - band), sure + coming + band, count)
