"""All of a month, read from the store for those who write documents of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headframe.control.ports import Reads
from headframe.documents.focus import Month, billing_month
from headframe.documents.focus_costs import Key, Sums, gather_charges
from headframe.ledger.close import SELLER, month_span_us
from headframe.ledger.records import Closing, Invoice, Party, Transfer
from headframe.pricing.records import Charge, Contract
from headframe.tenants.records import Organization, Project

PAGE = 5000


@dataclass(frozen=True, slots=True)
class Books:
    """A month of all organizations, or of one."""

    month: Month
    pieces: dict[Key, Sums]


def every(reads: Reads, kind: type[Any], **where: Any) -> Iterator[Any]:
    """All records of a class, by id, page by page."""
    after: str | None = None
    while page := reads.find(kind, after=after, limit=PAGE, **where):
        yield from page
        after = page[-1].id


def read_books(reads: Reads, month: str, now_us: int, organization_id: str | None = None) -> Books:
    """The month's charges, summed by day and resource, and every document that was made in it or of it."""
    own: dict[str, Any] = {} if organization_id is None else {"organization_id": organization_id}
    begin_us, end_us = month_span_us(month)
    closings = tuple(every(reads, Closing, month=month, **own))
    invoices = [each for each in every(reads, Invoice, **own) if billing_month(each) == month]
    charges = every(reads, Charge, at_us__ge=begin_us + 1, at_us__lt=end_us + 1, **own)
    names = {each.id: each.name for kind in (Organization, Project) for each in every(reads, kind)}
    contracts = tuple(
        each for each in every(reads, Contract, **own) if each.from_us < end_us and each.to_us > begin_us
    )  # fmt: skip
    count = 1 if organization_id is not None else sum(
        each.created_us < end_us for each in every(reads, Organization)
    )  # fmt: skip
    found = Month(
        month=month,
        seller=reads.get(Party, SELLER) or Party(SELLER, ""),
        invoices=tuple(sorted(invoices, key=lambda each: each.number)),
        closings=closings,
        contracts=contracts,
        names=names,
        organizations=count,
        now_us=max([end_us, *(each.closed_us for each in closings)]) if closings else now_us,
    )
    return Books(found, gather_charges(charges, invoices))


def transfers(reads: Reads, organization_id: str | None = None, until_us: int | None = None) -> Iterator[Transfer]:
    """All transfers, or those of an organization; those dated up to a moment when one is given."""
    where: dict[str, Any] = {} if organization_id is None else {"organization_id": organization_id}
    if until_us is not None:
        where["at_us__lt"] = until_us + 1
    yield from every(reads, Transfer, **where)
