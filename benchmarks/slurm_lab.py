# python benchmarks/slurm_lab.py
"""A throwaway Slurm on this machine, to measure beside: how long from sbatch to a job's first line, and jobs a second.

One controller and four slurmd with 16 CPUs each (claimed, not there), no accounting, loopback only, its own folder; the
configuration is tuned for quick starts (batch_sched_delay=0). Needs root and Slurm's programs; None without.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAMS = ("sbatch", "squeue", "slurmctld", "slurmd", "munged")
CONFIGURATION = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=slurm
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge/munge.socket.2
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=1
SlurmdParameters=config_overrides
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,bf_interval=5,bf_continue
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1024
MinJobAge=60
MaxJobCount=50000
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=h[1-4] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=16 Boards=1 SocketsPerBoard=2 \
CoresPerSocket=8 ThreadsPerCore=1 RealMemory=65536 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def measure(launches: int, jobs: int) -> dict[str, float] | None:
    """{"p50_ms": sbatch to first line, "jobs_per_second": separate sbatch to all done}; None without root or Slurm."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if os.geteuid() != 0 or any(shutil.which(program, path=path) is None for program in PROGRAMS):
        return None
    folder = Path(tempfile.mkdtemp(prefix="slurm-lab-", dir="/var/tmp"))
    environment = os.environ | {"SLURM_CONF": str(folder / "etc/slurm.conf"), "PATH": path}
    try:
        _start(folder, environment)
        _launch(folder, environment)
        times = sorted(_launch(folder, environment) for _ in range(max(launches, 3)))
        return {"p50_ms": times[len(times) // 2], "jobs_per_second": _burst(folder, environment, jobs)}
    finally:
        _stop(folder)


def _start(folder: Path, environment: dict[str, str]) -> None:
    for name in ("etc", "run/munge", "log", "munge", "state", "spool", "out"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    for name, user in (("state", "slurm"), ("log", "slurm"), ("munge", "munge"), ("run/munge", "munge")):
        os.chown(folder / name, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    key = folder / "munge/munge.key"
    key.write_bytes(os.urandom(128))
    os.chown(key, pwd.getpwnam("munge").pw_uid, pwd.getpwnam("munge").pw_gid)
    key.chmod(0o400)
    ports = _free_ports()
    text = CONFIGURATION.format(
        folder=folder, host=socket.gethostname().split(".")[0], port=ports, first=ports + 1, last=ports + 4
    )
    (folder / "etc/slurm.conf").write_text(text)
    munge = folder / "run/munge"

    def run(*command: str) -> None:
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    options = [f"--{name}={path}" for name, path in (
        ("socket", munge / "munge.socket.2"), ("key-file", key), ("pid-file", munge / "munged.pid"),
        ("log-file", folder / "munge/munged.log"), ("seed-file", folder / "munge/munged.seed"),
    )]  # fmt: skip
    run("runuser", "-u", "munge", "--", "munged", "--num-threads=10", *options)
    run("slurmctld")
    for node in ("h1", "h2", "h3", "h4"):
        run("slurmd", "-N", node)
    _until(lambda: _output(["sinfo", "-h", "-o", "%T %D"], environment).split() == ["idle", "4"], 30)


def _free_ports() -> int:
    for base in range(20_000, 30_000, 10):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + 5):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise SystemExit("no free ports for Slurm")


def _launch(folder: Path, environment: dict[str, str]) -> float:
    """Milliseconds from sbatch to the first line in the job's output file."""
    out = folder / "out" / f"{time.monotonic_ns()}.txt"
    began = time.perf_counter()
    subprocess.run(
        ["sbatch", "-Q", "-o", str(out), "--wrap", "echo hi"], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    _until(lambda: out.exists() and out.stat().st_size > 0, 30, 0.001)
    return (time.perf_counter() - began) * 1000


def _burst(folder: Path, environment: dict[str, str], jobs: int) -> float:
    began = time.perf_counter()
    for _ in range(jobs):
        subprocess.run(
            ["sbatch", "-Q", "-o", "/dev/null", "--mem=32", "--wrap", "echo hi"],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    _until(lambda: not _output(["squeue", "-h", "-t", "PD,CF,R,CG"], environment).strip(), 120)
    return jobs / (time.perf_counter() - began)


def _output(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def _until(true: Any, seconds: float, pause: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit("Slurm did not get there in time")
        time.sleep(pause)


def _stop(folder: Path) -> None:
    for card in sorted(folder.glob("run/**/*.pid")):
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(card.read_text()), signal.SIGTERM)
    time.sleep(1)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (
                    f"SLURM_CONF={folder}".encode() in (entry / "environ").read_bytes()
                    and int(entry.name) != os.getpid()
                ):
                    os.kill(int(entry.name), signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    print(measure(20, 200))
