"""How busy tasks are: sums that stay small, and what is taken from the use of CPU where no driver tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headframe.engines import agent_use
from headframe.engines.agent_state import Record, load_records
from headframe.engines.agent_use import LOOK_US, Looks, Watch
from headframe.fleet.engine_words import SAMPLED

START_US = 1_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.us = START_US

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(agent_use, "now_us", made)
    return made


def record(*gpus: list[Any]) -> Record:
    return Record("alc_1", 1, "job_1", "org_1", [0], True, gpus=list(gpus), running_us=START_US)


def test_the_sums_tell_how_much_of_the_time_each_accelerator_was_idle(clock: Clock) -> None:
    held, watch = record(["GPU-1", 1000, False], ["GPU-2", 1000, False]), Watch()
    for number, busy in enumerate((900, 20, 900), 1):
        clock.us += LOOK_US
        watch.look(held, number * LOOK_US // 2, {"GPU-1": (busy, 40_000 + number), "GPU-2": (0, 500)})
    assert held.sampled == {
        "sampled_us": 3 * LOOK_US, "cpu_idle_us": 0, "cpu_peak_milli": 500, "gpu_us": 6 * LOOK_US,
        "gpu_busy_us": LOOK_US * 1820 // 1000, "gpu_idle_us": 4 * LOOK_US, "gpus_used": 1, "gpu_peak_mib": 40_003,
    }  # fmt: skip
    assert set(held.sampled) <= set(SAMPLED)


def test_the_sums_do_not_grow_with_time(clock: Clock) -> None:
    held, watch = record(["GPU-1", 1000, False]), Watch()
    for _ in range(1000):
        clock.us += LOOK_US
        watch.look(held, 0, {"GPU-1": (990, 1)})
    assert len(held.sampled) <= len(SAMPLED)
    assert held.busy == ["GPU-1"]


def test_where_no_driver_tells_the_use_of_cpu_answers_and_says_so(clock: Clock) -> None:
    held, watch = record(["0", 500, True]), Watch()
    clock.us += LOOK_US
    watch.look(held, 0, {})
    clock.us += LOOK_US
    watch.look(held, 2 * LOOK_US, {})  # two cores
    assert held.sampled["gpu_guessed_us"] == held.sampled["gpu_us"] == LOOK_US, "half a device counts half"
    assert held.sampled["gpu_idle_us"] == held.sampled["gpu_busy_us"] == LOOK_US // 2
    assert held.sampled["cpu_idle_us"] == LOOK_US


def test_the_last_stretch_asks_no_driver_and_guesses_nothing_of_real_devices(clock: Clock) -> None:
    held, watch = record(["GPU-1", 1000, False]), Watch()
    clock.us += LOOK_US
    watch.look(held, 100, {"GPU-1": (500, 1)})
    clock.us += LOOK_US // 2
    watch.look(held, 100, None)
    assert held.sampled["sampled_us"] == LOOK_US * 3 // 2
    assert held.sampled["gpu_us"] == LOOK_US


def test_what_ends_before_the_first_look_has_no_sums(clock: Clock) -> None:
    held = record(["0", 1000, True])
    clock.us += LOOK_US // 2
    Watch().look(held, 1, None)
    assert held.sampled == {}


def test_a_later_agent_goes_on_from_what_is_written_down(clock: Clock, tmp_path: Path) -> None:
    held, watch = record(["GPU-1", 1000, False]), Watch()
    clock.us += LOOK_US
    watch.look(held, LOOK_US, {"GPU-1": (900, 1)})
    held.save(tmp_path)
    (found,), _damaged = load_records(tmp_path)
    later = Watch()
    for cpu_us in (5 * LOOK_US, 6 * LOOK_US):  # what passed between the agents is not counted, nor taken for a peak
        clock.us += LOOK_US
        later.look(found, cpu_us, {"GPU-1": (0, 1)})
    assert found.sampled["sampled_us"] == 2 * LOOK_US
    assert found.sampled["cpu_peak_milli"] == 1000
    assert (found.sampled["gpu_idle_us"], found.sampled["gpus_used"]) == (LOOK_US, 1)


def test_a_clock_that_is_set_back_adds_nothing(clock: Clock) -> None:
    held, watch = record(), Watch()
    clock.us += LOOK_US
    watch.look(held, 0, {})
    clock.us -= LOOK_US
    watch.look(held, 0, {})
    assert held.sampled["sampled_us"] == LOOK_US


def test_a_driver_that_hangs_is_asked_once_and_holds_up_nobody_else() -> None:
    waiting: list[Callable[[], None]] = []
    seen: list[str] = []

    def one(name: str, *gpus: list[Any]) -> Any:
        return SimpleNamespace(
            active=True, preparing=False, record=record(*gpus), look=lambda readings: seen.append(name)
        )

    held = [one("card", ["GPU-1", 1000, False]), one("plain")]
    looks = Looks(lambda: held, waiting.append, lambda call: call())
    looks.look()
    looks.look()
    looks.look()
    assert (len(waiting), seen) == (1, ["plain", "plain"])
