"""Two hundred worlds, each made twice under two hash seeds: everything holds, and both are the same bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

SEEDS = 200
WORKER = Path(__file__).with_name("worker.py")


def start(first: int, end: int, hash_seed: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, str(WORKER), str(first), str(end)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_everything_holds_in_every_world_under_any_hash_seed():
    workers = [start(0, SEEDS, "1"), start(0, SEEDS, "2")]
    told = []
    for worker in workers:
        out, err = worker.communicate(timeout=900)
        assert worker.returncode == 0, err
        told.append([json.loads(line) for line in out.splitlines()])
    first, second = told
    assert len(first) == len(second) == SEEDS
    failed = [f"{row['command']}\n  {row['problem']}" for row in first if row["problem"]]
    assert not failed, "replay with:\n" + "\n".join(failed)
    differ = [one["command"] for one, other in zip(first, second, strict=True) if one["digest"] != other["digest"]]
    assert not differ, "not the same twice: " + ", ".join(differ)
    assert len({row["digest"] for row in first}) == SEEDS
    assert sum(row["deaths"] for row in first) > 100
