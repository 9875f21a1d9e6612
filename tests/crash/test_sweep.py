"""
A process killed at any commit or statement, and a disk that fails, fills up or loses power, cost nothing but time.

Nothing is lost, stuck or doubled, and bodies are repeated exactly where predicted (C1, C2, C6; R1, R2, R3 of the plan).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from tests.crash.page import PAGE, RESULT, figures, page
from tests.crash.plan import KILLS
from tests.crash.shapes import SHAPES
from tests.crash.sweep import JOURNALS

ALL = [(shape, journal) for shape in SHAPES for journal in JOURNALS]


class Sweeps:
    """The results so far, and the process that makes them: it has no threads, so that it may fork."""

    def __init__(self, process):
        self.process = process
        self.found = {}

    def __getitem__(self, asked):
        if asked not in self.found:
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
            self.found[asked] = json.loads(self.process.stdout.readline())
        return self.found[asked]


@pytest.fixture(scope="module")
def sweeps():
    command = [sys.executable, "-m", "tests.crash.sweep"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Sweeps(process)
        process.stdin.close()


@pytest.mark.parametrize(("shape", "journal"), ALL)
def test_whatever_strikes_the_work_is_done(shape, journal, sweeps):
    """Another process ends the run as if nothing had happened; bodies are repeated exactly where predicted."""
    found = sweeps[shape, journal]

    assert found["wrong"] == []
    assert found["kinds"]["commit"] >= 14, "a kill before and after each commit"
    assert found["kinds"].keys() == {"commit", "statement", "again", "disk", "power"}


@pytest.mark.timeout(900)
def test_as_many_as_the_page_says(sweeps, record_property):
    """docs/reliability.md promises no more scenarios in the test command than there were."""
    total = sum((Counter(sweeps[asked]["kinds"]) for asked in ALL), Counter())
    kills = sum(total[kind] for kind in KILLS)
    record_property("line", f"{kills} kills, {total['disk']} faults of the disk, {total['power']} losses of power: "
                            f"0 lost, 0 stuck, 0 wrong")  # fmt: skip

    promised = figures(PAGE.read_text())
    assert kills >= promised["kills"] >= 2_500
    assert total["disk"] >= promised["faults"] >= 1_500
    assert total["power"] >= promised["losses"] >= 200
    assert total["again"] >= 300


def test_the_page_tells_what_the_long_run_found():
    """The table of docs/reliability.md is made of its result, in which nothing is wrong."""
    report = json.loads(RESULT.read_text())

    assert report["wrong"] == []
    assert len(report["shapes"]) == len(ALL)
    assert sum(report["totals"][kind] for kind in KILLS) >= 16_000
    assert report["totals"]["disk"] >= 12_000
    assert report["recovery"]["kills"] >= 200
    assert report["recovery"]["p99"] <= 1.0
    assert page(report) == PAGE.read_text(), "python -m tests.crash.page writes it anew"
