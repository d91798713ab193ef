"""Kueue's workloads, made small: all of them run, within quotas, and no sooner than quotas let them."""

from __future__ import annotations

import pytest

from headframe.yardsticks.kueue import BASELINE, LARGE, Kind, Setting, arrivals, run


def test_the_published_configurations_are_made_in_full() -> None:
    assert (BASELINE.workloads, BASELINE.cohorts * BASELINE.queues) == (15_000, 30)
    assert (LARGE.workloads, LARGE.cohorts * LARGE.queues) == (50_000, 1_000)
    assert BASELINE.least_s == pytest.approx(66.0)
    assert LARGE.least_s == pytest.approx(4.025)
    assert BASELINE.soonest_s == pytest.approx(66.92)
    assert LARGE.soonest_s == pytest.approx(4.538), "until 0.7 s there is not enough to do"
    assert len(arrivals(BASELINE)) == 15_000


def test_all_run_and_none_before_there_is_quota() -> None:
    kinds = (Kind("small", 6, 100, 2000, 50, 1), Kind("large", 2, 300, 4000, 100, 4))
    small = Setting(2, 2, 4, 8, kinds, 0.0)
    outcome = run(small)
    assert outcome.starts == small.workloads + outcome.stopped
    assert outcome.ended_s >= small.soonest_s >= small.least_s
    assert set(outcome.waits_s) == {"small", "large"}
