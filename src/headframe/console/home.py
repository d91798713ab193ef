"""What needs attention first, then totals, the fleet in small, and spend to date against budget."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from headframe.base.money import NANO
from headframe.base.quantities import DAY_US
from headframe.console.page import Page, Signed, page_router
from headframe.console.words import about
from headframe.control.queries_home import Attention, Spend, overview, spend_to_date
from headframe.ledger.close import month_span_us
from headframe.tenants.roles import Permission

router = page_router()
# Where one looks after each kind of trouble; `{}` is its subject.
PLACES = {
    "job_failed": "/jobs/{}", "job_stuck": "/jobs/{}", "job_waits": "/jobs/{}", "node_down": "/nodes/{}",
    "accelerator_failed": "/nodes/{}", "node_draining": "/nodes/{}", "key_expires": "/admin/keys",
    "budget_over": "/usage/budgets",
}  # fmt: skip
# And after the others of its kind.
LISTS = {
    "job_failed": "/jobs?sort=failed", "job_stuck": "/jobs?sort=running", "job_waits": "/queue",
    "node_down": "/fleet/nodes", "accelerator_failed": "/fleet/nodes", "node_draining": "/fleet/nodes",
    "key_expires": "/admin/keys", "budget_over": "/usage/budgets",
}  # fmt: skip


@router.get("/home")
def home(page: Signed) -> Response:
    """The page that one lands on."""
    found, *money = page.together(overview, *([spend_to_date] if page.may(Permission.USAGE_READ) else []))
    spend = money[0] if money else None
    return page.show(
        "home.html", section="home", title="Home", found=found, spend=spend, places=PLACES, lists=LISTS,
        attention=[_linked(one) for one in found.attention], everything=page.house is None,
        chart=None if spend is None else spend_chart(spend, page), sees_fleet=page.may(Permission.FLEET_READ),
        fleet_cells=sum(found.accelerators.values()), colour="use" if page.control.gauges.any_busy() else "held",
    )  # fmt: skip


def _linked(one: Attention) -> dict[str, Any]:
    place = PLACES.get(one.kind, "/home").format(one.subject)
    return {"one": one, "href": place, "more_href": LISTS.get(one.kind, "/home")}


def spend_chart(spend: Spend, page: Page) -> dict[str, Any]:
    """What `hf-chart` shows: the month's spend as it grows, day by day, to now, against the budget."""
    begin, end = month_span_us(spend.month)
    today, total = page.now_us // DAY_US, 0
    by_day = dict(spend.per_day)
    x, y = [begin / 1000], [0.0]
    for day in range(begin // DAY_US, today + 1):
        total += by_day.get(day, 0)
        x.append(min((day + 1) * DAY_US, page.now_us) / 1000)
        y.append(total / NANO)
    budget, marks = spend.budget_nano, []
    if budget is not None:
        marks = [{"value": budget / NANO, "name": f"Budget {about(budget, spend.currency)}", "tone": "warn"}]
    return {
        "kind": "area", "title": f"Spend in {spend.month}", "unit": spend.currency, "x": x, "min": 0,
        "series": [{"name": "Spent", "y": y}], "thresholds": marks, "range": [begin / 1000, end / 1000],
        "now": page.now_us / 1000, "empty": "Nothing has been spent this month.",
    }  # fmt: skip
