"""Organizations, projects, members, keys, quotas, secrets: what an admin relies on."""

from __future__ import annotations

import pytest
from house import House

from headframe.base.errors import Conflict
from headframe.control.commands_tenancy import open_cloud


@pytest.fixture(scope="module")
def mill(house: House) -> dict[str, str]:
    home = house.organization("mill")
    return {"id": home["id"], "owner": house.member(home["id"], "owner", "ada")}


def test_the_first_key_is_the_operators(house: House):
    found = house.ok("GET", "/v1/whoami")
    assert found["organization"]["operator"]
    assert found["member"]["role"] == "owner"
    assert found["key"]["id"] == house.opening.key.id
    assert "fleet:write" in found["rights"]
    with pytest.raises(Conflict):
        house.control.run(open_cloud)


def test_an_organization_comes_with_a_project_and_an_owner(house: House):
    home = house.ok("POST", "/v1/organizations", json={"name": "kiln", "owner": "ada@kiln.example", "prepaid": True})
    assert (home["operator"], home["prepaid"], home["currency"]) == (False, True, "USD")
    other = house.organization("kiln-2")
    assert other["number"] > home["number"] > 1
    members = house.ok("GET", "/v1/members", params={"organization": "kiln"})["items"]
    assert [(each["name"], each["role"]) for each in members] == [("ada@kiln.example", "owner")]
    key = house.ok("POST", "/v1/keys", json={"name": "first", "member": members[0]["id"]})["key"]
    assert [each["name"] for each in house.ok("GET", "/v1/projects", key)["items"]] == ["default"]
    assert [each["id"] for each in house.ok("GET", "/v1/organizations", key)["items"]] == [home["id"]]
    assert house.call("POST", "/v1/organizations", json={"name": "kiln"}).status_code == 409
    assert house.call("POST", "/v1/organizations", json={"name": "x", "currency": "XXX"}).status_code == 422


def test_projects_keep_their_names_apart(house: House, mill: dict[str, str]):
    made = house.ok("POST", "/v1/projects", mill["owner"], json={"name": "research"})
    assert house.call("POST", "/v1/projects", mill["owner"], json={"name": "research"}).status_code == 409
    archived = house.ok("PATCH", f"/v1/projects/{made['id']}", mill["owner"], json={"archived": True})
    assert archived["archived"]
    assert archived["version"] == 2
    assert house.call("POST", "/v1/jobs", mill["owner"], json={"spec": {"run": "x"}, "project": "research"}).is_error
    default = house.ok("GET", "/v1/projects", mill["owner"])["items"][0]
    assert house.call("PATCH", f"/v1/projects/{default['id']}", mill["owner"], json={"name": "x"}).status_code == 409


def test_the_last_owner_stays(house: House, mill: dict[str, str]):
    owner = house.ok("GET", "/v1/whoami", mill["owner"])["member"]
    for change in ({"role": "member"}, {"disabled": True}):
        assert house.call("PATCH", f"/v1/members/{owner['id']}", mill["owner"], json=change).status_code == 409
    house.ok("POST", "/v1/members", mill["owner"], json={"name": "grace", "role": "owner"})
    assert house.ok("PATCH", f"/v1/members/{owner['id']}", json={"role": "admin"})["role"] == "admin"
    assert "members:write" in house.ok("GET", "/v1/whoami", mill["owner"])["rights"]
    house.ok("PATCH", f"/v1/members/{owner['id']}", json={"role": "owner"})


def test_a_disabled_member_is_out_at_once(house: House, mill: dict[str, str]):
    key = house.member(mill["id"], "member")
    member = house.ok("GET", "/v1/whoami", key)["member"]
    house.ok("PATCH", f"/v1/members/{member['id']}", mill["owner"], json={"disabled": True})
    assert house.call("GET", "/v1/whoami", key).status_code == 401
    house.ok("PATCH", f"/v1/members/{member['id']}", mill["owner"], json={"disabled": False})
    assert house.call("GET", "/v1/whoami", key).status_code == 200


def test_a_key_expires(house: House, mill: dict[str, str]):
    key = house.member(mill["id"], "member", expires_in="1h")
    assert house.call("GET", "/v1/whoami", key).status_code == 200
    house.clock.ahead_us += 3600 * 1_000_000
    assert house.call("GET", "/v1/whoami", key).status_code == 401


def test_members_see_their_own_keys_only(house: House, mill: dict[str, str]):
    key = house.member(mill["id"], "member")
    mine = house.ok("POST", "/v1/keys", key, json={"name": "second"})
    assert mine["key"].startswith("hf_")
    names = {each["name"] for each in house.ok("GET", "/v1/keys", key)["items"]}
    assert names == {"k", "second"}
    assert len(house.ok("GET", "/v1/keys", mill["owner"])["items"]) > 2
    assert house.call("POST", "/v1/keys", key, json={"name": "x", "scopes": ["everything"]}).status_code == 422


def test_quotas_are_set_by_scope(house: House, mill: dict[str, str]):
    project = house.ok("GET", "/v1/projects", mill["owner"])["items"][0]["id"]
    body = {"scope": "project", "scope_id": project, "gpu_milli": 4000}
    first = house.call("PUT", "/v1/quotas", mill["owner"], json=body)
    assert first.headers["etag"] == '"1"'
    second = house.ok("PUT", "/v1/quotas", mill["owner"], json={**body, "jobs": 5})
    assert (second["version"], second["gpu_milli"], second["jobs"]) == (2, 4000, 5)
    late = house.call("PUT", "/v1/quotas", mill["owner"], json=body, headers={"If-Match": '"1"'})
    assert late.status_code == 412
    whole = house.ok("PUT", "/v1/quotas", json={"scope": "organization", "scope_id": "mill", "gpu_milli": 8000})
    assert whole["scope_id"] == whole["organization_id"] == mill["id"]
    assert len(house.ok("GET", "/v1/quotas", mill["owner"])["items"]) == 2
    for wrong in ({"scope": "planet"}, {"scope": "project"}, {**body, "jobs": -1}, {**body, "jobs": 1 << 80}):
        assert house.call("PUT", "/v1/quotas", mill["owner"], json=wrong).status_code == 422


def test_a_secret_never_comes_back(house: House, mill: dict[str, str]):
    set_once = house.ok("PUT", "/v1/secrets/hf-token", mill["owner"], json={"value": "hunter2"})
    assert "sealed" not in set_once
    assert "hunter2" not in str(house.ok("GET", "/v1/secrets", mill["owner"]))
    again = house.ok("PUT", "/v1/secrets/hf-token", mill["owner"], json={"value": "hunter3"})
    assert again["version"] == 2
    house.ok("DELETE", "/v1/secrets/hf-token", mill["owner"])
    assert house.ok("GET", "/v1/secrets", mill["owner"])["items"] == []
    assert house.call("DELETE", "/v1/secrets/hf-token", mill["owner"]).status_code == 404
    house.ok("PUT", "/v1/secrets/hf-token", mill["owner"], json={"value": "hunter4"})
    assert len(house.ok("GET", "/v1/secrets", mill["owner"])["items"]) == 1
    assert house.call("PUT", "/v1/secrets/LD=1", mill["owner"], json={"value": "x"}).status_code == 422


def test_what_happened_is_told(house: House, mill: dict[str, str]):
    kinds = {event["kind"] for event in house.ok("GET", "/v1/events", mill["owner"])["items"]}
    assert {"organization_created", "member_created", "key_created", "quota_set", "secret_set"} <= kinds
    assert "hunter" not in str(house.ok("GET", "/v1/events"))


def test_guarantees_are_set_checked_and_told(house: House, mill: dict[str, str]):
    gpus = {"gpu_milli": 4000}
    whole = {"scope": "organization", "scope_id": "mill", "guaranteed": gpus, "borrow": {"gpu_milli": 2000}}
    made = house.ok("PUT", "/v1/quotas", json={**whole, "weight": 2000})
    assert (made["guaranteed"], made["borrow"], made["lend"], made["weight"]) == (gpus, {"gpu_milli": 2000}, {}, 2000)
    project = house.ok("GET", "/v1/projects", mill["owner"])["items"][0]["id"]
    part = {"scope": "project", "scope_id": project, "guaranteed": {"gpu_milli": 5000}}
    refused = house.call("PUT", "/v1/quotas", mill["owner"], json=part)
    assert (refused.status_code, refused.json()["code"]) == (422, "quota_contradiction")
    circle = house.call("PUT", "/v1/quotas", json={**whole, "parent": "mill"})
    assert (circle.status_code, circle.json()["code"]) == (422, "quota_cycle")
    for wrong in ({"tpu_milli": 1}, {"gpu_milli": -1}, {"gpu_milli": 1.5}, {"gpu_milli": 1 << 60}, [], "gpu=8"):
        assert house.call("PUT", "/v1/quotas", json={**whole, "guaranteed": wrong}).status_code == 422
