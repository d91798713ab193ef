"""The ways to a Slurm cluster: as other Unix users, and over SSH, also when the connection breaks."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from headframe.cli.throwaway_slurm import SlurmCluster, free_ports, wait_until
from headframe.fleet.engine_words import Seen, Stop
from headframe.fleet.records import Share
from tests.contract.engine_contract import SlurmPlace, launch


@dataclass
class Sshd:
    """An OpenSSH server on loopback, with a key that it lets in."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def settings(self) -> dict[str, object]:
        options = [f"UserKnownHostsFile={self.folder}/known", f"IdentityFile={self.folder}/key"]
        return {"ssh": "root@127.0.0.1", "key": str(self.folder / "key"), "port": self.port, "ssh_options": options}


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    if program is None or os.geteuid() != 0:
        pytest.skip("sshd is not installed, or we are not root")
    folder = Path(tempfile.mkdtemp(prefix="headframe-sshd-"))
    (port,) = free_ports(1)
    for name in ("host", "key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, timeout=20
        )
    shutil.copy(folder / "key.pub", folder / "allowed")
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "conf").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/allowed\nPermitRootLogin yes\nPasswordAuthentication no\nMaxSessions 50\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    log = (folder / "log").open("wb")
    process = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "conf")], stdout=log, stderr=log)
    try:
        wait_until(lambda: "listening" in (folder / "log").read_text(), "sshd listens")
        yield Sshd(folder, port, process)
    finally:
        process.terminate()
        process.wait(10)
        log.close()
        shutil.rmtree(folder)


def test_a_cluster_behind_ssh_that_is_cut_in_the_middle(slurm: SlurmCluster, tmp_path: Path, sshd: Sshd) -> None:
    place = SlurmPlace(tmp_path, slurm, **sshd.settings)
    try:
        end = place.run("far", "echo here; exit 3", env={"ODD": "zwei\nZeilen 'x' $y"}, secrets={"TOKEN": "t"})
        assert (end.seen, end.exit_code, place.text("far")) == (Seen.EXITED, 3, "here\n")
        place.act([launch("cut", 'until [ -e "$HEADFRAME_OUTPUTS/go" ]; do sleep 0.05; done; exit 4')])
        place.wait_seen("alc_cut", Seen.RUNNING)
        masters = subprocess.run(
            ["pgrep", "-f", f"ssh.*-p {sshd.port}|headframe.*\\[mux\\]"], capture_output=True, text=True, check=False
        ).stdout.split()
        for pid in masters:
            os.kill(int(pid), signal.SIGKILL)
        (place.data / "jobs/job_cut/outputs/go").touch()
        assert place.wait_seen("alc_cut", Seen.EXITED).exit_code == 4
        assert place.run("after", "true").exit_code == 0
    finally:
        place.end()


def test_a_cluster_behind_slurmrestd(slurm: SlurmCluster, tmp_path: Path) -> None:
    address = slurm.start_rest()
    place = SlurmPlace(tmp_path, slurm, rest=address, jwt_key=str(slurm.root / "etc/jwt_hs256.key"))
    try:
        share = (Share("acc_x", 0, "H100", 1000),)
        end = place.run("rests", 'echo "here $CUDA_VISIBLE_DEVICES"; exit 3', secrets={"TOKEN": "t"}, shares=share)
        assert (end.seen, end.exit_code, place.text("rests")) == (Seen.EXITED, 3, "here 0\n"), end
        place.act([launch("long", "echo ready; sleep 100", tasks=4)])
        place.wait_seen("alc_long", Seen.RUNNING)
        (held,) = [one for one in place.report().observations if one.allocation_id == "alc_long"]
        assert held.seen is Seen.RUNNING
        report = place.report()
        assert {(one.cpu_milli, one.memory_mib) for one in report.nodes} == {(16000, 65536)}
        assert len(report.accelerators) == 32
        place.act([Stop("alc_long", 1, "user", grace_us=1_000_000)])
        assert place.wait_seen("alc_long", Seen.EXITED).exit_code in (143, 137)
        refused = place.run("wrong", "true", shares=(Share("acc_x", 0, "A100", 1000),))
        assert (refused.seen, "Slurm refuses" in refused.detail) == (Seen.FAILED, True)
    finally:
        place.end()


def test_jobs_run_as_the_unix_user_of_their_organization(slurm: SlurmCluster, tmp_path: Path) -> None:
    data = Path(tempfile.mkdtemp(prefix="headframe-users-"))
    data.chmod(0o755)
    try:
        place = SlurmPlace(data, slurm, users={"org_1": "nobody"}, sandbox=False)
        try:
            end = place.run("whose", 'id -un; id -G; echo kept > "$HEADFRAME_OUTPUTS/file"', secrets={"TOKEN": "t"})
            assert (end.exit_code, place.text("whose", "stdout")) == (
                0,
                f"nobody\n{pwd.getpwnam('nobody').pw_gid}\n",
            ), end
            assert (data / "jobs/job_whose/outputs/file").owner() == "nobody"
            other = place.run("nobodys", "true", organization=2)
            assert (other.seen, "No Unix user" in other.detail) == (Seen.FAILED, True)
        finally:
            place.end()
    finally:
        shutil.rmtree(data)
