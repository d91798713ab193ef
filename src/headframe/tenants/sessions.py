"""Sessions of browsers: opaque to the browser, of which only a hash is kept, ended by idleness, age or hand."""

from __future__ import annotations

import re
from hashlib import sha256
from hmac import compare_digest

from headframe.base.quantities import DAY_US, HOUR_US
from headframe.tenants.keys import secret_hash
from headframe.tenants.records import Session

IDLE_US = 12 * HOUR_US  # without a request, after which it ends
LONGEST_US = 14 * DAY_US  # from sign-in, however busy it is
SEEN_EVERY_US = HOUR_US // 12  # how exactly it is kept when it was last used: each note is a write
ID_PREFIX = "ses_"
_SHAPE = re.compile(r"([0-9A-Za-z]{8,32})\.([0-9A-Za-z_-]{16,128})")
_NO_HASH = sha256(b"").hexdigest()


def cookie_text(session_id: str, secret: str) -> str:
    """What the browser keeps."""
    return f"{session_id.removeprefix(ID_PREFIX)}.{secret}"


def read_cookie(text: str) -> tuple[str, str] | None:
    """(session id, secret) of what a browser sent, or None when it does not look like one."""
    match = _SHAPE.fullmatch(text)
    return (ID_PREFIX + match[1], match[2]) if match else None


def is_session(session: Session | None, secret: str) -> bool:
    """Whether the secret belongs to the session. An unknown session costs the same time as a wrong secret."""
    kept = _NO_HASH if session is None else session.secret_sha256
    return compare_digest(kept, secret_hash(secret)) and session is not None


def is_open(session: Session, now_us: int) -> bool:
    """Whether it has been neither ended nor left alone for too long."""
    return session.ended_us is None and now_us < min(session.seen_us + IDLE_US, session.expires_us)


def form_token(secret: str) -> str:
    """What each form of the session carries: another site can neither read it nor work it out."""
    return sha256(f"form of {secret}".encode()).hexdigest()


def is_form_token(secret: str, given: str) -> bool:
    """Whether a form carries the token of the session with that secret."""
    return compare_digest(form_token(secret).encode(), given.encode(errors="replace"))
