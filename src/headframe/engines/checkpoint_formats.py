"""Tells whether a file of a known form is whole, without the libraries that wrote it.

Each check names the fault, or None. What is read into memory is bounded, as the files are a tenant's.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Callable

_PIECE = 1 << 20
_MOST_IN_MEMORY = 16 << 20
# Compressed content can stand for a thousand times its file. What is far beyond what numbers compress to is taken as
# whole without being unpacked to its end: looking costs no more than the bytes on the disk are worth.
_MOST_RATIO = 64


class _TooMuch(Exception):
    """Looking closer would take too much memory."""


class _Sparing(io.BufferedIOBase):
    """A file for `zipfile` that refuses to read more at once than we care to hold."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1) -> bytes:
        wanted = _MOST_IN_MEMORY + 1 if size is None or size < 0 else size
        content = self._file.read(min(wanted, _MOST_IN_MEMORY + 1))
        if len(content) > _MOST_IN_MEMORY:
            raise _TooMuch
        return content


def fault(file: io.BufferedReader, name: str, size: int, *, thorough: bool) -> str | None:
    """What is wrong with a file that is not empty; its form is told by the end of `name` (in lower case)."""
    for ending, check in _CHECKS.items():
        if name.endswith(ending):
            try:
                file.seek(0)
                return check(file, size, thorough)
            except _TooMuch:
                return None
            except (RecursionError, MemoryError):
                return "it is nested too deeply"
    # Of an unknown form: at least both ends must come off the disk.
    file.seek(0)
    file.read(1)
    file.seek(size - 1)
    file.read(1)
    return None


def sha256(file: io.BufferedReader) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _most_unpacked(size: int) -> int:
    """How many bytes of a compressed file of `size` bytes are looked at."""
    return _PIECE + _MOST_RATIO * size


def _zip(file: io.BufferedReader, size: int, thorough: bool) -> str | None:
    try:
        with zipfile.ZipFile(_Sparing(file)) as archive:
            if thorough and sum(item.file_size for item in archive.infolist()) <= _most_unpacked(size):
                for item in archive.infolist():
                    with archive.open(item) as content:
                        while content.read(_PIECE):
                            pass
    except (_TooMuch, OSError, MemoryError, RecursionError):
        raise
    except RuntimeError:  # encrypted or in a compression that is unknown here: not ours to judge
        return None
    except Exception as error:  # what zipfile raises for broken content depends on the compression
        return f"a broken archive: {str(error)[:100]}"
    return None


def _torch(file: io.BufferedReader, size: int, thorough: bool) -> str | None:
    """PyTorch writes a zip; its form of old, and other libraries' files of this name, cannot be judged."""
    begins = file.read(4)
    if not any(begins):
        return "it begins with zeros: its content never reached the disk"
    return _zip(file, size, thorough) if begins.startswith(b"PK") else None


def _zip_or_any(file: io.BufferedReader, size: int, thorough: bool) -> str | None:
    """A zip by PyTorch, or plain numbers, which may begin with zeros."""
    return _torch(file, size, thorough) if file.peek(2).startswith(b"PK") else None


def _safetensors(file: io.BufferedReader, size: int, thorough: bool) -> str | None:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8 or length < 2:
        return "its header is cut off"
    if length > _MOST_IN_MEMORY:
        raise _TooMuch
    try:
        header = json.loads(file.read(length))
        ends = [item["data_offsets"][1] for name, item in header.items() if name != "__metadata__"]
        end = max(ends, default=0)
        if not isinstance(end, int):
            return "its header is malformed"
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "its header is malformed"
    if end + 8 + length != size:
        return f"it has {size} bytes where its header speaks of {end + 8 + length}"
    return None


def _npy(file: io.BufferedReader, size: int, thorough: bool) -> str | None:
    begins = file.read(8)
    if len(begins) < 8 or begins[:6] != b"\x93NUMPY":
        return "it is not in the form .npy"
    length = int.from_bytes(file.read(2 if begins[6] == 1 else 4), "little")
    if length > size - file.tell():
        return "its header is cut off"
    if length > 1 << 20:
        raise _TooMuch
    try:
        header = ast.literal_eval(file.read(length).decode("latin-1").strip())
        kind, shape = header["descr"], header["shape"]
        items = math.prod(shape)
        match = re.fullmatch(r"[<>|=][a-zA-Z](\d+)", kind) if isinstance(kind, str) else None
    except (ValueError, SyntaxError, KeyError, TypeError):
        return "its header is malformed"
    if match is None or kind[1] in "OmM":
        return None
    expected = file.tell() + items * int(match[1]) * (4 if kind[1] == "U" else 1)
    return None if size == expected else f"it has {size} bytes where its header speaks of {expected}"


def _json(file: io.BufferedReader, size: int, thorough: bool) -> str | None:
    if size > _MOST_IN_MEMORY or not thorough:
        file.seek(max(0, size - 64))
        return None if file.read().rstrip()[-1:] in (b"}", b"]", b'"') or size < 64 else "its end is missing"
    try:
        json.loads(file.read(_MOST_IN_MEMORY))
    except ValueError:
        return "it is not valid JSON"
    return None


def _gzip(file: io.BufferedReader, size: int, thorough: bool) -> str | None:
    if not thorough:
        return None if file.read(2) == b"\x1f\x8b" else "it is not in the form gzip"
    unpacked = 0
    try:
        with gzip.GzipFile(fileobj=file) as content:
            while piece := content.read(_PIECE):
                unpacked += len(piece)
                if unpacked > _most_unpacked(size):
                    return None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return f"a broken archive: {str(error)[:100]}"
    return None


_CHECKS: dict[str, Callable[[io.BufferedReader, int, bool], str | None]] = {
    ".pt": _torch,
    ".pth": _torch,
    ".ckpt": _torch,
    ".bin": _zip_or_any,
    ".npz": _zip,
    ".zip": _zip,
    ".keras": _zip,
    ".safetensors": _safetensors,
    ".npy": _npy,
    ".json": _json,
    ".gz": _gzip,
}
KNOWN = tuple(_CHECKS)
