"""The chain through all transfers: each link holds the digest of everything before it.

The order is that in which they were written down. To verify, walk the transfers by `number` and work the digests out
again: the first one that differs was altered, dropped or slipped in. Keep the last `number` and `chain` of a day
somewhere else, and nobody can rewrite the books up to there unseen, not even whoever owns the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, NamedTuple

from headframe.ledger.records import Transfer


class Head(NamedTuple):
    """The last link: how many transfers there are, and the digest over them all."""

    number: int = 0
    chain: str = ""


def digest(before: str, transfer: Transfer) -> str:
    """SHA-256 (hex) of the chain before and of the transfer's fields, each with its length so that none runs into the
    next."""
    fields = (
        before, transfer.id, transfer.debit, transfer.credit, str(transfer.amount_nano), transfer.currency,
        str(transfer.at_us), transfer.kind, transfer.source, transfer.organization_id,
        transfer.note.replace("\0", "\ufffd"), transfer.reverses, str(transfer.recorded_us), str(transfer.number),
    )  # fmt: skip
    return sha256("".join([f"{len(field)}:{field}" for field in fields]).encode(errors="replace")).hexdigest()


def link(rows: Sequence[Any], head: Head, now_us: int) -> tuple[Any, ...]:
    """The rows, with every transfer among them numbered, dated and chained on behind `head`."""
    if not any(isinstance(row, Transfer) for row in rows):
        return tuple(rows)
    linked: list[Any] = []
    for row in rows:
        if isinstance(row, Transfer):
            numbered = replace(row, recorded_us=now_us, number=head.number + 1)
            head = Head(numbered.number, digest(head.chain, numbered))
            linked.append(replace(numbered, chain=head.chain))
        else:
            linked.append(row)
    return tuple(linked)


def broken(transfers: Iterable[Transfer], head: Head = Head()) -> int | None:  # noqa: B008  an immutable value
    """The number at which a chain breaks, of transfers in order of their numbers; None when it holds."""
    for transfer in transfers:
        if transfer.number != head.number + 1 or transfer.chain != digest(head.chain, transfer):
            return head.number + 1
        head = Head(transfer.number, transfer.chain)
    return None
