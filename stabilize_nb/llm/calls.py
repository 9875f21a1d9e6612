"""Calls of tools as models ask for them, in either wire format, and data from elsewhere made fit for a store."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Api = Literal["openai", "ollama"]
_INT_LIMIT = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that a model asks for; `arguments` is the model's own text when that is no JSON object."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str = ""

    @classmethod
    def read(cls, source: Any, position: int = 0) -> ToolCall:
        """Return the call that either wire format describes; without an id it gets one from `position`."""
        if isinstance(source, ToolCall):
            return source
        call = source if isinstance(source, Mapping) else {}
        function = call.get("function", call)
        function = function if isinstance(function, Mapping) else {}
        return cls(
            name=str(function.get("name") or ""),
            arguments=_arguments(function.get("arguments")),
            id=str(call.get("id") or f"call_{position}"),
        )

    @classmethod
    def read_all(cls, sources: Any) -> tuple[ToolCall, ...]:
        """Return the calls of one turn; what is no list of calls is none."""
        listed = sources if isinstance(sources, list | tuple) else ()
        return tuple(cls.read(source, at) for at, source in enumerate(listed))

    def as_wire(self, api: Api) -> dict[str, Any]:
        """Return the call as the server wants it: arguments as JSON text (OpenAI) or an object (Ollama)."""
        arguments: Any = self.arguments
        if api == "openai" and isinstance(arguments, Mapping):
            arguments = json.dumps(arguments)
        elif api == "ollama" and isinstance(arguments, str):
            arguments = {}
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}}


def _arguments(value: Any) -> Mapping[str, Any] | str:
    if not isinstance(value, str):
        return storable(value) if isinstance(value, Mapping) else {}
    try:
        parsed = json.loads(value) if value.strip() else None
    except (ValueError, RecursionError):
        return value
    if parsed is None:
        return {}
    return storable(parsed) if isinstance(parsed, dict) else value


def storable(value: Any) -> Any:
    """
    Return what came as JSON from elsewhere as data that a store accepts.

    Text that was cut and numbers beyond 64 bits are common there, and must not cost an answer that was paid for. What
    is of a class that JSON does not know stays as it is, and is refused where it is stored.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # A model's text may be cut in the middle of a surrogate pair.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")
    if isinstance(value, int):
        return int(value) if -_INT_LIMIT <= value < _INT_LIMIT else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value
