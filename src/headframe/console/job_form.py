"""The form of a new job and the job file that it writes: the same document, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headframe.base.errors import CallerError, Invalid
from headframe.console.forms import Form
from headframe.console.job_document import yaml_of
from headframe.workloads import jobfile

# Fields of the form by their place in the job file, in its order. What else a file holds goes along as `more`.
TEXTS = (
    "name", "project", "resources.gpu", "resources.cpu", "resources.memory", "nodes", "image", "python", "run",
    "max_duration", "budget", "purchase",
)  # fmt: skip
NUMBERS = ("priority", "retry.max")
LISTS = ("packages", "secrets")
FIELDS = (*TEXTS, *NUMBERS, *LISTS, "env", "checkpoints.path")
MORE, FILE = "more", "file"
# What the form says where nothing is chosen, so that the file need not.
PLAIN = {"purchase": "on-demand", "priority": "50", "retry.max": "3"}


def document_of(form: Form) -> dict[str, Any]:
    """The document of a form that was sent; raises `Invalid` for what no document can be made of."""
    document: dict[str, Any] = {}
    for name in TEXTS:
        value = form.raw(name).strip("\n") if name == "run" else form.text(name)
        if value.strip() and value != PLAIN.get(name):
            _put(document, name, value)
    for name in NUMBERS:
        if form.text(name) and form.text(name) != PLAIN[name]:
            _put(document, name, int(form.text(name)) if form.text(name).isdecimal() else form.text(name))
    for name in LISTS:
        listed = [part.strip() for part in form.raw(name).replace(",", "\n").split("\n") if part.strip()]
        if listed:
            document[name] = listed
    if variables := _variables(form.raw("env")):
        document["env"] = variables
    if form.text("checkpoints.path"):
        _put(document, "checkpoints.path", form.text("checkpoints.path"))
    if form.raw(MORE).strip():
        for name, value in jobfile.read(form.raw(MORE))[0].items():
            if isinstance(value, Mapping) and isinstance(document.get(name), dict):
                document[name] = {**value, **document[name]}
            else:
                document.setdefault(name, value)
    return document


def _put(document: dict[str, Any], path: str, value: object) -> None:
    table, dot, last = path.rpartition(".")
    (document.setdefault(table, {}) if dot else document)[last] = value


def _variables(text: str) -> dict[str, str]:
    found = {}
    for line in text.split("\n"):
        name, equals, value = line.strip().partition("=")
        if not name and not equals:
            continue
        if not equals:
            raise Invalid(f"env holds {name[:60]!r}.", field="env", value=name[:60], allowed="NAME=VALUE on each line")
        found[name.strip()] = value
    return found


def form_of(document: Mapping[str, Any]) -> Form:
    """The form that shows a document; what has no field of its own is told as text in `more`."""
    rest = {name: dict(value) if isinstance(value, Mapping) else value for name, value in document.items()}
    told: dict[str, list[str]] = {}
    for name in FIELDS:
        value = _take(rest, name)
        if value is None:
            continue
        if name == "env" and isinstance(value, Mapping):
            told[name] = ["\n".join(key if each is None else f"{key}={each}" for key, each in value.items())]
        elif name in LISTS and isinstance(value, list | tuple):
            told[name] = ["\n".join(map(str, value))]
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            told[name] = [str(value)]
        else:
            _put(rest, name, value)
    rest = {name: value for name, value in rest.items() if value != {}}
    told[MORE] = [yaml_of(rest) if rest else ""]
    return Form(told)


def _take(rest: dict[str, Any], path: str) -> Any:
    table, dot, last = path.rpartition(".")
    place = rest.get(table) if dot else rest
    return place.pop(last, None) if isinstance(place, dict) else None


def faults_of(error: CallerError) -> dict[str, str]:
    """What is wrong, by the field of the form that it stands beside; "" what belongs to none."""
    told: Any = error.details.get("errors")
    listed = (
        told if isinstance(told, list) else [{**error.details, "message": error.message, "next_step": error.next_step}]
    )
    faults: dict[str, str] = {}
    for each in listed:
        words = " ".join(str(part) for part in (each.get("message"), each.get("next_step")) if part)
        faults.setdefault(_field_of(str(each.get("field") or "")), words)
    return faults


def _field_of(path: str) -> str:
    """The field that a place in the file belongs to: `packages[2]` to packages, `env.A` to env."""
    fits = [name for name in FIELDS if path == name or path.startswith((f"{name}.", f"{name}["))]
    return max(fits, key=len, default="")
