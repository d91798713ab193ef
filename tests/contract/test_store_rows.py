"""A record becomes a row and the same record again, for every class of record and any values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headframe.base.changes import Changes, Event
from headframe.store.migrations import migrate
from headframe.store.rows import kept_text, mapping_of
from headframe.store.schema import INDICES, TABLES
from headframe.store.sql_store import SqlStore
from tests.contract.store_worlds import any_record

every_kind = pytest.mark.parametrize("kind", [kind for kind, _ in TABLES], ids=lambda kind: kind.__name__)
_fresh = count(1)


@pytest.fixture(scope="module")
def store(module_url: str) -> Iterator[SqlStore]:
    migrate(module_url)
    made = SqlStore(module_url)
    yield made
    made.close()


@every_kind
@settings(max_examples=50, deadline=None)
@given(given=st.data())
def test_decoded_is_what_was_encoded(kind: type[Any], given: st.DataObject) -> None:
    record = given.draw(any_record(kind))
    mapping = mapping_of(kind)
    row = mapping.encode(record)
    assert len(row) == len(mapping.names)
    assert all(value is None or type(value) in (int, bool, str) for value in row)
    assert mapping.decode(row) == record


def _made_unique(record: Any) -> Any:
    """The record under a key and names of its own, as a first version."""
    number = next(_fresh)
    changed: dict[str, Any] = {"version": 1} if hasattr(record, "version") else {}
    names = ["seq" if isinstance(record, Event) else "id"]
    names += [index.columns[-1] for index in INDICES.get(type(record), ()) if index.unique]
    for name in names:
        old = getattr(record, name)
        changed[name] = number if isinstance(old, int) else f"{old}{number}"
    return dataclasses.replace(record, **changed)


@every_kind
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=st.data())
def test_stored_is_what_was_written(store: SqlStore, kind: type[Any], given: st.DataObject) -> None:
    record = _made_unique(given.draw(any_record(kind)))
    store.apply(Changes(events=(record,)) if kind is Event else Changes(rows=(record,)))
    assert store.get(kind, record.id) == record


@settings(max_examples=200)
@given(text=st.text(st.characters(exclude_categories=[])))
def test_mended_text_can_be_kept_and_is_mended_once(text: str) -> None:
    mended = kept_text(text)
    assert "\0" not in mended
    assert mended.encode().decode() == mended
    assert kept_text(mended) == mended
    if "\0" not in text and text.isprintable():
        assert mended == text
