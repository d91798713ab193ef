"""The scripted engine keeps the contract of engines, tells its scripts in time, and notes what callers do wrong."""

import pytest

from headframe.engines.scripted import Script, ScriptedEngine, Temper, parse_script
from headframe.fleet.engine_words import Forget, Launch, Observation, Report, Seen, Signal, Stop
from headframe.fleet.records import Accelerator, Node, NodeState, Share, Slice
from headframe.sim.clock import SeededRng, VirtualClock

SECOND_US = 1_000_000


class Bench:
    """An engine with one node and one device, and all that it said."""

    def __init__(self, **temper):
        self.clock = VirtualClock()
        node = Node("nod_1", "clu_1", "one", 4000, 8192, 10_000)
        device = Accelerator("acc_1", "nod_1", 0, "H100", "nvidia", 81_559)
        self.engine = ScriptedEngine(
            [node], [device], true_us=lambda: self.clock.true_us, stamp_us=self.clock.machine_us,
            rng=SeededRng(1), temper=Temper(**temper),
        )  # fmt: skip
        self.said = []
        self.engine.start(self.said.append)
        self.go()

    def go(self, us=SECOND_US):
        end_us = self.clock.true_us + us
        while (due := self.engine.next_due_us()) is not None and due <= end_us:
            self.clock.advance_to(max(due, self.clock.true_us))
            self.engine.advance()
        self.clock.advance_to(end_us)

    def seen(self, allocation_id):
        return [one.seen for one in self.said if isinstance(one, Observation) and one.allocation_id == allocation_id]

    def last(self):
        return next(one for one in reversed(self.said) if isinstance(one, Observation))

    def report(self):
        self.engine.request_report()
        self.go()
        return next(one for one in reversed(self.said) if isinstance(one, Report))


def launch(run="run 5s", allocation="alc_1", job="job_1", generation=1, milli=1000):
    share = Share("acc_1", 0, "H100", milli)
    part = Slice(0, "nod_1", 1000, 1024, 0, (share,))
    return Launch(allocation, generation, job, job, "org_1", 1, "prj_1", (part,), {"run": run})


def test_a_script_has_a_part_for_each_attempt():
    run = "prepare 3s; run 40s; exit 1; stubborn | run 20s; on-stop 0; fail node | whatever"
    assert parse_script(run, 1) == Script(3 * SECOND_US, 40 * SECOND_US, 1, stubborn=True)
    assert parse_script(run, 2) == Script(0, 20 * SECOND_US, 0, on_stop=0, fails="node")
    assert parse_script(run, 3) == parse_script(run, 9) == Script()
    assert parse_script("run forever; exit here; python train.py", 1) == Script()


def test_it_reports_its_hardware_and_runs_to_the_scripted_end():
    bench = Bench()
    assert [type(one) for one in bench.said] == [Report]
    assert bench.said[0].nodes[0].name == "one"
    bench.engine.act([launch("prepare 2s; run 5s; exit 7")])
    bench.go(3 * SECOND_US)
    assert bench.seen("alc_1") == [Seen.PREPARING, Seen.RUNNING]
    running_us = bench.last().at_us
    bench.go(10 * SECOND_US)
    ended = bench.last()
    assert (ended.seen, ended.exit_code) == (Seen.EXITED, 7)
    assert (ended.running_us, ended.at_us) == (running_us, running_us + 5 * SECOND_US)


def test_the_same_launch_twice_is_one_launch():
    bench = Bench()
    bench.engine.act([launch(), launch()])
    bench.go()
    bench.engine.act([launch()])
    bench.go(10 * SECOND_US)
    assert bench.engine.launches == 1
    assert bench.seen("alc_1")[-1] is Seen.EXITED
    assert not bench.engine.violations


@pytest.mark.parametrize(("run", "grace_us", "code"), [
    ("run 1h", SECOND_US, 143), ("run 1h; on-stop 0", SECOND_US, 0), ("run 1h; stubborn", 3 * SECOND_US, 137),
    ("run 2s; stubborn; exit 5", 30 * SECOND_US, 5), ("prepare 1h", SECOND_US, 143),
])  # fmt: skip
def test_a_stop_ends_it_as_the_script_says(run, grace_us, code):
    bench = Bench()
    bench.engine.act([launch(run)])
    bench.go()
    bench.engine.act([Signal("alc_1", 1), Stop("alc_1", 1, "user", grace_us=grace_us), Stop("alc_1", 1, "user")])
    bench.go(20 * SECOND_US)
    assert (bench.last().seen, bench.last().exit_code) == (Seen.EXITED, code)


def test_what_it_does_not_know_is_absent():
    bench = Bench()
    bench.engine.act([Stop("alc_9", 1, "user"), Forget("alc_9", 1)])
    bench.go()
    assert bench.seen("alc_9") == [Seen.ABSENT]
    assert not bench.engine.violations


def test_an_older_generation_and_a_second_run_are_refused_and_noted():
    bench = Bench()
    bench.engine.act([launch("run 1h", generation=2), launch(allocation="alc_0", generation=1)])
    bench.go()
    assert bench.seen("alc_0") == [Seen.ABSENT]
    assert [one.allocation_id for one in bench.engine.live()] == ["alc_1"]
    assert len(bench.engine.violations) == 1


def test_an_older_generation_is_refused_after_the_newer_one_ended():
    bench = Bench()
    bench.engine.act([launch("run 1s", generation=2)])
    bench.go(3 * SECOND_US)
    bench.engine.act([launch(allocation="alc_0", generation=1)])
    bench.go()
    assert bench.seen("alc_0") == [Seen.ABSENT]


def test_what_was_forgotten_is_not_started_again():
    bench = Bench()
    bench.engine.act([launch("run 1s")])
    bench.go(3 * SECOND_US)
    bench.engine.act([Forget("alc_1", 1)])
    assert bench.engine.known() == []
    bench.engine.act([launch("run 1s")])
    assert bench.engine.launches == 1
    assert "forgotten" in bench.engine.violations[0]


def test_to_forget_what_runs_and_to_give_a_device_twice_is_noted():
    bench = Bench()
    bench.engine.act([launch("run 1h"), Forget("alc_1", 1)])
    assert "forgotten while it runs" in bench.engine.violations[0]
    bench.engine.act([launch("run 1h", "alc_2", "job_2", milli=500)])
    assert "1500 thousandths" in bench.engine.violations[1]


def test_a_dead_node_takes_its_jobs_with_it_and_starts_nothing():
    bench = Bench()
    bench.engine.act([launch("run 1h")])
    bench.go()
    bench.engine.kill_node("nod_1")
    bench.go()
    assert (bench.last().seen, bench.last().fault) == (Seen.LOST, "node")
    assert bench.report().nodes[0].state is NodeState.DOWN
    bench.engine.act([launch(allocation="alc_2", generation=2)])
    bench.go()
    assert (bench.last().seen, bench.last().fault) == (Seen.FAILED, "node")
    bench.engine.revive_node("nod_1")
    assert bench.report().nodes[0].state is NodeState.READY


def test_out_of_reach_it_hears_and_says_nothing_but_its_jobs_go_on():
    bench = Bench()
    bench.engine.act([launch("run 2s")])
    bench.go()
    before = len(bench.said)
    bench.engine.set_reachable(False)
    bench.engine.act([launch(allocation="alc_2", job="job_2")])
    bench.go(10 * SECOND_US)
    assert len(bench.said) == before
    bench.engine.set_reachable(True)
    bench.go()
    assert [(one.allocation_id, one.seen) for one in bench.said[-1].observations] == [("alc_1", Seen.EXITED)]


def test_a_lost_answer_is_in_the_next_report():
    bench = Bench(lost_per_mille=1000)
    bench.engine.act([launch("run 1s")])
    bench.go(5 * SECOND_US)
    assert bench.said == []
    bench.engine.set_temper(Temper())
    assert bench.report().observations[0].seen is Seen.EXITED


def test_answers_come_twice_when_they_are_to():
    bench = Bench(twice_per_mille=1000, late_us=0)
    bench.engine.act([launch("run 1s")])
    bench.go(5 * SECOND_US)
    assert bench.seen("alc_1").count(Seen.EXITED) == 2


def test_a_new_listener_gets_nothing_that_was_meant_for_the_old_one():
    bench = Bench()
    bench.engine.act([launch("run 1h")])
    heard = []
    bench.engine.start(heard.append)
    before = len(bench.said)
    bench.go()
    assert len(bench.said) == before
    assert [type(one) for one in heard] == [Report, Observation]
    assert heard[1].seen is Seen.RUNNING  # that it prepares was told to the old one, too late
    bench.engine.close()
    bench.engine.request_report()
    bench.go()
    assert len(heard) == 2
