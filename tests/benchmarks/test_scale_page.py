"""The figures of docs/scale.md are those of the last measurement, and a crowd that is played behaves like one."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.capacity import PAGE, RESULT, page
from tests.benchmarks.crowds import THREADS, Crowd


def test_the_page_tells_what_was_measured() -> None:
    """The tables of docs/scale.md are made of docs/scale.json."""
    report = json.loads(RESULT.read_text())

    assert max(crowd["workers"] for crowd in report["crowds"]) == 1_000
    assert page(report) == PAGE.read_text(), "python -m tests.benchmarks.capacity --page writes it anew"


def test_crowd_is_bound_by_its_bodies_or_by_its_server() -> None:
    """Below what the server bears, bodies set the rate; above it, what a stage costs on the cores does."""
    free, full = Crowd(4, 0.1, 2, (0.0, 0.0001, 0.0)), Crowd(400, 0.1, 2, (0.0, 0.001, 0.0))

    assert 4_000 / free.play(4_000) == pytest.approx(4 * THREADS / 0.1, rel=0.1)
    assert 20_000 / full.play(20_000) == pytest.approx(2 / 0.001, rel=0.05)
