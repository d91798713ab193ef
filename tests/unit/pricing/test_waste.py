"""What stood idle in money, and what would have been enough."""

from __future__ import annotations

from dataclasses import replace

from headframe.base.quantities import HOUR_US
from headframe.pricing.waste import Holding, Measured, Waste, advise, waste_of

USD = 1_000_000_000
HELD = Holding(
    gpu_milli=4000, gpus=4, cpu_milli=16_000, memory_mib=64 * 1024, tasks=1, gpu_milli_us=4000 * HOUR_US,
    gpu_nano=12 * USD, cpu_nano=16 * USD // 100, memory_nano=USD // 10,
)  # fmt: skip
SEEN = Measured(
    sampled_us=HOUR_US, cpu_idle_us=0, cpu_peak_milli=15_000, gpu_us=4 * HOUR_US, gpu_idle_us=HOUR_US,
    gpu_busy_us=2 * HOUR_US, gpus_used=4, memory_peak_mib=60_000,
)  # fmt: skip


def test_money_goes_to_waste_by_the_time_that_accelerators_stood_idle() -> None:
    found = waste_of(HELD, SEEN)
    assert (found.wasted_nano, found.looked_nano, found.unlooked_nano) == (3 * USD, 12 * USD, 0)
    assert (found.idle_percent, found.busy_percent) == (25, 50)


def test_what_was_not_looked_at_is_not_called_wasted() -> None:
    found = waste_of(HELD, Measured(memory_peak_mib=100))
    assert (found.wasted_nano, found.unlooked_nano, found.idle_percent) == (0, 12 * USD, None)


def test_work_without_accelerators_is_judged_by_its_cpu() -> None:
    plain = replace(HELD, gpu_milli=0, gpus=0, gpu_nano=0, gpu_milli_us=0)
    found = waste_of(plain, Measured(sampled_us=HOUR_US, cpu_idle_us=HOUR_US // 4, cpu_peak_milli=15_000))
    assert (found.wasted_nano, found.looked_nano) == (USD // 25, 16 * USD // 100)
    assert waste_of(plain, Measured()).unlooked_nano == 16 * USD // 100


def test_wastes_add_up() -> None:
    both = waste_of(HELD, SEEN) + waste_of(HELD, Measured()) + Waste(unused_nano=7)
    assert (both.gpu_nano, both.wasted_nano, both.looked_nano, both.unlooked_nano, both.unused_nano) == (
        24 * USD, 3 * USD, 12 * USD, 12 * USD, 7,
    )  # fmt: skip
    assert both.idle_percent == 25


def test_what_fits_is_left_alone() -> None:
    assert advise([(HELD, SEEN)]) == ()


def test_fewer_accelerators_are_advised_when_some_were_never_busy() -> None:
    (one,) = advise([(HELD, replace(SEEN, gpus_used=3))])
    assert (one.what, one.held, one.enough, one.saves_nano) == ("gpu", 4, 3, 3 * USD)
    (none,) = advise([(HELD, replace(SEEN, gpus_used=0, gpu_idle_us=4 * HOUR_US))])
    assert (none.enough, none.saves_nano) == (0, 12 * USD)
    (guessed,) = advise([(HELD, replace(SEEN, gpus_used=0, gpu_guessed_us=SEEN.gpu_us))])
    assert "judged by its use of CPU" in guessed.text


def test_all_runs_of_a_job_count_together() -> None:
    assert advise([(HELD, replace(SEEN, gpus_used=1)), (HELD, SEEN)]) == (), "once it needed all of them"


def test_fewer_cores_and_less_memory_are_advised_with_room_to_spare() -> None:
    found = advise([(HELD, replace(SEEN, cpu_peak_milli=3_000, memory_peak_mib=8_000))])
    told = {one.what: (one.held, one.enough, one.saves_nano) for one in found}
    assert told == {
        "cpu": (16_000, 4_000, 12 * USD // 100), "memory": (64 * 1024, 10 * 1024, USD // 10 * 54 // 64)
    }  # fmt: skip


def test_a_gang_is_advised_for_each_of_its_tasks() -> None:
    (cpu,) = advise([(replace(HELD, tasks=2), replace(SEEN, cpu_peak_milli=8_000))])
    assert (cpu.held, cpu.enough) == (16_000, 5_000)


def test_often_idle_accelerators_are_told_of() -> None:
    (one,) = advise([(HELD, replace(SEEN, gpu_idle_us=2 * HOUR_US))])
    assert (one.saves_nano, "50 %" in one.text) == (0, True)


def test_nothing_is_said_after_a_short_look() -> None:
    assert advise([(HELD, Measured(sampled_us=30_000_000, gpu_us=30_000_000, cpu_peak_milli=1))]) == ()
