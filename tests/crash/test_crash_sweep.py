"""
`crash_sweep`, tried in a process of its own, as a script or a kernel that calls it is one.

It forks whoever calls it. A worker of the test command has by then run thousands of tests, and threads that these
have left may hold locks of libraries, which nobody gives back in a fork.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("crash_sweep_cases.py")


@pytest.mark.timeout(600)
def test_tasks_that_do_not_bear_to_be_run_again_are_found(record_property):
    """All cases pass; the rate and the forty habits are told at the end of the session."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", str(CASES)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stdout + told.stderr
    (line,) = [line for line in told.stdout.splitlines() if line.startswith("crash_sweep: ")]
    record_property("line", line)
