"""Every variable that a task of a job finds in its environment: a pure function, the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headframe.fleet.engine_words import Launch


@dataclass(frozen=True, slots=True)
class Places:
    """Where a task finds its folders, as it sees them. `environment` is "" when none was asked for."""

    work: str
    checkpoints: str
    outputs: str
    datasets: str
    hostfile: str
    environment: str = ""
    resume_from: str = ""
    library: str = ""  # goes on the path of Python


def hosts_of(launch: Launch, addresses: Mapping[str, str]) -> list[str]:
    """The address of each task's node, in rank order. `addresses` maps node ids; unknown nodes are this machine."""
    ordered = sorted(launch.slices, key=lambda piece: piece.rank)
    return [addresses.get(piece.node_id, "127.0.0.1") for piece in ordered]


def local_workers(launch: Launch, rank: int) -> int:
    """How many workers a launcher such as torchrun should start for a task: one for each accelerator, at least one."""
    piece = next(item for item in launch.slices if item.rank == rank)
    return max(1, len(piece.shares))


def hostfile(launch: Launch, hosts: Sequence[str]) -> str:
    """The hosts in MPI's form: each host once, with its slots."""
    slots: dict[str, int] = {}
    for piece, host in zip(sorted(launch.slices, key=lambda item: item.rank), hosts, strict=True):
        slots[host] = slots.get(host, 0) + local_workers(launch, piece.rank)
    return "".join(f"{host} slots={count}\n" for host, count in slots.items())


def variables(  # one argument for each thing that the values depend on
    launch: Launch,
    rank: int,
    places: Places,
    *,
    hosts: Sequence[str],
    port: int,
    devices: Mapping[str, str],
    fake: bool,
    path: str,
) -> dict[str, str]:
    """The environment of one task.

    `devices` maps accelerator ids to what CUDA should be told (a UUID, or the index), `fake` says that the devices are
    pretended. What the job says wins over our defaults, what describes the placement wins over the job.
    """
    piece = next(item for item in launch.slices if item.rank == rank)
    visible = ",".join(devices.get(share.accelerator_id, str(share.index)) for share in piece.shares)
    defaults = {
        "HOME": places.work,
        "USER": "headframe",
        "LOGNAME": "headframe",
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108  (private to the task)
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{places.environment}/bin:{path}" if places.environment else path,
        "MLFLOW_TRACKING_URI": f"file:{places.outputs}/mlruns",
    }
    if places.environment:
        defaults["VIRTUAL_ENV"] = places.environment
    placed = {
        "MASTER_ADDR": hosts[0],
        "MASTER_PORT": str(port),
        "NNODES": str(len(launch.slices)),
        "NODE_RANK": str(rank),
        "NPROC_PER_NODE": str(local_workers(launch, rank)),
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(len(launch.slices)),
        "HEADFRAME_JOB_ID": launch.job_id,
        "HEADFRAME_ATTEMPT": str(launch.generation),
        "HEADFRAME_HOSTS": ",".join(hosts),
        "HEADFRAME_HOSTFILE": places.hostfile,
        "HEADFRAME_CHECKPOINTS": places.checkpoints,
        "HEADFRAME_DATASETS": places.datasets,
        "HEADFRAME_OUTPUTS": places.outputs,
        "CUDA_VISIBLE_DEVICES": visible,
        "HIP_VISIBLE_DEVICES": visible,
        "ROCR_VISIBLE_DEVICES": visible,
    }
    if places.library:
        own = launch.secrets.get("PYTHONPATH") or launch.env.get("PYTHONPATH")
        placed["PYTHONPATH"] = f"{own}:{places.library}" if own else places.library
    if places.resume_from:
        placed["HEADFRAME_RESUME_FROM"] = places.resume_from
    if fake:
        placed["HEADFRAME_FAKE_GPUS"] = "1"
    return {**defaults, **launch.env, **launch.secrets, **placed}


def slurm_twins(launch: Launch, rank: int, values: Mapping[str, str]) -> dict[str, str]:
    """What Slurm calls the same things, for scripts that read it; made of a task's variables, on every
    engine the same.

    A task is what `srun --ntasks-per-node=1` starts: one on each node, numbered by node.
    """
    piece = next(item for item in launch.slices if item.rank == rank)
    nodes, hosts, number = str(len(launch.slices)), values["HEADFRAME_HOSTS"], str(rank)
    cores, gpus = str(max(1, piece.cpu_milli // 1000)), str(len(piece.shares))
    found = {
        "SLURM_JOB_ID": launch.job_id,
        "SLURM_JOBID": launch.job_id,
        "SLURM_JOB_NAME": launch.job_name,
        "SLURM_JOB_ACCOUNT": values.get("HEADFRAME_PROJECT", ""),
        "SLURM_JOB_NODELIST": hosts,
        "SLURM_NODELIST": hosts,
        "SLURM_JOB_NUM_NODES": nodes,
        "SLURM_NNODES": nodes,
        "SLURM_NTASKS": nodes,
        "SLURM_NPROCS": nodes,
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NODEID": number,
        "SLURM_PROCID": number,
        "SLURM_LOCALID": "0",
        "SLURMD_NODENAME": hosts.split(",")[rank],
        "SLURM_LAUNCH_NODE_IPADDR": values["MASTER_ADDR"],
        "SLURM_CPUS_ON_NODE": cores,
        "SLURM_CPUS_PER_TASK": cores,
        "SLURM_MEM_PER_NODE": str(piece.memory_mib),
        "SLURM_RESTART_COUNT": str(launch.generation - 1),
        "SLURM_SUBMIT_DIR": values["HOME"],
    }
    if piece.shares:
        found |= {"SLURM_GPUS_ON_NODE": gpus, "SLURM_GPUS_PER_NODE": gpus,
                  "SLURM_JOB_GPUS": values["CUDA_VISIBLE_DEVICES"]}  # fmt: skip
    if "HEADFRAME_ARRAY_INDEX" in values:
        found["SLURM_ARRAY_TASK_ID"] = values["HEADFRAME_ARRAY_INDEX"]
    return found
