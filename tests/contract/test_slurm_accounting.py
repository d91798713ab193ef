"""A Slurm with accounting: who has no rights is told so, and without slurmdbd work goes on."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headframe.cli.throwaway_slurm import SlurmCluster, missing, wait_until
from headframe.fleet.engine_words import Seen
from tests.contract.engine_contract import SlurmPlace


@pytest.fixture(scope="module")
def accounted() -> Iterator[SlurmCluster]:
    why = missing() or ("MariaDB or slurmdbd is not installed" if shutil.which("mariadbd") is None else "")
    if why:
        pytest.skip(why)
    cluster = SlurmCluster(Path(tempfile.mkdtemp(prefix="headframe-slurm-")), accounting=True)
    try:
        yield cluster.start()
    finally:
        cluster.end()


def test_accounts_are_charged_or_refused_and_slurmdbd_may_be_away(accounted: SlurmCluster, tmp_path: Path) -> None:
    place = SlurmPlace(tmp_path / "wrong", accounted, account="nobody")
    try:
        end = place.run("rightless", "true")
        assert (end.seen, end.fault) == (Seen.FAILED, "engine")
        assert "account" in end.detail
    finally:
        place.end()
    place = SlurmPlace(tmp_path / "right", accounted, account="acme")
    try:
        assert place.run("paid", "exit 3").exit_code == 3
        told = ["sacct", "-X", "-n", "-P", "-o", "Account,Comment"]
        comment = "acme|headframe allocation=alc_paid generation=1 job=job_paid"
        wait_until(lambda: comment in accounted.call(*told), "our ids stand in the accounting")
        accounted.kill("slurmdbd")
        assert place.run("unaccounted", "exit 4").exit_code == 4
    finally:
        place.end()
