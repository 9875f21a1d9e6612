"""Where tests work that are not about a disk: on one they would wait for it most of their time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stabilize_nb.testing.forks import scratch


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory, if possible."""
    with scratch() as folder:
        yield Path(folder)
