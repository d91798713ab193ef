"""What is printed: tables that fit the terminal, JSON, colour on terminals only, ages and amounts for people."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from headframe.base.money import plain
from headframe.base.progress import read_progress
from headframe.base.quantities import SECOND_US, format_mib, format_span

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_STYLES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "dim": "2", "bold": "1"}
STATES = {
    "succeeded": "green", "running": "blue", "starting": "blue", "failed": "red", "stopped": "yellow",
    "stopping": "yellow", "ready": "green", "down": "red", "draining": "yellow",
}  # fmt: skip
_LEAST_WIDTH = 8
_READABLE_WIDTH = 12
_UNITS = ("_us", "_nano", "_mib", "_milli", "_bytes")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its head, how a row gives its cell, whether the cell stays whole however narrow the terminal is.

    `spare` may be left out of a terminal that is too narrow; `wrap`, for the last column, goes on in the next line.
    """

    head: str
    cell: Callable[[Mapping[str, Any]], object]
    whole: bool = False
    right: bool = False
    spare: bool = False
    wrap: bool = False


def now_us() -> int:
    """Microseconds since 1970: the one place where the command line asks the time, to print ages."""
    return time.time_ns() // 1000


def coloured(stream: TextIO) -> bool:
    """Colour only on a terminal that wants it (see no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def style(text: str, name: str, stream: TextIO | None = None) -> str:
    return f"\x1b[{_STYLES[name]}m{text}\x1b[0m" if name and coloured(stream or sys.stdout) else text


def safe(value: object) -> str:
    """One line of text without anything that could steer a terminal."""
    return _CONTROL.sub(" ", "" if value is None else str(value))


def say(text: str = "") -> None:
    print(text)


def paragraph(text: object) -> None:
    """A sentence or several, broken between words where the terminal ends."""
    width = shutil.get_terminal_size().columns
    line = safe(text)
    print("\n".join(textwrap.wrap(line, width, break_on_hyphens=False)) if sys.stdout.isatty() else line)


def note(text: str) -> None:
    """For people, beside the result: standard error."""
    print(text, file=sys.stderr, flush=True)


def as_json(value: object) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> None:
    """A table as wide as the terminal at most, without empty columns; into a file or pipe goes all, in full."""
    cells = [[safe(column.cell(row)) for column in columns] for row in rows]
    widths = [max([len(column.head), *(len(line[place]) for line in cells)]) for place, column in enumerate(columns)]
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        kept = _kept(columns, cells, widths, width)
        columns, widths = [columns[place] for place in kept], [widths[place] for place in kept]
        cells = [[line[place] for place in kept] for line in cells]
        _shrink(widths, columns, width)
        cells = [part for line in cells for part in _wrapped(line, widths, columns)]
    lines = [style(_line([column.head for column in columns], widths, columns), "bold")]
    lines += [_line(line, widths, columns, paint=True) for line in cells]
    sys.stdout.write("\n".join(lines) + "\n")


def _kept(columns: Sequence[Column], cells: Sequence[Sequence[str]], widths: Sequence[int], width: int) -> list[int]:
    """The columns that say something; while they cannot fit, the rightmost spare one is left out."""
    kept = [place for place in range(len(columns)) if any(line[place] not in ("", "-") for line in cells)]
    kept = kept or list(range(len(columns)))
    while sum(_least(columns[place], widths[place]) for place in kept) + 2 * (len(kept) - 1) > width:
        spare = [place for place in kept if columns[place].spare]
        if not spare:
            break
        kept.remove(spare[-1])
    return kept


def _least(column: Column, width: int) -> int:
    """How wide a column should stay, if the terminal allows."""
    return width if column.whole else min(width, max(_READABLE_WIDTH, len(column.head)))


def _wrapped(line: list[str], widths: Sequence[int], columns: Sequence[Column]) -> list[list[str]]:
    """The line, or several when its last cell may wrap and is too long."""
    if not columns[-1].wrap or len(line[-1]) <= widths[-1]:
        return [line]
    parts = textwrap.wrap(line[-1], widths[-1])
    return [[*(line[:-1] if place == 0 else [""] * (len(line) - 1)), part] for place, part in enumerate(parts)]


def _shrink(widths: list[int], columns: Sequence[Column], width: int) -> None:
    """Take from the widest column that may be shortened, until the line fits."""
    while sum(widths) + 2 * (len(widths) - 1) > width:
        open_to = [place for place, column in enumerate(columns) if not column.whole and widths[place] > _LEAST_WIDTH]
        if not open_to:
            return
        widest = max(open_to, key=lambda place: widths[place])
        widths[widest] -= 1


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column], paint: bool = False) -> str:
    parts = []
    for text, width, column in zip(cells, widths, columns, strict=True):
        short = text if len(text) <= width else text[: width - 1] + "…"
        padded = short.rjust(width) if column.right else short.ljust(width)
        parts.append(style(padded, STATES.get(text, "")) if paint and text in STATES else padded)
    return "  ".join(parts).rstrip()


def facts(rows: Sequence[tuple[str, object]]) -> None:
    """Names and values, one to a line; what is None or "" is left out."""
    shown = [(name, safe(value)) for name, value in rows if value is not None and value != ""]
    width = max((len(name) for name, _ in shown), default=0)
    room = shutil.get_terminal_size().columns - width - 2 if sys.stdout.isatty() else 0
    for name, value in shown:
        lines = textwrap.wrap(value, room, break_on_hyphens=False) if _LEAST_WIDTH < room < len(value) else [value]
        print(f"{style(name.ljust(width), 'dim')}  {style(lines[0], STATES.get(value, ''))}")
        for line in lines[1:]:
            print(f"{' ' * width}  {line}")


def heading(text: str) -> None:
    print("\n" + style(text, "bold"))


def age(at_us: object) -> str:
    """`12 s ago`; empty when there is no moment."""
    if not isinstance(at_us, int) or at_us <= 0:
        return ""
    return f"{format_span(max(0, now_us() - at_us) // SECOND_US * SECOND_US)} ago"


def moment(at_us: object) -> str:
    """The moment by the machine's own clock and zone, to the second."""
    if not isinstance(at_us, int):
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_us // SECOND_US))


def lasted(start_us: object, end_us: object) -> str:
    if not isinstance(start_us, int):
        return ""
    return format_span(max(0, (end_us if isinstance(end_us, int) else now_us()) - start_us))


def money(nano: object, currency: object = "USD") -> str:
    """The exact amount."""
    return f"{plain(nano, str(currency))} {currency}" if isinstance(nano, int) else ""


def milli(value: object) -> str:
    """Thousandths as a number: 1500 as 1.5."""
    return f"{value / 1000:g}" if isinstance(value, int) else ""


def size(count: object) -> str:
    """Bytes for people: 1.5 MiB."""
    if not isinstance(count, int):
        return ""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar on standard error while files go up or down; nothing when that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        console=Console(stderr=True), transient=True,
    ) as bars:  # fmt: skip
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total or None)
            bars.update(tasks[what], completed=done, total=total or None)

        yield tell


class Bar:
    """One bar at the foot of standard error, drawn by itself until it is cleared; nothing where that is no terminal.

    Clear it before anything else is printed: it comes back with the next step.
    """

    def __init__(self) -> None:
        self._bars: Any = None
        self._lock = threading.Lock()

    def show(self, line: str) -> None:
        """Take the step that a line tells, such as `installing: 3 of 13 packages`."""
        step = read_progress(safe(line))
        if step is None or not sys.stderr.isatty():
            return
        many = f"{size(step.done)} of {size(step.total)}" if step.unit == "bytes" else f"{step.done} of {step.total}"
        with self._lock:
            if self._bars is None:
                self._bars = _bar_of_steps()
                self._bars.add_task("", many="")
            self._bars.update(
                self._bars.task_ids[0], description=step.what, completed=step.done, total=step.total or None,
                many=many if step.total else "",
            )  # fmt: skip
            self._bars.start()

    def clear(self) -> None:
        with self._lock:
            if self._bars is not None:
                self._bars.stop()
                self._bars = None


def _bar_of_steps() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column as Cell

    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Cell(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(24), TextColumn("{task.fields[many]}", markup=False), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False, expand=True,
    )  # fmt: skip


def by_unit(name: str, value: object, currency: object = "USD") -> str:
    """A value for people, by the unit in its name."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        match next((unit for unit in _UNITS if f"{unit}_" in f"{name}_"), ""):
            case "_us":
                return moment(value) if value > 10**15 else format_span(value)
            case "_nano":
                return money(value, currency)
            case "_mib":
                return format_mib(value)
            case "_milli":
                return milli(value)
            case "_bytes":
                return size(value)
    if isinstance(value, list | tuple):
        return ", ".join(by_unit(name, item, currency) for item in value)
    if isinstance(value, Mapping):
        inner = value.get("currency", currency)
        return "; ".join(
            f"{_words(key)} {by_unit(key, item, inner)}"
            for key, item in value.items()
            if item not in (None, "", [], {})
        )
    return safe(value)


def document(value: Mapping[str, Any], leave_out: Sequence[str] = ()) -> None:
    """Any document as names and values, tables within it one level down."""
    currency = value.get("currency", "USD")
    rows: list[tuple[str, object]] = []
    for name, item in value.items():
        if name in leave_out:
            continue
        if isinstance(item, Mapping):
            inner = item.get("currency", currency)
            rows += [(f"{_words(name)}: {_words(key)}", by_unit(key, each, inner)) for key, each in item.items()]
        elif isinstance(item, list | tuple) and item and isinstance(item[0], Mapping):
            rows += [(f"{_words(name)} {place}", by_unit(name, each, currency)) for place, each in enumerate(item, 1)]
        else:
            rows.append((_words(name), by_unit(name, item, currency)))
    facts(rows)


def _words(name: str) -> str:
    """`most_memory_mib_on_a_node` as it is read: without the unit, with spaces."""
    text = f"{name}_"
    for unit in _UNITS:
        text = text.replace(f"{unit}_", "_")
    return text.strip("_").replace("_", " ")
