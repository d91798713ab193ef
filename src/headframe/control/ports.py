"""The ports: what control needs of a store, of an engine and of the places where content lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headframe.base.changes import Changes, Event
from headframe.fleet.engine_words import Forget, Launch, Observation, Report, Signal, Stop, Unreachable
from headframe.ledger.chain import Head
from headframe.ledger.records import Invoice
from headframe.metering.records import UsageEvent
from headframe.metrics.records import Measured
from headframe.pricing.batch import Batch


class Reads(Protocol):
    """What people look at, straight from the store; safe to call from any thread.

    Records come back as the dataclasses they were written as. `kind` is a record class. Filters are
    column = value; a tuple or list of values means "one of", and a key may end in `__ge`, `__lt` or `__prefix` (a range
    of values, the beginning of a text), or in `__child_of` (one of the jobs of that array or schedule). Order is by id
    unless `newest` asks for the reverse.
    """

    def get(self, kind: type[Any], record_id: str) -> Any | None: ...

    def find(
        self,
        kind: type[Any],
        *,
        after: str | int | None = None,
        limit: int = 100,
        newest: bool = False,
        **where: object,
    ) -> list[Any]: ...

    def count(self, kind: type[Any], **where: object) -> int: ...

    def tally(self, kind: type[Any], by: Sequence[str], **where: object) -> list[dict[str, Any]]:
        """How many rows there are in each group of the columns `by`: under `count`."""
        ...

    def total(
        self, kind: type[Any], column: str | Sequence[str], by: Sequence[str], **where: object
    ) -> list[dict[str, Any]]:
        """Sum a column, or several in one look at the rows, grouped by the columns `by`.

        `labels` are grouped by their JSON text. `<column>__day` is the day (UTC) that a moment closes or
        lies in, counted from 1970-01-01: midnight belongs to the day before, as the end of what was used in it.
        """
        ...

    def events(
        self,
        *,
        after: int = 0,
        limit: int = 500,
        subject: str | None = None,
        organization_id: str | None = None,
    ) -> list[Event]: ...


class Store(Reads, Protocol):
    """Where facts are kept."""

    def load(self) -> Mapping[type[Any], Sequence[Any]]:
        """All that the loop keeps warm, by record class: see `control.world` for which rows those are."""
        ...

    def balances(self) -> dict[tuple[str, str], int]:
        """(account, currency) -> debits minus credits in nano-units, over all transfers."""
        ...

    def last_event_seq(self) -> int: ...

    def last_invoice(self) -> int:
        """The number of the newest invoice of the whole cloud; 0 when there is none."""
        ...

    def last_transfer(self) -> Head:
        """The newest link of the chain of transfers."""
        ...

    def take_in(self, events: Sequence[UsageEvent]) -> int:
        """Keep events of use that are not kept yet (by id), durably and all at once; how many that were.

        May be called from any thread, beside the loop.
        """
        ...

    def put(self, rows: Sequence[Any], removed: Sequence[tuple[type[Any], str]] = ()) -> None:
        """Write rows over those of the same ids and remove others (class, id), in one transaction.

        For what no decision hangs on, such as what was measured; from any thread, beside the loop.
        """
        ...

    def prune(self, kind: type[Any], limit: int, **where: object) -> int:
        """Delete at most `limit` rows of a class, the filters being those of `find`; how many that were.

        For what may be forgotten; the store refuses it for what may only be added to. From any thread, beside the loop.
        """
        ...

    def last_arrival(self) -> int:
        """The place of the newest event of use that came in; 0 when there is none."""
        ...

    def apply(self, changes: Changes) -> None:
        """Write all rows and events in one transaction, durably, or nothing.

        Raises `VersionConflict` when a row's stored version is not the one before, `Conflict` when a fact or an
        insert is there already, `StoreFailed` when the disk is full or the database is locked or gone.
        """
        ...


@dataclass(frozen=True, slots=True)
class LogPiece:
    """A run of output of one stream. `offset` is where it starts in the job's log, `next` where the following one does.

    `stream` is "stdout", "stderr", "system" (said by Headframe, such as the marker of a cut) or "progress" (how far the
    building of the environment is, a line such as `installing: 3 of 13 packages`; a total of 0: it cannot be counted).
    `text` may end without a newline when the line goes on in a later piece.
    """

    offset: int
    next: int
    at_us: int
    attempt: int
    rank: int
    stream: str
    text: str


class Engine(Protocol):
    """Where work runs. All calls return at once or within a second; results come as observations."""

    name: str

    def start(self, deliver: Callable[[Observation | Report | Unreachable | Measured], None]) -> None:
        """Begin: `deliver` is called from the engine's own thread with pushed observations and full reports, and, where
        the engine knows, that its cluster does not answer."""
        ...

    def close(self) -> None:
        """Let go of the engine; the work goes on."""
        ...

    def act(self, actions: Sequence[Launch | Stop | Signal | Forget]) -> None:
        """Carry out actions, in order; idempotent."""
        ...

    def request_report(self) -> None:
        """Ask for a full report; it is delivered like any other."""
        ...


class Logs(Protocol):
    """Logs of jobs, kept after the job."""

    def read(self, job_id: str, offset: int, limit: int) -> tuple[list[LogPiece], int]:
        """Pieces from `offset` on, at most about `limit` bytes, and the offset to go on from."""
        ...

    def end(self, job_id: str) -> int:
        """The offset behind the last byte."""
        ...

    def tail(self, job_id: str, lines: int) -> int:
        """The offset from which about the last `lines` lines can be read."""
        ...

    def follow(self, job_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` (from any thread) whenever the log grows; returns the call that ends it."""
        ...


class Blobs(Protocol):
    """Content by its SHA-256, apart for each organization."""

    def missing(self, organization_id: str, hashes: Sequence[str]) -> list[str]: ...

    def write(self, organization_id: str, sha256: str, content: Iterator[bytes]) -> int:
        """Keep `content`; raises `Invalid` when it does not have that hash, `TooLarge` beyond the limit."""
        ...

    def open(self, organization_id: str, sha256: str) -> Iterator[bytes]: ...

    def read(self, organization_id: str, sha256: str) -> bytes: ...


class Outputs(Protocol):
    """What jobs left in $HEADFRAME_OUTPUTS and their checkpoint folders."""

    def list(self, job_id: str) -> list[dict[str, Any]]: ...

    def address(self, job_id: str, path: str) -> str:
        """Where the job itself finds a path of its outputs, as a `file:` address."""
        ...

    def open(self, job_id: str, path: str) -> tuple[int, Iterator[bytes]]:
        """(size in bytes, content); raises `NotFound`; never leaves the job's folder."""
        ...

    def jobs(self) -> Sequence[str]:
        """The jobs that left anything."""
        ...

    def size_bytes(self, job_id: str, folder: str) -> int:
        """What a job's "outputs" or "checkpoints" take on the disk."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """Something that lies in the data folder. `kind` is a word such as "logs" or "environments"; `subject` is the id of
    the job, or the name of the environment; `used_us` when it was last of use; `count` how many of the kind it is."""

    kind: str
    subject: str = ""
    organization_id: str = ""
    used_us: int = 0
    bytes: int = 0
    count: int = 1


class Storage(Protocol):
    """What lies in the data folder, and its removal. Looking through it takes as long as there are files."""

    def piles(self) -> Sequence[Stored]:
        """How much there is of each kind."""
        ...

    def jobs(self) -> Sequence[str]:
        """The jobs that have a folder, by id."""
        ...

    def has(self, job_id: str, kind: str) -> bool:
        """Whether a job has "logs" or "files" (all else that it left)."""
        ...

    def size_bytes(self, job_id: str, kind: str) -> int:
        """How much room they take."""
        ...

    def remove(self, job_id: str, kind: str) -> None:
        """Remove them, and the job's folder with the last of it; nothing when they are gone already."""
        ...

    def environments(self) -> Sequence[Stored]:
        """The environments and package caches that no task uses."""
        ...

    def remove_environment(self, one: Stored) -> bool:
        """Remove one of them; False when it was used meanwhile."""
        ...


class Papers(Protocol):
    """Makes documents out of what is on record; always the same bytes of the same records."""

    def invoice(self, document: Invoice, form: str) -> tuple[str, bytes]:
        """(media type, content) as "pdf", "xml", "csv" or "json". Raises `Invalid` when it cannot be an e-invoice."""
        ...

    def focus(
        self, reads: Reads, month: str, now_us: int, organization_id: str | None, version: str, form: str
    ) -> bytes:
        """A month's FOCUS tables ("1.4" or "1.2") as "parquet" or "csv", zipped; of all organizations for None."""
        ...

    def month(self, reads: Reads, month: str, now_us: int, form: str) -> bytes:
        """Every document of a month, zipped."""
        ...

    def beancount(self, reads: Reads) -> Iterator[str]:
        """The whole ledger as text, line by line."""
        ...


class Columns(Protocol):
    """The use of past and running months in columns, for those who rate all of it at once."""

    def month(self, organization_id: str, month: str) -> Batch:
        """All usage records of an organization that begin in a month, as they are on record."""
        ...


class Vault(Protocol):
    """Seals secrets for the store and opens them for a launch."""

    def seal(self, text: str) -> str: ...

    def unseal(self, sealed: str) -> str: ...
