"""All scenarios of a shape, and what they came to."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from stabilize_nb.testing.forks import fan_out, scratch, warm
from tests.crash.plan import SHORT, Plan, scenarios
from tests.crash.trial import Trial

JOURNALS = ("WAL", "TRUNCATE")


def ready() -> None:
    """Make this process, which has no threads, one that forks."""
    logging.getLogger("stabilize_nb").setLevel(logging.CRITICAL)  # disks fail all the time here
    warm()


def sweep(name: str, journal: str, plan: Plan, jobs: int = 1) -> dict[str, Any]:
    """
    Run the scenarios that a plan has for a shape in a journal mode.

    Returns JSON data: `kinds` (kind -> how many), `repeated` (bodies run again), `wrong` (a line each), `seconds`.
    """
    os.environ["STABILIZE_SQLITE_JOURNAL_MODE"] = journal
    begun = time.perf_counter()
    kinds: Counter[str] = Counter()
    found: dict[str, Any] = defaultdict(list)
    repeated = 0
    with scratch() as folder:
        trial = Trial(name, Path(folder))
        planned = list(enumerate(scenarios(plan, name, journal, trial.reference["counts"])))

        def run(item: tuple[int, Any]) -> Any:
            number, (kind, troubles) = item
            verdict = trial.run(number, troubles)
            return verdict and [kind, verdict.repeated, verdict.wrong]

        if trial.reference["broken"]:
            found["wrong"].append(f"{name}, not disturbed: {trial.reference['broken']}")
        for verdict in fan_out(run, planned, jobs):
            if verdict is not None:
                kind, again, wrong = verdict
                kinds[kind] += 1
                repeated += again
                found["wrong"] += [wrong] if wrong else []
    return {"kinds": dict(kinds), "repeated": repeated, "wrong": found["wrong"],
            "seconds": round(time.perf_counter() - begun, 1)}  # fmt: skip


def serve() -> None:
    """Run the short plan of each shape and journal mode that a line of stdin names."""
    ready()
    for line in sys.stdin:
        name, journal = json.loads(line)
        print(json.dumps(sweep(name, journal, SHORT)), flush=True)


if __name__ == "__main__":
    serve()
