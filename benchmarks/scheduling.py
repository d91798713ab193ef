# python benchmarks/scheduling.py --json --data traces/fgd --drawing curve.svg
"""Speed and size of scheduling, by the code that decides in production.

Parts: `cycles` (a pass over 10,000 waiting jobs of 200 queues, on fleets from 1,000 to 100,000 GPUs that are 80 % full;
then passes after one submit or one exit), `packing` (one run over a published list, needs --data), `loop` (placements a
second through the whole loop with the store), `trace` (a long trace in the simulator). One process; numbers in
milliseconds are wall time.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from headframe.control.garbage import keep_start
from headframe.fleet.records import Accelerator, Cluster, Node, Region
from headframe.jobs.records import Job
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.demand import Demand
from headframe.scheduling.fit import fit
from headframe.scheduling.limits import Holdings, needs
from headframe.scheduling.place import place
from headframe.scheduling.queue import Queue
from headframe.scheduling.snapshot import Snapshot
from headframe.scheduling.want import Want
from headframe.sim.clock import SeededRng
from headframe.workloads.spec import Gpus, Resources, Spec
from headframe.yardsticks import fgd

PARTS = ("cycles", "packing", "loop", "trace")
TRACE_JOBS = 100_000
SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
QUEUES, WAITING = 200, 10_000
# (tasks of the gang, GPUs of each in thousandths, CPU of each, how many of 100 requests)
SHAPES = (
    (1, 250, 4, 6), (1, 500, 8, 10), (1, 1000, 8, 24), (1, 1000, 16, 10), (1, 2000, 24, 12), (1, 4000, 48, 12),
    (1, 8000, 96, 12), (2, 8000, 96, 6), (4, 8000, 96, 4), (8, 8000, 96, 3), (16, 8000, 96, 1),
)  # fmt: skip
# The published cluster and list by their sums: (model, nodes, GPUs, cores), (requests, GPUs, thousandths or by chance).
MADE_UP_NODES = (("G2", 588, 8, 96), ("T4", 404, 2, 64), ("P100", 134, 2, 32), ("V100", 87, 4, 64))
MADE_UP_PODS = ((1088, 0, 1000), (3078, 1, 0), (3911, 1, 1000), (16, 2, 1000), (15, 4, 1000), (44, 8, 1000))
KINDS = ("H100", "A100", None)


class Turn(NamedTuple):
    """A pass: milliseconds of wall time, milliseconds of the CPU (less, when others use the machine), starts."""

    ms: float
    cpu_ms: float
    starts: int


class Cloud:
    """A fleet with what runs and what waits: all that a pass is made from, warm."""

    def __init__(self, gpus: int, waiting: int, seed: int = 1) -> None:
        self.rng = SeededRng(seed, "benchmark")
        self.capacity = fleet(gpus)
        self.queue, self.holdings = Queue(), Holdings()
        self.jobs: dict[str, Job] = {}
        self.running: list[tuple[Job, Any]] = []
        self._number = 0
        full = gpus * 1000 * 80 // 100
        while full > 0:
            job = self.job()
            slices = fit(self.capacity, Want.of(job.spec))
            if slices is None:
                continue
            self.start(job, slices)
            full -= sum(share.milli for part in slices for share in part.shares)
        for _ in range(waiting):
            self.submit()

    def job(self) -> Job:
        """A request by chance, of one of the queues (each a project of its own)."""
        self._number += 1
        draw = self.rng.below(100)
        tasks, milli, cpu, _ = next(shape for shape in SHAPES if (draw := draw - shape[3]) < 0)
        kind = KINDS[self.rng.below(len(KINDS))]
        gpus = Gpus(kind, 1, milli) if milli < 1000 else Gpus(kind, milli // 1000, 1000)
        resources = Resources((gpus,), cpu * 1000, None, cpu * 8192)
        spec = Spec("train", resources=resources, nodes_min=tasks, nodes_max=tasks, max_duration_us=3600_000_000)
        queue = self.rng.below(QUEUES)
        name = f"job_{self._number:07}"
        want = Want.of(spec)
        self.capacity.demand.note(want.task(gpus), tasks)
        return Job(name, f"org_{queue % 20}", f"prj_{queue}", f"mem_{queue}", "train", spec, self._number)

    def submit(self) -> None:
        job = self.job()
        self.jobs[job.id] = job
        self.queue.add(job, 0)

    def start(self, job: Job, slices: Any) -> None:
        self.capacity.hold(slices)
        self.holdings.add(needs(slices), (job.organization_id, job.project_id, job.member_id))
        self.running.append((job, slices))
        self.queue.remove(job.id)

    def exit(self) -> None:
        """One running job ends."""
        job, slices = self.running.pop(self.rng.below(len(self.running)))
        self.capacity.release(slices)
        self.holdings.add(needs(slices), (job.organization_id, job.project_id, job.member_id), -1)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            capacity=self.capacity.scratch(), queue=self.queue, jobs=self.jobs, quotas={},
            holdings=self.holdings.copy(), parallel={}, running={}, blocked=lambda *_owners: "",
        )  # fmt: skip

    def turn(self) -> Turn:
        """One pass, from the warm state to the plan; then the plan becomes true."""
        began, began_cpu = time.perf_counter(), time.process_time()
        starts = place(self.snapshot()).starts
        took, took_cpu = time.perf_counter() - began, time.process_time() - began_cpu
        for job, slices in starts:
            self.start(job, slices)
        return Turn(took * 1000, took_cpu * 1000, len(starts))


def fleet(gpus: int) -> Capacity:
    """Nodes of eight GPUs, 16 to a rack and 16 racks to a block; two of three are H100s, the others A100s."""
    nodes, devices = [], []
    for number in range(gpus // 8):
        name = f"node-{number:05}"
        topology = (f"block-{number // 256}", f"rack-{number // 16}")
        nodes.append(Node(name, "clu", name, 128_000, 1_048_576, 4_000_000, topology=topology))
        kind = "A100" if number % 3 == 2 else "H100"
        devices += [Accelerator(f"{name}-{at}", name, at, kind, "nvidia", 81_559, links="nvlink") for at in range(8)]
    return Capacity(
        {"reg": Region("reg", "north")}, {"clu": Cluster("clu", "reg", "main", "")}, nodes, devices, Demand()
    )


def cycles(gpus: int, waiting: int, events: int = 400) -> dict[str, Any]:
    """Full passes until nothing more starts, then passes after one submit or one exit each; at last a look at all."""
    gc.unfreeze()
    cloud = Cloud(gpus, waiting)
    keep_start()
    full = [cloud.turn()]
    while full[-1].starts:
        full.append(cloud.turn())
    singles: list[Turn] = []
    for number in range(events):
        if number % 2:
            cloud.submit()
        else:
            cloud.exit()
        singles.append(cloud.turn())
    cloud.queue.looked_us = None
    look = cloud.turn()

    def part(of: float, values: Iterable[float]) -> float:
        return round(sorted(values)[int(len(singles) * of)], 2)

    return {
        "gpus": gpus, "waiting": waiting, "full_ms": round(full[0].ms, 1), "full_cpu_ms": round(full[0].cpu_ms, 1),
        "full_starts": full[0].starts, "passes_ms": [round(one.ms, 1) for one in full],
        "starts": sum(one.starts for one in full),
        "incremental_median_ms": part(0.5, (one.ms for one in singles)),
        "incremental_p99_ms": part(0.99, (one.ms for one in singles)),
        "incremental_p99_cpu_ms": part(0.99, (one.cpu_ms for one in singles)),
        "look_ms": round(look.ms, 1), "look_cpu_ms": round(look.cpu_ms, 1),
    }  # fmt: skip


def size_mib(gpus: int, waiting: int) -> float:
    """MiB that the warm snapshot takes: the fleet's records and arrays, boards, the queue and its jobs."""
    gc.collect()
    tracemalloc.start()
    cloud = Cloud(gpus, waiting)
    while cloud.turn().starts:
        pass
    gc.collect()
    found, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return found / 2**20


def packing_seconds(data: Path | None) -> float:
    """Seconds for one run over the published list `default` with FGD: 10,866 requests on 1,213 nodes.

    Without the published files, over a list made up of the same sizes.
    """
    if data is not None:
        machines, pods = fgd.read_nodes(data), fgd.read_pods(data, "default")
        order = fgd.arrivals(data, "default", pods, (42,), fgd.total_milli(machines))[42]
    else:
        machines = [
            fgd.Machine(f"{model}-{number}", cpu * 1000, 400_000, gpus, model)
            for model, count, gpus, cpu in MADE_UP_NODES
            for number in range(count)
        ]
        rng = SeededRng(42, "packing")
        cores = [1000 * (1 + rng.below(20)) for _ in range(45)]
        pods = [
            fgd.pod_of(cores[rng.below(45)], 8192 * (1 + rng.below(4)), number, milli)
            for count, number, low in MADE_UP_PODS
            for milli in (low or 50 * (1 + rng.below(19)) for _ in range(count))
        ]
        order = fgd.drawn(pods, 42, fgd.total_milli(machines))
    began = time.perf_counter()
    fgd.run(machines, pods, order, "fgd", 42)
    return time.perf_counter() - began


def draw(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """The cost of a pass by the size of the fleet, on two logarithmic axes, beside a straight line."""
    import matplotlib as mpl

    mpl.use("svg" if file.suffix == ".svg" else "agg")
    from matplotlib import pyplot

    sizes = [row["gpus"] for row in rows]
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for field, label, mark in (
        ("full_ms", "full pass", "o"),
        ("incremental_p99_ms", "after one event, p99", "s"),
        ("incremental_median_ms", "after one event, median", "^"),
    ):
        axes.plot(sizes, [row[field] for row in rows], marker=mark, label=label)
    last = rows[-1]
    axes.plot(sizes, [last["full_ms"] * size / sizes[-1] for size in sizes], ":", color="grey", label="linear")
    axes.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="milliseconds")
    axes.set_title(f"{last['waiting']:,} jobs waiting in {QUEUES} queues, 80 % of the fleet held")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()
    figure.savefig(file, dpi=150)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The curve in words, with bars, for a terminal."""
    most = max(row["full_ms"] for row in rows)
    lines = [f"{'GPUs':>8} {'full ms':>9} {'starts':>7} {'one event, median and p99 ms':>30}"]
    for row in rows:
        both = f"{row['incremental_median_ms']:.2f}  {row['incremental_p99_ms']:.2f}"
        bar = "#" * max(round(40 * row["full_ms"] / most), 1)
        lines.append(f"{row['gpus']:>8,} {row['full_ms']:>9.1f} {row['full_starts']:>7,} {both:>30}  {bar}")
    return "\n".join(lines)


def measure(options: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).parent))
    found: dict[str, Any] = {}
    parts = options.only or PARTS
    if "cycles" in parts:
        rows = []
        for gpus in options.gpus or SIZES:
            tell(f"passes on {gpus:,} GPUs")
            rows.append(cycles(gpus, WAITING))
        tell(table(rows))
        if options.drawing:
            draw(rows, options.drawing)
        name = f"{rows[-1]['gpus'] // 1000}k"
        for field in ("full_ms", "full_cpu_ms"):
            found[f"{field.replace('full', 'full_cycle')}_{name}"] = rows[-1][field]
        for field in ("incremental_p99_ms", "incremental_p99_cpu_ms", "look_ms"):
            found[f"{field}_{name}"] = rows[-1][field]
        tell("size")
        found[f"snapshot_mib_{name}"] = round(size_mib(rows[-1]["gpus"], WAITING), 1)
        found["curve"] = [[row["gpus"], row["full_ms"]] for row in rows]
        found["passes"] = rows
    if "packing" in parts:
        tell("packing")
        found["fgd_list"] = "published" if options.data else "made up; --data names the published one"
        found["fgd_default_seconds"] = round(packing_seconds(options.data), 2)
    if "loop" in parts:
        import scheduling_loop

        tell("loop")
        found.update(scheduling_loop.both())
    if "trace" in parts:
        import scheduling_loop

        tell("trace")
        found["trace_100k_seconds"] = round(scheduling_loop.trace_seconds(TRACE_JOBS), 1)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, help="one part; may be repeated")
    parser.add_argument("--gpus", type=int, action="append", help="sizes of fleets; may be repeated")
    parser.add_argument("--data", type=Path, help="the folder of the published packing lists")
    parser.add_argument("--drawing", type=Path, help="draw the curve into this .svg or .png (needs matplotlib)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and progress to standard error")
    options = parser.parse_args()
    found = measure(options, lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(found, indent=None if options.json else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
