"""Jobs and nodes as rows that Slurm's fields are filled from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from headframe.base.errors import NotFound
from headframe.base.quantities import SECOND_US
from headframe.cli import printing
from headframe.cli.options import Session
from headframe.cli.shim_format import Fields, clock, host_list

# Our states and Slurm's words for them: long, short.
STATES: dict[str, tuple[str, str]] = {
    "pending": ("PENDING", "PD"), "queued": ("PENDING", "PD"), "starting": ("CONFIGURING", "CF"),
    "running": ("RUNNING", "R"), "stopping": ("COMPLETING", "CG"), "succeeded": ("COMPLETED", "CD"),
    "failed": ("FAILED", "F"), "stopped": ("CANCELLED", "CA"),
}  # fmt: skip
_ENDS = {"max_duration": ("TIMEOUT", "TO"), "node_failure": ("NODE_FAIL", "NF"), "preemption": ("PREEMPTED", "PR")}
_REASONS = {
    "no_capacity": "Resources", "kept_ahead": "Priority", "reserved": "ReqNodeNotAvail", "dependencies": "Dependency",
    "quota": "AssocGrpGRES", "borrowing": "AssocGrpGRES", "parallel": "JobArrayTaskLimit", "scheduled": "BeginTime",
    "reservation_not_begun": "Reservation", "budget_exhausted": "AssocGrpBilling",
    "credit_exhausted": "AssocGrpBilling", "better_cluster": "Priority", "submitted": "None", "ready": "None",
    "dependency_failed": "DependencyNeverSatisfied",
}  # fmt: skip
_CHILD = re.compile(r"(job_[0-9a-z]+)_([0-9]{1,9})")
MOST = 100_000  # jobs that are listed


class Cloud:
    """What the commands ask of a server, each thing once."""

    def __init__(self, session: Session) -> None:
        self._client = session.client
        self._members: dict[str, str] = {}
        self._projects: dict[str, str] = {}
        self._placed: dict[str, Mapping[str, Any]] | None = None
        self._clusters: dict[str, str] | None = None
        self._nodes: dict[str, str] = {}
        self._me: str | None = None

    @property
    def me(self) -> str:
        """The caller's name."""
        if self._me is None:
            self._me = str(self._client.whoami()["member"]["name"])
        return self._me

    def jobs(self, states: Sequence[str], wanted: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Jobs in these states, the oldest first; of those `wanted` by id or beginning, also of an array as a whole."""
        if wanted:
            rows = []
            for name in self.resolved(wanted):
                with suppress(NotFound):
                    rows.append(dict(self._client.job(name)))
            for parent in [row for row in rows if row["parent"]]:
                rows += [dict(row) for row in self._client.jobs(limit=MOST, parent=parent["id"])]
        else:
            rows = [dict(row) for row in self._client.jobs(limit=MOST, state=list(states))]
        self._name()
        kept = {str(row["id"]): self._shown(row) for row in rows if not row["parent"] and row["state"] in states}
        return sorted(kept.values(), key=lambda row: (row["submitted_us"], row["id"]))

    def resolved(self, names: Sequence[str]) -> list[str]:
        """Ids of jobs that are named by id, by its beginning, or as `ID_INDEX`; what is not found stays as it is."""
        found = []
        for name in names:
            child = _CHILD.fullmatch(name)
            if child is not None:
                rows = self._client.jobs(limit=MOST, parent=child[1])
                mine = [str(row["id"]) for row in rows if row["array_index"] == int(child[2])]
                found += mine or [name]
                continue
            try:
                found.append(str(self._client.job(name)["id"]))
            except NotFound:
                found.append(name)
        return list(dict.fromkeys(found))

    def _name(self) -> None:
        if not self._projects:
            self._projects = {str(row["id"]): str(row["name"]) for row in self._client.projects()}
            self._members = {str(row["id"]): str(row["name"]) for row in self._client.members()}

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        clusters = [name for name in row["spec"]["clusters"] if "=" not in name]
        return row | {
            "user": self._members.get(row["member_id"], row["member_id"]),
            "project": self._projects.get(row["project_id"], row["project_id"]),
            "why": _REASONS.get(row["reason"], "".join(word.title() for word in row["reason"].split("_")) or "None"),
            "clusters": clusters, "partition": ",".join(clusters), "nodes": [],
        }  # fmt: skip

    def place(self, rows: Sequence[dict[str, Any]]) -> None:
        """Say of jobs that hold something where they are."""
        if not rows or all(row["state"] in ("pending", "queued") for row in rows):
            return
        if self._placed is None:
            held = self._client.allocations(limit=MOST, state=["starting", "running", "stopping"])
            self._placed = {str(row["job_id"]): row for row in held}
            self._clusters = {str(row["id"]): str(row["name"]) for row in self._client.clusters()}
            self._nodes = {str(row["id"]): str(row["name"]) for row in self._client.nodes()}
        for row in rows:
            one = self._placed.get(row["id"])
            if one is not None and self._clusters is not None:
                row["partition"] = self._clusters.get(one["cluster_id"], one["cluster_id"])
                row["nodes"] = [self._nodes.get(part["node_id"], part["node_id"]) for part in one["slices"]]

    def nodes(self, *, devices: bool) -> list[dict[str, Any]]:
        """Every node with its partition and its state in Slurm's words."""
        clusters = {str(row["id"]): row for row in self._client.clusters()}
        kinds: dict[str, dict[str, int]] = {}
        for card in self._client.accelerators() if devices else ():
            mine = kinds.setdefault(str(card["node_id"]), {})
            mine[card["kind"].lower()] = mine.get(card["kind"].lower(), 0) + 1
        rows = []
        for node in self._client.nodes():
            cluster = clusters[node["cluster_id"]]
            gres = ",".join(f"gpu:{kind}:{number}" for kind, number in sorted(kinds.get(node["id"], {}).items()))
            rows.append({**_of_node(node, cluster), "gres": gres or "(null)"})
        return sorted(rows, key=lambda row: (row["partition"], row["name"]))


def _of_node(node: Mapping[str, Any], cluster: Mapping[str, Any]) -> dict[str, Any]:
    held = node["held"]
    full = held["gpu_milli"] >= 1000 * held["gpus"] if held["gpus"] else held["cpu_milli"] >= node["cpu_milli"]
    busy = "idle" if not (held["cpu_milli"] or held["gpu_milli"]) else "allocated" if full else "mixed"
    draining = node["state"] == "draining" or cluster["state"] == "draining"
    away = cluster["unreachable_us"] is not None
    state = "down" if node["state"] == "down" else busy
    if state != "down" and draining:
        state = "drained" if busy == "idle" else "draining"
    short = {"idle": "idle", "allocated": "alloc", "mixed": "mix", "drained": "drain", "draining": "drng",
             "down": "down"}[state]  # fmt: skip
    cores, used = node["cpu_milli"] // 1000, -(-held["cpu_milli"] // 1000)
    idle = 0 if state in ("down", "drained", "draining") or away else max(cores - used, 0)
    return {
        "name": node["name"], "partition": cluster["name"], "state": state + "*" * away, "compact": short + "*" * away,
        "base": state, "avail": "down" if away else "drain" if cluster["state"] == "draining" else "up",
        "cpus": cores, "memory": node["memory_mib"], "disk": node["disk_mib"], "busy": busy != "idle",
        "cores": (used, idle, cores - used - idle, cores),
        "reason": node["reason"] or cluster["trouble"] or cluster["reason"],
        "features": ",".join(sorted(node["labels"])) or "(null)",
    }  # fmt: skip


_SUMS = frozenset("DNnCAF")  # fields that are of all nodes of a line together


def node_rows(rows: Sequence[Mapping[str, Any]], letters: Sequence[str], *, apart: bool) -> list[dict[str, Any]]:
    """Lines: nodes of which all fields that are asked for are the same, together; or each node by itself."""
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = tuple(str(FLEET[letter][1]({**row, "all": [row]})) for letter in letters if letter not in _SUMS)
        found.setdefault((*key, row["name"] if apart or "n" in letters else ""), []).append(row)
    return [{**some[0], "all": some} for some in found.values()]


def _long(row: Mapping[str, Any]) -> tuple[str, str]:
    return _ENDS.get(row["reason"], STATES[row["state"]]) if row["state"] in ("failed", "stopped") else STATES[
        row["state"]
    ]  # fmt: skip


def _used_s(row: Mapping[str, Any]) -> int:
    if row["started_us"] is None or row["state"] in ("pending", "queued"):
        return 0
    return int((row["ended_us"] or printing.now_us()) - row["started_us"]) // SECOND_US


def _limit(row: Mapping[str, Any]) -> str:
    us = row["spec"]["max_duration_us"]
    return "UNLIMITED" if us is None else clock(us // SECOND_US)


def _left(row: Mapping[str, Any]) -> str:
    us = row["spec"]["max_duration_us"]
    return "UNLIMITED" if us is None else clock(us // SECOND_US - _used_s(row))


def _moment(name: str) -> Callable[[Mapping[str, Any]], str]:
    def cell(row: Mapping[str, Any]) -> str:
        return printing.moment(row[name])[:19].replace(" ", "T") if row[name] else "N/A"

    return cell


def _where(row: Mapping[str, Any]) -> str:
    return host_list(row["nodes"]) or (f"({row['why']})" if row["state"] not in ("running", "stopping") else "")


def _gres(row: Mapping[str, Any]) -> str:
    gpus = row["spec"]["resources"]["gpus"]
    if not gpus:
        return "N/A"
    return (
        f"gres/gpu:{gpus[0]['kind'].lower()}:{gpus[0]['count']}" if gpus[0]["kind"] else f"gres/gpu:{gpus[0]['count']}"
    )


def _cores(row: Mapping[str, Any]) -> int:
    spec = row["spec"]
    return int(max(1, spec["resources"]["cpu_milli"] // 1000) * spec["nodes_min"])


JOBS: Fields = {
    "i": ("JOBID", lambda row: row["id"]),
    "A": ("JOBID", lambda row: row["id"]),
    "F": ("ARRAY_JOB_ID", lambda row: row["parent_id"] or row["id"]),
    "K": ("ARRAY_TASK_ID", lambda row: "N/A" if row["array_index"] is None else row["array_index"]),
    "j": ("NAME", lambda row: row["name"]),
    "u": ("USER", lambda row: row["user"]),
    "a": ("ACCOUNT", lambda row: row["project"]),
    "P": ("PARTITION", lambda row: row["partition"]),
    "t": ("ST", lambda row: _long(row)[1]),
    "T": ("STATE", lambda row: _long(row)[0]),
    "M": ("TIME", lambda row: clock(_used_s(row))),
    "l": ("TIME_LIMIT", _limit),
    "L": ("TIME_LEFT", _left),
    "D": ("NODES", lambda row: row["spec"]["nodes_min"]),
    "C": ("CPUS", _cores),
    "m": ("MIN_MEMORY", lambda row: f"{row['spec']['resources']['memory_mib']}M"),
    "d": ("MIN_TMP_DISK", lambda row: f"{row['spec']['resources']['disk_mib']}M"),
    "b": ("TRES_PER_NODE", _gres),
    "N": ("NODELIST", lambda row: host_list(row["nodes"])),
    "R": ("NODELIST(REASON)", _where),
    "r": ("REASON", lambda row: row["why"] if row["state"] in ("pending", "queued") else "None"),
    "S": ("START_TIME", _moment("started_us")),
    "V": ("SUBMIT_TIME", _moment("submitted_us")),
    "e": ("END_TIME", _moment("ended_us")),
    "Q": ("PRIORITY", lambda row: row["spec"]["priority"]),
    "p": ("PRIORITY", lambda row: row["spec"]["priority"] / 100),
    "q": ("QOS", lambda row: row["spec"]["purchase"]),
    "v": ("RESERVATION", lambda row: row["spec"]["reservation"] or "(null)"),
    "E": ("DEPENDENCY", lambda row: ",".join(f"afterok:{one}" for one in row["after"]) or "(null)"),
    "o": ("COMMAND", lambda row: row["spec"]["run"].strip().partition("\n")[0]),
    "h": ("OVER_SUBSCRIBE", lambda row: "NO" if row["spec"]["exclusive"] else "OK"),
    "f": ("FEATURES", lambda row: "&".join(sorted(row["spec"]["node_labels"])) or "(null)"),
    "k": ("COMMENT", lambda row: row["spec"]["labels"].get("comment", "(null)")),
}


def _sum(row: Mapping[str, Any]) -> str:
    return "/".join(str(sum(one["cores"][place] for one in row["all"])) for place in range(4))


def _counts(row: Mapping[str, Any]) -> tuple[int, int, int]:
    """(in use, idle, other) of the nodes of a line."""
    idle = sum(one["compact"] == "idle" for one in row["all"])
    used = sum(one["compact"] in ("alloc", "mix") for one in row["all"])
    return used, idle, len(row["all"]) - used - idle


FLEET: Fields = {
    "P": ("PARTITION", lambda row: row["partition"]),
    "R": ("PARTITION", lambda row: row["partition"]),
    "a": ("AVAIL", lambda row: row["avail"]),
    "l": ("TIMELIMIT", lambda row: "infinite"),
    "D": ("NODES", lambda row: len(row["all"])),
    "t": ("STATE", lambda row: row["compact"]),
    "T": ("STATE", lambda row: row["state"]),
    "N": ("NODELIST", lambda row: host_list([one["name"] for one in row["all"]])),
    "n": ("HOSTNAMES", lambda row: row["name"]),
    "c": ("CPUS", lambda row: row["cpus"]),
    "m": ("MEMORY", lambda row: row["memory"]),
    "d": ("TMP_DISK", lambda row: row["disk"]),
    "G": ("GRES", lambda row: row["gres"]),
    "C": ("CPUS(A/I/O/T)", _sum),
    "A": ("NODES(A/I)", lambda row: "/".join(str(one) for one in _counts(row)[:2])),
    "F": ("NODES(A/I/O/T)", lambda row: "/".join(str(one) for one in (*_counts(row), len(row["all"])))),
    "E": ("REASON", lambda row: row["reason"] or "none"),
    "f": ("AVAIL_FEATURES", lambda row: row["features"]),
}
