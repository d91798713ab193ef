"""What may come twice or too late: Idempotency-Key, If-Match, cursors."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from house import House

_keys = itertools.count(1)


@pytest.fixture
def again() -> dict[str, str]:
    return {"Idempotency-Key": f"try-{next(_keys)}"}


def test_a_repeat_gets_the_first_answer(house: House, again: dict[str, str]):
    body = {"spec": {"run": "run 1000s"}}
    first = house.call("POST", "/v1/jobs", json=body, headers=again)
    second = house.call("POST", "/v1/jobs", json=body, headers=again)
    assert first.status_code == second.status_code == 201
    assert first.content == second.content
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    jobs = [job["id"] for job in house.ok("GET", "/v1/jobs")["items"]]
    assert jobs.count(first.json()["id"]) == 1


def test_another_request_under_the_same_key_is_refused(house: House, again: dict[str, str]):
    house.ok("POST", "/v1/projects", json={"name": "one"}, headers=again)
    for path, body in (("/v1/projects", {"name": "two"}), ("/v1/organizations", {"name": "one"})):
        answer = house.call("POST", path, json=body, headers=again)
        assert answer.status_code == 422
        assert answer.json()["code"] == "idempotency_key_reused"
    assert "two" not in {each["name"] for each in house.ok("GET", "/v1/projects")["items"]}


def test_keys_of_others_do_not_meet(house: House, again: dict[str, str]):
    home = house.organization("others")
    one, two = (house.member(home["id"], "admin") for _ in range(2))
    house.ok("POST", "/v1/projects", one, json={"name": "from-one"}, headers=again)
    house.ok("POST", "/v1/projects", two, json={"name": "from-two"}, headers=again)


def test_a_failure_may_be_tried_again(house: House, again: dict[str, str]):
    assert house.call("POST", "/v1/projects", json={"name": "taken"}).status_code == 201
    assert house.call("POST", "/v1/projects", json={"name": "taken"}, headers=again).status_code == 409
    project = next(each for each in house.ok("GET", "/v1/projects")["items"] if each["name"] == "taken")
    house.ok("PATCH", f"/v1/projects/{project['id']}", json={"name": "given-up"})
    assert house.call("POST", "/v1/projects", json={"name": "taken"}, headers=again).status_code == 201


def test_many_at_once_do_it_once(house: House, again: dict[str, str]):
    def submit(_: int) -> tuple[int, str]:
        answer = house.call("POST", "/v1/jobs", json={"spec": {"run": "run 1000s"}}, headers=again)
        return answer.status_code, answer.json().get("id", "")

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(submit, range(16)))
    assert len(answers) == 1
    assert next(iter(answers))[0] == 201


def test_the_text_of_a_key_lies_nowhere_in_the_clear(house: House, again: dict[str, str]):
    body = {"name": "ci"}
    first = house.ok("POST", "/v1/keys", json=body, headers=again)
    assert house.ok("POST", "/v1/keys", json=body, headers=again) == first
    assert house.ok("GET", "/v1/whoami", first["key"])["key"]["id"] == first["id"]
    secret = first["key"].split("_", 2)[2].encode()
    folder = house.outputs.data
    assert all(secret not in path.read_bytes() for path in folder.glob("headframe.db*"))
    listed = house.ok("GET", "/v1/keys")
    assert "secret_sha256" not in str(listed)


def test_an_edit_of_an_older_version_is_refused(house: House):
    made = house.call("POST", "/v1/projects", json={"name": "edited"})
    path, etag = f"/v1/projects/{made.json()['id']}", made.headers["etag"]
    assert etag == '"1"'
    changed = house.call("PATCH", path, json={"name": "edited-2"}, headers={"If-Match": etag})
    assert changed.headers["etag"] == '"2"'
    late = house.call("PATCH", path, json={"name": "edited-3"}, headers={"If-Match": etag})
    assert (late.status_code, late.json()["code"]) == (412, "version_conflict")
    assert house.call("GET", path).headers["etag"] == '"2"'
    house.ok("PATCH", path, json={"name": "edited-4"}, headers={"If-Match": "*"})
    same = house.call("PATCH", path, json={"name": "edited-4"})
    assert same.headers["etag"] == '"3"', "an edit that changes nothing makes no version"


def test_pages_hold_everything_once(house: House):
    home = house.organization("pages")
    key = house.member(home["id"], "owner")
    made = [house.submit(key)["id"] for _ in range(7)]
    seen, cursor, pages = [], None, 0
    while True:
        query = {"limit": 3, **({"cursor": cursor} if cursor else {})}
        page = house.ok("GET", "/v1/jobs", key, params=query)
        seen += [job["id"] for job in page["items"]]
        cursor, pages = page["next"], pages + 1
        if cursor is None:
            break
    assert seen == sorted(made, reverse=True)
    assert pages == 3
    exact = house.ok("GET", "/v1/jobs", key, params={"limit": 7})
    assert (len(exact["items"]), exact["next"]) == (7, None)
    events, cursor = [], None
    while True:
        query = {"limit": 5, **({"cursor": cursor} if cursor else {})}
        page = house.ok("GET", "/v1/events", key, params=query)
        events += [event["seq"] for event in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert events == sorted(set(events))
    assert len(events) >= 7
