"""What must lie on the shared file system before a job can start on a Slurm cluster.

The server makes all of it, so that nodes need nothing but bash: the job's folders and files, its environment, and what
the leader (`slurm_leader.bash`) reads. Environments are built here, so this machine and the nodes should run the same
release of the same system, as a cluster's login node does.

Secrets never lie on a disk as they are: half of them (random) travels in the batch script, the other half (secrets xor
random) lies in the attempt's folder until it runs. Neither half says anything.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from headframe.base.errors import CallerError, HeadframeError
from headframe.engines import sandbox
from headframe.engines.agent_prepare import Machine, Say, Surroundings, TaskPlace, surroundings
from headframe.engines.slurm_held import claimed
from headframe.engines.variables import Places, hostfile, hosts_of, slurm_twins, variables
from headframe.fleet.engine_words import Launch

LEADER = Path(__file__).with_name("slurm_leader.bash")
FIRST_PORT, PORTS = 20_000, 12_000  # of MASTER_PORT: below those that a machine gives out by itself
# What is known on the node alone where Slurm chooses it; which of a node's GPUs a task gets is always so.
SLURM_CHOOSES = (
    "SLURM_JOB_GPUS", "SLURM_JOB_NODELIST", "SLURM_NODELIST", "SLURMD_NODENAME", "SLURM_LAUNCH_NODE_IPADDR",
)  # fmt: skip
_GPU_FILES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/kfd", "/dev/dri")


@dataclass(frozen=True, slots=True)
class Site:
    """Where the tasks of a launch go. `names` maps node ids to Slurm's names, `addresses` to what others reach them by;
    both are empty where Slurm chooses. `owner` is the (uid, gid) that the batch job runs as, None where that is us."""

    names: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    fake: bool = False
    owner: tuple[int, int] | None = None


@dataclass(slots=True)
class Prepared:
    """An attempt that can be submitted. `claimed`: it has been started already, by whom the leader's notes say."""

    folder: Path
    seal: str = field(default="", repr=False)
    claimed: bool = False
    resumed_from: str = ""
    story: list[str] = field(default_factory=list)


def prepare(machine: Machine, launch: Launch, site: Site, say: Say) -> Prepared:
    """Make everything ready; raises `HeadframeError` or `OSError` when it cannot be."""
    folder = machine.folders.attempt(launch.job_id, launch.generation)
    ready = Prepared(folder)
    if claimed(folder):
        ready.claimed = True
        return ready
    if launch.work.get("image"):
        raise CallerError(
            "The job asks for an image, and this Slurm cluster runs none.",
            next_step="Use python and packages in place of image, or another cluster.",
        )
    _check_box(machine, launch, ready)
    around = surroundings(machine, launch, ready.story, say)
    ready.resumed_from = around.resumed_from
    with contextlib.suppress(FileNotFoundError):  # of a submission that never ran
        shutil.rmtree(folder)
    for piece in sorted(launch.slices, key=lambda one: one.rank):
        _SlurmTask(machine, launch, piece, around.uid).make(site, around)
    for name in ("orders", "taken", "alive"):
        (folder / name).touch()
    (folder / "plan").write_text(plan(launch, site))
    ready.seal = _seal(folder, launch)
    if site.owner is not None:
        _hand_over(machine.folders.job(launch.job_id), folder, site.owner)
    return ready


def _hand_over(job: Path, folder: Path, owner: tuple[int, int]) -> None:
    """Make what the job writes and all of this attempt the user's, who alone may enter. What is around that stays ours,
    or else the user could put something of others in its place, to be read, written or owned."""
    log = job / "log"
    log.mkdir(exist_ok=True)
    log.chmod(0o700)
    for path in (job, job / "attempts"):
        os.chown(path, os.geteuid(), owner[1])
        path.chmod(0o710)
    folder.chmod(0o700)
    for _path, folders, files, here in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, *owner, dir_fd=here, follow_symlinks=False)
    for path in (job / "outputs", job / "checkpoints", folder):  # last: until now nobody could enter
        os.chown(path, *owner)
        path.chmod(0o700)


def _check_box(machine: Machine, launch: Launch, ready: Prepared) -> None:
    box = machine.sandbox
    if box.kind != "none":
        return
    if launch.work.get("isolation") == "required":
        raise CallerError(
            f"The job asks for isolation, and this cluster's tasks run without a sandbox: {box.reason}.",
            next_step="Submit with isolation: preferred, or to another cluster.",
        )
    ready.story.append(f"Runs without a sandbox: {box.reason}.")


def plan(launch: Launch, site: Site) -> str:
    """A line for each node: its name (`*` where Slurm chooses), then the ranks that run there."""
    ranks: dict[str, list[int]] = {}
    for piece in sorted(launch.slices, key=lambda one: one.rank):
        ranks.setdefault(piece.node_id, []).append(piece.rank)
    return "".join(f"{site.names.get(node, '*')} {' '.join(map(str, below))}\n" for node, below in ranks.items())


class _SlurmTask(TaskPlace):
    """The making of one task's folders, and of what its leader reads."""

    def make(self, site: Site, around: Surroundings) -> None:
        self.make_folders(around.datasets)
        for name in ("begun", "status", "stdout", "stderr", "session"):
            (self.run / name).touch(0o600)
        work, box = self.launch.work, self.machine.sandbox
        values = self._values(site, around)
        hidden = set(self.launch.secrets)
        placed = {name: value for name, value in values.items() if name not in hidden}
        # What the node adds (secrets, devices, hosts that Slurm chose) comes with the rest through a pipe.
        whole = bool(site.names) and not hidden and not self.piece.shares
        file = str(self.task / "variables") if whole else ""
        self.write_script(sandbox.script(work.get("setup") or (), work.get("run") or "", piped=True, file=file))
        self._write("variables" if whole else "environment", sandbox.exports(placed))
        if whole and self.uid is not None:
            os.chown(file, self.uid, self.uid)
        if hidden:  # what describes the placement comes again behind the secrets: it wins over them
            ours = {name: value for name, value in values.items() if self.launch.secrets.get(name) != value}
            self._write("placed", sandbox.exports(ours))
        view = self.view(around.environment, around.datasets, _GPU_FILES if self.piece.shares else ())
        if site.owner is not None:
            view = replace(view, uid=0)  # its leader is that user already
        inside = sandbox.command_of(box, view, ["/bin/sh", "-e", str(self.task / "script")])
        if box.kind == "none":
            text = (
                f"cd {shlex.quote(str(self.work))} || exit 125\n"
                f"printf '%s\\n' \"$BASHPID\" >{shlex.quote(str(self.run / 'session'))}\n"
                f"exec 4>&-\n{shlex.join(['exec', '-c', 'setsid', *inside])}\n"
            )
        else:
            arguments = sandbox.arguments_of(box, view)
            self._write("arguments", b"".join(os.fsencode(one) + b"\0" for one in arguments))
            devices = '"${hf_binds[@]}"' if self.piece.shares else ""
            boxed = ["exec", "-c", box.bwrap, "--args", "3", "--json-status-fd", "4"]
            text = f"{shlex.join(boxed)} {devices} -- {shlex.join(inside)}\n"
        (self.task / "command").write_text(text, encoding="utf-8", errors="surrogateescape")
        (self.task / "devices").write_text(f"{len(self.piece.shares)}\n")

    def _write(self, name: str, content: bytes) -> None:
        """A file that other users must not read: the job's own variables stand there."""
        handle = os.open(self.task / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)

    def _values(self, site: Site, around: Surroundings) -> dict[str, str]:
        hosts = hosts_of(self.launch, site.addresses)
        (self.task / "hostfile").write_text(hostfile(self.launch, hosts))
        places = Places(
            str(self.work), str(self.job / "checkpoints"), str(self.job / "outputs"), str(self.datasets),
            str(self.task / "hostfile"), around.environment, around.resumed_from, str(self.machine.library or ""),
        )  # fmt: skip
        values = variables(
            self.launch, self.piece.rank, places, hosts=hosts, port=port_of(self.launch), devices={},
            fake=site.fake and bool(self.piece.shares), path=sandbox.task_path(),
        )  # fmt: skip
        twins = slurm_twins(self.launch, self.piece.rank, values)  # a task sees nothing of the batch job around it
        for name in ("SLURM_JOB_GPUS",) if site.addresses else SLURM_CHOOSES:
            twins.pop(name, None)
        return {**twins, **values}


def port_of(launch: Launch) -> int:
    """MASTER_PORT: told by the attempt, as nobody can ask a node that is yet to be chosen for a free one."""
    mixed = sum(ord(letter) * pow(31, place, PORTS) for place, letter in enumerate(reversed(launch.allocation_id)))
    return FIRST_PORT + (mixed + 7919 * launch.generation) % PORTS


def _seal(folder: Path, launch: Launch) -> str:
    """Cut the secrets in two; returns the half for the batch script: 16 digits that name the other, then the half."""
    if not launch.secrets:
        return ""
    text = sandbox.exports(launch.secrets)
    half = secrets.token_bytes(len(text))
    name = secrets.token_hex(8)
    other = bytes(one ^ two for one, two in zip(text, half, strict=True)).hex()
    handle = os.open(folder / f"sealed.{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(other + "\n")
    return name + half.hex()


def batch_script(leader: Path, ready: Prepared, ear: str, watch_seconds: int, looks: int = 0) -> str:
    """What is submitted: the leader's settings and where it lies. `looks`: how often it looks for another attempt."""
    settings = {
        "HF_FOLDER": str(ready.folder), "HF_LEADER": str(leader), "HF_EAR": ear, "HF_WATCH": str(watch_seconds),
        "HF_SEAL": ready.seal, "HF_LOOKS": str(looks),
    }  # fmt: skip
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    return "\n".join(["#!/bin/bash", *lines, f". {shlex.quote(str(leader))}", ""])


def explain(problem: Exception) -> tuple[str, str]:
    """A sentence for the job's story, and whose fault it is."""
    if isinstance(problem, HeadframeError):
        return str(problem), "job" if isinstance(problem, CallerError) else "engine"
    if isinstance(problem, OSError):
        where = f" ({problem.filename})" if problem.filename else ""
        return f"The task could not be prepared: {problem.strerror or problem}{where}.", "engine"
    return f"The task could not be prepared: {type(problem).__name__}: {problem}", "engine"
