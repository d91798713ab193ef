"""A throwaway Slurm of real daemons on this machine: munge, slurmctld, four slurmd, and on demand slurmdbd and
slurmrestd, all under one folder and on ports of their own.

It ends surely: a keeper, a small program of its own session, holds the reading end of a pipe. When the tests end, be it
by `kill -9`, the pipe closes, and the keeper kills all that was started with this cluster's configuration.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

NODES = 4
GPUS = 8
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "mknod", "runuser")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEEPER = """
import os, shutil, signal, sys, time
sys.stdin.buffer.read()
mark = b"SLURM_CONF=" + os.fsencode(sys.argv[1]) + b"/"
def read(path):
    try:
        return open(path, "rb").read()
    except OSError:
        return b""
for _ in range(50):
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    parents = {pid: int(read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1:2][0] or 0)
               for pid in pids if read(f"/proc/{pid}/stat")}
    victims = {pid for pid in parents if mark in read(f"/proc/{pid}/environ")}
    while more := {pid for pid, parent in parents.items() if parent in victims and pid not in victims}:
        victims |= more
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    if not victims:
        break
    time.sleep(0.05)
for tree in ("cpu,cpuacct", "cpuset", "devices", "freezer", "memory"):
    for node in sys.argv[2:]:
        for path, _folders, _files in os.walk(f"/sys/fs/cgroup/{tree}/slurm_{node}", topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                pass
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


def missing() -> str:
    """Why no Slurm can be started here; empty when it can."""
    if os.geteuid() != 0:
        return "a throwaway Slurm needs root"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if lacking:
        return f"Slurm is not installed: {', '.join(lacking)} missing (scripts/setup.sh installs it)"
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.mknod(Path(folder) / "nvidia0", 0o600 | stat.S_IFCHR, os.makedev(195, 0))
        except OSError as error:
            return f"a throwaway Slurm needs device files, which cannot be made here: {error.strerror}"
    return ""


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


class SlurmCluster:
    """One cluster. `accounting` adds MariaDB and slurmdbd. Nodes have 16 CPUs, 64 GiB and eight pretended H100."""

    def __init__(self, root: Path, *, nodes: int = NODES, accounting: bool = False) -> None:
        self.root, self.accounting = root, accounting
        self.host = socket.gethostname().split(".")[0]
        self.conf = root / "etc/slurm.conf"
        mark = f"{os.getpid() % 10_000}"
        self.nodes = [f"h{mark}n{number}" for number in range(1, nodes + 1)]  # control groups are named after them
        self._ports = free_ports(len(self.nodes) + 4)
        self.rest_port = self._ports[3]
        self._children: list[subprocess.Popen[bytes]] = []
        read, self._pipe = os.pipe()
        root.mkdir(parents=True, exist_ok=True)
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KEEPER, str(root), *self.nodes], stdin=read, start_new_session=True
        )
        os.close(read)

    @property
    def environment(self) -> dict[str, str]:
        """What programs that speak with this cluster are started with."""
        return {"PATH": _PATH, "SLURM_CONF": str(self.conf), "LANG": "C.UTF-8"}

    def call(self, *words: str, check: bool = True, text: str | None = None) -> str:
        """Run a command of Slurm's and return what it prints."""
        done = subprocess.run(
            list(words), env=self.environment, input=text, capture_output=True, text=True, timeout=30, check=False
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout} {done.stderr}"
        return done.stdout

    # Starting and ending

    def start(self) -> SlurmCluster:
        self._write()
        self.start_munge()
        if self.accounting:
            self._start_database()
            self.start_slurmdbd()
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)
        wait_until(lambda: self._states() == ["idle"], f"all nodes are idle; they are {self._states()}")
        if self.accounting:
            self.call("sacctmgr", "-i", "add", "account", "acme")
            self.call("sacctmgr", "-i", "add", "user", "root", "account=acme")
        return self

    def end(self) -> None:
        """Let the keeper end everything, and wait for that."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
            self._keeper.wait(30)
            for child in self._children:
                child.wait(10)

    def _states(self) -> list[str]:
        return sorted(set(self.call("sinfo", "-h", "-N", "-o", "%t", check=False).split()))

    def start_munge(self) -> None:
        munge = self.root / "munge"
        self._run(
            "runuser", "-u", "munge", "--", "munged", "--num-threads=4", f"--socket={self.root}/run/munge/socket",
            f"--key-file={munge}/munge.key", f"--pid-file={self.root}/run/munge/munged.pid",
            f"--log-file={munge}/munged.log", f"--seed-file={munge}/munged.seed", "--force",
        )  # fmt: skip

    def start_controller(self) -> None:
        self._run("slurmctld")
        wait_until(lambda: "UP" in self.call("scontrol", "ping", check=False), "slurmctld answers")

    def start_node(self, node: str) -> None:
        self._run("slurmd", "-N", node)

    def start_slurmdbd(self) -> None:
        self._run("slurmdbd")
        wait_until(lambda: "Cluster" in self.call("sacctmgr", "show", "cluster", check=False), "slurmdbd answers")

    def start_rest(self) -> str:
        """slurmrestd on a port of loopback; returns its address."""
        parts = "openapi/v0.0.38,openapi/dbv0.0.38" if self.accounting else "openapi/v0.0.38"
        self._start(
            "slurmrestd", "runuser", "-u", "nobody", "--", "slurmrestd", "-a", "rest_auth/jwt", "-s", parts,
            f"127.0.0.1:{self.rest_port}",
        )  # fmt: skip

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.rest_port)) == 0

        wait_until(answers, "slurmrestd answers")
        return f"http://127.0.0.1:{self.rest_port}"

    def pid(self, name: str) -> int:
        """The pid of a daemon: "slurmctld", "slurmdbd", "munge/munged" or "slurmd-NODE"."""
        return int((self.root / "run" / f"{name}.pid").read_text())

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a daemon and wait until it is gone."""
        pid = self.pid(name)
        os.kill(pid, number)
        wait_until(lambda: self.ended(pid), f"{name} is gone")

    @staticmethod
    def ended(pid: int) -> bool:
        """Whether a process is gone, buried or not."""
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    def resume(self, *nodes: str) -> None:
        """Take nodes up again after a test, with a running slurmd."""
        for node in nodes:
            if not self._alive(f"slurmd-{node}"):
                self.start_node(node)
            self.call("scontrol", "update", f"nodename={node}", "state=resume", check=False)

    def mend(self) -> None:
        """Bring back whatever a test has ended or drained, so that the next one finds a healthy cluster."""
        for name, start in (("munge/munged", self.start_munge), ("slurmctld", self.start_controller)):
            if not self._alive(name):
                start()
        ill = [line.split()[0] for line in self.call("sinfo", "-h", "-N", "-o", "%N %T").splitlines()
               if not line.split()[1].startswith(("idle", "mixed", "allocated", "completing"))
               or line.endswith("*")]  # fmt: skip
        self.resume(*(node for node in self.nodes if node in ill or not self._alive(f"slurmd-{node}")))
        well = {"idle", "mixed", "allocated", "completing"}
        wait_until(lambda: set(self.call("sinfo", "-h", "-N", "-o", "%T").split()) <= well, "all nodes are well")

    def _alive(self, name: str) -> bool:
        try:
            return not self.ended(self.pid(name))
        except (OSError, ValueError):
            return False

    def _start(self, name: str, *words: str) -> None:
        """A program that stays in the foreground, as our child; what it says goes into `log/NAME.log`."""
        with open(self.root / f"log/{name}.log", "ab") as log:
            self._children.append(subprocess.Popen(
                list(words), env=self.environment | {"SLURM_JWT": "daemon"}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log,
            ))  # fmt: skip

    def _run(self, *words: str) -> None:
        done = subprocess.run(
            list(words), env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
            check=False, cwd=self.root,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout} {done.stderr}"

    # Its files

    def _write(self) -> None:
        root = self.root
        for name in ("etc", "run/munge", "log", "munge", "state", "spool", "dev"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for folder in (root, *root.parents):  # slurm and munge pass through
            if folder != Path("/") and folder.stat().st_uid == os.geteuid():
                folder.chmod(folder.stat().st_mode | 0o011)
        for name, owner in (("state", "slurm"), ("log", "slurm"), ("munge", "munge"), ("run/munge", "munge")):
            shutil.chown(root / name, owner, owner)
        (root / "munge").chmod(0o700)
        self._secret("munge/munge.key", 128, "munge", 0o400)
        self._secret("etc/jwt_hs256.key", 32, "slurm", 0o600)
        for index in range(GPUS):
            self._run("mknod", "-m", "666", str(root / f"dev/nvidia{index}"), "c", "195", str(index))
        names = f"h{os.getpid() % 10_000}n[1-{len(self.nodes)}]"
        half = len(self.nodes) // 2 or 1
        leaves = [self.nodes[:half], self.nodes[half:]]
        (root / "etc/gres.conf").write_text(
            f"NodeName={names} Name=gpu Type=h100 File={root}/dev/nvidia[0-{GPUS - 1}]\n"
        )
        (root / "etc/topology.conf").write_text(
            "".join(f"SwitchName=leaf{n} Nodes={','.join(leaf)}\n" for n, leaf in enumerate(leaves, 1) if leaf)
            + f"SwitchName=spine Switches=leaf[1-{2 if leaves[1] else 1}]\n"
        )
        self.conf.write_text("".join(f"{name}={value}\n" for name, value in self._settings(names).items()))
        with self.conf.open("a") as conf:
            for node, port in zip(self.nodes, self._ports[4:], strict=True):
                conf.write(
                    f"NodeName={node} NodeHostname={self.host} NodeAddr=127.0.0.1 Port={port} CPUs=16 Boards=1 "
                    f"SocketsPerBoard=2 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=65536 Gres=gpu:h100:{GPUS} "
                    "State=UNKNOWN\n"
                )
            conf.write("PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 State=UP\n")
            conf.write(
                "PartitionName=high Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=off State=UP\n"
            )  # preempts jobs of the other one
            conf.write("PartitionName=brief Nodes=ALL MaxTime=1 State=UP\n")

    def _settings(self, names: str) -> Mapping[str, str]:
        root, ports = self.root, self._ports
        settings = {
            "ClusterName": "lab", "SlurmctldHost": f"{self.host}(127.0.0.1)", "SlurmctldPort": str(ports[0]),
            "SlurmUser": "slurm", "SlurmdUser": "root", "AuthType": "auth/munge",
            "AuthInfo": f"socket={root}/run/munge/socket", "CredType": "cred/munge",
            "AuthAltTypes": "auth/jwt", "AuthAltParameters": f"jwt_key={root}/etc/jwt_hs256.key",
            "CommunicationParameters": "NoInAddrAny,NoCtldInAddrAny",
            "StateSaveLocation": f"{root}/state", "SlurmdSpoolDir": f"{root}/spool/%n",
            "SlurmctldPidFile": f"{root}/run/slurmctld.pid", "SlurmdPidFile": f"{root}/run/slurmd-%n.pid",
            "SlurmctldLogFile": f"{root}/log/slurmctld.log", "SlurmdLogFile": f"{root}/log/slurmd-%n.log",
            "ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none", "MpiDefault": "none", "SwitchType": "switch/none",
            "ReturnToService": "1", "SlurmdParameters": "config_overrides", "SchedulerType": "sched/backfill",
            "SchedulerParameters": "sched_min_interval=100000,batch_sched_delay=0,bf_interval=2,bf_continue",
            "SelectType": "select/cons_tres", "SelectTypeParameters": "CR_Core_Memory", "DefMemPerCPU": "1024",
            "TopologyPlugin": "topology/tree", "GresTypes": "gpu", "PriorityType": "priority/multifactor",
            "PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE", "JobRequeue": "1",
            "SlurmdTimeout": "4", "MessageTimeout": "5", "KillWait": "3", "MinJobAge": "300",
            "MaxArraySize": "10001", "MaxJobCount": "50000",
        }  # fmt: skip
        if self.accounting:
            settings |= {
                "AccountingStorageType": "accounting_storage/slurmdbd", "AccountingStorageHost": "localhost",
                "AccountingStoragePort": str(ports[1]), "AccountingStoragePass": f"{root}/run/munge/socket",
                "AccountingStorageTRES": "gres/gpu,gres/gpu:h100",
                "AccountingStorageEnforce": "associations,limits,qos", "AccountingStoreFlags": "job_comment",
            }  # fmt: skip
        return settings

    def _secret(self, name: str, size: int, owner: str, mode: int) -> None:
        path = self.root / name
        path.write_bytes(os.urandom(size))
        shutil.chown(path, owner, owner)
        path.chmod(mode)

    def _start_database(self) -> None:
        root, ports = self.root, self._ports
        for name in ("db/data", "db/run"):
            (root / name).mkdir(parents=True, exist_ok=True)
            shutil.chown(root / name, "mysql", "mysql")
        shutil.chown(root / "db", "mysql", "mysql")
        self._run("mysql_install_db", "--no-defaults", "--user=mysql", f"--datadir={root}/db/data",
                  "--auth-root-authentication-method=socket", "--skip-test-db")  # fmt: skip
        sock = f"{root}/db/run/mysqld.sock"
        self._start(
            "mariadb", "mariadbd", "--no-defaults", "--user=mysql", f"--datadir={root}/db/data", f"--socket={sock}",
            f"--pid-file={root}/db/run/mysqld.pid", "--bind-address=127.0.0.1", f"--port={ports[2]}",
            "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-lock-wait-timeout=900",
            "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin",
        )  # fmt: skip
        ready = ["mysqladmin", "--no-defaults", f"--socket={sock}", "-u", "root", "ping"]
        wait_until(lambda: "alive" in self.call(*ready, check=False), "MariaDB answers")
        self.call("mysql", "--no-defaults", f"--socket={sock}", "-u", "root", "-e", (
            "create database slurm_acct_db; create user slurm@127.0.0.1 identified by 'lab';"
            "create user slurm@localhost identified by 'lab'; grant all on slurm_acct_db.* to slurm@127.0.0.1;"
            "grant all on slurm_acct_db.* to slurm@localhost;"
        ))  # fmt: skip
        conf = root / "etc/slurmdbd.conf"
        conf.write_text("".join(f"{name}={value}\n" for name, value in {
            "AuthType": "auth/munge", "AuthInfo": f"socket={root}/run/munge/socket", "AuthAltTypes": "auth/jwt",
            "AuthAltParameters": f"jwt_key={root}/etc/jwt_hs256.key", "DbdHost": "localhost",
            "DbdPort": str(ports[1]), "SlurmUser": "slurm", "LogFile": f"{root}/log/slurmdbd.log",
            "PidFile": f"{root}/run/slurmdbd.pid", "StorageType": "accounting_storage/mysql",
            "StorageHost": "127.0.0.1", "StoragePort": str(ports[2]), "StorageUser": "slurm", "StoragePass": "lab",
            "StorageLoc": "slurm_acct_db",
        }.items()))  # fmt: skip
        shutil.chown(conf, "slurm", "slurm")
        conf.chmod(0o600)
