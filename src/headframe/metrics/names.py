"""Names: what machines measure, with its unit; and which names and values a job may report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# What engines measure: the name (its unit stands last), and what it is. Thousandths of a core or of a device,
# MiB, thousandths of a watt, degrees Celsius.
KNOWN: dict[str, str] = {
    "cpu_milli": "processors in use, in thousandths",
    "memory_mib": "memory in use, in MiB",
    "disk_mib": "disk in use, in MiB",
    "gpu_busy_milli": "how busy the accelerator was, in thousandths",
    "gpu_memory_mib": "memory of the accelerator in use, in MiB",
    "power_mw": "power drawn, in thousandths of a watt",
    "temperature_c": "temperature, in degrees Celsius",
    "memory_errors": "memory errors that could not be mended, since the driver was loaded",
}
LONGEST_NAME = 250  # characters
MOST_REPORTED = 200  # series that one job may report
MOST_STEP = 1 << 53
_NOT_VALUES = frozenset({"step", "at", "rank"})


def name_in(text: object) -> str | None:
    """A name that a job gives to a figure; None when it cannot be one."""
    if not isinstance(text, str) or not text or len(text) > LONGEST_NAME or not text.isprintable():
        return None
    return text


def value_in(value: object) -> tuple[bool, float | None]:
    """(whether it is a figure, the figure): a figure that is not finite is None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False, None
    try:
        number = float(value)
    except OverflowError:
        return True, None
    return True, number if math.isfinite(number) else None


def step_in(value: object) -> int | None:
    """The step of a report; None when it has none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MOST_STEP:
        return None
    return value


def figures_in(row: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    """The figures of one line that a job reports, by name, in its order."""
    found = []
    for key, value in row.items():
        name = name_in(key)
        fits, number = value_in(value)
        if name is not None and name not in _NOT_VALUES and fits:
            found.append((name, number))
    return found
