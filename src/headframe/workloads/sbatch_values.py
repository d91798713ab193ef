"""Values as Slurm writes them: times, sizes, counts, arrays, GPUs and lists of hosts, read into what job files say."""

from __future__ import annotations

import re

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
MOST_HOSTS = 1000
_PART = re.compile(r"\d+g\.\d+gb|shard|mps", re.IGNORECASE)
_TIME = re.compile(r"(?:(\d{1,6})-)?(\d{1,8})(?::(\d{1,6}))?(?::(\d{1,6}))?")
_SIZE = re.compile(r"(\d{1,12})(?:\.\d+)?\s*([KMGT]?)B?", re.IGNORECASE)
_KIND = re.compile(r"(nvidia[-_])?(rtx[-_]?\d{4}|[a-z]{1,3}\d{1,4}[a-z]{0,2})(?![0-9a-z])", re.IGNORECASE)
_MEMORY = re.compile(r"(\d{2,3})\s*gb?", re.IGNORECASE)
_PART = re.compile(r"\d+g\.\d+gb|shard|mps", re.IGNORECASE)
_HOSTS = re.compile(r"([^\[,]*)(?:\[([^\]]*)\])?([^,\[]*)(?:,|$)")


def seconds(text: str) -> int | None:
    """`90` (minutes), `90:00`, `1:30:00`, `2-12`, `2-12:30`, `2-12:30:00` in seconds; None: no limit.

    Raises `ValueError` for anything else.
    """
    if text.upper() in ("UNLIMITED", "INFINITE", "-1"):
        return None
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    days, first, second, third = (None if one is None else int(one) for one in match.groups())
    if days is not None:
        return days * DAY_S + (first or 0) * HOUR_S + (second or 0) * MINUTE_S + (third or 0)
    if third is not None:
        return (first or 0) * HOUR_S + (second or 0) * MINUTE_S + third
    return (first or 0) * MINUTE_S + (second or 0)


def span(total_s: int) -> str:
    """`2d12h30m`: as a job file says times."""
    words = ""
    for size, unit in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "m"), (1, "s")):
        words += f"{total_s // size}{unit}" if total_s >= size else ""
        total_s %= size
    return words or "0s"


def mib(text: str, unit: str = "M") -> int:
    """MiB of `16G`, `512`, `1T` (a bare number is of `unit`); raises `ValueError`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    number, letter = int(match[1]), (match[2] or unit).upper()
    return -(-number // 1024) if letter == "K" else number << {"M": 0, "G": 10, "T": 20}[letter]


def size(amount_mib: int) -> str:
    """`16GB`, `512MB`: as a job file says sizes."""
    return f"{amount_mib >> 10}GB" if amount_mib % 1024 == 0 else f"{amount_mib}MB"


def count(text: str) -> int:
    """A whole number above 0, or `ValueError`."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def nodes(text: str) -> tuple[int, int]:
    """(least, most) of `4`, `2-8`."""
    low, dash, high = text.partition("-")
    least = count(low)
    return least, max(count(high) if dash else least, least)


def gpu(text: str) -> tuple[str, int]:
    """(kind as job files say it, or "", count) of `2`, `a100:4`, `gpu:nvidia_a100_80gb:1`; raises `ValueError`."""
    words = text.removeprefix("gpu").lstrip(":").split(":") if text.startswith("gpu") else text.split(":")
    words = [word for word in words if word]
    if any(_PART.search(word) for word in words):
        raise ValueError(text)  # a part of a device, which job files ask for as a fraction
    number = count(words.pop()) if words and words[-1].isdigit() else 1
    if not words:
        return "", number
    match = _KIND.search(words[0])
    memory = _MEMORY.search(words[0])
    kind = re.sub("[-_]", "", match[2]).upper() if match else words[0].upper()
    return (f"{kind}:{memory[1]}GB" if memory else kind), number


def array(text: str) -> tuple[list[int], int]:
    """(indices, how many at once or 0) of `0-99%10`, `1,3,5-9:2`; raises `ValueError`."""
    listed, percent, parallel = text.partition("%")
    found: list[int] = []
    for part in listed.split(","):
        bounds, colon, step = part.partition(":")
        low, dash, high = bounds.partition("-")
        stop = int(high) if dash else int(low)
        if int(low) < 0 or stop - int(low) > 1_000_000:
            raise ValueError(text)
        found += range(int(low), stop + 1, count(step) if colon else 1)
    if not found or len(found) > 100_000:
        raise ValueError(text)
    return sorted(set(found)), count(parallel) if percent else 0


def hosts(text: str) -> list[str]:
    """The hosts of `n[01-03,7],login`; raises `ValueError`."""
    found: list[str] = []
    for head, inside, tail in _HOSTS.findall(text):
        if not (head or inside or tail):
            continue
        for part in inside.split(",") if inside else [""]:
            low, dash, high = part.partition("-")
            if dash and not 0 <= int(high) - int(low) < MOST_HOSTS:
                raise ValueError(text)
            numbers = [str(one).zfill(len(low)) for one in range(int(low), int(high) + 1)] if dash else [part]
            found += [f"{head}{number}{tail}" for number in numbers]
    if not found or len(found) > MOST_HOSTS:
        raise ValueError(text)
    return found
