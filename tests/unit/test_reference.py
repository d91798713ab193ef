"""The reference pages are made from the code, and the ones in the tree are current."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_reference_pages_say_what_the_code_says():
    check = subprocess.run(
        [sys.executable, "scripts/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert check.returncode == 0, f"{check.stdout}{check.stderr}\nMend: python scripts/reference.py"
