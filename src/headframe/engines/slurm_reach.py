"""How Slurm's commands are reached: on this machine, or over one kept-open SSH connection."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from headframe.base.errors import ClusterDown

CALL_SECONDS = 30.0  # a controller that does not answer is given up after about 10 by its commands
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Reach(Protocol):
    """Runs one command and returns what it prints."""

    def run(self, words: Sequence[str], text: str = "") -> str:
        """Raises `ClusterDown` when it cannot be run or takes too long, `Failed` when it ends with an error."""
        ...

    def close(self) -> None: ...


class Failed(Exception):
    """A command ended with an error; what it said."""


def _answer(command: Sequence[str], environment: dict[str, str], text: str, what: str) -> str:
    try:
        done = subprocess.run(
            list(command), env=environment, input=text.encode("utf-8", "surrogatepass"), capture_output=True,
            timeout=CALL_SECONDS, check=False, cwd="/", start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ClusterDown(f"{what} did not answer within {CALL_SECONDS:g} s.") from None
    except OSError as error:
        raise ClusterDown(
            f"{what} cannot be run: {error.strerror}.", next_step="Install Slurm's commands, or set `bin`."
        ) from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
        if command[0].endswith("ssh") and done.returncode == 255:
            raise ClusterDown(f"SSH does not reach the cluster: {said[-300:]}")
        raise Failed(said[-1000:])
    return done.stdout.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class LocalReach:
    """Commands of this machine. `folder` is where they lie ("": on the path), `conf` Slurm's configuration."""

    folder: str = ""
    conf: str = ""

    def run(self, words: Sequence[str], text: str = "") -> str:
        environment = {"PATH": f"{self.folder}:{_PATH}" if self.folder else _PATH, "LANG": "C.UTF-8"}
        environment |= {"HOME": os.environ.get("HOME", "/"), "SLURM_TIME_FORMAT": "%s"}
        if self.conf:
            environment["SLURM_CONF"] = self.conf
        found = f"{self.folder}/{words[0]}" if self.folder else words[0]
        return _answer([found, *words[1:]], environment, text, words[0])

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True, slots=True)
class SshReach:
    """Commands of a login node. OpenSSH keeps one connection open, over which all of them go.

    `target` is what `ssh` is given; host keys must be known, and no password is ever asked for.
    """

    target: str
    sockets: Path
    key: str = ""
    port: int = 0
    options: tuple[str, ...] = ()
    folder: str = ""
    conf: str = ""
    _ssh: str = field(default="ssh", repr=False)

    def _command(self) -> list[str]:
        options = [
            "BatchMode=yes", "ControlMaster=auto", f"ControlPath={self.sockets}/%C", "ControlPersist=120",
            "ConnectTimeout=10", "ServerAliveInterval=10", "ServerAliveCountMax=2", *self.options,
        ]  # fmt: skip
        command = [self._ssh, "-T", *(word for option in options for word in ("-o", option))]
        command += ["-i", self.key, "-o", "IdentitiesOnly=yes"] if self.key else []
        command += ["-p", str(self.port)] if self.port else []
        return command

    def run(self, words: Sequence[str], text: str = "") -> str:
        self.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = ["LANG=C.UTF-8", "SLURM_TIME_FORMAT=%s"]
        settings += [f"SLURM_CONF={self.conf}"] if self.conf else []
        program = f"{self.folder}/{words[0]}" if self.folder else words[0]
        there = shlex.join(["env", *settings, program, *words[1:]])
        environment = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/")}
        if "SSH_AUTH_SOCK" in os.environ:
            environment["SSH_AUTH_SOCK"] = os.environ["SSH_AUTH_SOCK"]
        return _answer([*self._command(), "--", self.target, there], environment, text, f"ssh {self.target}")

    def close(self) -> None:
        """End the kept-open connection."""
        environment = {"PATH": _PATH, "HOME": os.environ.get("HOME", "/")}
        try:
            subprocess.run(
                [*self._command(), "-O", "exit", self.target], env=environment, stdin=subprocess.DEVNULL,
                capture_output=True, timeout=5, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return
