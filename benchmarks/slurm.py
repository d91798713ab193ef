# python benchmarks/slurm.py --json
"""What Headframe adds to Slurm, on a throwaway Slurm of four nodes on this machine, in one run.

`submit_to_first_line_ms`: from the submit (HTTP, or the start of `sbatch`) until the first line of the job has run;
in pairs, each at the same moment of Slurm's beat. `jobs_500_seconds`: 500 trivial jobs from the first submit until the
last has ended, by 500 plain `sbatch` one after another, by 500 submits one after another, and by one submit of an array
of 500; medians of three repeats. `observe_5000`: an engine that holds 5,000 running jobs looks at them as often as it
does by default; the controller is real and has 5,000 jobs, of which a wrapper around the real `squeue` says that they
run, on 1,000 nodes that are not there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from headframe.cli.throwaway_slurm import SlurmCluster, missing
from headframe.client import Client
from headframe.engines import registry, slurm
from headframe.engines.homes import Home
from headframe.engines.slurm_held import Held
from headframe.fleet.records import Cluster, Region

STAMP = 'date +%s%N > "{path}"'
PAUSE_S = 0.05  # between looks at a burst, so that they are no burden
SMALL = {"cpu": 1, "memory": "64MB"}


def until(look: Callable[[], Any], seconds: float = 120.0, pause: float = 0.005) -> Any:
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise SystemExit("it did not come about in time")
        time.sleep(pause)
    return found


@contextlib.contextmanager
def cloud(cluster: SlurmCluster, root: Path) -> Iterator[tuple[Client, Path]]:
    """A server whose jobs run on the cluster, with Headframe's default settings."""
    data = root / "data"
    data.mkdir(parents=True)
    (data / "clusters.yaml").write_text(f"lab: {{engine: slurm, conf: {cluster.conf}, ear: localhost}}\n")
    log = root / "serve.log"
    words = [sys.executable, "-m", "headframe.cli.main", "serve", "--data", str(data), "--port", "0"]
    with log.open("wb") as out:
        server = subprocess.Popen(words, stdout=out, stderr=out)
    try:
        until(lambda: "Sign in with" in log.read_text())
        url = re.search(r"http://[0-9.:]+", log.read_text())[0]  # type: ignore[index]
        key = re.search(r"^  (hf_\S+)$", log.read_text(), re.MULTILINE)[1]  # type: ignore[index]
        with Client(url, key) as client:
            until(lambda: len(client.nodes()) == len(cluster.nodes) + 1)
            yield client, data
    finally:
        server.terminate()
        server.wait(20)


def first_lines(cluster: SlurmCluster, client: Client, root: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds from the submit to the first line. Slurm starts batch jobs in beats of a second, so what a launch
    takes is for the most part how soon after it the next beat is: each round submits one of each, the first of them by
    turns, at the same moment of a second, and the rounds' moments are spread evenly over the second."""
    moments = [(number + 0.5) / rounds for number in range(rounds)]
    random.Random(1).shuffle(moments)
    taken: dict[str, list[float]] = {"plain": [], "ours": []}
    for number, moment in enumerate(moments):
        for way in ("plain", "ours") if number % 2 else ("ours", "plain"):
            time.sleep((moment - time.time()) % 1)
            taken[way].append(_ours(client, number) if way == "ours" else _plain(cluster, root / f"plain{number}"))
            time.sleep(0.3)
    plain, ours = taken["plain"], taken["ours"]
    return {
        "headframe_p50": round(statistics.median(ours), 1), "sbatch_p50": round(statistics.median(plain), 1),
        "added_p50": round(statistics.median(one - other for one, other in zip(ours, plain, strict=True)), 1),
        "headframe_min_max": [round(min(ours)), round(max(ours))],
        "sbatch_min_max": [round(min(plain)), round(max(plain))],
        "rounds": rounds,
    }  # fmt: skip


def _plain(cluster: SlurmCluster, path: Path) -> float:
    began = time.time_ns()
    cluster.call("sbatch", "-o", "/dev/null", "-c", "1", "--mem=64", "--wrap", STAMP.format(path=path))
    until(lambda: path.exists() and path.read_text().strip())
    return (int(path.read_text()) - began) / 1e6


def _ours(client: Client, number: int) -> float:
    began = time.time_ns()
    job = client.submit({"run": "date +%s%N", "clusters": ["lab"], "resources": SMALL, "name": f"first-{number}"})
    client.wait(job["id"])
    text = "".join(piece["text"] for piece in client.logs(job["id"]) if piece["stream"] == "stdout")
    return (int(text) - began) / 1e6


def many(cluster: SlurmCluster, client: Client, count: int, repeats: int) -> dict[str, Any]:
    """Seconds until `count` trivial jobs have ended: medians of some repeats, each of them one after another."""
    ways = {
        "headframe": lambda: _submits(client, count), "sbatch": lambda: _sbatches(cluster, count),
        "headframe_array": lambda: _array(client, count),
    }  # fmt: skip
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _repeat in range(repeats):
        for way, go in ways.items():
            until(lambda: not cluster.call("squeue", "-h").strip())
            began = time.monotonic()
            go()
            taken[way].append(time.monotonic() - began)
    middle = {way: round(statistics.median(seconds), 2) for way, seconds in taken.items()}
    return middle | {
        "ratio": round(middle["headframe"] / middle["sbatch"], 2),
        "ratio_array": round(middle["headframe_array"] / middle["sbatch"], 2),
        "jobs": count, "repeats": repeats,
        "each": {way: [round(one, 2) for one in seconds] for way, seconds in taken.items()},
    }  # fmt: skip


def _sbatches(cluster: SlurmCluster, count: int) -> None:
    for _one in range(count):
        cluster.call("sbatch", "-o", "/dev/null", "-c", "1", "--mem=64", "--wrap", "true")
    until(lambda: not cluster.call("squeue", "-h").strip(), pause=PAUSE_S)


def _submits(client: Client, count: int) -> None:
    job = {"run": "true", "clusters": ["lab"], "resources": SMALL}
    _all_ended(client, [client.submit(job)["id"] for _one in range(count)])


def _array(client: Client, count: int) -> None:
    job = {"run": "true", "clusters": ["lab"], "resources": SMALL, "array": {"index": f"0..{count - 1}"}}
    if client.wait(client.submit(job)["id"])["state"] != "succeeded":
        raise SystemExit("the array did not succeed")


def _all_ended(client: Client, jobs: list[str]) -> None:
    open_states = ["pending", "queued", "starting", "running", "stopping"]
    until(lambda: not client.jobs(limit=1, state=open_states), 300, PAUSE_S)
    states = {row["state"] for row in client.jobs(limit=len(jobs) + 10) if row["id"] in set(jobs)}
    if states != {"succeeded"}:
        raise SystemExit(f"jobs ended {states}")


_SQUEUE = """#!/bin/sh
echo x >> {calls}
exec /usr/bin/squeue -h -r -o "%i" |
  awk '{{ printf "%d|RUNNING|hf{tag}-alc_%d-1|root|h%d|UNLIMITED|None\\n", NR, NR, NR % 1000 }}'
"""
_SCONTROL = """#!/bin/sh
case "$*" in *topology*) exit 0 ;; esac
exec cat {nodes}
"""


def observed(cluster: SlurmCluster, root: Path, count: int, seconds: float) -> dict[str, Any]:
    """CPU of an engine that holds `count` running jobs, with all commands that it runs, in percent of one core."""
    cluster.call("sbatch", "--hold", "-o", "/dev/null", f"--array=0-{count - 1}", "-c", "1", "--wrap", "true")
    data, programs = root / "data", root / "bin"
    state = data / "slurm/lab/state"
    for folder in (state, programs):
        folder.mkdir(parents=True)
    (data / "slurm/lab/tag").write_text("0a0a0a")
    (root / "nodes").write_text("".join(
        f"NodeName=h{number} CPUAlloc=5 CPUEfctv=16 CPUTot=16 Gres=gpu:h100:8 GresUsed=gpu:h100:5(IDX:0-4) "
        f"NodeAddr=h{number} Version=22.05.8 RealMemory=65536 AllocMem=5120 State=MIXED Partitions=low\n"
        for number in range(1000)
    ))  # fmt: skip
    for name, text in (("squeue", _SQUEUE), ("scontrol", _SCONTROL)):
        (programs / name).write_text(text.format(calls=root / "calls", tag="0a0a0a", nodes=root / "nodes"))
        (programs / name).chmod(0o755)
    (programs / "sbatch").symlink_to(shutil.which("sbatch") or "/usr/bin/sbatch")
    for number in range(1, count + 1):
        held = Held(
            f"alc_{number}", 1, f"job_{number}", "org_x", f"hf0a0a0a-alc_{number}-1", [0], True, 0,
            {f"nod_lab_h{number % 1000}": [1, 1024, 1, 0]}, sent=True, number=str(number), at_us=1, running_us=1,
        )  # fmt: skip
        held.save(state)
    home = Home(Cluster("clu_lab", "reg_lab", "lab", "slurm"), Region("reg_lab", "lab"), data,
                {"conf": str(cluster.conf), "bin": str(programs), "ear": "localhost"})  # fmt: skip
    engine = registry.FACTORIES["slurm"](home)
    assert isinstance(engine, slurm.SlurmEngine)
    engine.start(lambda _seen: None)
    time.sleep(3)
    calls, began, cpu = _count(root / "calls"), time.monotonic(), _cpu_s()
    time.sleep(seconds)
    spent, took = _cpu_s() - cpu, time.monotonic() - began
    looks = _count(root / "calls") - calls
    engine.close()
    began = time.monotonic()
    for _one in range(5):
        cluster.call("squeue", "-h", "-r", "-o", "%i|%T|%j|%u|%N|%r")
    real = (time.monotonic() - began) / 5
    cluster.call("scancel", "-u", "root")
    return {
        "calls": 1, "cpu_percent": round(100 * spent / took, 1), "looks": looks, "seconds": round(took, 1),
        "squeue_ms": round(real * 1000), "jobs": count, "nodes": 1000,
    }  # fmt: skip


def _count(path: Path) -> int:
    return len(path.read_text().split()) if path.exists() else 0


def _cpu_s() -> float:
    return sum(
        use.ru_utime + use.ru_stime
        for use in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--observed", type=int, default=5000)
    asked = parser.parse_args()
    if why := missing():
        raise SystemExit(why)
    root = Path(
        tempfile.mkdtemp(prefix="headframe-slurm-bench-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    )
    root.chmod(0o755)
    cluster = SlurmCluster(Path(tempfile.mkdtemp(prefix="headframe-slurm-")))
    try:
        cluster.start()
        with cloud(cluster, root / "cloud") as (client, _data):
            lines = first_lines(cluster, client, root, asked.rounds)
            jobs = many(cluster, client, asked.jobs, asked.repeats)
        watched = observed(cluster, root / "watch", asked.observed, 20.0)
    finally:
        cluster.end()
        shutil.rmtree(root, ignore_errors=True)
    found = {"submit_to_first_line_ms": lines, f"jobs_{asked.jobs}_seconds": jobs, f"observe_{asked.observed}": watched}
    print(json.dumps(found, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
