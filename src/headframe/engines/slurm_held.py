"""An allocation on a Slurm cluster: what the engine keeps of it on disk, and what its leader has written down.

The leader's notes lie on the shared file system and say how an attempt goes, whatever the controller says or forgets.
Their moments are those of the file system, one clock for all nodes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headframe.engines import checkpoints
from headframe.engines.agent_state import Folders, Status, now_us, safe, status_of
from headframe.engines.slurm_plain import open_plain, read_plain
from headframe.fleet.engine_words import Launch, Observation, Seen
from headframe.fleet.records import Slice

BARRED = "barred\n"
SET_UP_FAILED = 1  # the end of a sandbox program that could not make the sandbox; that of a task it says otherwise
TICK_US = 10_000  # of what Linux tells programs of time that was used
_USED = re.compile(r'"cpu-ticks": (\d{1,12}), "peak-kib": (\d{1,12})')
_NODES = re.compile(r"[A-Za-z0-9_.,\[\]-]{1,10000}")
Shape = tuple[object, ...]  # what batch jobs have in common of which one can take over the next one's work
KILLED = 128 + signal.SIGKILL
_KEPT = (
    "allocation_id", "generation", "job_id", "organization_id", "name", "ranks", "sandboxed", "keep", "asked", "sent",
    "number", "batch", "at_us", "running_us", "story", "resumed_from", "stop", "end", "places",
)  # fmt: skip


@dataclass(slots=True)
class Held:
    """An allocation, from its launch until it is forgotten.

    `asked` is what Slurm was asked for on each node, by node id: [CPUs, MiB, GPUs]. `sent` says that it has been
    submitted, or may have been; `number` is Slurm's, "" while that is not known; `batch` is the name of the batch job
    that runs it where that is another's (see `slurm_relay`). `stop`: {"signal", "deadline_us", "why"}. `places` are the
    nodes where Slurm put it.
    """

    allocation_id: str
    generation: int
    job_id: str
    organization_id: str
    name: str
    ranks: list[int]
    sandboxed: bool
    keep: int
    asked: dict[str, list[int]]
    sent: bool = False
    number: str = ""
    batch: str = ""
    at_us: int = 0
    running_us: int = 0
    story: list[str] = field(default_factory=list)
    resumed_from: str = ""
    stop: dict[str, Any] | None = None
    end: dict[str, Any] | None = None
    places: str = ""
    # What a later server finds out anew.
    launch: Launch | None = field(default=None, repr=False)
    prepared: Any = field(default=None, repr=False)
    cancelled: bool = False  # before it was submitted
    submitting: bool = False
    ending: bool = False
    asking_why: bool = False
    why_tries: int = 0
    unclear_since: float | None = None  # no answer to a submission, or a job that the controller knows no more
    pending_since: float | None = None
    fenced_since: float | None = None
    gone_since: float | None = None
    lost: str = ""  # with which node
    shape: Shape = ()
    rests: bool = False  # its leader stays for a moment when it has ended
    hinted: bool = False  # its leader has spoken
    handed_since: float | None = None  # to the leader of another, which has yet to take it

    @property
    def active(self) -> bool:
        return self.end is None

    @property
    def slurm_name(self) -> str:
        """The name of the batch job that runs it."""
        return self.batch or self.name

    def save(self, folder: Path) -> None:
        path = folder / f"{safe(self.allocation_id)}.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({name: getattr(self, name) for name in _KEPT}))
        fresh.replace(path)

    def drop(self, folder: Path) -> None:
        (folder / f"{safe(self.allocation_id)}.json").unlink(missing_ok=True)

    def observe(self, folders: Folders, full: bool) -> Observation:
        """What is seen of it now. `full` looks for checkpoints, too."""
        saved_us = None
        if full and self.keep:
            with contextlib.suppress(OSError):
                saved_us = checkpoints.newest_us(folders.job(self.job_id) / "checkpoints")
        seen = Observation(
            self.allocation_id, self.generation, Seen.RUNNING if self.running_us else Seen.PREPARING,
            self.running_us or self.at_us, running_us=self.running_us or None, resumed_from=self.resumed_from,
            checkpoint_us=saved_us, story=tuple(self.story), pid=int(self.number) if self.number.isdigit() else None,
        )  # fmt: skip
        return seen if self.end is None else replace(seen, **(self.end | {"seen": Seen(self.end["seen"])}))


def slice_sums(launch: Launch) -> dict[str, Slice]:
    """What the launch needs of each node, all its tasks there together; by node id, in the order of ranks."""
    sums: dict[str, Slice] = {}
    for piece in sorted(launch.slices, key=lambda one: one.rank):
        known = sums.get(piece.node_id)
        sums[piece.node_id] = piece if known is None else replace(
            known, cpu_milli=known.cpu_milli + piece.cpu_milli, memory_mib=known.memory_mib + piece.memory_mib,
            shares=known.shares + piece.shares,
        )  # fmt: skip
    return sums


def hold(launch: Launch, prefix: str, sandboxed: bool) -> Held:
    """What is held of a launch that has just come."""
    wanted = launch.work.get("checkpoints")
    asked = {}
    for node_id, sums in slice_sums(launch).items():
        indices = [share.index for share in sums.shares]
        asked[node_id] = [max(1, -(-sums.cpu_milli // 1000)), max(1, sums.memory_mib), len(indices), *indices]
    return Held(
        launch.allocation_id, launch.generation, launch.job_id, launch.organization_id,
        f"{prefix}-{launch.allocation_id}-{launch.generation}", sorted(piece.rank for piece in launch.slices),
        sandboxed, int(wanted["keep"]) if wanted else 0, asked, at_us=now_us(), launch=launch,
    )  # fmt: skip


def load(folder: Path) -> tuple[list[Held], list[str]]:
    """All that are kept, in order of their ids, and the files that cannot be read (moved aside)."""
    held, damaged = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            held.append(Held(**json.loads(path.read_text())))
        except (ValueError, TypeError):
            path.replace(path.with_suffix(".damaged"))
            damaged.append(path.name)
    return held, damaged


@dataclass(slots=True)
class Notes:
    """What an attempt's leader wrote: the batch job that runs it (`batch`: its name), its nodes, when all tasks had
    begun (0: they have not), how each ended that has (`over`), which failed first, and its last sign of life."""

    number: str = ""
    nodes: str = ""
    batch: str = ""
    begun_us: int = 0
    over: dict[int, Status] = field(default_factory=dict)
    failed: int | None = None
    alive_us: int = 0


def read_notes(folder: Path, ranks: list[int]) -> Notes:
    """The notes in an attempt's folder, as far as they can be read."""
    notes = Notes()
    with contextlib.suppress(OSError):
        for line in read_plain(folder, "taken")[0].splitlines():
            words = line.split()
            if words[:1] == ["job"] and len(words) >= 2 and _is_number(words[1]):
                notes.number, notes.nodes = words[1], words[2] if len(words) > 2 else ""
                notes.nodes = notes.nodes if _NODES.fullmatch(notes.nodes) else ""
                notes.batch = words[3] if len(words) > 3 else ""
            elif words[:1] == ["failed"] and len(words) >= 2 and _is_number(words[1]) and notes.failed is None:
                notes.failed = int(words[1])
    if not notes.number:
        return notes
    begun: list[int] = []
    for rank in ranks:
        moment_us = _written_us(folder, str(rank), "run", "begun")
        if moment_us:
            begun.append(moment_us)
        with contextlib.suppress(OSError):
            text, at_us = read_plain(folder, str(rank), "run", "status")
            if '"over"' in text:
                notes.over[rank] = status_of(text, at_us)
    notes.begun_us = max(begun) if len(begun) == len(ranks) else 0
    return notes


def used(folder: Path, ranks: list[int]) -> dict[str, int]:
    """What an attempt that is over used, as `Observation.use` tells it: as much as its leader had seen when it looked
    the last time, which it does each `watch`. Empty for what was shorter."""
    cpu_us = peak_mib = 0
    for rank in ranks:
        with contextlib.suppress(OSError):
            seen = _USED.search(read_plain(folder, str(rank), "run", "status")[0])
            if seen is not None:
                cpu_us, peak_mib = cpu_us + int(seen[1]) * TICK_US, max(peak_mib, -(-int(seen[2]) // 1024))
    return {"cpu_us": cpu_us, "memory_peak_mib": peak_mib} if peak_mib else {}


def last_life_us(folder: Path, ranks: list[int]) -> int:
    """The last moment at which something of an attempt is known to have lived."""
    files: list[tuple[str, ...]] = [("alive",), ("taken",)]
    files += [(str(rank), "run", name) for rank in ranks for name in ("stdout", "stderr", "begun", "status")]
    return max(_written_us(folder, *names) for names in files)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 19


def _written_us(folder: Path, *names: str) -> int:
    """When a file was written; 0 while it is empty. It is opened, so that the file server is asked."""
    with contextlib.suppress(OSError), open(open_plain(folder, *names), "rb") as file:
        seen = os.fstat(file.fileno())
        return seen.st_mtime_ns // 1000 if seen.st_size else 0
    return 0


def bar(folder: Path) -> bool:
    """Keep every batch job of an attempt from ever starting it; False when one has begun, or it cannot be done."""
    path = folder / "claim"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError:
        return False
    try:
        os.write(handle, BARRED.encode())
    except OSError:  # no room: left empty it would say that somebody has begun
        path.unlink()
        return False
    finally:
        os.close(handle)
    return True


def claimed(folder: Path) -> bool:
    """Whether a batch job has begun an attempt."""
    return claimant(folder) not in (None, BARRED.strip())


def claimant(folder: Path) -> str | None:
    """The number of the batch job that has begun an attempt: "" when it had no room to write it, None for nobody."""
    try:
        return read_plain(folder, "claim")[0].strip()
    except FileNotFoundError:
        return None
    except OSError as problem:
        if problem.errno in (errno.EINVAL, errno.ELOOP, errno.ENXIO):
            return ""  # something else was put there, and only by somebody who had begun
        raise


def order(folder: Path, line: str) -> None:
    """Add an order for the leader. The file is replaced as a whole, so that no half of a line is ever read."""
    path = folder / "orders"
    before, fresh = "", folder / "orders.new"
    with contextlib.suppress(OSError):  # a leader that can read no orders is ended by Slurm
        before, _at_us = read_plain(folder, "orders")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(handle, "w") as file:
            file.write(f"{before}{line}\n")
        fresh.replace(path)


def conclusion(held: Held, notes: Notes, skew_us: int) -> dict[str, Any]:
    """How an attempt ended all of whose tasks are over."""
    ends = {rank: _rank_end(held, seen) for rank, seen in sorted(notes.over.items())}
    at_us = max((seen.at_us - skew_us for seen in notes.over.values()), default=0) or now_us()
    bad = [rank for rank, (seen, code, _detail) in ends.items() if seen is not Seen.EXITED or code != 0]
    never = [rank for rank in bad if ends[rank][0] is not Seen.EXITED]
    first = never[0] if never else notes.failed if notes.failed in bad else bad[0] if bad else min(ends)
    seen, code, detail = ends[first]
    if detail and len(ends) > 1:
        detail = f"task {first}: {detail}"
    return {
        "seen": seen.value, "at_us": max(at_us, held.running_us), "exit_code": code, "detail": detail,
        "fault": "engine" if seen is Seen.FAILED else "job",
    }  # fmt: skip


def _rank_end(held: Held, found: Status) -> tuple[Seen, int | None, str]:
    code = found.exit_code if held.sandboxed else found.leader_code
    if code is not None:
        return Seen.EXITED, code, ""
    if held.stop is not None:
        return Seen.EXITED, KILLED, "killed"
    if found.inside is not None and found.leader_code != SET_UP_FAILED:
        # It began, and its sandbox was taken away before the end could be told.
        return Seen.EXITED, KILLED, "killed from outside of the job"
    return Seen.FAILED, None, "the sandbox could not be started on the node: see the log"
