"""Who decides on a store: one server at a time, each for a term with a number of its own.

On a database server the claim is a session's advisory lock, for a file the lock of another file beside it: both end
with their holder however that ends. A lock can be lost unnoticed, though: by a holder that was halted, or whose
connection broke. So each who begins to decide raises the number of the term, and no older term can write any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from sqlalchemy import Connection, exc, inspect, select

from headframe.base.errors import AlreadyRunning, StoreFailed
from headframe.control.records import Decider
from headframe.store.database import Database, explained, superseded
from headframe.store.schema import tables

_LOCK = 0x68656164  # the number of the advisory lock: "head"
_ONE = "one"
_BEGIN = (
    "INSERT INTO deciders (id, term, url, secret, since_us) VALUES ({0}, 1, {0}, {0}, {0}) ON CONFLICT (id) DO UPDATE "
    "SET term = deciders.term + 1, url = excluded.url, secret = excluded.secret, since_us = excluded.since_us "
    "RETURNING term"
)


class Claim:
    """One server's claim to decide, which it waits for, takes, holds and lets go. For one thread."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._session: Connection | None = None
        self._lock: int | None = None  # the descriptor of the file beside a database that is a file
        self._is_made = False  # whether the table is there
        self.term = 0

    def take(self) -> None:
        """Keep others off; raises `AlreadyRunning` while another server holds the claim."""
        held = self._lock_file() if self._database.is_sqlite else self._lock_session()
        if not held:
            raise AlreadyRunning(
                "Another Headframe runs on this database.",
                next_step="Use that one, stop it first, or wait for its end with --standby.",
            )

    def _lock_file(self) -> bool:
        """Two servers may name one file though their data folders differ."""
        if self._lock is None and not self._database.in_memory:
            place = f"{self._database.url.database}.lock"
            try:
                lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise StoreFailed(
                    f"The file {place} cannot be made: {error.strerror}.",
                    next_step="Check that its folder is there, and that this user may write in it.",
                ) from error
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                return False
            self._lock = lock
        return True

    def _lock_session(self) -> bool:
        with explained():
            try:
                self._session = self._session or self._database.session()
                return bool(self._session.exec_driver_sql(f"SELECT pg_try_advisory_lock({_LOCK})").scalar())
            except BaseException:
                self._hang_up()
                raise

    def begin(self, url: str, secret: str, now_us: int) -> int:
        """Begin a term, reached by others at `url`; its number. Waits for a transaction of the term before."""
        with explained(), self._database.write() as connection:
            words = _BEGIN.format("?" if self._database.is_sqlite else "%s")
            self.term = int(connection.exec_driver_sql(words, (_ONE, url, secret, now_us)).scalar_one())
        return self.term

    def hold(self) -> None:
        """Look whether the term still lasts, and take the lock anew if its connection broke; raises `ChangingOver`
        when another server decides."""
        if self._session is not None:
            try:
                self._session.exec_driver_sql("SELECT 1")
            except exc.SQLAlchemyError:
                self._hang_up()
        if self._session is None:
            try:
                self.take()
            except AlreadyRunning:
                raise superseded() from None
        found = self.decider()
        if found is None or found.term != self.term:
            raise superseded()

    def decider(self) -> Decider | None:
        """Who began to decide last, whether or not it still lives; None where nobody ever did."""
        table, place = tables[Decider], self._database.url.database or ""
        if self._database.is_sqlite and not Path(place).exists():
            return None  # to look would make it
        with self._database.read() as connection:
            self._is_made = self._is_made or inspect(connection).has_table(table.name)
            if not self._is_made:
                return None
            found = connection.execute(select(table)).first()
        return Decider(*found) if found is not None else None

    def release(self) -> None:
        """Let others decide."""
        self._hang_up()

    def close(self) -> None:
        """Let go of everything."""
        self._hang_up()
        self._database.close()

    def _hang_up(self) -> None:
        """End the session and the lock with it: in the pool it would be kept, as it belongs to the connection."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(exc.SQLAlchemyError):
                session.exec_driver_sql("SELECT pg_advisory_unlock_all()")  # at once: its end is noticed a little later
            with contextlib.suppress(exc.SQLAlchemyError):
                session.invalidate()
                session.close()
