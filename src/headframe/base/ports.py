"""How time, chance and identity are handed in, so that the same code runs on a machine and in the simulator."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Tells the time. Never goes back: an implementation holds still when the machine's clock is set back."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01T00:00:00Z."""
        ...


class Rng(Protocol):
    """A source of chance; seeded in the simulator."""

    def below(self, limit: int) -> int:
        """A whole number from 0 to `limit` - 1."""
        ...


class Ids(Protocol):
    """Makes identities that sort by the moment they were made."""

    def new(self, prefix: str) -> str:
        """A new identity such as `job_0cz3k5x8v1m2n4pq`; `prefix` names the kind."""
        ...

    def secret(self) -> str:
        """An unguessable text of at least 192 bits, for keys."""
        ...
