"""How an API key is made, read and checked: `hf_<16 characters>_<secret>`; only the SHA-256 of the secret is kept."""

from __future__ import annotations

import re
from hashlib import sha256
from hmac import compare_digest

from headframe.tenants.records import Key

ID_PREFIX = "key_"
_SHAPE = re.compile(r"hf_([0-9A-Za-z]{8,32})_([0-9A-Za-z_-]{16,128})")
_NO_HASH = sha256(b"").hexdigest()  # the hash of no secret that `_SHAPE` lets through


def key_text(key_id: str, secret: str) -> str:
    """The key as its owner sees it, once."""
    text = f"hf_{key_id.removeprefix(ID_PREFIX)}_{secret}"
    assert _SHAPE.fullmatch(text), "a key has an id of 16 letters and digits, and a secret of URL-safe characters"
    return text


def secret_hash(secret: str) -> str:
    """What is kept of a secret. It is drawn from at least 192 bits, so that a plain hash cannot be guessed back."""
    return sha256(secret.encode()).hexdigest()


def read_key(text: str) -> tuple[str, str] | None:
    """(key id, secret) of a key as it was typed, or None when it does not look like one."""
    match = _SHAPE.fullmatch(text)
    return (ID_PREFIX + match[1], match[2]) if match else None


def is_key(key: Key | None, secret: str) -> bool:
    """Whether the secret belongs to the key. An unknown key costs the same time as a wrong secret."""
    kept = _NO_HASH if key is None else key.secret_sha256
    same = compare_digest(kept, secret_hash(secret))
    return same and key is not None


def is_live(key: Key, now_us: int) -> bool:
    """Whether the key has been neither revoked nor has expired."""
    return key.revoked_us is None and (key.expires_us is None or now_us < key.expires_us)
