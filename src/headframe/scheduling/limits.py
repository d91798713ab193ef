"""Which quota binds: what each scope holds now, against the most that it may hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from headframe.base.quantities import counted, format_mib
from headframe.fleet.records import Allocation, Slice
from headframe.tenants.records import Quota, Scope

METERS = ("gpu_milli", "cpu_milli", "memory_mib")
KIND = "gpu:"  # begins the meter of one kind of accelerator, thousandths


def in_words(meter: str, value: int) -> str:
    """An amount of a meter as people write it: `1.5 GPUs`, `1 H100 GPU`, `512 MiB of memory`."""
    if meter.startswith(KIND):
        return counted(value / 1000, f"{meter.removeprefix(KIND)} GPU")
    if meter == "memory_mib":
        return f"{format_mib(value)} of memory"
    return counted(value / 1000, "CPU" if meter == "cpu_milli" else "GPU")


def in_short(meter: str, value: int) -> str:
    """The same where the sentence says already of what."""
    return format_mib(value) if meter == "memory_mib" else f"{value / 1000:g}"


@dataclass(frozen=True, slots=True)
class Binding:
    """A quota that a request would break: `held` + `asked` > `limit`, in the unit that `meter` names."""

    quota: Quota
    meter: str
    limit: int
    held: int
    asked: int

    @property
    def text(self) -> str:
        return (
            f"the quota of the {self.quota.scope} is {in_words(self.meter, self.limit)}, "
            f"{in_short(self.meter, self.held)} are held and {in_short(self.meter, self.asked)} are asked for"
        )


class Holdings:
    """What every organization, project and member holds, by meter."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], int] = defaultdict(int)

    def change(self, allocation: Allocation, sign: int) -> None:
        """Count an allocation in (`sign` 1) or out (-1)."""
        owners = (allocation.organization_id, allocation.project_id, allocation.member_id)
        self.add(needs(allocation.slices), owners, sign)

    def add(self, amounts: Mapping[str, int], owners: tuple[str, ...], sign: int = 1) -> None:
        held = self._held
        for meter, amount in amounts.items():
            if amount:
                more = sign * amount
                for owner in owners:
                    held[owner, meter] += more

    def of(self, scope_id: str, meter: str) -> int:
        return self._held.get((scope_id, meter), 0)

    def copy(self) -> Holdings:
        other = Holdings()
        other._held.update(self._held)
        return other


@lru_cache(maxsize=1000)
def kind_meter(kind: str) -> str:
    """The meter of a kind of accelerator, however it is written."""
    return KIND + kind.lower()


def needs(slices: Iterable[Slice]) -> dict[str, int]:
    """The sum of what slices hold, by meter; of each kind of accelerator besides."""
    total = dict.fromkeys(METERS, 0)
    for part in slices:
        total["cpu_milli"] += part.cpu_milli
        total["memory_mib"] += part.memory_mib
        for share in part.shares:
            total["gpu_milli"] += share.milli
            kind = kind_meter(share.kind)
            total[kind] = total.get(kind, 0) + share.milli
    return total


def binding(
    quotas: Mapping[str, Quota], holdings: Holdings, scopes: tuple[str, str, str], asked: Mapping[str, int]
) -> Binding | None:
    """The first quota, organization before project before member, that `asked` more would break."""
    for scope, scope_id in zip((Scope.ORGANIZATION, Scope.PROJECT, Scope.MEMBER), scopes, strict=True):
        quota = quotas.get(scope_id)
        if quota is None or not (
            quota.gpu_milli is not None or quota.cpu_milli is not None or quota.memory_mib is not None or quota.kinds
        ):
            continue
        assert quota.scope == scope
        for meter in METERS:
            limit: int | None = getattr(quota, meter)
            held = holdings.of(scope_id, meter)
            if limit is not None and asked[meter] and held + asked[meter] > limit:
                return Binding(quota, meter, limit, held, asked[meter])
        for name, limit in quota.kinds.items():
            more, held = asked.get(kind_meter(name), 0), holdings.of(scope_id, kind_meter(name))
            if more and held + more > limit:
                return Binding(quota, KIND + name, limit, held, more)
    return None
