"""Usage records tile an allocation, cut where its state changes and at each hour."""

from __future__ import annotations

from dataclasses import replace

from headframe.base.quantities import HOUR_US, SECOND_US, parse_moment_us
from headframe.fleet.records import Allocation, Share, Slice
from headframe.metering.meter import meter, quantities


def moment(text: str) -> int:
    return parse_moment_us(text, field="moment")


def held(at: str, running: str | None = None, released: str | None = None) -> Allocation:
    shares = (Share("acc_1", 0, "H100", 1000), Share("acc_2", 1, "H100", 500), Share("acc_3", 2, "L4", 1000))
    return Allocation(
        "alc_1", "org_1", "prj_1", "mem_1", "job_1", "cls_1", 1, "on-demand",
        (Slice(0, "nod_1", 4000, 2048, 0, shares), Slice(1, "nod_2", 4000, 2048, 0, shares)),
        moment(at),
        running_us=moment(running) if running else None,
        released_us=moment(released) if released else None,
    )  # fmt: skip


def test_quantities_are_those_of_all_slices_together() -> None:
    assert quantities(held("2026-11-01").slices) == {"cpu": 8000, "gpu:H100": 3000, "gpu:L4": 2000, "memory": 4096}


def test_cut_at_the_start_of_running_and_at_every_hour() -> None:
    allocation = held("2026-11-30T22:59:00Z", "2026-11-30T22:59:30Z", "2026-12-01T00:00:30Z")
    records, after = meter(allocation, "reg_1", moment("2026-12-02"))
    assert [(each.state, (each.to_us - each.from_us) // SECOND_US, each.last) for each in records] == [
        ("provisioning", 30, False),
        ("running", 30, False),
        ("running", 3600, False),
        ("running", 30, True),
    ]
    assert [each.id for each in records] == ["alc_1.0", "alc_1.1", "alc_1.2", "alc_1.3"]
    assert [each.running_before_us // SECOND_US for each in records] == [0, 0, 30, 3630]
    assert after.settled
    assert after.running_metered_us == 3660 * SECOND_US
    assert after.version == allocation.version + 1


def test_the_last_microsecond_of_a_month_belongs_to_it() -> None:
    allocation = held("2026-11-30T23:00:00Z", "2026-11-30T23:59:59.999999Z", "2026-12-01T00:00:00.000001Z")
    records, _ = meter(allocation, "reg_1", moment("2026-12-02"))
    midnight = moment("2026-12-01")
    assert [(each.state, each.from_us - midnight, each.to_us - midnight) for each in records] == [
        ("provisioning", -HOUR_US, -1),
        ("running", -1, 0),
        ("running", 0, 1),
    ]


def test_an_open_allocation_is_metered_as_far_as_asked_and_goes_on_from_there() -> None:
    allocation = held("2026-11-01T10:30:00Z", "2026-11-01T10:30:00Z")
    first, allocation = meter(allocation, "reg_1", moment("2026-11-01T12:00:00Z"))
    assert not allocation.settled
    again, same = meter(allocation, "reg_1", moment("2026-11-01T12:00:00Z"))
    assert again == ()
    assert same.records == allocation.records
    rest, done = meter(replace(allocation, released_us=moment("2026-11-01T12:00:01Z")), "reg_1", moment("2026-11-02"))
    assert [each.id for each in (*first, *rest)] == ["alc_1.0", "alc_1.1", "alc_1.2"]
    assert [each.last for each in (*first, *rest)] == [False, False, True]
    assert done.settled


def test_what_never_ran_is_provisioning_and_what_took_no_time_is_no_record() -> None:
    records, after = meter(held("2026-11-01", None, "2026-11-01T00:00:05Z"), "reg_1", moment("2026-11-02"))
    assert [each.state for each in records] == ["provisioning"]
    assert not records[0].last
    assert after.settled
    records, after = meter(held("2026-11-01", "2026-11-01", "2026-11-01"), "reg_1", moment("2026-11-02"))
    assert records == ()
    assert after.settled


def test_an_end_told_after_it_was_metered_changes_no_record() -> None:
    allocation = held("2026-11-01T10:30:00Z", "2026-11-01T10:30:00Z")
    _, allocation = meter(allocation, "reg_1", moment("2026-11-01T12:00:00Z"))
    late = replace(allocation, released_us=moment("2026-11-01T11:59:00Z"))
    records, after = meter(late, "reg_1", moment("2026-11-01T13:00:00Z"))
    assert records == ()
    assert after.settled
    assert after.metered_us == allocation.metered_us
