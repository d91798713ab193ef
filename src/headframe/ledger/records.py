"""The records of the ledger."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Transfer:
    """`amount_nano` (positive) moves from account `credit` to account `debit` (double entry). A fact: written once.

    Accounts are texts: "receivable:<organization>" (what it owes us), "wallet:<organization>" (what it has paid in
    advance), "revenue:<meter>", "cash", "grants" (credit given away). `source` is the id of the charge or order behind
    it.
    """

    id: str
    debit: str
    credit: str
    amount_nano: int
    currency: str
    at_us: int
    kind: str
    source: str
    organization_id: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """The charges of one project, meter and price, summed.

    `quantity` is in thousandths (gpu, cpu) or MiB (memory, disk) times seconds, rounded half to even: for people to
    read. `amount_nano` is the exact sum of the charges' amounts.
    """

    project_id: str
    meter: str
    kind: str
    per_hour_nano: int
    quantity: int
    amount_nano: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """A month of one organization closed. A fact: written once; corrections are new documents.

    `number` counts 1, 2, 3 ... without gaps over the whole cloud. `total_nano` is exact; `from_wallet_nano` of it was
    prepaid; `payable_nano` is what is left to pay, rounded half to even to what the currency can be paid in.
    """

    id: str
    number: int
    organization_id: str
    month: str
    currency: str
    lines: tuple[InvoiceLine, ...]
    total_nano: int
    from_wallet_nano: int
    payable_nano: int
    closed_us: int
