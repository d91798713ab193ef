"""A server's life: it listens, waits for its turn where another one decides, decides, and stops."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from headframe.base.errors import AlreadyRunning, ChangingOver, StoreFailed
from headframe.compose import LOG, Cloud, MachineIds, cloud, machine_us
from headframe.control.driver import ANSWER_TIMEOUT_S, Control
from headframe.control.garbage import keep_start
from headframe.control.steady import Steady
from headframe.documents.papers import Documents
from headframe.engines.outputs import Outputs
from headframe.settings import Settings, from_options
from headframe.store.claim import Claim
from headframe.store.migrations import migrate as migrate_store
from headframe.store.sql_store import SqlStore
from headframe.store.usage_columns import UsageColumns

LOOK_S = 0.5  # how often one that stands by tries to take over
HOLD_S = 2.0  # how often one that decides looks whether it still does
MOST_FILES = 1 << 16  # open at once


def _listen(settings: Settings) -> socket.socket:
    """The listening socket, taken before anything else is opened, so that a port in use changes nothing."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise AlreadyRunning(
            f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}.",
            next_step="Stop what uses the port, or choose another with --port (0 takes a free one).",
        ) from None
    listener.listen(2048)
    return listener


def _allow_many_files() -> None:
    """Each connection, log and output takes a descriptor, and the usual limit of 1024 is soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def serve(options: Mapping[str, Any]) -> int:
    """Run a server until SIGTERM or SIGINT. Prints its address and, the very first time, the operator's key."""
    settings = from_options(options)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    listener = _listen(settings)
    _allow_many_files()
    with listener:
        duty = Duty(settings, listener.getsockname()[1])
        duty.start()
        try:
            _run_app(duty.front, listener, duty.say_why, duty.hear_end)
        finally:
            duty.end()
    if duty.failure is not None:
        raise duty.failure
    return 0


class Duty:
    """Has this server decide as soon as it may, on a thread of its own; `front` answers requests meanwhile, too."""

    def __init__(self, settings: Settings, port: int) -> None:
        from headframe.api.front import Front
        from headframe.api.wire import Limits
        from headframe.console.changeover import changeover

        self.failure: BaseException | None = None
        self._settings, self._port, self._url = settings, port, _address(settings, port)
        self._limits = Limits(figures=settings.metrics)
        self.front = Front(changeover(Steady(machine_us), MachineIds()), self._limits)
        self._ending = threading.Event()
        self._stop: Callable[[], None] = lambda: None
        self._told = ""
        self._thread = threading.Thread(target=self._run, name="headframe-duty", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Decide no longer; jobs go on."""
        self._ending.set()
        self._thread.join(timeout=ANSWER_TIMEOUT_S)

    def hear_end(self, stop: Callable[[], None]) -> None:
        """How to stop answering, should it turn out that this server may not or cannot decide."""
        self._stop = stop
        if self.failure is not None:
            stop()

    def say_why(self, why: str) -> None:
        """The last line of a server that stops in good order."""
        if self.failure is None:
            reason = f": {why}" if why else ""
            left = "Running jobs go on; `headframe serve` takes them up again." if self.front.app else "It stood by."
            print(f"Headframe stops{reason}. {left}", flush=True)

    def _run(self) -> None:
        claim = Claim(self._settings.url)
        try:
            while not self._ending.is_set():
                self._try(claim)
        except BaseException as error:
            self.failure = error
            self._stop()
        finally:
            claim.close()

    def _try(self, claim: Claim) -> None:
        """Decide, or learn who does; the one who waits for its turn takes nothing amiss."""
        try:
            with cloud(
                self._settings, claim, self._settings.advertise or _reached_at(self._settings, self._port)
            ) as it:
                self._decide(it, claim)
        except (AlreadyRunning, StoreFailed) as error:
            if not self._settings.standby:
                raise
            self._say(f"Headframe stands by at {self._url}: {error.message}")
            import_module("headframe.console.pages")  # now, so that taking over need not wait for it
            with contextlib.suppress(StoreFailed):
                self.front.way = claim.decider()
            self._ending.wait(LOOK_S)

    def _decide(self, running: Cloud, claim: Claim) -> None:
        from headframe.api import mlflow
        from headframe.api.app import create_app
        from headframe.console.pages import add_console

        known = running.wait_for_machine()
        app = add_console(create_app(running.control, clock=running.clock, ids=running.ids, limits=self._limits))
        running.control.track(f"{self._url}{mlflow.MOUNT}")
        keep_start()
        self.front.decide(app, running.secret)
        _announce(running, self._port, known)
        self._told = ""
        try:
            while not self._ending.wait(HOLD_S):
                try:
                    claim.hold()
                except ChangingOver:
                    raise
                except StoreFailed as error:  # then nothing can be written either, until the store is back
                    self._say(str(error))
        finally:
            self.front.step_down()

    def _say(self, words: str) -> None:
        """Say what is new, once."""
        if words != self._told:
            self._told = words
            print(words, flush=True)


def _run_app(
    app: Any, listener: socket.socket, stopping: Callable[[str], None],
    told_how: Callable[[Callable[[], None]], None] = lambda stop: None,
) -> None:  # fmt: skip
    """Answer requests until a signal asks for the end; `told_how` hears of the call that asks for it, too."""
    import uvicorn

    from headframe.api.app import Server
    from headframe.api.connections import Connection

    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=2, server_header=False,
        date_header=False, backlog=2048, http=Connection, ws="none",
        log_level=logging.ERROR,  # its warnings are of odd requests: anybody could fill the log with them
    )  # fmt: skip
    server = Server(config, stopping)
    keep_start()
    told_how(lambda: setattr(server, "should_exit", True))
    server.run(sockets=[listener])


def serve_example(options: Mapping[str, Any], *, seed: int, scale: int) -> int:
    """Serve the lively example until a signal; it lies in a throwaway folder, and nothing of it is left."""
    from headframe.api.app import create_app
    from headframe.console.pages import add_console
    from headframe.sim.example_cloud import ExampleCloud
    from headframe.sim.example_life import Life
    from headframe.sim.example_signs import SpokenLogs
    from headframe.sim.run import NoBlobs

    settings = from_options(options)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # by way of every `finally`, the folder's included
    listener = _listen(settings)
    with listener, tempfile.TemporaryDirectory(prefix="headframe-example-", dir=_quick_folder()) as name:
        folder = Path(name)
        url = f"sqlite:///{folder / 'headframe.db'}"
        migrate_store(url)
        store = SqlStore(url)
        print("Living through two months of an example: half a minute.", flush=True)
        example = ExampleCloud(store, Steady(machine_us, 0), seed=seed, scale=scale)
        example.live_through()
        clock, control_of = example.timeline, example.job
        control = Control(
            example.loop, clock, dict(example.engines), store, SpokenLogs(control_of, clock.now_us), NoBlobs(),
            Outputs(folder), Documents(), UsageColumns(store, folder / "columns"),
        )  # fmt: skip
        example.loop.complain = lambda error: LOG.error("The loop of the example failed.", exc_info=error)
        control.start()
        life = Life(example, control)
        life.start()
        try:
            where = _address(settings, listener.getsockname()[1])
            print(f"The example is at {where}. Nothing in it is real: its machines run nothing, its money is none.")
            print(f"Sign in as the operator with\n\n  {example.key}\n\nor as a customer with\n")
            print(f"  {example.customer_key}\n", flush=True)
            _run_app(add_console(create_app(control, clock=clock, ids=MachineIds())), listener, lambda why: None)
        finally:
            life.stop()
            control.close()
            store.close()
    return 0


def _quick_folder() -> str | None:
    """Memory, where the system offers some as a folder: what is thrown away need not reach a disk."""
    memory = Path("/dev/shm")  # noqa: S108
    return str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else None


def _address(settings: Settings, port: int) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{port}"


def _reached_at(settings: Settings, port: int) -> str:
    """Where other servers find this one, unless it is told."""
    everywhere = settings.host in ("0.0.0.0", "::", "")  # noqa: S104
    return f"http://{socket.gethostname()}:{port}" if everywhere else _address(settings, port)


def _announce(running: Cloud, port: int, known: bool) -> None:
    """Say where the server is; scripts read the same from server.json in the data folder."""
    settings = running.settings
    url = _address(settings, port)
    card = settings.data / "server.json"
    card.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    lines = [f"Headframe serves at {url} (data in {settings.data}).", f"Its console, for browsers: {url}/"]
    if not known:
        trouble = running.engine.trouble or "its agent has not answered"
        print(f"This machine is not known yet: {trouble}", file=sys.stderr)
    if settings.fake_gpus:
        lines.append(f"Pretended GPUs: {settings.fake_gpus}. Nothing runs on them; they are for trying things out.")
    if running.first_key is not None:
        lines.append(f"The operator's key, shown this once:\n\n  {running.first_key}\n")
        lines.append(f"Sign in with: headframe login --url {url} --key {running.first_key}")
    print("\n".join(lines), flush=True)  # all at once: whoever waits for the first line finds the others there
