"""FOCUS tables as CSV or Parquet. Decimals stay decimals: 128 bits, with digits enough for every price and product."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from headframe.base.cells import text_cell
from headframe.documents.focus import money
from headframe.documents.focus_costs import Nano, Spread, Table
from headframe.documents.pdf import missing_extra

DIGITS, BEHIND_POINT = 38, 16
NANO_DIGITS = 9


def focus_csv(columns: Mapping[str, str], tables: Iterable[Table]) -> bytes:
    """UTF-8 CSV with a head line; an absent value is an empty field.

    Text that a spreadsheet would take for a formula stands behind an apostrophe; numbers and moments are as they are.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for table in tables:
        writer.writerows(zip(*(_cells(table, name, kind) for name, kind in columns.items()), strict=True))
    return text.getvalue().encode()


def _cells(table: Table, name: str, kind: str) -> list[str]:
    texts = _texts(table, name)
    return [text_cell(text) for text in texts] if kind == "s" else texts


def _texts(table: Table, name: str) -> list[str]:
    match table.columns.get(name):
        case None:
            return [""] * table.length
        case Spread(values, places):
            written = [_text(value) for value in values]
            return [written[place] for place in places.tolist()]
        case Nano(values):
            return [_text(money(value)) for value in values.tolist()]
        case values:
            return [_text(value) for value in values]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


def focus_parquet(columns: Mapping[str, str], tables: Iterable[Table]) -> bytes:
    """Parquet, zstd-compressed; moments are text as in the CSV. Raises `OurError` without the extra "focus"."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise missing_extra("focus", "pyarrow") from None
    schema = arrow.schema(
        [
            arrow.field(name, arrow.decimal128(DIGITS, BEHIND_POINT) if kind == "d" else arrow.string())
            for name, kind in columns.items()
        ]
    )
    sink = io.BytesIO()
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for table in tables:
            arrays = [_array(arrow, table, field) for field in schema]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
    return sink.getvalue()


def _array(arrow: Any, table: Table, field: Any) -> Any:
    match table.columns.get(field.name):
        case None:
            return arrow.nulls(table.length, field.type)
        case Spread(values, places):
            return arrow.array(values, type=field.type).take(arrow.array(places))
        case Nano(values):
            # As whole numbers with the digits behind the point of which nano-units have fewer: the same 128 bits then
            # are the amount.
            whole = arrow.array(values).cast(arrow.decimal128(DIGITS, BEHIND_POINT - NANO_DIGITS))
            return arrow.Array.from_buffers(field.type, table.length, whole.buffers())
        case values:
            return arrow.array(values, type=field.type)
