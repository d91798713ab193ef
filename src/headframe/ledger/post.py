"""From charges and orders to balanced transfers.

Signs: the balance of an account is its debits minus its credits. So "receivable:<organization>" is positive while the
organization owes us, "wallet:<organization>" negative while it has prepaid credit left (we owe it use),
"revenue:<meter>" negative by what we earned, "cash" positive by what was paid in, "grants" positive by what was given.
All accounts of a currency together are always zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headframe.ledger.records import Transfer
from headframe.pricing.records import Charge


def wallet(organization_id: str) -> str:
    """The account of what the organization has paid (or been given) in advance."""
    return f"wallet:{organization_id}"


def receivable(organization_id: str) -> str:
    """The account of what the organization owes us."""
    return f"receivable:{organization_id}"


def credit_left(balances: Mapping[tuple[str, str], int], organization_id: str, currency: str) -> int:
    """The prepaid credit of an organization in nano-units; never negative."""
    return -balances.get((wallet(organization_id), currency), 0)


def post(charges: Iterable[Charge], credit_nano: int) -> tuple[Transfer, ...]:
    """Book the charges of one organization: from its prepaid credit as far as that reaches, the rest to be invoiced.

    `credit_nano` is the credit left before the first of them. A charge that the credit covers in part makes two
    transfers; one of nothing makes none.
    """
    transfers: list[Transfer] = []
    for charge in charges:
        prepaid = min(credit_nano, charge.amount_nano)
        credit_nano -= prepaid
        if prepaid:
            transfers.append(_of_charge(charge, wallet(charge.organization_id), prepaid, "wallet"))
        if charge.amount_nano > prepaid:
            account = receivable(charge.organization_id)
            transfers.append(_of_charge(charge, account, charge.amount_nano - prepaid, "receivable"))
    return tuple(transfers)


def grant(
    transfer_id: str, organization_id: str, amount_nano: int, currency: str, at_us: int, *, paid: bool, note: str = ""
) -> Transfer:
    """Prepaid credit: paid in (`paid`) or given away."""
    return Transfer(
        id=transfer_id,
        debit="cash" if paid else "grants",
        credit=wallet(organization_id),
        amount_nano=amount_nano,
        currency=currency,
        at_us=at_us,
        kind="credit_paid" if paid else "credit_given",
        source=transfer_id,
        organization_id=organization_id,
        note=note,
    )


def _of_charge(charge: Charge, debit: str, amount_nano: int, part: str) -> Transfer:
    return Transfer(
        id=f"{charge.id}.{part}",
        debit=debit,
        credit=f"revenue:{charge.meter}",
        amount_nano=amount_nano,
        currency=charge.currency,
        at_us=charge.at_us,
        kind=charge.kind,
        source=charge.id,
        organization_id=charge.organization_id,
    )
