"""What tests of starting share: a fresh store of each kind, and engines at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stabilize_nb import Engine
from tests.postgres import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a fresh store."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/runs.db"
    server: Server = request.getfixturevalue("server")
    return server.url(f"starting_{tmp_path.name}".lower()[:60])


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], Engine]]:
    """Open engines at the store; all are closed at the end."""
    engines: list[Engine] = []

    def make() -> Engine:
        engines.append(Engine(url))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(opened: Callable[[], Engine]) -> Engine:
    """Open an engine at the store."""
    return opened()
