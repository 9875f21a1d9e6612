"""A disk that fails, fills up or loses power costs nothing but time (C1, C6; R2 and R3 of reliability.md)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.shapes import SHAPES


@pytest.mark.parametrize("shape", SHAPES)
def test_disk_fails_at_any_operation(shape: str) -> None:
    """Nothing is lost, stuck or doubled; the work goes on by itself once the disk does."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.faults", shape, "--stride", "12", "--json"],
        capture_output=True, text=True, timeout=110, check=False, cwd=Path.cwd(),
    )  # fmt: skip

    assert done.stdout, done.stderr
    tally = json.loads(done.stdout)
    assert tally["wrong"] == []
    assert tally["scenarios"] >= 25, "writes, syncs and deletions, killed, failing, full and without power"
