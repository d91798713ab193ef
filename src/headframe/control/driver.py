"""The thread that drives the loop, and the face that it shows to API and tests: `Control`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from headframe.base.changes import Event
from headframe.base.errors import TooBusy
from headframe.base.ports import Clock
from headframe.control.keeping import Keeping
from headframe.control.loop import Loop
from headframe.control.metrics import Metrics
from headframe.control.ports import Blobs, Columns, Engine, Logs, Outputs, Papers, Reads, Storage
from headframe.control.retention import KEEP, Keep, Retention, ToldLogs
from headframe.control.world import World
from headframe.fleet.engine_words import Observation, Report, Unreachable
from headframe.metering.records import UsageEvent
from headframe.metrics.records import Measured

ANSWER_TIMEOUT_S = 60.0
GATHER_S = 0.005  # the least time from the beginning of one tick to the next
METRICS_S = 1.0  # how long what was measured waits to be put on record
REST_S = 0.02  # the most that the loop rests between two ticks; it rests as long as the last one took
FIRST_LOOK_S, LOOK_S = 60.0, 3600.0  # when what jobs left behind is looked at, after the start and from then on
PRUNE_REST_S = 0.1  # between two bits of what is removed, so that the disk is others' most of the time
Wake = Callable[[Sequence[Event]], None]


def _closed() -> TooBusy:
    return TooBusy("This server is closing.", next_step="Try again when it runs anew.")


class Control:
    """Runs a `Loop` on a thread of its own. Everything here may be called from any thread."""

    def __init__(
        self, loop: Loop, clock: Clock, engines: dict[str, Engine], reads: Reads, logs: Logs, blobs: Blobs,
        outputs: Outputs, papers: Papers | None = None, columns: Columns | None = None,
        storage: Storage | None = None, keep: Keep = KEEP,
    ) -> None:  # fmt: skip
        self._loop, self._clock, self._engines = loop, clock, engines
        self.reads, self.blobs, self.outputs, self.papers, self.columns = reads, blobs, outputs, papers, columns
        self.logs: Logs = ToldLogs(logs, reads)
        self._wake = threading.Event()
        self._closing = False
        self._listeners: dict[int, Wake] = {}
        self.metrics = Metrics(loop.store)
        self._thread = threading.Thread(target=self._drive, name="headframe-loop", daemon=True)
        self.keeping = Keeping(reads, outputs, self.take_in)
        self.retention = Retention(loop.store, storage, self.keeping, self.metrics, self.run, keep)
        self._tidy = threading.Event()
        self._looking = threading.Thread(target=self._look, name="headframe-keeping", daemon=True)
        self._recording = threading.Thread(target=self._record, name="headframe-metrics", daemon=True)
        self._ended = threading.Event()
        self._ticked_s = self._rest_until_s = 0.0
        self.beat_us = 0  # when the last tick ended
        self.gauges = loop.gauges
        self.metrics.tell, self.gauges.newest_points = self.gauges.tell, self.metrics.newest_points
        loop.nudge = self._wake.set
        loop.announce = self._announce

    @property
    def world(self) -> World:
        """The warm world: look rows up by id; whoever wants more must `ask`."""
        return self._loop.world

    @property
    def recorded_seq(self) -> int:
        """The last event that is on record: the warm world may be ahead of what the store can be asked for."""
        return self._loop.recorded_seq

    @property
    def ticks(self) -> int:
        return self._loop.ticks

    def start(self) -> None:
        """Begin to tick, and to listen to engines."""
        self._thread.start()
        self._recording.start()
        self._looking.start()
        for cluster_id, engine in self._engines.items():
            engine.start(partial(self._heard, cluster_id))

    def close(self) -> None:
        """Let the tick under way end, and let go of engines; the work goes on."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        self._loop.refuse(_closed())
        for engine in self._engines.values():
            engine.close()
        self._ended.set()
        self._tidy.set()
        if self._recording.is_alive():
            self._recording.join(timeout=30)
        if self._looking.is_alive():
            self._looking.join(timeout=30)

    def track(self, address: str) -> None:
        """Tell jobs of this machine that start from now on where to tell of runs."""
        self._loop.track(address)

    def alive(self) -> bool:
        """Whether the loop's thread is there to answer."""
        return self._thread.is_alive() and not self._closing

    def run(self, command: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Carry out a command; it is on record when this returns."""
        return self._result(self._loop.run, command, *args, **kwargs)

    def note(self, command: Callable[..., Any], *args: Any) -> None:
        """Have a command carried out without waiting for it, nor for how it ends: for what is good to know, no more."""
        with suppress(TooBusy):
            self._loop.run(command, *args)

    def ask(self, question: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Answer a question from the world as it is between two ticks."""
        return self._result(self._loop.ask, question, *args, **kwargs)

    def glance(self, question: Callable[..., Any], *args: Any, within_s: float) -> Any | None:
        """As `ask`, but None where the loop is too busy to answer so soon: for what is good to know, no more."""
        try:
            return self._loop.ask(question, *args).result(timeout=within_s)
        except (TimeoutError, TooBusy):
            return None

    def take_in(self, events: Sequence[UsageEvent]) -> int:
        """Keep events of use, and have them counted; how many were new. They are on record when this returns."""
        return self._loop.take_in(events)

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        """Call `wake` with the events of each commit, on the loop's thread; returns the call that ends it."""
        token = id(wake)
        self._listeners[token] = wake
        return lambda: self._listeners.pop(token, None) and None

    def _result(self, queue: Callable[..., Future[Any]], *args: Any, **kwargs: Any) -> Any:
        answer = queue(*args, **kwargs)
        if self._closing and not self._thread.is_alive():
            self._loop.refuse(_closed())  # nobody else would answer it
        try:
            return answer.result(timeout=ANSWER_TIMEOUT_S)
        except TimeoutError:
            raise TooBusy(
                "The request was not carried out in time.", next_step="Repeat it with the same Idempotency-Key."
            ) from None

    def _announce(self, events: Sequence[Event]) -> None:
        for wake in list(self._listeners.values()):
            try:
                wake(events)
            except Exception as error:  # what is on record stays so, whoever cannot hear of it
                self._loop.complain(error)

    def _heard(self, cluster_id: str, item: Observation | Report | Unreachable | Measured) -> None:
        """An engine says something: what was measured goes past the loop, which decides nothing by it."""
        if isinstance(item, Measured):
            self.metrics.take(item)
        else:
            self._loop.deliver(cluster_id, item)

    def _record(self) -> None:
        """Put on record what was measured, a little later, as often as need be; the last of it at the end."""
        ended = False
        while not ended:
            ended = self._ended.wait(METRICS_S)
            try:
                self.metrics.write()
            except Exception as error:
                self._loop.complain(error)

    def prune_soon(self) -> None:
        """Look at what is kept at once, and not only at the next hour."""
        self._tidy.set()

    def _look(self) -> None:
        """Look each hour at what jobs have left behind, and remove what nobody needs any more."""
        wait_s = FIRST_LOOK_S
        while not self._closing:
            self._tidy.wait(wait_s)
            self._tidy.clear()
            wait_s = LOOK_S
            try:
                self._look_once()
            except Exception as error:
                if not self._closing:
                    self._loop.complain(error)

    def _look_once(self) -> None:
        if self._closing:
            return
        self.keeping.look(self._clock.now_us())
        for _ in self.retention.prune(self._clock.now_us()):
            if self._ended.wait(PRUNE_REST_S) or self._closing:
                return

    def _gather(self) -> None:
        """Right after a tick let a little more come in, so that a burst is decided in few transactions."""
        now_s = time.monotonic()
        wait_s = max(self._ticked_s + GATHER_S - now_s, self._rest_until_s - now_s)
        if wait_s > 0:
            time.sleep(wait_s)
        self._ticked_s = time.monotonic()

    def _drive(self) -> None:
        while not self._closing:
            self._gather()
            self._wake.clear()
            now_us = self._clock.now_us()
            try:
                self._loop.tick(now_us)
            except Exception as error:  # the loop mends itself; its thread must not end
                self._loop.complain(error)
                self._wake.wait(1.0)
            ended_s = time.monotonic()
            self._rest_until_s = ended_s + min(ended_s - self._ticked_s, REST_S)
            self.beat_us = self._clock.now_us()
            due_us = self._loop.next_wake_us(self.beat_us)
            wait_s = None if due_us is None else max(due_us - self.beat_us, 0) / 1_000_000
            self._wake.wait(wait_s if wait_s is None else min(wait_s, 3600.0))
