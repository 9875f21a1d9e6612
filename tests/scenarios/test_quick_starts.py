"""The quick starts of the reference documents, with this package in the place of the reference one.

The programs use the calls, names and order of the documents; only the address of the model is a local server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb import (
    ApprovalTask,
    Orchestrator,
    QueueProcessor,
    SqliteQueue,
    SqliteWorkflowStore,
    StageExecution,
    Task,
    TaskExecution,
    TaskRegistry,
    TaskResult,
    TransientError,
    Workflow,
    WorkflowStatus,
    WorkflowStream,
    approve,
)
from stabilize_nb.events import (
    EventReplayer,
    EventType,
    SqliteEventStore,
    StageMetricsProjection,
    configure_event_sourcing,
    get_event_bus,
    reset_event_bus,
)
from stabilize_nb.llm import AgentLoopTask, LLMClient, LLMTask, ToolRegistry, tool
from stabilize_nb.models.stage import JoinType, SplitType
from stabilize_nb.queue.messages import SignalStage
from stabilize_nb.queue.processor.config import QueueProcessorConfig
from stabilize_nb.testing import ScriptedModel, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class HelloTask(Task):
    """The task of the general document's quick start."""

    def execute(self, stage: StageExecution) -> TaskResult:
        """Greet whom the context names."""
        name = stage.context.get("name", "World")
        return TaskResult.success(outputs={"greeting": f"Hello, {name}!"})


def hello() -> Workflow:
    """Make the workflow of the general document's quick start."""
    return Workflow.create(
        application="my-app",
        name="Hello Workflow",
        stages=[
            StageExecution(
                ref_id="1",
                type="hello",
                name="Say Hello",
                tasks=[
                    TaskExecution.create(
                        name="Hello Task", implementing_class="hello", stage_start=True, stage_end=True
                    ),
                ],
                context={"name": "Stabilize"},
            ),
        ],
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Name a database file of this test."""
    return f"sqlite:///{tmp_path}/agent.db"


@pytest.fixture(autouse=True)
def _fresh_bus() -> Iterator[None]:
    yield
    configure_event_sourcing(None)
    reset_event_bus()


def test_general_quick_start() -> None:
    """The quick start of the general document greets."""
    workflow = hello()
    store = SqliteWorkflowStore("sqlite:///:memory:", create_tables=True)
    queue = SqliteQueue("sqlite:///:memory:")
    queue._create_table()
    registry = TaskRegistry()
    registry.register("hello", HelloTask)
    processor = QueueProcessor(queue, store=store, task_registry=registry)
    orchestrator = Orchestrator(queue)

    store.store(workflow)
    orchestrator.start(workflow)
    processor.process_all(timeout=10.0)

    result = store.retrieve(workflow.id)
    assert str(result.status) == "SUCCEEDED"
    assert result.stages[0].outputs == {"greeting": "Hello, Stabilize!"}
    processor.close()
    store.close()
    queue.close()


def test_event_sourcing_in_one_line(tmp_path: Path, url: str) -> None:
    """One call records every transition; a one-stage run gives seven events, which replay to its end."""
    event_store = SqliteEventStore(f"sqlite:///{tmp_path}/events.db", create_tables=True)
    configure_event_sourcing(event_store)
    bus = get_event_bus()
    heard: list[str] = []
    bus.subscribe("monitor", lambda event: heard.append(event.event_type.value))
    metrics = StageMetricsProjection()
    bus.subscribe("metrics", metrics.apply)
    store, queue, registry = SqliteWorkflowStore(url), SqliteQueue(url), TaskRegistry()
    registry.register("hello", HelloTask)
    processor = QueueProcessor(queue, store=store, task_registry=registry)
    workflow = hello()
    store.store(workflow)
    Orchestrator(queue).start(workflow)
    processor.process_all(timeout=10.0)

    recorded = [event.event_type for event in event_store.get_events(workflow.id)]
    state = EventReplayer(event_store).rebuild_workflow_state(workflow.id)
    assert recorded == [
        EventType.WORKFLOW_CREATED,
        EventType.WORKFLOW_STARTED,
        EventType.STAGE_STARTED,
        EventType.TASK_STARTED,
        EventType.TASK_COMPLETED,
        EventType.STAGE_COMPLETED,
        EventType.WORKFLOW_COMPLETED,
    ]
    assert heard == [kind.value for kind in recorded]
    assert state.status is WorkflowStatus.SUCCEEDED
    assert metrics.get_state()["hello"].success_rate == 100.0
    configure_event_sourcing(None)
    event_store.close()
    processor.close()
    store.close()
    queue.close()


def test_one_model_call(url: str) -> None:
    """The smallest agent of the agentic document answers."""
    with ScriptedModel(["It lets through what has a token."]) as model:
        client = LLMClient(model="glm-5.2", base_url=model.url, api="ollama")
        store = SqliteWorkflowStore(url, create_tables=True)
        queue = SqliteQueue(url)
        queue._create_table()
        registry = TaskRegistry()
        registry.register("llm", LLMTask(client=client))
        workflow = Workflow.create(
            application="demo",
            name="One-shot answer",
            stages=[
                StageExecution(
                    ref_id="answer",
                    type="llm",
                    name="Answer",
                    context={"prompt": "In one sentence, what is a token bucket rate limiter?"},
                    tasks=[
                        TaskExecution.create(name="answer", implementing_class="llm", stage_start=True, stage_end=True)
                    ],
                ),
            ],
        )
        processor = QueueProcessor(queue, store=store, task_registry=registry)
        orchestrator = Orchestrator(queue, store=store)
        store.store(workflow)
        orchestrator.start(workflow)
        processor.process_all(timeout=60)

        result = store.retrieve(workflow.id)
        assert result.stages[0].outputs["completion"] == "It lets through what has a token."
        processor.close()
        store.close()
        queue.close()


@tool
def account_balance(user_id: str) -> str:
    """Return the current balance for a user id."""
    return {"u_42": "17.50 EUR"}[user_id]


def test_agent_with_tool_and_approval(url: str) -> None:
    """The agent of the agentic document uses its tool, waits for a person, and finishes once approved."""
    script: list[Any] = [ToolCall(name="account_balance", arguments={"user_id": "u_42"}), "It is 17.50 EUR."]
    heard: list[str] = []
    with ScriptedModel(script) as model:
        client = LLMClient(model="glm-5.2", base_url=model.url, api="ollama")
        tools = ToolRegistry().add(account_balance)
        store = SqliteWorkflowStore(url, create_tables=True)
        queue = SqliteQueue(url)
        queue._create_table()
        registry = TaskRegistry()
        registry.register("agent", AgentLoopTask(client=client, tools=tools))
        registry.register("approval", ApprovalTask)
        workflow = Workflow.create(
            application="demo",
            name="Agent with approval",
            stages=[
                StageExecution(
                    ref_id="agent",
                    type="agent",
                    name="Look up balance",
                    context={"prompt": "What is user u_42's balance? Use the tool, then state it."},
                    tasks=[
                        TaskExecution.create(name="a", implementing_class="agent", stage_start=True, stage_end=True)
                    ],
                ),
                StageExecution(
                    ref_id="approve",
                    type="approval",
                    name="Human sign-off",
                    requisite_stage_ref_ids={"agent"},
                    tasks=[
                        TaskExecution.create(name="ap", implementing_class="approval", stage_start=True, stage_end=True)
                    ],
                ),
            ],
        )
        stream = WorkflowStream(workflow.id)
        stream.on_event(lambda item: heard.append(str(getattr(item.event_type, "value", item.event_type))))
        processor = QueueProcessor(queue, store=store, task_registry=registry)
        orchestrator = Orchestrator(queue, store=store)
        store.store(workflow)
        orchestrator.start(workflow)

        processor.process_all(timeout=90)
        gate = next(s for s in store.retrieve(workflow.id).stages if s.ref_id == "approve")
        assert gate.status == WorkflowStatus.SUSPENDED

        approve(queue, workflow.id, gate.id, {"user": "alice"})
        processor.process_all(timeout=30)

        done = store.retrieve(workflow.id)
        assert done.status == WorkflowStatus.SUCCEEDED
        assert done.stages[0].outputs["answer"] == "It is 17.50 EUR."
        assert done.stages[0].outputs["tool_invocations"] == [{"tool": "account_balance", "result": "17.50 EUR"}]
        assert done.stages[1].outputs == {"approved": True, "approval": {"user": "alice"}}
        assert "stage.suspended" in heard
        assert heard[-1] == "workflow.completed"
        stream.close()
        processor.close()
        store.close()
        queue.close()


def test_interrupted_work_resumes_in_the_background(url: str) -> None:
    """A processor that starts on a store with unfinished work goes on with it."""
    workflow = hello()
    with_store = SqliteWorkflowStore(url)
    queue = SqliteQueue(url)
    with_store.store(workflow)
    Orchestrator(queue).start(workflow)

    registry = TaskRegistry()
    registry.register("hello", HelloTask)
    config = QueueProcessorConfig(recover_on_start=True)
    processor = QueueProcessor(queue, config=config, store=with_store, task_registry=registry)
    processor.start()
    while not with_store.retrieve(workflow.id).status.is_complete:
        queue.database.changes.ticket().wait(0.05)

    assert with_store.retrieve(workflow.id).status is WorkflowStatus.SUCCEEDED
    processor.close()
    with_store.close()
    queue.close()


def test_flow_control_guide(url: str) -> None:
    """The guide's triage runs: an or-split, an or-join, a discriminator, a quorum, a gate with a signal, a retry."""
    store, queue, registry = SqliteWorkflowStore(url), SqliteQueue(url), TaskRegistry()
    seen: list[str] = []

    class Note(Task):
        def execute(self, stage: StageExecution) -> TaskResult:
            seen.append(stage.ref_id)
            return TaskResult.success(outputs=stage.context.get("gives", {}))

    class Approval(Task):
        def execute(self, stage: StageExecution) -> TaskResult:
            if stage.context.get("_signal_name") == "approved":
                return TaskResult.success(outputs={"approved_by": stage.context.get("_signal_data", {}).get("user")})
            return TaskResult.suspend()

    class Progress(Task):
        def execute(self, stage: StageExecution) -> TaskResult:
            processed = stage.context.get("processed_items", 0)
            if processed < 10:
                message = "Rate limited"
                raise TransientError(message, retry_after=0, context_update={"processed_items": processed + 10})
            return TaskResult.success(outputs={"total": processed})

    for name, task in (("note", Note), ("approval", Approval), ("progress", Progress)):
        registry.register(name, task)

    def part(ref_id: str, after: set[str] = frozenset(), task: str = "note", **fields: Any) -> StageExecution:  # type: ignore[assignment]
        tasks = [TaskExecution.create(ref_id, task, stage_start=True, stage_end=True)]
        return StageExecution(ref_id=ref_id, type=task, requisite_stage_ref_ids=set(after), tasks=tasks, **fields)

    workflow = Workflow.create(
        "guide",
        "triage",
        [
            part(
                "triage",
                context={"gives": {"emergency_type": "crime", "injury_severity": 0}},
                split_type=SplitType.OR,
                split_conditions={
                    "police": "emergency_type == 'crime' or emergency_type == 'accident'",
                    "ambulance": "injury_severity > 0",
                    "fire": "fire_detected == True",
                },
            ),
            part("police", {"triage"}),
            part("ambulance", {"triage"}),
            part("fire", {"triage"}),
            part("merge", {"police", "ambulance", "fire"}, join_type=JoinType.OR),
            part("check_breathing", {"merge"}),
            part("check_pulse", {"merge"}),
            part("care", {"check_breathing", "check_pulse"}, join_type=JoinType.DISCRIMINATOR),
            *(part(f"r{at}", {"care"}) for at in range(5)),
            part("proceed", {f"r{at}" for at in range(5)}, join_type=JoinType.N_OF_M, join_threshold=3),
            part("deploy", {"proceed"}, context={"stageEnabled": {"type": "expression", "expression": "env == 'x'"}}),
            part("sign", {"deploy"}, task="approval"),
            part("load", {"sign"}, task="progress"),
        ],
        context={"env": "production"},
    )
    processor = QueueProcessor(queue, store=store, task_registry=registry)
    store.store(workflow)
    Orchestrator(queue).start(workflow)
    processor.process_all(timeout=30)
    gate = store.retrieve(workflow.id).stage_by_ref_id("sign")
    queue.push(
        SignalStage(
            execution_type="workflow",
            execution_id=workflow.id,
            stage_id=gate.id,
            signal_name="approved",
            signal_data={"user": "alice"},
            persistent=True,
        )
    )
    processor.process_all(timeout=30)

    done = store.retrieve(workflow.id)
    statuses = {stage.ref_id: stage.status for stage in done.stages}
    assert done.status is WorkflowStatus.SUCCEEDED
    assert statuses["ambulance"] is statuses["fire"] is statuses["deploy"] is WorkflowStatus.SKIPPED
    assert [seen.count(ref) for ref in ("police", "merge", "care", "proceed")] == [1, 1, 1, 1]
    assert done.stage_by_ref_id("sign").outputs == {"approved_by": "alice"}
    assert done.stage_by_ref_id("load").outputs == {"total": 10}
    assert queue.size() == 0
    processor.close()
    store.close()
    queue.close()
