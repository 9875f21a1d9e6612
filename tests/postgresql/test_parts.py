"""A little of what `python -m tests.postgresql --long` tries; docs/postgresql.md has what all of it has shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.postgresql.page import PAGE, RESULT, page


def test_sessions_that_are_cut_cost_nothing_but_time(tmp_path: Path) -> None:
    """Sessions ended before a statement, or cut before, after and at the answer of COMMIT: nothing lost or doubled."""
    file = tmp_path / "found.json"
    command = [sys.executable, "-m", "tests.postgresql", "ended", "doubts", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads(file.read_text())["parts"]
    assert parts["ended"]["kinds"]["ended"] >= 4
    assert parts["doubts"]["kinds"] == {"before": 1, "after": 1, "late": 1, "answer": 1}


def test_the_page_tells_what_the_long_run_found() -> None:
    """The table of docs/postgresql.md is made of its result, in which nothing is wrong."""
    report = json.loads(RESULT.read_text())
    parts = report["parts"]

    assert [name for name, part in parts.items() if part["wrong"]] == []
    assert sum(parts["kills"]["kinds"].values()) >= 1_000
    assert len(parts["ended"]["shapes"]) == 6
    assert sum(parts["doubts"]["kinds"].values()) >= 60
    assert (parts["restarts"]["restarts"], parts["restarts"]["runs"]) == (20, 200)
    workers = parts["workers"]
    assert (workers["runs"], workers["processes"], workers["p99"] <= 1.0) == (500, 4, True)
    assert parts["scenarios"]["passed"] > 2_000
    assert page(report) == PAGE.read_text(), "python -m tests.postgresql.page writes it anew"
