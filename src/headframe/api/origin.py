"""Requests of browsers: the cookie of the session, and proof that our own page sent what would change something.

A browser adds the cookie to whatever is sent here, also by pages of others. What changes something is therefore let in
only when the browser says that our own page sent it, and when it carries the token that only our pages hold.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request

from headframe.base.errors import ForeignRequest
from headframe.tenants.sessions import is_form_token

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
TOKEN_HEADER = "x-headframe-form"  # noqa: S105  the name of a header
TOKEN_FIELD = "form_token"  # noqa: S105  the name of a field
SECURE_COOKIE, PLAIN_COOKIE = "__Host-headframe", "headframe"


def cookie_name(request: Request) -> str:
    """The cookie's name: browsers keep one with `__Host-` only if it came over TLS and for this very host."""
    return SECURE_COOKIE if request.url.scheme == "https" else PLAIN_COOKIE


def cookie_of(request: Request) -> str | None:
    """What the browser keeps of its session."""
    return request.cookies.get(cookie_name(request))


def is_loopback(request: Request) -> bool:
    """Whether the browser reaches us without a network between, where a plain connection gives nothing away."""
    host = request.url.hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_origin(request: Request) -> None:
    """Raise `ForeignRequest` unless the browser says that a page of ours sent the request."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign = site not in (None, "same-origin") or (
        origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    )
    if foreign or (site is None and origin is None):
        raise ForeignRequest(
            "This was not sent by a page of this console, so nothing was done.",
            next_step="Open the console itself and do it there; programs send a key, not a cookie.",
        )


def check_form_token(secret: str, given: str) -> None:
    """Raise `ForeignRequest` unless the form carries the token of the session."""
    if not is_form_token(secret, given):
        raise ForeignRequest(
            "The form is not of this session, so nothing was done.",
            next_step="Go back, load the page anew, and send it again.",
        )
