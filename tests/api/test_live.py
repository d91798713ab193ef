"""The live stream: many topics in one, once encoded, to be resumed, and closed when it should be."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from browsing import Browser
from house import House, open_house, wait_for

from headframe.api import hub
from headframe.api.streams import close_streams


class Followed:
    """A stream that is read on a thread of its own: what came, in order, as (topic, id, document)."""

    def __init__(self, answer: httpx.Response) -> None:
        self.frames: list[tuple[str, int, Any]] = []
        self.retry_ms, self.over = 0, False
        self._answer = answer
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        topic, number = "", 0
        try:
            for line in self._answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    topic = value
                elif name == "id":
                    number = int(value)
                elif name == "retry":
                    self.retry_ms = int(value)
                elif name == "data":
                    self.frames.append((topic, number, json.loads(value)))
                    number = 0
        except httpx.HTTPError:
            pass
        self.over = True

    def wait(self, which: Callable[[str, Any], bool], what: str = "the frame") -> Any:
        return wait_for(lambda: next((frame for topic, _, frame in self.frames if which(topic, frame)), None), what)

    def of(self, topic: str) -> list[Any]:
        return [frame for name, _, frame in self.frames if name == topic]

    @property
    def last(self) -> int:
        return max((number for _, number, _ in self.frames), default=0)


@contextmanager
def live(house: House, topics: str, key: str | None = None, **more: Any) -> Iterator[Followed]:
    headers = {"Authorization": f"Bearer {key or house.key}", **more.pop("headers", {})}
    with (
        httpx.Client(base_url=house.http.base_url, trust_env=False, timeout=20) as http,
        http.stream("GET", "/v1/live", headers=headers, params={"topics": topics, **more}) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        try:
            yield Followed(answer)
        finally:
            # Another thread reads: to close alone would leave the connection open.
            with suppress(OSError):
                answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def owner(house: House) -> str:
    return house.member(house.organization("mill")["id"], "owner")


def test_jobs_are_told_as_they_change(house: House, owner: str):
    with live(house, "jobs,events", owner) as told:
        job = house.submit(owner, run="run 50ms")
        states = lambda: [frame["state"] for frame in told.of("jobs") if frame["id"] == job["id"]]  # noqa: E731
        wait_for(lambda: "succeeded" in states(), "the end of the job")
        assert told.of("jobs")[-1]["name"] == job["name"]
        assert {"job_queued", "job_succeeded"} & {frame["kind"] for frame in told.of("events")}
    with live(house, f"job:{job['id']},jobs", owner, after=0) as again:
        again.wait(lambda topic, frame: topic == f"job:{job['id']}" and frame["state"] == "succeeded")


def test_a_reader_goes_on_where_it_was(house: House, owner: str):
    with live(house, "events", owner) as told:
        house.submit(owner)
        told.wait(lambda topic, frame: frame["kind"] == "job_running")
        seen = told.last
    job = house.submit(owner)["id"]
    with live(house, "events", owner, headers={"Last-Event-ID": str(seen)}) as told:
        told.wait(lambda topic, frame: frame["subject"] == job)
        assert min(number for _, number, _ in told.frames) > seen


def test_others_hear_nothing(house: House, owner: str):
    stranger = house.member(house.organization("rival")["id"], "owner")
    with live(house, "events,jobs,home", stranger) as theirs, live(house, "jobs", owner) as ours:
        job = house.submit(owner)["id"]
        ours.wait(lambda topic, frame: frame["id"] == job)
        mine = house.submit(stranger)["id"]
        theirs.wait(lambda topic, frame: topic == "jobs" and frame["id"] == mine)
        assert job not in json.dumps(theirs.frames)


def test_a_gauge_shows_a_picture_at_once_and_each_change(house: House, owner: str):
    with live(house, "home", owner) as told:
        first = told.wait(lambda topic, frame: topic == "home")
        before = first["jobs"].get("running", 0)
        job = house.submit(owner)["id"]
        told.wait(lambda topic, frame: frame["jobs"].get("running", 0) == before + 1)
        house.ok("POST", f"/v1/jobs/{job}/stop", owner)
        told.wait(lambda topic, frame: frame["ended"]["stopped"] > first["ended"]["stopped"])


def test_a_picture_is_drawn_once_for_all_who_see_the_same(house: House, owner: str, monkeypatch: pytest.MonkeyPatch):
    wait_for(lambda: not house.app.state.serving.bells, "the end of other streams")
    drawn: list[str] = []
    real = hub.Hub._drawn

    def counted(self: hub.Hub, picture: hub.Picture) -> bytes:
        drawn.append(picture.topic)
        return real(self, picture)

    monkeypatch.setattr(hub.Hub, "_drawn", counted)
    with live(house, "home", owner) as one, live(house, "home", owner) as two, live(house, "home", owner) as three:
        for told in (one, two, three):
            told.wait(lambda topic, frame: topic == "home")
        assert len(drawn) == 1
        house.submit(owner)
        wait_for(lambda: len(three.of("home")) > 1)
        assert one.of("home")[-1] == two.of("home")[-1] == three.of("home")[-1]
        assert len(drawn) <= 1 + len(three.of("home"))


def test_what_cannot_be_followed_is_refused(house: House, owner: str):
    for topics in ("", "nothing", "job", "jobs,<script>", ",".join(f"events:{n}" for n in range(21))):
        answer = house.call("GET", "/v1/live", owner, params={"topics": topics})
        assert answer.status_code == 422, topics
        assert answer.json()["field"] == "topics"
    narrow = house.member(house.ok("GET", "/v1/whoami", owner)["organization"]["id"], "owner", scopes=["usage:read"])
    assert house.call("GET", "/v1/live", narrow, params={"topics": "jobs"}).status_code == 403
    assert house.call("GET", "/v1/live", narrow, params={"topics": "home"}).status_code == 403


def test_a_stream_ends_with_the_right_to_it(house: House):
    organization = house.organization("leaving")["id"]
    boss = house.member(organization, "owner")
    for change in ("key", "role", "session"):
        key = house.member(organization, "member", change)
        who = house.ok("GET", "/v1/whoami", key)
        with Browser(str(house.http.base_url), key) as browser:
            cookie = f"headframe={browser.http.cookies['headframe']}"
            with live(house, "jobs", headers={"Authorization": "", "Cookie": cookie}) as told:
                wait_for(lambda told=told: told.retry_ms, "the beginning")
                if change == "key":
                    house.ok("DELETE", f"/v1/keys/{who['key']['id']}", boss)
                elif change == "role":
                    house.ok("PATCH", f"/v1/members/{who['member']['id']}", boss, json={"role": "viewer"})
                else:
                    assert browser.post("/sign-out").status_code == 303
                wait_for(lambda told=told: told.over, f"the end, for its {change}", seconds=5)


def test_a_slow_reader_is_told_to_start_anew(house: House, owner: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "BEHIND", 3)
    reader_take = hub.Reader.take
    held = threading.Event()
    held.set()
    monkeypatch.setattr(hub.Reader, "take", lambda self, seq: b"" if held.is_set() else reader_take(self, seq))
    with live(house, "events", owner) as told:
        wait_for(lambda: told.retry_ms)
        for _ in range(3):
            house.submit(owner)
        held.clear()
        house.submit(owner)
        wait_for(lambda: told.of("reset"), "word that some were lost")


def test_a_stopping_server_sends_its_readers_away_one_after_another(tmp_path: Path):
    with open_house(tmp_path) as house, live(house, "events") as one, live(house, "events") as two:
        wait_for(lambda: one.retry_ms and two.retry_ms)
        assert 500 <= min(one.retry_ms, two.retry_ms) < max(one.retry_ms, two.retry_ms) <= 2000
        close_streams(house.app)
        wait_for(lambda: one.over and two.over, "the end of the streams")
        assert not house.app.state.serving.bells


def test_an_organization_follows_no_end_of_different_things(house: House, owner: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "MOST_PICTURES", 2)
    with live(house, "nodes:q=a,nodes:q=b", owner):
        refused = house.call("GET", "/v1/live?topics=nodes:q=c", owner)
        assert (refused.status_code, refused.json()["code"]) == (503, "too_busy")
        with live(house, "nodes:q=a,fleet", house.member(house.organization("other-mill")["id"], "owner")) as others:
            others.wait(lambda topic, frame: topic == "nodes:q=a")
        with live(house, "nodes:q=b", owner) as again:
            again.wait(lambda topic, frame: topic == "nodes:q=b")
