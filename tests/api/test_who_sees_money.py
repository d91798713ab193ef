"""Who sees what of what is spent: every way to ask, walked with every role; labels; CSV's numbers; cheaper ways."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from house import House, served, wait_for

from headframe.cli.main import main

HOUR_S = 3600


@dataclass
class Mill:
    """An organization whose members each ran a job of an hour in a project; one of them still runs another."""

    house: House
    home: str
    keys: dict[str, str]
    jobs: dict[str, str]  # whose -> job
    cost: dict[str, int]  # whose -> nano
    running: str

    def who(self, name: str) -> str:
        found: str = self.house.ok("GET", "/v1/whoami", self.keys[name])["member"]["id"]
        return found


@pytest.fixture(scope="module")
def mill(house: House) -> Mill:
    house.ok("POST", "/v1/prices", json={"meter": "gpu:H100", "amount": "3.60 USD"})
    house.ok("POST", "/v1/prices", json={"meter": "gpu:H100", "amount": "0.90 USD", "purchase": "spot"})
    home = house.organization("paper-mill")["id"]
    keys = {role: house.member(home, role) for role in ("owner", "admin", "finance", "member", "viewer")}
    house.ok("POST", "/v1/projects", keys["owner"], json={"name": "side"})
    keys |= {
        "other": house.member(home, "member"),
        "narrowed": house.member(home, "admin", project="side"),
        "stranger": house.member(house.organization("paper-rivals")["id"], "owner"),
        "operator": house.key,
        "operator_finance": house.member(None, "finance"),
        "operator_member": house.member(None, "member"),
    }
    jobs, cost = {}, {}
    for whose, project in (("member", "default"), ("other", "default"), ("narrowed", "side")):
        gpus = len(jobs) + 1
        spec = {"resources": {"gpu": f"H100:{gpus}"}, "run": "run 100000s", "labels": {"team": whose}}
        more = {} if whose == "narrowed" else {"project": project}
        jobs[whose] = house.submit(keys[whose], spec=spec, **more)["id"]
        wait_for(lambda whose=whose: house.ok("GET", f"/v1/jobs/{jobs[whose]}", keys[whose])["state"] == "running")
        house.clock.ahead_us += HOUR_S * 1_000_000
        house.ok("POST", f"/v1/jobs/{jobs[whose]}/stop", keys[whose])
        ended = f"/v1/jobs/{jobs[whose]}/story"
        wait_for(lambda ended=ended: house.ok("GET", ended, keys["owner"])["job"]["ended_us"])
        cost[whose] = house.ok("GET", f"/v1/jobs/{jobs[whose]}/story", keys["owner"])["cost"]["total_nano"]
        assert cost[whose] >= 3_600_000_000 * gpus
    spec = {"resources": {"gpu": "H100:1"}, "run": "run 100000s", "max_duration": "10h", "labels": {"team": "late"}}
    running = house.submit(keys["member"], spec=spec, project="default")["id"]
    wait_for(lambda: house.ok("GET", f"/v1/jobs/{running}", keys["member"])["state"] == "running")
    return Mill(house, home, keys, jobs, cost, running)


ALL_THREE = ("member", "other", "narrowed")
SEES = {
    "owner": ALL_THREE, "admin": ALL_THREE, "finance": ALL_THREE, "operator": ALL_THREE, "operator_finance": ALL_THREE,
    "narrowed": ("narrowed",), "member": ("member",), "other": ("other",), "viewer": (),
}  # fmt: skip


def everything(mill: Mill, caller: str, path: str) -> Any:
    return mill.house.ok("GET", f"{path}{'&' if '?' in path else '?'}organization={mill.home}", mill.keys[caller])


@pytest.mark.parametrize("caller", SEES)
def test_each_caller_sees_the_use_that_is_theirs_to_see(mill: Mill, caller: str) -> None:
    found = {one["by"]["job"]: one["amount_nano"] for one in everything(mill, caller, "/v1/usage?by=job")["items"]}
    found.pop(mill.running, None)
    assert found == {mill.jobs[whose]: mill.cost[whose] for whose in SEES[caller]}
    charges = everything(mill, caller, "/v1/charges?limit=500")["items"]
    assert {one["job_id"] for one in charges} - {mill.running} == set(found)


@pytest.mark.parametrize("caller", SEES)
def test_each_caller_sees_what_runs_and_the_month_so_far_that_is_theirs(mill: Mill, caller: str) -> None:
    found = everything(mill, caller, "/v1/usage/now")
    theirs = caller not in ("narrowed", "other", "viewer")
    assert [one["job_id"] for one in found["jobs"]] == ([mill.running] if theirs else [])
    scopes = {one["scope"] for one in found["spenders"]}
    if not SEES[caller]:
        assert scopes == set()
    else:
        kept = {"narrowed": {"project", "member"}, "member": {"member"}, "other": {"member"}}
        assert scopes == kept.get(caller, {"organization", "project", "member"})
        month = sum(one["total_nano"] for one in found["spenders"] if one["scope"] == "member")
        assert month >= sum(mill.cost[whose] for whose in SEES[caller])


@pytest.mark.parametrize("caller", SEES)
def test_each_caller_sees_the_waste_that_is_theirs(mill: Mill, caller: str) -> None:
    found = everything(mill, caller, "/v1/usage/waste?by=job")
    assert {one["by"]["job"] for one in found["items"]} - {mill.running} == {mill.jobs[one] for one in SEES[caller]}
    assert found["total"]["wasted_nano"] == 0, "nothing was looked at, so nothing is called wasted"
    assert found["total"]["unlooked_nano"] == sum(one["waste"]["gpu_nano"] for one in found["items"])


@pytest.mark.parametrize("caller", SEES)
@pytest.mark.parametrize("whose", ALL_THREE)
def test_what_a_job_cost_is_told_to_whom_it_concerns(mill: Mill, caller: str, whose: str) -> None:
    house, job, key = mill.house, mill.jobs[whose], mill.keys[caller]
    story = house.call("GET", f"/v1/jobs/{job}/story", key)
    cheaper = house.call("GET", f"/v1/jobs/{job}/cheaper", key)
    if caller == "narrowed" and whose != "narrowed":
        assert (story.status_code, cheaper.status_code) == (404, 404)
    elif whose in SEES[caller]:
        assert story.json()["cost"]["total_nano"] == cheaper.json()["charged_nano"] == mill.cost[whose]
    else:
        assert (story.json()["cost"], cheaper.status_code) == (None, 403)


def test_strangers_and_plain_members_of_the_operator_see_nothing(mill: Mill) -> None:
    for caller in ("stranger", "operator_member"):
        for path in ("/v1/usage", "/v1/usage/now", "/v1/usage/waste"):
            answer = mill.house.call("GET", f"{path}?organization={mill.home}", mill.keys[caller])
            assert answer.status_code in (403, 404), (caller, path)
        for job in mill.jobs.values():
            assert mill.house.call("GET", f"/v1/jobs/{job}/cheaper", mill.keys[caller]).status_code in (403, 404)


def test_only_operators_see_the_cloud(mill: Mill) -> None:
    for caller in ("operator", "operator_finance"):
        found = mill.house.ok("GET", "/v1/usage?by=job&organization=all", mill.keys[caller])["items"]
        assert {mill.jobs[one] for one in ALL_THREE} <= {one["by"]["job"] for one in found}
    for caller in ("owner", "finance", "stranger", "operator_member"):
        answer = mill.house.call("GET", "/v1/usage?organization=all", mill.keys[caller])
        assert answer.status_code == 403, caller


def test_cost_is_told_apart_by_label_accelerator_and_day(mill: Mill) -> None:
    found = everything(mill, "finance", "/v1/usage?by=label:team,accelerator")["items"]
    gpu = {one["by"]["label:team"]: one["amount_nano"] for one in found if one["by"]["accelerator"] == "H100"}
    assert {whose: gpu[whose] >= 3_600_000_000 * (place + 1) for place, whose in enumerate(ALL_THREE)} == dict.fromkeys(
        ALL_THREE, True
    )
    days = everything(mill, "finance", "/v1/usage?by=day")["items"]
    assert [one["by"]["day"] for one in days] == sorted(one["by"]["day"] for one in days)
    whole = everything(mill, "finance", "/v1/usage?by=organization")["items"]
    assert sum(one["amount_nano"] for one in days) == sum(one["amount_nano"] for one in whole)
    none = everything(mill, "finance", "/v1/usage?by=label:nobody-has-this")["items"]
    assert [one["by"] for one in none] == [{"label:nobody-has-this": ""}]
    side = everything(mill, "finance", "/v1/usage?by=job&project=side")["items"]
    assert [one["by"]["job"] for one in side] == [mill.jobs["narrowed"]]


def test_a_running_job_tells_what_it_comes_to(mill: Mill) -> None:
    cost = mill.house.ok("GET", f"/v1/jobs/{mill.running}/story", mill.keys["member"])["cost"]
    (now,) = everything(mill, "member", "/v1/usage/now")["jobs"]
    assert cost["per_hour_nano"] == now["per_hour_nano"] >= 3_600_000_000
    assert 10 * cost["per_hour_nano"] - 1_000_000 <= cost["expected_nano"] <= 10 * cost["per_hour_nano"] + 1_000_000
    assert now["labels"] == {"team": "late"}
    (me,) = everything(mill, "member", "/v1/usage/now")["spenders"]
    assert (me["scope_id"], me["running"], me["per_hour_nano"]) == (mill.who("member"), 1, cost["per_hour_nano"])


def test_the_cheaper_ways_are_priced_and_say_why_not(mill: Mill) -> None:
    found = mill.house.ok("GET", f"/v1/jobs/{mill.jobs['member']}/cheaper", mill.keys["member"])
    ran, *others = found["options"]
    assert (ran["accelerator"], ran["purchase"], ran["saving_nano"]) == ("H100", "on-demand", 0)
    spot = next(one for one in others if one["purchase"] == "spot")
    assert spot["possible"]
    assert spot["saving_nano"] == pytest.approx(2_700_000_000, rel=0.01)
    assert "checkpoints" in spot["note"]
    reserved = next(one for one in others if one["purchase"] == "reserved" and not one["term"])
    assert (reserved["possible"], reserved["cost_nano"]) == (False, None)
    assert "no reserved price" in reserved["reason"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/usage?by=label:", "by"),
        ("/v1/usage?by=labels", "by"),
        ("/v1/usage?by=label:a,label:a", "by"),
        ("/v1/usage/waste?by=colour", "by"),
        ("/v1/usage/waste?from=soon", "from"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(house: House, path: str, field: str) -> None:
    answer = house.call("GET", path)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    if field == "by":
        assert "project" in answer.json()["next_step"]


@pytest.mark.parametrize("labels", [{"a b": "c"}, {"x": "=1+1"}, {f"k{n}": "v" for n in range(21)}, {"k": "v" * 80}])
def test_labels_that_are_none_are_refused(house: House, labels: dict[str, str]) -> None:
    answer = house.call("POST", "/v1/jobs", json={"spec": {"run": "true", "labels": labels}})
    assert answer.status_code == 422
    assert answer.json()["field"].startswith("labels")


def test_extreme_spans_have_answers(house: House) -> None:
    for path in ("/v1/usage?by=day,month", "/v1/usage/waste?by=project"):
        house.ok("GET", f"{path}&from=0001-01-01&to=9999-12-31")
        house.ok("GET", f"{path}&from=9999-12-31&to=0001-01-01")


@pytest.fixture
def finance_cli(mill: Mill, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with served(mill.house.app) as url:
        monkeypatch.setenv("HEADFRAME_URL", url)
        monkeypatch.setenv("HEADFRAME_KEY", mill.keys["finance"])
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        yield


@pytest.mark.usefixtures("finance_cli")
def test_the_command_line_prints_tables_and_csv_that_add_up(mill: Mill, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--by", "label:team,project", "--csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(one["label:team"], one["project"]) for one in lines] == [
        ("late", "default"), ("member", "default"), ("narrowed", "side"), ("other", "default"),
    ]  # fmt: skip
    for one, whose in zip(lines[1:], ("member", "narrowed", "other"), strict=True):
        assert Decimal(one["amount"]) * 10**9 == mill.cost[whose]
    assert main(["usage", "--by", "label:team"]) == 0
    assert capsys.readouterr().out.split()[0] == "TEAM"
    assert main(["usage", "now"]) == 0
    out = capsys.readouterr().out
    assert "organization  paper-mill" in out
    assert "team=late" in out
    assert main(["usage", "waste", "--by", "project"]) == 0
    assert "side" in capsys.readouterr().out
    assert main(["cheaper", mill.jobs["member"]]) == 0
    told = capsys.readouterr()
    assert [line.split()[:2] for line in told.out.splitlines()[1:]] == [["H100", "on-demand"], ["H100", "spot"]]
    assert "--all tells why" in told.err
    assert main(["cheaper", mill.jobs["member"], "--all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"][0]["saving_nano"] == 0
