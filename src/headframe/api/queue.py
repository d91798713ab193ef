"""Routes of the queue: who waits in which order and why, and what owners hold of what they may."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from headframe.api.wire import Authenticated, Named, answer
from headframe.control import queries_queue

router = APIRouter(prefix="/v1", tags=["jobs"])


@router.get("/queue", response_model=queries_queue.WaitingLine)
def queue(call: Authenticated, organization: Named = None) -> Response:
    """The jobs that wait for capacity in the order of their turns, and the owners with their shares and limits.

    Why one job waits, with numbers, and when it is expected to start is in its story (`waiting`).
    """
    return answer(call.ask(queries_queue.waiting_line, organization))
