"""A processor that was stopped for longer than its lease asks who has what it had in hand before it begins it."""

from __future__ import annotations

import time

import pytest

from tests.makers import Bench, asked, stage, workflow

STEAL = "UPDATE message SET owner = 'another', fence = fence + 1 WHERE kind = 'RunTask' AND owner IS NOT NULL"


@pytest.fixture
def in_hand(tmp_path, monkeypatch):
    """Return a bench whose processor has two bodies in hand and nobody who begins them, and what was begun."""
    begun = []
    with Bench(f"sqlite:///{tmp_path}/runs.db", tasks={"note": lambda given: begun.append(given.ref_id)}) as bench:
        monkeypatch.setattr(bench.processor, "hire_for", lambda _jobs: None)
        bench.processor.desk.hired = 2
        bench.begin(workflow(stage("a", task="note"), stage("b", task="note")))
        while len(bench.processor.desk.ready) < 2:
            bench.processor.desk.leading = True
            bench.processor.lead()
        yield bench, begun
        bench.processor.desk.hired = 0


@pytest.mark.parametrize("renewed", [False, True], ids=["at-once", "after-a-renewal"])
@pytest.mark.parametrize("stolen", [False, True])
def test_body_that_another_has_taken_over_is_not_begun(in_hand, stolen, renewed):
    """Also when the processor gives a sign of life before it looks at what it has in hand."""
    bench, begun = in_hand
    desk = bench.processor.desk
    if stolen:
        bench.database.write(lambda connection: asked(connection, STEAL))
    desk.sign = float("-inf")
    if renewed:
        desk.sign_given(time.monotonic(), bench.processor.config.lease)

    while desk.ready:
        bench.processor.run_next()

    assert sorted(begun) == ([] if stolen else ["a", "b"])
    assert not desk.in_question


def test_body_begins_without_asking_while_the_processor_was_heard(in_hand):
    """Within the lease nobody can have taken it over, so no row is read."""
    bench, begun = in_hand
    bench.database.write(lambda connection: asked(connection, STEAL))

    while bench.processor.desk.ready:
        bench.processor.run_next()

    assert sorted(begun) == ["a", "b"]
