"""What control relies on, for every engine of the registry that runs real work."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headframe.engines import registry
from headframe.fleet.engine_words import Forget, Seen, Signal, Stop
from tests.contract.engine_contract import EnginePlace, Place, SlurmPlace, launch, wait_until

AnyPlace = EnginePlace[Any]


def _place(name: str, data: Path, request: pytest.FixtureRequest) -> AnyPlace:
    """A place for each engine that runs real work: a new engine gets its line here."""
    places: dict[str, Callable[[], AnyPlace]] = {
        "local": lambda: Place(data),
        "slurm": lambda: SlurmPlace(data, request.getfixturevalue("slurm")),
    }
    return places[name]()


@pytest.fixture(params=sorted(set(registry.FACTORIES) - {"scripted"}))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyPlace]:
    place = _place(request.param, tmp_path, request)
    try:
        yield place
    finally:
        place.end()


def test_a_job_runs_to_its_exit_code(place: AnyPlace) -> None:
    end = place.run("one", "echo out; echo err >&2; exit 7")
    assert (end.seen, end.exit_code) == (Seen.EXITED, 7)
    assert end.running_us is not None
    assert end.running_us <= end.at_us
    assert end.pid is not None
    assert place.text("one", "stdout") == "out\n"
    assert place.text("one", "stderr") == "err\n"


def test_launching_twice_starts_once(place: AnyPlace) -> None:
    again = launch("twice", 'echo started >> "$HEADFRAME_OUTPUTS/starts"; sleep 0.3')
    place.act([again, again])
    place.wait_seen("alc_twice", Seen.RUNNING)
    place.act([again])
    place.wait_seen("alc_twice", Seen.EXITED)
    place.act([again])
    place.report()
    assert (place.data / "jobs/job_twice/outputs/starts").read_text() == "started\n"


def test_a_lost_answer_is_told_again(place: AnyPlace) -> None:
    place.run("lost", "exit 4")
    place.heard.clear()
    place.act([launch("lost", "exit 4")])
    assert place.wait_seen("alc_lost", Seen.EXITED).exit_code == 4
    assert [seen.exit_code for seen in place.report().observations] == [4]


def test_stopping_what_is_unknown_says_that_it_is_absent(place: AnyPlace) -> None:
    place.act([Stop("alc_never", 1, "user")])
    place.wait_seen("alc_never", Seen.ABSENT)


def test_a_stop_that_overtakes_its_launch_holds(place: AnyPlace) -> None:
    place.act([Stop("alc_early", 1, "user")])
    place.wait_seen("alc_early", Seen.ABSENT)
    before = len(place.heard)
    place.act([launch("early", "sleep 100")])
    place.wait_seen("alc_early", Seen.ABSENT, after=before)
    assert place.report().observations == ()


def test_an_older_generation_is_refused(place: AnyPlace) -> None:
    place.act([launch("aged", "sleep 100", generation=3)])
    running = place.wait_seen("alc_aged", Seen.RUNNING)
    place.act([launch("aged", "echo old", generation=2), Stop("alc_aged", 2, "late"), Forget("alc_aged", 3)])
    seen = place.report().observations
    assert [(item.generation, item.seen, item.pid) for item in seen] == [(3, Seen.RUNNING, running.pid)]


def test_stop_asks_first_and_then_kills(place: AnyPlace) -> None:
    polite = "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    place.act([launch("polite", polite), launch("deaf", "trap '' TERM; echo ready; sleep 100; sleep 100")])
    for name in ("polite", "deaf"):
        wait_until(lambda name=name: "ready" in place.text(name), "the job is ready")  # type: ignore[misc]
    place.act([Stop("alc_polite", 1, "user"), Stop("alc_deaf", 1, "user", grace_us=200_000)])
    assert place.wait_seen("alc_polite", Seen.EXITED).exit_code == 0
    assert "saved" in place.text("polite")
    assert place.wait_seen("alc_deaf", Seen.EXITED).exit_code == 128 + signal.SIGKILL


def test_a_program_in_the_foreground_may_save_before_a_stop(place: AnyPlace) -> None:
    program = (
        "import signal, sys, time\n"
        "def save(*_):\n    time.sleep(0.2); print('saved', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save); print('ready', flush=True); time.sleep(100)"
    )
    place.act([launch("saver", f'python3 -c "{program}"; echo must not run')])
    wait_until(lambda: "ready\n" in place.text("saver"), "the program is ready")
    place.act([Stop("alc_saver", 1, "user")])
    assert place.wait_seen("alc_saver", Seen.EXITED).exit_code == 143
    assert place.text("saver", "stdout") == "ready\nsaved\n"


def test_a_stop_right_behind_the_launch_ends_it(place: AnyPlace) -> None:
    place.act([launch("brief", "sleep 100"), Stop("alc_brief", 1, "user")])
    assert place.wait_seen("alc_brief", Seen.EXITED).exit_code in (143, 137)


def test_a_warning_reaches_who_listens_and_ends_nobody(place: AnyPlace) -> None:
    listens = "trap 'echo warned' USR1; echo ready; while :; do sleep 0.05; done"
    place.act([launch("listens", listens), launch("deaf", "echo ready; sleep 100")])
    for name in ("listens", "deaf"):
        wait_until(lambda name=name: "ready" in place.text(name), "the job is ready")  # type: ignore[misc]
    place.act([Signal("alc_listens", 1), Signal("alc_deaf", 1)])
    wait_until(lambda: "warned" in place.text("listens"), "the warning")
    assert [item.seen for item in place.report().observations] == [Seen.RUNNING, Seen.RUNNING]


def test_forgetting_drops_the_attempt_and_keeps_log_and_outputs(place: AnyPlace) -> None:
    place.run("gone", 'echo kept; echo kept > "$HEADFRAME_OUTPUTS/file"; echo x > scratch')
    place.act([Forget("alc_gone", 1)])
    assert place.report().observations == ()
    wait_until(lambda: not (place.data / "jobs/job_gone/attempts/1").exists(), "the attempt's folder is gone")
    assert place.text("gone") == "kept\n"
    assert (place.data / "jobs/job_gone/outputs/file").read_text() == "kept\n"


def test_a_gang_starts_together_and_its_first_failure_ends_it(place: AnyPlace) -> None:
    # A failure may end a task before its first line, so the one that fails waits until all have begun.
    run = """
        [ "$SLURM_PROCID of $SLURM_NTASKS" = "$RANK of $WORLD_SIZE" ] || exit 8
        echo "$RANK of $WORLD_SIZE"; touch "$HEADFRAME_OUTPUTS/begun$RANK"
        if [ "$RANK" != 1 ]; then sleep 100; fi
        until [ -e "$HEADFRAME_OUTPUTS/begun0" ] && [ -e "$HEADFRAME_OUTPUTS/begun2" ]; do sleep 0.02; done
        exit 9
    """
    end = place.run("gang", run, tasks=3)
    assert (end.seen, end.exit_code) == (Seen.EXITED, 9)
    assert sorted(place.text("gang", "stdout").split("\n")) == ["", "0 of 3", "1 of 3", "2 of 3"]
    pieces, _next = place.logs.read("job_gang", 0, 1 << 20)
    assert {piece.rank for piece in pieces if piece.stream == "stdout"} == {0, 1, 2}


def test_what_cannot_be_started_fails_with_a_reason(place: AnyPlace) -> None:
    end = place.run("nofiles", "true", files="0" * 64)
    assert (end.seen, end.fault) == (Seen.FAILED, "job")
    assert end.detail
    outside = place.run("outside", "true", checkpoints={"path": "../../../x", "keep": 1})
    assert outside.seen is Seen.FAILED
    assert "working folder" in outside.detail


def test_unicode_and_line_ends_survive_everywhere(place: AnyPlace) -> None:
    odd = "zwei\nZeilen 'mit' \"allem\" $HOME `x` \\ äöü 🎉"
    end = place.run("odd", 'printf %s "$ODD"; printf %s "$SECRET" >&2', env={"ODD": odd}, secrets={"SECRET": odd})
    assert end.exit_code == 0
    assert place.text("odd", "stdout") == odd
    assert place.text("odd", "stderr") == odd


def test_checkpoints_outlive_attempts(place: AnyPlace) -> None:
    keep = {"path": "run/ckpt", "keep": 2}
    place.run("keeps", "echo 1 > run/ckpt/a.json; exit 1", checkpoints=keep)
    again = launch("keeps", 'cat run/ckpt/a.json "$HEADFRAME_RESUME_FROM"', generation=2, checkpoints=keep)
    before = len(place.heard)
    place.act([again])
    end = place.wait_seen("alc_keeps", Seen.EXITED, after=before)
    assert (end.exit_code, place.text("keeps", "stdout")) == (0, "1\n1\n")
    assert end.resumed_from.endswith("a.json")
    assert end.checkpoint_us is not None


def test_followers_hear_of_growth(place: AnyPlace) -> None:
    grown: list[int] = []
    end = place.logs.follow("job_talks", lambda: grown.append(place.logs.end("job_talks")))
    place.act([launch("talks", "echo one; sleep 0.3; echo two; sleep 100")])
    wait_until(lambda: 4 in grown and 8 in grown, "both lines are announced")
    end()


def test_a_job_that_writes_too_much_is_ended_and_told_why(tmp_path: Path) -> None:
    place = Place(tmp_path, disk_bound=8 << 20)
    try:
        script = (
            'trap "exit 0" TERM; head -c 20000000 /dev/zero > "$HEADFRAME_OUTPUTS/large"; while :; do sleep 0.1; done'
        )
        place.act([launch("large", script), launch("small", "sleep 100")])
        end = place.wait_seen("alc_large", Seen.EXITED, seconds=40)
        assert (end.exit_code, end.fault) == (128 + signal.SIGTERM, "job")
        assert end.detail.startswith("disk_limit: ")
        assert any("8 MiB" in sentence for sentence in end.story)
        others = {seen.allocation_id: seen.seen for seen in place.report().observations}
        assert others["alc_small"] is Seen.RUNNING
    finally:
        place.end()


def test_many_jobs_at_once_all_end_with_their_own_codes(place: AnyPlace) -> None:
    codes = {f"many{number}": number % 7 for number in range(30)}
    place.act([launch(name, f"echo {name}; exit {code}", memory_mib=64) for name, code in codes.items()])
    for name, code in codes.items():
        assert place.wait_seen(f"alc_{name}", Seen.EXITED, seconds=40).exit_code == code
        assert place.text(name) == f"{name}\n"


def test_a_long_log_is_whole(place: AnyPlace) -> None:
    end = place.run("long", "seq 1 200000")
    assert end.exit_code == 0
    assert place.text("long", "stdout").split() == [str(number) for number in range(1, 200_001)]


def test_an_engine_that_comes_back_finds_what_runs(place: AnyPlace) -> None:
    place.act([launch("stays", 'until [ -e "$HEADFRAME_OUTPUTS/go" ]; do sleep 0.05; done; echo end; exit 5')])
    place.wait_seen("alc_stays", Seen.RUNNING)
    place.restart()
    (place.data / "jobs/job_stays/outputs/go").touch()
    end = place.wait_seen("alc_stays", Seen.EXITED)
    assert (end.exit_code, place.text("stays")) == (5, "end\n")
