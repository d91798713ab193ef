"""The newest measures of accelerators."""

from __future__ import annotations

import numpy as np

from headframe.control.gauges import FRESH_US, UNKNOWN, Gauge, Gauges


def test_the_newest_measure_counts_and_what_nobody_measured_is_unknown() -> None:
    gauges = Gauges()
    assert gauges.newest("acc_1") is None
    gauges.tell("acc_1", 2_000, use_percent=80, memory_mib=1024)
    gauges.tell("acc_1", 1_000, use_percent=10)
    assert gauges.newest("acc_1") == Gauge(2_000, use_percent=80, memory_mib=1024)


def test_columns_grow_and_keep_the_order_that_is_asked_for() -> None:
    gauges = Gauges()
    for number in range(500):
        gauges.tell(f"acc_{number}", 1_000, use_percent=number % 101, errors=0)
    rows = gauges.rows(["acc_499", "acc_none", "acc_3"])
    assert gauges.column("use_percent", rows, 1_000).tolist() == [499 % 101, UNKNOWN, 3]
    assert gauges.column("power_w", rows, 1_000).tolist() == [UNKNOWN] * 3
    assert gauges.column("errors", rows, 1_000).tolist() == [0, UNKNOWN, 0]
    assert len(gauges) == 500


def test_an_old_measure_tells_nothing_of_now() -> None:
    gauges = Gauges()
    gauges.tell("acc_1", 1_000, temperature_c=60)
    rows = gauges.rows(["acc_1"])
    assert gauges.column("temperature_c", rows, 1_000 + FRESH_US).tolist() == [60]
    assert gauges.column("temperature_c", rows, 1_001 + FRESH_US).tolist() == [UNKNOWN]
    assert np.all(gauges.column("temperature_c", np.empty(0, np.int64), 0) == UNKNOWN)
