"""The commands of an sbatch script: how they are run here, and which of their lines mean something else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

MARK = "END_OF_SCRIPT"
# What tasks find under Slurm's name, see `engines.variables.slurm_twins`; a test holds the two against each other.
TWINS = frozenset({
    "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_JOB_NAME", "SLURM_JOB_ACCOUNT", "SLURM_JOB_NODELIST", "SLURM_NODELIST",
    "SLURM_JOB_NUM_NODES", "SLURM_NNODES", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NTASKS_PER_NODE", "SLURM_NODEID",
    "SLURM_PROCID", "SLURM_LOCALID", "SLURMD_NODENAME", "SLURM_LAUNCH_NODE_IPADDR", "SLURM_CPUS_ON_NODE",
    "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE", "SLURM_RESTART_COUNT", "SLURM_SUBMIT_DIR", "SLURM_GPUS_ON_NODE",
    "SLURM_GPUS_PER_NODE", "SLURM_JOB_GPUS", "SLURM_ARRAY_TASK_ID",
})  # fmt: skip
_VARIABLE = re.compile(r"\bSLURMD?_[A-Z0-9_]+")
_MODULES = re.compile(r"\s*(module\s+(load|add|purge|use|swap|switch|unload|restore)|ml)\b")
_CONDA = re.compile(r"\s*(conda|mamba|micromamba)\s+activate\b|\s*source\s+activate\b")
_SCONTROL = re.compile(r"\b(scontrol|squeue|sacct|scancel|sinfo)\b")
_SRUN = re.compile(r"(^|[;&|(]\s*|\b(?:exec|time|do|then|else)\s+|^\s+)srun(?=\s|$)")
# Options of srun that take a value behind a space; all others have it behind `=`, or none.
_WITH_VALUE = frozenset("AcCdDeiGJmMnNopqrStTwWx")
_LONG_WITHOUT = frozenset({
    "--exclusive", "--exact", "--overlap", "--label", "--unbuffered", "--pty", "--overcommit", "--multi-prog",
    "--disable-status", "--contiguous", "--verbose", "--quiet", "--no-kill", "--kill-on-bad-exit", "--preserve-env",
    "--spread-job", "--use-min-nodes", "--whole", "--interactive", "--container-writable", "--container-readonly",
    "--no-container-mount-home", "--container-remap-root", "--no-container-remap-root",
})  # fmt: skip


@dataclass(slots=True)
class Body:
    """The lines of a script; `gang`: it runs on several nodes, with `tasks` on each under Slurm. `indices` are those
    of its array where they are no plain range."""

    lines: Sequence[str]
    gang: bool
    tasks: int
    indices: Sequence[int] = field(default_factory=tuple)


def first_line(lines: Sequence[str]) -> int:
    """The number (from 1) of the first line that is a command; one beyond the last where there is none."""
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            return number
    return len(lines) + 1


def command_of(body: Body) -> str:
    """The script as the command of a job: run by its own interpreter, without the lines that Slurm reads."""
    interpreter = _interpreter(body.lines)
    kept = [line for line in body.lines if not line.startswith(("#SBATCH", "#!"))]
    while kept and not kept[0].strip():
        kept.pop(0)
    shell = interpreter[0].rpartition("/")[2] in ("sh", "dash", "bash", "ksh", "zsh")
    text = "\n".join(_without_srun(line)[0] if shell else line for line in kept).rstrip()
    before = _index(body.indices)
    if interpreter == ["/bin/sh"]:
        return f"{before}set +e\n{text}\n"
    mark = MARK
    while mark in text:
        mark += "_"
    words = " ".join(shlex.quote(word) for word in interpreter)
    return f"{before}exec {words} /dev/fd/3 3<<'{mark}'\n{text}\n{mark}\n"


def _interpreter(lines: Sequence[str]) -> list[str]:
    """The words of the first line behind #!; bash by name, as it may lie elsewhere."""
    first = lines[0][2:].split() if lines and lines[0].startswith("#!") else []
    if not first or first[0] in ("/bin/sh", "/usr/bin/sh"):
        return ["/bin/sh"]
    if first[0].endswith("/env"):
        return [word for word in first[1:] if word != "-S"] or ["bash"]
    name = first[0].rpartition("/")[2]
    return [
        name if name == "bash" else first[0],
        *(word for word in first[1:] if not (name == "bash" and word == "-l")),
    ]


def _index(indices: Sequence[int]) -> str:
    """Shell text that finds an index among those that are no plain range."""
    if not indices:
        return ""
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    if list(indices) == list(range(indices[0], indices[-1] + 1, step)):
        return f"export SLURM_ARRAY_TASK_ID=$((HEADFRAME_ARRAY_INDEX * {step} + {indices[0]}))\n"
    listed = " ".join(str(one) for one in indices)
    return f'set -- {listed}; shift "$HEADFRAME_ARRAY_INDEX"; export SLURM_ARRAY_TASK_ID="$1"; set --\n'


def _without_srun(line: str) -> tuple[str, str]:
    """(the line with the command that srun starts in its place, the options that srun had)."""
    match = _SRUN.search(line)
    if match is None or line.lstrip().startswith("#"):
        return line, ""
    rest, dropped = line[match.end() :], ""
    while True:
        found = re.match(r"\s+(--?[A-Za-z][^\s=]*)(=(?:\"[^\"]*\"|'[^']*'|\S)*)?", rest)
        if found is None:
            break
        word, end = found[1], found.end()
        short = len(word) == 2 and word[1] in _WITH_VALUE
        if found[2] is None and (short or (word.startswith("--") and word not in _LONG_WITHOUT)):
            value = re.match(r"\s+(\"[^\"]*\"|'[^']*'|[^\s\\]+)", rest[end:])
            end += value.end() if value else 0
        dropped, rest = dropped + rest[:end], rest[end:]
    return line[: match.end() - len("srun")] + rest.lstrip(" \t"), f"srun{dropped}"


def told_of(body: Body) -> Iterator[tuple[int, str, str]]:
    """(line, what stands there, why) of each line that means something else here."""
    start = first_line(body.lines)
    if body.gang:
        yield (
            0,
            "the script",
            "It runs on every node, not on the first alone: $NODE_RANK tells them apart. Two "
            "of them may share a machine that has room for both, unless `exclusive: true`.",
        )
    for number, line in enumerate(body.lines, 1):
        text = line.strip()
        if number < start or not text or text.startswith("#"):
            continue
        shown = text[:120]
        if _MODULES.match(line):
            yield number, shown, "There are no modules in a sandbox: use `image:`, or `python:` and `packages:`."
        if _CONDA.match(line):
            yield (
                number,
                shown,
                "That environment is not seen in a sandbox: use `image:`, or `python:` and `packages:`.",
            )
        if _without_srun(line)[1]:
            each = f"; Slurm would start {body.tasks} of it on each: see torchrun or mpirun" if body.tasks > 1 else ""
            every = "once on every node" if body.gang else "once"
            yield number, shown, f"The command stands without srun: it starts {every}{each}."
        elif _SCONTROL.search(line.split("#")[0]):
            yield number, shown, "There is no Slurm to ask: $HEADFRAME_HOSTS names the hosts, $MASTER_ADDR the first."
        if re.match(r"\s*sbatch\b", line):
            yield number, shown, "A job cannot submit others here: see `after:`, `array:` and `schedule:`."
        for name in sorted(set(_VARIABLE.findall(line)) - TWINS):
            yield number, name, "This variable is not set here."
