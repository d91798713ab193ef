"""How fast a job says that it runs on each kind: read, checked, and turned into the order of its alternatives."""

from __future__ import annotations

import pytest

from headframe.base.errors import Invalid
from headframe.workloads.gpu import fastest_first, parse_gpus, parse_throughput

FIELD = "resources.throughput"


def order(gpu: object, throughput: object) -> list[tuple[str | None, int]]:
    speeds = parse_throughput(throughput, FIELD)
    return [(one.kind, one.count) for one in fastest_first(parse_gpus(gpu, "resources.gpu"), speeds, FIELD)]


def test_the_kind_that_gets_the_most_done_comes_first() -> None:
    assert order(["A100:8", "H100:8"], {"A100": 1, "H100": 2.1}) == [("H100", 8), ("A100", 8)]
    assert order(["A100:8", "H100:2"], {"A100": 1, "H100": 2.1}) == [("A100", 8), ("H100", 2)]


def test_any_kind_becomes_the_kinds_that_are_told() -> None:
    assert order(2, {"t4": 0.3, "H100": 3, "A100": 1.5}) == [("H100", 2), ("A100", 2), ("t4", 2)]


def test_equals_stay_in_the_order_of_the_job() -> None:
    assert order(["B:1", "A:1"], {"A": 1, "B": 1}) == [("B", 1), ("A", 1)]


@pytest.mark.parametrize(
    "value",
    [None, [], {}, "H100", {"H100": 0}, {"H100": -1}, {"H100": float("nan")}, {"H100": float("inf")}, {"H100": True},
     {"H100": "2"}, {"8": 1}, {8: 1}, {"../x": 1}, {"H100": 1, "h100": 2}, {f"K{place}": 1 for place in range(17)}],
)  # fmt: skip
def test_what_is_no_speed_is_refused(value: object) -> None:
    with pytest.raises(Invalid) as caught:
        parse_throughput(value, FIELD)
    assert caught.value.field.startswith(FIELD)


def test_a_kind_without_a_speed_and_a_job_without_gpus_are_refused() -> None:
    with pytest.raises(Invalid, match="how fast A100 is"):
        order(["H100:1", "A100:1"], {"H100": 1})
    with pytest.raises(Invalid, match="no GPU"):
        order(None, {"H100": 1})
