"""
The two wire formats: what is sent, and what an answer says, whole or in pieces.

Pieces are put together into the shape of a whole answer, so that there is one reading of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stabilize_nb.llm.calls import Api, ToolCall
from stabilize_nb.llm.messages import ChatMessage, ChatResponse

_TOKENS = ("prompt_tokens", "completion_tokens")


def question(
    api: Api,
    model: str,
    messages: Sequence[ChatMessage],
    tools: Sequence[Mapping[str, Any]] | None = None,
    temperature: float | None = None,
    schema: tuple[str, Mapping[str, Any], bool] | None = None,
    max_tokens: int | None = None,
    *,
    stream: bool = False,
) -> dict[str, Any]:
    """Return the body of a request; `schema` is its name, itself, and whether it is as strict as OpenAI's "strict"."""
    body: dict[str, Any] = {"model": model, "stream": stream}
    body["messages"] = [message.as_wire(api) for message in messages]
    if tools:
        body["tools"] = list(tools)
    named = ("temperature", "num_predict") if api == "ollama" else ("temperature", "max_tokens")
    options = {name: value for name, value in zip(named, (temperature, max_tokens), strict=True) if value is not None}
    if options:
        body |= {"options": options} if api == "ollama" else options
    if schema is not None:
        name, form, strict = schema
        wanted = {"type": "json_schema", "json_schema": {"name": name, "schema": form, "strict": strict}}
        body |= {"format": form} if api == "ollama" else {"response_format": wanted}
    if stream and api == "openai":
        body["stream_options"] = {"include_usage": True}
    return body


def response(api: Api, data: Any) -> ChatResponse | None:
    """Return what a whole answer says; None when it is no completion."""
    choices = [data] if api == "ollama" else get(data, "choices")
    message = get(choices[0], "message") if isinstance(choices, list) and choices else None
    if not isinstance(message, dict):
        return None
    return ChatResponse(
        content=_text(message.get("content")),
        tool_calls=ToolCall.read_all(message.get("tool_calls")),
        usage=_usage(api, data),
        raw=data,
    )


class Pieces:
    """An answer that comes in pieces; `is_complete` once the server has said that it ends."""

    def __init__(self, api: Api) -> None:
        self.is_complete = False
        self._api = api
        self._message: dict[str, Any] = {"role": "assistant"}
        self._calls: dict[int, dict[str, Any]] = {}
        self._about: dict[str, Any] = {}
        self._reason: str | None = None

    def add(self, piece: Mapping[str, Any]) -> str:
        """Take in a piece and return the text in it."""
        self._about |= {
            key: value for key, value in piece.items() if key not in {"choices", "message"} and value is not None
        }
        if self._api == "ollama":
            self.is_complete = self.is_complete or piece.get("done") is True
            return self._grow(piece.get("message"))
        choices = piece.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        self._reason = self._reason or get(choice, "finish_reason")
        self.is_complete = self.is_complete or self._reason is not None
        # A server that does not stream sends the message at once.
        return self._grow(get(choice, "delta") or get(choice, "message"))

    def whole(self) -> dict[str, Any]:
        """Return the answer in the shape that it has when it is not streamed."""
        message = dict(self._message)
        if self._calls:
            message["tool_calls"] = [self._calls[at] for at in sorted(self._calls)]
        if self._api == "ollama":
            return {**self._about, "message": message}
        choice = {"index": 0, "message": message, "finish_reason": self._reason}
        return {**self._about, "object": "chat.completion", "choices": [choice]}

    def _grow(self, delta: Any) -> str:
        if not isinstance(delta, Mapping):
            return ""
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            self._grow_call(call)
        for key, value in delta.items():
            known = self._message.get(key)
            if key not in {"role", "tool_calls"} and value is not None:
                self._message[key] = known + value if isinstance(known, str) and isinstance(value, str) else value
        return _text(delta.get("content"))

    def _grow_call(self, piece: Any) -> None:
        at = get(piece, "index")
        known = self._calls.setdefault(at if isinstance(at, int) else len(self._calls), {"type": "function"})
        function = known.setdefault("function", {})
        if identity := get(piece, "id"):
            known["id"] = identity
        if name := get(get(piece, "function"), "name"):
            function["name"] = name
        arguments, said = function.get("arguments"), get(get(piece, "function"), "arguments")
        if said is not None:
            function["arguments"] = arguments + said if isinstance(arguments, str) and isinstance(said, str) else said


def _usage(api: Api, data: Any) -> dict[str, int]:
    told, keys = (data, ("prompt_eval_count", "eval_count")) if api == "ollama" else (get(data, "usage"), _TOKENS)
    counts = dict(zip(_TOKENS, (get(told, key) for key in keys), strict=True))
    counts["cached_tokens"] = get(get(told, "prompt_tokens_details"), "cached_tokens")
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def _text(content: Any) -> str:
    """Return the text of a message; some servers send a list of parts."""
    if isinstance(content, list):
        return "".join(str(get(part, "text") or "") for part in content)
    return "" if content is None else str(content)


def get(data: Any, key: str) -> Any:
    """Return a member of what may be no object at all."""
    return data.get(key) if isinstance(data, dict) else None
