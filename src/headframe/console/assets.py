"""Static files: read once, named by the sum of their contents, packed once.

The address of a file holds the sum of all of them (`/static/<sum>/live.js`), so that modules find one another by
relative names and a browser may keep what it has for ever: other contents have another address.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from headframe.base.errors import NotFound

router = APIRouter()
FOLDER = Path(__file__).parent / "static"
MEDIA = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
}
# Comments on lines of their own, and the types that stand within a line. Nothing of the kind stands in our texts.
_LINES = re.compile(r"^[ \t]*//.*\n", re.MULTILINE)
_BLOCKS = re.compile(r"^[ \t]*/\*(?:[^*]|\*(?!/))*\*/[ \t]*\n", re.MULTILINE)
_TYPES = re.compile(r"/\*\* @(?:type|param|returns) [^*]*\*/ ?")
_STYLES = re.compile(r"/\*.*?\*/\n?", re.DOTALL)
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    media: str
    plain: bytes
    packed: bytes


@cache
def assets() -> tuple[str, dict[str, Asset]]:
    """(the sum of all, each by its path below `static`)."""
    found: dict[str, Asset] = {}
    total = sha256()
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in MEDIA:
            name, content = path.relative_to(FOLDER).as_posix(), bare(path.read_text("utf-8"), path.suffix).encode()
            total.update(f"{name} {len(content)}\n".encode() + content)
            found[name] = Asset(MEDIA[path.suffix], content, gzip.compress(content, 9, mtime=0))
    return total.hexdigest()[:12], found


def bare(text: str, suffix: str) -> str:
    """A script or style without its comments, which are a quarter of it and for those who read the source."""
    if suffix == ".js":
        return _TYPES.sub("", _BLOCKS.sub("", _LINES.sub("", text)))
    return _STYLES.sub("", text) if suffix == ".css" else text


def address(name: str) -> str:
    """Where a static file is; raises `KeyError` for one that is not there, which no page should name."""
    total, known = assets()
    known[name]
    return f"/static/{total}/{name}"


@router.get("/static/{total}/{name:path}", include_in_schema=False)
def static(request: Request, total: str, name: str) -> Response:
    """A static file. One of another sum is given too, but not to keep: a page of another version may ask."""
    current, known = assets()
    asset = known.get(name)
    if asset is None:
        raise NotFound(f"There is no file {name!r} here.", next_step="Load the page anew.")
    packed = "gzip" in request.headers.get("accept-encoding", "")
    headers = {
        "Cache-Control": _FOREVER if total == current else "no-store",
        "Vary": "Accept-Encoding",
        **({"Content-Encoding": "gzip"} if packed else {}),
    }
    return Response(asset.packed if packed else asset.plain, 200, headers, asset.media)
