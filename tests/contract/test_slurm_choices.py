"""What Slurm decides by itself: nodes where it may choose, time limits of partitions; and clocks that differ."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from headframe.cli.throwaway_slurm import SlurmCluster
from headframe.engines import slurm as slurm_engine
from headframe.engines import slurm_care, slurm_held
from headframe.engines.agent_state import now_us
from headframe.engines.slurm_calls import Ended
from headframe.fleet.engine_words import Seen, Stop
from tests.contract.engine_contract import OVER, SlurmPlace, launch, wait_until

MINUTE_US = 60_000_000
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
UNTIL_GO = 'until [ -e "$HEADFRAME_OUTPUTS/go" ]; do sleep 0.05; done'


def idle(slurm: SlurmCluster, node: str) -> None:
    """Wait until nothing ends on a node: without its slurmd that would take minutes."""
    try:
        wait_until(lambda: slurm.call("sinfo", "-h", "-n", node, "-p", "low", "-o", "%T").strip() == "idle", "idle", 60)
    except AssertionError as late:
        raise AssertionError(f"{late}\n{slurm.call('sinfo', '-N')}\n{slurm.call('squeue')}") from None


def test_where_slurm_chooses_the_nodes(slurm: SlurmCluster, tmp_path: Path) -> None:
    theirs = slurm.call(
        "sbatch", "--parsable", "-o", "/dev/null", "-w", slurm.nodes[0], "--exclusive", "--wrap", "sleep 100"
    ).strip()
    place = SlurmPlace(tmp_path, slurm, placement="engine")
    try:
        state = ["squeue", "-h", "-j", theirs, "-o", "%T"]
        wait_until(lambda: slurm.call(*state).strip() == "RUNNING", "others have the first node")
        run = f'echo "$RANK at $MASTER_ADDR of $HEADFRAME_HOSTS"; {UNTIL_GO}'
        place.act([launch("chosen", run, tasks=4, cpu_milli=2000)])  # for the first two nodes, as far as we know
        place.wait_seen("alc_chosen", Seen.RUNNING)
        wait_until(lambda: place.text("chosen").count(" at ") == 4, "all have begun")
        lines = sorted(place.text("chosen").splitlines())
        hosts = lines[0].split()[-1].split(",")
        assert [host in slurm.nodes[1:] for host in hosts] == [True, True, True, True]
        assert lines == [f"{rank} at {hosts[0]} of {','.join(hosts)}" for rank in range(4)]
        assert place.engine.held["alc_chosen"].story[-1].startswith("Slurm chose ")

        def taken() -> dict[str, int]:
            return {one.name: one.taken_cpu_milli for one in place.report().nodes if one.taken_cpu_milli}

        wait_until(lambda: taken() == {slurm.nodes[0]: 16_000}, f"only what others hold is taken: {taken()}")
        (place.data / "jobs/job_chosen/outputs/go").touch()
        assert place.wait_seen("alc_chosen", *OVER).exit_code == 0
    finally:
        slurm.call("scancel", theirs)
        place.end()


def test_a_partition_with_a_time_limit(slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_care, "STUCK_S", 0.1)  # Slurm says that it exceeds the limit until it has cut it down
    monkeypatch.setattr(slurm_care, "CUT_S", 8.0)
    place = SlurmPlace(tmp_path, slurm, partition="brief")
    try:
        assert place.run("exact", "exit 3", max_duration_us=MINUTE_US).exit_code == 3
        much = place.run("much", "exit 3", max_duration_us=3 * MINUTE_US)
        assert (much.seen, much.fault) == (Seen.FAILED, "job"), much.detail
        assert "It may run for 3m, and Slurm's partition ends jobs sooner" in much.detail
        place.act([launch("endless", f"echo ready; {UNTIL_GO}")])
        told = place.wait_for(lambda seen: getattr(seen, "story", ()) != (), "what is going to happen")
        assert told.story == ("Slurm ends it after 1m: nothing may run longer in its partition.",)
        # Slurm looks for jobs that are over their time twice a minute only, so what it does then is done for it.
        said = Ended("TIMEOUT", slurm.nodes[0])
        monkeypatch.setattr(place.engine.calls, "ended", lambda numbers: {name: said for _number, name in numbers})
        slurm.call("scancel", place.engine.held["alc_endless"].number)
        end = place.wait_seen("alc_endless", *OVER)
        assert (end.seen, end.exit_code, end.fault) == (Seen.EXITED, 143, "job")
        assert end.detail == "Slurm ended it: a time limit of its partition was reached."
    finally:
        place.end()


def test_a_node_whose_clock_is_minutes_ahead(slurm: SlurmCluster, tmp_path: Path) -> None:
    if not FAKETIME.exists():
        pytest.skip("libfaketime is not installed")
    node, ahead = slurm.nodes[0], {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "+240s"}
    idle(slurm, node)
    slurm.kill(f"slurmd-{node}")
    subprocess.run(["slurmd", "-N", node], env=slurm.environment | ahead, check=True, timeout=20)
    exported = ",".join(f"{name}={value}" for name, value in ahead.items())  # for the leader; tasks begin without
    place = SlurmPlace(tmp_path, slurm, sbatch=[f"--export=ALL,{exported}"])
    try:
        before_us = now_us()
        polite = "trap 'sleep 0.3; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
        place.act([launch("runs", "sleep 1"), launch("stopped", polite)])
        wait_until(lambda: "ready" in place.text("stopped"), "it runs")
        place.act([Stop("alc_stopped", 1, "user", grace_us=5_000_000)])
        ends = {name: place.wait_seen(f"alc_{name}", *OVER) for name in ("runs", "stopped")}
        assert {name: end.exit_code for name, end in ends.items()} == {"runs": 0, "stopped": 3}
        for end in ends.values():
            assert end.running_us is not None
            assert before_us <= end.running_us <= end.at_us <= now_us(), "by our clock, to which bills go"
        assert ends["runs"].at_us - (ends["runs"].running_us or 0) >= 1_000_000
    finally:
        place.end()
        idle(slurm, node)
        slurm.kill(f"slurmd-{node}")
        slurm.mend()


def test_a_server_whose_clock_is_behind_that_of_the_file_system(
    slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (slurm_engine, slurm_care, slurm_held):
        monkeypatch.setattr(module, "now_us", lambda: now_us() - 90_000_000)
    place = SlurmPlace(tmp_path, slurm)
    try:
        wait_until(lambda: place.engine.skew_us, "the clocks are compared")
        before_us = now_us() - 90_000_000
        end = place.run("behind", "sleep 0.5; exit 4")
        assert end.exit_code == 4
        assert before_us <= (end.running_us or 0) <= end.at_us - 500_000 <= now_us() - 90_500_000
    finally:
        place.end()
