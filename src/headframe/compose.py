"""The one place where real adapters are built and handed in: the clock, identities, store, engines, server."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headframe.base.changes import Changes
from headframe.base.errors import AlreadyRunning, ChangingOver, Invalid, StoreFailed
from headframe.control.commands_fleet import open_cluster
from headframe.control.commands_prices import default_price_changes
from headframe.control.commands_tenancy import open_cloud
from headframe.control.context import Context
from headframe.control.driver import ANSWER_TIMEOUT_S, Control
from headframe.control.loop import Loop
from headframe.control.ports import Engine
from headframe.control.steady import Steady, on_record_us
from headframe.control.world import World
from headframe.documents.papers import Documents
from headframe.engines import homes, registry
from headframe.engines.blobs import Blobs
from headframe.engines.homes import Home
from headframe.engines.local import LocalEngine, LocalLogs
from headframe.engines.machine import CLUSTER, REGION
from headframe.engines.outputs import Outputs
from headframe.engines.storage import Storage
from headframe.engines.vault import Vault
from headframe.fleet.records import Cluster, Node, Region
from headframe.settings import Settings, from_options
from headframe.store.claim import Claim
from headframe.store.database import parse_url
from headframe.store.migrations import migrate as migrate_store
from headframe.store.sql_store import SqlStore
from headframe.store.usage_columns import UsageColumns
from headframe.tenants.records import Organization

LOG = logging.getLogger("headframe")
FIRST_REPORT_S = 10.0  # how long `serve` waits for the machine to be known before it says that it is up
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32


def machine_us() -> int:
    """The machine's clock, in microseconds since 1970."""
    return time.time_ns() // 1000


class MachineIds:
    """Identities of 80 bits: milliseconds since 1970, then chance; they only grow, also within a millisecond."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def new(self, prefix: str) -> str:
        with self._lock:
            fresh = (time.time_ns() // 1_000_000 << 35) | secrets.randbits(35)
            self._last = value = max(fresh, self._last + 1)
        return f"{prefix}_{''.join(_ALPHABET[value >> shift & 31] for shift in range(75, -1, -5))}"

    def secret(self) -> str:
        return secrets.token_urlsafe(32)


@dataclass(slots=True)
class Cloud:
    """A running cloud without its HTTP server: `control` is what the API speaks to."""

    settings: Settings
    control: Control
    clock: Steady
    ids: MachineIds
    engine: LocalEngine
    first_key: str | None
    secret: str  # by which it knows the other servers of its store

    def wait_for_machine(self, timeout_s: float = FIRST_REPORT_S) -> bool:
        """Wait until the engine's first report is on record; False when it does not come in time."""
        known = threading.Event()
        end = self.control.subscribe(lambda _: known.set())
        deadline = time.monotonic() + timeout_s
        while not self.control.ask(_machine_known) and time.monotonic() < deadline:
            known.wait(0.05)
            known.clear()
        end()
        return bool(self.control.ask(_machine_known))


def _machine_known(world: World, _: Context) -> bool:
    return any(node.cluster_id == CLUSTER for node in world.all(Node).values())


@contextlib.contextmanager
def cloud(settings: Settings, claim: Claim, url: str) -> Iterator[Cloud]:
    """Open the data folder and run its cloud until the block ends; the jobs go on. Other servers reach it at `url`.

    Raises `AlreadyRunning` while another server decides.
    """
    with _only_one(settings.data), _claimed(claim):
        _keep_private(settings)
        migrate_store(settings.url)
        ids = MachineIds()
        secret = ids.secret()
        term = claim.begin(url, secret, machine_us())
        store = SqlStore(settings.url)
        store.decide_in(term)
        try:
            clock = Steady(machine_us, on_record_us(store))
            engine = LocalEngine(
                settings.data, fake_gpus=settings.fake_gpus, log_bound=settings.log_limit_mib << 20,
                disk_bound=settings.job_disk_mib << 20,
            )  # fmt: skip
            if term > 1 and not (settings.data / "vault.key").exists():
                LOG.warning("The store is older than the data folder %s: logs, uploads and secrets lie in another one.",
                            settings.data)  # fmt: skip
            vault, blobs = Vault(settings.data), Blobs(settings.data, house_bytes=settings.uploads_mib << 20)
            blobs.clear()
            others = _homes(settings)
            engines: dict[str, Engine] = {CLUSTER: engine}
            engines |= {home.cluster.id: registry.FACTORIES[home.cluster.engine](home) for home in others}
            loop = Loop(
                store, engines, ids, vault, blobs, clock.now_us(), isolation=settings.isolation,
                grace_us=settings.invoice_grace_us, rules=settings.rules,
            )  # fmt: skip
            loop.complain = _complain
            control = Control(
                loop, clock, engines, store, LocalLogs(settings.data, *engines.values()), blobs, Outputs(settings.data),
                Documents(), UsageColumns(store, settings.data / "columns"), Storage(settings.data), settings.keep,
            )  # fmt: skip
            opened = _open(loop, others)
            control.start()
            try:
                for one in opened:
                    one.result(timeout=ANSWER_TIMEOUT_S)
                yield Cloud(settings, control, clock, ids, engine, control.run(_first_light), secret)
            finally:
                control.close()
        finally:
            store.close()


def _complain(error: BaseException) -> None:
    over = isinstance(error, ChangingOver)  # not a defect: it says all that there is to know
    LOG.error("The loop failed and goes on from the store: %s", error, exc_info=None if over else error)


@contextlib.contextmanager
def _claimed(claim: Claim) -> Iterator[None]:
    claim.take()
    try:
        yield
    finally:
        claim.release()


def _homes(settings: Settings) -> tuple[Home, ...]:
    """The clusters besides this machine."""
    file = Path(settings.clusters).expanduser() if settings.clusters else settings.data / homes.FILE
    if not settings.clusters and not file.exists():
        return ()
    engines = [name for name in registry.FACTORIES if name != LocalEngine.name]  # this machine is there already
    return homes.read_homes(file, settings.data, engines, taken=("local",))


def _open(loop: Loop, others: Sequence[Home]) -> list[Future[Any]]:
    """Have the clusters put on record in the first tick, before any report of their engines is heard."""
    here = Region(REGION, "local"), Cluster(CLUSTER, REGION, "local", "local")
    places = [here, *((home.region, home.cluster) for home in others)]
    return [loop.run(open_cluster, region, cluster) for region, cluster in places]


def _first_light(world: World, context: Context) -> tuple[Changes, str | None]:
    """In a new cloud its operator and prices; the first key is told this once."""
    if world.all(Organization):
        return Changes(), None
    changes, opening = open_cloud(world, context)
    return changes + default_price_changes(context.now_us, opening.organization.id), opening.key_text


@contextlib.contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Hold the data folder: a second server on it is refused."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Invalid(
            f"The data folder {data} cannot be used: {error.strerror}.",
            field="--data", value=str(data), next_step="Choose a folder that this user may write: --data FOLDER.",
        ) from None  # fmt: skip
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
            raise AlreadyRunning(
                f"Another Headframe (process {holder or 'unknown'}) runs on the data folder {data}.",
                next_step="Use that one, stop it, wait for its end with --standby, "
                "or choose another folder with --data.",
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _keep_private(settings: Settings) -> None:
    """Let nobody else read the database, also where others may pass the data folder, as tasks without a sandbox must.
    SQLite gives the files beside it the same mode."""
    address = parse_url(settings.url)
    if address.get_backend_name() != "sqlite" or not address.database:
        return
    place = Path(address.database)
    try:
        os.close(os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if not settings.store_url:  # elsewhere it is the operator's, once it is there
            for each in sorted(settings.data.glob("headframe.db*")):
                each.chmod(0o600)
    except OSError as error:
        raise StoreFailed(
            f"The database {place} cannot be used: {error.strerror}.",
            next_step="Check who owns the data folder and may write there.",
        ) from error


def audit(options: Mapping[str, Any], month: str | None) -> dict[str, Any]:
    """Hold the books of a store against its events, beside a running server or without one; changes nothing."""
    from headframe.sim.auditor import audit as audit_books

    store = SqlStore(from_options(options).url)
    try:
        return audit_books(store, month).told()
    finally:
        store.close()


def migrate(options: Mapping[str, Any]) -> int:
    """Bring the store's tables to this version; says what it did."""
    settings = from_options(options)
    with _only_one(settings.data):
        _keep_private(settings)
        done = migrate_store(settings.url)
    print("\n".join(f"Applied {step}." for step in done) if done else "The store is up to date.")
    return 0
