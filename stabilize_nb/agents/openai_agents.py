"""An agent of the OpenAI Agents SDK in the body of a stage: what it has asked models and tools is not asked again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pydantic
import pydantic_core

from stabilize_nb.agents.refusals import refusal
from stabilize_nb.errors import ConfigError, PermanentError, TransientError
from stabilize_nb.llm.calls import storable
from stabilize_nb.llm.paid import model_call
from stabilize_nb.models.calls import Call

try:
    import openai
    from agents import FunctionTool, Model, ModelResponse
except ImportError as error:
    msg = "stabilize_nb.agents.openai_agents needs the package openai-agents: pip install 'stabilize-nb[openai-agents]'"
    raise ConfigError(msg) from error

if TYPE_CHECKING:
    from agents import ModelSettings, Tool, TResponseInputItem
    from agents.items import TResponseStreamEvent
    from agents.tool_context import ToolContext

    from stabilize_nb.models.calls import Terms
    from stabilize_nb.models.stage import StageExecution

_RESPONSE = pydantic.TypeAdapter(ModelResponse)
#: What a model is told of a tool.
_TOLD = ("name", "description", "params_json_schema")


class DurableModel(Model):
    """A model whose answers are durable steps of a stage, as `RunConfig(model=DurableModel(stage, model))`.

    They are in `run.calls` and charged to the budget. A busy server is a TransientError. Whole answers only: streams
    raise PermanentError.
    """

    def __init__(self, stage: StageExecution, model: Model) -> None:
        self._stage = stage
        self._model = model
        self._name = str(getattr(model, "model", type(model).__name__))

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        model_settings: ModelSettings,
        tools: list[Tool],
        *rest: Any,
        **words: Any,
    ) -> ModelResponse:
        """Ask the model, or return what it has answered before."""

        async def make(terms: Terms | None) -> dict[str, Any]:
            settings = _limited(model_settings, terms)
            return _kept(await self._ask(system_instructions, input, settings, tools, *rest, **words))

        offered = [[getattr(each, name, None) for name in _TOLD] for each in tools]
        asked = [system_instructions, input, offered]
        kept = await self._stage.call_async(model_call(self._name, asked, make))
        return _RESPONSE.validate_json(json.dumps(kept["response"]))

    async def _ask(self, *given: Any, **words: Any) -> ModelResponse:
        try:
            return await self._model.get_response(*given, **words)
        except openai.APIStatusError as error:
            raise refusal(error, error.status_code, error.response.headers) from error
        except openai.APIConnectionError as error:
            raise TransientError(str(error)) from error

    def stream_response(self, *given: Any, **words: Any) -> AsyncIterator[TResponseStreamEvent]:
        """Refuse: events of a stream are not kept."""
        raise PermanentError(
            f"stage {self._stage.ref_id!r} streams an agent, whose events are not kept: use Runner.run in place of "
            "Runner.run_streamed"
        )


def durable_tool(stage: StageExecution, tool: FunctionTool) -> FunctionTool:
    """Return a tool whose calls are durable steps of a stage."""

    async def invoke(context: ToolContext[Any], arguments: str) -> Any:
        async def make(_terms: Terms | None) -> Any:
            return storable(pydantic_core.to_jsonable_python(await tool.on_invoke_tool(context, arguments)))

        name = f"tool:{tool.name}:{context.tool_call_id}"  # tools are called at once, in no order
        return await stage.call_async(Call(kind="tool", name=name, target=tool.name, make=make))

    return dataclasses.replace(tool, on_invoke_tool=invoke)


def _limited(settings: ModelSettings, terms: Terms | None) -> ModelSettings:
    """Have the model answer with no more than is reserved for an answer."""
    if terms is None:
        return settings
    return dataclasses.replace(
        settings, max_tokens=min(settings.max_tokens or terms.output_tokens, terms.output_tokens)
    )


def _kept(response: ModelResponse) -> dict[str, Any]:
    told = {"prompt_tokens": response.usage.input_tokens, "completion_tokens": response.usage.output_tokens}
    return {
        "response": storable(_RESPONSE.dump_python(response, mode="json")),
        "usage": told if any(told.values()) else {},
    }
