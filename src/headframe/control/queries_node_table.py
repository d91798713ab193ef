"""All nodes as a table: filtered, sorted and cut to what is looked at before any row is made.

A fleet may have tens of thousands of nodes, of which somebody looks at fifty. So columns are arrays over the whole
fleet, the order is found on them, and rows are made of the window alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from headframe.base.errors import Invalid
from headframe.control.context import Context
from headframe.control.gauges import UNKNOWN
from headframe.control.ports import Reads
from headframe.control.queries_map import Ints, Places, foreign_cells, natural, places, sees_all
from headframe.control.queries_nodes import state_of
from headframe.control.world import World
from headframe.fleet.records import Cluster, ClusterState, Node
from headframe.tenants.roles import Caller, Permission

COLUMNS = (
    "id", "name", "site", "region", "rack", "state", "reason", "kind", "gpus", "gpus_failed", "gpu_held_milli",
    "cpu_milli", "cpu_held_milli", "memory_mib", "memory_held_mib", "use_percent", "temperature_c", "power_w", "fake",
)  # fmt: skip
# What one may sort by; with "-" before it, the largest first.
SORTS = ("name", "state", "site", "rack", "kind", "held", "use", "temperature", "power", "cpu", "memory", "reason")
TROUBLE = ("draining", "down", "unreachable")
MOST = 2000  # rows of one answer
_TEXTS = ("name", "site", "rack", "kind")


@dataclass(frozen=True, slots=True)
class Sums:
    """Nodes taken together. `use_percent` is their mean, `temperature_c` the highest; None: nothing is measured."""

    nodes: int
    ready: int
    gpus: int
    failed: int
    held_milli: int
    cpu_milli: int
    cpu_held_milli: int
    use_percent: int | None
    temperature_c: int | None
    power_w: int | None


@dataclass(frozen=True, slots=True)
class NodeTable:
    """A window of the table of nodes: a row each, with a value for each of `columns`.

    `total` counts all nodes, `sums` are of those that match, and `first` is the place of the first row among these.
    `use_percent` is the mean of its accelerators, `temperature_c` the highest, `power_w` the sum; None is not known.
    """

    total: int
    first: int
    sums: Sums
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the table is looked at. `words` must all stand in a row; `sort` "" is the order of the map.

    Raises `Invalid` for what cannot be sorted by, and for a window that is none.
    """

    words: str = ""
    sort: str = ""
    first: int = 0
    limit: int = MOST
    trouble: bool = False  # only those that are not as they should be
    site: str = ""
    rack: str | None = None

    def __post_init__(self) -> None:
        if self.sort.removeprefix("-") not in ("", *SORTS) or self.sort == "-":
            raise Invalid(f"sort is {self.sort!r}.", field="sort", value=self.sort, allowed=", ".join(SORTS))
        for name, value, most in (("first", self.first, 1 << 31), ("limit", self.limit, MOST)):
            if not 0 <= value <= most:
                raise Invalid(f"{name} is {value}.", field=name, value=value, allowed=f"0 to {most}")


class Standing:
    """What of the table changes only when machines come or go; kept as long as the map's `Places`."""

    def __init__(self, here: Places) -> None:
        layout, capacity = here.layout, here.capacity
        self.site, self.region, self.rack = [], [], []
        for site in layout.sites:
            for rack in site.racks:
                self.site += [site.name] * rack.nodes
                self.region += [site.region] * rack.nodes
                self.rack += [rack.name] * rack.nodes
        self.name = layout.node_names
        self.kind = [", ".join(dict.fromkeys(kinds.split(","))) for kinds in layout.kinds]
        self.text = [" ".join(told).lower() for told in zip(*(getattr(self, one) for one in _TEXTS), strict=True)]
        self.slots: Ints = np.array([len(capacity.devices[row]) for row in here.order], np.int64)
        self.valid = np.arange(max(capacity.gpu.shape[1], 1))[None, :] < self.slots[:, None]
        self.memory: Ints = capacity.full[1][here.order]
        self.cpu: Ints = capacity.full[0][here.order]
        self._ranks: dict[str, Ints] = {}

    def ranks(self, column: str) -> Ints:
        """Where each node stands when sorted by a text that stays."""
        if column not in self._ranks:
            self._ranks[column] = ranks(getattr(self, column))
        return self._ranks[column]


def standing(here: Places) -> Standing:
    known = here.capacity.shared.get("nodes")
    if known is None:
        known = here.capacity.shared["nodes"] = Standing(here)
    assert isinstance(known, Standing)
    return known


def ranks(texts: Sequence[str]) -> Ints:
    """The place of each text among all, as people sort: node-2 before node-10, what is empty last."""
    order = {text: place for place, text in enumerate(sorted(set(texts), key=lambda one: (not one, natural(one), one)))}
    return np.array([order[text] for text in texts], np.int64)


def node_window(world: World, context: Context, caller: Caller, argument: str = "") -> Callable[[Reads], NodeTable]:
    """A window of the table, asked for as an address does: `q=h100&sort=-use&first=80&limit=40`."""
    given = dict(parse_qsl(argument))
    try:
        first, limit = int(given.get("first", "0")), int(given.get("limit", "100"))
    except ValueError:
        raise Invalid("first and limit are whole numbers.", field="topics", allowed="0, 1, 2, ...") from None
    return node_table(world, context, caller, Wanted(given.get("q", ""), given.get("sort", ""), first, limit))


def node_table(
    world: World, context: Context, caller: Caller, wanted: Wanted | None = None
) -> Callable[[Reads], NodeTable]:
    """Nodes and how they are. Of what others hold no measure is told.

    The question gathers, on the loop's thread; what it returns sorts and makes rows on any thread.
    """
    caller.need(Permission.FLEET_READ, caller.organization_id, caller.project_id)
    wanted = wanted or Wanted()
    here, now_us, gauges = places(world), context.now_us, context.gauges
    stands, capacity, order = standing(here), here.capacity, here.order
    nodes = [capacity.nodes[row] for row in order]
    states = _states(world, nodes)
    free, usable = capacity.gpu[order], capacity.usable[order]
    cpu, memory = stands.cpu - capacity.cpu[order], stands.memory - capacity.memory[order]
    hidden = None if sees_all(caller) else foreign_cells(world, caller, here)
    rows = here.gauges(gauges)

    def read(reads: Reads) -> NodeTable:
        valid = stands.valid[:, : free.shape[1]]
        known = {
            "gpus": (usable & valid).sum(1), "held": stands.slots * 1000 - (free * valid).sum(1), "cpu": cpu,
            "memory": memory,
        }  # fmt: skip
        for name, meter, way in (
            ("use", "use_percent", "mean"), ("temperature", "temperature_c", "most"), ("power", "power_w", "sum")
        ):  # fmt: skip
            values = gauges.column(meter, rows, now_us)
            if hidden is not None:
                values[hidden] = UNKNOWN
            known[name] = _of_nodes(here, values, way)
        chosen = _chosen(stands, nodes, states, known, wanted)
        arranged = _arranged(stands, nodes, states, known, chosen, wanted.sort)
        window = arranged[wanted.first : wanted.first + wanted.limit]
        return NodeTable(
            len(nodes), wanted.first, _sums(stands, states, known, chosen), COLUMNS,
            tuple(_row(stands, nodes[at], states[at], known, int(at)) for at in window),
        )  # fmt: skip

    return read


def _states(world: World, nodes: Sequence[Node]) -> list[str]:
    """The state of each node in one word; where all clusters are well it is the node's own."""
    clusters = world.all(Cluster).values()
    if all(one.unreachable_us is None and one.state == ClusterState.READY for one in clusters):
        return [node.state.value for node in nodes]
    return [state_of(world, node) for node in nodes]


def _chosen(
    stands: Standing, nodes: Sequence[Node], states: Sequence[str], known: dict[str, Ints], wanted: Wanted
) -> Ints:
    """The places of the nodes that match, in the order of the map."""
    found = range(len(nodes))
    for word in wanted.words.lower().split():
        text = stands.text
        found = [  # type: ignore[assignment]
            at for at in found if word in text[at] or word in states[at] or word in nodes[at].reason.lower()
        ]
    if wanted.site:
        found = [at for at in found if stands.site[at] == wanted.site]  # type: ignore[assignment]
    if wanted.rack is not None:
        found = [at for at in found if stands.rack[at] == wanted.rack]  # type: ignore[assignment]
    if wanted.trouble:
        failed = stands.slots - known["gpus"]
        found = [at for at in found if states[at] in TROUBLE or failed[at]]  # type: ignore[assignment]
    return np.array(found, np.int64)


def _arranged(
    stands: Standing, nodes: Sequence[Node], states: Sequence[str], known: dict[str, Ints], chosen: Ints, sort: str
) -> Ints:
    """The same in the order that is asked for; what is not known comes last, ties stand as on the map."""
    column = sort.removeprefix("-")
    if not column:
        return chosen
    if column in ("held", "cpu", "memory"):
        whole = {"held": stands.slots * 1000, "cpu": stands.cpu, "memory": stands.memory}[column][chosen]
        keys = np.where(whole > 0, known[column][chosen] * 1_000_000 // np.maximum(whole, 1), UNKNOWN)
    elif column in known:
        keys = known[column][chosen]
    elif column in ("state", "reason"):
        keys = ranks([states[at] if column == "state" else nodes[at].reason for at in chosen])
    else:
        keys = stands.ranks(column)[chosen]
    keys = np.where(keys == UNKNOWN, np.iinfo(np.int64).max, -keys if sort.startswith("-") else keys)
    arranged: Ints = chosen[np.argsort(keys, kind="stable")]
    return arranged


def _sums(stands: Standing, states: Sequence[str], known: dict[str, Ints], chosen: Ints) -> Sums:
    def told(name: str) -> Ints:
        values: Ints = known[name][chosen]
        found: Ints = values[values != UNKNOWN]
        return found

    gpus, slots, use = known["gpus"][chosen], stands.slots[chosen], told("use")
    return Sums(
        nodes=len(chosen),
        ready=sum(states[at] == "ready" for at in chosen),
        gpus=int(slots.sum()),
        failed=int((slots - gpus).sum()),
        held_milli=int(known["held"][chosen].sum()),
        cpu_milli=int(stands.cpu[chosen].sum()),
        cpu_held_milli=int(known["cpu"][chosen].sum()),
        use_percent=int(use.mean()) if len(use) else None,
        temperature_c=int(told("temperature").max()) if len(told("temperature")) else None,
        power_w=int(told("power").sum()) if len(told("power")) else None,
    )


def _row(stands: Standing, node: Node, state: str, known: dict[str, Ints], at: int) -> tuple[Any, ...]:
    def told(name: str) -> int | None:
        value = int(known[name][at])
        return None if value == UNKNOWN else value

    gpus = int(known["gpus"][at])
    return (
        node.id, node.name, stands.site[at], stands.region[at], stands.rack[at], state, node.reason, stands.kind[at],
        gpus, int(stands.slots[at]) - gpus, int(known["held"][at]), int(stands.cpu[at]), int(known["cpu"][at]),
        int(stands.memory[at]), int(known["memory"][at]), told("use"), told("temperature"), told("power"), node.fake,
    )  # fmt: skip


def _of_nodes(here: Places, values: Ints, way: str) -> Ints:
    """Values of cells as one of each node: their mean, the most of them or their sum; UNKNOWN where none is known."""
    if not len(values):
        return values
    starts = np.cumsum(here.counts) - here.counts
    known = values != UNKNOWN
    counts = np.add.reduceat(known.astype(np.int64), starts)
    plain = np.where(known, values, 0)
    found = np.maximum.reduceat(plain, starts) if way == "most" else np.add.reduceat(plain, starts)
    if way == "mean":
        found = found // np.maximum(counts, 1)
    told: Ints = np.where(counts > 0, found, UNKNOWN)
    return told
