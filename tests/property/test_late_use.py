"""What is told of a closed month: a pair in the ledger and a note, at once or at the next close, and never twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from money_cloud import USD, Cloud, moment

from headframe.base.changes import Changes
from headframe.base.errors import Conflict
from headframe.base.quantities import DAY_US, HOUR_US, format_moment
from headframe.control.commands_invoices import correct_invoice
from headframe.control.commands_prices import set_price
from headframe.control.context import Context
from headframe.control.stage_usage import count_events
from headframe.ledger.records import Invoice, Transfer
from headframe.ledger.wallets import Grant
from headframe.metering.intake import Desk, read_events
from headframe.metering.records import Aggregation, Meter
from headframe.pricing.records import Charge, Price
from headframe.sim.clock import CountedIds
from headframe.tenants.records import Role
from headframe.tenants.roles import Caller

BEGIN = moment("2026-11-30T10:00:00Z")
DECEMBER = moment("2026-12-02T00:00:00Z")
CALLS = Meter("calls", "call", Aggregation.SUM, "call", "count")
OPERATOR = Caller("org_1", "mem_1", "key_1", Role.OWNER, operator=True)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = opened()
    yield made
    made.close()


def opened() -> Cloud:
    made = Cloud("2026-11-30T09:00:00Z")
    made.take(Changes((CALLS, Price("price_1", "calls", USD, 0, unit="one", shape="each"))))
    made.commit()
    return made


def tell(cloud: Cloud, number: int, count: int, at_us: int = BEGIN, owner: str = "1") -> None:
    event = {
        "specversion": "1.0", "id": str(number), "source": "/test", "type": "call", "time": format_moment(at_us),
        "data": {"count": count},
    }  # fmt: skip
    desk = Desk({"": (f"prj_{owner}", f"org_{owner}")}, {"call": [CALLS]}, max(cloud.now_us, at_us))
    cloud.store.take_in(read_events([event], desk))
    changes, _ = count_events(cloud.world, cloud.spending, cloud.store, cloud.now_us)
    cloud.take(changes)
    cloud.commit()


def to(cloud: Cloud, moment_us: int) -> None:
    cloud.now_us = moment_us
    for _ in range(3):
        cloud.tick()


def correct(cloud: Cloud, invoice: str = "org_1.2026-11") -> tuple[Invoice, ...]:
    cloud.now_us += 1
    context = Context(cloud.now_us, CountedIds(7), cloud.store, None, None, cloud.spending)  # type: ignore[arg-type]
    changes, made = correct_invoice(cloud.world, context, OPERATOR, invoice)
    cloud.take(changes)
    cloud.commit()
    return made


def documents(cloud: Cloud) -> list[tuple[str, str, int, int]]:
    found = sorted(cloud.store.find(Invoice, limit=100), key=lambda each: each.number)
    return [(one.id, one.kind, one.corrects_number, one.total_nano // USD) for one in found]


def test_a_late_event_is_a_reversal_pair_and_a_note_at_once(cloud: Cloud) -> None:
    tell(cloud, 1, 90)
    to(cloud, DECEMBER)
    before = {each.id: each for each in cloud.store.find(Transfer, limit=100)}
    tell(cloud, 2, 12)
    fresh = {each.id: each for each in cloud.store.find(Transfer, limit=100) if each.id not in before}
    (back,) = (each for each in fresh.values() if each.reverses)
    (again,) = (each for each in fresh.values() if not each.reverses)
    taken = before[back.reverses]
    assert (back.debit, back.credit, back.amount_nano) == (taken.credit, taken.debit, 90 * USD)
    assert (again.debit, again.credit, again.amount_nano) == (taken.debit, taken.credit, 102 * USD)
    (note,) = correct(cloud)
    assert (note.kind, note.net_nano, note.corrects_number) == ("debit_note", 12 * USD, 1)
    assert correct(cloud) == ()
    with pytest.raises(Conflict, match="Only an invoice"):
        correct(cloud, note.id)
    tell(cloud, 3, 5)
    (second,) = correct(cloud)
    tell(cloud, 4, 8)
    to(cloud, moment("2027-01-02T00:00:00Z"))
    assert documents(cloud) == [
        ("org_1.2026-11", "invoice", 0, 90), (note.id, "debit_note", 1, 12), (second.id, "debit_note", 1, 5),
        ("org_1.2026-11.2026-12", "debit_note", 1, 8),
    ]  # fmt: skip
    owed = cloud.store.balances()["receivable:org_1", "USD"]
    assert owed == sum(each.payable_nano for each in cloud.store.find(Invoice)) == 115 * USD


def test_what_was_paid_in_advance_is_booked_anew_from_the_same_purse(cloud: Cloud) -> None:
    cloud.grant("grant_1", "org_2", 100 * USD)
    tell(cloud, 1, 90, owner="2")
    to(cloud, DECEMBER)
    tell(cloud, 2, 30, owner="2")
    (note,) = correct(cloud, "org_2.2026-11")
    assert (note.net_nano, note.from_wallet_nano, note.payable_nano) == (30 * USD, 10 * USD, 20 * USD)
    balances = cloud.store.balances()
    assert balances["wallet:org_2", "USD"] == 0
    assert balances["receivable:org_2", "USD"] == 20 * USD
    assert sum(balances.values()) == 0
    assert [each.left_nano for each in cloud.store.find(Grant)] == [0]


def test_a_back_dated_price_of_a_closed_month_is_a_credit_note(cloud: Cloud) -> None:
    tell(cloud, 1, 90)
    to(cloud, DECEMBER)
    ids = CountedIds(7)
    for amount in ("0.80 USD", "0.90 USD"):
        cloud.now_us += HOUR_US
        context = Context(cloud.now_us, ids, cloud.store, None, None, cloud.spending)  # type: ignore[arg-type]
        own = {"meter": "calls", "amount": amount, "organization": "house-1", "back_dated": True}
        starts = "2026-11-01" if amount == "0.80 USD" else "2026-11-30"
        if amount == "0.90 USD":
            own["purchase"] = "on-demand"  # closer than the first
        cloud.take(set_price(cloud.world, context, OPERATOR, starts=starts, **own)[0])
        cloud.commit()
    reversals = {each.source: each for each in cloud.store.find(Transfer, limit=100) if each.kind == "reversal"}
    booked = {each.id for each in cloud.store.find(Transfer, limit=100)}
    assert len(reversals) == 2
    assert all(each.reverses in booked for each in reversals.values())
    assert len({each.reverses for each in reversals.values()}) == 2  # the second takes back what the first booked
    (note,) = correct(cloud)
    assert (note.kind, note.net_nano) == ("credit_note", 9 * USD)
    assert cloud.store.balances()["receivable:org_1", "USD"] == 81 * USD


def test_a_price_agreed_on_in_the_days_of_grace_is_on_the_months_own_invoice(cloud: Cloud) -> None:
    tell(cloud, 1, 90)
    cloud.now_us = moment("2026-12-01T03:00:00Z")  # not ticked: November is open still
    context = Context(cloud.now_us, CountedIds(7), cloud.store, None, None, cloud.spending)  # type: ignore[arg-type]
    cloud.spending.advance(cloud.world, cloud.now_us)
    told = {"meter": "calls", "amount": "0.50 USD", "organization": "house-1", "starts": "2026-11-01"}
    cloud.take(set_price(cloud.world, context, OPERATOR, back_dated=True, **told)[0])
    cloud.commit()
    to(cloud, DECEMBER)
    assert documents(cloud) == [("org_1.2026-11", "invoice", 0, 45)]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 50), st.integers(0, 30), st.sampled_from("12"), st.booleans()), min_size=1, max_size=8
    )
)
def test_however_late_it_comes_everything_is_billed_once(events: list[tuple[int, int, str, bool]]) -> None:
    cloud = opened()
    try:
        for owner in "12":
            tell(cloud, 1000, 1, owner=owner)
        to(cloud, DECEMBER)
        for number, (count, hours, owner, at_once) in enumerate(events):
            cloud.now_us += DAY_US * (number % 3)
            tell(cloud, number, count, BEGIN + hours % 3 * HOUR_US, owner)
            if at_once:
                correct(cloud, f"org_{owner}.2026-11")
            for _ in range(2):
                cloud.tick()
        to(cloud, moment("2027-02-02T00:00:00Z"))
        found = cloud.store.find(Invoice, limit=100)
        for owner in ("org_1", "org_2"):
            charged = sum(each.amount_nano for each in cloud.store.find(Charge, limit=500, organization_id=owner))
            assert sum(each.net_nano for each in found if each.organization_id == owner) == charged
        balances = cloud.store.balances()
        owed = sum(balances.get((f"receivable:{owner}", "USD"), 0) for owner in ("org_1", "org_2"))
        assert owed == sum(each.payable_nano for each in found)
        assert sorted(each.number for each in found) == list(range(1, len(found) + 1))
    finally:
        cloud.close()
