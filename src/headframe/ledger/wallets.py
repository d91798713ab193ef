"""Prepaid credit: what was granted, in which order it is used up, and what is held back of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from headframe.base.money import Money
from headframe.ledger.post import grant as grant_transfer
from headframe.ledger.post import rebooked, receivable, transfer_of, wallet
from headframe.ledger.records import Transfer
from headframe.pricing.book import ANY, ANY_GPU
from headframe.pricing.records import Charge


@dataclass(frozen=True, slots=True)
class Grant:
    """Credit that an organization was given or paid in. `id` is that of the transfer that booked it.

    It may be used from `from_us` on, until `expires_us` (None: for good), for charges of `project_id` and `meter` ("*":
    all; "gpu:*" any accelerator). Of several, the one that expires first is used first, then the one of the smaller
    `priority`, then the oldest. `left_nano` is what is left of `amount_nano`; `open` that
    something is, and that it has not been taken back because it expired.
    """

    id: str
    organization_id: str
    amount_nano: int
    left_nano: int
    currency: str
    from_us: int
    expires_us: int | None = None
    priority: int = 50
    project_id: str = "*"
    meter: str = "*"
    paid: bool = True
    note: str = ""
    open: bool = True
    version: int = 1


@dataclass(frozen=True, slots=True)
class Burn:
    """`amount_nano` of a grant went into a charge; negative when it came back. A fact.

    `id` is "<charge id>.<grant id>", or "<reason>.<that id>" for what came back.
    """

    id: str
    grant_id: str
    charge_id: str
    organization_id: str
    amount_nano: int
    at_us: int


class HoldStage(StrEnum):
    """The life of a hold: pending ends once, by being posted or voided."""

    PENDING = "pending"
    POSTED = "posted"
    VOIDED = "voided"


@dataclass(frozen=True, slots=True)
class Hold:
    """Credit that is set aside for something that will be charged: nobody else may use it meanwhile.

    `posted_nano` of it was charged when it was posted (never more than `amount_nano`); it is voided by itself at
    `expires_us`.
    """

    id: str
    organization_id: str
    project_id: str
    amount_nano: int
    currency: str
    source: str
    at_us: int
    expires_us: int
    stage: HoldStage = HoldStage.PENDING
    posted_nano: int = 0
    version: int = 1


def usable(grant: Grant, charge: Charge, now_us: int) -> bool:
    """Whether a grant may pay for a charge now."""
    return (
        grant.open
        and grant.left_nano > 0
        and grant.from_us <= now_us
        and (grant.expires_us is None or charge.at_us <= grant.expires_us)
        and grant.project_id in (ANY, charge.project_id)
        and (grant.meter in (ANY, charge.meter) or (grant.meter == ANY_GPU and charge.meter.startswith("gpu:")))
    )


def burn_order(grant: Grant) -> tuple[bool, int, int, int, str]:
    """Which grant is used up first: what expires first, then the smaller priority, then the oldest."""
    return grant.expires_us is None, grant.expires_us or 0, grant.priority, grant.from_us, grant.id


def grant_rows(
    transfer_id: str,
    organization_id: str,
    money: Money,
    at_us: int,
    *,
    paid: bool,
    note: str = "",
    **terms: Any,
) -> tuple[Transfer, Grant]:
    """Prepaid credit, paid in or given: the transfer that books it, and the grant. `terms` are fields of the grant."""
    booked = grant_transfer(transfer_id, organization_id, money.nano, money.currency, at_us, paid=paid, note=note)
    given = Grant(
        id=transfer_id,
        organization_id=organization_id,
        amount_nano=money.nano,
        left_nano=money.nano,
        currency=money.currency,
        paid=paid,
        note=note,
        **{"from_us": at_us, **terms},
    )
    return booked, given


def pay(
    charges: Iterable[Charge],
    grants: Iterable[Grant],
    prepaid: bool,
    now_us: int,
    earlier: Mapping[str, Sequence[Transfer]] | None = None,
) -> list[Any]:
    """Book the charges of one organization: from its credit as far as that reaches, the rest to be invoiced.

    The rows are transfers (one for each charge and account, none for an amount of nothing), burns, and the grants as
    they then are. What is given back (a negative charge) becomes credit of who pays in advance; from everybody else it
    is taken off what is owed. `earlier` are the transfers that booked before what a charge corrects, by its id: they
    are reversed, and booked anew with the difference (`rebooked`).
    """
    rows = _paid(charges, grants, prepaid, now_us)
    return rows if not earlier else _rebook(rows, earlier)


def _paid(charges: Iterable[Charge], grants: Iterable[Grant], prepaid: bool, now_us: int) -> list[Any]:
    left = {grant.id: grant for grant in sorted(grants, key=burn_order)}
    before = dict(left)
    rows: list[Any] = []
    for charge in charges:
        if charge.amount_nano < 0:
            booked, *back = _give_back(charge, prepaid)
            rows.append(booked)
            if back:  # it may pay for what follows already
                left = {grant.id: grant for grant in sorted((*left.values(), *back), key=burn_order)}
            continue
        due = charge.amount_nano
        for grant in list(left.values()):
            if due and usable(grant, charge, now_us):
                part = min(due, grant.left_nano)
                due -= part
                rest, version = grant.left_nano - part, before[grant.id].version + 1 if grant.id in before else 1
                left[grant.id] = replace(grant, left_nano=rest, open=rest > 0, version=version)
                name = f"{charge.id}.{grant.id}"
                rows.append(Burn(name, grant.id, charge.id, charge.organization_id, part, charge.at_us))
        if charge.amount_nano > due:
            rows.append(transfer_of(charge, wallet(charge.organization_id), charge.amount_nano - due, "wallet"))
        if due:
            rows.append(transfer_of(charge, receivable(charge.organization_id), due, "receivable"))
    return rows + [grant for grant in left.values() if grant != before.get(grant.id)]


def _rebook(rows: list[Any], earlier: Mapping[str, Sequence[Transfer]]) -> list[Any]:
    """The rows with the transfers of each charge that corrects an earlier one in place of those of its difference."""
    made: list[Any] = []
    parts: dict[str, list[Transfer]] = {}
    for row in rows:
        if isinstance(row, Transfer) and row.source in earlier:
            parts.setdefault(row.source, []).append(row)
        else:
            made.append(row)
    for source, own in parts.items():
        made += rebooked(own, earlier[source])
    return made


def _give_back(charge: Charge, prepaid: bool) -> list[Any]:
    amount = -charge.amount_nano
    account = (wallet if prepaid else receivable)(charge.organization_id)
    booked = transfer_of(charge, account, amount, "wallet" if prepaid else "receivable")
    booked = replace(booked, debit=booked.credit, credit=booked.debit)
    if not prepaid:
        return [booked]
    back = Grant(
        id=booked.id,
        organization_id=charge.organization_id,
        amount_nano=amount,
        left_nano=amount,
        currency=charge.currency,
        from_us=charge.at_us,
        paid=False,
        note=charge.kind,
    )
    return [booked, back]


def restore(burns: Iterable[Burn], grants: Iterable[Grant], reason: str, at_us: int) -> list[Any]:
    """Give back to grants what burns took from them, as when an invoice is voided: burns that undo, and the grants.

    `reason` (the id of what is voided) begins the ids, so that nothing is given back twice. The transfers that bring
    the money back to the wallet are the caller's.
    """
    known = {grant.id: grant for grant in grants}
    rows: list[Any] = []
    more: dict[str, int] = {}
    for burn in burns:
        back = replace(burn, id=f"{reason}.{burn.id}", amount_nano=-burn.amount_nano, at_us=at_us)
        rows.append(back)
        more[burn.grant_id] = more.get(burn.grant_id, 0) + burn.amount_nano
    for grant_id, amount in sorted(more.items()):
        grant, left = known[grant_id], known[grant_id].left_nano + amount
        rows.append(replace(grant, left_nano=left, open=left > 0, version=grant.version + 1))
    return rows


def expire(grant: Grant, at_us: int) -> tuple[Transfer, Grant]:
    """Take back what is left of a grant whose time is over."""
    booked = Transfer(
        id=f"{grant.id}.expired",
        debit=wallet(grant.organization_id),
        credit="expired",
        amount_nano=grant.left_nano,
        currency=grant.currency,
        at_us=at_us,
        kind="credit_expired",
        source=grant.id,
        organization_id=grant.organization_id,
    )
    return booked, replace(grant, left_nano=0, open=False, version=grant.version + 1)
