"""The GPU grammar of job files: `H100:8`, `A100:80GB:4`, `24GB..80GB:2`, `[H100:8, A100:8]`, `0.5`, `H100:0.5`, `2`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from headframe.base.errors import Invalid
from headframe.workloads.spec import Gpus

MAX_PER_NODE = 64
MAX_ALTERNATIVES = 16
MAX_MEMORY_GIB = 4096
FASTEST = 1_000_000  # times as fast as the slowest that can be said
ALLOWED = "H100:8, A100:80GB:4, 24GB..80GB:2, 0.5, H100:0.5, 2, or a list of these in order of preference"
_KIND = re.compile(r"(?=[^:]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_MEMORY = re.compile(r"([0-9]{1,6})GB", re.IGNORECASE)
_COUNT = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")


def parse_gpus(value: object, field: str) -> tuple[Gpus, ...]:
    """Read one alternative or a list of them, in order of preference; absent and 0 mean no GPU."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        one = _alternative(value, field)
        return (one,) if one else ()
    if not 1 <= len(value) <= MAX_ALTERNATIVES:
        raise _refused(value, field, f"it lists {len(value)} alternatives", f"1 to {MAX_ALTERNATIVES} alternatives")
    found = [_alternative(item, f"{field}[{place}]") for place, item in enumerate(value)]
    if None in found:
        raise _refused(value, field, "one alternative asks for no GPU at all", ALLOWED)
    return tuple(item for item in found if item is not None)


def parse_throughput(value: object, field: str) -> tuple[tuple[str, int], ...]:
    """Read `{H100: 2.1, A100: 1}`: (kind, thousandths), the fastest first."""
    allowed = f"kinds with numbers, such as {{H100: 2.1, A100: 1}}: at least 0.001, at most {FASTEST}"
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MAX_ALTERNATIVES:
        raise _refused(value, field, f"it is no table of 1 to {MAX_ALTERNATIVES} kinds", allowed)
    found: dict[str, int] = {}
    for kind, speed in value.items():
        place = f"{field}.{kind}"
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            raise _refused(kind, field, "it names something that is no kind", allowed)
        if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0.001 <= speed <= FASTEST:
            raise _refused(speed, place, "it is no speed", allowed)
        if kind.lower() in (known.lower() for known in found):
            raise _refused(value, field, f"it names {kind} twice", allowed)
        found[kind] = round(speed * 1000)
    return tuple(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def fastest_first(gpus: tuple[Gpus, ...], speeds: tuple[tuple[str, int], ...], field: str) -> tuple[Gpus, ...]:
    """The alternatives by what a task gets done on them; "any kind" is each kind whose speed is told.

    A kind whose speed is not told is refused: it could not be compared.
    """
    told = {kind.lower(): speed for kind, speed in speeds}
    every = [
        one if one.kind is not None else replace(one, kind=kind)
        for one in gpus
        for kind, _ in (speeds if one.kind is None else speeds[:1])
    ]
    missing = [one.kind for one in every if one.kind is not None and one.kind.lower() not in told]
    if missing or not every:
        why = f"it does not say how fast {missing[0]} is" if missing else "the job asks for no GPU"
        raise _refused(dict(speeds), field, why, "every kind that resources.gpu names, and no job without GPUs")
    return tuple(sorted(every, key=lambda one: -told[str(one.kind).lower()] * one.count * one.milli))


def _alternative(value: object, field: str) -> Gpus | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _refused(value, field, "it is neither text nor a number", ALLOWED)
    if isinstance(value, str):
        parts = value.strip().split(":")
    elif 0 <= value <= MAX_PER_NODE and _COUNT.fullmatch(str(value)):
        parts = [str(value)]
    else:
        raise _refused(value, field, "the count is out of bounds", f"0.001 to {MAX_PER_NODE} GPUs for each node")
    kind: str | None = None
    low = high = None
    if not _is_memory(parts[0]) and not _COUNT.fullmatch(parts[0]):
        kind = parts.pop(0)
        if not _KIND.fullmatch(kind):
            raise _refused(value, field, f"{kind!r} is neither a kind, a memory size nor a count", ALLOWED)
    if parts and _is_memory(parts[0]):
        low, high = _memory(parts.pop(0), value, field)
    count, milli = _count(parts.pop(0), value, field) if parts else (1, 1000)
    if parts:
        raise _refused(value, field, "it has too many parts or they are in another order", ALLOWED)
    if count == 0:
        if kind is None and low is None and high is None:
            return None
        raise _refused(value, field, "the count is 0", f"1 to {MAX_PER_NODE}, or leave out {field}")
    return Gpus(kind, count, milli, low, high)


def _is_memory(text: str) -> bool:
    low, _, high = text.partition("..")
    return bool(low or high) and all(not part or _MEMORY.fullmatch(part) for part in (low, high))


def _memory(text: str, value: object, field: str) -> tuple[int | None, int | None]:
    """Bounds in GB as data sheets count them; a size alone is both bounds."""
    low, dots, high = text.partition("..")
    bounds = [int(part[:-2]) if part else None for part in (low, high if dots else low)]
    if any(bound is not None and not 1 <= bound <= MAX_MEMORY_GIB for bound in bounds):
        raise _refused(value, field, "the memory is out of bounds", f"1GB to {MAX_MEMORY_GIB}GB for each GPU")
    if bounds[0] is not None and bounds[1] is not None and bounds[0] > bounds[1]:
        raise _refused(value, field, "the range of memory runs backwards", "the smaller size first: 24GB..80GB")
    return bounds[0], bounds[1]


def _count(text: str, value: object, field: str) -> tuple[int, int]:
    """(devices, thousandths of each): whole devices, or a part of one."""
    if not _COUNT.fullmatch(text):
        raise _refused(value, field, f"{text!r} is not a count", ALLOWED)
    whole, _, part = text.partition(".")
    digits = part.rstrip("0")
    if not digits:
        if int(whole) > MAX_PER_NODE:
            raise _refused(value, field, "the count is out of bounds", f"1 to {MAX_PER_NODE} GPUs for each node")
        return int(whole), 1000
    if int(whole) or len(digits) > 3:
        raise _refused(value, field, "a fraction is a part of one GPU", "0.001 to 0.999, or whole GPUs")
    return 1, int(digits.ljust(3, "0"))


def _refused(value: object, field: str, why: str, allowed: str) -> Invalid:
    return Invalid(f"{field} cannot be used: {why}.", field=field, value=value, allowed=allowed)
