"""Batch jobs that run one short attempt after another, as runners of a relay do.

Slurm takes many times as long to start and end a batch job as a short job takes to run. So where jobs of one shape come
in numbers, a leader whose attempt has ended stays for a moment, and the next attempt of the same shape, organization
and node is handed to it in place of being submitted. Both sides want to make the same file, `next` in the folder of the
attempt that has ended: the engine to hand over, the leader to leave. One of them only can, so each knows where it is.
Whether what was handed over is ever begun is for the attempt's file `claim` to say, as always.

A leader takes nothing more once its batch job is ten seconds old: nobody's place in Slurm's queue is kept for long, and
the time limit of a partition comes no closer than that. Jobs with a limit of their own are not handed over.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from headframe.engines.slurm_held import Shape

LOOKS, LOOK_S = 20, 0.025  # how often a leader looks whether there is more, and the pause between (slurm_leader.bash)
REST_S = LOOKS * LOOK_S
MANY, WITHIN_S = 4, 5.0  # so many launches of a shape within this time, and leaders stay
HEARD_S = 60.0  # how long ago a leader was heard at the latest: where none is, ends are seen too late for all this
SHAPES = 500


@dataclass(frozen=True, slots=True)
class Seat:
    """A leader that may still be there: the folder of the attempt that it ran, and its batch job."""

    folder: Path
    number: str
    name: str
    since: float


class Relay:
    """Every call may come from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seats: dict[Shape, deque[Seat]] = {}
        self._launches: dict[Shape, deque[float]] = {}
        self._heard_at: float | None = None

    def heard(self) -> None:
        """A leader has spoken to us."""
        self._heard_at = time.monotonic()

    def looks(self, shape: Shape) -> int:
        """One of this shape is launched; how often its leader is to look for more when it has ended."""
        now = time.monotonic()
        with self._lock:
            launches = self._launches.pop(shape, None) or deque(maxlen=MANY)
            self._launches[shape] = launches  # those that come no more are first
            launches.append(now)
            while len(self._launches) > SHAPES:
                del self._launches[next(iter(self._launches))]
            many = len(launches) == MANY and now - launches[0] < WITHIN_S
        return LOOKS if many and self._heard_at is not None and now - self._heard_at < HEARD_S else 0

    def offer(self, shape: Shape, folder: Path, number: str, name: str) -> None:
        """An attempt has ended whose leader stays."""
        now = time.monotonic()
        with self._lock:
            seats = self._seats.setdefault(shape, deque())
            seats.append(Seat(folder, number, name, now))
            self._seats = {
                one: waiting for one, waiting in self._seats.items() if waiting and now - waiting[-1].since < REST_S
            }

    def take(self, shape: Shape, allocation_id: str, looks: int, folder: Path) -> Seat | None:
        """Hand an attempt to a leader that waits; None when there is none."""
        while True:
            with self._lock:
                seats = self._seats.get(shape)
                if not seats:
                    self._seats.pop(shape, None)
                    return None
                seat = seats.popleft()
            if time.monotonic() - seat.since < REST_S and _hand(seat.folder, f"{allocation_id} {looks} {folder}\n"):
                return seat


def _hand(folder: Path, line: str) -> bool:
    """Whether it is with the leader now, if that lives."""
    try:
        handle = os.open(folder / "next", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError:
        return False  # it has left
    try:
        said = os.fsencode(line)
        return os.write(handle, said) == len(said)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            os.close(handle)
