"""Time, chance and identities of a simulated world, and the clock that never goes back."""

from headframe.base.changes import Changes, Event
from headframe.control.steady import Steady, on_record_us
from headframe.sim.clock import CountedIds, SeededRng, VirtualClock
from headframe.store.sql_store import SqlStore


def test_a_steady_clock_holds_still_while_the_machine_is_behind():
    clock = VirtualClock(1_000)
    steady = Steady(clock.machine_us)
    assert steady.now_us() == 1_000
    clock.jump(500)
    assert steady.now_us() == 1_500
    clock.jump(-800)
    clock.advance_to(1_400)
    assert clock.machine_us() == 1_100
    assert steady.now_us() == 1_500
    clock.advance_to(2_000)
    assert steady.now_us() == 1_700


def test_a_program_that_starts_again_is_not_behind_what_is_on_record():
    store = SqlStore("sqlite://")
    assert on_record_us(store) == 0
    store.apply(Changes(events=(Event(900, "late", "x", seq=1), Event(700, "early", "x", seq=2))))
    assert on_record_us(store) == 900
    assert Steady(lambda: 500, on_record_us(store)).now_us() == 900
    store.close()


def test_chance_is_the_same_for_the_same_seed_and_apart_for_each_name():
    def draw(rng):
        return [rng.below(1000) for _ in range(50)]

    assert draw(SeededRng(7)) == draw(SeededRng(7))
    assert draw(SeededRng(7)) != draw(SeededRng(8))
    rng = SeededRng(7)
    fork = rng.fork("faults")
    rng.below(10)
    assert draw(fork) == draw(SeededRng(7).fork("faults")) != draw(SeededRng(7).fork("people"))
    assert {SeededRng(3).fork(str(n)).between(2, 4) for n in range(60)} == {2, 3, 4}


def test_identities_sort_by_the_order_in_which_they_were_made():
    ids = CountedIds(1)
    made = [ids.new("job") for _ in range(200)]
    assert made == sorted(set(made))
    assert len(ids.secret()) >= 48
    assert ids.secret() != ids.secret()
