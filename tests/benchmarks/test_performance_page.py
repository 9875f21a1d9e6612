"""The figures of docs/performance.md are those of the last measurement."""

from __future__ import annotations

import json

from tests.benchmarks.bounds import Bound, bounds
from tests.benchmarks.page import PAGE, RESULT, page
from tests.benchmarks.rounds import ratio


def test_the_page_tells_what_was_measured() -> None:
    """The tables of docs/performance.md are made of docs/performance.json, which has every part."""
    report = json.loads(RESULT.read_text())

    assert {name for name, part in report.items() if isinstance(part, dict) and "rows" in part} == {
        "steps", "recovery", "answers", "events", "import", "load_ext", "idle", "repaint", "counts",
    }  # fmt: skip
    assert page(report) == PAGE.read_text(), "python -m tests.benchmarks --page writes it anew"


def test_what_does_not_hold_is_said_on_the_page() -> None:
    """Every bound of the issue has a line, and one that is not kept says no."""
    found = bounds(json.loads(RESULT.read_text()))
    lines = [line for line in PAGE.read_text().splitlines() if line.endswith(("| yes |", "| **no** |"))]

    assert [line.endswith("| yes |") for line in lines] == [bound.holds for bound in found]


def test_a_ratio_is_of_the_same_round() -> None:
    """A round in which one of both was left out says nothing."""
    assert ratio([10.0, None, 90.0], [5.0, 1.0, 30.0]) == 2.5
    assert ratio([None], [1.0]) is None
    assert Bound(text="", figure=2, bound=2).holds
    assert not Bound(text="", figure=1.9, bound=2, least=True).holds
