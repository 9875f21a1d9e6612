"""What holds for every test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stabilize_nb.store.database import open_databases

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _no_database_left_open() -> Iterator[None]:
    """Fail a test that leaves a database open: an in-memory one would be shared with the next test."""
    before = {id(database) for database in open_databases()}
    yield
    left = [database.url for database in open_databases() if id(database) not in before]
    assert left == [], f"left open: {left}"
