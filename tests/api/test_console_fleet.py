"""The pages of the fleet and of the queue: what they say to whom, and that draining goes through the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import Browser, text_of
from house import House, wait_for

from headframe.base.quantities import DAY_US, format_moment

HOSTILE = "<script>alert('rack')</script>"


@pytest.fixture(scope="module")
def operator(house: House) -> Iterator[Browser]:
    with Browser(str(house.http.base_url), house.key) as browser:
        yield browser


@pytest.fixture(scope="module")
def customer(house: House) -> Iterator[Browser]:
    key = house.member(house.organization("mill")["id"], "owner", "olga")
    with Browser(str(house.http.base_url), key) as browser:
        yield browser


def job(house: House, **more: Any) -> dict[str, Any]:
    spec = {"run": "run 1h; exit 0", "resources": {"gpu": "1", "cpu": 1, "memory": "1GB"}, **more}
    found: dict[str, Any] = house.ok("POST", "/v1/jobs", json={"spec": spec})
    return found


def test_the_map_is_there_with_its_figures(operator: Browser):
    tree = operator.page("/fleet?by=power")
    assert tree.xpath("//hf-heat/@by") == ["power"]
    assert tree.xpath("//nav[@class='ways']/a[@aria-current]/text()") == ["Power"]
    assert "GPUs held" in text_of(tree)
    assert operator.get("/fleet?by=luck").status_code == 422


def test_a_job_that_runs_is_on_the_page_of_its_node(house: House, operator: Browser, customer: Browser):
    made = job(house, name="training")
    wait_for(lambda: house.ok("GET", f"/v1/jobs/{made['id']}")["state"] == "running")
    node = house.ok("GET", f"/v1/jobs/{made['id']}/story")["allocations"][0]["slices"][0]["node_id"]
    tree = operator.page(f"/nodes/{node}")
    assert tree.xpath("//tbody[@data-devices]//a/text()") == ["training"]
    spans = [one for lane in spec_of(tree, "hf-timeline")["lanes"] for one in lane["spans"]]
    assert [(one["name"], one["href"], one["to"]) for one in spans] == [("training", f"/jobs/{made['id']}", None)]
    other = customer.page(f"/nodes/{node}")
    assert "training" not in text_of(other)
    assert "another organization" in text_of(other)
    assert "training" not in json.dumps(spec_of(other, "hf-timeline"))
    assert not other.xpath("//form[contains(@action, '/drain')]"), "who may not, is not offered it"
    assert customer.post(f"/nodes/{node}/drain").status_code == 403
    assert customer.get("/nodes/nod_nowhere").status_code == 404


def spec_of(tree: Any, element: str) -> Any:
    return json.loads(tree.xpath(f"//{element}/@data-spec")[0])


def test_a_rack_has_a_page_that_its_nodes_lead_to(operator: Browser):
    [address] = [
        one for one in operator.page("/nodes/nod_1").xpath("//nav[@class='crumbs']/a/@href") if "/racks/" in one
    ]
    tree = operator.page(address)
    assert tree.xpath("//h1/text()") == ["hall 2 / rack-1"]
    assert tree.xpath("//main//table//a/text()") == ["node-1"]
    assert "GPUs held" in text_of(tree)
    assert operator.get(address.replace("rack-1", "rack-2")).status_code == 404


def test_a_node_is_drained_and_resumed_by_forms(house: House, operator: Browser):
    node = house.ok("GET", "/v1/nodes")["items"][0]["id"]
    assert operator.post(f"/nodes/{node}/drain", form_token="", reason="x").status_code == 403
    answer = operator.post(f"/nodes/{node}/drain", reason=HOSTILE)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/nodes/{node}")
    assert house.ok("GET", f"/v1/nodes/{node}")["state"] == "draining"
    for path in (f"/nodes/{node}", "/fleet", "/fleet/nodes"):
        answer = operator.get(path)
        assert "&lt;script&gt;alert(&#39;rack&#39;)&lt;/script&gt;" in answer.text, path
        assert HOSTILE not in answer.text, path
    tree = operator.page(f"/nodes/{node}")
    assert [form.get("action") for form in tree.xpath("//main//form")] == [f"/nodes/{node}/resume"]
    assert operator.post(f"/nodes/{node}/resume").status_code == 303
    assert "takes work again" in text_of(operator.page(f"/nodes/{node}"))
    assert house.ok("GET", f"/v1/nodes/{node}")["state"] == "ready"


def test_nodes_are_found_by_words_without_a_script(operator: Browser):
    everything = operator.page("/fleet/nodes").xpath("//tbody//a/text()")
    assert len(everything) >= 1
    assert operator.page("/fleet/nodes?sort=-name").xpath("//tbody//a/text()") == everything[::-1]
    assert operator.page("/fleet/nodes?first=1").xpath("//tbody//a/text()") == everything[1:]
    none = operator.page("/fleet/nodes?q=no+such+node")
    assert none.xpath("//tbody//a") == []
    assert "Nothing matches these words." in text_of(none)
    assert operator.get("/fleet/nodes?sort=luck").status_code == 422


def test_the_queue_says_who_waits_and_why(house: House, operator: Browser, customer: Browser):
    devices = len(house.ok("GET", "/v1/accelerators")["items"])
    assert "Nobody waits" in text_of(operator.page("/queue"))
    blocker = job(house, name="blocker", resources={"gpu": f"{devices}", "cpu": 1, "memory": "1GB"})
    waiter = job(house, name="waiter", priority=60, resources={"gpu": f"{devices}", "cpu": 1, "memory": "1GB"})
    wait_for(lambda: house.ok("GET", "/v1/queue")["total"] == 2)
    starts = format_moment(house.clock.now_us() + 30 * DAY_US)
    house.ok("POST", "/v1/reservations", json={"name": "later", "count": 1, "starts": starts, "lasts": "1d"})
    tree = operator.page("/queue")
    names = tree.xpath("//ol[@class='line']//p[@class='line-name']/a/text()")
    assert names == ["waiter", "blocker"]
    assert "GPUs are free" in text_of(tree)
    assert [lane["name"] for lane in spec_of(tree, "hf-timeline")["lanes"]] == ["later"]
    other = text_of(customer.page("/queue"))
    assert "waiter" not in other
    assert "later" not in other
    assert "2 jobs of others wait" in other
    assert customer.get("/queue?organization=operator").status_code == 404
    for made in (blocker, waiter):
        house.ok("POST", f"/v1/jobs/{made['id']}/stop")
