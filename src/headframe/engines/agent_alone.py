"""How the agent becomes a program of its own, and the only one on its data folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path


def detach() -> None:
    """Become nobody's child, in a session of our own."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)


def alone(path: Path) -> bool:
    """Take the lock of the data folder, for as long as we live. One who is just leaving is waited for."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _try in range(20):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.05)
    return False
