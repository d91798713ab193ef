"""Reservations over HTTP and from the command line: made once, seen by whom they concern, refused with a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from house import House

from headframe.cli.main import main

LATER = (datetime.now(UTC) + timedelta(days=400)).strftime("%Y-%m-%d")  # far from what other tests do


def test_a_reservation_is_made_once_found_by_name_and_given_back(house: House) -> None:
    home = house.organization("planners")["id"]
    admin, member, viewer = (house.member(home, role) for role in ("admin", "member", "viewer"))
    wanted = {"name": "spring", "kind": "H100", "count": 4, "starts": LATER, "lasts": "3d", "organization": home}
    once = {"Idempotency-Key": "spring-1"}
    made = house.call("POST", "/v1/reservations", json=wanted, headers=once)
    assert made.status_code == 201, made.text
    again = house.call("POST", "/v1/reservations", json=wanted, headers=once)
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (made.json()["id"], "true")
    row = house.ok("GET", "/v1/reservations/spring", member)
    assert (row["state"], row["lacking"], len(row["slices"][0]["shares"])) == ("planned", 0, 4)
    assert [one["name"] for one in house.ok("GET", "/v1/reservations?state=planned", viewer)["items"]] == ["spring"]
    other = house.member(house.organization("strangers")["id"], "admin")
    assert house.ok("GET", "/v1/reservations", other)["items"] == []
    assert house.call("GET", f"/v1/reservations/{row['id']}", other).status_code == 404
    assert house.call("POST", "/v1/reservations/spring/cancel", member).status_code == 403
    refused = house.call("POST", "/v1/reservations", json={**wanted, "name": "more", "count": 5})
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (409, "reservation_overlap")
    assert "4 of the 5 H100 accelerators" in problem["detail"]
    gone = house.ok("POST", "/v1/reservations/spring/cancel", admin, json={"reason": "rain"})
    assert (gone["state"], gone["reason"]) == ("cancelled", "rain")


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0}, {"count": -1}, {"count": 1.5}, {"count": "4"}, {"nodes": 1}, {"lasts": "0s"}, {"lasts": "ever"},
        {"starts": "yesterday"}, {"starts": "9999999-01-01"}, {"name": "../../etc"}, {"kind": ""}, {"clusters": [""]},
        {"extra": 1}, {"ends": "2020-01-01", "lasts": None}, {"name": "x" * 300}, {"lasts": "NaN"},
    ],
)  # fmt: skip
def test_hostile_and_contradictory_reservations_are_refused_by_name(house: House, wrong: dict[str, object]) -> None:
    wanted = {"name": "bad", "kind": "H100", "count": 1, "starts": LATER, "lasts": "3d", **wrong}
    answer = house.call("POST", "/v1/reservations", json=wanted)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"]


def test_the_command_line_reserves_lists_shows_and_cancels(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, str]] = []

    class Wire:
        def call(self, method: str, path: str, **more: object) -> object:
            calls.append((method, path))
            query = more.get("query") or {}
            assert isinstance(query, dict)
            params = {name: value for name, value in query.items() if value is not None}
            answer = house.http.request(
                method, path, json=more.get("body"), params=params, headers={"Authorization": f"Bearer {house.key}"}
            )
            assert answer.status_code < 300, answer.text
            return answer.json()

        def close(self) -> None:
            pass

    monkeypatch.setenv("HEADFRAME_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HEADFRAME_KEY", house.key)
    monkeypatch.setattr("headframe.client.client.Wire", lambda *args, **more: Wire())
    assert main(["reservations", "create", "exam", "--gpu", "H100:2", "--from", LATER, "--for", "6h"]) == 0
    assert "Reserved 2 x H100 as exam" in capsys.readouterr().out
    assert main(["reservations"]) == 0
    assert "planned" in capsys.readouterr().out
    assert main(["reservations", "show", "exam"]) == 0
    assert "reservation_created" in capsys.readouterr().out
    assert main(["reservations", "cancel", "exam", "--yes", "-q"]) == 0
    assert capsys.readouterr().out.startswith("rsv_")
    assert ("POST", "/v1/reservations/exam/cancel") in calls
