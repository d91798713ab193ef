"""How the closing of a month takes from prepaid credit what it adds to the charges: tax and rounding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from headframe.ledger.records import Transfer
from headframe.ledger.wallets import Burn, Grant, burn_order

ANY = "*"


def free(grant: Grant, now_us: int) -> bool:
    """Whether a grant may pay for anything now: it is bound to no project and no meter, and its time is not over."""
    return (
        (grant.project_id, grant.meter) == (ANY, ANY)
        and grant.left_nano > 0
        and grant.from_us <= now_us
        and (grant.expires_us is None or now_us <= grant.expires_us)
    )


def settle(transfers: Iterable[Transfer], grants: Sequence[Grant], account: str, now_us: int) -> list[Any]:
    """The burns and grants behind the settlement among the transfers of a document; what came back is a new grant.

    `account` is the wallet. The grants must hold what is taken.
    """
    rows: list[Any] = []
    for each in transfers:
        if each.kind != "settlement":
            continue
        if each.credit == account:
            back = Grant(
                id=each.id, organization_id=each.organization_id, amount_nano=each.amount_nano,
                left_nano=each.amount_nano, currency=each.currency, from_us=now_us, paid=False, note="rounding",
            )  # fmt: skip
            rows.append(back)
            continue
        due = each.amount_nano
        for grant in sorted(grants, key=burn_order):
            part = min(due, grant.left_nano)
            if part:
                due -= part
                left = grant.left_nano - part
                rows.append(Burn(f"{each.id}.{grant.id}", grant.id, each.id, grant.organization_id, part, each.at_us))
                rows.append(replace(grant, left_nano=left, open=left > 0, version=grant.version + 1))
        assert not due, "no more is taken than there is"
    return rows
