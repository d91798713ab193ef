"""What must hold of several clusters: where jobs begin, who is heard of, and that bills are by what engines say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from headframe.control.spending import book_of
from headframe.fleet.records import Allocation, Cluster, HoldState, Node, Region
from headframe.jobs.records import Job
from headframe.metering.meter import quantities
from headframe.pricing.book import Buyer
from headframe.pricing.rate import slope
from headframe.scheduling.fit import fit
from headframe.scheduling.want import Want
from headframe.scheduling.where import marks
from headframe.sim.checkers import Checker, Scene, Violation, given_up
from headframe.tenants.records import Organization


class WhereAllowed:
    """A job begins in one cluster, which takes work at that moment, is asked for, and has the data that stays there;
    its checkpoint, too. When all is over, all clusters are heard of."""

    def __init__(self) -> None:
        self._clusters: dict[str, Cluster] = {}
        self._jobs: dict[str, Job] = {}

    def look(self, scene: Scene) -> None:
        for row in scene.rows(Cluster, Job, Allocation):
            match row:
                case Cluster():
                    self._clusters[row.id] = row
                case Job():
                    self._jobs[row.id] = row
                case Allocation() if row.version == 1:
                    self._begins(scene, row)
        away = sorted(one.name for one in self._clusters.values() if one.unreachable_us is not None)
        if scene.last and away:
            raise Violation("WhereAllowed", f"{', '.join(away)} cannot be reached in the end")

    def _begins(self, scene: Scene, held: Allocation) -> None:
        cluster, job = self._clusters[held.cluster_id], self._jobs[held.job_id]
        if not cluster.takes_work:
            raise Violation("WhereAllowed", f"{held.id} begins on {cluster}")
        homes = {scene.world.all(Node)[part.node_id].cluster_id for part in held.slices}
        if homes != {cluster.id}:
            raise Violation("WhereAllowed", f"{held.id} of {cluster.id} lies in {sorted(homes)}")
        region: Region = scene.world.all(Region)[cluster.region_id]
        names = {"any", cluster.name, region.name, *marks(cluster)}
        for node in (scene.world.all(Node)[part.node_id] for part in held.slices):
            names |= {f"{name}={value}" for name, value in node.labels.items()}
        for group in (job.spec.clusters, *job.spec.within):
            if names.isdisjoint(group):
                raise Violation("WhereAllowed", f"{job.id} asks for {group} and begins in {cluster.name}")
        home = self._clusters.get(job.home)
        shared = home is not None and home.labels.get("storage") == cluster.labels.get("storage", "")
        if home is not None and home.id != cluster.id and not shared:
            raise Violation("WhereAllowed", f"{job.id} has a checkpoint in {home.name} and begins in {cluster.name}")


class Silence:
    """A cluster of which nothing was heard for long takes no new work, and one that answers is not kept away; what was
    given up with it is then ended."""

    LONG_US = 6 * 60_000_000

    def __init__(self) -> None:
        self._since_us: dict[str, int] = {}  # since when the way to an engine has been cut, or open, without a break
        self._ways: dict[str, tuple[bool, bool, int]] = {}  # reachable, all answers come, which program listens
        self._given_up: set[str] = set()

    def look(self, scene: Scene) -> None:
        self._given_up |= given_up(scene)
        for name, engine in sorted(scene.engines.items()):
            way = engine.temper.reachable, not engine.temper.lost_per_mille, engine.epoch
            if self._ways.get(name) != way:
                self._ways[name], self._since_us[name] = way, scene.now_us
            cluster: Cluster | None = scene.world.get(Cluster, name)
            if cluster is None or scene.now_us - self._since_us[name] < self.LONG_US:
                continue
            if way[0] and way[1] and cluster.unreachable_us is not None:
                raise Violation("Silence", f"{name} answers since {self._since_us[name]}, but counts as unreachable")
            alive = [one.allocation_id for one in engine.live() if one.allocation_id in self._given_up]
            if way[0] and way[1] and alive:
                raise Violation("Silence", f"{name} answers since {self._since_us[name]}, and {alive[0]} lives there")
            if not way[0] and cluster.unreachable_us is None:
                raise Violation("Silence", f"{name} does not answer since {self._since_us[name]}, and nobody knows")


class AsEnginesSay:
    """What ended by itself is released at the microsecond that its engine says, whenever that was heard."""

    def look(self, scene: Scene) -> None:
        for row in _released(scene.rows(Allocation)):
            end_us = scene.engines[row.cluster_id].ends.get(row.id)
            if end_us is not None and not row.faulted and row.released_us != end_us:
                raise Violation("AsEnginesSay", f"{row.id} was released at {row.released_us}, and ended at {end_us}")


def _released(rows: Iterable[Allocation]) -> Iterable[Allocation]:
    return (row for row in rows if row.state is HoldState.RELEASED and not row.settled and not row.records)


class Cheapest:
    """Where nobody waits and nothing is kept, a job that goes by price begins where it costs least of what has room."""

    def look(self, scene: Scene) -> None:
        world = scene.world
        if len(world.all(Cluster)) < 2 or len(world.derived.queue) or world.derived.claims or world.derived.reserved:
            return
        kept = {event.subject for changes in scene.committed for event in changes.events if event.kind == "place_kept"}
        for row in scene.rows(Allocation):
            job: Job | None = world.get(Job, row.job_id)
            if row.version == 1 and job is not None and job.id not in kept and not job.reason.startswith("retry"):
                self._begun(scene, row, job)

    @staticmethod
    def _begun(scene: Scene, held: Allocation, job: Job) -> None:
        world, spec = scene.world, job.spec
        plain = len(spec.resources.gpus) <= 1 and spec.nodes_max == 1 and not spec.near and not spec.spill_after_us
        simple = plain and (not spec.resources.gpus or spec.resources.gpus[0].kind is not None)
        if not simple or spec.prefer not in ("", "cheapest") or spec.purchase == "reserved":
            return
        book, organization = book_of(world), world.all(Organization)[job.organization_id]

        def cost(cluster: Cluster) -> int:
            buyer = Buyer(organization.id, organization.currency, cluster.region_id, spec.purchase)
            return slope(quantities(held.slices), buyer, book, scene.now_us)

        paid = cost(world.all(Cluster)[held.cluster_id])
        for cluster in sorted(world.all(Cluster).values(), key=lambda one: one.id):
            want = replace(Want.of(spec, job.home), only=(cluster.id,))
            here = fit(world.derived.capacity, want)
            if here is not None and cost(cluster) < paid:
                raise Violation("Cheapest", f"{job.id} begins in {held.cluster_id}, and {cluster.id} is cheaper")


CLUSTERS: tuple[type[Checker], ...] = (WhereAllowed, Cheapest)
STEADY_CLOCK: tuple[type[Checker], ...] = (Silence, AsEnginesSay)  # where the machine's clock does not jump
