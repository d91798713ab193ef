"""Keeps uploaded content by its SHA-256, apart for each organization, in `blobs/<organization>/<aa>/<sha256>`."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from headframe.base.errors import HeadframeError, Invalid, NotFound, StoreFailed, TooLarge
from headframe.engines.content import Content

LIMIT_BYTES = 5 << 30
HOUSE_BYTES = 200 << 30
_ORGANIZATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_IN_MEMORY = 256 << 20
_ARRIVING = ".arriving"  # the folder, beside an organization's content, of what is not whole yet


class Blobs:
    """Implements `control.ports.Blobs` in the data folder. Content is there whole, with its hash, or not at all."""

    def __init__(self, data: Path, limit_bytes: int = LIMIT_BYTES, house_bytes: int = HOUSE_BYTES) -> None:
        self._root = data / "blobs"
        self._limit_bytes = limit_bytes  # of one file
        self._house_bytes = house_bytes  # of all files of an organization
        self._held: dict[str, int] = {}  # bytes by organization, with what is on its way; counted at first need
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Remove what was arriving when a server was killed. Only for the one server that holds the data folder."""
        for left in self._root.glob(f"*/{_ARRIVING}/*"):
            with contextlib.suppress(OSError):
                left.unlink()

    def missing(self, organization_id: str, hashes: Sequence[str]) -> list[str]:
        """Those of the hashes whose content is not here, each once, in the order given."""
        return [one for one in dict.fromkeys(hashes) if not self._path(organization_id, one).is_file()]

    def write(self, organization_id: str, sha256: str, content: Iterator[bytes]) -> int:
        """Keep `content` and return its size in bytes; see the port for what it raises."""
        path = self._path(organization_id, sha256)
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            arriving = path.parent.with_name(_ARRIVING)
            arriving.mkdir(mode=0o700, exist_ok=True)
            handle, fresh = tempfile.mkstemp(dir=arriving)
        except OSError as error:
            raise self._failed(error) from error
        arrived: list[int] = []
        try:
            size = self._receive(handle, sha256, self._within(organization_id, content, arrived))
            before = path.stat().st_size if path.exists() else 0
            os.replace(fresh, path)
            self._count(organization_id, -before)
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except BaseException as error:
            self._count(organization_id, -sum(arrived))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
            if isinstance(error, OSError) and not isinstance(error, HeadframeError):
                raise self._failed(error) from error
            raise
        return size

    def open(self, organization_id: str, sha256: str) -> Iterator[bytes]:
        """The content in pieces; raises `NotFound` at once, not at the first piece."""
        return self._open(organization_id, sha256)

    def read(self, organization_id: str, sha256: str) -> bytes:
        """The whole content, for what is small (manifests); raises `TooLarge` beyond 256 MiB."""
        content = self._open(organization_id, sha256)
        if content.size > _MOST_IN_MEMORY:
            content.close()
            raise TooLarge(f"Content {sha256[:12]} is too large to be read at once.", next_step="Read it in pieces.")
        return b"".join(content)

    def _open(self, organization_id: str, sha256: str) -> Content:
        try:
            return Content(os.open(self._path(organization_id, sha256), os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError as error:
            raise NotFound(
                f"Content {sha256[:12]} was never uploaded.", next_step="Upload it and try again."
            ) from error
        except OSError as error:
            raise self._failed(error) from error

    def _receive(self, handle: int, sha256: str, content: Iterator[bytes]) -> int:
        size, digest = 0, hashlib.sha256()
        with os.fdopen(handle, "wb") as file:
            for piece in content:
                size += len(piece)
                if size > self._limit_bytes:
                    raise TooLarge(
                        f"A file may have at most {self._limit_bytes} bytes.",
                        next_step="Split it, or fetch it from within the job.",
                        details={"limit_bytes": self._limit_bytes},
                    )
                digest.update(piece)
                file.write(piece)
            if digest.hexdigest() != sha256:
                raise Invalid(
                    f"The content does not have the SHA-256 {sha256}.",
                    field="sha256",
                    value=sha256,
                    allowed=digest.hexdigest(),
                    next_step="The file changed while it was read, or the transfer was damaged: upload it again.",
                )
            file.flush()
            os.fsync(file.fileno())
        return size

    def _within(self, organization_id: str, content: Iterator[bytes], arrived: list[int]) -> Iterator[bytes]:
        """The content as long as the organization's files stay within their bound; notes what has `arrived`."""
        for piece in content:
            held = self._count(organization_id, len(piece))
            arrived.append(len(piece))
            if held > self._house_bytes:
                raise TooLarge(
                    f"The organization's files may hold {self._house_bytes} bytes together, and with this one would "
                    "hold more.",
                    next_step="Fetch large data from within the job, or ask whoever runs this server for more room "
                    "(its option --uploads).",
                    details={"limit_bytes": self._house_bytes},
                )
            yield piece

    def _count(self, organization_id: str, more: int) -> int:
        """Bytes that an organization's files hold with `more`."""
        with self._lock:
            if organization_id not in self._held:
                files = (self._root / organization_id).glob("??/*")
                self._held[organization_id] = sum(file.stat().st_size for file in files if file.name[0] != ".")
            self._held[organization_id] += more
            return self._held[organization_id]

    def _path(self, organization_id: str, sha256: str) -> Path:
        if not _ORGANIZATION.fullmatch(organization_id):
            raise Invalid("The organization's id is malformed.", field="organization_id", value=organization_id[:100])
        if not _SHA256.fullmatch(sha256):
            raise Invalid(
                f"{sha256[:80]!r} is not a SHA-256.",
                field="sha256",
                value=sha256[:80],
                allowed="64 hexadecimal digits in lower case",
                next_step="Name content by the SHA-256 of its bytes.",
            )
        return self._root / organization_id / sha256[:2] / sha256

    def _failed(self, error: OSError) -> StoreFailed:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return StoreFailed(
            "The disk is full: the upload was not kept."
            if full
            else f"Content cannot be kept or read: {error.strerror}.",
            next_step=f"Make room on the disk of {self._root}."
            if full
            else f"Check the disk and access of {self._root}.",
        )
