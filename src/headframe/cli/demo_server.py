"""The demonstration's own server: started, killed and started again as a person would, by its process ids."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from headframe.base.errors import CallerError, DemoFailed

PRETENDED = "H100:8"
_START_S = 60.0
_STOP_S = 20.0
_KEY = re.compile(r"\bhf_[A-Za-z0-9_-]{20,}")


def until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition; raises `DemoFailed` when it does not come about in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise DemoFailed(f"{what} did not come about within {seconds:g} s.")
        time.sleep(0.02)


def started_ticks(pid: int) -> int | None:
    """When a process was started, in the kernel's ticks since boot; None when it is gone. Two processes that had the
    same number at different times differ in it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def environment(**more: str) -> dict[str, str]:
    """This environment without what would steer Headframe elsewhere, such as the address of another cloud."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HEADFRAME_")} | more


def program(*words: str) -> list[str]:
    """The command line of this very Headframe."""
    return [sys.executable, "-m", "headframe.cli.main", *words]


class Card:
    """What the demonstration remembers in its data folder: that the folder is its own, and the keys of its cloud."""

    def __init__(self, data: Path) -> None:
        self.path = data / "demo.json"
        self.fields: dict[str, str] = {}
        if self.path.exists():
            self.fields = json.loads(self.path.read_text("utf-8"))
        elif (data / "headframe.db").exists():
            raise CallerError(
                f"The data folder {data} holds a cloud that is not the demonstration's, which kills its server.",
                next_step="Choose another folder with --data, or unset HEADFRAME_DATA.",
            )

    def save(self, **fields: str) -> None:
        self.fields |= fields
        fresh = self.path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self.fields, file)
        fresh.replace(self.path)


class Server:
    """One `headframe serve` on the demonstration's data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.log = data / "demo-server.log"
        self.url = ""
        self.first_key = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, on the same port as before when there was one, and wait until it answers."""
        port = self.url.rpartition(":")[2] or "0"
        handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            self.process = subprocess.Popen(
                program("serve", "--data", str(self.data), "--fake-gpus", PRETENDED, "--port", port),
                stdin=subprocess.DEVNULL, stdout=handle, stderr=handle, env=environment(), start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(handle)
        until(self._is_up, _START_S, "An answer of the server")
        found = _KEY.search(self.log.read_text("utf-8", "replace"))
        if found:
            self.first_key = found[0]
            os.truncate(self.log, 0)  # the key belongs in no log

    def _is_up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            said = self.log.read_text("utf-8", "replace").strip()[-2000:]
            raise DemoFailed(
                f"The server ended with exit code {self.process.returncode}: {said}",
                next_step="Mend what it says; `headframe doctor` checks this machine.",
            )
        card = _card(self.data)
        if card.get("pid") != self.process.pid:
            return False
        self.url = str(card["url"])
        return b"Headframe serves at" in self.log.read_bytes()

    def kill_all(self) -> list[tuple[int, str]]:
        """`kill -9` of every Headframe process on the data folder: (process id, what it was)."""
        assert self.process is not None
        killed = [(self.process.pid, "server"), *((pid, "agent") for pid in agents(self.data))]
        for pid, _ in killed:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        until(lambda: all(started_ticks(pid) is None for pid, _ in killed), _STOP_S, "The end of what was killed")
        return killed

    def stop(self) -> None:
        """End the server and the agent in order. Jobs, if any, would go on."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.terminate()
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
        for pid in agents(self.data):
            _end(pid)


def stop_older(data: Path) -> int | None:
    """End the server that an earlier demonstration left running: its process id, None when there is none."""
    pid = _card(data).get("pid")
    if not isinstance(pid, int) or not _is(pid, "serve", str(data)):
        return None
    _end(pid)
    return pid


def agents(data: Path) -> list[int]:
    """The process ids of the agents of a data folder."""
    return [pid for pid in _pids() if _is(pid, "headframe.engines.agent", str(data.resolve()))]


def _card(data: Path) -> dict[str, object]:
    """Where the server of a data folder is, as it wrote it; empty when there is none."""
    try:
        found = json.loads((data / "server.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _pids() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def _is(pid: int, word: str, data: str) -> bool:
    """Whether a process is a Headframe of this folder: by the words of its command line."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return False
    return word in words and any(one == "--data" and other == data for one, other in itertools.pairwise(words))


def _end(pid: int) -> None:
    """SIGTERM, and SIGKILL when that does not end it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(DemoFailed):
            until(lambda: started_ticks(pid) is None, _STOP_S, "The end of a process")
            return
        os.kill(pid, signal.SIGKILL)
        until(lambda: started_ticks(pid) is None, _STOP_S, "The end of a process")
