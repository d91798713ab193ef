"""The list of a set of files: read and checked, so that nothing in it leaves its folder or lies about its content."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from headframe.base.errors import Invalid
from headframe.base.quantities import LIMIT

LIMIT_BYTES = 64 << 20  # of one manifest: some 400,000 files
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says in sum: the hashes of its files (sorted, each once), how many, how many bytes."""

    hashes: tuple[str, ...]
    files: int
    size_bytes: int


def is_content_hash(text: str) -> bool:
    """Whether a text is the hex of a SHA-256."""
    return _HASH.fullmatch(text) is not None


def content_hash(text: str, *, field: str) -> str:
    """The hex of a SHA-256, written with or without `sha256:`; raises `Invalid` naming `field`."""
    digest = text.removeprefix("sha256:")
    if not _HASH.fullmatch(digest):
        raise Invalid(
            f"{field} is not a content hash.", field=field, value=text[:100],
            allowed="sha256: and 64 small hexadecimal digits",
        )  # fmt: skip
    return digest


def read_manifest(content: bytes) -> Manifest:
    """The sum of a manifest; raises `Invalid` for what is none, or names a path that leaves its folder."""
    try:
        document = json.loads(content)
        entries = document["files"]
        assert isinstance(entries, list)
    except (ValueError, RecursionError, KeyError, TypeError, AssertionError):
        raise _wrong("it is not JSON with a list called files") from None
    hashes: set[str] = set()
    size_bytes = 0
    before = ""
    for entry in entries:
        path = _path_of(entry)
        if path <= before:
            raise _wrong(f"{path!r} is not in order")
        before = path
        if "link" in entry:
            if set(entry) != {"path", "link"} or not _stays_inside(path, entry["link"]):
                raise _wrong(f"the link {path!r} leaves the folder")
            continue
        if set(entry) != {"path", "sha256", "size", "mode"} or not _HASH.fullmatch(str(entry["sha256"])):
            raise _wrong(f"{path!r} lacks its hash, size or mode")
        if not _whole(entry["size"], LIMIT) or not _whole(entry["mode"], 0o777):
            raise _wrong(f"{path!r} has no size or no mode")
        hashes.add(entry["sha256"])
        size_bytes += entry["size"]
    return Manifest(tuple(sorted(hashes)), len(entries), size_bytes)


def _path_of(entry: Any) -> str:
    path = entry.get("path") if isinstance(entry, dict) else None
    if not isinstance(path, str) or not path or "\0" in path or not _parts_fine(path.split("/")):
        raise _wrong(f"{path!r} is not a path inside the folder")
    return path


def _parts_fine(parts: list[str]) -> bool:
    return all(part not in ("", ".", "..") for part in parts)


def _stays_inside(path: str, link: object) -> bool:
    """Whether following the link from where it lies stays below the folder."""
    if not isinstance(link, str) or not link or link.startswith("/") or "\0" in link:
        return False
    depth = path.count("/")
    for part in link.split("/"):
        depth += -1 if part == ".." else int(part not in ("", "."))
        if depth < 0:
            return False
    return True


def _whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _wrong(why: str) -> Invalid:
    return Invalid(
        f"The manifest cannot be used: {why}.",
        field="manifest",
        allowed='{"files":[{"path":"a","sha256":"<hex>","size":1,"mode":420},{"path":"b","link":"a"}]}, sorted by path',
    )
