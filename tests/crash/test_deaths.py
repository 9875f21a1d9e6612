"""A body that kills its process takes nobody with it, is given up, and does what its stage says (C2, R12)."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

UNKNOWN = "outcome unknown: the process died while it ran"
QUARANTINED = "its process died three times while it ran"


def play(kind: str, place: str, word: str) -> dict[str, Any]:
    """Play a case in a process without threads, which forks."""
    command = [sys.executable, "-m", "tests.crash.deaths", kind, place, word]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("kind", "place"), [("exit", "first"), ("segv", "last"), ("oom", "first")])
def test_killer_is_given_up(kind: str, place: str) -> None:
    """After three deaths it is a dead letter; the bodies beside it, which died as often, all end well."""
    played = play(kind, place, "retry")

    found = played["found"]
    assert played["bodies"]["killer"] == 3
    assert played["processes"] == 4
    assert {status for ref, status in found["stages"].items() if ref not in ("killer", "then")} == {"SUCCEEDED"}
    assert (found["run"], found["stages"]["killer"], found["size"]) == ("RUNNING", "SUSPENDED", 0)
    assert found["letters"] == [["RunTask", QUARANTINED, 3]]
    assert QUARANTINED in found["said"]
    assert (played["after"]["run"], played["after"]["letters"]) == ("SUCCEEDED", [])
    assert played["bodies_after"]["killer"] == 4


def test_killer_that_fails() -> None:
    """With on_crash="fail" it is run once, and the run fails when the others are done."""
    played = play("segv", "first", "fail")

    assert played["bodies_after"]["killer"] == 1
    assert played["found"]["run"] == "TERMINAL"
    assert played["found"]["said"] == f"stage 'killer' failed: {UNKNOWN}"


def test_killer_that_asks() -> None:
    """With on_crash="ask" it is run once, and again when somebody says so."""
    played = play("oom", "first", "ask")

    assert played["bodies"]["killer"] == 1
    assert (played["found"]["run"], played["found"]["stages"]["killer"]) == ("RUNNING", "SUSPENDED")
    assert UNKNOWN in played["found"]["said"]
    assert played["after"]["run"] == "SUCCEEDED"
    assert played["bodies_after"]["killer"] == 2
