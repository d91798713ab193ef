"""The store against a dictionary: whatever is applied, in whatever order, they agree."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headframe.base.changes import Changes, Event
from headframe.base.errors import Conflict
from headframe.ledger.records import Transfer
from headframe.store.sql_store import SqlStore
from headframe.tenants.records import Organization
from tests.contract.store_worlds import event, organization, transfer

# (which row, by how much its version is off: 0 is right) or (a fact's number, None)
_STEP = st.tuples(st.integers(1, 4), st.sampled_from([0, 0, 0, 0, 0, 0, -1, 1]) | st.none())


class Model:
    """What the contract says of rows, versions and facts, in plain words."""

    def __init__(self) -> None:
        self.rows: dict[tuple[type[Any], Any], Any] = {}

    def apply(self, changes: Changes) -> None:
        rows = dict(self.rows)
        for record in (*changes.rows, *changes.events):
            place = type(record), record.id
            before = rows.get(place)
            version = getattr(record, "version", None)
            if version is None and before is not None:
                raise Conflict("a fact is written once")
            if version is not None and version != (before.version if before else 0) + 1:
                raise Conflict("it is at another version")
            rows[place] = record
        self.rows = rows


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(_STEP, min_size=1, max_size=6), max_size=12))
def test_the_store_and_the_model_agree(plan: list[list[tuple[int, int | None]]]) -> None:
    store, model, seq = SqlStore("sqlite://"), Model(), 0
    for turn, steps in enumerate(plan):
        versions = {record.id: record.version for (kind, _), record in model.rows.items() if kind is Organization}
        records: list[Any] = []
        for number, off in steps:
            if off is None:
                records.append(transfer(number + 10 * (turn % 2), number))
                continue
            row = organization(number, f"name-{number}")
            version = max(1, versions.get(row.id, 0) + 1 + off)
            versions[row.id] = version
            records.append(dataclasses.replace(row, version=version, created_us=turn))
        changes = Changes(tuple(records), (event(seq + 1),))
        try:
            model.apply(changes)
            agreed = True
        except Conflict:
            agreed = False
        try:
            store.apply(changes)
            assert agreed
            seq += 1
        except Conflict:
            assert not agreed
        for kind in (Organization, Transfer, Event):
            kept = [record for (of, _), record in model.rows.items() if of is kind]
            assert store.find(kind, limit=1000) == sorted(kept, key=lambda record: record.id)
    store.close()
