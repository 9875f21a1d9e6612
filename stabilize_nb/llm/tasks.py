"""
Model calls as tasks: one question, or a bounded loop of model and tools.

Each model call and each tool call is a durable step of the body: once its result is committed it is not made
again, whatever crashes later. A TransientError of the client passes to the engine, which runs the body again
after a back-off and finds the steps made so far. Without an engine (`stage.runtime` None) calls are direct.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from stabilize_nb.errors import PermanentError
from stabilize_nb.llm.client import ChatMessage
from stabilize_nb.llm.tools import ToolCall, ToolRegistry, storable
from stabilize_nb.tasks.interface import Task
from stabilize_nb.tasks.result import TaskResult

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution


class ChatClient(Protocol):
    """Whatever answers a conversation with an object that has `content` and `tool_calls`.

    `usage` and `raw` are read where they exist. Only a stage whose context names a model passes `model=` too.
    """

    def chat(
        self,
        messages: list[ChatMessage],
        tools: list[dict[str, Any]] | None = None,
        temperature: float | None = None,
    ) -> Any:
        """Return the model's answer."""


class LLMTask(Task):
    """Asks a model once.

    Context: `prompt` and `system`, or `messages` (the whole conversation, which replaces both); `model`,
    `temperature`, `output_key` ("completion"). Outputs: the text under `output_key`, and `llm_raw`, the whole
    answer of the server.
    """

    def __init__(self, client: ChatClient) -> None:
        self.client = client

    def execute(self, stage: StageExecution) -> TaskResult:
        """Ask and return the completion; raises PermanentError when the stage holds no question."""
        reply = _durable(stage, "model", _ask, self.client, _conversation(stage), None, _settings(stage))
        key = stage.context.get("output_key") or "completion"
        return TaskResult.success({key: reply["content"], "llm_raw": reply["raw"]})


class AgentLoopTask(Task):
    """Lets a model call tools until it answers (ReAct); `max_iterations` bounds the model calls.

    Context: as LLMTask, with `max_iterations`, and "answer" as `output_key`. Outputs: the text under
    `output_key`, `tool_invocations` ([{tool, result}] in order) and `iterations`. Without an answer after the
    last iteration the task is FAILED_CONTINUE and the text is empty.
    """

    def __init__(self, client: ChatClient, tools: ToolRegistry | None = None, max_iterations: int = 8) -> None:
        self.client = client
        self.tools = ToolRegistry() if tools is None else tools
        self.max_iterations = max_iterations

    def execute(self, stage: StageExecution) -> TaskResult:
        """Run the loop; raises PermanentError when the stage holds no question or no usable bound."""
        bound = self._bound(stage)
        messages = _conversation(stage)
        key = stage.context.get("output_key") or "answer"
        outputs: dict[str, Any] = {key: "", "tool_invocations": [], "iterations": 0}
        for iteration in range(1, bound + 1):
            if stage.runtime is not None and stage.cancelled:
                return TaskResult.canceled(outputs)
            answer = self._turn(stage, messages, outputs["tool_invocations"])
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

    def _turn(
        self, stage: StageExecution, messages: list[ChatMessage], invocations: list[dict[str, str]]
    ) -> str | None:
        """Ask once and return the answer, or carry out the calls that the model asks for and return None."""
        schemas = self.tools.schemas(getattr(self.client, "api", "openai"))
        reply = _durable(stage, "model", _ask, self.client, messages, schemas, _settings(stage))
        calls = ToolCall.read_all(reply["tool_calls"])
        if not calls:
            return str(reply["content"])
        messages.append(ChatMessage("assistant", reply["content"], tool_calls=calls))
        for call in calls:
            result = _durable(stage, f"tool:{call.name}", self.tools.call, call.name, call.arguments)
            invocations.append({"tool": call.name, "result": result})
            messages.append(ChatMessage("tool", result, tool_call_id=call.id, name=call.name))
        return None


def _durable(stage: StageExecution, name: str, function: Callable[..., Any], *args: Any) -> Any:
    return function(*args) if stage.runtime is None else stage.step(name, function, *args)


def _ask(
    client: ChatClient,
    messages: list[ChatMessage],
    schemas: list[dict[str, Any]] | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the model's answer as JSON data, which is what the journal of the body keeps."""
    response = client.chat(list(messages), tools=schemas or None, **settings)
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
    return dict(storable(answer))


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
