"""What a job is likely to need, from lengths that can be reckoned by hand."""

from __future__ import annotations

from headframe.base.quantities import SECOND_US
from headframe.scheduling.likely import ENOUGH, REMEMBERED, Likely

MINUTE_US = 60 * SECOND_US


def taught(*lengths_s: int, size: int = 1000, there: tuple[tuple[int, int], ...] = ()) -> Likely:
    likely = Likely()
    for length_s in lengths_s:
        likely.learn(size, length_s * SECOND_US)
    likely.renew([(kind, age_s * SECOND_US) for kind, age_s in there])
    return likely


def test_before_enough_is_known_a_job_needs_as_long_again_as_it_has_run() -> None:
    likely = taught(*[10] * (ENOUGH - 1))
    assert likely.left_us(1000, 0) == MINUTE_US
    assert likely.left_us(1000, 7 * MINUTE_US) == 7 * MINUTE_US


def test_when_all_run_alike_a_new_job_needs_that_long_and_an_old_one_the_rest() -> None:
    likely = taught(*[6000] * ENOUGH)
    assert likely.left_us(1000, 0) == 6000 * SECOND_US
    assert likely.left_us(1000, 3000 * SECOND_US) < 4000 * SECOND_US


def test_who_has_outlived_the_short_ones_is_likely_a_long_one() -> None:
    likely = taught(*[100] * 50, *[100_000] * 50)
    assert likely.left_us(1000, 0) == 200 * SECOND_US, "100 s given to each of two, one of which ends"
    assert likely.left_us(1000, 1000 * SECOND_US) > 90_000 * SECOND_US


def test_jobs_that_are_still_there_are_known_to_run_longer() -> None:
    alone = taught(*[100] * 30)
    crowd = taught(*[100] * 30, there=((1000, 5000),) * 30)
    assert crowd.left_us(1000, 0) == 2 * alone.left_us(1000, 0)


def test_each_size_learns_by_itself_and_others_use_all_of_them() -> None:
    likely = Likely()
    for _ in range(ENOUGH):
        likely.learn(1000, 100 * SECOND_US)
        likely.learn(8000, 10_000 * SECOND_US)
    likely.renew([])
    assert likely.left_us(1000, 0) == 100 * SECOND_US
    assert likely.left_us(8000, 0) == 10_000 * SECOND_US
    assert likely.left_us(2000, 0) == 200 * SECOND_US


def test_what_is_old_is_forgotten() -> None:
    likely = taught(*[10] * REMEMBERED, *[5000] * REMEMBERED)
    assert likely.left_us(1000, 0) == 5000 * SECOND_US
