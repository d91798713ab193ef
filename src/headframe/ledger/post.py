"""From charges and orders to balanced transfers.

Signs: the balance of an account is its debits minus its credits. So "receivable:<organization>" is positive while the
organization owes us, "wallet:<organization>" negative while it has prepaid credit left (we owe it use),
"revenue:<meter>" negative by what we earned, "cash" positive by what was paid in, "grants" positive by what was given,
"expired" negative by credit whose time was over. All accounts of a currency together are always zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from headframe.ledger.records import Transfer
from headframe.ledger.trial import reverse
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


def payment(
    transfer_id: str, organization_id: str, amount_nano: int, currency: str, at_us: int, note: str = ""
) -> Transfer:
    """Money that came in for what is owed."""
    return Transfer(
        id=transfer_id, debit="cash", credit=receivable(organization_id), amount_nano=amount_nano, currency=currency,
        at_us=at_us, kind="payment", source=transfer_id, organization_id=organization_id, note=note,
    )  # fmt: skip


def transfer_of(charge: Charge, debit: str, amount_nano: int, part: str) -> Transfer:
    """What a charge moves from its revenue to an account; `part` ends the id."""
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


def rebooked(difference: Sequence[Transfer], earlier: Sequence[Transfer]) -> list[Transfer]:
    """A correction as a pair: what was booked before is reversed, and booked anew with the difference.

    `difference` are the transfers that the correction alone would make, `earlier` those that booked what it corrects:
    each between a wallet or a receivable and one account of revenue, one of a kind. Together they move as much as the
    difference alone.
    """
    like = difference[0]
    revenue = next(account for account in (like.debit, like.credit) if account.startswith("revenue:"))
    sums: dict[str, int] = {}
    made = []
    for each in earlier:
        payer = each.credit if each.debit == revenue else each.debit
        sums[payer] = sums.get(payer, 0) + (each.amount_nano if each.debit == payer else -each.amount_nano)
        back = reverse(each, f"{like.source}.{payer.partition(':')[0]}.reversal", like.at_us)
        made.append(replace(back, source=like.source))
    for each in difference:
        payer = each.credit if each.debit == revenue else each.debit
        sums[payer] = sums.get(payer, 0) + (each.amount_nano if each.debit == payer else -each.amount_nano)
    for payer, amount in sorted(sums.items()):
        if amount:
            debit, credit = (payer, revenue) if amount > 0 else (revenue, payer)
            name = f"{like.source}.{payer.partition(':')[0]}"
            made.append(replace(like, id=name, amount_nano=abs(amount), debit=debit, credit=credit))
    return made
