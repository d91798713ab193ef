"""Servers for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Tab, open_browser, open_tab
from console_cloud import ConsoleCloud, open_cloud
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


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, once for all tests of the console."""
    with open_browser() as found:
        yield found


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleCloud]:
    """One server with real jobs for all tests of the console that only look."""
    with open_cloud(tmp_path_factory.mktemp("console")) as found:
        yield found


@pytest.fixture(scope="session")
def session(browser: Any, cloud: ConsoleCloud) -> Any:
    """The cookies of the operator's owner, who has signed in by the form."""
    with open_tab(browser, cloud.url, None) as tab:
        tab.sign_in(cloud.key)
        tab.check()
        return tab.page.context.storage_state()


@pytest.fixture
def tab(browser: Any, cloud: ConsoleCloud, session: Any) -> Iterator[Tab]:
    """A tab of the operator's owner; what goes wrong in it fails the test."""
    with open_tab(browser, cloud.url, session) as found:
        yield found
        found.check()
