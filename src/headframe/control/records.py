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
