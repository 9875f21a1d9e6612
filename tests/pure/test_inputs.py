"""What a run of a stage sees of the runs before it."""

from typing import Any

import pytest
from shell import Script, Shell, done, jump, stage, workflow

from stabilize_nb.models.stage import JoinType, SplitType
from stabilize_nb.queue import messages as m


def seen(shell: Shell, ref_id: str) -> dict[str, Any]:
    """Return the context of a stage's last body, without what the engine adds."""
    return {key: value for key, value in shell.inputs(ref_id).context.items() if not key.startswith("_")}


def chain(*refs: str) -> list:
    return [stage(ref, *refs[max(0, at - 1) : at]) for at, ref in enumerate(refs)]


def test_outputs_are_seen_by_all_that_follows():
    """Not only the direct requisites: what an ancestor put out is visible through stages that put out nothing."""
    shell = Shell(workflow(*chain("a", "b", "c"), base=0), Script(a=done(x=1), b=done())).start()

    assert seen(shell, "c") == {"base": 0, "x": 1}


def test_nearer_output_hides_a_farther_one():
    """The last writer before a stage wins, and the workflow's context loses against every output."""
    script = Script(a=done(x="a", y="a"), b=done(x="b"))
    shell = Shell(workflow(*chain("a", "b", "c"), x="base", z="base"), script).start()

    assert seen(shell, "c") == {"x": "b", "y": "a", "z": "base"}


def test_own_context_hides_what_is_inherited():
    """What the author of a stage wrote wins over all outputs."""
    made = workflow(stage("a"), stage("b", "a", context={"x": "own"}), x="base")
    shell = Shell(made, Script(a=done(x="a"))).start()

    assert seen(shell, "b") == {"x": "own"}


def test_longer_way_is_nearer():
    """Over branches of different length the stage that ran later on the way wins, whatever its name."""
    made = workflow(stage("z"), stage("a", "z"), stage("b", "z"), stage("c", "b"), stage("j", "a", "c"))
    shell = Shell(made, Script(z=done(x="z"), a=done(x="a"), c=done(x="c"))).start()

    assert seen(shell, "j")["x"] == "c"


@pytest.mark.parametrize("first", ["b", "c"])
def test_tie_between_branches_goes_by_ref_id(first: str):
    """Of two branches of the same length the later ref_id wins, whichever ended first."""
    shell = Shell(workflow(stage("a"), stage("b", "a"), stage("c", "a"), stage("j", "b", "c")))
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    shell.finish(shell.begin("a"), done())
    for ref in (first, "c" if first == "b" else "b"):
        shell.finish(shell.begin(ref), done(x=ref))
    shell.drain()

    assert seen(shell, "j")["x"] == "c"


def test_output_hidden_on_one_branch_stays_hidden_at_the_join():
    """A stage that replaced a value hides the older one, also when that one comes along another branch."""
    made = workflow(stage("a"), stage("b", "a"), stage("c", "a"), stage("j", "b", "c"))
    shell = Shell(made, Script(a=done(x="old"), b=done(x="new"), c=done())).start()

    assert seen(shell, "j")["x"] == "new"


def test_lists_are_joined_without_repeating_an_item():
    """Lists of all ancestors and the stage's own are one list, each item once, farther ones first."""
    made = workflow(stage("a"), stage("b", "a"), stage("c", "a"), stage("j", "b", "c", context={"x": ["own", "b"]}))
    shell = Shell(made, Script(a=done(x=["a"]), b=done(x=["a", "b"]), c=done(x=["c"]))).start()

    assert seen(shell, "j")["x"] == ["a", "b", "c", "own"]


def test_list_and_something_else_do_not_mix():
    """A list over a number is the list; a number over a list is the number."""
    script = Script(a=done(x=1, y=[1]), b=done(x=[2], y=2))
    shell = Shell(workflow(*chain("a", "b", "c")), script).start()

    assert seen(shell, "c") == {"x": [2], "y": 2}


def test_context_of_a_task_is_for_later_tasks_of_its_stage_only():
    """What a task puts into its stage's context is seen by the next task and not downstream."""
    first = m.Outcome(kind=m.OutcomeKind.DONE, context={"note": 1})
    made = workflow(stage("a", tasks=2), stage("b", "a"))
    shell = Shell(made, Script(a=[first, lambda body: done(seen=body.context["note"])])).start()

    assert seen(shell, "b") == {"seen": 1}


def test_pruned_branch_is_not_seen():
    """A join behind a split sees the branch that was taken."""
    first = stage("a", split_type=SplitType.OR, split_conditions={"b": "false"})
    shell = Shell(workflow(first, stage("b", "a"), stage("c", "a"), stage("j", "b", "c"))).start()

    assert seen(shell, "j") == {"a": 1, "c": 1}
    assert shell.row("j").context["_triggered_by"] == ["c"]


def test_upstream_holds_the_runs_that_led_here():
    """The direct requisites are there by ref_id with their outputs and contexts; a late or dead branch is not."""
    made = workflow(stage("a", context={"n": 1}), stage("b"), stage("j", "a", "b", join_type=JoinType.AND))
    shell = Shell(made, Script(a=done(x=1), b=done(x=2))).start()

    upstream = shell.inputs("j").upstream
    assert list(upstream) == ["a", "b"]
    assert [(run.ref_id, dict(run.outputs)) for runs in upstream.values() for run in runs] == [
        ("a", {"x": 1}),
        ("b", {"x": 2}),
    ]
    assert upstream["a"][0].context["n"] == 1


def test_upstream_of_a_merge_is_one_run():
    """Behind a merge each thread has one upstream run, named by its own row."""
    made = workflow(stage("x"), stage("y"), stage("m", "x", "y", join_type=JoinType.MULTI_MERGE), stage("n", "m"))
    shell = Shell(made).start()

    assert [run.ref_id for run in shell.inputs("n").upstream["m"]] == ["m"]
    assert [run.ref_id for run in shell.inputs("n#2").upstream["m"]] == ["m#2"]


def test_second_pass_of_a_loop_sees_only_its_own_values():
    """After a backward jump the outputs of the first pass are gone until they are made again."""
    made = workflow(stage("p"), stage("a", "p"), stage("b", "a"))
    contexts = []

    def b(body):
        contexts.append({key for key in body.context if key in ("p", "first", "second")})
        return jump("a") if len(contexts) == 1 else done()

    shell = Shell(made, Script(a=[done(first=1), done(second=1)], b=b)).start()

    assert contexts == [{"p", "first"}, {"p", "second"}]
    assert shell.status.name == "SUCCEEDED"


def test_producer_that_was_reset_disappears_from_view():
    """A stage reached by a forward jump does not trip over a source that was reset since."""
    made = workflow(stage("a"), stage("s", "a"), stage("t"), stage("u", "t", context={"x": [2]}))
    script = Script(s=[jump("t", outputs={"x": [1]}), done()], t=[jump("u"), done()], u=[jump("a"), done()])
    shell = Shell(made, script).start()

    assert shell.status.name == "SUCCEEDED"
