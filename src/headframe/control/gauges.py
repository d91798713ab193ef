"""The newest measure of each accelerator, kept in memory only: what a map of the fleet is coloured by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

METERS = ("use_percent", "memory_mib", "power_w", "temperature_c", "errors")
FRESH_US = 15_000_000  # what is older tells nothing of now
UNKNOWN = -1
_FIRST = 64


@dataclass(frozen=True, slots=True)
class Gauge:
    """What was measured of one accelerator at `at_us`; None is what nobody measured. `errors` are those of its memory
    that could not be mended, since the machine started."""

    at_us: int
    use_percent: int | None = None
    memory_mib: int | None = None
    power_w: int | None = None
    temperature_c: int | None = None
    errors: int | None = None


class Gauges:
    """Columns of measures, a row an accelerator. `tell` and the questions may be called from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._row: dict[str, int] = {}
        self._at_us = np.zeros(_FIRST, np.int64)
        self._columns = {meter: np.full(_FIRST, UNKNOWN, np.int64) for meter in METERS}
        # (subjects, span) -> what was measured of them in the span up to now; `Metrics.newest_points` in a server.
        self.newest_points: Callable[[Iterable[str], int], tuple[int, list[Any]]] = lambda subjects, span_us: (0, [])

    def tell(
        self,
        accelerator_id: str,
        at_us: int,
        *,
        use_percent: int | None = None,
        memory_mib: int | None = None,
        power_w: int | None = None,
        temperature_c: int | None = None,
        errors: int | None = None,
    ) -> None:
        """Take in a measure; an older one than is known is passed over."""
        told = (use_percent, memory_mib, power_w, temperature_c, errors)
        with self._lock:
            row = self._row.setdefault(accelerator_id, len(self._row))
            if row == len(self._at_us):
                self._grow()
            if at_us < self._at_us[row]:
                return
            self._at_us[row] = at_us
            for meter, value in zip(METERS, told, strict=True):
                self._columns[meter][row] = UNKNOWN if value is None else max(value, 0)

    def newest(self, accelerator_id: str) -> Gauge | None:
        """The last measure of an accelerator, however old; None when there never was one."""
        with self._lock:
            row = self._row.get(accelerator_id)
            if row is None:
                return None
            values = (int(self._columns[meter][row]) for meter in METERS)
            return Gauge(int(self._at_us[row]), *(None if value == UNKNOWN else value for value in values))

    def rows(self, accelerator_ids: Iterable[str]) -> NDArray[np.int64]:
        """Where these accelerators are, for `column`; UNKNOWN for those of which nothing was ever told."""
        with self._lock:
            return np.array([self._row.get(one, UNKNOWN) for one in accelerator_ids], np.int64)

    def column(self, meter: str, rows: NDArray[np.int64], now_us: int) -> NDArray[np.int64]:
        """The newest values of a meter at these rows; UNKNOWN where there is none, or only an old one."""
        with self._lock:
            values = np.where(now_us - self._at_us[rows] <= FRESH_US, self._columns[meter][rows], UNKNOWN)
        return np.where(rows == UNKNOWN, UNKNOWN, values)

    def __len__(self) -> int:
        return len(self._row)

    def any_busy(self) -> bool:
        """Whether any accelerator was last seen at work: those that are pretended never are."""
        with self._lock:
            return bool((self._columns["use_percent"] > 0).any())

    def _grow(self) -> None:
        size = len(self._at_us)
        self._at_us = np.concatenate([self._at_us, np.zeros(size, np.int64)])
        for meter, values in self._columns.items():
            self._columns[meter] = np.concatenate([values, np.full(size, UNKNOWN, np.int64)])
