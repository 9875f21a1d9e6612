"""
Model calls as tasks: one question, or a bounded loop of model and tools.

Each model call and each tool call is a durable step of the body: once its result is committed it is not made
again, whatever crashes later. A TransientError of the client passes to the engine, which runs the body again
after a back-off and finds the steps made so far. In an engine the bodies are coroutines, so that a hundred of them
hold no thread while they wait for a model. Without an engine (`stage.runtime` None) calls are direct.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from stabilize_nb.errors import PermanentError
from stabilize_nb.llm.acting import call_tool
from stabilize_nb.llm.calls import ToolCall, storable
from stabilize_nb.llm.messages import ChatMessage
from stabilize_nb.llm.paid import model_call
from stabilize_nb.llm.registry import ToolRegistry
from stabilize_nb.llm.tokens import Tokens
from stabilize_nb.queue.processor.loop import in_thread, wait_on_loop
from stabilize_nb.tasks.interface import Task, is_awaitable
from stabilize_nb.tasks.result import TaskResult

if TYPE_CHECKING:
    from stabilize_nb.models.calls import Terms
    from stabilize_nb.models.stage import StageExecution


class ChatClient(Protocol):
    """Whatever answers a conversation with an object that has `content` and `tool_calls`.

    `usage`, `raw` and `parsed` are read where they exist. `model=` is passed only for a stage whose context names one,
    `schema=` where the task or the context has one, and `max_tokens=`
    under a budget to a client that takes it. A client that also has `achat`, with the same parameters, is
    awaited; one that has `astream` can be streamed (see LLMClient); any other is called in a thread.
    """

    def chat(
        self,
        messages: list[ChatMessage],
        tools: list[dict[str, Any]] | None = None,
        temperature: float | None = None,
    ) -> Any:
        """Return the model's answer."""


class _ModelTask(Task):
    """A task that asks a model; `stream`: whether its words are shown as they come, where the client can."""

    waits = True

    def __init__(self, client: ChatClient, *, stream: bool) -> None:
        self.client = client
        self.stream = stream
        chat = getattr(client, "chat", None)
        self._takes_limit = callable(chat) and "max_tokens" in inspect.signature(chat).parameters

    def execute(self, stage: StageExecution) -> Any:
        """Do the work; in an engine a coroutine does it."""
        work = self._work(stage)
        return wait_on_loop(work) if stage.runtime is None else work

    async def _work(self, stage: StageExecution) -> TaskResult:
        raise NotImplementedError

    async def _ask_model(
        self, stage: StageExecution, messages: Sequence[ChatMessage], tools: list[dict[str, Any]] | None,
        settings: Mapping[str, Any],
    ) -> dict[str, Any]:  # fmt: skip
        """Return the model's answer as JSON data, which is what the journal keeps."""
        sent = list(messages)
        if stage.runtime is None:
            return await self._answer(stage, sent, tools, settings)
        name = settings.get("model") or getattr(self.client, "model", None) or type(self.client).__name__

        async def make(terms: Terms | None) -> dict[str, Any]:
            limit = {} if terms is None or not self._takes_limit else {"max_tokens": terms.output_tokens}
            return await self._answer(stage, sent, tools, {**settings, **limit})

        asked = [[message.as_wire("openai") for message in sent], tools or []]
        answer: dict[str, Any] = await stage.call_async(model_call(str(name), asked, make))
        return answer

    async def _answer(
        self, stage: StageExecution, messages: list[ChatMessage], tools: list[dict[str, Any]] | None,
        settings: Mapping[str, Any],
    ) -> dict[str, Any]:  # fmt: skip
        client: Any = self.client
        if self.stream and stage.runtime is not None and hasattr(client, "astream"):
            response = await Tokens(stage).shown(client.astream(messages, tools=tools or None, **settings))
        elif hasattr(client, "achat"):
            response = await client.achat(messages, tools=tools or None, **settings)
        else:
            response = await in_thread(partial(client.chat, messages, tools=tools or None, **settings))
            response = await response if is_awaitable(response) else response
        return _as_data(client, response)


class LLMTask(_ModelTask):
    """Asks a model once.

    Context: `prompt` and `system`, or `messages` (the whole conversation, which replaces both); `model`,
    `temperature`, `schema`, `output_key` ("completion"). Outputs: the text under `output_key`, and `llm_raw`, the whole
    answer of the server. With a schema (a pydantic model, or a JSON schema, which may stand in the context) the output
    is what the answer says, as JSON data.
    """

    def __init__(self, client: ChatClient, schema: Any = None, *, stream: bool = True) -> None:
        super().__init__(client, stream=stream)
        self.schema = schema

    async def _work(self, stage: StageExecution) -> TaskResult:
        """Ask and return the completion; raises PermanentError when the stage holds no question."""
        schema = stage.context.get("schema") or self.schema
        settings = _settings(stage) | ({} if schema is None else {"schema": schema})
        reply = await self._ask_model(stage, _conversation(stage), None, settings)
        key = stage.context.get("output_key") or "completion"
        said = reply["content"] if schema is None else reply["parsed"]
        return TaskResult.success({key: said, "llm_raw": reply["raw"]})


class AgentLoopTask(_ModelTask):
    """Lets a model call tools until it answers (ReAct); `max_iterations` bounds the model calls.

    Context: as LLMTask but for `schema`, with `max_iterations`, and "answer" as `output_key`. Outputs: the text under
    `output_key`, `tool_invocations` ([{tool, result}] in order) and `iterations`. Without an answer after the
    last iteration the task is FAILED_CONTINUE and the text is empty.
    """

    def __init__(
        self, client: ChatClient, tools: ToolRegistry | None = None, max_iterations: int = 8, *, stream: bool = True
    ) -> None:
        super().__init__(client, stream=stream)
        self.tools = ToolRegistry() if tools is None else tools
        self.max_iterations = max_iterations

    async def _work(self, stage: StageExecution) -> TaskResult:
        """Run the loop; raises PermanentError when the stage holds no question or no usable bound."""
        bound = self._bound(stage)
        messages = _conversation(stage)
        key = stage.context.get("output_key") or "answer"
        outputs: dict[str, Any] = {key: "", "tool_invocations": [], "iterations": 0}
        for iteration in range(1, bound + 1):
            if stage.runtime is not None and stage.cancelled:
                return TaskResult.canceled(outputs)
            answer = await self._turn(stage, messages, outputs["tool_invocations"])
            outputs["iterations"] = iteration
            if answer is not None:
                return TaskResult.success({**outputs, key: answer})
        msg = f"agent {stage.ref_id!r} gave no answer within {bound} iterations: raise max_iterations"
        return TaskResult.failed_continue(msg, outputs)

    def _bound(self, stage: StageExecution) -> int:
        bound = stage.context.get("max_iterations", self.max_iterations)
        if isinstance(bound, bool) or not isinstance(bound, int) or bound < 1:
            msg = f"stage {stage.ref_id!r} has max_iterations {bound!r}; a whole number from 1 is expected"
            raise PermanentError(msg)
        return bound

    async def _turn(
        self, stage: StageExecution, messages: list[ChatMessage], invocations: list[dict[str, str]]
    ) -> str | None:
        """Ask once and return the answer, or carry out the calls that the model asks for and return None."""
        schemas = self.tools.schemas(getattr(self.client, "api", "openai"))
        reply = await self._ask_model(stage, messages, schemas, _settings(stage))
        calls = ToolCall.read_all(reply["tool_calls"])
        if not calls:
            return str(reply["content"])
        messages.append(ChatMessage("assistant", reply["content"], tool_calls=calls))
        for call in calls:
            result = await call_tool(stage, self.tools, call, len(invocations) + 1)
            invocations.append({"tool": call.name, "result": result})
            messages.append(ChatMessage("tool", result, tool_call_id=call.id, name=call.name))
        return None


def _as_data(client: ChatClient, response: Any) -> dict[str, Any]:
    if not hasattr(response, "content"):
        what = f"{type(client).__name__}.chat returned a {type(response).__name__}"
        msg = f"{what}; an object with content and tool_calls is expected"
        raise PermanentError(msg)
    calls = ToolCall.read_all(getattr(response, "tool_calls", ()))
    answer = {
        "content": response.content or "",
        "tool_calls": [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in calls],
        "usage": getattr(response, "usage", None) or {},
        "raw": getattr(response, "raw", None) or {},
    }
    parsed = getattr(response, "parsed", None)
    return dict(storable(answer if parsed is None else answer | {"parsed": _plain(parsed)}))


def _plain(parsed: Any) -> Any:
    import pydantic_core  # noqa: PLC0415 - slow to import; whoever made the answer has loaded it

    return pydantic_core.to_jsonable_python(parsed)


def _settings(stage: StageExecution) -> dict[str, Any]:
    settings = {"temperature": stage.context.get("temperature")}
    model = stage.context.get("model")
    return {**settings, "model": model} if model else settings


def _conversation(stage: StageExecution) -> list[ChatMessage]:
    context = stage.context
    if context.get("messages"):
        return [ChatMessage.read(message) for message in context["messages"]]
    if not context.get("prompt"):
        msg = f"stage {stage.ref_id!r} has nothing to ask a model: set 'prompt' or 'messages' in its context"
        raise PermanentError(msg)
    asked = ChatMessage("user", str(context["prompt"]))
    return [ChatMessage("system", str(context["system"])), asked] if context.get("system") else [asked]
