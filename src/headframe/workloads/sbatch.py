"""An sbatch script as a job file, and what of it could not be carried over, line by line.

Slurm starts a script on the first node of a job, where `srun` starts tasks on all of them; here the command of a job
starts on each node. What follows from that is told with the lines that it concerns. A line that is carried over as it
is meant is not told of; one that is left out, or means something else here, always is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headframe.base.errors import Invalid
from headframe.workloads import sbatch_values as values
from headframe.workloads.readers import MAX_SCRIPT_BYTES, NAME
from headframe.workloads.sbatch_body import Body, command_of, first_line, told_of
from headframe.workloads.sbatch_options import KNOWN, options

MAX_LINES = 20_000
NOT_NEEDED = frozenset({
    "cores-per-socket", "sockets-per-node", "threads-per-core", "extra-node-info", "distribution", "mem-bind", "hint",
    "cpu-freq", "gpu-bind", "gpu-freq", "gres-flags", "contiguous", "core-spec", "thread-spec", "spread-job", "quiet",
    "parsable", "verbose", "overcommit", "oversubscribe", "use-min-nodes", "wait-all-nodes", "get-user-env",
    "propagate", "acctg-freq", "profile", "power", "network", "mincpus", "ntasks-per-core", "ntasks-per-socket",
    "immediate", "no-kill", "ignore-pbs", "delay-boot", "reboot", "tres-bind", "bb", "bbf",
    "kill-on-invalid-dep", "test-only",
})  # fmt: skip
ELSEWHERE = {
    "account": "carried as the label `account`; the project that pays is chosen with `project:` or --project.",
    "partition": "name the clusters in `clusters:`; the partition of each is a setting of the server.",
    "qos": "see `priority:` (0 to 100) and `purchase:` (on-demand, spot, filler).",
    "priority": "see `priority:` (0 to 100, 50 unless said).",
    "nice": "see `priority:` (0 to 100, 50 unless said).",
    "output": "output is kept: `headframe logs NAME`. What is to be kept as files belongs into $HEADFRAME_OUTPUTS.",
    "error": "output is kept: `headframe logs NAME`, where standard error is told apart.",
    "open-mode": "the logs of all attempts are kept, one after the other.",
    "input": "redirect it in the script: `command < file`.",
    "chdir": "the job starts in its working folder, where `files:` lies.",
    "mail-type": "nobody is mailed; `headframe wait NAME && mail ...` does so.",
    "mail-user": "nobody is mailed; `headframe wait NAME && mail ...` does so.",
    "begin": "there is no later start of one job; `schedule: {cron: ...}` starts one again and again.",
    "deadline": "there is no deadline; see `max_duration:` and `headframe plan`.",
    "dependency": "name the jobs in `after:`; only a success lets the job start.",
    "exclude": "name the nodes that it may use in `node_names:`, or labels in `node_labels:`.",
    "licenses": "licenses are not counted.",
    "container-mounts": "a container sees the job's own folders, datasets and outputs only.",
    "hold": "submit it when it is to start.",
    "wait": "`headframe submit --follow` waits, and ends with the job's exit code.",
    "uid": "jobs run as users of the organization.", "gid": "jobs run as users of the organization.",
    "export-file": "write the variables into `env:`.",
    "time-min": "there is no shorter time to be given; see `max_duration:`.",
    "prefer": "see `node_labels:`, which are required.",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Left:
    """A line that could not be carried over, or means something else here. `line` counts from 1; 0: the whole."""

    line: int
    text: str
    why: str


@dataclass(frozen=True, slots=True)
class Carried:
    """A job file as a document, and what was left."""

    document: dict[str, Any]
    left: tuple[Left, ...]


@dataclass(slots=True)
class _Reading:
    """What was read so far: of each option the last value with its line, as in Slurm."""

    found: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)
    used: dict[str, None] = field(default_factory=dict)

    def leave(self, name: str, why: str) -> None:
        _, line, text = self.found[name]
        self.left.append(Left(line, text, why))

    def has(self, name: str) -> bool:
        return name in self.found

    def value(self, name: str) -> str:
        """The value of an option ("" without one), which is thereby seen to."""
        self.used[name] = None
        return self.found[name][0] if name in self.found else ""

    def read(self, name: str, parse: Callable[[str], Any], default: Any = None) -> Any:
        """The parsed value; one that cannot be read is left, with the value as it stands."""
        text = self.value(name)
        if not text:
            return default
        try:
            return parse(text)
        except (ValueError, ArithmeticError):
            self.leave(name, f"{text[:80]!r} cannot be read as a value of --{name}.")
            return default


def carry(script: str) -> Carried:
    """The job file of an sbatch script; raises `Invalid` for what is no script at all."""
    if len(script.encode("utf-8", "surrogatepass")) > MAX_SCRIPT_BYTES or script.count("\n") > MAX_LINES:
        raise Invalid("The script is too long.", field="script", allowed=f"at most {MAX_SCRIPT_BYTES} bytes")
    if "\0" in script or not script.strip():
        raise Invalid("This is no script.", field="script", allowed="the text of a script, without NUL")
    lines = script.replace("\r\n", "\n").split("\n")
    reading = _options_of(lines)
    document: dict[str, Any] = {}
    _name(reading, document)
    tasks = _size(reading, document)
    _time(reading, document)
    _where(reading, document)
    _environment(reading, document)
    body = Body(lines, document.get("nodes", 1) != 1, tasks)
    _array(reading, document, body)
    for name in reading.found:
        if name not in reading.used:
            reading.leave(name, _why_left(name))
    document["files"] = "."
    document["run"] = command_of(body)
    reading.left += [Left(*one) for one in told_of(body)]
    return Carried(document, tuple(sorted(reading.left, key=lambda one: (one.line, one.text, one.why))))


def _why_left(name: str) -> str:
    if name in ELSEWHERE:
        return ELSEWHERE[name][0].upper() + ELSEWHERE[name][1:]
    return "It has no meaning here, and is left out." if name in NOT_NEEDED else "It has no twin in a job file."


def _options_of(lines: list[str]) -> _Reading:
    """The options of the lines before the first command, as Slurm reads them."""
    reading, end = _Reading(), first_line(lines)
    for number, line in enumerate(lines, 1):
        if not line.startswith("#SBATCH"):
            if re.match(r"#+\s*SBATCH|#(PBS|BSUB|\$)\s", line):
                reading.left.append(Left(number, line.strip(), "Slurm does not read this line either."))
            continue
        if number > end:
            reading.left.append(Left(number, line.strip(), "It stands behind the first command: Slurm ignores it."))
            continue
        try:
            for name, value, written in options(line.removeprefix("#SBATCH")):
                if name and (name in KNOWN):
                    reading.found[name] = (value, number, f"--{name}={value}" if value else f"--{name}")
                else:
                    reading.left.append(Left(number, written, "This is not an option of sbatch that is known."))
        except Invalid as error:
            reading.left.append(Left(number, line.strip(), error.message))
    return reading


def _size(reading: _Reading, document: dict[str, Any]) -> int:
    """Nodes, cores, memory, GPUs and disk of each node; returns how many tasks Slurm would start on each."""
    least, most = reading.read("nodes", values.nodes, (0, 0))
    tasks = reading.read("ntasks", values.count, 0)
    each = reading.read("ntasks-per-node", values.count, 0)
    least = least or (-(-tasks // each) if tasks and each else 1)
    most = max(most, least)
    each = each or (-(-tasks // least) if tasks else 1)
    gpus, count = _gpus(reading, least, each)
    cores = reading.read("cpus-per-task", values.count, 0) * each
    cores = cores or reading.read("cpus-per-gpu", values.count, 0) * count or each
    resources: dict[str, Any] = {"gpu": gpus} if gpus else {}
    resources["cpu"] = cores
    memory = _memory(reading, cores, count)
    if memory:
        resources["memory"] = values.size(memory)
    disk = reading.read("tmp", values.mib, 0)
    if disk:
        resources["disk"] = values.size(disk)
    document["resources"] = resources
    if most > 1:
        document["nodes"] = least if least == most else f"{least}..{most}"
    if tasks and not reading.has("nodes") and least == 1 and each > 1:
        why = f"All {each} tasks are put on one node; say `nodes:` where they are to be spread."
        reading.leave("ntasks", why)
    return int(each)


def _memory(reading: _Reading, cores: int, gpus: int) -> int:
    """MiB of each node."""
    whole = reading.read("mem", values.mib, None)
    if whole == 0:
        reading.leave("mem", "All memory of a node is had with `exclusive: true`; say how much is needed otherwise.")
    by_core = reading.read("mem-per-cpu", values.mib, 0) * cores
    by_gpu = reading.read("mem-per-gpu", values.mib, 0) * max(gpus, 1)
    return int(whole or by_core or by_gpu)


def _gpus(reading: _Reading, nodes: int, tasks: int) -> tuple[str, int]:
    """(what `resources.gpu` says, how many on each node)."""
    for name, text in _asked_gpus(reading):
        try:
            kind, count = values.gpu(text)
        except ValueError:
            reading.leave(name, f"{text!r} is a part of a device: see fractions such as `gpu: 0.5` and kinds.")
            continue
        if name == "gpus":
            if count % nodes:
                reading.leave(name, f"{count} GPUs cannot be divided evenly over {nodes} nodes; rounded up.")
            count = -(-count // nodes)
        count *= tasks if name in ("gpus-per-task", "tres-per-task") else 1
        return f"{kind}:{count}" if kind else str(count), count
    by_gpu = reading.read("ntasks-per-gpu", values.count, 0)
    return (str(-(-tasks // by_gpu)), -(-tasks // by_gpu)) if by_gpu else ("", 0)


def _asked_gpus(reading: _Reading) -> list[tuple[str, str]]:
    """Each option that asks for GPUs, with what it asks for; other generic resources are left."""
    found = []
    for name in ("gpus-per-node", "gpus", "gpus-per-task"):
        if reading.value(name):
            found.append((name, reading.value(name).split(",")[0]))
    for name, mark in (("gres", ""), ("tres-per-task", "gres/")):
        for part in reading.value(name).split(",") if reading.value(name) else []:
            plain = part.strip().replace("=", ":").removeprefix(mark.replace("/", ":")).removeprefix("gres/")
            if plain == "gpu" or plain.startswith("gpu:"):
                found.append((name, plain))
            elif plain and plain.lower() != "none":
                reading.leave(
                    name, f"{part.strip()!r} is not counted here; ask for nodes that have it by `node_labels:`."
                )
    return found


def _time(reading: _Reading, document: dict[str, Any]) -> None:
    """Limits of time, the warning before them, and retries."""
    limit = reading.read("time", values.seconds)
    if limit:
        document["max_duration"] = values.span(limit)
    signal = re.fullmatch(r"(?:([RB]+):)?(?:SIG)?([A-Z0-9]+)(?:@(\d+))?", reading.value("signal").upper())
    if reading.has("signal") and (signal is None or f"SIG{_signal(signal[2])}" not in _SIGNALS):
        reading.leave("signal", f"The warning can be one of {', '.join(sorted(_SIGNALS))}.")
    elif signal is not None:
        document["warn_signal"] = f"SIG{_signal(signal[2])}"
        document["warn_before_stop"] = f"{signal[3] or 60}s"
        if signal[1] and "B" in signal[1]:
            reading.leave("signal", "The warning goes to all processes of the job, not to its shell alone.")
    if reading.has("no-requeue"):
        reading.value("no-requeue")
        document["retry"] = {"on": [], "max": 0}
    reading.value("requeue")  # is so by itself: after a node failure, or to make way


_SIGNALS = frozenset({"SIGUSR1", "SIGUSR2", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"})
_NUMBERS = {"1": "HUP", "2": "INT", "3": "QUIT", "10": "USR1", "12": "USR2", "15": "TERM"}


def _signal(word: str) -> str:
    return _NUMBERS.get(word, word)


def _where(reading: _Reading, document: dict[str, Any]) -> None:
    """Clusters, nodes, reservations, and whole nodes."""
    if reading.value("clusters"):
        names = [name.strip().lower() for name in reading.value("clusters").split(",") if name.strip()]
        document["clusters"] = ["any"] if names == ["all"] else names
    if reading.value("nodelist"):
        found = reading.read("nodelist", values.hosts)
        if found:
            document["node_names"] = found
    if reading.value("constraint"):
        features = reading.value("constraint").strip("()").split("&")
        if all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", one) for one in features):
            document["node_labels"] = dict.fromkeys(features, "yes")  # as a Slurm cluster's features are told
        else:
            reading.leave("constraint", "Only features joined by & can be required: see `node_labels:`.")
    if reading.has("exclusive"):
        if reading.value("exclusive") in ("", "exclusive", "topo"):
            document["exclusive"] = True
        else:
            reading.leave("exclusive", "Nodes are not kept for one user; `exclusive: true` takes whole nodes.")
    if reading.value("reservation"):
        document["reservation"] = reading.value("reservation").split(",")[0].lower()
    if reading.value("switches"):
        document["topology"] = "rack" if reading.value("switches").split("@")[0] == "1" else "block"
    image = reading.value("container-image") or reading.value("container")
    if image:
        document["image"] = image.removeprefix("docker://").replace("#", "/", 1)


def _environment(reading: _Reading, document: dict[str, Any]) -> None:
    """Variables of --export, and words by which cost is told apart."""
    table: dict[str, str | None] = {}
    for part in _unquoted(reading.value("export")):
        name, equals, value = part.partition("=")
        if part.upper() in ("ALL", "NIL"):
            reading.leave("export", "Variables of your shell are not taken along: name them in `env:`.")
        elif part.upper() != "NONE" and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            table[name] = value if equals else None  # to be given at submit
    if table:
        document["env"] = table
    labels = {name: reading.found[name][0] for name in ("account", "wckey", "comment") if reading.has(name)}
    labels = {name: re.sub(r"[^A-Za-z0-9._-]", "-", text)[:63].strip("-._") for name, text in labels.items()}
    labels = {name: text for name, text in labels.items() if text}
    if labels:
        document["labels"] = labels
    for name in ("wckey", "comment"):
        reading.value(name)


def _unquoted(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _array(reading: _Reading, document: dict[str, Any], body: Body) -> None:
    """Indices; those that are not a plain range are counted, and told to the script as Slurm would."""
    found = reading.read("array", values.array)
    if found is None:
        return
    indices, parallel = found
    first, last = indices[0], indices[-1]
    if indices == list(range(first, last + 1)):
        document["array"] = {"index": f"{first}..{last}"}
    else:
        document["array"] = {"index": f"0..{len(indices) - 1}"}
        body.indices = indices
    if parallel:
        document["array"]["parallel"] = parallel


def _name(reading: _Reading, document: dict[str, Any]) -> None:
    """The name, in the letters that names have here."""
    written = reading.value("job-name")
    if not written:
        return
    name = re.sub(r"[^a-z0-9._-]+", "-", written.lower())[:63].strip("-._")
    if NAME.fullmatch(name):
        document["name"] = name
    if name != written:
        reading.leave("job-name", f"Names are of small letters, digits, '.', '-' and '_': {name or 'none'!r}.")


def as_mapping(carried: Carried) -> Mapping[str, Any]:
    """As plain data: `job` and `left`."""
    left = [{"line": one.line, "text": one.text, "why": one.why} for one in carried.left]
    return {"job": carried.document, "left": left}
