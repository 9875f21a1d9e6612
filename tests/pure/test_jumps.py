"""Jumps: what is reset, what is kept, what is refused."""

from typing import Any

import pytest
from shell import Answer, Order, Script, Shell, done, jump, stage, suspend, until_signalled, workflow

from stabilize_nb.core import facts as f
from stabilize_nb.core.draft import Limits
from stabilize_nb.models.stage import JoinType
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue import messages as m

S = WorkflowStatus
J = JoinType


def line(refs: str, **answers: Answer | list[Answer]) -> Shell:
    """Make a chain of stages, one a letter, with these bodies."""
    stages = [stage(ref, *refs[max(0, at - 1) : at]) for at, ref in enumerate(refs)]
    return Shell(workflow(*stages), Script(**answers))


def test_backward_jump_runs_the_region_again():
    """The target, the source and all between run once more, and then the workflow goes on behind the source."""
    shell = line("abcd", c=[jump("b"), done()]).start()

    assert shell.runs() == ["a", "b", "c", "b", "c", "d"]
    assert set(shell.statuses.values()) == {"SUCCEEDED"}
    assert shell.status is S.SUCCEEDED


def test_self_jump_runs_the_stage_again():
    """A stage may jump to itself; it starts afresh."""
    shell = line("ab", a=[jump("a", n=1), lambda body: done(n=body.context["n"])]).start()

    assert shell.runs() == ["a", "a", "b"]
    assert shell.row("a").outputs == {"n": 1}
    assert shell.row("a").generation == 1


def test_forward_jump_skips_what_lies_between():
    """The source succeeds, the stages between are skipped, the target runs at once."""
    shell = line("abcd", a=jump("d", hurry=True)).start()

    assert shell.runs() == ["a", "d"]
    assert shell.statuses == {"a": "SUCCEEDED", "b": "SKIPPED", "c": "SKIPPED", "d": "SUCCEEDED"}
    assert shell.inputs("d").context["hurry"] is True
    assert shell.row("d").context["_triggered_by"] == ["a"]


def test_sideways_jump_starts_a_stage_of_another_branch():
    """A jump to a stage that is not reachable from the source overtakes that stage's own branch, once."""
    made = workflow(stage("a"), stage("b", "a"), stage("x"), stage("y", "x"), stage("z", "b", "y"))
    shell = Shell(made, Script(x=[done()], a=jump("y")))
    shell.push(m.StartWorkflow(execution_id=made.id))
    slow = shell.begin("x")
    shell.finish(shell.begin("a"), jump("y"))
    shell.finish(shell.begin("y"), done())
    shell.finish(slow, done())
    shell.drain()

    assert shell.runs() == ["a", "x", "y", "z"]
    assert shell.statuses == {"a": "SUCCEEDED", "b": "SKIPPED", "x": "SUCCEEDED", "y": "SUCCEEDED", "z": "SUCCEEDED"}


def test_reset_clears_outputs_and_keeps_user_context():
    """A stage that was reset is as if it had never run, but what its author or a task put into its context stays."""
    first = m.Outcome(kind=m.OutcomeKind.DONE, context={"notes": 1}, outputs={"x": 1})
    shell = line("abc", a=[first, suspend()], c=[jump("a"), done()])
    shell.push(m.StartWorkflow(execution_id=shell.made.id)).drain(until=shell.now)

    row = shell.row("a")
    assert (row.status, row.outputs, row.generation) == (S.SUSPENDED, {}, 1)
    assert row.context["notes"] == 1
    assert shell.statuses == {"a": "SUSPENDED", "b": "NOT_STARTED", "c": "NOT_STARTED"}
    assert shell.task("b").attempt == 0
    assert "_triggered_by" not in shell.row("b").context


def test_jump_leaves_notes_where_the_documents_say():
    """`_jump_count` and `_jump_history` stand in source and target, `_jump_outputs` in the target."""
    shell = line("ab", b=[jump("a", outputs={"score": 3}, feedback="more"), jump("a"), done()]).start()

    first = {"from_stage": "b", "to_stage": "a", "jump_number": 1, "context_keys": ["feedback"]}
    second = {"from_stage": "b", "to_stage": "a", "jump_number": 2, "context_keys": []}
    for ref in "ab":
        assert shell.row(ref).context["_jump_count"] == 2
        assert shell.row(ref).context["_jump_history"] == [first, second]
    assert shell.row("a").context["_jump_outputs"] == {"score": 3}
    assert shell.row("a").context["feedback"] == "more"


def test_jump_into_a_join_does_not_wait_and_does_not_run_twice():
    """The join runs at once; the branches that it overtook only complete its round."""
    made = workflow(stage("a"), stage("b"), stage("c"), stage("j", "b", "c"), stage("k", "j"))
    shell = Shell(made)
    shell.push(m.StartWorkflow(execution_id=made.id))
    late = [shell.begin("b"), shell.begin("c")]

    shell.finish(shell.begin("a"), jump("j"))
    shell.finish(shell.begin("j"), done())
    for body in late:
        shell.finish(body, done())
    shell.drain()

    assert shell.runs().count("j") == shell.runs().count("k") == 1
    assert shell.status is S.SUCCEEDED


@pytest.mark.parametrize("arrived", [0, 1, 2])
def test_jump_into_a_multi_merge_absorbs_what_is_pending_and_uses_what_is_there(arrived: int):
    """A merge that was jumped to runs once for the jump, whatever of its branches has arrived before."""
    made = workflow(stage("a"), stage("b"), stage("c"), stage("j", "b", "c", join_type=J.MULTI_MERGE))
    shell = Shell(made)
    shell.push(m.StartWorkflow(execution_id=made.id))
    source, *late = [shell.begin(ref) for ref in "abc"]
    for body in late[:arrived]:
        shell.finish(body, done())

    shell.finish(source, jump("j"))
    before = len(shell.bodies)
    for body in late[arrived:]:
        shell.finish(body, done())
    shell.drain()

    assert len(shell.bodies) == before
    assert shell.statuses == {"a": "SUCCEEDED", "b": "SUCCEEDED", "c": "SUCCEEDED", "j": "SUCCEEDED"}


FAN_IN = [J.AND, J.OR, J.DISCRIMINATOR, J.N_OF_M, J.MULTI_MERGE]


@pytest.mark.parametrize("join", FAN_IN, ids=lambda join: join.name)
@pytest.mark.parametrize("budget", [1, 32])
def test_fan_in_with_a_branch_from_outside_runs_again_with_the_kept_result(join: JoinType, budget: int):
    """What had come from outside the region comes again, so no join waits for what is not repeated."""
    made = workflow(stage("outside"), stage("a"), stage("j", "outside", "a", join_type=join), stage("k", "j"))
    script = Script(k=[jump("a"), done()])
    shell = Shell(made, script, Order(budget=budget)).start()

    runs = shell.runs()
    assert shell.status is S.SUCCEEDED
    assert runs.count("outside") == 1
    assert runs.count("a") == 2
    if join is not J.MULTI_MERGE:
        assert shell.statuses == dict.fromkeys(("outside", "a", "j", "k"), "SUCCEEDED")
    else:
        assert {ref for ref in shell.statuses if ref.startswith("j")} == {"j", "j#2"}
    if join in (J.AND, J.OR, J.N_OF_M):
        assert runs.count("j") == 2
        assert shell.inputs("j").context["outside"] == 1


def test_activations_in_the_region_disappear():
    """Rows `ref#2` in the region of a jump are retired, and the next pass makes new ones."""
    made = workflow(stage("s"), stage("x", "s"), stage("y", "s"), stage("m", "x", "y", join_type=J.MULTI_MERGE))
    jumped = iter([True])
    shell = Shell(made, Script(m=lambda _body: jump("s") if next(jumped, False) else done())).start()

    assert shell.status is S.SUCCEEDED
    assert sorted(shell.statuses) == ["m", "m#2", "s", "x", "y"]
    assert len(shell.facts(f.StageRetired)) == 1


def test_open_rows_in_the_region_are_withdrawn_first():
    """A stage that waits in the region is cancelled with its clean-up, and then runs again."""
    made = workflow(stage("s"), stage("x", "s"), stage("y", "s"))
    shell = Shell(made, Script(x=[suspend(), done()], y=[jump("s"), done()])).start()

    canceled = [fact for fact in shell.facts(f.StageEnded) if fact.status is S.CANCELED]
    assert [(fact.stage, fact.reason) for fact in canceled] == [("id-x", "jump")]
    assert [body.stage.ref_id for body in shell.cleanups] == ["x"]
    assert shell.status is S.SUCCEEDED
    assert "_cancel_reason" not in shell.row("x").context


def test_result_from_before_a_reset_is_discarded():
    """A body that was begun before the jump changes nothing when it ends after it."""
    made = workflow(stage("s"), stage("x", "s"), stage("y", "s"))
    shell = Shell(made)
    shell.push(m.StartWorkflow(execution_id=made.id))
    shell.finish(shell.begin("s"), done())
    old = shell.begin("x")
    shell.finish(shell.begin("y"), jump("s"))
    shell.finish(shell.begin("s"), done())

    facts = shell.finish(old, done(old=1))

    assert facts == (f.ResultDiscarded("id-x", 0, 1, "the stage was reset"),)
    shell.finish(shell.begin("x"), done(new=1))
    assert shell.drain().row("x").outputs == {"new": 1}
    assert shell.status is S.SUCCEEDED


def test_outcome_from_before_a_reset_is_void():
    """A token that is still queued when its sender is reset does not stand for the run to come."""
    made = workflow(stage("s"), stage("x", "s"), stage("y", "s"), stage("j", "x"))
    shell = Shell(made, order=Order(budget=1))
    shell.push(m.StartWorkflow(execution_id=made.id))
    shell.finish(shell.begin("s"), done())
    source = shell.begin("y")
    shell.finish(shell.begin("x"), done(x="old"))
    (token,) = [queued.message for queued in shell.queue if isinstance(queued.message, m.StartStage)]
    shell.finish(source, jump("s"))
    (order,) = [queued for queued in shell.queue if isinstance(queued.message, m.JumpToStage)]
    shell._step(order.message, order)

    shell.at_once(token)

    assert shell.statuses["j"] == "NOT_STARTED"
    assert shell.drain().status is S.SUCCEEDED
    assert shell.runs().count("j") == 1


def test_kept_signal_survives_a_reset():
    """A persistent signal that was kept for a stage is still there after the stage was reset."""
    shell = line("ab", b=[jump("a"), until_signalled()])
    shell.push(m.SignalStage(execution_id=shell.made.id, stage_id="id-b", signal_name="go", persistent=True))
    shell.start()

    assert shell.row("b").outputs["signal"] == "go"
    assert shell.status is S.SUCCEEDED


LIMITS: list[tuple[str, dict[str, Any], dict[str, Any], int]] = [
    ("default", {}, {}, 10),
    ("in the workflow's context", {"_max_jumps": 3}, {}, 3),
    ("in the stage's context", {}, {"_max_jumps": 2}, 2),
    ("in both: the workflow's counts", {"_max_jumps": 1}, {"_max_jumps": 5}, 1),
    ("none allowed", {"_max_jumps": 0}, {}, 0),
    ("nonsense allows none", {"_max_jumps": "many"}, {}, 0),
]


@pytest.mark.parametrize(("context", "own", "limit"), [case[1:] for case in LIMITS], ids=[c[0] for c in LIMITS])
def test_jumps_are_limited(context: dict[str, Any], own: dict[str, Any], limit: int):
    """One jump too many fails the source with a sentence, and nothing is reset."""
    made = workflow(stage("a", context=own), stage("b", "a"), **context)
    shell = Shell(made, Script(a=jump("a"))).start()

    assert len(shell.facts(f.JumpExecuted)) == limit
    assert shell.row("a").context["jump_error"] == f"Max jump count exceeded: {limit + 1}/{limit}"
    assert shell.statuses == {"a": "TERMINAL", "b": "NOT_STARTED"}
    assert shell.status is S.TERMINAL


def test_limit_of_the_engine_is_a_setting():
    """Without a word in a context the engine's limit holds."""
    shell = Shell(workflow(stage("a")), Script(a=jump("a")), limits=Limits(jumps=1)).start()

    assert shell.row("a").context["jump_error"] == "Max jump count exceeded: 2/1"


@pytest.mark.parametrize("target", ["nowhere", "", "a#2"])
def test_jump_to_an_unknown_stage_fails_the_source(target: str):
    """A target that does not exist is a failure that names it, not a hang."""
    shell = line("ab", a=jump(target)).start()

    assert shell.row("a").context["jump_error"] == f"Target stage not found: {target}"
    assert shell.statuses == {"a": "TERMINAL", "b": "NOT_STARTED"}


def test_refused_jump_can_be_tolerated():
    """A source whose context tolerates failure goes on after a refused jump."""
    made = workflow(stage("a", context={"continuePipelineOnFailure": True}), stage("b", "a"))
    shell = Shell(made, Script(a=jump("nowhere"))).start()

    assert shell.statuses == {"a": "FAILED_CONTINUE", "b": "SUCCEEDED"}


def test_jump_in_a_workflow_that_has_failed_is_not_carried_out():
    """A body that asks for a jump after the failure of its workflow is withdrawn."""
    made = workflow(stage("a"), stage("b"), stage("c", "b"))
    shell = Shell(made)
    shell.push(m.StartWorkflow(execution_id=made.id))
    jumping = shell.begin("b")
    shell.finish(shell.begin("a"), done(S.TERMINAL))

    shell.finish(jumping, jump("c"))

    assert shell.statuses == {"a": "TERMINAL", "b": "CANCELED", "c": "NOT_STARTED"}
    assert shell.status is S.TERMINAL


def test_jump_that_is_queued_when_the_workflow_fails_is_not_carried_out():
    """The stage that had asked for it is withdrawn, and nothing is reset."""
    made = workflow(stage("a"), stage("b"), stage("c", "b"))
    shell = Shell(made, order=Order(budget=1))
    shell.push(m.StartWorkflow(execution_id=made.id))
    failing = shell.begin("a")
    shell.finish(shell.begin("b"), jump("c"))

    shell.finish(failing, done(S.TERMINAL))
    shell.drain()

    assert shell.statuses == {"a": "TERMINAL", "b": "CANCELED", "c": "NOT_STARTED"}
    assert not shell.facts(f.JumpExecuted)
