"""Bad luck: programs killed while they write, locks, full disks, lost connections. Nothing is half written, ever."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from headframe.base.changes import Changes
from headframe.base.errors import StoreFailed
from headframe.control.world import World
from headframe.jobs.records import Job
from headframe.store.migrations import migrate
from headframe.store.sql_store import SqlStore
from headframe.tenants.records import Organization
from tests.contract.store_worlds import event, job, organization
from tests.contract.store_writer import EVENTS, JOBS, change

ROOT = Path(__file__).parents[2]
KILLS = 6


@pytest.fixture
def url(empty_url: str) -> str:
    migrate(empty_url)
    return empty_url


def _killed_after(url: str, changes: int, rest: float) -> int:
    """Let a writer make some changes and kill it within the next ones; the last change it knew to be written."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.contract.store_writer", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        for _ in range(changes):
            assert writer.stdout.readline(), writer.stderr.read().decode()
        time.sleep(rest)  # not a wait for something: the moment of death is what is varied
        writer.kill()
        said = writer.stdout.read().split()
    return int(said[-1]) if said else 0


def test_a_writer_killed_at_any_moment_leaves_whole_changes_only(url: str) -> None:
    chance = random.Random(7)
    for _ in range(KILLS):
        confirmed = _killed_after(url, chance.randint(1, 5), chance.random() * 0.02)
        store = SqlStore(url)
        try:
            counter = store.get(Organization, "org_1")
            written = counter.version
            assert written >= confirmed
            assert store.count(Job) == store.count(Job, version=2) == written * JOBS
            assert store.last_event_seq() == len(store.events(limit=10**6)) == written * EVENTS
            world = World.of(store.load(), store.balances(), store.last_event_seq(), store.last_invoice())
            assert world.get(Organization, "org_1") == counter
            assert len(world.all(Job)) == written * JOBS
            store.apply(change(written + 1))
        finally:
            store.close()
        if url.startswith("sqlite"):
            connection = sqlite3.connect(url.removeprefix("sqlite:///"))
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            connection.close()


def test_a_locked_database_is_a_clear_error_and_passes(url: str) -> None:
    store = SqlStore(url, lock_wait_ms=50)
    store.apply(change(1))
    other = create_engine(url)
    with other.connect() as connection:
        if url.startswith("sqlite"):
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
        else:
            connection.execute(text("LOCK TABLE jobs IN EXCLUSIVE MODE"))
        with pytest.raises(StoreFailed, match="locked by another program") as caught:
            store.apply(change(2))
        assert caught.value.next_step
        assert store.count(Job) == JOBS  # readers do not wait
        connection.rollback()
    store.apply(change(2))
    assert store.count(Job) == 2 * JOBS
    other.dispose()
    store.close()


@pytest.mark.postgres
def test_lost_connections_are_a_clear_error_and_new_ones_are_made(postgres_url: str) -> None:
    migrate(postgres_url)
    store = SqlStore(postgres_url)
    store.apply(change(1))
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    cut = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with admin.connect() as connection:
        connection.execute(cut)
        assert store.count(Job) == JOBS  # idle connections are tried before they are used
        connection.execute(cut)
        store.apply(change(2))

        encode = store._insert

        def cut_in_the_middle(*arguments: object) -> None:
            encode(*arguments)  # type: ignore[arg-type]
            connection.execute(cut)

        store._insert = cut_in_the_middle  # type: ignore[method-assign]
        with pytest.raises(StoreFailed, match="cannot be reached"):
            store.apply(change(3))
        store._insert = encode  # type: ignore[method-assign]
    assert store.count(Job) == 2 * JOBS
    store.apply(change(3))
    assert store.get(Organization, "org_1").version == 3
    admin.dispose()
    store.close()


_FILL = """
    import resource, signal, sys
    from headframe.base.errors import StoreFailed
    from headframe.store.sql_store import SqlStore
    from tests.contract.store_writer import change
    store = SqlStore(sys.argv[1])
    limit = len(sys.argv) > 2
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    number = 0
    try:
        while number < 2000:
            store.apply(change(number + 1))
            number += 1
    except StoreFailed as error:
        print(number, store.count(type(change(1).rows[1])), error.message)
    for _ in range(3):  # refused again and again, without harm
        try:
            store.apply(change(number + 1))
        except StoreFailed as error:
            assert error.next_step
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.apply(change(number + 1))
        print(number + 1)
"""


def _fill(url: str, *limit: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_FILL), url, *limit], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_when_files_may_not_grow_nothing_is_half_written_and_it_goes_on_afterwards(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/headframe.db"
    migrate(url)
    refused, went_on = _fill(url, "600000")
    number, jobs, message = refused.split(" ", 2)
    assert int(number) > 0
    assert int(jobs) == int(number) * JOBS
    assert message == "The disk cannot be written or read." or "full" in message
    assert int(went_on) == int(number) + 1
    store = SqlStore(url)
    assert store.count(Job) == int(went_on) * JOBS
    store.close()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="headframe-disk-"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)
    folder.rmdir()


def test_a_full_disk_is_a_clear_error_and_what_was_written_stays(small_disk: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{small_disk}/headframe.db"
    migrate(url)
    (refused,) = _fill(url)
    number, jobs, message = refused.split(" ", 2)
    assert int(jobs) == int(number) * JOBS > 0
    assert message == "The disk is full."
    for file in small_disk.iterdir():
        shutil.copy(file, tmp_path / file.name)
    store = SqlStore(f"sqlite:///{tmp_path}/headframe.db")  # on a disk with room it goes on
    assert store.get(Organization, "org_1").version == int(number)
    store.apply(change(int(number) + 1))
    store.close()


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    """As a user without rights, whoever runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="headframe-read-only-"))
    url = f"sqlite:///{folder}/headframe.db"
    migrate(url)
    os.chmod(folder / "headframe.db", stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    os.chmod(folder, stat.S_IRUSR | stat.S_IXUSR | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    words = """
        import os, sys
        from headframe.base.errors import StoreFailed
        from headframe.store.migrations import migrate
        from headframe.store.sql_store import SqlStore
        from tests.contract.store_writer import change
        import alembic.command
        SqlStore("sqlite://").close()  # what is imported late may lie where only root can read
        if os.geteuid() == 0:
            os.seteuid(65534)
        for use in (lambda: SqlStore(sys.argv[1]).apply(change(1)), lambda: migrate(sys.argv[2])):
            try:
                use()
            except StoreFailed as error:
                print(error.message)
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(words), url, f"sqlite:///{folder}/new.db"],
            capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.stdout.splitlines() == ["The database may not be written.", "The database cannot be opened."], done
    finally:
        os.chmod(folder, stat.S_IRWXU)
        shutil.rmtree(folder)


def test_a_damaged_file_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "headframe.db"
    migrate(f"sqlite:///{path}")
    store = SqlStore(f"sqlite:///{path}")
    store.apply(Changes(tuple(job(number) for number in range(500)), (event(1),)))
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(StoreFailed, match="damaged") as caught:
        SqlStore(f"sqlite:///{path}")
    assert "backup" in caught.value.next_step


def test_a_defect_in_the_middle_of_a_change_undoes_it(url: str) -> None:
    """Whatever is raised inside, a plain bug included: nothing of the change stays, and the next one goes through."""
    store = SqlStore(url)
    broken = dataclasses.replace(organization(2, "two"), number="three")  # type: ignore[arg-type]
    with pytest.raises(Exception):  # noqa: B017
        store.apply(Changes((organization(1, "one"), broken, object())))
    assert store.count(Organization) == 0
    store.apply(Changes((organization(1, "one"),)))
    assert store.count(Organization) == 1
    store.close()
