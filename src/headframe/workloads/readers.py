"""How single values of a job file are read: a reader takes (value, field) and returns it normalized, or raises."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from headframe.base.errors import Invalid
from headframe.base.money import Money, parse_money
from headframe.base.quantities import DAY_US, parse_mib, parse_span_us

Reader = Callable[[object, str], object]

MAX_SCRIPT_BYTES = 256 * 1024
MAX_CPU_MILLI = 100_000_000
MAX_MEMORY_MIB = 1 << 30
MAX_NODES = 10_000
MAX_ARRAY = 100_000
MAX_LABELS = 20
NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
REFERENCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")  # a name, or an id such as job_0cz3k5
SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
RESERVED_VARIABLES = frozenset(
    {
        "MASTER_ADDR", "MASTER_PORT", "NNODES", "NODE_RANK", "NPROC_PER_NODE", "RANK", "LOCAL_RANK", "WORLD_SIZE",
        "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "MLFLOW_TRACKING_URI",
    }
)  # fmt: skip
SIGNALS = ("SIGUSR1", "SIGUSR2", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,3})?")
_PYTHON = re.compile(r"3\.(?:[89]|[1-9][0-9])(?:\.[0-9]{1,3})?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,510}")
_PACKAGE = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"  # the name
    r"(?:\s*\[[A-Za-z0-9._, -]*\])?"  # extras
    r"(?:\s*(?:[<>=!~;(][^@\x00-\x1f]*|@\s*(?:git\+)?https://[^\s\x00-\x1f]+))?"  # versions and markers, or an address
)
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}(?:=[A-Za-z0-9._-]{0,63})?")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,252}")


def refused(field: str, value: object, why: str, allowed: str) -> Invalid:
    """The one form of a refusal: `<field> <why>.`"""
    return Invalid(f"{field} {why}.", field=field, value=value, allowed=allowed)


def text(value: object, field: str, *, allowed: str = "text", longest: int = 4096) -> str:
    """A text of one line at most `longest` characters long."""
    if not isinstance(value, str):
        raise refused(field, value, "is not text", allowed)
    if not value.strip() or len(value) > longest:
        raise refused(field, value, f"has {len(value)} characters", f"1 to {longest} characters: {allowed}")
    return value.strip()


def matching(pattern: re.Pattern[str], allowed: str) -> Reader:
    """A text that the pattern describes in full."""

    def read(value: object, field: str) -> str:
        found = text(value, field, allowed=allowed, longest=1024)
        if not pattern.fullmatch(found):
            raise refused(field, value, "has a form that is not allowed", allowed)
        return found

    return read


def one_of(words: tuple[str, ...]) -> Reader:
    def read(value: object, field: str) -> str:
        if not isinstance(value, str) or value not in words:
            raise refused(field, value, "is not one of the words allowed", ", ".join(words))
        return value

    return read


def whole(low: int, high: int) -> Reader:
    """A whole number within bounds."""

    def read(value: object, field: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise refused(field, value, "is not a whole number", f"{low} to {high}")
        if not low <= value <= high:
            raise refused(field, value, "is out of bounds", f"{low} to {high}")
        return value

    return read


def listed(read_one: Reader, *, most: int, unique: bool = True) -> Reader:
    """A list of at most `most` items; a single text counts as a list of one."""

    def read(value: object, field: str) -> tuple[object, ...]:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise refused(field, value, "is not a list", f"a list of at most {most} items")
        if len(items) > most:
            raise refused(field, len(items), f"has {len(items)} items", f"at most {most} items")
        found = tuple(read_one(item, f"{field}[{place}]") for place, item in enumerate(items))
        if unique and len(set(found)) != len(found):
            raise refused(field, value, "names something twice", "each item once")
        return found

    return read


name = matching(NAME, "lowercase letters, digits, '.', '-' and '_', up to 63, letters or digits at both ends")
reference = matching(REFERENCE, "the name or the id of a job")
secret = matching(SECRET, "the name of a secret: letters, digits, '_' and '-', up to 63, not a digit first")
image = matching(_IMAGE, "an image such as docker.io/library/python:3.12")
package = matching(_PACKAGE, "a requirement such as torch, torch==2.5.1 or name @ https://host/file.whl")
cluster = matching(_LABEL, "any, the name of a cluster or region, or label=value")
taint = matching(_LABEL, "key or key=value: letters, digits, '.', '_', '/' and '-'")
node_name = matching(_NODE, "the name or the id of a node")


def python(value: object, field: str) -> str:
    """The version; a number is taken as it is written (a YAML file keeps 3.10 apart from 3.1)."""
    version = str(value) if isinstance(value, float) else value
    if not isinstance(version, str) or not _PYTHON.fullmatch(version):
        raise refused(field, value, "is not a version of Python", '3.8 or newer, such as "3.12"')
    return version


def _number_milli(value: object) -> int | None:
    """Thousandths of a number such as 4, 0.1 or "2.5"; None when it is no such number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and not 0 <= value <= MAX_CPU_MILLI:
        return None
    written = str(value).strip()
    if not _NUMBER.fullmatch(written):
        return None
    whole_part, _, part = written.partition(".")
    return int(whole_part) * 1000 + int(part.ljust(3, "0") or 0)


def _bounds(value: object) -> tuple[object, object | None]:
    """`4..8` as (4, 8), `32..` as (32, None), anything else as itself."""
    if isinstance(value, str) and ".." in value:
        low, _, high = value.partition("..")
        return low.strip(), high.strip() or None
    return value, None


def cpu(value: object, field: str) -> tuple[int, int | None]:
    """Cores in thousandths: (at least, at most)."""
    allowed = "cores such as 4, 0.5, 4..8 or 32.., from 0.01 to 100000"
    low, high = _bounds(value)
    least, most = _number_milli(low), None if high is None else _number_milli(high)
    if least is None or (high is not None and most is None):
        raise refused(field, value, "is not a number of cores", allowed)
    if not 10 <= least <= MAX_CPU_MILLI or (most is not None and not least <= most <= MAX_CPU_MILLI):
        raise refused(field, value, "is out of bounds or runs backwards", allowed)
    return least, most


def memory(value: object, field: str) -> tuple[int, int | None]:
    """MiB: (at least, at most)."""
    low, high = _bounds(value)
    least, most = size(low, field), None if high is None else size(high, field)
    if least < 4 or (most is not None and most < least):
        raise refused(field, value, "is too small or runs backwards", "4MB or more: 16GB, 16GB..64GB or 16GB..")
    return least, most


def size(value: object, field: str) -> int:
    """MiB of a size such as 500GB; 0 is none."""
    if value == 0 and not isinstance(value, bool):
        return 0
    if isinstance(value, str):
        text(value, field, longest=64)
    found = parse_mib(value, field=field)
    if found > MAX_MEMORY_MIB:
        raise refused(field, value, "is out of bounds", "at most 1PB")
    return found


def span(low_us: int, high_us: int, allowed: str) -> Reader:
    def read(value: object, field: str) -> int:
        if value == 0 and not isinstance(value, bool) and low_us == 0:
            return 0
        if isinstance(value, str):
            text(value, field, longest=64)
        found = parse_span_us(value, field=field)
        if not low_us <= found <= high_us:
            raise refused(field, value, "is out of bounds", allowed)
        return found

    return read


max_duration = span(1_000_000, 366 * DAY_US, "1s to 366d")
warn_before_stop = span(0, DAY_US, "0 to 1d")


def nodes(value: object, field: str) -> tuple[int, int]:
    """(at least, at most) tasks of the gang."""
    low, high = _bounds(value)
    found = []
    for part in (low, low if high is None else high):
        number = int(part) if isinstance(part, str) and re.fullmatch(r"[0-9]{1,6}", part) else part
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_NODES:
            raise refused(field, value, "is not a number of nodes", f"1 to {MAX_NODES}, or a range such as 2..8")
        found.append(number)
    if isinstance(value, str) and value.strip().endswith(".."):
        raise refused(field, value, "has no upper bound", f"both bounds, such as {found[0]}..{found[0] * 2}")
    if found[0] > found[1]:
        raise refused(field, value, "runs backwards", "the smaller number first: 2..8")
    return found[0], found[1]


def index(value: object, field: str) -> tuple[int, int]:
    """First and last index of an array, inclusive."""
    match = re.fullmatch(r"\s*([0-9]{1,9})\.\.([0-9]{1,9})\s*", value) if isinstance(value, str) else None
    if match is None:
        raise refused(field, value, "is not a range", "first..last, such as 0..99")
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise refused(field, value, "runs backwards", "the smaller number first: 0..99")
    if last - first >= MAX_ARRAY:
        raise refused(field, value, f"spans {last - first + 1} indices", f"1 to {MAX_ARRAY} indices")
    return first, last


def money(value: object, field: str) -> Money:
    if isinstance(value, float) and not math.isfinite(value):
        raise refused(field, value, "is not an amount", "an amount and a currency, such as 500 USD")
    if isinstance(value, int) and abs(value) > 10**12:
        raise refused(field, value, "is out of bounds", "below 9,000,000,000")
    if isinstance(value, str):
        text(value, field, longest=64)
    found = parse_money(value, field=field)
    if isinstance(value, int | float) or not value.strip()[-1:].isalpha():  # type: ignore[attr-defined]
        raise refused(field, value, "has no currency", f"an amount with its currency, such as {value} USD")
    if found.nano <= 0:
        raise refused(field, value, "is not above zero", "an amount above zero, such as 500 USD")
    return found


def cron(value: object, field: str) -> str:
    """Five fields: minute, hour, day, month, weekday (UTC)."""
    allowed = 'five fields: minute hour day month weekday, such as "0 3 * * *"'
    found = text(value, field, allowed=allowed, longest=200)
    try:
        if len(found.split()) != 5:
            raise CronSimError("fields")
        next(CronSim(found, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration, ValueError):
        raise refused(field, value, "is not a schedule that ever comes due", allowed) from None
    return found


def truth(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise refused(field, value, "is neither true nor false", "true or false")
    return value


def labels(value: object, field: str) -> dict[str, str]:
    """Labels by name. Numbers and truth become text, as in a label itself."""
    allowed = "a table of label: value"
    if not isinstance(value, Mapping):
        raise refused(field, value, "is not a table", allowed)
    if len(value) > 100:
        raise refused(field, len(value), f"has {len(value)} labels", "at most 100")
    found = {}
    for key, item in value.items():
        word = str(item).lower() if isinstance(item, bool) else str(item) if isinstance(item, int) else item
        if not isinstance(word, str) or not _LABEL.fullmatch(f"{key}={word}"):
            raise refused(f"{field}.{key}", item, "is not a label", "letters, digits, '.', '_' and '-', up to 63")
        found[str(key)] = word
    return found


def own_labels(value: object, field: str) -> dict[str, str]:
    """A job's own labels, sorted, so that equal ones are written alike."""
    found = labels(value, field)
    if len(found) > MAX_LABELS:
        raise refused(field, len(found), f"has {len(found)} labels", f"at most {MAX_LABELS}")
    return dict(sorted(found.items()))


def script(value: object, field: str) -> str:
    """A shell text."""
    if not isinstance(value, str) or not value.strip():
        raise refused(field, value, "is not a command", "shell text, such as: python train.py")
    if len(value.encode()) > MAX_SCRIPT_BYTES:
        raise refused(field, f"{len(value.encode())} bytes", "is too long", f"at most {MAX_SCRIPT_BYTES} bytes")
    return value


def files(value: object, field: str) -> str | None:
    """The content hash of an uploaded manifest; the client puts it in the place of a folder."""
    if value is None:
        return None
    match = re.fullmatch(r"sha256:([0-9a-f]{64})", value) if isinstance(value, str) else None
    if match is None:
        raise refused(
            field,
            value,
            "is not an uploaded folder",
            "sha256:<64 hex digits>; the command line and SDK upload a folder",
        )
    return match[1]


def inside(value: object, field: str) -> str:
    """A path inside the job's folder, relative and without detours."""
    allowed = "a relative path inside the job's folder, such as ckpt"
    found = text(value, field, allowed=allowed, longest=512)
    parts = [part for part in found.split("/") if part not in ("", ".")]
    if found.startswith(("/", "~")) or ".." in parts or not parts or "\\" in found or not found.isprintable():
        raise refused(field, value, "leads out of the job's folder", allowed)
    return "/".join(parts)


def dataset_table(value: object, field: str) -> tuple[tuple[str, str, str], ...]:
    """(name in the job, dataset, version) from {wiki: wiki-en@3} or [wiki-en@3]."""
    allowed = "name@version, such as wiki-en@3"
    if isinstance(value, list | tuple):
        pairs = [(str(item).partition("@")[0], item, f"{field}[{place}]") for place, item in enumerate(value)]
    elif isinstance(value, Mapping):
        pairs = [(str(key), item, f"{field}.{key}") for key, item in value.items()]
    else:
        raise refused(field, value, "is neither a table nor a list", f"a table of name: {allowed}")
    if len(pairs) > 100:
        raise refused(field, len(pairs), f"has {len(pairs)} items", "at most 100 items")
    found = []
    for key, item, place in pairs:
        match = re.fullmatch(r"([^@]+)@([1-9][0-9]{0,8})", item) if isinstance(item, str) else None
        if match is None or not NAME.fullmatch(match[1]) or not NAME.fullmatch(key):
            raise refused(place, item, "is not a version of a dataset", allowed)
        found.append((key, match[1], match[2]))
    if len({row[0] for row in found}) != len(found):
        raise refused(field, value, "names something twice", "each name once")
    return tuple(found)


def variables(value: object, field: str) -> dict[str, str | None]:
    """Environment variables; None marks one that must be given at submit. Numbers and truth become text."""
    if not isinstance(value, Mapping):
        raise refused(field, value, "is not a table", "a table of NAME: value")
    if len(value) > 1000:
        raise refused(field, len(value), f"has {len(value)} variables", "at most 1000")
    found = {str(key): _variable(str(key), item, f"{field}.{key}") for key, item in value.items()}
    if sum(len(key) + len((item or "").encode()) + 2 for key, item in found.items()) > 512 * 1024:
        raise refused(field, "", "is too large in all", "at most 512 KiB of names and values")
    return found


def _variable(key: str, item: object, place: str) -> str | None:
    if not VARIABLE.fullmatch(key):
        raise refused(place, key, "is not a name of a variable", "letters, digits and _, not a digit first")
    if key in RESERVED_VARIABLES or key.startswith("HEADFRAME_"):
        raise refused(place, key, "is set by Headframe and cannot be chosen", "another name")
    if item is None:
        return None
    if isinstance(item, bool):
        return "true" if item else "false"
    if not isinstance(item, str | int | float) or (isinstance(item, float) and not math.isfinite(item)):
        raise refused(place, item, "is not text", "text or a number")
    if isinstance(item, int) and abs(item) >= 1 << 64:
        raise refused(place, "", "is a number of more than 64 bits", "text in quotes")
    if len(str(item).encode()) > 128 * 1024 - 256:
        raise refused(place, "", "is too long", "less than 128 KiB")
    return str(item)
