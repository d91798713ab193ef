"""A pass over the queue when jobs say how fast they run on each kind."""

from __future__ import annotations

from headframe.base.quantities import SECOND_US
from headframe.jobs.records import Job
from headframe.scheduling.kinds import asked, gain
from headframe.scheduling.limits import Holdings
from headframe.scheduling.place import place
from headframe.scheduling.queue import Queue
from headframe.scheduling.snapshot import Snapshot
from headframe.sim.trace_jobs import Fleet, parse_fleet
from headframe.workloads import jobfile


def started(fleet: Fleet, *files: str) -> dict[str, str]:
    """The kind that each job gets in one pass, by name; jobs are submitted in this order."""
    jobs = {}
    queue = Queue()
    for place_in_line, text in enumerate(files):
        spec = jobfile.parse(jobfile.read(f"run: x\n{text}")[0])
        job = Job(f"job_{place_in_line}", "org", "prj", "mem", spec.name, spec, place_in_line * SECOND_US)
        jobs[job.id] = job
        queue.add(job, 0)
    snapshot = Snapshot(
        fleet.capacity(), queue, jobs, quotas={}, holdings=Holdings(), parallel={}, running={}, blocked=lambda *_: ""
    )
    return {start.job.spec.name: start.slices[0].shares[0].kind for start in place(snapshot).starts}


LITTLE = "name: little\nresources: {gpu: 1, throughput: {H100: 1.1, A100: 1}}\n"
MUCH = "name: much\nresources: {gpu: 1, throughput: {H100: 4, A100: 1}}\n"
MUTE = "name: mute\nresources: {gpu: [H100, A100]}\n"


def test_alone_a_job_gets_its_fastest_kind() -> None:
    fleet = parse_fleet("1xA100:1,1xH100:1")
    assert started(fleet, LITTLE) == {"little": "H100"}


def test_who_gains_little_from_the_scarce_kind_leaves_it_though_it_came_first() -> None:
    fleet = parse_fleet("1xA100:1,1xH100:1")
    assert started(fleet, LITTLE, MUCH) == {"little": "A100", "much": "H100"}


def test_with_enough_for_all_nobody_steps_back() -> None:
    fleet = parse_fleet("1xA100:1,2xH100:1")
    assert started(fleet, LITTLE, MUCH) == {"little": "H100", "much": "H100"}


def test_who_does_not_say_keeps_to_its_preference() -> None:
    fleet = parse_fleet("1xA100:1,1xH100:1")
    assert started(fleet, MUTE, MUCH) == {"mute": "H100", "much": "A100"}


def test_nothing_idles_for_a_price() -> None:
    fleet = parse_fleet("1xH100:1")
    assert started(fleet, LITTLE) == {"little": "H100"}


def test_prices_cost_nothing_when_nobody_says() -> None:
    queue = Queue()
    assert asked(parse_fleet("1xH100:1").capacity(), queue.bidders()) == {}


def test_the_queue_forgets_who_is_gone() -> None:
    queue = Queue()
    spec = jobfile.parse(jobfile.read(f"run: x\n{MUCH}")[0])
    queue.add(Job("job_1", "org", "prj", "mem", spec.name, spec, 0), 0)
    assert [count for _, count in queue.bidders()] == [1]
    queue.remove("job_1")
    assert list(queue.bidders()) == []


def test_a_gain_is_a_part_of_the_best() -> None:
    assert [gain((("H100", 4000), ("A100", 1000)), kind) for kind in ("h100", "A100", "T4", None)] == [1, 0.25, 0, 0]
