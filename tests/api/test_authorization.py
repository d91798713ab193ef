"""Every route with every kind of caller, against one table.

The letters of a line are the answers to: owner, admin, member and viewer of an organization; the owner of another one;
an admin of the operator; an owner's key with only the right jobs:read; an admin's key narrowed to another project.
`+` it is done, `-` 403, `0` 404: for this caller it does not exist. Whoever has no key, an expired or a revoked one, or
is a disabled member, gets 401 everywhere.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from house import House

from headframe.api.app import all_routes
from headframe.base.changes import Changes
from headframe.base.quantities import DAY_US, format_moment
from headframe.control.commands_sessions import sign_in
from headframe.control.queries_tenancy import authenticate
from headframe.fleet.records import Cluster
from headframe.ledger.records import Invoice

PUBLIC = ["GET /healthz", "GET /readyz", "GET /metrics"]
CALLERS = ["owner", "admin", "member", "viewer", "stranger", "operator", "scoped", "narrowed"]
TABLE = {
    "GET /v1/whoami": "++++++++",
    "GET /v1/organizations": "++++++-+",
    "POST /v1/organizations": "-----+--",
    "GET /v1/organizations/{organization_id}": "++++0+--",
    "PATCH /v1/organizations/{organization_id}": "----0+--",
    "GET /v1/projects": "++++0+-+",
    "POST /v1/projects": "++--0+--",
    "GET /v1/projects/{project_id}": "++++0+-0",
    "PATCH /v1/projects/{project_id}": "++--0+-0",
    "GET /v1/members": "++++0+--",
    "POST /v1/members": "++--0+--",
    "PATCH /v1/members/{member_id}": "++--0+--",
    "GET /v1/keys": "++++0+--",
    "POST /v1/keys": "++--0+--",  # for another member
    "DELETE /v1/keys/{key_id}": "++--0+--",  # of another member
    "GET /v1/sessions": "++++0+--",
    "DELETE /v1/sessions/{session_id}": "++--0+--",  # of another member
    "GET /v1/quotas": "++++0+--",
    "PUT /v1/quotas": "++--0+-0",
    "GET /v1/secrets": "++++0+-0",
    "PUT /v1/secrets/{name}": "++--0+-0",
    "DELETE /v1/secrets/{name}": "++--0+-0",
    "POST /v1/files/missing": "+++-++-+",  # each in its own organization
    "PUT /v1/files/{sha256}": "+++-++-+",
    "GET /v1/datasets": "++++0+++",
    "POST /v1/datasets": "+++-0+-0",
    "POST /v1/jobs": "+++-0+-0",
    "POST /v1/plan": "+++-0+-0",
    "GET /v1/jobs": "++++0+++",
    "GET /v1/jobs/{job}": "++++0++0",
    "GET /v1/allocations": "++++0+++",
    "POST /v1/import/sbatch": "++++++++",
    "GET /v1/jobs/{job}/story": "++++0++0",
    "POST /v1/jobs/{job}/stop": "++--0+-0",  # of another member
    "GET /v1/jobs/{job}/cheaper": "++--0+-0",
    "GET /v1/jobs/{job}/log": "++++0++0",
    "GET /v1/jobs/{job}/log/follow": "++++0++0",
    "GET /v1/jobs/{job}/outputs": "++++0++0",
    "GET /v1/jobs/{job}/outputs/{path:anything}": "++++0++0",
    "GET /v1/jobs/{job}/metrics": "++++0++0",
    "GET /v1/jobs/{job}/metrics/lines": "++++0++0",
    "GET /v1/nodes/{node_id}/metrics": "-----+--",
    "GET /v1/events": "++++0+++",
    "GET /v1/events/follow": "++++0+++",
    "GET /v1/live": "++++0+++",
    "GET /v1/find": "++++++++",  # of what each may see
    "GET /v1/queue": "++++0+++",
    "GET /v1/regions": "++++++-+",
    "GET /v1/clusters": "++++++-+",
    "GET /v1/nodes": "++++++-+",
    "GET /v1/accelerators": "++++++-+",
    "GET /v1/fleet/map": "++++++-+",
    "GET /v1/fleet/frame": "++++++-+",
    "GET /v1/fleet/nodes": "++++++-+",
    "GET /v1/nodes/{node_id}": "++++++-+",
    "GET /v1/nodes/{node_id}/past": "++++++-+",
    "GET /v1/storage": "-----+--",
    "POST /v1/storage/prune": "-----+--",
    "GET /v1/prices": "++++++-+",
    "POST /v1/prices": "-----+--",
    "POST /v1/prices/preview": "-----+--",
    "GET /v1/usage": "++++0+-+",
    "GET /v1/charges": "++++0+-+",
    "GET /v1/balance": "++--0+--",
    "GET /v1/usage/events": "++--0+--",
    "POST /v1/usage/events": "++--++-+",  # none in the batch: the right alone counts
    "GET /v1/usage/forecast": "++++0+-+",
    "GET /v1/usage/now": "++++0+-+",
    "GET /v1/usage/waste": "++++0+-+",
    "GET /v1/meters": "++++++-+",
    "POST /v1/meters": "-----+--",
    "GET /v1/exchange-rates": "++++++-+",
    "POST /v1/exchange-rates": "-----+--",
    "GET /v1/contracts": "++--0+--",
    "POST /v1/contracts": "----0+--",
    "POST /v1/contracts/{contract_id}/end": "----0+--",
    "GET /v1/credits": "++--0+--",
    "POST /v1/credits": "----0+--",
    "GET /v1/holds": "++--0+--",
    "POST /v1/holds": "----0+--",
    "POST /v1/holds/{hold_id}/post": "----0+--",
    "POST /v1/holds/{hold_id}/void": "----0+--",
    "GET /v1/budgets": "++++0+-+",
    "PUT /v1/budgets": "++--0+-0",
    "DELETE /v1/budgets": "++--0+-0",
    "GET /v1/invoices": "++--0+--",
    "GET /v1/invoices/draft": "++--0+--",
    "GET /v1/invoices/{invoice_id}": "++--0+--",
    "GET /v1/invoices/{invoice_id}/file": "++--0+--",
    "POST /v1/invoices/{invoice_id}/void": "-----+--",
    "POST /v1/invoices/{invoice_id}/correct": "-----+--",
    "POST /v1/invoices/{invoice_id}/reissue": "-----+--",
    "POST /v1/invoices/{invoice_id}/payments": "-----+--",
    "GET /v1/receivables": "++--0+--",
    "POST /v1/invoices/{invoice_id}/credit": "-----+--",
    "GET /v1/billing": "++--0+--",
    "PUT /v1/billing": "++--0+--",
    "GET /v1/seller": "++--++--",
    "PUT /v1/seller": "-----+--",
    "GET /v1/tax-rates": "-----+--",
    "POST /v1/tax-rates": "-----+--",
    "GET /v1/ledger": "-----+--",
    "GET /v1/export/focus": "++--0+--",
    "GET /v1/export/month": "-----+--",
    "GET /v1/export/beancount": "-----+--",
    "GET /v1/reservations": "++++0+-+",
    "POST /v1/reservations": "++--0+-+",  # for its own project
    "GET /v1/reservations/{reservation}": "++++0+-+",  # it may be the whole organization's
    "POST /v1/reservations/{reservation}/cancel": "++--0+--",
    "POST /v1/clusters/{cluster_id}/marks": "-----+--",
    "POST /v1/clusters/{cluster_id}/drain": "-----+--",
    "POST /v1/clusters/{cluster_id}/resume": "-----+--",
    "GET /v1/clusters/{cluster_id}/losses": "-----+--",
    "POST /v1/clusters/{cluster_id}/lost": "-----+--",
    "POST /v1/nodes/{node_id}/drain": "-----+--",
    "POST /v1/nodes/{node_id}/marks": "-----+--",
    "POST /v1/nodes/{node_id}/resume": "-----+--",
}
ROUTES = sorted(TABLE)


@dataclass
class Town:
    """An organization with everything in it, a neighbour, and a key for each kind of caller."""

    house: House
    organization: dict[str, Any]
    project: dict[str, Any]
    keys: dict[str, str]
    job: dict[str, Any]
    manifest: str
    dead: dict[str, str] = field(default_factory=dict)
    count: Any = field(default_factory=lambda: itertools.count(1))

    def fresh(self, what: str) -> str:
        return f"{what}-{next(self.count)}"

    def member(self) -> dict[str, Any]:
        fields = {"name": self.fresh("member"), "role": "member", "organization": self.organization["id"]}
        return dict(self.house.ok("POST", "/v1/members", json=fields))

    def session(self) -> str:
        """A browser that another member has signed in."""
        key = self.house.ok("POST", "/v1/keys", json={"name": "k", "member": self.member()["id"]})["key"]
        control = self.house.control
        caller = authenticate(control.world, self.house.clock.now_us(), key)
        return str(control.run(sign_in, caller)[0].id)

    def contract(self) -> dict[str, Any]:
        return {
            "organization": self.organization["id"], "shape": "monthly", "title": "t", "amount": "1 USD",
            "ends": format_moment(self.house.clock.now_us() + 400 * DAY_US),
        }  # fmt: skip

    def reservation(self) -> dict[str, Any]:
        """One accelerator for an hour that nobody else has asked for, far from now."""
        number = next(self.count)
        starts_us = self.house.clock.now_us() + (300 + number) * DAY_US
        return {
            "organization": self.organization["id"], "name": f"res-{number}", "kind": "H100", "count": 1,
            "starts": format_moment(starts_us), "lasts": "1h",
        }  # fmt: skip

    def hold(self) -> dict[str, Any]:
        """Something to hold back, with credit for it."""
        home = self.organization["id"]
        self.house.ok("POST", "/v1/credits", json={"organization": home, "amount": "0.02 USD"})
        return {"organization": home, "project": self.project["id"], "amount": "0.01 USD", "source": "s"}

    def request(self, route: str) -> tuple[str, dict[str, Any]]:
        """An address in that organization, and what goes with it, for a fresh target where the call uses it up."""
        method, _, path = route.partition(" ")
        house, home, project = self.house, self.organization["id"], self.project["id"]
        in_house = {"params": {"organization": home}}
        in_project = {"params": {"project": project}}
        spec = {"spec": {"run": "run 1s"}, "project": project}
        special: dict[str, Any] = {
            "POST /v1/organizations": lambda: {"json": {"name": self.fresh("org")}},
            "PATCH /v1/organizations/{organization_id}": lambda: {"json": {"prepaid": False}},
            "POST /v1/projects": lambda: {"json": {"name": self.fresh("prj"), "organization": home}},
            "PATCH /v1/projects/{project_id}": lambda: {"json": {"archived": False}},
            "POST /v1/members": lambda: {"json": {"name": self.fresh("who"), "organization": home}},
            "PATCH /v1/members/{member_id}": lambda: {"json": {"role": "viewer"}},
            "POST /v1/keys": lambda: {"json": {"name": "k", "member": self.member()["id"]}},
            "PUT /v1/quotas": lambda: {"json": {"scope": "project", "scope_id": project, "jobs": 1000}},
            "PUT /v1/secrets/{name}": lambda: {"json": {"value": "v"}, **in_project},
            "GET /v1/secrets": lambda: in_project,
            "POST /v1/files/missing": lambda: {"json": {"hashes": ["0" * 64]}},
            "PUT /v1/files/{sha256}": lambda: {"content": b"x"},
            "POST /v1/datasets": lambda: {"json": {"name": "wiki", "manifest": self.manifest, "project": project}},
            "POST /v1/jobs": lambda: {"json": spec},
            "POST /v1/plan": lambda: {"json": spec},
            "POST /v1/import/sbatch": lambda: {"json": {"script": "#!/bin/sh\ntrue\n"}},
            "POST /v1/prices/preview": lambda: {"json": {"month": "2026-11"}},
            "POST /v1/prices": lambda: {"json": {"meter": "cpu", "amount": "0.05 USD"}},
            "POST /v1/credits": lambda: {"json": {"organization": home, "amount": "5 USD"}},
            "GET /v1/live": lambda: {"params": {"organization": home, "topics": "events"}},
            "GET /v1/find": lambda: {"params": {"text": "secret-plan"}},
            "POST /v1/usage/events": lambda: {"json": []},
            "POST /v1/meters": lambda: {"json": {"name": self.fresh("m"), "event_type": "x", "path": "n"}},
            "POST /v1/exchange-rates": lambda: {"json": {"base": "USD", "quote": "CHF", "rate": "1", "source": "s"}},
            "POST /v1/contracts": lambda: {"json": self.contract()},
            "POST /v1/contracts/{contract_id}/end": lambda: {"json": {}},
            "POST /v1/holds": lambda: {"json": self.hold()},
            "POST /v1/holds/{hold_id}/post": lambda: {"json": {"amount": "0.01 USD", "meter": "cpu"}},
            "PUT /v1/budgets": lambda: {"json": {"scope": "project", "scope_id": project, "amount": "900 USD"}},
            "POST /v1/reservations": lambda: {"json": self.reservation()},
            "POST /v1/clusters/{cluster_id}/marks": lambda: {"json": {"labels": ["packing=fgd"]}},
            "POST /v1/clusters/{cluster_id}/lost": lambda: {"json": {"confirm": "gone", "reason": "x"}},
            "GET /v1/invoices/{invoice_id}/file": lambda: {"params": {"form": "json"}},
            "POST /v1/invoices/{invoice_id}/void": lambda: {"json": {"reason": "wrong buyer"}},
            "POST /v1/invoices/{invoice_id}/credit": lambda: {"json": {"amount": "5 USD", "reason": "slow"}},
            "POST /v1/invoices/{invoice_id}/reissue": lambda: {"json": {"reason": "right buyer"}},
            "POST /v1/invoices/{invoice_id}/payments": lambda: {"json": {"amount": "0.01 USD"}},
            "PUT /v1/billing": lambda: {"json": {"country": "DE"}, **in_house},
            "PUT /v1/seller": lambda: {"json": {"name": "Mine GmbH"}},
            "POST /v1/tax-rates": lambda: {"json": {"applies_to": "DE", "category": "S", "percent": "19"}},
            "GET /v1/export/focus": lambda: {"params": {"organization": home, "month": "2026-10", "form": "csv"}},
            "GET /v1/export/month": lambda: {"params": {"month": "2026-09", "form": "csv"}},
            "POST /v1/nodes/{node_id}/drain": lambda: {"json": {"reason": "test"}},
            "POST /v1/nodes/{node_id}/marks": lambda: {"json": {"labels": ["disk=nvme"]}},
        }
        more = special[route]() if route in special else (in_house if method == "GET" and "{" not in path else {})
        if "{member_id}" in path:
            path = path.replace("{member_id}", self.member()["id"])
        if "{key_id}" in path:
            made = house.ok("POST", "/v1/keys", json={"name": "k", "member": self.member()["id"]})
            path = path.replace("{key_id}", made["id"])
        if "{session_id}" in path:
            path = path.replace("{session_id}", self.session())
        if "{contract_id}" in path:
            path = path.replace("{contract_id}", house.ok("POST", "/v1/contracts", json=self.contract())["id"])
        if "{reservation}" in path:
            made = house.ok("POST", "/v1/reservations", json=self.reservation())
            path = path.replace("{reservation}", made["id"])
        if "{hold_id}" in path:
            path = path.replace("{hold_id}", house.ok("POST", "/v1/holds", json=self.hold())["id"])
        if method == "DELETE" and "{name}" in path:
            name = self.fresh("gone")
            house.ok("PUT", f"/v1/secrets/{name}", json={"value": "v"}, **in_project)
            path, more = path.replace("{name}", name), in_project
        if path == "/v1/budgets" and method != "GET":  # one that the operator put would be the operator's
            where = {"scope": "project", "scope_id": project}
            house.call("DELETE", path, params=where)
            if method == "DELETE":
                house.ok("PUT", path, self.keys["owner"], json={**where, "amount": "900 USD"})
                more = {"params": where}
        if path.endswith(("/void", "/credit", "/reissue", "/payments")):
            number = max(1000, house.control.world.last_invoice + 1)
            made = Invoice(
                f"inv_{number}", number, home, f"{number}-01", "USD", (), 10**12, 0, 10**12, 1, net_nano=10**12
            )
            house.control.run(lambda world, context: (Changes((made,)), None))
            path = path.replace("{invoice_id}", made.id)
            if path.endswith("/reissue"):
                house.ok("POST", f"/v1/invoices/{made.id}/void", json={"reason": "wrong buyer"})
        if path.endswith("/lost"):  # one that is not away cannot be
            gone = Cluster("cls_gone", "reg_1", "gone", "none", unreachable_us=1, trouble="nobody runs it")
            if house.control.world.get(Cluster, gone.id) is None:
                house.control.run(lambda world, context: (Changes((gone,)), None))
            path = path.replace("{cluster_id}", gone.id)
        if path.endswith("/stop"):
            job = house.submit(self.keys["owner"], project=project)
            path = path.replace("{job}", job["id"])
        places = {
            "{organization_id}": home, "{project_id}": project, "{name}": "token", "{job}": self.job["id"],
            "{sha256}": hashlib.sha256(b"x").hexdigest(), "{path:anything}": "result.txt", "{node_id}": "nod_1",
            "{cluster_id}": "cls_1",
            "{invoice_id}": "inv_mill",
        }  # fmt: skip
        for place, value in places.items():
            path = path.replace(place, value)
        return path, more

    def status(self, route: str, key: str) -> tuple[int, str]:
        """The status of a call, and the beginning of its answer (streams are cut off)."""
        method = route.partition(" ")[0]
        path, more = self.request(route)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with self.house.http.stream(method, path, headers=headers, **more) as answer:
            if "text/event-stream" in answer.headers.get("content-type", ""):
                return answer.status_code, ""
            return answer.status_code, answer.read().decode(errors="replace")


@pytest.fixture(scope="module")
def town(house: House) -> Town:
    organization = house.organization("corn-mill")
    neighbour = house.organization("neighbour")
    owner = house.member(organization["id"], "owner")
    project = house.ok("GET", "/v1/projects", owner)["items"][0]
    house.ok("POST", "/v1/projects", owner, json={"name": "side"})
    job = house.submit(owner, spec={"name": "secret-plan"})
    house.outputs.put(job["id"], "result.txt", b"42")
    house.logs.write(job["id"], "hello\n")
    content = hashlib.sha256(b"x").hexdigest()
    manifest = b'{"files":[{"mode":420,"path":"a","sha256":"%s","size":1}]}' % content.encode()
    digest = hashlib.sha256(manifest).hexdigest()
    for name, body in ((content, b"x"), (digest, manifest)):
        house.ok("PUT", f"/v1/files/{name}", owner, content=body)
    invoice = Invoice("inv_mill", 1, organization["id"], "2026-10", "USD", (), 0, 0, 0, 1)
    house.control.run(lambda world, context: (Changes((invoice,)), None))
    keys = {
        "owner": owner,
        "admin": house.member(organization["id"], "admin"),
        "member": house.member(organization["id"], "member"),
        "viewer": house.member(organization["id"], "viewer"),
        "stranger": house.member(neighbour["id"], "owner"),
        "operator": house.member(None, "admin"),
        "scoped": house.member(organization["id"], "owner", scopes=["jobs:read"]),
        "narrowed": house.member(organization["id"], "admin", project="side"),
    }
    quota = {"scope": "organization", "scope_id": organization["id"], "gpu_milli": 2000}
    house.ok("PUT", "/v1/quotas", json=quota)
    town = Town(house, organization, project, keys, job, digest)
    town.dead = _dead_keys(town)
    return town


def _dead_keys(town: Town) -> dict[str, str]:
    house, home = town.house, town.organization["id"]
    expired = house.member(home, "owner", expires_in="1us")
    revoked = house.member(home, "owner")
    house.ok("DELETE", f"/v1/keys/{house.ok('GET', '/v1/whoami', revoked)['key']['id']}", revoked)
    disabled = house.member(home, "member")
    member = house.ok("GET", "/v1/whoami", disabled)["member"]
    house.ok("PATCH", f"/v1/members/{member['id']}", json={"disabled": True})
    wrong = town.keys["owner"][:-4] + "0000"
    return {"none": "", "expired": expired, "revoked": revoked, "disabled": disabled, "wrong": wrong, "junk": "x"}


def test_every_route_stands_in_the_table():
    routes = [f"{method} {path}" for method, path in all_routes()]
    assert sorted(routes) == sorted([*TABLE, *PUBLIC])
    assert all(len(line) == len(CALLERS) for line in TABLE.values())


@pytest.mark.parametrize("route", ROUTES)
def test_each_caller_may_do_what_the_table_says(town: Town, route: str):
    found = {}
    for caller, key in town.keys.items():
        status, text = town.status(route, key)
        found[caller] = {403: "-", 404: "0"}.get(status, "+" if status < 300 else f"{status} {text}")
    assert found == dict(zip(CALLERS, TABLE[route], strict=True))


@pytest.mark.parametrize("route", ROUTES)
def test_nobody_gets_in_without_a_live_key(town: Town, route: str):
    found = {name: town.status(route, key)[0] for name, key in town.dead.items()}
    assert found == dict.fromkeys(town.dead, 401)


@pytest.mark.parametrize("route", PUBLIC)
def test_public_routes_need_no_key(house: House, route: str):
    answer = house.call("GET", route.partition(" ")[2], "")
    assert answer.status_code == 200
    assert "secret-plan" not in answer.text


@pytest.mark.parametrize("route", [route for route in ROUTES if route.startswith("GET") and "{" not in route])
def test_lists_never_show_what_belongs_to_others(town: Town, route: str):
    if route.endswith(("/follow", "/live")) or "/export/" in route or TABLE[route][4] == "-":
        return
    answer = town.house.call("GET", route.partition(" ")[2], town.keys["stranger"])
    assert answer.status_code == 200, answer.text
    for hidden in (town.organization["id"], town.project["id"], town.job["id"], "corn-mill", "secret-plan"):
        assert hidden not in answer.text


def test_a_member_stops_only_its_own_jobs(town: Town):
    house = town.house
    own = house.submit(town.keys["member"], project=town.project["id"])
    other = house.member(town.organization["id"], "member")
    assert house.call("POST", f"/v1/jobs/{own['id']}/stop", other).status_code == 403
    assert house.call("POST", f"/v1/jobs/{own['id']}/stop", town.keys["member"]).status_code == 200


def test_a_narrowed_key_sees_one_project(town: Town):
    house, key = town.house, town.keys["narrowed"]
    job = house.submit(key)
    assert [each["id"] for each in house.ok("GET", "/v1/jobs", key)["items"]] == [job["id"]]
    assert [each["name"] for each in house.ok("GET", "/v1/projects", key)["items"]] == ["side"]
    events = house.ok("GET", "/v1/events", key)["items"]
    assert events
    assert {each["project_id"] for each in events} == {job["project_id"]}


def test_no_key_makes_a_wider_one(town: Town):
    house = town.house
    make = {"name": "wider"}
    for maker in ("narrowed", "scoped"):
        answer = house.call("POST", "/v1/keys", town.keys[maker], json={**make, "scopes": ["members:write"]})
        if answer.is_success:  # narrowed to a project, but an admin in it: the new key is narrowed too
            assert answer.json()["project_id"] == house.ok("GET", "/v1/whoami", town.keys[maker])["key"]["project_id"]
        else:
            assert answer.status_code == 403
    brief = house.member(town.organization["id"], "member", scopes=["keys:write", "jobs:read"], expires_in="1h")
    child = house.ok("POST", "/v1/keys", brief, json=make)
    parent = house.ok("GET", "/v1/whoami", brief)["key"]
    assert child["scopes"] == ["jobs:read", "keys:write"]
    assert child["expires_us"] == parent["expires_us"]
    owner = house.ok("GET", "/v1/whoami", town.keys["owner"])["member"]
    answer = house.call("POST", "/v1/keys", town.keys["admin"], json={**make, "member": owner["id"]})
    assert answer.status_code == 403, "an admin cannot make itself a key of an owner"


def test_an_admin_cannot_touch_an_owner(town: Town):
    house, admin = town.house, town.keys["admin"]
    me = house.ok("GET", "/v1/whoami", admin)
    owner = house.ok("GET", "/v1/whoami", town.keys["owner"])
    tries = [
        ("PATCH", f"/v1/members/{me['member']['id']}", {"role": "owner"}),
        ("PATCH", f"/v1/members/{owner['member']['id']}", {"disabled": True}),
        ("POST", "/v1/members", {"name": "mine", "role": "owner"}),
        ("DELETE", f"/v1/keys/{owner['key']['id']}", None),
        ("PUT", "/v1/quotas", {"scope": "organization", "jobs": 10**6}),
    ]
    for method, path, body in tries:
        assert house.call(method, path, admin, json=body).status_code == 403, path


def test_whoever_is_viewer_can_still_give_up_its_own_key(town: Town):
    house = town.house
    key = house.member(town.organization["id"], "viewer")
    key_id = house.ok("GET", "/v1/whoami", key)["key"]["id"]
    assert house.call("DELETE", f"/v1/keys/{key_id}", key).status_code == 200
    assert house.call("GET", "/v1/whoami", key).status_code == 401
