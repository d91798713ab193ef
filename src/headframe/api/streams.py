"""Server-sent events: logs and events as they come, to be resumed at any place.

A stream holds no queue: it is rung when there is something new and then reads on from its own place, so that a slow
reader costs nothing but its own wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from headframe.api.bell import Bell
from headframe.api.documents import dump, page_shape
from headframe.api.jobs import PIECES_BYTES, Place, Ref, find
from headframe.api.wire import Authenticated, Call, Cursor, Limit, Named, answer, read_cursor, write_cursor
from headframe.base.changes import Event
from headframe.base.errors import Invalid, TooBusy
from headframe.base.quantities import LIMIT
from headframe.control.queries_tenancy import is_welcome
from headframe.jobs.records import ENDED, Job
from headframe.tenants.roles import Permission

router = APIRouter(prefix="/v1", tags=["streams"])

HEARTBEAT_S = 15.0  # a comment after so much silence, so that what lies between does not cut the connection
LOOK_S = 2.0  # how often a quiet stream looks whether its key is still welcome
RETRY_MS = 1000
MEDIA: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a stream has read: (id, document) of each item, the place to go on from, and whether all is said."""

    items: list[tuple[int, Any]] = field(default_factory=list)
    place: int = 0
    ended: bool = False


def close_streams(app: FastAPI) -> None:
    """End every open stream at once: call it, from any thread, before the server is told to stop."""
    serving = app.state.serving
    serving.closing = True
    for bell in list(serving.bells.values()):
        bell.ring()


@router.get("/jobs/{job}/log/follow", response_class=Response, responses=MEDIA)
async def follow_log(call: Authenticated, job: Ref, offset: Place = 0) -> Response:
    """A job's log as it grows. The id of each event is the offset to go on from; `event: end` closes it."""
    check_room(call)
    place = resumed(call, offset)
    found = await run_in_threadpool(find, call, job)

    def subscribe(bell: Bell) -> Callable[[], None]:
        def on_events(events: Sequence[Event]) -> None:
            if any(event.subject == found.id for event in events):
                bell.ring()

        ends = (call.control.logs.follow(found.id, bell.ring), call.control.subscribe(on_events))

        def unsubscribe() -> None:
            for end in ends:
                end()

        return unsubscribe

    return _stream(call, subscribe, partial(_read_log, call, found.id), place)


@router.get("/events", response_model=page_shape(Event))
def events(
    call: Authenticated,
    after: Place = 0,
    subject: Named = None,
    organization: Named = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """What happened, oldest first, to begin behind the event `after`."""
    place = _sequence(cursor) if cursor is not None else after
    found = _read_events(call, house_of(call, organization), subject, limit, place)
    full = len(found.items) == limit
    return answer(
        {"items": [event for _, event in found.items], "next": write_cursor(str(found.place)) if full else None}
    )


@router.get("/events/follow", response_class=Response, responses=MEDIA)
async def follow_events(
    call: Authenticated,
    after: Annotated[int | None, Query(ge=0, le=LIMIT)] = None,
    subject: Named = None,
    organization: Named = None,
) -> Response:
    """Events as they happen, from now on or from behind `after`. The id of each is its `seq`."""
    check_room(call)
    begin = call.control.recorded_seq if after is None else after
    place = resumed(call, begin)
    house = await run_in_threadpool(house_of, call, organization)

    def subscribe(bell: Bell) -> Callable[[], None]:
        def on_events(events: Sequence[Event]) -> None:
            if any(house in (None, event.organization_id) and subject in (None, event.subject) for event in events):
                bell.ring()

        return call.control.subscribe(on_events)

    return _stream(call, subscribe, partial(_read_events, call, house, subject, 500), place)


def _stream(
    call: Call, subscribe: Callable[[Bell], Callable[[], None]], read: Callable[[int], Stretch], place: int
) -> Response:
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(_told(call, subscribe, read, place), 200, headers, "text/event-stream")


async def _told(
    call: Call, subscribe: Callable[[Bell], Callable[[], None]], read: Callable[[int], Stretch], place: int
) -> AsyncIterator[bytes]:
    """Read on and tell, until all is said, the key is revoked, or the server stops."""
    serving, loop, bell = call.serving, asyncio.get_running_loop(), Bell()
    house = call.caller.organization_id
    serving.bells[id(bell)] = bell
    serving.streaming[house] += 1
    unsubscribe = subscribe(bell)
    try:
        yield b"retry: %d\n\n" % RETRY_MS
        told_at = loop.time()
        while not serving.closing and is_welcome(call.control.world, serving.clock.now_us(), call.caller):
            found = await run_in_threadpool(read, place)
            place = found.place
            if found.items:
                yield b"".join(b"id: %d\ndata: %b\n\n" % (number, dump(item)) for number, item in found.items)
                told_at = loop.time()
            elif found.ended:
                yield b"id: %d\nevent: end\ndata: {}\n\n" % place
                return
            else:
                if loop.time() - told_at >= HEARTBEAT_S:
                    yield b": still here\n\n"
                    told_at = loop.time()
                await bell.wait(LOOK_S)
    finally:
        unsubscribe()
        del serving.bells[id(bell)]
        serving.streaming[house] -= 1
        if not serving.streaming[house]:
            del serving.streaming[house]


def _read_log(call: Call, job_id: str, place: int) -> Stretch:
    # Whether it has ended is asked first: what is written before the end is then read for certain.
    job = call.control.world.get(Job, job_id) or call.control.reads.get(Job, job_id)
    ended = job is None or job.state in ENDED
    pieces, following = call.control.logs.read(job_id, place, PIECES_BYTES)
    return Stretch([(piece.next, piece) for piece in pieces], following, ended and following <= place)


def _read_events(call: Call, house: str | None, subject: str | None, limit: int, place: int) -> Stretch:
    """Events that the caller may see; a key that is narrowed to a project sees that project's only."""
    project_id = call.caller.project_id
    seen: list[tuple[int, Any]] = []
    while len(seen) < limit:
        found = call.control.reads.events(after=place, limit=limit, subject=subject, organization_id=house)
        for event in found:
            place = event.seq
            if project_id is None or event.project_id == project_id:
                seen.append((event.seq, event))
            if len(seen) == limit:
                break
        if len(found) < limit:
            break
    return Stretch(seen, place)


def house_of(call: Call, organization: str | None) -> str | None:
    """Whose events are asked for: one's own organization's, or None for all of them, which the operator may see."""
    caller = call.caller
    if organization is None and caller.may(Permission.ORGANIZATIONS_WRITE, caller.organization_id):
        caller.need(Permission.JOBS_READ, caller.organization_id)
        return None
    house = call.organization(organization)
    caller.need(Permission.JOBS_READ, house.id, caller.project_id)
    return str(house.id)


def resumed(call: Call, place: int) -> int:
    """Where to begin: behind the last event that a reader saw before it was cut off, if it says so."""
    last = call.request.headers.get("last-event-id")
    return place if last is None or last == "" else _number(last, "Last-Event-ID")


def _sequence(cursor: str) -> int:
    return _number(read_cursor(cursor) or "", "cursor")


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Invalid(f"{name} is not one that this server gave out.", field=name, value=text, allowed="a whole number")
    return int(text)


def check_room(call: Call) -> None:
    """Raise `TooBusy` when as many streams are open as may be."""
    serving, most = call.serving, call.serving.limits.streams
    own = serving.streaming[call.caller.organization_id]
    if serving.closing or len(serving.bells) >= most or own >= max(1, most // 2):
        raise TooBusy("Too many streams are open.", next_step="Try again in a moment, or read in pages.")
