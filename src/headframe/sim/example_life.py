"""Keeps the example lively: its machines go on, measure, and somebody submits a job now and then."""

from __future__ import annotations

import threading

from headframe.base.quantities import HOUR_US, MINUTE_US, SECOND_US
from headframe.control.driver import Control
from headframe.fleet.records import Accelerator
from headframe.metrics.records import Measured, Point
from headframe.sim.example_cloud import ExampleCloud

BEAT_S = 0.05
MEASURE_EVERY, JOBS_EVERY, DEVICES_EVERY, ARRIVE_EVERY = 40, 200, 1200, 260  # beats
PAST_US = 6 * HOUR_US  # of which there are series when the example opens
REMEMBERED = 64  # machines whose accelerators have a past
MILLI = {"use_percent": 10, "memory_mib": 1, "power_w": 1000, "temperature_c": 1, "errors": 1}
GAUGES = {
    "gpu_busy_milli": "use_percent", "gpu_memory_mib": "memory_mib", "power_mw": "power_w",
    "temperature_c": "temperature_c", "memory_errors": "errors",
}  # fmt: skip


class Life:
    """A thread of the example's own; `stop` ends it."""

    def __init__(self, example: ExampleCloud, told: Control) -> None:
        self._example, self._told = example, told
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="example-life", daemon=True)

    def start(self) -> None:
        self._remember()
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(10)

    def _live(self) -> None:
        beat = 0
        while not self._over.wait(BEAT_S):
            for engine in self._example.engines.values():
                engine.advance()
            if beat % MEASURE_EVERY == 0:
                self._measure(beat)
            if beat % ARRIVE_EVERY == ARRIVE_EVERY - 1:
                self._example.arrive()
            beat += 1

    def _measure(self, beat: int) -> None:
        """The newest of each accelerator to the map; series less often, as they are kept."""
        points = self._example.measure(self._example.timeline.now_us()).points
        told: dict[str, dict[str, int]] = {}
        for point in points:
            name = GAUGES.get(point.name)
            if name is not None and point.subject.startswith("acc_") and point.value is not None:
                told.setdefault(point.subject, {})[name] = round(point.value / MILLI[name])
        at_us = points[0].at_us if points else 0
        for accelerator_id, gauges in told.items():
            self._told.gauges.tell(accelerator_id, at_us, **gauges)
        jobs = beat % JOBS_EVERY == 0
        devices = beat % DEVICES_EVERY == 0
        kept = [point for point in points if (devices if point.subject.startswith("acc_") else jobs)]
        if kept:
            self._told.metrics.take(Measured(tuple(kept)))

    def _remember(self) -> None:
        """The last hours of every job that runs, and of the first machines, as if they had been measured."""
        now_us = self._example.timeline.now_us()
        nodes = sorted(self._example.nodes())[:REMEMBERED]
        for at_us in range(now_us - PAST_US, now_us, 4 * MINUTE_US):
            points = self._example.measure(at_us - at_us % SECOND_US, since=True).points
            kept = [point for point in points if not point.subject.startswith("acc_") or self._near(point, nodes)]
            self._told.metrics.take(Measured(tuple(kept)))
            self._told.metrics.write()

    def _near(self, point: Point, nodes: list[str]) -> bool:
        device: Accelerator | None = self._example.device(point.subject)
        return device is not None and device.node_id in nodes and point.name != "memory_errors"
