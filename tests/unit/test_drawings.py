"""The drawings of the documents show what the code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_drawing_of_orders_is_what_a_replay_gives() -> None:
    check = subprocess.run(
        [sys.executable, "scripts/drawings.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert check.returncode == 0, f"{check.stderr}\nMend: python scripts/drawings.py"
