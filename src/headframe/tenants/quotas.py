"""Whether quotas make sense, each by itself and all together: guarantees are a tree, and no branch promises twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from headframe.base.errors import Invalid, QuotaContradiction, QuotaCycle
from headframe.base.quantities import LIMIT, counted, format_mib
from headframe.tenants.records import Quota, Scope

METERS = ("gpu_milli", "cpu_milli", "memory_mib")
WEIGHTS = (1, 1_000_000)  # thousandths


def check_quota(quota: Quota, others: Mapping[str, Quota], names: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raise `Invalid`, `QuotaContradiction` or `QuotaCycle` when this quota cannot stand beside the `others`.

    `others` are by the id of what they are for, and may hold an older version of this one. `names` are those of
    organizations, by id, as far as the caller may know them.
    """
    _check_amounts(quota)
    _check_scope(quota)
    known = {**others, quota.scope_id: quota}
    _check_cycle(quota, known, names)
    for branch in (quota.scope_id, _above(quota)):
        if branch:
            _check_sum(branch, known, names)


def _check_amounts(quota: Quota) -> None:
    for field in ("guaranteed", "borrow", "lend"):
        for meter, amount in getattr(quota, field).items():
            if meter not in METERS:
                raise Invalid(
                    f"{field} names {meter!r}.", field=field, value=meter, allowed=", ".join(METERS)
                )  # fmt: skip
            if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount <= LIMIT:
                raise Invalid(
                    f"{field} of {meter} is {amount!r}.", field=field, value=amount, allowed=f"0 to {LIMIT}"
                )  # fmt: skip
    seen: dict[str, str] = {}
    for kind, amount in quota.kinds.items():
        if not kind.strip() or seen.setdefault(kind.lower(), kind) != kind:
            raise Invalid(f"kinds names {kind!r} twice or not at all.", field="kinds", value=kind)
        if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount <= LIMIT:
            raise Invalid(f"kinds: {kind} is {amount!r}.", field="kinds", value=amount, allowed=f"0 to {LIMIT}")
    if not WEIGHTS[0] <= quota.weight <= WEIGHTS[1]:
        raise Invalid(
            f"weight is {quota.weight}.", field="weight", value=quota.weight, allowed="0.001 to 1000, in thousandths"
        )
    for meter in METERS:
        own, limit = quota.guaranteed.get(meter, 0), getattr(quota, meter)
        if limit is not None and own > limit:
            raise QuotaContradiction(
                f"{_amount(meter, own)} would be guaranteed, but at most {_amount(meter, limit)} may be held.",
                field="guaranteed", value=own, allowed=f"{limit} or less",
                next_step="Raise the limit, or guarantee less.",
            )  # fmt: skip
        if quota.lend.get(meter, 0) > own:
            raise QuotaContradiction(
                f"{_amount(meter, quota.lend[meter])} would be lent, but {_amount(meter, own)} are guaranteed.",
                field="lend", value=quota.lend[meter], allowed=f"{own} or less",
                next_step="Lend at most what is guaranteed.",
            )  # fmt: skip


def _check_scope(quota: Quota) -> None:
    """A member has no branch of its own to lend from, and only organizations belong to others."""
    if quota.scope is Scope.MEMBER and (quota.lend or quota.weight != 1000):
        raise Invalid(
            "A member's quota neither lends nor weighs.", field="lend" if quota.lend else "weight",
            next_step="Set it on the project or the organization.",
        )  # fmt: skip
    if quota.parent_id and quota.scope is not Scope.ORGANIZATION:
        raise Invalid("Only an organization's quota has a parent.", field="parent", value=quota.parent_id)


def _check_cycle(quota: Quota, known: Mapping[str, Quota], names: Mapping[str, str]) -> None:
    steps = [quota.scope_id]
    above = quota.parent_id
    while above:
        if above in steps:
            circle = [names.get(one, one) for one in [*steps, above]]
            raise QuotaCycle(
                f"The organizations would borrow in a circle: {' under '.join(circle)}.",
                field="parent", value=quota.parent_id, next_step="Name a parent that does not borrow under this one.",
            )  # fmt: skip
        steps.append(above)
        above = known[above].parent_id if above in known else ""


def _amount(meter: str, amount: int) -> str:
    """An amount of a meter as people write it: `1.5 GPUs`, `512 MiB of memory`."""
    if meter == "memory_mib":
        return f"{format_mib(amount)} of memory"
    return counted(amount / 1000, "GPU" if meter == "gpu_milli" else "CPU")


def _above(quota: Quota) -> str:
    return quota.organization_id if quota.scope is Scope.PROJECT else quota.parent_id


def _check_sum(branch: str, known: Mapping[str, Quota], names: Mapping[str, str]) -> None:
    """What is guaranteed to the branches of one with a guarantee of its own is part of that."""
    quota = known.get(branch)
    if quota is None or quota.scope is Scope.MEMBER:
        return
    for meter, own in sorted(quota.guaranteed.items()):
        total = sum(one.guaranteed.get(meter, 0) for one in _children(branch, known.values()))
        if total > own:
            raise QuotaContradiction(
                f"{_amount(meter, total)} would be guaranteed to parts of {names.get(branch, branch)}, which itself is "
                f"guaranteed {_amount(meter, own)}.",
                field="guaranteed", value=total, allowed=f"{own} or less in all",
                next_step="Guarantee less to its parts, or more to it.",
            )  # fmt: skip


def _children(branch: str, quotas: Iterable[Quota]) -> Iterable[Quota]:
    return (one for one in quotas if one.scope is not Scope.MEMBER and one.scope_id != branch and _above(one) == branch)
