"""
What holds for every test, and how a whole run is spread over processes.

A run of everything uses a process for each core; tests of one file stay in one process and in order, and so do all
tests with a browser, which share one JupyterLab. A run of chosen tests stays in this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stabilize_nb.store.database import open_databases
from tests import kernels
from tests.scenarios.counts import (
    pytest_runtest_logreport,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["pytest_runtest_logreport", "pytest_runtest_makereport", "pytest_terminal_summary"]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return 0, which is this process, when tests were chosen; otherwise let the plugin count the cores."""
    chosen = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    return 0 if chosen or config.option.keyword or config.option.markexpr else None


@pytest.hookimpl(tryfirst=True)  # before the plugin puts the groups into the ids of the tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests for the processes."""
    for item in items:
        group = "browser" if item.get_closest_marker("browser") else item.location[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def oldest_kernel(pytestconfig: pytest.Config) -> kernels.OldestKernel:
    """Return the environment with the oldest kernel that is supported; made once and kept in pytest's cache."""
    return kernels.oldest_kernel(pytestconfig.cache.mkdir("oldest-kernel"))


@pytest.fixture(autouse=True)
def _no_database_left_open() -> Iterator[None]:
    """Fail a test that leaves a database open: an in-memory one would be shared with the next test."""
    before = {id(database) for database in open_databases()}
    yield
    left = [database.url for database in open_databases() if id(database) not in before]
    assert left == [], f"left open: {left}"
