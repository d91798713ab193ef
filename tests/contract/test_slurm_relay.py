"""Short jobs that come in numbers follow one another in Slurm's batch jobs; nothing is lost or doubled by that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headframe.cli.throwaway_slurm import SlurmCluster
from headframe.engines import slurm_care, slurm_relay
from headframe.engines.slurm_held import Held
from headframe.engines.slurm_relay import MANY, Relay
from headframe.fleet.engine_words import Forget, Seen, Stop
from tests.contract.engine_contract import OVER, STARTS, SlurmPlace, launch, wait_until


@pytest.fixture
def place(slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmPlace]:
    monkeypatch.setattr(slurm_care, "NOTES_S", 0.5)
    monkeypatch.setattr(slurm_relay, "LOOKS", 1000)  # leaders stay for as long as they may: no test is in a hurry
    monkeypatch.setattr(slurm_relay, "REST_S", 25.0)
    place = SlurmPlace(tmp_path, slurm)
    try:
        yield place
    finally:
        place.end()
        slurm.call("scancel", "--me")


def many(place: SlurmPlace, prefix: str) -> Held:
    """Launch so many short jobs that the leader of one stays; that one, when all have ended."""
    place.engine.relay.heard()
    names = [f"{prefix}{number}" for number in range(MANY)]
    place.act([launch(name, STARTS + "echo done", cpu_milli=1000) for name in names])
    for name in names:
        end = place.wait_seen(f"alc_{name}", *OVER)
        assert (end.seen, end.exit_code) == (Seen.EXITED, 0)
    (stays,) = (held for held in place.engine.held.values() if held.rests)
    return stays


def test_what_comes_next_runs_in_a_batch_job_that_is_there(place: SlurmPlace) -> None:
    first = many(place, "a")
    place.act([Forget(first.allocation_id, 1)])  # its folder is not taken away from under its leader
    held = place.engine.held
    place.act([launch("b", STARTS + "exit 3")])
    assert place.wait_seen("alc_b", *OVER).exit_code == 3
    place.act([launch("c", STARTS + "echo hello; sleep 100")])
    place.wait_seen("alc_c", Seen.RUNNING)
    for name in ("b", "c"):
        assert (held[f"alc_{name}"].number, held[f"alc_{name}"].slurm_name) == (first.number, first.name)
    wait_until(lambda: "hello" in place.text("c"), "it writes")
    place.restart()
    wait_until(lambda: place.engine._polled_at, "a later server has looked")
    assert [(seen.allocation_id, seen.seen) for seen in place.report().observations if seen.seen is Seen.RUNNING] == [
        ("alc_c", Seen.RUNNING)
    ]
    place.act([Stop("alc_c", 1, "test", "SIGTERM", 5_000_000)])
    assert place.wait_seen("alc_c", *OVER).exit_code == 128 + 15
    assert [place.starts(name) for name in ("a0", "a1", "a2", "a3", "b", "c")] == [1] * 6
    wait_until(lambda: first.number not in place.slurm.call("squeue", "-h", "-o", "%i"), "its leader has left")


def test_a_leader_that_dies_while_it_waits_loses_nothing(place: SlurmPlace) -> None:
    stays = many(place, "d").number
    place.slurm.call("scancel", "--signal=KILL", "--full", stays)
    wait_until(lambda: stays not in place.slurm.call("squeue", "-h", "-o", "%i"), "its leader is dead")
    place.act([launch("e", STARTS + "exit 4")])
    end = place.wait_seen("alc_e", *OVER)
    assert (end.seen, end.exit_code, place.starts("e")) == (Seen.EXITED, 4, 1)
    assert place.engine.held["alc_e"].number != stays


def test_what_does_not_fit_or_has_secrets_goes_to_slurm(place: SlurmPlace) -> None:
    stays = many(place, "f").number
    odd: dict[str, dict[str, Any]] = {
        "wide": {"cpu_milli": 2000}, "other": {"organization": 2}, "hush": {"secrets": {"TOKEN": "x"}},
        "timed": {"max_duration_us": 3_600_000_000},
    }  # fmt: skip
    place.act([launch(name, STARTS + "true", **more) for name, more in odd.items()])
    for name in odd:
        assert place.wait_seen(f"alc_{name}", *OVER).exit_code == 0
        assert place.engine.held[f"alc_{name}"].number != stays
    place.act([launch("by_hand", "sleep 100")])
    place.wait_seen("alc_by_hand", Seen.RUNNING)
    assert place.engine.held["alc_by_hand"].number == stays
    place.slurm.call("scancel", stays)
    end = place.wait_seen("alc_by_hand", *OVER)
    assert (end.exit_code, end.detail) == (
        128 + 15,
        "It was cancelled in Slurm, not by Headframe. It ran in the batch job "
        f"{stays}, which has the name of one that ran there before it.",
    )


def test_one_of_both_makes_the_file(tmp_path: Path) -> None:
    relay = Relay()
    assert [relay.looks(("a",)) for _one in range(MANY)] == [0] * MANY  # nobody has been heard
    relay.heard()
    assert (relay.looks(("a",)), relay.looks(("b",))) == (slurm_relay.LOOKS, 0)
    for name in ("left", "gone", "stays"):
        relay.offer(("a",), tmp_path / name, "7", name)
    (tmp_path / "left").mkdir()
    (tmp_path / "left/next").write_text("left\n")
    (tmp_path / "stays").mkdir()
    assert relay.take(("b",), "alc_1", 20, tmp_path) is None
    seat = relay.take(("a",), "alc_1", 20, tmp_path)
    assert seat is not None
    assert (seat.number, seat.name) == ("7", "stays")
    assert (tmp_path / "stays/next").read_text() == f"alc_1 20 {tmp_path}\n"
    assert relay.take(("a",), "alc_2", 20, tmp_path) is None


def test_who_is_stopped_while_it_is_submitted_leaves_no_seat(
    place: SlurmPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(place, "g")
    place.engine.relay._seats.clear()
    calls, go = place.engine.calls, threading.Event()
    submit = calls.submit
    monkeypatch.setattr(calls, "submit", lambda wanted: (go.wait(20), submit(wanted))[1])
    place.act([launch("h", STARTS + "true")])
    wait_until(lambda: (held := place.engine.held.get("alc_h")) and held.submitting and held.rests, "Slurm is asked")
    place.act([Stop("alc_h", 1, "test", "SIGTERM", 0)])
    assert place.wait_seen("alc_h", *OVER).detail == "stopped before it started"
    go.set()
    place.act([launch("i", STARTS + "exit 5")])
    assert (place.wait_seen("alc_i", *OVER).exit_code, place.starts("i")) == (5, 1)
    assert place.engine.held["alc_i"].handed_since is None
    assert not (place.data / "jobs/job_h/outputs/starts").exists()


def test_a_drained_node_gets_nothing_by_way_of_a_leader_that_waits_there(place: SlurmPlace) -> None:
    stays = many(place, "j")
    place.slurm.call("scontrol", "update", f"nodename={place.slurm.nodes[0]}", "state=drain", "reason=disk")
    try:
        place.engine.request_report()
        wait_until(lambda: place.engine.fleet.rows[place.node(0)].shut, "it is known to be drained")
        place.act([launch("k", STARTS + "true")])
        wait_until(lambda: (held := place.engine.held.get("alc_k")) and held.number, "somebody has it")
        assert place.engine.held["alc_k"].number != stays.number
        assert not place.engine.held["alc_k"].running_us
    finally:
        place.slurm.call("scontrol", "update", f"nodename={place.slurm.nodes[0]}", "state=resume")
    assert place.wait_seen("alc_k", *OVER).exit_code == 0


def test_a_leader_that_slurm_was_told_to_end_takes_nothing_more(place: SlurmPlace) -> None:
    stays = many(place, "l")
    place.slurm.call("scancel", "--batch", "--signal=TERM", stays.number)
    place.act([launch("m", STARTS + "exit 6")])
    assert (place.wait_seen("alc_m", *OVER).exit_code, place.starts("m")) == (6, 1)
