"""FOCUS rows as CSV or Parquet. Decimals stay decimals: 128 bits, with digits enough for every price and product."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any

from headframe.documents.focus import Row
from headframe.documents.pdf import missing_extra

DIGITS, BEHIND_POINT = 38, 16
AT_ONCE = 20_000  # rows that are held at one moment


def focus_csv(columns: Mapping[str, str], rows: Iterable[Row]) -> bytes:
    """UTF-8 CSV with a head line; an absent value is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_text(row.get(name)) for name in columns])
    return text.getvalue().encode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


def focus_parquet(columns: Mapping[str, str], rows: Iterable[Row]) -> bytes:
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
    left = iter(rows)
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        while part := list(islice(left, AT_ONCE)):
            arrays = [arrow.array([row.get(each.name) for row in part], type=each.type) for each in schema]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
    return sink.getvalue()
