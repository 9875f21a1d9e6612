"""One seed, simulated: what it covered, and whether engine and model agreed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

from stabilize_nb.errors import InvalidWorkflowError
from tests.simulate.coverage import faults, features
from tests.simulate.foretell import foretell
from tests.simulate.graphs import make_plan
from tests.simulate.monitor import Divergence
from tests.simulate.plan import Plan
from tests.simulate.shrink import shrink
from tests.simulate.world import World


@dataclass
class Tally:
    """What so many simulations covered; divergences by seed, as text."""

    seeds: int = 0
    commits: int = 0
    foretold: int = 0  # plans whose end was known beforehand
    features: Counter[str] = field(default_factory=Counter)  # in how many seeds each was
    cells: Counter[tuple[str, str]] = field(default_factory=Counter)  # the same with each fault
    facts: Counter[str] = field(default_factory=Counter)
    divergences: dict[int, str] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.commits += other.commits
        self.foretold += other.foretold
        self.features += other.features
        self.cells += other.cells
        self.facts += other.facts
        self.divergences |= other.divergences


def simulate(plan: Plan, made: Callable[[Plan], World] = World) -> World:
    """Work at a plan to its end in the world that `made` makes of it; raises Divergence."""
    try:
        world = made(plan).run()
    except (Divergence, InvalidWorkflowError):
        raise
    except Exception as error:  # the engine is what is under test
        raise Divergence(f"{type(error).__name__}: {error}") from error
    told = foretell(plan)
    if told is not None and told != world.statuses():
        raise Divergence(f"ended as {world.statuses()} and not, as in every order, as {told}")
    return world


def kind_of(plan: Plan) -> str:
    """Return what kind of divergence a plan leads to, "" for none or when it is no valid workflow."""
    try:
        simulate(plan)
    except Divergence as divergence:
        return re.sub(r"[a-z]\d+(#\d+)?|\d+|\(\w+=.*\)", "", str(divergence))[:90]
    except InvalidWorkflowError:
        pass
    return ""


def tally(seeds: range) -> Tally:
    """Simulate seeds one after the other."""
    total = Tally()
    for seed in seeds:
        plan = make_plan(seed)
        total.seeds += 1
        total.features.update(features(plan))
        total.cells.update(product(features(plan), faults(plan)))
        try:
            world = simulate(plan)
        except Divergence as divergence:
            total.divergences[seed] = str(divergence)
            continue
        total.commits += world.commits
        total.facts += world.facts
        total.foretold += foretell(plan) is not None
    return total


def explain(seed: int) -> str:
    """Return a report on a seed that diverges, with the smallest plan that still does."""
    plan = shrink(make_plan(seed), kind_of)
    try:
        simulate(plan)
    except Divergence as divergence:
        return f"seed {seed}: {divergence}\n{plan.show()}"
    return f"seed {seed} does not diverge"
