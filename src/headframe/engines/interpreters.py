"""Finds the Python interpreters of this machine that jobs may be built on.

Looked through, in this order: Headframe's own interpreter, PATH, the system's folders, those of pyenv and of uv. An
interpreter counts when it starts; one that also starts as the organization's user is preferred to one that only the
superuser reaches (such as one under /root), because the latter can be used inside a sandbox only.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headframe.base.errors import Invalid

_ASKED = re.compile(r"3(\.\d{1,3}){1,2}")
_NAMED = re.compile(r"python3\.(\d{1,3})")
_PROBE = (
    "import sys; print('%d.%d.%d' % sys.version_info[:3]); print(sys.base_prefix); print(sys.implementation.name);"
    "print(sys.prefix == sys.base_prefix)"
)
_OLDEST_MINOR = 8

_known: dict[tuple[str, int, int], Interpreter | None] = {}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One CPython. `prefix` is the folder that must be visible to whoever runs it."""

    path: Path
    version: tuple[int, int, int]
    prefix: Path

    def __str__(self) -> str:
        return ".".join(map(str, self.version))


def find(asked: str | None, owner: tuple[int, int] | None = None) -> Interpreter:
    """The interpreter for `python: 3.11` (or `3.11.4`); None asks for the version that Headframe itself runs on.

    Raises `Invalid` that lists what is there.
    """
    if asked is not None and not _ASKED.fullmatch(asked):
        raise Invalid(
            f"python: {asked!r} is not a version.",
            field="python",
            value=asked,
            allowed="3.N or 3.N.P, such as 3.11",
            next_step="Write for example `python: 3.11`.",
        )
    wanted = tuple(int(part) for part in asked.split(".")) if asked else tuple(sys.version_info[:2])
    fit = [one for one in _all(owner, wanted[1]) if one.version[: len(wanted)] == wanted]
    if not fit and asked is None:
        fit = sorted(_all(owner, None), key=lambda one: one.version, reverse=True)
    if fit:
        return fit[0]
    there = ", ".join(sorted({str(one) for one in _all(owner, None)}, key=_numbers)) or "none"
    raise Invalid(
        f"There is no Python {asked or ''} on this machine.".replace("  ", " "),
        field="python",
        value=asked,
        allowed=there,
        next_step=f"Take one of these ({there}), or install that version on the machine.",
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _all(owner: tuple[int, int] | None, minor: int | None) -> list[Interpreter]:
    """Working interpreters of that minor version (None: any), those that the owner reaches first."""
    reached: list[Interpreter] = []
    unreached: list[Interpreter] = []
    seen: set[str] = set()
    for candidate in _candidates(minor):
        real = os.path.realpath(candidate)
        if real in seen:
            continue
        seen.add(real)
        found = _probe(real, None)
        if found is None:
            continue
        (reached if _probe(real, owner) else unreached).append(found)
    return reached + unreached


def _candidates(minor: int | None) -> Iterator[Path]:
    home = Path.home()
    folders = [Path(sys.base_prefix) / "bin"]
    folders += [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part.startswith("/")]
    folders += [Path("/usr/local/bin"), Path("/usr/bin")]
    for root, below in ((home / ".pyenv/versions", "bin"), (home / ".local/share/uv/python", "bin")):
        try:
            folders += [root / name / below for name in sorted(os.listdir(root), reverse=True)]
        except OSError:
            continue
    for folder in folders:
        # Shims are scripts that choose an interpreter by the folder they are called in.
        if folder.name == "shims":
            continue
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            match = _NAMED.fullmatch(name)
            if match and int(match[1]) >= _OLDEST_MINOR and minor in (None, int(match[1])):
                yield folder / name


def _probe(real: str, owner: tuple[int, int] | None) -> Interpreter | None:
    """Start it (as the owner when we may) and ask; the answer is kept as long as the file stays the same."""
    try:
        changed_ns = os.stat(real).st_mtime_ns
    except OSError:
        return None
    switch = owner if owner is not None and os.geteuid() == 0 else None
    key = (real, changed_ns, -1 if switch is None else switch[0])
    if key not in _known:
        _known[key] = _ask(real, switch)
    return _known[key]


def _ask(real: str, owner: tuple[int, int] | None) -> Interpreter | None:
    try:
        answer = subprocess.run(
            [real, "-I", "-S", "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=20,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            check=True,
            user=owner[0] if owner else None,
            group=owner[1] if owner else None,
            extra_groups=[] if owner else None,
        ).stdout.splitlines()
        version, prefix, kind, own = answer
        major, minor, patch = _numbers(version)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    if kind != "cpython" or own != "True":
        return None
    return Interpreter(Path(real), (major, minor, patch), Path(prefix))
