"""Reservations through the whole loop: promised, kept, cleared in time, ended; refused when they overlap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from small_cloud import SmallCloud, same_when_reloaded

from headframe.base.errors import (
    Conflict,
    Forbidden,
    Impossible,
    Invalid,
    InvalidSpec,
    NotFound,
    Overlap,
    QuotaExceeded,
)
from headframe.base.quantities import DAY_US, HOUR_US, MINUTE_US, SECOND_US, format_moment, format_second
from headframe.control.commands_access import put_quota
from headframe.control.commands_reservations import cancel_reservation, create_reservation, find_reservation
from headframe.control.commands_tenancy import create_member, create_organization
from headframe.fleet.records import Reservation, ReservationState
from headframe.jobs.records import Job, JobState
from headframe.tenants.records import Role, Scope
from headframe.tenants.roles import Caller


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    made = SmallCloud(nodes=2)
    yield made
    same_when_reloaded(made)
    assert not made.complaints
    made.close()


def reserve(cloud: SmallCloud, name: str = "run", begin_us: int = 0, lasts: str = "1h", **more: Any) -> Reservation:
    """Two H100 for the lab, by the operator."""
    if begin_us:
        more["starts"] = format_moment(cloud.now_us + begin_us)
    more = {"kind": "H100", "count": None if "nodes" in more else 2, "organization": "lab", **more}
    made: Reservation = cloud.run(create_reservation, more.pop("caller", cloud.owner), name=name, lasts=lasts, **more)
    return made


def state(cloud: SmallCloud, made: Reservation) -> Reservation:
    found = cloud.inner.get(Reservation, made.id)
    assert isinstance(found, Reservation)
    return found


def kinds(cloud: SmallCloud, made: Reservation) -> list[str]:
    return [event.kind for event in cloud.events(subject=made.id)]


def test_a_reservation_begins_runs_its_jobs_and_nobody_elses_and_ends(cloud: SmallCloud) -> None:
    made = reserve(cloud, begin_us=10 * MINUTE_US, lasts="30m")
    inside = cloud.submit("run 5m; exit 0", reservation="run")
    assert cloud.job(inside).state == JobState.QUEUED
    assert cloud.job(inside).spec.reservation == made.id
    told = cloud.story(inside)["waiting"]
    assert told["reason"] == "reservation_not_begun"
    others = [cloud.submit("run 2h; exit 0") for _ in range(4)]
    running = [one for one in others if cloud.job(one).state != JobState.QUEUED]
    assert len(running) == 2, "what need not have ended keeps off the place of the reservation"
    cloud.until(lambda: state(cloud, made).state == ReservationState.ACTIVE)
    cloud.go(SECOND_US)
    assert cloud.job(inside).state == JobState.RUNNING
    nodes = {part.node_id for part in cloud.allocations(inside)[0].slices}
    assert nodes <= {part.node_id for part in made.slices}
    assert [cloud.job(one).state for one in others].count(JobState.QUEUED) == 2
    cloud.until(lambda: state(cloud, made).state == ReservationState.ENDED)
    assert kinds(cloud, made) == ["reservation_created", "reservation_began", "reservation_ended"]
    cloud.go(SECOND_US)
    assert [cloud.job(one).state for one in others].count(JobState.QUEUED) == 0, "then the place is everybody's"


def test_a_job_that_ends_in_time_runs_where_a_reservation_begins_later(cloud: SmallCloud) -> None:
    reserve(cloud, begin_us=10 * MINUTE_US, nodes=2)
    short = cloud.submit("run 5m; exit 0", max_duration="6m")
    long = cloud.submit("run 5m; exit 0", max_duration="30m")
    endless = cloud.submit("run 5m; exit 0")
    states = [cloud.job(one).state for one in (short, long, endless)]
    assert states == [JobState.STARTING, JobState.QUEUED, JobState.QUEUED]


def test_whoever_is_still_there_goes_in_time_and_is_warned(cloud: SmallCloud) -> None:
    """A job that took long to prepare would run into the reservation, whatever its max_duration promised."""
    late = cloud.submit("prepare 9m; run 5m; exit 0", max_duration="6m", warn_before_stop="30s",
                        resources={"gpu": "H100:2"})  # fmt: skip
    spot = cloud.submit("run 5h; exit 0", purchase="spot", resources={"gpu": "H100:2"})
    made = reserve(cloud, begin_us=10 * MINUTE_US, nodes=2)
    cloud.until(lambda: state(cloud, made).state == ReservationState.ACTIVE)
    assert not cloud.world.derived.held, "the place is empty when the reservation begins"
    assert cloud.job(late).reason == "retry_after_preemption"
    assert [event.kind for event in cloud.events(subject=late.id)].count("job_warned") == 1
    assert cloud.job(spot).state == JobState.QUEUED


def test_spot_jobs_use_a_place_that_is_reserved_for_later(cloud: SmallCloud) -> None:
    reserve(cloud, begin_us=HOUR_US, nodes=2)
    spot = cloud.submit("run 5h; exit 0", purchase="spot")
    assert cloud.job(spot).state == JobState.STARTING
    cloud.go(50 * MINUTE_US)
    late = cloud.submit("run 5h; exit 0", purchase="spot")
    assert cloud.job(late).state == JobState.QUEUED, "ten minutes before it begins is too late to start"


def test_who_makes_way_frees_no_place_that_is_reserved_for_later(cloud: SmallCloud) -> None:
    spots = [cloud.submit("run 5h; exit 0", purchase="spot", resources={"gpu": "H100:2"}) for _ in range(2)]
    made = reserve(cloud, begin_us=HOUR_US)
    endless = cloud.submit("run 5h; exit 0", resources={"gpu": "H100:2"})
    cloud.go(MINUTE_US)
    reserved = {share.accelerator_id for part in made.slices for share in part.shares}
    (held,) = cloud.allocations(endless)
    assert not reserved & {share.accelerator_id for part in held.slices for share in part.shares}
    more = cloud.submit("run 5h; exit 0", resources={"gpu": "H100:1"})
    cloud.go(MINUTE_US)
    assert cloud.job(more).state == JobState.QUEUED, "nobody is stopped for a place that it could not keep"
    assert sum(cloud.job(one).state == JobState.RUNNING for one in spots) == 1


def test_jobs_are_stopped_with_warning_when_their_reservation_ends(cloud: SmallCloud) -> None:
    made = reserve(cloud, lasts="10m")
    inside = cloud.submit("run 5h; exit 0", purchase="reserved", warn_before_stop="1m", resources={"gpu": "H100:2"})
    waits = cloud.submit("run 5h; exit 0", purchase="reserved", array={"index": "0..2"})
    cloud.until(lambda: state(cloud, made).state == ReservationState.ENDED)
    assert cloud.now_us - made.to_us < SECOND_US
    assert (cloud.job(inside).state, cloud.job(inside).reason) == (JobState.STOPPED, "reservation_ended")
    assert not cloud.world.derived.held
    (warned,) = cloud.events("job_warned", inside.id)
    assert 60 * SECOND_US < made.to_us - warned.at_us < 90 * SECOND_US
    cloud.go(SECOND_US)
    assert cloud.job(waits).state == JobState.STOPPED, "what waits for it ends with it, arrays as a whole"


def test_overlaps_beyond_what_there_is_are_refused_by_name(cloud: SmallCloud) -> None:
    first = reserve(cloud, begin_us=HOUR_US, nodes=2)
    with pytest.raises(Overlap) as refused:
        reserve(cloud, "other", begin_us=90 * MINUTE_US)
    assert "0 of the 2 H100 accelerators" in refused.value.message
    assert "run (" in refused.value.message
    assert refused.value.details["overlaps"] == [
        {"reservation": first.id, "from_us": first.from_us, "to_us": first.to_us}
    ]
    behind = reserve(cloud, "behind", begin_us=2 * HOUR_US)
    assert behind.from_us >= first.to_us, "one may begin when another ends"
    with pytest.raises(Conflict, match="already"):
        reserve(cloud, begin_us=20 * HOUR_US)


def test_what_endless_jobs_hold_cannot_be_promised(cloud: SmallCloud) -> None:
    for _ in range(3):
        cloud.submit("run 5h; exit 0")
    with pytest.raises(Overlap, match="without an end in sight"):
        reserve(cloud, begin_us=HOUR_US)
    one = reserve(cloud, count=1)
    free = {device.id for device in cloud.devices} - {
        share.accelerator_id for held in cloud.world.derived.held.values() for part in held.slices
        for share in part.shares
    }  # fmt: skip
    assert {share.accelerator_id for part in one.slices for share in part.shares} == free


def test_others_reservations_are_named_to_nobody_but_the_operator(cloud: SmallCloud) -> None:
    reserve(cloud, "secret-plan", nodes=2)
    cloud.run(create_organization, cloud.owner, name="rival")
    rival = next(one for one in cloud.world.all(type(cloud.lab)).values() if one.name == "rival")
    cloud.run(put_quota, cloud.owner, scope=Scope.ORGANIZATION, scope_id=rival.id, gpu_milli=8000)
    member = cloud.run(create_member, cloud.owner, name="boss", role=Role.ADMIN, organization="rival")
    boss = Caller(rival.id, member.id, "key_boss", Role.ADMIN)
    with pytest.raises(Overlap) as refused:
        reserve(cloud, "mine", caller=boss, organization=None)
    assert "another organization" in refused.value.message
    assert "secret-plan" not in str(refused.value.details) + str(refused.value)
    with pytest.raises(NotFound):
        cloud.ask(find_reservation, boss, "secret-plan")


def test_tenants_reserve_within_their_quota_and_only_with_the_right(cloud: SmallCloud) -> None:
    mine: dict[str, Any] = {"organization": None, "caller": cloud.adam}
    with pytest.raises(Forbidden, match="quota"):
        reserve(cloud, **mine)
    cloud.run(put_quota, cloud.owner, scope=Scope.ORGANIZATION, scope_id=cloud.lab.id, gpu_milli=3000)
    with pytest.raises(Forbidden, match="right"):
        reserve(cloud, organization=None, caller=cloud.anna)
    reserve(cloud, **mine)
    with pytest.raises(QuotaExceeded, match="4 would be reserved"):
        reserve(cloud, "more", **mine)
    reserve(cloud, "later", begin_us=2 * HOUR_US, **mine)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lasts": "10s"}, {"lasts": "400d"}, {"lasts": "-3d"}, {"lasts": "nan"}, {"count": 0}, {"count": 10**9},
        {"nodes": 1, "count": 1}, {"count": None}, {"kind": " "}, {"starts": "2020-01-01"}, {"starts": "2200-01-01"},
        {"starts": "never"}, {"name": "Not A Name"}, {"ends": "2027-01-01"},
    ],
)  # fmt: skip
def test_contradictory_values_are_refused(cloud: SmallCloud, wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        reserve(cloud, **wrong)


def test_a_failed_node_moves_a_reservation_and_what_has_no_place_is_told(cloud: SmallCloud) -> None:
    made = reserve(cloud, begin_us=HOUR_US)
    (first,) = {part.node_id for part in made.slices}
    (second,) = {node.id for node in cloud.nodes} - {first}
    cloud.engine.kill_node(first)
    cloud.go(SECOND_US)
    assert {part.node_id for part in state(cloud, made).slices} == {second}
    cloud.engine.kill_node(second)
    cloud.go(SECOND_US)
    assert (state(cloud, made).lacking, state(cloud, made).slices) == (2, ())
    cloud.engine.revive_node(first)
    cloud.go(SECOND_US)
    assert state(cloud, made).lacking == 0
    assert kinds(cloud, made)[1:] == ["reservation_moved", "reservation_short", "reservation_mended"]


def test_who_holds_the_place_to_which_a_running_reservation_moves_goes_at_once(cloud: SmallCloud) -> None:
    made = reserve(cloud)
    spot = cloud.submit("run 5h; exit 0", purchase="spot", resources={"gpu": "H100:2"})
    cloud.go(MINUTE_US)
    (first,) = {part.node_id for part in made.slices}
    cloud.engine.kill_node(first)
    cloud.until(lambda: state(cloud, made).slices != made.slices)
    assert state(cloud, made).lacking == 0
    assert cloud.job(spot).state == JobState.STOPPING


def test_a_place_that_frees_up_later_is_found(cloud: SmallCloud) -> None:
    made = reserve(cloud, begin_us=HOUR_US)
    (first,) = {part.node_id for part in made.slices}
    holder = cloud.submit("run 10m; exit 0", resources={"gpu": "H100:2"})
    cloud.engine.kill_node(first)
    cloud.go(SECOND_US)
    assert state(cloud, made).lacking == 2, "a job without an end holds the other node"
    cloud.until(lambda: cloud.ended(holder))
    cloud.go(20 * SECOND_US)
    assert state(cloud, made).lacking == 0


def test_cancelling_gives_the_place_back_and_stops_its_jobs(cloud: SmallCloud) -> None:
    made = reserve(cloud, nodes=2, lasts="5h")
    inside = cloud.submit("run 2h; exit 0", reservation=made.name)
    outside = cloud.submit("run 2h; exit 0")
    cloud.go(SECOND_US)
    assert cloud.job(outside).state == JobState.QUEUED
    with pytest.raises(Forbidden):
        cloud.run(cancel_reservation, cloud.anna, "run")
    cancelled = cloud.run(cancel_reservation, cloud.owner, "run", reason="not needed")
    assert cancelled.state == ReservationState.CANCELLED
    cloud.go(MINUTE_US)
    assert cloud.job(inside).reason == "reservation_ended"
    assert cloud.job(outside).state == JobState.RUNNING
    assert cloud.run(cancel_reservation, cloud.owner, made.id) == cancelled, "a repeat changes nothing"


def test_a_job_names_a_reservation_that_it_may_use(cloud: SmallCloud) -> None:
    for wrong in ({"purchase": "reserved"}, {"reservation": "no-such"}):
        with pytest.raises(Invalid, match="no reservation"):
            cloud.submit(**wrong)
    reserve(cloud, "one", count=1)
    reserve(cloud, "two", count=1)
    with pytest.raises(Invalid, match="several"):
        cloud.submit(purchase="reserved")
    with pytest.raises(InvalidSpec, match="purchase"):
        cloud.submit(reservation="one", purchase="spot")
    assert cloud.job(cloud.submit(reservation="two")).spec.purchase == "reserved"


def test_a_job_is_told_that_its_reservation_is_in_use(cloud: SmallCloud) -> None:
    reserve(cloud, "one", count=1)
    first = cloud.submit("run 30m; exit 0", reservation="one")
    second = cloud.submit("run 30m; exit 0", reservation="one")
    assert cloud.job(first).state == JobState.STARTING
    assert "is in use now" in cloud.story(second)["waiting"]["text"]
    with pytest.raises(Impossible, match="one could never hold 2 x H100"):
        cloud.submit("run 30m; exit 0", reservation="one", resources={"gpu": "H100:2"})


def test_a_program_that_starts_again_keeps_reservations(cloud: SmallCloud) -> None:
    made = reserve(cloud, begin_us=10 * MINUTE_US, nodes=2)
    cloud.boot()
    job = cloud.submit("run 2h; exit 0")
    assert cloud.job(job).state == JobState.QUEUED
    cloud.until(lambda: state(cloud, made).state == ReservationState.ACTIVE)
    cloud.boot()
    cloud.go(HOUR_US + MINUTE_US)
    assert state(cloud, made).state == ReservationState.ENDED
    assert cloud.job(job).state == JobState.RUNNING


# Far-off reservations and jobs of which nobody knows how long they run.


def devices(cloud: SmallCloud, job: Job) -> set[str]:
    (*_, last) = cloud.allocations(job)
    return {share.accelerator_id for part in last.slices for share in part.shares}


def promised(cloud: SmallCloud, made: Reservation) -> set[str]:
    return {share.accelerator_id for part in state(cloud, made).slices for share in part.shares}


def test_a_reservation_far_off_keeps_nobody_out_who_comes_back(cloud: SmallCloud) -> None:
    made = reserve(cloud, begin_us=3 * DAY_US, nodes=2)
    endless = [cloud.submit("run 900h; exit 0", warn_before_stop="5m") for _ in range(4)]
    assert all(cloud.job(one).state == JobState.STARTING for one in endless)
    (told,) = [one for one in cloud.events(subject=endless[0].id) if one.kind == "job_starting"]
    assert f"reserved from {format_second(made.from_us)}" in told.reason
    cloud.go(made.from_us - cloud.now_us)
    assert not cloud.world.derived.held, "all are gone when it begins"
    assert {cloud.job(one).reason for one in endless} == {"retry_after_preemption"}
    assert all(len(cloud.events("job_warned", one.id)) == 1 for one in endless)
    cloud.until(lambda: state(cloud, made).state == ReservationState.ENDED)
    cloud.go(SECOND_US)
    assert all(len(cloud.attempts(one)) == 2 for one in endless), "and they go on after it"


def test_what_saves_nothing_keeps_off_a_reservation_of_today(cloud: SmallCloud) -> None:
    reserve(cloud, begin_us=5 * HOUR_US, nodes=2)
    afresh, never = cloud.submit("run 9h; exit 0"), cloud.submit("run 9h; exit 0", retry={"on": ["error"]})
    assert {cloud.job(one).state for one in (afresh, never)} == {JobState.QUEUED}
    saves = cloud.submit("run 9h; checkpoint 5m; exit 0", checkpoints={"path": "ckpt"})
    assert cloud.job(saves).state == JobState.STARTING
    answer = cloud.story(afresh)["waiting"]
    assert (answer["reason"], answer["reservations"]) == ("reserved", ["run"])
    assert "for run from" in answer["text"]
    changes = [one["change"] for one in answer["would_start_now"]]
    assert {"checkpoints": {"path": "checkpoints"}} in changes
    assert {"max_duration": "299m"} in changes
    changes = [one["change"] for one in cloud.story(never)["waiting"]["would_start_now"]]
    assert {"retry": {"on": ["error", "preemption"], "max": 3}, "checkpoints": {"path": "checkpoints"}} in changes


def test_what_may_never_be_stopped_is_never_put_on_a_reserved_place(cloud: SmallCloud) -> None:
    made = reserve(cloud, begin_us=300 * DAY_US)
    jobs = [cloud.submit("run 9000h; exit 0", retry={"on": ["error"]}) for _ in range(4)]
    running = [one for one in jobs if cloud.job(one).state == JobState.STARTING]
    assert len(running) == 2, "only what the reservation needs is withheld"
    assert not promised(cloud, made) & set().union(*(devices(cloud, one) for one in running))


def test_runs_that_were_learned_count_for_a_job_without_a_promise(cloud: SmallCloud) -> None:
    for number in range(4):
        cloud.submit("run 5m; exit 0", name=f"fit-{number}")
    cloud.go(HOUR_US)
    reserve(cloud, begin_us=5 * HOUR_US, nodes=2)
    assert cloud.job(cloud.submit("run 5m; exit 0", name="fit-99")).state == JobState.STARTING
    assert cloud.job(cloud.submit("run 5m; exit 0", name="other")).state == JobState.QUEUED


def test_a_reservation_gives_way_to_a_running_job_when_another_place_is_free(cloud: SmallCloud) -> None:
    made = reserve(cloud, begin_us=3 * DAY_US)
    endless = [cloud.submit("run 900h; exit 0") for _ in range(4)]
    free = [one for one in endless if not devices(cloud, one) & promised(cloud, made)]
    for one in free:
        cloud.stop(one)
    cloud.go(made.from_us - cloud.now_us + MINUTE_US)
    assert "reservation_moved" in kinds(cloud, made)
    stayed = [one for one in endless if one not in free]
    assert all(len(cloud.attempts(one)) == 1 and cloud.job(one).state == JobState.RUNNING for one in stayed)
    assert state(cloud, made).state == ReservationState.ACTIVE
    inside = cloud.submit("run 5m; exit 0", reservation="run", resources={"gpu": "H100:2"})
    cloud.until(cloud.is_(inside, JobState.RUNNING), MINUTE_US)


def test_cores_that_are_reserved_are_given_back_in_time(cloud: SmallCloud) -> None:
    """Jobs without GPUs take the cores of a far reservation, and go as far as it needs them."""
    made = reserve(cloud, begin_us=3 * DAY_US)
    (part,) = made.slices
    size = {"gpu": None, "cpu": 1, "memory": "1GB"}
    jobs = [cloud.submit("run 900h; exit 0", resources=size) for _ in range(40)]
    assert min(cloud.world.derived.capacity.cpu) < 1000
    cloud.go(made.from_us - cloud.now_us + MINUTE_US)
    capacity = cloud.world.derived.capacity
    assert capacity.cpu[capacity.row[part.node_id]] >= part.cpu_milli
    gone = [one for one in jobs if len(cloud.attempts(one)) == 1 and cloud.job(one).state == JobState.QUEUED]
    assert len(gone) > 0, "as many as that takes"
    inside = cloud.submit("run 5m; exit 0", reservation="run", resources={"gpu": "H100:2"})
    cloud.until(cloud.is_(inside, JobState.RUNNING), MINUTE_US)


def test_a_job_that_could_never_run_in_its_reservation_is_refused_with_the_nearest(cloud: SmallCloud) -> None:
    reserve(cloud, begin_us=HOUR_US)
    with pytest.raises(Impossible) as refused:
        cloud.submit("run 1m; exit 0", reservation="run", resources={"gpu": "H100:2"}, nodes=2)
    assert "The reservation run could never hold" in refused.value.message
    assert "2 x H100" in refused.value.next_step
    assert "of such tasks 1 fit at once" in refused.value.next_step
    cloud.submit("run 1m; exit 0", reservation="run", resources={"gpu": "H100:2"})


def test_what_nobody_reserved_is_taken_first(cloud: SmallCloud) -> None:
    made = reserve(cloud, begin_us=30 * DAY_US)
    endless = [cloud.submit("run 900h; exit 0") for _ in range(2)]
    assert not promised(cloud, made) & set().union(*(devices(cloud, one) for one in endless))
    never = cloud.submit("run 900h; exit 0", retry={"on": ["error"]})
    assert cloud.job(never).state == JobState.QUEUED
    short = cloud.submit("run 5m; exit 0", max_duration="10m")
    assert devices(cloud, short) <= promised(cloud, made)


def test_what_is_not_there_is_told_as_such(cloud: SmallCloud) -> None:
    with pytest.raises(Overlap, match="there are none here"):
        reserve(cloud, kind="B200")
    with pytest.raises(Overlap, match=r"Only 4 of the 9 H100 accelerators .* there are 4 here"):
        reserve(cloud, count=9)
    with pytest.raises(Invalid, match="Allowed: now, or a moment"):
        reserve(cloud, starts="2020-01-01T00:00:00Z")
