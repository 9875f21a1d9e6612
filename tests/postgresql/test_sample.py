"""A sample of the scenarios on PostgreSQL; `pytest --store postgres tests/scenarios` carries all of them out."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests import scenarios
from tests.stores import in_postgres

#: Cases that are also killed after each of their commits.
EVERYWHERE = 4


def _sample() -> Iterator[Any]:
    """Yield the first case of each pattern that outlives its engine, and a few that are killed everywhere."""
    seen: set[tuple[int, ...]] = set()
    left = EVERYWHERE
    for file in sorted(Path(scenarios.__path__[0]).glob("test_*patterns.py")):
        test = import_module(f"tests.scenarios.{file.stem}").test_pattern
        (mark,) = test.pytestmark
        for param in mark.args[1]:
            case, setting = param.values
            if setting.database != "file" or setting.budget != 32 or case.rejected:
                continue
            if setting.everywhere and left and len(case.graph) > 4:
                left -= 1
            elif setting.everywhere or case.patterns in seen:
                continue
            else:
                seen.add(case.patterns)
            yield pytest.param(test, case, setting, id=param.id)


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with in_postgres():
        yield


@pytest.mark.parametrize(("test", "case", "setting"), list(_sample()))
def test_scenario_on_postgresql(test: Any, case: Any, setting: Any, tmp_path: Path) -> None:
    """What a pattern means does not depend on where rows are kept."""
    test(case, setting, tmp_path)
