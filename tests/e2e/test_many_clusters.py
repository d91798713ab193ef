"""Several clusters in one server, as a user of Slurm would come to them: choose, drain, import, squeue, scancel."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import HEADFRAME, Running, until

CLUSTERS = """\
cloud:
  engine: scripted
  region: south
  nodes: 2
  gpus: A100:4
far:
  engine: scripted
  region: north
  labels: {tier: far}
  gpus: A100:4
"""
SBATCH = """\
#!/bin/bash
#SBATCH -J Hello
#SBATCH -A acme -t 5
#SBATCH --mem=256M
#SBATCH --array=3,9
echo "index $SLURM_ARRAY_TASK_ID of $SLURM_JOB_NAME on $SLURM_NNODES"
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("clusters")
    made = Running(root)
    made.data.mkdir(mode=0o700)
    (made.data / "clusters.yaml").write_text(CLUSTERS)
    try:
        made.start()
        made.env |= {"HEADFRAME_URL": made.url, "HEADFRAME_KEY": made.key}
        until(lambda: len(made.client().nodes()) == 4)
        yield made
    finally:
        made.clear()


def say(running: Running, *words: str, code: int = 0, stdin: str = "") -> str:
    done = subprocess.run(
        [*HEADFRAME, *words], env=running.env, capture_output=True, text=True, timeout=60, input=stdin
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def slurm(running: Running, *words: str, code: int = 0) -> list[str]:
    return say(running, "shim", *words, code=code).splitlines()


def test_clusters_are_listed_compared_drained_and_resumed(running: Running) -> None:
    client = running.client()
    client.set_price(meter="gpu:A100", amount="0.50 USD", region="north")
    assert {row["name"]: row["region_id"] for row in client.clusters()} == {
        "local": "reg_local", "cloud": "reg_south", "far": "reg_north"
    }  # fmt: skip
    told = say(running, "plan", "--gpu", "A100:1", "--", "true")
    assert [line.split()[:2] for line in told.splitlines() if line.startswith(("far ", "cloud ", "local "))] == [
        ["far", "chosen"], ["cloud", "free"], ["local", "too"]
    ]  # fmt: skip
    say(running, "clusters", "drain", "far", "--reason", "new switches")
    assert "draining" in next(line for line in say(running, "clusters").splitlines() if " far " in line)
    found = json.loads(say(running, "plan", "--gpu", "A100:1", "--json", "--", "true"))
    assert {row["cluster"]: row["verdict"] for row in found["clusters"]} == {
        "cloud": "chosen", "far": "drained", "local": "too_small"
    }  # fmt: skip
    say(running, "clusters", "resume", "far")
    assert [row["state"] for row in client.clusters()] == ["ready"] * 3


def test_an_sbatch_script_comes_over_and_runs(running: Running, tmp_path: Path) -> None:
    script, target = tmp_path / "hello.sbatch", tmp_path / "hello.yaml"
    script.write_text(SBATCH)
    found = json.loads(say(running, "import", "sbatch", str(script), "-o", str(target), "--json"))
    assert [row["line"] for row in found["left"]] == [2, 3]
    assert running.client().import_sbatch(SBATCH)["job"] == found["job"]
    assert target.read_text() == found["yaml"]
    say(running, "import", "sbatch", str(script), "-o", str(target), code=2)
    assert say(running, "import", "sbatch", "-", stdin=SBATCH) == found["yaml"]
    parent = running.client().submit(target)
    running.client().wait(parent["id"], timeout_s=60)
    said = sorted(
        piece["text"]
        for child in running.client().jobs(parent=parent["id"])
        for piece in running.client().logs(child["id"])
        if piece["stream"] == "stdout"
    )
    assert said == ["index 3 of hello-0 on 1\n", "index 9 of hello-1 on 1\n"]


def test_what_slurm_users_type_is_answered(running: Running) -> None:
    client = running.client()
    me = client.whoami()["member"]["name"]
    document = {"resources": {"gpu": "A100:4"}, "max_duration": "1d", "clusters": ["cloud"]}
    jobs = [client.submit({**document, "name": name, "run": "run 3h"}) for name in ("one", "two", "three")]
    until(lambda: [client.job(job["id"])["state"] for job in jobs] == ["running", "running", "queued"])
    head, *lines = slurm(running, "squeue")
    assert head.split() == ["JOBID", "PARTITION", "NAME", "USER", "ST", "TIME", "NODES", "NODELIST(REASON)"]
    assert [line.split()[2::2] for line in lines] == [["one", "R", "1"], ["two", "R", "1"], ["three", "PD", "1"]]
    assert [line.split()[-1] for line in lines[:2]] in (["cloud-1", "cloud-2"], ["cloud-2", "cloud-1"])
    assert lines[2].split()[-1] == "(Resources)"
    assert slurm(running, "squeue", "-h", "-t", "PD", "-o", "%i|%j|%T|%l|%b|%P") == [
        f"{jobs[2]['id']}|three|PENDING|1-00:00:00|gres/gpu:a100:4|cloud"
    ]
    assert slurm(running, "squeue", "--noheader", "-u", "nobody") == []
    assert len(slurm(running, "squeue", "-h", "--me", "--states=R,PENDING")) == 3
    assert slurm(running, "squeue", "-hu", me, "-n", "two", "--format=%.3j%5t.") == ["twoR    ."]
    assert slurm(running, "squeue", "-j", f"{jobs[0]['id']},{jobs[2]['id']}", "-h", "-o", "%j") == ["one", "three"]
    assert "Invalid job id" in slurm(running, "squeue", "-j", "job_nothing", "-h", code=1)[0]
    assert "%Y is not known" in "\n".join(slurm(running, "squeue", "-o", "%Y", code=2))
    assert [row["name"] for row in json.loads(say(running, "shim", "squeue", "--json"))["jobs"]] == [
        "one",
        "two",
        "three",
    ]
    head, *lines = slurm(running, "sinfo")
    assert head.split() == ["PARTITION", "AVAIL", "TIMELIMIT", "NODES", "STATE", "NODELIST"]
    assert ["cloud", "up", "infinite", "2", "alloc", "cloud-[1-2]"] in [line.split() for line in lines]
    assert slurm(running, "sinfo", "-h", "-p", "far", "-N", "-o", "%N %t %G") == ["far-1 idle gpu:a100:4"]
    assert slurm(running, "scancel", "--name", "one") == []
    until(lambda: client.job(jobs[2]["id"])["state"] == "running")
    assert "scancel: error" in slurm(running, "scancel", "job_nothing", code=1)[0]
    assert slurm(running, "scancel", "-u", me, "-t", "RUNNING") == []
    until(lambda: slurm(running, "squeue", "-h") == [])
    assert slurm(running, "squeue", "-h", "-t", "CA", "-o", "%j %t") == ["one CA", "two CA", "three CA"]


def test_the_commands_are_put_into_a_folder(running: Running, tmp_path: Path) -> None:
    places = json.loads(say(running, "shim", "install", str(tmp_path / "bin"), "--json"))
    assert [Path(place).name for place in places] == ["squeue", "sinfo", "scancel"]
    words = [places[1], "-h", "-p", "far", "-o", "%R %D"]
    done = subprocess.run(words, env=running.env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "far 1\n"
    say(running, "shim", "install", str(tmp_path / "bin"), code=2)


def test_a_cluster_that_never_comes_back_is_given_up(running: Running) -> None:
    client = running.client()
    job = client.submit(
        {"name": "moves", "run": "run 3h | run 1s", "resources": {"gpu": "A100:4"}, "clusters": ["far", "cloud"],
         "prefer": "listed"}
    )  # fmt: skip
    until(lambda: client.job(job["id"])["state"] == "running")
    assert "answers" in say(running, "clusters", "lost", "far", "--reason", "sold", "--confirm", "far", code=1)
    running.stop()
    file = running.data / "clusters.yaml"
    file.write_text(CLUSTERS.partition("far:")[0])
    running.start()
    running.env |= {"HEADFRAME_URL": running.url}
    client = running.client()
    until(lambda: "unreachable" in next(line for line in say(running, "clusters").splitlines() if " far " in line))
    told = say(running, "clusters", "lost", "far", "--reason", "sold", code=2)
    assert job["id"] in told
    assert "Add --confirm far" in told
    assert say(running, "clusters", "lost", "far", "--reason", "sold", "--confirm", "far") == (
        "far is lost; it held something for 1 job.\n"
    )
    assert client.wait(job["id"], timeout_s=60)["state"] == "succeeded"
    first, second = client.story(job["id"])["allocations"]
    assert (first["cluster_id"], first["faulted"], second["cluster_id"]) == ("clu_far", True, "clu_cloud")
