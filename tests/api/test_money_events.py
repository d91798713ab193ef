"""Meters, events of use, contracts, rates, credit and holds over HTTP."""

from __future__ import annotations

import json

import pytest
from house import wait_for

from headframe.base.quantities import DAY_US, HOUR_US, format_moment


def refused(house, method, path, status, **more):
    answer = house.call(method, path, **more)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture
def home(house, request):
    """An organization of this test's own: (its id, the id of its project, the key of an admin)."""
    made = house.organization(f"house-{abs(hash(request.node.name)) % 10**9}")
    key = house.member(made["id"], "admin")
    (project,) = house.ok("GET", "/v1/projects", key)["items"]
    return made["id"], project["id"], key


def event(house, number, home, **more):
    return {
        "specversion": "1.0", "id": str(number), "source": "/gateway", "type": "headframe.tokens",
        "subject": home[1], "time": format_moment(house.clock.now_us()),
        "data": {"model": "m", "input": 1_000_000, "cached": 0, "output": 500_000}, **more,
    }  # fmt: skip


@pytest.fixture
def priced(house):
    for name in ("input", "cached", "output"):
        house.ok("POST", "/v1/meters", json={"name": f"tokens:{name}", "event_type": "headframe.tokens",
                                             "path": name, "group_by": ["model"], "unit": "token"})  # fmt: skip
    house.ok("POST", "/v1/prices", json={"meter": "tokens:input", "amount": "0.60 USD", "unit": "million"})
    house.ok("POST", "/v1/prices", json={"meter": "tokens:output", "amount": "2.40 USD", "unit": "million"})
    return house


def test_a_customer_cannot_take_the_place_of_what_the_operator_tells(priced, home):
    house, key = priced, home[2]
    true = event(house, 1, home)
    nothing = true | {"data": {"model": "m", "input": 0, "cached": 0, "output": 0}}
    assert house.ok("POST", "/v1/usage/events", key, json=nothing)["new"] == 1
    assert house.ok("POST", "/v1/usage/events", json=true)["new"] == 1
    emptied = nothing | {"type": "headframe.stored.outputs", "data": {"name": "job_1", "mib": 0}}
    assert house.call("POST", "/v1/usage/events", key, json=emptied).status_code == 422, "a level could fall"


def test_events_come_singly_in_batches_and_by_headers_and_are_charged_once(priced, home):
    house, key = priced, home[2]
    one, batch = event(house, 1, home), [event(house, 1, home), event(house, 2, home)]
    assert house.ok("POST", "/v1/usage/events", json=one) == {"events": 1, "new": 1}
    headers = {"content-type": "application/cloudevents-batch+json"}
    assert house.ok("POST", "/v1/usage/events", content=json.dumps(batch), headers=headers)["new"] == 1
    binary = {f"ce-{name}": one[name] for name in ("specversion", "source", "type", "subject", "time")}
    answer = house.ok("POST", "/v1/usage/events", json=one["data"], headers={**binary, "ce-id": "3"})
    assert answer == {"events": 1, "new": 1}
    expected = 3 * (600_000_000 + 1_200_000_000)

    def all_charged():
        charges = house.ok("GET", "/v1/charges", key)["items"]
        return charges if sum(each["amount_nano"] for each in charges) == expected else None

    charges = wait_for(all_charged, "the charge of three events")
    assert {each["labels"]["model"] for each in charges} == {"m"}
    assert len(house.ok("GET", "/v1/usage/events", key)["items"]) == 3


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"type": "other"}, "unknown_meter"),
        ({"data": {"model": "m", "input": -1, "cached": 0, "output": 0}}, "negative_duration"),
        ({"subject": "nobody"}, "invalid_value"),
        ({"time": "2099-01-01T00:00:00Z"}, "event_in_future"),
    ],
)
def test_bad_events_are_refused_by_a_code(priced, home, more, code):
    problem = refused(priced, "POST", "/v1/usage/events", 422, json=event(priced, 1, home, **more))
    assert problem["code"] == code
    assert priced.ok("GET", "/v1/usage/events", home[2])["items"] == []


def test_a_used_meter_stays_as_it_is(priced, home):
    priced.ok("POST", "/v1/usage/events", json=event(priced, 1, home))
    wait_for(lambda: priced.ok("GET", "/v1/charges", home[2])["items"])
    body = {"name": "tokens:input", "event_type": "headframe.tokens", "path": "output"}
    assert refused(priced, "POST", "/v1/meters", 409, json=body)["code"] == "meter_in_use"


def test_prices_overlap_gaps_discounts_and_rates(house, home):
    later = format_moment(house.clock.now_us() + 10 * DAY_US)
    latest = format_moment(house.clock.now_us() + 20 * DAY_US)
    house.ok("POST", "/v1/prices", json={"meter": "gpu:H100", "amount": "3 USD"})
    house.ok("POST", "/v1/prices", json={"meter": "gpu:H100", "amount": "2 USD", "starts": later, "ends": latest})
    body = {"meter": "gpu:H100", "amount": "1 USD", "starts": later, "ends": latest}
    assert refused(house, "POST", "/v1/prices", 409, json=body)["code"] == "price_overlap"
    own = house.ok("POST", "/v1/prices", json={"meter": "gpu:H100", "amount": "2折", "organization": home[0]})
    assert own["unit_nano"] == 600_000_000
    rate = {"base": "USD", "quote": "EUR", "rate": "0.92", "source": "ECB"}
    assert house.ok("POST", "/v1/exchange-rates", json=rate)["rate_pico"] == 920_000_000_000
    listed = [row for row in house.ok("GET", "/v1/prices")["items"] if row["meter"] == "gpu:H100"]
    assert len(listed) == 4  # the list until then, the sale, the list again, and the customer's own


def test_credit_is_granted_held_posted_and_voided(house, home):
    house.ok("POST", "/v1/credits", json={"organization": home[0], "amount": "10 USD", "expires": "2099-01-01"})
    hold = house.ok(
        "POST", "/v1/holds", json={"project": home[1], "organization": home[0], "amount": "8 USD", "source": "run 1"}
    )
    body = {"project": home[1], "organization": home[0], "amount": "3 USD", "source": "run 2"}
    assert refused(house, "POST", "/v1/holds", 402, json=body)["code"] == "insufficient_credit"
    posted = house.ok("POST", f"/v1/holds/{hold['id']}/post", json={"amount": "5 USD", "meter": "cpu"})
    assert (posted["stage"], posted["posted_nano"]) == ("posted", 5_000_000_000)
    assert refused(house, "POST", f"/v1/holds/{hold['id']}/void", 409)["code"] == "conflict"
    again = house.ok("POST", "/v1/holds", json=body)
    assert house.ok("POST", f"/v1/holds/{again['id']}/void")["stage"] == "voided"
    (grant,) = house.ok("GET", "/v1/credits", home[2])["items"]
    assert grant["left_nano"] == 5_000_000_000
    assert house.ok("GET", "/v1/balance", home[2])["credit_nano"] == 5_000_000_000


def test_contracts_are_agreed_listed_and_ended(house, home):
    begin_us = house.clock.now_us() // HOUR_US * HOUR_US
    ends = format_moment(begin_us + 365 * DAY_US)
    made = house.ok("POST", "/v1/contracts", json={
        "organization": home[0], "shape": "reserved", "title": "Eight", "meter": "gpu:H100", "quantity": "8",
        "amount": "2 USD", "ends": ends,
    })  # fmt: skip
    assert (made["quantity"], made["state"]) == (8000, "Active")
    wrong = {"organization": home[0], "shape": "reserved", "title": "None", "amount": "2 USD", "ends": ends}
    assert refused(house, "POST", "/v1/contracts", 422, json=wrong)["code"] == "invalid_value"
    ended = house.ok("POST", f"/v1/contracts/{made['id']}/end", json={"ends": format_moment(begin_us + 9 * DAY_US)})
    assert ended["to_us"] == begin_us + 9 * DAY_US
    assert len(house.ok("GET", "/v1/contracts", home[2])["items"]) == 1
    assert house.ok("GET", "/v1/usage/forecast", home[2])["forecast"]["spent_nano"] == 0


def test_nothing_is_started_in_a_currency_that_nothing_leads_to(house):
    made = house.ok("POST", "/v1/organizations", json={"name": "franc-house", "currency": "CHF"})
    key = house.member(made["id"], "owner")
    house.ok("POST", "/v1/prices", json={"meter": "cpu", "amount": "0.02 USD"})
    problem = refused(house, "POST", "/v1/jobs", 422, key=key, json={"spec": {"run": "run 1s"}})
    assert problem["code"] == "no_exchange_rate"
    rate = {"base": "USD", "quote": "CHF", "rate": "0.88", "source": "SNB"}
    house.ok("POST", "/v1/exchange-rates", json=rate)
    assert house.submit(key)["state"] in ("queued", "starting")


def test_a_back_dated_price_corrects_what_was_charged_and_edits_nothing(house, home):
    own = {"meter": "calls", "amount": "0.50 USD", "unit": "one"}
    house.ok("POST", "/v1/meters", json={"name": "calls", "event_type": "call", "aggregation": "count"})
    house.ok("POST", "/v1/prices", json=own)
    began = format_moment(house.clock.now_us() - HOUR_US)
    house.ok("POST", "/v1/usage/events", json=[event(house, number, home, type="call") for number in range(4)])
    (charge,) = wait_for(lambda: house.ok("GET", "/v1/charges", home[2])["items"])
    late = {**own, "amount": "20 % off", "organization": home[0], "starts": began}
    assert refused(house, "POST", "/v1/prices", 422, json=late)["code"] == "invalid_value"
    late["amount"] = "0.40 USD"
    house.ok("POST", "/v1/prices", json={**late, "back_dated": True})
    rows = house.ok("GET", "/v1/charges", home[2])["items"]
    (made,) = [row for row in rows if row["kind"] == "correction"]
    assert (made["corrects"], made["amount_nano"]) == (charge["id"], -400_000_000)
    assert charge in rows
