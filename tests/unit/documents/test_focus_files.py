"""FOCUS tables as files: whatever form a column has, CSV and Parquet hold the same, exact to the nano-unit."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headframe.base.quantities import DAY_US
from headframe.documents.focus import Month
from headframe.documents.focus_columns import COST_AND_USAGE
from headframe.documents.focus_costs import Nano, Spread, Table, cost_and_usage, gather_charges, tabled
from headframe.documents.focus_files import focus_csv, focus_parquet
from headframe.ledger.records import Party
from headframe.pricing.records import Charge

names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=5)
COLUMNS = {"Text": "s", "BilledCost": "d", "Repeated": "s", "Absent": "s", "Price": "d"}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.sampled_from(["a", "ü", None]), names),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_csv_and_parquet_hold_the_same(rows: list[tuple[int, str | None, str]]) -> None:
    from pyarrow import parquet

    values = ["a", "ü", None]
    table = Table(
        len(rows),
        {
            "Text": [f"x{text}" for *_, text in rows], "BilledCost": Nano(np.array([nano for nano, *_ in rows])),
            "Repeated": Spread(values, np.array([values.index(one) for _, one, _ in rows])),
            "Price": Spread([Decimal("1.5"), None], np.array([place % 2 for place in range(len(rows))])),
        },
        {},
    )  # fmt: skip
    plain = tabled([{"Text": "last", "BilledCost": Decimal("-0.000000001"), "InvoiceId": "7"}])
    assert plain.billed == {"7": -1}
    told = list(csv.DictReader(io.StringIO(focus_csv(COLUMNS, [table, plain]).decode(), newline="")))
    kept = parquet.read_table(io.BytesIO(focus_parquet(COLUMNS, [table, plain]))).to_pylist()
    assert [row["BilledCost"] for row in kept] == [
        *(Decimal(nano).scaleb(-9) for nano, *_ in rows), Decimal("-0.000000001")
    ]  # fmt: skip
    for one, other in zip(told, kept, strict=True):
        assert Decimal(one["BilledCost"]) == other["BilledCost"]
        assert {name: one[name] or None for name in ("Repeated", "Absent")} == {
            name: other[name] or None for name in ("Repeated", "Absent")
        }
        assert (Decimal(one["Price"]) if one["Price"] else None) == other["Price"]


def test_names_are_no_formulas_in_a_spreadsheet_and_numbers_stay_numbers() -> None:
    from pyarrow import parquet

    hostile = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\tx", "\rx", "\nx", "\uff1d1", "plain=1", "", None]
    table = tabled([{"Text": text, "BilledCost": Decimal(-5), "Price": Decimal("-0.5")} for text in hostile])
    table.columns["Repeated"] = Spread(hostile, np.arange(len(hostile)))
    told = list(csv.DictReader(io.StringIO(focus_csv(COLUMNS, [table]).decode(), newline="")))
    quoted = [*(f"'{text}".replace("\r", "\n") for text in hostile[:8]), "plain=1", "", ""]
    assert [row["Text"] for row in told] == [row["Repeated"] for row in told] == quoted
    assert {(row["BilledCost"], row["Price"]) for row in told} == {("-5", "-0.5")}
    kept = parquet.read_table(io.BytesIO(focus_parquet(COLUMNS, [table]))).to_pylist()
    assert [row["Text"] for row in kept] == hostile


def test_labels_are_tags_and_keep_rows_apart() -> None:
    charges = [
        Charge(
            f"chg_{team}", "", "alc_1", "job_1", "org_1", "prj_1", "mem_1", "gpu:H100", "usage", "price_1",
            1000 * 3_600_000_000, 10**9, 10**9, "USD", 5 * DAY_US, 5 * DAY_US + 1, 5 * DAY_US + 1, unit="gpu-hour",
            labels={"team": team} if team else {},
        )
        for team in ("vision", "speech", "")
    ]  # fmt: skip
    month = Month("1970-01", Party("seller", "Cloud"), (), (), ())
    text = focus_csv(COST_AND_USAGE, cost_and_usage(month, gather_charges(charges))).decode()
    told = list(csv.DictReader(io.StringIO(text)))
    assert sorted(row["Tags"] for row in told) == ["", '{"team": "speech"}', '{"team": "vision"}']
    assert {(row["BilledCost"], row["PricingQuantity"]) for row in told} == {("1", "1")}
