"""Routes of what jobs leave behind: output files and metrics."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.responses import Response, StreamingResponse

from headframe.api.jobs import Ref, find
from headframe.api.wire import Authenticated, Call, Cursor, answer, read_cursor, write_cursor
from headframe.base.errors import Invalid, NotFound
from headframe.base.quantities import LIMIT
from headframe.control.retention import removal

router = APIRouter(prefix="/v1", tags=["jobs"])

METRICS = "metrics.jsonl"
_LONGEST_LINE = 64 << 10  # characters of one line of metrics; longer ones are passed over
_METRICS_BYTES = 256 << 20  # of metrics; a file with a hole of terabytes must not hold a thread for hours


class _Anything(PathConvertor):
    """The rest of an address, line breaks included: the names of files are the job's."""

    regex = r"[\s\S]*"


register_url_convertor("anything", _Anything())


@dataclass
class OutputsPage:
    """The files that a job left; `removed` says when they were removed, and is empty while they were not."""

    items: list[dict[str, Any]]
    next: str | None
    removed: str


@dataclass
class MetricsPage:
    """Lines of a job's metrics, oldest first."""

    items: list[dict[str, Any]]
    next: str | None


@router.get("/jobs/{job}/outputs", response_model=OutputsPage)
def outputs(
    call: Authenticated, job: Ref, limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000, cursor: Cursor = None
) -> Response:
    """The files in a job's outputs and checkpoints."""
    begin = _number(cursor)
    job_id = find(call, job).id
    found = call.control.outputs.list(job_id)[begin : begin + limit + 1]
    following = write_cursor(str(begin + limit)) if len(found) > limit else None
    return answer({"items": found[:limit], "next": following, "removed": "" if found else _removed(call, job_id)})


@router.get(
    "/jobs/{job}/outputs/{path:anything}",
    response_class=Response,
    responses={200: {"description": "The file.", "content": {"application/octet-stream": {}}}},
)
def output(call: Authenticated, job: Ref, path: Annotated[str, Path(max_length=4096)]) -> Response:
    """One file, as it is. Never shown by a browser: whatever it holds, it is a download."""
    job_id = find(call, job).id
    try:
        size, content = call.control.outputs.open(job_id, path)
    except NotFound as error:
        if told := _removed(call, job_id):
            raise NotFound(told, next_step="Download what you need in time.") from error
        raise
    name = quote(path.rsplit("/", 1)[-1], safe="")
    headers = {"Content-Length": str(size), "Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    return StreamingResponse(content, 200, headers, "application/octet-stream")


@router.get("/jobs/{job}/metrics/lines", response_model=MetricsPage)
def metric_lines(
    call: Authenticated,
    job: Ref,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    cursor: Cursor = None,
) -> Response:
    """What a job wrote to metrics.jsonl in its outputs."""
    found = find(call, job)
    begin = _number(cursor)
    try:
        _, content = call.control.outputs.open(found.id, METRICS)
    except NotFound:
        return answer({"items": [], "next": None})
    lines = list(islice(_lines(content), begin, begin + limit + 1))
    items = [item for item in map(_read, lines[:limit]) if item is not None]
    return answer({"items": items, "next": write_cursor(str(begin + limit)) if len(lines) > limit else None})


def _removed(call: Call, job_id: str) -> str:
    """The sentence that tells that a job's files were removed."""
    told = removal(call.control.reads, job_id, "files")
    return told.reason if told is not None else ""


def _lines(content: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines of a file's beginning; of one that is too long only its first part, which is then no JSON."""
    rest, left = b"", _METRICS_BYTES
    for chunk in content:
        left -= len(chunk)
        if left < 0:
            return
        *whole, tail = chunk.split(b"\n")
        for part in whole:
            yield rest + part
            rest = b""
        rest = (rest + tail)[: _LONGEST_LINE + 1]


def _read(line: bytes) -> dict[str, Any] | None:
    """One line of metrics, or None for what is none: the file is the job's and may hold anything."""
    if len(line) > _LONGEST_LINE:
        return None
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    return {_text(name): _plain(value) for name, value in values.items()}


def _plain(value: object) -> object:
    """A value that any reader of JSON can take: numbers within 53 bits, no NaN, no broken text."""
    if value is None or isinstance(value, bool | float):
        return value  # NaN and infinities become null on the wire
    if isinstance(value, int):
        return value if abs(value) < LIMIT else None
    return _text(value if isinstance(value, str) else json.dumps(value))


def _text(value: str) -> str:
    return value.encode(errors="replace").decode()


def _number(cursor: str | None) -> int:
    text = read_cursor(cursor) or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Invalid("cursor is not one that this server gave out.", field="cursor", allowed="the `next` of a page")
    return int(text)
