"""Fair shares: what fades, what counts, and what weighs."""

from __future__ import annotations

from headframe.base.quantities import DAY_US, HOUR_US, SECOND_US
from headframe.scheduling.limits import Holdings
from headframe.scheduling.records import FairUse
from headframe.scheduling.shares import Shares, add, at_step
from headframe.tenants.records import Quota, Scope

HALF_LIFE_US = 7 * DAY_US
TOTAL = {"gpu_milli": 10_000, "cpu_milli": 100_000, "memory_mib": 1_000_000}


def shares(uses: dict[str, FairUse], now_us: int, weight: int = 1000, held: dict[str, int] | None = None) -> Shares:
    holdings = Holdings()
    holdings.add(held or {}, ("a",))
    quotas = {"a": Quota("quo", "a", Scope.ORGANIZATION, "a", weight=weight)}
    return Shares(uses, holdings, quotas, TOTAL, now_us, HALF_LIFE_US)


def test_use_fades_by_half_every_half_life() -> None:
    use = add(FairUse("a", "a"), {"gpu_milli": 8000}, 0, HOUR_US, HALF_LIFE_US)
    assert use.gpu_milli == 8000 * 3600
    later = at_step(use, use.step + 1024)
    assert later.gpu_milli == use.gpu_milli // 2
    assert at_step(later, later.step + 1024 * 40).gpu_milli == 0


def test_what_comes_late_counts_as_old_as_it_is() -> None:
    fresh = add(FairUse("a", "a"), {"gpu_milli": 1000}, 7 * DAY_US, 7 * DAY_US + HOUR_US, HALF_LIFE_US)
    both = add(fresh, {"gpu_milli": 1000}, 0, HOUR_US, HALF_LIFE_US)
    assert both.gpu_milli == fresh.gpu_milli + fresh.gpu_milli // 2


def test_an_amount_held_for_ever_comes_to_itself() -> None:
    use = FairUse("a", "a")
    for hour in range(24 * 7 * 12):
        use = add(use, {"gpu_milli": 5000}, hour * HOUR_US, (hour + 1) * HOUR_US, HALF_LIFE_US)
    share = shares({"a": use}, 24 * 7 * 12 * HOUR_US).of("a")
    assert 495_000 < share < 505_000, "half of the cloud's GPUs, within a hundredth"


def test_the_dominant_resource_counts_and_weight_divides() -> None:
    held = {"gpu_milli": 1000, "cpu_milli": 50_000, "memory_mib": 100}
    assert shares({}, 0, held=held).of("a") == 500_000
    assert shares({}, 0, weight=2000, held=held).of("a") == 250_000
    assert shares({}, 0).of("nobody") == 0


def test_short_runs_count_too() -> None:
    use = FairUse("a", "a")
    for second in range(100):
        use = add(use, {"gpu_milli": 8000}, second * SECOND_US, second * SECOND_US + SECOND_US // 8, HALF_LIFE_US)
    assert use.gpu_milli == 100 * 1000
