"""The route of migration: what others' scripts say, as job files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from headframe.api.wire import Authenticated, Body, answer
from headframe.workloads.readers import MAX_SCRIPT_BYTES
from headframe.workloads.sbatch import as_mapping, carry

router = APIRouter(prefix="/v1", tags=["jobs"])


class Script(Body):
    script: Annotated[str, Field(min_length=1, max_length=MAX_SCRIPT_BYTES)]


@dataclass
class LeftLine:
    """A line that could not be carried over, or means something else here; line 0 is the script as a whole."""

    line: int
    text: str
    why: str


@dataclass
class Imported:
    """A job file, and what of the script it does not say."""

    job: dict[str, Any]
    left: list[LeftLine]


@router.post("/import/sbatch", response_model=Imported)
def import_sbatch(call: Authenticated, body: Script) -> Response:
    """An sbatch script as a job file, with the lines that could not be carried over. Nothing is stored."""
    return answer(as_mapping(carry(body.script)))
