"""Migrated databases are what new ones are, and databases of another time are told apart."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text

from headframe.base.changes import Changes
from headframe.base.errors import Invalid, StoreFailed
from headframe.store import migrations
from headframe.store.migrations import migrate
from headframe.store.schema import REVISION, metadata
from headframe.store.sql_store import SqlStore
from tests.contract.store_worlds import organization


def _rows_of(index: Any) -> list[str]:
    """Which rows an index is limited to."""
    return [str(value) for name, value in sorted(index.get("dialect_options", {}).items()) if name.endswith("where")]


def _shape(connection: Connection) -> dict[str, Any]:
    """All of a database that matters: columns, keys, indices and triggers, but not Alembic's own table."""
    seen = inspect(connection)
    shape: dict[str, Any] = {}
    for table in sorted(seen.get_table_names()):
        if table == "alembic_version":
            continue
        columns = [
            (column["name"], str(column["type"]), getattr(column["type"], "collation", None), column["nullable"])
            for column in seen.get_columns(table)
        ]
        indices = sorted(
            (index["name"], index["column_names"], bool(index["unique"]), _rows_of(index))
            for index in seen.get_indexes(table)
        )
        shape[table] = columns, seen.get_pk_constraint(table)["constrained_columns"], indices
    triggers = {
        "sqlite": "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name",
        "postgresql": "SELECT tgname, tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger ORDER BY tgname",
    }
    shape["triggers"] = [tuple(row) for row in connection.execute(text(triggers[connection.dialect.name]))]
    return shape


def test_migrated_is_what_is_made_new(empty_url: str) -> None:
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        metadata.create_all(connection)
        new = _shape(connection)
        connection.rollback()
    with engine.begin() as connection:
        metadata.drop_all(connection)
    assert migrate(empty_url) == [REVISION]
    with engine.connect() as connection:
        assert _shape(connection) == new
        context = MigrationContext.configure(connection, opts={"compare_type": True, "target_metadata": metadata})
        assert compare_metadata(context, metadata) == []
    assert len(new) > len(metadata.tables)
    assert len(new["triggers"]) >= 5
    engine.dispose()


def test_the_revision_named_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_to_migrate_again_does_nothing(empty_url: str) -> None:
    assert migrate(empty_url) == [REVISION]
    store = SqlStore(empty_url)
    store.apply(Changes((organization(1, "acme"),)))
    store.close()
    assert migrate(empty_url) == []
    store = SqlStore(empty_url)
    assert store.find(type(organization(1, "acme"))) == [organization(1, "acme")]
    store.close()


def test_an_empty_database_is_refused_with_the_next_step(empty_url: str) -> None:
    with pytest.raises(StoreFailed, match="headframe migrate"):
        SqlStore(empty_url)


def test_a_newer_database_is_refused_and_left_alone(empty_url: str) -> None:
    migrate(empty_url)
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for use in (SqlStore, migrate):
        with pytest.raises(StoreFailed, match="newer than this program: it is at revision 9999"):
            use(empty_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
    engine.dispose()


def test_a_migration_that_dies_leaves_the_database_as_it_was(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic.operations import Operations

    def die(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Operations, "execute", die)
        with pytest.raises(StoreFailed, match="full"):
            migrate(empty_url)
    engine = create_engine(empty_url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    assert migrate(empty_url) == [REVISION]


def test_two_migrations_at_once_do_the_work_once(empty_url: str) -> None:
    words = "import sys; from headframe.store.migrations import migrate; print(migrate(sys.argv[1]))"
    both = [
        subprocess.Popen([sys.executable, "-c", words, empty_url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [each.communicate(timeout=60) for each in both]
    assert sorted(out.decode().strip() for out, _ in said) == ["['0001']", "[]"], said


def test_a_migration_waits_for_one_who_writes_the_new_file(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "headframe.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.rollback)
    release.start()
    assert migrate(f"sqlite:///{tmp_path}/headframe.db") == [REVISION]
    release.join()
    other.close()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://root@host/db", "redis://x", "file.db"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="URL"):
        SqlStore(url)


def test_a_password_never_appears_in_an_error() -> None:
    with pytest.raises(StoreFailed) as caught:
        SqlStore("postgresql://somebody:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in f"{caught.value} {caught.value.details}"
    assert "cannot be reached" in str(caught.value)
    with pytest.raises(Invalid) as refused:
        SqlStore("mysql://somebody:hunter2@127.0.0.1/none")
    assert "hunter2" not in f"{refused.value} {refused.value.details}"


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("to do: " * 1000)
    for use in (SqlStore, migrate):
        with pytest.raises(StoreFailed, match="not a database"):
            use(f"sqlite:///{tmp_path}/notes.txt")
    with pytest.raises(StoreFailed, match="cannot be opened"):
        migrate(f"sqlite:///{tmp_path}/no/such/folder/x.db")


def test_a_commit_is_on_the_disk_and_readers_cannot_write(tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path}/a%20b.db")
    store = SqlStore(f"sqlite:///{tmp_path}/a%20b.db")
    with sqlite3.connect(next(tmp_path.glob("*.db"))) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    with store._database.write() as writer:
        assert writer.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
    with pytest.raises(StoreFailed, match="may not be written"), store._database.read() as reader:
        reader.exec_driver_sql("DELETE FROM jobs")
    store.close()
