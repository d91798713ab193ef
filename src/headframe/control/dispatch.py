"""From what is on record to what engines are told: idempotent, repeated until an engine's report agrees."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter

from headframe.base.errors import CallerError, EngineError, NotFound, StoreFailed
from headframe.control.ports import Engine, Reads, Vault
from headframe.control.world import World
from headframe.fleet.engine_words import Forget, Launch, Observation, Seen, Signal, Stop
from headframe.fleet.records import Allocation, Cluster, HoldState
from headframe.jobs.life import DEFAULT_GRACE_US
from headframe.jobs.records import Job
from headframe.tenants.names import variable_of
from headframe.tenants.records import Organization, Project, Secret
from headframe.workloads.records import Dataset
from headframe.workloads.spec import Spec

_SPEC = TypeAdapter(Spec)
TRACKING, TRACKING_TOKEN = "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN"
TOKEN = "hf-job."  # noqa: S105  how a job's token begins
Order = Launch | Stop | Signal | Forget


class Dispatch:
    """Collects orders during a tick and hands them to engines after the commit.

    Holds nothing that matters: what is lost with it, the engines' next full reports bring back.
    """

    def __init__(self, engines: Mapping[str, Engine], reads: Reads, vault: Vault, isolation: str) -> None:
        self._engines = engines
        self._reads = reads
        self._vault = vault
        self._isolation = isolation
        self._orders: dict[str, list[Order]] = defaultdict(list)
        self.tracking = ""  # the address at which jobs of this machine tell of runs
        self.failed: list[tuple[str, Observation]] = []  # launches that could not even be written down
        self.troubles: list[Exception] = []  # of engines that took no orders

    def follow(self, world: World, rows: Iterable[Any], actions: Iterable[Any], now_us: int) -> None:
        """Orders that follow from rows just written, and the actions that came with them."""
        last = {row.id: row for row in rows if isinstance(row, Allocation)}
        for allocation in last.values():
            if allocation.state == HoldState.STARTING:
                self.launch(world, allocation, now_us)
            elif allocation.state == HoldState.STOPPING:
                self.stop(world, allocation, now_us)
            elif allocation.state == HoldState.RELEASED and not allocation.settled:
                self.forget(allocation.cluster_id, allocation.id, allocation.generation)
        for action in actions:
            held = world.get(Allocation, action.allocation_id)
            if held is not None:
                self._orders[held.cluster_id].append(action)

    def launch(self, world: World, allocation: Allocation, now_us: int) -> None:
        job: Job | None = world.get(Job, allocation.job_id)
        if job is None:
            return
        try:
            self._orders[allocation.cluster_id].append(self._launch(world, job, allocation))
        except (CallerError, EngineError) as error:  # what the store cannot say now, it may say later
            seen = Observation(allocation.id, allocation.generation, Seen.FAILED, now_us, detail=str(error))
            self.failed.append((allocation.cluster_id, seen))

    def stop(self, world: World, allocation: Allocation, now_us: int) -> None:
        job: Job | None = world.get(Job, allocation.job_id)
        grace_us = DEFAULT_GRACE_US
        if job is not None and job.stop_at_us is not None:
            grace_us = max(job.stop_at_us - now_us, 0)
        order = Stop(allocation.id, allocation.generation, allocation.reason, grace_us=grace_us)
        self._orders[allocation.cluster_id].append(order)

    def kill(self, cluster_id: str, allocation_id: str, generation: int) -> None:
        """End something that runs though nothing on record holds it."""
        self._orders[cluster_id].append(Stop(allocation_id, generation, "orphan", "SIGKILL", 0))

    def forget(self, cluster_id: str, allocation_id: str, generation: int) -> None:
        self._orders[cluster_id].append(Forget(allocation_id, generation))

    def send(self) -> None:
        """Hand over what has been collected. An engine that cannot take it now will be asked for a report later."""
        orders, self._orders = self._orders, defaultdict(list)
        for cluster_id, batch in orders.items():
            engine = self._engines.get(cluster_id)
            if engine is None:
                continue
            try:
                engine.act(batch)
            except Exception as error:  # one engine's trouble is not the others'
                self.troubles.append(error)

    def drop(self) -> None:
        """Forget what was collected: it was not committed."""
        self._orders.clear()
        self.failed.clear()

    def _launch(self, world: World, job: Job, allocation: Allocation) -> Launch:
        spec = job.spec
        organization: Organization = world.all(Organization)[job.organization_id]
        project: Project = world.all(Project)[job.project_id]
        work = _SPEC.dump_python(spec, mode="json")
        if self._isolation == "required":
            work["isolation"] = "required"
        env = {name: self._unseal(value, f"The variable {name!r}") for name, value in spec.env.items()}
        env["HEADFRAME_PROJECT"] = project.name
        if job.array_index is not None:
            env["HEADFRAME_ARRAY_INDEX"] = str(job.array_index)
        secrets = {variable_of(name): self._secret(job, name) for name in spec.secrets}
        if self._tracks(world, allocation) and env.setdefault(TRACKING, self.tracking) == self.tracking:
            secrets.setdefault(TRACKING_TOKEN, token_of(self._vault.seal, job.id))
        return Launch(
            allocation_id=allocation.id,
            generation=allocation.generation,
            job_id=job.id,
            job_name=job.name,
            organization_id=job.organization_id,
            organization_number=organization.number,
            project_id=job.project_id,
            slices=allocation.slices,
            work=work,
            env=env,
            secrets=secrets,
            datasets=tuple((alias, self._dataset(job, name, number)) for alias, name, number in spec.datasets),
        )

    def _tracks(self, world: World, allocation: Allocation) -> bool:
        """Whether the job can reach us, to tell of runs: from this machine it can."""
        cluster: Cluster | None = world.get(Cluster, allocation.cluster_id)
        return bool(self.tracking) and cluster is not None and cluster.engine == "local"

    def _secret(self, job: Job, name: str) -> str:
        found = self._reads.find(Secret, project_id=job.project_id, name=name, deleted_us=None, limit=1)
        if not found:
            raise NotFound(f"The secret {name!r} is gone.", next_step="Set it again with `headframe secrets set`.")
        return self._unseal(found[0].sealed, f"The secret {name!r}")

    def _unseal(self, sealed: str, what: str) -> str:
        try:
            return self._vault.unseal(sealed)
        except StoreFailed as error:  # with this key, never
            raise EngineError(f"{what} cannot be opened.", next_step=error.next_step) from error

    def _dataset(self, job: Job, name: str, number: str) -> str:
        owner = job.organization_id
        found = self._reads.find(Dataset, limit=1, organization_id=owner, name=name, number=int(number))
        if not found:
            raise NotFound(f"The dataset {name}@{number} is gone.", next_step="See `headframe datasets`.")
        return str(found[0].manifest)


def token_of(seal: Callable[[str], str], job_id: str) -> str:
    """The token by which a job tells of its own runs."""
    return TOKEN + seal(f"job {job_id}")
