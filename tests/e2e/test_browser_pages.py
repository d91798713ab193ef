"""Every page of the console in a real browser: usable by everybody, on every screen, in both themes, and small."""

from __future__ import annotations

from typing import Any

import pytest
from browser import THEMES, WIDTHS, open_tab
from console_cloud import ConsoleCloud

# Addresses may name jobs of the cloud: {running}, {failed}, {waiting}, {done}, {hostile}; and its {node}.
PAGES = [
    "/jobs",
    "/jobs?group=state",
    "/jobs/new",
    "/jobs/{running}",
    "/jobs/{waiting}",
    "/jobs/{hostile}/log",
    "/jobs/{running}/metrics",
    "/jobs/{done}/config",
    "/fleet",
    "/fleet?by=job",
    "/fleet/nodes",
    "/nodes/{node}",
    "/queue",
    "/usage",
    "/usage/waste?by=job",
    "/usage/budgets",
    "/usage/invoices",
    "/home",
    "/account",
    "/admin/organizations",
    "/admin/projects",
    "/admin/members?organization=mine",
    "/admin/keys?organization=mine",
    "/admin/quotas",
    "/admin/prices",
    "/admin/clusters",
    "/admin/sessions",
    "/admin/audit",
]


def address(cloud: ConsoleCloud, page: str) -> str:
    node = cloud.api("GET", "/v1/nodes")["items"][0]["id"] if "{node}" in page else ""
    return page.format(node=node, **{name: job["id"] for name, job in cloud.jobs.items()})


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_good_for_everybody(browser: Any, cloud: ConsoleCloud, session: Any, page: str):
    with open_tab(browser, cloud.url, session, "phone") as tab:
        for theme, rules in zip(THEMES, ((), ("color-contrast",)), strict=True):  # all else is the same in both
            tab.theme(theme)
            tab.go(address(cloud, page))
            tab.axe(*rules)
        tab.is_small()
        for wide, high in WIDTHS.values():
            tab.page.set_viewport_size({"width": wide, "height": high})
            tab.fits()
        tab.check()


@pytest.mark.parametrize("theme", THEMES)
def test_the_way_in_is_good_for_everybody(browser: Any, cloud: ConsoleCloud, theme: str):
    with open_tab(browser, cloud.url, None, "phone") as tab:
        tab.theme(theme)
        tab.go("/sign-in?next=/jobs")
        tab.axe()
        tab.fits()
        tab.page.get_by_label("API key").fill("hf_wrong")
        tab.expected = ("401",)
        tab.page.get_by_role("button", name="Sign in").click()
        alert = tab.page.get_by_role("alert")
        assert "not known" in alert.inner_text()
        tab.axe()
        tab.check()
