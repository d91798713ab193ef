"""How one Slurm cluster is reached and used: the fields of its entry in the file of clusters."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headframe.base.errors import Invalid
from headframe.base.quantities import SECOND_US
from headframe.engines.homes import Home
from headframe.workloads import readers

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,252}")
_PATH = re.compile(r"/[^\x00-\x1f]{0,4000}")
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")


@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """The settings of one cluster. Texts are empty and numbers 0 where nothing is set."""

    ssh: str = ""  # what `ssh` is given; "": commands of this machine
    key: str = ""
    port: int = 0
    ssh_options: tuple[str, ...] = ()
    rest: str = ""  # the address of slurmrestd
    token_file: str = ""
    jwt_key: str = ""
    bin: str = ""
    conf: str = ""
    partition: str = ""
    account: str = ""
    qos: str = ""
    sbatch: tuple[str, ...] = ()  # further options of sbatch
    placement: str = "headframe"  # or "engine": Slurm chooses the nodes
    gpu_kind: str = "GPU"  # where the cluster gives its GPUs no type
    gpu_memory_mib: Mapping[str, int] = field(default_factory=dict)  # by kind
    users: Mapping[str, str] = field(default_factory=dict)  # Unix user by organization, "*": all others
    sandbox: bool = True
    ear: str = ""  # the name by which nodes reach this machine; "off": nobody listens
    poll_s: float = 2.0
    watch_s: int = 10
    relay: bool = True  # short jobs that come in numbers may follow one another in a batch job
    pretended: bool = False

    @property
    def pinned(self) -> bool:
        return self.placement == "headframe"


NAMES = (
    "ssh", "key", "port", "ssh_options", "rest", "token_file", "jwt_key", "bin", "conf", "partition", "account", "qos",
    "sbatch", "placement", "gpu_kind", "gpu_memory", "users", "sandbox", "ear", "poll", "watch", "relay", "pretended",
)  # fmt: skip
_word = readers.matching(_WORD, "letters, digits and . _ @ : + -")
_path = readers.matching(_PATH, "an absolute path")
_option = readers.matching(re.compile(r"-{1,2}[A-Za-z][^\x00-\x1f]{0,500}"), "an option such as --constraint=nvme")
_ssh_option = readers.matching(re.compile(r"[A-Za-z]+=[^\x00-\x1f]{1,500}"), "an option such as ProxyJump=gate")
_address = readers.matching(re.compile(r"https?://[^\s\x00-\x1f]{1,300}"), "an address such as http://head:6820")
_poll = readers.span(SECOND_US // 10, 600 * SECOND_US, "100ms to 10m")
_READERS: dict[str, readers.Reader] = {
    "ssh": _word, "key": _path, "port": readers.whole(1, 65535), "rest": _address, "token_file": _path,
    "jwt_key": _path, "bin": _path, "conf": _path, "partition": _word, "account": _word, "qos": _word,
    "ssh_options": readers.listed(_ssh_option, most=50), "sbatch": readers.listed(_option, most=50),
    "placement": readers.one_of(("headframe", "engine")), "gpu_kind": _word, "sandbox": readers.truth,
    "ear": _word, "pretended": readers.truth, "relay": readers.truth,
}  # fmt: skip


def settings_of(home: Home) -> SlurmSettings:
    """Read a cluster's fields; raises `Invalid` that names the field."""
    given, place = home.known(*NAMES), home.cluster.name
    found: dict[str, Any] = {
        name: read(given[name], f"{place}.{name}") for name, read in _READERS.items() if name in given
    }
    if "gpu_memory" in given:
        memory = _table(given["gpu_memory"], f"{place}.gpu_memory")
        found["gpu_memory_mib"] = {
            kind.upper(): readers.size(value, f"{place}.gpu_memory.{kind}") for kind, value in memory.items()
        }
    if "users" in given:
        read_user = readers.matching(_USER, "a Unix user's name")
        users = _table(given["users"], f"{place}.users")
        found["users"] = {name: str(read_user(value, f"{place}.users.{name}")) for name, value in users.items()}
    if "poll" in given:
        found["poll_s"] = int(str(_poll(given["poll"], f"{place}.poll"))) / SECOND_US
    if "watch" in given:
        found["watch_s"] = max(1, int(str(_poll(given["watch"], f"{place}.watch"))) // SECOND_US)
    settings = SlurmSettings(**found)
    if settings.rest and settings.ssh:
        raise Invalid(f"{place} names both ssh and rest.", field=f"{place}.rest", allowed="one of ssh and rest")
    if settings.rest and not (settings.token_file or settings.jwt_key):
        raise Invalid(
            f"{place}.rest needs a token.", field=f"{place}.rest", allowed="with token_file or jwt_key beside it"
        )
    return settings


def _table(value: object, place: str) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise readers.refused(place, value, "is not a table", "a table such as {H100: 80GB}")
    return {str(name): item for name, item in value.items()}


def ear_address(settings: SlurmSettings) -> str:
    """The name by which nodes say that there is news; "" when nobody listens."""
    if settings.ear == "off":
        return ""
    return settings.ear or socket.gethostname()
