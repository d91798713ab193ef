"""Routes of content: which files are missing, uploads by content hash, datasets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from anyio import CapacityLimiter, from_thread, to_thread
from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import Response

from headframe.api.documents import page_shape, shape
from headframe.api.gate import slow_body, too_large
from headframe.api.wire import Authenticated, Body, Call, Cursor, Limit, Named, Text, answer
from headframe.base.errors import Invalid
from headframe.base.quantities import counted
from headframe.control.commands_access import create_dataset
from headframe.tenants.roles import Permission
from headframe.workloads.manifest import LIMIT_BYTES, content_hash, is_content_hash, read_manifest
from headframe.workloads.records import Dataset

router = APIRouter(prefix="/v1", tags=["files"])

_HASHES = 10_000  # in one question
FILES_KNOWN = 10_000  # sets of files that are remembered as fine


class MissingQuestion(Body):
    hashes: Annotated[list[Annotated[str, Field(max_length=80)]], Field(max_length=_HASHES)]


class NewDataset(Body):
    name: Text
    manifest: Text
    project: Text | None = None
    lives_in: Annotated[list[Text], Field(max_length=100)] = []
    stays: bool = False


@dataclass
class Missing:
    """The hashes of the files that are not here yet."""

    missing: list[str]


@dataclass
class Kept:
    """A file that is here now."""

    sha256: str
    size: int


@router.post("/files/missing", response_model=Missing)
def missing(call: Authenticated, body: MissingQuestion) -> Response:
    """Which of these files are not here yet. Each organization has its own: nobody learns what others have."""
    _may_write(call)
    hashes = [content_hash(each, field="hashes") for each in body.hashes]
    return answer({"missing": call.control.blobs.missing(call.caller.organization_id, hashes)})


@router.put(
    "/files/{sha256}",
    status_code=201,
    response_model=Kept,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def keep(call: Authenticated, sha256: Annotated[str, Path(max_length=80)]) -> Response:
    """Keep a file under its SHA-256. The body is written as it arrives, and thrown away if its hash is another."""
    digest = content_hash(sha256, field="sha256")
    _may_write(call)
    limit = call.serving.limits.file_bytes
    stream = call.request.stream()

    async def next_chunk() -> bytes:
        try:
            async with asyncio.timeout(call.serving.limits.body_timeout_s):
                return await anext(stream, b"")
        except TimeoutError:
            raise slow_body() from None

    def chunks() -> Iterator[bytes]:
        size = 0
        while True:
            chunk = from_thread.run(next_chunk)
            if not chunk:
                return
            size += len(chunk)
            if size > limit:
                raise too_large(limit)
            yield chunk

    write = partial(call.control.blobs.write, call.caller.organization_id, digest, chunks())
    size = await _in_turn(call, write)
    return answer({"sha256": digest, "size": size}, 201)


async def _in_turn(call: Call, write: Callable[[], int]) -> int:
    """Write in a thread, of which one organization gets half at most: its slow uploads keep nobody else waiting."""
    serving, house = call.serving, call.caller.organization_id
    if serving.uploading is None:
        serving.uploading = CapacityLimiter(serving.limits.uploads)
    own = serving.uploading_of.setdefault(house, CapacityLimiter(max(1, serving.limits.uploads // 2)))
    try:
        async with own:
            return await to_thread.run_sync(write, limiter=serving.uploading)
    finally:
        if not own.borrowed_tokens and not own.statistics().tasks_waiting:
            serving.uploading_of.pop(house, None)


@router.get("/datasets", response_model=page_shape(Dataset))
def datasets(
    call: Authenticated,
    project: Named = None,
    name: Named = None,
    organization: Named = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The versions of datasets, oldest first."""
    caller = call.caller
    house = call.organization(organization)
    where: dict[str, Any] = {} if name is None else {"name": name}
    home_id = None
    if project is not None or caller.project_id is not None:
        home_id = call.project(project, house.id).id
        where["project_id"] = home_id
    caller.need(Permission.JOBS_READ, house.id, home_id)
    return call.page(Dataset, limit=limit, cursor=cursor, organization_id=house.id, **where)


@router.post("/datasets", status_code=201, response_model=shape(Dataset))
def new_dataset(call: Authenticated, body: NewDataset) -> Response:
    """The next version of a dataset: all files of its manifest must be here."""
    home = call.project(body.project)
    call.caller.need(Permission.DATASETS_WRITE, home.organization_id, home.id)
    digest = content_hash(body.manifest, field="manifest")
    blobs, house = call.control.blobs, home.organization_id
    if blobs.missing(house, [digest]):
        raise Invalid(
            "The manifest is not here.", field="manifest", value=body.manifest,
            next_step="Upload it with PUT /v1/files/{sha256} first.",
        )  # fmt: skip
    content = read_manifest(_bounded(blobs.open(house, digest)))
    lacking = blobs.missing(house, content.hashes)
    if lacking:
        raise Invalid(
            f"{counted(len(lacking), 'file')} of the manifest lacking here, such as {lacking[0]}.",
            field="manifest", value=body.manifest, next_step="Ask POST /v1/files/missing and upload those first.",
        )  # fmt: skip
    return call.run(
        create_dataset,
        name=body.name,
        manifest=digest,
        size_bytes=content.size_bytes,
        files=content.files,
        project=home.id,
        lives_in=body.lives_in,
        stays=body.stays,
        status=201,
    )


def check_files(call: Call, project: str | None, spec: Mapping[str, object]) -> None:
    """Refuse a job whose files could not be laid out, once for each content. Whatever else is wrong with the job is
    told by who reads all of it."""
    written = spec.get("files")
    digest = written.strip().removeprefix("sha256:") if isinstance(written, str) else ""
    named = spec.get("project")
    home = call.project(project or (named if isinstance(named, str) and named else None))
    house = home.organization_id
    call.caller.need(Permission.JOBS_WRITE, house, home.id)
    blobs, known = call.control.blobs, call.serving.files_checked
    if (house, digest) in known or not is_content_hash(digest) or blobs.missing(house, [digest]):
        return
    try:
        content = read_manifest(_bounded(blobs.open(house, digest)))
    except Invalid as error:
        raise Invalid(error.message, field="files", value=digest, allowed=error.allowed) from None
    lacking = blobs.missing(house, content.hashes)
    if lacking:
        raise Invalid(
            f"{counted(len(lacking), 'file')} of this job not uploaded yet, such as {lacking[0]}.",
            field="files", value=digest, next_step="Ask POST /v1/files/missing and upload those first.",
        )  # fmt: skip
    if len(known) >= FILES_KNOWN:
        known.clear()
    known[house, digest] = None


def _may_write(call: Call) -> None:
    call.caller.need(Permission.FILES_WRITE, call.caller.organization_id, call.caller.project_id)


def _bounded(content: Iterator[bytes]) -> bytes:
    whole = bytearray()
    for chunk in content:
        whole += chunk
        if len(whole) > LIMIT_BYTES:
            raise too_large(LIMIT_BYTES)
    return bytes(whole)
