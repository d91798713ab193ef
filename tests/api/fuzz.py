"""Hostile requests against the whole API, made from its own description: `make fuzz`.

Runs for HEADFRAME_FUZZ_SECONDS (300 unless set) in a cloud of its own in a temporary folder, whose engine runs nothing.
Each turn asks every operation a few times with valid and with invalid values, as the owner of an ordinary organization
or as the operator. Nothing may answer 5xx, and every answer must be as it is described.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Any

import httpx
import pytest
import schemathesis
from house import House
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

load_all_checks()

SECONDS = float(os.environ.get("HEADFRAME_FUZZ_SECONDS", "300"))
EACH = 8  # requests to an operation in one turn
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
CHECKS = [schemathesis.checks.not_a_server_error, response_schema_conformance, content_type_conformance]


class Places:
    """Real ids, so that requests get further than to a 404."""

    def __init__(self, house: House) -> None:
        mill = house.ok("POST", "/v1/organizations", json={"name": "corn-mill", "owner": "ada"})
        ada = house.ok("GET", "/v1/members", params={"organization": mill["id"]})["items"][0]
        self.owner = house.ok("POST", "/v1/keys", json={"name": "first", "member": ada["id"]})["key"]
        project = house.ok("GET", "/v1/projects", self.owner)["items"][0]
        bob = house.ok("POST", "/v1/members", self.owner, json={"name": "bob"})
        spare = house.ok("POST", "/v1/keys", self.owner, json={"name": "spare", "member": bob["id"]})
        job = house.submit(self.owner, spec={"name": "long"})
        house.outputs.put(job["id"], "a.txt", b"1")
        house.logs.write(job["id"], "hello\n" * 1000)
        self.values = {
            "organization_id": mill["id"], "project_id": project["id"], "member_id": bob["id"], "key_id": spare["id"],
            "job": job["id"], "name": "token", "node_id": "nod_1", "path": "a.txt", "sha256": "0" * 64,
        }  # fmt: skip

    def put(self, case: schemathesis.Case, number: int) -> None:
        """Real ids in the path of every other request."""
        if number % 2:
            known = {name: self.values[name] for name in case.path_parameters or {} if name in self.values}
            case.path_parameters = {**(case.path_parameters or {}), **known}


@pytest.mark.filterwarnings("ignore")
def test_nothing_hostile_breaks_the_server(house: House):
    places = Places(house)
    url = str(house.http.base_url)
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 40
    until, turn, statuses = time.monotonic() + SECONDS, 0, Counter[int]()
    while time.monotonic() < until:
        key = (places.owner, house.key)[turn // 2 % 2]
        for operation in operations:
            if time.monotonic() >= until:
                break
            _ask(operation, MODES[turn % 2], turn, key, places, statuses)
        turn += 1
    print(f"{sum(statuses.values())} requests in {turn} turns: {dict(sorted(statuses.items()))}")
    assert house.ok("GET", "/readyz", "")["status"] == "ok"
    assert not house.complaints


def _ask(
    operation: Any, mode: schemathesis.GenerationMode, turn: int, key: str, places: Places, statuses: Counter[int]
) -> None:
    strategy = operation.as_strategy(generation_mode=mode)
    numbers = iter(range(1_000_000))

    @seed(turn)
    @settings(
        max_examples=EACH, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def one(case: schemathesis.Case) -> None:
        places.put(case, next(numbers))
        headers = {"Authorization": f"Bearer {key}"}
        if operation.path.endswith("/follow"):
            statuses[_open(case, headers)] += 1
            return
        response = case.call(headers=headers, timeout=20)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    try:
        one()
    except Exception as error:
        if type(error).__name__ != "Unsatisfiable":  # nothing can be wrong about an operation without parameters
            raise


def _open(case: schemathesis.Case, headers: dict[str, str]) -> int:
    """The status of a stream, which is closed at once."""
    asked = case.as_transport_kwargs(headers=headers)
    with httpx.stream("GET", asked["url"], params=asked.get("params"), headers=dict(asked["headers"])) as answer:
        assert answer.status_code < 500, answer.read()
        return answer.status_code
