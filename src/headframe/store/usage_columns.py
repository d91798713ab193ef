"""A month's usage records as columns in files: gathered out of the store once, then read in a fraction of a second.

Usage records are only ever added, so their number tells whether a file is still all there is. A file that is missing,
older or broken is made anew; nothing depends on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from headframe.base.errors import StoreFailed
from headframe.control.ports import Reads
from headframe.ledger.close import month_span_us
from headframe.metering.records import UsageRecord
from headframe.pricing.batch import Batch, Columns, Use, columns_of

PAGE = 20_000
_NAMES = ("from_us", "span_us", "held", "ran_us", "order")


class UsageColumns:
    """`control.ports.Columns` on a store, with its files in a folder of their own."""

    def __init__(self, reads: Reads, folder: Path) -> None:
        self._reads, self._folder = reads, folder

    def month(self, organization_id: str, month: str) -> Batch:
        """All usage records of an organization that begin in a month."""
        begin_us, end_us = month_span_us(month)
        where: dict[str, Any] = {"organization_id": organization_id, "from_us__ge": begin_us, "from_us__lt": end_us}
        count = self._reads.count(UsageRecord, **where)
        place = self._folder / month / f"{organization_id}.npz"
        found = read_columns(place, count)
        if found is None:
            found = columns_of(self._records(where))
            if count:
                write_columns(place, found, count)
        return found

    def _records(self, where: dict[str, Any]) -> Iterator[UsageRecord]:
        after: str | None = None
        while page := self._reads.find(UsageRecord, after=after, limit=PAGE, **where):
            yield from page
            after = page[-1].id


def write_columns(place: Path, batch: Batch, count: int) -> None:
    """Write a batch, made of `count` records; whole or not at all."""
    about = {"count": count, "groups": [[*use, len(one.held)] for use, one in sorted(batch.groups.items())]}
    tables = [one for _, one in sorted(batch.groups.items())]
    none = np.zeros(0, dtype=np.int64)
    columns: dict[str, list[NDArray[np.int64]]] = {
        "from_us": [one.from_us for one in tables], "span_us": [one.to_us - one.from_us for one in tables],
        "held": [one.held for one in tables], "ran_us": [one.ran_us for one in tables],
        "order": [one.order for one in tables],
    }  # fmt: skip
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=place.parent, prefix=f".{place.name}.", delete=False) as file:
            try:
                packed: dict[str, Any] = {
                    name: _narrow(np.concatenate([none, *parts])) for name, parts in columns.items()
                }
                np.savez(file, about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8), **packed)
                file.flush()
                Path(file.name).replace(place)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise StoreFailed(
            f"{place} cannot be written: {error.strerror}.",
            next_step="Make room on that disk, and ask again.",
            details={"path": str(place)},
        ) from error


def read_columns(place: Path, count: int | None = None) -> Batch | None:
    """A batch as it was written; None when there is none, or when it was made of another number of records."""
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            about = json.loads(kept["about"].tobytes())
            if count is not None and about["count"] != count:
                return None
            columns = [kept[name].astype(np.int64) for name in _NAMES]
    except (OSError, ValueError, KeyError, BadZipFile, EOFError):
        return None
    batch, at = Batch(), 0
    for *use, length in about["groups"]:
        from_us, span_us, held, ran_us, order = (column[at : at + length] for column in columns)
        batch.groups[Use(*use)] = Columns(from_us, from_us + span_us, held, ran_us, order)
        at += length
    return batch


def _narrow(values: NDArray[np.int64]) -> NDArray[Any]:
    """The same numbers in as few bytes as they fit in."""
    least, most = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for kind in (np.int8, np.int32, np.uint32):
        if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max:
            return values.astype(kind)
    return values
