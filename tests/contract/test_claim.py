"""One server decides on a store; one that was halted or cut off writes nothing once another has begun to."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from headframe import compose
from headframe.base.changes import Changes
from headframe.base.errors import AlreadyRunning, ChangingOver, StoreFailed
from headframe.control.records import Reply
from headframe.metering.records import UsageEvent
from headframe.store.claim import Claim
from headframe.store.database import Database
from headframe.store.migrations import migrate
from headframe.store.sql_store import SqlStore
from headframe.tenants.records import Organization

HOUSE = Organization("org_1", "one", 1, version=1)
USE = UsageEvent("org_1 x y 1", 0, "org_1", "prj_1", "tokens", 5, 5)


@contextmanager
def claims(url: str, number: int = 2) -> Iterator[list[Claim]]:
    made = [Claim(url) for _ in range(number)]
    try:
        yield made
    finally:
        for claim in made:
            claim.close()


@contextmanager
def admin(url: str) -> Iterator[Any]:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def cut_off(url: str) -> int:
    """End the sessions that hold the claim, as the network or a restart of the database would; how many."""
    holders = "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    with admin(url) as connection:
        return len(connection.execute(text(holders)).all())


def test_a_database_server_takes_one_headframe_at_a_time(postgres_url: str) -> None:
    migrate(postgres_url)
    with claims(postgres_url) as (first, second):
        first.take()
        with pytest.raises(AlreadyRunning, match="runs on this database"):
            second.take()
        first.release()
        second.take()
        with pytest.raises(AlreadyRunning):
            first.take()


def test_a_file_takes_one_headframe_at_a_time_whatever_their_folders(tmp_path) -> None:
    with claims(f"sqlite:///{tmp_path}/shared.db") as (first, second):
        first.take()
        with pytest.raises(AlreadyRunning, match="runs on this database"):
            second.take()
        first.release()
        second.take()
        with pytest.raises(AlreadyRunning):
            first.take()
    with claims(f"sqlite:///{tmp_path}/nowhere/shared.db", 1) as (lost,), pytest.raises(StoreFailed, match="nowhere"):
        lost.take()


def test_terms_count_up_and_tell_where_the_one_is_that_decides(empty_url: str) -> None:
    with claims(empty_url) as (first, second):
        assert first.decider() is None, "nobody has made the tables yet"
        migrate(empty_url)
        assert second.decider() is None
        assert first.begin("http://a:1", "secret of a", 10) == 1
        assert second.begin("http://b:1", "secret of b", 20) == 2
        told = first.decider()
        assert told is not None
        assert (told.term, told.url, told.secret, told.since_us) == (2, "http://b:1", "secret of b", 20)
        second.hold()
        with pytest.raises(ChangingOver):
            first.hold()


def test_looking_for_the_one_that_decides_makes_no_database(tmp_path) -> None:
    with claims(f"sqlite:///{tmp_path}/headframe.db", 1) as (claim,):
        assert claim.decider() is None
    assert not list(tmp_path.iterdir())


def test_a_term_that_is_over_writes_nothing(empty_url: str) -> None:
    migrate(empty_url)
    old, new = SqlStore(empty_url), SqlStore(empty_url)
    with claims(empty_url) as (first, second):
        old.decide_in(first.begin("http://a", "a", 1))
        old.apply(Changes((HOUSE,)))
        new.decide_in(second.begin("http://b", "b", 2))
        for write in (
            lambda: old.apply(Changes((Organization("org_2", "two", 1, version=1),))),
            lambda: old.apply(Changes(actions=("an order to an engine",))),
            lambda: old.put([Reply("late", "", 200, "", 1)]),
            lambda: old.take_in([USE]),
        ):
            with pytest.raises(ChangingOver):
                write()
        assert (new.count(Organization), new.count(Reply), new.count(UsageEvent)) == (1, 0, 0)
        new.put([Reply("in time", "", 200, "", 1)])
        assert new.take_in([USE]) == 1
    old.close()
    new.close()


def test_a_term_begins_after_the_transactions_of_the_one_before(postgres_url: str) -> None:
    """What is being written is not cut through: the new server loads what the old one has still written."""
    migrate(postgres_url)
    old = Database(postgres_url)
    with claims(postgres_url) as (first, second):
        old.term = first.begin("http://a", "a", 1)
        begun = threading.Event()
        thread = threading.Thread(target=lambda: (second.begin("http://b", "b", 2), begun.set()), daemon=True)
        waits = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with old.write() as connection:
            thread.start()
            with admin(postgres_url) as looking:
                while not looking.execute(waits).scalar():
                    assert not begun.is_set()
            connection.exec_driver_sql("INSERT INTO replies VALUES ('r', '', 200, '', 1)")
        thread.join(10)
        assert begun.is_set()
        with pytest.raises(ChangingOver), old.write():
            pass
    old.close()


def test_a_claim_that_was_cut_off_is_taken_anew_unless_another_one_was_quicker(postgres_url: str) -> None:
    migrate(postgres_url)
    with claims(postgres_url) as (first, second):
        first.take()
        first.begin("http://a", "a", 1)
        assert cut_off(postgres_url) == 1
        first.hold()
        with pytest.raises(AlreadyRunning):
            second.take()
        assert cut_off(postgres_url) == 1
        second.take()
        with pytest.raises(ChangingOver):
            first.hold()
        second.begin("http://b", "b", 2)
        second.release()
        with pytest.raises(ChangingOver):
            first.hold()  # the lock is free again, but the term is over


def test_a_database_that_cannot_be_reached_says_nothing_about_who_decides(tmp_path) -> None:
    with claims(f"postgresql://nobody@/none?host={tmp_path}", 1) as (claim,):
        with pytest.raises(StoreFailed) as caught:
            claim.take()
        assert not isinstance(caught.value, ChangingOver)


def test_a_database_server_soon_notices_that_a_holder_is_gone_or_halted(postgres_url: str) -> None:
    """Without this, a claim or a row's lock would be kept for hours by a machine that lost its power."""
    database = Database(postgres_url)
    with database.read() as connection:
        told = {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in (
            "idle_in_transaction_session_timeout", "lock_timeout")}  # fmt: skip
        sources = "SELECT count(*) FROM pg_settings WHERE name LIKE 'tcp_keepalives_%%' AND source = 'client'"
        assert connection.exec_driver_sql(sources).scalar() == 3
    database.close()
    assert told == {"idle_in_transaction_session_timeout": "30s", "lock_timeout": "5s"}


def test_who_waits_for_a_data_folder_keeps_nothing_open(tmp_path) -> None:
    """One that stands by asks for it twice a second, for weeks."""
    with compose._only_one(tmp_path):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with pytest.raises(AlreadyRunning), compose._only_one(tmp_path):
                pass
        assert len(os.listdir("/proc/self/fd")) == before
