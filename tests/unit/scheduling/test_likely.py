"""What a job is likely to need, from lengths that can be reckoned by hand."""

from __future__ import annotations

from headframe.base.quantities import SECOND_US
from headframe.scheduling.likely import REMEMBERED, Likely

MINUTE_US = 60 * SECOND_US


def taught(*lengths_s: int, size: int = 1000, there: tuple[tuple[int, int], ...] = ()) -> Likely:
    likely = Likely()
    for length_s in lengths_s:
        likely.learn(size, length_s * SECOND_US)
    likely.renew([(kind, age_s * SECOND_US) for kind, age_s in there])
    return likely


def left_s(likely: Likely, ran_s: int, size: int = 1000) -> float:
    return likely.left_us(size, ran_s * SECOND_US) / SECOND_US


def test_before_anything_is_known_a_job_needs_as_long_again_as_it_has_run() -> None:
    assert Likely().left_us(1000, 0) == MINUTE_US
    assert Likely().left_us(1000, 7 * MINUTE_US) == 7 * MINUTE_US
    barely = taught(5000)
    for ran_s in (100, 10_000, 1_000_000):
        assert 0.8 * ran_s < left_s(barely, ran_s) < 1.5 * ran_s, "a single job says next to nothing"


def test_when_all_run_alike_a_new_job_needs_that_long_and_an_old_one_the_rest() -> None:
    likely = taught(*[6000] * 1000)
    assert 5000 < left_s(likely, 0) < 7500
    assert left_s(likely, 3000) < 4000


def test_who_has_outlived_the_short_ones_is_likely_a_long_one() -> None:
    likely = taught(*[100] * 500, *[100_000] * 500)
    assert 150 < left_s(likely, 0) < 250, "100 s given to each of two, one of which ends"
    assert left_s(likely, 1000) > 10 * left_s(likely, 0)


def test_jobs_that_are_still_there_are_known_to_run_longer() -> None:
    alone = taught(*[100] * 300)
    crowd = taught(*[100] * 300, there=((1000, 5000),) * 300)
    assert 1.6 < left_s(crowd, 0) / left_s(alone, 0) < 2.1, "half of those that came so far went on"


def test_each_size_learns_by_itself_and_others_use_all_of_them() -> None:
    likely = Likely()
    for _ in range(500):
        likely.learn(1000, 100 * SECOND_US)
        likely.learn(8000, 10_000 * SECOND_US)
    likely.renew([])
    assert 80 < left_s(likely, 0) < 130
    assert 8000 < left_s(likely, 0, 8000) < 13_000
    assert 150 < left_s(likely, 0, 2000) < 260


def test_a_size_of_which_little_is_known_begins_with_what_all_have_taught() -> None:
    likely = taught(*[100] * 500, size=1000)
    likely.learn(8000, 100 * SECOND_US)
    likely.renew([])
    assert left_s(likely, 0, 8000) < 1.5 * left_s(likely, 0)


def test_what_is_old_is_forgotten_and_any_length_has_an_answer() -> None:
    likely = taught(*[10] * REMEMBERED, *[5000] * REMEMBERED)
    assert 4000 < left_s(likely, 0) < 6500
    assert likely.left_us(1000, 10**30) > 0
    assert likely.left_us(1000, 10**8 * SECOND_US) > 0
