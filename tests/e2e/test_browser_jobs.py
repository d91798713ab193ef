"""Jobs in a real browser: followed live, searched, stopped and submitted by keyboard, whatever they say."""

from __future__ import annotations

import re
from typing import Any

import pytest
from browser import Tab, open_tab
from console_cloud import HOSTILE, ConsoleCloud
from running import until

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect

LINES = 1_000_000


@pytest.fixture(scope="module")
def long_log(cloud: ConsoleCloud) -> str:
    """The id of a job with a long log."""
    made = cloud.api.submit("long", f"seq -f 'line %.0f of many' 1 {LINES}; echo the end")
    until(lambda: cloud.api("GET", f"/v1/jobs/{made['id']}")["state"] == "succeeded")
    return str(made["id"])


def test_the_list_follows_what_happens(tab: Tab, cloud: ConsoleCloud):
    page = tab.go("/jobs")
    expect(page.locator("tr[aria-rowindex]").first).to_be_visible()
    running = page.locator(f'tr[data-id="{cloud.jobs["running"]["id"]}"]')
    expect(running.locator(".job-state")).to_have_text(re.compile("running"))
    made = cloud.api.submit("fresh-job", "sleep 0.2; exit 7")
    row = page.locator(f'tr[data-id="{made["id"]}"]')
    expect(row.locator(".job-state")).to_have_text("failed")
    expect(row.locator(".why")).to_contain_text("exit code 7")
    page.get_by_role("link", name="Failed").click()
    expect(page.locator("tr[data-id]").first).to_be_visible()
    assert page.url.endswith("?sort=failed"), "a filter is an address"
    page.get_by_label("Group by").select_option("owner")
    page.wait_for_url("**group=owner**")
    expect(page.get_by_role("heading", name="owner")).to_be_visible()


def test_the_list_is_ordered_by_its_heads_with_the_keyboard(tab: Tab):
    page = tab.go("/jobs")
    names = page.locator("tr[aria-rowindex] .job a")
    expect(names.first).to_be_visible()
    newest_first = names.all_inner_texts()
    head = page.get_by_role("columnheader", name="Job", exact=True)
    page.get_by_role("button", name="Job", exact=True).press("Enter")
    expect(head).to_have_attribute("aria-sort", "ascending")
    upwards = sorted(newest_first, key=str.casefold)
    assert names.all_inner_texts() == upwards
    page.get_by_role("button", name="Job", exact=True).press("Enter")
    expect(head).to_have_attribute("aria-sort", "descending")
    assert names.first.inner_text() == upwards[-1]
    assert page.url.endswith("?order=-job"), "an order is an address"
    page.reload()
    expect(names.first).to_have_text(upwards[-1])
    page.get_by_role("link", name="Failed").click()
    expect(page).to_have_url(re.compile("order=-job"))
    tab.check()


def test_the_list_is_ordered_on_a_phone_that_has_no_heads(browser: Any, cloud: ConsoleCloud, session: Any):
    with open_tab(browser, cloud.url, session, "phone") as tab:
        page = tab.go("/jobs")
        names = page.locator("tr[aria-rowindex] .job a")
        expect(names.first).to_be_visible()
        upwards = sorted(names.all_inner_texts(), key=str.casefold)
        page.get_by_label("Order").select_option("Name")
        expect(names).to_have_text(upwards)
        assert page.url.endswith("?order=job")
        page.get_by_label("Order").select_option("Ran longest")
        expect(page.locator("tr[aria-rowindex] .ran").first).to_be_visible()
        page.get_by_label("Order").select_option("Newest first")
        expect(page.locator("tr[aria-rowindex] .ran").first).to_be_hidden()
        assert page.url.endswith("/jobs")
        tab.check()


def test_views_are_saved_and_forgotten(tab: Tab):
    page = tab.go("/jobs?sort=running")
    page.get_by_text("Views").click()
    page.get_by_role("button", name="Save this view").click()
    page.get_by_label("Name", exact=True).fill("<b>mine</b>")
    page.get_by_role("button", name="Save", exact=True).click()
    tab.go("/jobs").get_by_text("Views").click()
    page.get_by_role("link", name="<b>mine</b>").click()
    page.wait_for_url("**/jobs?sort=running")
    page.get_by_text("Views").click()
    page.get_by_role("button", name="Forget the view").click()
    expect(page.get_by_role("link", name="<b>mine</b>")).to_have_count(0)


@pytest.mark.parametrize("part", ["", "/log"])
def test_hostile_lines_are_text(tab: Tab, cloud: ConsoleCloud, part: str):
    page = tab.go(f"/jobs/{cloud.jobs['hostile']['id']}{part}")
    expect(page.locator(".log-line", has_text="<script>")).to_have_text(HOSTILE)
    expect(page.locator(".log-line .a-red")).to_have_text("red")
    assert page.title() != "taken"
    assert page.locator(".log-line img, .log-line script").count() == 0


def test_metrics_are_followed_by_the_stream_and_hostile_ones_are_text(tab: Tab, cloud: ConsoleCloud):
    tell = 'printf \'%s\\n\' "$LINE" | sed "s/NUMBER/$i/" >> $HEADFRAME_OUTPUTS/metrics.jsonl'
    script = f"i=3; {tell}; until [ -e $HEADFRAME_OUTPUTS/on ]; do sleep 0.1; done; i=4; {tell}; sleep 600"
    spec = {"name": "hostile-metrics", "run": script, "resources": {"cpu": 0.1, "memory": "64MB"}}
    name = HOSTILE.replace('"', "'")
    spec["env"] = {"LINE": f'{{"step": NUMBER, "{name}": 1.5}}'}
    made = cloud.api("POST", "/v1/jobs", {"spec": spec})
    page = tab.go(f"/jobs/{made['id']}/metrics")
    told = page.locator(".chart-card", has=page.locator("h3", has_text="<script>"))
    expect(told.locator("h3")).to_have_text(name, timeout=15_000)
    expect(told.locator(".now")).to_have_text("1.5 at step 3")
    expect(page.locator(".chart-card h3", has_text="CPU")).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    (cloud.running.outputs(made["id"]) / "on").touch()
    expect(told.locator(".now")).to_have_text("1.5 at step 4", timeout=15_000)
    assert [one for one in asked if "/metrics" in one] == [], "the page does not ask: it is told"
    assert page.title() != "taken"
    tab.axe()
    cloud.api("POST", f"/v1/jobs/{made['id']}/stop", {"grace": "0s"})


def test_only_lines_in_view_exist_however_many_there_are(tab: Tab, long_log: str):
    page = tab.go(f"/jobs/{long_log}/log")
    expect(page.locator(".log-line", has_text="the end")).to_be_visible()
    scroll = page.locator(".log-scroll")
    assert page.locator(".log-line").count() < 150
    for _ in range(4):  # upwards, older lines come
        scroll.hover()
        before = page.locator("[data-log-count]").inner_text()
        page.mouse.wheel(0, -10_000_000)
        if "100,000" in before:
            break
        expect(page.locator("[data-log-count]")).not_to_have_text(before)
    expect(page.locator("[data-log-count]")).to_contain_text("100,0")
    assert page.locator(".log-line").count() < 150
    search = page.get_by_label("Search in the log")
    search.fill(f"line {LINES - 22_223} of")
    expect(page.locator("[data-log-found]")).to_have_text("1 found")
    search.press("Enter")
    expect(page.locator(".log-line.is-marked")).to_have_text(f"line {LINES - 22_223} of many")
    page.get_by_role("button", name="Wrap").click()
    page.get_by_role("button", name="Only found").click()
    expect(page.locator(".log-line")).to_have_count(1)


def test_ranks_stand_merged_or_side_by_side(tab: Tab, cloud: ConsoleCloud):
    spec = {
        "name": "ranks",
        "nodes": 2,
        "run": "echo said by $NODE_RANK; sleep 600",
        "resources": {"cpu": 0.1, "memory": "64MB"},
    }
    made = cloud.api("POST", "/v1/jobs", {"spec": spec})
    page = tab.go(f"/jobs/{made['id']}/log")
    expect(page.locator(".log-line", has_text="said by")).to_have_count(2)
    page.get_by_label("Ranks").select_option("split")
    for rank in (0, 1):
        pane = page.get_by_label(f"Log of rank {rank}", exact=True).first
        expect(pane.locator(".log-line", has_text="said by")).to_have_text(f"said by {rank}")
    tab.axe()
    cloud.api("POST", f"/v1/jobs/{made['id']}/stop", {"grace": "0s"})


def test_submit_follow_and_stop_by_keyboard_alone(tab: Tab, cloud: ConsoleCloud):
    page = tab.go("/jobs")
    page.keyboard.press("n")
    page.wait_for_url("**/jobs/new")
    page.get_by_label("Name").focus()
    page.keyboard.type("by-keyboard")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("for i in $(seq 1 600); do echo tick $i; sleep 0.1; done")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("H100:many")
    expect(page.locator('[data-fault="resources.gpu"]')).not_to_be_empty()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    expect(page.locator('[data-fault="resources.gpu"]')).to_be_empty()
    expect(page.locator(".plan [data-head]")).to_have_text("It would start at once")
    expect(page.locator("[data-file]")).to_contain_text("name: by-keyboard")
    page.keyboard.press("Control+Enter")
    page.wait_for_url(re.compile(r"/jobs/job_"))
    expect(page.locator(".log-few")).to_contain_text("tick 3")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "Log":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/log")
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".log-line").last).to_contain_text(re.compile(r"tick \d+"))
    page.keyboard.press("s")
    expect(page.get_by_label("Grace")).to_be_focused()
    page.keyboard.type("1s")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_contain_text("is told to end")
    expect(page.locator(".job-head-state")).to_contain_text("stopped")


def test_a_lost_server_is_told_and_found_again(browser: Any, serve: Any):
    running = serve()
    run = "for i in $(seq 1 3000); do echo tick $i; sleep 0.05; done"
    made = running.client().submit({"name": "goes-on", "run": run, "resources": {"cpu": 0.1}})
    with open_tab(browser, running.url, None) as tab:
        tab.expected = ("ERR_CONNECTION", "ERR_INCOMPLETE", "Failed to load resource", "ERR_EMPTY")
        tab.sign_in(running.key)
        page = tab.go(f"/jobs/{made['id']}/log")
        expect(page.locator(".log-line", has_text="tick 5").first).to_be_visible()
        running.kill()
        expect(page.locator(".log-note")).to_contain_text("lost")
        running.start()
        expect(page.locator(".log-note")).to_be_hidden(timeout=20_000)
        seen = int(page.locator(".log-line").last.inner_text().split()[1])
        expect(page.locator(".log-line", has_text=f"tick {seen + 20}").first).to_be_visible(timeout=20_000)
        tab.check()
