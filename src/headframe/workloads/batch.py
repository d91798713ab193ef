"""The kind `batch`: a command that runs to its end, on one task or a gang of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headframe.base.errors import Invalid
from headframe.base.money import Money
from headframe.base.quantities import DAY_US, format_mib
from headframe.workloads import readers
from headframe.workloads.fields import Field
from headframe.workloads.gpu import FASTEST, MAX_PER_NODE, fastest_first, parse_gpus, parse_throughput
from headframe.workloads.readers import refused
from headframe.workloads.spec import (
    PREFERENCES,
    PURCHASES,
    RETRY_REASONS,
    TOPOLOGIES,
    Array,
    Checkpoints,
    Resources,
    Retry,
    Spec,
)

NAME = "batch"
_TEXT = {"type": "string"}
_NUMBER_OR_TEXT = {"type": ["number", "string"]}
_TEXTS = {"oneOf": [{"type": "array", "items": _TEXT}, _TEXT]}


def _words(words: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "string", "enum": list(words)}


FIELDS: tuple[Field, ...] = (
    Field("name", "name", "What the job is called; the newest job of a name is meant by it.", "pretrain-7b",
          readers.name, {**_TEXT, "maxLength": 63}, "batch- and the end of its id"),
    Field("type", "word", "The kind of workload.", "batch", readers.one_of((NAME,)), _words((NAME,)), "batch"),
    Field("project", "name", "The project that the job belongs to and is charged to.", "research",
          readers.name, _TEXT, "the key's project"),
    Field("resources.gpu", "GPUs", "GPUs for each node: kind, memory of each, count; a list is tried in order; a "
          "fraction is a part of one GPU; absent means none.", "A100:80GB:4", parse_gpus,
          {"oneOf": [{"type": "number", "minimum": 0, "maximum": MAX_PER_NODE}, _TEXT,
                     {"type": "array", "items": _NUMBER_OR_TEXT}, {"type": "null"}]}, "none"),
    Field("resources.throughput", "table", "How fast it runs on one GPU of each kind, as a multiple of whatever is the "
          "same for all: it then gets the kind that gains it the most.", "{H100: 2.1, A100: 1}", parse_throughput,
          {"type": "object", "additionalProperties": {"type": "number", "minimum": 0.001, "maximum": FASTEST}},
          "kinds in the order of resources.gpu"),
    Field("resources.cpu", "cores or range", "CPU cores for each node.", "4..8", readers.cpu, _NUMBER_OR_TEXT, "1"),
    Field("resources.memory", "size or range", "Memory for each node.", "256GB", readers.memory, _TEXT, "1GB"),
    Field("resources.disk", "size", "Space in the working folder for each node.", "500GB", readers.size,
          _NUMBER_OR_TEXT, "0, not limited apart"),
    Field("resources.shm_size", "size", "Size of /dev/shm for each node; what lies there is part of its memory.",
          "512MB", readers.size, _NUMBER_OR_TEXT, "64MB"),
    Field("nodes", "count or range", "Tasks that start together or not at all; a range makes the gang elastic.", "2..8",
          readers.nodes, {"type": ["integer", "string"]}, "1"),
    Field("topology", "word", "How close the gang must sit; nvlink: on one node, on GPUs with a fast link.", "block",
          readers.one_of(TOPOLOGIES), _words(TOPOLOGIES), "none"),
    Field("image", "image", "The container image to run in; not together with python or packages.",
          "docker.io/library/python:3.12", readers.image, _TEXT, "none"),
    Field("python", "version", "The version of Python of the environment that Headframe builds.", '"3.12"',
          readers.python, _NUMBER_OR_TEXT, "the machine's, when there are packages"),
    Field("packages", "list", "Python packages of the environment, built once and shared between jobs.",
          "[torch, transformers]", readers.listed(readers.package, most=500), _TEXTS, "none"),
    Field("files", "folder", "The folder that is uploaded as the job's working folder, without what .gitignore "
          "names; sha256:<hex> of the manifest in the API.", ".", readers.files, {"type": ["string", "null"]}, "none"),
    Field("env", "table", "Environment variables; null must be given at submit.", "{WANDB_MODE: offline, TOKEN: null}",
          readers.variables,
          {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}},
          "none"),
    Field("secrets", "list", "Secrets of the project, as variables in capitals: hf-token is $HF_TOKEN.", "[hf-token]",
          readers.listed(readers.secret, most=100), _TEXTS, "none"),
    Field("datasets", "table", "Datasets, read-only at $HEADFRAME_DATASETS/<name>.", "{wiki: wiki-en@3}",
          readers.dataset_table,
          {"oneOf": [{"type": "object", "additionalProperties": _TEXT}, {"type": "array", "items": _TEXT}]}, "none"),
    Field("checkpoints.path", "path", "The folder for checkpoints; it survives attempts.", "ckpt", readers.inside,
          _TEXT, required=True),
    Field("checkpoints.keep", "count", "How many checkpoints are kept.", "3", readers.whole(1, 1000),
          {"type": "integer", "minimum": 1, "maximum": 1000}, "3"),
    Field("setup", "list or text", "Commands before run, in the same shell, once for each attempt on each node.",
          "[make build]",
          readers.listed(readers.script, most=100, unique=False), _TEXTS, "none"),
    Field("run", "shell text", "The command that is the job, for `sh -e`: it ends with the first command that fails.",
          "python train.py", readers.script, _TEXT, required=True),
    Field("retry.on", "list", "After which ends the job is tried again.", "[node_failure, preemption, error]",
          readers.listed(readers.one_of(RETRY_REASONS), most=len(RETRY_REASONS)),
          {"type": "array", "items": _words(RETRY_REASONS)}, "[node_failure, preemption]"),
    Field("retry.max", "count", "How many times it is tried again.", "5", readers.whole(0, 1000),
          {"type": "integer", "minimum": 0, "maximum": 1000}, "3"),
    Field("max_duration", "time", "The longest that one attempt may run.", "3d", readers.max_duration, _TEXT,
          "no limit"),
    Field("warn_before_stop", "time", "How long before a stop the job is sent warn_signal, so that it can save.", "60s",
          readers.warn_before_stop, {"type": ["string", "integer"]}, "0, no warning"),
    Field("warn_signal", "signal", "The signal of that warning.", "SIGUSR1", readers.one_of(readers.SIGNALS),
          _words(readers.SIGNALS), "SIGUSR1"),
    Field("priority", "0..100", "Which of the project's jobs goes first; more is earlier.", "50", readers.whole(0, 100),
          {"type": "integer", "minimum": 0, "maximum": 100}, "50"),
    Field("purchase", "word", "How the capacity is bought.", "on-demand", readers.one_of(PURCHASES), _words(PURCHASES),
          "on-demand"),
    Field("reservation", "name", "The reservation that the job runs in: its name or id. Its purchase is then reserved.",
          "spring-run", readers.reference, _TEXT, "with purchase: reserved the only one there is; else none"),
    Field("max_price", "money", "The most for one GPU-hour; for spot only.", "1.50 USD", readers.money, _TEXT,
          "no limit"),
    Field("budget", "money", "The job is stopped, with warning, before it costs more.", "500 USD", readers.money,
          _TEXT, "no limit"),
    Field("schedule.cron", "five fields", "Starts a job at each of these moments (UTC).", '"0 3 * * *"', readers.cron,
          _TEXT, required=True),
    Field("array.index", "range", "One job for each index, given as $HEADFRAME_ARRAY_INDEX.", "0..99", readers.index,
          _TEXT, required=True),
    Field("array.parallel", "count", "At most so many of them at once; 0 means no limit.", "10",
          readers.whole(0, readers.MAX_ARRAY), {"type": "integer", "minimum": 0}, "0"),
    Field("after", "list", "Jobs (names or ids) that must have succeeded first.", "[prepare-data]",
          readers.listed(readers.reference, most=100), _TEXTS, "none"),
    Field("clusters", "list", "Where it may run: names of clusters or regions, or labels.", "[any]",
          readers.listed(readers.cluster, most=100), _TEXTS, "[any]"),
    Field("prefer", "word", "Which cluster comes first, of those with room: cheapest, listed (in the order of "
          "clusters) or packed (where it wastes the least); nearness of its datasets comes before these.", "listed",
          readers.one_of(PREFERENCES), _words(PREFERENCES), "the cloud's own, cheapest"),
    Field("spill_after", "time", "How long it waits for a better cluster, where one is expected to have room by then.",
          "10m", readers.span(0, 30 * DAY_US, "0 to 30d"), {"type": ["string", "integer"]}, "0, takes what there is"),
    Field("labels", "table", "Words that its cost is told apart by, in reports of use.", "{team: vision}",
          readers.own_labels, {"type": "object", "maxProperties": readers.MAX_LABELS,
                               "additionalProperties": {"type": ["string", "number", "boolean"]}}, "none"),
    Field("node_labels", "table", "Labels that each of its nodes must carry.", "{disk: nvme}", readers.labels,
          {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}, "none"),
    Field("node_names", "list", "The nodes that it may use, by name or id.", "[node-7]",
          readers.listed(readers.node_name, most=1000), _TEXTS, "any"),
    Field("tolerations", "list", "Taints of nodes that it tolerates: key, or key=value.", "[dedicated=research]",
          readers.listed(readers.taint, most=100), _TEXTS, "none"),
    Field("exclusive", "truth", "Whether each task gets a whole node, with all of its CPU, memory and GPUs, and is "
          "charged for it.", "true", readers.truth, {"type": "boolean"}, "false"),
    Field("isolation", "word", "Whether the job may run where there is no sandbox (preferred) or not (required).",
          "required", readers.one_of(("preferred", "required")), _words(("preferred", "required")), "preferred"),
)  # fmt: skip


def build(values: Mapping[str, Any], env: Mapping[str, str], name: str) -> Spec:
    """The request from normalized values by field name; `env` are values given at submit."""
    _check_contradictions(values)
    least, most = values.get("nodes", (1, 1))
    limits: list[Money] = [values[key] for key in ("budget", "max_price") if key in values]
    budget, max_price = values.get("budget"), values.get("max_price")
    setup = values.get("setup", ())
    if sum(len(part.encode()) for part in setup) > readers.MAX_SCRIPT_BYTES:
        raise refused(
            "setup", f"{len(setup)} commands", "is too long", f"at most {readers.MAX_SCRIPT_BYTES} bytes in all"
        )
    return Spec(
        name=values.get("name", name),
        resources=_resources(values),
        nodes_min=least,
        nodes_max=most,
        env=_environment(values.get("env", {}), env),
        checkpoints=_checkpoints(values),
        setup=setup,
        retry=Retry(values.get("retry.on", Retry().on), values.get("retry.max", Retry().max)),
        max_duration_us=values.get("max_duration"),
        warn_before_stop_us=values.get("warn_before_stop", 0),
        spill_after_us=values.get("spill_after", 0),
        max_price_nano=max_price.nano if max_price else None,
        budget_nano=budget.nano if budget else None,
        currency=limits[0].currency if limits else "USD",
        cron=values.get("schedule.cron"),
        array=_array(values),
        clusters=values.get("clusters") or ("any",),
        purchase=values.get("purchase", "reserved" if values.get("reservation") else "on-demand"),
        **{
            key: values[key]
            for key in (
                "type", "topology", "image", "python", "packages", "files", "secrets", "datasets", "run", "warn_signal",
                "priority", "reservation", "after", "labels", "node_labels", "node_names", "tolerations", "exclusive",
                "isolation", "prefer",
            )
            if key in values
        },
    )  # fmt: skip


def _resources(values: Mapping[str, Any]) -> Resources:
    plain = Resources()
    cpu, cpu_max = values.get("resources.cpu", (plain.cpu_milli, None))
    memory, memory_max = values.get("resources.memory", (plain.memory_mib, None))
    gpus, speeds = values.get("resources.gpu", ()), values.get("resources.throughput", ())
    return Resources(
        gpus=fastest_first(gpus, speeds, "resources.throughput") if speeds else gpus,
        speeds=speeds,
        cpu_milli=cpu,
        cpu_max_milli=cpu_max,
        memory_mib=memory,
        memory_max_mib=memory_max,
        disk_mib=values.get("resources.disk", plain.disk_mib),
        shm_mib=values.get("resources.shm_size", plain.shm_mib),
    )


def _checkpoints(values: Mapping[str, Any]) -> Checkpoints | None:
    path = values.get("checkpoints.path")
    return Checkpoints(path, values.get("checkpoints.keep", 3)) if path else None


def _array(values: Mapping[str, Any]) -> Array | None:
    bounds = values.get("array.index")
    return Array(bounds[0], bounds[1], values.get("array.parallel", 0)) if bounds else None


def _environment(written: Mapping[str, str | None], given: Mapping[str, str]) -> dict[str, str]:
    """What is given at submit goes before what is written; nulls that nobody gave are refused by name."""
    merged = {**written, **readers.variables(given, "env")}
    lacking = [key for key, value in merged.items() if value is None]
    if lacking:
        raise Invalid(
            f"{', '.join(f'env.{key}' for key in lacking[:20])} must be given at submit.",
            field=f"env.{lacking[0]}",
            allowed=f"{' '.join(f'--env {key}=VALUE' for key in lacking[:20])}, or a value in the job file",
        )
    return {key: value for key, value in merged.items() if value is not None}


def _check_contradictions(values: Mapping[str, Any]) -> None:
    """Fields that are each allowed but not together."""
    for other in ("python", "packages"):
        if values.get("image") and values.get(other):
            raise refused(
                other, values[other], "stands beside image", f"either image, or {other}: an image brings its own"
            )
    if "array.index" in values and "schedule.cron" in values:
        raise refused("array", values["array.index"], "stands beside schedule", "either array or schedule")
    if "max_price" in values and values.get("purchase") != "spot":
        raise refused("max_price", values["max_price"], "is for spot only", "max_price together with purchase: spot")
    if "max_price" in values and "budget" in values and values["max_price"].currency != values["budget"].currency:
        raise refused("max_price", values["max_price"], "is in another currency than budget", "one currency")
    if values.get("reservation") and values.get("purchase", "reserved") != "reserved":
        raise refused("purchase", values["purchase"], "stands beside reservation", "reserved, or no reservation")
    _check_shm(values)
    longest, warning = values.get("max_duration"), values.get("warn_before_stop", 0)
    if longest is not None and warning >= longest:
        raise refused("warn_before_stop", warning, "is not shorter than max_duration", "less than max_duration")
    if values.get("name") and values["name"] in values.get("after", ()):
        raise refused("after", values["name"], "names the job itself", "other jobs")


def _check_shm(values: Mapping[str, Any]) -> None:
    """Shared memory counts as memory: more of it than of that could never be filled."""
    shm = values.get("resources.shm_size", 0)
    memory, _ = values.get("resources.memory", (Resources().memory_mib, None))
    if shm > memory and not values.get("exclusive"):
        why = "is more than resources.memory, of which it is a part"
        raise refused("resources.shm_size", shm, why, f"at most {format_mib(memory)}, or more memory")
