"""What a yardstick may be narrowed to."""

from __future__ import annotations

import pytest

from headframe.base.errors import Invalid
from headframe.yardsticks.records import Options
from headframe.yardsticks.registry import YARDSTICKS


@pytest.mark.parametrize("options", [Options(workloads=("small",)), Options(seeds=(1,)), Options(policies=("nope",))])
def test_a_yardstick_of_one_case_says_that_it_cannot_be_narrowed(options: Options) -> None:
    with pytest.raises(Invalid, match="cannot be narrowed"):
        YARDSTICKS["kueue-15k"].cases(None, options)
    assert len(YARDSTICKS["kueue-15k"].cases(None, Options())) == 1
