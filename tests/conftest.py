"""What all tests share: a throwaway PostgreSQL server and stores on both databases."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import create_engine, text

from headframe.cli.throwaway_slurm import SlurmCluster, missing

_START_SECONDS = 30

# The same examples every time, so that a change is judged by what it changes; `make explore` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def _server_programs() -> Path | None:
    """The folder of the newest PostgreSQL server programs on this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _as_somebody(owner: str | None) -> list[str]:
    """How to run a server program: never as root (it refuses), and never longer than these tests."""
    who = []
    if owner is not None:
        user = pwd.getpwnam(owner)
        who = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
    return ["setpriv", *who, "--pdeathsig", "QUIT", "--"]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, on a unix socket, without fsync; gone when the tests end."""
    programs = _server_programs()
    if programs is None or shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL's server programs (initdb, postgres) or setpriv are not on this machine")
    folder = Path(tempfile.mkdtemp(prefix="headframe-pg-"))
    owner = "nobody" if os.geteuid() == 0 else None
    if owner is not None:
        shutil.chown(folder, owner)
    run = _as_somebody(owner)
    made = subprocess.run(
        [
            *run, programs / "initdb", "-D", folder / "data", "-U", "headframe", "-A", "trust", "--no-sync",
            "-E", "UTF8", "--locale=C.UTF-8",
        ],
        capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                *run, programs / "postgres", "-D", folder / "data", "-c", "listen_addresses=", "-c", "fsync=off",
                "-c", f"unix_socket_directories={folder}", "-c", "max_connections=60",
            ],
            stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    try:
        url = f"postgresql+psycopg://headframe@/postgres?host={folder}"
        _await(url, server, folder / "log")
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # without waiting for clients
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _await(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    engine = create_engine(url)
    deadline = time.monotonic() + _START_SECONDS
    try:
        while True:
            try:
                with engine.connect():
                    return
            except Exception:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
    finally:
        engine.dispose()


@contextmanager
def _database(server: str) -> Iterator[str]:
    name = f"test_{time.monotonic_ns()}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.replace("/postgres?", f"/{name}?")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of this test's own."""
    with _database(postgres_server) as url:
        yield url


@pytest.fixture(scope="module")
def postgres_module_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database that the tests of one file share."""
    with _database(postgres_server) as url:
        yield url


BOTH_DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(params=BOTH_DATABASES)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once on each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/headframe.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="module", params=BOTH_DATABASES)
def module_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """As `empty_url`, shared by the tests of one file."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('store')}/headframe.db"
    return str(request.getfixturevalue("postgres_module_url"))


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """A real Slurm of four nodes with pretended GPUs, for as long as the tests run."""
    if why := missing():
        pytest.skip(why)
    cluster = SlurmCluster(Path(tempfile.mkdtemp(prefix="headframe-slurm-")))
    try:
        yield cluster.start()
    finally:
        cluster.end()
