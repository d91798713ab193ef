"""How fast jobs are on kinds of accelerators of which nobody told anything."""

from __future__ import annotations

from headframe.base.quantities import HOUR_US, MINUTE_US
from headframe.fleet.records import Accelerator, Allocation, Cluster, Node, Region, Share, Slice
from headframe.jobs.records import Attempt, Job
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.fit import fit
from headframe.scheduling.kinds import asked
from headframe.scheduling.queue import Bucket, Queue
from headframe.scheduling.speeds import Learned
from headframe.workloads.spec import Gpus, Resources, Spec

KINDS = ("A100", "H100", "T4")


def job(name: str = "fit-1", gpus: Gpus = Gpus(), **more: object) -> Job:  # noqa: B008  an immutable value
    spec = Spec(name, resources=Resources((gpus,), **more))  # type: ignore[arg-type]
    return Job(f"job_{name}", "org", "prj", "mem", name, spec, 0)


def run(
    learned: Learned, one: Job, kind: str, long_us: int = HOUR_US, steps: int = 0, outcome: str = "succeeded"
) -> None:
    """One attempt on a whole accelerator of a kind."""
    held = Allocation("alc", "org", "prj", "mem", one.id, "clu", 1, "on-demand",
                      (Slice(0, "nod", 1000, 1024, 0, (Share("acc", 0, kind, 1000),)),), 0)  # fmt: skip
    told = {"step_first": 1, "step_first_us": 0, "step_last": 1 + steps, "step_last_us": long_us} if steps else {}
    learned.learn(one, Attempt("att", one.id, 1, "alc", 0, 0, long_us, outcome=outcome, sampled=told), held)


def test_what_nobody_has_run_is_estimated_by_published_peaks() -> None:
    learned = Learned()
    assert learned.of(job(), KINDS) == (("H100", 1000), ("A100", 315), ("T4", 66))
    assert learned.of(job(), ("H100",)) == (), "where there is one kind there is nothing to choose"
    assert learned.of(job(gpus=Gpus("H100")), KINDS) == (), "who names kinds has chosen"
    assert learned.of(job(speeds=(("T4", 9),)), KINDS) == ()


def test_what_ran_counts_more_than_what_is_published() -> None:
    learned = Learned()
    for _ in range(3):
        run(learned, job(), "H100", 20 * MINUTE_US)
        run(learned, job("fit-2"), "A100", 30 * MINUTE_US)
    kinds = dict(learned.of(job("fit-9"), KINDS))
    assert (kinds["H100"], kinds["A100"]) == (1000, 667)
    assert 50 < kinds["T4"] < 140, "what did not run is brought to the scale of what did"
    assert dict(learned.of(job("other"), KINDS))["A100"] == 315, "only jobs of the same kind teach"


def test_what_a_job_reports_of_itself_counts_most_even_if_it_fails() -> None:
    learned = Learned()
    for _ in range(3):
        run(learned, job(), "H100", 20 * MINUTE_US)
        run(learned, job(), "A100", 60 * MINUTE_US)
    run(learned, job(), "A100", HOUR_US, steps=900, outcome="error")
    run(learned, job(), "H100", HOUR_US, steps=1000, outcome="preemption")
    assert dict(learned.of(job(), KINDS))["A100"] == 900
    run(learned, job("brief"), "A100", MINUTE_US // 2, steps=9, outcome="error")
    assert dict(learned.of(job("brief"), KINDS))["A100"] == 315, "half a minute says nothing"


def test_who_gains_most_gets_what_is_scarce() -> None:
    """One H100 and one T4 are free; the first job in line hardly gains by the H100, as its earlier runs told."""
    nodes = [Node(f"nod_{kind}", "clu", kind, 8000, 64_000, 0) for kind in ("H100", "T4")]
    devices = [Accelerator(f"acc_{one.name}", one.id, 0, one.name, "nvidia", 81_559) for one in nodes]
    capacity = Capacity({"reg": Region("reg", "r")}, {"clu": Cluster("clu", "reg", "c", "scripted")}, nodes, devices)
    learned = Learned()
    for _ in range(3):
        run(learned, job("little"), "H100", 10 * MINUTE_US)
        run(learned, job("little"), "T4", 11 * MINUTE_US)
    queue = Queue()
    for name in ("little", "much"):
        queue.add(job(name), 0, learned.of(job(name), capacity.kinds))
    capacity.prices = asked(capacity, queue.bidders())
    first = fit(capacity, Bucket.of(job("little"), 0, learned.of(job("little"), capacity.kinds)).want)
    assert first is not None
    assert first[0].node_id == "nod_T4"
