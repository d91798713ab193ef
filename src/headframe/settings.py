"""Every knob of the server, typed and with its meaning. Options of `serve` and HEADFRAME_ variables set them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from headframe.base.errors import Invalid
from headframe.base.quantities import DAY_US, HOUR_US, SECOND_US, parse_mib, parse_span_us
from headframe.control.retention import FOREVER, KEEP, Keep
from headframe.scheduling.order import DEFAULT, Rules, order_named
from headframe.workloads.spec import PREFERENCES

DEFAULT_PORT = 8470
KEPT = ("keep_logs", "keep_files", "keep_environments", "keep_replies", "keep_series", "keep_outlines")  # or "forever"
LEAST_KEPT_US = HOUR_US
SPANS = ("half_life", "patience", "quantum", "reclaim_after")  # settings that are given as lengths of time


@dataclass(frozen=True, slots=True)
class Settings:
    """How one server runs. The reference page of settings is made from these fields."""

    data: Annotated[Path, "The data folder: store, logs, files and environments lie there."] = Path("~/.headframe")
    store_url: Annotated[
        str, "A database URL, such as postgresql://user@host/name; empty: SQLite in the data folder."
    ] = ""
    host: Annotated[str, "The address to listen on. Put a proxy with TLS before any other than loopback."] = "127.0.0.1"
    port: Annotated[int, "The port to listen on; 0 takes a free one."] = DEFAULT_PORT
    standby: Annotated[
        bool, "While another server decides on the same store, wait for its end, and pass requests on to it meanwhile."
    ] = False
    advertise: Annotated[
        str, "The URL at which other servers reach this one; empty: the address it listens on, or this machine's name "
        "where that is all addresses."
    ] = ""  # fmt: skip
    fake_gpus: Annotated[
        str, "Pretended GPUs for trying things out, such as H100:8,A100:2; marked fake everywhere."
    ] = ""
    log_limit_mib: Annotated[int, "The most that one job's log may hold, in MiB; the middle is cut beyond that."] = 64
    job_disk_mib: Annotated[
        int,
        "The most that one job's work folders, outputs and checkpoints may hold, in MiB; a job that asked for more "
        "disk may hold that. Beyond it the job is ended.",
    ] = 100 << 10
    uploads_mib: Annotated[int, "The most that one organization's uploaded files may hold, in MiB."] = 200 << 10
    keep_logs_us: Annotated[
        int,
        "How long the log and the working folders of a job are kept after its end, in microseconds; as an option also "
        "`forever`.",
    ] = KEEP.logs_us
    keep_files_us: Annotated[
        int,
        "How long outputs and checkpoints of a job are kept after its end, in microseconds; 4611686018427387904, which "
        "is `forever`, keeps them until somebody removes them.",
    ] = KEEP.files_us
    keep_environments_us: Annotated[
        int, "How long an environment of packages is kept that no job uses, in microseconds."
    ] = KEEP.environments_us
    keep_replies_us: Annotated[
        int, "How long the answer to a request with an Idempotency-Key is remembered, in microseconds."
    ] = KEEP.replies_us
    keep_series_us: Annotated[
        int, "How long what was measured of a job is kept as it came after its end, in microseconds; then thinned."
    ] = KEEP.series_us
    keep_outlines_us: Annotated[int, "How long the thinned rest of it is kept, in microseconds."] = KEEP.outlines_us
    prune_unpaid: Annotated[bool, "Remove logs and files also of jobs for which a bill is open."] = False
    invoice_grace_us: Annotated[
        int, "How long after its end a month stays open for late use before its invoices are final, in microseconds."
    ] = DAY_US
    order: Annotated[str, "Who comes first: an order policy. A cluster's label `order` overrides it there."] = "fair"
    half_life_us: Annotated[int, "What was used is half forgotten after this time, in microseconds."] = 7 * DAY_US
    patience_us: Annotated[
        int, "A job that has waited for longer counts as of the highest priority, in microseconds."
    ] = DAY_US
    quantum_us: Annotated[int, "How long a turn lasts at the least where jobs take turns, in microseconds."] = HOUR_US
    reclaim_after_us: Annotated[
        int, "How long an owner waits before it takes back what is guaranteed to it, in microseconds."
    ] = 30 * SECOND_US
    preempt: Annotated[
        str, "class: only a lower class makes way; priority: a lower priority of the same class, too. A cluster's "
        "label `preempt` overrides it there."
    ] = "class"  # fmt: skip
    moves: Annotated[bool, "Move jobs with checkpoints to make one place of what is free but scattered."] = False
    prefer: Annotated[str, "Which cluster comes first where a job does not say: cheapest, listed, packed."] = "cheapest"
    clusters: Annotated[
        str, "The file of further clusters; empty: clusters.yaml in the data folder, where there is one."
    ] = ""
    metrics: Annotated[
        str, "Who may read /metrics without a key: local (programs of this machine), open (anybody who reaches the "
        "port), key (nobody)."
    ] = "local"  # fmt: skip
    isolation: Annotated[str, "preferred: jobs run with a warning where no sandbox works; required: they fail."] = (
        "preferred"
    )

    @property
    def rules(self) -> Rules:
        """How this cloud chooses."""
        return Rules(
            self.order, self.half_life_us, self.patience_us, self.quantum_us, self.reclaim_after_us,
            self.preempt == "priority", self.moves, self.prefer,
        )  # fmt: skip

    @property
    def keep(self) -> Keep:
        """How long things are kept."""
        return Keep(
            self.keep_logs_us, self.keep_files_us, self.keep_environments_us, self.keep_replies_us,
            self.keep_series_us, self.keep_outlines_us, unpaid=not self.prune_unpaid,
        )  # fmt: skip

    @property
    def url(self) -> str:
        """The URL of the store."""
        return self.store_url or f"sqlite:///{self.data / 'headframe.db'}"


def meanings() -> dict[str, str]:
    """What each knob is for, by its name."""
    hints = get_type_hints(Settings, include_extras=True)
    return {one.name: hints[one.name].__metadata__[0] for one in fields(Settings)}


def from_options(options: Mapping[str, Any]) -> Settings:
    """Settings from the options of a command; an option that is None takes the default. Raises `Invalid`."""
    known = {one.name for one in fields(Settings)}
    given = {name: value for name, value in options.items() if value is not None and name in known}
    if options.get("log_limit") is not None:
        given["log_limit_mib"] = parse_mib(options["log_limit"], field="--log-limit")
    for name in ("job_disk", "uploads"):
        if options.get(name) is not None:
            given[f"{name}_mib"] = max(parse_mib(options[name], field=f"--{name.replace('_', '-')}"), 1)
    if options.get("invoice_grace") is not None:
        given["invoice_grace_us"] = parse_span_us(options["invoice_grace"], field="--invoice-grace")
    for name in SPANS:
        if options.get(name) is not None:
            given[f"{name}_us"] = max(parse_span_us(options[name], field=f"--{name.replace('_', '-')}"), 1)
    if given.get("quantum_us", SECOND_US) < SECOND_US:  # jobs would do nothing but make way for each other
        raise Invalid(
            f"--quantum is {options['quantum']!r}.", field="--quantum", value=options["quantum"], allowed="from 1s on"
        )
    for name in KEPT:
        if (text := options.get(name)) is not None:
            field = f"--{name.replace('_', '-')}"
            span_us = FOREVER if text == "forever" else parse_span_us(text, field=field)
            if span_us < LEAST_KEPT_US:
                raise Invalid(f"{field} is {text!r}.", field=field, value=text, allowed="from 1h on, or forever")
            given[f"{name}_us"] = span_us
    order_named(given.get("order", DEFAULT), field="--order")
    if given.get("preempt", "class") not in ("class", "priority"):
        raise Invalid(f"preempt is {given['preempt']!r}.", field="preempt", allowed="class or priority")
    if given.get("prefer", "cheapest") not in PREFERENCES:
        raise Invalid(f"prefer is {given['prefer']!r}.", field="prefer", allowed=", ".join(PREFERENCES))
    if given.get("metrics", "local") not in ("local", "open", "key"):
        raise Invalid(f"metrics is {given['metrics']!r}.", field="metrics", allowed="local, open or key")
    if given.get("advertise") and not re.fullmatch(r"https?://[^/\s?#]+/?", given["advertise"]):
        raise Invalid(
            f"advertise is {given['advertise']!r}.", field="advertise", allowed="http://host:port or https://host"
        )
    given["data"] = Path(given.get("data", "~/.headframe")).expanduser().absolute()
    if given.get("isolation", "preferred") not in ("preferred", "required"):
        raise Invalid(
            f"isolation is {given['isolation']!r}.", field="isolation", allowed="preferred or required"
        )  # fmt: skip
    return Settings(**given)
