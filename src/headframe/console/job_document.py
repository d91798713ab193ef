"""A request as the job file that says the same: for looking at it, for cloning it, for the form of a new job."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from headframe.base.money import plain
from headframe.base.quantities import SECOND_US
from headframe.workloads.spec import Gpus, Resources, Retry, Spec

_PLAIN = Spec("")
# Fields that stand in a job file as they are on record.
_AS_THEY_ARE = (
    "topology", "image", "python", "packages", "secrets", "setup", "run", "priority", "purchase",
    "reservation", "after", "clusters", "prefer", "labels", "node_labels", "node_names", "tolerations", "exclusive",
    "isolation", "warn_signal",
)  # fmt: skip


def document_of(spec: Spec, project: str = "") -> dict[str, Any]:
    """The job file of a request, without what is so anyhow. `project` is its name, where it is to be said.

    Of variables it holds the names: their values are told to nobody, and are to be given anew.
    """
    found: dict[str, Any] = {"name": spec.name}
    if project:
        found["project"] = project
    if resources := _resources(spec.resources):
        found["resources"] = resources
    if (spec.nodes_min, spec.nodes_max) != (1, 1):
        found["nodes"] = spec.nodes_min if spec.nodes_min == spec.nodes_max else f"{spec.nodes_min}..{spec.nodes_max}"
    for name in _AS_THEY_ARE:
        value = getattr(spec, name)
        if value != getattr(_PLAIN, name):
            found[name] = list(value) if isinstance(value, tuple) else value
    if spec.env:
        found["env"] = dict.fromkeys(spec.env)
    if spec.files:
        found["files"] = f"sha256:{spec.files}"
    if spec.datasets:
        found["datasets"] = {alias: f"{name}@{number}" for alias, name, number in spec.datasets}
    if spec.checkpoints is not None:
        found["checkpoints"] = {"path": spec.checkpoints.path, "keep": spec.checkpoints.keep}
    if spec.retry != Retry():
        found["retry"] = {"on": list(spec.retry.on), "max": spec.retry.max}
    for name in ("max_duration", "warn_before_stop", "spill_after"):
        us = getattr(spec, f"{name}_us")
        if us:
            found[name] = span_text(us)
    for name in ("budget", "max_price"):
        nano = getattr(spec, f"{name}_nano")
        if nano is not None:
            found[name] = f"{plain(nano, spec.currency)} {spec.currency}"
    if spec.cron:
        found["schedule"] = {"cron": spec.cron}
    if spec.array is not None:
        parallel = {"parallel": spec.array.parallel} if spec.array.parallel else {}
        found["array"] = {"index": f"{spec.array.first}..{spec.array.last}", **parallel}
    return found


def _resources(one: Resources) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if one.gpus:
        gpus = [gpu_text(each) for each in one.gpus]
        found["gpu"] = gpus[0] if len(gpus) == 1 else gpus
    if one.speeds:
        found["throughput"] = {kind: milli / 1000 for kind, milli in one.speeds}
    if (one.cpu_milli, one.cpu_max_milli) != (Resources().cpu_milli, None):
        found["cpu"] = _range(f"{one.cpu_milli / 1000:g}", one.cpu_max_milli and f"{one.cpu_max_milli / 1000:g}")
    if (one.memory_mib, one.memory_max_mib) != (Resources().memory_mib, None):
        found["memory"] = _range(mib_text(one.memory_mib), one.memory_max_mib and mib_text(one.memory_max_mib))
    if one.disk_mib:
        found["disk"] = mib_text(one.disk_mib)
    if one.shm_mib != Resources().shm_mib:
        found["shm_size"] = mib_text(one.shm_mib)
    return found


def _range(low: str, high: str | int | None) -> str:
    return low if not high else f"{low}..{high}"


def gpu_text(one: Gpus) -> str:
    """`H100:8`, `A100:80GB:4`, `0.5`, `24GB..80GB:2`."""
    low, high = one.memory_min_gib, one.memory_max_gib
    memory = "" if low is None and high is None else f"{low}GB" if low == high else _bounds(low, high)
    count = f"{one.milli / 1000:g}" if one.milli < 1000 else str(one.count)
    return ":".join(part for part in (one.kind or "", memory, count) if part)


def _bounds(low: int | None, high: int | None) -> str:
    return f"{'' if low is None else f'{low}GB'}..{'' if high is None else f'{high}GB'}"


def mib_text(mib: int) -> str:
    """`256GB`, `512MB`: as a job file says sizes."""
    return f"{mib >> 10}GB" if mib % 1024 == 0 else f"{mib}MB"


def span_text(us: int) -> str:
    """`3d`, `1h30m`, `45s`: exact to the second."""
    seconds, words = us // SECOND_US, ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        words += f"{seconds // size}{unit}" if seconds >= size else ""
        seconds %= size
    return words or "0s"


def yaml_of(document: Mapping[str, Any]) -> str:
    """A document as the text of a job file."""
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarstring import LiteralScalarString

    def shown(value: Any) -> Any:
        if isinstance(value, str) and "\n" in value:
            return LiteralScalarString("\n".join(line.rstrip() for line in value.split("\n")))
        if isinstance(value, Mapping):
            return {key: shown(inner) for key, inner in value.items()}
        return [shown(inner) for inner in value] if isinstance(value, list | tuple) else value

    yaml = YAML()
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    into = StringIO()
    yaml.dump(shown(dict(document)), into)
    return into.getvalue()
