"""The live stream: several topics at once, one connection for a whole browser tab, the same for programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from headframe.api.bell import Bell
from headframe.api.hub import HEARTBEAT_S, Hub, Reader
from headframe.api.streams import MEDIA, check_room, house_of, resumed
from headframe.api.topics import FEEDS, GAUGES, read_topics
from headframe.api.wire import Authenticated, Call, Named
from headframe.base.quantities import LIMIT

router = APIRouter(prefix="/v1", tags=["streams"])
SOONEST_MS, SPREAD_MS = 500, 1500  # how soon readers come back after the end of the server, not all at once
_turn = count()


@router.get("/live", response_class=Response, responses=MEDIA)
async def live(
    call: Authenticated,
    topics: Annotated[str, Query(max_length=4000, description="What to follow, with commas: events,jobs,job:ID,...")],
    after: Annotated[int | None, Query(ge=0, le=LIMIT)] = None,
    organization: Named = None,
) -> Response:
    """Several topics in one stream. The name of each event is its topic.

    `events` (or `events:ID`), `jobs` and `job:ID` follow one another: their id is the place to go on from, and
    `event: reset` says that some were lost, so that all must be fetched anew. The others are pictures of now: each is
    whole, and only the newest one counts.
    """
    check_room(call)
    named = read_topics(topics)
    feeds = frozenset(f"{name}:{argument}" if argument else name for name, argument in named if name in FEEDS)
    gauges = [(name, argument) for name, argument in named if name in GAUGES]
    caller = call.caller
    for name, _ in gauges:
        caller.need(GAUGES[name].right, caller.organization_id, caller.project_id)
    house = await run_in_threadpool(house_of, call, organization) if feeds else caller.organization_id
    begin = call.control.recorded_seq if after is None else after
    reader = Reader(caller, house, feeds, Bell())
    hub = hub_of(call)
    await hub.join(reader, gauges, resumed(call, begin))
    return StreamingResponse(_told(call, hub, reader), 200, {"X-Accel-Buffering": "no"}, "text/event-stream")


def hub_of(call: Call) -> Hub:
    """The app's hub, made when it is first needed."""
    serving = call.serving
    if serving.hub is None:
        serving.hub = Hub(serving)
    hub = serving.hub
    assert isinstance(hub, Hub)
    return hub


async def _told(call: Call, hub: Hub, reader: Reader) -> AsyncIterator[bytes]:
    """Hand on what the hub has for the reader, until the server stops or the reader is welcome no longer."""
    serving, loop, house = call.serving, asyncio.get_running_loop(), call.caller.organization_id
    serving.bells[id(reader.bell)] = reader.bell
    serving.streaming[house] += 1
    retry = b"retry: %d\n\n" % (SOONEST_MS + next(_turn) * 389 % SPREAD_MS)
    watch = asyncio.create_task(_until_gone(call.request, reader))
    try:
        yield retry
        while not (serving.closing or reader.ended):
            piece = reader.take(hub.told_seq)
            if not piece and loop.time() - reader.told_s >= HEARTBEAT_S:
                piece = b": still here\n\n"
            if piece:
                reader.told_s = loop.time()
                yield piece
            else:
                await reader.bell.wait()
    finally:
        watch.cancel()
        hub.leave(reader)
        del serving.bells[id(reader.bell)]
        serving.streaming[house] -= 1
        if not serving.streaming[house]:
            del serving.streaming[house]


async def _until_gone(request: Request, reader: Reader) -> None:
    """Notice at once that nobody reads any more: a quiet stream would learn it with its next heartbeat only."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    reader.ended = True
    reader.bell.set()
