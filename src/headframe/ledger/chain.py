"""The chain through all transfers: each link holds the digest of everything before it.

The order is that in which they were written down. To verify, walk the transfers by `number` and work the digests out
again: the first one that differs was altered, dropped or slipped in. Keep the last `number` and `chain` of a day
somewhere else, and nobody can rewrite the books up to there unseen, not even whoever owns the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from headframe.base.changes import revised
from headframe.ledger.records import Transfer


class Head(NamedTuple):
    """The last link: how many transfers there are, and the digest over them all."""

    number: int = 0
    chain: str = ""


def digest(before: str, transfer: Transfer, number: int, recorded_us: int) -> str:
    """SHA-256 (hex) of the chain before and of the transfer's fields, written so that none runs into the next."""
    note = transfer.note.replace("\0", "\ufffd") if "\0" in transfer.note else transfer.note  # as stores keep it
    fields = (
        before, transfer.id, transfer.debit, transfer.credit, transfer.amount_nano, transfer.currency, transfer.at_us,
        transfer.kind, transfer.source, transfer.organization_id, note, transfer.reverses, recorded_us, number,
    )  # fmt: skip
    return sha256(ascii(fields).encode()).hexdigest()


def link(rows: Sequence[Any], head: Head, now_us: int) -> tuple[Any, ...]:
    """The rows, with every transfer among them numbered, dated and chained on behind `head`."""
    if Transfer not in set(map(type, rows)):
        return tuple(rows)
    linked: list[Any] = []
    for row in rows:
        if type(row) is Transfer:
            head = Head(head.number + 1, digest(head.chain, row, head.number + 1, now_us))
            linked.append(revised(row, recorded_us=now_us, number=head.number, chain=head.chain))
        else:
            linked.append(row)
    return tuple(linked)


def broken(transfers: Iterable[Transfer], head: Head = Head()) -> int | None:  # noqa: B008  an immutable value
    """The number at which a chain breaks, of transfers in order of their numbers; None when it holds."""
    for transfer in transfers:
        if transfer.number != head.number + 1 or (
            transfer.chain != digest(head.chain, transfer, transfer.number, transfer.recorded_us)
        ):
            return head.number + 1
        head = Head(transfer.number, transfer.chain)
    return None
