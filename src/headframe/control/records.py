"""The records that belong to control itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer once given to a POST with an Idempotency-Key. `id` is "<key id>:<idempotency key>". A fact."""

    id: str
    fingerprint: str  # SHA-256 of method, path and body
    status: int
    body: str
    created_us: int


@dataclass(frozen=True, slots=True)
class Decider:
    """The server that decides: there is one such row (`id` is "one"), written anew whenever a server begins to.

    `term` counts those beginnings. `url` is where other servers reach it, and `secret` is what they show for it to
    believe them from where a request came.
    """

    id: str
    term: int
    url: str
    secret: str
    since_us: int
