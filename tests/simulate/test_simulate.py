"""Two thousand seeds agree with the reference model, and the same seed always does the same."""

import pytest

from tests.simulate.graphs import make_plan
from tests.simulate.simulation import explain, simulate, tally

SEEDS = 2_000
CHUNK = 100


@pytest.mark.parametrize("start", range(0, SEEDS, CHUNK))
def test_engine_and_model_agree(start: int):
    """Whatever the graph, the order and the faults, the engine does what section 2 of patterns.md says."""
    divergences = tally(range(start, start + CHUNK)).divergences

    assert not divergences, "\n".join(explain(seed) for seed in sorted(divergences)[:2])


@pytest.mark.parametrize("seed", [7, 70, 700])
def test_a_seed_always_does_the_same(seed: int):
    """Two simulations of one seed record the same facts at the same times."""
    first, second = simulate(make_plan(seed)), simulate(make_plan(seed))

    assert {name: table.log for name, table in first.tables.items()} == {
        name: table.log for name, table in second.tables.items()
    }


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_prints_as_the_python_that_makes_it(seed: int):
    """What a report shows can be pasted into a test."""
    from tests.simulate import plan as names

    plan = make_plan(seed)

    assert eval(plan.show(), vars(names)) == plan == eval(repr(plan), vars(names))
