"""Children of workflows that are withdrawn while something else happens to the stage that waits for them (WCP-22)."""

from __future__ import annotations

import pytest

from stabilize_nb import Engine, Flow, Run, WorkflowStatus

PATIENCE = 20.0
S = WorkflowStatus


def inner() -> Flow:
    flow = Flow("inner")
    flow.approval("Go on?", name="gate")

    @flow.stage(after="gate")
    def effect():
        msg = "nobody wants this any more"
        raise AssertionError(msg)

    return flow


def child_of(run: Run) -> Run:
    """Wait for the child of a run to stand at its gate."""
    engine = run.engine
    while not (gates := [gate for gate in engine.inbox() if gate.run_id != run.id]):
        engine.database.changes.ticket().wait(0.1)
    return engine.run(gates[0].run_id)


@pytest.mark.parametrize("signalled", [False, True])
@pytest.mark.parametrize("paused", [False, True])
def test_child_is_cancelled_with_its_parent_whatever_its_stage_does(paused, signalled):
    """Its stage waits for it all the same: a signal or a pause in between does not let a child live on."""
    outer = Flow("outer")
    outer.call(inner(), name="inner")
    with Engine(":memory:") as engine:
        run = engine.start(outer)
        child = child_of(run)
        if paused:
            run.pause()
        if signalled:
            run.signal("inner", "hello")
        run.cancel()
        assert run.wait(PATIENCE) is S.CANCELED
        assert child.wait(PATIENCE) is S.CANCELED
