"""Words of a model as they come: in the log of the stage and in the stream of the run, each once."""

import threading
import time

import pytest

from stabilize_nb import Engine, JoinType, NoOpTask, WorkflowStream
from stabilize_nb.llm import AgentLoopTask, LLMClient, LLMTask, ToolRegistry
from stabilize_nb.queue.processor.config import QueueProcessorConfig
from stabilize_nb.testing import Reply, ScriptedModel, ToolCall
from tests.makers import stage, workflow

WORDS = [f"w{number}" for number in range(40)]
TEXT = " ".join(WORDS)


@pytest.fixture
def engine(tmp_path):
    with Engine(tmp_path / "runs.db", config=QueueProcessorConfig(task_output="keep")) as engine:
        yield engine


def asking(engine: Engine, task):
    """Start a run of one stage that asks."""
    engine.registry.register("ask", task)
    return engine.start(workflow(stage("ask", task="ask", context={"prompt": "Count."})))


def until(look):
    deadline = time.monotonic() + 20
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found


def connections() -> int:
    """Return how many connections the server has."""
    return sum("process_request_thread" in each.name for each in threading.enumerate())


def test_log_has_the_words_that_have_come(engine):
    """While the model speaks the log has what it has said so far, and in the end every word once."""
    with ScriptedModel([TEXT], pace=0.5) as model:
        run = asking(engine, LLMTask(LLMClient("glm", base_url=model.url)))
        begun = until(lambda: run.log("ask"))
        model.pace = 0
        run.wait(30)

    assert TEXT.startswith(begun.strip())
    assert len(begun) < len(TEXT)
    assert run.log("ask") == TEXT + "\n"
    assert run.workflow.stages[0].outputs["completion"] == TEXT


def test_stream_of_the_run_has_the_words_as_progress(engine):
    """Whoever follows the run gets the words in order, a few at a time, and no other text of the model."""
    with ScriptedModel([TEXT], pace=0.02) as model:
        run = asking(engine, LLMTask(LLMClient("glm", base_url=model.url)))
        with WorkflowStream(run.id) as stream:
            told = [item.data for item in stream.follow() if item.data.get("kind") == "tokens"]

    assert "".join(each["message"] for each in told) == TEXT
    assert {each["stage_ref_id"] for each in told} == {"ask"}
    assert 1 < len(told) <= 2 + 40 * 0.02 / 0.1 * 5


def test_answer_that_broke_off_stays_on_a_line_of_its_own(engine):
    """The words of an attempt that failed are kept, and those of the next begin a line."""
    with ScriptedModel([Reply(text="one two three", cut_after=2), "one two three"]) as model:
        run = asking(engine, LLMTask(LLMClient("glm", base_url=model.url)))
        run.wait(30)

    assert run.log("ask") == "one two \none two three\n"


def test_turns_of_an_agent_are_lines_among_the_prints_of_its_tools(engine):
    """What the agent says before a call, what the tool prints, and the answer stand in the order of time."""

    def look() -> str:
        print("looking")
        return "12 EUR"

    with ScriptedModel([Reply(text="Let me see.", tool_calls=[ToolCall(name="look")]), "It is 12 EUR."]) as model:
        run = asking(engine, AgentLoopTask(LLMClient("glm", base_url=model.url), ToolRegistry([look])))
        run.wait(30)

    assert run.log("ask") == "Let me see.\nlooking\nIt is 12 EUR.\n"


def test_calls_that_were_committed_are_not_told_again(engine):
    """An agent whose second call fails goes on with the words of that call: those of the first are there once."""
    script = [Reply(text="Let me see.", tool_calls=[ToolCall(name="look")]), Reply(text="It is", cut_after=1), "It is."]

    def look() -> str:
        return "12 EUR"

    with ScriptedModel(script) as model:
        run = asking(engine, AgentLoopTask(LLMClient("glm", base_url=model.url), ToolRegistry([look])))
        run.wait(30)

    assert run.log("ask") == "Let me see.\nIt \nIt is.\n"


def test_nothing_is_told_where_a_task_does_not_stream(engine):
    """With stream=False the answer is asked for as a whole and only put out."""
    with ScriptedModel([TEXT]) as model:
        run = asking(engine, LLMTask(LLMClient("glm", base_url=model.url), stream=False))
        run.wait(30)

    assert run.log() == ""
    assert model.requests[0].body["stream"] is False


def test_words_are_not_printed_on_a_terminal(tmp_path, capsys):
    """Where prints appear on a terminal too, the words of several agents at once do not."""
    with (
        Engine(tmp_path / "runs.db", config=QueueProcessorConfig(task_output="echo")) as engine,
        ScriptedModel([TEXT]) as model,
    ):
        run = asking(engine, LLMTask(LLMClient("glm", base_url=model.url)))
        run.wait(30)

    assert run.id
    assert "w7" not in capsys.readouterr().out


def test_withdrawn_call_is_broken_off(engine):
    """When a run is cancelled the connection to a model that still speaks is closed: nobody pays for the rest."""
    with ScriptedModel([" ".join(WORDS * 100)], pace=0.05) as model:
        run = asking(engine, LLMTask(LLMClient("glm", base_url=model.url)))
        until(lambda: run.log("ask"))
        run.cancel()
        run.wait(30)
        until(lambda: connections() == 0)

    assert run.status.name == "CANCELED"
    assert not model.calls[0].is_whole


def test_loser_of_a_race_is_broken_off(engine):
    """The call of an agent whose rival has answered is broken off, and the run goes on with the first answer."""
    with ScriptedModel({"slow": " ".join(WORDS * 100), "quick": "mine"}, pace=0.05) as model:
        engine.registry.register("ask", LLMTask(LLMClient("glm", base_url=model.url)))
        stages = [stage(name, task="ask", context={"prompt": name}) for name in ("slow", "quick")]
        first = stage("first", "slow", "quick", join_type=JoinType.DISCRIMINATOR, join_cancel_remaining=True)
        engine.registry.register("noop", NoOpTask)
        run = engine.start(workflow(*stages, first))
        run.wait(30)
        until(lambda: connections() == 1)  # the one on which the answer came

    assert {each.ref_id: each.status.name for each in run.workflow.stages} == {
        "slow": "CANCELED", "quick": "SUCCEEDED", "first": "SUCCEEDED",
    }  # fmt: skip
    assert sorted(call.is_whole for call in model.calls) == [False, True]
