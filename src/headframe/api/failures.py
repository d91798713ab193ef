"""How often wrong keys may come from one address: so many at once, then so many a minute.

A live key is let in whatever others at the same address (a proxy, an office) do: it has 256 bits, so the limit is not
what keeps it from being guessed. It keeps those who try from costing more than a look into one table.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address, ip_network

from headframe.base.errors import TooManyFailures
from headframe.base.quantities import SECOND_US

EACH_US = 2 * SECOND_US  # after so long one more is allowed
MOST_ADDRESSES = 10_000  # remembered; the one that was heard of longest ago is forgotten first


class Failures:
    """Counts by address; `at_once` may come without a pause. Used by the event loop's thread only."""

    def __init__(self, at_once: int) -> None:
        self._most_us = (at_once - 1) * EACH_US
        # When all that an address has used up will have come back.
        self._full_us: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_us)

    def count(self, address: str, now_us: int) -> None:
        """Another request with a wrong key or none; raises `TooManyFailures` when it is one too many."""
        source = _source(address)
        full_us = max(self._full_us.pop(source, 0), now_us)
        too_many = full_us - now_us > self._most_us
        self._full_us[source] = full_us if too_many else full_us + EACH_US
        while len(self._full_us) > MOST_ADDRESSES:
            self._full_us.popitem(last=False)
        if too_many:
            wait_s = -(-(full_us - now_us - self._most_us) // SECOND_US)
            raise TooManyFailures(
                "Too many requests with wrong keys came from this address.",
                next_step=f"Check the key, and try again in {wait_s} s.",
                details={"retry_after_s": wait_s},
            )


def _source(address: str) -> str:
    """Whoever has an IPv6 address has 2^64 of them: they count as one."""
    try:
        found = ip_address(address)
    except ValueError:
        return ""
    return str(ip_network((found, 64), strict=False)) if isinstance(found, IPv6Address) else str(found)
