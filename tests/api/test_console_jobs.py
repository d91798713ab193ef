"""The pages of jobs, without a browser: what they say, to whom, and what their forms do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import Browser, text_of
from house import House, wait_for

from headframe.base.errors import Invalid
from headframe.console.job_document import document_of, yaml_of
from headframe.console.job_form import document_of as document_of_form
from headframe.console.job_form import form_of
from headframe.control.queries_jobs import counts
from headframe.workloads import jobfile

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def browser(house: House) -> Iterator[Browser]:
    with Browser(str(house.http.base_url), house.key) as found:
        yield found


@pytest.fixture(scope="module")
def job(house: House) -> dict[str, Any]:
    made = house.submit(spec={"name": "train-7b", "resources": {"gpu": "H100:2"}, "max_duration": "2h"})
    wait_for(lambda: house.ok("GET", f"/v1/jobs/{made['id']}")["state"] == "running", "running")
    return made


def test_the_list_says_what_runs_and_where_all_of_it_is(browser: Browser, job: dict[str, Any]):
    tree = browser.page("/jobs")
    row = tree.xpath(f"//tr[@data-id='{job['id']}']")[0]
    assert text_of(row).startswith("train-7b running")
    assert row.xpath(f".//a[@href='/jobs/{job['id']}']")
    (table,) = tree.xpath("//table[@aria-rowcount]")
    assert int(table.get("aria-rowcount")) == len(tree.xpath("//tr[@data-id]")) + 1


def test_a_page_is_followed_from_before_it_was_looked_up(
    browser: Browser, house: House, monkeypatch: pytest.MonkeyPatch
):
    """What happens while a page is made may not be on it: the script must hear of it."""
    before = house.control.recorded_seq

    def counts_late(reads: Any, where: dict[str, Any]) -> dict[str, int]:
        house.submit(spec={"name": "meanwhile"})
        return counts(reads, where)

    monkeypatch.setattr("headframe.console.jobs.counts", counts_late)
    (body,) = browser.page("/jobs").xpath("//body")
    assert before <= int(body.get("data-sequence")) < house.control.recorded_seq


def test_filters_are_addresses(browser: Browser, house: House, job: dict[str, Any]):
    other = house.submit(spec={"name": "other"})
    assert [row.get("data-id") for row in browser.page("/jobs?name=train").xpath("//tr[@data-id]")] == [job["id"]]
    assert other["id"] in browser.get("/jobs?owner=me").text
    assert "No job is like that" in text_of(browser.page("/jobs?sort=failed"))
    assert "headframe jobs --state failed" in browser.get("/jobs?sort=failed&project=default").text
    grouped = text_of(browser.page("/jobs?group=owner"))
    assert "owner" in grouped
    assert browser.get("/jobs?group=colour").status_code == 422
    assert browser.get("/jobs?project=nothing").status_code == 422


def test_blocks_follow_one_another(browser: Browser, house: House):
    for _ in range(5):
        house.submit(spec={"name": "many"})
    seen: list[str] = []
    cursor, pages = "", 0
    while cursor is not None:
        answer = browser.get(f"/jobs/rows?name=many&limit=2{f'&cursor={cursor}' if cursor else ''}").json()
        seen += [row[0] for row in answer["rows"]]
        cursor, pages = answer["next"], pages + 1
    assert (len(seen), len(set(seen)), pages) == (5, 5, 3)


def test_a_job_s_page_tells_its_story_place_and_cost(browser: Browser, job: dict[str, Any]):
    tree = browser.page(f"/jobs/{job['id']}")
    text = text_of(tree)
    for words in ("Cost so far", "To its end", "Attempt 1 runs", "GPU 0 is held", "2h00m"):
        assert words in text, words
    assert len(tree.xpath("//li[contains(@class, 'cell') and contains(@class, 'held')]")) == 2
    for part in ("log", "metrics", "config"):
        assert browser.page(f"/jobs/{job['id']}/{part}").xpath("//h1")
    assert "gpu: H100:2" in browser.get(f"/jobs/{job['id']}/config").text


def test_the_whole_log_is_a_file(browser: Browser, house: House, job: dict[str, Any]):
    house.logs.write(job["id"], f"one\n{HOSTILE}\n")
    answer = browser.get(f"/jobs/{job['id']}/log.txt")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.text == f"one\n{HOSTILE}\n"


def test_others_see_nothing(house: House, job: dict[str, Any]):
    organization = house.organization("elsewhere")["name"]
    with Browser(str(house.http.base_url), house.member(organization, "owner")) as stranger:
        for part in ("", "/log", "/log.txt", "/metrics", "/config"):
            assert stranger.get(f"/jobs/{job['id']}{part}").status_code == 404
        assert job["id"] not in stranger.get("/jobs").text
        assert stranger.post(f"/jobs/{job['id']}/stop").status_code == 404


def test_the_operator_sees_the_jobs_of_all_organizations(browser: Browser, house: House):
    name = house.organization("many-jobs")["name"]
    theirs = house.call(
        "POST", "/v1/jobs", house.member(name, "owner"), json={"spec": {"name": "theirs", "run": "true"}}
    )
    job_id = theirs.json()["id"]
    assert f"{name} / default" in text_of(browser.page("/jobs?name=theirs").xpath(f"//tr[@data-id='{job_id}']")[0])
    assert job_id in browser.get(f"/jobs?organization={name}").text
    assert job_id in browser.get(f"/jobs?project={name} / default").text
    assert name in text_of(browser.page("/jobs?group=organization"))
    assert job_id not in browser.get("/jobs?project=default").text


def test_who_may_not_stop_is_offered_nothing_and_refused(house: House, job: dict[str, Any]):
    with Browser(str(house.http.base_url), house.member(None, "viewer")) as viewer:
        tree = viewer.page(f"/jobs/{job['id']}")
        assert not tree.xpath(f"//form[@action='/jobs/{job['id']}/stop']")
        assert viewer.post(f"/jobs/{job['id']}/stop").status_code == 403
        assert viewer.post("/jobs/new", act="submit", run="true").status_code == 403


def test_stop_is_a_form_that_only_our_pages_send(browser: Browser, house: House):
    made = house.submit()
    path = f"/jobs/{made['id']}/stop"
    assert browser.post(path, headers={"Origin": "https://elsewhere.example"}).status_code == 403
    assert browser.post(path, form_token="wrong").status_code == 403
    assert browser.post(path, grace="soon").status_code == 422
    browser.page(f"/jobs/{made['id']}")
    answer = browser.post(path, grace="1s", next="//elsewhere.example")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{made['id']}")
    wait_for(lambda: house.ok("GET", f"/v1/jobs/{made['id']}")["state"] == "stopped", "stopped")


# A new job


def check(browser: Browser, **fields: str) -> dict[str, Any]:
    answer = browser.post("/jobs/new/check", **fields)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_the_form_tells_file_price_and_start_before_it_is_sent(browser: Browser):
    told = check(browser, name="sweep", run="python a.py\npython b.py", **{"resources.gpu": "H100:1"}, env="A=1\nB=x=y")
    assert jobfile.read(told["file"])[0] == {
        "name": "sweep", "run": "python a.py\npython b.py", "resources": {"gpu": "H100:1"},
        "env": {"A": "1", "B": "x=y"},
    }  # fmt: skip
    assert told["plan"]["would"] == "start"
    assert told["plan"]["per_hour"].endswith(" USD")
    assert told["command"].startswith("headframe submit -f - <<'END_OF_JOB_FILE'\nname: sweep\n")
    assert json.loads(told["curl"].split(" -d ")[1].strip("'"))["spec"]["name"] == "sweep"
    assert check(browser, run="true", **{"resources.gpu": "H100:64"})["plan"]["would"] == "refused"


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"run": ""}, "run"),
        ({"run": "true", "resources.gpu": "H100:many"}, "resources.gpu"),
        ({"run": "true", "nodes": "-1"}, "nodes"),
        ({"run": "true", "env": "no equals"}, "env"),
        ({"run": "true", "packages": "-e /etc"}, "packages"),
        ({"run": "true", "max_duration": "7"}, "max_duration"),
        ({"run": "true", "retry.max": "often"}, "retry.max"),
        ({"run": "true", "more": "array: {index: 1}"}, ""),
        ({"run": "true", "more": "[not, a, table]"}, ""),
    ],
)
def test_what_is_wrong_stands_beside_its_field(browser: Browser, fields: dict[str, str], place: str):
    told = check(browser, **fields)
    assert place in told["faults"]
    assert told["plan"] is None
    answer = browser.post("/jobs/new", act="submit", **fields)
    assert answer.status_code == 422
    assert told["faults"][place].split(":")[0][:40] in answer.text.replace("&#39;", "'")


def test_a_job_goes_from_the_form_into_the_queue(browser: Browser, house: House):
    answer = browser.post(
        "/jobs/new", act="submit", name="from-form", run="run 1s", priority="70", **{"resources.cpu": "1"}
    )
    assert answer.status_code == 303, answer.text[:500]
    made = house.ok("GET", f"/v1{answer.headers['location']}")
    assert (made["name"], made["spec"]["priority"], made["spec"]["run"]) == ("from-form", 70, "run 1s")


def test_what_is_typed_comes_back_escaped(browser: Browser):
    answer = browser.post("/jobs/new", act="submit", name=HOSTILE, run=f"echo {HOSTILE}", env=HOSTILE)
    assert answer.status_code == 422
    assert "<script>" not in answer.text
    assert "&lt;script&gt;" in answer.text


def test_a_clone_asks_for_the_same(browser: Browser, house: House):
    spec = {
        "name": "original", "run": "python train.py", "nodes": "1..2", "array": {"index": "0..3", "parallel": 2},
        "resources": {"gpu": ["H100:2", "A100:80GB:2"], "memory": "8GB..16GB"}, "env": {"A": "1"}, "priority": 60,
        "checkpoints": {"path": "ckpt", "keep": 5}, "retry": {"on": ["error"], "max": 2}, "budget": "5 USD",
        "node_labels": {}, "max_duration": "1h30m",
    }  # fmt: skip
    before = jobfile.parse(spec)
    document = document_of(before)
    again = jobfile.read(yaml_of(document))[0]
    assert again["env"] == {"A": None}, "values of variables are told to nobody"
    assert jobfile.parse(again, env={"A": "1"}) == before, "the file says the same"
    form = form_of(document)
    assert form.raw("env") == "A"
    with pytest.raises(Invalid, match="NAME=VALUE"):
        document_of_form(form)
    del document["env"]
    assert jobfile.parse({**document_of_form(form_of(document)), "env": {"A": "1"}}) == before, "and so does the form"
    made = house.submit(spec={"name": "cloned", "env": {"X": HOSTILE}, "priority": 61})
    tree = browser.page(f"/jobs/new?from={made['id']}")
    assert tree.xpath("//input[@name='priority']/@value") == ["61"]
    assert tree.xpath("//textarea[@name='env']")[0].text.strip() == "X"
    assert HOSTILE not in browser.page(f"/jobs/{made['id']}/config").text_content()


def test_form_and_file_lead_to_each_other(browser: Browser):
    as_file = browser.post("/jobs/new", act="file", name="both", run="true", more="topology: rack\n")
    assert "topology: rack" in as_file.text
    text = "name: both\nrun: 'true'\ntopology: rack\nlabels: {team: vision}\n"
    as_form = browser.post("/jobs/new", **{"as": "file"}, file=text, act="form")
    assert 'value="both"' in as_form.text
    assert "team: vision" in as_form.text
    broken = browser.post("/jobs/new", **{"as": "file"}, file="run: [", act="form")
    assert broken.status_code == 422
    assert "not YAML" in broken.text


def test_the_operator_may_look_at_all_organizations(browser: Browser, house: House, job: dict[str, Any]):
    organization = house.organization("neighbours")["name"]
    theirs = house.submit(house.member(organization, "owner", "nina"), spec={"name": "theirs"})
    assert theirs["id"] not in browser.get(f"/jobs?organization={house.opening.organization.name}").text
    everything = browser.get("/jobs?organization=all").text
    assert theirs["id"] in everything
    assert job["id"] in everything
    assert "nina" in browser.get(f"/jobs?organization={organization}&owner=nina").text
    with Browser(str(house.http.base_url), house.member(None, "member")) as member:
        assert member.get("/jobs?organization=all").status_code in (403, 404)
    ours = house.ok("GET", "/v1/jobs", params={"owner": "me"})["items"]
    assert job["id"] in {one["id"] for one in ours}
    assert house.ok("GET", "/v1/jobs", params={"owner": "nobody-such"})["items"] == []
