"""The GPU grammar of job files: `H100:8`, `A100:80GB:4`, `24GB..80GB:2`, `[H100:8, A100:8]`, `0.5`, `H100:0.5`, `2`."""

from __future__ import annotations

import re

from headframe.base.errors import Invalid
from headframe.workloads.spec import Gpus

MAX_PER_NODE = 64
MAX_ALTERNATIVES = 16
MAX_MEMORY_GIB = 4096
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
