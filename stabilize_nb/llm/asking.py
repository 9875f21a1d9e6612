"""
Asking a model from the body of a stage: once, or in a bounded loop of model and tools (ReAct).

Each model call and each tool call is a durable step of the body: once its result is committed it is not made again,
whatever crashes later. Without an engine (`stage.runtime` None) calls are direct.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from stabilize_nb.errors import ConfigError, PermanentError
from stabilize_nb.llm.acting import call_tool
from stabilize_nb.llm.calls import ToolCall, storable
from stabilize_nb.llm.messages import ChatMessage
from stabilize_nb.llm.paid import model_call
from stabilize_nb.llm.registry import ToolRegistry
from stabilize_nb.llm.tokens import Tokens
from stabilize_nb.queue.processor.loop import in_thread
from stabilize_nb.tasks.interface import is_awaitable

if TYPE_CHECKING:
    from stabilize_nb.models.calls import Terms
    from stabilize_nb.models.stage import StageExecution


class ChatClient(Protocol):
    """Whatever answers a conversation with an object that has `content` and `tool_calls`.

    `usage`, `raw` and `parsed` are read where they exist. `model=` is passed only for a stage whose context names one,
    `schema=` where the task or the context has one, and `max_tokens=` under a budget to a client that takes it. A
    client that also has `achat`, with the same parameters, is awaited; one that has `astream` can be streamed (see
    LLMClient); any other is called in a thread.
    """

    def chat(
        self,
        messages: list[ChatMessage],
        tools: list[dict[str, Any]] | None = None,
        temperature: float | None = None,
    ) -> Any:
        """Return the model's answer."""


class Agent:
    """A model with a role and tools, asked in the async body of a stage.

        analyst = Agent(client, [load, mean], system="You analyse data. Use the tools.")

        @flow.stage
        async def heavier(question, stage):
            return await analyst.ask(stage, question)

    `tools`: functions, `@tool`s, or a ToolRegistry. `schema`: a pydantic model or a JSON schema that the answer
    follows. `max_iterations` bounds the model calls of one question. `stream`: whether the model's words are shown as
    they come.

    For example:

        >>> from stabilize_nb import Engine, Flow
        >>> from stabilize_nb.llm import Agent, LLMClient
        >>> from stabilize_nb.testing import ScriptedModel
        >>> flow = Flow("titles")
        >>> with ScriptedModel(["Leaves"]) as model, Engine(":memory:") as engine:
        ...     author = Agent(LLMClient("any", base_url=model.url), system="You find titles.")
        ...     @flow.stage
        ...     async def title(topic, stage):
        ...         return await author.ask(stage, f"A book about {topic}")
        ...     print(engine.start(flow, topic="tea").result())
        Leaves
    """

    def __init__(
        self,
        client: ChatClient,
        tools: ToolRegistry | Iterable[Callable[..., Any]] = (),
        *,
        system: str = "",
        schema: Any = None,
        temperature: float | None = None,
        max_iterations: int = 8,
        stream: bool = True,
    ) -> None:
        if type(max_iterations) is not int or max_iterations < 1:
            msg = f"Agent got max_iterations={max_iterations!r}; a whole number from 1 is expected"
            raise ConfigError(msg)
        self.client = client
        self.tools = tools if isinstance(tools, ToolRegistry) else ToolRegistry(tools)
        self.system = system
        self.max_iterations = max_iterations
        self._asker = Asker(client, stream=stream)
        self._settings = {"temperature": temperature} | ({} if schema is None else {"schema": schema})

    def __repr__(self) -> str:
        return f"Agent({self.client!r}, {self.tools!r})"

    async def ask(self, stage: StageExecution, prompt: str) -> Any:
        """
        Return the answer as text, or with a schema as JSON data that follows it.

        Each question begins a new conversation. Every call of model and tool is a durable step of the body. Steps are
        told apart by their order, so a body asks one agent after the other; agents side by side are stages.

        Raises PermanentError without an answer after `max_iterations` model calls.
        """
        role = [ChatMessage("system", self.system)] if self.system else []
        asked = [*role, ChatMessage("user", prompt)]
        work = converse(stage, self._asker, self.tools, asked, self._settings, self.max_iterations)
        talk = await (work if stage.runtime is None else stage.runtime.while_wanted(work))
        if talk.withdrawn:
            raise asyncio.CancelledError
        if talk.reply is None:
            msg = f"the agent of stage {stage.ref_id!r} gave no answer within {self.max_iterations} model calls"
            raise PermanentError(f"{msg}: raise max_iterations")
        return talk.reply["parsed"] if "schema" in self._settings else str(talk.reply["content"])


@dataclass(slots=True, kw_only=True)
class Conversation:
    """How far a conversation has come; `reply` None: no answer yet. `withdrawn`: nobody wants one any more."""

    reply: Mapping[str, Any] | None = None
    invocations: list[dict[str, str]] = field(default_factory=list)
    iterations: int = 0
    withdrawn: bool = False


async def converse(
    stage: StageExecution, asker: Asker, tools: ToolRegistry, messages: list[ChatMessage],
    settings: Mapping[str, Any], bound: int,
) -> Conversation:  # fmt: skip
    """Let the model call tools until it answers, in at most `bound` turns; `messages` grows by what is said."""
    talk = Conversation()
    schemas = tools.schemas(getattr(asker.client, "api", "openai"))
    while talk.iterations < bound:
        if stage.runtime is not None and stage.cancelled:
            talk.withdrawn = True
            return talk
        talk.iterations += 1
        reply = await asker.ask(stage, messages, schemas, settings)
        calls = ToolCall.read_all(reply["tool_calls"])
        if not calls:
            talk.reply = reply
            return talk
        messages.append(ChatMessage("assistant", reply["content"], tool_calls=calls))
        for call in calls:
            result = await call_tool(stage, tools, call, _number(stage, len(talk.invocations)))
            talk.invocations.append({"tool": call.name, "result": result})
            messages.append(ChatMessage("tool", result, tool_call_id=call.id, name=call.name))
    return talk


def _number(stage: StageExecution, made: int) -> int:
    """Return the number of the next call of a tool in this body, which may ask several agents."""
    if stage.runtime is None:
        return made + 1
    stage.runtime.tool_calls += 1
    return stage.runtime.tool_calls


class Asker:
    """Asks a model as a durable step; `stream`: whether its words are shown as they come, where the client can."""

    def __init__(self, client: ChatClient, *, stream: bool) -> None:
        self.client = client
        self._stream = stream
        chat = getattr(client, "chat", None)
        self._takes_limit = callable(chat) and "max_tokens" in inspect.signature(chat).parameters

    async def ask(
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
        if self._stream and stage.runtime is not None and hasattr(client, "astream"):
            response = await Tokens(stage).shown(client.astream(messages, tools=tools or None, **settings))
        elif hasattr(client, "achat"):
            response = await client.achat(messages, tools=tools or None, **settings)
        else:
            response = await in_thread(partial(client.chat, messages, tools=tools or None, **settings))
            response = await response if is_awaitable(response) else response
        return _as_data(client, response)


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
