"""What goes on after the demonstration, so that its console opens on something: a training that reports its loss, a
sweep that shares a GPU, a job that waits for room, and a budget. The work is a stand-in that costs next to no CPU."""

from __future__ import annotations

from typing import Any

from headframe.client import Client

LASTS = "1h"
BUDGET = "20 USD"
# A loss that falls and a line a second: what a training looks like from outside.
TRAINING = """exec python3 -u - <<'END'
import json, math, os, random, time

metrics = open(os.environ["HEADFRAME_OUTPUTS"] + "/metrics.jsonl", "a")
chance = random.Random(os.environ["HEADFRAME_JOB_ID"])
for step in range(1, 3500):
    loss = 0.4 + 2.2 / math.sqrt(1 + step / 40) + chance.gauss(0, 0.02)
    rate = 3e-4 * min(1, step / 60)
    row = {"step": step, "loss": round(loss, 4), "learning_rate": rate, "tokens_per_second": chance.gauss(11800, 150)}
    print(json.dumps(row), file=metrics, flush=True)
    print(f"step {step:5}  \\x1b[36mloss\\x1b[0m {loss:.4f}  lr {rate:.2e}")
    if step % 100 == 0:
        print(f"\\x1b[32msaved\\x1b[0m checkpoint-{step}")
    time.sleep(1)
END"""
SMALL = {"cpu": 0.1, "memory": "128MB"}
JOBS: tuple[dict[str, Any], ...] = (
    {"name": "train-1b", "run": TRAINING, "resources": {"gpu": "H100:4", **SMALL}, "max_duration": LASTS},
    {"name": "sweep-lr-3e-4", "run": TRAINING, "resources": {"gpu": 0.5, **SMALL}, "max_duration": LASTS},
    {"name": "sweep-lr-1e-4", "run": TRAINING, "resources": {"gpu": 0.5, **SMALL}, "max_duration": LASTS},
    {"name": "pretrain-7b", "run": TRAINING, "resources": {"gpu": "H100:8", **SMALL}, "max_duration": LASTS},
)


def leave_running(client: Client, organization: str) -> int:
    """Submit them as a member would; how many there are. They end by themselves, also where the server is gone."""
    client.set_budget(scope="organization", scope_id=organization, amount=BUDGET, at_limit="warn")
    for job in JOBS:
        client.submit(job)
    return len(JOBS)
