"""CancelStage, CancelWorkflow and RestartStage: what is withdrawn, and what runs again."""

import pytest
from shell import Answer, Order, Script, Shell, done, failed, retry, running, stage, suspend, until_signalled, workflow

from stabilize_nb.core import facts as f
from stabilize_nb.models.stage import JoinType
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue import messages as m

S = WorkflowStatus
J = JoinType


def begun(shell: Shell) -> Shell:
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    return shell.drain(until=shell.now)


def two_branches(**answers: Answer | list[Answer]) -> Shell:
    """Make s → x → j and s → y → j, with j an AND-join."""
    made = workflow(stage("s"), stage("x", "s"), stage("y", "s"), stage("j", "x", "y"))
    return Shell(made, Script(**answers))


# CancelStage.


@pytest.mark.parametrize("answer", [suspend(), running(10**6), retry(after=10**6)], ids=lambda a: a.kind.name)
def test_stage_that_waits_can_be_cancelled(answer: m.Outcome):
    """The stage is CANCELED with its clean-up, what needs it never runs, and nothing is left to wait for."""
    shell = begun(two_branches(x=answer))

    shell.send(m.CancelStage, "x")

    assert shell.statuses == {"s": "SUCCEEDED", "x": "CANCELED", "y": "SUCCEEDED", "j": "NOT_STARTED"}
    assert shell.row("x").context["_cancel_reason"] == "command"
    assert [body.stage.ref_id for body in shell.cleanups] == ["x"]
    assert shell.status is S.CANCELED


def test_cancelled_branch_does_not_decide_a_workflow_that_arrives_elsewhere():
    """A workflow one of whose end stages succeeded is a success, whatever was cancelled."""
    made = workflow(stage("x"), stage("y"))
    shell = begun(Shell(made, Script(x=suspend()))).send(m.CancelStage, "x")

    assert shell.statuses == {"x": "CANCELED", "y": "SUCCEEDED"}
    assert shell.status is S.SUCCEEDED


def test_stage_whose_body_runs_can_be_cancelled():
    """The result of the body is discarded when it comes."""
    shell = two_branches()
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    shell.finish(shell.begin("s"), done())
    body = shell.begin("x")

    shell.at_once(m.CancelStage(execution_id=shell.made.id, stage_id="id-x"))
    facts = shell.finish(body, done(x=1))

    assert facts == (f.ResultDiscarded("id-x", 0, 1, "the stage is CANCELED"),)
    assert shell.drain().statuses["x"] == "CANCELED"


@pytest.mark.parametrize("join", list(J), ids=lambda join: join.name)
def test_stage_that_has_not_begun_can_be_cancelled(join: JoinType):
    """It never runs, however many of its branches deliver later, and has no clean-up."""
    made = workflow(stage("s"), stage("x", "s"), stage("y", "s"), stage("j", "x", "y", join_type=join), stage("k", "j"))
    shell = begun(Shell(made, Script(s=until_signalled()))).send(m.CancelStage, "j")

    shell.send(m.SignalStage, "s", signal_name="go")

    assert shell.runs() == ["s", "s", "x", "y"]
    assert shell.statuses["j"] == "CANCELED"
    assert shell.statuses["k"] == "NOT_STARTED"
    assert not shell.cleanups
    assert shell.status is S.CANCELED


def test_stage_that_is_blocked_can_be_cancelled():
    """A stage whose branch was broken off says so once and not again when it is cancelled."""
    made = workflow(stage("x"), stage("w"), stage("j", "x"), stage("k", "j"))
    shell = begun(Shell(made, Script(x=done(S.STOPPED), w=suspend()))).send(m.CancelStage, "j")

    assert len([fact for fact in shell.facts(f.TokenArrived) if fact.stage == "id-k"]) == 1
    assert shell.statuses["j"] == "CANCELED"


def test_cancelling_a_stage_that_has_ended_changes_nothing():
    """A completed row never changes."""
    shell = begun(two_branches(y=suspend()))
    before = len(shell.log)

    shell.send(m.CancelStage, "x")

    assert len(shell.log) == before


def test_one_activation_can_be_cancelled_by_its_id():
    """The activations of a stage are cancelled each for itself."""
    made = workflow(stage("x"), stage("y"), stage("m", "x", "y", join_type=J.MULTI_MERGE), stage("n", "m"))
    shell = begun(Shell(made, Script(m=until_signalled())))

    shell.send(m.CancelStage, "m#2").send(m.SignalStage, "m", signal_name="go")

    assert (shell.statuses["m"], shell.statuses["m#2"]) == ("SUCCEEDED", "CANCELED")
    assert shell.runs().count("n") == 1
    assert "n#2" not in shell.statuses
    assert shell.status is S.SUCCEEDED


# CancelWorkflow.


def test_cancelled_workflow_withdraws_everything_that_is_not_complete():
    """Rows that are open or have not begun are CANCELED, clean-up is for those that had begun, complete rows stay."""
    shell = begun(two_branches(x=suspend(), y=running(10**6)))

    shell.send(m.CancelWorkflow, user="ann", reason="enough")

    assert shell.statuses == {"s": "SUCCEEDED", "x": "CANCELED", "y": "CANCELED", "j": "CANCELED"}
    assert {row.context["_cancel_reason"] for row in shell.stages()[1:]} == {"workflow_canceled"}
    assert sorted(body.stage.ref_id for body in shell.cleanups) == ["x", "y"]
    assert shell.status is S.CANCELED
    assert shell.head.error == "enough"


def test_cancelled_workflow_does_not_wait_for_its_bodies():
    """The workflow has ended while a body still runs; the result is discarded."""
    shell = two_branches()
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    body = shell.begin("s")

    shell.at_once(m.CancelWorkflow(execution_id=shell.made.id))
    assert shell.status is S.CANCELED

    (fact,) = shell.finish(body, done())
    assert isinstance(fact, f.ResultDiscarded)


@pytest.mark.parametrize("moment", ["before start", "paused", "failing", "ended"])
def test_workflow_can_be_cancelled_at_any_time(moment: str):
    """Before the start, in a pause and while it is failing a workflow is CANCELED; an ended one stays as it is."""
    shell = Shell(workflow(stage("a"), stage("b")))
    if moment != "before start":
        shell.push(m.StartWorkflow(execution_id=shell.made.id))
        body = shell.begin("a")
        shell.begin("b")
        if moment == "paused":
            shell.at_once(m.PauseWorkflow(execution_id=shell.made.id))
        if moment == "failing":
            shell.finish(body, failed())
        if moment == "ended":
            shell.drain()

    shell.at_once(m.CancelWorkflow(execution_id=shell.made.id)).drain()

    assert shell.status is (S.SUCCEEDED if moment == "ended" else S.CANCELED)
    assert shell.statuses["b"] == shell.status.name


# RestartStage.


def test_failed_stage_is_restarted():
    """The stage runs again and the workflow goes on behind it."""
    shell = Shell(workflow(stage("a"), stage("b", "a"), stage("c", "b")), Script(b=[failed("once"), done()]))
    shell.start()
    assert shell.status is S.TERMINAL

    shell.send(m.RestartStage, "b")

    assert shell.runs() == ["a", "b", "b", "c"]
    assert shell.status is S.SUCCEEDED
    assert shell.head.error is None
    assert "error" not in shell.row("b").context
    assert "a" in shell.inputs("b").context


@pytest.mark.parametrize("budget", [1, 32])
def test_restart_brings_back_what_the_failure_broke_off(budget: int):
    """Branches that ended meanwhile count, those that were withdrawn ask again, those never begun begin."""
    made = workflow(
        stage("s"),
        stage("x", "s"),
        stage("y", "s"),
        stage("z", "s"),
        stage("w", "z"),
        stage("j", "x", "y", "w"),
    )
    shell = Shell(made, Script(x=[failed(), done()], y=until_signalled()), Order(budget=budget))
    shell.push(m.StartWorkflow(execution_id=made.id))
    shell.finish(shell.begin("s"), done(s=1))
    slow = shell.begin("z")
    shell.finish(shell.begin("y"), suspend())
    shell.finish(shell.begin("x"), failed())
    shell.finish(slow, done(z=1))
    shell.drain()
    expected = {"x": "TERMINAL", "y": "CANCELED", "z": "SUCCEEDED", "w": "NOT_STARTED", "j": "NOT_STARTED"}
    assert shell.statuses == {"s": "SUCCEEDED", **expected}

    shell.run = Script(x=done(x=2), y=until_signalled())
    shell.send(m.RestartStage, "x")
    assert shell.statuses["y"] == "SUSPENDED"
    assert shell.statuses["w"] == "SUCCEEDED"
    shell.send(m.SignalStage, "y", signal_name="go")

    assert shell.runs().count("z") == shell.runs().count("s") == 1
    assert set(shell.statuses.values()) == {"SUCCEEDED"}
    assert shell.status is S.SUCCEEDED
    assert {"s", "x", "z", "w", "signal"} <= shell.inputs("j").context.keys()


def test_restart_of_one_failed_stage_repeats_the_other_failed_one_too():
    """A workflow that goes on has no failed stage left."""
    shell = Shell(workflow(stage("a"), stage("b"), stage("j", "a", "b")))
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    bodies = [shell.begin("a"), shell.begin("b")]
    for body in bodies:
        shell.finish(body, failed())

    shell.drain().send(m.RestartStage, "b")

    assert set(shell.statuses.values()) == {"SUCCEEDED"}
    assert shell.status is S.SUCCEEDED


def test_cancelled_workflow_goes_on_when_one_of_its_stages_is_restarted():
    """Everything that the cancellation withdrew is there again."""
    shell = begun(two_branches(x=[suspend(), done()])).send(m.CancelWorkflow)

    shell.send(m.RestartStage, "x")

    assert set(shell.statuses.values()) == {"SUCCEEDED"}
    assert shell.runs() == ["s", "x", "y", "x", "j"]


def test_restart_repeats_threads_that_a_merge_had_still_to_run():
    """A live outcome that came to a merge while the workflow was failing is not lost."""
    made = workflow(
        stage("x"), stage("y"), stage("bad"), stage("m", "x", "y", join_type=J.MULTI_MERGE), stage("n", "m")
    )
    shell = Shell(made)
    shell.push(m.StartWorkflow(execution_id=made.id))
    shell.finish(shell.begin("x"), done())
    shell.finish(shell.begin("m"), done())
    shell.finish(shell.begin("n"), done())
    late = shell.begin("y")
    shell.finish(shell.begin("bad"), failed())
    shell.finish(late, done())
    assert shell.drain().status is S.TERMINAL

    shell.send(m.RestartStage, "bad")

    assert sorted(shell.statuses) == ["bad", "m", "m#2", "n", "n#2", "x", "y"]
    assert set(shell.statuses.values()) == {"SUCCEEDED"}


def test_succeeded_stage_is_restarted_with_all_that_follows():
    """Restarting in a finished workflow runs the stage and what lies behind it, and nothing else."""
    shell = two_branches().start().send(m.RestartStage, "x")

    assert shell.runs() == ["s", "x", "y", "j", "x", "j"]
    assert shell.status is S.SUCCEEDED


def test_stage_is_restarted_while_its_workflow_runs():
    """An open stage is withdrawn and begins again; the workflow is not touched otherwise."""
    shell = begun(two_branches(x=[suspend(), done()])).send(m.RestartStage, "x")

    assert shell.runs() == ["s", "x", "y", "x", "j"]
    assert not shell.facts(f.WorkflowRestarted)
    assert shell.status is S.SUCCEEDED


@pytest.mark.parametrize("moment", ["before start", "paused"])
def test_restart_waits_for_nobody(moment: str):
    """A workflow that has not started or is paused is not restarted behind its owner's back."""
    shell = two_branches(x=suspend())
    if moment == "paused":
        begun(shell).send(m.PauseWorkflow)
    before = len(shell.log)

    shell.send(m.RestartStage, "x")

    assert len(shell.log) == before
