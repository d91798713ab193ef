"""What people may see of how money could be spent better: other ways to have run a job, and what stood idle.

Who sees what is decided where use is (`queries_money.spender`, `sees_cost`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headframe.base.errors import Forbidden, Invalid
from headframe.control.context import Context
from headframe.control.ports import Reads
from headframe.control.queries import find_job
from headframe.control.queries_money import sees_cost
from headframe.control.queries_spend import whose
from headframe.control.stage_money import currency_of
from headframe.control.world import World
from headframe.fleet.records import Accelerator, Allocation, Cluster
from headframe.jobs.records import Attempt, Job
from headframe.ledger.close import month_of, month_span_us
from headframe.metering.meter import quantities
from headframe.pricing.compare import SPEED, Option, Stretch, Way, compare, terms_of
from headframe.pricing.records import Charge
from headframe.pricing.waste import Advice, Holding, Measured, Waste, advise, waste_of
from headframe.scheduling.fit import fit
from headframe.scheduling.queue import Bucket
from headframe.tenants.roles import Caller, Permission
from headframe.workloads.spec import Gpus, Spec

MOST_STRETCHES = 2000  # attempts that are priced in other ways: those of a large array are many
MOST_LOOKED_AT = 20_000  # allocations, the dearest first, of which one report reads how busy they were
PART = 500
_MEASURED = tuple(Measured.__dataclass_fields__)

# Cheaper ways.


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ways to have run a job: first as it ran, then the others, cheapest first, then those that were not possible.

    `charged_nano` is what was really charged, with contracts and credits of the price in it; the options are priced
    alike from the book. `speeds` are how fast accelerators are for it, by its job file, in millionths of how it ran;
    `stretches` counts the runs that are compared, `left_out` those of a large array that are not.
    """

    job_id: str
    currency: str
    charged_nano: int
    options: tuple[Option, ...]
    speeds: dict[str, int]
    stretches: int
    left_out: int


def cheaper(world: World, context: Context, caller: Caller, ref: str) -> Callable[[Reads], Comparison]:
    """What a job, or those of an array or a schedule, would have cost in other ways, by the prices of that time."""
    job = find_job(world, context, caller, ref)
    if not sees_cost(caller, job):
        raise Forbidden(
            "What this job cost is for its member and for those who see the organization's invoices.",
            next_step="Ask an owner, admin or finance of the organization.",
            details={"permission": Permission.INVOICES_READ.value, "role": caller.role.value},
        )
    regions = {cluster.id: cluster.region_id for cluster in world.all(Cluster).values()}
    kinds = sorted({device.kind for device in world.all(Accelerator).values()})
    reasons = {kind: _cannot(world, job, kind) for kind in kinds}
    currency, book, now_us = currency_of(world, job.organization_id), context.spending.book, context.now_us

    def read(reads: Reads) -> Comparison:
        where = {"job_id__child_of" if job.parent else "job_id": job.id}
        held = list(_pages(reads, where))
        stretches = [_stretch(one, regions, now_us) for one in held if one.running_us is not None]
        charged = sum(row["amount_nano"] for row in reads.total(Charge, "amount_nano", [], **where))
        left_out = max(reads.count(Allocation, **where) - len(held), 0)
        ran_on = sorted({meter.removeprefix("gpu:") for one in stretches for meter in one.held if "gpu:" in meter})
        speeds = _speeds(job.spec, ran_on, kinds)
        ways = _ways(job.spec, stretches, ran_on, reasons, speeds, terms_of(book, _first_us(stretches)))
        options = compare(stretches, ways, book, job.organization_id, currency) if stretches else ()
        return Comparison(job.id, currency, charged, options, speeds, len(stretches), left_out)

    return read


def _pages(reads: Reads, where: Mapping[str, Any]) -> Iterator[Allocation]:
    """The job's allocations, by id; no more than are compared."""
    after: str | None = None
    for _ in range(MOST_STRETCHES // PART):
        rows = reads.find(Allocation, after=after, limit=PART, **where)
        yield from rows
        if len(rows) < PART:
            return
        after = rows[-1].id


def _stretch(held: Allocation, regions: Mapping[str, str], now_us: int) -> Stretch:
    assert held.running_us is not None
    end_us = now_us if held.released_us is None else held.released_us
    return Stretch(
        quantities(held.slices), regions.get(held.cluster_id, ""), held.purchase, held.running_us,
        max(end_us, held.running_us), held.faulted or held.released_us is None,
    )  # fmt: skip


def _first_us(stretches: Sequence[Stretch]) -> int:
    return min((one.from_us for one in stretches), default=0)


def _cannot(world: World, job: Job, kind: str) -> str:
    """Why the job could not have run on that kind here, even on an empty cloud; "" when it could."""
    gpus = job.spec.resources.gpus
    if not gpus:
        return "it needs no accelerator"
    asked = tuple(replace(one, kind=kind) for one in gpus)
    wanted = tuple(dict.fromkeys(asked))
    spec = replace(job.spec, resources=replace(job.spec.resources, gpus=wanted))
    if fit(world.derived.capacity.emptied(), Bucket.of(replace(job, spec=spec), 0).want) is not None:
        return ""
    return f"{_asked(wanted[0], spec.nodes_min)} never fit here, with the rest of what it asks for"


def _asked(gpus: Gpus, nodes: int) -> str:
    """`2 nodes with 8 H100 of 80 GB each`."""
    memory = f" of {gpus.memory_min_gib} GB" if gpus.memory_min_gib else ""
    count = f"{gpus.count}" if gpus.milli == 1000 else f"{gpus.milli / 1000:g}"
    return f"{count} {gpus.kind}{memory}" if nodes == 1 else f"{nodes} nodes with {count} {gpus.kind}{memory} each"


def _speeds(spec: Spec, ran_on: Sequence[str], kinds: Iterable[str]) -> dict[str, int]:
    """How fast each kind is for the job, by its job file, against the one that it ran on; empty when that says nothing.

    Kinds are named as the cloud names them, whichever letters the job file has.
    """
    names = {kind.lower(): kind for kind in (*kinds, *ran_on)}
    told = {names.get(kind.lower(), kind): speed for kind, speed in spec.resources.speeds}
    base = told.get(ran_on[0], 0) if len(ran_on) == 1 else 0
    return {kind: speed * SPEED // base for kind, speed in sorted(told.items())} if base else {}


def _ways(
    spec: Spec,
    stretches: Sequence[Stretch],
    ran_on: Sequence[str],
    reasons: Mapping[str, str],
    speeds: Mapping[str, int],
    terms: Iterable[str],
) -> list[Way]:
    """The ways worth a price: each other kind here, each other purchase, each term, and all of these together."""
    bought = sorted({one.purchase for one in stretches})
    purchases = ["", *(name for name in ("on-demand", "spot", "reserved") if bought != [name])]
    found = []
    for kind in ["", *(name for name in sorted({*reasons, *speeds}) if list(ran_on) != [name])] if ran_on else [""]:
        known = speeds.get(kind)
        notes = [] if not kind or known else ["taken to be just as fast: the job file tells no throughput"]
        cannot = "" if not kind else reasons.get(kind, "there is none here")
        for purchase in purchases:
            more = [_spot_note(spec)] if purchase == "spot" else []
            why = cannot or (_no_spot(spec) if purchase == "spot" else "")
            found.append(Way(kind, purchase, "", known, why, _joined(notes + more)))
        found += [
            Way(kind, "reserved", term, known, cannot, _joined([*notes, "if all of the promised time is used"]))
            for term in (terms if ran_on else ())
        ]
    return [way for way in found if (way.accelerator, way.purchase, way.term) != ("", "", "")]


def _joined(notes: Iterable[str]) -> str:
    return "; ".join(note for note in notes if note)


def _no_spot(spec: Spec) -> str:
    return "" if "preemption" in spec.retry.on else "retry.on does not name preemption: it would have ended there"


def _spot_note(spec: Spec) -> str:
    return "" if spec.checkpoints else "without checkpoints each preemption begins anew"


# Waste.


@dataclass(frozen=True, slots=True)
class WasteOf:
    """What was held and stood idle, of one job (with its `name`), project or member; `advice` for jobs only."""

    by: dict[str, str]
    waste: Waste
    idle_percent: int | None
    busy_percent: int | None
    advice: tuple[Advice, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class WasteReport:
    """What was charged in [from_us, to_us) and stood idle. `items` by the money wasted, most first.

    How busy an allocation was is known over its life: of one that reaches beyond the span the same share is taken.
    `left_out` counts allocations of little cost that were not looked at one by one.
    """

    organization_id: str
    currency: str
    from_us: int
    to_us: int
    total: Waste
    items: tuple[WasteOf, ...]
    left_out: int


@dataclass(slots=True)
class _Charged:
    """What was charged for one allocation, by meter."""

    owners: dict[str, str]
    nano: dict[str, int] = field(default_factory=dict)
    gpu_milli_us: int = 0


def _name_of(reads: Reads, job_id: str) -> str:
    job: Job | None = reads.get(Job, job_id) if job_id else None
    return "" if job is None else job.name


WASTE_BY = {"job": "job_id", "project": "project_id", "member": "member_id"}


def waste(
    world: World,
    context: Context,
    caller: Caller,
    *,
    by: str = "job",
    from_us: int | None = None,
    to_us: int | None = None,
    organization: str | None = None,
    project: str | None = None,
) -> Callable[[Reads], WasteReport]:
    """What was held and charged but stood idle, in money, and what would have been enough.

    The operator may ask for organization "all".
    """
    if by not in WASTE_BY:
        ways = ", ".join(WASTE_BY)
        raise Invalid(f"by is {by!r}.", field="by", value=by, allowed=ways, next_step=f"Name one of these: {ways}.")
    asked = whose(world, context, caller, organization, project)
    where = asked.where
    begin = month_span_us(month_of(context.now_us))[0] if from_us is None else from_us
    end = context.now_us if to_us is None else to_us

    def read(reads: Reads) -> WasteReport:
        span = {**where, "at_us__ge": begin + 1, "at_us__lt": end + 1}
        charged = _by_allocation(reads, span)
        dear = sorted(charged, key=lambda one: (-sum(charged[one].nano.values()), one))
        looked = dear[:MOST_LOOKED_AT]
        sums: dict[str, Waste] = {}
        parts: dict[str, list[tuple[Holding, Measured]]] = {}
        for allocation_id, holding, seen in _holdings(reads, charged, looked):
            key = charged[allocation_id].owners[WASTE_BY[by]]
            sums[key] = sums.get(key, Waste()) + waste_of(holding, seen)
            if by == "job":
                parts.setdefault(key, []).append((holding, seen))
        for allocation_id in dear[MOST_LOOKED_AT:]:
            one = charged[allocation_id]
            key = one.owners[WASTE_BY[by]]
            sums[key] = sums.get(key, Waste()) + Waste(unlooked_nano=_main_nano(one.nano))
        if by != "member":  # a contract's promise is nobody's own
            for row in reads.total(Charge, "effective_nano", [WASTE_BY[by], "kind"], **span):
                if row["kind"] == "unused":
                    key = row[WASTE_BY[by]]
                    sums[key] = sums.get(key, Waste()) + Waste(unused_nano=row["effective_nano"])
        items = [
            WasteOf(
                {by: key}, one, one.idle_percent, one.busy_percent, advise(parts.get(key, ())),
                _name_of(reads, key) if by == "job" else "",
            )
            for key, one in sums.items()
        ]  # fmt: skip
        items.sort(key=lambda one: (-one.waste.wasted_nano - one.waste.unused_nano, one.by[by]))
        total = Waste()
        for part in sums.values():
            total += part
        return WasteReport(
            asked.organization_id, asked.currency, begin, end, total, tuple(items), len(dear) - len(looked)
        )

    return read


def _by_allocation(reads: Reads, span: Mapping[str, object]) -> dict[str, _Charged]:
    """What each allocation was charged in the span, with what was paid in advance spread over its use."""
    found: dict[str, _Charged] = {}
    columns = ["allocation_id", "job_id", "project_id", "member_id", "meter", "kind"]
    for row in reads.total(Charge, ("effective_nano", "quantity"), columns, allocation_id__prefix="alc_", **span):
        one = found.setdefault(
            row["allocation_id"], _Charged({name: row[name] for name in ("job_id", "project_id", "member_id")})
        )
        base = row["meter"].partition(":")[0]
        one.nano[base] = one.nano.get(base, 0) + row["effective_nano"]
        if base == "gpu" and row["kind"] in ("usage", "covered"):
            one.gpu_milli_us += row["quantity"]
    return found


def _main_nano(nano: Mapping[str, int]) -> int:
    """What is looked at of a cost: that of accelerators, or of CPU without any."""
    return nano["gpu"] if "gpu" in nano else nano.get("cpu", 0)


def _holdings(
    reads: Reads, charged: Mapping[str, _Charged], ids: Sequence[str]
) -> Iterator[tuple[str, Holding, Measured]]:
    """What each allocation held, and how busy it was."""
    for first in range(0, len(ids), PART):
        some = list(ids[first : first + PART])
        tries: dict[str, Attempt] = {
            one.allocation_id: one for one in reads.find(Attempt, allocation_id=some, limit=PART)
        }
        for held in reads.find(Allocation, id=some, limit=PART):
            one, attempt = charged[held.id], tries.get(held.id)
            yield held.id, _holding(held, one), _measured(attempt)


def _holding(held: Allocation, charged: _Charged) -> Holding:
    shares = [share for part in held.slices for share in part.shares]
    return Holding(
        gpu_milli=sum(share.milli for share in shares),
        gpus=len(shares),
        cpu_milli=max((part.cpu_milli for part in held.slices), default=0),
        memory_mib=max((part.memory_mib for part in held.slices), default=0),
        tasks=max(len(held.slices), 1),
        gpu_milli_us=charged.gpu_milli_us,
        gpu_nano=charged.nano.get("gpu", 0),
        cpu_nano=charged.nano.get("cpu", 0),
        memory_nano=charged.nano.get("memory", 0),
    )


def _measured(attempt: Attempt | None) -> Measured:
    if attempt is None:
        return Measured()
    known = {name: attempt.sampled[name] for name in _MEASURED if name in attempt.sampled}
    return Measured(**{**known, "memory_peak_mib": attempt.memory_peak_mib})
