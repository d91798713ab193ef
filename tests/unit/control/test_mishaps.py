"""Bad luck: refused commits, a store that fails, a program killed at every point, orders and answers that get lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from small_cloud import SmallCloud, digest, same_when_reloaded

from headframe.base.changes import Changes
from headframe.base.errors import Conflict, IllegalMove, Invalid, OurError, StoreFailed, TooBusy, VersionConflict
from headframe.base.quantities import HOUR_US, MINUTE_US, SECOND_US
from headframe.control.commands_access import delete_secret, put_secret
from headframe.control.commands_jobs import stop_job, submit_job
from headframe.control.dispatch import Dispatch
from headframe.fleet.engine_words import Launch, Observation, Seen
from headframe.fleet.records import Accelerator, Node, NodeState, Slice
from headframe.jobs.records import Job, JobState
from headframe.metering.records import UsageRecord
from headframe.pricing.records import Charge, Price
from headframe.tenants.records import Project


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    made = SmallCloud()
    yield made
    made.close()


def rename(world: Any, context: Any, project: Project, name: str) -> tuple[Changes, Project]:
    """Change a project as it was when the caller read it."""
    changed = replace(project, name=name, version=project.version + 1)
    return Changes((changed,)), changed


def test_of_commands_that_cannot_stand_together_only_the_guilty_fails(cloud: SmallCloud) -> None:
    project = cloud.project()
    document = cloud.document()
    first = cloud.loop.run(submit_job, cloud.anna, document, project="default", env={})
    good = cloud.loop.run(rename, project, "better")
    guilty = cloud.loop.run(rename, project, "worse")
    last = cloud.loop.run(submit_job, cloud.anna, {**document, "name": "second"}, env={})
    cloud.settle()
    assert good.result(0).name == "better"
    assert isinstance(guilty.exception(0), VersionConflict)
    assert last.exception(0) is not None, "the project has another name by now"
    assert cloud.job(first.result(0)).state == JobState.STARTING
    assert cloud.complaints == []
    same_when_reloaded(cloud)


def test_a_value_that_the_store_cannot_keep_fails_its_own_command_only(cloud: SmallCloud) -> None:
    def too_much(world: Any, context: Any) -> tuple[Changes, None]:
        return Changes((Price("prc_big", "cpu", 1 << 70, 0),)), None

    good = cloud.loop.run(submit_job, cloud.anna, cloud.document(), project="default", env={})
    guilty = cloud.loop.run(too_much)
    cloud.settle()
    assert cloud.job(good.result(0)).state == JobState.STARTING
    assert isinstance(guilty.exception(0), Invalid)
    same_when_reloaded(cloud)


def test_a_command_with_a_defect_fails_alone_and_is_complained_of(cloud: SmallCloud) -> None:
    def broken(world: Any, context: Any) -> tuple[Changes, None]:
        raise KeyError("secret detail")

    def corrupt(world: Any, context: Any) -> tuple[Changes, None]:
        return Changes((object(),)), None

    answers = [cloud.loop.run(broken), cloud.loop.run(corrupt)]
    good = cloud.loop.run(submit_job, cloud.anna, cloud.document(), project="default", env={})
    cloud.settle()
    for answer in answers:
        error = answer.exception(0)
        assert isinstance(error, OurError)
        assert "secret detail" not in str(error)
    assert cloud.job(good.result(0)).state == JobState.STARTING
    assert any(isinstance(error, KeyError) for error in cloud.complaints)
    same_when_reloaded(cloud)


def test_an_observation_that_breaks_the_loop_is_dropped_and_does_not_fail_callers(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headframe.control import loop

    heard = loop.heard

    def poisoned(world: Any, dispatch: Any, cluster_id: str, seen: Observation, now_us: int) -> Changes:
        if seen.allocation_id == "alc_poison":
            raise IllegalMove("It cannot be.")
        return heard(world, dispatch, cluster_id, seen, now_us)

    monkeypatch.setattr(loop, "heard", poisoned)
    cloud.loop.deliver("clu_1", Observation("alc_poison", 1, Seen.RUNNING, cloud.now_us))
    job = cloud.submit()
    cloud.until(lambda: cloud.ended(job))
    assert cloud.job(job).state == JobState.SUCCEEDED
    assert [type(error) for error in cloud.complaints] == [IllegalMove]


def test_while_the_store_fails_callers_hear_of_it_and_the_loop_does_not_spin(cloud: SmallCloud) -> None:
    job = cloud.submit("run 60s; exit 0")
    cloud.until(cloud.is_(job, JobState.RUNNING))
    cloud.store.failing = 1_000_000
    with pytest.raises(StoreFailed):
        cloud.submit()
    ticks = cloud.loop.ticks
    cloud.go(5 * MINUTE_US)  # the job's exit is heard meanwhile, and cannot be written
    assert cloud.loop.ticks - ticks < 1000, "about one try a second, and one for each thing that is heard"
    assert cloud.job(job).state == JobState.RUNNING
    cloud.store.failing = 0
    cloud.until(lambda: cloud.ended(job))
    (held,) = cloud.allocations(job)
    assert held.released_us is not None
    assert held.running_us is not None
    assert held.released_us - held.running_us == 60 * SECOND_US, "not a second is lost or added"
    same_when_reloaded(cloud)
    cloud.at_rest()


def test_a_commit_that_was_made_although_the_store_says_that_it_failed(cloud: SmallCloud) -> None:
    cloud.store.unclear = 1
    with pytest.raises(StoreFailed):
        cloud.submit()
    (job,) = cloud.inner.find(Job, limit=10)
    cloud.until(lambda: cloud.ended(job))
    assert cloud.job(job).state == JobState.SUCCEEDED
    same_when_reloaded(cloud)


def test_nobody_is_told_of_a_place_behind_what_is_on_record(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The warm world runs ahead of a commit: who follows from its last event would miss what cannot be read yet."""
    apply, seen = cloud.inner.apply, []

    def watched(changes: Changes) -> None:
        if changes.events:
            seen.append((cloud.loop.recorded_seq, changes.events[0].seq, cloud.loop.world.last_event_seq))
        apply(changes)

    monkeypatch.setattr(cloud.inner, "apply", watched)
    cloud.submit()
    assert seen
    assert all(recorded == first - 1 and warm >= first for recorded, first, warm in seen)
    assert cloud.loop.recorded_seq == cloud.loop.world.last_event_seq == cloud.inner.last_event_seq()


def test_a_store_that_cannot_even_be_read_is_waited_for(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: Any) -> Any:
        raise StoreFailed("The database is gone.")

    job = cloud.submit("run 60s; exit 0")
    cloud.until(cloud.is_(job, JobState.RUNNING))
    monkeypatch.setattr(cloud.inner, "load", gone)
    monkeypatch.setattr(cloud.inner, "apply", gone)
    with pytest.raises(StoreFailed):
        cloud.submit()
    cloud.go(2 * MINUTE_US)
    with pytest.raises(StoreFailed):
        cloud.submit()
    monkeypatch.undo()
    cloud.until(lambda: cloud.ended(job))
    assert cloud.job(job).state == JobState.SUCCEEDED
    same_when_reloaded(cloud)


def test_a_defect_in_what_time_brings_does_not_make_the_loop_spin(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headframe.control import loop

    def broken(world: Any, ids: Any, now_us: int) -> Iterator[Changes]:
        raise IllegalMove("It cannot be.")
        yield Changes()

    job = cloud.submit("run 60s; exit 0", max_duration="10s")
    cloud.until(cloud.is_(job, JobState.RUNNING))
    monkeypatch.setattr(loop, "due", broken)
    ticks = cloud.loop.ticks
    cloud.go(30 * SECOND_US)
    assert cloud.loop.ticks - ticks < 300
    monkeypatch.undo()
    cloud.until(lambda: cloud.ended(job))
    assert cloud.job(job).reason == "max_duration"


# The program is killed.


def play(cloud: SmallCloud) -> dict[str, tuple[Any, ...]]:
    """A little history that passes every kind of step; gives what people see of it in the end."""
    jobs: dict[str, Job] = {}

    def submit(name: str, run: str, **more: Any) -> None:
        document = cloud.document(run, name=name, **more)
        while name not in jobs:
            answer = cloud.loop.run(submit_job, cloud.anna, document, project="default", env={})
            cloud.settle()
            if answer.done():
                jobs[name] = answer.result(0)
            else:  # killed before it was answered: look whether it is there
                jobs.update((job.name, job) for job in cloud.inner.find(Job, name=name, limit=1))

    submit("plain", "prepare 1s; run 20s; exit 0")
    submit("again", "run 5s; exit 1 | run 5s; exit 0", retry={"on": ["error"], "max": 2})
    submit("after", "run 5s; exit 0", after=["plain"])
    submit("long", "run 500s; exit 0", max_duration="30s", warn_before_stop="5s")
    submit("many", "run 4s; exit 0", array={"index": "0..3", "parallel": 2})
    cloud.until(lambda: cloud.ended(*jobs.values()))
    cloud.go(2 * MINUTE_US)
    cloud.at_rest()
    same_when_reloaded(cloud)
    told = {}
    for name, job in jobs.items():
        done = cloud.job(job)
        told[name] = (done.state, done.reason, done.exit_code, done.attempt, done.failures, done.children_failed)
        for held in cloud.allocations(job):
            ran_us = (held.released_us or 0) - (held.running_us or 0)
            if name in ("plain", "again", "after"):
                told[f"{name}.{held.generation}"] = (ran_us, held.reason, held.faulted, held.settled)
    records = cloud.inner.find(UsageRecord, limit=1000)
    charges = cloud.inner.find(Charge, limit=1000)
    told["counts"] = (len({one.allocation_id for one in records}), len({one.allocation_id for one in charges}))
    assert not any(error for error in cloud.complaints)
    return told


def crossings() -> tuple[int, dict[str, tuple[Any, ...]]]:
    cloud = SmallCloud(gpus=4)
    before = cloud.doom.crossed
    told = play(cloud)
    crossed = cloud.doom.crossed - before
    cloud.close()
    return crossed, told


def test_killed_at_any_point_the_history_ends_as_if_nothing_had_been() -> None:
    count, expected = crossings()
    assert count > 60
    for point in range(1, count + 1):
        cloud = SmallCloud(gpus=4)
        cloud.doom.next = cloud.doom.crossed + point
        told = play(cloud)
        assert cloud.boots == 2, point
        assert told == expected, (point, cloud.doom.deaths)
        cloud.close()


def test_a_history_without_deaths_is_the_same_row_for_row() -> None:
    digests = []
    for _ in range(2):
        cloud = SmallCloud(gpus=4)
        play(cloud)
        digests.append(digest(cloud.inner, UsageRecord, Charge))
        cloud.close()
    assert digests[0] == digests[1]


# Orders and answers.


def test_what_runs_though_nothing_holds_it_is_ended_and_let_go(cloud: SmallCloud) -> None:
    part = Slice(0, "nod_0", 1000, 1024, 0)
    cloud.engine.act([Launch("alc_lost.1", 1, "job_lost", "lost", "org", 1, "prj", (part,), {"run": "run 3600s"})])
    cloud.go(MINUTE_US)
    assert cloud.engine.live() == []
    assert cloud.engine.known() == []
    assert [event.subject for event in cloud.events("orphan_ended")][:1] == ["alc_lost.1"]


def test_a_lost_launch_is_repeated_after_a_report(cloud: SmallCloud) -> None:
    cloud.engine.temper.reachable = False
    job = cloud.submit()
    assert cloud.engine.launches == 0
    cloud.engine.temper.reachable = True
    cloud.until(lambda: cloud.ended(job))
    assert cloud.job(job).state == JobState.SUCCEEDED
    assert cloud.job(job).attempt == 1
    assert cloud.engine.launches == 1


def test_a_lost_stop_is_repeated_after_a_report(cloud: SmallCloud) -> None:
    job = cloud.submit("run 5000s; exit 0")
    cloud.until(cloud.is_(job, JobState.RUNNING))
    cloud.engine.temper.reachable = False
    assert cloud.stop(job).state == JobState.STOPPING
    cloud.engine.temper.reachable = True
    cloud.until(lambda: cloud.ended(job), 3 * MINUTE_US)
    assert cloud.job(job).state == JobState.STOPPED


def test_a_report_between_launch_and_stop_does_not_free_what_the_engine_is_about_to_start(cloud: SmallCloud) -> None:
    """Absence in a report made before the launch arrived proves nothing: the engine is told to stop, and answers."""
    job = cloud.submit("run 5000s; stubborn")
    report = replace(cloud.engine._report(), at_us=cloud.now_us + 1, observations=())
    cloud.clock.advance_to(cloud.now_us + 2)
    cloud.loop.run(lambda world, context: (Changes(), None))
    cloud.stop(job)
    cloud.loop.deliver("clu_1", report)
    cloud.settle()
    assert cloud.world.derived.held, "it holds its place until the engine says that it is gone"
    cloud.until(lambda: cloud.ended(job))
    cloud.go(MINUTE_US)
    cloud.at_rest()


def test_an_engine_that_lost_its_memory_costs_an_attempt_not_the_job(cloud: SmallCloud) -> None:
    job = cloud.submit("run 100s; exit 0")
    cloud.until(cloud.is_(job, JobState.RUNNING))
    cloud.engine.lose_memory()
    cloud.until(lambda: cloud.ended(job))
    done, (first, _) = cloud.job(job), cloud.allocations(job)
    assert (done.state, done.attempt, done.failures) == (JobState.SUCCEEDED, 2, 1)
    assert first.faulted
    assert (
        sum(one.amount_nano for one in cloud.inner.find(Charge, allocation_id=first.id) if one.kind == "minimum") == 0
    )
    cloud.at_rest()


def test_a_job_stopped_while_it_is_prepared_never_ran_and_costs_nothing(cloud: SmallCloud) -> None:
    job = cloud.submit("prepare 500s; run 10s; exit 0")
    cloud.go(20 * SECOND_US)
    cloud.stop(job)
    cloud.until(lambda: cloud.ended(job))
    (held,) = cloud.allocations(job)
    assert (cloud.job(job).state, cloud.job(job).started_us, held.running_us) == (JobState.STOPPED, None, None)
    assert cloud.inner.find(Charge, job_id=job.id) == []
    assert "allocation_running" not in [event.kind for event in cloud.events(subject=job.id)]


# Nodes and devices.


def test_a_node_that_dies_and_comes_back() -> None:
    cloud = SmallCloud(nodes=2)
    job = cloud.submit("run 300s; exit 0")
    cloud.until(cloud.is_(job, JobState.RUNNING))
    (held,) = cloud.allocations(job)
    dead = held.slices[0].node_id
    cloud.engine.kill_node(dead)
    cloud.until(lambda: len(cloud.allocations(job)) == 2)
    assert cloud.world.all(Node)[dead].state == NodeState.DOWN
    assert cloud.allocations(job)[1].slices[0].node_id != dead
    cloud.engine.revive_node(dead)
    cloud.until(lambda: cloud.ended(job))
    assert cloud.world.all(Node)[dead].state == NodeState.READY
    assert [event.kind for event in cloud.events(subject=dead)] == ["node_joined", "node_down", "node_ready"]
    same_when_reloaded(cloud)
    cloud.close()


def test_an_unhealthy_accelerator_takes_nothing_new(cloud: SmallCloud) -> None:
    ill = replace(cloud.devices[0], healthy=False, reason="Xid 79")
    cloud.engine._accelerators = (ill, cloud.devices[1])
    cloud.engine.request_report()
    cloud.go(SECOND_US)
    assert not cloud.world.all(Accelerator)[ill.id].healthy
    jobs = [cloud.submit("run 100s; exit 0") for _ in range(2)]
    assert [cloud.job(job).state for job in jobs] == [JobState.STARTING, JobState.QUEUED]
    assert "1 of 1 such GPUs" not in cloud.story(jobs[1])["waiting"]["text"]
    cloud.engine._accelerators = tuple(cloud.devices)
    cloud.engine.request_report()
    cloud.go(SECOND_US)
    assert cloud.job(jobs[1]).state == JobState.RUNNING
    same_when_reloaded(cloud)


# Secrets.


def test_a_secret_that_is_gone_at_launch_fails_the_job_and_says_so(cloud: SmallCloud) -> None:
    cloud.run(put_secret, cloud.adam, name="TOKEN", value="hush", project="default")
    blocker = cloud.submit("run 60s; exit 0", resources={"gpu": "H100:2"})
    job = cloud.submit(secrets=["TOKEN"])
    cloud.run(delete_secret, cloud.adam, name="TOKEN", project="default")
    cloud.until(lambda: cloud.ended(blocker, job))
    assert cloud.job(job).state == JobState.FAILED
    assert "TOKEN" in cloud.attempts(job)[0].detail
    assert cloud.inner.find(Charge, job_id=job.id) == []
    cloud.at_rest()


def test_a_store_that_fails_during_a_launch_does_not_fail_the_job(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.run(put_secret, cloud.adam, name="TOKEN", value="hush", project="default")
    secret, broken = Dispatch._secret, [True]

    def fails_once(self: Dispatch, job: Any, name: str) -> str:
        if broken.pop() if broken else False:
            raise StoreFailed("The database is locked.")
        return secret(self, job, name)

    monkeypatch.setattr(Dispatch, "_secret", fails_once)
    job = cloud.submit(secrets=["TOKEN"])
    cloud.until(lambda: cloud.ended(job))
    assert (cloud.job(job).state, cloud.job(job).attempt) == (JobState.SUCCEEDED, 1)


def test_too_many_waiting_requests_are_refused_not_kept(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headframe.control.loop.INBOX_LIMIT", 2)
    cloud.loop.ask(lambda world, context: None)
    cloud.loop.ask(lambda world, context: None)
    with pytest.raises(TooBusy):
        cloud.loop.ask(lambda world, context: None)
    cloud.settle()


def test_commands_of_one_turn_see_each_other_and_nobody_waits_for_a_job_that_has_just_ended(cloud: SmallCloud) -> None:
    """The store does not know yet what a turn has decided: do not wait for what it stopped."""
    cloud.submit("run 900s; exit 0", resources={"gpu": "H100:2"})
    queued = cloud.submit(name="queued")
    cloud.loop.run(stop_job, cloud.anna, queued.id)
    waits = cloud.loop.run(submit_job, cloud.anna, cloud.document(after=["queued"]), project="default", env={})
    cloud.settle()
    assert isinstance(waits.exception(0), Invalid | Conflict)
    cloud.go(HOUR_US)
    assert not cloud.world.derived.dependents


def test_the_last_try_of_a_launch_that_keeps_failing_is_the_end_of_it(cloud: SmallCloud) -> None:
    """A cloud whose engine can start nothing comes to rest, and charges nothing."""
    job = cloud.submit("fail engine", retry={"on": ["node_failure"], "max": 3})
    cloud.until(lambda: cloud.ended(job))
    cloud.go(MINUTE_US)
    assert (cloud.job(job).state, cloud.job(job).attempt, cloud.job(job).failures) == (JobState.FAILED, 4, 3)
    assert cloud.inner.find(Charge, job_id=job.id) == []
    cloud.at_rest()
