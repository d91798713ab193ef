"""Job files: from a document (`parse`) or YAML text (`read`) to a request, or to one error that names every fault."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

from headframe.base.errors import Invalid, InvalidSpec
from headframe.workloads import yaml_text
from headframe.workloads.fields import Field, tables
from headframe.workloads.readers import refused
from headframe.workloads.registry import DEFAULT, KINDS, Kind
from headframe.workloads.spec import Spec

MAX_DEPTH = 20
MAX_ITEMS = 50_000
MAX_TEXT = 1024 * 1024
MOST_FAULTS = 20  # told at once
_SHOWN = 200


def read(text: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The document of a YAML job file and the 1-based line of each field by its dotted path; raises `InvalidSpec`."""
    return yaml_text.read(text)


def parse(
    document: Mapping[str, object],
    *,
    env: Mapping[str, str] | None = None,
    lines: Mapping[str, int] | None = None,
    name: str | None = None,
) -> Spec:
    """The request that a document makes; raises `InvalidSpec` and nothing else, whatever the document holds.

    The error is that of the first fault; `details["errors"]` lists all of them where there are several.
    `env` are values given at submit; `lines` says where fields stand in the file (see `read`); `name` is for a
    job whose document gives none.
    """
    try:
        if not isinstance(document, Mapping):
            raise refused("job", document, "is not a table of fields", "a table with at least: run: COMMAND")
        _check_shape(document)
        _check_shape(dict(env or {}))
        kind = _kind_of(document)
        faults: list[Invalid] = []
        values = _values(document, kind, faults)
        if not faults:
            return _built(kind, values, env or {}, name or "job", document)
    except Invalid as error:
        faults = [error]
    raise _all_told([_told(fault, lines or {}) for fault in faults])


def _built(
    kind: Kind, values: dict[str, Any], env: Mapping[str, str], name: str, document: Mapping[str, object]
) -> Spec:
    """What the values make; an error tells a value as it is written, not as it was read."""
    try:
        return kind.build(values, env, name)
    except Invalid as error:
        table, _, last = error.field.rpartition(".")
        inside = document.get(table) if table else document
        if isinstance(inside, Mapping) and inside.get(last) is not None:
            error.value = inside[last]
        raise


def _kind_of(document: Mapping[str, object]) -> Kind:
    written = document.get("type", DEFAULT)
    if not isinstance(written, str) or written not in KINDS:
        raise refused("type", written, "is not a known kind of workload", ", ".join(KINDS))
    return KINDS[written]


def _values(document: Mapping[str, object], kind: Kind, faults: list[Invalid]) -> dict[str, Any]:
    """Normalized values by dotted name; what is wrong goes to `faults`. A field that is null is as good as absent."""
    flat = _flat(document, kind.fields, faults)
    found: dict[str, Any] = {}
    for item in kind.fields:
        try:
            if flat.get(item.name) is not None:
                found[item.name] = item.read(flat[item.name], item.name)
            elif item.required and _is_needed(item, document):
                text = f"{item.form}, such as {item.name}: {item.example}"
                raise Invalid(f"{item.name} is missing.", field=item.name, allowed=text)
        except Invalid as error:
            faults.append(error)
    return found


def _is_needed(item: Field, document: Mapping[str, object]) -> bool:
    """A required field of a table is needed where the table is there."""
    table, dot, _ = item.name.partition(".")
    return not dot or isinstance(document.get(table), Mapping)


def _flat(document: Mapping[str, object], fields: tuple[Field, ...], faults: list[Invalid]) -> dict[str, object]:
    """Values by dotted name; an unknown name is a fault that tells the nearest known one."""
    known = [item.name for item in fields]
    nested = tables(fields)
    flat: dict[str, object] = {}
    for key, value in document.items():
        if key not in nested:
            flat[key] = value
        elif isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": item for inner, item in value.items()}
        elif value is not None:
            inner_names = ", ".join(one.partition(".")[2] for one in known if one.startswith(f"{key}."))
            faults.append(refused(key, value, "is not a table", f"a table with {inner_names}"))
    faults += [_unknown(name, known, nested) for name in flat if name not in known]
    return flat


def _unknown(name: str, known: list[str], nested: tuple[str, ...]) -> Invalid:
    """The fault of a name that no field has, with the one that was probably meant."""
    table, _, last = name.rpartition(".")
    # What may stand there, by its last word, and then what may stand anywhere.
    here = {one.rpartition(".")[2]: one for one in known if one.rpartition(".")[0] == table}
    here |= {} if table else {one: one for one in nested}
    anywhere = {one.rpartition(".")[2]: one for one in reversed(known)}
    near = [anywhere[last]] if last in anywhere else []
    for names in (here, anywhere):
        near += [names[word] for word in difflib.get_close_matches(last[:64], list(names), n=1, cutoff=0.6)]
    names_here = here if table else dict.fromkeys(one.partition(".")[0] for one in known)
    meant = f"did you mean {near[0]}?" if near else ", ".join(names_here)
    return Invalid(f"{name!r} is not a field of a job file.", field=name, allowed=meant)


def _check_shape(document: Mapping[str, object]) -> None:
    """Bounds on depth, size and characters, before anything is read."""
    waiting: list[tuple[str, object, int]] = [("", document, 0)]
    items = 0
    while waiting:
        place, value, depth = waiting.pop()
        items += 1
        if depth > MAX_DEPTH or items > MAX_ITEMS:
            raise Invalid(
                "The job file is nested too deeply or holds too many items.",
                field=place,
                allowed=f"{MAX_DEPTH} levels and {MAX_ITEMS} items",
            )
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise refused(
                        place or "job", key, "has a name that is not text", "names in quotes when they are numbers"
                    )
                _check_text(f"{place}.{key}".lstrip(".")[:_SHOWN], key)
                waiting.append((f"{place}.{key}".lstrip(".")[:_SHOWN], inner, depth + 1))
        elif isinstance(value, list | tuple):
            waiting += [(f"{place}[{number}]"[:_SHOWN], inner, depth + 1) for number, inner in enumerate(value)]
        elif isinstance(value, str):
            _check_text(place, value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise refused(place, repr(value), "is not a finite number", "a number")
        elif value is not None and not isinstance(value, bool | int | float):
            raise refused(
                place, type(value).__name__, "is of a type that job files do not have", "text, numbers, lists, tables"
            )


def _check_text(place: str, text: str) -> None:
    if len(text) > MAX_TEXT:
        raise refused(place, f"{len(text)} characters", "is too long", f"at most {MAX_TEXT} characters")
    if "\0" in text or re.search("[\ud800-\udfff]", text):
        raise refused(place, ascii(text[:40]), "holds a character that no command can take", "text without NUL")


def _shown(value: object) -> object:
    """The value as an error may carry it: short, and writable as JSON."""
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 1 << 53):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    shown = value if isinstance(value, str) else _brief(value)
    shown = shown.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


def _brief(value: object) -> str:
    if isinstance(value, int):
        return "a number of more than 53 bits"
    if isinstance(value, Mapping):
        return f"a table of {len(value)}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if len(value) > 20 else f"[{', '.join(str(item) for item in value)}]"
    return str(value)


def _all_told(faults: list[InvalidSpec]) -> InvalidSpec:
    """The first fault in the order of the file, which carries the others."""
    faults.sort(key=lambda fault: fault.line or 0)
    first = faults[0]
    if len(faults) > 1:
        first.details["errors"] = [
            {"message": fault.message, **fault.details, "next_step": fault.next_step} for fault in faults[:MOST_FAULTS]
        ]
    return first


def _told(error: Invalid, lines: Mapping[str, int]) -> InvalidSpec:
    """One error as the person sees it: field, value, what is allowed, line, and what to do."""
    place: str = error.field
    while place and place not in lines:
        cut = max(place.rfind("."), place.rfind("["))
        place = place[:cut] if cut > 0 else ""
    value = _shown(error.value)
    message = str(_shown(error.message))
    if value is not None and str(value) not in message:
        message = (
            f"{message.removesuffix('.')}: {value!r}."
            if isinstance(error.value, str)
            else f"{message.removesuffix('.')}: {value}."
        )
    return InvalidSpec(
        message,
        field=str(_shown(error.field)),
        value=value,
        allowed=error.allowed,
        line=lines.get(place) if place else error.line,
        next_step=(
            f"{error.allowed[0].upper()}{error.allowed[1:]}"
            if error.allowed.endswith("?")
            else f"Allowed: {error.allowed}."
        )
        if error.allowed
        else "",
    )
