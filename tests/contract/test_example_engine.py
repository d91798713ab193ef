"""The engine that the page for engine writers shows keeps the contract but for one rule: the tests of every engine."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headframe.engines.homes import Home
from headframe.fleet.records import Cluster, Region
from tests.contract import test_engines
from tests.contract.engine_contract import EnginePlace

FILE = Path(__file__).parents[2] / "examples/engine/plain_engine.py"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("plain_engine", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["plain_engine"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ExamplePlace(EnginePlace[Any]):
    """The example, opened as `serve` opens an engine."""

    def make(self) -> Any:
        cluster = Cluster("clu_desk", "reg_desk", "desk", "plain")
        return _load().PlainEngine(Home(cluster, Region("reg_desk", "desk"), self.data, self.settings))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[ExamplePlace]:
    place = ExamplePlace(tmp_path)
    try:
        yield place
    finally:
        place.end()


# The one thing that it does not do, and says so: its tasks end with the server.
NOT_KEPT = {"test_an_engine_that_comes_back_finds_what_runs"}
CONTRACT = [
    name
    for name, test in inspect.getmembers(test_engines, inspect.isfunction)
    if name.startswith("test_") and list(inspect.signature(test).parameters) == ["place"] and name not in NOT_KEPT
]
for _name in CONTRACT:
    globals()[_name] = getattr(test_engines, _name)


def test_nothing_else_of_the_contract_is_left_out() -> None:
    assert len(CONTRACT) >= 15
    assert all(hasattr(test_engines, name) for name in NOT_KEPT)
