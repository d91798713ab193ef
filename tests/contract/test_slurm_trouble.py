"""Bad luck on a real Slurm: whatever dies or lies, a job is neither lost nor started twice, and its story says why."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headframe.cli.throwaway_slurm import SlurmCluster
from headframe.engines import slurm_care
from headframe.fleet.engine_words import Seen, Signal, Stop
from headframe.fleet.records import NodeState, Share
from tests.contract.engine_contract import OVER, STARTS, SlurmPlace, launch, wait_until


@pytest.fixture
def place(slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmPlace]:
    monkeypatch.setattr(slurm_care, "AGAIN_S", 0.5)
    monkeypatch.setattr(slurm_care, "NOTES_S", 0.5)
    place = SlurmPlace(tmp_path, slurm)
    try:
        yield place
    finally:
        slurm.mend()
        place.end()


def submitted(place: SlurmPlace, name: str) -> str:
    """Slurm's number of a job that has just been launched."""
    held = wait_until(lambda: place.engine.held.get(f"alc_{name}"), "it is held")
    return str(wait_until(lambda: held.number, "it is submitted"))


def running(place: SlurmPlace, name: str, run: str, **more: Any) -> str:
    """Launch a job that says `ready`; returns Slurm's number of it."""
    place.act([launch(name, f"echo ready; {run}", **more)])
    place.wait_seen(f"alc_{name}", Seen.RUNNING)
    wait_until(lambda: "ready" in place.text(name), "the job is ready")
    return place.engine.held[f"alc_{name}"].number


def test_a_controller_killed_before_it_answers_gets_the_job_again(place: SlurmPlace) -> None:
    place.slurm.kill("slurmctld")
    place.act([launch("early", STARTS + "exit 3")])
    try:
        place.wait_for(lambda seen: getattr(seen, "story", ()) != (), "a story of the silence", seconds=40)
    finally:
        place.slurm.start_controller()
    end = place.wait_seen("alc_early", *OVER)
    assert (end.seen, end.exit_code, place.starts("early")) == (Seen.EXITED, 3, 1)
    assert any("did not answer" in line for line in end.story)


def test_a_controller_that_forgets_jobs_and_hands_their_numbers_to_others(place: SlurmPlace) -> None:
    slurm, node = place.slurm, place.slurm.nodes[0]
    part = launch("lives", f"{STARTS}echo ready; sleep 1000")
    object.__setattr__(part.slices[0], "node_id", place.node(1))
    place.act([part])
    wait_until(lambda: "ready" in place.text("lives"), "it runs")
    first = place.engine.held["alc_lives"].number
    slurm.call("scontrol", "update", f"nodename={node}", "state=drain", "reason=busy")  # so that the other one waits
    conf = slurm.conf.read_text()
    try:
        place.act([launch("lags", STARTS + "exit 4")])
        second = submitted(place, "lags")
        slurm.kill("slurmctld")
        for path in (slurm.root / "state").glob("job_state*"):
            path.unlink()  # as if it had died before it could write that down
        for path in (slurm.root / "state").glob("hash.*/job.*"):
            shutil.rmtree(path)
        slurm.conf.write_text(f"{conf}FirstJobId={first}\n")
        slurm.start_controller()
        wrap = ["sbatch", "--parsable", "-o", "/dev/null", "-w", slurm.nodes[2], "--wrap", "sleep 100"]
        theirs = [slurm.call(*wrap).strip() for _one in range(int(second) - int(first) + 1)]
    finally:
        slurm.conf.write_text(conf)
        slurm.resume(node)
    try:
        assert (theirs[0], theirs[-1]) == (first, second)
        end = place.wait_seen("alc_lags", *OVER)
        assert (end.seen, end.exit_code, place.starts("lags")) == (Seen.EXITED, 4, 1)
        lost = place.wait_seen("alc_lives", *OVER)
        assert (lost.seen, lost.fault, place.starts("lives")) == (Seen.LOST, "node", 1)
        assert slurm.call("squeue", "-h", "-j", ",".join(theirs), "-o", "%T").split() == ["RUNNING"] * len(theirs)
    finally:
        slurm.call("scancel", *theirs)


def test_a_controller_restarted_under_a_running_job_changes_nothing(place: SlurmPlace) -> None:
    running(place, "stays", f'{STARTS}until [ -e "$HEADFRAME_OUTPUTS/go" ]; do sleep 0.05; done; exit 5')
    place.slurm.kill("slurmctld")
    (place.data / "jobs/job_stays/outputs/go").touch()
    end = place.wait_seen("alc_stays", *OVER)  # the leader's notes tell it while no controller is there
    place.slurm.start_controller()
    assert (end.seen, end.exit_code, place.starts("stays")) == (Seen.EXITED, 5, 1)


def test_of_two_batch_jobs_for_one_attempt_one_runs(place: SlurmPlace) -> None:
    place.act([launch("double", STARTS + "sleep 0.5; exit 6", secrets={"TOKEN": "s3cret"})])
    number = submitted(place, "double")
    held = place.engine.held["alc_double"]
    script = place.slurm.call("scontrol", "write", "batch_script", held.number, "-")
    again = place.slurm.call("sbatch", "--parsable", f"--job-name={held.name}", "-o", "/dev/null", text=script).strip()
    assert place.wait_seen("alc_double", *OVER).exit_code == 6
    both = f"{number},{again}"

    def over() -> bool:
        states = place.slurm.call("squeue", "-h", "-t", "all", "-j", both, "-o", "%T").split()
        return set(states) <= {"COMPLETED", "FAILED", "CANCELLED"}

    wait_until(over, "both are over")
    assert place.starts("double") == 1


def test_secrets_lie_nowhere_as_they_are(place: SlurmPlace) -> None:
    secret = "geheim-äöü 'quoted' $x"
    running(place, "hush", 'printf %s "$TOKEN"; sleep 100', secrets={"TOKEN": secret})
    wait_until(lambda: secret in place.text("hush"), "the task has its secret")
    log = place.data / "jobs/job_hush/log"
    output = place.data / "jobs/job_hush/attempts/1/0/run/stdout"
    spool = [*place.slurm.root.glob("state/**/*"), *place.slurm.root.glob("spool/**/*"), *place.data.rglob("*")]
    told = [
        path for path in spool
        if path.is_file() and path != output and log not in path.parents and b"geheim" in path.read_bytes()
    ]  # fmt: skip
    assert told == []


@pytest.mark.parametrize("state", ["waiting", "running"])
def test_a_job_that_somebody_cancels_by_hand_is_told_so(place: SlurmPlace, state: str) -> None:
    if state == "running":
        number = running(place, "hand", "sleep 100")
    else:
        place.slurm.call("scontrol", "update", f"nodename={place.slurm.nodes[0]}", "state=drain", "reason=x")
        place.act([launch("hand", "sleep 100")])
        number = submitted(place, "hand")
    try:
        place.slurm.call("scancel", number)
        end = place.wait_seen("alc_hand", *OVER)
    finally:
        place.slurm.resume(place.slurm.nodes[0])
    assert (end.seen, end.exit_code, end.fault) == (Seen.EXITED, 128 + signal.SIGTERM, "job")
    assert "not by Headframe" in end.detail


def test_without_munge_a_launch_waits_for_it(place: SlurmPlace) -> None:
    place.slurm.kill("munge/munged")
    try:
        place.act([launch("munged", STARTS + "exit 0")])
        wait_until(lambda: (held := place.engine.held.get("alc_munged")) and held.submitting, "sbatch is at it")
    finally:
        place.slurm.start_munge()
    assert place.wait_seen("alc_munged", *OVER).exit_code == 0
    assert place.starts("munged") == 1


def test_what_slurm_refuses_fails_with_its_words(slurm: SlurmCluster, tmp_path: Path) -> None:
    place = SlurmPlace(tmp_path, slurm, partition="low")
    try:
        share = Share("acc_x", 0, "A100", 1000)
        end = place.run("wrong", "true", shares=(share,))
        assert (end.seen, end.fault) == (Seen.FAILED, "engine")
        assert "Slurm refuses" in end.detail
    finally:
        place.end()
    engine = SlurmPlace.__new__(SlurmPlace)
    engine.slurm = slurm
    place = SlurmPlace(tmp_path / "two", slurm, sbatch=["--partition=nowhere"])
    try:
        end = place.run("nowhere", "true")
        assert "partition" in end.detail
    finally:
        place.end()


def test_a_dead_node_loses_its_job_and_what_lives_on_there_is_ended(place: SlurmPlace) -> None:
    node = place.slurm.nodes[3]
    part = launch("dies", f"{STARTS}echo $$; sleep 1000", tasks=1)
    object.__setattr__(part.slices[0], "node_id", place.node(3))
    place.act([part])
    place.wait_seen("alc_dies", Seen.RUNNING)
    wait_until(lambda: place.text("dies"), "it runs")
    status = place.data / "jobs/job_dies/attempts/1/0/run/status"
    inside = int(status.read_text().split('"child-pid": ')[1].split(",")[0])
    place.slurm.kill(f"slurmd-{node}")
    place.slurm.call("scontrol", "update", f"nodename={node}", "state=down", "reason=power lost")
    try:
        end = place.wait_seen("alc_dies", *OVER, seconds=30)
        assert (end.seen, end.fault) == (Seen.LOST, "node")
        assert node in end.detail
        wait_until(lambda: place.slurm.ended(inside), "its task has ended", 5)
        (found,) = [one for one in place.report().nodes if one.name == node]
        assert (found.state, "power lost" in found.reason) == (NodeState.DOWN, True)
    finally:
        place.slurm.resume(node)


def test_a_drained_node_takes_nothing_and_keeps_what_it_has(place: SlurmPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_care, "STUCK_S", 0.5)
    node = place.slurm.nodes[0]
    running(place, "before", "sleep 1000")
    place.slurm.call("scontrol", "update", f"nodename={node}", "state=drain", "reason=new fans")
    try:
        (found,) = [one for one in place.report().nodes if one.name == node]
        assert found.state is NodeState.DRAINING
        assert "new fans" in found.reason
        end = place.run("late", STARTS + "true")  # chosen before anybody here knew
        assert (end.seen, end.fault, place.starts("late")) == (Seen.FAILED, "node", 0)
        assert {one.allocation_id: one.seen for one in place.report().observations}["alc_before"] is Seen.RUNNING
    finally:
        place.slurm.resume(node)
    wait_until(lambda: all(one.state is NodeState.READY for one in place.report().nodes), "it is ready again")


def test_what_others_run_is_taken(place: SlurmPlace) -> None:
    node = place.slurm.nodes[1]
    theirs = place.slurm.call(
        "sbatch", "--parsable", "-o", "/dev/null", "-w", node, "-c", "5", "--mem=3000", "--gres=gpu:h100:3",
        "--wrap", "sleep 100",
    ).strip()  # fmt: skip
    try:

        def taken() -> bool:
            report = place.report()
            (found,) = [one for one in report.nodes if one.name == node]
            cards = [one.index for one in report.accelerators if one.node_id == found.id and one.taken]
            return (found.taken_cpu_milli, found.taken_memory_mib, cards) == (5000, 3000, [5, 6, 7])

        wait_until(taken, "what they hold counts as taken")
    finally:
        place.slurm.call("scancel", theirs)
    report = place.report()
    assert {(one.cpu_milli, one.memory_mib, one.topology[0]) for one in report.nodes} == {(16000, 65536, "spine")}
    assert {(one.kind, one.memory_mib) for one in report.accelerators} == {("H100", 81920)}


def test_devices_are_those_that_slurm_gives(place: SlurmPlace) -> None:
    shares = tuple(Share(f"acc_{index}", index, "H100", 1000) for index in range(2))
    end = place.run("cards", 'echo "$CUDA_VISIBLE_DEVICES"; ls /dev | grep -c nvidia || true', tasks=2, shares=shares)
    assert end.exit_code == 0
    pieces, _next = place.logs.read("job_cards", 0, 1 << 20)
    assert {piece.rank: piece.text.split()[0] for piece in reversed(pieces)} == {0: "0,1", 1: "2,3"}


def test_a_server_that_comes_back_finds_its_jobs_and_loses_no_line(place: SlurmPlace) -> None:
    count = "n=0; while [ $n -lt 60 ]; do n=$((n+1)); echo $n; sleep 0.02; done; exit 7"
    place.act([launch("counts", count), launch("queued", STARTS + "exit 0", cpu_milli=17_000)])
    place.wait_seen("alc_counts", Seen.RUNNING)
    wait_until(lambda: "5\n" in place.text("counts"), "it counts")
    shutil.rmtree(place.data / "slurm/lab/library")
    (place.data / "jobs/job_counts/log/moved.json").unlink(missing_ok=True)  # as if it had died before writing it
    place.restart()
    end = place.wait_seen("alc_counts", *OVER)
    assert end.exit_code == 7
    assert place.text("counts", "stdout").split() == [str(number) for number in range(1, 61)]


def test_a_stop_ends_a_gang_on_all_its_nodes(place: SlurmPlace) -> None:
    run = (
        "trap 'echo saved $RANK; exit 0' TERM; trap 'echo warned $RANK' USR1; echo ready; while :; do sleep 0.05; done"
    )
    place.act([launch("pair", run, tasks=4)])
    wait_until(lambda: place.text("pair").count("ready") == 4, "all have begun")
    place.wait_seen("alc_pair", Seen.RUNNING)
    place.act([Signal("alc_pair", 1)])
    wait_until(lambda: place.text("pair").count("warned") == 4, "all are warned")
    place.act([Stop("alc_pair", 1, "user")])
    assert place.wait_seen("alc_pair", *OVER).exit_code == 0
    assert place.text("pair").count("saved") == 4


def test_what_a_gang_used_is_told_at_its_end(place: SlurmPlace) -> None:
    hold = "x = bytearray(80 << 20); import time; t = time.process_time()\nwhile time.process_time() - t < 0.3: pass\n"
    run = f"""python3 -c '{hold}import os
while not os.path.exists(os.environ["HEADFRAME_OUTPUTS"] + "/go"): time.sleep(0.02)' &
wait"""
    place.act([launch("works", run, tasks=3)])
    attempt = place.data / "jobs/job_works/attempts/1"
    place.wait_seen("alc_works", Seen.RUNNING)
    wait_until((attempt / "alive").read_text, "its leader has looked")
    looked = (attempt / "alive").stat().st_mtime_ns
    wait_until(lambda: (attempt / "alive").stat().st_mtime_ns - looked > 2_000_000_000, "and again, and again")
    (place.data / "jobs/job_works/outputs/go").touch()
    use = place.wait_seen("alc_works", *OVER).use
    assert 900_000 <= use["cpu_us"] < 5_000_000, use
    assert 80 <= use["memory_peak_mib"] < 160, use
