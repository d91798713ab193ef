"""How jobs end in Slurm, in words: what its states mean for an exit code, a fault and a story."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

from headframe.engines.slurm_calls import Ended
from headframe.engines.slurm_held import KILLED, Held
from headframe.engines.slurm_plain import read_plain
from headframe.fleet.engine_words import Launch, Seen
from headframe.workloads.sbatch_values import span

BY_HAND = "It was cancelled in Slurm, not by Headframe."
TERMED = 128 + signal.SIGTERM
SIGNALLED = (TERMED, KILLED)
# What Slurm says of a job's end -> exit code and what to say of it.
WHY = (
    ("CANCELLED", (TERMED, BY_HAND)),
    ("TIMEOUT", (TERMED, "Slurm ended it: a time limit of its partition was reached.")),
    ("DEADLINE", (TERMED, "Slurm ended it: its deadline was reached.")),
    ("OUT_OF_ME", (KILLED, "out of memory: Slurm ended it at its limit")),
)
# Reasons to wait that do not pass by themselves.
NEVER = ("BadConstraints", "PartitionNodeLimit", "PartitionTimeLimit", "InvalidAccount", "InvalidQOS", "JobHeldAdmin",
         "launch failed requeued held")  # fmt: skip

TOO_LONG = ("PartitionTimeLimit", "time limit is invalid", "Invalid time-min")


def too_long(launch: Launch | None, said: str) -> str:
    """What to say when Slurm minds how long the job may run; "" when it minds something else."""
    longest_us = launch.work.get("max_duration_us") if launch is not None else None
    if not longest_us or not any(words in said for words in TOO_LONG):
        return ""
    why = f"It may run for {span(longest_us // 1_000_000)}, and Slurm's partition ends jobs sooner."
    return f"{why} Give it a shorter max_duration, or another cluster."


def lost(told: Ended | None) -> str:
    """Why an attempt is lost."""
    if told is not None and told.state == "PREEMPTED":
        return "Slurm preempted it for others of its users."
    return f"{where(told)} failed ({told.state if told is not None else 'unknown'})."


def where(told: Ended | None) -> str:
    """The node, by name where it is known."""
    return f"Node {told.nodes}" if told is not None and told.nodes else "Its node"


def tail(path: Path) -> str:
    """The last line of a batch job's own output, for a story."""
    with contextlib.suppress(OSError):
        lines = [line for line in read_plain(path.parent, path.name)[0].splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""
    return ""


def by_itself(end: dict[str, Any]) -> bool:
    """Whether its leader wrote down this end and goes on: it does not when Slurm was told to end the batch job, and it
    is not there for what never began."""
    return end["seen"] == Seen.EXITED.value and end["exit_code"] not in SIGNALLED


def named_after(held: Held, detail: str) -> str:
    """What Slurm did to a batch job, for an attempt that it is not named after: who did that may have meant another."""
    if not held.batch or not detail:
        return detail
    return f"{detail} It ran in the batch job {held.number}, which has the name of one that ran there before it."
