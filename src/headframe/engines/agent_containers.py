"""A task whose job names an image: how the agent lets podman run it in a container.

It is watched over like a task in a sandbox: a leader stays outside, writes down how it ended and waits until its output
is safe. The leader also removes the container, so that none stays when no agent runs.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from headframe.engines import containers, sandbox
from headframe.engines.agent_state import CONTAINER, STATUS_FD, Folders, Record, safe, status

# A CDI description tells podman which files and libraries a GPU needs; without one a task gets the device files alone.
_CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")
_NVIDIA = "nvidia.com/gpu"


def name_of(allocation_id: str, generation: int, rank: int) -> str:
    """The container of one task: no two attempts share one."""
    return f"headframe-{safe(allocation_id)}.{int(generation)}.{int(rank)}"


def script(setup: Sequence[str], run: str) -> str:
    """The shell script of a task. Its environment is there already."""
    return "\n".join([*setup, run]) + "\n"


def devices(cuda: Sequence[str], nodes: Sequence[str]) -> tuple[str, ...]:
    """What to pass of the leased accelerators: CDI names where the machine describes them, else files in /dev."""
    described = ""
    for folder in _CDI_FOLDERS:
        with contextlib.suppress(OSError):
            for path in sorted(Path(folder).iterdir()):
                described += path.read_text(errors="replace")
    named = bool(cuda) and _NVIDIA in described and all(name in described for name in cuda)
    if named and any("nvidia" in node for node in nodes):
        return tuple(f"{_NVIDIA}={name}" for name in cuda)
    return tuple(nodes)


def leader_command(container: containers.Container, run: Path, beginning: str) -> list[str]:
    """The full command line of a task in a container. Podman ends with 125 where it could not run the task at all;
    what the task itself ended with is written down before anything else is done."""
    drop = shlex.join(containers.client_words(container.flags, containers.removal_words(container.name)))
    ending = (
        f'(exec "$@" <&{sandbox.ENV_FD} {sandbox.ENV_FD}<&- {sandbox.CLOSED}); code=$?; '
        f"if [ $code != 125 ] || [ -s {shlex.quote(str(run / CONTAINER))} ]; then "
        f'echo "{{ \\"exit-code\\": $code }}" >&{STATUS_FD}; fi; '
        f"{drop} >/dev/null 2>&1; (exit $code); {sandbox.LEADER_END}"
    )
    return ["/bin/sh", "-c", beginning + ending, "task", *containers.command(container)]


def left_by(folders: Folders, record: Record) -> list[str]:
    """The containers of an ended allocation whose leaders were kept from removing them."""
    names = []
    for rank in record.ranks if record.contained else ():
        run = folders.rank(record.job_id, record.generation, rank) / "run"
        if os.path.exists(run / CONTAINER) and status(run).leader_code is None:
            names.append(name_of(record.allocation_id, record.generation, rank))
    return names


def remove(names: Sequence[str]) -> None:
    """Remove containers; slow, for a thread."""
    for name in names:
        containers.remove(name)
