"""What earlier runs teach about later ones."""

from __future__ import annotations

from dataclasses import replace

from headframe.jobs.records import Attempt, Job
from headframe.scheduling import durations
from headframe.scheduling.durations import Durations, Estimate
from headframe.workloads.spec import Spec

MINUTE = 60_000_000


def job(name: str, *, organization: str = "org_1", longest: int | None = None, run: str = "train") -> Job:
    return Job("job_123456", organization, "prj", "mem", name, Spec(name, run=run, max_duration_us=longest), 0)


def ran(length: int, outcome: str = "succeeded", resumed: str = "") -> Attempt:
    return Attempt("att", "job", 1, "alc", 0, 1000, 1000 + length, outcome=outcome, resumed_from=resumed)


def taught(*lengths: int, name: str = "train-1") -> Durations:
    known = Durations()
    for length in lengths:
        known.learn(job(name), ran(length * MINUTE))
    return known


def test_runs_of_one_name_teach_whatever_number_stands_in_it() -> None:
    known = taught(*range(1, 11))
    told = known.expect(job("train-77"))
    assert (told.typical_us, told.long_us, told.source) == (5 * MINUTE, 9 * MINUTE, "learned")
    assert known.expect(job("serve")).source == "unknown"
    assert known.expect(job("train-1", organization="org_2")).source == "unknown", "nobody learns from others' jobs"


def test_a_job_without_a_name_of_its_own_is_known_by_its_command() -> None:
    known = Durations()
    for number in range(5):
        known.learn(job("batch-123456", run=f"python fit.py --seed {number}"), ran(MINUTE))
    assert known.expect(job("batch-123456", run="python fit.py --seed 99")).typical_us == MINUTE
    assert known.expect(job("batch-123456", run="python other.py")).source == "unknown"


def test_max_duration_bounds_what_was_learned_and_stands_for_what_was_not() -> None:
    known = taught(10, 20, 30)
    assert known.expect(job("train-2", longest=15 * MINUTE)).long_us == 15 * MINUTE
    assert known.expect(job("new", longest=MINUTE)) == Estimate(MINUTE, MINUTE, "max_duration", MINUTE)


def test_what_was_cut_short_or_resumed_teaches_nothing() -> None:
    known = Durations()
    for attempt in (ran(MINUTE, "preemption"), ran(MINUTE, "node_failure"), ran(MINUTE, resumed="ckpt-3")):
        for _ in range(5):
            known.learn(job("train"), attempt)
    for _ in range(5):
        known.learn(replace(job("train"), stop_reason="user"), ran(MINUTE, "error"))
    assert known.expect(job("train")).source == "unknown"


def test_new_runs_replace_old_ones_and_memory_is_bounded(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    known = taught(*[1] * 40, *[9] * durations.RUNS)
    assert known.expect(job("train-1")).typical_us == 9 * MINUTE
    monkeypatch.setattr(durations, "KINDS", 2)
    for name in ("a", "b", "c"):
        for _ in range(3):
            known.learn(job(name), ran(MINUTE))
    assert known.expect(job("train-1")).source == "unknown", "the kind that ran longest ago is forgotten"
    assert known.expect(job("c")).source == "learned"


def test_what_runs_beyond_its_estimate_is_taken_to_run_on() -> None:
    told = Estimate(MINUTE, 2 * MINUTE, "learned", None)
    assert told.left_us(MINUTE) == (MINUTE, "learned")
    assert told.left_us(2 * MINUTE) == (MINUTE, "learned"), "a moment late is no reason to expect another hour"
    assert told.left_us(30 * MINUTE) == (28 * MINUTE, "learned"), "as long again as it is late"
    assert replace(told, hard_us=9 * MINUTE).left_us(8 * MINUTE) == (MINUTE, "learned")
    assert Estimate().left_us(30 * 60 * MINUTE) == (30 * 60 * MINUTE, "guess"), "as long again as it has run"
