"""How an older database becomes a newer one: `versions` holds one file for each step, run by Alembic.

A step is written out by hand and never edited after a release: it must do in two years what it does today, whatever
the record classes look like by then. A test holds the sum of the steps against the tables made from the classes.
On SQLite, Alembic's batch mode copies a table, and the copy lacks the triggers that keep facts as they are: a step that
alters such a table makes them anew (the test compares triggers too); `op.add_column` alone needs no copy.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from headframe.base.errors import StoreFailed
from headframe.store.database import Database, explained
from headframe.store.schema import REVISION

_LOCK = 7_204_113  # any number, the same in every program: two migrations at once wait for each other
_WAIT_MS = 60_000  # how long: a migration takes longer than other changes


def stored_revision(connection: Connection) -> str:
    """The revision that a database is at; "" when it holds nothing of ours."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def wrong_revision(found: str) -> StoreFailed:
    """Why a database at that revision cannot be used as it is."""
    details = {"revision": found, "needed": REVISION}
    if found > REVISION:
        return StoreFailed(
            f"The database is newer than this program: it is at revision {found}, the program knows up to {REVISION}.",
            next_step="Use the version of Headframe that last wrote it, or a newer one.",
            details=details,
        )
    return StoreFailed(
        f"The database is at revision {found}, and this program needs {REVISION}." if found
        else "The database is empty.",
        next_step="Run `headframe migrate`.",
        details=details,
    )  # fmt: skip


def migrate(url: str) -> list[str]:
    """Bring the database to this program's revision; the names of the steps taken (none: it was there already).

    All steps are one transaction: a program that dies meanwhile leaves the database as it was.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    database = Database(url, lock_wait_ms=_WAIT_MS)
    try:
        with explained(), database.write() as connection:
            if not database.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
            found = stored_revision(connection)
            script = ScriptDirectory.from_config(config)
            known = [step.revision for step in script.walk_revisions()][::-1]
            if found and found not in known:
                raise wrong_revision(found)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return known[known.index(found) + 1 if found else 0 :]
    finally:
        database.close()
