"""Fair share over time: what an organization or a project holds now and has used lately, by weight.

Use fades by half every half-life. A share is that of the dominant resource: of GPUs, CPUs and memory the one of which
the owner takes the largest part of the cloud. Whole numbers only: the same use gives the same share everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from headframe.base.changes import revised
from headframe.base.quantities import SECOND_US
from headframe.scheduling.limits import METERS, Holdings
from headframe.scheduling.records import FairUse
from headframe.tenants.records import Quota

STEPS = 1024  # of a half-life: use fades at these
_FADES = tuple(round(2 ** (32 - step / STEPS)) for step in range(STEPS))  # in 2**32nds
_MEAN = 14_427  # 1 / ln 2, in ten-thousandths: held for ever, an amount comes to so many half-lives of itself
MILLION = 1_000_000
WEIGHT = 1000  # of an owner of which nothing else is said


def _faded(amount: int, steps: int) -> int:
    halves, rest = divmod(steps, STEPS)
    return amount * _FADES[rest] >> 32 + halves if halves < 64 else 0


def at_step(use: FairUse, step: int) -> FairUse:
    """The same use as it counts at a later step."""
    if step <= use.step:
        return use
    gone = step - use.step
    gpu, cpu, memory = (_faded(amount, gone) for amount in (use.gpu_milli, use.cpu_milli, use.memory_mib))
    return revised(use, step=step, gpu_milli=gpu, cpu_milli=cpu, memory_mib=memory)


def add(use: FairUse, amounts: Mapping[str, int], from_us: int, to_us: int, half_life_us: int) -> FairUse:
    """Count in what was held from one moment to another, as of its end."""
    step = to_us // max(half_life_us // STEPS, 1)
    use = at_step(use, step)
    gpu, cpu, memory = (
        _faded(amounts.get(meter, 0) * (to_us - from_us) // SECOND_US, use.step - step) for meter in METERS
    )
    return revised(
        use, gpu_milli=use.gpu_milli + gpu, cpu_milli=use.cpu_milli + cpu, memory_mib=use.memory_mib + memory
    )


class Shares:
    """The shares of all owners at one moment. `holdings` may change meanwhile: then `forget` whom that concerns."""

    def __init__(
        self,
        uses: Mapping[str, FairUse],
        holdings: Holdings,
        quotas: Mapping[str, Quota],
        total: Mapping[str, int],
        now_us: int,
        half_life_us: int,
    ) -> None:
        self._uses, self._holdings, self._quotas = uses, holdings, quotas
        self._totals = [(meter, max(total.get(meter, 0), 1)) for meter in METERS]
        self._step = now_us // max(half_life_us // STEPS, 1)
        self._whole = max(half_life_us // SECOND_US, 1) * _MEAN
        self._known: dict[str, int] = {}

    def of(self, owner: str) -> int:
        """The share of an organization or a project: millionths of the cloud, over its weight."""
        known = self._known.get(owner)
        if known is None:
            known = self._known[owner] = self._work_out(owner)
        return known

    def forget(self, owner: str) -> None:
        self._known.pop(owner, None)

    def _work_out(self, owner: str) -> int:
        use = self._uses.get(owner)
        past = at_step(use, self._step) if use is not None else None
        share = 0
        for meter, total in self._totals:
            held = MILLION * self._holdings.of(owner, meter)
            if past is not None:
                held += MILLION * 10_000 * getattr(past, meter) // self._whole
            if held > share * total:
                share = held // total
        quota = self._quotas.get(owner)
        return share if quota is None else share * WEIGHT // quota.weight
