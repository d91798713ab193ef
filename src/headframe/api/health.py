"""Routes without a key: is it alive, is it ready."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from headframe.api.wire import Serving, answer
from headframe.base.errors import TooBusy
from headframe.control.context import Context
from headframe.control.world import World
from headframe.fleet.records import Region

router = APIRouter(tags=["health"])

READY_TIMEOUT_S = 5.0


@dataclass
class Health:
    """`ok`, or an error instead; and whether this server decides or is a standby."""

    status: str
    role: str


@router.get("/healthz", response_model=Health)
async def healthz() -> Response:
    """The server answers."""
    return answer({"status": "ok", "role": "decides"})


@router.get("/readyz", response_model=Health)
async def readyz(request: Request) -> Response:
    """The loop turns and the store can be read. One look at a time, however many ask."""
    serving: Serving = request.app.state.serving
    if serving.look is None or serving.look.done():
        serving.look = asyncio.create_task(run_in_threadpool(_look, serving))
    done, _ = await asyncio.wait({serving.look}, timeout=READY_TIMEOUT_S)
    if not done or serving.look.exception() is not None or serving.closing:
        raise TooBusy("The server is not ready.", next_step="Try again; if it stays, see the server's log.")
    return answer({"status": "ok", "role": "decides"})


def _look(serving: Serving) -> None:
    if not serving.control.alive():
        raise TooBusy("The loop does not turn.")
    serving.control.ask(_touch)


def _touch(world: World, context: Context) -> int:
    return context.reads.count(Region)
