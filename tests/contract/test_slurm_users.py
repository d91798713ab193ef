"""Jobs that run as Unix users of a Slurm cluster: what they leave in their folders cannot lead the server astray."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from headframe.cli.throwaway_slurm import SlurmCluster
from headframe.engines import slurm_care as care
from headframe.engines.agent_state import Status
from headframe.engines.slurm_held import SET_UP_FAILED, Notes, conclusion, hold
from headframe.fleet.engine_words import Seen
from tests.contract.engine_contract import SlurmPlace, launch, wait_until


@dataclass
class Town:
    """A cluster whose jobs run as `nobody`, without a sandbox, and things of the superuser's that are not theirs."""

    place: SlurmPlace
    treasure: Path
    secret: Path


@pytest.fixture
def town(slurm: SlurmCluster) -> Iterator[Town]:
    root = Path(tempfile.mkdtemp(prefix="headframe-users-"))
    root.chmod(0o755)
    (root / "treasure").mkdir(0o700)
    (root / "secret").write_text("the superuser's\n")
    (root / "secret").chmod(0o600)
    (root / "data").mkdir(0o711)
    place = SlurmPlace(root / "data", slurm, users={"org_1": "nobody"}, sandbox=False)
    try:
        yield Town(place, root / "treasure", root / "secret")
    finally:
        place.end()
        shutil.rmtree(root)


def test_a_user_cannot_have_files_of_others_read_written_or_given_to_it(town: Town) -> None:
    place = town.place
    attack = f"""
        cd "$HEADFRAME_OUTPUTS/.."
        for name in outputs checkpoints log attempts; do
          mv $name $name.old && ln -s {town.treasure} $name
        done
        cd "$OLDPWD/.."
        echo written
        rm run/stdout && ln -s {town.secret} run/stdout
        ln -s {town.secret} ../orders.new
        sleep 100
    """
    place.act([launch("bad", attack)])
    place.wait_seen("alc_bad", Seen.RUNNING)
    folder = place.data / "jobs/job_bad/attempts/1"
    wait_until(lambda: os.path.lexists(folder / "orders.new"), "all has been laid out")
    place.stop_all()
    place.text("bad")
    place.act([replace(launch("bad", "id -un", generation=2), allocation_id="alc_worse")])
    assert place.wait_seen("alc_worse", Seen.EXITED).exit_code == 0
    assert "superuser" not in place.text("bad")
    assert town.secret.read_text() == "the superuser's\n"
    for path in (town.treasure, town.secret):
        assert (path.stat().st_uid, path.stat().st_mode & 0o077) == (0, 0)
    assert not list(town.treasure.iterdir())
    assert (place.data / "jobs/job_bad/outputs").owner() == "nobody"


def test_a_user_cannot_keep_the_engine_waiting_nor_go_on_after_an_end_of_its_own_making(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(care, "FORCE_S", 1.0)
    place = town.place
    attack = """
        sleep 0.2
        cd ../..
        for name in 0/run/begun 0/run/stderr orders; do mkfifo pipe; mv pipe $name; done
        echo 'job 1 h[1-999999999] hf-another-1' >> taken
        echo '[[1]]' > 0/run/status; echo '{ "over": 1, "exit-code": 1e99, "leader-code": 999999 }' >> 0/run/status
        sleep 100
    """
    place.act([launch("pipe", attack)])
    place.wait_seen("alc_pipe", Seen.RUNNING)
    held = place.engine.held["alc_pipe"]
    number, status = held.number, place.data / "jobs/job_pipe/attempts/1/0/run/status"
    wait_until(lambda: "over" in status.read_text(), "all has been laid out")
    place.engine.loop.post(lambda: place.engine._look(held))
    assert place.wait_seen("alc_pipe", Seen.FAILED, Seen.EXITED).exit_code in (None, 137)
    assert held.number == number
    end = place.run("after", "id -un")
    assert (end.exit_code, place.text("after", "stdout")) == (0, "nobody\n")
    wait_until(lambda: number not in place.slurm.call("squeue", "-h", "-t", "running", "-o", "%i").split(), "it ends")


def test_a_sandbox_that_cannot_be_made_for_a_user_is_no_fault_of_the_job() -> None:
    seen = Status(inside=7, leader_code=SET_UP_FAILED)
    held = hold(launch("box", "true"), "hf", sandboxed=True)
    end = conclusion(held, Notes("1", over={0: seen}), 0)
    assert (end["seen"], end["fault"], end["exit_code"]) == ("failed", "engine", None)
    assert "see the log" in end["detail"]
    killed = conclusion(held, Notes("1", over={0: Status(inside=7, leader_code=137)}), 0)
    assert (killed["seen"], killed["exit_code"]) == ("exited", 137)
