"""Credit notes and debit notes: an invoice is never changed, a note beside it says what is different.

Three reasons: charges that came late or were wrong (`correction`), an invoice that should not have been (`void`), and
money given back (`goodwill`). A note is taxed as the invoice was. Its transfers are dated when it is made, in an open
month, and name what they take back in `reverses`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from headframe.base.errors import Conflict, Invalid
from headframe.base.money import payable
from headframe.base.quantities import DAY_US
from headframe.ledger.close import Book, Terms, close_month, rounded
from headframe.ledger.post import receivable, wallet
from headframe.ledger.records import Invoice, InvoiceLine, TaxRate, Transfer
from headframe.ledger.tax import tax_lines
from headframe.ledger.wallets import Grant

INVOICE, CREDIT, DEBIT = "invoice", "credit_note", "debit_note"


def sign_of(document: Invoice) -> int:
    """1 for what adds to what is owed, -1 for a credit note."""
    return -1 if document.kind == CREDIT else 1


def correction(
    invoice: Invoice, lines: Iterable[InvoiceLine], from_wallet_nano: int, note_id: str, number: int, now_us: int
) -> tuple[Invoice, tuple[Transfer, ...]]:
    """A note on charges that were corrected after the month was closed; their own transfers are booked already.

    `lines` are signed sums of the corrections, `from_wallet_nano` (signed) what of them credit has paid.
    """
    given = tuple(lines)
    sign = 1 if sum(line.amount_nano for line in given) >= 0 else -1
    turned = [replace(line, amount_nano=sign * line.amount_nano) for line in given]
    note = _note(
        invoice, DEBIT if sign > 0 else CREDIT, turned, payable(sign * from_wallet_nano, invoice.currency),
        note_id, number, now_us, f"Use of {invoice.month} that was reported or corrected after it was closed.",
    )  # fmt: skip
    book = Book(note, now_us, sign)
    for each in note.taxes:
        book.move(f"tax.{each.category}", f"tax:{each.category}", each.tax_nano, "tax")
    exact = sum(line.amount_nano for line in turned) - sign * from_wallet_nano
    book.move("rounding", "rounding", note.payable_nano - exact - note.tax_nano, "rounding")
    return note, book.transfers


def goodwill(
    invoice: Invoice, amount_nano: int, reason: str, credited_nano: int, note_id: str, number: int, now_us: int
) -> tuple[Invoice, tuple[Transfer, ...]]:
    """A credit note over a net amount; `credited_nano` of the invoice's net has been credited before.

    Raises `Invalid` when that is not payable in the currency, or more than is left of the invoice.
    """
    left = invoice.net_nano - credited_nano
    if amount_nano <= 0 or amount_nano != payable(amount_nano, invoice.currency) or amount_nano > left:
        raise Invalid(
            "A credit must be an amount that can be paid, and no more than is left of the invoice.",
            field="amount", value=amount_nano, allowed=f"up to {left} nano-units",
        )  # fmt: skip
    line = InvoiceLine("", "credit", "goodwill", 0, 0, amount_nano, note=reason)
    note = _note(invoice, CREDIT, [line], 0, note_id, number, now_us, reason)
    book = Book(note, now_us, sign=-1)
    book.move("credit", "revenue:credit", note.net_nano, "goodwill")
    for each in note.taxes:
        book.move(f"tax.{each.category}", f"tax:{each.category}", each.tax_nano, "tax")
    return note, tuple(replace(each, reverses=invoice.id) for each in book.transfers)


def void(
    invoice: Invoice, own: Iterable[Transfer], reason: str, note_id: str, number: int, now_us: int
) -> tuple[Invoice, tuple[Transfer, ...], tuple[Grant, ...]]:
    """A credit note over the whole invoice; `own` are the transfers that closing it made (tax, settlement, rounding).

    Every movement is taken back, account by account: revenue, tax and rounding, what is owed, and prepaid credit, which
    comes back as a grant of its own.
    """
    if invoice.kind != INVOICE:
        raise Conflict("Only an invoice can be voided, not a note.", next_step="Void the invoice that it corrects.")
    note = replace(
        invoice, id=note_id, number=number, closed_us=now_us, kind=CREDIT, corrects=invoice.id,
        corrects_number=invoice.number, reason=reason,
        due_us=now_us,
    )  # fmt: skip
    owed = receivable(invoice.organization_id)
    taken: dict[str, int] = {}  # account -> how much more it is to get back than it gave
    for line in invoice.lines:
        account = f"revenue:{line.meter}"
        taken[account] = taken.get(account, 0) + line.amount_nano
    for each in own:
        for account, sign in ((each.credit, 1), (each.debit, -1)):
            if not account.startswith(("receivable:", "wallet:")):
                taken[account] = taken.get(account, 0) + sign * each.amount_nano
    drawn = sum(taken.values()) - invoice.payable_nano
    book = Book(note, now_us, sign=-1)
    for account, amount in sorted(taken.items()):
        book.move(account.replace(":", "."), account, amount, "void")
    book.draw(drawn)
    transfers = tuple(replace(each, kind="void", reverses=invoice.id) for each in book.transfers)
    back = tuple(
        Grant(
            id=each.id, organization_id=invoice.organization_id, amount_nano=each.amount_nano,
            left_nano=each.amount_nano, currency=each.currency, from_us=now_us, note=f"void of {invoice.number}",
        )
        for each in transfers
        if each.credit == wallet(invoice.organization_id)
    )  # fmt: skip
    assert not sum((each.credit == owed) * each.amount_nano - (each.debit == owed) * each.amount_nano for each in (
        transfers
    )) - invoice.payable_nano, "what was owed is owed no more"  # fmt: skip
    return note, transfers, back


def reissue(
    invoice: Invoice, terms: Terms, reason: str, number: int, now_us: int, credit_nano: int
) -> tuple[Invoice, tuple[Transfer, ...]]:
    """A voided invoice once more, with a number of its own: the same lines, for the buyer and by the taxes of now.

    `credit_nano` of credit is there, and pays as far as it reaches. The transfers are dated when it is made.
    """
    again, _ = close_month(
        invoice.organization_id, invoice.month, invoice.currency, invoice.lines, 0, number, now_us, terms=terms,
        credit_nano=credit_nano,
    )  # fmt: skip
    again = replace(
        again, id=f"{invoice.id}.again{number}", corrects=invoice.id, corrects_number=invoice.number, reason=reason
    )
    book = Book(again, now_us)
    revenue: dict[str, int] = {}
    for line in again.lines:
        revenue[line.meter] = revenue.get(line.meter, 0) + line.amount_nano
    for meter, amount in sorted(revenue.items()):
        book.move(f"revenue.{meter}", f"revenue:{meter}", amount, "reissue")
    for each in again.taxes:
        book.move(f"tax.{each.category}", f"tax:{each.category}", each.tax_nano, "tax")
    drawn = min(again.total_nano, credit_nano)
    book.draw(drawn)
    left = again.payable_nano - (sum(revenue.values()) + again.tax_nano - drawn)
    book.move("rounding", "rounding", left, "rounding")
    return again, book.transfers


def _rule_of(invoice: Invoice) -> TaxRate:
    """The rule by which the invoice was taxed."""
    standard = next((each for each in invoice.taxes if each.percent_milli), None) or next(iter(invoice.taxes), None)
    if standard is None:
        return TaxRate("", "*", "O", 0, 0)
    return TaxRate("", "*", standard.category, standard.percent_milli, 0, reason=standard.reason)


def _note(
    invoice: Invoice, kind: str, lines: Iterable[InvoiceLine], paid_nano: int, note_id: str, number: int, now_us: int,
    reason: str,
) -> Invoice:  # fmt: skip
    ordered = rounded(lines, invoice.currency)
    taxes = tax_lines(ordered, _rule_of(invoice), invoice.currency)
    net, tax = sum(line.net_nano for line in ordered), sum(each.tax_nano for each in taxes)
    return replace(
        invoice, id=note_id, number=number, lines=ordered, net_nano=net, tax_nano=tax, taxes=taxes,
        total_nano=net + tax, from_wallet_nano=paid_nano, payable_nano=net + tax - paid_nano, closed_us=now_us,
        kind=kind, corrects=invoice.id, corrects_number=invoice.number, reason=reason,
        due_us=now_us + invoice.buyer.terms_days * DAY_US,
    )  # fmt: skip
