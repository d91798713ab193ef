"""The command `doctor`: looks at the machine and the server, and says how to mend what it finds."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import click

from headframe.cli import printing
from headframe.cli.options import Session, command, common

GOOD, WARNING, BROKEN = "ok", "warning", "broken"
_COLOURS = {GOOD: "green", WARNING: "yellow", BROKEN: "red"}
_LEAST_DISK = 2 << 30
PATIENCE_S = 3.0  # with a server that says that it is not ready
_PACKAGES = "sudo apt-get install"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `state` is ok, warning (it works, with less) or broken (required and not there)."""

    name: str
    state: str
    text: str
    mend: str = ""


@command("headframe doctor", "headframe doctor --json")
@click.option("--data", metavar="FOLDER", envvar="HEADFRAME_DATA", help="The data folder (HEADFRAME_DATA).")
@common
def doctor(session: Session, data: str | None) -> int:
    """Check this machine and the server, and say how to mend what is found; -q names only what is not in order."""
    folder = Path(data or Path.home() / ".headframe")
    found: list[Finding] = []
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "python": python, "sandbox": sandbox, "cgroups": cgroups, "podman": podman, "uv": uv, "gpus": gpus,
        "disk": lambda: disk(folder), "agent": lambda: agent(folder), "store": store, "server": lambda: server(session),
    }  # fmt: skip
    for name, check in checks.items():
        try:
            found += check()
        except (OSError, subprocess.SubprocessError) as error:
            found.append(Finding(name, WARNING, f"cannot be checked: {error}"))
    if session.json:
        printing.as_json([asdict(each) for each in found])
    elif session.quiet:
        for each in found:
            if each.state != GOOD:
                printing.say(each.name)
    else:
        _print(found)
    return 1 if any(each.state == BROKEN for each in found) else 0


def _print(found: list[Finding]) -> None:
    width = max(len(each.name) for each in found)
    for each in found:
        mark = printing.style(each.state.ljust(7), _COLOURS[each.state])
        printing.say(f"{mark}  {each.name.ljust(width)}  {printing.safe(each.text)}")
        if each.mend:
            printing.say(f"{' ' * (width + 11)}{printing.style('→', 'dim')} {each.mend}")


def python() -> Iterator[Finding]:
    yield Finding("python", GOOD, f"Python {platform.python_version()} at {sys.executable}")
    if platform.system() != "Linux":
        yield Finding("system", BROKEN, f"{platform.system()} cannot run jobs", "run `headframe serve` on Linux")


def sandbox() -> Iterator[Finding]:
    """Bubblewrap must not only be there: some systems forbid it the namespaces that it needs."""
    program = shutil.which("bwrap")
    without = "jobs run without a sandbox, with a warning in their story"
    if program is None:
        yield Finding("sandbox", WARNING, f"bubblewrap is not installed: {without}", f"{_PACKAGES} bubblewrap")
        return
    tried = _run(
        program, "--ro-bind", "/", "/", "--unshare-pid", "--unshare-ipc", "--proc", "/proc", "--dev", "/dev", "true"
    )
    if tried.returncode == 0:
        yield Finding("sandbox", GOOD, f"bubblewrap works ({program})")
    else:
        why = tried.stderr.strip().splitlines()[-1:] or ["it ended with an error"]
        mend = "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1; on Ubuntu also an AppArmor profile)"
        yield Finding("sandbox", WARNING, f"bubblewrap cannot make namespaces ({why[0]}): {without}", mend)


def cgroups() -> Iterator[Finding]:
    """Limits of memory, CPU and process count need cgroups that this user may write."""
    root = Path("/sys/fs/cgroup")
    mend = "run `headframe serve` as root"
    if (root / "cgroup.controllers").is_file():
        present = set((root / "cgroup.controllers").read_text("ascii").split())
        # A group with processes in it, such as ours, cannot be divided; only root may make one beside it.
        writable = os.geteuid() == 0 and os.access(root, os.W_OK)
        kind = "v2"
    else:
        present = {name for name in ("memory", "cpu", "pids") if (root / name).is_dir()}
        writable = bool(present) and all(os.access(root / name, os.W_OK) for name in present)
        kind = "v1"
    lacking = sorted({"memory", "cpu", "pids"} - present)
    if not present:
        yield Finding("cgroups", WARNING, "none are mounted: limits are not enforced", mend)
    elif lacking:
        yield Finding("cgroups", WARNING, f"{kind} without {', '.join(lacking)}: those limits are not enforced", mend)
    elif not writable:
        yield Finding("cgroups", WARNING, f"{kind}, but not writable by this user: limits are not enforced", mend)
    else:
        yield Finding("cgroups", GOOD, f"{kind} with memory, cpu and pids")


def podman() -> Iterator[Finding]:
    program = shutil.which("podman")
    if program is None:
        yield Finding("podman", WARNING, "not installed: jobs with `image` cannot run here", f"{_PACKAGES} podman")
        return
    tried = _run(program, "--version")
    text = tried.stdout.strip() if tried.returncode == 0 else "does not start"
    yield Finding("podman", GOOD if tried.returncode == 0 else WARNING, text)


def uv() -> Iterator[Finding]:
    program = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if program is None:
        yield Finding("uv", BROKEN, "not found: environments cannot be built", f"{sys.executable} -m pip install uv")
    else:
        yield Finding("uv", GOOD, f"{_run(program, '--version').stdout.strip()} ({program})")


def gpus() -> Iterator[Finding]:
    """NVIDIA GPUs by NVML; none is no fault."""
    devices = sorted(Path("/dev").glob("nvidia[0-9]*"))
    try:
        import pynvml
    except ImportError:
        yield Finding("gpus", WARNING, "nvidia-ml-py is not installed", f"{sys.executable} -m pip install nvidia-ml-py")
        return
    try:
        pynvml.nvmlInit()
        names = [
            pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())
        ]
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        if devices:
            mend = "install the NVIDIA driver that fits the kernel; `nvidia-smi` must work"
            yield Finding("gpus", BROKEN, f"{len(devices)} NVIDIA devices, but NVML fails: {error}", mend)
        else:
            yield Finding("gpus", GOOD, "none found; --fake-gpus H100:8 pretends some")
        return
    yield Finding("gpus", GOOD, f"{len(names)} NVIDIA: {', '.join(sorted(set(map(str, names))))}")


def disk(folder: Path) -> Iterator[Finding]:
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(place, os.W_OK):
        yield Finding("disk", BROKEN, f"{place} may not be written", f"name another folder: --data, or chown {place}")
        return
    free = shutil.disk_usage(place).free
    state = GOOD if free >= _LEAST_DISK else WARNING
    mend = "" if state == GOOD else "make room, or name a folder elsewhere with --data"
    yield Finding("disk", state, f"{printing.size(free)} free for {folder}", mend)
    key = folder / "vault.key"
    if key.exists() and key.stat().st_mode & 0o077:
        yield Finding("vault", BROKEN, f"{key} can be read by others", f"chmod 600 {key}")


def agent(folder: Path) -> Iterator[Finding]:
    """Whether the agent that keeps this machine's jobs answers, where there has been one."""
    place = folder / "agent" / "socket"
    if not place.exists():
        return
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(2)
        try:
            line.connect(str(place))
        except OSError as error:
            text = f"does not answer ({error.strerror or error}): jobs that ran are looked for at the next start"
            yield Finding("agent", WARNING, text, "headframe serve")
            return
    yield Finding("agent", GOOD, f"answers at {place}")


def store() -> Iterator[Finding]:
    """What the configured store needs; the embedded one needs nothing."""
    url = os.environ.get("HEADFRAME_STORE_URL", "")
    if url.startswith("postgres") and find_spec("psycopg") is None:
        yield Finding(
            "store", BROKEN, "psycopg is not installed", f"{sys.executable} -m pip install 'headframe[postgres]'"
        )


def server(session: Session) -> Iterator[Finding]:
    """Whether a server answers, and takes the key. None is only a fault where one was named."""
    from headframe.base.errors import HeadframeError, Unauthenticated
    from headframe.client import Unreachable

    named = bool(session.url or session.profile or os.environ.get("HEADFRAME_URL"))
    try:
        client = session.client
        client.wire.patience_s = PATIENCE_S
        client.get("/healthz")
    except Unreachable as error:
        yield Finding("server", BROKEN if named else WARNING, error.message, "headframe serve")
        return
    except HeadframeError as error:
        yield Finding("server", BROKEN, error.message, error.next_step)
        return
    try:
        client.get("/readyz")
        yield Finding("server", GOOD, f"answers at {client.where.url}")
    except HeadframeError:
        text = f"answers at {client.where.url}, but can do nothing: its loop stands still or its store cannot be used"
        yield Finding("server", BROKEN, text, "look into the server's log: is the disk of its data folder full?")
        return
    try:
        found = client.whoami()
        yield Finding("key", GOOD, f"{found['member']['name']} ({found['member']['role']})")
        unfit = [row for row in client.nodes() if row["state"] == "down"]
        for row in unfit:
            yield Finding("node", WARNING, f"{row['name']} is down: {row['reason']}", "see `headframe nodes`")
    except Unauthenticated as error:
        yield Finding("key", WARNING, error.message, "headframe login")
    except HeadframeError as error:
        yield Finding("key", WARNING, error.message, error.next_step)


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
