"""Wrong keys are slowed down by address, in bounded memory."""

from __future__ import annotations

import pytest

from headframe.api import failures
from headframe.api.failures import EACH_US, Failures
from headframe.base.errors import TooManyFailures

AT_ONCE = 30
NOW = 1_700_000_000_000_000


def refusals(found: Failures, address: str, tries: int, now_us: int = NOW) -> int:
    """How many of so many tries are refused."""
    waits = []
    for _ in range(tries):
        try:
            found.count(address, now_us)
        except TooManyFailures as error:
            waits.append(error.details["retry_after_s"])
    assert set(waits) <= {1, 2}
    return len(waits)


def test_so_many_at_once_and_then_one_after_another() -> None:
    found = Failures(AT_ONCE)
    assert refusals(found, "10.0.0.1", AT_ONCE + 5) == 5
    assert refusals(found, "10.0.0.2", AT_ONCE) == 0, "others have a count of their own"
    assert refusals(found, "10.0.0.1", 2, NOW + EACH_US) == 1
    assert refusals(found, "10.0.0.1", AT_ONCE, NOW + (AT_ONCE + 2) * EACH_US) == 0


def test_refused_tries_do_not_make_the_wait_longer() -> None:
    found = Failures(AT_ONCE)
    refusals(found, "10.0.0.1", AT_ONCE + 1000)
    found.count("10.0.0.1", NOW + EACH_US)


def test_a_whole_ipv6_network_counts_as_one_address() -> None:
    found = Failures(AT_ONCE)
    refusals(found, "2001:db8::1", AT_ONCE)
    assert refusals(found, "2001:db8::2", 1) == 1
    assert refusals(found, "2001:db8:0:1::2", 1) == 0


@pytest.mark.parametrize("address", ["", "unix:", "testclient", "x" * 10_000])
def test_odd_addresses_share_one_count(address: str) -> None:
    found = Failures(AT_ONCE)
    found.count(address, NOW)
    assert len(found) == 1


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MOST_ADDRESSES", 100)
    found = Failures(AT_ONCE)
    for number in range(1000):
        found.count(f"10.0.{number // 256}.{number % 256}", NOW)
    assert len(found) == 100
