"""Limits that are raised while so many wait that not all are looked at each time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_cloud import SmallCloud

from headframe.base.quantities import MINUTE_US, SECOND_US
from headframe.control.commands_access import put_quota
from headframe.jobs.records import JobState
from headframe.scheduling import place
from headframe.tenants.records import Scope


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    made = SmallCloud(nodes=1, gpus=4)
    yield made
    assert not made.complaints
    made.close()


def test_who_a_limit_on_borrowing_held_back_starts_when_it_is_raised(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "FEW", 2)
    whose = {"scope": Scope.ORGANIZATION, "scope_id": cloud.lab.id, "guaranteed": {"gpu_milli": 1000}}
    cloud.run(put_quota, cloud.owner, borrow={"gpu_milli": 0}, **whose)
    jobs = [cloud.submit("run 1h; exit 0") for _ in range(5)]
    cloud.go(SECOND_US)
    assert [cloud.job(one).state for one in jobs].count(JobState.QUEUED) == 4
    began_us = cloud.now_us
    cloud.run(put_quota, cloud.owner, borrow={"gpu_milli": 1000}, **whose)
    cloud.until(lambda: [cloud.job(one).state for one in jobs].count(JobState.QUEUED) == 3, MINUTE_US)
    assert cloud.now_us - began_us < SECOND_US
