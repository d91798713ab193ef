"""What the engine asks of a Slurm cluster, in a few verbs; here by its commands, in `slurm_rest` by slurmrestd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headframe.base.errors import ClusterDown, ClusterRefused
from headframe.engines.slurm_reach import Failed, Reach
from headframe.engines.slurm_words import (
    JOB_FORMAT,
    PASSING,
    JobRow,
    NodeRow,
    Switches,
    Version,
    job_rows,
    node_rows,
    switches,
    version_of,
)


@dataclass(frozen=True, slots=True)
class Submission:
    """One batch job. `nodes` are Slurm's names, empty where Slurm chooses; the rest is meant for each node."""

    name: str
    comment: str
    script: str = field(repr=False)
    count: int
    cpus: int
    memory_mib: int
    gres: str = ""
    nodes: tuple[str, ...] = ()
    minutes: int = 0  # 0: whatever the partition allows
    least_minutes: int = 0  # what it may be cut down to, as a partition may allow no more
    together: bool = False  # below one switch
    output: str = "/dev/null"
    user: str = ""  # "": whoever we are
    group: str = ""  # the user's, which Slurm does not look up: without it a job had ours
    partition: str = ""
    account: str = ""
    qos: str = ""
    more: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """What is on record of a job that has ended."""

    state: str
    nodes: str = ""
    reason: str = ""


class Calls(Protocol):
    """All raise `ClusterDown` when the cluster does not answer."""

    def version(self) -> Version: ...

    def submit(self, wanted: Submission) -> str:
        """Submit; returns the job's number. Raises `ClusterRefused` when it never will be taken."""
        ...

    def jobs(self) -> list[JobRow]:
        """All jobs of our users that have not ended, in one call."""
        ...

    def nodes(self) -> list[NodeRow]: ...

    def switches(self) -> Switches: ...

    def ring(self, number: str) -> None:
        """Wake the leader of a job."""
        ...

    def cancel(self, number: str, name: str) -> None:
        """End a job, if it has that name still."""
        ...

    def ended(self, numbers: Sequence[tuple[str, str]]) -> dict[str, Ended]:
        """What became of jobs (number, name) that run no more, by name; without those of which nothing is known."""
        ...

    def close(self) -> None: ...


class Commands:
    """The command line of Slurm, here or over SSH. `users`: whose jobs are ours (none: our own)."""

    def __init__(self, reach: Reach, users: Sequence[str] = ()) -> None:
        self._reach = reach
        self._whose = ["-u", ",".join(users)] if users else ["--me"]

    def _run(self, *words: str, text: str = "") -> str:
        try:
            return self._reach.run(words, text)
        except Failed as problem:
            raise ClusterDown(f"{words[0]} failed: {_short(str(problem))}") from None

    def version(self) -> Version:
        said = self._run("sbatch", "--version")
        found = version_of(said)
        if found is None:
            raise ClusterRefused(
                f"{said.strip()!r} is no version of Slurm that is supported.", next_step="Use 22.05 on."
            )
        return found

    def submit(self, wanted: Submission) -> str:
        words = ["sbatch", "--parsable", "--no-requeue", "--chdir=/", f"--job-name={wanted.name}"]
        words += [f"--comment={wanted.comment}", f"--output={wanted.output}", "--open-mode=append"]
        words += [f"--nodes={wanted.count}", "--ntasks-per-node=1", f"--cpus-per-task={wanted.cpus}"]
        words += [f"--mem={wanted.memory_mib}M"]
        words += [f"--gres={wanted.gres}"] if wanted.gres else []
        words += [f"--nodelist={','.join(wanted.nodes)}"] if wanted.nodes else []
        words += [f"--time={wanted.minutes}"] if wanted.minutes else []
        words += [f"--time-min={wanted.least_minutes}"] if wanted.least_minutes else []
        words += ["--switches=1"] if wanted.together else []
        words += [f"--uid={wanted.user}", f"--gid={wanted.group}"] if wanted.user else []
        for option in ("partition", "account", "qos"):
            words += [f"--{option}={getattr(wanted, option)}"] if getattr(wanted, option) else []
        try:
            said = self._reach.run([*words, *wanted.more], wanted.script)
        except Failed as problem:
            said = str(problem)
            if PASSING.search(said):
                raise ClusterDown(f"sbatch failed: {_short(said)}") from None
            raise ClusterRefused(f"Slurm refuses the job: {_short(said)}") from None
        number = said.strip().splitlines()[-1].partition(";")[0] if said.strip() else ""
        if not number.isdigit():
            raise ClusterDown(f"sbatch answered {_short(said)!r}.")
        return number

    def jobs(self) -> list[JobRow]:
        return job_rows(self._run("squeue", "-h", *self._whose, "-o", JOB_FORMAT))

    def nodes(self) -> list[NodeRow]:
        return node_rows(self._run("scontrol", "show", "node", "-d", "-o"))

    def switches(self) -> Switches:
        try:
            return switches(self._reach.run(["scontrol", "show", "topology", "-o"]))
        except Failed:  # a cluster without any
            return Switches()

    def ring(self, number: str) -> None:
        self._quietly("scancel", "--batch", "--signal=URG", number)

    def cancel(self, number: str, name: str) -> None:
        self._quietly("scancel", f"--name={name}", number)

    def _quietly(self, *words: str) -> None:
        """Run a command whose failure means that there is nothing left to do."""
        try:
            self._reach.run(list(words))
        except Failed as problem:
            if PASSING.search(str(problem)):
                raise ClusterDown(f"{words[0]} failed: {_short(str(problem))}") from None

    def ended(self, numbers: Sequence[tuple[str, str]]) -> dict[str, Ended]:
        wanted, found = set(numbers), dict[str, Ended]()
        listed = ",".join(sorted({number for number, _name in numbers}))
        try:
            for row in job_rows(self._reach.run(["squeue", "-h", "-t", "all", "-j", listed, "-o", JOB_FORMAT])):
                if (row.id, row.name) in wanted:
                    found[row.name] = Ended(row.state, row.nodes, row.reason)
        except Failed as problem:  # a job that it has forgotten already is an error of squeue
            if PASSING.search(str(problem)):
                raise ClusterDown(f"squeue failed: {_short(str(problem))}") from None
        lacking = [number for number, name in sorted(wanted) if name not in found]
        if not lacking:
            return found
        form = ["--format=JobIDRaw,JobName%200,State%60,NodeList%400", "--parsable2", "--noheader", "-X", "-D"]
        try:
            said = self._reach.run(["sacct", "-j", ",".join(lacking), *form])
        except Failed:  # no accounting, or it is down: nobody knows
            return found
        for line in said.splitlines():
            words = line.split("|")
            if len(words) == 4 and (words[0], words[1]) in wanted:
                state, _, reason = words[2].partition(" ")
                found[words[1]] = Ended(state, words[3], reason)
        return found

    def close(self) -> None:
        self._reach.close()


def _short(text: str) -> str:
    """What a command said, in one line of bounded length."""
    lines = [line.partition("error: ")[2] or line for line in text.splitlines() if line.strip()]
    return " / ".join(lines)[:500]
