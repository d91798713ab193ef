"""A real server with a real Slurm: a gang of torchrun-style workers, a preempted job, a dead node, a restart."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Row, Running, end_of, log_text, until

from headframe.cli import demo_checks
from headframe.cli.throwaway_slurm import SlurmCluster

WORKERS = """
import os, socket, struct, subprocess, sys
# What torchrun does: the nodes' agents meet at MASTER_ADDR:MASTER_PORT, then start their workers.
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
nodes, node, each = (int(os.environ[name]) for name in ("NNODES", "NODE_RANK", "NPROC_PER_NODE"))
visible = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
code = "import os, sys; print(f'worker {os.environ[chr(82)+chr(65)+chr(78)+chr(75)]} of {sys.argv[1]}', flush=True)"
if node == 0:
    with socket.create_server(address) as server:
        others = [server.accept()[0] for _ in range(nodes - 1)]
        total = sum([struct.unpack("!i", other.recv(4))[0] for other in others], each)
        for other in others:
            other.sendall(struct.pack("!i", total))
else:
    import time
    for attempt in range(100):
        try:
            mine = socket.create_connection(address)
            break
        except OSError:
            time.sleep(0.1)
    mine.sendall(struct.pack("!i", each))
    total = struct.unpack("!i", mine.recv(4))[0]
for local in range(each):
    rank = node * each + local
    env = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(local), "WORLD_SIZE": str(total)}
    subprocess.run([sys.executable, "-c", code, str(total)], env=env, check=True)
print(f"node {node}: {len(visible)} devices, hosts {os.environ['HEADFRAME_HOSTS']}", flush=True)
"""
COUNT = """
at=$(ls "$HEADFRAME_CHECKPOINTS" | sort -n | tail -n 1); at=${at:-0}
echo "attempt $HEADFRAME_ATTEMPT from $at"
if [ "$NODE_RANK" != 0 ]; then until [ -e "$HEADFRAME_CHECKPOINTS/60" ]; do sleep 0.1; done; exit 0; fi
while [ "$at" -lt 60 ]; do
  at=$((at + 1)); echo $at > "$HEADFRAME_CHECKPOINTS/.new"
  mv "$HEADFRAME_CHECKPOINTS/.new" "$HEADFRAME_CHECKPOINTS/$at"
  sleep 0.05
done
"""


@pytest.fixture(scope="module")
def lab(slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose only GPUs are those of the Slurm cluster."""
    running = Running(tmp_path_factory.mktemp("lab"), fake_gpus="")
    running.data.mkdir()
    (running.data / "clusters.yaml").write_text(
        f"lab: {{engine: slurm, region: north, conf: {slurm.conf}, ear: localhost, poll: 300ms, watch: 1s}}\n"
    )
    try:
        running.start()
        until(lambda: len(running.client().nodes()) == 5)
        yield running
    finally:
        slurm.mend()
        running.clear()


def test_two_nodes_of_torchrun_style_workers(lab: Running, slurm: SlurmCluster, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(WORKERS)
    (tmp_path / "job.yaml").write_text(
        "name: gang\nfiles: .\nnodes: 2\nresources: {gpu: H100:8, cpu: 4, memory: 1GB}\nclusters: [lab]\n"
        "topology: rack\nrun: python3 train.py\n"
    )
    client = lab.client()
    job = end_of(client, client.submit(tmp_path / "job.yaml")["id"])
    text = log_text(client, job["id"])
    assert job["state"] == "succeeded", text
    assert sorted(line for line in text.splitlines() if "worker" in line) == sorted(
        f"worker {rank} of 16" for rank in range(16)
    )
    assert text.count("8 devices") == 2
    (held,) = client.story(job["id"])["allocations"]
    nodes = {piece["node_id"] for piece in held["slices"]}
    leaves = [set(slurm.nodes[:2]), set(slurm.nodes[2:])]
    assert {node.rpartition("_")[2] for node in nodes} in leaves, "both are below one leaf"


def test_a_preempted_job_goes_on_from_its_checkpoint(lab: Running) -> None:
    client = lab.client()
    whole = {"gpu": "H100:8", "cpu": 1, "memory": "64MB"}
    spot: Row = client.submit(
        {"name": "spot", "run": COUNT, "nodes": 4, "resources": whole, "purchase": "spot",
         "checkpoints": {"path": "ckpt", "keep": 100}, "retry": {"on": ["preemption"], "max": 0}}
    )  # fmt: skip
    until(lambda: "attempt 1 from 0" in log_text(client, spot["id"]))
    until(lambda: client.outputs(spot["id"]))
    other = client.submit({"name": "first", "run": "echo here", "resources": whole})
    assert end_of(client, other["id"])["state"] == "succeeded"
    ended = end_of(client, spot["id"])
    story = client.story(spot["id"])
    assert ended["state"] == "succeeded", story
    assert [one["outcome"] for one in story["attempts"]] == ["preemption", "succeeded"]
    assert story["attempts"][1]["resumed_from"]
    assert int(log_text(client, spot["id"]).rpartition("attempt 2 from ")[2].split()[0]) > 0


def test_a_job_whose_node_dies_goes_on_elsewhere_and_its_lost_time_is_told(lab: Running, slurm: SlurmCluster) -> None:
    client = lab.client()
    job = client.submit(
        {"name": "mourns", "run": 'echo "attempt $HEADFRAME_ATTEMPT"; [ "$HEADFRAME_ATTEMPT" = 2 ] || sleep 1000',
         "resources": {"gpu": "H100:1", "cpu": 1, "memory": "64MB"}, "retry": {"on": ["node_failure"], "max": 2}}
    )  # fmt: skip
    until(lambda: "attempt 1" in log_text(client, job["id"]))
    (held,) = client.story(job["id"])["allocations"]
    node = held["slices"][0]["node_id"].rpartition("_")[2]
    slurm.kill(f"slurmd-{node}")
    slurm.call("scontrol", "update", f"nodename={node}", "state=down", "reason=power lost")
    try:
        ended = end_of(client, job["id"])
        story = client.story(job["id"])
        assert ended["state"] == "succeeded", story
        assert [one["outcome"] for one in story["attempts"]] == ["node_failure", "succeeded"]
        assert node in story["attempts"][0]["detail"]
        assert [one["faulted"] for one in story["allocations"]] == [True, False]
        assert {piece["node_id"].rpartition("_")[2] for piece in story["allocations"][1]["slices"]} != {node}
    finally:
        slurm.mend()


def test_a_server_killed_under_a_slurm_job_finds_it_again(lab: Running) -> None:
    client = lab.client()
    run = "n=0; while [ $n -lt 80 ]; do n=$((n+1)); echo $n; sleep 0.05; done"
    job = client.submit({"name": "stays", "run": run, "clusters": ["lab"], "resources": {"cpu": 1, "memory": "64MB"}})
    until(lambda: "5\n" in log_text(client, job["id"]))
    lab.kill()
    lab.start()
    ended = end_of(lab.client(), job["id"])
    assert (ended["state"], ended["attempt"]) == ("succeeded", 1)
    assert log_text(lab.client(), job["id"]).split() == [str(number) for number in range(1, 81)]


def test_a_cluster_given_up_comes_back_and_what_lives_there_is_ended_and_never_paid(
    lab: Running, slurm: SlurmCluster
) -> None:
    client = lab.client()
    run = 'echo "attempt $HEADFRAME_ATTEMPT"; until [ "$HEADFRAME_ATTEMPT" = 2 ]; do echo x >> beats; sleep 0.05; done'
    job = client.submit(
        {"name": "cut-off", "run": run, "clusters": ["lab", "local"], "prefer": "listed",
         "resources": {"cpu": 1, "memory": "64MB"}, "retry": {"on": ["node_failure"], "max": 2}}
    )  # fmt: skip
    until(lambda: "attempt 1" in log_text(client, job["id"]))
    beats = lab.data / "jobs" / job["id"] / "attempts/1/0/work/beats"
    leaders = [int(pid) for pid in subprocess.run(
        ["pgrep", "-f", f"{slurm.root}/spool/.*/slurm_script"], capture_output=True, text=True, check=True
    ).stdout.split()]  # fmt: skip
    lab.kill()
    try:
        for pid in leaders:  # cut off from the shared folder, too
            os.kill(pid, signal.SIGSTOP)
        for name in ("slurmctld", *(f"slurmd-{node}" for node in slurm.nodes)):
            slurm.kill(name)
        lab.start()
        client = lab.client()
        until(lambda: {one["name"]: one for one in client.clusters()}["lab"]["unreachable_us"])
        client.lose_cluster("lab", "lab", "the hall burned down")
        ended = end_of(client, job["id"])
        story = client.story(job["id"])
        assert (ended["state"], [one["outcome"] for one in story["attempts"]]) == (
            "succeeded", ["node_failure", "succeeded"]), story  # fmt: skip
        assert story["allocations"][1]["cluster_id"] == "clu_local"
        before = beats.stat().st_size
        until(lambda: beats.stat().st_size > before)  # nobody can end it while it is cut off
    finally:
        slurm.mend()
        for pid in leaders:
            with contextlib.suppress(ProcessLookupError):  # Slurm was told to end it, and has
                os.kill(pid, signal.SIGCONT)
    until(lambda: not slurm.call("squeue", "-h", "-t", "running").strip())
    size = beats.stat().st_size
    client.resume_cluster("lab")
    after = client.submit(
        {"name": "again", "run": "true", "clusters": ["lab"], "resources": {"cpu": 1, "memory": "64MB"}}
    )
    assert end_of(client, after["id"])["state"] == "succeeded"
    assert beats.stat().st_size == size
    again = client.story(job["id"])
    assert [(one["id"], one["released_us"]) for one in again["allocations"]] == [
        (one["id"], one["released_us"]) for one in story["allocations"]
    ]
    until(lambda: all(one["settled"] for one in client.story(job["id"])["allocations"]))
    owed = sum(one.amount_nano for one in demo_checks.bill([client.story(job["id"])], client.prices()))
    with contextlib.closing(sqlite3.connect(f"file:{lab.data}/headframe.db?mode=ro", uri=True)) as store:
        paid = store.execute("SELECT sum(amount_nano) FROM charges WHERE job_id = ?", (job["id"],)).fetchone()
    assert paid == (owed,)
