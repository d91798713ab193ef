"""Time, chance and identities of a simulated world: all made of one seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from headframe.base.quantities import DAY_US, MINUTE_US

T = TypeVar("T")
_MASK = (1 << 64) - 1
# A simulated world begins here: 2030-01-31T23:10:00Z, fifty minutes before a month ends, so that short runs close it.
DAWN_US = 21_945 * DAY_US + (23 * 60 + 10) * MINUTE_US


class VirtualClock:
    """Two times: the true one, which only goes on, and the machine's, which faults set forward and back.

    Engines and arrivals live in true time; everything that a program could read off a machine is machine time.
    """

    def __init__(self, dawn_us: int = DAWN_US) -> None:
        self.true_us = dawn_us
        self.skew_us = 0

    def advance_to(self, true_us: int) -> None:
        assert true_us >= self.true_us, "true time never goes back"
        self.true_us = true_us

    def machine_us(self) -> int:
        """What the machine's clock shows (microseconds since 1970)."""
        return self.true_us + self.skew_us

    def jump(self, by_us: int) -> None:
        """Set the machine's clock forward, or back when negative."""
        self.skew_us += by_us


class SeededRng:
    """Chance from a seed (SplitMix64), the same on every machine and Python. A named fork has a stream of its own,
    so that one part of the world drawing more numbers does not alter what happens in another.
    """

    def __init__(self, seed: int, name: str = "") -> None:
        self._seed, self._name = seed, name
        self._state = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big")

    def fork(self, name: str) -> SeededRng:
        return SeededRng(self._seed, f"{self._name}/{name}")

    def below(self, limit: int) -> int:
        """A whole number from 0 to `limit` - 1."""
        assert limit > 0
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((self._state ^ (self._state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return (mixed ^ (mixed >> 31)) % limit

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def chance(self, per_mille: int) -> bool:
        """True in `per_mille` of a thousand cases."""
        return self.below(1000) < per_mille

    def pick(self, things: Sequence[T]) -> T:
        return things[self.below(len(things))]


class CountedIds:
    """Identities that sort by the order in which they were made."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0

    def new(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}_{self._count:08d}"

    def secret(self) -> str:
        self._count += 1
        return hashlib.sha256(f"{self._seed}/secret/{self._count}".encode()).hexdigest()
