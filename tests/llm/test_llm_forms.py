"""Answers that follow a schema: what is asked for, what is accepted, and what is made of it."""

import json
from typing import Literal

import pydantic
import pytest

from stabilize_nb.errors import ConfigError, TransientError
from stabilize_nb.llm import ChatMessage, LLMClient, LLMTask
from stabilize_nb.models.stage import StageExecution
from stabilize_nb.testing import ScriptedModel, ToolCall
from tests.makers import Bench, stage, workflow

APIS = ["openai", "ollama"]
QUESTION = [ChatMessage("user", "Is it good?")]


class Verdict(pydantic.BaseModel):
    mood: Literal["good", "bad"]
    score: float = 0.5


class Closed(pydantic.BaseModel, extra="forbid"):
    score: float


SCHEMA = {"type": "object", "properties": {"score": {"type": "number"}}, "required": ["score"]}
FITS = '{"mood": "good", "score": 1}'


def ask(answer, schema, api="openai"):
    with ScriptedModel([answer]) as model:
        response = LLMClient("glm", base_url=model.url, api=api).chat(QUESTION, schema=schema)
    return response, model.requests[0].body


@pytest.mark.parametrize("api", APIS)
def test_answer_becomes_the_type(api):
    """The schema of a pydantic model goes to the server, and its answer comes as an instance."""
    response, body = ask(FITS, Verdict, api)

    sent = body["format"] if api == "ollama" else body["response_format"]["json_schema"]["schema"]
    assert sent["properties"]["mood"]["enum"] == ["good", "bad"]
    assert response.parsed == Verdict(mood="good", score=1)
    assert response.content == FITS


@pytest.mark.parametrize("api", APIS)
def test_answer_follows_a_schema(api):
    """A JSON schema goes to the server as it is, and the answer comes as data."""
    response, body = ask('{"score": 1, "more": true}', SCHEMA, api)

    assert (body["format"] if api == "ollama" else body["response_format"]["json_schema"]["schema"]) == SCHEMA
    assert response.parsed == {"score": 1, "more": True}


@pytest.mark.parametrize(("schema", "strict"), [(Verdict, False), (SCHEMA, False), (Closed, True)])
def test_strict_mode_is_asked_for_where_openai_takes_it(schema, strict):
    """A schema whose objects are closed and need all members is asked for strictly."""
    _, body = ask('{"mood": "good", "score": 1}' if schema is not Closed else '{"score": 1}', schema)

    assert body["response_format"]["json_schema"]["strict"] is strict


def test_fence_around_an_answer_is_taken_off():
    """An answer in a block of Markdown counts."""
    assert ask(f"```json\n{FITS}\n```", Verdict)[0].parsed.mood == "good"


@pytest.mark.parametrize(
    ("answer", "schema", "says"),
    [
        ('{"mood": "fair"}', Verdict, "mood: Input should be 'good' or 'bad'"),
        ('{"score": "high"}', SCHEMA, "$.score: 'high' is not of type 'number'"),
        ("[]", Verdict, "it: Input should be"),
        ("Very good!", Verdict, "Expecting value"),
    ],
)
def test_answer_that_does_not_fit_is_transient(answer, schema, says):
    """An answer that does not fit is an error that names the fault; the next one may fit."""
    with pytest.raises(TransientError, match="does not fit the schema") as caught:
        ask(answer, schema)

    assert says in str(caught.value)


def test_call_of_a_tool_is_no_answer():
    """An answer that calls a tool is not looked at for the schema."""
    response, _ = ask(ToolCall(name="f"), Verdict)

    assert response.parsed is None


@pytest.mark.parametrize("schema", [42, {"type": "objekt"}])
def test_what_is_no_schema_is_refused(schema):
    """A schema that is none is refused before anything is asked."""
    with pytest.raises(ConfigError, match="schema is"):
        LLMClient("glm", base_url="http://127.0.0.1:1").chat(QUESTION, schema=schema)


def test_streamed_answer_has_the_type_too():
    """The last item of a stream is parsed as well."""
    with ScriptedModel([FITS]) as model:
        *_, whole = LLMClient("glm", base_url=model.url).stream(QUESTION, schema=Verdict)

    assert whole.parsed == Verdict(mood="good", score=1)


def test_task_puts_out_what_the_answer_says():
    """The output of a task with a schema is data, defaults included."""
    with ScriptedModel(['{"mood": "bad"}']) as model:
        task = LLMTask(LLMClient("glm", base_url=model.url), schema=Verdict)
        result = task.execute(StageExecution(ref_id="judge", context={"prompt": "Is it good?"}))

    assert result.outputs["completion"] == {"mood": "bad", "score": 0.5}


def test_schema_may_stand_in_the_context_and_a_misfit_is_asked_again():
    """In an engine an answer that does not fit is asked for again, and the one that fits is put out."""
    with ScriptedModel(["nonsense", json.dumps({"score": 3})]) as model:
        task = LLMTask(LLMClient("glm", base_url=model.url))
        with Bench(tasks={"ask": task}) as bench:
            done = bench.run(workflow(stage("a", task="ask", context={"prompt": "well?", "schema": SCHEMA}))).stages[0]

    assert done.outputs["completion"] == {"score": 3}
    assert len(model.requests) == 2
