"""What control relies on in a store, in memory, on SQLite and on PostgreSQL."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, exc, text

from headframe.base.changes import Changes, Event
from headframe.base.errors import Conflict, Invalid, StoreFailed, VersionConflict
from headframe.control.records import Reply
from headframe.control.world import WARM, World, is_warm
from headframe.jobs.records import Attempt, Job, JobState
from headframe.ledger.chain import Head, broken, link
from headframe.ledger.records import Closing, Invoice, InvoiceLine, Transfer
from headframe.metering.records import UsageRecord
from headframe.pricing.records import Charge
from headframe.store.migrations import migrate
from headframe.store.sql_store import SqlStore
from headframe.tenants.records import Organization, Quota, Scope, Secret
from tests.contract.store_worlds import LARGEST, allocation, event, job, organization, project, transfer


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    url = "sqlite://"
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/headframe.db"
    elif request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    if request.param != "memory":
        migrate(url)
    made = SqlStore(url)
    yield made
    made.close()


def rows(*records: Any) -> Changes:
    return Changes(rows=records)


def charge(number: int, amount_nano: int, **more: Any) -> Charge:
    fields: dict[str, Any] = {"project_id": "prj_1", "meter": "cpu", "at_us": number}
    return Charge(
        f"chg_{number:08d}", "use_1", "alc_1", "job_1", "org_1", kind="usage", member_id="mem_1", price_id="prc_1",
        quantity=1, unit_nano=1, amount_nano=amount_nano, currency="USD", from_us=0, to_us=1, **{**fields, **more},
    )  # fmt: skip


# Writing


def test_ten_thousand_rows_come_back_equal_and_in_order(store: SqlStore) -> None:
    jobs = [job(number) for number in range(10_000)]
    store.apply(Changes(tuple(reversed(jobs)), (event(1),)))
    assert store.find(Job, limit=20_000) == jobs
    assert store.count(Job) == 10_000


def test_nothing_to_write_writes_nothing(store: SqlStore) -> None:
    store.apply(Changes(actions=("an action is for an engine",)))
    assert store.events() == []


def test_an_update_holds_only_on_the_version_before(store: SqlStore) -> None:
    first = job(1)
    store.apply(rows(first))
    second = dataclasses.replace(first, state=JobState.RUNNING, started_us=7, version=2)
    store.apply(rows(second))
    assert store.get(Job, first.id) == second
    stale = dataclasses.replace(first, state=JobState.FAILED, version=2)
    with pytest.raises(VersionConflict, match="Job job_00000001 is at version 2, not at version 1"):
        store.apply(rows(job(2), stale, dataclasses.replace(stale, id="job_none")))
    assert store.find(Job) == [second]


def test_of_many_updates_the_stale_one_is_named_and_none_is_written(store: SqlStore) -> None:
    jobs = [job(number) for number in range(500)]
    store.apply(rows(*jobs))
    store.apply(rows(dataclasses.replace(jobs[321], warned=True, version=2)))
    newer = [dataclasses.replace(each, reason="new", version=2) for each in jobs]
    with pytest.raises(VersionConflict) as caught:
        store.apply(Changes(tuple(newer), (event(1),)))
    assert caught.value.details == {"kind": "Job", "id": "job_00000321", "stored": 2, "expected": 1}
    assert store.count(Job, reason="new") == 0
    assert store.last_event_seq() == 0
    store.apply(rows(*newer[:321], *newer[322:]))
    assert store.count(Job, reason="new") == 499


def test_an_update_of_a_row_that_is_not_there_is_a_version_conflict(store: SqlStore) -> None:
    with pytest.raises(VersionConflict, match="is not there"):
        store.apply(rows(job(1, version=4)))


def test_several_versions_of_one_row_in_one_change(store: SqlStore) -> None:
    first = job(1)
    versions = [dataclasses.replace(first, attempt=number, version=number) for number in range(1, 5)]
    store.apply(rows(*versions[:2]))
    assert store.get(Job, first.id) == versions[1]
    store.apply(rows(*versions[2:]))
    assert store.get(Job, first.id) == versions[3]
    with pytest.raises(VersionConflict):
        store.apply(rows(dataclasses.replace(first, version=5), dataclasses.replace(first, version=7)))
    with pytest.raises(VersionConflict):
        store.apply(rows(dataclasses.replace(first, version=5), dataclasses.replace(first, version=5)))
    assert store.get(Job, first.id) == versions[3]


def test_what_is_there_already_is_a_conflict_that_names_it(store: SqlStore) -> None:
    store.apply(Changes((job(1), organization(1, "acme"), transfer(1, 5)), (event(1),)))
    with pytest.raises(Conflict, match="There is a Job with id 'job_00000001' already"):
        store.apply(rows(job(2), job(1)))
    with pytest.raises(Conflict, match="Organization with name 'acme'") as caught:
        store.apply(rows(organization(3, "other"), organization(2, "acme")))
    assert caught.value.details == {"kind": "Organization", "id": "org_2", "fields": ["name"]}
    assert not isinstance(caught.value, VersionConflict)
    with pytest.raises(Conflict, match="Transfer with id"):
        store.apply(rows(transfer(2, 5), transfer(2, 5)))
    with pytest.raises(Conflict, match="Event with seq 1"):
        store.apply(Changes((job(3),), (event(2), event(1))))
    assert [each.id for each in store.find(Job)] == ["job_00000001"]
    assert (store.count(Organization), store.count(Transfer), store.last_event_seq()) == (1, 1, 1)


def test_names_are_unique_where_they_must_be(store: SqlStore) -> None:
    store.apply(rows(project(1, "org_1", "research"), project(2, "org_2", "research")))
    with pytest.raises(Conflict, match="organization_id 'org_1', name 'research'"):
        store.apply(rows(project(3, "org_1", "research")))
    renamed = dataclasses.replace(project(1, "org_1", "research"), name="old", version=2)
    store.apply(rows(project(3, "org_1", "research"), renamed))  # the name is given free and taken in one change
    with pytest.raises(Conflict):
        store.apply(rows(dataclasses.replace(renamed, name="research", version=3)))
    quota = Quota("quo_1", "org_1", Scope.PROJECT, "prj_1", gpu_milli=8000)
    store.apply(rows(quota))
    with pytest.raises(Conflict):
        store.apply(rows(dataclasses.replace(quota, id="quo_2")))


def test_a_deleted_secret_gives_its_name_free(store: SqlStore) -> None:
    old = Secret("sec_1", "org_1", "prj_1", "hf-token", "sealed", 1)
    store.apply(rows(old))
    with pytest.raises(Conflict):
        store.apply(rows(dataclasses.replace(old, id="sec_2")))
    store.apply(rows(dataclasses.replace(old, deleted_us=9, version=2), dataclasses.replace(old, id="sec_2")))
    assert [each.id for each in store.find(Secret, name="hf-token", deleted_us=None)] == ["sec_2"]


def test_facts_cannot_be_altered_even_by_hand(empty_url: str) -> None:
    migrate(empty_url)
    store = SqlStore(empty_url)
    use = UsageRecord("alc_1.1", "alc_1", "job_1", "org_1", "prj_1", "mem_1", "spot", "reg_1", "running", 0, 9)
    invoice = Invoice("inv_1", 1, "org_1", "2026-11", "USD", (), 0, 0, 0, 9)
    store.apply(Changes((use, charge(1, 5), transfer(1, 5), invoice), (event(1),)))
    store.close()
    engine = create_engine(empty_url)
    for table in ("usage_records", "charges", "transfers", "invoices", "events"):
        for statement in (f"UPDATE {table} SET organization_id = 'org_2'", f"DELETE FROM {table}"):
            with pytest.raises(exc.DBAPIError, match=f"{table} are facts"), engine.begin() as connection:
                connection.execute(text(statement))
    engine.dispose()


# What does not fit


def test_rows_that_may_be_forgotten_are_deleted_some_at_a_time_and_facts_are_not(store: SqlStore) -> None:
    store.apply(Changes(tuple(Reply(f"key:{number}", "", 200, "", number) for number in range(10)), (event(1),)))
    assert store.prune(Reply, 4, created_us__lt=6) == 4
    assert store.prune(Reply, 4, created_us__lt=6) == 2
    assert store.prune(Reply, 4, created_us__lt=6) == 0
    assert [one.created_us for one in store.find(Reply)] == [6, 7, 8, 9]
    with pytest.raises(StoreFailed):
        store.prune(Event, 10)
    assert store.count(Event) == 1


def test_the_largest_integers_are_kept_exactly(store: SqlStore) -> None:
    big = job(1, submitted_us=LARGEST, not_before_us=-LARGEST - 1)
    store.apply(rows(big))
    assert store.get(Job, big.id) == big
    assert store.find(Job, submitted_us=LARGEST) == [big]
    with pytest.raises(Invalid, match="submitted_us of Job job_00000002 is 9223372036854775808"):
        store.apply(rows(job(3), job(2, submitted_us=LARGEST + 1)))
    assert store.count(Job, submitted_us=LARGEST + 1) == 0
    assert store.find(Job) == [big]


def test_larger_integers_inside_documents_are_kept_exactly(store: SqlStore) -> None:
    line = InvoiceLine("prj_1", "memory", "usage", 5, quantity=3 << 70, amount_nano=-(5 << 80))
    invoice = Invoice("inv_1", 1, "org_1", "2026-11", "USD", (line,), 1, 0, 1, 9)
    store.apply(Changes((invoice,), (event(1, detail={"sum": 1 << 90, "name": "größer"}),)))
    assert store.get(Invoice, "inv_1") == invoice
    assert store.events()[0].detail == {"sum": 1 << 90, "name": "größer"}


def test_text_of_all_languages_is_kept_and_ordered_by_its_bytes(store: SqlStore) -> None:
    names = ["Zebra", "apple", "Äpfel", "名前", "😀 smile", "'; DROP TABLE jobs; --", "%s %(x)s ?", ""]
    store.apply(rows(*(organization(number, name) for number, name in enumerate(names))))
    assert {each.name for each in store.find(Organization)} == set(names)
    for name in names:
        assert [each.name for each in store.find(Organization, name=name)] == [name]
    sums = store.total(Organization, "number", ["name"])
    assert [each["name"] for each in sums] == sorted(names, key=str.encode)


def test_text_that_no_database_holds_is_mended(store: SqlStore) -> None:
    torn = job(1, reason="a\0b", name="x\ud800y", stop_reason="\udcff\0")
    store.apply(Changes((torn,), (event(1, reason="\0", detail={"said": "\ud800", "zero": "a\0"}),)))
    assert store.get(Job, torn.id) == dataclasses.replace(
        torn, reason="a\ufffdb", name="x\ufffdy", stop_reason="\ufffd\ufffd"
    )
    assert [each.id for each in store.find(Job, name="x\ud800y", reason="a\0b")] == [torn.id]
    assert store.get(Job, "job\0") is None
    assert store.find(Job, id__prefix="job\0") == []
    assert store.events()[0].detail == {"said": "\ufffd", "zero": "a\0"}


# Reading


def test_pages_forward_and_backward_meet_every_row_once(store: SqlStore) -> None:
    jobs = [job(number, organization_id=f"org_{number % 2}") for number in range(25)]
    store.apply(rows(*jobs))
    for newest in (False, True):
        seen: list[Job] = []
        while page := store.find(
            Job, organization_id="org_1", limit=5, newest=newest, after=seen[-1].id if seen else None
        ):
            assert len(page) <= 5
            seen += page
        wanted = [each for each in jobs if each.organization_id == "org_1"]
        assert seen == (wanted[::-1] if newest else wanted)


def test_filters(store: SqlStore) -> None:
    first, second = job(1, state=JobState.RUNNING), job(2, parent_id=job(1).id, array_index=4)
    other = job(13, warned=True, state=JobState.FAILED)
    store.apply(rows(first, second, other))
    assert store.find(Job, state=JobState.RUNNING) == [first]
    assert store.find(Job, state="running") == [first]
    assert store.find(Job, state=("running", "queued")) == [first, second]
    assert store.find(Job, state=[]) == []
    assert store.find(Job, parent_id=None) == [first, other]
    assert store.find(Job, parent_id=first.id, array_index=4) == [second]
    assert store.find(Job, warned=True) == [other]
    assert store.find(Job, id__prefix="job_0000000") == [first, second]
    assert store.find(Job, name__prefix="job-1") == [first, other]
    assert store.find(Job, submitted_us__ge=1_000_002, submitted_us__lt=1_000_013) == [second]
    assert store.find(Job, id__child_of=first.id) == [second]
    assert store.find(Job, id__child_of=second.id) == []
    assert store.find(Job, id=[other.id, first.id], newest=True) == [other, first]
    assert store.count(Job, state="failed") == 1
    assert store.get(Job, "job_none") is None


@pytest.mark.parametrize("name", ["nothing", "spec", "id; DROP TABLE jobs", "state__like", "__ge", "", "id)"])
def test_what_cannot_be_filtered_by_is_refused(store: SqlStore, name: str) -> None:
    with pytest.raises(Invalid):
        store.find(Job, **{name: "x"})
    with pytest.raises(Invalid):
        store.count(Job, **{name: "x"})
    with pytest.raises(Invalid):
        store.total(Job, "attempt", [name])


def test_sums_by_label_and_by_the_day_that_a_moment_ends(store: SqlStore) -> None:
    day = 86_400_000_000
    store.apply(
        rows(
            charge(1, 1, at_us=1), charge(2, 2, at_us=day, labels={"team": "a"}), charge(3, 4, at_us=day + 1),
            charge(4, 8, at_us=2 * day, labels={"team": "a"}),
        )
    )  # fmt: skip
    assert store.total(Charge, "amount_nano", ["at_us__day"]) == [
        {"at_us__day": 0, "amount_nano": 3}, {"at_us__day": 1, "amount_nano": 12},
    ]  # fmt: skip
    assert store.total(Charge, "amount_nano", ["labels", "currency"], project_id="prj_1") == [
        {"labels": '{"team":"a"}', "currency": "USD", "amount_nano": 10},
        {"labels": "{}", "currency": "USD", "amount_nano": 5},
    ]
    assert len(store.total(Charge, "amount_nano", ["labels", "at_us__day"])) == 4
    with pytest.raises(Invalid):
        store.total(Charge, "amount_nano", ["nothing__day"])


def test_sums_are_exact_beyond_64_bits(store: SqlStore) -> None:
    charges = [charge(number, LARGEST - number) for number in range(5)]
    refunds = [charge(10 + number, -LARGEST, project_id="prj_2", meter="gpu:H100") for number in range(3)]
    store.apply(rows(*charges, *refunds))
    assert store.total(Charge, "amount_nano", ["project_id", "meter"], organization_id="org_1") == [
        {"project_id": "prj_1", "meter": "cpu", "amount_nano": sum(each.amount_nano for each in charges)},
        {"project_id": "prj_2", "meter": "gpu:H100", "amount_nano": -3 * LARGEST},
    ]
    assert store.total(Charge, "amount_nano", [], at_us__ge=1, at_us__lt=3) == [{"amount_nano": 2 * LARGEST - 3}]
    assert store.total(Charge, "amount_nano", ["meter"], organization_id="org_2") == []


def test_events_after_a_place(store: SqlStore) -> None:
    events = [event(seq, subject=f"job_{seq % 3}", organization_id=f"org_{seq % 2}") for seq in range(1, 31)]
    store.apply(Changes(events=tuple(events)))
    assert store.events() == events
    assert store.events(after=10, limit=3) == events[10:13]
    assert store.events(subject="job_1", organization_id="org_1", after=1) == [
        each for each in events[1:] if each.subject == "job_1" and each.organization_id == "org_1"
    ]
    assert store.find(Event, newest=True, limit=1) == events[-1:]
    assert store.get(Event, 7) == events[6]  # type: ignore[arg-type]
    assert store.last_event_seq() == 30


# Starting again


def test_the_world_loaded_is_the_world_applied(store: SqlStore) -> None:
    world = World()
    jobs = [job(number, state=state) for number, state in enumerate(JobState)]
    tries = [
        Attempt(f"att_{number}", jobs[0].id, number, "alc_1", 5, outcome=outcome)
        for number, outcome in enumerate(["", "error", ""])
    ]
    invoice = Invoice("inv_1", 4, "org_1", "2026-11", "USD", (), 0, 0, 0, 9)
    steps = [
        Changes((organization(1, "acme"), project(1, "org_1", "research"), *jobs), (event(1), event(2))),
        rows(*tries, allocation(1), allocation(2, settled=True), transfer(1, LARGEST), transfer(2, LARGEST)),
        rows(transfer(3, 7, debit="cash", credit="receivable:org_1"), invoice),
        rows(allocation(1, settled=True, version=2), dataclasses.replace(jobs[0], state=JobState.STOPPED, version=2)),
    ]
    for step in steps:
        store.apply(step)
        world.apply(step)
    again = World.of(store.load(), store.balances(), store.last_event_seq(), store.last_invoice())
    assert again.tables == world.tables
    assert again.balances == world.balances
    assert (again.last_event_seq, again.last_invoice) == (2, 4)
    assert set(store.load()) == set(WARM)
    assert all(is_warm(record) for records in store.load().values() for record in records)


def test_an_empty_store_is_an_empty_world(store: SqlStore) -> None:
    assert not any(store.load().values())
    assert (store.balances(), store.last_event_seq(), store.last_invoice()) == ({}, 0, 0)


# Threads


def test_readers_see_whole_changes_while_the_loop_writes(store: SqlStore) -> None:
    """Each change adds ten jobs: nobody ever counts a part of them."""
    done = threading.Event()
    wrong: list[object] = []

    def look() -> None:
        while not done.is_set():
            try:
                written = store.count(Job)
                if written % 10:
                    wrong.append(written)
                store.find(Job, organization_id="org_1", newest=True, limit=20)
            except Exception as error:
                wrong.append(error)

    readers = [threading.Thread(target=look) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for number in range(40):
            store.apply(Changes(tuple(job(number * 10 + each) for each in range(10)), (event(number + 1),)))
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert store.count(Job) == 400


def test_no_transfer_is_dated_inside_a_closed_month(store: SqlStore) -> None:
    """The database itself refuses it; what is dated before or after goes in, and so does another organization's."""
    closing = Closing("org_1.2026-11", "org_1", "2026-11", 1_000, 2_000, 2_500, "org_1.2026-11")
    inside, edge = replace(transfer(1, 5), at_us=1_001), replace(transfer(2, 5), at_us=2_000)
    store.apply(rows(inside, closing))  # in one transaction: what is closed comes last
    for late in (edge, replace(transfer(3, 5), at_us=1_500)):
        with pytest.raises(StoreFailed, match="month is closed"):
            store.apply(rows(late))
    others = replace(transfer(4, 5), at_us=1_500, organization_id="org_2")
    store.apply(rows(replace(transfer(5, 5), at_us=1_000), replace(transfer(6, 5), at_us=2_001), others))
    assert store.count(Transfer) == 4
    with pytest.raises(Conflict):
        store.apply(rows(replace(closing, id="again")))


def test_the_newest_link_of_the_chain_is_found(store: SqlStore) -> None:
    assert store.last_transfer() == Head()
    linked = link([transfer(1, 5), transfer(2, 6), transfer(3, 7)], Head(), 99)
    store.apply(Changes(linked))
    assert store.last_transfer() == Head(3, linked[-1].chain)
    kept = sorted(store.find(Transfer), key=lambda each: each.number)
    assert broken(kept) is None
    assert broken([kept[0], replace(kept[1], amount_nano=7), kept[2]]) == 2
