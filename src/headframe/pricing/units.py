"""Units of prices: how much of a meter's own quantity one of them is.

What is held is metered in thousandths (gpu, cpu) or MiB (memory, disk), times microseconds; levels told by events, such
as what is stored, in their own unit (MiB) times seconds; other events as they are counted. A month, where a price is
per month of holding, has 730 hours, as usual in the field.
"""

from __future__ import annotations

from headframe.base.errors import Invalid
from headframe.base.quantities import HOUR_US, SECOND_US

UNITS: dict[str, int] = {
    "gpu-hour": 1000 * HOUR_US,
    "core-hour": 1000 * HOUR_US,
    "GiB-hour": 1024 * HOUR_US,
    "GiB-month": 1024 * HOUR_US * 730,
    "kWh": 1,
    "one": 1,
    "thousand": 1000,
    "million": 1_000_000,
    "level-hour": 3600,
    "level-month": 3600 * 730,
}
ELECTRICITY = "electricity"  # the meter whose price is that of a site's electricity, for the shape "power"
HELD = ("cpu", "memory", "disk")


def is_held(meter: str) -> bool:
    """Whether the meter is of what an allocation holds, so that its quantity is a level times microseconds."""
    return meter in HELD or meter.startswith("gpu:")


def default_unit(meter: str) -> str:
    """The unit in which a meter is priced unless told otherwise."""
    if meter.startswith("gpu:"):
        return "gpu-hour"
    if meter.startswith("storage:"):
        return "GiB-month"
    if meter.startswith("tokens:"):
        return "million"
    return {"cpu": "core-hour", "memory": "GiB-hour", "disk": "GiB-hour", ELECTRICITY: "kWh"}.get(meter, "one")


def size_of(meter: str, unit: str = "") -> int:
    """How much of the meter's quantity one unit is; raises `Invalid` for a unit that does not fit the meter."""
    usual = default_unit(meter)
    unit = unit or usual
    size = UNITS.get(unit)
    if size is not None and meter.startswith("storage:"):
        size //= SECOND_US
    fitting = [name for name in UNITS if _family(name) == _family(usual)]
    if size is None or unit not in fitting:
        raise Invalid(
            f"unit is {unit!r}, in which {meter} cannot be priced.",
            field="unit", value=unit, allowed=", ".join(fitting),
        )  # fmt: skip
    return size


def _family(unit: str) -> str:
    head, _, tail = unit.partition("-")
    return head if tail and head != "level" else "kWh" if unit == "kWh" else "count"
