"""How amounts are read."""

from __future__ import annotations

import pytest

from headframe.base.errors import Invalid
from headframe.base.money import NANO, parse_money


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("1,000.50 EUR", 1000 * NANO + NANO // 2),
        ("1_000", 1000 * NANO),
        ("12,345,678", 12_345_678 * NANO),
        ("0.25", NANO // 4),
    ],
)
def test_groups_of_three_may_be_set_apart(text: str, nano: int):
    assert parse_money(text, field="amount").nano == nano


@pytest.mark.parametrize(
    "text", ["5,00 EUR", "1,5", "1,00,000", "1,_000", "1000,000", "5,", "1_0", "1,000_000", "1.000,50"]
)
def test_a_comma_elsewhere_is_no_amount(text: str):
    with pytest.raises(Invalid, match="not an amount of money"):
        parse_money(text, field="amount")
