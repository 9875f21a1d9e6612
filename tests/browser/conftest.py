"""JupyterLab in a browser, once for all tests of this folder, and a notebook in it for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.browser import lab_browser
from tests.browser.lab import NEWEST_NAME, Lab, Tab, name_of, started_lab
from tests.kernels import OldestKernel

FOLDER = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here."""
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.browser)


# Not for the session: the event loop of Playwright would be there for the tests of other folders.
@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory, oldest_kernel: OldestKernel) -> Iterator[Lab]:
    """Start JupyterLab and Chromium; without a browser tests are skipped, or fail when LAB_BROWSER_REQUIRE is set."""
    lab_browser._need()
    with started_lab(tmp_path_factory.mktemp("lab") / "root", oldest_kernel.specs) as started:
        yield started


@pytest.fixture(autouse=True)
def _nothing_leaves_the_machine(lab: Lab) -> Iterator[None]:
    """Fail a test whose page, server or kernel asked something of another machine."""
    lab.left_the_machine()
    yield
    assert lab.left_the_machine() == []
    assert "127.0.0.1" in lab.seen


@pytest.fixture
def lab_notebook(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Callable[..., Tab]]:
    """Make notebooks, each with a kernel and a store of its own, in the folder of the test."""
    tabs: list[Tab] = []

    def make(cells: Iterable[str], name: str = "notebook", kernel: str = NEWEST_NAME) -> Tab:
        folder = name_of(request.node.name)
        tabs.append(lab.open(f"{folder}/{name}.ipynb", cells, kernel=kernel))
        return tabs[-1]

    yield make
    for tab in tabs:
        tab.close()
