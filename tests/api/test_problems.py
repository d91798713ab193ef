"""Errors: always a problem document with our code, a next step and the request's id; never 5xx for bad input."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

import pytest
from house import House, open_house

from headframe.api.wire import Limits

MEMBERS = {"type", "title", "status", "detail", "code", "next_step", "request_id"}


def _problem(answer, status: int, code: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document.keys() >= MEMBERS
    assert (document["status"], document["code"]) == (status, code)
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["detail"]
    return document


def test_what_is_not_there(house: House):
    _problem(house.call("GET", "/v1/nothing"), 404, "not_found")
    _problem(house.call("GET", "/v1/projects/prj_none"), 404, "not_found")
    _problem(house.call("GET", "/v1/jobs/none"), 404, "not_found")
    answer = house.call("DELETE", "/v1/jobs")
    _problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"]


def test_who_is_not_known(house: House):
    answer = house.call("GET", "/v1/jobs", "")
    assert _problem(answer, 401, "unauthenticated")["next_step"]
    assert answer.headers["www-authenticate"].startswith("Bearer")
    _problem(house.call("GET", "/v1/jobs", headers={"Authorization": "Basic eA=="}), 401, "unauthenticated")
    _problem(house.call("GET", "/v1/jobs", headers={"Authorization": b"Bearer \xe9"}), 401, "unauthenticated")


def test_a_wrong_field_is_named(house: House):
    found = _problem(house.call("POST", "/v1/projects", json={"nam": "x"}), 422, "invalid_value")
    assert found["field"] == "body.name"
    assert {each["field"] for each in found["errors"]} == {"body.name", "body.nam"}
    found = _problem(house.call("POST", "/v1/projects", json={"name": "No Good"}), 422, "invalid_value")
    assert (found["field"], found["value"]) == ("name", "No Good")
    assert "letters" in found["allowed"]
    found = _problem(house.call("GET", "/v1/jobs?limit=501"), 422, "invalid_value")
    assert found["field"] == "query.limit"
    found = _problem(house.call("POST", "/v1/jobs", json={"spec": {"run": "true", "gpus": 1}}), 422, "invalid_spec")
    assert found["field"] == "gpus"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"name": NaN}',
        b'{"name": "\\ud800"}',
        b"\xff",
        b"[" * 100_000,
        b'{"name": "a\\u0000"}',
        b"[]",
        b"1",
        b"",
    ],
)
def test_broken_json(house: House, body: bytes):
    answer = house.call("POST", "/v1/projects", content=body, headers={"Content-Type": "application/json"})
    _problem(answer, 422, "invalid_value")


def test_hostile_addresses(house: House):
    paths = [
        "/v1/projects/%00", "/v1/projects/%ff", "/v1/jobs/%ed%a0%80", "/v1/jobs/..%2f..%2fetc", "/v1/jobs?name=%00",
        "/v1/jobs?cursor=%ff", "/v1/jobs?cursor=AAAA", "/v1/jobs?cursor=*", "/v1/events?after=" + "9" * 400,
        "/v1/events?after=-1", "/v1/events?cursor=eA", "/v1/jobs?limit=" + "9" * 5000, "/v1/jobs/" + "a" * 300,
        "/v1/jobs?state=gone", "/v1/events/follow?after=" + "9" * 30, "/v1/secrets?project=%F0%9F%92%A9",
    ]  # fmt: skip
    for path in paths:
        status = house.call("GET", path).status_code
        assert 400 <= status < 500, (path, status)
    for cursor in ("eA", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"):
        assert house.call("GET", f"/v1/projects?cursor={cursor}").status_code == 200, "any place is a place in a list"


@pytest.mark.parametrize(
    "more",
    [
        {"datasets": {"a": "wiki@" + "9" * 30}}, {"datasets": {"a": "wiki@" + "9" * 4000}}, {"nodes": 10**30},
        {"datasets": {"a": "wiki@\u0663"}}, {"array": {"index": "0.." + "9" * 30}}, {"resources": {"gpu": 10**25}},
        {"resources": {"gpu": "H100:" + "9" * 20}}, {"resources": {"cpu": 1e300}}, {"resources": {"cpu": -1}},
        {"resources": {"memory": "9999999999999PB"}}, {"resources": {"gpu": 1e-7}}, {"after": ["x" * 300]},
        {"after": ["nope"]}, {"secrets": ["nope"]}, {"files": "sha256:" + "0" * 64}, {"files": "../etc"},
        {"budget": "9e99 USD"}, {"budget": "-5"}, {"max_duration": "99999999999999999d"}, {"priority": 10**20},
        {"schedule": {"cron": "0 0 30 2 *"}}, {"env": {"A=B": "c"}}, {"env": {"A": None}}, {"project": ["a"]},
        {"project": "\U0001f600"}, {"name": "\U0001f600"}, {"clusters": ["nowhere"]}, {"retry": {"max": 10**30}},
        {"image": "-v /:/host"}, {"packages": ["--index-url=evil"]}, {"checkpoints": {"path": "/etc"}},
        {"type": "nothing"}, {"resources": {"disk": "9000000TB"}}, {"run": "x" * (1 << 19)},
    ],
)  # fmt: skip
def test_hostile_jobs(house: House, more: dict):
    last = house.control.world.last_event_seq
    answer = house.call("POST", "/v1/jobs", json={"spec": {"run": "x", **more}})
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["detail"]
    assert house.control.world.last_event_seq == last, "nothing is stored"


def test_hostile_headers(house: House):
    tries = [
        ("GET", "/v1/events/follow", {"Last-Event-ID": "x"}), ("GET", "/v1/events/follow", {"Last-Event-ID": "9" * 40}),
        ("POST", "/v1/projects", {"Idempotency-Key": ""}), ("POST", "/v1/projects", {"Idempotency-Key": "é"}),
        ("POST", "/v1/projects", {"Idempotency-Key": "k" * 201}), ("PUT", "/v1/quotas", {"If-Match": "3"}),
        ("PUT", "/v1/quotas", {"If-Match": '"' + "9" * 50 + '"'}),
    ]  # fmt: skip
    for method, path, headers in tries:
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        body = {"name": "p"} if method == "POST" else {"scope": "project", "scope_id": "x"}
        answer = house.call(method, path, headers=encoded, **({} if method == "GET" else {"json": body}))
        assert 400 <= answer.status_code < 500, (path, headers, answer.status_code)


def test_bodies_are_bounded(house: House):
    big = json.dumps({"name": "x" * (1 << 20)}).encode()
    headers = {"Content-Type": "application/json"}
    found = _problem(house.call("POST", "/v1/projects", content=big, headers=headers), 413, "too_large")
    assert found["limit_bytes"] == 1 << 20
    pieces = iter([big[: 1 << 19], big[1 << 19 :]])  # without a length
    _problem(house.call("POST", "/v1/projects", content=pieces, headers=headers), 413, "too_large")
    connection = http.client.HTTPConnection(urlsplit(str(house.http.base_url)).netloc, timeout=10)
    connection.putrequest("PUT", "/v1/files/" + "0" * 64)
    connection.putheader("Content-Length", "9" * 17)
    connection.putheader("Authorization", f"Bearer {house.key}")
    connection.endheaders()
    assert connection.getresponse().status == 413, "told before anything was sent"
    connection.close()


def test_a_body_that_stops_arriving_is_given_up(tmp_path):
    with open_house(tmp_path, Limits(body_timeout_s=0.2)) as house:
        for method, path in (("PUT", "/v1/files/" + "0" * 64), ("POST", "/v1/projects")):
            connection = http.client.HTTPConnection(urlsplit(str(house.http.base_url)).netloc, timeout=10)
            connection.putrequest(method, path)
            connection.putheader("Content-Length", "100")
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Authorization", f"Bearer {house.key}")
            connection.endheaders(b"{")
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["code"]) == (408, "request_timeout")
            connection.close()


def test_a_failure_of_ours_tells_nothing(house: House, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr(house.control.logs, "read", fail)
    job = house.submit()
    answer = house.call("GET", f"/v1/jobs/{job['id']}/log")
    found = _problem(answer, 500, "internal")
    assert "inside" not in answer.text
    assert found["request_id"] in found["next_step"]


def test_every_answer_has_safe_headers(house: House):
    for path, key in (("/healthz", ""), ("/v1/jobs", None), ("/v1/jobs", ""), ("/v1/none", None)):
        headers = house.call("GET", path, key).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-request-id"].startswith("req_")
        assert "set-cookie" not in headers
        assert "access-control-allow-origin" not in headers


def test_a_full_server_says_so(tmp_path):
    with open_house(tmp_path, Limits(requests=0)) as full:
        answer = full.call("GET", "/healthz", "")
        _problem(answer, 503, "too_busy")
        assert answer.headers["retry-after"] == "1"


def test_wrong_keys_from_one_address_are_slowed_down_and_live_ones_pass(tmp_path):
    with open_house(tmp_path, Limits(wrong_keys=3)) as house:
        for key in ("", "hf_no_such", house.key[:-1] + "x"):
            _problem(house.call("GET", "/v1/whoami", key), 401, "unauthenticated")
        for key in ("", "hf_no_such", house.key[:-1] + "x"):
            answer = house.call("GET", "/v1/whoami", key)
            found = _problem(answer, 429, "too_many_failures")
            assert answer.headers["retry-after"] == str(found["retry_after_s"])
        assert house.call("GET", "/v1/whoami").status_code == 200
        house.clock.ahead_us += 3_000_000
        _problem(house.call("GET", "/v1/whoami", "hf_no_such"), 401, "unauthenticated")
