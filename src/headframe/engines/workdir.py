"""Lays out the files of a manifest: a job's working folder, and datasets that jobs share.

A manifest is a tenant's: every path is judged before anything is written, and all writing goes through folder
descriptors that follow no link.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headframe.base.errors import Invalid, NotFound, StoreFailed

Owner = tuple[int, int]

_ORGANIZATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_MANIFEST_BYTES = 256 << 20
_COPY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a manifest: a file with its content, or a link (then `link` is not empty)."""

    path: str
    sha256: str = ""
    size: int = 0
    mode: int = 0o644
    link: str = ""


def materialize(
    data: Path,
    organization_id: str,
    manifest_sha256: str,
    into: Path,
    owner: Owner | None,
) -> None:
    """Write the files of a manifest into `into`, which is made when it is not there; all belongs to `owner` then.

    Doing it again writes the same again. Raises `Invalid` for a hostile manifest, `NotFound` when content was never
    uploaded, `StoreFailed` when the disk is full.
    """
    entries = read_manifest(data, organization_id, manifest_sha256)
    switch = owner if os.geteuid() == 0 else None
    try:
        into.mkdir(mode=0o755, parents=True, exist_ok=True)
        if switch:
            os.chown(into, *switch, follow_symlinks=False)
        _write_all(_content_folder(data, organization_id), entries, into, switch)
    except OSError as error:
        raise _disk(into, error) from error


def dataset(data: Path, organization_id: str, manifest_sha256: str, owner: Owner | None = None) -> Path:
    """The folder of a dataset's files, laid out the first time it is asked for; read-only, shared by the jobs.

    `owner` is the organization's user: its group may pass, others may not.
    """
    entries = read_manifest(data, organization_id, manifest_sha256)
    folder = data / "datasets" / organization_id
    place = folder / manifest_sha256
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        if owner is not None and os.geteuid() == 0:
            os.chown(folder, 0, owner[1])
        if place.is_dir():
            return place
        lock = os.open(folder / f"{manifest_sha256}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if place.is_dir():
                return place
            partial = folder / f"{manifest_sha256}.partial"
            if partial.exists():
                shutil.rmtree(partial)
            partial.mkdir()
            try:
                _write_all(_content_folder(data, organization_id), entries, partial, None)
                _make_read_only(partial)
                partial.rename(place)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        finally:
            os.close(lock)
    except OSError as error:
        raise _disk(place, error) from error
    return place


def read_manifest(data: Path, organization_id: str, manifest_sha256: str) -> list[Entry]:
    """The entries of an uploaded manifest, all judged; raises `Invalid` or `NotFound`."""
    if not _ORGANIZATION.fullmatch(organization_id) or not _SHA256.fullmatch(manifest_sha256):
        raise Invalid("The name of a manifest is malformed.", field="files", value=manifest_sha256[:80])
    path = _content_folder(data, organization_id) / manifest_sha256[:2] / manifest_sha256
    try:
        if path.stat().st_size > _MOST_MANIFEST_BYTES:
            raise _refused("it is larger than 256 MiB", "")
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise _never_uploaded(manifest_sha256) from error
    except OSError as error:
        raise _disk(path, error) from error
    # It is small and everything hangs on it, so it is checked each time; the files are checked when uploaded.
    if hashlib.sha256(raw).hexdigest() != manifest_sha256:
        raise StoreFailed(
            f"The stored manifest {manifest_sha256[:12]} is damaged.",
            next_step=f"Check the disk, remove {path} and upload the files again.",
        )
    return parse_manifest(raw)


def parse_manifest(raw: bytes) -> list[Entry]:
    """The entries of a manifest's text, sorted by path; raises `Invalid` for anything that could do harm."""
    try:
        document = json.loads(raw.decode("utf-8"))
        listed = document["files"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refused("it is not a JSON object with a list `files`", "") from error
    if not isinstance(listed, list):
        raise _refused("`files` is not a list", "")
    entries = sorted((_entry(item) for item in listed), key=lambda entry: entry.path.split("/"))
    _refuse_clashes(entries)
    return entries


def _entry(item: object) -> Entry:
    if not isinstance(item, dict) or not isinstance(item.get("path"), str):
        raise _refused("a file has no path", "")
    path: str = item["path"]
    _judge_path(path)
    if "link" in item:
        link = item["link"]
        if not isinstance(link, str) or set(item) != {"path", "link"}:
            raise _refused("a link has other fields than path and link", path)
        _judge_link(path, link)
        return Entry(path, link=link)
    size, mode, sha256 = item.get("size"), item.get("mode", 0o644), item.get("sha256")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256) or set(item) - {"path", "sha256", "size", "mode"}:
        raise _refused("a file has no SHA-256 or has unknown fields", path)
    if type(size) is not int or size < 0:
        raise _refused("a file's size is no whole number", path)
    if type(mode) is not int or mode & ~0o777:
        raise _refused("a file's mode may hold the nine permission bits only", path)
    return Entry(path, sha256, size, mode)


def _judge_path(path: str) -> None:
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise _refused("a path must be relative, without empty parts, `.` or `..`", path)
    if not path.isprintable() or "\\" in path:
        raise _refused("a path may not hold control characters or backslashes", path)
    if len(path.encode()) > 3000 or any(len(part.encode()) > 255 for part in parts):
        raise _refused("a path is too long", path)


def _judge_link(path: str, link: str) -> None:
    """A link may climb at its beginning only, so that what it means does not hang on other links."""
    parts = link.split("/")
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    if link.startswith("/") or climbs > path.count("/") or not link.isprintable() or len(link.encode()) > 3000:
        raise _refused("a link leaves the folder", path)
    if ".." in parts[climbs:] or "" in parts:
        raise _refused("a link may hold `..` at its beginning only", path)


def _refuse_clashes(entries: Sequence[Entry]) -> None:
    """No path twice, none that is a file here and a folder there, none that differs from another in case only."""
    leaves: set[str] = set()
    folders: dict[str, str] = {}
    for entry in entries:
        folded = _folded(entry.path)
        if folded in leaves:
            raise _refused(
                "a path stands there twice, or differs from another only in upper and lower case", entry.path
            )
        leaves.add(folded)
        parts = entry.path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folders.setdefault(_folded(folder), folder) != folder:
                raise _refused("two folders differ only in upper and lower case", entry.path)
    for entry in entries:
        if _folded(entry.path) in folders:
            raise _refused("a path is a file or link and a folder", entry.path)


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _content_folder(data: Path, organization_id: str) -> Path:
    return data / "blobs" / organization_id


def _write_all(content: Path, entries: Sequence[Entry], into: Path, owner: Owner | None) -> None:
    root = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    here, where = os.dup(root), ""
    try:
        for entry in entries:
            folder, _, name = entry.path.rpartition("/")
            if folder != where:
                os.close(here)
                here, where = -1, ""
                here, where = _folder(root, folder, owner), folder
            _write_one(content, entry, here, name, owner)
    finally:
        os.close(root)
        if here >= 0:
            os.close(here)


def _folder(root: int, path: str, owner: Owner | None) -> int:
    """A descriptor of a folder below `root`, made when it is not there."""
    here = os.dup(root)
    for part in path.split("/") if path else []:
        try:
            os.mkdir(part, 0o755, dir_fd=here)
            if owner:
                os.chown(part, *owner, dir_fd=here, follow_symlinks=False)
        except FileExistsError:
            pass
        above = here
        try:
            here = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        finally:
            os.close(above)
    return here


def _write_one(content: Path, entry: Entry, here: int, name: str, owner: Owner | None) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=here)
    if entry.link:
        os.symlink(entry.link, name, dir_fd=here)
        if owner:
            os.chown(name, *owner, dir_fd=here, follow_symlinks=False)
        return
    try:
        source = os.open(content / entry.sha256[:2] / entry.sha256, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _never_uploaded(entry.sha256, entry.path) from error
    try:
        size = os.fstat(source).st_size
        if size != entry.size:
            raise _refused(f"its content has {size} bytes where {entry.size} are written", entry.path)
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=here)
        try:
            _copy(source, target, size)
            if owner:
                os.fchown(target, *owner)
            os.fchmod(target, entry.mode | 0o400)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy(source: int, target: int, size: int) -> None:
    """Copy in the kernel, which shares the blocks on file systems that can."""
    left = size
    try:
        while left and (count := os.copy_file_range(source, target, min(left, _COPY_BYTES))):
            left -= count
    except OSError:
        # Not every file system has it; a disk that is full says so again below.
        pass
    while left:
        count = os.sendfile(target, source, None, min(left, _COPY_BYTES)) if left else 0
        if count == 0:
            raise OSError("the content was cut while it was copied")
        left -= count


def _make_read_only(folder: Path) -> None:
    for _, _, files, here in os.fwalk(folder, follow_symlinks=False):
        for name in files:
            if not os.path.islink(f"/proc/self/fd/{here}/{name}"):
                executable = os.stat(name, dir_fd=here, follow_symlinks=False).st_mode & 0o111
                os.chmod(name, 0o555 if executable else 0o444, dir_fd=here)
        os.fchmod(here, 0o755)


def _refused(what: str, path: str) -> Invalid:
    return Invalid(
        f"The list of files is refused: {what}" + (f": {path[:200]!r}." if path else "."),
        field="files",
        value=path[:200] or None,
        next_step="Upload the files again with this version's command or SDK; leave out or rename the file named.",
    )


def _never_uploaded(sha256: str, path: str = "") -> NotFound:
    return NotFound(
        f"Content {sha256[:12]} " + (f"of {path[:200]!r} " if path else "") + "was never uploaded.",
        next_step="Ask /v1/files/missing, upload what it names and submit again.",
        details={"sha256": sha256},
    )


def _disk(place: Path, error: OSError) -> StoreFailed:
    return StoreFailed(
        f"Files cannot be written to {place}: {error.strerror or error}.",
        next_step="Make room on the disk, or check who may write there.",
    )
