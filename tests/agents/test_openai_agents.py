"""Agents of the OpenAI Agents SDK as bodies of stages: their paid calls are made once, counted and charged."""

import pytest
from agents import Agent, OpenAIChatCompletionsModel, RunConfig, RunContextWrapper, Runner, function_tool
from openai import AsyncOpenAI

from stabilize_nb import Budget, Engine, Flow, StageExecution
from stabilize_nb.agents.openai_agents import DurableModel, durable_tool
from stabilize_nb.testing import Failure, Reply, ScriptedModel, ToolCall

called = []


@function_tool
async def note(context: RunContextWrapper[StageExecution], text: str) -> str:
    """Write a note."""
    called.append(text)
    return f"{text}: {(await context.context.ask_async(f'Note {text}?')).choice}" if text == "asked" else text


@pytest.fixture(autouse=True)
def _nothing_called():
    called.clear()


def asks(script, *, streamed=False, **words):
    """Make a flow of one stage that lets an agent answer."""
    flow = Flow("agent", **words)

    @flow.stage
    async def work(stage: StageExecution) -> dict:
        agent = Agent("noter", tools=[durable_tool(stage, note)])
        async with AsyncOpenAI(base_url=f"{script.url}/v1", api_key="none", max_retries=0) as client:
            model = DurableModel(stage, OpenAIChatCompletionsModel("any", openai_client=client))
            config = RunConfig(model=model, tracing_disabled=True)
            if streamed:
                stream = Runner.run_streamed(agent, "Go.", context=stage, run_config=config)
                return {"answer": [event async for event in stream.stream_events()]}
            return {"answer": (await Runner.run(agent, "Go.", context=stage, run_config=config)).final_output}

    return flow


def notes(*texts):
    return Reply(text="", tool_calls=[ToolCall(name="note", arguments={"text": text}, id=text) for text in texts])


def ended(run):
    """Wait for the end of a run and return its stage."""
    run.wait(30)
    return run.workflow.stages[0]


def test_body_that_waited_for_a_person_asks_no_model_and_no_tool_again():
    """A tool asks a person; with the answer the agent goes on with what it had, and `run.calls` has each call once."""
    with ScriptedModel([notes("one"), notes("asked"), "done"]) as model, Engine(":memory:") as engine:
        run = engine.start(asks(model, budget=Budget(tokens=20_000, answer_tokens=100)))
        (gate,) = run.until_gate(30)
        assert gate.question == "Note asked?"
        run.approve(gate)
        stage, calls = ended(run), run.calls

    assert stage.outputs["answer"] == "done"
    assert called == ["one", "asked", "asked"]
    assert len(model.requests) == 3
    assert model.requests[2].body["messages"][-1]["content"] == "asked: approve"
    assert [request.body["max_tokens"] for request in model.requests] == [100] * 3
    answered = calls[calls["status"] == "answered"]
    assert answered["target"].tolist() == ["any", "note", "any", "note", "any"]
    assert answered["input_tokens"].dropna().tolist() == [call.prompt_tokens for call in model.calls]


def test_busy_server_is_asked_again_by_the_engine():
    """An answer that says "later" puts the stage back, and what was asked before is not asked again."""
    with (
        ScriptedModel([notes("one"), Failure(status=429, retry_after=0), "done"]) as model,
        Engine(":memory:") as engine,
    ):
        stage = ended(engine.start(asks(model)))

    assert stage.outputs["answer"] == "done"
    assert [request.turn for request in model.requests] == [0, 1, 1]
    assert called == ["one"]


def test_budget_stops_the_call_that_is_too_much():
    """The second question is not asked."""
    with ScriptedModel([notes("one"), "done"]) as model, Engine(":memory:") as engine:
        stage = ended(engine.start(asks(model, budget=Budget(calls=1))))

    assert "budget" in stage.error
    assert len(model.requests) == 1


def test_stream_is_refused():
    """The sentence says what to use, and nothing is asked."""
    with ScriptedModel(["done"]) as model, Engine(":memory:") as engine:
        stage = ended(engine.start(asks(model, streamed=True)))

    assert "use Runner.run in place of Runner.run_streamed" in stage.error
    assert model.requests == []
