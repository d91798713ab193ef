"""Sizes, spans and moments: read what people write, print what people read. MiB, microseconds and milli-units inside.

Memory units are binary whatever their spelling (GB = GiB = 1024 MiB), as in Slurm and Kubernetes habits of the field.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from headframe.base.errors import Invalid

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US
MILLI = 1000
GIB_MIB = 1024
LIMIT = 1 << 53  # beyond this JSON numbers lose exactness

_SIZE_MIB = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGTP])(?:i?B)?\s*", re.IGNORECASE)
_SPAN_US = {"us": 1, "ms": 1000, "s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}
_SPAN_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|[smhdw])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_mib(value: object, *, field: str) -> int:
    """Read `256GB`, `512MiB`, `1.5T` into MiB. A bare number is refused: its unit would be a guess."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Invalid(
            f"{field} is {value!r}, which is not a size.",
            field=field, value=value, allowed="a number with a unit, such as 512MB, 16GB or 2TB",
        )  # fmt: skip
    mib = float(match[1]) * _SIZE_MIB[match[2].upper()]
    if mib < 1 or mib > LIMIT or mib != int(mib):
        raise Invalid(
            f"{field} is {value!r}, which is not a whole number of MiB of at least one.",
            field=field, value=value, allowed="1MB or more",
        )  # fmt: skip
    return int(mib)


def parse_span_us(value: object, *, field: str) -> int:
    """Read `60s`, `1h30m`, `3d` into microseconds. A bare number is refused: its unit would be a guess."""
    text = value.strip().lower() if isinstance(value, str) else ""
    parts = _SPAN_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Invalid(
            f"{field} is {value!r}, which is not a length of time.",
            field=field, value=value, allowed="a number with a unit, such as 90s, 1h30m or 3d",
        )  # fmt: skip
    span = int(sum(float(number) * _SPAN_US[unit] for number, unit in parts))
    if span > LIMIT:
        raise Invalid(f"{field} is {value!r}, which is too long.", field=field, value=value, allowed="below 285 years")
    return span


def counted(number: float, noun: str) -> str:
    """A number of things: `1 node`, `2 nodes`, `0.5 GPUs`."""
    shown = str(number) if isinstance(number, int) else f"{number:g}"
    return f"{shown} {noun}" if number == 1 else f"{shown} {noun}s"


def format_mib(mib: int) -> str:
    """`512 MiB`, `1.5 GiB`: one decimal at most."""
    for unit, size in (("TiB", 1024**2), ("GiB", 1024)):
        if mib >= size:
            return f"{mib / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{mib} MiB"


def format_span(us: int) -> str:
    """`0.4 s`, `75 s`, `12m05s`, `3h20m`, `2d04h`: two units at most."""
    seconds = us / SECOND_US
    if seconds < 100:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02d}h"
    return f"{hour}h{minute:02d}m" if hours else f"{minute}m{second:02d}s"


def format_moment(us: int) -> str:
    """`2026-11-22T03:04:05.123456Z` (RFC 3339, UTC)."""
    return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def format_second(us: int) -> str:
    """`2026-11-22 03:04:05 UTC`, for sentences."""
    return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%d %H:%M:%S UTC")


def parse_moment_us(text: object, *, field: str) -> int:
    """Read an RFC 3339 moment, or a date as its midnight UTC, into microseconds since 1970."""
    try:
        moment = datetime.fromisoformat(str(text).strip().replace("Z", "+00:00"))
    except ValueError:
        raise Invalid(
            f"{field} is {text!r}, which is not a moment.",
            field=field, value=text, allowed="2026-11-22 or 2026-11-22T03:04:05Z",
        ) from None  # fmt: skip
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def month_of(us: int) -> str:
    """The UTC month that a moment lies in: `2026-11`."""
    return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m")


def month_bounds_us(month: str) -> tuple[int, int]:
    """First moment of a month and of the next one, microseconds since 1970 (half-open)."""
    match = re.fullmatch(r"([0-9]{4})-([0-9]{2})", month)
    if match is None or not 1 <= int(match[2]) <= 12 or not 1 <= int(match[1]) <= 9998:
        raise Invalid(f"{month!r} is not a month.", field="month", value=month, allowed="YYYY-MM, such as 2026-11")
    year, number = int(match[1]), int(match[2])
    first = datetime(year, number, 1, tzinfo=UTC)
    after = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return (first - _EPOCH) // timedelta(microseconds=1), (after - _EPOCH) // timedelta(microseconds=1)
