"""The route that finds things by name or id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from headframe.api.wire import Authenticated, answer
from headframe.control.queries_find import Found, find_anything

router = APIRouter(prefix="/v1", tags=["tenancy"])


@dataclass
class Finds:
    items: list[Found]


@router.get("/find", response_model=Finds)
def find(call: Authenticated, text: Annotated[str, Query(max_length=200)] = "") -> Response:
    """What is called so, or has an id that begins so: jobs, nodes, clusters, projects, members, organizations."""
    return answer({"items": call.ask(find_anything, text)(call.control.reads)})
