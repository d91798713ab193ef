"""Exact money. Amounts are whole nano-units of a currency (1 USD = 1,000,000,000); this is the one rounding place.

Currency exponents are from ISO 4217 (2026 amendment list), for the currencies that price books commonly use.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from headframe.base.errors import Invalid

NANO = 1_000_000_000
# ISO 4217: digits behind the point that an amount can be paid in.
EXPONENTS = {
    "AED": 2, "AUD": 2, "BRL": 2, "CAD": 2, "CHF": 2, "CNY": 2, "CZK": 2, "DKK": 2, "EUR": 2, "GBP": 2, "HKD": 2,
    "INR": 2, "JPY": 0, "KRW": 0, "KWD": 3, "MXN": 2, "NOK": 2, "NZD": 2, "PLN": 2, "SEK": 2, "SGD": 2, "TWD": 2,
    "USD": 2, "ZAR": 2,
}  # fmt: skip
# Commas and underscores stand between groups of three only: in half of the world "5,00" is five, not five hundred.
_WHOLE = r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:_[0-9]{3})+|[0-9]+"
_MONEY = re.compile(rf"\s*(-?(?:{_WHOLE})(?:\.[0-9]+)?)\s*([A-Za-z]{{3}})?\s*")
LIMIT_NANO = 9_000_000_000 * NANO  # fits the 64-bit integers of every store


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An amount of one currency. `nano` is in nano-units; `currency` is an ISO 4217 code."""

    nano: int
    currency: str = "USD"

    def __str__(self) -> str:
        return f"{plain(self.nano, self.currency)} {self.currency}"


def divide_half_even(numerator: int, denominator: int) -> int:
    """`numerator / denominator` rounded half to even: the only rounding of money in Headframe."""
    if denominator <= 0:
        raise ValueError("denominator must be positive")
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient % 2 == 1):
        quotient += 1
    return quotient


def split(total: int, weights: Sequence[int]) -> list[int]:
    """`total` shared out by weights (none negative), so that the parts add up to it: by largest remainder.

    Of equal remainders the earlier one gets more. When all weights are nothing, the last one gets all.
    """
    whole = sum(weights)
    if not whole:
        return [0] * (len(weights) - 1) + [total] if weights else []
    sign, total = (-1, -total) if total < 0 else (1, total)
    parts = [total * weight // whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda place: (-(total * weights[place] % whole), place))
    for place in order[: total - sum(parts)]:
        parts[place] += 1
    return [sign * part for part in parts]


def plain(nano: int, currency: str = "USD") -> str:
    """The exact amount as text: never rounded, at least as many digits as the currency is paid in."""
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    whole, part = divmod(nano, NANO)
    digits = f"{part:09d}".rstrip("0").ljust(EXPONENTS.get(currency, 2), "0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def payable(nano: int, currency: str) -> int:
    """The amount rounded half to even to what can be paid, still in nano-units."""
    step: int = 10 ** (9 - EXPONENTS.get(currency, 2))
    return divide_half_even(nano, step) * step


def parse_money(text: object, *, field: str, currency: str = "USD") -> Money:
    """Read `500`, `0.25`, `500 USD` or `1,000.50 EUR`; raises `Invalid` naming `field`."""
    match = _MONEY.fullmatch(str(text)) if isinstance(text, str | int | float) and not isinstance(text, bool) else None
    try:
        if match is None:
            raise InvalidOperation
        scaled = Decimal(match[1].replace(",", "").replace("_", "")) * NANO
    except InvalidOperation:
        raise Invalid(
            f"{field} is {text!r}, which is not an amount of money.",
            field=field, value=text, allowed="an amount and a currency, such as 500 USD",
        ) from None  # fmt: skip
    code = (match[2] or currency).upper()
    if code not in EXPONENTS:
        raise Invalid(
            f"{field} names the currency {code!r}, which is not known.",
            field=field, value=text, allowed=", ".join(EXPONENTS),
        )  # fmt: skip
    if scaled != scaled.to_integral_value() or abs(scaled) > LIMIT_NANO:
        raise Invalid(
            f"{field} is {text!r}, which is finer than a nano-unit or too large.",
            field=field, value=text, allowed="up to 9 digits behind the point, below 9,000,000,000",
        )  # fmt: skip
    return Money(int(scaled), code)


# What is paid of a list price, in millionths. "2折" means two tenths are paid, "75折" seventy-five hundredths.
WHOLE_PRICE = 1_000_000
_ZHE = re.compile(r"\s*([0-9]{1,2}(?:\.[0-9]{1,4})?)\s*折\s*")
_OFF = re.compile(r"\s*-?\s*([0-9]{1,2}(?:\.[0-9]{1,4})?)\s*%\s*(?:off)?\s*", re.IGNORECASE)


def parse_discount(text: object, *, field: str) -> int:
    """Read `2折`, `80 % off` or `-80%` into the millionths of the list price that are paid; raises `Invalid`."""
    written = text if isinstance(text, str) else ""
    tenths, off = _ZHE.fullmatch(written), _OFF.fullmatch(written)
    paid = Decimal(0)
    if tenths is not None:
        number = Decimal(tenths[1])
        paid = number * (WHOLE_PRICE // (10 if number < 10 else 100))
    elif off is not None:
        paid = WHOLE_PRICE - Decimal(off[1]) * (WHOLE_PRICE // 100)
    if tenths is not None and Decimal(tenths[1]) == 10:
        paid = Decimal(0)  # a whole price to some, a tenth of it to others
    if not 0 < paid <= WHOLE_PRICE or paid != paid.to_integral_value():
        raise Invalid(
            f"{field} is {text!r}, which is not a discount.",
            field=field,
            value=text,
            allowed="such as 80 % off, or 2折",
        )
    return int(paid)


def is_discount(text: object) -> bool:
    """Whether a text means to be a discount rather than an amount."""
    return isinstance(text, str) and ("折" in text or "%" in text)


def format_discount(paid: int, *, language: str = "en") -> str:
    """`80 % off`, or `2折` for Chinese readers."""
    if language.startswith("zh"):
        return f"{_decimal(paid, 5)}折"
    return f"{_decimal(WHOLE_PRICE - paid, 4)} % off"


def _decimal(number: int, digits: int) -> str:
    """`number` / 10^digits as a text without idle zeros."""
    whole, part = divmod(number, 10**digits)
    return f"{whole}.{part:0{digits}d}".rstrip("0").rstrip(".")
