"""Agents that are asked in the bodies of stages: what they answer, what is journaled, and what a run says of it."""

import threading

import pytest

from stabilize_nb import Engine, Flow, RunFailedError
from stabilize_nb.errors import ConfigError
from stabilize_nb.llm import Agent, LLMClient, ToolContext
from stabilize_nb.testing import Failure, Reply, ScriptedModel, ToolCall

MOOD = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}


@pytest.fixture
def engine():
    with Engine(":memory:") as opened:
        yield opened


def noting(keys):
    """Make a tool that notes its keys."""

    def note(text: str, call: ToolContext) -> str:
        """Note a text."""
        keys.append((text, call.number, call.idempotency_key))
        return f"noted {text}"

    return note


def test_stage_asks_one_agent_after_the_other(engine):
    """Text or data come back; every call is noted, and no two calls of tools have the same key."""
    keys = []
    rules = {
        r"^note (\w+)": ToolCall(name="note", arguments={"text": "$1"}),
        r"^noted (\w+)": "I have $1.",
        "how": '{"mood": "good"}',
    }
    with ScriptedModel(rules) as model:
        client = LLMClient("any", base_url=model.url)
        clerk, critic = Agent(client, [noting(keys)], system="You note."), Agent(client, schema=MOOD)
        flow = Flow("asks")

        @flow.stage
        async def talk(stage):
            said = [await clerk.ask(stage, f"note {word}") for word in ("tea", "milk")]
            return {"said": said, "mood": (await critic.ask(stage, "how is it?"))["mood"]}

        run = engine.start(flow)

        assert run.result(10) == {"said": ["I have tea.", "I have milk."], "mood": "good"}
        assert [each["role"] for each in model.requests[0].messages] == ["system", "user"]
    assert [(text, number) for text, number, _ in keys] == [("tea", 1), ("milk", 2)]
    assert len({key for *_, key in keys}) == 2
    assert [*run.calls["kind"]] == ["model", "tool", "model"] * 2 + ["model"]


def test_agent_that_was_answered_is_not_asked_again(engine):
    """A body that is tried again finds the answers and results that it had, under the same keys."""
    keys, failures = [], [Failure(status=503, retry_after=0)]
    rules = {
        "^note ": ToolCall(name="note", arguments={"text": "tea"}),
        "^noted": "It is noted.",
        "^and": lambda request: failures.pop() if failures else "done",
    }
    with ScriptedModel(rules) as model:
        clerk = Agent(LLMClient("any", base_url=model.url), [noting(keys)])
        flow = Flow("again")

        @flow.stage
        async def talk(stage):
            await clerk.ask(stage, "note tea")
            return await clerk.ask(stage, "and then?")

        assert engine.start(flow).result(10) == "done"
        assert [request.last for request in model.requests] == ["note tea", "noted tea", "and then?", "and then?"]
    assert len(keys) == 1


def test_agent_without_an_answer_fails_its_stage(engine):
    """A model that calls tools for ever is stopped by the bound, and a bound that is none is refused."""
    with ScriptedModel({".": ToolCall(name="note", arguments={"text": "tea"})}) as model:
        clerk = Agent(LLMClient("any", base_url=model.url), [noting([])], max_iterations=2)
        flow = Flow("endless")

        @flow.stage
        async def talk(stage):
            return await clerk.ask(stage, "note tea")

        with pytest.raises(RunFailedError, match="gave no answer within 2 model calls: raise max_iterations"):
            engine.start(flow).result(10)
        assert len(model.requests) == 2
        with pytest.raises(ConfigError, match="max_iterations=0"):
            Agent(clerk.client, max_iterations=0)


def test_calls_of_earlier_passes_of_a_loop_stay(engine):
    """Instances are made anew in each pass; `run.calls` has the calls of all of them, and pruning leaves none."""
    with ScriptedModel({r"^say (\w+)": "$1"}) as model:
        agent = Agent(LLMClient("any", base_url=model.url))
        flow = Flow("passes")
        with flow.loop("twice", while_="iteration_count < 2"):

            @flow.stage(each="words")
            async def say(word, stage):
                return await agent.ask(stage, f"say {word}")

        run = engine.start(flow, words=["tea", "milk"])
        run.result(10)

        assert [*run.calls.groupby("stage", observed=True).size().items()] == [
            ("say_instance_0", 2),
            ("say_instance_1", 2),
        ]
        assert run.calls["stage_id"].nunique() == 4
        assert len(model.requests) == 4
    engine.prune(keep=0)
    left = engine.database.read(lambda connection: [*connection.raw.execute("SELECT count(*) FROM journal")])
    assert left == [(0,)]


def test_call_of_a_stage_that_is_withdrawn_is_broken_off(engine):
    """The loser of a race hears at once that nobody wants its answer any more."""
    broken = threading.Event()
    with ScriptedModel({"fast": "done", "slow": Reply(text="late", delay=60)}) as model:
        agent = Agent(LLMClient("any", base_url=model.url))
        flow = Flow("race")

        @flow.stage
        async def fast(stage):
            return await agent.ask(stage, "fast")

        @flow.stage
        async def slow(stage):
            try:
                return await agent.ask(stage, "slow")
            finally:
                broken.set()

        @flow.stage(join="any", cancel_rest=True)
        def first(fast, slow):
            return fast or slow

        assert engine.start(flow).result(20) == "done"
        assert broken.wait(20)
