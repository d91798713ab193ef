"""What Slurm's commands print, read: lists of hosts, jobs, nodes, devices, switches; and what differs between versions.

Pure functions of text. Nothing of it is trusted to be well-formed: what cannot be read is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from headframe.workloads.sbatch_values import seconds

# One line a job; `|` cannot stand in any of these fields but the reason, which is last.
JOB_FIELDS = ("%i", "%T", "%j", "%u", "%N", "%l", "%r")
JOB_FORMAT = "|".join(JOB_FIELDS)
PENDING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
LIVE = frozenset({
    "RUNNING", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED",
})  # fmt: skip
NODE_FAULTS = frozenset({"NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL"})
MOST_HOSTS = 100_000
YEAR_S = 365 * 86_400

_PART = re.compile(r"[^,\[\]]*(?:\[[^\]]*\][^,\[\]]*)*")
_KEY = re.compile(r"(?:^| )([A-Z][A-Za-z_:]*)=")
_WHO = re.compile(r" \[[^\[\]@]*@[^\[\]]*\]$")  # who gave a node's reason, and when
_GRES = re.compile(r"(?:^|,)gpu(?::(?P<kind>[^:,()]+))?:(?P<count>\d+)(?:\([^)]*\))?")


@dataclass(frozen=True, slots=True)
class Version:
    """What a version can do. The least that we know of is 22.05."""

    number: tuple[int, int]
    rest: str  # the newest version of slurmrestd's interface that this version has
    node_gres_used: bool = True  # `scontrol show node -d` says GresUsed


# Slurm's release -> slurmrestd's interface. A newer release than the last one is taken to keep what that one has.
VERSIONS = (
    Version((22, 5), "v0.0.38"),
    Version((23, 2), "v0.0.39"),
    Version((23, 11), "v0.0.40"),
    Version((24, 5), "v0.0.41"),
    Version((24, 11), "v0.0.42"),
    Version((25, 5), "v0.0.43"),
)


def version_of(text: str) -> Version | None:
    """From what `sbatch --version` prints (`slurm 22.05.8`); None for one that is too old, or unknown."""
    match = re.search(r"(\d+)\.(\d+)", text)
    if match is None:
        return None
    number = (int(match[1]), int(match[2]))
    known = [one for one in VERSIONS if one.number <= number]
    return known[-1] if known else None


def hosts(text: str) -> list[str]:
    """The names in a list such as `h[1-2,07-09],login`, in its order; raises `ValueError` for absurdly many."""
    found: list[str] = []
    for part in _PART.findall(text):
        names = [""]
        for piece in re.split(r"(\[[^\]]*\])", part):
            options = _numbers(piece[1:-1]) if piece.startswith("[") else [piece]
            if len(names) * len(options) + len(found) > MOST_HOSTS:
                raise ValueError("a list of more hosts than there can be")
            names = [name + option for name in names for option in options]
        found += [name for name in names if name]
    return found


def _numbers(text: str) -> list[str]:
    """`1-3,07` as its numbers, with their leading zeros."""
    found = []
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        if not dash:
            found.append(first)
        elif first.isdigit() and last.isdigit():
            if int(last) - int(first) >= MOST_HOSTS:
                raise ValueError("a list of more hosts than there can be")
            found += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return found


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as the controller sees it. `id` is its number; arrays are never ours. `limit` is how long Slurm lets it
    run, as Slurm writes times."""

    id: str
    state: str
    name: str
    user: str
    nodes: str
    limit: str
    reason: str

    @property
    def limit_s(self) -> int | None:
        """The seconds that it may run; None: as long as it likes (which Slurm tells as a year, too)."""
        try:
            found = seconds(self.limit)
        except ValueError:
            return None
        return found if found and found < YEAR_S else None


def job_rows(text: str) -> list[JobRow]:
    """What `squeue -o JOB_FORMAT` prints."""
    rows = []
    for line in text.splitlines():
        words = line.split("|", len(JOB_FIELDS) - 1)
        if len(words) == len(JOB_FIELDS):
            rows.append(JobRow(*words))
    return rows


def fields_of(line: str) -> dict[str, str]:
    """The fields of a line of `scontrol -o`: a value reaches to the next ` Key=`."""
    marks = list(_KEY.finditer(line))
    ends = [mark.start() for mark in marks[1:]] + [len(line)]
    found: dict[str, str] = {}
    for mark, end in zip(marks, ends, strict=True):
        found.setdefault(mark[1], line[mark.end() : end].strip())
    return found


@dataclass(frozen=True, slots=True)
class Devices:
    """So many GPUs of a type; `kind` is "" where the cluster gives none a type."""

    kind: str
    count: int


def gpus(text: str) -> tuple[Devices, ...]:
    """From `gpu:h100:8(S:0-1),gpu:a100:2` or a GresUsed; other kinds of devices are left out."""
    return tuple(Devices(match["kind"] or "", int(match["count"])) for match in _GRES.finditer(text))


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node as the controller sees it. `state` without its flags, which are in `flags` ("DRAIN", "NOT_RESPONDING")."""

    name: str
    address: str
    state: str
    flags: frozenset[str]
    reason: str
    cpus: int
    cpus_held: int
    memory_mib: int
    memory_held_mib: int
    disk_mib: int
    gpus: tuple[Devices, ...]
    gpus_held: tuple[Devices, ...]
    partitions: tuple[str, ...]
    features: tuple[str, ...] = ()
    version: str = ""

    @property
    def down(self) -> bool:
        """Whether nothing runs there, or what runs there is not known."""
        broken = self.flags & {"NOT_RESPONDING", "FAIL", "INVALID_REG"}  # one that saves power is woken when wanted
        return self.state in ("DOWN", "UNKNOWN", "FUTURE", "INVAL", "ERROR") or bool(broken)

    @property
    def shut(self) -> bool:
        """Whether somebody or something has to change before anything starts there."""
        return self.state == "DOWN" or self.draining

    @property
    def draining(self) -> bool:
        return bool(self.flags & {"DRAIN", "MAINTENANCE", "RESERVED", "REBOOT_ISSUED"})


_FLAG_SIGNS = {"*": "NOT_RESPONDING", "~": "POWERED_DOWN", "%": "POWERING_DOWN", "#": "POWERING_UP", "$": "MAINTENANCE"}


def node_rows(text: str) -> list[NodeRow]:
    """What `scontrol show node -d -o` prints."""
    return [row for line in text.splitlines() if (row := _node(fields_of(line))) is not None]


def _node(told: dict[str, str]) -> NodeRow | None:
    name = told.get("NodeName", "")
    if not name:
        return None
    state, *flags = told.get("State", "UNKNOWN").split("+")
    signs = {_FLAG_SIGNS[sign] for word in (state, *flags) for sign in word if sign in _FLAG_SIGNS}
    reason = _WHO.sub("", told.get("Reason", ""))
    return NodeRow(
        name=name,
        address=told.get("NodeAddr", name),
        state=state.rstrip("*~%#$^!@-"),
        flags=frozenset(signs | {flag.rstrip("*~%#$^!@-") for flag in flags}),
        reason="" if reason in ("", "none") else reason,
        cpus=_whole(told.get("CPUEfctv") or told.get("CPUTot", "")),
        cpus_held=_whole(told.get("CPUAlloc", "")),
        memory_mib=_whole(told.get("RealMemory", "")),
        memory_held_mib=_whole(told.get("AllocMem", "")),
        disk_mib=_whole(told.get("TmpDisk", "")),
        gpus=gpus(told.get("Gres", "")),
        gpus_held=gpus(told.get("GresUsed", "")),
        partitions=tuple(filter(None, told.get("Partitions", "").split(","))),
        features=tuple(one for one in told.get("ActiveFeatures", "").split(",") if one and one != "(null)"),
        version=told.get("Version", ""),
    )


def _whole(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0


@dataclass(slots=True)
class Switches:
    """The tree of switches: names from the widest to the nearest, by node."""

    above: dict[str, tuple[str, ...]] = field(default_factory=dict)


def switches(text: str) -> Switches:
    """From what `scontrol show topology -o` prints; a node below several leaves is taken to be below the first."""
    parents: dict[str, str] = {}
    leaves: dict[str, str] = {}
    for line in text.splitlines():
        told = fields_of(line)
        name = told.get("SwitchName", "")
        if not name:
            continue
        if told.get("Switches"):
            for below in hosts(told["Switches"]):
                parents.setdefault(below, name)
        elif told.get("Nodes"):
            for node in hosts(told["Nodes"]):
                leaves.setdefault(node, name)
    return Switches({node: tuple(reversed(list(_line(leaf, parents)))) for node, leaf in leaves.items()})


def _line(leaf: str, parents: dict[str, str]) -> Iterable[str]:
    seen: set[str] = set()
    while leaf and leaf not in seen:
        seen.add(leaf)
        yield leaf
        leaf = parents.get(leaf, "")


def gres_option(devices: Sequence[Devices]) -> str:
    """`--gres` for so many of each type."""
    return ",".join(f"gpu:{one.kind}:{one.count}" if one.kind else f"gpu:{one.count}" for one in devices if one.count)


# What sbatch says when another try may do: the controller, its authentication or its spool are not well now.
PASSING = re.compile(
    r"Unable to contact slurm controller|Connection refused|timed out|Zero Bytes|[Pp]rotocol authentication|"
    r"temporarily unable|Munge|munge|Resource temporarily|Communication connection failure|slurm_persist_conn|"
    r"in standby mode|Job submission rate|I/O error writing script|Unable to (?:create|write)|No space left|"
    r"not currently running|Transport endpoint",
)
