"""The records of the ledger."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Transfer:
    """`amount_nano` (positive) moves from account `credit` to account `debit` (double entry). A fact: written once.

    Accounts are texts: "receivable:<organization>" (what it owes us), "wallet:<organization>" (what it has paid in
    advance), "revenue:<meter>", "tax:<category>", "rounding", "cash", "grants" (credit given away). `source` is the id
    of the charge, order or invoice behind it. `at_us` is when it counts, `recorded_us` when it was written down.
    `reverses` is the id of what it takes back: the only way in which the books are corrected. `number` is its place in
    the one order of all transfers, and `chain` the SHA-256 of the chain before it and of all its other fields: whoever
    alters, drops or slips in one breaks every later link (see `chain`). Both are given when it is written.
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
    reverses: str = ""
    recorded_us: int = 0
    number: int = 0
    chain: str = ""


@dataclass(frozen=True, slots=True)
class Closing:
    """A month of one organization closed for good: no transfer is dated inside it any more. A fact.

    `id` is "<organization>.<month>"; the month holds begin_us < at_us <= end_us. `invoice_id` is "" when nothing was
    used, so that there is no invoice.
    """

    id: str
    organization_id: str
    month: str
    begin_us: int
    end_us: int
    closed_us: int
    invoice_id: str = ""


@dataclass(frozen=True, slots=True)
class Party:
    """Who sells ("seller") or who buys (the id of the organization), as invoices name them.

    `country` is ISO 3166-1 alpha-2. `tax_id` is a VAT or tax number with its country prefix ("" for none);
    `registration` another legal number, such as of a trade register. `language` is "en" or "zh". `reference` is what
    the buyer wants to read on invoices, such as an order number. `terms_days` is how long the buyer has to pay. The
    last four are the seller's: where to pay, and whom to ask.
    """

    id: str
    name: str
    street: str = ""
    city: str = ""
    postcode: str = ""
    country: str = ""
    tax_id: str = ""
    registration: str = ""
    email: str = ""
    language: str = "en"
    reference: str = ""
    terms_days: int = 30
    iban: str = ""
    bic: str = ""
    bank: str = ""
    phone: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class TaxRate:
    """A rule of tax, in [from_us, to_us): which category and rate a buyer gets.

    `applies_to` is the id of an organization, a country ("DE"), "EU" (another member state than the seller's) or "*".
    `business` is "yes" (the buyer has a tax id), "no" or "*". `category` is a code of EN 16931: S standard, Z zero, E
    exempt, AE reverse charge, K within the EU, G export, O not subject to tax. `percent_milli` is in thousandths of a
    per cent (19 % is 19000). `reason` is printed where nothing is charged.
    """

    id: str
    applies_to: str
    category: str
    percent_milli: int
    from_us: int
    to_us: int | None = None
    business: str = "*"
    reason: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """The charges of one project, meter, purchase, contract and price, summed.

    `quantity` is in thousandths (gpu, cpu) or MiB (memory, disk) times seconds, rounded half to even, or what a meter
    of events counts (of what is kept, MiB times seconds): for people to read. One `unit` costs `unit_nano`, in
    `fx_base` when the price is in another currency; `fx_rate_pico` / 10^12 of ours were paid for one of it, by
    `fx_source` from `fx_us` on. `project` is the project's name and `note` the contract's title, as they were when the
    line was made. `amount_nano` is the exact sum of the charges' amounts; `net_nano` is that rounded, once and half to
    even, to what the currency can be paid in: what the invoice adds up. `tax` is the charges' category of tax.
    """

    project_id: str
    meter: str
    kind: str
    unit_nano: int
    quantity: int
    amount_nano: int
    net_nano: int = 0
    unit: str = ""
    purchase: str = ""
    contract_id: str = ""
    fx_base: str = ""
    fx_rate_pico: int = 0
    fx_source: str = ""
    fx_us: int = 0
    tax: str = "S"
    project: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class TaxLine:
    """The tax of one category and rate on the sum of its lines, rounded once, half to even."""

    category: str
    percent_milli: int
    basis_nano: int
    tax_nano: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Invoice:
    """A month of one organization closed, or a note that corrects one. A fact: written once; never changed.

    `number` counts 1, 2, 3 ... without gaps over the whole cloud and over all kinds. `kind` is "invoice", "credit_note"
    (less is owed) or "debit_note" (more is owed); notes name the invoice in `corrects` and `corrects_number` and say
    why in `reason`; all their amounts are positive. `net_nano` is the sum of the lines, `total_nano` that with
    `tax_nano`, `from_wallet_nano` what was paid in advance, `payable_nano` what is left to pay. Seller and buyer are
    as they were at that moment.
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
    kind: str = "invoice"
    corrects: str = ""
    corrects_number: int = 0
    reason: str = ""
    net_nano: int = 0
    tax_nano: int = 0
    taxes: tuple[TaxLine, ...] = ()
    due_us: int = 0
    seller: Party = Party("seller", "")
    buyer: Party = Party("", "")
