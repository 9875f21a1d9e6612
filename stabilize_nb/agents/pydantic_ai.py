"""An agent of pydantic-ai in the body of a stage: what it has asked models and tools is not asked again."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pydantic_core

from stabilize_nb.agents.refusals import refusal
from stabilize_nb.errors import ConfigError, TransientError
from stabilize_nb.llm.calls import storable
from stabilize_nb.llm.paid import model_call
from stabilize_nb.models.calls import Call
from stabilize_nb.models.stage import StageExecution

try:
    from pydantic_ai.capabilities import AbstractCapability
    from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError, ModelRetry, ToolRetryError
    from pydantic_ai.messages import ModelMessagesTypeAdapter
except ImportError as error:
    msg = "stabilize_nb.agents.pydantic_ai needs pydantic-ai: pip install 'stabilize-nb[pydantic-ai]'"
    raise ConfigError(msg) from error

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse, ToolCallPart
    from pydantic_ai.models import ModelRequestContext
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.tools import RunContext, ToolDefinition

    from stabilize_nb.models.calls import Terms


@dataclass
class Durable(AbstractCapability[Any]):
    """A capability by which requests to models and calls of tools are durable steps of a stage.

    Requests are in `run.calls` and charged to the budget. A busy server is a TransientError.
    """

    stage: StageExecution

    async def wrap_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, handler: Any
    ) -> ModelResponse:
        """Ask the model, or return what it has answered before."""

        async def make(terms: Terms | None) -> dict[str, Any]:
            limited = replace(request_context, model_settings=_limited(request_context.model_settings, terms))
            return _kept(await _patient(handler(limited)))

        asked = [
            ModelMessagesTypeAdapter.dump_python(request_context.messages, mode="json"),
            str(request_context.model_request_parameters),
        ]
        kept = await self.stage.call_async(model_call(request_context.model.model_name, asked, make))
        (response,) = ModelMessagesTypeAdapter.validate_json(json.dumps([kept["response"]]))
        return response  # type: ignore[return-value]  # the adapter is for messages of both sides

    async def wrap_tool_execute(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: ToolDefinition, args: dict[str, Any], handler: Any
    ) -> Any:
        """Call the tool, or return what it has given before; a tool that wants to be called otherwise has answered."""

        async def make(_terms: Terms | None) -> dict[str, Any]:
            try:
                return {"result": storable(pydantic_core.to_jsonable_python(await handler(args)))}
            except (ModelRetry, ToolRetryError) as wanted:
                return {"retry": str(wanted)}

        name = f"tool:{call.tool_name}:{call.tool_call_id}"  # tools are called at once, in no order
        kept = await self.stage.call_async(Call(kind="tool", name=name, target=call.tool_name, make=make))
        if "retry" in kept:
            raise ModelRetry(kept["retry"])
        return kept["result"]


def _limited(settings: ModelSettings | None, terms: Terms | None) -> ModelSettings | None:
    """Have the model answer with no more than is reserved for an answer."""
    if terms is None:
        return settings
    own = (settings or {}).get("max_tokens") or terms.output_tokens
    return {**(settings or {}), "max_tokens": min(own, terms.output_tokens)}


def _kept(response: ModelResponse) -> dict[str, Any]:
    usage = response.usage
    told = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
    return {
        "response": storable(ModelMessagesTypeAdapter.dump_python([response], mode="json")[0]),
        "usage": told if any(told.values()) else {},
    }


async def _patient(answer: Any) -> ModelResponse:
    """Await an answer; what may be otherwise in a minute is the engine's to try again."""
    try:
        response: ModelResponse = await answer
    except ModelHTTPError as error:
        raise refusal(error, error.status_code, getattr(error, "headers", None)) from error
    except ModelAPIError as error:
        raise TransientError(str(error)) from error
    return response
