"""All shapes of tests.crash on PostgreSQL: killed, their sessions ended, their commits in doubt."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stabilize_nb.testing.forks import fan_out, scratch
from tests.crash.plan import Plan, scenarios
from tests.crash.shapes import SHAPES
from tests.postgresql.trial import SIX, PostgresTrial, doubts, ends
from tests.stores import Schemas

#: Returns the scenarios of a shape from its name and what an undisturbed run of it reaches of each kind.
Planned = Callable[[str, Mapping[str, int]], Iterable[tuple[str, Any]]]
KILLS = Plan(statement=13, again=0.25, disk=None, power=None)
#: Shapes whose commits are put in doubt, and how often in each way: 60 cases.
DOUBTED = ("linear", "locks of two workflows", "stateful retry")
EACH = 5


def killed(schemas: Schemas, jobs: int, plan: Plan = KILLS, names: Iterable[str] = tuple(SHAPES)) -> dict[str, Any]:
    """Kill at each commit, at a sample of statements, and again in the recovery."""
    return _swept(schemas, jobs, names, lambda name, counts: scenarios(plan, name, "PostgreSQL", counts))


def ended(schemas: Schemas, jobs: int, names: Iterable[str] = SIX, step: int = 1) -> dict[str, Any]:
    """End the session that is about to run a statement, at every statement of six shapes."""
    return _swept(schemas, jobs, names, lambda _, counts: ends(counts, step))


def doubted(schemas: Schemas, jobs: int, names: Iterable[str] = DOUBTED, each: int = EACH) -> dict[str, Any]:
    """Cut sessions around COMMIT."""
    return _swept(schemas, jobs, names, lambda name, counts: doubts(random.Random(name), counts, each))


def swept(schemas: Schemas, name: str, planned: Planned, jobs: int = 1) -> Iterator[tuple[str, int, str]]:
    """Yield the kind of each scenario of a shape, how many bodies were run again, and what was wrong, "" if nothing."""
    with scratch() as folder:
        trial = PostgresTrial(name, Path(folder), schemas)
        if trial.reference["broken"]:
            yield "undisturbed", 0, f"{name}, not disturbed: {trial.reference['broken']}"

        def run(item: tuple[int, Any]) -> Any:
            number, (kind, troubles) = item
            verdict = trial.run(number, troubles)
            return verdict and [kind, verdict.repeated, verdict.wrong]

        todo = list(enumerate(planned(name, trial.reference["counts"])))
        yield from (tuple(verdict) for verdict in fan_out(run, todo, jobs) if verdict is not None)


def _swept(schemas: Schemas, jobs: int, names: Iterable[str], planned: Planned) -> dict[str, Any]:
    """Return what the scenarios of shapes came to, as JSON data."""
    kinds: Counter[str] = Counter()
    shapes, wrong, repeated = {}, [], 0
    begun = time.monotonic()
    for name in names:
        found = list(swept(schemas, name, planned, jobs))
        shapes[name] = len(found)
        kinds.update(kind for kind, _, _ in found)
        repeated += sum(again for _, again, _ in found)
        wrong += [fault for _, _, fault in found if fault]
        print(f"{name:26} {len(found):5} scenarios  {time.monotonic() - begun:6.0f} s  {len(wrong)} wrong", flush=True)
    seconds = round(time.monotonic() - begun)
    return {"shapes": shapes, "kinds": dict(kinds), "repeated": repeated, "wrong": wrong, "seconds": seconds}
