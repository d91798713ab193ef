"""The one place from which all live streams are fed: what happens is encoded once, whatever the number of readers.

Runs on the event loop's thread. A reader holds the newest frame of each gauge and the events that it has not taken yet:
a slow one loses the older pictures, never delays others, and is told to start anew when it falls too far behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.concurrency import run_in_threadpool

from headframe.api.bell import Bell
from headframe.api.documents import dump
from headframe.api.topics import GAUGES, Gauge, topics_of
from headframe.api.wire import Serving
from headframe.base.changes import Event
from headframe.base.errors import CallerError, HeadframeError, TooBusy
from headframe.control.queries_tenancy import is_welcome
from headframe.jobs.records import Job
from headframe.tenants.roles import Caller

RING = 2000  # events that are kept for readers who come back
BEHIND = 1000  # events that wait for one reader, before it is told to start anew
MOST_PICTURES = 1000  # different ones that one organization's readers look at together
LOOK_S = 2.0  # how often it is looked whether readers are still welcome, besides after each commit
HEARTBEAT_S = 15.0  # a comment after so much silence, so that what lies between does not cut the connection
_OF_JOB = (
    "id", "name", "state", "reason", "organization_id", "project_id", "member_id", "submitted_us", "started_us",
    "ended_us", "exit_code", "attempt", "failures", "parent", "parent_id", "array_index", "children_failed",
    "not_before_us", "version",
)  # fmt: skip
_log = logging.getLogger("headframe.api")


@dataclass(frozen=True, slots=True)
class Told:
    """An event as it is told: whose it is, and the contents of its frames by topic."""

    seq: int
    organization_id: str
    project_id: str
    contents: dict[str, bytes]

    def frame(self, topic: str) -> bytes:
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (self.seq, topic.encode(), self.contents[topic])


@dataclass(eq=False, slots=True)
class Reader:
    """One open stream. `house` is whose events it may see (None: everybody's)."""

    caller: Caller
    house: str | None
    topics: frozenset[str]  # of feeds
    bell: Bell
    waiting: deque[bytes] = field(default_factory=deque)
    pictures: dict[str, bytes] = field(default_factory=dict)
    lost: bool = False
    ended: bool = False
    told_s: float = 0

    def hear(self, told: Told) -> None:
        if self.house not in (None, told.organization_id) or self.caller.project_id not in (None, told.project_id):
            return
        for topic in told.contents:
            if topic in self.topics:
                self.waiting.append(told.frame(topic))
                self.bell.set()
        if len(self.waiting) > BEHIND:
            self.waiting.clear()
            self.lost = True

    def see(self, topic: str, frame: bytes) -> None:
        """The newest frame takes the place of one that has not been taken."""
        self.pictures[topic] = frame
        self.bell.set()

    def take(self, seq: int) -> bytes:
        """All that waits, as one piece; `seq` is how far the hub has told."""
        parts: list[bytes] = []
        if self.lost:
            parts.append(b"id: %d\nevent: reset\ndata: {}\n\n" % seq)
            self.lost = False
        parts += self.waiting
        parts += self.pictures.values()
        self.waiting.clear()
        self.pictures.clear()
        return b"".join(parts)


@dataclass(eq=False, slots=True)
class Picture:
    """A gauge that is looked at: for whom it is drawn, by whom it is looked at, and how it was last."""

    gauge: Gauge
    topic: str
    argument: str
    caller: Caller
    readers: set[Reader] = field(default_factory=set)
    frame: bytes = b""
    drawn_s: float = float("-inf")
    stale: bool = False
    drawing: bool = False

    def due_s(self) -> float:
        """When it is to be drawn again, on the event loop's clock."""
        if self.drawing:
            return float("inf")
        if self.stale:
            return self.drawn_s + self.gauge.least_s
        return self.drawn_s + self.gauge.every_s if self.gauge.every_s else float("inf")


class Hub:
    """Feeds readers while there are any; one for each app."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.readers: set[Reader] = set()
        self.told_seq = 0
        self._ring: deque[Told] = deque(maxlen=RING)
        self._pictures: dict[tuple[str, Caller | None], Picture] = {}
        self._heard: deque[Event] = deque()
        self._bell: Bell | None = None
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._joining = 0
        self._drawings: set[asyncio.Task[None]] = set()

    async def join(self, reader: Reader, gauges: Sequence[tuple[str, str]], after: int) -> None:
        """Begin to feed a reader: with what happened behind `after`, and a first picture of each gauge.

        Raises what a gauge's question raises, such as `NotFound` for its argument.
        """
        self._joining += 1
        try:
            async with self._starting:
                if self._task is None:
                    await self._start()
            looked_at = [self._picture(reader.caller, name, argument) for name, argument in gauges]
            self._check_room(reader.caller.organization_id, looked_at)
            for picture in looked_at:
                if not picture.frame:
                    await self._draw(picture)
        finally:
            self._joining -= 1
        # From here on nothing is awaited, so that nothing is told twice or missed.
        self._recall(reader, after)
        reader.told_s = asyncio.get_running_loop().time()
        self.readers.add(reader)
        for picture in looked_at:
            shown = self._pictures.setdefault(self._key(picture), picture)
            shown.readers.add(reader)
            reader.see(shown.topic, shown.frame)

    def leave(self, reader: Reader) -> None:
        """Feed a reader no longer."""
        self.readers.discard(reader)
        for key, picture in list(self._pictures.items()):
            picture.readers.discard(reader)
            if not picture.readers:
                del self._pictures[key]
        if self._bell is not None:
            self._bell.set()  # the last one turns out the light

    def _check_room(self, house: str, looked_at: Sequence[Picture]) -> None:
        """Raise `TooBusy` for a picture too many: each is drawn again and again while it is looked at."""
        fresh = [picture for picture in looked_at if not picture.readers and not picture.gauge.shared]
        if fresh:
            own = sum(picture.caller.organization_id == house for picture in self._pictures.values())
            if own + len(fresh) > MOST_PICTURES:
                raise TooBusy("Too many different things are followed.", next_step="Follow fewer, or try again later.")

    async def _start(self) -> None:
        """Hear of commits from now on, and know those of a while before."""
        bell = Bell()

        def on_events(events: Sequence[Event]) -> None:  # on the loop's thread
            self._heard.extend(events)
            bell.ring()

        unsubscribe = self.serving.control.subscribe(on_events)
        control = self.serving.control
        last = control.recorded_seq
        past = await run_in_threadpool(control.reads.events, after=max(0, last - RING), limit=RING)
        self._heard = deque(event for event in self._heard if not past or event.seq > past[-1].seq)
        self._ring.clear()
        self._ring.extend(await run_in_threadpool(self._told, past))
        self.told_seq = self._ring[-1].seq if self._ring else last
        self._bell = bell
        self._task = asyncio.create_task(self._feed(bell, unsubscribe))

    async def _feed(self, bell: Bell, unsubscribe: Callable[[], None]) -> None:
        """Tell what happens until nobody is left."""
        loop, looked_s = asyncio.get_running_loop(), float("-inf")
        try:
            while not self.serving.closing:
                if happened := bool(self._heard):
                    await self._tell()
                if happened or loop.time() - looked_s >= LOOK_S:
                    looked_s = loop.time()
                    self._look(looked_s)
                for picture in list(self._pictures.values()):
                    if picture.due_s() <= loop.time():
                        self._redraw(picture)
                if not self.readers and not self._joining:
                    return
                due_s = min((picture.due_s() for picture in self._pictures.values()), default=float("inf"))
                await bell.wait(max(0.0, min(due_s - loop.time(), LOOK_S)))
        except Exception:
            _log.exception("the live streams failed and begin anew")
        finally:
            unsubscribe()
            self._task = self._bell = None
            for reader in list(self.readers):
                reader.ended = True
                reader.bell.set()

    async def _tell(self) -> None:
        """What has happened, to everybody whom it concerns."""
        heard = [self._heard.popleft() for _ in range(len(self._heard))]
        heard = [event for event in heard if event.seq > self.told_seq]
        told = await run_in_threadpool(self._told, heard) if heard else []
        for one in told:
            self._ring.append(one)
            self.told_seq = one.seq
            for reader in self.readers:
                reader.hear(one)
        for picture in self._pictures.values():
            picture.stale = True

    def _told(self, events: Sequence[Event]) -> list[Told]:
        """Events with the jobs that they are about, as they are now; may read the store."""
        jobs = self._jobs({event.subject for event in events if event.subject.startswith("job_")})
        found = []
        for event in events:
            content, job = dump(event), jobs.get(event.subject)
            contents = {topic: content for topic in topics_of(event) if topic.startswith("events")}
            if job is not None:
                contents["jobs"] = contents[f"job:{event.subject}"] = job
            found.append(Told(event.seq, event.organization_id, event.project_id, contents))
        return found

    def _jobs(self, ids: Iterable[str]) -> dict[str, bytes]:
        control = self.serving.control
        found = {each: control.world.get(Job, each) for each in ids}
        cold = sorted(each for each, job in found.items() if job is None)
        for begin in range(0, len(cold), 200):
            part = cold[begin : begin + 200]
            found |= {job.id: job for job in control.reads.find(Job, id=part, limit=len(part))}
        return {each: dump(job_frame(job)) for each, job in found.items() if job is not None}

    def _recall(self, reader: Reader, after: int) -> None:
        """What a reader who comes back has missed; one for whom too much has happened starts anew."""
        reader.lost = after < self.told_seq and not (self._ring and self._ring[0].seq <= after + 1)
        if not reader.lost:
            for told in self._ring:
                if told.seq > after:
                    reader.hear(told)
        if reader.lost or reader.waiting:
            reader.bell.set()

    def _look(self, now_s: float) -> None:
        """End the streams of those who are welcome no longer; say something to those who have heard nothing."""
        world, now_us = self.serving.control.world, self.serving.clock.now_us()
        known: dict[Caller, bool] = {}
        for reader in self.readers:
            if reader.caller not in known:
                known[reader.caller] = is_welcome(world, now_us, reader.caller)
            if not known[reader.caller]:
                reader.ended = True
                reader.bell.set()
            elif now_s - reader.told_s >= HEARTBEAT_S:
                reader.bell.set()

    def _key(self, picture: Picture) -> tuple[str, Caller | None]:
        return picture.topic, None if picture.gauge.shared else picture.caller

    def _picture(self, caller: Caller, name: str, argument: str) -> Picture:
        gauge = GAUGES[name]
        topic = f"{name}:{argument}" if argument else name
        own, right = (caller.organization_id, caller.project_id), gauge.personal
        if right is None or caller.may(right, *own):
            caller = replace(caller, member_id="", key_id="", session_id="")
        fresh = Picture(gauge, topic, argument, caller)
        return self._pictures.get(self._key(fresh), fresh)

    def _redraw(self, picture: Picture) -> None:
        """Draw a picture beside all else, and show it where it has changed."""
        picture.drawing = True

        async def draw() -> None:
            before = picture.frame
            try:
                await self._draw(picture)
            except HeadframeError as error:
                if not isinstance(error, CallerError):
                    _log.error("the gauge %s failed: %s", picture.topic, error)
                    return
                picture.frame = b"event: gone\ndata: %b\n\n" % dump({"topic": picture.topic, "detail": error.message})
            finally:
                picture.drawing = False
                if self._bell is not None:
                    self._bell.set()
            if picture.frame != before:
                for reader in picture.readers:
                    reader.see(picture.topic, picture.frame)

        task = asyncio.create_task(draw())
        self._drawings.add(task)
        task.add_done_callback(self._drawings.discard)

    async def _draw(self, picture: Picture) -> None:
        picture.stale, picture.drawn_s = False, asyncio.get_running_loop().time()
        content = await run_in_threadpool(self._drawn, picture)
        picture.frame = b"event: %b\ndata: %b\n\n" % (picture.topic.encode(), content)

    def _drawn(self, picture: Picture) -> bytes:
        control = self.serving.control
        found: Any = control.ask(picture.gauge.question, picture.caller, picture.argument)
        return dump(found(control.reads) if callable(found) else found)


def job_frame(job: Job) -> dict[str, Any]:
    """What changes of a job while it lives, and what a list needs to show a new one."""
    return {name: getattr(job, name) for name in _OF_JOB}
