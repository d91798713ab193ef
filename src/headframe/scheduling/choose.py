"""Which cluster comes first for a job, among those where it may run: by its data, its list or its price.

Clusters that are equally good make a tier; a job is placed in the first tier that has room for it. A job that says
`spill_after` waits for a better tier where one is expected to have room by then, and takes the next one if not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headframe.base.quantities import MINUTE_US, format_second
from headframe.fleet.records import Cluster, ClusterState, Share, Slice
from headframe.jobs.records import Job
from headframe.scheduling.capacity import WHOLE, Capacity
from headframe.scheduling.explain import free, lacks
from headframe.scheduling.fit import EVERYWHERE, Tiers, concrete, fit, suitable
from headframe.scheduling.want import Want
from headframe.workloads.spec import Gpus

if TYPE_CHECKING:
    from headframe.scheduling.queue import Bucket
    from headframe.scheduling.snapshot import Snapshot

LEAVE_US = MINUTE_US  # how long a job is left to a better cluster that other rules schedule
DEAREST = 1 << 80  # where nothing of what it asks for is


@dataclass(frozen=True, slots=True)
class Wait:
    """A job is kept back for better clusters until `until_us` at the latest: it is expected to start there at
    `starts_us` (None: it could now, by a pass under other rules)."""

    clusters: tuple[str, ...]
    until_us: int
    starts_us: int | None = None


def tiers(view: Snapshot, bucket: Bucket) -> Tiers:
    """Ids of the clusters where a job may run, the best first, those that are as good as each other together.

    First those that have the more of its data, then by its list of clusters, or by price.
    """
    ids = view.capacity.places.admitted(bucket.want.where) if len(view.capacity.clusters) > 1 else ()
    if len(ids) <= 1:
        return EVERYWHERE
    key = (bucket.want, bucket.choice, bucket.rank, bucket.organization_id)
    found = view.tiers.get(key)
    if found is None:
        ranks: dict[tuple[int, int, int], list[str]] = {}
        for cluster_id in ids:
            ranks.setdefault(_rank(view, bucket, cluster_id), []).append(cluster_id)
        found = tuple(tuple(ranks[rank]) for rank in sorted(ranks)) if len(ranks) > 1 else EVERYWHERE
        view.tiers[key] = found
    return found


def wait(view: Snapshot, bucket: Bucket, job: Job | None, order: Tiers, slices: tuple[Slice, ...]) -> Wait | None:
    """Why a job does not take the place that it could have now: a better cluster is worth waiting for."""
    place = tier_of(view.capacity, order, slices)
    if place == 0 or job is None:
        return None
    better = tuple(name for tier in order[:place] for name in tier)
    since_us = max(job.submitted_us, job.not_before_us)
    elsewhere = view.whole is not None and view.now_us < since_us + LEAVE_US
    if elsewhere and view.whole is not None and fit(view.whole, bucket.want, order[:place]) is not None:
        return Wait(better, since_us + LEAVE_US)
    until_us = since_us + bucket.choice.spill_us
    if view.now_us >= until_us or view.agenda is None:
        return None
    found = view.agenda.search(kept_to(bucket, better), job)
    return Wait(better, until_us, found.start_us) if found is not None and found.start_us <= until_us else None


def kept_to(bucket: Bucket, clusters: tuple[str, ...]) -> Bucket:
    """The same, in these clusters only."""
    return replace(bucket, want=replace(bucket.want, only=clusters))


def tier_of(capacity: Capacity, order: Tiers, slices: tuple[Slice, ...]) -> int:
    """In which tier a place is."""
    if order == EVERYWHERE:
        return 0
    cluster_id = capacity.nodes[capacity.row[slices[0].node_id]].cluster_id
    return next(place for place, tier in enumerate(order) if cluster_id in tier)


def _rank(view: Snapshot, bucket: Bucket, cluster_id: str) -> tuple[int, int, int]:
    """(datasets that are not near, place in the list, price): the less, the better."""
    names = view.capacity.places.names[cluster_id]
    far = sum(not any(name in names for name in group) for group in bucket.choice.near)
    prefer = bucket.choice.prefer or view.rules.prefer
    if prefer == "packed":
        return far, 0, 0
    listed = bucket.want.clusters if prefer == "listed" else ("any",)
    place = next((at for at, name in enumerate(listed) if name == "any" or name in names), len(listed))
    return far, place, price(view, bucket, cluster_id)


def price(view: Snapshot, bucket: Bucket, cluster_id: str) -> int:
    """What the least of the job costs an hour there, in nano-units; for a job that is faster on some kinds of GPUs, for
    the same work."""
    capacity, want = view.capacity, bucket.want
    region_id = capacity.clusters[cluster_id].region_id
    costs = []
    for gpus in _offered(capacity, want, cluster_id):
        speed = next((one for kind, one in want.resources.speeds if gpus and kind == gpus.kind), WHOLE)
        costs.append(view.price(bucket, region_id, _sample(want, gpus)) * WHOLE // max(speed, 1))
    return min(costs, default=DEAREST)


def _offered(capacity: Capacity, want: Want, cluster_id: str) -> Iterator[Gpus | None]:
    """What the job asks for as far as a cluster has it, each kind by itself."""
    rows = capacity.places.rows_of(cluster_id)
    for gpus in want.alternatives:
        if gpus is None:
            yield None
            continue
        able = suitable(capacity, gpus, rows)
        for number in sorted(set(capacity.kind[rows][able].tolist())):
            yield replace(gpus, kind=capacity.kinds[number])


def _sample(want: Want, gpus: Gpus | None) -> tuple[Slice, ...]:
    """What the least of a gang holds, wherever it is."""
    shares = () if gpus is None else (Share("", 0, gpus.kind or "", gpus.milli * gpus.count),)
    resources = want.resources
    one = Slice(0, "", resources.cpu_milli, resources.memory_mib, resources.disk_mib, shares)
    return (one,) * want.nodes_min


# In words.


def why(view: Snapshot, bucket: Bucket, slices: tuple[Slice, ...]) -> str:
    """Why it starts in this cluster, where there was a choice; "" where there was none."""
    order = tiers(view, bucket)
    if order == EVERYWHERE:
        return ""
    place = tier_of(view.capacity, order, slices)
    cluster = view.capacity.clusters[view.capacity.nodes[view.capacity.row[slices[0].node_id]].cluster_id]
    if place:
        better = ", ".join(_named(view, tier) for tier in order[:place])
        open_ones = any(view.capacity.clusters[one].takes_work for tier in order[:place] for one in tier)
        lacks = "has no room for it now" if open_ones else "takes no new work now"
        return f" It is in {cluster.name}: what it prefers ({better}) {lacks}."
    prefer = bucket.choice.prefer or view.rules.prefer
    ranks = [_rank(view, bucket, tier[0]) for tier in order]
    alike = [rank for rank in ranks if rank[0] == ranks[0][0]]  # with as much of its data
    reasons = ["its data is near"] if len(alike) < len(ranks) else []
    if len(alike) > 1:
        reasons.append("the first of its list" if prefer == "listed" and alike[1][1] > alike[0][1] else "the cheapest")
    return f" It is in {cluster.name}: {', '.join(reasons)}."


def _named(view: Snapshot, ids: tuple[str, ...]) -> str:
    return ", ".join(view.capacity.clusters[one].name for one in ids)


def waits_for(view: Snapshot, bucket: Bucket, found: Wait) -> str:
    """The sentence about a job that is kept back."""
    names = _named(view, found.clusters)
    if found.starts_us is None:
        return f"It is left to {names}, which it prefers."
    return (
        f"There is room for it, but it prefers {names}, where it is expected to start at "
        f"{format_second(found.starts_us)}; from {format_second(found.until_us)} on it takes what there is."
    )


def compared(view: Snapshot, bucket: Bucket, slices: tuple[Slice, ...] | None) -> list[dict[str, Any]]:
    """How each cluster stands to a job, the best first; empty in a cloud of one. After what is ahead has been held.

    Keys: `cluster` (the name), `verdict` (chosen, free, full, too_small, drained, lost, unreachable, not_asked,
    no_data, no_checkpoint, no_node), `text`; `per_hour_nano` where it could run.
    """
    capacity = view.capacity
    if len(capacity.clusters) < 2:
        return []
    order = tiers(view, bucket)
    chosen = capacity.nodes[capacity.row[slices[0].node_id]].cluster_id if slices else ""
    places = {name: place for place, tier in enumerate(order) for name in tier}
    found = []
    for cluster in capacity.clusters.values():
        verdict, text = _stands(view, bucket, cluster, chosen)
        row: dict[str, Any] = {"cluster": cluster.name, "verdict": verdict, "text": text}
        cost = price(view, bucket, cluster.id) if cluster.id in capacity.places.names else DEAREST
        if verdict in ("chosen", "free", "full", "drained", "unreachable") and cost < DEAREST:
            row["per_hour_nano"] = cost
        found.append((cluster.id != chosen, places.get(cluster.id, len(places)), cluster.name, row))
    return [row for _, _, _, row in sorted(found, key=lambda one: one[:3])]


def _stands(view: Snapshot, bucket: Bucket, cluster: Cluster, chosen: str) -> tuple[str, str]:
    """(verdict, sentence) of one cluster."""
    capacity, want = view.capacity, bucket.want
    refusal = capacity.places.refusal(cluster.id, want.where)
    if refusal is not None:
        return refusal
    here = replace(want, only=(cluster.id,))
    if fit(capacity.emptied(), here) is None:
        return "too_small", "No node there could ever run it."
    if cluster.state == ClusterState.DRAINING:
        return "drained", f"It takes no new work: {cluster.reason or 'drained'}."
    if cluster.state == ClusterState.LOST:
        return "lost", f"It was declared lost: {cluster.reason}."
    if cluster.unreachable_us is not None:
        return "unreachable", f"It cannot be reached since {format_second(cluster.unreachable_us)}."
    if cluster.id == chosen:
        return "chosen", why(view, bucket, _any_of(capacity, cluster.id)).strip() or "It has room."
    if fit(capacity, here) is not None:
        return "free", "It has room." if not chosen else "It has room; another one comes first."
    return "full", f"No room: {lacks(want.resources, here, free(capacity, here))}."


def _any_of(capacity: Capacity, cluster_id: str) -> tuple[Slice, ...]:
    row = int(capacity.places.rows_of(cluster_id)[0])
    return (Slice(0, capacity.nodes[row].id, 0, 0, 0),)


__all__ = ["EVERYWHERE", "Wait", "compared", "concrete", "kept_to", "price", "tier_of", "tiers", "wait", "waits_for",
           "why"]  # fmt: skip
