"""Connections: how they are opened on each database, and what their failures mean."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url
from sqlalchemy.pool import QueuePool, StaticPool

from headframe.base.errors import ChangingOver, HeadframeError, Invalid, StoreFailed

LOCK_WAIT_MS = 5_000  # how long to wait for a lock that somebody else holds before giving up
_CONNECT_SECONDS = 10
_READERS = 8  # connections that stay open
_MORE_READERS = 32  # and that are opened besides when many ask at once
# Either side notices within seconds that the other's machine has gone, and a program that is halted in the middle of a
# transaction does not hold its locks for ever: without this a claim would outlive its holder by hours.
_NOTICE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
_OPTIONS = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 "
    "-c idle_in_transaction_session_timeout=30000"
)

_IN_OFFICE_SQLITE = "SELECT 1 FROM deciders WHERE term = ?"  # SQLite has one writer at a time
_IN_OFFICE = "SELECT 1 FROM deciders WHERE term = %s FOR SHARE"
_LOCK_PAUSE_SECONDS = 0.01  # between two tries where SQLite itself does not wait

_PRAGMAS = (
    "PRAGMA synchronous = FULL",  # a commit is on the disk when it returns
    "PRAGMA foreign_keys = OFF",  # there are none: control alone writes, and decides on a whole world that it holds
    "PRAGMA temp_store = MEMORY",
    "PRAGMA journal_size_limit = 67108864",  # bytes of log that stay on the disk after a burst
)
_WRITER_PRAGMAS = ("PRAGMA cache_size = -16384",)  # KiB
_READER_PRAGMAS = ("PRAGMA cache_size = -2048", "PRAGMA query_only = ON")  # KiB, for each of several

_UNDONE = "nothing of this change was written."
_CAUSES = (  # a sign in the driver's words, what it means, what to do
    (
        "is locked",
        "The database is locked by another program.",
        f"End what else uses the file; {_UNDONE}",
    ),
    ("lock timeout", "A table is locked by another program.", f"End what else uses the database; {_UNDONE}"),
    ("disk is full", "The disk is full.", f"Make room on the disk that holds the database; {_UNDONE}"),
    ("No space left", "The disk of the database server is full.", f"Make room there; {_UNDONE}"),
    ("disk I/O", "The disk cannot be written or read.", f"Check its room, its limits and its health; {_UNDONE}"),
    ("readonly", "The database may not be written.", "Give this user the right to write the file and its folder."),
    ("unable to open", "The database cannot be opened.", "Check that its folder exists and that this user may use it."),
    ("malformed", "The database file is damaged.", "Stop, keep a copy of the file, and restore the last backup."),
    ("not a database", "The file is not a database.", "Check the path, or restore the last backup."),
    ("resolve host", "The database server has no such address.", "Check the host in the URL of the store."),
    ("connection", "The database server cannot be reached.", "Check that it runs, its address, and the network."),
)


def parse_url(url: str) -> URL:
    """Read `sqlite:///path`, `sqlite://` (in memory) or `postgresql://user@host/name`."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        parsed = None
    name = parsed.get_backend_name() if parsed is not None else ""
    if parsed is None or name not in ("sqlite", "postgresql", "postgres"):
        # The URL may hold a password: it is not repeated.
        raise Invalid(
            "The store's URL cannot be read.",
            field="store", allowed="sqlite:///path/to/headframe.db or postgresql://user:password@host:5432/name",
        )  # fmt: skip
    return parsed.set(drivername="sqlite" if name == "sqlite" else "postgresql+psycopg")


def explain(error: BaseException) -> StoreFailed:
    """A driver's failure in words that say what to do next."""
    cause = str(getattr(error, "orig", None) or error).strip()
    for sign, message, next_step in _CAUSES:
        if sign in cause:
            return StoreFailed(message, next_step=next_step, details={"cause": cause})
    return StoreFailed(
        f"The database refused: {cause.splitlines()[0] if cause else type(error).__name__}.",
        next_step="Check the database; the change was not confirmed.",
        details={"cause": cause},
    )


@contextmanager
def explained() -> Iterator[None]:
    """Turn what drivers raise into `StoreFailed`."""
    try:
        yield
    except HeadframeError:
        raise
    except (exc.SQLAlchemyError, OSError) as error:
        raise explain(error) from error


class Database:
    """One writer and many readers. In memory (the simulator) all share one connection under a lock."""

    def __init__(self, url: str, *, lock_wait_ms: int = LOCK_WAIT_MS) -> None:
        self.url = parse_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.in_memory = self.is_sqlite and self.url.database in (None, "", ":memory:")
        self._lock = threading.RLock() if self.in_memory else None
        self.term = 0  # for which this server decides; 0: not guarded
        if self.in_memory:
            shared = _engine(self.url, poolclass=StaticPool, connect_args={"check_same_thread": False})
            _prepare_sqlite(shared, lock_wait_ms, writes=True)
            self._writer = self._reader = shared
        elif self.is_sqlite:
            self._writer = _engine(self.url, poolclass=QueuePool, pool_size=1, max_overflow=0)
            self._reader = _engine(self.url, poolclass=QueuePool, pool_size=_READERS, max_overflow=_MORE_READERS)
            _prepare_sqlite(self._writer, lock_wait_ms, writes=True)
            _prepare_sqlite(self._reader, lock_wait_ms, writes=False)
        else:
            options = f"-c lock_timeout={lock_wait_ms} {_OPTIONS}"
            arguments = {"options": options, "connect_timeout": _CONNECT_SECONDS, **_NOTICE}
            self._writer = _engine(
                self.url, pool_size=_READERS, max_overflow=_MORE_READERS, pool_pre_ping=True, connect_args=arguments
            )
            # Each question is one statement: no transaction around it.
            self._reader = self._writer.execution_options(isolation_level="AUTOCOMMIT")

    def quote(self, name: str) -> str:
        """A column's or table's name as a statement may hold it."""
        return self._writer.dialect.identifier_preparer.quote(name)

    def _held(self) -> AbstractContextManager[Any]:
        return self._lock if self._lock is not None else nullcontext()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end, undone when anything is raised. Drivers' errors come as they are.

        Of a server that decides it is written only while its term lasts, whatever it believes itself: whoever begins
        the next term waits until this transaction has ended, and every later one finds that its term is over.
        """
        with self._held(), self._writer.begin() as connection:
            if self.term:
                question = _IN_OFFICE_SQLITE if self.is_sqlite else _IN_OFFICE
                if connection.exec_driver_sql(question, (self.term,)).first() is None:
                    raise superseded()
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to look with; failures are `StoreFailed`."""
        with explained(), self._held(), self._reader.connect() as connection:
            yield connection

    def session(self) -> Connection:
        """A connection to hold on to, where each statement stands for itself."""
        with explained():
            return self._writer.connect().execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        self._reader.dispose()
        self._writer.dispose()


def superseded() -> ChangingOver:
    """Why this server may not write any more."""
    return ChangingOver("Another server decides now; nothing of this change was written.", next_step="Send it again.")


def _engine(url: URL, **more: Any) -> Engine:
    return create_engine(url, hide_parameters=True, **more)  # values stay out of errors and so out of logs


def _prepare_sqlite(engine: Engine, lock_wait_ms: int, *, writes: bool) -> None:
    """Take transactions into our own hands: Python's driver would begin them late and shared."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {lock_wait_ms}")
        _keep_a_log(connection, lock_wait_ms)
        for pragma in (*_PRAGMAS, *(_WRITER_PRAGMAS if writes else _READER_PRAGMAS)):
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        if writes:
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _keep_a_log(connection: Any, lock_wait_ms: int) -> None:
    """Write ahead in a log, so that readers never wait for the writer.

    The first program to open a new file changes it to that. SQLite refuses the change at once while another program
    writes the file, whatever its busy timeout says, so the waiting is done here.
    """
    deadline = time.monotonic() + lock_wait_ms / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as problem:
            if "is locked" not in str(problem) or time.monotonic() > deadline:
                raise
            time.sleep(_LOCK_PAUSE_SECONDS)
