"""Runs a task in the container of an `image`, through podman.

The podman client stays in the foreground: its exit code is the task's, a signal sent to it reaches the task, and it
lives on when the one who started it dies. It is not the parent of the container, though: whoever kills the client
must `remove` the container too.

The task's environment goes in through standard input, as shell text, so that no secret is on a command line or on a
disk and podman itself, which may be the superuser's, never sees a variable that the task chose.
"""

from __future__ import annotations

import functools
import json
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headframe.base.errors import EngineError, Invalid

_PART = r"[a-z0-9]+(?:[._-]{1,2}[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{{1,5}})?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
# podman takes these, before a colon, for ways to the machine's own files.
_WAYS = (
    "atomic", "containers-storage", "dir", "docker", "docker-archive", "docker-daemon", "oci", "oci-archive", "ostree",
    "sif", "tarball",
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_DEVICE = re.compile(r"/dev/[A-Za-z0-9_./-]+|[a-z0-9.-]+/[a-z0-9.-]+=[A-Za-z0-9.:_-]+")
_PULL_SECONDS = 3600
SOFT_FILES = 1024  # what programs expect to find: the server and the agent have raised their own
# What podman says when trying again would end the same: a registry has answered, or there is none of that name.
_REFUSED = re.compile(
    r"manifest unknown|name unknown|repository .*not found|StatusCode: 40[134]|unauthorized|denied|no such host"
    r"|short-name|no image found in",
    re.IGNORECASE,
)

# Process 1 of the container. The kernel keeps signals from a process 1 that does not expect them, so it passes them on
# to all processes of the container, and waits until the task itself has ended. The task's shell expects them too, so
# that the program it runs in the foreground is the one to answer.
_FIRST = """\
eval "$(cat)"
exec </dev/null
for name in TERM HUP USR1 USR2; do trap "kill -s $name -- -1 2>/dev/null" $name; done
( trap 'exit 143' TERM; trap : HUP USR1 USR2; set -e; . "$0" ) &
while :; do wait $!; code=$?; kill -0 $! 2>/dev/null || exit $code; done
"""


# What podman looks at to find its settings and its storage. Proxies, which may hold a password, are for fetching only.
_OWN_VARIABLES = (
    "CONTAINERS_CONF",
    "CONTAINERS_REGISTRIES_CONF",
    "CONTAINERS_STORAGE_CONF",
    "HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the machine that the task sees at `seen`."""

    source: Path
    seen: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """What to run and what it may use. `flags` stand before podman's command (own storage, another runtime).

    `script` is a path as seen in the container: POSIX shell text that is sourced with `set -e`. `devices` are files
    in /dev or CDI names such as nvidia.com/gpu=0. `pidfile` receives the process id of the container's first process.
    """

    image: str
    name: str
    script: str
    work: str
    mounts: tuple[Mount, ...] = ()
    devices: tuple[str, ...] = ()
    user: tuple[int, int] | None = None
    hostname: str = "headframe"
    memory_mib: int | None = None
    cpu_milli: int | None = None
    pids: int | None = 4096
    shm_mib: int = 64
    read_only: bool = False
    cgroup_parent: str | None = None
    pidfile: Path | None = None
    flags: tuple[str, ...] = ()


@functools.cache
def available(flags: tuple[str, ...] = ()) -> tuple[bool, str]:
    """Whether podman can be used on this machine, and if not why; asked once."""
    if not shutil.which("podman"):
        return False, "podman is not installed (Debian and Ubuntu: apt-get install podman)"
    try:
        answer = _podman(flags, ["info", "--format", "json"], seconds=30)
        runtime = json.loads(answer.stdout)["host"]["ociRuntime"]["name"] if answer.returncode == 0 else ""
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        return False, f"podman does not answer: {str(error)[:300]}"
    if answer.returncode != 0:
        return False, f"podman does not work here: {answer.stderr.strip()[-300:]}"
    if not runtime:
        return False, "podman finds no runtime (Debian and Ubuntu: apt-get install crun, or runc)"
    return True, ""


def check_image(image: str) -> None:
    """Raise `Invalid` unless `image` is the name of an image in a registry or in podman's storage."""
    way = image.partition(":")[0]
    if len(image) > 500 or not _IMAGE.fullmatch(image) or way in _WAYS:
        raise Invalid(
            f"image: {image[:200]!r} is not the name of an image.",
            field="image",
            value=image[:200],
            allowed="[registry/]name[:tag] or [registry/]name@sha256:digest",
            next_step="Write for example `image: docker.io/library/python:3.12`.",
        )


def fetch(image: str, say: Callable[[str], None], flags: tuple[str, ...] = ()) -> None:
    """Bring the image to this machine unless it is there.

    Raises `Invalid` when there is no such image for us, `EngineError` for what may be otherwise at the next try.
    """
    check_image(image)
    works, reason = available(flags)
    if not works:
        raise EngineError(
            f"The job asks for an image, and {reason}.",
            next_step="Install podman on the machine, or use `python` and `packages` in place of `image`.",
        )
    if _podman(flags, ["image", "exists", "--", image], seconds=60).returncode == 0:
        say(f"image {image} is there")
        return
    say(f"image {image}: fetching")
    try:
        answer = _podman(flags, ["pull", "--quiet", "--", image], seconds=_PULL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"Image {image} was not fetched within {_PULL_SECONDS} s.", next_step="Check the machine's network."
        ) from error
    why = _last_line(answer.stderr)
    if answer.returncode != 0 and _REFUSED.search(why):
        raise Invalid(
            f"Image {image} cannot be had: {why}.",
            field="image", value=image,
            next_step="Check its name and tag. If it is not public, its registry asks this machine for `podman login`.",
        )  # fmt: skip
    if answer.returncode != 0:
        raise EngineError(
            f"Image {image} cannot be fetched: {why}",
            next_step="Check its name, that this machine reaches the registry, and whether it needs `podman login`.",
        )
    say(f"image {image} fetched")


def command(container: Container) -> list[str]:
    """The command line that runs the task in the foreground, once `fetch` has brought the image.

    Its standard input must be `standard_input(...)`; its exit code is the task's (128 + signal for a signal; 125 when
    podman itself failed). Hand it an environment without the task's variables.
    """
    check_image(container.image)
    _check(container)
    words = [
        *_alone(),
        *_client(container.flags),
        "run",
        "--interactive",
        "--pull=never",
        "--replace",
        f"--name={container.name}",
    ]
    words += ["--log-driver=none", "--network=host", "--http-proxy=false", "--no-healthcheck"]
    words += ["--cap-drop=all", "--security-opt=no-new-privileges"]
    words += [f"--shm-size={container.shm_mib}m", f"--workdir={container.work}"]
    if container.pids is not None:
        words.append(f"--pids-limit={container.pids}")
    # Left alone, podman and its runtime ask for more than a machine may allow them, and fail.
    for limit, name, most in ((resource.RLIMIT_NOFILE, "nofile", 1 << 20), (resource.RLIMIT_NPROC, "nproc", 1 << 15)):
        soft, hard = (most if own == resource.RLIM_INFINITY else min(own, most) for own in resource.getrlimit(limit))
        if name == "nofile":
            soft = min(hard, SOFT_FILES)
        words.append(f"--ulimit={name}={soft}:{hard}")
    if container.user is not None:
        words.append(f"--user={container.user[0]}:{container.user[1]}")
    if container.memory_mib is not None:
        words += [f"--memory={container.memory_mib}m", f"--memory-swap={container.memory_mib}m"]
    if container.cpu_milli is not None:
        words.append(f"--cpus={container.cpu_milli // 1000}.{container.cpu_milli % 1000:03}")
    if container.read_only:
        words.append("--read-only")
    if container.cgroup_parent is not None:
        words.append(f"--cgroup-parent={container.cgroup_parent}")
    if container.pidfile is not None:
        words.append(f"--pidfile={container.pidfile}")
    words += [f"--device={device}" for device in container.devices]
    for mount in container.mounts:
        access = "" if mount.writable else ",readonly"
        words.append(f"--mount=type=bind,source={mount.source},destination={mount.seen}{access}")
    return [*words, "--entrypoint=[]", container.image, "/bin/sh", "-c", _FIRST, container.script]


def standard_input(env: dict[str, str]) -> bytes:
    """What the client must read from its standard input: the task's environment. Secrets: keep it in memory."""
    lines = []
    for name in sorted(env):
        if name.isidentifier() and name.isascii():
            quoted = env[name].replace("\0", "").replace("'", "'\\''")
            lines.append(f"export {name}='{quoted}'\n")
    return "".join(lines).encode("utf-8", "surrogatepass")


def state(name: str, flags: tuple[str, ...] = ()) -> tuple[int | None, int | None]:
    """(process id of the task's process 1 while it runs, exit code once it has ended), each None otherwise."""
    answer = _podman(flags, ["inspect", "--type", "container", "--format", "json", "--", name], seconds=30)
    if answer.returncode != 0:
        return None, None
    seen = json.loads(answer.stdout)[0]["State"]
    if seen["Running"]:
        return int(seen["Pid"]), None
    ended = seen["Status"] in ("exited", "stopped")
    return None, int(seen["ExitCode"]) if ended else None


def client_words(flags: tuple[str, ...], words: Sequence[str]) -> list[str]:
    """The command line of the podman command `words`, for a shell whose variables are not those that podman needs."""
    return [*_alone(), *_client(flags), *words]


def removal_words(name: str) -> list[str]:
    """The podman command that ends a container at once, if it is there, and drops it."""
    return ["rm", "--force", "--time=0", "--ignore", "--volumes", "--", name]


def remove(name: str, flags: tuple[str, ...] = ()) -> None:
    """End the container at once, if it runs, and drop what podman keeps of it; nothing when there is none."""
    answer = _podman(flags, removal_words(name), seconds=60)
    if answer.returncode != 0:
        raise EngineError(
            f"Container {name} cannot be removed: {answer.stderr.strip()[-300:]}",
            next_step=f"Look at it with: podman inspect {name}",
        )


def _last_line(text: str) -> str:
    """What podman says in the end; before it tells of every try."""
    lines = text.strip().splitlines()
    return lines[-1].removeprefix("Error: ")[:500] if lines else "podman says nothing"


def _check(container: Container) -> None:
    assert _NAME.fullmatch(container.name), container.name
    for device in container.devices:
        if not _DEVICE.fullmatch(device):
            raise Invalid(f"{device[:100]!r} is no device.", field="devices", value=device[:100])
    for mount in container.mounts:
        # A comma would begin another option of the mount.
        if any(letter in text for text in (str(mount.source), mount.seen) for letter in ',"\n'):
            raise Invalid(
                f"{mount.seen[:200]!r} cannot be shown in a container.",
                field="mounts",
                value=mount.seen[:200],
                allowed="paths without commas, quotes and line ends",
                next_step="Rename the folder.",
            )


def _client(flags: Sequence[str]) -> list[str]:
    return [shutil.which("podman") or "podman", "--cgroup-manager=cgroupfs", "--events-backend=file", *flags]


def _alone() -> list[str]:
    """The words that give podman the variables it needs to run a container, and no others."""
    kept = [f"{name}={os.environ[name]}" for name in _OWN_VARIABLES if os.environ.get(name)]
    return ["/usr/bin/env", "-i", f"PATH={_PATH}", *kept]


def _podman(flags: Sequence[str], words: Sequence[str], *, seconds: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_client(flags), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
