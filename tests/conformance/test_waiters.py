"""Whoever waits for a run is not asked to look at each of its steps, and told of all that may end the waiting."""

from __future__ import annotations

import threading

import pytest

from stabilize_nb import Engine, Flow, NoOpTask
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.run import Run
from stabilize_nb.store.waiting import Changes
from tests.makers import chain

PATIENCE = 60
#: Looks that a chain of 100 may take: what comes from outside is looked for four times a second.
LOOKS = 25


@pytest.mark.parametrize("wait", [Run.wait, Run.result, Run.until_gate])
def test_waiting_for_a_chain_looks_a_few_times(tmp_path, monkeypatch, wait):
    """A look costs two changes of threads and queries, beside the work that is waited for."""
    looks = []
    end = Run._end
    monkeypatch.setattr(Run, "_end", lambda run: looks.append(run.id) or end(run))
    with Engine(f"sqlite:///{tmp_path}/runs.db") as engine:
        engine.registry.register("noop", NoOpTask)
        run = engine.start(chain(100))
        wait(run, PATIENCE)
        assert run.status is WorkflowStatus.SUCCEEDED

    print(f"looks while a chain of 100 went on: {len(looks)}")
    assert len(looks) <= LOOKS


def test_gate_of_one_branch_is_told_of_while_another_goes_on(tmp_path):
    """The other branch is at work all the time; who waits for gates does not wait for it."""
    flow, over = Flow("two"), threading.Event()
    flow.approval("Go on?", name="gate")
    flow.stage(name="long")(lambda: over.wait(PATIENCE))
    with Engine(f"sqlite:///{tmp_path}/runs.db") as engine:
        run = engine.start(flow)
        assert [gate.name for gate in run.until_gate(PATIENCE)] == ["gate"]
        over.set()
        run.approve("gate")
        assert run.wait(PATIENCE) is WorkflowStatus.SUCCEEDED


def test_change_reaches_those_to_whom_it_matters():
    """Tickets about other workflows stay; one that is given back is forgotten, and none is done twice."""
    changes = Changes()
    mine, other, any_, gone = (changes.ticket(about) for about in ("a", "b", "", "a"))
    assert changes.give_back(gone)

    changes.notify(about={"a"})
    assert [ticket.wait(0) for ticket in (mine, other, any_, gone)] == [True, False, True, False]
    assert not changes.give_back(mine)

    changes.notify()
    assert other.wait(0)
