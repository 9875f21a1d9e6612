"""
Model calls as tasks: one question, or a bounded loop of model and tools.

They do what an Agent does (asking.py), with the question in the context of the stage. A TransientError of the client
passes to the engine, which runs the body again after a back-off and finds the steps made so far. In an engine the
bodies are coroutines, so that a hundred of them hold no thread while they wait for a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import PermanentError
from stabilize_nb.llm.asking import Asker, converse
from stabilize_nb.llm.messages import ChatMessage
from stabilize_nb.llm.registry import ToolRegistry
from stabilize_nb.queue.processor.loop import wait_on_loop
from stabilize_nb.tasks.interface import Task
from stabilize_nb.tasks.result import TaskResult

if TYPE_CHECKING:
    from stabilize_nb.llm.asking import ChatClient
    from stabilize_nb.models.stage import StageExecution


class _ModelTask(Task):
    """A task that asks a model; `stream`: whether its words are shown as they come, where the client can."""

    waits = True

    def __init__(self, client: ChatClient, *, stream: bool) -> None:
        self.client = client
        self.asker = Asker(client, stream=stream)

    def execute(self, stage: StageExecution) -> Any:
        """Do the work; in an engine a coroutine does it."""
        work = self._work(stage)
        return wait_on_loop(work) if stage.runtime is None else work

    async def _work(self, stage: StageExecution) -> TaskResult:
        raise NotImplementedError


class LLMTask(_ModelTask):
    """Asks a model once.

    Context: `prompt` and `system`, or `messages` (the whole conversation, which replaces both); `model`,
    `temperature`, `schema`, `output_key` ("completion"). Outputs: the text under `output_key`, and `llm_raw`, the whole
    answer of the server. With a schema (a pydantic model, or a JSON schema, which may stand in the context) the output
    is what the answer says, as JSON data.

    For example:

        >>> from stabilize_nb import Engine, Flow
        >>> from stabilize_nb.llm import LLMClient, LLMTask
        >>> from stabilize_nb.testing import ScriptedModel
        >>> flow = Flow("titles")
        >>> with ScriptedModel(["Leaves"]) as model, Engine(":memory:") as engine:
        ...     task = LLMTask(LLMClient("any", base_url=model.url))
        ...     title = flow.task(task, "title", context={"prompt": "A title for a book about tea"})
        ...     print(engine.start(flow).result()["completion"])
        Leaves
    """

    def __init__(self, client: ChatClient, schema: Any = None, *, stream: bool = True) -> None:
        super().__init__(client, stream=stream)
        self.schema = schema

    async def _work(self, stage: StageExecution) -> TaskResult:
        """Ask and return the completion; raises PermanentError when the stage holds no question."""
        schema = stage.context.get("schema") or self.schema
        settings = _settings(stage) | ({} if schema is None else {"schema": schema})
        reply = await self.asker.ask(stage, _conversation(stage), None, settings)
        key = stage.context.get("output_key") or "completion"
        said = reply["content"] if schema is None else reply["parsed"]
        return TaskResult.success({key: said, "llm_raw": reply["raw"]})


class AgentLoopTask(_ModelTask):
    """Lets a model call tools until it answers (ReAct); `max_iterations` bounds the model calls.

    Context: as LLMTask but for `schema`, with `max_iterations`, and "answer" as `output_key`. Outputs: the text under
    `output_key`, `tool_invocations` ([{tool, result}] in order) and `iterations`. Without an answer after the
    last iteration the task is FAILED_CONTINUE and the text is empty.

    For example:

        >>> from stabilize_nb import Engine, Flow
        >>> from stabilize_nb.llm import AgentLoopTask, LLMClient, ToolRegistry, tool
        >>> from stabilize_nb.testing import ScriptedModel, ToolCall
        >>> @tool
        ... def weather(city: str) -> str:
        ...     "Say what the weather is."
        ...     return f"rain in {city}"
        >>> flow = Flow("packing")
        >>> script = [ToolCall(name="weather", arguments={"city": "Oslo"}), "Take an umbrella."]
        >>> with ScriptedModel(script) as model, Engine(":memory:") as engine:
        ...     task = AgentLoopTask(LLMClient("any", base_url=model.url), ToolRegistry([weather]))
        ...     pack = flow.task(task, "pack", context={"prompt": "What do I pack for Oslo?"})
        ...     print(engine.start(flow).result()["answer"])
        Take an umbrella.
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
        key = stage.context.get("output_key") or "answer"
        talk = await converse(stage, self.asker, self.tools, _conversation(stage), _settings(stage), bound)
        said = "" if talk.reply is None else str(talk.reply["content"])
        outputs = {key: said, "tool_invocations": talk.invocations, "iterations": talk.iterations}
        if talk.reply is not None:
            return TaskResult.success(outputs)
        if talk.withdrawn:
            return TaskResult.canceled(outputs)
        msg = f"agent {stage.ref_id!r} gave no answer within {bound} iterations: raise max_iterations"
        return TaskResult.failed_continue(msg, outputs)

    def _bound(self, stage: StageExecution) -> int:
        bound = stage.context.get("max_iterations", self.max_iterations)
        if isinstance(bound, bool) or not isinstance(bound, int) or bound < 1:
            msg = f"stage {stage.ref_id!r} has max_iterations {bound!r}; a whole number from 1 is expected"
            raise PermanentError(msg)
        return bound


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
