"""
The tools of one agent, and what happens when a model calls one.

Whatever goes wrong in a call, from an unknown name to an exception in the function, is told to the model as text that
starts with "ERROR: " and says what to mend, because the model often can.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from stabilize_nb.errors import ConfigError
from stabilize_nb.llm.calls import Api, storable
from stabilize_nb.llm.tools import Tool, ToolContext
from stabilize_nb.models.values import plain
from stabilize_nb.queue.processor.loop import in_thread, wait_on_loop
from stabilize_nb.tasks.interface import is_awaitable


class ToolRegistry:
    """The tools of one agent, by name."""

    def __init__(self, tools: Iterable[Callable[..., Any]] = ()) -> None:
        self._tools: dict[str, Tool[..., Any]] = {}
        for each in tools:
            self.add(each)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __repr__(self) -> str:
        return f"ToolRegistry({', '.join(self._tools)})"

    def add(self, function: Callable[..., Any]) -> ToolRegistry:
        """
        Add a tool or a plain function, and return the registry; a function defined again replaces itself.

        Raises ConfigError when another function has the name, or when JSON cannot describe the parameters.
        """
        added = function if isinstance(function, Tool) else Tool(function)
        known = self._tools.get(added.name)
        if known is not None and _origin(known) != _origin(added):
            both = f"{_origin(known)} and {_origin(added)}"
            msg = f"two tools are named {added.name!r}, {both}: give one another name by @tool(name=...)"
            raise ConfigError(msg)
        added.schema()  # a signature that JSON cannot describe is found here, not in the middle of a run
        self._tools[added.name] = added
        return self

    def get(self, name: str) -> Tool[..., Any] | None:
        """Return the tool of that name, if there is one."""
        return self._tools.get(name)

    def schemas(self, api: Api = "openai") -> list[dict[str, Any]]:
        """Return what a model is told about the tools."""
        return [each.schema(api) for each in self._tools.values()]

    def find(self, name: str) -> Tool[..., Any] | None:
        """Return the tool of that name, if there is one."""
        return self._tools.get(name)

    def call(self, name: str, arguments: Mapping[str, Any] | str, context: ToolContext | None = None) -> str:
        """Call a tool and return its result as text, or "ERROR: ..." with what went wrong; raises nothing."""
        known = self._tools.get(name)
        if known is not None and known.is_async:
            return wait_on_loop(self.acall(name, arguments, context))
        prepared = self._prepared(name, arguments, context)
        return prepared if isinstance(prepared, str) else _told(prepared)

    async def acall(self, name: str, arguments: Mapping[str, Any] | str, context: ToolContext | None = None) -> str:
        """Do the same on an event loop: a coroutine function is awaited, a plain function runs in a thread."""
        prepared = self._prepared(name, arguments, context)
        if isinstance(prepared, str):
            return prepared
        known = self._tools[name]
        if not known.is_async:
            return await in_thread(partial(_told, prepared))
        try:
            return _as_text(await prepared())
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises is for the model to read
            return _raised(error)

    def _prepared(
        self, name: str, arguments: Mapping[str, Any] | str, context: ToolContext | None
    ) -> Callable[[], Any] | str:
        """Return the call, ready to be made, or what is wrong with it."""
        known = self._tools.get(name)
        if known is None:
            near = difflib.get_close_matches(str(name), self._tools, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            return f"ERROR: no tool is named {storable(name)!r}{hint}; there is {', '.join(self._tools) or 'none'}"
        if not isinstance(arguments, Mapping):
            said = storable(arguments)[:200]
            return f"ERROR: the arguments of {name} are not a JSON object: {said}; call it again with one"
        try:
            return known.prepared(arguments, context)
        except known.compiled.complaint as error:
            return f"ERROR: {_misfits(known, error)}; call it again with arguments that fit"
        except Exception as error:  # noqa: BLE001 - a validator of the user's, or arguments that are no names
            return _raised(error)


def _origin(known: Tool[..., Any]) -> str:
    return f"{getattr(known.function, '__module__', '?')}.{getattr(known.function, '__qualname__', known.name)}"


def _misfits(known: Tool[..., Any], error: Exception) -> str:
    faults = error.errors(include_url=False, include_input=False)  # type: ignore[attr-defined]
    found = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
    return str(storable(f"the arguments of {known.name} do not fit: {found}"))


def _told(call: Callable[[], Any]) -> str:
    """Make a call and return what came of it as text."""
    try:
        value = call()
        if is_awaitable(value):
            value = wait_on_loop(_awaited(value))
        return _as_text(value)
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises is for the model to read
        return _raised(error)


async def _awaited(value: Any) -> Any:
    return await value


def _raised(error: Exception) -> str:
    return str(storable(f"ERROR: {type(error).__name__}: {error}"))


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return str(storable(value))
    import pydantic_core  # noqa: PLC0415 - slow to import; a tool has run, so pydantic is there

    data = pydantic_core.to_jsonable_python(value, fallback=lambda unknown: plain(unknown, "a part of the result"))
    return str(storable(data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)))
