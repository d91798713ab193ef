"""Options of the scheduler that make no sense are refused by name, with what is allowed."""

from __future__ import annotations

import pytest

from headframe.base.errors import Invalid
from headframe.cli.reservations import _gpu
from headframe.settings import from_options


@pytest.mark.parametrize("text", ["0s", "999ms"])
def test_turns_last_a_second_at_least(text: str) -> None:
    with pytest.raises(Invalid, match="--quantum"):
        from_options({"quantum": text})
    assert from_options({"quantum": "1s"}).rules.quantum_us == 1_000_000


@pytest.mark.parametrize("text", ["H100:0", "0", "H100:99999999999999", "H100:-2", "nan", "H100:²"])
def test_a_reservation_of_no_number_of_gpus_names_the_option(text: str) -> None:
    with pytest.raises(Invalid, match="--gpu"):
        _gpu(text, None)
    assert _gpu("H100:32", None) == ("H100", 32)
