"""Graphs that run to their end: sequences, splits, joins, dead paths, threads."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from shell import Order, Script, Shell, done, failed, stage, suspend, workflow

from stabilize_nb.core import facts as f
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue import messages as m

S = WorkflowStatus
J = JoinType


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    stages: list[StageExecution]
    expect: str  # statuses of the stages, in order, by their first letters; "-" for NOT_STARTED
    status: str = "SUCCEEDED"
    script: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)


LETTERS = {
    "SUCCEEDED": "S",
    "SKIPPED": "k",
    "TERMINAL": "T",
    "STOPPED": "p",
    "CANCELED": "c",
    "FAILED_CONTINUE": "f",
    "NOT_STARTED": "-",
}


def letters(shell: Shell) -> str:
    return "".join(LETTERS[row.status.name] for row in shell.stages())


def diamond(**join: Any) -> list[StageExecution]:
    return [stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c", **join), stage("e", "d")]


def choice(split: SplitType, conditions: dict[str, str], default: str | None = None) -> list[StageExecution]:
    first = stage("a", split_type=split, split_conditions=conditions, split_default=default)
    return [first, *diamond()[1:]]


CASES = [
    Case(name="one stage", stages=[stage("a")], expect="S"),
    Case(name="a sequence", stages=[stage("a"), stage("b", "a"), stage("c", "b")], expect="SSS"),
    Case(name="stages without tasks", stages=[stage("a", tasks=0), stage("b", "a", tasks=0)], expect="SS"),
    Case(name="several tasks in a stage", stages=[stage("a", tasks=3)], expect="S"),
    Case(name="several roots", stages=[stage("a"), stage("b"), stage("c", "b")], expect="SSS"),
    Case(name="a diamond", stages=diamond(), expect="SSSSS"),
    Case(
        name="an OR-split takes every branch whose condition holds",
        stages=choice(SplitType.OR, {"b": "x > 1", "c": "x > 9"}),
        context={"x": 5},
        expect="SSkSS",
    ),
    Case(
        name="an OR-split takes branches without condition",
        stages=choice(SplitType.OR, {"c": "false"}),
        expect="SSkSS",
    ),
    Case(
        name="an OR-split with nothing true takes its default",
        stages=choice(SplitType.OR, {"b": "false"}, default="c"),
        expect="SkSSS",
    ),
    Case(
        name="an OR-split with nothing true and no default prunes all",
        stages=choice(SplitType.OR, {"b": "false", "c": "false"}),
        expect="Skkkk",
    ),
    Case(
        name="an OR-split does not take its default when a condition holds",
        stages=choice(SplitType.OR, {"b": "true"}, default="c"),
        expect="SSkSS",
    ),
    Case(
        name="an XOR-split takes the first true branch in the order written",
        stages=choice(SplitType.XOR, {"c": "true", "b": "true"}),
        expect="SkSSS",
    ),
    Case(
        name="an XOR-split with nothing true takes its default",
        stages=choice(SplitType.XOR, {"c": "false"}, default="b"),
        expect="SSkSS",
    ),
    Case(
        name="an XOR-split with nothing true and no default prunes all",
        stages=choice(SplitType.XOR, {"b": "none", "c": "0"}),
        expect="Skkkk",
    ),
    Case(
        name="a split sees the outputs of its own stage",
        stages=choice(SplitType.XOR, {"b": "score < 3", "c": "score >= 3"}),
        script={"a": done(score=3)},
        expect="SkSSS",
    ),
    Case(
        name="dead paths travel through several stages",
        stages=[
            stage("a", split_type=SplitType.OR, split_conditions={"b": "false"}),
            stage("b", "a"),
            stage("c", "b"),
            stage("d", "c"),
            stage("e", "a", "d"),
        ],
        expect="SkkkS",
    ),
    Case(
        name="a disabled stage passes its thread on",
        stages=[stage("a"), stage("b", "a", context={"stageEnabled": False}), stage("c", "b")],
        expect="SkS",
    ),
    Case(
        name="an expression switches a stage off",
        stages=[
            stage("a"),
            stage("b", "a", context={"stageEnabled": {"type": "expression", "expression": "go == 1"}}),
            stage("c", "b"),
        ],
        script={"a": done(go=2)},
        expect="SkS",
    ),
    Case(
        name="an expression leaves a stage on",
        stages=[stage("a"), stage("b", "a", context={"stageEnabled": {"expression": "go == 1"}})],
        script={"a": done(go=1)},
        expect="SS",
    ),
    Case(
        name="a stage whose expression is none runs",
        stages=[stage("a", context={"stageEnabled": {"expression": "open('x')"}})],
        expect="S",
    ),
    Case(
        name="a skipping task skips its stage and passes the thread on",
        stages=[stage("a"), stage("b", "a", tasks=2), stage("c", "b")],
        script={"b": done(S.SKIPPED)},
        expect="SkS",
    ),
    Case(
        name="STOPPED halts its own branch only",
        stages=diamond(),
        script={"b": done(S.STOPPED)},
        expect="SpS--",
    ),
    Case(
        name="failPipeline false turns a failure into STOPPED",
        stages=[stage("a", context={"failPipeline": False}), stage("b", "a"), stage("c")],
        script={"a": failed()},
        expect="p-S",
    ),
    Case(
        name="completeOtherBranchesThenFail fails once the others are done",
        stages=[stage("a", context={"completeOtherBranchesThenFail": True}), stage("b", "a"), stage("c")],
        script={"a": failed()},
        expect="p-S",
        status="TERMINAL",
    ),
    Case(
        name="continuePipelineOnFailure goes on after a failure",
        stages=[stage("a", context={"continuePipelineOnFailure": True}), stage("b", "a")],
        script={"a": failed()},
        expect="fS",
    ),
    Case(
        name="a task that fails softly lets its stage go on to the next task",
        stages=[stage("a", tasks=2), stage("b", "a")],
        script={"a": [done(S.FAILED_CONTINUE), done()]},
        expect="fS",
    ),
    Case(
        name="a failure fails the workflow and what follows never starts",
        stages=[stage("a"), stage("b", "a")],
        script={"a": failed()},
        expect="T-",
        status="TERMINAL",
    ),
    Case(
        name="branches beside a failed one finish the stage they are in",
        stages=[
            stage("a"),
            stage("b", "a"),
            stage("c", "a", tasks=3),
            stage("d", "b", "c"),
            stage("e", "c"),
        ],
        script={"b": failed()},
        expect="STS--",
        status="TERMINAL",
    ),
    Case(
        name="N_OF_M fires when its threshold is met",
        stages=diamond(join_type=J.N_OF_M, join_threshold=1),
        script={"b": done(S.STOPPED)},
        expect="SpSSS",
    ),
    Case(
        name="N_OF_M whose threshold is out of reach fails",
        stages=[
            stage("a", split_type=SplitType.OR, split_conditions={"b": "false"}),
            *diamond(join_type=J.N_OF_M, join_threshold=2)[1:],
        ],
        expect="SkST-",
        status="TERMINAL",
    ),
    Case(
        name="an unreachable N_OF_M fails as its context says",
        stages=[
            stage("a", split_type=SplitType.OR, split_conditions={"b": "false"}),
            *diamond(join_type=J.N_OF_M, context={"continuePipelineOnFailure": True})[1:],
        ],
        expect="SkSfS",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_graph_ends_as_its_rules_say(case: Case):
    """Every stage ends with the status that patterns.md section 2 gives it, and so does the workflow."""
    shell = Shell(workflow(*case.stages, **case.context), Script(**case.script)).start()

    assert (letters(shell), shell.status.name) == (case.expect, case.status)
    assert not [queued for queued in shell.queue if queued.message.COUNTS]


def test_workflow_without_stages_fails_with_a_reason():
    """Nothing to run is a failure that says so, not a success and not a hang."""
    shell = Shell(workflow()).start()

    assert shell.status is S.TERMINAL
    assert shell.head.error == "the workflow has no stages: there is nothing to run"


def test_workflow_starts_once():
    """A second StartWorkflow changes nothing."""
    shell = Shell(workflow(stage("a"))).start()
    before = len(shell.log)

    shell.send(m.StartWorkflow)

    assert len(shell.log) == before


def test_one_stage_run_leaves_seven_facts():
    """The log of the smallest run is the one that the reference documents print."""
    shell = Shell(workflow(stage("a"))).start()

    assert [f.event_type(fact) for fact in shell.facts()] == [
        "workflow.created",
        "workflow.started",
        "stage.started",
        "task.started",
        "task.completed",
        "stage.completed",
        "workflow.completed",
    ]


def test_chain_costs_one_commit_a_task():
    """With a free slot each task of a chain is one commit: its end, the next start, the next body."""
    shell = Shell(workflow(stage("a"), stage("b", "a"), stage("c", "b"))).start()

    assert shell.commits == 4


BRANCHES = ["plain", "disabled", "not chosen", "stopped", "canceled", "failed", "late"]
#: Activations of j and status of the workflow, for each of BRANCHES. Source: patterns.md 2.12.
JOINS = {
    (J.AND, 0): ["1S", "1S", "1S", "0S", "0C", "0T", "1S"],
    (J.OR, 0): ["1S", "1S", "1S", "1S", "1S", "0T", "1S"],
    (J.MULTI_MERGE, 0): ["3S", "3S", "2S", "2S", "2S", "?T", "3S"],
    (J.DISCRIMINATOR, 0): ["1S", "1S", "1S", "1S", "1S", "?T", "1S"],
    (J.N_OF_M, 2): ["1S", "1S", "1S", "1S", "1S", "?T", "1S"],
    (J.N_OF_M, 3): ["1S", "1S", "1T", "0S", "0C", "0T", "1S"],
    (J.N_OF_M, 0): ["1S", "1S", "1T", "0S", "0C", "0T", "1S"],
}


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize(("join", "threshold"), JOINS, ids=lambda part: str(getattr(part, "name", part)))
def test_join_over_three_branches(join: JoinType, threshold: int, branch: str):
    """Branches x, y and z run into j; what x does decides how often j runs and how the workflow ends."""
    first = stage("a")
    if branch == "not chosen":
        first.split_type, first.split_conditions = SplitType.OR, {"x": "false"}
    x = stage("x", "a", context={"stageEnabled": branch != "disabled"})
    j = stage("j", "x", "y", "z", join_type=join, join_threshold=threshold)
    answers = {"stopped": done(S.STOPPED), "failed": failed(), "canceled": suspend()}
    script = Script(x=answers.get(branch, done()))
    shell = Shell(workflow(first, x, stage("y", "a"), stage("z", "a"), j), script)

    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    if branch == "late":
        shell.finish(shell.begin("a"), done())
        body = shell.begin("x")
        for ref in ("y", "z"):
            shell.finish(shell.begin(ref), done())
        shell.finish(body, done())
    shell.drain()
    if branch == "canceled":
        shell.send(m.CancelStage, "x")

    activations, status = JOINS[join, threshold][BRANCHES.index(branch)]
    assert shell.status.name[0] == status
    if activations != "?":
        fired = [fact for fact in shell.facts(f.JoinFired) if fact.stage == "id-j"]
        assert len(fired) == int(activations)


@pytest.mark.parametrize("join", [J.DISCRIMINATOR, J.N_OF_M])
def test_branch_that_ends_after_the_join_fired_only_completes_the_round(join: JoinType):
    """The join does not wait for the late branch, sees nothing of it and runs no second time."""
    j = stage("j", "x", "y", "z", join_type=join, join_threshold=2 if join is J.N_OF_M else 0)
    shell = Shell(workflow(stage("x"), stage("y"), stage("z"), j, stage("k", "j")))
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    late = shell.begin("x")

    shell.finish(shell.begin("y"), done(from_y=1))
    shell.finish(shell.begin("z"), done(from_z=1))
    while len(shell.queue) > 1:
        shell.finish(next(each.body for each in shell.queue if each.body not in (None, late)), done())

    assert (shell.row("j").status, shell.row("k").status, shell.status) == (S.SUCCEEDED, S.SUCCEEDED, S.RUNNING)
    shell.finish(late, done(from_x=1))
    assert shell.status is S.SUCCEEDED
    assert shell.runs().count("j") == 1
    assert "from_x" not in shell.inputs("j").context


def test_multi_merge_runs_once_for_each_thread_and_so_does_what_follows():
    """Every live outcome makes an activation `ref#k`, and threads survive behind the merge."""
    made = workflow(
        stage("x"),
        stage("y"),
        stage("z"),
        stage("m", "x", "y", "z", join_type=J.MULTI_MERGE),
        stage("n", "m", tasks=2),
        stage("o", "n"),
    )
    shell = Shell(made).start()

    names = {f"{ref}{suffix}" for ref in "mno" for suffix in ("", "#2", "#3")}
    assert {row.ref_id for row in shell.stages()} == {"x", "y", "z"} | names
    assert set(shell.statuses.values()) == {"SUCCEEDED"}
    assert [shell.row(ref).activation for ref in ("m", "m#2", "m#3")] == [1, 2, 3]
    assert sorted(shell.row(ref).context["_triggered_by"][0] for ref in ("m", "m#2", "m#3")) == ["x", "y", "z"]
    assert all(len(shell.row(ref).context["_triggered_by"]) == 1 for ref in names)
    assert shell.row("m#2").context["_activation"] == 2
    assert shell.row("n#2").spec.requisites == ("m#2",)
    assert shell.row("n#2").triggers == (shell.row("m#2").id,)


def test_threads_keep_their_data_apart():
    """A run behind a merge sees the thread that led to it and no other."""
    made = workflow(stage("x"), stage("y"), stage("m", "x", "y", join_type=J.MULTI_MERGE), stage("n", "m"))
    shell = Shell(made, Script(m=lambda body: done(seen=sorted(key for key in body.context if key in "xy"))))
    shell.start()

    seen = {ref: shell.inputs(ref).context["seen"] for ref in ("n", "n#2")}
    assert sorted(seen.values()) == [["x"], ["y"]]


def test_join_behind_a_merge_consumes_one_thread_of_each_branch():
    """Round k of a join takes the k-th outcome of each edge: two merged branches of two threads fire it twice."""
    made = workflow(
        stage("w"),
        stage("x"),
        stage("y"),
        stage("z"),
        stage("m", "w", "x", join_type=J.MULTI_MERGE),
        stage("n", "y", "z", join_type=J.MULTI_MERGE),
        stage("j", "m", "n"),
    )
    shell = Shell(made).start()

    assert shell.runs().count("j") == shell.runs().count("j#2") == 1
    assert shell.row("j#2").context["_triggered_by"] == ["m#2", "n#2"]
    assert shell.status is S.SUCCEEDED


def test_left_over_threads_of_a_join_that_fired_do_not_matter():
    """An AND-join of a two-thread branch and a one-thread branch fires once, and the workflow succeeds."""
    made = workflow(
        stage("x"), stage("y"), stage("z"), stage("m", "x", "y", join_type=J.MULTI_MERGE), stage("j", "m", "z")
    )
    shell = Shell(made).start()

    assert shell.statuses["j"] == "SUCCEEDED"
    assert "j#2" not in shell.statuses
    assert shell.status is S.SUCCEEDED


def test_further_round_after_a_pruned_one_runs_in_a_row_of_its_own():
    """A join whose first round was pruned still runs for a later round with a live outcome."""
    made = workflow(
        stage("s", split_type=SplitType.OR, split_conditions={"x": "false"}),
        stage("x", "s"),
        stage("y", "s"),
        stage("m", "x", "y", join_type=J.MULTI_MERGE),
        stage("n", "m"),
    )
    shell = Shell(made).start()

    assert shell.statuses == {"s": "SUCCEEDED", "x": "SKIPPED", "y": "SUCCEEDED", "m": "SUCCEEDED", "n": "SUCCEEDED"}


def test_thread_that_nothing_can_consume_is_a_deadlock_with_a_name():
    """A join that would hold a thread for ever makes the workflow TERMINAL, and the error names the join."""
    shell = Shell(workflow(*diamond()), order=Order(budget=1))
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    while not (lost := [each for each in shell.queue if getattr(each.message, "via", None) == "id-c"]):
        shell.tick()
    shell.queue.remove(*lost)

    shell.drain().send(m.SignalStage, "a")

    assert shell.status is S.TERMINAL
    assert shell.head.error == "deadlock: d hold a thread that nothing can consume any more"


def fan(width: int) -> list[StageExecution]:
    refs = [f"r{number}" for number in range(width)]
    return [stage("a"), *(stage(ref, "a") for ref in refs), stage("j", *refs), stage("k", "j")]


def line(length: int) -> list[StageExecution]:
    return [stage(f"s{number}", *([f"s{number - 1}"] if number else [])) for number in range(length)]


@pytest.mark.parametrize("make", [fan, line])
def test_queries_of_a_step_do_not_grow_with_the_graph(make: Callable[[int], list[StageExecution]]):
    """A decision about one message asks as many questions in a large graph as in a small one."""
    small, large = (Shell(workflow(*make(size)), order=Order(budget=1)).start() for size in (4, 60))

    assert large.status is S.SUCCEEDED
    assert max(large.questions) == max(small.questions)
