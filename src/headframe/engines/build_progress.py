"""How far the build of an environment is: read from what uv prints, and from what lies in the environment already."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from headframe.base.progress import Progress

LOOK_SECONDS = 0.25  # how often it is counted what is installed
PAUSE_SECONDS = 0.2  # between two reports of the same step
MOST_REPORTS = 2000  # of one build: they lie in the job's log
_SHOWN_NAMES = 3
_COUNT = re.compile(r"(Resolved|Prepared|Installed) ([0-9]{1,6}) packages?\b")
_BEGIN = re.compile(r"(Downloading|Building) (\S{1,100})(?: \(([0-9.]{1,10})(B|KiB|MiB|GiB)\))?")
_END = re.compile(r"(Downloaded|Built) (\S{1,100})")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class BuildProgress:
    """Follows one `uv pip install` into `folder` and tells each step. `end` must be called in the end."""

    def __init__(self, folder: Path, tell: Callable[[Progress], None]) -> None:
        self._folder, self._tell = folder, tell
        self._packages = 0  # resolved
        self._announced: dict[str, int] = {}  # bytes of the downloads that uv names (the large ones)
        self._waiting: dict[str, None] = {}  # names that are being fetched or built
        self._step = Progress("resolving packages")
        self._told_s = 0.0
        self._reports = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._report(self._step)
        self._thread = threading.Thread(target=self._look, name="build-progress", daemon=True)
        self._thread.start()

    def line(self, text: str) -> None:
        """A line that uv printed."""
        text = text.strip()
        with self._lock:
            if match := _COUNT.match(text):
                self._counted(match[1], int(match[2]))
            elif match := _BEGIN.match(text):
                self._waiting[match[2]] = None
                if match[3]:
                    self._announced[match[2]] = int(float(match[3]) * _BYTES[match[4]])
                self._fetching()
            elif match := _END.match(text):
                self._waiting.pop(match[2], None)
                self._fetching()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _counted(self, word: str, count: int) -> None:
        if word == "Resolved":
            self._packages = count
            self._report(Progress("fetching packages"))
        elif word == "Prepared":
            self._report(Progress("installing", 0, self._packages))
        else:
            self._report(Progress("installing", self._packages, self._packages))
            self._report(Progress("compiling"))

    def _fetching(self) -> None:
        """The names under way, and how much of what was announced has come. Only whole downloads are counted."""
        names = list(self._waiting)
        what = ", ".join(names[:_SHOWN_NAMES]) + (f" and {len(names) - _SHOWN_NAMES} more" if names[3:] else "")
        total = sum(self._announced.values())
        done = sum(size for name, size in self._announced.items() if name not in self._waiting)
        self._report(Progress(f"fetching {what or 'packages'}", done, total, "bytes"))

    def _look(self) -> None:
        """Count what is installed while uv prints nothing."""
        while not self._over.wait(LOOK_SECONDS):
            there = sum(1 for _ in self._folder.glob("lib/python3.*/site-packages/*.dist-info"))
            with self._lock:
                if self._step.what != "compiling" and self._packages and 0 < there <= self._packages:
                    self._report(Progress("installing", there, self._packages))

    def _report(self, step: Progress) -> None:
        now = time.monotonic()
        same = step.what == self._step.what
        finished = step.done == step.total
        if self._reports and (step == self._step or (same and not finished and now - self._told_s < PAUSE_SECONDS)):
            return
        if self._reports < MOST_REPORTS:
            self._step, self._told_s = step, now
            self._reports += 1
            self._tell(step)
