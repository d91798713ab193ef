"""What must be there before a task can start: folders, files, environment, variables, control group, sandbox."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headframe.base.errors import CallerError, EngineError, Invalid
from headframe.base.progress import Progress
from headframe.engines import agent_containers, containers, sandbox
from headframe.engines.agent_spawn import Start, beginning, make_pipes
from headframe.engines.agent_state import CONTAINER, Folders, Record, safe
from headframe.engines.cgroups import Limits, Writer
from headframe.engines.sandbox_etc import Etc
from headframe.engines.variables import Places, hostfile, hosts_of, slurm_twins, variables
from headframe.fleet.engine_words import Launch
from headframe.fleet.records import Slice

Say = Callable[[str | Progress], None]


@dataclass(frozen=True, slots=True)
class Device:
    """What the server knows of a leased accelerator. `cuda` is what to tell CUDA, `nodes` its files in /dev."""

    cuda: str
    fake: bool
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """What preparation needs to know of the agent's machine."""

    folders: Folders
    sandbox: sandbox.Sandbox
    groups: Writer | None
    etc: Etc
    library: Path | None = None  # what every job can import
    tasks_as: Callable[[Launch], int | None] | None = None

    def user(self, launch: Launch) -> int | None:
        """The user number of the tasks; None when they run as ourselves."""
        if self.tasks_as is not None:
            return self.tasks_as(launch)
        return sandbox.task_uid(launch.organization_number) if os.geteuid() == 0 else None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all tasks of a job share: their user, environment ("": none), and (name, folder) of each dataset."""

    uid: int | None
    environment: str
    datasets: list[tuple[str, str]]
    resumed_from: str = ""


@dataclass(slots=True)
class Ready:
    """A gang that can be started."""

    starts: list[Start]
    resumed_from: str = ""
    story: list[str] = field(default_factory=list)


def keeps_checkpoints(work: Mapping[str, Any]) -> int:
    """How many checkpoints the job keeps; 0: none asked for."""
    wanted = work.get("checkpoints")
    return int(wanted["keep"]) if wanted else 0


def record_of(machine: Machine, launch: Launch, devices: Mapping[str, Device]) -> Record:
    """What is kept of a launch."""
    image = bool(launch.work.get("image"))
    shares = [share for piece in launch.slices for share in piece.shares if share.accelerator_id in devices]
    known = [(devices[share.accelerator_id], share.milli) for share in shares]
    return Record(
        launch.allocation_id, launch.generation, launch.job_id, launch.organization_id,
        sorted(piece.rank for piece in launch.slices), machine.sandbox.kind != "none" or image, image,
        keeps_checkpoints(launch.work),
        gpus=[[device.cuda, milli, device.fake] for device, milli in known],
        disk_mib=int((launch.work.get("resources") or {}).get("disk_mib") or 0) * len(launch.slices),
    )  # fmt: skip


def is_quick(machine: Machine, launch: Launch) -> bool:
    """Whether nothing slow stands before the start, so that no thread is needed."""
    work = launch.work
    if work.get("python") or work.get("packages") or work.get("files") or work.get("image") or launch.datasets:
        return False
    return not (keeps_checkpoints(work) and launch.generation > 1)


def prepare(machine: Machine, launch: Launch, devices: Mapping[str, Device], say: Say) -> Ready:
    """Make everything ready; raises `HeadframeError` or `OSError` when it cannot be."""
    box = machine.sandbox
    ready = Ready([])
    if image := launch.work.get("image"):
        _check_podman()
        containers.fetch(image, say)
    elif box.kind == "none":
        if launch.work.get("isolation") == "required":
            raise CallerError(
                f"The job asks for isolation, and no sandbox works on this machine: {box.reason}.",
                next_step="Run headframe doctor, or submit with isolation: preferred.",
            )
        _check_plain(machine)
        ready.story.append(f"Runs without a sandbox: {box.reason}.")
    if machine.groups is None:
        ready.story.append("Runs without limits on memory and CPU: control groups cannot be used here.")
    around = surroundings(machine, launch, ready.story, say)
    ready.resumed_from = around.resumed_from
    port = free_port()
    for piece in sorted(launch.slices, key=lambda item: item.rank):
        _Task(machine, launch, piece, around.uid).make(ready, devices, around.environment, around.datasets, port)
    return ready


def surroundings(machine: Machine, launch: Launch, story: list[str], say: Say) -> Surroundings:
    """Make the job's folders, its environment and its datasets, and choose the checkpoint that it goes on from."""
    job = machine.folders.job(launch.job_id)
    uid = machine.user(launch)
    _make_closed(job, uid)
    for name in ("checkpoints", "outputs"):
        sandbox.make_folder(job / name, uid)
    environment = _environment(machine, launch, uid, say)
    datasets = _datasets(machine, launch, uid)
    resumed = _choose_checkpoint(job / "checkpoints", story, say) if keeps_checkpoints(launch.work) else ""
    return Surroundings(uid, environment, datasets, resumed)


def _make_closed(job: Path, uid: int | None) -> None:
    """A job's folder: only its user, who without a sandbox must reach what is below, may pass."""
    os.makedirs(job, exist_ok=True)
    os.chmod(job, 0o700 if uid is None else 0o710)
    if uid is not None:
        os.chown(job, 0, uid)


def _check_podman() -> None:
    works, reason = containers.available()
    if not works:
        containers.available.cache_clear()  # it may be installed by the next time
        raise CallerError(
            f"The job asks for an image, and {reason}.",
            next_step="Install podman on the machine, or use python and packages in place of image.",
        )


def _check_plain(machine: Machine) -> None:
    """Without a sandbox the superuser's tasks become the tenant's user all the same, who must reach their folders."""
    if os.geteuid() != 0:
        return
    if not machine.sandbox.setpriv:
        raise EngineError(
            "Tasks do not run as the superuser, and setpriv, which makes them another user, is not installed.",
            next_step="Install util-linux, or run the server as another user.",
        )
    closed = [path for path in (machine.folders.data, *machine.folders.data.parents) if not path.stat().st_mode & 1]
    if closed:
        raise EngineError(
            f"No sandbox works here, and without one the tenant's user cannot enter {closed[-1]}.",
            next_step=f"Install bubblewrap, or let everybody pass: chmod o+x {' '.join(map(str, reversed(closed)))}",
        )


def _environment(machine: Machine, launch: Launch, uid: int | None, say: Say) -> str:
    work = launch.work
    if not (work.get("python") or work.get("packages")):
        return ""
    from headframe.engines import environments

    owner = (uid, uid) if uid is not None else None
    packages = tuple(work.get("packages") or ())
    folder = environments.prepare(
        machine.folders.data, launch.organization_id, work.get("python"), packages, say, owner, machine.groups
    )
    return str(folder)


def _datasets(machine: Machine, launch: Launch, uid: int | None) -> list[tuple[str, str]]:
    """(name in the job, folder on the machine)."""
    if not launch.datasets:
        return []
    from headframe.engines import workdir

    data, owner = machine.folders.data, launch.organization_id
    group = (uid, uid) if uid is not None else None
    return [(safe(name), str(workdir.dataset(data, owner, sha256, group))) for name, sha256 in launch.datasets]


def _choose_checkpoint(folder: Path, story: list[str], say: Callable[[str], None]) -> str:
    from headframe.engines import checkpoints

    def tell(sentence: str) -> None:
        story.append(sentence)
        say(sentence)

    chosen = checkpoints.choose(folder, tell)
    return str(chosen) if chosen is not None else ""


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class TaskPlace:
    """One task's folders, and what it may see: the same for every engine that starts tasks by itself."""

    def __init__(self, machine: Machine, launch: Launch, piece: Slice, uid: int | None) -> None:
        self.machine, self.launch, self.piece, self.uid = machine, launch, piece, uid
        self.job = machine.folders.job(launch.job_id)
        self.folder = machine.folders.rank(launch.job_id, launch.generation, piece.rank)
        self.work, self.task, self.run = self.folder / "work", self.folder / "task", self.folder / "run"
        self.datasets = self.folder / "datasets"

    def write_script(self, text: str) -> None:
        (self.task / "script").write_text(text, encoding="utf-8", errors="surrogatepass")

    def make_folders(self, datasets: Sequence[tuple[str, str]]) -> None:
        if self.folder.exists():  # what an agent that was killed while preparing has left
            shutil.rmtree(self.folder)
        os.makedirs(self.folder)
        for folder in (self.task, self.run, *((self.datasets,) if datasets else ())):
            os.mkdir(folder)
        sandbox.make_folder(self.work, self.uid)
        if manifest := self.launch.work.get("files"):
            from headframe.engines import workdir

            owner = (self.uid, self.uid) if self.uid is not None else None
            workdir.materialize(
                self.machine.folders.data,
                self.launch.organization_id,
                manifest.removeprefix("sha256:"),
                self.work,
                owner,
            )
        for name, content in datasets:
            (self.datasets / name).symlink_to(content)
        self._link_checkpoints()

    def _link_checkpoints(self) -> None:
        """Make the job's checkpoint folder appear in its working folder. The path comes from the job and the folder may
        hold links of the job's files: neither may lead out of it."""
        wanted = self.launch.work.get("checkpoints")
        if not wanted:
            return
        work = os.path.realpath(self.work)
        place = os.path.normpath(os.path.join(work, wanted["path"]))
        inside = os.path.realpath(os.path.dirname(place))
        if place == work or not place.startswith(work + "/") or not (inside + "/").startswith(work + "/"):
            raise Invalid(
                f"checkpoints.path is {wanted['path']!r}, which is not inside of the working folder.",
                field="checkpoints.path", value=wanted["path"], allowed="a folder inside of the working folder",
            )  # fmt: skip
        with contextlib.suppress(OSError):
            os.rmdir(place)
        if os.path.lexists(place):
            raise Invalid(
                f"The job's files hold something at checkpoints.path ({wanted['path']!r}).",
                field="checkpoints.path", value=wanted["path"], allowed="a path that the files leave free",
            )  # fmt: skip
        above = os.path.dirname(place)
        missing = []
        while not os.path.isdir(above):
            missing.append(above)
            above = os.path.dirname(above)
        for folder in reversed(missing):
            sandbox.make_folder(Path(folder), self.uid)
        os.symlink(self.job / "checkpoints", place)

    def view(self, environment: str, datasets: Sequence[tuple[str, str]], devices: Sequence[str]) -> sandbox.View:
        readable = [(str(self.machine.etc.of(self.uid)), "/etc"), (str(self.task), str(self.task))]
        if self.machine.library is not None:
            readable.append((str(self.machine.library), str(self.machine.library)))
        if datasets:
            readable.append((str(self.datasets), str(self.datasets)))
        readable += [(folder, folder) for folder in sorted({folder for _name, folder in datasets})]
        if environment:
            from headframe.engines import environments

            readable += [(str(path), str(path)) for path in environments.visible(Path(environment))]
        writable = [self.work, self.job / "checkpoints", self.job / "outputs"]
        resources = self.launch.work.get("resources") or {}
        return sandbox.View(
            self.uid or 0, str(self.work), tuple((str(path), str(path)) for path in writable), tuple(readable),
            tuple(devices), resources.get("shm_mib") or 64,
        )  # fmt: skip


class _Task(TaskPlace):
    """The making of one task's folders and command on this machine."""

    def make(
        self,
        ready: Ready,
        devices: Mapping[str, Device],
        environment: str,
        datasets: Sequence[tuple[str, str]],
        port: int,
    ) -> None:
        self.make_folders(datasets)
        make_pipes(self.run, self.uid)
        held = [devices[share.accelerator_id] for share in self.piece.shares if share.accelerator_id in devices]
        places = Places(
            str(self.work), str(self.job / "checkpoints"), str(self.job / "outputs"), str(self.datasets),
            str(self.task / "hostfile"), environment, ready.resumed_from, str(self.machine.library or ""),
        )  # fmt: skip
        hosts = hosts_of(self.launch, {})
        values = variables(
            self.launch, self.piece.rank, places, hosts=hosts, port=port,
            devices={key: device.cuda for key, device in devices.items()},
            fake=any(device.fake for device in held), path=sandbox.task_path(),
        )  # fmt: skip
        values = {**slurm_twins(self.launch, self.piece.rank, values), **values}
        (self.task / "hostfile").write_text(hostfile(self.launch, hosts))
        work = self.launch.work
        if work.get("image"):
            ready.starts.append(self._contained(values, datasets, held))
            return
        self.write_script(sandbox.script(work.get("setup") or (), work.get("run") or ""))
        view = self.view(environment, datasets, [node for device in held for node in device.nodes])
        command = ["/bin/sh", "-e", str(self.task / "script")]
        box, limits = self.machine.sandbox, self._limits()
        arguments = sandbox.arguments_of(box, view) if box.kind != "none" else []
        groups = self.machine.groups.make(self._group_name(), limits) if self.machine.groups is not None else []
        first = beginning(self.run, str(self.work), groups)
        ready.starts.append(
            Start(
                self.piece.rank, self.run, tuple(sandbox.leader_command(box, view, command, first)),
                tuple(groups), limits.memory_mib or 0,
                b"".join(os.fsencode(argument) + b"\0" for argument in arguments), sandbox.exports(values),
            )
        )  # fmt: skip

    def _contained(self, values: dict[str, str], datasets: Sequence[tuple[str, str]], held: Sequence[Device]) -> Start:
        """The same in a container, which sees the task's folders where they are."""
        work, limits = self.launch.work, self._limits()
        self.write_script(agent_containers.script(work.get("setup") or (), work.get("run") or ""))
        parent: str | None = None
        groups: list[str] = []
        if self.machine.groups is not None:
            parent, groups = self.machine.groups.for_container(self._group_name())
        if "PATH" not in {**self.launch.env, **self.launch.secrets}:
            del values["PATH"]  # the image knows where its programs are
        view = self.view("", datasets, [])
        seen = [(path, False) for path, _seen in view.readable[1:]] + [(path, True) for path, _seen in view.writable]
        container = containers.Container(
            image=work["image"],
            name=agent_containers.name_of(self.launch.allocation_id, self.launch.generation, self.piece.rank),
            script=str(self.task / "script"),
            work=str(self.work),
            mounts=tuple(containers.Mount(Path(path), path, writable) for path, writable in seen),
            devices=agent_containers.devices(
                [device.cuda for device in held if not device.fake], [node for device in held for node in device.nodes]
            ),
            user=(self.uid, self.uid) if self.uid is not None else None,
            memory_mib=limits.memory_mib if groups else None,
            cpu_milli=limits.quota_milli if groups else None,
            pids=limits.pids if groups else None,
            shm_mib=view.shm_mib,
            cgroup_parent=parent,
            pidfile=self.run / CONTAINER,
        )
        # Podman's companion leaves a file `oom` where it was started when the memory ran out: not among the job's.
        leader = agent_containers.leader_command(container, self.run, beginning(self.run, str(self.run), []))
        return Start(
            self.piece.rank, self.run, tuple(leader), tuple(groups), limits.memory_mib or 0, b"",
            containers.standard_input(values),
        )  # fmt: skip

    def _group_name(self) -> str:
        return f"{safe(self.launch.allocation_id)}.{self.launch.generation}.{self.piece.rank}"

    def _limits(self) -> Limits:
        resources = self.launch.work.get("resources") or {}
        memory = resources.get("memory_max_mib") or self.piece.memory_mib
        return Limits(memory or None, self.piece.cpu_milli, resources.get("cpu_max_milli"))
