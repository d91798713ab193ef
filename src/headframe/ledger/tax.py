"""Which tax a buyer gets: the rules are rows that finance keeps; this module only looks them up.

Categories and what they demand are from EN 16931-1 (BG-23): the rate of AE, E, G, K and O is nothing, and they need a
reason. Without any rule nothing is taxed, and the invoice says so.
"""

from __future__ import annotations

from collections.abc import Iterable

from headframe.base.money import EXPONENTS, divide_half_even
from headframe.ledger.records import InvoiceLine, Party, TaxLine, TaxRate

# Member states of the European Union (ISO 3166-1), since 2020.
EU = frozenset(
    {
        "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU",
        "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
    }
)  # fmt: skip
REASONS = {
    "AE": "Reverse charge",
    "E": "Exempt from tax",
    "G": "Export outside the EU",
    "K": "Intra-community supply",
    "O": "Not subject to tax",
}
STANDARD = "S"
CATEGORIES = frozenset({"S", "Z", *REASONS})
WHOLE = 100_000  # 100 %, in thousandths of a per cent


def rule_for(seller: Party, buyer: Party, rates: Iterable[TaxRate], at_us: int) -> TaxRate:
    """The rule in force: first the organization's own, then its country's, then "EU", then "*"; then the one that knows
    whether the buyer is a business; then the latest."""
    best: tuple[int, bool, int, str] | None = None
    found = TaxRate("", "*", "O", 0, 0)
    for rate in rates:
        if not (rate.from_us <= at_us and (rate.to_us is None or at_us < rate.to_us)):
            continue
        closeness = _closeness(rate, seller, buyer)
        if closeness is None or rate.business not in ("*", "yes" if buyer.tax_id else "no"):
            continue
        rank = (closeness, rate.business != "*", rate.from_us, rate.id)
        if best is None or rank > best:
            best, found = rank, rate
    return found


def _closeness(rate: TaxRate, seller: Party, buyer: Party) -> int | None:
    """How exactly a rule names the buyer; None when it does not."""
    if rate.applies_to == buyer.id:
        return 3
    if buyer.country and rate.applies_to == buyer.country:
        return 2
    within = {seller.country, buyer.country} <= EU and seller.country != buyer.country
    if rate.applies_to == "EU" and within:
        return 1
    return 0 if rate.applies_to == "*" else None


def category_of(line: InvoiceLine, rule: TaxRate) -> str:
    """What a line is taxed as: a line of another category than the standard one keeps it, unless nothing is taxed."""
    return rule.category if line.tax == STANDARD or rule.category == "O" else line.tax


def tax_lines(lines: Iterable[InvoiceLine], rule: TaxRate, currency: str) -> tuple[TaxLine, ...]:
    """The tax of each category on the sum of its lines, rounded once, half to even."""
    bases: dict[str, int] = {}
    for line in lines:
        category = category_of(line, rule)
        bases[category] = bases.get(category, 0) + line.net_nano
    step: int = 10 ** (9 - EXPONENTS.get(currency, 2))  # the least that can be paid, in nano-units
    made = []
    for category, basis in sorted(bases.items()):
        own = category == rule.category
        percent = rule.percent_milli if own else 0
        tax = divide_half_even(basis * percent, WHOLE * step) * step
        made.append(TaxLine(category, percent, basis, tax, (own and rule.reason) or REASONS.get(category, "")))
    return tuple(made)
