"""From a price to a bill over HTTP, and who sees how much of it."""

from __future__ import annotations

from typing import Any

import pytest
from house import House, wait_for

from headframe.base.changes import Changes
from headframe.base.quantities import DAY_US, HOUR_US, format_moment
from headframe.ledger.records import Invoice


def priced(house: House) -> None:
    house.ok("POST", "/v1/prices", json={"meter": "gpu:H100", "amount": "3.60 USD"})
    house.ok("POST", "/v1/prices", json={"meter": "cpu", "amount": "0.01 USD"})


def test_a_budget_that_the_operator_put_is_the_operators(house: House) -> None:
    home = house.organization("bounded")["id"]
    owner = house.member(home, "owner")
    where = {"scope": "organization", "scope_id": home}
    put = house.ok("PUT", "/v1/budgets", json={"amount": "100 USD", **where})
    assert put["operator"]
    for refused in (
        house.call("DELETE", "/v1/budgets", owner),
        house.call("PUT", "/v1/budgets", owner, json={"amount": "900 USD"}),
    ):
        assert refused.status_code == 403
        assert refused.json()["code"] == "forbidden"
        assert "operator" in refused.json()["detail"]
        assert refused.json()["next_step"]
    (state,) = house.ok("GET", "/v1/budgets", owner)["items"]
    assert state["budget"]["amount_nano"] == 100 * 10**9
    project = house.ok("GET", "/v1/projects", owner)["items"][0]["id"]
    own = {"scope": "project", "scope_id": project}
    assert not house.ok("PUT", "/v1/budgets", owner, json={"amount": "9 USD", **own})["operator"]
    house.ok("DELETE", "/v1/budgets", owner, params=own)
    house.ok("DELETE", "/v1/budgets", params=where)
    assert not house.ok("PUT", "/v1/budgets", owner, json={"amount": "900 USD"})["operator"]
    house.ok("DELETE", "/v1/budgets", owner)


def test_a_job_becomes_charges_and_a_draft_that_agree(house: House) -> None:
    priced(house)
    home = house.organization("weavers")["id"]
    mine, theirs, admin = (house.member(home, role) for role in ("member", "member", "admin"))
    house.ok("POST", "/v1/credits", json={"organization": home, "amount": "0.01 USD", "note": "welcome"})
    job = house.submit(mine, spec={"resources": {"gpu": "H100:2"}, "run": "run 100000s"})
    wait_for(lambda: house.ok("GET", f"/v1/jobs/{job['id']}", mine)["state"] == "running")
    house.clock.ahead_us += 90 * 1_000_000
    draft = house.ok("GET", "/v1/invoices/draft", admin)
    assert draft["lines"] == []
    assert draft["accrued_nano"] == draft["total_nano"] >= 2 * 90 * 1_000_000
    assert {line["meter"] for line in draft["accrued"]} == {"gpu:H100", "cpu"}
    house.ok("POST", f"/v1/jobs/{job['id']}/stop", mine, json={})
    charges = wait_for(lambda: house.ok("GET", f"/v1/charges?job={job['id']}", mine)["items"])
    total = sum(each["amount_nano"] for each in charges)
    (use,) = house.ok("GET", "/v1/usage?by=job", mine)["items"]
    assert (use["by"], use["amount_nano"]) == ({"job": job["id"]}, total)
    by_meter = house.ok("GET", "/v1/usage?by=meter", admin)["items"]
    assert sum(each["amount_nano"] for each in by_meter) == total
    draft = house.ok("GET", "/v1/invoices/draft", admin)
    assert (draft["total_nano"], draft["accrued"], draft["from_wallet_nano"]) == (total, [], 10_000_000)
    balance = house.ok("GET", "/v1/balance", admin)
    assert (balance["credit_nano"], balance["owed_nano"], balance["month_nano"]) == (0, total - 10_000_000, total)
    # Others see nothing of it; the operator sees it among all.
    assert house.ok("GET", "/v1/usage?by=job", theirs)["items"] == []
    assert house.ok("GET", f"/v1/charges?job={job['id']}", theirs)["items"] == []
    everyone = house.ok("GET", "/v1/usage?by=member&organization=all")["items"]
    assert total in [each["amount_nano"] for each in everyone if each["by"]["organization"] == home]
    assert house.call("GET", "/v1/usage?organization=all", admin).status_code == 403


def test_a_budget_is_kept_by_version_and_shows_what_is_spent(house: House) -> None:
    home = house.organization("spinners")["id"]
    admin = house.member(home, "admin")
    made = house.call("PUT", "/v1/budgets", admin, json={"amount": "100"})
    assert made.json()["scope_id"] == home
    assert made.headers["etag"] == '"1"'
    stale = house.call("PUT", "/v1/budgets", admin, json={"amount": "50"}, headers={"If-Match": '"7"'})
    assert stale.json()["code"] == "version_conflict"
    changed = house.call("PUT", "/v1/budgets", admin, json={"amount": "50 USD"}, headers={"If-Match": '"1"'})
    assert changed.headers["etag"] == '"2"'
    (state,) = house.ok("GET", "/v1/budgets", admin)["items"]
    assert (state["budget"]["amount_nano"], state["spent_nano"]) == (50_000_000_000, 0)


def test_a_removed_budget_stops_nobody_and_another_may_follow(house: House) -> None:
    admin = house.member(house.organization("dyers-guild")["id"], "admin")
    house.ok("PUT", "/v1/budgets", admin, json={"amount": "0.01 USD"})
    job = house.submit(admin, spec={"resources": {"gpu": "H100:1"}})
    assert house.ok("GET", f"/v1/jobs/{job['id']}/story", admin)["waiting"]["reason"] == "budget_exhausted"
    assert house.ok("DELETE", "/v1/budgets", admin)["removed"]
    assert house.ok("GET", "/v1/budgets", admin)["items"] == []
    wait_for(lambda: house.ok("GET", f"/v1/jobs/{job['id']}", admin)["state"] == "running")
    house.ok("POST", f"/v1/jobs/{job['id']}/stop", admin)
    assert house.call("DELETE", "/v1/budgets", admin).status_code == 404
    made = house.call("PUT", "/v1/budgets", admin, json={"amount": "7 USD"})
    assert made.headers["etag"] == '"1"'


def test_a_job_over_its_budget_is_stopped(house: House) -> None:
    priced(house)
    home = house.organization("dyers")["id"]
    member = house.member(home, "member")
    job = house.submit(member, spec={"resources": {"gpu": "H100:1"}, "run": "run 100000s", "budget": "3.60 USD"})
    wait_for(lambda: house.ok("GET", f"/v1/jobs/{job['id']}", member)["state"] == "running")
    house.clock.ahead_us += HOUR_US
    house.submit(member)  # anything that wakes the loop: the machine's clock did not really run on
    ended = wait_for(lambda: (found := house.ok("GET", f"/v1/jobs/{job['id']}", member))["ended_us"] and found)
    assert (ended["state"], ended["reason"]) == ("stopped", "budget_exhausted")


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/v1/prices", {"meter": "gold", "amount": "1 USD"}, "meter"),
        ("POST", "/v1/prices", {"meter": "cpu", "amount": "-1 USD"}, "amount"),
        ("POST", "/v1/prices", {"meter": "cpu", "amount": "1 XYZ"}, "amount"),
        ("POST", "/v1/prices", {"meter": "cpu", "amount": "1 USD", "starts": "2001-01-01"}, "starts"),
        ("POST", "/v1/prices", {"meter": "cpu", "amount": "1 USD", "region": "mars"}, "region"),
        ("POST", "/v1/prices", {"meter": "cpu", "amount": "1 USD", "purchase": "gift"}, "purchase"),
        ("POST", "/v1/prices", {"meter": "cpu", "amount": "1 USD", "minimum": "9w"}, "minimum"),
        ("POST", "/v1/credits", {"organization": "operator", "amount": "0"}, "amount"),
        ("POST", "/v1/credits", {"organization": "operator", "amount": "5 EUR"}, "amount"),
        ("POST", "/v1/credits", {"organization": "operator", "amount": "9000000001"}, "amount"),
        ("PUT", "/v1/budgets", {"scope": "project", "amount": "5"}, "scope_id"),
        ("PUT", "/v1/budgets", {"amount": "5", "warn_percent": 0}, "body.warn_percent"),
        ("GET", "/v1/usage?by=colour", None, "by"),
        ("GET", "/v1/usage?by=job,job", None, "by"),
        ("GET", "/v1/usage?from=soon", None, "from"),
        ("GET", "/v1/invoices/draft?month=2026-13", None, "query.month"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    house: House, method: str, path: str, body: dict[str, Any] | None, field: str
) -> None:
    answer = house.call(method, path, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field


def test_extreme_questions_have_answers(house: House) -> None:
    for path in (
        "/v1/usage?from=0001-01-01&to=9999-12-31",
        "/v1/usage?from=2027-01-01&to=2026-01-01",
        "/v1/usage?by=",
        "/v1/invoices/draft?month=2999-12",
        "/v1/invoices/draft?month=1000-01",
    ):
        house.ok("GET", path)
    assert house.call("GET", "/v1/invoices/nothing").status_code == 404


def test_the_operator_sees_what_a_month_would_have_cost_under_other_prices(house: House) -> None:
    priced(house)
    home = house.organization("fullers")["id"]
    admin = house.member(home, "admin")
    house.ok("POST", "/v1/prices", json={"meter": "gpu:H100", "amount": "8折", "organization": "fullers"})
    job = house.submit(admin, spec={"resources": {"gpu": "H100:2"}, "run": "run 100000s"})
    wait_for(lambda: house.ok("GET", f"/v1/jobs/{job['id']}", admin)["state"] == "running")
    house.clock.ahead_us += 90 * 1_000_000
    house.ok("POST", f"/v1/jobs/{job['id']}/stop", admin, json={})
    charges = wait_for(lambda: house.ok("GET", f"/v1/charges?job={job['id']}", admin)["items"])
    month = house.ok("GET", "/v1/invoices/draft", admin)["month"]
    asked = {"month": month, "organization": "fullers"}
    (as_it_was,) = house.ok("POST", "/v1/prices/preview", json=asked)["items"]
    assert as_it_was["charged_nano"] == as_it_was["rated_nano"] == sum(each["amount_nano"] for each in charges) > 0
    double = {"meter": "gpu:H100", "amount": "5.76 USD", "organization": "fullers"}
    (dearer,) = house.ok("POST", "/v1/prices/preview", json={**asked, "prices": [double]})["items"]
    gpu = sum(each["amount_nano"] for each in charges if each["meter"] == "gpu:H100")
    assert dearer["rated_nano"] - dearer["charged_nano"] in range(gpu - 2, gpu + 3)
    assert house.call("POST", "/v1/prices/preview", admin, json=asked).status_code == 403
    wrong = house.call("POST", "/v1/prices/preview", json={**asked, "prices": [{"meter": "moon", "amount": "1"}]})
    assert wrong.json()["code"] == "unknown_meter"
    offers = house.ok("GET", "/v1/prices", admin)["items"]
    assert [each["paid_of_list"] for each in offers if each["organization_id"] == home] == [800_000]


def test_steps_of_prices_and_of_slas_are_lists_on_the_wire(house: House) -> None:
    tiers = [[1000, "3 USD"], [None, "2 USD"]]
    price = house.ok("POST", "/v1/prices", json={"meter": "gpu:L4", "tiers": tiers, "shape": "graduated"})
    assert [each["up_to"] for each in price["tiers"]] == [1000, None]
    house.organization("tailors")
    told = {"organization": "tailors", "shape": "sla", "title": "Uptime", "steps": [[999_000, 10]]}
    told["ends"] = format_moment(house.clock.now_us() + DAY_US)
    contract = house.ok("POST", "/v1/contracts", json=told)
    assert contract["steps"] == [[999_000, 10]]
    wrong = house.call("POST", "/v1/contracts", json={**told, "steps": [["999000", 10]]})
    assert wrong.status_code == 422


def test_an_invoice_is_found_by_its_number_too(house: House) -> None:
    home = house.organization("numbered")["id"]
    admin = house.member(home, "admin")
    made = Invoice("inv_by_number", 4711, home, "4711-01", "USD", (), 10**12, 0, 10**12, 1, net_nano=10**12)
    house.control.run(lambda world, context: (Changes((made,)), None))
    assert house.ok("GET", "/v1/invoices/4711", admin) == house.ok("GET", f"/v1/invoices/{made.id}", admin)
    assert house.call("GET", "/v1/invoices/4712", admin).status_code == 404
