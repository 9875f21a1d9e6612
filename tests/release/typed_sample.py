"""A program that uses the public API with types: mypy --strict and pyright find nothing wrong with it."""

from typing import Any, assert_type

from stabilize_nb import (
    Budget,
    Engine,
    Flow,
    JoinType,
    Run,
    StageExecution,
    Task,
    TaskExecution,
    TaskResult,
    TransientError,
    Workflow,
    WorkflowStatus,
    WorkflowStream,
    approve,
    compare,
)
from stabilize_nb.flow import FlowStage, jump
from stabilize_nb.gates import Gate
from stabilize_nb.llm import Agent, LLMClient, tool


class Doubling(Task):
    def execute(self, stage: StageExecution) -> TaskResult:
        if stage.context.get("busy"):
            raise TransientError("busy", retry_after=1.0)
        return TaskResult.success(outputs={"doubled": 2 * stage.context["number"]})


@tool
def search(query: str) -> str:
    """Look something up."""
    return query


flow = Flow("typed", budget=Budget(usd=1.0))
agent = Agent(LLMClient("any-model"), [search])


@flow.stage
def plan(question: str) -> dict[str, list[str]]:
    return {"topics": [question]}


@flow.stage(each="topics", after=plan, retry=3, timeout=60)
async def look(topic: str, stage: StageExecution) -> Any:
    return await agent.ask(stage, topic)


@flow.stage(join="any")
def report(look: list[str]) -> str:
    if not look:
        jump("plan", question="again")
    return ", ".join(look)


assert_type(flow.approval("Publish?", after=report, form={"note": str}), FlowStage)
assert_type(flow.task(Doubling(), "doubled", after="report"), FlowStage)
assert_type(flow.shell("echo {report}", name="said", retry=1), FlowStage)


def go(engine: Engine) -> None:
    run = engine.start(flow, question="why")
    assert_type(run, Run)
    assert_type(run.until_gate(10), list[Gate])
    run.approve(note="good")
    assert_type(run.wait(10), WorkflowStatus)
    assert_type(run.explain(), list[str])
    assert_type(run.explain("plan"), str)
    assert_type(run.outputs, dict[str, dict[str, Any]])
    assert_type(run.fork("look", inputs={"question": "how"}), Run)
    assert_type(compare(run, run).differences, dict[str, list[str]])
    for item in WorkflowStream(run.id).follow():
        assert_type(item.sequence, int)


async def wait(run: Run) -> None:
    await run


stage = StageExecution(
    ref_id="one",
    join_type=JoinType.N_OF_M,
    join_threshold=1,
    tasks=[TaskExecution.create("one", "doubling", stage_start=True, stage_end=True)],
)
workflow = Workflow.create("typed", "sample", [stage])
assert_type(workflow.stages, list[StageExecution])


def decide(engine: Engine) -> None:
    approve(engine.queue, workflow.id, stage.id, {"user": "ada"})
