"""A real server for tests: started, killed and started again by process id; nothing of it is left afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headframe.cli import demo_checks
from headframe.client import ENDED, Client

WAIT_S = 40
HEADFRAME = [sys.executable, "-m", "headframe.cli.main"]
Row = dict[str, Any]


def until(look: Callable[[], Any], seconds: float = WAIT_S) -> Any:
    """What `look` gives once it is something; fails when that takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return found


def follow(client: Client, job_id: str) -> tuple[list[str], threading.Thread]:
    """Follow a log: what comes of it, once something has, and the thread that ends with it."""
    came: list[str] = []
    follower = threading.Thread(
        target=lambda: came.extend(piece["text"] for piece in client.logs(job_id, follow=True)), daemon=True
    )
    follower.start()
    until(lambda: len(came) > 3)
    return came, follower


def born(pid: int) -> int | None:
    """When a process was started, in ticks since boot; None when it is gone. Tells two with one number apart."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


class Running:
    """`headframe serve` on a data folder of its own."""

    def __init__(self, root: Path, *, fake_gpus: str = "H100:2", data: Path | None = None, **env: str) -> None:
        self.root, self.data = root, data or root / "data"
        self.fake_gpus = fake_gpus
        self.port = "0"
        self.key = ""
        self.starts = 0
        own = {name: value for name, value in os.environ.items() if not name.startswith("HEADFRAME_")}
        self.env = {**own, "PYTHONWARNINGS": "error", "XDG_CONFIG_HOME": str(root / "config"), **env}
        self.server: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []

    # Its life

    def launch(self, *words: str) -> subprocess.Popen[bytes]:
        """Start it without waiting; what it says goes to serve.<n>.log in the root."""
        self.starts += 1
        self.log = self.root / f"serve.{self.starts}.log"
        options = ["--data", str(self.data), "--port", self.port, "--fake-gpus", self.fake_gpus, *words]
        with self.log.open("wb") as log:
            self.server = subprocess.Popen([*HEADFRAME, "serve", *options], env=self.env, stdout=log, stderr=log)
        return self.server

    def start(self, *words: str) -> Running:
        self.launch(*words)
        self.wait_up()
        return self

    def wait_up(self) -> None:
        assert self.server is not None
        server = self.server

        def serves() -> re.Match[str] | None:
            text = self.log.read_text()
            assert server.poll() is None, text
            return re.search(r"serves at http://127.0.0.1:(\d+) ", text)

        self.port = until(serves)[1]
        if found := re.search(r"^  (hf_\S+)$", self.log.read_text(), re.MULTILINE):
            self.key = found[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str = "", patience_s: float = 30.0) -> Client:
        """A client of the operator, or of another key. Closed with the server."""
        client = Client(self.url, key or self.key, patience_s=patience_s)
        self._clients.append(client)
        return client

    def kill(self) -> None:
        """`kill -9` of the server."""
        assert self.server is not None
        self.server.kill()
        self.server.wait(WAIT_S)

    def agents(self) -> list[int]:
        """The agents of the data folder."""
        return [pid for pid, words, _ in _processes() if "headframe.engines.agent" in words and str(self.data) in words]

    def kill_agents(self) -> list[int]:
        killed = self.agents()
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: all(born(pid) is None for pid in killed))
        return killed

    def kill_all(self) -> None:
        """`kill -9` of every process of Headframe; jobs go on."""
        assert self.server is not None
        self.server.kill()
        self.kill_agents()
        self.server.wait(WAIT_S)

    def stop(self) -> None:
        """End the server in order."""
        if self.server is not None and self.server.poll() is None:
            self.server.terminate()
            self.server.wait(WAIT_S)

    def clear(self) -> None:
        """End everything, tasks too."""
        for client in self._clients:
            client.close()
        self.stop()
        self.kill_agents()
        for pid, words, cwd in _processes():
            mine = cwd.startswith(f"{self.data}/") or any(word.startswith(f"{self.data}/") for word in words)
            if mine and pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def outputs(self, job_id: str) -> Path:
        """Where a job's outputs lie on this machine."""
        return self.data / "jobs" / job_id / "outputs"


def _processes() -> list[tuple[int, list[str], str]]:
    """(process id, command line, working folder) of all that can be seen."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
            cwd = ""
            with contextlib.suppress(OSError):
                cwd = os.readlink(place / "cwd")
            found.append((int(place.name), words, cwd))
    return found


def end_of(client: Client, job_id: str) -> Row:
    """The job once it has ended; fails when that takes too long."""
    found: Row = {}

    def ended() -> bool:
        found.update(client.job(job_id))
        return found["state"] in ENDED

    until(ended)
    return found


def log_text(client: Client, job: str, stream: str = "stdout") -> str:
    return "".join(piece["text"] for piece in client.logs(job) if piece["stream"] == stream)


def numbers(text: str) -> list[int]:
    """The numbers of lines `line <n>...`."""
    return [int(found) for found in re.findall(r"^line (\d+)", text, re.MULTILINE)]


def kinds(client: Client, job_id: str) -> list[str]:
    return [event["kind"] for event in client.story(job_id)["events"]]


def told(client: Client, job_id: str) -> str:
    """All that a job's story says in words."""
    return "\n".join(event["reason"] for event in client.story(job_id)["events"])


def check_books(running: Running) -> None:
    """What must hold of money when all has ended, whatever was killed: usage records tile what was held, the ledger
    sums to zero, and every charge is what the stories and the price list make of it."""
    client = running.client()
    houses = [house["id"] for house in client.organizations()]
    jobs = [job["id"] for house in houses for job in client.jobs(limit=None, organization=house) if not job["parent"]]
    until(lambda: all(held["settled"] for job in jobs for held in client.story(job)["allocations"]))
    stories, prices = [client.story(job) for job in jobs], client.prices()
    data = running.data
    with contextlib.closing(sqlite3.connect(f"file:{data}/headframe.db?mode=ro", uri=True)) as store:
        tiles: dict[str, list[tuple[int, int]]] = {}
        for allocation, from_us, to_us in store.execute(
            "SELECT allocation_id, from_us, to_us FROM usage_records ORDER BY allocation_id, from_us"
        ):
            tiles.setdefault(allocation, []).append((from_us, to_us))
        held = store.execute("SELECT id, held_us, released_us, settled FROM allocations").fetchall()
        balances: Counter[str] = Counter()
        for debit, credit, amount in store.execute("SELECT debit, credit, amount_nano FROM transfers"):
            balances[debit] += amount
            balances[credit] -= amount
        charged = dict(store.execute("SELECT job_id, sum(amount_nano) FROM charges GROUP BY job_id"))
    for allocation, held_us, released_us, settled in held:
        pieces = tiles.pop(allocation, [])
        assert settled, f"{allocation} is not settled"
        edges = [held_us, *(end for _, end in pieces)]
        assert [begin for begin, _ in pieces] == edges[:-1], f"the records of {allocation} leave a gap or overlap"
        assert edges[-1] == released_us, f"the records of {allocation} end before it does"
    assert not tiles, "records of what was never held"
    assert sum(balances.values()) == 0
    owed: Counter[str] = Counter()
    for one in demo_checks.bill(stories, prices):
        owed[one.job_id] += one.amount_nano
    assert {job: amount for job, amount in owed.items() if amount} == charged
    assert sum(amount for name, amount in balances.items() if name.startswith("revenue:")) == -sum(charged.values())
