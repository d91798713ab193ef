"""What nobody needs any more goes, is told, and costs nothing from then on; what anybody needs stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from house import House, wait_for

from headframe.base.changes import Event
from headframe.base.errors import StoreFailed
from headframe.base.quantities import DAY_US, HOUR_US
from headframe.control import retention
from headframe.control.records import Reply
from headframe.control.retention import Keep
from headframe.metering.records import UsageEvent
from headframe.metrics.records import Chunk, Measured, Point, Series
from headframe.pricing.records import Charge
from headframe.tenants.records import Session

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _files_go(house: House) -> None:
    """The operator has said that results go, too."""
    retention = house.control.retention
    retention.keep = replace(retention.keep, files_us=30 * DAY_US)


def prune(house: House) -> int:
    return sum(house.control.retention.prune(house.clock.now_us()))


def due(house: House) -> set[str]:
    return {job.id for job, _ in house.control.retention.due_jobs(house.clock.now_us())}


def ran(house: House, key: str | None = None, **spec: object) -> str:
    """A job that has ended and left a log, an output and a checkpoint."""
    job = str(house.submit(key, spec={"run": "run 1s; exit 0", **spec})["id"])
    wait_for(lambda: house.ok("GET", f"/v1/jobs/{job}", key)["state"] == "succeeded")
    leave(house, job)
    return job


def leave(house: House, job: str) -> Path:
    folder = house.outputs.data / "jobs" / job
    house.outputs.put(job, "model.bin", b"x" * (2 * MIB))
    for name in ("log", "checkpoints"):
        (folder / name).mkdir(parents=True)
        (folder / name / "0").write_bytes(b"y" * 5000)
    (folder / "checkpoints" / "outside").symlink_to("/usr")
    return folder


def test_what_a_job_left_stays_until_its_bill_is_paid(house: House) -> None:
    home = house.organization("payers")["id"]
    house.ok("POST", "/v1/prices", json={"meter": "cpu", "amount": "36 USD", "organization": home})
    key = house.member(home, "admin")
    old = ran(house, key)
    wait_for(lambda: house.store.find(Charge, job_id=old))
    house.clock.ahead_us += 40 * DAY_US

    def billed() -> list[dict[str, object]]:
        house.loop.nudge()
        return list(house.ok("GET", "/v1/invoices", key)["items"])

    bill = wait_for(billed)[0]
    prune(house)
    assert (house.outputs.data / "jobs" / old / "outputs" / "model.bin").exists()
    retention = house.control.retention
    assert old not in due(house)
    kept, retention.keep = retention.keep, replace(retention.keep, unpaid=False)
    assert old in due(house), "the operator may say that this does not matter"
    retention.keep = kept
    house.ok("POST", f"/v1/invoices/{bill['id']}/payments", json={})
    prune(house)
    assert not (house.outputs.data / "jobs" / old).exists()


def test_what_an_old_job_left_goes_and_its_page_and_log_say_so(house: House) -> None:
    old = ran(house)
    busy = str(house.submit(run="run 1000s")["id"])
    leave(house, busy)
    assert prune(house) == 0
    house.clock.ahead_us += 31 * DAY_US
    young = ran(house)
    told = house.ok("GET", "/v1/storage")
    assert [(one["kind"], one["subject"]) for one in told["due"]] == [("logs", old), ("files", old)]
    assert told["due"][1]["bytes"] > 2 * MIB
    assert {one["kind"]: one["count"] for one in told["piles"]}["logs"] == 3
    assert (house.outputs.data / "jobs" / old).exists(), "looking removes nothing"
    assert prune(house) == 2
    left = sorted(path.name for path in (house.outputs.data / "jobs").iterdir())
    assert left == sorted([busy, young])
    assert Path("/usr/bin").exists()
    log = house.ok("GET", f"/v1/jobs/{old}/log")
    day = house.store.find(Event, subject=old, kind__prefix="job_log_removed")[0]
    assert log["pieces"][0]["text"] == f"[{day.reason}]\n"
    assert log["ended"]
    assert "31 days after the job had ended" in day.reason
    again = house.ok("GET", f"/v1/jobs/{old}/log", params={"offset": log["next"]})
    assert (again["pieces"], again["ended"]) == ([], True)
    outputs = house.ok("GET", f"/v1/jobs/{old}/outputs")
    assert outputs["items"] == []
    assert outputs["removed"].startswith("Outputs and checkpoints were removed on ")
    gone = house.call("GET", f"/v1/jobs/{old}/outputs/model.bin")
    assert gone.status_code == 404
    assert "were removed on" in gone.json()["detail"]
    kinds = [one["kind"] for one in house.ok("GET", f"/v1/jobs/{old}/story")["events"]]
    assert kinds[-2:] == ["job_log_removed", "job_files_removed"]
    assert prune(house) == 0
    assert house.store.count(Event, subject=old, kind__prefix="job_log_removed") == 1


def test_who_is_killed_between_telling_and_removing_removes_it_later_and_tells_it_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ran(house)
    house.clock.ahead_us += 31 * DAY_US

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    storage = house.control.retention._storage
    with monkeypatch.context() as patch:
        patch.setattr(storage, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            prune(house)
    assert (house.outputs.data / "jobs" / old / "outputs" / "model.bin").exists()
    prune(house)
    assert not (house.outputs.data / "jobs" / old).exists()
    assert house.store.count(Event, subject=old, kind__prefix="job_files_removed") == 1


def test_nobody_pays_for_files_that_were_removed(house: House) -> None:
    old = ran(house)
    now = house.clock.now_us
    house.control.keeping.look(now())

    def level() -> int:
        where = {"type": "headframe.stored.outputs"}
        return int(house.store.find(UsageEvent, newest=True, limit=1, **where)[0].data["mib"])

    assert level() in (2, 3)
    house.clock.ahead_us += 31 * DAY_US
    assert prune(house) >= 2
    assert level() == 0, "told with the removal, not an hour later"
    assert house.store.find(UsageEvent, type="headframe.stored.outputs", newest=True)[0].data["name"] == old


def test_the_jobs_of_an_open_array_keep_what_they_left(house: House) -> None:
    parent = house.submit(spec={"run": "run 1s; exit 0", "array": {"index": "0..1", "parallel": 1}})["id"]
    child = wait_for(lambda: house.ok("GET", "/v1/jobs", params={"parent": parent, "state": "succeeded"})["items"])[0][
        "id"
    ]
    leave(house, child)
    wait_for(lambda: house.ok("GET", f"/v1/jobs/{parent}")["state"] == "succeeded")
    house.clock.ahead_us += 31 * DAY_US
    retention = house.control.retention
    stored = house.store.get

    def still_open(kind: type, record_id: str) -> object:
        found = stored(kind, record_id)
        return replace(found, state="running") if record_id == parent else found

    retention._store = Looking(house.store, still_open)  # type: ignore[assignment]
    assert child not in due(house)
    retention._store = house.store
    assert child in due(house)


class Looking:
    """A store of which one question is answered otherwise."""

    def __init__(self, store: object, get: object) -> None:
        self._store, self.get = store, get

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


def test_folders_of_jobs_that_are_not_on_record_are_left_alone(house: House) -> None:
    folder = leave(house, "job_of_another_store")
    house.clock.ahead_us += 400 * DAY_US
    prune(house)
    assert (folder / "outputs" / "model.bin").exists()


def test_answers_and_sessions_are_forgotten_in_time(house: House) -> None:
    asked = {"headers": {"Idempotency-Key": "once"}, "json": {"name": "twice"}}
    first = house.ok("POST", "/v1/projects", **asked)
    key_id = house.ok("GET", "/v1/whoami")["key"]["id"]
    assert house.ok("POST", "/v1/projects", **asked)["id"] == first["id"]
    house.control.run(_sign_in, key_id)
    house.clock.ahead_us += 23 * HOUR_US
    prune(house)
    assert house.store.count(Reply) == 1
    assert house.store.find(Session)[0].reason == "expired", "whoever does not come back is signed out"
    house.clock.ahead_us += 2 * HOUR_US
    prune(house)
    assert house.store.count(Reply) == 0
    assert house.call("POST", "/v1/projects", **asked).status_code == 409, "it is asked for anew"
    assert house.store.count(Session) == 1
    house.clock.ahead_us += 30 * DAY_US
    prune(house)
    assert house.store.count(Session) == 0


def _sign_in(world: object, context: object, key_id: str) -> object:
    from headframe.control.commands_sessions import sign_in
    from headframe.tenants.records import Key
    from headframe.tenants.roles import Caller, Role

    key = world.all(Key)[key_id]  # type: ignore[attr-defined]
    caller = Caller(key.organization_id, key.member_id, key.id, Role.OWNER, operator=True)
    return sign_in(world, context, caller)  # type: ignore[arg-type]


def test_what_the_books_stand_on_cannot_be_pruned(house: House) -> None:
    count = house.store.count(Event)
    with pytest.raises(StoreFailed, match="only added to"):
        house.store.prune(Event, 10)
    assert house.store.count(Event) == count > 0


def test_what_was_measured_of_an_old_job_becomes_an_outline_and_then_goes(house: House) -> None:
    old, metrics = ran(house), house.control.metrics
    now = house.clock.now_us()
    metrics.take(Measured(tuple(
        Point(old, name, "", now + number * 2_000_000, float(number)) for number in range(1000) for name in ("a", "b")
    )))  # fmt: skip
    metrics.write()
    assert house.store.count(Chunk, subject=old) > 4
    house.clock.ahead_us += 31 * DAY_US
    prune(house)
    assert house.store.count(Chunk, subject=old) == 2
    for found in metrics.read([old]):
        assert 100 <= len(found.rows) <= 128
        assert (found.rows[0].low, found.rows[-1].high) == (0.0, 999.0)
        assert sum(row.count for row in found.rows) == 1000
    house.clock.ahead_us += 340 * DAY_US
    prune(house)
    assert house.store.count(Chunk, subject=old) == house.store.count(Series, subject=old) == 0


def test_only_the_operator_looks_and_removes(house: House) -> None:
    stranger = house.member(house.organization("strangers")["id"], "owner")
    assert house.call("GET", "/v1/storage", stranger).status_code == 403
    assert house.call("POST", "/v1/storage/prune", stranger).status_code == 403
    old = ran(house)
    house.clock.ahead_us += 31 * DAY_US
    assert house.call("POST", "/v1/storage/prune").status_code == 202
    wait_for(lambda: not (house.outputs.data / "jobs" / old).exists())
    assert house.store.find(Event, kind__prefix="pruning_ordered")


def test_what_a_job_made_stays_unless_the_operator_says_otherwise(house: House) -> None:
    old = ran(house)
    folder = house.outputs.data / "jobs" / old
    (folder / "1").mkdir()
    (folder / "1" / "scratch").write_bytes(b"z" * 5000)
    house.control.retention.keep = Keep(unpaid=False)
    house.clock.ahead_us += 370 * DAY_US
    prune(house)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "outputs"]


def test_a_look_takes_its_rests_though_nothing_is_to_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    young = [ran(house) for _ in range(3)]
    prune(house)  # what others have left
    bits = list(house.control.retention.prune(house.clock.now_us()))
    assert len(bits) >= len(young)
    assert sum(bits) == 0
