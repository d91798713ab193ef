"""The official FOCUS validator on the profile 1.2 of the worked month, where one is at hand.

It needs Python 3.12 or later and so an environment of its own:

    python3.12 -m venv focus && focus/bin/pip install 'focus-validator==2.2.1' 'pyarrow<22'
    HEADFRAME_FOCUS_VALIDATOR=focus/bin/focus-validator pytest tests/unit/documents/test_focus_validator.py -rs

Failures that are the validator's own are listed in `focus_validator_known.txt`, one id a line, as they were seen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from headframe.documents.books import read_books
from headframe.documents.folder import focus_files
from headframe.sim.example import MONTH, NEXT, Example, _play
from headframe.store.migrations import migrate
from headframe.store.sql_store import SqlStore

KNOWN = Path(__file__).with_name("focus_validator_known.txt")


def validator() -> Path:
    """The command of the validator; skips where there is none."""
    named = os.environ.get("HEADFRAME_FOCUS_VALIDATOR") or shutil.which("focus-validator")
    if not named or not Path(named).exists():
        pytest.skip("no focus-validator here: it needs Python 3.12 and an environment of its own (see above)")
    return Path(named).resolve()


def rules_folder(command: Path) -> Path:
    """Where the validator's package lies: it looks for its own files from the working directory on."""
    python = command.with_name("python")
    asked = "import focus_validator, pathlib; print(pathlib.Path(focus_validator.__file__).parent)"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, timeout=60, check=True)
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    validator()
    folder = tmp_path_factory.mktemp("focus")
    url = f"sqlite:///{folder}/headframe.db"
    migrate(url)
    store = SqlStore(url)
    cloud = Example(store)
    _play(cloud, folder / "files")
    made = []
    for month in (MONTH, NEXT):
        for name, make in focus_files(read_books(store, month, cloud.clock.true_us), "1.2"):
            place = folder / f"{month}-{name}"
            place.write_bytes(make())
            made.append(place)
    store.close()
    return made


def failing(command: Path, table: Path, folder: Path) -> set[str]:
    """The ids of the rules that a table breaks, by the validator's report; its exit code tells nothing."""
    (folder / "focus_validator").symlink_to(rules_folder(command))
    report = folder / "report.xml"
    done = subprocess.run(
        [
            command, "--data-file", table, "--validate-version", "1.2", "--block-download", "--output-type", "unittest",
            "--output-destination", report,
        ],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert report.exists(), done.stdout + done.stderr
    cases = ElementTree.parse(report).iter("testcase")
    return {
        case.get("name", "").split(" ")[0] for case in cases if any(case.iter("failure")) or any(case.iter("error"))
    }


def test_the_official_validator_finds_nothing_new(tables: list[Path], tmp_path: Path) -> None:
    found: set[str] = set()
    for number, table in enumerate(tables):
        folder = tmp_path / str(number)
        folder.mkdir()
        found |= failing(validator(), table, folder)
    if not KNOWN.exists():
        pytest.skip(f"what the validator finds wrongly is not on record yet; here it found: {sorted(found)}")
    assert found <= set(KNOWN.read_text().split())
