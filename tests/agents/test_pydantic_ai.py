"""Agents of pydantic-ai as bodies of stages: their paid calls are made once, counted and charged."""

import subprocess
import sys
import threading

from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from stabilize_nb import Budget, Engine, Flow, StageExecution
from stabilize_nb.agents.pydantic_ai import Durable
from stabilize_nb.testing import Failure, Reply, ScriptedModel, ToolCall, by_turn

#: Runs the agent to its end; begun again on the same store, it goes on.
WORKER = """
import sys
from pathlib import Path
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from stabilize_nb import Engine, Flow, StageExecution
from stabilize_nb.agents.pydantic_ai import Durable

agent = Agent()
flow = Flow("agent")

@agent.tool_plain
def note(text: str) -> str:
    with Path("notes").open("a") as file:
        file.write(f"{text}\\n")
    return "noted"

@flow.stage
async def work(stage: StageExecution) -> dict:
    async with OpenAIChatModel("any", provider=OpenAIProvider(base_url=sys.argv[1], api_key="none")) as model:
        return {"answer": (await agent.run("Go.", model=model, capabilities=[Durable(stage)])).output}

with Engine("runs.db") as engine:
    flow.register(engine.registry)
    runs = engine.resume()
    run = runs[0] if runs else engine.start(flow)
    run.wait(30)
    print(run.workflow.stages[0].outputs["answer"], end="")
"""


def asks(agent, script, **words):
    """Make a flow of one stage that lets an agent answer."""
    flow = Flow("agent", **words)

    @flow.stage
    async def work(stage: StageExecution) -> dict:
        provider = OpenAIProvider(base_url=f"{script.url}/v1", api_key="none")
        async with OpenAIChatModel("any", provider=provider) as model:
            found = await agent.run("Go.", model=model, deps=stage, capabilities=[Durable(stage)])
        return {"answer": found.output}

    return flow


def ended(run):
    """Wait for the end of a run and return its stage."""
    run.wait(30)
    return run.workflow.stages[0]


def notes(*texts):
    return Reply(text="", tool_calls=[ToolCall(name="note", arguments={"text": text}, id=text) for text in texts])


def test_killed_agent_goes_on_at_the_call_that_was_in_flight(tmp_path):
    """SIGKILL during the third question: it alone is asked again, and each tool was called once."""
    asked = threading.Event()
    answers = by_turn([notes("one", "two"), notes("three"), notes("four"), "done"])

    def answer(request):
        if request.turn == 2 and not asked.is_set():
            asked.set()
            return Reply(text="late", delay=60)
        return answers(request)

    with ScriptedModel(answer) as model:
        command = [sys.executable, "-c", WORKER, f"{model.url}/v1"]
        with subprocess.Popen(command, cwd=tmp_path) as killed:
            assert asked.wait(60)
            killed.kill()
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "done"
    assert [request.turn for request in model.requests] == [0, 1, 2, 2, 3]
    assert sorted((tmp_path / "notes").read_text().split()) == ["four", "one", "three", "two"]


def test_tool_asks_a_person_and_a_model_is_corrected():
    """A body that waited for a person goes on with the answers it has; a call that a tool refused stays refused."""
    agent = Agent(deps_type=StageExecution)
    called = []

    @agent.tool
    async def note(context: RunContext[StageExecution], text: str) -> dict:
        called.append(text)
        if text == "bad":
            raise ModelRetry("say it better")
        return {"said": (await context.deps.ask_async(f"Note {text}?")).choice}

    with ScriptedModel([notes("bad"), notes("good"), "done"]) as model, Engine(":memory:") as engine:
        run = engine.start(asks(agent, model))
        (gate,) = run.until_gate(30)
        assert gate.question == "Note good?"
        run.approve(gate)
        stage = ended(run)

    assert stage.outputs["answer"] == "done"
    assert called == ["bad", "good", "good"]
    assert len(model.requests) == 3
    assert model.requests[1].body["messages"][-1]["content"] == '{"error":"say it better"}'
    assert '"said":"approve"' in str(model.requests[2].body["messages"])


def test_calls_are_counted_and_charged():
    """`run.calls` has requests and tools with what they took, and the budget stops the request that is too much."""
    agent = Agent()

    @agent.tool_plain
    def note(text: str) -> str:
        return text

    with ScriptedModel([notes("one"), notes("two"), "done"]) as model, Engine(":memory:") as engine:
        run = engine.start(asks(agent, model, budget=Budget(calls=2)))
        stage, calls = ended(run), run.calls
    assert len(model.requests) == 2
    assert calls["kind"].tolist() == ["model", "tool", "model", "tool"]
    assert calls["target"].tolist() == ["any", "note", "any", "note"]
    taken = calls[calls["kind"] == "model"]
    assert taken["input_tokens"].tolist() == [call.prompt_tokens for call in model.calls]
    assert taken["output_tokens"].tolist() == [call.completion_tokens for call in model.calls]
    assert "budget" in stage.error


def test_budget_bounds_the_answer():
    """A model is asked for no more tokens than the budget has left."""
    with ScriptedModel(["done"]) as model, Engine(":memory:") as engine:
        run = engine.start(asks(Agent(), model, budget=Budget(tokens=5_000, answer_tokens=100)))
        stage = ended(run)

    assert stage.outputs["answer"] == "done"
    assert model.requests[0].body["max_completion_tokens"] == 100


def test_busy_server_is_asked_again_by_the_engine():
    """An answer that says "later" puts the stage back, and what was asked before is not asked again."""
    agent = Agent()

    @agent.tool_plain
    def note(text: str) -> str:
        return text

    later = [Failure(status=503)] * 3  # the client of OpenAI tries three times by itself
    with ScriptedModel([notes("one"), *later, "done"]) as model, Engine(":memory:") as engine:
        run = engine.start(asks(agent, model))
        stage = ended(run)

    assert stage.outputs["answer"] == "done"
    assert [request.turn for request in model.requests] == [0, 1, 1, 1, 1]


def test_streamed_answer_is_not_asked_for_again():
    """An answer that came word by word is replayed to a body that is run again."""
    agent, flow, heard = Agent(), Flow("streams"), []

    @flow.stage
    async def work(stage: StageExecution) -> dict:
        provider = OpenAIProvider(base_url=f"{model.url}/v1", api_key="none")
        async with (
            OpenAIChatModel("any", provider=provider) as asked,
            agent.run_stream("Go.", model=asked, capabilities=[Durable(stage)]) as streamed,
        ):
            heard.append([words async for words in streamed.stream_text(debounce_by=None)][-1])
        return {"choice": (await stage.ask_async("Good?")).choice}

    with ScriptedModel(["It is very good."]) as model, Engine(":memory:") as engine:
        run = engine.start(flow)
        run.until_gate(30)
        run.approve()
        stage = ended(run)

    assert stage.outputs["choice"] == "approve"
    assert heard == ["It is very good."] * 2
    assert len(model.requests) == 1
