"""A process killed at any commit loses nothing, doubles nothing and leaves nothing stuck (C2; R1 of reliability.md)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.shapes import SHAPES


@pytest.mark.parametrize("journal", ["WAL", "TRUNCATE"])
@pytest.mark.parametrize("shape", SHAPES)
def test_killed_at_every_commit(shape: str, journal: str) -> None:
    """Another process ends the run as if nobody had been killed; bodies are repeated exactly where predicted."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.sweep", shape, "--journal", journal, "--json"],
        capture_output=True, text=True, timeout=110, check=False, cwd=Path.cwd(),
    )  # fmt: skip

    assert done.stdout, done.stderr
    tally = json.loads(done.stdout)
    assert tally["wrong"] == []
    assert tally["scenarios"] >= 14, "a kill before and after each commit"
