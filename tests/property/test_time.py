"""Places through time on random fleets: reservations are kept, nobody delays whoever waits first, nothing oversold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as some

from headframe.fleet.records import Accelerator, Cluster, Node, Region, Reservation, Slice
from headframe.scheduling.backfill import NEVER_US, Ending, Outlook, Promise, shadow
from headframe.scheduling.calendar import Cell, Claimed, cells, inside, rest, settle, together
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.fit import fit
from headframe.scheduling.want import Want
from headframe.workloads.spec import Gpus, Resources

REGIONS = {"north": Region("north", "north")}
CLUSTERS = {name: Cluster(name, "north", name, "scripted") for name in ("one", "two")}
Fleet = tuple[list[Node], list[Accelerator]]
DAY = 100  # moments in these worlds are small numbers


@some.composite
def fleets(draw: some.DrawFn) -> Fleet:
    nodes, devices = [], []
    for number in range(draw(some.integers(1, 5))):
        node = Node(f"nod_{number}", draw(some.sampled_from(["one", "one", "two"])), f"n{number}", 8000, 16_000, 9000)
        nodes.append(node)
        kind = draw(some.sampled_from(["H100", "L4"]))
        for index in range(draw(some.sampled_from([0, 2, 4]))):
            devices.append(Accelerator(f"acc_{number}_{index}", node.id, index, kind, "nvidia", 81_559))
    return nodes, devices


@some.composite
def wants(draw: some.DrawFn, most: int = 3) -> Want:
    """`most` bounds the gang."""
    milli = draw(some.sampled_from([1000, 1000, 500]))
    gpus = Gpus(draw(some.sampled_from(["H100", "L4"])), draw(some.integers(1, 4)) if milli == 1000 else 1, milli)
    resources = Resources(draw(some.sampled_from([(), (gpus,)])), draw(some.sampled_from([500, 2000])), memory_mib=512)
    return Want(resources, nodes := draw(some.integers(1, most)), nodes, "none", ("any",))


@some.composite
def reservations(draw: some.DrawFn, number: int) -> Reservation:
    begin = draw(some.integers(0, DAY - 1))
    whole = draw(some.booleans())
    size = draw(some.integers(1, 4))
    return Reservation(
        f"rsv_{number}", "org_1", f"r{number}", begin, draw(some.integers(begin + 1, DAY + 20)),
        kind=draw(some.sampled_from(["H100", "L4", ""])), count=0 if whole else size, nodes=size if whole else 0,
    )  # fmt: skip


@dataclass
class Run:
    """A job that runs: from, until (for certain), what it holds."""

    start: int
    end: int
    slices: tuple[Slice, ...]
    job_id: str


def capacity_of(fleet: Fleet) -> Capacity:
    return Capacity(REGIONS, CLUSTERS, *fleet)


def totals(fleet: Fleet) -> dict[Cell, int]:
    found = {(device.node_id, device.id): 1000 for device in fleet[1]}
    for node in fleet[0]:
        found |= {(node.id, "cpu"): node.cpu_milli, (node.id, "memory"): node.memory_mib, (node.id, "disk"): 9000}
    return found


def booked(fleet: Fleet, wanted: list[Reservation]) -> list[Reservation]:
    """The reservations that can be promised, one after the other, on an empty fleet."""
    kept: list[Reservation] = []
    for one in wanted:
        others = [each for each in kept if together(each, one.from_us, one.to_us)]
        placed = settle(capacity_of(fleet), one, Claimed.of(others, ()))
        if not placed.lacking:
            kept.append(placed)
    return kept


@settings(max_examples=150, deadline=None)
@given(fleets(), some.data())
def test_reservations_never_promise_more_than_there_is_and_lie_in_one_cluster(
    fleet: Fleet, data: some.DataObject
) -> None:
    kept = booked(fleet, [data.draw(reservations(number)) for number in range(data.draw(some.integers(1, 5)))])
    whole = totals(fleet)
    nodes = {node.id: node for node in fleet[0]}
    kinds = {device.id: device.kind for device in fleet[1]}
    for moment in range(0, DAY + 20, 3):
        promised: Counter[Cell] = Counter()
        for one in kept:
            if one.from_us <= moment < one.to_us:
                cells(one.slices, into=promised)
        assert all(amount <= whole[cell] for cell, amount in promised.items())
    for one in kept:
        assert len({nodes[part.node_id].cluster_id for part in one.slices}) == 1
        devices = [share.accelerator_id for part in one.slices for share in part.shares]
        assert all(not one.kind or kinds[device] == one.kind for device in devices)
        assert len(one.slices) == one.nodes if one.nodes else len(devices) == one.count
        if one.nodes:
            assert all(cells([part]).items() >= {((part.node_id, "cpu"), 8000)} for part in one.slices)


@settings(max_examples=150, deadline=None)
@given(fleets(), some.data())
def test_what_starts_beside_reservations_is_gone_when_they_begin(fleet: Fleet, data: some.DataObject) -> None:
    """Jobs come and go in time; each is placed where the outlook lets it. At no moment is a cell promised twice."""
    kept = booked(fleet, [data.draw(reservations(number)) for number in range(3)])
    running: list[Run] = []
    log: list[Run] = []
    for now in range(0, DAY, 10):
        running = [one for one in running if one.end > now]
        capacity = capacity_of(fleet)
        for one in running:
            capacity.hold(one.slices)
        promises = [Promise(one.id, one.from_us, one.to_us, cells(one.slices), True) for one in kept]
        outlook = Outlook(now, capacity, [one for one in promises if one.to_us > now], on_nodes(running))
        for number in range(data.draw(some.integers(0, 3))):
            end = now + data.draw(some.integers(1, 60)) if data.draw(some.booleans()) else NEVER_US
            slices = fit(outlook.room(end, end), data.draw(wants()))
            if slices is not None:
                capacity.hold(slices)
                outlook.take(slices, Ending(end, end, slices))
                running.append(Run(now, end, slices, f"job_{now}_{number}"))
                log.append(running[-1])
    whole = totals(fleet)
    for moment in range(0, DAY + 20, 3):
        used: Counter[Cell] = Counter()
        for one in kept:
            if one.from_us <= moment < one.to_us:
                cells(one.slices, into=used)
        for run in log:
            if run.start <= moment < run.end:
                cells(run.slices, into=used)
        over = {cell: amount for cell, amount in used.items() if amount > whole[cell]}
        assert not over, f"at {moment}: {over}"


def on_nodes(running: list[Run]):  # type: ignore[no-untyped-def]
    def of(node_id: str) -> list[Ending]:
        return [
            Ending(one.end, one.end, one.slices, one.job_id)
            for one in running
            if any(part.node_id == node_id for part in one.slices)
        ]

    return of


def test_whoever_waits_first_is_told_the_earliest_moment() -> None:
    """However many more end later: a place that is kept too late is taken by others until then."""
    devices = [Accelerator(f"acc_{index}", "nod_0", index, "H100", "nvidia", 81_559) for index in range(4)]
    capacity = capacity_of(([Node("nod_0", "one", "n0", 8000, 16_000, 9000)], devices))
    running = []
    for end in (10, 20, 30, 40):
        slices = fit(capacity, gpus(1))
        assert slices is not None
        capacity.hold(slices)
        running.append(Ending(end, end, slices, f"run_{end}"))
    found = [shadow(Outlook(0, capacity), gpus(count), "head", 30, running) for count in (1, 2, 3, 4)]
    assert [one and one.start_us for one in found] == [10, 20, 30, 40]


def gpus(count: int) -> Want:
    return Want(Resources((Gpus("H100", count),), 500, memory_mib=512), 1, 1, "none", ("any",))


@settings(max_examples=200, deadline=None)
@given(fleets(), some.data())
def test_nobody_who_starts_behind_a_waiting_job_delays_it(fleet: Fleet, data: some.DataObject) -> None:
    """With true ends: at the moment that was told, the head's place is free, whatever was started beside it."""
    capacity = capacity_of(fleet)
    running = []
    for number in range(data.draw(some.integers(2, 8))):
        slices = fit(capacity, data.draw(wants(1)))
        if slices is not None:
            capacity.hold(slices)
            running.append(Run(-1, data.draw(some.integers(1, 50)), slices, f"run_{number}"))
    outlook = Outlook(0, capacity, (), on_nodes(running))
    heads = []
    for number in range(2):
        want = data.draw(wants())
        if fit(outlook.room(NEVER_US, NEVER_US), want) is not None:
            continue
        endings = [Ending(one.end, one.end, one.slices, one.job_id) for one in sorted(running, key=lambda one: one.end)]
        found = shadow(outlook, want, f"head_{number}", 30, endings)
        if found is not None:
            heads.append(found)
            promise = Promise(found.job_id, found.start_us, found.start_us + 30, cells(found.slices), False)
            outlook.promise(promise)
    for number in range(data.draw(some.integers(1, 5))):
        end = data.draw(some.integers(1, 80))
        slices = fit(outlook.room(NEVER_US, end), data.draw(wants(1)))
        if slices is not None:
            capacity.hold(slices)
            outlook.take(slices, Ending(NEVER_US, end, slices))
            running.append(Run(0, end, slices, f"behind_{number}"))
    whole = totals(fleet)
    for moment in sorted({one.start_us for one in heads}):
        used: Counter[Cell] = Counter()
        for one in heads:
            if one.start_us <= moment < one.start_us + 30:
                cells(one.slices, into=used)
        for run in running:
            if run.end > moment:
                cells(run.slices, into=used)
        over = {cell: amount for cell, amount in used.items() if amount > whole[cell]}
        assert not over, f"at {moment}: {over}"


@settings(max_examples=100, deadline=None)
@given(fleets(), some.data())
def test_jobs_of_a_reservation_find_exactly_what_is_left_of_it(fleet: Fleet, data: some.DataObject) -> None:
    kept = booked(fleet, [replace(data.draw(reservations(0)), from_us=0)])
    if not kept:
        return
    reservation, capacity = kept[0], capacity_of(fleet)
    held: list[Slice] = []
    for _ in range(4):
        slices = fit(inside(capacity, rest(reservation, held)), data.draw(wants()))
        if slices is None:
            continue
        capacity.hold(slices)
        held += slices
    promised = cells(reservation.slices)
    assert all(amount <= promised[cell] for cell, amount in cells(held).items())


@settings(max_examples=100, deadline=None)
@given(fleets(), some.data())
def test_a_reservation_moves_off_a_dead_node_and_keeps_the_rest(fleet: Fleet, data: some.DataObject) -> None:
    kept = booked(fleet, [data.draw(reservations(0))])
    if not kept:
        return
    before = kept[0]
    dead = before.slices[0].node_id
    left = ([node for node in fleet[0] if node.id != dead], [one for one in fleet[1] if one.node_id != dead])
    after = settle(capacity_of(left), before, Claimed.of((), ()))
    assert dead not in {part.node_id for part in after.slices}
    stayed = {part.node_id: cells([part]) for part in before.slices if part.node_id != dead}
    assert all(cells([part]) >= stayed.get(part.node_id, Counter()) for part in after.slices)
    assert {part.node_id for part in after.slices} >= set(stayed)
    size = sum(len(part.shares) for part in after.slices) if before.count else len(after.slices)
    assert size + after.lacking == before.count + before.nodes
