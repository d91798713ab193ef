"""Servers for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import Running


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start a server of this test's own."""
    made: list[Running] = []

    def start(*words: str, **options: object) -> Running:
        running = Running(tmp_path, **options)  # type: ignore[arg-type]
        made.append(running)
        return running.start(*words)

    yield start
    for running in made:
        running.clear()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that the tests of one file share."""
    made = Running(tmp_path_factory.mktemp("cloud"))
    try:
        yield made.start()
    finally:
        made.clear()
