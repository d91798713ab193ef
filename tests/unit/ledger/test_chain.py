"""The chain through all transfers: whatever is altered, dropped, slipped in or moved is found, and where."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from headframe.ledger.chain import Head, broken, link
from headframe.ledger.records import Closing, Transfer


def transfer(number: int) -> Transfer:
    return Transfer(f"trf_{number}", "cash", "wallet:org_1", 5, "USD", number, "credit_paid", "x", "org_1")


def linked(count: int) -> list[Transfer]:
    return list(link([transfer(number) for number in range(count)], Head(), 99))


def test_links_follow_each_other_over_many_changes() -> None:
    first = link([transfer(0), transfer(1)], Head(), 99)
    closing = Closing("org_1.2026-11", "org_1", "2026-11", 1, 2, 3)
    second = link([closing, transfer(2)], Head(first[-1].number, first[-1].chain), 100)
    assert second[0] is closing
    assert [each.number for each in (*first, second[1])] == [1, 2, 3]
    assert second[1].recorded_us == 100
    assert broken([*first, second[1]]) is None
    assert link([closing], Head(), 1) == (closing,)


@pytest.mark.parametrize("name", [field.name for field in fields(Transfer) if field.name not in ("chain", "number")])
def test_an_altered_field_is_found(name: str) -> None:
    chain = linked(5)
    value: Any = getattr(chain[2], name)
    chain[2] = replace(chain[2], **{name: value + 1 if isinstance(value, int) else f"{value}?"})
    assert broken(chain) == 3


def test_what_is_dropped_slipped_in_or_moved_is_found() -> None:
    chain = linked(5)
    assert broken(chain[:2] + chain[3:]) == 3
    assert broken([*chain[:2], chain[1], *chain[2:]]) == 3
    assert broken([chain[0], chain[2], chain[1], *chain[3:]]) == 2
    assert broken([replace(chain[4], number=1)]) == 1


def test_fields_do_not_run_into_each_other() -> None:
    one = replace(transfer(1), kind="ab", source="c")
    other = replace(transfer(1), kind="a", source="bc")
    assert link([one], Head(), 1)[0].chain != link([other], Head(), 1)[0].chain
