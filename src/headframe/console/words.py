"""How numbers, times and states are written for people, as filters of the templates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from headframe.base.money import plain
from headframe.base.quantities import SECOND_US, format_mib, format_moment, format_second, format_span

# The mark and the tone of each state: `static/marks.svg` has the drawings, `tokens.css` the colours.
STATES: dict[str, tuple[str, str]] = {
    "pending": ("clock", "quiet"),
    "queued": ("clock", "quiet"),
    "starting": ("quarter", "info"),
    "running": ("play", "info"),
    "stopping": ("pause", "warn"),
    "succeeded": ("tick", "ok"),
    "failed": ("cross", "bad"),
    "stopped": ("pause", "quiet"),
    "ready": ("tick", "ok"),
    "draining": ("slash", "warn"),
    "down": ("cross", "bad"),
    "unreachable": ("cross", "bad"),
    "lost": ("cross", "bad"),
    "planned": ("clock", "quiet"),
    "active": ("play", "info"),
    "ended": ("tick", "quiet"),
    "cancelled": ("cross", "quiet"),
    "released": ("tick", "quiet"),
    "live": ("tick", "ok"),
    "revoked": ("cross", "bad"),
    "expired": ("clock", "quiet"),
    "disabled": ("cross", "bad"),
    "archived": ("pause", "quiet"),
    "over": ("cross", "bad"),
    "near": ("warn", "warn"),
    "within": ("tick", "ok"),
}
# What browsers and systems say of themselves, and what people call them; those come first that name others, too.
BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Version/", "Safari"))
SYSTEMS = (
    ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip
SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "CNY": "¥", "JPY": "¥", "INR": "₹"}


def money(nano: int | None, currency: str = "USD", digits: int | None = None) -> str:
    """`1,234.56 USD`: exact, unless `digits` behind the point are asked for (never in a bill)."""
    if nano is None:
        return "–"
    text = plain(nano, currency)
    whole, _, part = text.partition(".")
    if digits is not None and len(part) > digits:
        text = f"{nano / 1e9:.{digits}f}"
        whole, _, part = text.partition(".")
    sign, whole = ("−", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(whole):,}{'.' + part if part else ''} {currency}"


def about(nano: int | None, currency: str = "USD") -> str:
    """`$1.2k`, for charts and totals that are read at a glance."""
    if nano is None:
        return "–"
    amount, sign = abs(nano) / 1e9, "−" if nano < 0 else ""
    mark = SIGNS.get(currency, f"{currency} ")
    for size, unit in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if amount >= size * (10 if unit == "k" else 1):
            return f"{sign}{mark}{amount / size:.3g}{unit}"
    return f"{sign}{mark}{amount:,.2f}"


def milli(value: int | None) -> str:
    """Thousandths as people write them: 1500 is `1.5`."""
    return "–" if value is None else f"{value / 1000:,.3f}".rstrip("0").rstrip(".")


def count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def percent(part: int | float, whole: int | float) -> str:
    """`42 %`; `–` of nothing."""
    return f"{100 * part / whole:.0f} %" if whole else "–"


def span(us: int | None) -> str:
    return "–" if us is None else format_span(us)


def mib(value: int | None) -> str:
    return "–" if value is None else format_mib(value)


def when(us: int | None, now_us: int | None = None) -> Markup:
    """A moment: exact for machines and on hover; the page's script keeps `3 min ago` true."""
    if us is None:
        return Markup("–")
    exact = format_second(us)
    return Markup('<time datetime="{}" title="{}" data-when>{}</time>').format(
        format_moment(us), exact, exact if now_us is None else ago(us, now_us)
    )


def ago(us: int, now_us: int) -> str:
    """`12 s ago`, `in 3h20m`, `now`: as the page's script words it, too."""
    apart = now_us - us
    if abs(apart) < SECOND_US:
        return "now"
    told = format_span(abs(apart) - abs(apart) % SECOND_US)
    return f"{told} ago" if apart > 0 else f"in {told}"


def day(us: int | None) -> str:
    return "–" if us is None else datetime.fromtimestamp(us / SECOND_US, UTC).strftime("%Y-%m-%d")


def words(text: str) -> str:
    """A snake_case word of ours as people read it."""
    return text.replace("_", " ")


def short(record_id: str) -> str:
    """An id as tables show it: the kind and its last characters. The whole one is copied."""
    kind, _, rest = record_id.partition("_")
    return record_id if len(rest) <= 8 else f"{kind}_…{rest[-6:]}"


def browser(agent: str) -> str:
    """`Chrome 156 on Linux`, of what a browser says of itself; the first word of others."""
    for mark, name in BROWSERS:
        _, found, rest = agent.partition(mark)
        if found:
            system = next((words for mark, words in SYSTEMS if mark in agent), "")
            return f"{name} {rest.partition('.')[0][:4]}" + (f" on {system}" if system else "")
    return agent.partition(" ")[0][:60] or "unknown"


FILTERS: dict[str, Callable[..., Any]] = {
    "money": money, "about": about, "milli": milli, "count": count, "percent": percent, "span": span, "mib": mib,
    "when": when, "ago": ago, "day": day, "words": words, "short": short,
    "browser": browser,
}  # fmt: skip
