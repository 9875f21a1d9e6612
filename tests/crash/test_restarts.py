"""Whoever ends the program while a body runs has not killed it: the body is run again, however often (C2, R12)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def live(file: Path, *words: str) -> dict[str, Any]:
    """Work on the run in a process of its own."""
    command = [sys.executable, "-m", "tests.crash.restarts", str(file), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_body_outlives_more_restarts_than_deaths(tmp_path: Path) -> None:
    """Three ends in good order ask nobody; as many deaths would have."""
    for _ in range(3):
        assert live(tmp_path / "runs.db", "retry")["status"] == "RUNNING"

    assert live(tmp_path / "runs.db", "retry", "end") == {
        "status": "SUCCEEDED", "letters": 0, "said": "stage 'train' succeeded"
    }  # fmt: skip


def test_a_body_whose_outcome_matters_asks_after_one(tmp_path: Path) -> None:
    """With on_crash="ask" a person decides, and is told that the program had ended."""
    live(tmp_path / "runs.db", "ask")

    left = live(tmp_path / "runs.db", "ask", "end")

    assert left["status"] == "RUNNING"
    assert "its process ended while it ran: the kernel was restarted" in left["said"]
