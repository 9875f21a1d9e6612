"""
Workflow shapes for the kill sweep, each small and each with another mechanism that a crash may break.

A body is a function of the stage; `agent` also finds under `_note` what leaves a trace outside the database.

A shape can be driven by any process at any moment: what a person does (`acts`) is decided by what the store says, and
its messages have ids of their own, so doing it again after a crash changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stabilize_nb import StageExecution, TaskExecution, TaskResult, TransientError, Workflow
from stabilize_nb.models.stage import JoinType, SplitType, SyntheticStageOwner
from stabilize_nb.queue import messages as m
from stabilize_nb.stages.multi_instance_builder import MultiInstanceBuilder
from tests.makers import stage, workflow

if TYPE_CHECKING:
    from tests.crash.victim import Victim

Body = Callable[[StageExecution], Any]
#: Does what a person would do now, if anything, and returns whether it did.
Act = Callable[["Victim"], bool]


@dataclass(frozen=True)
class Shape:
    """A workflow and everything that is needed to drive it to its end.

    `racing`: which of the stages runs is decided by the order of commits, so two runs may differ; then only the
    status, the counts and the invariants are compared. `once`: no body is run twice, and a run that a death has failed
    has failed well.
    """

    make: Callable[[], list[Workflow]]
    tasks: Mapping[str, Body] = field(default_factory=dict)
    acts: tuple[Act, ...] = ()
    racing: bool = False
    once: bool = False


# -- bodies -------------------------------------------------------------------------------------------


def plain(given: StageExecution) -> TaskResult:
    """Succeed and say who did it."""
    return TaskResult.success(outputs={given.ref_id.partition("#")[0]: given.ref_id})


def soft(_given: StageExecution) -> TaskResult:
    """Fail, and let the workflow go on."""
    return TaskResult.failed_continue("no")


def failing(_given: StageExecution) -> TaskResult:
    """Fail."""
    return TaskResult.terminal("no")


def stubborn(given: StageExecution) -> TaskResult:
    """Fail twice, each time keeping how far it had come, then succeed (a stateful retry)."""
    done = given.context.get("done", 0)
    if done < 2:
        raise TransientError("again", context_update={"done": done + 1})
    return TaskResult.success(outputs={"done": done})


def patient(given: StageExecution) -> TaskResult:
    """Wait for a signal and keep what it brings."""
    if "_signal_name" not in given.context:
        return TaskResult.suspend()
    return TaskResult.success(outputs={"heard": given.context["_signal_data"]})


def again(given: StageExecution) -> TaskResult:
    """Jump back to `a` in the first two passes."""
    if given.generation < 2:
        return TaskResult.jump_to("a", context={"pass": given.generation + 1})
    return plain(given)


def polling(given: StageExecution) -> TaskResult:
    """Ask to be called again, twice."""
    asked = given.context.get("asked", 0)
    if asked < 2:
        return TaskResult.running(context={"asked": asked + 1})
    return plain(given)


def large(given: StageExecution) -> TaskResult:
    """Pass on a value that is kept apart from its document, or begin with one."""
    return TaskResult.success(outputs={"big": given.context.get("big", ["x" * 300_000, given.ref_id])})


def agent(given: StageExecution) -> TaskResult:
    """Call three tools as durable steps; each has an effect of its own."""
    calls = [given.step("tool", given.context["_note"], given, f":tool{at}") for at in range(1, 4)]
    return TaskResult.success(outputs={"calls": calls})


# -- acts ---------------------------------------------------------------------------------------------


def signals(ref: str, times: int = 1) -> Act:
    """Signal a stage whenever it waits."""

    def act(victim: Victim) -> bool:
        row = victim.row(ref)
        if row is None or row.status.name != "SUSPENDED":
            return False
        return victim.push(m.SignalStage(execution_id=victim.flow, stage_id=row.id, signal_name="go",
                                         signal_data={"n": times}, persistent=False), f"signal-{ref}")  # fmt: skip

    return act


def early_signal(ref: str) -> Act:
    """Send a persistent signal before the stage waits for it."""

    def act(victim: Victim) -> bool:
        row = victim.row(ref)
        assert row is not None
        return victim.push(m.SignalStage(execution_id=victim.flow, stage_id=row.id, signal_name="go",
                                         signal_data={"n": 1}, persistent=True), f"early-{ref}")  # fmt: skip

    return act


def approves(ref: str) -> Act:
    """Approve a gate that waits."""

    def act(victim: Victim) -> bool:
        row = victim.row(ref)
        if row is None or row.status.name != "SUSPENDED":
            return False
        return victim.push(m.SignalStage(execution_id=victim.flow, stage_id=row.id, signal_name="approve",
                                         signal_data={"user": "me"}, persistent=False), f"approve-{ref}")  # fmt: skip

    return act


def settles(ref: str) -> Act:
    """Say that a body is done whose process died while it ran."""

    def act(victim: Victim) -> bool:
        row = victim.row(ref)
        if row is None or row.status.name != "SUSPENDED":
            return False
        done = {"decision": "done", "outputs": {ref: ref}}
        return victim.push(m.SignalStage(execution_id=victim.flow, stage_id=row.id, signal_name="settle",
                                         signal_data=done), f"settle-{ref}")  # fmt: skip

    return act


def cancels(kind: type[m.Message], when: str, ref: str = "", **fields: Any) -> Act:
    """Order a cancellation once a stage has the status SUSPENDED."""

    def act(victim: Victim) -> bool:
        row = victim.row(when)
        if row is None or row.status.name != "SUSPENDED":
            return False
        target = {"stage_id": victim.row(ref).id} if ref else {}
        return victim.push(kind(execution_id=victim.flow, **target, **fields), f"cancel-{kind.__name__}")

    return act


# -- workflows ----------------------------------------------------------------------------------------


def _sub() -> list[Workflow]:
    child = [stage("x", task="plain"), stage("y", "x", task="plain")]
    call = stage("call", "a", task="sub", context={"_sub_workflow_config": {"name": "child", "stages": child}})
    return [workflow(stage("a", task="plain"), call, stage("z", "call", task="plain"))]


def _around() -> list[Workflow]:
    main = stage("main", "a", task="failing", context={"continuePipelineOnFailure": True})
    kinds = {
        "check": SyntheticStageOwner.STAGE_BEFORE,
        "clean": SyntheticStageOwner.STAGE_FAILURE,
    }
    parts = [
        StageExecution.create_synthetic("plain", name, main, owner, tasks=[TaskExecution.create(name, "plain")])
        for name, owner in kinds.items()
    ]
    good = stage("good", "a", task="plain")
    after = StageExecution.create_synthetic(
        "plain", "tell", good, SyntheticStageOwner.STAGE_AFTER, tasks=[TaskExecution.create("tell", "plain")]
    )
    return [workflow(stage("a", task="plain"), main, good, *parts, after)]


def _instances(kind: str) -> list[Workflow]:
    parent = stage("p", "a", task="numbers")
    if kind == "static":
        made = MultiInstanceBuilder.create_fixed(parent, 3, instance_type="plain")
    else:
        made = MultiInstanceBuilder.create_from_collection(parent, "items", instance_type="plain")
    return [workflow(stage("a", task="plain"), parent, *made, stage("z", "p_mi_join", task="plain"))]


def _numbers(_given: StageExecution) -> TaskResult:
    return TaskResult.success(outputs={"items": [1, 2, 3]})


def _locked() -> list[Workflow]:
    first = workflow(
        stage("a", task="plain"), stage("m", "a", task="plain", mutex_key="lock"),
        stage("n", "a", task="plain", mutex_key="lock"), stage("z", "m", "n", task="plain"),
    )  # fmt: skip
    return [first, workflow(stage("o", task="plain", mutex_key="lock"), name="other")]


def _joined(join: JoinType, threshold: int = 0, **fields: Any) -> list[Workflow]:
    return [
        workflow(
            stage("s", task="plain"), stage("a", "s", task="plain"), stage("b", "s", task="plain"),
            stage("c", "s", task="plain"),
            stage("j", "a", "b", "c", task="plain", join_type=join, join_threshold=threshold, **fields),
            stage("z", "j", task="plain"),
        )
    ]  # fmt: skip


def _gate(**context: Any) -> StageExecution:
    return stage("gate", "a", task="approval", context={"message": "go on?", **context})


def _once(word: str) -> list[Workflow]:
    """Make a diamond whose bodies are run at most once; the last is one that calls tools."""
    return [
        workflow(
            stage("a", task="plain", on_crash=word), stage("b", "a", task="plain", on_crash=word),
            stage("c", "a", task="plain", on_crash=word), stage("d", "b", "c", task="agent", on_crash=word),
        )
    ]  # fmt: skip


def _or_pair() -> list[Workflow]:
    split = stage("s", task="plain", split_type=SplitType.OR, split_conditions={"a": "true", "b": "false", "c": "true"})
    return [
        workflow(
            split, stage("a", "s", task="plain"), stage("b", "s", task="plain"), stage("c", "s", task="plain"),
            stage("j", "a", "b", "c", task="plain", join_type=JoinType.OR),
        )
    ]  # fmt: skip


SHAPES: dict[str, Shape] = {
    "linear": Shape(lambda: [workflow(stage("a", task="plain"), stage("b", "a", task="plain"),
                                      stage("c", "b", task="plain"), stage("d", "c", task="plain"))]),
    "diamond": Shape(lambda: [workflow(stage("a", task="plain"), stage("b", "a", task="plain"),
                                       stage("c", "a", task="plain"), stage("d", "b", "c", task="plain"))]),
    "quorum": Shape(lambda: _joined(JoinType.N_OF_M, 2, join_cancel_remaining=True), racing=True),
    "discriminator": Shape(lambda: _joined(JoinType.DISCRIMINATOR), racing=True),
    "merge": Shape(lambda: _joined(JoinType.MULTI_MERGE)),
    "or pair": Shape(_or_pair),
    "loop": Shape(lambda: [workflow(stage("a", task="plain"), stage("b", "a", task="again"),
                                    stage("c", "b", task="plain"))], {"again": again}),
    "static instances": Shape(lambda: _instances("static"), {"numbers": _numbers}),
    "instances of a list": Shape(lambda: _instances("list"), {"numbers": _numbers}),
    "locks of two workflows": Shape(_locked),
    "deferred choice": Shape(
        lambda: [workflow(stage("a", task="plain"),
                          stage("b", "a", task="patient", deferred_choice_group="g"),
                          stage("c", "a", task="patient", deferred_choice_group="g"),
                          stage("z", "b", "c", task="plain", join_type=JoinType.OR))],
        {"patient": patient}, (signals("b"),)),
    "milestone": Shape(
        lambda: [workflow(stage("a", task="patient"),
                          stage("b", task="plain", milestone_ref_id="a", milestone_status="SUCCEEDED"),
                          stage("c", "b", task="plain"))], {"patient": patient}, (signals("a"),)),
    "waiting": Shape(
        lambda: [workflow(stage("a", task="patient"), stage("b", "a", task="patient"), stage("c", "b", task="plain"))],
        {"patient": patient}, (early_signal("b"), signals("a"))),
    "approval": Shape(lambda: [workflow(stage("a", task="plain"), _gate(), stage("z", "gate", task="plain"))],
                      acts=(approves("gate"),)),
    "sub-workflow": Shape(_sub),
    "before, after, on failure": Shape(_around, {"failing": failing}),
    "stateful retry": Shape(lambda: [workflow(stage("a", task="stubborn"), stage("b", "a", task="plain"))],
                            {"stubborn": stubborn}),
    "polling": Shape(lambda: [workflow(stage("a", task="polling"), stage("b", "a", task="plain"))],
                     {"polling": polling}),
    "agent": Shape(lambda: [workflow(stage("a", task="agent"), stage("b", "a", task="plain"))], {"agent": agent}),
    "cancelled region": Shape(
        lambda: [workflow(stage("a", task="plain"), stage("b", "a", task="patient", cancel_region="r"),
                          stage("c", "b", task="plain", cancel_region="r"), stage("d", "a", task="plain"))],
        {"patient": patient}, (cancels(m.CancelRegion, "b", region="r"),)),
    "cancelled workflow": Shape(
        lambda: [workflow(stage("a", task="plain"), stage("b", "a", task="patient"), stage("c", "b", task="plain"))],
        {"patient": patient}, (cancels(m.CancelWorkflow, "b", user="me"),)),
    "at most once, then fail": Shape(lambda: _once("fail"), {"agent": agent}, once=True),
    "at most once, then ask": Shape(lambda: _once("ask"), {"agent": agent}, tuple(map(settles, "abcd")), once=True),
    "large value": Shape(lambda: [workflow(stage("a", task="large"), stage("b", "a", task="large"))], {"large": large}),
    "soft failure": Shape(lambda: [workflow(stage("a", task="soft"), stage("b", "a", task="plain"))], {"soft": soft}),
}  # fmt: skip
