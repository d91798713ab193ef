"""Slurm's format strings, such as `%.18i %9P`: read, and filled from the fields of a row."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

Row = Mapping[str, Any]
Fields = Mapping[str, tuple[str, Callable[[Row], object]]]  # letter -> (title, cell)
_PART = re.compile(r"%(?:(%)|(\.?)([0-9]{0,5})([A-Za-z#]))|([^%]+|%)")


class Format:
    """A format string over known fields; raises `UsageError` for a field that is not known."""

    def __init__(self, text: str, fields: Fields, command: str) -> None:
        self._parts: list[tuple[str, bool, int, str]] = []  # (letter, right, width, plain text)
        self._fields = fields
        for percent, right, width, letter, plain in _PART.findall(text.replace("\\n", "\n").replace("\\t", "\t")):
            if letter and letter not in fields:
                known = " ".join(f"%{one}" for one in sorted(fields, key=lambda one: (one.lower(), one)))
                raise click.UsageError(f"{command}: error: %{letter} is not known here. There are: {known}")
            self._parts.append((letter, bool(right), int(width or 0), percent or plain))

    @property
    def letters(self) -> tuple[str, ...]:
        """The fields that are asked for."""
        return tuple(letter for letter, _, _, _ in self._parts if letter)

    def title(self) -> str:
        return self._line(lambda letter: self._fields[letter][0])

    def line(self, row: Row) -> str:
        return self._line(lambda letter: str(self._fields[letter][1](row)))

    def _line(self, cell: Callable[[str], str]) -> str:
        words = []
        for letter, right, width, plain in self._parts:
            text = cell(letter) if letter else plain
            if letter and width:
                text = (text.rjust(width) if right else text.ljust(width))[:width]
            words.append(text)
        return "".join(words).rstrip()


def clock(total_s: int) -> str:
    """`1-02:03:04`, `2:03:04`, `3:04`: as Slurm says times."""
    days, rest = divmod(max(total_s, 0), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    if days:
        return f"{days}-{hours:02d}:{minutes:02d}:{seconds:02d}"
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def host_list(names: Sequence[str]) -> str:
    """`n[1-3,7],login`: names that differ in their last number, together."""
    groups: dict[tuple[str, int, str], list[int]] = {}
    plain: list[str] = []
    for name in sorted(set(names)):
        match = re.fullmatch(r"(.*?)([0-9]+)([^0-9]*)", name)
        if match is None:
            plain.append(name)
            continue
        padded = len(match[2]) if match[2].startswith("0") else 0
        groups.setdefault((match[1], padded, match[3]), []).append(int(match[2]))
    found = []
    for (head, width, tail), numbers in groups.items():
        runs: list[list[int]] = []
        for number in sorted(numbers):
            if runs and number == runs[-1][1] + 1:
                runs[-1][1] = number
            else:
                runs.append([number, number])
        words = [str(a).zfill(width) if a == b else f"{str(a).zfill(width)}-{str(b).zfill(width)}" for a, b in runs]
        inside = ",".join(words)
        found.append(f"{head}[{inside}]{tail}" if "," in inside or "-" in inside else f"{head}{inside}{tail}")
    return ",".join(sorted([*found, *plain]))
