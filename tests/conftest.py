"""
What holds for every test, and how a whole run is spread over processes.

A run of everything uses three processes for two cores; tests of one file stay in one process and in order, and so do
all tests with a browser, which share one JupyterLab. A run of chosen tests stays in this process.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from stabilize_nb.secrets.hiding import HIDDEN
from stabilize_nb.store.database import open_databases
from tests import kernels
from tests.scenarios.counts import (
    pytest_runtest_logreport,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)
from tests.stores import forgotten, in_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

BROWSER = "tests/browser"
#: What takes longest is begun first: a process that is given it near the end works on alone.
LONG = ("tests/crash/test_sweep.py", BROWSER, "tests/public/test_quality.py", "tests/simulate/test_stored.py",
        "tests/crash/test_demo_kill.py", "tests/crash/test_agents.py", "tests/crash/test_crash_sweep.py")  # fmt: skip
REAL_MODEL = "real_model"
SQLITE = "sqlite"
__all__ = ["pytest_runtest_logreport", "pytest_runtest_makereport", "pytest_terminal_summary"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job of a shell; tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hundreds of processes import the same modules: compiled once, even where a machine has it that nothing is kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """
    Return 0, which is this process, when tests were chosen; otherwise three processes for two cores.

    A third of their time they wait: for kernels, browsers and servers, for what they have killed, for clocks.
    """
    chosen = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    return 0 if chosen or config.option.keyword or config.option.markexpr else len(os.sched_getaffinity(0)) * 3 // 2


class ByFile(LoadScopeScheduling):
    """Gives the tests of a file to one process, and those of a browser too, wherever they are."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def scope(nodeid: str) -> str:
    """Return what is done by one process: a file, or all that needs a browser."""
    file = nodeid.partition("::")[0]
    return BROWSER if file.startswith(f"{BROWSER}/") else file


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Put first what takes longest.

    Leave out what asks a real model, unless `-m` names it, and what is about SQLite where another database is.
    """
    rank = {name: at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(scope(item.nodeid), len(LONG)))
    not_here = {REAL_MODEL} - {REAL_MODEL if REAL_MODEL in config.option.markexpr else ""}
    if config.option.store != "sqlite":
        not_here.add(SQLITE)
    left_out = [item for item in items if any(mark.name in not_here for mark in item.iter_markers())]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Return what spreads the tests."""
    return ByFile(config, log)


@pytest.fixture(scope="session")
def oldest_kernel(pytestconfig: pytest.Config) -> kernels.OldestKernel:
    """Return the environment with the oldest kernel that is supported; made once and kept in pytest's cache."""
    return kernels.oldest_kernel(pytestconfig.cache.mkdir("oldest-kernel"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run say which database SQLite's stand for."""
    parser.addoption("--store", choices=["sqlite", "postgres"], default="sqlite", help="database of the tests")


@pytest.fixture(scope="session", autouse=True)
def _store(pytestconfig: pytest.Config) -> Iterator[None]:
    with in_postgres() if pytestconfig.option.store == "postgres" else nullcontext():
        yield


@pytest.fixture(autouse=True)
def _no_database_left_open() -> Iterator[None]:
    """Fail a test that leaves a database open: an in-memory one would be shared with the next test."""
    before = {id(database) for database in open_databases()}
    with forgotten():
        yield
    left = [database.url for database in open_databases() if id(database) not in before]
    assert left == [], f"left open: {left}"


@pytest.fixture(autouse=True)
def _no_secret_left_hidden() -> Iterator[None]:
    """Forget the secrets of a test: their values may be words of the next one."""
    yield
    HIDDEN.clear()
