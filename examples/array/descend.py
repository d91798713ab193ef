"""Gradient descent on a valley, with the learning rate that belongs to this job of the sweep."""

import json
import os
from pathlib import Path

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
rate = RATES[int(os.environ["HEADFRAME_ARRAY_INDEX"])]

x, y = 4.0, -3.0
with open(Path(os.environ["HEADFRAME_OUTPUTS"]) / "metrics.jsonl", "w") as metrics:
    for step in range(1, 201):
        x, y = x - rate * 2 * x, y - rate * 6 * y
        print(json.dumps({"step": step, "rate": rate, "loss": x * x + 3 * y * y}), file=metrics)
print(f"rate {rate}: loss {x * x + 3 * y * y:.3g} after 200 steps")
