"""A little of what `python -m tests.postgresql --long` tries; docs/postgresql.md has what all of it has shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_sessions_that_are_cut_cost_nothing_but_time(tmp_path: Path) -> None:
    """Sessions ended before a statement, or cut before, after and at the answer of COMMIT: nothing lost or doubled."""
    file = tmp_path / "found.json"
    command = [sys.executable, "-m", "tests.postgresql", "ended", "doubts", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads(file.read_text())["parts"]
    assert parts["ended"]["kinds"]["ended"] >= 4
    assert parts["doubts"]["kinds"] == {"before": 1, "after": 1, "late": 1, "answer": 1}
