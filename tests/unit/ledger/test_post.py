"""Charges are booked from prepaid credit first."""

from __future__ import annotations

from headframe.ledger.post import credit_left, grant
from headframe.ledger.records import Transfer
from headframe.ledger.wallets import Grant, pay
from headframe.pricing.records import Charge


def owed(number: int, amount_nano: int) -> Charge:
    return Charge(
        f"chg_{number}", "use", "alc", "job", "org_1", "prj", "mem", "cpu", "usage", "price", 1, 1, amount_nano, "USD",
        0, 5, 5,
    )  # fmt: skip


def test_credit_is_used_first_and_a_charge_may_be_split() -> None:
    credit = Grant("grant_1", "org_1", 100, 100, "USD", 0)
    rows = pay([owed(1, 60), owed(2, 0), owed(3, 60), owed(4, 10)], [credit], prepaid=False, now_us=5)
    transfers = [row for row in rows if isinstance(row, Transfer)]
    assert [(each.id, each.debit, each.credit, each.amount_nano) for each in transfers] == [
        ("chg_1.wallet", "wallet:org_1", "revenue:cpu", 60),
        ("chg_3.wallet", "wallet:org_1", "revenue:cpu", 40),
        ("chg_3.receivable", "receivable:org_1", "revenue:cpu", 20),
        ("chg_4.receivable", "receivable:org_1", "revenue:cpu", 10),
    ]
    assert {each.at_us for each in transfers} == {5}


def test_a_grant_fills_the_wallet() -> None:
    paid = grant("t1", "org_1", 500, "USD", 1, paid=True)
    gift = grant("t2", "org_1", 20, "USD", 1, paid=False, note="welcome")
    assert (paid.debit, gift.debit) == ("cash", "grants")
    balances = {(paid.credit, "USD"): -520}
    assert credit_left(balances, "org_1", "USD") == 520
    assert credit_left(balances, "org_1", "EUR") == 0
    assert credit_left({}, "org_2", "USD") == 0
