"""After the invoice: payments, what is open and overdue, and an invoice that is voided and issued again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from money_cloud import USD, Cloud, moment

from headframe.base.changes import Changes
from headframe.base.errors import Conflict, Invalid
from headframe.base.quantities import DAY_US, HOUR_US
from headframe.control.commands_invoices import (
    credit_invoice,
    pay_invoice,
    put_party,
    reissue_invoice,
    set_tax_rate,
    void_invoice,
)
from headframe.control.context import Context
from headframe.control.queries_invoices import OpenInvoice, open_invoices
from headframe.control.queries_money import draft
from headframe.ledger.records import Invoice
from headframe.pricing.records import Price
from headframe.sim.clock import CountedIds
from headframe.tenants.records import Role
from headframe.tenants.roles import Caller

OPERATOR = Caller("org_1", "mem_1", "key_1", Role.OWNER, operator=True)
IDS = CountedIds(7)
DECEMBER = moment("2026-12-02T00:00:00Z")


def context(cloud: Cloud) -> Context:
    return Context(cloud.now_us, IDS, cloud.store, None, None, cloud.spending)  # type: ignore[arg-type]


def run(cloud: Cloud, command: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    cloud.now_us += 1
    changes, result = command(cloud.world, context(cloud), OPERATOR, *args, **kwargs)
    cloud.take(changes)
    cloud.commit()
    return result


def still_open(cloud: Cloud) -> list[tuple[int, int, int, int]]:
    found: tuple[OpenInvoice, ...] = open_invoices(cloud.world, context(cloud), OPERATOR, organization="all")(
        cloud.store
    )
    return [(one.number, one.paid_nano // USD, one.open_nano // USD, one.overdue_days) for one in found]


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud("2026-11-30T20:00:00Z")
    made.take(Changes((Price("gpu", "gpu:H100", 50 * USD, 0),)))
    run(made, put_party, seller=True, name="Cloud GmbH", country="DE")
    run(made, put_party, organization="house-1", name="Lab", country="DE", terms_days=14)
    run(made, set_tax_rate, applies_to="DE", category="S", percent="20")
    held = made.start("a")
    made.now_us += 2 * HOUR_US - 5
    made.release(held)
    made.tick()
    told = draft(made.world, context(made), OPERATOR, month="2026-11", organization="house-1")(made.store)
    assert (told.invoice.net_nano, told.invoice.tax_nano) == (100 * USD, 20 * USD)
    assert (told.invoice.total_nano, told.invoice.payable_nano) == (120 * USD, 120 * USD)
    assert 0 < 100 * USD - told.total_nano < USD, "the exact sum stands beside it"
    made.now_us = DECEMBER
    for _ in range(3):
        made.tick()
    yield made
    made.close()


def test_payments_leave_what_is_open_and_overdue(cloud: Cloud) -> None:
    assert still_open(cloud) == [(1, 0, 120, 0)]
    run(cloud, pay_invoice, "1", amount="50 USD", note="bank 3 December")
    run(cloud, credit_invoice, "1", amount="10 USD", reason="slow")
    cloud.now_us += 20 * DAY_US
    assert still_open(cloud) == [(1, 50, 58, 6)]
    for wrong in ("59 USD", "0 USD", "1 EUR", "0.001 USD"):
        with pytest.raises(Invalid):
            run(cloud, pay_invoice, "1", amount=wrong)
    run(cloud, pay_invoice, "1")
    assert still_open(cloud) == []
    assert cloud.store.balances()["receivable:org_1", "USD"] == 0
    with pytest.raises(Invalid, match="is open"):
        run(cloud, pay_invoice, "1")


def test_a_voided_invoice_is_issued_again_for_the_right_buyer(cloud: Cloud) -> None:
    with pytest.raises(Conflict, match="voided"):
        run(cloud, reissue_invoice, "1", reason="right buyer")
    run(cloud, void_invoice, "1", reason="wrong buyer")
    assert still_open(cloud) == []
    run(cloud, put_party, organization="house-1", name="Lab Holding", country="US")
    again = run(cloud, reissue_invoice, "1", reason="right buyer")
    assert (again.number, again.kind, again.corrects_number, again.month) == (3, "invoice", 1, "2026-11")
    assert (again.buyer.name, again.tax_nano, again.payable_nano) == ("Lab Holding", 0, 100 * USD)
    assert still_open(cloud) == [(3, 0, 100, 0)]
    balances = cloud.store.balances()
    assert balances["receivable:org_1", "USD"] == 100 * USD
    assert not sum(balances.values())
    with pytest.raises(Conflict, match="issued again as 3"):
        run(cloud, reissue_invoice, "1", reason="once more")
    assert len(cloud.store.find(Invoice)) == 3


def test_what_is_issued_again_is_paid_from_credit_that_is_there(cloud: Cloud) -> None:
    run(cloud, void_invoice, "1", reason="wrong buyer")
    cloud.grant("grant_1", "org_1", 70 * USD)
    cloud.commit()
    again = run(cloud, reissue_invoice, "1", reason="right buyer")
    assert (again.from_wallet_nano, again.payable_nano) == (70 * USD, 50 * USD)
    balances = cloud.store.balances()
    assert (balances["wallet:org_1", "USD"], balances["receivable:org_1", "USD"]) == (0, 50 * USD)
