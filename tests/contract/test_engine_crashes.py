"""Killing every one of our programs in mid-work: the job goes on, nothing is lost, doubled or told wrongly."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from headframe.engines import agent_wire, cgroups
from headframe.fleet.engine_words import Seen, Stop
from tests.contract.engine_contract import Place, launch, wait_until

NUMBERS = (
    "import sys\nfor n in range({count}): sys.stdout.write(f'{{n}} ääääääääääääääääääääääääääääääääääääääää\\n')\n"
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    try:
        yield place
    finally:
        place.end()


def test_the_server_comes_back_to_the_same_task(place: Place) -> None:
    place.engine.act([launch("stays", "sleep 100")])
    first = place.wait_seen("alc_stays", Seen.RUNNING)
    agent = place.agent_pid()
    place.restart()
    assert place.agent_pid() == agent
    (again,) = place.report().observations
    assert (again.seen, again.pid, again.running_us) == (Seen.RUNNING, first.pid, first.running_us)


def test_the_next_agent_takes_the_task_over(place: Place) -> None:
    place.engine.act([launch("stays", "echo before; sleep 1; echo after; exit 5")])
    first = place.wait_seen("alc_stays", Seen.RUNNING)
    place.kill_agent()
    (again,) = place.report().observations
    assert (again.seen, again.pid, again.running_us) == (Seen.RUNNING, first.pid, first.running_us)
    assert place.wait_seen("alc_stays", Seen.EXITED).exit_code == 5
    assert place.text("stays") == "before\nafter\n"


def _is_gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


def test_an_agent_takes_its_groups_with_it_and_clears_away_those_of_one_that_was_killed(
    place: Place, tmp_path: Path
) -> None:
    writer, why = cgroups.usable("probe0000000")
    if writer is None:
        pytest.skip(why)
    writer.leave()

    def left_by(data: Path) -> list[Path]:
        tag = hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:12]
        return [path for parent in writer.parents() if (path := parent / f"headframe-{tag}").is_dir()]

    for name in ("orderly", "killed"):
        (tmp_path / name).mkdir()
        other = Place(tmp_path / name)
        other.engine.act([launch("done", "exit 0")])
        other.wait_seen("alc_done", Seen.EXITED)
        pid = other.agent_pid()
        assert left_by(other.data)
        if name == "orderly":
            other.end()
            assert left_by(other.data) == []
        else:
            other.engine.close()
            os.kill(pid, signal.SIGKILL)
            wait_until(partial(_is_gone, pid), "the agent's end")
            assert left_by(other.data)
    place.kill_agent()
    wait_until(lambda: left_by(tmp_path / "killed") == [], "the groups are cleared away")


def test_everything_is_killed_while_the_task_ends(place: Place) -> None:
    """With neither server nor agent there, the end is exact and the last words are kept."""
    run = 'sleep 0.5; echo last words; date +%s.%N > "$HEADFRAME_OUTPUTS/end"; exit 6'
    place.engine.act([launch("alone", run)])
    running = place.wait_seen("alc_alone", Seen.RUNNING)
    place.engine.close()
    os.kill(place.agent_pid(), signal.SIGKILL)
    ended = place.data / "jobs/job_alone/outputs/end"
    wait_until(lambda: ended.exists() and ended.read_text().strip(), "the job's own record of its end")
    wait_until(lambda: "leader-code" in _status(place, "alone"), "the exit code on disk")
    time.sleep(0.3)  # so that a wrong end (the moment of finding out) would show
    place.restart()
    end = place.wait_for(lambda seen: getattr(seen, "observations", ()), "a report").observations[0]
    if end.seen is not Seen.EXITED:
        end = place.wait_seen("alc_alone", Seen.EXITED)
    assert (end.seen, end.exit_code, end.running_us) == (Seen.EXITED, 6, running.running_us)
    assert abs(end.at_us - float(ended.read_text()) * 1e6) < 200_000
    assert place.text("alone") == "last words\n"


def _status(place: Place, name: str) -> str:
    return (place.data / f"jobs/job_{name}/attempts/1/0/run/status").read_text()


def test_no_line_is_lost_or_doubled_when_the_agent_dies_in_mid_stream(place: Place) -> None:
    count = 400_000
    place.engine.act([launch("stream", f'python3 -c "{NUMBERS.format(count=count)}"')])
    for part in (1, 2, 3):
        wait_until(lambda part=part: place.logs.end("job_stream") > part << 20, "the stream flows")  # type: ignore[misc]
        place.kill_agent()
    assert place.wait_seen("alc_stream", Seen.EXITED, seconds=60).exit_code == 0
    lines = place.text("stream").splitlines()
    assert len(lines) == count
    assert all(line.startswith(f"{number} ä") for number, line in enumerate(lines))


def test_a_stop_goes_on_after_the_agent_died(place: Place) -> None:
    place.engine.act([launch("deaf", "trap '' TERM; echo ready; sleep 100; sleep 100")])
    wait_until(lambda: "ready" in place.text("deaf"), "the job is ready")
    place.engine.act([Stop("alc_deaf", 1, "user", grace_us=700_000)])
    wait_until(lambda: '"stop": {' in (place.data / "agent/state/alc_deaf.json").read_text(), "the stop on disk")
    place.kill_agent()
    assert place.wait_seen("alc_deaf", Seen.EXITED).exit_code == 128 + signal.SIGKILL


def test_a_gang_is_taken_over_whole(place: Place) -> None:
    place.engine.act([launch("gang", 'sleep 0.$((RANK * 5)); exit "$RANK"', tasks=2)])
    place.wait_seen("alc_gang", Seen.RUNNING)
    place.kill_agent()
    assert place.wait_seen("alc_gang", Seen.EXITED).exit_code == 1


def test_a_task_without_a_trace_is_lost(place: Place) -> None:
    place.engine.act([launch("lost", "sleep 100")])
    running = place.wait_seen("alc_lost", Seen.RUNNING)
    run = place.data / "jobs/job_lost/attempts/1/0/run"
    wait_until((run / "pid").exists, "the task says who it is")
    place.engine.close()
    os.kill(place.agent_pid(), signal.SIGKILL)
    os.kill(int((run / "pid").read_text()), signal.SIGKILL)
    (run / "pid").write_text(str(os.getpid()))  # its number is another's by now
    place.restart()
    end = place.wait_for(lambda seen: getattr(seen, "observations", ()), "a report").observations[0]
    end = end if end.seen is Seen.LOST else place.wait_seen("alc_lost", Seen.LOST)
    assert end.fault == "node"
    assert running.running_us is not None
    assert running.running_us <= end.at_us <= time.time_ns() // 1000


def test_an_end_is_remembered_until_it_is_forgotten(place: Place) -> None:
    before = place.run("ended", "exit 3")
    place.kill_agent()
    assert place.report().observations == (before,)


def test_a_task_killed_from_outside_is_told_with_its_signal(place: Place) -> None:
    place.engine.act([launch("shot", "sleep 100")])
    pid = place.wait_seen("alc_shot", Seen.RUNNING).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert place.wait_seen("alc_shot", Seen.EXITED).exit_code == 128 + signal.SIGKILL


def test_a_data_folder_may_have_a_long_path(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    place = Place(deep)
    try:
        assert place.run("deep", "echo here").exit_code == 0
    finally:
        place.end()


def test_an_agent_that_nobody_needs_ends_by_itself_and_one_with_a_task_does_not(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    command = [sys.executable, "-m", "headframe.engines.agent", "--data", str(tmp_path), "--log-bound", "65536"]
    with subprocess.Popen([*command, "--foreground", "--unwanted-seconds", "0.3"]) as agent:
        wait_until((tmp_path / "agent/socket").exists, "the agent's socket")
        with agent_wire.connect(tmp_path / "agent") as wire:
            wire.sendall(
                agent_wire.encode(agent_wire.action_out(launch("holds", "sleep 1; touch $HEADFRAME_OUTPUTS/x")))
            )
            wait_until((tmp_path / "agent/state/alc_holds.json").exists, "the task")
        assert agent.wait(20) == 0
    record = json.loads((tmp_path / "agent/state/alc_holds.json").read_text())
    assert (record["end"]["seen"], record["end"]["exit_code"]) == ("exited", 0)
