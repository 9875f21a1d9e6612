"""What a model asks for, carried out: each call of a tool is a durable step, and some need the leave of a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stabilize_nb.llm.tools import ToolContext
from stabilize_nb.models.calls import Call
from stabilize_nb.models.settling import RETRY

if TYPE_CHECKING:
    from stabilize_nb.llm.calls import ToolCall
    from stabilize_nb.llm.registry import ToolRegistry
    from stabilize_nb.models.stage import StageExecution


async def call_tool(stage: StageExecution, tools: ToolRegistry, call: ToolCall, number: int) -> str:
    """Return what a call, the `number`th of this body, gave, as text for the model."""
    body = stage.id if stage.runtime is None else stage.idempotency_key
    context = ToolContext(idempotency_key=f"{body}:tool:{number}", number=number)
    known = tools.find(call.name)
    if stage.runtime is None:
        return await tools.acall(call.name, call.arguments, context)
    arguments: Mapping[str, Any] | str = call.arguments
    if known is not None and known.approve:
        refusal, arguments = await _allowed(stage, call)
        if refusal:
            return refusal
    step = Call(
        kind="tool", name=f"tool:{call.name}", target=call.name, shown={"tool": call.name, "arguments": arguments},
        on_crash=RETRY if known is None else known.on_crash,
        make=lambda _terms: tools.acall(call.name, arguments, context),
    )  # fmt: skip
    result: str = await stage.call_async(step)
    if arguments != call.arguments:
        return f"(a person has changed the arguments to {json.dumps(arguments, ensure_ascii=False)}) {result}"
    return result


async def _allowed(stage: StageExecution, call: ToolCall) -> tuple[str, Mapping[str, Any] | str]:
    """
    Ask a person whether a tool may be called; return what the model is told instead, or "" and the arguments.

    What runs is what the person has seen, or has written instead: an answer counts for exactly what was shown.
    """
    answer = await stage.ask_async(
        f"May the agent call {call.name}?", show={"tool": call.name, "arguments": call.arguments},
        form={"arguments": "json?"}, name=f"approve:{call.name}",
    )  # fmt: skip
    if not answer.approves:
        return f"REFUSED: a person does not allow this call, {answer.told}", {}
    return "", answer.data.get("arguments") or call.arguments
