"""What people ask for: submit, stop, plan, story, drain; who may; and what limits do to running jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from small_cloud import SmallCloud, same_when_reloaded

from headframe.base.changes import Changes
from headframe.base.errors import Conflict, Forbidden, NotFound, StoreFailed, TooBusy
from headframe.base.quantities import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from headframe.control.commands_access import put_quota
from headframe.control.commands_fleet import drain_node, resume_node
from headframe.control.commands_jobs import stop_job
from headframe.control.commands_money import grant_credit, put_budget
from headframe.control.commands_tenancy import change_organization
from headframe.control.driver import Control
from headframe.control.queries import find_job, plan, waiting_reasons
from headframe.control.queries_money import charges_filter
from headframe.fleet.records import Node, NodeState
from headframe.jobs.records import Job, JobState
from headframe.pricing.records import Charge
from headframe.tenants.records import Role, Scope


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    made = SmallCloud()
    made.after_tick = lambda: same_when_reloaded(made)
    yield made
    assert made.complaints == []
    made.close()


# Stopping.


def test_a_member_stops_their_own_jobs_an_admin_all_a_viewer_none(cloud: SmallCloud) -> None:
    ben, vera = cloud.member("ben", Role.MEMBER), cloud.member("vera", Role.VIEWER)
    job = cloud.submit("run 600s", caller=cloud.anna)
    for other in (ben, vera):
        with pytest.raises(Forbidden):
            cloud.stop(job, other)
    assert cloud.stop(job, cloud.anna).state == JobState.STOPPING
    second = cloud.submit("run 600s", caller=cloud.anna)
    assert cloud.stop(second, cloud.adam).state == JobState.STOPPING
    third = cloud.submit("run 600s", caller=cloud.anna)
    assert cloud.stop(third, cloud.owner).state in (JobState.STOPPING, JobState.STOPPED)
    with pytest.raises(NotFound):
        cloud.stop(third, type(cloud.anna)("org_other", "mem_other", "key_other", Role.OWNER))


def test_stopping_is_idempotent(cloud: SmallCloud) -> None:
    job = cloud.submit("run 600s; stubborn")
    cloud.until(cloud.is_(job, JobState.RUNNING))
    first = cloud.stop(job, grace_us=20 * SECOND_US)
    again = cloud.stop(job, grace_us=0)
    assert (first.stop_at_us, first.version) == (again.stop_at_us, again.version)
    cloud.until(lambda: cloud.ended(job))
    (held,) = cloud.allocations(job)
    assert held.released_us == first.stop_at_us, "killed when its grace was over"
    assert cloud.stop(job) == cloud.job(job)
    assert len(cloud.events("stop_ordered", job.id)) == 1
    assert cloud.events("stop_ordered", job.id)[0].detail == {"by": cloud.anna.member_id}
    assert cloud.events("stop_ordered", job.id)[0].reason == "anna told it to stop."
    assert cloud.events("allocation_held", job.id)[0].reason.startswith("It holds 1 GPU, ")
    assert all(event.reason for event in cloud.events(subject=job.id))
    cloud.at_rest()


def test_stopping_an_array_stops_all_and_counts_them(cloud: SmallCloud) -> None:
    array = cloud.submit("run 600s", array={"index": "1..5", "parallel": 1})
    cloud.go(SECOND_US)
    children = cloud.inner.find(Job, parent_id=array.id)
    assert sorted(one.state for one in children) == ["queued"] * 4 + ["running"]
    cloud.stop(array)
    cloud.until(lambda: cloud.ended(array))
    assert (cloud.job(array).state, cloud.job(array).children_failed) == (JobState.STOPPED, 5)
    assert {one.state for one in cloud.inner.find(Job, parent_id=array.id)} == {JobState.STOPPED}
    cloud.go(MINUTE_US)
    cloud.at_rest()


def test_an_array_that_waits_in_vain_counts_every_child(cloud: SmallCloud) -> None:
    first = cloud.submit("run 5s; exit 1", name="first")
    array = cloud.submit("run 5s", array={"index": "1..4"}, after=["first"])
    last = cloud.submit("run 5s", after=[array.id])
    cloud.until(lambda: cloud.ended(first, array, last))
    done = cloud.job(array)
    assert (done.state, done.reason, done.children_failed) == (JobState.FAILED, "children_failed", 4)
    assert cloud.job(last).reason == "dependency_failed"
    assert not cloud.world.derived.children
    assert not cloud.world.derived.dependents
    assert not cloud.world.derived.parallel


def test_a_schedule_fires_skips_and_ends(cloud: SmallCloud) -> None:
    nightly = cloud.submit("run 90s; exit 0", schedule={"cron": "* * * * *"})
    assert cloud.story(nightly)["waiting"]["reason"] == "scheduled"
    cloud.go(6 * MINUTE_US)
    children = cloud.inner.find(Job, parent_id=nightly.id)
    assert len(children) == 3, "every other minute is left out, as the run before has not ended"
    assert len(cloud.events("schedule_skipped", nightly.id)) >= 2
    cloud.stop(nightly)
    cloud.until(lambda: cloud.ended(nightly))
    assert cloud.job(nightly).state == JobState.STOPPED
    cloud.go(HOUR_US)
    assert len(cloud.inner.find(Job, parent_id=nightly.id)) <= 4
    cloud.at_rest()


# Waiting and plans.


def test_waiting_is_told_with_numbers(cloud: SmallCloud) -> None:
    cloud.submit("run 600s", resources={"gpu": "H100:2"}, max_duration="20m")
    job = cloud.submit("run 5s")
    told = cloud.story(job)["waiting"]
    assert (told["reason"], told["ahead"], told["free"]["gpus_free"]) == ("no_capacity", 0, 0)
    assert "0 of 2 such GPUs are free" in told["text"]
    assert told["starts_us"] > cloud.now_us
    assert told["starts_from"] == "estimates"
    later = cloud.submit("run 5s", after=[job.id])
    told = cloud.story(later)["waiting"]
    assert (told["reason"], told["after"]) == ("dependencies", [job.id])
    cloud.until(lambda: cloud.ended(job, later))
    assert cloud.story(job)["waiting"] is None


def test_an_array_tells_what_its_jobs_do_and_cost(cloud: SmallCloud) -> None:
    array = cloud.submit("run 600s; exit 0", array={"index": "1..30"})
    cloud.go(60 * SECOND_US)
    told = cloud.story(array)
    children = told["children"]
    assert (children["count"], children["states"]) == (30, {"running": 2, "queued": 28})
    assert [job.array_index for job in children["jobs"]] == list(range(1, 21))
    assert told["waiting"]["reason"] == children["jobs"][-1].reason == "no_capacity"
    single = cloud.story(children["jobs"][0])["cost"]
    assert 0 < single.total_nano < told["cost"].total_nano
    assert told["cost"].per_hour_nano == 2 * single.per_hour_nano == 7_200_000_000
    cloud.stop(array)
    cloud.until(lambda: cloud.ended(array))
    cloud.go(HOUR_US)
    told = cloud.story(array)
    where = cloud.ask(charges_filter, cloud.adam, array.id, None)
    charges = cloud.inner.find(Charge, limit=1000, **where)
    assert told["cost"].charged_nano == sum(charge.amount_nano for charge in charges) > 0
    assert {charge.job_id for charge in charges} == {job.id for job in told["children"]["jobs"] if job.started_us}
    assert told["children"]["states"] == {"stopped": 30}


def test_a_list_says_why_queued_jobs_wait_now(cloud: SmallCloud) -> None:
    cloud.run(put_quota, cloud.adam, scope=Scope.MEMBER, scope_id=cloud.anna.member_id, gpu_milli=2000)
    running = cloud.submit("run 600s", resources={"gpu": "H100:2"})
    waits = cloud.submit("run 5s")
    array = cloud.submit("run 5s", array={"index": "0..3"})
    found = cloud.ask(waiting_reasons, [job.id for job in (running, waits, array)])
    assert found == {waits.id: "quota", array.id: "quota"}


def test_a_quota_holds_jobs_back_and_says_so(cloud: SmallCloud) -> None:
    cloud.run(put_quota, cloud.adam, scope=Scope.MEMBER, scope_id=cloud.anna.member_id, gpu_milli=1000)
    first, second = cloud.submit("run 60s"), cloud.submit("run 60s")
    assert [cloud.job(one).state for one in (first, second)] == [JobState.STARTING, JobState.QUEUED]
    told = cloud.story(second)["waiting"]
    assert (told["reason"], told["quota"]["held"], told["quota"]["limit"]) == ("quota", 1000, 1000)
    cloud.until(lambda: cloud.ended(first, second))
    assert cloud.allocations(second)[0].held_us >= (cloud.allocations(first)[0].released_us or 0)


def test_a_plan_counts_in_what_a_job_waits_for(cloud: SmallCloud) -> None:
    def planned(**more: Any) -> dict[str, Any]:
        told: dict[str, Any] = cloud.ask(plan, cloud.anna, cloud.document(**more), project="default", env={})
        return told

    running = cloud.submit("run 60s")
    told = planned(after=[running.id])
    assert (told["would"], told["waiting"]["after"]) == ("wait", [running.id])
    assert told["text"] == f"It waits for 1 other job: {running.id}. There is room for it now."
    told = planned(schedule={"cron": "0 3 * * *"})
    assert (told["would"], told["waiting"]["reason"]) == ("wait", "schedule")
    assert told["starts_us"] > cloud.now_us
    cloud.stop(running)
    cloud.until(lambda: cloud.ended(running))
    assert planned(after=[running.id])["would"] == "be_refused"
    with pytest.raises(NotFound):
        planned(after=["nobody"])


def test_a_plan_says_what_submit_then_does(cloud: SmallCloud) -> None:
    def planned(**more: Any) -> dict[str, Any]:
        told: dict[str, Any] = cloud.ask(plan, cloud.anna, cloud.document(**more), project="default", env={})
        return told

    told = planned(max_duration="1h")
    assert (told["would"], told["per_hour_nano"], told["most_nano"]) == ("start", 3_600_000_000, 3_600_000_000)
    job = cloud.submit("run 600s", resources={"gpu": "H100:2"}, max_duration="20m")
    cloud.submit("run 5s", priority=10)
    told = planned()
    assert (told["would"], told["waiting"]["reason"], told["waiting"]["ahead"]) == ("wait", "no_capacity", 0)
    assert told["starts_us"] is not None
    assert planned(resources={"gpu": "H100:3"})["code"] == "impossible_request"
    assert planned(unknown=1)["would"] == "be_refused"
    assert len(cloud.inner.find(Job)) == 2, "a plan stores nothing"
    cloud.stop(job)


def test_a_plan_does_not_take_our_failure_for_the_callers(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise StoreFailed("The database is locked.")

    monkeypatch.setattr("headframe.control.queries.prepare", broken)
    with pytest.raises(StoreFailed):
        plan(cloud.world, cloud.context(), cloud.anna, {})


def test_jobs_are_found_by_id_beginning_and_name_but_not_by_strangers(cloud: SmallCloud) -> None:
    job = cloud.submit(name="train")
    for ref in (job.id, job.id[:-1] + job.id[-1], "train"):
        assert cloud.ask(find_job, cloud.anna, ref).id == job.id
    stranger = type(cloud.anna)("org_other", "mem_other", "key_other", Role.OWNER)
    for ref in (job.id, "train", "job_", "job_%"):
        with pytest.raises(NotFound):
            cloud.ask(find_job, stranger, ref)


# The fleet.


def test_a_drained_node_takes_nothing_new_until_it_is_resumed(cloud: SmallCloud) -> None:
    running = cloud.submit("run 100s; exit 0")
    cloud.until(cloud.is_(running, JobState.RUNNING))
    with pytest.raises(Forbidden):
        cloud.run(drain_node, cloud.adam, "node-0", reason="fans")
    cloud.run(drain_node, cloud.owner, "node-0", reason="fans")
    waits = cloud.submit("run 5s; exit 0")
    cloud.until(lambda: cloud.ended(running))
    cloud.go(5 * MINUTE_US)
    assert cloud.job(running).state == JobState.SUCCEEDED
    assert cloud.job(waits).state == JobState.QUEUED
    assert "no node is ready" in cloud.story(waits)["waiting"]["text"]
    cloud.run(resume_node, cloud.owner, "node-0")
    cloud.until(lambda: cloud.ended(waits))


def test_a_drain_outlives_the_death_and_return_of_its_node(cloud: SmallCloud) -> None:
    cloud.run(drain_node, cloud.owner, "node-0", reason="fans")
    cloud.engine.kill_node("nod_0")
    cloud.go(2 * MINUTE_US)
    cloud.engine.revive_node("nod_0")
    cloud.go(2 * MINUTE_US)
    node = cloud.world.all(Node)["nod_0"]
    assert (node.state, node.reason) == (NodeState.DRAINING, "fans")


def test_a_node_that_is_down_is_not_resumed_by_order(cloud: SmallCloud) -> None:
    cloud.engine.kill_node("nod_0")
    cloud.go(SECOND_US)
    with pytest.raises(Conflict, match="is down"):
        cloud.run(resume_node, cloud.owner, "node-0")
    assert cloud.world.all(Node)["nod_0"].state == NodeState.DOWN


# Limits.


def test_a_budget_stops_jobs_in_time_and_new_ones_wait(cloud: SmallCloud) -> None:
    cloud.run(put_budget, cloud.adam, scope=Scope.ORGANIZATION, amount="1 USD")
    job = cloud.submit("run 5000s")
    cloud.until(lambda: cloud.ended(job))
    done = cloud.job(job)
    assert (done.state, done.reason) == (JobState.STOPPED, "budget_exhausted")
    cloud.settle()
    spent = sum(one.amount_nano for one in cloud.inner.find(Charge, organization_id=cloud.lab.id))
    assert 950_000_000 < spent <= 1_000_000_000
    waits = cloud.submit("run 5s")
    assert cloud.story(waits)["waiting"]["reason"] == "budget_exhausted"
    cloud.until(lambda: cloud.ended(waits), DAY_US)
    assert cloud.job(waits).state == JobState.SUCCEEDED, "the next month has a budget of its own"


def test_prepaid_credit_stops_jobs_in_time(cloud: SmallCloud) -> None:
    cloud.run(change_organization, cloud.owner, cloud.lab.id, prepaid=True)
    blocked = cloud.submit("run 3000s")
    assert cloud.story(blocked)["waiting"]["reason"] == "credit_exhausted"
    cloud.run(grant_credit, cloud.owner, organization="lab", amount="2 USD", note="paid")
    cloud.until(lambda: cloud.ended(blocked))
    assert cloud.job(blocked).reason == "credit_exhausted"
    assert sum(one.amount_nano for one in cloud.inner.find(Charge, organization_id=cloud.lab.id)) <= 2_000_000_000
    assert cloud.events("credit_exhausted")


def test_prepaid_credit_pays_for_every_start_or_nothing_starts(cloud: SmallCloud) -> None:
    cloud.run(change_organization, cloud.owner, cloud.lab.id, prepaid=True)
    quick = {"resources": {"gpu": 1, "cpu": 0.1, "memory": "64MB"}}  # a minute of it is the least that is charged
    first, second = (cloud.submit("run 1s; exit 0", **quick) for _ in range(2))
    cloud.run(grant_credit, cloud.owner, organization="lab", amount="0.001 USD", note="hardly anything")
    assert cloud.story(first)["waiting"]["reason"] == "credit_exhausted"
    cloud.run(grant_credit, cloud.owner, organization="lab", amount="0.06 USD", note="one start, not two")
    cloud.until(lambda: cloud.ended(first))
    assert cloud.job(first).state == JobState.SUCCEEDED
    assert cloud.job(second).state == JobState.QUEUED, "what is left does not pay for another minute"
    charged = sum(one.amount_nano for one in cloud.inner.find(Charge, organization_id=cloud.lab.id))
    assert 0 < charged <= 61_000_000, "the credit was not overdrawn"


# The thread that drives the loop.


class Still:
    def now_us(self) -> int:
        return 1_900_000_000_000_000


def driver(cloud: SmallCloud) -> Control:
    cloud.after_tick = lambda: None
    return Control(cloud.loop, Still(), {}, cloud.inner, None, None, None)  # type: ignore[arg-type]


def test_who_still_waits_when_the_server_closes_is_answered(cloud: SmallCloud) -> None:
    control = driver(cloud)
    control.start()
    inside, go_on = threading.Event(), threading.Event()

    def slow(world: Any, context: Any) -> None:
        inside.set()
        go_on.wait(10)

    errors: list[BaseException] = []

    def ask(question: Any) -> None:
        try:
            control.ask(question)
        except TooBusy as error:
            errors.append(error)

    first = threading.Thread(target=ask, args=(slow,))
    first.start()
    assert inside.wait(10)
    control._closing = True
    second = threading.Thread(target=ask, args=(lambda world, context: None,))
    second.start()
    go_on.set()
    control.close()
    first.join(10)
    second.join(10)
    assert not first.is_alive()
    assert not second.is_alive()
    with pytest.raises(TooBusy, match="closing"):
        control.ask(lambda world, context: None)
    assert all("closing" in str(error) for error in errors)


def test_a_listener_that_fails_does_not_undo_what_is_on_record(cloud: SmallCloud) -> None:
    control = driver(cloud)

    def deaf(events: Any) -> None:
        raise RuntimeError("the connection is gone")

    end = control.subscribe(deaf)
    job = cloud.submit("run 5s; exit 0")
    assert cloud.job(job).state == JobState.STARTING
    assert {type(error) for error in cloud.complaints} == {RuntimeError}
    cloud.complaints.clear()
    end()
    cloud.until(lambda: cloud.ended(job))


# Nothing grows for ever.


def test_what_is_kept_in_memory_goes_with_the_jobs(cloud: SmallCloud) -> None:
    cloud.after_tick = lambda: None
    for _ in range(600):
        job = cloud.submit("run 1s; exit 1 | run 1s; exit 0", max_duration="300d", retry={"on": ["error"], "max": 1})
        cloud.run(stop_job, cloud.anna, job.id)
        if len(cloud.world.all(Job)) > 50:
            cloud.go(30 * SECOND_US)
    for _ in range(400):
        cloud.submit("run 1s; exit 0", max_duration="300d", resources={"gpu": "H100:0.1"})
        cloud.go(3 * SECOND_US)
    cloud.go(5 * MINUTE_US)
    cloud.at_rest()
    one, spending = cloud.world.derived, cloud.loop.spending
    kept = (one.held, one.unsettled, one.attempt, one.children, one.dependents, one.parallel, one.running_children)
    assert not any(kept)
    assert len(one.queue) == 0
    assert len(one.timers) <= 1000
    assert not any((spending._lines, spending._places, spending.released, spending.hours, spending.payments))
    assert not any(payer[0] == "job" for payer in spending.spent)


def test_timers_of_ended_jobs_are_swept(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headframe.control.derived.LEFTOVERS", 3)
    for _ in range(10):
        job = cloud.submit("run 1s; exit 0", max_duration="300d")
        cloud.until(lambda job=job: cloud.ended(job))  # type: ignore[misc]
    assert len(cloud.world.derived.timers) <= 5
    late = cloud.submit("run 900s", max_duration="10s")
    cloud.until(lambda: cloud.ended(late))
    assert cloud.job(late).reason == "max_duration"


def test_a_command_that_changes_nothing_writes_nothing(cloud: SmallCloud) -> None:
    commits = cloud.store.commits
    cloud.run(lambda world, context: (Changes(), None))
    assert cloud.store.commits == commits
