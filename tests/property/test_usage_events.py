"""Events of use: in whatever order, batches and repeats they come, before or after the close, the bill is the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from money_cloud import USD, Cloud, moment

from headframe.base.changes import Changes
from headframe.base.errors import FutureEvent, Invalid, NegativeDuration, UnknownMeter
from headframe.base.quantities import DAY_US, HOUR_US, format_moment
from headframe.control.stage_usage import count_events, levels_due
from headframe.ledger.records import Invoice
from headframe.metering.count import can_count
from headframe.metering.defaults import TOKENS, default_meters
from headframe.metering.intake import Desk, read_events
from headframe.metering.records import Aggregation, Meter, Reading, UsageEvent, Window
from headframe.pricing.records import Charge, Price, Tier
from headframe.workloads.records import Dataset

BEGIN = moment("2026-11-10T00:00:00Z")
METERS = (
    Meter("calls", "call", Aggregation.COUNT, "call"),
    Meter("bytes", "call", Aggregation.SUM, "byte", "size"),
    Meter("most", "call", Aggregation.MAX, "byte", "size", window=Window.MONTH),
    Meter("users", "call", Aggregation.UNIQUE, "user", "user", window=Window.MONTH),
    Meter("seats", "call", Aggregation.LATEST, "seat", "size", window=Window.MONTH),
    Meter("level", "call", Aggregation.TIME_WEIGHTED, "MiB", "size", ("user",), window=Window.DAY),
)


def open_cloud() -> Cloud:
    made = Cloud("2026-11-01T00:00:00Z")
    prices = [Price(f"price_{meter.id}", meter.id, 1_000_003, 0, unit="one", shape="each") for meter in METERS]
    prices[1] = Price("price_bytes", "bytes", 0, 0, unit="one", shape="graduated",
                      tiers=(Tier(100, 7_000_000), Tier(None, 3_000_001)))  # fmt: skip
    made.take(Changes((*METERS, *prices)))
    made.commit()
    return made


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = open_cloud()
    yield made
    made.close()


def desk(cloud: Cloud) -> Desk:
    meters: dict[str, list[Meter]] = {}
    for meter in METERS:
        meters.setdefault(meter.event_type, []).append(meter)
    return Desk({"default": ("prj_1", "org_1")}, meters, cloud.now_us)


def event(number: int, at_us: int, size: int = 1, user: str = "ada", **more: object) -> dict[str, object]:
    return {
        "specversion": "1.0", "id": str(number), "source": "/test", "type": "call", "subject": "default",
        "time": format_moment(at_us), "data": {"size": size, "user": user}, **more,
    }  # fmt: skip


def tell(cloud: Cloud, events: list[dict[str, object]]) -> int:
    return cloud.store.take_in(read_events(events, desk(cloud)))


def count(cloud: Cloud) -> None:
    more = True
    while more:
        changes, more = count_events(cloud.world, cloud.spending, cloud.store, cloud.now_us)
        cloud.take(changes)
        cloud.commit()


def charges(cloud: Cloud) -> list[Charge]:
    return cloud.store.find(Charge, limit=100_000)


def totals(cloud: Cloud) -> dict[str, tuple[int, int]]:
    sums: dict[str, tuple[int, int]] = {}
    for charge in charges(cloud):
        quantity, amount = sums.get(charge.meter, (0, 0))
        sums[charge.meter] = (quantity + charge.quantity, amount + charge.amount_nano)
    return sums


told = st.lists(
    st.tuples(st.integers(0, 5 * 24 * 6), st.integers(0, 400), st.sampled_from(["ada", "bob", "eve"])),
    min_size=1, max_size=14,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(told, st.randoms(use_true_random=False))
def test_any_order_of_events_gives_the_same_bill(events: list[tuple[int, int, str]], luck) -> None:
    all_events = [
        event(number, BEGIN + slot * HOUR_US // 6, size, user) for number, (slot, size, user) in enumerate(events)
    ]
    bills = set()
    for order in (all_events, luck.sample(all_events, len(all_events))):
        cloud = open_cloud()
        try:
            cloud.now_us = BEGIN + 6 * DAY_US
            for start in range(0, len(order), 3):
                tell(cloud, order[start : start + 3] + order[:1])
                count(cloud)
            bills.add(tuple(sorted((meter, sums) for meter, sums in totals(cloud).items() if any(sums))))
            numbers = [each["data"]["size"] for each in all_events]
            found = totals(cloud)
            assert found["calls"][0] == len(all_events)
            assert found.get("bytes", (0, 0))[0] == sum(numbers)
            assert found.get("most", (0, 0))[0] == max(numbers)
            assert found["users"][0] == len({each["data"]["user"] for each in all_events})
        finally:
            cloud.close()
    assert len(bills) == 1


def test_the_same_file_again_changes_nothing(cloud: Cloud) -> None:
    cloud.now_us = BEGIN + DAY_US
    events = [event(number, BEGIN + number) for number in range(50)]
    assert tell(cloud, events) == 50
    count(cloud)
    before = charges(cloud)
    assert tell(cloud, events) == 0
    assert tell(cloud, [*events[25:], event(50, BEGIN)]) == 1
    count(cloud)
    assert len(charges(cloud)) == len(before) + 2  # one call and its bytes; no new user, seat or most
    assert cloud.store.count(UsageEvent) == 51


def test_a_late_event_of_a_closed_month_becomes_a_correction(cloud: Cloud) -> None:
    cloud.now_us = BEGIN + DAY_US
    tell(cloud, [event(1, BEGIN, 90)])
    count(cloud)
    cloud.now_us = moment("2026-12-02T00:00:00Z")
    cloud.tick()
    cloud.tick()
    (invoice,) = cloud.store.find(Invoice, organization_id="org_1")
    before = {charge.id: charge for charge in charges(cloud)}
    tell(cloud, [event(2, BEGIN + HOUR_US, 20)])
    count(cloud)
    fresh = [charge for charge in charges(cloud) if charge.id not in before and charge.meter != "level"]
    assert {charge.late_month for charge in fresh} == {"2026-11"}
    assert {charge.at_us for charge in fresh} == {cloud.now_us}
    # The tiers go on where November left them: 10 bytes at 7, 10 at 3.000001.
    assert sorted(each.amount_nano for each in fresh if each.meter == "bytes") == [30_000_010, 70_000_000]
    assert cloud.store.find(Invoice, organization_id="org_1") == [invoice]


def test_a_level_is_weighed_by_time_over_days_without_events(cloud: Cloud) -> None:
    cloud.now_us = BEGIN + HOUR_US
    tell(cloud, [event(1, BEGIN + 12 * HOUR_US - 11 * HOUR_US, 100)])
    count(cloud)
    for day in range(-9, 4):
        cloud.now_us = max(cloud.now_us, BEGIN + day * DAY_US + 1)
        cloud.take(levels_due(cloud.world, cloud.spending, cloud.store, cloud.now_us))
        cloud.commit()
    assert totals(cloud)["level"][0] == 100 * (23 + 48) * 3600
    tell(cloud, [event(2, BEGIN + DAY_US + 12 * HOUR_US, 40)])  # told late: the level had sunk
    count(cloud)
    assert totals(cloud)["level"][0] == (100 * 35 + 40 * 36) * 3600


def test_datasets_are_charged_by_the_day_that_they_are_kept(cloud: Cloud) -> None:
    cloud.take(levels_due(cloud.world, cloud.spending, cloud.store, cloud.now_us))
    price = Price("stored", "storage:datasets", USD, 0, unit="GiB-month", shape="storage")
    made = Dataset("ds_1", "org_1", "prj_1", "wiki", 1, "ab", 1 << 30, 1, cloud.now_us + 12 * HOUR_US)
    cloud.take(Changes((price, made)))
    cloud.commit()
    for _ in range(2):
        cloud.now_us += DAY_US
        cloud.take(levels_due(cloud.world, cloud.spending, cloud.store, cloud.now_us))
        cloud.commit()
    amounts = [charge.amount_nano for charge in charges(cloud)]
    assert amounts == [round(USD * hours / 730) for hours in (12, 24)]


def test_bad_events_are_refused_with_a_type_and_nothing_of_their_batch_is_kept(cloud: Cloud) -> None:
    cloud.now_us = BEGIN
    good = event(1, BEGIN)
    for wrong, error in (
        (event(2, BEGIN, type="other"), UnknownMeter),
        (event(2, BEGIN + HOUR_US), FutureEvent),
        (event(2, BEGIN, size=-1), NegativeDuration),
        (event(2, BEGIN, data={"size": 1, "user": "a", "start": format_moment(BEGIN + 1)}), NegativeDuration),
        (event(2, BEGIN, subject="nobody"), Invalid),
        (event(2, BEGIN, source="a b"), Invalid),
        (event(2, BEGIN, specversion="0.3"), Invalid),
        (event(2, BEGIN, data={"size": 1.5, "user": "a"}), Invalid),
        (event(2, BEGIN, data={"size": "--5", "user": "a"}), Invalid),
        (event(2, BEGIN, id=""), Invalid),
        (event(2, BEGIN, data=[1]), Invalid),
        ("text", Invalid),
    ):
        with pytest.raises(error):
            tell(cloud, [good, wrong])
    assert cloud.store.count(UsageEvent) == 0
    assert cloud.store.find(Reading) == []


@pytest.mark.parametrize("told", [{"size": "--5", "user": "a"}, {"size": 1.5, "user": "a"}, {"user": "a"}, {"size": 1}])
def test_what_cannot_be_counted_is_told_with_the_number_of_its_event(cloud: Cloud, told: dict[str, object]) -> None:
    cloud.now_us = BEGIN
    with pytest.raises(Invalid) as refused:
        tell(cloud, [event(1, BEGIN), event(2, BEGIN, data=told)])
    assert refused.value.field.startswith("events[1].data.")
    assert refused.value.message.startswith("events[1]")


def test_a_count_that_is_no_number_does_not_stop_a_meter_that_is_defined_later() -> None:
    """It was taken in while nothing read it; the control loop meets it again."""
    old = UsageEvent("org_1 /test 1", 1, "org_1", "prj_1", "call", BEGIN, BEGIN, {"length": "--5"})
    assert not can_count(Meter("late", "call", Aggregation.SUM, "byte", "length"), old)


def test_an_absurd_amount_is_told_and_does_not_stop_the_loop(cloud: Cloud) -> None:
    cloud.now_us = BEGIN
    cloud.take(Changes((Price("price_dear", "calls", 8 * 10**18, 1, unit="one", shape="each"),)))
    tell(cloud, [event(number, BEGIN, 1 << 40) for number in range(3)])
    count(cloud)
    assert "charge_refused" in [each.kind for each in cloud.events]
    (reading,) = cloud.store.find(Reading, meter="bytes")
    assert reading.value == 3 << 40


def test_tokens_are_counted_once_whichever_way_they_are_reported() -> None:
    inside = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 60}}
    beside = {"input_tokens": 30, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 60, "output_tokens": 7}
    plain = {"input": 40, "cached": 60, "output": 7}
    desk = Desk({"": ("prj_1", "org_1")}, {TOKENS: default_meters(0)[-3:]}, BEGIN)

    def told(data: dict[str, object]) -> dict[str, object]:
        event = {"specversion": "1.0", "id": "1", "source": "/gateway", "type": TOKENS, "data": data}
        return read_events([event], desk)[0].data

    for data in (inside, beside, {"usage": inside}, {"usage": beside}, plain):
        read = told({"model": "m", **data})
        assert {name: read[name] for name in ("model", *plain)} == {"model": "m", **plain}
    for wrong in (
        {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}, {"input_tokens": -1}, {"input": 1},
        {"usage": {"prompt_tokens": "many"}},
    ):  # fmt: skip
        with pytest.raises(Invalid):
            told(wrong)
