"""What exit codes mean: one table."""

from __future__ import annotations

from headframe.base.errors import HeadframeError

TIMED_OUT = 124  # as of the command timeout
INTERRUPTED = 130
BROKEN_PIPE = 141
# (exit code, what it means, the stable codes of the errors that end with it)
TABLE: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (0, "done; for wait and submit --follow: the job succeeded", ()),
    (2, "wrong use: a wrong option, value or job file", ("invalid_value", "invalid_spec")),
    (3, "there is no such job, node or file", ("not_found",)),
    (4, "no valid key, or the key may not do this", ("unauthenticated", "forbidden")),
    (5, "a quota stands in the way, or no node could ever run it", ("quota_exceeded", "impossible_request")),
    (
        6,
        "the server cannot be reached or is too busy",
        ("unreachable", "too_busy", "store_failed", "changing_over", "too_many_failures"),
    ),
    (TIMED_OUT, "wait --timeout: the time was up first", ()),
    (1, "any other error; a job that failed without an exit code of its own", ()),
)


def code_of(error: HeadframeError) -> int:
    """The exit code of an error."""
    return code_of_text(error.code)


def code_of_text(code: str) -> int:
    """The exit code of a stable error code."""
    return next((number for number, _, codes in TABLE if code in codes), 1)


def of_job(job: dict[str, object]) -> int:
    """The exit code that tells how a job ended: its own when it has one."""
    if job.get("state") == "succeeded":
        return 0
    own = job.get("exit_code")
    return own if isinstance(own, int) and 0 < own < 256 else 1


def described() -> str:
    """The table for people."""
    return "\n".join(f"  {number}  {meaning}" for number, meaning, _ in sorted(TABLE))
