"""Whatever happens in whatever order: records tile, bills are exact, the ledger balances, and the sums agree."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from money_cloud import USD, Cloud, moment

from headframe.base.changes import Changes
from headframe.base.money import divide_half_even, payable
from headframe.base.quantities import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from headframe.control.queries_money import accrued
from headframe.control.spending import Spending
from headframe.fleet.records import Allocation
from headframe.ledger.post import credit_left
from headframe.ledger.records import Invoice, Transfer
from headframe.metering.records import UsageRecord
from headframe.pricing.book import Book
from headframe.pricing.rate import WHOLE
from headframe.pricing.records import Charge, Price

MOST = 100_000
UNIT = {"cpu": 1000, "gpu:H100": 1000, "memory": 1024}
spans = st.sampled_from(
    [0, 1, SECOND_US, 59 * SECOND_US, MINUTE_US - 1, MINUTE_US, 17 * MINUTE_US, HOUR_US - 1, HOUR_US, 26 * HOUR_US]
) | st.integers(1, 3 * HOUR_US)
steps = st.lists(
    st.tuples(
        spans,
        st.sampled_from(
            ["hold", "run", "run", "release", "fault", "price", "credit", "tick", "deaf tick", "hour", "reload"]
        ),
        st.integers(0, 9),
    ),
    max_size=25,
)


def all_of(cloud: Cloud, kind: type) -> list:
    return cloud.store.find(kind, limit=MOST)


def set_price(cloud: Cloud, number: int, serial: int) -> None:
    meter = ("gpu:H100", "gpu:*", "cpu", "memory")[number % 4]
    begin_us = cloud.now_us + (0, 0, 7 * MINUTE_US)[number % 3]
    end_us = begin_us + HOUR_US if number % 5 == 0 else None
    amount = 1_000_000_007 * (number + 1) // 3
    cloud.take(
        Changes(
            (Price(f"price_{serial:03}", meter, amount, begin_us, end_us, minimum_us=(60, 90)[number % 2] * SECOND_US),)
        )
    )


def play(cloud: Cloud, script: list[tuple[int, str, int]]) -> dict[str, Allocation]:
    """Carry out the steps; what was released, at the end all. Checks what must hold at every moment."""
    held: list[str] = []
    running: list[str] = []
    done: dict[str, Allocation] = {}
    for serial, (span_us, what, number) in enumerate(script):
        cloud.now_us += span_us
        waiting = [each for each in held if each not in running]
        if what == "hold":
            held.append(cloud.hold(f"{serial:03}", "12"[number % 2], gpus_milli=(0, 250, 1000, 8000)[number % 4]))
        elif what == "run" and waiting:
            cloud.run(waiting[number % len(waiting)])
            running.append(waiting[number % len(waiting)])
        elif what in ("release", "fault") and held:
            gone = held.pop(number % len(held))
            done[gone] = cloud.release(gone, faulted=what == "fault")
        elif what == "price":
            set_price(cloud, number, serial)
        elif what == "credit":
            cloud.grant(f"trf_{serial}", f"org_{number % 2 + 1}", (number + 1) * USD)
        elif what == "hour":
            cloud.now_us += HOUR_US - cloud.now_us % HOUR_US
            cloud.tick()
        elif what == "reload":
            cloud.tick()
            cloud.reload()
        elif "tick" in what:
            cloud.tick(cloud.now_us - 2 * HOUR_US if what == "deaf tick" else None)
        if serial % 4 == 0:
            check_warm(cloud)
    for allocation_id in held:
        done[allocation_id] = cloud.release(allocation_id)
    cloud.tick()
    cloud.now_us = moment("2027-03-01T00:00:00.000001Z")
    cloud.tick()
    cloud.tick()
    return done


def check_warm(cloud: Cloud) -> None:
    """The warm sums say what the store says, and lines what metering would charge."""
    cloud.commit()
    cloud.spending.advance(cloud.world, cloud.now_us)
    fresh = Spending.of(cloud.world, cloud.store, cloud.now_us)
    assert +fresh.spent == +cloud.spending.spent
    assert sorted(fresh.payments) == sorted(cloud.spending.payments)
    for payer, payments in sorted(fresh.payments.items()):
        warm = cloud.spending.payments[payer]
        assert payments.slope == warm.slope
        assert payments.slope * cloud.now_us + payments.sum == warm.slope * cloud.now_us + warm.sum
        if payer[0] == "wallet":
            mine = {"organization_id": payer[1], "released_us": None}
            charges = accrued(cloud.world, cloud.spending, cloud.now_us, mine)
            exact = Fraction(payments.slope * cloud.now_us + payments.sum, WHOLE)
            assert abs(sum(charge.amount_nano for charge in charges) - exact) <= Fraction(len(charges), 2)
    for organization in ("org_1", "org_2"):
        assert credit_left(cloud.world.balances, organization, "USD") >= 0
    assert sum(cloud.world.balances.values()) == 0


def expected(allocation: Allocation, prices: Book, now_us: int) -> tuple[Fraction, Fraction]:
    """(use, top-up) of a released allocation from its own moments: a second way, minute by price by meter."""
    if allocation.running_us is None:
        return Fraction(0), Fraction(0)
    begin, end = allocation.running_us, allocation.released_us
    assert end is not None
    (part,) = allocation.slices
    held = {"cpu": part.cpu_milli, "memory": part.memory_mib, "gpu:H100": sum(share.milli for share in part.shares)}
    use, top = Fraction(0), Fraction(0)
    changes = {moment for price in prices.prices for moment in (price.from_us, price.to_us) if moment is not None}
    cuts = sorted({begin, end, *(moment for moment in changes if begin < moment < end)})
    for meter, quantity in held.items():
        for start, stop in pairwise(cuts):
            price = _best(prices, meter, start)
            use += Fraction(quantity * (stop - start) * price.unit_nano, UNIT[meter] * HOUR_US) if price else 0
        last = _best(prices, meter, cuts[-2]) if end > begin else None
        if last is not None and not allocation.faulted and end - begin < last.minimum_us:
            missing = last.minimum_us - (end - begin)
            top += Fraction(quantity * missing * last.unit_nano, UNIT[meter] * HOUR_US)
    return use, top


def _best(prices: Book, meter: str, at_us: int) -> Price | None:
    for wanted in (meter, "gpu:*" if meter.startswith("gpu:") else ""):
        live = [
            price
            for price in prices.prices
            if price.meter == wanted and price.from_us <= at_us and (price.to_us is None or at_us < price.to_us)
        ]
        if live:
            return max(live, key=lambda price: (price.from_us, price.id))
    return None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(steps)
def test_any_life_of_a_cloud_ends_in_exact_bills(script: list[tuple[int, str, int]]) -> None:
    cloud = Cloud()
    try:
        for number in (1, 2, 3):
            set_price(cloud, number, -number)
        done = play(cloud, script)
        charges, transfers = all_of(cloud, Charge), all_of(cloud, Transfer)
        book = Book(all_of(cloud, Price))
        _check_tiles(done, all_of(cloud, UsageRecord))
        for allocation in done.values():
            own = [charge for charge in charges if charge.allocation_id == allocation.id]
            use, top = expected(allocation, book, cloud.now_us)
            for kind, exact in (("usage", use), ("minimum", top)):
                amounts = [charge.amount_nano for charge in own if charge.kind == kind]
                assert abs(sum(amounts) - exact) <= Fraction(len(amounts), 2)
        _check_ledger(cloud, charges, transfers)
        assert all(allocation.settled for allocation in all_of(cloud, Allocation))
    finally:
        cloud.close()


def _check_tiles(done: dict[str, Allocation], usage: list[UsageRecord]) -> None:
    pieces = defaultdict(list)
    for record in usage:
        pieces[record.allocation_id].append(record)
    for allocation in done.values():
        at_us = allocation.held_us
        for record in sorted(pieces[allocation.id], key=lambda each: each.from_us):
            assert record.from_us == at_us < record.to_us
            assert (record.to_us - 1) // HOUR_US == record.from_us // HOUR_US
            runs = allocation.running_us is not None and record.from_us >= allocation.running_us
            assert record.state == ("running" if runs else "provisioning")
            at_us = record.to_us
        assert at_us == allocation.released_us
        assert sum(record.last for record in pieces[allocation.id]) <= 1


def _check_ledger(cloud: Cloud, charges: list[Charge], transfers: list[Transfer]) -> None:
    """Charges, transfers and invoices say the same, for each organization and month."""
    assert cloud.store.balances() == dict(cloud.world.balances)
    assert sum(charge.amount_nano for charge in charges) == sum(
        each.amount_nano for each in transfers if each.credit.startswith("revenue:")
    )
    invoices = sorted(all_of(cloud, Invoice), key=lambda each: each.number)
    assert [each.number for each in invoices] == list(range(1, len(invoices) + 1))
    for organization in ("org_1", "org_2"):
        own = [each for each in invoices if each.organization_id == organization]
        total = sum(charge.amount_nano for charge in charges if charge.organization_id == organization)
        assert sum(line.amount_nano for each in own for line in each.lines) == total
        for each in own:
            assert all(line.net_nano == payable(line.amount_nano, "USD") for line in each.lines)
            assert each.total_nano == each.net_nano == sum(line.net_nano for line in each.lines)
            assert each.payable_nano == each.total_nano - each.from_wallet_nano
        owed = cloud.world.balances.get((f"receivable:{organization}", "USD"), 0)
        assert owed == sum(each.payable_nano for each in own)
        paid_in = sum(
            each.amount_nano
            for each in transfers
            if each.credit == f"wallet:{organization}" and each.kind.startswith("credit")
        )
        spent = sum(each.from_wallet_nano for each in own)
        assert credit_left(cloud.world.balances, organization, "USD") == paid_in - spent


@settings(max_examples=100)
@given(st.integers(0, 10**18), st.integers(1, 10**13))
def test_rounding_is_half_to_even(numerator: int, denominator: int) -> None:
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(5)))
def test_any_order_of_stops_in_one_moment_gives_the_same_bill(order: list[int]) -> None:
    cloud = Cloud("2026-11-12T10:00:00Z")
    try:
        for number in (1, 2, 3):
            set_price(cloud, number, -number)
        cloud.grant("trf_1", "org_1", USD, paid=False)
        started = [cloud.start(f"{number}", gpus_milli=1000 * number) for number in range(5)]
        cloud.now_us += DAY_US // 7
        for number in order:
            cloud.release(started[number])
            if number % 2:
                cloud.tick()
        cloud.now_us = moment("2026-12-02T00:00:00Z")
        cloud.tick()
        cloud.tick()
        (invoice,) = all_of(cloud, Invoice)
        assert invoice.from_wallet_nano == USD
        assert cloud.world.balances["receivable:org_1", "USD"] == invoice.payable_nano
        seen.add((invoice.lines, invoice.payable_nano))
        assert len(seen) == 1
    finally:
        cloud.close()


seen: set[object] = set()
