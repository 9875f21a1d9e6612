"""Scenes: small workflows with what is done to them, which between them bring about every kind of fact."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from stabilize_nb import (
    JoinType,
    StageExecution,
    Task,
    TaskExecution,
    TaskResult,
    TransientError,
    WorkflowStream,
)
from stabilize_nb.events import EventType
from stabilize_nb.forks import fork
from stabilize_nb.hitl import ApprovalTask, approve, send_signal
from stabilize_nb.models.stage import SplitType, SyntheticStageOwner
from stabilize_nb.queue.messages import (
    AddMultiInstance,
    CancelStage,
    CloseMultiInstance,
    MigrateWorkflow,
    RestartStage,
    SignalStage,
)
from stabilize_nb.queue.processor.presence import free_claims
from stabilize_nb.run import Run
from stabilize_nb.stages.multi_instance_builder import MultiInstanceBuilder
from stabilize_nb.tasks.interface import RetryableTask
from tests.makers import Bench, stage, workflow

if TYPE_CHECKING:
    from stabilize_nb import Workflow


def give(stage):
    """Succeed with the context's `give` as outputs."""
    return TaskResult.success(outputs=dict(stage.context.get("give", {"done": stage.ref_id})))


def talk(stage):
    """Print something."""
    print("said by", stage.ref_id)
    return give(stage)


def fail(stage):
    """Fail."""
    return TaskResult.terminal("no luck")


class FailOnce(Task):
    """Fails the first time it is called in this process, in a way that asks for another try."""

    def __init__(self):
        self.calls = 0

    def execute(self, stage):
        self.calls += 1
        if self.calls == 1:
            raise TransientError("not yet", context_update={"tried": True})
        return TaskResult.success(outputs={"calls": self.calls})


class PollTwice(RetryableTask):
    """Asks to be called again twice."""

    def __init__(self):
        self.calls = 0

    def get_timeout(self):
        return timedelta(minutes=1)

    def get_backoff_period(self, stage, duration):
        return timedelta(milliseconds=1)

    def execute(self, stage):
        self.calls += 1
        return TaskResult.running({"seen": self.calls}) if self.calls < 3 else TaskResult.success()


class FailThenGive(Task):
    """Fails for good the first time it is called in this process."""

    def __init__(self):
        self.calls = 0

    def execute(self, stage):
        self.calls += 1
        return TaskResult.terminal("broken") if self.calls == 1 else TaskResult.success(outputs={"ok": True})


def tag(stage):
    """Have the run found by an attribute."""
    stage.set_attributes(customer="ann")


def loop_back(stage):
    """Jump to the stage `target` until that was done twice."""
    round_ = stage.context.get("_jump_count", 0)
    if round_ < 2:
        return TaskResult.jump_to("target", context={"round": round_ + 1})
    return TaskResult.success(outputs={"rounds": round_})


class Stubborn(Task):
    """Goes on after it was withdrawn, until it is let go."""

    def __init__(self):
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def execute(self, stage):
        self.begun.set()
        self.let_go.wait(20)
        return TaskResult.success(outputs={"late": True})


def work(bench: Bench, flow: Workflow) -> None:
    """Run until nothing moves."""
    bench.processor.process_all(timeout=20)


def tasks() -> dict[str, Any]:
    """Make the tasks of the scenes, fresh."""
    return {
        "give": give, "talk": talk, "tag": tag, "fail": fail, "once": FailOnce(), "poll": PollTwice(),
        "second": FailThenGive(), "loop": loop_back,
        "gate": ApprovalTask, "approval": ApprovalTask, "stubborn": Stubborn(),
    }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    name: str
    flow: Callable[[], Workflow]
    play: tuple[Callable[[Bench, Workflow], None], ...] = field(default=(work,))


def _gate(bench: Bench, flow: Workflow) -> None:
    approve(bench.queue, flow.id, flow.stage_by_ref_id("gate").id, {"user": "ann"})


def _gate_twice(bench: Bench, flow: Workflow) -> None:
    _gate(bench, flow)
    _gate(bench, flow)


def _ping(bench: Bench, flow: Workflow) -> None:
    send_signal(bench.queue, flow.id, flow.stage_by_ref_id("gate").id, "ping", persistent=False)


def _withdraw_at_work(bench: Bench, flow: Workflow) -> None:
    body = bench.registry.get("stubborn")
    bench.processor.start()
    body.begun.wait(20)
    with WorkflowStream(flow.id) as stream:
        bench.queue.push(CancelStage(execution_id=flow.id, stage_id=flow.stage_by_ref_id("a").id))
        kinds = (item.event_type for item in stream.follow())
        while next(kinds) is not EventType.STAGE_CANCELED:
            pass
    body.let_go.set()
    bench.processor.stop()


def _die_at_work(bench: Bench, flow: Workflow) -> None:
    """Take the message of a body away from its worker, as it is when the worker's process has died."""
    body = bench.registry.get("stubborn")
    bench.processor.start()
    body.begun.wait(20)
    bench.database.write(lambda connection: free_claims(connection, bench.processor.owner, 3))
    body.let_go.set()
    bench.processor.stop()


def _settle(bench: Bench, flow: Workflow) -> None:
    stage_id, data = flow.stage_by_ref_id("a").id, {"decision": "done", "outputs": {"by": "hand"}}
    bench.queue.push(SignalStage(execution_id=flow.id, stage_id=stage_id, signal_name="settle", signal_data=data))


def _restart(bench: Bench, flow: Workflow) -> None:
    bench.queue.push(RestartStage(execution_id=flow.id, stage_id=flow.stage_by_ref_id("b").id))


def _withdraw(bench: Bench, flow: Workflow) -> None:
    bench.queue.push(CancelStage(execution_id=flow.id, stage_id=flow.stage_by_ref_id("gate").id))


def _cancel(bench: Bench, flow: Workflow) -> None:
    bench.store.cancel(flow.id, user="ann", reason="enough")


def _pause(bench: Bench, flow: Workflow) -> None:
    bench.store.pause(flow.id)


def _resume(bench: Bench, flow: Workflow) -> None:
    bench.store.resume(flow.id)


def _choose(bench: Bench, flow: Workflow) -> None:
    approve(bench.queue, flow.id, flow.stage_by_ref_id("q").id, {"user": "ann"})


ONE_AT_A_TIME = {"limitConcurrent": True, "maxConcurrentExecutions": 1}
CHILD = {"name": "child", "stages": [{"ref_id": "c", "tasks": [{"name": "c", "implementing_class": "give"}]}]}


def _with_parts(flow: Workflow) -> Workflow:
    """Let something run before and after the stage `a`."""
    for owner in (SyntheticStageOwner.STAGE_BEFORE, SyntheticStageOwner.STAGE_AFTER):
        tasks = [TaskExecution.create("give", "give")]
        part = StageExecution.create_synthetic("give", owner.name.lower(), flow.stages[0], owner, tasks=tasks)
        flow.stages.append(part)
    return flow


def _activity() -> Workflow:
    """Make an activity to which instances can be added, each a gate."""
    parent = stage("p", task="give")
    made = MultiInstanceBuilder.create_dynamic(parent, initial_count=1, join_threshold=3, instance_type="gate")
    return workflow(parent, *made, stage("n", "p_mi_join", task="give"))


def _add(bench: Bench, flow: Workflow) -> None:
    bench.queue.push(AddMultiInstance(execution_id=flow.id, stage_id=flow.stages[0].id, instance_context={"x": 1}))


def _close(bench: Bench, flow: Workflow) -> None:
    bench.queue.push(CloseMultiInstance(execution_id=flow.id, stage_id=flow.stages[0].id))


def _approve_all(bench: Bench, flow: Workflow) -> None:
    for each in bench.store.retrieve(flow.id).stages:
        if each.status.name == "SUSPENDED":
            approve(bench.queue, flow.id, each.id, {"user": "ann"})


def _one_more(bench: Bench, flow: Workflow) -> None:
    """Let a second workflow wait for the slot."""
    bench.begin(workflow(stage("gate", task="gate"), config=ONE_AT_A_TIME))


def _again(bench: Bench, flow: Workflow) -> None:
    """Restart the first stage."""
    bench.queue.push(RestartStage(execution_id=flow.id, stage_id=flow.stages[0].id))


def _fork(bench: Bench, flow: Workflow) -> None:
    """Make a fork that takes something else for what the first stage had put out."""
    parts = {"database": bench.database, "processor": bench.processor, "registry": bench.registry}
    host = SimpleNamespace(**parts, owner=bench.processor.owner, rehearsal=None)
    fork(Run(host, flow.id), "n", {}, {"a": {"done": "otherwise"}}, "recorded")


def _migrate(bench: Bench, flow: Workflow) -> None:
    bench.queue.push(MigrateWorkflow(execution_id=flow.id, codes={"fail": "talk"}))


SCENES = [
    Scene(name="one stage", flow=lambda: workflow(stage("a", task="give"))),
    Scene(
        name="diamond with a tolerated failure",
        flow=lambda: workflow(
            stage("a", task="give"),
            stage("b", "a", task="fail", context={"continuePipelineOnFailure": True}),
            stage("c", "a", task="give"),
            stage("d", "b", "c", task="give"),
        ),
    ),
    Scene(
        name="branch not taken",
        flow=lambda: workflow(
            stage("a", task="give", split_type=SplitType.OR, split_conditions={"b": "done == 'a'", "c": "done > 1"}),
            stage("b", "a", task="give"),
            stage("c", "a", task="give"),
            stage("d", "b", "c", task="give", join_type=JoinType.OR),
        ),
    ),
    Scene(
        name="retry",
        flow=lambda: workflow(stage("a", task="once"), stage("b", "a", task="give")),
    ),
    Scene(
        name="process died at work",
        flow=lambda: workflow(stage("a", task="stubborn", on_crash="ask"), stage("b", "a", task="give")),
        play=(_die_at_work, work, _settle, work),
    ),
    Scene(name="poll", flow=lambda: workflow(stage("a", task="poll"))),
    Scene(
        name="a limit and an attribute",
        flow=lambda: workflow(stage("a", task="tag", context={"_limit": "crm: 500/min"}), stage("b", "a", task="give")),
    ),
    Scene(
        name="gate decided twice",
        flow=lambda: workflow(stage("gate", task="approval")),
        play=(work, _gate_twice, work),
    ),
    Scene(
        name="loop over activations",
        flow=lambda: workflow(
            stage("target", task="give"),
            stage("p", "target", task="give"),
            stage("q", "target", task="give"),
            stage("each", "p", "q", task="give", join_type=JoinType.MULTI_MERGE),
            stage("decide", "p", "q", task="loop"),
        ),
    ),
    Scene(
        name="gate",
        flow=lambda: workflow(stage("gate", task="gate"), stage("b", "gate", task="give")),
        play=(_ping, work, _ping, work, _gate, work),
    ),
    Scene(
        name="decision before the gate",
        flow=lambda: workflow(stage("a", task="give"), stage("gate", "a", task="gate")),
        play=(_gate, work),
    ),
    Scene(
        name="failure, then restart",
        flow=lambda: workflow(
            stage("a", task="give"),
            stage("b", "a", task="second"),
            stage("c", "b", task="give"),
            stage("gate", task="gate"),
        ),
        play=(work, _restart, work, _gate, work),
    ),
    Scene(
        name="pause, resume, withdrawal",
        flow=lambda: workflow(stage("gate", task="gate"), stage("b", "gate", task="give"), stage("c", task="give")),
        play=(_pause, work, _resume, work, _withdraw, work),
    ),
    Scene(
        name="withdrawn at work",
        flow=lambda: workflow(stage("a", task="stubborn"), stage("b", "a", task="give")),
        play=(_withdraw_at_work,),
    ),
    Scene(
        name="cancel",
        flow=lambda: workflow(stage("gate", task="gate"), stage("b", "gate", task="give")),
        play=(work, _cancel, work),
    ),
    Scene(
        name="one lock, one milestone, one choice",
        flow=lambda: workflow(
            stage("gate", task="gate", mutex_key="k"),
            stage("second", task="give", mutex_key="k"),
            stage("marked", task="give", milestone_ref_id="second", milestone_status="SUCCEEDED"),
            stage("p", task="gate", deferred_choice_group="g"),
            stage("q", task="gate", deferred_choice_group="g"),
        ),
        play=(work, _gate, work, _choose, work),
    ),
    Scene(
        name="parts of a stage",
        flow=lambda: _with_parts(workflow(stage("a", task="give"), stage("n", "a", task="give"))),
    ),
    Scene(
        name="instances added, refused and closed",
        flow=_activity,
        play=(work, _add, work, _close, _add, work, _approve_all, work),
    ),
    Scene(
        name="child workflow",
        flow=lambda: workflow(
            stage("s", task="sub_workflow", context={"_sub_workflow_config": CHILD}), stage("n", "s", task="give")
        ),
    ),
    Scene(
        name="prints, with other code than it was started with",
        flow=lambda: workflow(stage("gate", task="gate"), stage("n", "gate", task="fail")),
        play=(work, _migrate, work, _gate, work),
    ),
    Scene(
        name="forked",
        flow=lambda: workflow(stage("a", task="give"), stage("n", "a", task="give")),
        play=(work, _fork, work),
    ),
    Scene(
        name="slots",
        flow=lambda: workflow(stage("gate", task="gate"), config=ONE_AT_A_TIME),
        play=(work, _one_more, work, _gate, work),
    ),
    Scene(
        name="restarted while another one has the slot",
        flow=lambda: workflow(stage("gate", task="gate"), config=ONE_AT_A_TIME),
        play=(work, _one_more, work, _gate, work, _again, work),
    ),
    Scene(
        name="waited for a slot in vain",
        flow=lambda: workflow(stage("gate", task="gate"), config=ONE_AT_A_TIME),
        play=(_cancel, work),
    ),
]


def play(scene: Scene, bench: Bench) -> Workflow:
    """Store and start the workflow of a scene and do what the scene says; other tries come at once."""
    bench.processor.limits = replace(bench.processor.limits, backoff_min=1)
    flow = scene.flow()
    if scene.name == "waited for a slot in vain":
        bench.begin(workflow(stage("gate", task="gate"), config=ONE_AT_A_TIME))
        work(bench, flow)
    bench.begin(flow)
    if scene.name == "waited for a slot in vain":
        work(bench, flow)
    for act in scene.play:
        act(bench, flow)
    return flow
