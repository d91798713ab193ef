"""Replays of traces that are small enough to be worked out by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from headframe.base.errors import Invalid, NotFound
from headframe.base.quantities import SECOND_US
from headframe.scheduling.packing import packing_named
from headframe.sim import compare
from headframe.sim.compare_picture import check_file, picture
from headframe.sim.trace_jobs import MILLION, TraceJob, parse_fleet
from headframe.sim.trace_policies import POLICIES, policy_named
from headframe.sim.trace_replay import Costs, Outcome, Replay
from headframe.sim.trace_report import curve, summary

FREE = Costs()
BLOCKING = ((0, 100, 4), (0, 50, 8), (10, 20, 2))  # (submitted, duration, GPUs): the second waits for a whole node


def jobs(*lines: tuple[int, int, int], **more: object) -> list[TraceJob]:
    return [
        TraceJob(f"{place:07d}", at * SECOND_US, gpus, span * SECOND_US, **more)  # type: ignore[arg-type]
        for place, (at, span, gpus) in enumerate(lines)
    ]


def replay(
    trace: Sequence[TraceJob], policy: str, fleet: str = "1xH100:8", every: int | None = None, costs: Costs = FREE
) -> Outcome:
    machines = parse_fleet(fleet)
    made = policy_named(policy).make(every * SECOND_US if every else None)
    return Replay(trace, machines, made, machines.capacity(packing_named("first")), costs=costs).run()


def ends(outcome: Outcome) -> list[float]:
    """Seconds at which jobs ended, in the order of the trace."""
    return [one.ended_us / SECOND_US for one in sorted(outcome.ended, key=lambda one: one.id)]


def test_fifo_lets_nothing_overtake_and_fair_fills_the_gap() -> None:
    assert ends(replay(jobs(*BLOCKING), "fifo")) == [100, 150, 170]
    assert ends(replay(jobs(*BLOCKING), "fair")) == [100, 150, 30]


def test_the_shortest_first_takes_the_place_of_a_longer_one() -> None:
    """At 0 the job of 50 s runs; the other then has all its 100 s left. At 60 comes one of 10 s and makes it wait."""
    outcome = replay(jobs((0, 100, 8), (0, 50, 8), (60, 10, 8)), "srtf")
    assert ends(outcome) == [160, 50, 70]
    assert {one.id: one.starts for one in outcome.ended}["0000000"] == 2
    assert {one.id: one.waited_us // SECOND_US for one in outcome.ended}["0000000"] == 60


def test_what_runs_runs_to_its_end_without_turns() -> None:
    assert ends(replay(jobs((0, 100, 8), (0, 50, 8), (60, 10, 8)), "sjf")) == [150, 50, 160]


def test_service_counts_gpus() -> None:
    """60 s on 8 GPUs are more than 100 s on 4, which go first; beside them nothing else fits."""
    assert ends(replay(jobs((0, 60, 8), (0, 100, 4)), "srsf")) == [160, 100]
    assert ends(replay(jobs((0, 60, 8), (0, 100, 4)), "srtf")) == [60, 160]


def test_two_equals_take_turns_of_an_hour() -> None:
    outcome = replay(jobs((0, 7200, 8), (0, 7200, 8)), "las")
    assert ends(outcome) == [3 * 3600, 4 * 3600]


def test_a_job_that_holds_up_the_end_goes_first() -> None:
    """Of three jobs on two GPUs the long one needs all of the time that there is: the short ones share the other."""
    trace = jobs((0, 100, 1), (0, 60, 1), (0, 40, 1))
    assert ends(replay(trace, "srtf", "1xH100:2")) == [140, 60, 40]
    assert ends(replay(trace, "no-straggler", "1xH100:2")) == [100, 100, 40]


def test_a_start_costs_what_it_costs_and_so_does_every_other() -> None:
    costs = Costs(5 * SECOND_US)
    assert ends(replay(jobs((0, 100, 8), (60, 10, 8)), "srtf", costs=costs)) == [125, 75]
    own = jobs((0, 100, 8), restart_us=20 * SECOND_US)
    assert ends(replay(own, "srtf", costs=costs)) == [120]


def test_decisions_cost_those_who_run_on_when_told_so() -> None:
    """The second arrival takes 5 s off the progress of the first job, though it does not move."""
    costs = Costs(5 * SECOND_US, at_decisions=True)
    assert ends(replay(jobs((0, 100, 4), (50, 10, 4)), "srtf", costs=costs)) == [110, 60]


def test_rounds_decide_at_their_beginning_only() -> None:
    assert ends(replay(jobs((1, 10, 8)), "fair", every=60)) == [70]
    assert ends(replay(jobs((0, 10, 8), (0, 10, 8)), "srtf", every=60)) == [10, 70]


def test_the_kind_on_which_it_gains_goes_to_the_job_that_gains() -> None:
    """Each has a GPU; the fast one goes to the job that is four times as fast there, not 1.1 times."""
    little = TraceJob("a", 0, 1, 100 * SECOND_US, speeds={"H100": 1_100_000, "T4": MILLION})
    much = TraceJob("b", 0, 1, 100 * SECOND_US, speeds={"H100": 4 * MILLION, "T4": MILLION})
    assert ends(replay([little, much], "by-kind", "1xH100:1,1xT4:1", every=1000)) == [100, 25]


def test_no_job_is_put_where_it_cannot_run() -> None:
    only = TraceJob("a", 0, 1, 10 * SECOND_US, speeds={"H100": MILLION, "T4": 0})
    never = TraceJob("b", 0, 1, 10 * SECOND_US, speeds={"H100": 0, "T4": 0})
    for policy in POLICIES:
        outcome = replay([only, never], policy, "1xT4:4,1xH100:1")
        assert [one.id for one in outcome.ended] == ["a"], policy
        assert outcome.impossible == ("b",), policy


def test_what_could_never_fit_is_told_and_holds_up_nothing() -> None:
    outcome = replay(jobs((0, 10, 9), (0, 10, 8)), "fifo")
    assert (len(outcome.impossible), ends(outcome)) == (1, [10])


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_does_all_the_work_once_and_never_holds_more_than_there_is(policy: str) -> None:
    trace = jobs(*((place * 7 % 50, 20 + place * 13 % 90, 1 + place % 8) for place in range(60)))
    trace.sort(key=lambda job: (job.submitted_us, job.id))
    outcome = replay(trace, policy, "2xH100:8")
    assert len(outcome.ended) == len(trace)
    assert max(held for _, held, _ in outcome.curve) <= 16
    assert outcome.held_us >= sum(job.work_us * job.gpus for job in trace)
    for one in outcome.ended:
        assert one.took_us - one.waited_us >= next(job.work_us for job in trace if job.id == one.id)


def test_fairness_is_measured_against_an_equal_share() -> None:
    """Two jobs ask for the whole node all the time that the first is there: a share is half of it."""
    outcome = replay(jobs((0, 100, 8), (0, 100, 8)), "fifo")
    first, second = sorted(outcome.ended, key=lambda one: one.id)
    assert first.fairness == pytest.approx(0.5)
    assert second.fairness == pytest.approx(200 / (100 * 1.5))


def test_numbers_and_curves_say_the_same() -> None:
    outcome = replay(jobs((0, 50, 8), (0, 50, 4)), "fifo")
    numbers = summary(outcome)
    assert (numbers["jct_mean_s"], numbers["wait_mean_s"], numbers["makespan_s"]) == (75, 25, 100)
    assert numbers["utilization"] == 0.75
    drawn = curve(outcome, 4)
    assert drawn.used == (1.0, 1.0, 0.5, 0.5)
    assert drawn.waiting == (1.0, 1.0, 0.0, 0.0)


def test_a_comparison_in_text_fits_the_terminal() -> None:
    setting = compare.Setting(parse_fleet("1xH100:8"))
    runs = compare.run(jobs(*BLOCKING), ["fifo", "fair"], setting, lambda _line: None)
    text = compare.drawn(runs, 80)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.count("fifo") == 3


@pytest.mark.parametrize("name", ["out.png", "out.svg"])
def test_a_comparison_is_drawn_as_a_picture(tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra charts")
    setting = compare.Setting(parse_fleet("1xH100:8"))
    runs = compare.run(jobs(*BLOCKING), ["fifo", "fair"], setting, lambda _line: None)
    picture(runs, "a trace", tmp_path / name)
    head = (tmp_path / name).read_bytes()[:8]
    assert head.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")


def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_replayed(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"out\.doc"):
        check_file(tmp_path / "out.doc")
    with pytest.raises(NotFound, match="no folder"):
        check_file(tmp_path / "none" / "out.png")


def test_a_comparison_in_which_nothing_could_run_is_drawn_too(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra charts")
    runs = compare.run(jobs((0, 10, 64)), ["fifo"], compare.Setting(parse_fleet("1xH100:8")), lambda _line: None)
    picture(runs, "a trace", tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size


def test_a_policy_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(Invalid, match="by-kind"):
        policy_named("best")


def test_the_same_trace_gives_the_same_outcome_under_any_hash_seed(tmp_path: Path) -> None:
    lines = [f"{place * 11 % 300},{10 + place * 37 % 200},{1 + place * 3 % 12}" for place in range(80)]
    file = tmp_path / "jobs.csv"
    file.write_text("submitted,duration,gpus\n" + "\n".join(lines) + "\n")
    policies = [word for name in POLICIES for word in ("--policy", name)]
    command = [sys.executable, "-m", "headframe.cli.main", "sim", "trace", str(file), "--fleet", "2xH100:8,1xT4:4",
               "--json", "--round", "30s", *policies]  # fmt: skip
    seen = [
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True, timeout=120
        ).stdout
        for seed in ("1", "2")
    ]
    assert seen[0] == seen[1]
    assert {row["policy"] for row in json.loads(seen[0])} == set(POLICIES)
