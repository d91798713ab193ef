"""Notes: what corrects an invoice without changing it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import pytest

from headframe.base.errors import Conflict, Invalid
from headframe.base.money import NANO
from headframe.ledger.close import Terms, close_month
from headframe.ledger.notes import correction, goodwill, void
from headframe.ledger.records import Invoice, InvoiceLine, Party, TaxRate, Transfer
from headframe.ledger.trial import reverse, trial_balance

CENT = NANO // 100
TERMS = Terms(
    Party("seller", "Mine GmbH", country="DE"), Party("org_1", "Lab AG", country="DE"),
    (TaxRate("tax_1", "DE", "S", 19_000, 0),),
)  # fmt: skip


def line(amount_nano: int) -> InvoiceLine:
    return InvoiceLine("prj_1", "gpu:H100", "usage", 3 * NANO, 3_600_000, amount_nano)


def closed(amount_nano: int = 100 * NANO) -> tuple[Invoice, tuple[Transfer, ...]]:
    return close_month("org_1", "2026-11", "EUR", [line(amount_nano)], 0, 1, 99, terms=TERMS)


def sums(transfers: Iterable[Transfer], **start: int) -> dict[str, int]:
    balances: dict[str, int] = defaultdict(int, {name.replace("_", ":", 1): start[name] for name in start})
    for each in transfers:
        balances[each.debit] += each.amount_nano
        balances[each.credit] -= each.amount_nano
    return balances


@pytest.mark.parametrize(("amount_nano", "kind"), [(10 * NANO, "debit_note"), (-10 * NANO, "credit_note")])
def test_late_charges_make_a_note_taxed_as_the_invoice_was(amount_nano: int, kind: str) -> None:
    invoice, _ = closed()
    note, transfers = correction(invoice, [line(amount_nano)], 0, "org_1.2026-11.2026-12", 2, 500)
    assert (note.kind, note.corrects, note.number) == (kind, invoice.id, 2)
    assert (note.net_nano, note.tax_nano, note.total_nano) == (10 * NANO, 190 * CENT, 1190 * CENT)
    assert note.lines[0].net_nano == 10 * NANO
    balances = sums(transfers, receivable_org_1=amount_nano)
    assert abs(balances["receivable:org_1"]) == note.payable_nano
    assert {each.at_us for each in transfers} == {500}


def test_a_note_rounds_as_an_invoice_does() -> None:
    invoice, _ = closed()
    for amount_nano in (10_004_999_999, -10_004_999_999):
        note, transfers = correction(invoice, [line(amount_nano)], 0, "note", 2, 500)
        assert note.net_nano == 10 * NANO
        assert abs(sums(transfers, receivable_org_1=amount_nano)["receivable:org_1"]) == note.payable_nano


def test_goodwill_gives_back_net_and_tax_and_no_more_than_there_was() -> None:
    invoice, _ = closed()
    note, transfers = goodwill(invoice, 30 * NANO, "slow support", 0, "note", 2, 500)
    assert (note.total_nano, note.reason) == (3570 * CENT, "slow support")
    assert sums(transfers)["receivable:org_1"] == -3570 * CENT
    assert {each.reverses for each in transfers} == {invoice.id}
    for amount in (0, -NANO, NANO + 1, 71 * NANO):
        with pytest.raises(Invalid):
            goodwill(invoice, amount, "", 30 * NANO, "note", 3, 500)


def test_a_void_takes_every_movement_back_and_is_linked() -> None:
    invoice, transfers = close_month(
        "org_1", "2026-11", "EUR", [line(100_004_000_000)], 40_004_000_000, 1, 99, terms=TERMS, credit_nano=5 * NANO
    )
    booked = (
        Transfer(
            "chg.receivable", "receivable:org_1", "revenue:gpu:H100", 60 * NANO, "EUR", 5, "usage", "chg", "org_1"
        ),
        Transfer("chg.wallet", "wallet:org_1", "revenue:gpu:H100", 40_004_000_000, "EUR", 5, "usage", "chg", "org_1"),
        *transfers,
    )
    note, back, grants = void(invoice, transfers, "wrong buyer", "note", 2, 500)
    assert not any(sums([*booked, *back]).values())
    assert sum(grant.left_nano for grant in grants) == 45_004_000_000
    assert (note.kind, note.corrects, note.total_nano) == ("credit_note", invoice.id, invoice.total_nano)
    assert {each.reverses for each in back} == {invoice.id}
    with pytest.raises(Conflict):
        void(note, transfers, "again", "note_2", 3, 501)


def test_a_reversal_is_the_same_turned_round() -> None:
    first = Transfer("trf_1", "cash", "wallet:org_1", 5, "EUR", 1, "credit_paid", "trf_1", "org_1")
    back = reverse(first, "trf_2", 9, "typed twice")
    assert (back.debit, back.credit, back.amount_nano, back.reverses) == ("wallet:org_1", "cash", 5, "trf_1")
    found = trial_balance({("cash", "EUR"): 5, ("wallet:org_1", "EUR"): -5, ("cash", "USD"): 1})
    assert found.sums == {"EUR": 0, "USD": 1}
    assert not found.zero
