"""Why a job does not start now, when it is expected to, and what would make it start: from the code that decides.

A question is answered at the point of a pass at which the job's turn comes: what is kept for others is held, the
places of those who wait before it are promised, and then `judge` says what it would get, as it does in the pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headframe.base.quantities import HOUR_US, MINUTE_US, counted, format_second, format_span
from headframe.fleet.records import Allocation, Reservation
from headframe.jobs.records import Job
from headframe.scheduling import choose
from headframe.scheduling.agenda import SLACK_US
from headframe.scheduling.backfill import Ending, Promise
from headframe.scheduling.calendar import inside
from headframe.scheduling.explain import BLOCKS, free, lacks, shape, words
from headframe.scheduling.fit import fit
from headframe.scheduling.forecast import AHEAD_LIMIT, Expected, through_the_queue
from headframe.scheduling.judge import Verdict, judge
from headframe.scheduling.limits import needs
from headframe.scheduling.make_room import Room
from headframe.scheduling.notice import AFRESH_US, STOPPABLE, USEFUL_US
from headframe.scheduling.queue import CLASS_RANK, Bucket
from headframe.scheduling.snapshot import Snapshot
from headframe.scheduling.want import Want
from headframe.workloads.spec import Gpus

RESERVED, AHEAD = "reserved", "kept_ahead"  # reasons: something is free and would do, but kept
MOST_KEEPERS, MOST_NAMED = 20, 5  # reservations that are looked at one by one, and named
MOST_GPUS = 32  # on one node: fewer than these are tried one by one
MOST_SPANS = 8  # beginnings of promises before which a shorter job might fit
HOW = {
    "estimates": "when running jobs are expected to end",
    "kept": "when what is reserved, or kept for others before it, is expected to be free again",
    "guess": "at a guess: of some running jobs nobody knows how long they run",
    "queue": "after those who wait before it; further back in line this is rough",
    "reservation": "when its reservation begins",
    "quota": "when other jobs within the quota are expected to end",
}


@dataclass(frozen=True, slots=True)
class Around:
    """What a question may look at besides the pass: what runs, when it ends, and who else has reserved."""

    allocations: Iterable[Allocation] = ()
    endings: Mapping[str, Ending] = field(default_factory=dict)  # by job id
    reservations: Mapping[str, Reservation] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hint:
    """A change of the job file that would make the job start now. `bucket` is what it would then be."""

    change: Mapping[str, Any]
    text: str
    bucket: Bucket


def come_to(view: Snapshot, bucket: Bucket, job: Job) -> None:
    """Bring a snapshot to the point of the pass at which this job's turn comes, given that nobody else starts."""
    agenda = view.agenda
    for job_id, slices in sorted(view.claims.items()):
        kept = view.queue.bucket(job_id)
        if kept is not None and job_id != job.id:
            view.take(kept, slices)
            if agenda is not None:
                agenda.started(kept, view.jobs[job_id], slices)
    _promise(view, job, view.key(bucket, (job.submitted_us, job.id)))


def _promise(view: Snapshot, job: Job, before: tuple[int | str, ...] | None = None) -> None:
    """Keep the known places of others who wait: of those `before` a place in the order, or of all."""
    if view.agenda is None:
        return
    ahead = []
    for job_id in view.agenda.known:
        other, kept = view.jobs.get(job_id), view.queue.bucket(job_id)
        if other is None or kept is None or job_id == job.id:
            continue
        key = view.key(kept, (other.submitted_us, job_id))
        if before is None or key < before:
            ahead.append((key, kept, other))
    for _, kept, other in sorted(ahead, key=lambda item: item[0]):
        if other.id not in view.agenda.shadows:
            view.agenda.waits(kept, other)


def tell(view: Snapshot, bucket: Bucket, job: Job, verdict: Verdict, ahead: int, around: Around) -> dict[str, Any]:
    """Why a job does not start now: a reason code, a sentence, and the numbers behind it. After `come_to`.

    Keys: `reason` (the verdict's; "reserved" or "kept_ahead" where something is free and would do), `asked`, `ahead`,
    `free`, `text`; where they apply `quota`, `holders`, `kept_for`, `reservations` (the house's own that keep it),
    `starts_us` and `starts_from` (when it is expected to start, and from what that follows; see `forecast.Expected`),
    `makes_way` (how many jobs end for it), `clusters` (how each stands to it; see `choose.compared`), and
    `would_start_now` (changes with which it would start at once). Uses the snapshot up; `view.jobs` must know the job.
    """
    answer: dict[str, Any] = {"reason": verdict.reason, "asked": shape(bucket.want), "ahead": ahead}
    answer["free"] = free(view.capacity, bucket.want)
    places = choose.compared(view, bucket, verdict.slices)
    if places:
        answer["clusters"] = places
    sentences = list(_why(view, bucket, verdict, answer, around))
    if verdict.slices is None:
        made = Room(view).find(bucket, job) if verdict.reason in ("no_capacity", "quota", "borrowing") else None
        if made is not None:
            answer["makes_way"] = len(made.stops)
            answer["starts_us"] = view.now_us + max(one.warn_us for one in made.stops) + SLACK_US
            answer["starts_from"] = "makes_way"
            sentences.append(made.text)
        else:
            sentences += _when(view, bucket, job, verdict, answer, around)
        if ahead and verdict.reason == "no_capacity":
            sentences.append(f"{counted(ahead, 'waiting job')} come{'' if ahead > 1 else 's'} before it.")
        hints = list(would_start(view, bucket, job, verdict, around))
        if hints:
            answer["would_start_now"] = [{"change": dict(one.change), "text": one.text} for one in hints]
            sentences.append(f"It would start now {' or '.join(one.text for one in hints[:3])}.")
    return {**answer, "text": " ".join(sentences)}


def _why(view: Snapshot, bucket: Bucket, verdict: Verdict, answer: dict[str, Any], around: Around) -> Iterator[str]:
    """The sentences for the reason, with their numbers put into the answer."""
    if verdict.slices is not None:
        yield "It fits, and starts with the next pass."
    elif verdict.bound is not None:
        bound = verdict.bound
        answer["quota"] = {
            "scope": bound.quota.scope.value, "scope_id": bound.quota.scope_id, "meter": bound.meter,
            "limit": bound.limit, "held": bound.held, "asked": bound.asked,
        }  # fmt: skip
        yield f"{bound.text[0].upper()}{bound.text[1:]}."
    elif verdict.shortage is not None:
        answer["quota"] = {"scope": "branch", "meter": verdict.shortage.meter, "limit": verdict.shortage.bound,
                           "held": verdict.shortage.used, "asked": verdict.shortage.asked}  # fmt: skip
        text = verdict.shortage.told(bucket.owners)
        yield f"{text[0].upper()}{text[1:]}."
    elif verdict.reason == "no_capacity":
        answer["holders"] = _holders(around.allocations, bucket)
        yield _no_room(view, bucket, answer, around)
    elif verdict.wait is not None:
        if verdict.wait.starts_us is not None:
            answer["starts_us"], answer["starts_from"] = verdict.wait.starts_us, "better_cluster"
        yield choose.waits_for(view, bucket, verdict.wait)
    elif verdict.reason == "parallel":
        yield f"As many of its array's jobs run as `parallel` allows ({view.parallel.get(bucket.parent_id or '')})."
    elif verdict.reason.startswith("reservation"):
        yield _reserved(bucket, around)
    else:
        yield BLOCKS.get(verdict.reason, f"{verdict.reason}.")


def _no_room(view: Snapshot, bucket: Bucket, answer: dict[str, Any], around: Around) -> str:
    """What is short; or, where something is free but kept, for whom."""
    if bucket.reservation is not None:
        return _no_room_inside(view, bucket, around.reservations[bucket.reservation])
    kept_for = kept(view, bucket)
    if not kept_for:
        return f"No room: {lacks(bucket.want.resources, bucket.want, answer['free'])}."
    answer["reason"], answer["kept_for"] = kept_for, "reservation" if kept_for == RESERVED else "ahead"
    if kept_for == AHEAD:
        return "What is free and would do is kept for those who wait before it: it need not have ended when they start."
    whose = [around.reservations.get(one.owner) for one in _keepers(view, bucket)]
    answer["reservations"] = [one.name for one in whose if one is not None and _own(one, bucket)]
    names = sorted({_whose(one, bucket) for one in whose})
    shown = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    return f"What is free and would do is reserved ({shown}), and the job need not have ended by then."


def kept(view: Snapshot, bucket: Bucket) -> str:
    """For what something is kept that is free and would do: "reserved", "kept_ahead"; "" when nothing free would do."""
    if view.agenda is None or bucket.reservation is not None or fit(view.capacity, bucket.want) is None:
        return ""
    return RESERVED if fit(view.agenda.beside_reservations(bucket), bucket.want) is None else AHEAD


def _keepers(view: Snapshot, bucket: Bucket) -> list[Promise]:
    """The reservations that keep a job from what is free: each without which it would fit, else all, soonest first."""
    assert view.agenda is not None
    outlook, sure_us = view.agenda.outlook, view.agenda.horizon(bucket, None)[0]
    firm = [one for one in outlook.promises if one.firm and one.from_us < sure_us and any(one.amounts.values())]
    firm.sort(key=lambda one: (one.from_us, one.owner))
    alone = [one for one in firm[:MOST_KEEPERS] if fit(outlook.without(one.owner).room(sure_us, 0), bucket.want)]
    return alone or firm


def _no_room_inside(view: Snapshot, bucket: Bucket, reservation: Reservation) -> str:
    """What is short in a job's own reservation: others of it run there, or it is too small for the job, even empty."""
    empty = inside(view.capacity.emptied(), reservation.slices)
    if fit(empty, bucket.want) is not None:
        return "No room is left in its reservation: what the job needs of it is in use now."
    if reservation.lacking:
        return f"Part of its reservation {reservation.name} has no place now, and the job does not fit in the rest."
    lacking = lacks(bucket.want.resources, bucket.want, free(empty, bucket.want))
    return f"It does not fit in its reservation {reservation.name}, even when nothing else runs there: {lacking}."


def _own(reservation: Reservation, bucket: Bucket) -> bool:
    return reservation.organization_id == bucket.organization_id


def _whose(reservation: Reservation | None, bucket: Bucket) -> str:
    """A reservation as its asker may know it."""
    if reservation is None:
        return "for another organization"
    name = f"for {reservation.name}" if _own(reservation, bucket) else "for another organization"
    return f"{name} from {format_second(reservation.from_us)} to {format_second(reservation.to_us)}"


def _reserved(bucket: Bucket, around: Around) -> str:
    found = around.reservations.get(bucket.reservation or "")
    if found is None or not found.open:
        return "Its reservation is over."
    if found.lacking:
        return f"Its reservation {found.name} begins at {format_second(found.from_us)}; part of it has no place now."
    return f"Its reservation {found.name} lasts from {format_second(found.from_us)} to {format_second(found.to_us)}."


def _holders(allocations: Iterable[Allocation], bucket: Bucket) -> list[dict[str, Any]]:
    """Who holds the most of what is wanted: the tenant's own jobs by id, others' only as a sum."""
    every = list(allocations)
    own = [one for one in every if one.organization_id == bucket.organization_id]
    sizes = [(-sum(share.milli for part in one.slices for share in part.shares), one.job_id) for one in own]
    if bucket.want.resources.gpus:
        sizes = [(size, job_id) for size, job_id in sizes if size]
    rows: list[dict[str, Any]] = [{"job": job_id, "gpu_milli": -size} for size, job_id in sorted(sizes)[:5]]
    others = [one for one in every if one.organization_id != bucket.organization_id]
    if others:
        held = sum(share.milli for one in others for part in one.slices for share in part.shares)
        rows.append({"job": None, "jobs": len(others), "gpu_milli": held, "owner": "other organizations"})
    return rows


# When.


def _when(
    view: Snapshot, bucket: Bucket, job: Job, verdict: Verdict, answer: dict[str, Any], around: Around
) -> Iterator[str]:
    found = expected(view, bucket, job, verdict, around)
    if found is not None:
        answer["starts_us"], answer["starts_from"] = found.start_us, found.source
        yield f"It is expected to start at {format_second(found.start_us)}, {HOW[found.source]}."


def expected(view: Snapshot, bucket: Bucket, job: Job, verdict: Verdict, around: Around) -> Expected | None:
    """When a waiting job is expected to start; None when nothing known brings it about."""
    if verdict.reason == "reservation_not_begun":
        return Expected(around.reservations[bucket.reservation or ""].from_us, "reservation")
    if verdict.bound is not None:
        return _quota_frees(view, verdict, around)
    if verdict.reason != "no_capacity" or bucket.reservation is not None or view.agenda is None:
        return None
    found = view.agenda.search(bucket, job)
    ahead = _ahead(view, bucket, job)
    if len(ahead) > len(view.agenda.shadows):
        lasts = [(other.want, _lasts_us(view, one)) for other, one in ahead]
        turn_us = through_the_queue(view.capacity, bucket.want, lasts, around.endings.values(), view.now_us)
        if turn_us is not None and (found is None or turn_us > found.start_us):
            return Expected(turn_us, "queue")
    return Expected(found.start_us, found.source) if found is not None else None


def _lasts_us(view: Snapshot, job: Job) -> int:
    left_us = view.remaining(job)
    return HOUR_US if left_us is None else left_us


def _ahead(view: Snapshot, bucket: Bucket, job: Job) -> list[tuple[Bucket, Job]]:
    """Who waits before a job, in order, up to a limit; a draft comes after all whose key is less."""
    mine, found = view.key(bucket, (job.submitted_us, job.id)), list[tuple[Bucket, Job]]()
    done = False

    def visit(other: Bucket, job_id: str) -> bool:
        nonlocal done
        one = view.jobs[job_id]
        done = done or len(found) >= AHEAD_LIMIT or view.key(other, (one.submitted_us, job_id)) >= mine
        if not done:
            found.append((other, one))
        return not done

    view.queue.in_order(visit, view, by_job=view.order.by_job)
    return found


def _quota_frees(view: Snapshot, verdict: Verdict, around: Around) -> Expected | None:
    """When enough of what a scope holds is expected to end."""
    bound = verdict.bound
    assert bound is not None
    meter = bound.meter.lower()
    scope = f"{bound.quota.scope.value}_id"
    over = bound.held + bound.asked - bound.limit
    mine = [one for one in around.allocations if getattr(one, scope) == bound.quota.scope_id]
    ends = sorted(
        (around.endings[one.job_id].likely_us, needs(one.slices).get(meter, 0), one.id)
        for one in mine
        if one.job_id in around.endings
    )
    for end_us, amount, _ in ends:
        over -= amount
        if over <= 0:
            return Expected(max(end_us, view.now_us), "quota")
    return None


# What would help.


def would_start(view: Snapshot, bucket: Bucket, job: Job, verdict: Verdict, around: Around) -> Iterator[Hint]:
    """Changes with which the job would start now, as `judge` says; the gentlest of each sort."""
    if verdict.reason not in ("no_capacity", "quota", "borrowing"):
        return
    if view.agenda is not None:
        view.agenda.outlook.withdraw(job.id)
    for tries in (
        _shorter(view, bucket), _elsewhere(view, bucket), _smaller(bucket), _returning(bucket, job),
        _otherwise(bucket, around),
    ):  # fmt: skip
        for hint in tries:
            if hint.change.get("purchase") == "spot":
                _promise(view, job)  # it would come after all of them
            if judge(view, hint.bucket).slices is not None:
                yield hint
                break


def _shorter(view: Snapshot, bucket: Bucket) -> Iterator[Hint]:
    """A max_duration that ends before the next promises begin; the longest first."""
    moments = view.agenda.outlook.moments() if view.agenda is not None and bucket.reservation is None else ()
    for moment in moments[::-1][:MOST_SPANS]:
        span_us = (moment - view.now_us - SLACK_US) // MINUTE_US * MINUTE_US
        if span_us >= MINUTE_US and (bucket.span_us is None or span_us < bucket.span_us):
            text = f"with a max_duration of {format_span(span_us)} at most"
            yield Hint({"max_duration": f"{span_us // MINUTE_US}m"}, text, replace(bucket, span_us=span_us))


def _elsewhere(view: Snapshot, bucket: Bucket) -> Iterator[Hint]:
    """Another kind of accelerator, as many of it."""
    if not bucket.want.resources.gpus:
        return
    first = bucket.want.resources.gpus[0]
    asked = {gpus.kind.lower() for gpus in bucket.want.resources.gpus if gpus.kind}  # only asked
    for kind in view.capacity.kinds:
        if first.kind is not None and kind.lower() not in asked:
            gpus = Gpus(kind, first.count, first.milli)
            yield Hint({"gpu": _grammar(gpus)}, f"with {words(gpus)}", _with(bucket, gpus=gpus))


def _smaller(bucket: Bucket) -> Iterator[Hint]:
    """Fewer nodes, or fewer accelerators on each."""
    nodes = bucket.want.nodes_min // 2
    while nodes >= 1:
        text = f"with {counted(nodes, 'node')}"
        yield Hint({"nodes": nodes}, text, _with(bucket, nodes=nodes))
        nodes //= 2
    for first in bucket.want.resources.gpus[:1]:
        for count in range(min(first.count, MOST_GPUS) - 1, 0, -1):
            gpus = replace(first, count=count)
            yield Hint({"gpu": _grammar(gpus)}, f"with {words(gpus)}", _with(bucket, gpus=gpus))


def _returning(bucket: Bucket, job: Job) -> Iterator[Hint]:
    """As a job that comes back after it was stopped: then it may run where a reservation begins later."""
    if bucket.reservation is not None or bucket.purchase in STOPPABLE:
        return
    change: dict[str, Any] = {}
    retry = job.spec.retry
    if "preemption" not in retry.on:
        change = {"retry": {"on": [*retry.on, "preemption"], "max": retry.max}}
        saves = replace(bucket, notice_us=AFRESH_US if job.spec.checkpoints is None else USEFUL_US)
        yield Hint(change, "with preemption in retry.on, so that it comes back after it made way", saves)
    if job.spec.checkpoints is None:
        change = {**change, "checkpoints": {"path": "checkpoints"}}
        text = "with checkpoints, from which it goes on after it made way"
        yield Hint(change, text, replace(bucket, notice_us=USEFUL_US))


def _otherwise(bucket: Bucket, around: Around) -> Iterator[Hint]:
    """Bought otherwise: as a job that can be stopped, or inside a reservation of its own house."""
    if bucket.reservation is None:
        for name, one in sorted(around.reservations.items()):
            if one.organization_id == bucket.organization_id and one.project_id in (None, bucket.project_id):
                inside = replace(bucket, rank=CLASS_RANK["reserved"], reservation=name, notice_us=None)
                yield Hint({"reservation": one.name, "purchase": "reserved"}, f"in the reservation {one.name}", inside)
    if bucket.reservation is None and bucket.purchase not in STOPPABLE:
        text = "as a spot job, which may be stopped"
        spot = replace(bucket, rank=CLASS_RANK["spot"], notice_us=USEFUL_US)
        yield Hint({"purchase": "spot"}, text, spot)


def _with(bucket: Bucket, *, gpus: Gpus | None = None, nodes: int | None = None) -> Bucket:
    want: Want = bucket.want
    if gpus is not None:
        want = replace(want, resources=replace(want.resources, gpus=(gpus,)))
    if nodes is not None:
        want = replace(want, nodes_min=nodes, nodes_max=nodes)
    return replace(bucket, want=want)


def _grammar(gpus: Gpus) -> str:
    """`H100:4`, as in a job file."""
    memory = ""
    if gpus.memory_min_gib is not None or gpus.memory_max_gib is not None:
        low = f"{gpus.memory_min_gib}GB" if gpus.memory_min_gib is not None else ""
        high = f"{gpus.memory_max_gib}GB" if gpus.memory_max_gib is not None else ""
        memory = low if low == high else f"{low}..{high}"
    size = f"{gpus.milli / 1000:g}" if gpus.milli < 1000 else str(gpus.count)
    return ":".join(part for part in (gpus.kind or "", memory, size) if part)
