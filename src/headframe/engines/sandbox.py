"""What a task sees of the machine: the arguments of bubblewrap, and what to do where it does not work.

As root a task gets an own user number (200000 + the organization's), as anybody else a user namespace of ours. It sees
a read-only system, private /tmp, /proc and /dev, and of the data folder only what is its own.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headframe.engines.agent_state import STATUS_FD

FIRST_UID = 200_000
# Made by the agent for every task; the leader closes what the task must not have.
ARGS_FD, ENDED_FD, HOLD_READ_FD, HOLD_WRITE_FD, ENV_FD = 3, 5, 7, 8, 9
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The leader outlives the task until its output is safe: without a holder the kernel would throw away what is left in
# the pipes when a task ends while no agent runs. It writes the exit code and then waits to be killed.
LEADER_END = (
    f'code=$?; echo "{{ \\"leader-code\\": $code }}" >&{STATUS_FD}; echo >&{ENDED_FD}; read -r rest <&{HOLD_READ_FD}'
)
_BOXED_LEADER = f'(exec "$@" {ENDED_FD}>&- {HOLD_READ_FD}<&- {HOLD_WRITE_FD}>&-); {LEADER_END}'
# In a subshell, as closing them for a command would move the leader's own meanwhile, which it is known by.
CLOSED = f"{ARGS_FD}<&- {STATUS_FD}>&- {ENDED_FD}>&- {HOLD_READ_FD}<&- {HOLD_WRITE_FD}>&-"
_PLAIN_LEADER = f'(exec "$@" {CLOSED}); {LEADER_END}'


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What works on this machine. `kind` is "root", "user" or "none"; `reason` says why when it is none."""

    kind: str
    reason: str = ""
    bwrap: str = ""
    setpriv: str = ""
    base: tuple[str, ...] = field(default=(), repr=False)  # the arguments that all tasks share


@dataclass(frozen=True, slots=True)
class View:
    """What one task may see besides the system. Pairs are (path on the machine, path as seen). `uid` 0: it runs as
    whoever starts it."""

    uid: int
    work: str
    writable: tuple[tuple[str, str], ...]
    readable: tuple[tuple[str, str], ...]
    devices: tuple[str, ...] = ()
    shm_mib: int = 64


def task_uid(organization_number: int) -> int:
    """The user number of an organization's tasks when we run as root."""
    return FIRST_UID + organization_number


def without(reason: str) -> Sandbox:
    """No sandbox. The superuser's tasks still become the tenant's user."""
    return Sandbox("none", reason, setpriv=shutil.which("setpriv", path=SYSTEM_PATH) or "")


def probe(as_root: bool | None = None) -> Sandbox:
    """Find out by trying what this machine allows. `as_root` says whether tasks are started by the superuser (None:
    by ourselves)."""
    root = os.geteuid() == 0 if as_root is None else as_root
    bwrap, setpriv = shutil.which("bwrap", path=SYSTEM_PATH), shutil.which("setpriv", path=SYSTEM_PATH)
    if bwrap is None:
        return without("bubblewrap is not installed (Debian and Ubuntu: apt-get install bubblewrap)")
    if root and setpriv is None:
        return without("setpriv is not installed (Debian and Ubuntu: apt-get install util-linux)")
    kind = "root" if root else "user"
    sandbox = Sandbox(kind, "", bwrap, setpriv or "", tuple(_system_arguments(kind)))
    with_true = View(task_uid(0) if root else 0, "/tmp", (), ())  # noqa: S108
    try:
        arguments = ["--tmpfs", "/tmp", *arguments_of(sandbox, with_true)]  # noqa: S108
        run = subprocess.run(
            [bwrap, *arguments, "--", *command_of(sandbox, with_true, ["true"])],
            env={"PATH": SYSTEM_PATH}, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as problem:
        return without(f"bubblewrap does not work here: {problem}")
    if run.returncode != 0:
        words = run.stderr.decode("utf-8", "replace").strip()[-300:]
        hint = "" if kind == "root" else " (are unprivileged user namespaces allowed?)"
        return without(f"bubblewrap does not work here{hint}: {words}")
    return sandbox


def _system_arguments(kind: str) -> list[str]:
    """The part that is the same for every task."""
    arguments = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--hostname", "headframe"]
    if kind == "root":
        # Only so much as setpriv needs to become the tenant's user; it gives all of it up.
        arguments += ["--cap-drop", "ALL"]
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            arguments += ["--cap-add", capability]
    else:
        arguments += ["--unshare-user"]
    arguments += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = f"/{name}"
        if os.path.islink(path):
            arguments += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            arguments += ["--ro-bind", path, path]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    arguments += ["--perms", "1777", "--tmpfs", "/tmp", "--perms", "0755", "--dir", "/run"]  # noqa: S108
    shared = [path for path in ("/sys/devices/system", *_base_prefixes([sys.base_prefix])) if os.path.isdir(path)]
    arguments += _folders_above(shared)
    for path in shared:
        arguments += ["--ro-bind", path, path]
    return arguments


def _folders_above(paths: Sequence[str]) -> list[str]:
    """Make the folders that lead to `paths`: bubblewrap would make them for root's eyes only."""
    above = {str(parent) for path in paths for parent in Path(path).parents}
    arguments = []
    for folder in sorted(above - {"/", "/etc", "/dev", "/run", "/tmp"}):  # noqa: S108
        if folder.startswith("/dev/shm/") or not f"{folder}/".startswith(("/usr/", "/etc/", "/dev/")):  # noqa: S108
            arguments += ["--perms", "0755", "--dir", folder]
    return arguments


def _base_prefixes(paths: Sequence[str]) -> list[str]:
    """Those that are not part of /usr, which is there already."""
    return [path for path in paths if not (path + "/").startswith("/usr/") and path != "/"]


def task_path() -> str:
    """PATH of a task without an environment: the system's programs, and the python that Headframe itself runs on."""
    return ":".join([SYSTEM_PATH, *(f"{prefix}/bin" for prefix in _base_prefixes([sys.base_prefix]))])


def arguments_of(sandbox: Sandbox, view: View) -> list[str]:
    """Bubblewrap's arguments for one task; they go through a file descriptor, never on a command line."""
    arguments = list(sandbox.base)
    arguments += ["--perms", "1777", "--size", str(max(1, view.shm_mib) << 20), "--tmpfs", "/dev/shm"]  # noqa: S108
    for device in view.devices:
        arguments += ["--dev-bind-try", device, device]
    if any("nvidia" in device for device in view.devices):
        for path in ("/sys/bus/pci", "/sys/devices", "/sys/module"):
            arguments += ["--ro-bind-try", path, path]
    arguments += _folders_above([seen for _source, seen in (*view.readable, *view.writable)])
    for source, seen in view.readable:
        arguments += ["--ro-bind", source, seen]
    for source, seen in view.writable:
        arguments += ["--bind", source, seen]
    arguments += ["--chdir", view.work]
    return arguments


def command_of(sandbox: Sandbox, view: View, command: Sequence[str]) -> list[str]:
    """What runs inside: as root first drop to the tenant's user, for good."""
    if not view.uid:
        return list(command)
    uid = str(view.uid)
    drop = ["--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    return [sandbox.setpriv, "--reuid", uid, "--regid", uid, *drop, *command]


def leader_command(sandbox: Sandbox, view: View, command: Sequence[str], beginning: str) -> list[str]:
    """The full command line of a task. The leader is a plain shell, so that killing our programs does not end it;
    `beginning` is what it does first."""
    inside = command_of(sandbox, view, command)
    if sandbox.kind == "none":
        return ["/bin/sh", "-c", beginning + _PLAIN_LEADER, "task", *inside]
    boxed = [sandbox.bwrap, "--args", str(ARGS_FD), "--json-status-fd", str(STATUS_FD), "--", *inside]
    return ["/bin/sh", "-c", beginning + _BOXED_LEADER, "task", *boxed]


def script(setup: Sequence[str], run: str, piped: bool = False, file: str = "") -> str:
    """The shell script of a task. Its environment comes through a descriptor, or from a `file` that its user may read:
    a dynamic linker's variable set by the job must not reach bubblewrap or setpriv, which still run as root. A pipe
    (`piped`) belongs to whoever made it, so that another user may read but not open it."""
    read = f'eval "$(cat <&{ENV_FD})"' if piped else f". /proc/self/fd/{ENV_FD}"
    begin = [f". {shlex.quote(file)}"] if file else [read, f"exec {ENV_FD}<&-"]
    return "\n".join([*begin, *setup, run]) + "\n"


def exports(values: dict[str, str]) -> bytes:
    """The environment as shell text. Names that a shell cannot export are left out."""
    lines = []
    for name, value in sorted(values.items()):
        if name.isidentifier() and name.isascii():
            quoted = value.replace("\0", "").replace("'", "'\\''")
            lines.append(f"export {name}='{quoted}'\n")
    return "".join(lines).encode("utf-8", "surrogatepass")


def make_folder(path: Path, uid: int | None, mode: int = 0o755) -> None:
    """A folder of a task, in one that is there; `uid` becomes its owner when given."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        path.chmod(mode)
    if uid is not None:
        os.chown(path, uid, uid)
