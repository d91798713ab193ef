"""A month rated anew in columns: without other prices it is what was charged; with them, what it would have been."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from money_cloud import USD, Cloud, moment

from headframe.base.changes import Changes
from headframe.base.quantities import HOUR_US, MINUTE_US
from headframe.control.context import Context
from headframe.control.preview import Bill, preview
from headframe.metering.records import UsageRecord
from headframe.pricing.records import Contract, Exchange, Price, Tier
from headframe.store.usage_columns import UsageColumns, read_columns
from headframe.tenants.records import Organization, Role
from headframe.tenants.roles import Caller

BEGIN = moment("2026-11-30T00:00:00Z")
MONTH = "2026-11"
OPERATOR = Caller("org_1", "mem_1", "key_1", Role.OWNER, operator=True)


class Numbered:
    def __init__(self) -> None:
        self.count = 0

    def new(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}_new_{self.count}"


def bills(cloud: Cloud, folder: Path, *prices: dict[str, Any]) -> dict[str, Bill]:
    context = Context(cloud.now_us, Numbered(), cloud.store, None, None, cloud.spending)  # type: ignore[arg-type]
    work = preview(cloud.world, context, OPERATOR, month=MONTH, prices=prices)
    found = work(cloud.store, UsageColumns(cloud.store, folder))
    return {one.organization_id: one for one in found}


def stock(cloud: Cloud) -> None:
    """Prices of every kind, another currency, and a contract that covers a part."""
    tiers = (Tier(2, 9 * USD // 10), Tier(7, 5 * USD // 10 + 1), Tier(None, 3))
    cloud.take(
        Changes(
            (
                Price("gpu", "gpu:H100", 3 * USD + 1, 0), Price("late", "gpu:H100", 2 * USD, BEGIN + 90 * MINUTE_US),
                Price("own", "cpu", 7, 0, organization_id="org_2"),
                Price("memory", "memory", 11, 0, shape="graduated", tiers=tiers, minimum_us=0),
                Price("cpu", "cpu", 5, 0, shape="volume", tiers=tiers, minimum_us=30 * MINUTE_US),
                Exchange("fx_1", "USD", "EUR", 920_000_000_001, 0, "test"),
                Contract(
                    "con_1", "org_1", "", "One", "reserved", USD, BEGIN, BEGIN + 40 * HOUR_US, meter="gpu:H100",
                    quantity=1500, unit="gpu-hour", rated_us=BEGIN,
                ),
            )
        )
    )  # fmt: skip
    second = cloud.world.all(Organization)["org_2"]
    cloud.take(Changes((replace(second, currency="EUR", prepaid=False, version=second.version + 1),)))


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud("2026-11-30T00:00:00Z")
    stock(made)
    yield made
    made.close()


def play(cloud: Cloud, steps: list[tuple[int, str, int, bool]], first: int = 0) -> None:
    """Jobs that begin after one another, and end: (minutes later, organization, thousandths, ends in a fault)."""
    held: list[str] = []
    for number, (minutes, owner, milli, faulted) in enumerate(steps, first):
        cloud.now_us += minutes * MINUTE_US + 1234567
        if held and faulted:
            cloud.release(held.pop(0), faulted=number % 2 == 0)
        held.append(cloud.start(f"{number}", owner, milli))
        cloud.tick()
    for name in held:
        cloud.now_us += 7 * MINUTE_US
        cloud.release(name)
    for hour in range(1, 4):
        cloud.now_us += HOUR_US - cloud.now_us % HOUR_US + hour
        for _ in range(6):
            cloud.tick()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 100), st.sampled_from("12"), st.integers(1, 2000), st.booleans()),
        min_size=1, max_size=7,
    )
)  # fmt: skip
def test_a_month_rated_anew_is_what_was_charged(steps: list[tuple[int, str, int, bool]]) -> None:
    made = Cloud("2026-11-30T00:00:00Z")
    try:
        stock(made)
        play(made, steps)
        with TemporaryDirectory() as folder:
            found = bills(made, Path(folder))
        for one in found.values():
            assert one.rated_nano == one.charged_nano
        assert any(one.charged_nano for one in found.values())
    finally:
        made.close()


def test_other_prices_hold_in_place_of_those_of_the_book(cloud: Cloud, tmp_path: Path) -> None:
    play(cloud, [(0, "2", 2000, False)])
    before = bills(cloud, tmp_path)["org_2"]
    doubled = bills(cloud, tmp_path, {"meter": "gpu:H100", "amount": "6.000000002 USD"})["org_2"]
    gpu = sum(line.amount_nano for line in before.lines if line.meter == "gpu:H100")
    assert doubled.charged_nano == before.charged_nano
    assert abs(doubled.rated_nano - before.rated_nano - gpu) <= 2
    late = bills(cloud, tmp_path, {"meter": "gpu:H100", "amount": "1 USD", "starts": "2026-12-01"})["org_2"]
    assert late.rated_nano == before.rated_nano


def test_columns_are_kept_until_something_is_added(cloud: Cloud, tmp_path: Path) -> None:
    play(cloud, [(0, "2", 1000, False)])
    first = bills(cloud, tmp_path)["org_2"]
    place = tmp_path / MONTH / "org_2.npz"
    count = cloud.store.count(UsageRecord, organization_id="org_2")
    assert read_columns(place, count) is not None
    assert read_columns(place, count + 1) is None
    place.write_bytes(place.read_bytes()[:-200])  # as when a disk was full, or a machine lost power
    assert bills(cloud, tmp_path)["org_2"] == first
    play(cloud, [(0, "2", 1000, False)], first=7)
    after = bills(cloud, tmp_path)["org_2"]
    assert after.rated_nano == after.charged_nano > first.rated_nano
