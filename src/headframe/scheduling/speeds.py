"""How fast jobs of a kind run on each kind of accelerator, where nobody says so: measured, else estimated.

Measured is what a job reports of itself (steps over time); of those that report nothing, how long runs took that
ended well. A kind on which none of them ran yet is estimated from the others by the makers' published peaks; so are
all, where nothing is measured. Only the relation between kinds counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from statistics import median

from headframe.base.quantities import MINUTE_US
from headframe.fleet.records import Allocation
from headframe.jobs.records import Attempt, Job
from headframe.scheduling.durations import ENOUGH, KINDS, RUNS, Kind, kind_of

WHOLE = 1000
LONG_US = MINUTE_US  # steps over less than that say nothing
# Published dense peaks at 16 bits, in TFLOPS: the makers' data sheets.
PEAKS: dict[str, float] = {
    "P100": 19, "V100": 125, "T4": 65, "A10": 125, "A30": 165, "A40": 150, "A100": 312, "A800": 312, "L4": 121,
    "L40": 181, "L40S": 362, "H20": 148, "H100": 989, "H800": 989, "H200": 989, "GH200": 989, "B200": 2250,
    "GB200": 2500, "MI100": 185, "MI210": 181, "MI250": 362, "MI250X": 383, "MI300X": 1307, "MI325X": 1307,
}  # fmt: skip
Speeds = tuple[tuple[str, int], ...]  # (kind, thousandths of the fastest), the fastest first


class Learned:
    """What runs teach of speeds, by kind of job, size and kind of accelerator. Changed by `learn` only."""

    def __init__(self) -> None:
        self._rates: dict[tuple[Kind, int], dict[str, dict[str, deque[float]]]] = {}

    def learn(self, job: Job, attempt: Attempt, held: Allocation) -> None:
        """Take in an attempt that has ended, on accelerators of one kind."""
        shares = [share for part in held.slices for share in part.shares]
        kinds = {share.kind for share in shares}  # only asked
        if len(kinds) != 1 or job.spec.resources.speeds:
            return
        source, rate = _rate(job, attempt)
        if rate <= 0:
            return
        key = kind_of(job), sum(share.milli for share in shares)
        known = self._rates.pop(key, {})
        runs = known.setdefault(source, {}).setdefault(shares[0].kind.lower(), deque(maxlen=RUNS))
        runs.append(rate)
        self._rates[key] = known  # the last to be forgotten
        if len(self._rates) > KINDS:
            del self._rates[next(iter(self._rates))]

    def of(self, job: Job, kinds: Iterable[str]) -> Speeds:
        """The speeds of a job on kinds that are there; empty where it says them itself, or asks for certain kinds."""
        wanted = job.spec.resources
        every = list(kinds)
        if len(every) < 2 or wanted.speeds or not any(one.kind is None for one in wanted.gpus):
            return ()
        size = max(one.count * one.milli for one in wanted.gpus) * job.spec.nodes_min
        found = estimated(every, self._measured(kind_of(job), size))
        best = max(found.values(), default=0.0)
        told = ((kind, max(round(WHOLE * rate / best), 1)) for kind, rate in found.items() if best > 0)
        return tuple(sorted(told, key=lambda one: (-one[1], one[0])))

    def _measured(self, kind: Kind, size: int) -> dict[str, float]:
        """The rate on each kind of accelerator on which it ran: as reported, else by the length of runs."""
        known = self._rates.get((kind, size), {})
        reported = {name: median(rates) for name, rates in known.get("reported", {}).items()}
        lengths = known.get("length", {})
        return reported or {name: median(rates) for name, rates in lengths.items() if len(rates) >= ENOUGH}


def estimated(kinds: Iterable[str], measured: Mapping[str, float]) -> dict[str, float]:
    """The rate on each kind: measured, else the published peak, brought to the scale of what is measured.

    A kind of which nothing is known is left out.
    """
    scales = [rate / PEAKS[kind.upper()] for kind, rate in measured.items() if kind.upper() in PEAKS]
    scale = median(scales) if scales else None if measured else 1.0
    found = {}
    for kind in kinds:
        if kind.lower() in measured:
            found[kind] = measured[kind.lower()]
        elif scale is not None and kind.upper() in PEAKS:
            found[kind] = PEAKS[kind.upper()] * scale
    return found


def _rate(job: Job, attempt: Attempt) -> tuple[str, float]:
    """(how it is known, work over time); 0 when an attempt says nothing of it."""
    told = attempt.sampled
    steps = told.get("step_last", 0) - told.get("step_first", 0)
    span_us = told.get("step_last_us", 0) - told.get("step_first_us", 0)
    if steps > 0 and span_us >= LONG_US:
        return "reported", steps / span_us
    whole = attempt.outcome == "succeeded" and not attempt.resumed_from and not job.stop_reason
    if not whole or attempt.running_us is None or attempt.ended_us is None:
        return "", 0.0
    return "length", 1.0 / max(attempt.ended_us - attempt.running_us, 1)
