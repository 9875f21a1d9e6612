"""
How values of graphs become bytes: by LangGraph's own serializer, which may make nothing but what it was told.

LangGraph by itself imports and calls whatever a checkpoint names. Here only types that it lists as harmless are made,
and those that are given; a value of another type is refused when it is written, not lost when it is read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.serde.event_hooks import register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from stabilize_nb.errors import ConfigError, ValueNotStorableError

if TYPE_CHECKING:
    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.checkpoint.serde.event_hooks import SerdeEvent

#: What a serializer wrote: how, and the bytes.
Typed = tuple[str, bytes]


class _Refused(threading.local):
    """The types that this thread was refused since it looked last."""

    def __init__(self) -> None:
        self.names: list[str] = []


_refused = _Refused()


def _note(event: SerdeEvent) -> None:
    if event["kind"] in {"msgpack_blocked", "msgpack_method_blocked"}:
        _refused.names.append(f"{event['module']}.{event['name']}")


register_serde_event_listener(_note)


def strict(types: Iterable[type]) -> JsonPlusSerializer:
    """Return a serializer that makes harmless types and these."""
    return JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=tuple(types))


def refuse_pickle(serde: Any) -> None:
    """Raise ConfigError for a serializer, or one that encrypts what it writes, that would unpickle what it reads."""
    if any(getattr(each, "pickle_fallback", False) for each in (serde, getattr(serde, "serde", None))):
        raise ConfigError(
            "pickle_fallback=True would run whatever code a database holds: leave it off, and give StoreSaver the "
            "types of your values as types=[...]"
        )


def dumped(serde: SerializerProtocol, what: str, value: Any) -> Typed:
    """Return a value as bytes; raises ValueNotStorableError when it could not be read back."""
    try:
        typed = serde.dumps_typed(value)
    except (TypeError, ValueError) as error:
        raise ValueNotStorableError(f"{what} cannot be stored: {error}; use data, or a pydantic model") from error
    _refused.names.clear()
    serde.loads_typed(typed)
    if _refused.names:
        names = ", ".join(dict.fromkeys(_refused.names))
        raise ValueNotStorableError(
            f"{what} has a value of a type that the saver does not know, {names}: name it, StoreSaver(..., types=[...])"
        )
    return typed
