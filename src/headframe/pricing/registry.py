"""The price shapes by name. One module per shape; one line here."""

from __future__ import annotations

from typing import Protocol

from headframe.pricing import hourly
from headframe.pricing.records import Price


class Shape(Protocol):
    """What a module of a price shape provides."""

    def amount_nano(self, price: Price, meter: str, quantity: int) -> int: ...

    def minimum_us(self, price: Price, ran_us: int) -> int: ...


SHAPES: dict[str, Shape] = {"hourly": hourly}
