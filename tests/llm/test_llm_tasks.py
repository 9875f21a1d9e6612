import asyncio
import json

import pytest

from stabilize_nb.errors import PermanentError, TransientError
from stabilize_nb.llm import (
    AgentLoopTask,
    ChatMessage,
    ChatResponse,
    LLMClient,
    LLMTask,
    ToolCall,
    ToolContext,
    ToolRegistry,
    tool,
)
from stabilize_nb.models.stage import StageExecution
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.testing import Failure, Reply, ScriptedModel
from tests.makers import Bench, stage, workflow

APIS = ["openai", "ollama"]
LOOK = ToolCall(name="account_balance", arguments={"user_id": "u_42"})


class Journal:
    """A stage runtime that keeps the results of steps as JSON text, and may crash behind one of them."""

    def __init__(self):
        self.kept = {}
        self.made = []
        self.crash_behind = None
        self.cancelled = False
        self.idempotency_key = "call"
        self.told = []
        self.begin()

    def progress(self, fraction, message, data):
        self.told.append(message)

    def begin(self):
        self.seen = {}
        self.tool_calls = 0

    async def call_async(self, call):
        name = call.name
        self.seen[name] = self.seen.get(name, 0) + 1
        key = (name, self.seen[name])
        if key not in self.kept:
            self.kept[key] = json.dumps(await call.make(None), allow_nan=False)
            self.made.append(key)
            if len(self.made) == self.crash_behind:
                raise KeyboardInterrupt
        return json.loads(self.kept[key])


class Client:
    """A client that answers from a list and notes what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def chat(self, messages, tools=None, temperature=None):
        self.asked.append((messages, tools, temperature))
        return self.answers.pop(0)


def make_stage(runtime=None, **context):
    return StageExecution(ref_id="agent", context={"prompt": "What is u_42's balance?", **context}, runtime=runtime)


def make_tools(*, log=None):
    @tool
    def account_balance(user_id: str) -> str:
        """Return the current balance for a user id."""
        if log is not None:
            log.append(user_id)
        return f"{user_id} has 12 EUR"

    return ToolRegistry().add(account_balance)


@pytest.mark.parametrize("api", APIS)
def test_one_question_gives_a_completion(api):
    """The prompt is asked once; the text and the whole answer of the server are the outputs."""
    with ScriptedModel(["A bucket of tokens."]) as model:
        task = LLMTask(client=LLMClient("glm", base_url=model.url, api=api))
        result = task.execute(make_stage(system="Be brief.", temperature=0.1))

    assert result.status is WorkflowStatus.SUCCEEDED
    assert result.outputs["completion"] == "A bucket of tokens."
    assert result.outputs["llm_raw"]["model"] == "glm"
    assert [message["role"] for message in model.requests[0].body["messages"]] == ["system", "user"]


def test_context_says_what_is_asked():
    """Messages replace the prompt, and the context names model and output key."""
    with ScriptedModel(["fine"]) as model:
        task = LLMTask(client=LLMClient("glm", base_url=model.url))
        turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
        result = task.execute(make_stage(messages=turns, system="unused", model="big", output_key="draft"))

    assert set(result.outputs) == {"draft", "llm_raw"}
    assert model.requests[0].body["messages"] == turns
    assert model.requests[0].body["model"] == "big"


@pytest.mark.parametrize("make", [LLMTask, AgentLoopTask])
def test_stage_without_question_is_refused(make):
    """A stage with neither prompt nor messages fails with a sentence that says so."""
    with pytest.raises(PermanentError, match="stage 'empty' has nothing to ask"):
        make(Client()).execute(StageExecution(ref_id="empty"))


def test_any_object_with_chat_is_a_client():
    """A client needs chat(messages, tools, temperature) only, and its answer content and tool_calls."""
    client = Client(ChatResponse("fine"))

    result = LLMTask(client).execute(make_stage(temperature=0.3))

    assert result.outputs == {"completion": "fine", "llm_raw": {}}
    assert client.asked == [([ChatMessage("user", "What is u_42's balance?")], None, 0.3)]


def test_client_that_returns_something_else_is_refused():
    """An answer without content is refused with what came and what is expected."""
    with pytest.raises(PermanentError, match=r"Client\.chat returned a str; an object with content"):
        LLMTask(Client("text")).execute(make_stage())


def test_raw_answer_is_mended():
    """Numbers and text in a client's raw answer that JSON cannot hold are replaced, so that no answer is lost."""
    answer = ChatResponse("fine", raw={"n": float("nan"), "id": 2**70, "text": "a\0\ud83d"})

    result = LLMTask(Client(answer)).execute(make_stage())

    assert result.outputs["llm_raw"] == {"n": None, "id": str(2**70), "text": "a\ufffd\ufffd"}


def test_raw_answer_of_a_foreign_class_is_refused():
    """An object in a client's raw answer is never turned into text: the stage fails and says where it is."""
    answer = ChatResponse("fine", raw={"at": {1}})
    with Bench(tasks={"ask": LLMTask(Client(answer))}) as bench:
        done = bench.run(workflow(stage("a", task="ask", context={"prompt": "well?"}))).stages[0]

    assert done.status.name == "TERMINAL"
    assert "step 'model' result.raw.at is of type set" in done.error


@pytest.mark.parametrize("api", APIS)
def test_agent_calls_tools_until_it_answers(api):
    """The model's calls are carried out, their results go back to it, and its text is the answer."""
    with ScriptedModel([LOOK, "The balance is 12 EUR."]) as model:
        task = AgentLoopTask(client=LLMClient("glm", base_url=model.url, api=api), tools=make_tools())
        result = task.execute(make_stage())

    first, second = model.requests
    assert first.body["tools"][0]["function"]["name"] == "account_balance"
    assert [message["role"] for message in second.body["messages"]] == ["user", "assistant", "tool"]
    assert second.body["messages"][2]["content"] == "u_42 has 12 EUR"
    assert result.status is WorkflowStatus.SUCCEEDED
    assert result.outputs == {
        "answer": "The balance is 12 EUR.",
        "tool_invocations": [{"tool": "account_balance", "result": "u_42 has 12 EUR"}],
        "iterations": 2,
    }


@pytest.mark.parametrize("api", APIS)
def test_several_calls_of_one_turn_run_in_order(api):
    """Calls of one turn run in the model's order and each result carries the id of its call."""
    calls = [ToolCall(name="account_balance", arguments={"user_id": user}) for user in ("a", "b")]
    with ScriptedModel([Reply(tool_calls=calls), "done"]) as model:
        task = AgentLoopTask(LLMClient("glm", base_url=model.url, api=api), make_tools())
        result = task.execute(make_stage())

    asked, *answered = model.requests[1].body["messages"][1:]
    assert [call["id"] for call in asked["tool_calls"]] == [turn["tool_call_id"] for turn in answered]
    assert [each["result"] for each in result.outputs["tool_invocations"]] == ["a has 12 EUR", "b has 12 EUR"]


def test_tool_errors_go_back_to_the_model():
    """An unknown tool and garbled arguments are results that start with ERROR, and the loop goes on."""
    script = [ToolCall(name="nope"), ToolCall(name="account_balance", arguments='{"user'), "sorry"]
    with ScriptedModel(script) as model:
        result = AgentLoopTask(LLMClient("glm", base_url=model.url), make_tools()).execute(make_stage())

    assert result.outputs["answer"] == "sorry"
    assert [each["result"][:6] for each in result.outputs["tool_invocations"]] == ["ERROR:", "ERROR:"]
    assert model.requests[2].body["messages"][-1]["content"].startswith("ERROR: the arguments")


def test_calls_in_wire_form_are_understood():
    """A client may hand on the tool calls of its server as they are."""
    wire = {"id": "c1", "function": {"name": "account_balance", "arguments": '{"user_id": "x"}'}}
    client = Client(ChatResponse("", tool_calls=[wire]), ChatResponse("done"))

    result = AgentLoopTask(client, make_tools()).execute(make_stage())

    assert result.outputs["tool_invocations"] == [{"tool": "account_balance", "result": "x has 12 EUR"}]


@pytest.mark.parametrize("given", ["task", "context"])
def test_loop_is_bounded(given):
    """After max_iterations model calls without an answer the task is FAILED_CONTINUE and says so."""
    bound = {"max_iterations": 3}
    with ScriptedModel([LOOK] * 9) as model:
        client = LLMClient("glm", base_url=model.url)
        task = AgentLoopTask(client, make_tools(), **(bound if given == "task" else {}))
        result = task.execute(make_stage(**(bound if given == "context" else {})))

    assert result.status is WorkflowStatus.FAILED_CONTINUE
    assert result.context["error"] == "agent 'agent' gave no answer within 3 iterations: raise max_iterations"
    assert result.outputs["iterations"] == 3
    assert result.outputs["answer"] == ""
    assert len(result.outputs["tool_invocations"]) == len(model.requests) == 3


def test_default_bound_is_eight():
    """Without a bound eight model calls are made."""
    with ScriptedModel([LOOK] * 9) as model:
        AgentLoopTask(LLMClient("glm", base_url=model.url), make_tools()).execute(make_stage())

    assert len(model.requests) == 8


@pytest.mark.parametrize("bound", [0, -1, "3", True, None, 2.5])
def test_odd_bound_is_refused(bound):
    """A bound that is no whole number from 1 is refused."""
    with pytest.raises(PermanentError, match="max_iterations"):
        AgentLoopTask(Client()).execute(make_stage(max_iterations=bound))


def test_every_call_is_a_step():
    """Model and tool calls are durable steps under the names of the journal, with results that JSON holds."""
    journal = Journal()
    with ScriptedModel([LOOK, "done"]) as model:
        task = AgentLoopTask(LLMClient("glm", base_url=model.url), make_tools())
        asyncio.run(task.execute(make_stage(journal)))

    assert journal.made == [("model", 1), ("tool:account_balance", 1), ("model", 2)]


@pytest.mark.parametrize("point", [1, 2, 3, 4, 5])
def test_crash_between_calls_repeats_none(point):
    """Whichever call the crash comes behind, every model call and every tool call is made once."""
    journal, log = Journal(), []
    journal.crash_behind = point
    with ScriptedModel([LOOK, LOOK, "done"]) as model:
        task = AgentLoopTask(LLMClient("glm", base_url=model.url), make_tools(log=log))
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(task.execute(make_stage(journal)))
        journal.begin()
        result = asyncio.run(task.execute(make_stage(journal)))

    assert len(model.requests) == 3
    assert log == ["u_42", "u_42"]
    assert result.outputs["answer"] == "done"
    assert len(result.outputs["tool_invocations"]) == 2


def test_busy_server_in_the_middle_repeats_nothing():
    """A TransientError passes to the engine; the next attempt goes on at the call that failed."""
    journal, log = Journal(), []
    with ScriptedModel([LOOK, Failure(status=429, retry_after=3), "done"]) as model:
        task = AgentLoopTask(LLMClient("glm", base_url=model.url), make_tools(log=log))
        with pytest.raises(TransientError) as caught:
            asyncio.run(task.execute(make_stage(journal)))
        journal.begin()
        result = asyncio.run(task.execute(make_stage(journal)))

    assert caught.value.retry_after == 3
    assert result.outputs["answer"] == "done"
    assert len(model.requests) == 3
    assert log == ["u_42"]


def test_one_question_is_a_step():
    """The completion of an LLMTask is not asked for again after a crash."""
    journal = Journal()
    task = LLMTask(Client(ChatResponse("fine")))
    first = asyncio.run(task.execute(make_stage(journal)))
    journal.begin()

    assert asyncio.run(task.execute(make_stage(journal))) == first


def test_withdrawn_agent_asks_no_more():
    """An agent whose result is no longer wanted stops before its next model call."""
    journal = Journal()
    journal.cancelled = True

    result = asyncio.run(AgentLoopTask(Client()).execute(make_stage(journal)))

    assert result.status is WorkflowStatus.CANCELED


def test_async_client_of_any_kind_is_awaited():
    """A client whose `chat` is a coroutine function works as well."""

    class Later(Client):
        async def chat(self, messages, tools=None, temperature=None):
            return super().chat(messages, tools, temperature)

    assert LLMTask(Later(ChatResponse("fine"))).execute(make_stage()).outputs["completion"] == "fine"


def test_tools_get_a_key_that_lasts():
    """The key of a call is the same when the body is run again, and another for each call."""
    keys = []

    @tool
    def pay(call: ToolContext) -> str:
        """Pay."""
        keys.append(call.idempotency_key)
        return "paid"

    script = [Reply(tool_calls=[ToolCall(name="pay"), ToolCall(name="pay")]), ToolCall(name="pay"), "done"]
    for _ in range(2):
        with ScriptedModel(script) as model:
            task = AgentLoopTask(LLMClient("glm", base_url=model.url), ToolRegistry([pay]))
            asyncio.run(task.execute(make_stage(Journal())))

    assert keys[:3] == ["call:tool:1", "call:tool:2", "call:tool:3"]
    assert keys[3:] == keys[:3]


def test_words_are_told_as_they_come():
    """In an engine an answer is streamed and told as progress, a few words at a time; without streaming it is not."""
    told = []
    for stream in (True, False):
        journal = Journal()
        with ScriptedModel(["one two three four"], pace=0.06) as model:
            task = LLMTask(LLMClient("glm", base_url=model.url), stream=stream)
            result = asyncio.run(task.execute(make_stage(journal)))
        told.append(journal.told)

        assert result.outputs["completion"] == "one two three four"
        assert model.requests[0].body["stream"] is stream

    assert "".join(told[0]) == "one two three four"
    assert 2 <= len(told[0]) <= 4
    assert told[1] == []
