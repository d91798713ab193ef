"""One cloud for each test file: tests make organizations of their own in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from house import House, open_house


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house")) as found:
        yield found
