"""The error tree: three families (yours, the engine's, ours), each error with a stable code and a next step.

`code` is part of the public interface: it never changes its meaning. `status` is the HTTP status (RFC 9110) that the
API answers with; it lives here so that one table says what an error means everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class HeadframeError(Exception):
    """The root. `message` says what is wrong, `next_step` what to do, `details` what a program may want to read."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, next_step: str = "", details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.details: dict[str, object] = dict(details or {})

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".strip()


class CallerError(HeadframeError):
    """Yours: the request cannot be carried out as it was put."""

    code = "bad_request"
    status = 400


class EngineError(HeadframeError):
    """The engine's: the place where work runs did not do what was asked."""

    code = "engine_failed"
    status = 502


class ClusterDown(EngineError):
    """A cluster did not answer, or not clearly: another try may do, and what was asked may have been done."""

    code = "cluster_down"
    status = 503


class ClusterRefused(EngineError):
    """A cluster answered that it will not do this, however often it is asked."""

    code = "cluster_refused"


class OurError(HeadframeError):
    """Ours: a defect or a limit of Headframe itself."""

    code = "internal"
    status = 500


class Invalid(CallerError):
    """A value is not allowed. `field` names it, `line` is where it stands in the file (1-based, when known)."""

    code = "invalid_value"
    status = 422

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        value: object = None,
        allowed: str = "",
        line: int | None = None,
        next_step: str = "",
    ) -> None:
        details = {"field": field, "value": value, "allowed": allowed, "line": line}
        super().__init__(
            message,
            next_step=next_step or (f"Allowed: {allowed}." if allowed else ""),
            details={name: item for name, item in details.items() if item not in (None, "")},
        )
        self.field, self.value, self.allowed, self.line = field, value, allowed, line


class InvalidSpec(Invalid):
    code = "invalid_spec"


class Impossible(CallerError):
    """No node of this cloud could ever run the request."""

    code = "impossible_request"
    status = 422


class Unauthenticated(CallerError):
    code = "unauthenticated"
    status = 401


class Forbidden(CallerError):
    code = "forbidden"
    status = 403


class ForeignRequest(CallerError):
    """A browser sent what would change something, but not from a page of ours."""

    code = "foreign_request"
    status = 403


class NotFound(CallerError):
    code = "not_found"
    status = 404


class Conflict(CallerError):
    code = "conflict"
    status = 409


class Overlap(Conflict):
    """A reservation cannot have its place: it is promised to others for that time, or held without an end."""

    code = "reservation_overlap"


class VersionConflict(Conflict):
    """Somebody changed the record first."""

    code = "version_conflict"
    status = 412


class IdempotencyConflict(Conflict):
    code = "idempotency_key_reused"
    status = 422


class TooLarge(CallerError):
    code = "too_large"
    status = 413


class MethodNotAllowed(CallerError):
    """The address is known, but not what is asked of it."""

    code = "method_not_allowed"
    status = 405


class SlowBody(CallerError):
    """The body of a request did not arrive in time."""

    code = "request_timeout"
    status = 408


class TooManyFailures(CallerError):
    """Too many requests with wrong keys came from one address; it must wait."""

    code = "too_many_failures"
    status = 429


class QuotaCycle(Invalid):
    """Organizations would borrow under one another in a circle."""

    code = "quota_cycle"


class QuotaContradiction(Invalid):
    """Parts of a quota, or quotas of parts and whole, do not agree."""

    code = "quota_contradiction"


class QuotaExceeded(CallerError):
    code = "quota_exceeded"
    status = 403


class UnknownMeter(CallerError):
    """Nothing is counted or priced by that name, or from events of that type."""

    code = "unknown_meter"
    status = 422


class MeterInUse(Conflict):
    """A meter that has counted something cannot be defined anew."""

    code = "meter_in_use"


class FutureEvent(Invalid):
    """An event of use is dated later than now."""

    code = "event_in_future"


class NegativeDuration(Invalid):
    """An event of use ends before it begins, or tells of less than nothing."""

    code = "negative_duration"


class PriceOverlap(Conflict):
    """Two prices of one kind would hold at the same moment."""

    code = "price_overlap"


class NoExchangeRate(CallerError):
    """There is no rate from any priced currency to the one that is asked for."""

    code = "no_exchange_rate"
    status = 422


class InsufficientCredit(CallerError):
    """The prepaid credit does not cover it."""

    code = "insufficient_credit"
    status = 402


class TooBusy(OurError):
    """A queue is full or the store is locked; the same call may go through later."""

    code = "too_busy"
    status = 503


class Unreachable(HeadframeError):
    """No server answers at the address, or it stopped answering for longer than the caller waits."""

    code = "unreachable"
    status = 503


class DemoFailed(OurError):
    """The demonstration found something that is not as it must be."""

    code = "demo_failed"


class StoreFailed(OurError):
    """The store cannot be written or read: disk full, locked, damaged."""

    code = "store_failed"
    status = 503


class ChangingOver(StoreFailed):
    """Another server decides, or is about to: this one may not, and cannot reach it."""

    code = "changing_over"


class AlreadyRunning(OurError):
    """Another Headframe holds the data folder or the port."""

    code = "already_running"
    status = 503


class IllegalMove(OurError):
    """A state machine was asked for a step that its table does not hold."""

    code = "illegal_move"
