"""Months, and how they are closed."""

from __future__ import annotations

import pytest

from headframe.base.quantities import parse_moment_us
from headframe.ledger.close import close_month, month_of, month_span_us, next_month
from headframe.ledger.records import InvoiceLine


@pytest.mark.parametrize(
    ("text", "month"),
    [
        ("2026-11-30T23:59:59.999999Z", "2026-11"),
        ("2026-12-01T00:00:00Z", "2026-11"),  # what falls due now is the end of a piece of November
        ("2026-12-01T00:00:00.000001Z", "2026-12"),
        ("2027-01-01T00:00:00Z", "2026-12"),
    ],
)
def test_the_month_of_a_moment(text: str, month: str) -> None:
    at_us = parse_moment_us(text, field="moment")
    assert month_of(at_us) == month
    begin, end = month_span_us(month)
    assert begin < at_us <= end


def test_months_follow_each_other() -> None:
    assert [next_month(each) for each in ("2026-11", "2026-12", "2028-02")] == ["2026-12", "2027-01", "2028-03"]
    for month in ("2026-11", "2026-12", "2028-02"):
        assert month_span_us(month)[1] == month_span_us(next_month(month))[0]


def lines(*amounts: int) -> list[InvoiceLine]:
    return [InvoiceLine(f"prj_{number}", "cpu", "usage", 7, 1, amount) for number, amount in enumerate(amounts)]


def test_only_what_is_left_to_pay_is_rounded_and_the_difference_is_booked() -> None:
    made = lines(10_004_999_999, 1)
    invoice, transfers = close_month("org_1", "2026-11", "USD", reversed(made), 5_000_000_000, 7, 99)
    assert invoice.id == "org_1.2026-11"
    assert invoice.lines == tuple(made)
    assert (invoice.number, invoice.closed_us) == (7, 99)
    assert invoice.total_nano == 10_005_000_000
    assert invoice.payable_nano == 5_000_000_000  # 5.005 to the even cent
    (rounding,) = transfers
    assert (rounding.debit, rounding.credit, rounding.amount_nano) == ("rounding", "receivable:org_1", 5_000_000)


def test_rounding_up_and_none_at_all() -> None:
    invoice, transfers = close_month("org_1", "2026-11", "JPY", lines(1_700_000_000), 0, 1, 99)
    assert invoice.payable_nano == 2_000_000_000
    assert (transfers[0].debit, transfers[0].amount_nano) == ("receivable:org_1", 300_000_000)
    assert close_month("org_1", "2026-11", "USD", lines(1_700_000_000), 1_700_000_000, 1, 99)[1] == ()
