"""Which scenarios are tried: all there are of a kind, or a sample drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stabilize_nb.testing.fuse import Moment
from tests.crash.disk import KINDS, Fault
from tests.crash.trial import Troubles

#: What can befall a process, and the row of the plan that asks for it.
ROWS = {
    "commit": "killed before and after each commit (R1a)",
    "statement": "killed before a statement (R1b)",
    "again": "killed at a commit, and again in the recovery (R1c)",
    "disk": "disk fails, is full, or process is killed, at a write, sync, truncation or deletion (R2)",
    "power": "power lost at such a moment, unsynced writes dropped or torn (R3)",
}
KILLS = ("commit", "statement", "again")


@dataclass(frozen=True)
class Plan:
    """How many scenarios of each kind a shape gets in each journal mode; None: all. `again`: for each commit."""

    statement: int | None
    again: float
    disk: int | None
    power: int | None
    seed: int = 0


SHORT = Plan(statement=27, again=0.4, disk=33, power=5)
LONG = Plan(statement=None, again=10, disk=330, power=50)


def scenarios(plan: Plan, name: str, journal: str, counts: Mapping[str, int]) -> Iterator[tuple[str, Troubles]]:
    """Yield the scenarios of a shape with the kind of each; `counts`: what an undisturbed run reaches of each."""
    chance = random.Random(f"{plan.seed} {name} {journal}")
    commits = [Moment(where, nth) for nth in range(1, counts["before"] + 1) for where in ("before", "after")]
    statements = [Moment("statement", nth) for nth in range(1, counts["statement"] + 1)]
    yield from (("commit", [moment]) for moment in commits)
    yield from (("statement", [moment]) for moment in _some(chance, statements, plan.statement))
    for moment in chance.choices(commits, k=round(plan.again * len(commits))):
        left = counts["before"] - moment.nth + 2
        yield "again", [moment, Moment(chance.choice(["before", "after"]), chance.randint(1, left))]
    places = [(kind, nth) for kind in KINDS for nth in range(1, counts.get(kind, 0) + 1)]
    ways = [(what, *place) for place in places for what in ("kill", "error")]
    ways += [("full", *place) for place in places if place[0] == "write"]
    yield from (("disk", [Fault(*way)]) for way in _some(chance, ways, plan.disk))
    for kind, nth in _some(chance, places, plan.power):
        level = chance.choice(["full", "normal"]) if journal == "WAL" else "full"
        yield "power", [Fault("power", kind, nth, chance.randrange(10**6), level)]


def _some(chance: random.Random, population: list[Any], most: int | None) -> list[Any]:
    return population if most is None or most >= len(population) else chance.sample(population, most)
