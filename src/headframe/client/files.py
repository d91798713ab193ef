"""Folders of the SDK: what of a folder is uploaded, its manifest, and a safe place for what is downloaded."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headframe.base.errors import Invalid, InvalidSpec
from headframe.client.wire import Wire

Progress = Callable[[str, int, int], None]  # (what is done, done so far, of all), in bytes or files
MAX_FILES = 200_000
_CHUNK = 1 << 20
_WORKERS = 6
_HASHES_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Found:
    """A file or link of a folder. `path` is relative with forward slashes; `link` is where a link points."""

    path: str
    place: Path
    size: int
    mode: int
    link: str | None = None


def walk(folder: Path) -> list[Found]:
    """What of a folder is uploaded, sorted by path: all but `.git` and what `.gitignore` files name."""
    root = folder.resolve()
    if not root.is_dir():
        raise InvalidSpec(
            f"files is {str(folder)!r}, which is not a folder.", field="files", value=str(folder), allowed="a folder"
        )
    found: list[Found] = []
    _walk(root, "", [], root, found)
    return sorted(found, key=lambda item: item.path.encode())


def _walk(at: Path, prefix: str, rules: list[tuple[str, Any]], root: Path, found: list[Found]) -> None:
    ignore = at / ".gitignore"
    if ignore.is_file():
        import pathspec

        lines = ignore.read_text("utf-8", "replace").splitlines()
        rules = [*rules, (prefix, pathspec.GitIgnoreSpec.from_lines(lines))]
    with os.scandir(at) as entries:
        for entry in entries:
            path = prefix + entry.name
            try:
                path.encode()
            except UnicodeEncodeError:
                raise _refused(ascii(path), "has a name that is not UTF-8", "names in UTF-8") from None
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name == ".git" or _is_ignored(path + "/" if is_folder else path, rules):
                continue
            if is_folder:
                _walk(at / entry.name, path + "/", rules, root, found)
            else:
                one = _file(entry, path, root)
                if one is not None:
                    found.append(one)
            if len(found) > MAX_FILES:
                raise _refused(str(root), f"holds more than {MAX_FILES} files", "fewer files, or a .gitignore")


def _is_ignored(path: str, rules: list[tuple[str, Any]]) -> bool:
    """By the deepest .gitignore that says anything about the path."""
    for prefix, spec in reversed(rules):
        verdict = spec.check_file(path[len(prefix) :]).include
        if verdict is not None:
            return bool(verdict)
    return False


def _file(entry: os.DirEntry[str], path: str, root: Path) -> Found | None:
    if entry.is_symlink():
        target = os.readlink(entry.path)
        resolved = (Path(entry.path).parent / target).resolve()
        if os.path.isabs(target) or not resolved.is_relative_to(root):
            raise _refused(path, f"is a link that leads out of the folder, to {target!r}", "links within the folder")
        return Found(path, Path(entry.path), 0, 0, target)
    about = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(about.st_mode):
        return None  # a socket or a pipe has no content
    # Only whether it can be run is kept, so that the same folder has the same hash under every umask.
    return Found(path, Path(entry.path), about.st_size, 0o755 if about.st_mode & stat.S_IXUSR else 0o644)


def _refused(path: str, why: str, allowed: str) -> InvalidSpec:
    return InvalidSpec(
        f"files: {path} {why}.", field="files", value=path, allowed=allowed, next_step=f"Allowed: {allowed}."
    )


def upload(wire: Wire, folder: Path, progress: Progress | None = None) -> tuple[str, int, int]:
    """Bring a folder to the server, only what it does not have; returns (manifest's hash, bytes, files)."""
    tell = progress or (lambda *_: None)
    found = walk(folder)
    files = [item for item in found if item.link is None]
    total = sum(item.size for item in files)
    hashed: dict[str, str] = {}
    done = 0
    with ThreadPoolExecutor(_WORKERS) as pool:
        for item, sha256 in zip(files, pool.map(lambda one: _hash(one.place), files), strict=True):
            hashed[item.path] = sha256
            done += item.size
            tell("hashing", done, total)
    manifest = _manifest(found, hashed)
    name = hashlib.sha256(manifest).hexdigest()
    places = {hashed[item.path]: item for item in files}
    missing = _missing(wire, sorted({*places, name}))
    waiting = [places[sha256] for sha256 in missing if sha256 in places]
    size = sum(item.size for item in waiting)
    done = 0
    with ThreadPoolExecutor(_WORKERS) as pool:
        for item in pool.map(lambda one: _send(wire, one, hashed[one.path]), waiting):
            done += item.size
            tell("uploading", done, size)
    if name in missing:
        wire.call("PUT", f"/v1/files/{name}", content=lambda: manifest)
    return name, total, len(files)


def _missing(wire: Wire, hashes: list[str]) -> set[str]:
    found: set[str] = set()
    for first in range(0, len(hashes), _HASHES_AT_ONCE):
        answer = wire.call("POST", "/v1/files/missing", body={"hashes": hashes[first : first + _HASHES_AT_ONCE]})
        found.update(answer["missing"])
    return found


def _send(wire: Wire, item: Found, sha256: str) -> Found:
    try:
        wire.call("PUT", f"/v1/files/{sha256}", content=lambda: _pieces(item.place))
    except Invalid as error:
        raise Invalid(
            f"{item.path} changed while it was uploaded: {error.message}",
            field="files", value=item.path, next_step="Submit again when nothing writes to the folder.",
        ) from None  # fmt: skip
    return item


def _pieces(place: Path) -> Iterator[bytes]:
    with place.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


def _hash(place: Path) -> str:
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(found: list[Found], hashed: dict[str, str]) -> bytes:
    """The canonical list of files: sorted by path, UTF-8, no spaces."""
    rows: list[dict[str, object]] = [
        {"path": item.path, "link": item.link}
        if item.link is not None
        else {"path": item.path, "sha256": hashed[item.path], "size": item.size, "mode": item.mode}
        for item in found
    ]
    return json.dumps({"files": rows}, ensure_ascii=False, separators=(",", ":")).encode()


def safe_place(root: Path, path: str) -> Path:
    """Where below `root` a downloaded file goes; raises `Invalid` when the path or a link there leads out of it."""
    parts = path.split("/")
    if not path or "\0" in path or path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise Invalid(f"The server names the file {path!r}, which leads out of the folder.", field="path", value=path)
    place = root.joinpath(*parts)
    if not place.parent.resolve().is_relative_to(root.resolve()) or place.is_symlink():
        raise Invalid(f"{place} is behind a link that leads out of the folder.", field="path", value=path)
    return place


def save(wire: Wire, address: str, place: Path, progress: Progress | None = None) -> int:
    """Download to a file, whole or not at all; returns its size in bytes."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name[:200]}.part")

    def take(pieces: Iterator[bytes], whole: int) -> None:
        done = 0
        with part.open("wb") as file:
            for piece in pieces:
                file.write(piece)
                done += len(piece)
                if progress is not None:
                    progress("downloading", done, whole)

    try:
        wire.fetch(address, take)
        size = part.stat().st_size
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
    return size
