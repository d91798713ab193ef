"""Months, and how one is closed into an invoice: rounding, tax, prepaid credit, and what the books say after it."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headframe.base.money import NANO
from headframe.base.quantities import parse_moment_us
from headframe.ledger.close import Terms, close_month, closing, month_of, month_span_us, next_month
from headframe.ledger.records import InvoiceLine, Party, TaxRate, Transfer

CENT = NANO // 100
NOVEMBER, DECEMBER = parse_moment_us("2026-11-01", field=""), parse_moment_us("2026-12-01", field="")
SELLER = Party("seller", "Mine GmbH", country="DE", tax_id="DE123456788")
GERMAN = Party("org_1", "Lab AG", country="DE", tax_id="DE987654321")
RATES = (
    TaxRate("tax_1", "DE", "S", 19_000, 0),
    TaxRate("tax_2", "EU", "AE", 0, 0, business="yes"),
    TaxRate("tax_3", "*", "O", 0, 0),
    TaxRate("tax_4", "org_7", "E", 0, 0, reason="Hospital, §4 Nr. 14 UStG"),
)


@pytest.mark.parametrize(
    ("at_us", "month"),
    [(NOVEMBER, "2026-10"), (NOVEMBER + 1, "2026-11"), (DECEMBER, "2026-11"), (DECEMBER + 1, "2026-12")],
)
def test_the_last_moment_of_a_month_belongs_to_it(at_us: int, month: str) -> None:
    assert month_of(at_us) == month
    begin, end = month_span_us(month)
    assert begin < at_us <= end


def test_months_follow_each_other() -> None:
    assert next_month("2026-11") == "2026-12"
    assert next_month("2026-12") == "2027-01"
    over = closing("org_1", "2026-11", 99)
    assert (over.id, over.begin_us, over.end_us) == ("org_1.2026-11", NOVEMBER, DECEMBER)


def lines(*amounts: int) -> list[InvoiceLine]:
    return [InvoiceLine(f"prj_{number}", "cpu", "usage", 7, 1, amount) for number, amount in enumerate(amounts)]


def test_each_line_is_rounded_once_half_to_even_and_the_rest_is_booked() -> None:
    invoice, transfers = close_month("org_1", "2026-11", "USD", lines(1_005_000_000, 9_015_000_000), 0, 7, 99)
    assert [line.net_nano for line in invoice.lines] == [100 * CENT, 902 * CENT]
    assert [line.amount_nano for line in invoice.lines] == [1_005_000_000, 9_015_000_000]
    assert (invoice.number, invoice.closed_us, invoice.net_nano) == (7, 99, 1002 * CENT)
    assert (invoice.total_nano, invoice.payable_nano) == (1002 * CENT, 1002 * CENT)
    assert not transfers  # half a cent lost, half a cent won


def test_a_currency_without_cents_is_rounded_to_wholes() -> None:
    invoice, transfers = close_month("org_1", "2026-11", "JPY", lines(1_700_000_000), 0, 1, 99)
    assert invoice.payable_nano == 2_000_000_000
    assert (transfers[0].debit, transfers[0].amount_nano) == ("receivable:org_1", 300_000_000)


@pytest.mark.parametrize(
    ("buyer", "category", "percent", "reason"),
    [
        (GERMAN, "S", 19_000, ""),
        (Party("org_2", "Labo", country="FR", tax_id="FR12345678901"), "AE", 0, "Reverse charge"),
        (Party("org_3", "Somebody", country="FR"), "O", 0, "Not subject to tax"),
        (Party("org_4", "Lab Inc.", country="US", tax_id="12-3456789"), "O", 0, "Not subject to tax"),
        (Party("org_7", "Clinic", country="DE"), "E", 0, "Hospital, §4 Nr. 14 UStG"),
    ],
)
def test_tax_is_looked_up_from_the_closest_rule(buyer: Party, category: str, percent: int, reason: str) -> None:
    terms = Terms(SELLER, buyer, RATES)
    invoice, _ = close_month(buyer.id, "2026-11", "EUR", lines(NANO, 3 * NANO), 0, 1, 99, terms=terms)
    (tax,) = invoice.taxes
    assert (tax.category, tax.percent_milli, tax.basis_nano, tax.reason) == (category, percent, 4 * NANO, reason)
    assert invoice.total_nano == 4 * NANO + 4 * NANO * percent // 100_000


def test_a_rate_holds_in_its_time_only() -> None:
    changed = (
        TaxRate("tax_1", "DE", "S", 19_000, 0, to_us=NOVEMBER),
        TaxRate("tax_2", "DE", "S", 21_000, NOVEMBER),
    )
    for month, percent in (("2026-10", 19_000), ("2026-11", 21_000)):
        invoice, _ = close_month(
            "org_1", month, "EUR", lines(NANO), 0, 1, 99, terms=Terms(SELLER, GERMAN, changed)
        )  # fmt: skip
        assert invoice.taxes[0].percent_milli == percent


def test_tax_is_rounded_once_on_the_sum_of_its_lines() -> None:
    """Each line alone would be taxed 0.0019, 0.0019, ..., that is nothing."""
    invoice, _ = close_month(
        "org_1", "2026-11", "EUR", lines(*[CENT] * 10), 0, 1, 99, terms=Terms(SELLER, GERMAN, RATES)
    )  # fmt: skip
    assert invoice.tax_nano == 2 * CENT
    # 0.19 x 0.0263157894736842 is just under half a cent: rounding to the nano-unit first would make it a cent.
    assert invoice.total_nano == 12 * CENT


def test_credit_pays_tax_and_rounding_too() -> None:
    exact = 3 * 3_335_000_000
    invoice, transfers = close_month(
        "org_1", "2026-11", "EUR", lines(*[3_335_000_000] * 3), exact, 1, 99,
        terms=Terms(SELLER, GERMAN, RATES), credit_nano=100 * NANO,
    )  # fmt: skip
    assert invoice.net_nano == 1002 * CENT
    assert invoice.tax_nano == 190 * CENT
    assert (invoice.from_wallet_nano, invoice.payable_nano) == (1192 * CENT, 0)
    settled = next(each for each in transfers if each.kind == "settlement")
    assert (settled.debit, settled.credit, settled.amount_nano) == (
        "wallet:org_1", "receivable:org_1", 1192 * CENT - exact,
    )  # fmt: skip


@given(
    st.lists(st.integers(1, 10**13), min_size=1, max_size=6),
    st.integers(0, 10**14),
    st.sampled_from(["EUR", "JPY", "KWD"]),
    st.sampled_from([0, 7_000, 19_000, 8_875]),
)
def test_the_books_say_what_the_invoice_says(amounts: list[int], credit: int, currency: str, percent: int) -> None:
    """Whatever the amounts: receivable is what is to be paid, the wallet gave what was paid in advance, zero in all."""
    exact = sum(amounts)
    prepaid = min(exact, credit)
    terms = Terms(SELLER, GERMAN, (TaxRate("tax_1", "DE", "S", percent, 0),))
    invoice, transfers = close_month(
        "org_1", "2026-11", currency, lines(*amounts), prepaid, 1, 99, terms=terms, credit_nano=credit - prepaid
    )
    balances: dict[str, int] = defaultdict(int)
    balances["receivable:org_1"], balances["wallet:org_1"] = exact - prepaid, prepaid - credit
    balances["revenue"], balances["cash"] = -exact, credit
    for each in transfers:
        assert isinstance(each, Transfer)
        assert each.amount_nano > 0
        balances[each.debit] += each.amount_nano
        balances[each.credit] -= each.amount_nano
    assert sum(balances.values()) == 0
    assert balances["receivable:org_1"] == invoice.payable_nano
    assert balances["wallet:org_1"] <= 0
    assert -sum(balances[name] for name in balances if name.startswith("tax:")) == invoice.tax_nano
    assert invoice.total_nano == invoice.net_nano + invoice.tax_nano
    assert invoice.payable_nano == invoice.total_nano - invoice.from_wallet_nano
    step = 10 ** (9 - {"EUR": 2, "JPY": 0, "KWD": 3}[currency])
    for amount in (*(line.net_nano for line in invoice.lines), invoice.tax_nano, invoice.payable_nano):
        assert amount % step == 0
    if credit >= 2 * exact + 10 * NANO:
        assert invoice.payable_nano == 0
