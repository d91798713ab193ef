"""Streams: what is new comes at once, from any place, and stops when it should."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from house import House, open_house, wait_for

from headframe.api import streams
from headframe.api.streams import close_streams
from headframe.api.wire import Limits


@dataclass
class Told:
    """One event of a stream."""

    id: str
    event: str
    data: str


@contextmanager
def following(house: House, path: str, key: str | None = None, **more: object) -> Iterator[Iterator[Told]]:
    headers = {"Authorization": f"Bearer {key or house.key}", **more.pop("headers", {})}  # type: ignore[dict-item]
    with house.http.stream("GET", path, headers=headers, params=more, timeout=20) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield _told(answer)


def _told(answer: httpx.Response) -> Iterator[Told]:
    found = Told("", "message", "")
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if not line:
            if found.data:
                yield found
            found = Told("", "message", "")
        elif name in ("id", "event", "data"):
            setattr(found, name, value)


@pytest.fixture(scope="module")
def owner(house: House) -> str:
    return house.member(house.organization("mill")["id"], "owner")


def test_a_log_is_followed_to_its_end(house: House, owner: str):
    job = house.submit(owner, run="run 500s; on-stop 0")["id"]
    house.logs.write(job, "before\n")
    with following(house, f"/v1/jobs/{job}/log/follow", owner) as told:
        first = next(told)
        assert json.loads(first.data)["text"] == "before\n"
        house.logs.write(job, "live\n")
        second = next(told)
        assert json.loads(second.data)["text"] == "live\n"
        assert int(second.id) == len("before\nlive\n")
        house.ok("POST", f"/v1/jobs/{job}/stop", owner)
        rest = list(told)
    assert rest[-1].event == "end"
    assert house.ok("GET", f"/v1/jobs/{job}/log", owner)["ended"]


@pytest.mark.parametrize("by", ["offset", "Last-Event-ID"])
def test_a_log_is_taken_up_where_it_broke_off(house: House, owner: str, by: str):
    job = house.submit(owner)["id"]
    house.logs.write(job, "seen\nunseen\n")
    more = {"offset": 5} if by == "offset" else {"headers": {"Last-Event-ID": "5"}}
    with following(house, f"/v1/jobs/{job}/log/follow", owner, **more) as told:
        assert json.loads(next(told).data)["text"] == "unseen\n"


def test_an_ended_log_ends_at_once(house: House, owner: str):
    job = house.submit(owner, run="run 1ms")["id"]
    wait_for(lambda: house.ok("GET", f"/v1/jobs/{job}", owner)["state"] == "succeeded", "the job's end")
    with following(house, f"/v1/jobs/{job}/log/follow", owner) as told:
        assert [each.event for each in told] == ["end"]


def test_events_come_as_they_happen(house: House, owner: str):
    other = house.member(house.organization("other")["id"], "owner")
    with following(house, "/v1/events/follow", owner) as told:
        house.submit(other)
        job = house.submit(owner)["id"]
        first = next(told)
        event = json.loads(first.data)
        assert (event["kind"], event["subject"]) == ("job_submitted", job), "nothing of others comes between"
        assert int(first.id) == event["seq"]
    with following(house, "/v1/events/follow", owner, after=event["seq"] - 1) as told:
        assert json.loads(next(told).data) == event
    with following(house, "/v1/events/follow", owner, headers={"Last-Event-ID": str(event["seq"])}) as told:
        assert json.loads(next(told).data)["seq"] > event["seq"]
    with following(house, "/v1/events/follow", owner, after=0, subject=job) as told:
        assert json.loads(next(told).data)["subject"] == job


def test_a_revoked_key_is_cut_off(house: House, owner: str):
    key = house.member(house.ok("GET", "/v1/whoami", owner)["organization"]["id"], "viewer")
    key_id = house.ok("GET", "/v1/whoami", key)["key"]["id"]
    with following(house, "/v1/events/follow", key) as told:
        house.ok("DELETE", f"/v1/keys/{key_id}", owner)
        began = time.monotonic()
        list(told)
        assert time.monotonic() - began < 15


def test_a_quiet_stream_shows_that_it_lives(house: House, owner: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(streams, "LOOK_S", 0.05)
    headers = {"Authorization": f"Bearer {owner}"}
    with house.http.stream("GET", "/v1/events/follow?subject=none", headers=headers) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "retry: 1000"
        assert next(line for line in lines if line) == ": still here"


def test_streams_let_go_when_readers_leave(house: House, owner: str):
    job = house.submit(owner)["id"]
    for _ in range(3):
        with following(house, f"/v1/jobs/{job}/log/follow", owner):
            pass
    wait_for(lambda: not house.app.state.serving.bells and not house.logs.wakes.get(job), "the streams' end")


def test_streams_are_bounded_and_close_with_the_server(tmp_path):
    with open_house(tmp_path, Limits(streams=1)) as house:
        ended = threading.Event()

        def read() -> None:
            with following(house, "/v1/events/follow") as told:
                list(told)
            ended.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        wait_for(lambda: house.app.state.serving.bells, "the stream")
        assert house.call("GET", "/v1/events/follow").status_code == 503
        close_streams(house.app)
        assert ended.wait(5)
        assert house.call("GET", "/v1/events/follow").status_code == 503


def test_one_organization_does_not_take_all_streams(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with open_house(tmp_path, Limits(streams=4)) as house:
        greedy = house.member(house.organization("greedy")["id"], "owner")
        other = house.member(house.organization("other")["id"], "owner")
        with following(house, "/v1/events/follow", greedy), following(house, "/v1/events/follow", greedy):
            wait_for(lambda: len(house.app.state.serving.bells) == 2)
            assert house.call("GET", "/v1/events/follow", greedy).status_code == 503
            with following(house, "/v1/events/follow", other):
                pass
        wait_for(lambda: not house.app.state.serving.streaming)
    assert [record.exc_info for record in caplog.records if "Too many streams" in record.message] == [None]
