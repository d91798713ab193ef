"""A whole cloud for the tests of the API: the real store, loop and control, a scripted engine, and one HTTP client."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from headframe.api.app import Server, create_app
from headframe.api.connections import Connection
from headframe.api.wire import Limits
from headframe.console.pages import add_console
from headframe.control.commands_tenancy import Opening, open_cloud
from headframe.control.driver import Control
from headframe.control.loop import Loop
from headframe.control.ports import LogPiece
from headframe.documents.papers import Documents
from headframe.engines.blobs import Blobs
from headframe.engines.outputs import Outputs
from headframe.engines.scripted import ScriptedEngine
from headframe.engines.storage import Storage
from headframe.engines.vault import Vault
from headframe.fleet.records import Accelerator, Cluster, Node, Region
from headframe.sim.clock import SeededRng
from headframe.store.migrations import migrate
from headframe.store.sql_store import SqlStore
from headframe.store.usage_columns import UsageColumns

GPUS = 8


class WallClock:
    """The machine's time, never going back, which a test may set forward; `moved` hears of it."""

    def __init__(self) -> None:
        self.moved: Callable[[], None] = lambda: None
        self._ahead_us = 0
        self._last = 0

    @property
    def ahead_us(self) -> int:
        return self._ahead_us

    @ahead_us.setter
    def ahead_us(self, ahead_us: int) -> None:
        self._ahead_us = ahead_us
        self.moved()

    def now_us(self) -> int:
        self._last = max(self._last, time.time_ns() // 1000 + self._ahead_us)
        return self._last


class CountedNames:
    """Identities of the real length, in order."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    def new(self, prefix: str) -> str:
        return f"{prefix}_{next(self._count):016d}"

    def secret(self) -> str:
        return hashlib.sha256(f"secret {next(self._count)}".encode()).hexdigest()


class WrittenLogs:
    """Logs that a test writes itself."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.wakes: dict[str, list[Callable[[], None]]] = {}

    def write(self, job_id: str, text: str) -> None:
        self.texts[job_id] = self.texts.get(job_id, "") + text
        for wake in list(self.wakes.get(job_id, ())):
            wake()

    def read(self, job_id: str, offset: int, limit: int) -> tuple[list[LogPiece], int]:
        text = self.texts.get(job_id, "")[offset : offset + limit]
        if not text:
            return [], offset
        return [LogPiece(offset, offset + len(text), 1, 1, 0, "stdout", text)], offset + len(text)

    def end(self, job_id: str) -> int:
        return len(self.texts.get(job_id, ""))

    def tail(self, job_id: str, lines: int) -> int:
        kept = self.texts.get(job_id, "").splitlines(keepends=True)
        return self.end(job_id) - sum(map(len, kept[len(kept) - min(lines, len(kept)) :]))

    def follow(self, job_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        self.wakes.setdefault(job_id, []).append(wake)
        return lambda: self.wakes[job_id].remove(wake)


class FilledOutputs(Outputs):
    """What jobs left, left by a test."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.data = data

    def put(self, job_id: str, path: str, content: bytes) -> None:
        place = self.data / "jobs" / job_id / "outputs" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


@dataclass
class House:
    """The cloud under test. `key` is its first key: the operator's owner."""

    app: FastAPI
    control: Control
    loop: Loop
    clock: WallClock
    engine: ScriptedEngine
    logs: WrittenLogs
    outputs: FilledOutputs
    http: httpx.Client
    opening: Opening
    store: SqlStore
    complaints: list[BaseException] = field(default_factory=list)

    @property
    def key(self) -> str:
        return self.opening.key_text

    def call(self, method: str, path: str, key: str | None = None, **more: Any) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        if key != "":
            headers.setdefault("Authorization", f"Bearer {key or self.key}")
        return self.http.request(method, path, headers=headers, **more)

    def ok(self, method: str, path: str, key: str | None = None, **more: Any) -> Any:
        answer = self.call(method, path, key, **more)
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer.json()

    def member(self, organization: str | None, role: str, name: str | None = None, **key_fields: Any) -> str:
        """The key of a new member."""
        name = name or f"{role}-{time.monotonic_ns()}"
        fields = {"name": name, "role": role, "organization": organization}
        made = self.ok("POST", "/v1/members", json=fields)
        return str(self.ok("POST", "/v1/keys", json={"name": "k", "member": made["id"], **key_fields})["key"])

    def organization(self, name: str) -> dict[str, Any]:
        return dict(self.ok("POST", "/v1/organizations", json={"name": name}))

    def submit(self, key: str | None = None, run: str = "run 1000s", **more: Any) -> dict[str, Any]:
        body = {"spec": {"run": run, **more.pop("spec", {})}, **more}
        return dict(self.ok("POST", "/v1/jobs", key, json=body))


def wait_for(condition: Callable[[], Any], what: str = "the condition", seconds: float = 10) -> Any:
    """The first true value of a condition, or a failure after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come true in {seconds} s")


@contextmanager
def open_house(folder: Path, limits: Limits | None = None) -> Iterator[House]:
    """A cloud with one node of eight pretended H100s."""
    url = f"sqlite:///{folder}/headframe.db"
    migrate(url)
    store, clock, ids = SqlStore(url), WallClock(), CountedNames()
    vault, blobs, logs, outputs = Vault(folder), Blobs(folder), WrittenLogs(), FilledOutputs(folder)
    node = Node("nod_1", "cls_1", "node-1", 64_000, 512 * 1024, 1 << 20, topology=("hall 2", "rack-1"), fake=True)
    devices = [Accelerator(f"acc_{n}", "nod_1", n, "H100", "nvidia", 81_559, fake=True) for n in range(GPUS)]
    engine = ScriptedEngine(
        [node], devices, true_us=clock.now_us, stamp_us=clock.now_us, rng=SeededRng(1)
    )  # fmt: skip
    engines = {"cls_1": engine}
    loop = Loop(store, engines, ids, vault, blobs, clock.now_us())  # type: ignore[arg-type]
    complaints: list[BaseException] = []
    loop.complain = complaints.append
    columns = UsageColumns(store, folder / "columns")
    control = Control(
        loop,
        clock,
        engines,
        store,
        logs,
        blobs,
        outputs,
        Documents(),
        columns,
        Storage(folder),  # type: ignore[arg-type]
    )
    clock.moved = loop.nudge  # who sleeps until a moment does not see that it has come
    control.start()
    stop = threading.Event()
    driver = threading.Thread(target=_drive, args=(engine, stop), daemon=True)
    driver.start()
    try:
        opening = control.run(open_cloud)
        control.run(_open_region)
        # All tests come from one address.
        app = add_console(create_app(control, clock=clock, ids=ids, limits=limits or Limits(wrong_keys=1_000_000)))
        with served(app) as url, httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
            yield House(app, control, loop, clock, engine, logs, outputs, http, opening, store, complaints)
    finally:
        stop.set()
        driver.join()
        control.close()
        store.close()
    assert not complaints, complaints


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The app behind a real server on a free port of this machine; its address."""
    server = Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=0, log_level="critical", timeout_graceful_shutdown=5, http=Connection
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started, "the server")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"


def _open_region(world: Any, context: Any) -> Any:
    from headframe.control.commands_fleet import open_cluster

    return open_cluster(world, context, Region("reg_1", "here"), Cluster("cls_1", "reg_1", "main", "scripted"))


def _drive(engine: ScriptedEngine, stop: threading.Event) -> None:
    while not stop.wait(0.005):
        engine.advance()
