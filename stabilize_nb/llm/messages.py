"""What is said to a model and what it answers, apart from how either is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stabilize_nb.errors import PermanentError
from stabilize_nb.llm.calls import Api, ToolCall


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation.

    `role` is system, user, assistant or tool. A tool's turn carries its result in `content`, and
    `tool_call_id` and `name` of the call. `extra` holds what only one server knows, such as `images`.
    """

    role: str
    content: Any = None
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str | None = None
    name: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, source: Any) -> ChatMessage:
        """Return the message that a mapping in OpenAI's form describes."""
        if isinstance(source, ChatMessage):
            return source
        if not isinstance(source, Mapping) or "role" not in source:
            msg = f"a message is {source!r:.80}; a mapping with 'role' and 'content' is expected"
            raise PermanentError(msg)
        known = {key: source[key] for key in ("role", "content", "tool_call_id", "name") if key in source}
        extra = {key: value for key, value in source.items() if key not in known and key != "tool_calls"}
        return cls(**known, tool_calls=ToolCall.read_all(source.get("tool_calls")), extra=extra)

    def as_wire(self, api: Api) -> dict[str, Any]:
        """Return the message as the server of that format expects it."""
        empty = None if self.tool_calls and api == "openai" else ""
        wire: dict[str, Any] = {"role": self.role, "content": self.content or empty, **self.extra}
        if self.tool_calls:
            wire["tool_calls"] = [call.as_wire(api) for call in ToolCall.read_all(self.tool_calls)]
        if self.tool_call_id:
            wire["tool_call_id"] = self.tool_call_id
        if self.name and self.role != "tool":
            wire["name"] = self.name
        elif self.name and api == "ollama":
            wire["tool_name"] = self.name
        return wire


@dataclass(frozen=True, slots=True)
class ChatResponse:
    """What a model answered.

    `usage` counts tokens as far as the server says: prompt_tokens, of which cached_tokens, and completion_tokens.
    `raw` is the whole answer of the server as JSON data that can be stored; of a streamed answer what its pieces are
    together. `parsed` is what the text says where a schema was asked for, and no tool is called.
    """

    content: str = ""
    tool_calls: Sequence[ToolCall] = ()
    usage: Mapping[str, int] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)
    parsed: Any = None
