"""Parts of `python -m tests.postgresql`: each is given schemas and a number of jobs, and returns JSON data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.crash.plan import Plan
from tests.postgresql.crowd import server_dies, workers_die
from tests.postgresql.sweep import doubted, ended, killed
from tests.stores import Schemas

Part = Callable[[Schemas, int], dict[str, Any]]
COUNTED = re.compile(r"(\d+) (passed|failed|error|deselected)")


def conformance(paths: tuple[str, ...]) -> Part:
    """Make the part that has pytest carry tests out on PostgreSQL."""

    def carried_out(_schemas: Schemas, jobs: int) -> dict[str, Any]:
        begun = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-n", str(jobs), "--store", "postgres", "-rf"]
        done = subprocess.run(
            [*command, "--timeout", "900", *paths], capture_output=True, text=True, check=False, env=dict(os.environ)
        )
        counts = {word: int(number) for number, word in COUNTED.findall(done.stdout.splitlines()[-1])}
        wrong = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        wrong += [done.stdout[-1000:]] if done.returncode and not wrong else []
        return {**counts, "seconds": round(time.monotonic() - begun), "wrong": wrong}

    return carried_out


LONG: Mapping[str, Part] = {
    "kills": killed,
    "ended": ended,
    "doubts": doubted,
    "workers": lambda schemas, _: workers_die(schemas.server),
    "restarts": lambda *_: server_dies(),
    "scenarios": conformance(("tests/conformance", "tests/scenarios")),
}
_FEW = Plan(statement=2, again=0.1, disk=None, power=None)
SHORT: Mapping[str, Part] = {
    "kills": lambda schemas, jobs: killed(schemas, jobs, _FEW, ("linear", "locks of two workflows")),
    "ended": lambda schemas, jobs: ended(schemas, jobs, ("diamond",), step=25),
    "doubts": lambda schemas, jobs: doubted(schemas, jobs, ("linear",), each=1),
    "workers": lambda schemas, _: workers_die(schemas.server, runs=100),
    "restarts": lambda *_: server_dies(runs=40, restarts=4),
    "scenarios": conformance(("tests/conformance/test_desk.py",)),
}
