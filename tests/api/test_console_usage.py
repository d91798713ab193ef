"""The pages of usage and cost: sums, permalinks, budgets, invoices; and who sees whose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import Browser, text_of
from house import House, wait_for

from headframe.base.quantities import DAY_US, HOUR_US


@pytest.fixture(scope="module")
def keys(house: House) -> dict[str, str]:
    """Two organizations that have run something for an hour, three hours ago and now."""
    house.ok("POST", "/v1/prices", json={"meter": "gpu:H100", "amount": "3.60 USD"})
    mill = house.organization("mill")["id"]
    found = {"owner": house.member(mill, "owner", "olga"), "member": house.member(mill, "member", "milo")}
    found["rival"] = house.member(house.organization("rival")["id"], "owner", "rita")
    for name in ("member", "rival"):
        spec = {"name": f"of-{name}", "run": "run 10h; exit 0", "resources": {"gpu": "H100:1", "cpu": 1}}
        made = house.ok("POST", "/v1/jobs", found[name], json={"spec": spec})
        wait_for(lambda made=made: house.ok("GET", f"/v1/jobs/{made['id']}")["state"] == "running")
    house.clock.ahead_us += HOUR_US
    house.loop.nudge()
    return found


@pytest.fixture(scope="module")
def operator(house: House, keys: dict[str, str]) -> Iterator[Browser]:
    with Browser(str(house.http.base_url), house.key) as browser:
        yield browser


@pytest.fixture(scope="module")
def owner(house: House, keys: dict[str, str]) -> Iterator[Browser]:
    with Browser(str(house.http.base_url), keys["owner"]) as browser:
        yield browser


def chart(tree: Any, title: str) -> Any:
    specs = [json.loads(one) for one in tree.xpath("//hf-chart/@data-spec")]
    return next(one for one in specs if one["title"].startswith(title))


def test_spend_is_told_by_group_and_day(operator: Browser, owner: Browser):
    tree = owner.page("/usage?by=accelerator&range=7d")
    assert tree.xpath("//table[@id='spend-table']/tbody/tr[1]/td[1]")[0].text_content() == "H100"
    days = chart(tree, "Cost per day by accelerator")
    assert len(days["x"]) == 7
    assert days["x"][1] - days["x"][0] == DAY_US // 1000
    total = sum(value for series in days["series"] for value in series["y"])
    assert 3.5 < total < 4.5, "one GPU for an hour, and what runs since"
    assert chart(tree, "Spend of")["band"]["high"][-1] >= chart(tree, "Spend of")["band"]["low"][-1]
    jobs = text_of(owner.page("/usage?by=job"))
    assert "of-member" in jobs
    assert "of-rival" not in jobs
    everything = text_of(operator.page("/usage?by=organization"))
    assert "mill" in everything
    assert "rival" in everything
    assert "of-rival" in text_of(operator.page("/usage?by=job&organization=rival"))


def test_addresses_keep_what_was_chosen(owner: Browser):
    tree = owner.page("/usage?by=member&from=2026-01-01&to=2026-01-31")
    assert tree.xpath("//input[@name='from']/@value") == ["2026-01-01"]
    assert tree.xpath("//input[@name='to']/@value") == ["2026-01-31"]
    link = tree.xpath("//nav[@aria-label='Grouped by']/a[text()='Job']/@href")[0]
    assert link == "/usage?range=custom&by=job&from=2026-01-01&to=2026-01-31"
    assert "Nothing was spent in this time" in text_of(tree)
    assert owner.get("/usage?by=luck").status_code == 422
    assert owner.get("/usage?by=organization").status_code == 422, "that is the operator's"
    assert owner.get("/usage?organization=rival").status_code == 404
    assert owner.get("/usage?organization=all").status_code == 403


def test_waste_is_told(owner: Browser):
    text = text_of(owner.page("/usage/waste?by=job"))
    assert "of-member" in text
    assert "Not looked at" in text


def test_a_budget_is_set_and_taken_away_by_forms(house: House, keys: dict[str, str], owner: Browser):
    mill = house.ok("GET", "/v1/balance", keys["owner"])["organization_id"]
    tree = owner.page("/usage/budgets")
    assert f"organization:{mill}" in tree.xpath("//select[@name='for']/option/@value")
    wrong = owner.post("/usage/budgets", **{"for": f"organization:{mill}", "amount": "much"})
    assert wrong.status_code == 422
    assert 'value="much"' in wrong.text
    given = {"for": f"organization:{mill}", "amount": "5 USD", "at_limit": "warn", "warn_percent": "50"}
    assert owner.post("/usage/budgets", **given).status_code == 303
    text = text_of(owner.page("/usage/budgets"))
    assert "mill organization" in text
    assert "near" in text
    budget = house.ok("GET", "/v1/budgets", keys["owner"])["items"][0]["budget"]
    assert (budget["amount_nano"], budget["at_limit"]) == (5_000_000_000, "warn")
    gone = {"for": f"organization:{mill}", "remove": "1", "version": str(budget["version"])}
    assert owner.post("/usage/budgets", **gone).status_code == 303
    assert house.ok("GET", "/v1/budgets", keys["owner"])["items"] == []


def test_a_member_sees_its_own_and_changes_no_limits(house: House, keys: dict[str, str]):
    with Browser(str(house.http.base_url), keys["member"]) as member:
        assert "of-member" in text_of(member.page("/usage?by=job"))
        assert not member.page("/usage/budgets").xpath("//form[@action='/usage/budgets'][.//input[@name='amount']]")
        assert member.post("/usage/budgets", **{"for": "organization:org_1", "amount": "1 USD"}).status_code in (
            403,
            404,
        )
        assert member.get("/usage/invoices").status_code == 403


def test_invoices_are_listed_with_their_files(house: House, keys: dict[str, str], owner: Browser):
    assert "No invoices yet" in text_of(owner.page("/usage/invoices"))
    assert "H100 GPU, on-demand" in text_of(owner.page("/usage/invoices")), "the month so far, line by line"
    house.clock.ahead_us += 40 * DAY_US
    house.loop.nudge()
    wait_for(lambda: house.ok("GET", "/v1/invoices", keys["owner"])["items"], seconds=30)
    url = str(house.http.base_url)
    with (
        Browser(url, keys["owner"]) as later,
        Browser(url, house.key) as boss,
        Browser(url, keys["rival"]) as rival,
    ):
        tree = later.page("/usage/invoices")
        answer = later.get(tree.xpath("//a[text()='PDF']/@href")[0])
        assert answer.headers["content-type"] == "application/pdf"
        assert answer.content.startswith(b"%PDF")
        address = tree.xpath("//td[@data-label='Number']/a/@href")[0]
        assert "H100 GPU" in text_of(later.page(address))
        assert "rival" not in text_of(tree)
        assert "rival" in text_of(boss.page("/usage/invoices"))
        assert rival.get(address).status_code == 404
