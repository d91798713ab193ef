"""The shape "hourly": so much per unit and hour, charged per microsecond of running time, with a least running time."""

from __future__ import annotations

from headframe.base.money import divide_half_even
from headframe.base.quantities import HOUR_US
from headframe.pricing.book import unit_of
from headframe.pricing.records import Price


def amount_nano(price: Price, meter: str, quantity: int) -> int:
    """What `quantity` (thousandths or MiB, times microseconds) costs: exact, then rounded once, half to even."""
    return divide_half_even(quantity * price.unit_nano, unit_of(meter) * HOUR_US)


def minimum_us(price: Price, ran_us: int) -> int:
    """How much running time is charged on top when an allocation ends after `ran_us` of it."""
    return max(0, price.minimum_us - ran_us) if ran_us > 0 else 0
