"""The fleet, the queue and the charts in a real browser: by keyboard alone, live, hostile names, a lost server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from browser import Tab, open_tab
from console_cloud import HOSTILE, ConsoleCloud

from headframe.control.queries_node_table import COLUMNS

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect


@pytest.fixture
def desk(browser: Any, cloud: ConsoleCloud, session: Any) -> Iterator[Tab]:
    with open_tab(browser, cloud.url, session) as tab:
        yield tab
        tab.check()


def node_of(cloud: ConsoleCloud) -> dict[str, Any]:
    node: dict[str, Any] = cloud.api("GET", "/v1/nodes")["items"][0]
    return node


def test_nodes_are_filtered_drained_and_resumed_by_keyboard(cloud: ConsoleCloud, desk: Tab):
    node, page = node_of(cloud), desk.go("/fleet/nodes")
    expect(page.locator("hf-grid tbody a")).to_have_count(1)
    page.keyboard.press("/")
    page.keyboard.type("surely no such node")
    expect(page.locator("hf-grid tbody")).to_have_text("Nothing matches these words.")
    page.keyboard.press("Control+A")
    page.keyboard.type(node["name"][:4])
    expect(page.locator("hf-grid > .grid-count")).to_have_text("1 node")
    assert page.url.endswith(f"?q={node['name'][:4]}")
    while page.evaluate("document.activeElement.closest('tbody') === null"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/nodes/{node['id']}*")
    _press(page, "Cordon or drain")
    page.keyboard.press("Tab")
    page.keyboard.type(f"fans {HOSTILE}")
    page.keyboard.press("Enter")
    expect(page.locator("h1 .state")).to_have_text("draining")
    expect(page.locator(".said")).to_contain_text("takes nothing new")
    expect(page.locator(".node-why")).to_contain_text(HOSTILE)
    assert node_of(cloud)["state"] == "draining"
    desk.axe()
    _press(page, "Resume")
    _press(page, "Put it back into service")
    expect(page.locator("h1 .state")).to_have_text("ready")
    assert node_of(cloud)["state"] == "ready"
    assert page.title() != "taken"


def _press(page: Any, name: str) -> None:
    """Go by the tab key to what has this text, and press it."""
    for _ in range(60):
        if page.evaluate("document.activeElement.textContent.trim()") == name:
            page.keyboard.press("Enter")
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the tab key does not lead to {name!r}")


def test_the_map_is_walked_by_arrows_and_follows_what_happens(cloud: ConsoleCloud, desk: Tab):
    node, page = node_of(cloud), desk.go("/fleet?by=held")
    page.wait_for_selector("hf-heat[data-painted]")
    held = page.locator(".heat-total b").first
    before = int(held.inner_text())
    page.locator(".heat-box").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".heat-said")).to_contain_text(f"{node['name']} · GPU 1 (H100)")
    page.keyboard.press("End")
    expect(page.locator(".heat-said")).to_contain_text("GPU 11 (A100)")
    made = cloud.api.submit("shown", "sleep 60", gpu="A100:1")
    expect(held).to_have_text(str(before + 1))
    cloud.api("POST", f"/v1/jobs/{made['id']}/stop", {"grace": "0s"})
    expect(held).to_have_text(str(before))
    page.get_by_role("link", name="Power").click()
    expect(page.locator(".heat-ramp")).to_contain_text("W")
    assert page.url.endswith("/fleet?by=power")
    page.locator(".heat-box").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/nodes/{node['id']}*")


def tell_nodes(route: Any, count: int, name: str = "node") -> None:
    """A stream that tells of one window of so many nodes."""
    topics = parse_qs(urlsplit(route.request.url).query)["topics"][0].split(",")
    topic = next(one for one in topics if one.startswith("nodes:"))
    asked = parse_qs(topic.removeprefix("nodes:"))
    first, limit = int(asked["first"][0]), int(asked["limit"][0])
    places = range(count)[:: -1 if asked["sort"][0].startswith("-") else 1][first : first + limit]
    rest = [name, "", name, "ready", name, name, 8, 0, *[0] * 5, None, None, None, False]
    rows = [[f"nod_{at}", name if count == 1 else f"{name}-{at}", *rest] for at in places]
    frame = {"total": count, "first": first, "sums": {"nodes": count}, "columns": COLUMNS, "rows": rows}
    route.fulfill(content_type="text/event-stream", body=f"event: {topic}\ndata: {json.dumps(frame)}\n\n")


def test_of_many_nodes_only_those_in_view_come_and_exist(desk: Tab):
    desk.page.route("**/v1/live?*", lambda route: tell_nodes(route, 12_500))
    page = desk.go("/fleet/nodes")
    links = page.locator("hf-grid tbody a")
    expect(page.locator("hf-grid > .grid-count")).to_have_text("12,500 nodes")
    expect(page.locator("hf-grid table")).to_have_attribute("aria-rowcount", "12501")
    links.first.focus()
    page.keyboard.press("PageDown")
    page.keyboard.press("End")
    expect(links.last).to_have_text("node-12499")
    expect(links.last).to_be_focused()
    assert links.count() < 100
    page.keyboard.press("ArrowUp")
    expect(page.locator("tr[data-row='12498'] a")).to_be_focused()
    page.get_by_role("button", name="Node", exact=True).click()
    expect(links.last).to_have_text("node-0")
    assert page.url.endswith("?sort=-name"), "what is shown has an address"
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Node↓")
    desk.axe()


def test_names_of_machines_are_text_and_nothing_else(desk: Tab):
    """Names come from clusters, which may say anything."""

    def tamper(route: Any) -> None:
        answer = route.fetch()
        told = json.loads(answer.text())
        told["sites"][0]["name"] = told["node_names"][0] = HOSTILE
        route.fulfill(response=answer, json=told)

    desk.page.route("**/v1/fleet/map", tamper)
    page = desk.go("/fleet")
    page.wait_for_selector("hf-heat[data-painted]")
    page.locator(".heat-box").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".heat-said")).to_contain_text(HOSTILE)
    desk.page.route("**/v1/live?*", lambda route: tell_nodes(route, 1, HOSTILE))
    desk.go("/fleet/nodes")
    expect(page.locator("hf-grid tbody a").first).to_have_text(HOSTILE)
    assert page.title() != "taken"


def test_a_lost_server_leaves_the_map_and_says_so(browser: Any, serve: Any):
    running = serve()
    with open_tab(browser, running.url, None) as tab:
        tab.expected = ("ERR_CONNECTION", "ERR_INCOMPLETE", "Failed to load resource", "ERR_EMPTY")
        tab.sign_in(running.key)
        page = tab.go("/fleet")
        page.wait_for_selector("hf-heat[data-painted]")
        running.kill()
        expect(page.locator("hf-connection")).to_be_visible(timeout=20_000)
        expect(page.locator(".heat-box")).to_have_css("opacity", "0.55")
        running.start()
        expect(page.locator("hf-connection")).to_be_hidden(timeout=20_000)
        expect(page.locator(".heat-box")).to_have_css("opacity", "1")
        tab.check()


def test_a_chart_is_read_by_keyboard_and_as_a_table(desk: Tab):
    page = desk.go("/usage?range=7d")
    plot = page.locator("hf-chart .chart-plot").first
    assert "Cost per day by project" in (plot.get_attribute("aria-label") or "")
    plot.focus()
    page.keyboard.press("ArrowLeft")
    said = page.locator("hf-chart .chart-said").first
    expect(said).not_to_be_empty()
    first = said.inner_text()
    page.keyboard.press("Home")
    expect(said).not_to_have_text(first)
    page.get_by_role("button", name="Show as table: Cost per day by project").click()
    expect(page.locator("hf-chart table").first.locator("tbody tr")).to_have_count(7)
    desk.axe()
