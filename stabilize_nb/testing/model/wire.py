"""Answers of a scripted model as the two wire formats say them, whole and in pieces; a word counts as a token."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from stabilize_nb.llm.calls import Api, ToolCall
from stabilize_nb.testing.model.answers import Reply

#: Characters of the arguments of a call in one piece.
_PIECE = 12
#: What clients of OpenAI expect of every answer.
_HEAD = {"id": "chatcmpl-scripted", "created": 0}


def tokens_of(reply: Reply) -> int:
    """Return how many tokens an answer has."""
    return len(reply.text.split()) + sum(len(str(call.arguments).split()) for call in reply.tool_calls)


def completion(api: Api, asked: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    """Return a whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message["tool_calls"] = [call.as_wire(api) for call in _calls(reply)]
    if api == "ollama":
        return {"model": asked.get("model"), "message": message, **_end(asked, reply)}
    return {
        **_HEAD,
        "object": "chat.completion",
        "model": asked.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": _reason(reply)}],
        "usage": _usage(asked, reply),
    }


def pieces(api: Api, asked: Mapping[str, Any], reply: Reply) -> Iterator[tuple[str, int]]:
    """Yield a streamed answer: what is sent, and how many tokens it has; the last piece, which has none, ends it."""
    for word in re.findall(r"\s*\S+\s*", reply.text):
        yield _piece(api, asked, {"content": word}), 1
    for at, call in enumerate(_calls(reply)):
        yield "".join(_piece(api, asked, delta) for delta in _deltas(api, at, call)), len(str(call.arguments).split())
    if api == "ollama":
        empty = {"role": "assistant", "content": ""}
        yield _line({"model": asked.get("model"), "message": empty, **_end(asked, reply)}), 0
        return
    chunks = [_chunk(asked, [{"index": 0, "delta": {}, "finish_reason": _reason(reply)}])]
    if (asked.get("stream_options") or {}).get("include_usage"):
        chunks.append({**_chunk(asked, []), "usage": _usage(asked, reply)})
    yield "".join(map(_event, chunks)) + "data: [DONE]\n\n", 0


def _deltas(api: Api, at: int, call: ToolCall) -> Iterator[dict[str, Any]]:
    wire = call.as_wire(api)
    if api == "ollama":
        yield {"content": "", "tool_calls": [wire]}
        return
    arguments = str(wire["function"]["arguments"])
    yield {"tool_calls": [{"index": at, **wire, "function": {"name": call.name, "arguments": ""}}]}
    for start in range(0, len(arguments), _PIECE):
        yield {"tool_calls": [{"index": at, "function": {"arguments": arguments[start : start + _PIECE]}}]}


def _piece(api: Api, asked: Mapping[str, Any], delta: Mapping[str, Any]) -> str:
    if api == "ollama":
        return _line({"model": asked.get("model"), "message": {"role": "assistant", **delta}, "done": False})
    return _event(_chunk(asked, [{"index": 0, "delta": delta, "finish_reason": None}]))


def _chunk(asked: Mapping[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {**_HEAD, "object": "chat.completion.chunk", "model": asked.get("model"), "choices": choices, "usage": None}


def _event(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def _line(data: Mapping[str, Any]) -> str:
    return json.dumps(data) + "\n"


def _calls(reply: Reply) -> list[ToolCall]:
    return [replace(call, id=call.id or f"call_{at}") for at, call in enumerate(reply.tool_calls)]


def _reason(reply: Reply) -> str:
    return "tool_calls" if reply.tool_calls else "stop"


def prompt_tokens(asked: Mapping[str, Any]) -> int:
    """Return how many tokens a conversation has."""
    return len(json.dumps(asked.get("messages")).split())


def _end(asked: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    counts = {"prompt_eval_count": prompt_tokens(asked), "eval_count": tokens_of(reply)}
    return {"done": True, "done_reason": "stop", **counts}


def _usage(asked: Mapping[str, Any], reply: Reply) -> dict[str, int]:
    read, written = prompt_tokens(asked), tokens_of(reply)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
