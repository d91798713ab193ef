"""Admin of the cloud: prices and their versions, clusters and their health, and the audit log."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Path, Query
from starlette.responses import Response

from headframe.api.wire import Named
from headframe.base.changes import Event
from headframe.base.errors import CallerError, Conflict, Invalid
from headframe.base.money import divide_half_even
from headframe.console.admin import links, show
from headframe.console.forms import EMPTY, Form, Sent
from headframe.console.page import Page, Signed, page_router
from headframe.control.commands_clusters import lose_cluster
from headframe.control.commands_prices import set_price
from headframe.control.driver import Control
from headframe.control.queries_fleet import losses
from headframe.fleet.records import Accelerator, Cluster, Node, Region
from headframe.pricing.book import ANY
from headframe.pricing.records import Price
from headframe.tenants.records import Member, Organization
from headframe.tenants.roles import Permission

router = page_router()
ClusterRef = Annotated[str, Path(max_length=200)]
EVENTS = 100  # of a page of the audit log
VERSIONS = 20  # of the price book, that are told one by one


@dataclass(frozen=True, slots=True)
class Change:
    """A price of one version of the book, and what held before it for the same."""

    price: Price
    before: Price | None

    @property
    def percent(self) -> int | None:
        """How much dearer (or cheaper) it has become, in thousandths of the price before."""
        old = self.before
        if old is None or not old.unit_nano or old.currency != self.price.currency or old.unit != self.price.unit:
            return None
        return divide_half_even(1000 * (self.price.unit_nano - old.unit_nano), old.unit_nano)


def changes_of(prices: list[Price]) -> list[tuple[int, list[Change]]]:
    """(version, what it changed) of a price book, the newest first."""
    last: dict[tuple[str, ...], Price] = {}
    found: dict[int, list[Change]] = {}
    for price in sorted(prices, key=lambda one: (one.book, one.from_us, one.id)):
        what = (price.meter, price.organization_id, price.region_id, price.purchase, price.term, price.currency)
        found.setdefault(price.book, []).append(Change(price, last.get(what)))
        last[what] = price
    return sorted(found.items(), reverse=True)


@router.get("/admin/prices")
def prices(page: Signed, organization: Named = None) -> Response:
    """What things cost now, and what each version of the book changed."""
    return _prices(page)


@router.post("/admin/prices")
def make_price(page: Signed, form: Sent) -> Response:
    """A new price."""
    try:
        made = page.run(
            set_price, meter=form.text("meter"), amount=form.text("amount"), unit=form.text("unit"),
            purchase=form.text("purchase", ANY), organization=form.maybe("organization"), starts=form.maybe("starts"),
        )  # fmt: skip
    except CallerError as error:
        return _prices(page, form, error)
    return page.go("/admin/prices", said=f"{made.meter} has a new price: version {made.book} of the book.")


def _prices(page: Page, form: Form = EMPTY, error: CallerError | None = None) -> Response:
    caller = page.caller
    caller.need(Permission.PRICES_READ, caller.organization_id, caller.project_id)
    where: dict[str, Any] = {} if caller.operator else {"organization_id": (ANY, caller.organization_id)}
    known = page.control.reads.find(Price, limit=5000, **where)
    versions = changes_of(known)
    now_us = page.now_us
    current = [one for one in known if one.from_us <= now_us and (one.to_us is None or now_us < one.to_us)]
    current.sort(key=lambda one: (one.organization_id != ANY, one.meter, one.purchase, one.term, one.region_id))
    houses = page.control.reads.find(Organization, limit=500) if caller.operator else []
    return show(
        page, "prices", "Prices", None, form=form, error=error, current=current, versions=versions[:VERSIONS],
        older=max(0, len(versions) - VERSIONS), names={one.id: one.name for one in houses},
        buyers=[("", "everybody"), *((one.id, one.name) for one in houses)],
        coming=[one for one in known if one.from_us > now_us],
    )  # fmt: skip


@router.get("/admin/clusters")
def clusters(page: Signed) -> Response:
    """The clusters, whether their engines are heard of, and how the loop that decides is."""
    page.caller.need(Permission.FLEET_READ, page.caller.organization_id, page.caller.project_id)
    found = page.ask(_clusters)
    return show(page, "clusters", "Clusters", None, clusters=found, health=_health(page.control, page.now_us))


@router.get("/admin/clusters/{cluster}/lost")
def cluster_to_lose(page: Signed, cluster: ClusterRef) -> Response:
    """What would end with a cluster that never comes back, and the form to say so."""
    return _to_lose(page, cluster)


@router.post("/admin/clusters/{cluster}/lost")
def declare_lost(page: Signed, form: Sent, cluster: ClusterRef) -> Response:
    """Give it up."""
    try:
        lost = page.run(lose_cluster, cluster, confirm=form.text("confirm"), reason=form.text("reason"))
    except (Invalid, Conflict) as error:
        return _to_lose(page, cluster, form, error)
    return page.go("/admin/clusters", said=f"{lost.name} is lost. What it held has ended.")


def _to_lose(page: Page, cluster: str, form: Form = EMPTY, error: CallerError | None = None) -> Response:
    found = page.ask(losses, cluster)
    return page.show(
        "admin_cluster_lost.html", section="admin", title=f"Declare {found.cluster} lost", links=links(page),
        here="clusters", shown=None, houses=[], form=form, error=error, losses=found,
    )  # fmt: skip


def _clusters(world: Any, context: Any, caller: Any) -> list[dict[str, Any]]:
    """Each cluster with what stands in it, by name."""
    nodes, devices, broken = Counter[tuple[str, str]](), Counter[str](), Counter[str]()
    home = {}
    for node in world.all(Node).values():
        home[node.id] = node.cluster_id
        nodes[node.cluster_id, node.state.value] += 1
    for device in world.all(Accelerator).values():
        devices[home.get(device.node_id, "")] += 1
        broken[home.get(device.node_id, "")] += not device.healthy
    found = []
    for cluster in sorted(world.all(Cluster).values(), key=lambda one: (one.name, one.id)):
        region = world.get(Region, cluster.region_id)
        states = {state: nodes[cluster.id, state] for state in ("ready", "draining", "down")}
        found.append(
            {
                "cluster": cluster, "region": region.name if region else "", "nodes": states,
                "accelerators": devices[cluster.id], "failed": broken[cluster.id],
            }
        )  # fmt: skip
    return found


def _health(control: Control, now_us: int) -> dict[str, Any]:
    """How the server itself is."""
    return {
        "alive": control.alive(), "ticks": control.ticks, "beat_us": control.beat_us or now_us,
        "events": control.recorded_seq,
    }  # fmt: skip


@router.get("/admin/audit")
def audit(
    page: Signed,
    organization: Named = None,
    before: Annotated[int | None, Query(ge=1)] = None,
    subject: Named = None,
    kind: Named = None,
) -> Response:
    """Who did what, when: the newest first."""
    caller = page.caller
    organization = organization or None
    everything = organization is None and page.house is None
    house = None if everything else page.call.organization(organization)
    home = house.id if house is not None else caller.organization_id
    caller.need(Permission.JOBS_READ, home, caller.project_id)
    where: dict[str, Any] = {} if house is None else {"organization_id": house.id}
    if caller.project_id is not None:
        where["project_id"] = caller.project_id
    if subject and subject.strip():
        where["subject"] = subject.strip()
    if kind and kind.strip():
        where["kind__prefix"] = kind.strip().lower().replace(" ", "_")
    found = page.control.reads.find(Event, after=before, limit=EVENTS + 1, newest=True, **where)
    events = found[:EVENTS]
    following = None
    if len(found) > EVENTS:
        asked = {"organization": organization, "subject": subject, "kind": kind, "before": events[-1].seq}
        following = "/admin/audit?" + urlencode({name: value for name, value in asked.items() if value})
    who = {one: page.world.get(Member, one) for one in {str(each.detail.get("member_id", "")) for each in events}}
    names = {one: member.name for one, member in who.items() if member is not None}
    shown = house or page.world.get(Organization, caller.organization_id)
    return show(
        page, "audit", "Audit log", shown, events=events, following=following, names=names, everything=everything,
        links_of=_place, filters={"subject": subject or "", "kind": kind or ""},
    )  # fmt: skip


def _place(event: Event) -> str:
    """The page of what an event is about; "" when it has none."""
    folder = {"job": "jobs", "nod": "nodes", "node": "nodes"}.get(event.subject.partition("_")[0])
    return f"/{folder}/{event.subject}" if folder else ""
