"""What a job document asks for, checked against all that is known: the common part of submit and plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

from headframe.base.errors import Conflict, Invalid, NoExchangeRate, NotFound, QuotaExceeded
from headframe.base.money import plain
from headframe.base.quantities import counted
from headframe.control.context import Context
from headframe.control.queries_tenancy import find_project
from headframe.control.reservations import reserved_for
from headframe.control.spending import book_of
from headframe.control.world import World
from headframe.fleet.records import Reservation
from headframe.jobs.records import ENDED, Job, JobState
from headframe.metering.meter import quantities
from headframe.pricing.book import Buyer
from headframe.pricing.rate import least_nano
from headframe.scheduling.borrowing import CLOUD, Borrowing
from headframe.scheduling.explain import refuse_impossible, refuse_unfitting
from headframe.scheduling.fit import fit
from headframe.scheduling.limits import Holdings, binding
from headframe.scheduling.want import Want, least
from headframe.tenants.records import Organization, Project, Secret
from headframe.tenants.roles import Caller, Permission
from headframe.workloads.jobfile import parse
from headframe.workloads.records import Dataset
from headframe.workloads.spec import Spec


class Asked(TypedDict, total=False):
    """What may stand beside a job document: the project that it is for, and values for its environment."""

    project: str | None
    env: Mapping[str, str] | None


def prepare(
    world: World,
    context: Context,
    caller: Caller,
    document: Mapping[str, object],
    **more: Unpack[Asked],
) -> tuple[Project, Spec]:
    """The project and the request of a document. Raises what is wrong with it."""
    project, env = more.get("project"), more.get("env")
    home = find_project(world, context, caller, project or _text(document.get("project")))
    caller.need(Permission.JOBS_WRITE, home.organization_id, home.id)
    if home.archived:
        raise Conflict(f"The project {home.name} is archived.", next_step="Choose another project.")
    spec = parse(document, env=env)
    currency = world.all(Organization)[home.organization_id].currency
    if not context.spending.book.serves(currency, context.now_us):
        raise NoExchangeRate(
            f"Nothing is priced in {currency}, in which this organization is billed, nor converted to it.",
            next_step="Ask the operator for prices or an exchange rate: headframe rates set.",
        )
    spec = replace(spec, reservation=reserved_for(world, home, spec.purchase, spec.reservation))
    spec = _near_data(spec, _check_content(context, caller, home, spec))
    want = Want.of(spec)
    refuse_impossible(world.derived.capacity, want)
    if spec.reservation is not None:
        refuse_unfitting(world.derived.capacity, want, world.all(Reservation)[spec.reservation])
    owners = (home.organization_id, home.id, caller.member_id)
    bound = binding(world.derived.quotas, Holdings(), owners, least(want))
    if bound is not None:
        raise QuotaExceeded(
            f"This can never run: {bound.text.replace(', 0 are held and', ' and')}.",
            next_step="Ask for less, or ask an admin for a larger quota.",
        )
    _check_borrowing(world, owners, want)
    _check_jobs_quota(world, owners, 1 if spec.array is None else spec.array.last - spec.array.first + 2)
    _check_budget(world, home, spec, want, context.now_us)
    return home, spec


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _near_data(spec: Spec, datasets: Sequence[Dataset]) -> Spec:
    """The request with the places of its datasets: those where it must run, and those where it would rather."""
    placed = sorted({one.lives_in for one in datasets if one.lives_in})
    stay = {one.lives_in for one in datasets if one.stays}
    return replace(spec, within=tuple(one for one in placed if one in stay), near=tuple(placed))


def _check_content(context: Context, caller: Caller, home: Project, spec: Spec) -> list[Dataset]:
    """Secrets, datasets and files that the job names must be there; returns the datasets."""
    datasets: list[Dataset] = []
    for name in spec.secrets:
        if not context.reads.find(Secret, project_id=home.id, name=name, deleted_us=None, limit=1):
            raise Invalid(
                f"The project {home.name} has no secret {name!r}.",
                field="secrets", value=name, next_step=f"Set it: headframe secrets set {name}.",
            )  # fmt: skip
    for _, name, number in spec.datasets:
        where: dict[str, Any] = {"organization_id": home.organization_id, "name": name}
        if caller.project_id is not None:
            where["project_id"] = caller.project_id  # what a narrowed key does not list, its jobs do not read
        found = context.reads.find(Dataset, limit=1, number=int(number), **where) if number.isdecimal() else []
        datasets += found
        if not found:
            raise Invalid(
                f"There is no dataset {name}@{number}.",
                field="datasets", value=f"{name}@{number}", next_step="See `headframe datasets`, or push it first.",
            )  # fmt: skip
    if spec.files is not None and context.blobs.missing(home.organization_id, [spec.files]):
        raise Invalid(
            "The files of this job have not been uploaded.",
            field="files", value=spec.files, next_step="Upload them first; `headframe submit` does.",
        )  # fmt: skip
    return datasets


def dependencies(world: World, context: Context, home: Project, spec: Spec) -> tuple[str, ...]:
    """Ids of the jobs to wait for. One that has succeeded needs no waiting; one that failed makes it vain."""
    waiting = []
    for ref in spec.after:
        found = _named(world, context, home, ref)
        if found.state in ENDED and found.state != JobState.SUCCEEDED:
            raise Invalid(
                f"The job {ref} that this one is to wait for {found.state}.",
                field="after", value=ref, next_step="Name a job that can still succeed.",
            )  # fmt: skip
        if found.state not in ENDED and world.get(Job, found.id) is None:
            raise Conflict(
                f"The job {ref} that this one is to wait for has ended at this very moment.",
                next_step="Look how it ended, then submit again.",
            )
        if found.state not in ENDED:
            waiting.append(found.id)
    return tuple(dict.fromkeys(waiting))


def _named(world: World, context: Context, home: Project, ref: str) -> Job:
    warm = [job for job in world.all(Job).values() if job.project_id == home.id and ref in (job.id, job.name)]
    if warm:
        newest: Job = max(warm, key=lambda job: (job.submitted_us, job.id))
        return newest
    stored: Job | None = context.reads.get(Job, ref)
    named = context.reads.find(Job, project_id=home.id, name=ref, newest=True, limit=1)
    found: Job | None = named[0] if named else None
    if stored is not None and stored.project_id == home.id:
        found = stored
    if found is None:
        raise NotFound(
            f"There is no job {ref!r} to wait for.",
            next_step="See `headframe jobs`.", details={"field": "after", "value": ref},
        )  # fmt: skip
    return found


def _check_borrowing(world: World, owners: tuple[str, str, str], want: Want) -> None:
    """What is more than its owner may ever hold, with all that it may borrow, can never run."""
    unused = Borrowing(world.derived.borrowing.tree, world.derived.quotas)
    shortage = unused.short(owners, least(want))
    if shortage is not None and shortage.branch != CLOUD:
        raise QuotaExceeded(
            f"This can never run: {shortage.told(owners)}.",
            next_step="Ask for less, or ask an admin to let more be borrowed.",
        )


def _check_jobs_quota(world: World, owners: tuple[str, str, str], more: int) -> None:
    for scope_id in owners:
        quota = world.derived.quotas.get(scope_id)
        if quota is None or quota.jobs is None:
            continue
        column = f"{quota.scope}_id"
        there = sum(getattr(job, column) == scope_id for job in world.all(Job).values())
        if there + more > quota.jobs:
            raise QuotaExceeded(
                f"The quota of the {quota.scope} is {counted(quota.jobs, 'job')} not yet ended; there are {there}.",
                next_step="Wait for some to end, or ask an admin for a larger quota.",
            )


def _check_budget(world: World, home: Project, spec: Spec, want: Want, now_us: int) -> None:
    """A budget that does not even pay for the least charge is a mistake."""
    if spec.budget_nano is None:
        return
    currency = world.all(Organization)[home.organization_id].currency
    if spec.currency != currency:
        raise Invalid(
            f"budget is in {spec.currency}, but this organization is billed in {currency}.",
            field="budget", value=spec.currency, allowed=currency,
        )  # fmt: skip
    slices = fit(world.derived.capacity.emptied(), want)
    assert slices is not None, "what could not fit has been refused before"
    buyer = Buyer(home.organization_id, currency, "*", spec.purchase)
    needed = least_nano(quantities(slices), buyer, book_of(world), now_us)
    if needed > spec.budget_nano:
        raise Invalid(
            f"budget is {plain(spec.budget_nano, currency)} {currency}, but the least charge for this request is "
            f"{plain(needed, currency)} {currency}.",
            field="budget", value=plain(spec.budget_nano, currency), allowed=f"{plain(needed, currency)} or more",
        )  # fmt: skip
