"""A Slurm cluster by slurmrestd, with a JSON web token.

What its interface lacks: switches are not told, a leader cannot be woken (it looks for orders by itself, every
`watch`), and options of sbatch cannot be handed on. Tokens are signed here (HS256) where the key is given, anew every
half an hour; or read from a file, each time again, so that somebody else may renew it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import pwd
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from headframe.base.errors import ClusterDown, ClusterRefused
from headframe.engines.agent_state import now_us
from headframe.engines.slurm_calls import Ended, Submission
from headframe.engines.slurm_words import (
    PASSING,
    VERSIONS,
    JobRow,
    NodeRow,
    Switches,
    Version,
    gpus,
    version_of,
)

SECONDS = 20.0
TOKEN_SECONDS = 3600
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def signed(key: bytes, user: str, now: int) -> str:
    """A token for a user, as Slurm's auth/jwt takes it."""
    parts = [{"alg": "HS256", "typ": "JWT"}, {"iat": now, "exp": now + TOKEN_SECONDS, "sun": user}]
    text = ".".join(_base64(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return f"{text}.{_base64(hmac.digest(key, text.encode(), hashlib.sha256))}"


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Rest:
    """See `slurm_calls.Calls`."""

    def __init__(
        self, address: str, *, token_file: str = "", jwt_key: str = "", users: Sequence[str] = (),
        now: Callable[[], int] | None = None,
    ) -> None:  # fmt: skip
        self._token_file, self._jwt_key = token_file, jwt_key
        self._me = pwd.getpwuid(os.geteuid()).pw_name
        self._users = frozenset(users) or frozenset({self._me})
        self._wire = httpx.Client(base_url=address, timeout=SECONDS, trust_env=False)
        self._now = now or (lambda: now_us() // 1_000_000)
        self._token, self._token_until = "", 0
        self._version: Version | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        self._wire.close()

    def _headers(self, user: str) -> dict[str, str]:
        with self._lock:
            if self._jwt_key and self._now() >= self._token_until:
                self._token = signed(Path(self._jwt_key).read_bytes(), self._me, self._now())
                self._token_until = self._now() + TOKEN_SECONDS // 2
            elif self._token_file:
                self._token = Path(self._token_file).read_text().strip().removeprefix("SLURM_JWT=")
            return {"X-SLURM-USER-NAME": user or self._me, "X-SLURM-USER-TOKEN": self._token}

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, user: str = "") -> dict[str, Any]:
        """An answer; raises `ClusterDown`, or `ClusterRefused` with what it said."""
        try:
            answer = self._wire.request(method, path, json=body, headers=self._headers(user))
        except (httpx.HTTPError, OSError) as problem:
            raise ClusterDown(f"slurmrestd does not answer: {type(problem).__name__}: {problem}") from None
        try:
            found = answer.json() if answer.content else {}
        except ValueError:  # an error that it tells in plain words, such as an unknown address
            found = {"errors": [{"error": answer.text[:300]}]}
        if answer.status_code == 200 and isinstance(found, dict):
            return found
        errors = found.get("errors") if isinstance(found, dict) else None
        said = " / ".join(str(one.get("error") or one.get("description")) for one in errors or [] if one) or "no reason"
        if answer.status_code in (401, 403, 502, 503, 504) or PASSING.search(said):
            raise ClusterDown(f"slurmrestd answered {answer.status_code}: {said[:300]}")
        raise ClusterRefused(f"Slurm refuses it: {said[:500]}")

    def version(self) -> Version:
        """The newest interface that we both know; asked once."""
        if self._version is None:
            for known in reversed(VERSIONS):
                try:
                    told = self._ask("GET", f"/slurm/{known.rest}/ping")
                except ClusterRefused:
                    continue
                slurm = told.get("meta", {}).get("Slurm") or told.get("meta", {}).get("slurm") or {}
                self._version = version_of(str(slurm.get("release", ""))) or known
                self._version = Version(self._version.number, known.rest)
                return self._version
            raise ClusterDown("slurmrestd knows none of the versions of its interface that are known here.")
        return self._version

    def _path(self, rest: str) -> str:
        return f"/slurm/{self.version().rest}/{rest}"

    def submit(self, wanted: Submission) -> str:
        job: dict[str, Any] = {
            "name": wanted.name, "comment": wanted.comment, "environment": {"PATH": _PATH},
            "current_working_directory": "/", "requeue": False, "nodes": str(wanted.count), "tasks_per_node": 1,
            "tasks": wanted.count, "cpus_per_task": wanted.cpus, "memory_per_node": wanted.memory_mib,
            "standard_output": wanted.output, "standard_error": wanted.output,
        }  # fmt: skip
        if self.version().number >= (23, 2):  # from then on lists, and numbers that may be missing, are objects
            job |= {
                "environment": [f"PATH={_PATH}"], "memory_per_node": {"set": True, "number": wanted.memory_mib},
            }  # fmt: skip
        optional = {
            "gres": wanted.gres, "nodelist": ",".join(wanted.nodes), "time_limit": wanted.minutes,
            "time_minimum": wanted.least_minutes,
            "partition": wanted.partition, "account": wanted.account, "qos": wanted.qos,
        }  # fmt: skip
        job |= {name: value for name, value in optional.items() if value}
        told = self._ask("POST", self._path("job/submit"), {"script": wanted.script, "job": job}, wanted.user)
        number = told.get("job_id")
        if not number:
            raise ClusterDown(f"slurmrestd gave no number: {str(told.get('errors'))[:300]}")
        return str(number)

    def jobs(self) -> list[JobRow]:
        rows = [_job(one) for one in self._ask("GET", self._path("jobs")).get("jobs", [])]
        live = ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING")
        return [row for row in rows if row.user in self._users and row.state in live]

    def nodes(self) -> list[NodeRow]:
        return [_node(one) for one in self._ask("GET", self._path("nodes")).get("nodes", [])]

    def switches(self) -> Switches:
        return Switches()

    def ring(self, number: str) -> None:
        """Its leader looks by itself."""

    def cancel(self, number: str, name: str) -> None:
        try:
            found = [_job(one) for one in self._ask("GET", self._path(f"job/{number}")).get("jobs", [])]
            if any(row.name == name for row in found):
                self._ask("DELETE", self._path(f"job/{number}"))
        except ClusterRefused:
            return  # there is nothing left of it

    def ended(self, numbers: Sequence[tuple[str, str]]) -> dict[str, Ended]:
        found: dict[str, Ended] = {}
        for number, name in numbers:
            try:
                rows = [_job(one) for one in self._ask("GET", self._path(f"job/{number}")).get("jobs", [])]
            except ClusterRefused:
                continue
            found |= {row.name: Ended(row.state, row.nodes, row.reason) for row in rows if row.name == name}
        return found


def _first(value: object) -> str:
    """States are a word in older versions, a list of words in newer ones."""
    return str(value[0]) if isinstance(value, list) and value else str(value or "")


def _number(value: object) -> int:
    """Numbers are objects in newer versions."""
    if isinstance(value, dict):
        value = value.get("number")
    return int(value) if isinstance(value, int | float) else 0


def _job(one: Mapping[str, Any]) -> JobRow:
    return JobRow(
        str(one.get("job_id", "")), _first(one.get("job_state")), str(one.get("name", "")),
        str(one.get("user_name") or _user(one.get("user_id"))), str(one.get("nodes") or ""),
        str(_number(one.get("time_limit")) or "UNLIMITED"), str(one.get("state_reason") or ""),
    )  # fmt: skip


def _user(number: object) -> str:
    try:
        return pwd.getpwuid(_number(number)).pw_name
    except KeyError:
        return str(number)


def _node(one: Mapping[str, Any]) -> NodeRow:
    states = one.get("state")
    words = [str(word) for word in states] if isinstance(states, list) else [str(states or "UNKNOWN")]
    words += [str(word) for word in one.get("state_flags") or []]
    return NodeRow(
        name=str(one.get("name", "")),
        address=str(one.get("address") or one.get("name", "")),
        state=words[0].upper(),
        flags=frozenset(word.upper() for word in words[1:]),
        reason=str(one.get("reason") or ""),
        cpus=_number(one.get("effective_cpus") or one.get("cpus")),
        cpus_held=_number(one.get("alloc_cpus")),
        memory_mib=_number(one.get("real_memory")),
        memory_held_mib=_number(one.get("alloc_memory")),
        disk_mib=_number(one.get("temporary_disk")),
        gpus=gpus(str(one.get("gres") or "")),
        gpus_held=gpus(str(one.get("gres_used") or "")),
        partitions=tuple(str(name) for name in one.get("partitions") or []),
    )
