"""
Functions that a model may call: their description for the model, and what happens when it calls one.

Whatever goes wrong in a call, from an unknown name to an exception in the function, is told to the model as
text that starts with "ERROR: ", because the model can often mend it. pydantic derives the schema from the
signature and checks the arguments; it is loaded when the first tool is added to a registry.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from stabilize_nb.errors import ConfigError
from stabilize_nb.models.values import plain

Api = Literal["openai", "ollama"]
P = ParamSpec("P")
R = TypeVar("R")

#: What the model servers accept as the name of a function.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
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


@dataclass(frozen=True, slots=True)
class _Compiled:
    """What pydantic makes of a function: the schema of its arguments, and its checked form."""

    parameters: dict[str, Any]
    call: Callable[..., Any]
    complaint: type[Exception]  # what the checked form raises for arguments that do not fit


class Tool(Generic[P, R]):
    """A function, with name and description as a model knows them; calling the tool calls the function."""

    def __init__(self, function: Callable[P, R], name: str | None = None, description: str | None = None) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or str(getattr(function, "__name__", ""))
        self.description = description or inspect.getdoc(function) or ""
        if not _NAME.fullmatch(self.name):
            msg = f"a tool is named {self.name!r}; models take up to 64 ASCII letters, digits, '_' and '-'"
            raise ConfigError(msg)
        if inspect.iscoroutinefunction(function):
            msg = f"tool {self.name!r} is a coroutine function; an agent calls plain functions"
            raise ConfigError(msg)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"

    @functools.cached_property
    def compiled(self) -> _Compiled:
        """The checked form of the function; raises ConfigError when JSON cannot describe its parameters."""
        import pydantic  # noqa: PLC0415 - slow to import, and only tools need it here

        function: Any = self.function
        try:
            parameters = pydantic.TypeAdapter(function).json_schema()
            checked = pydantic.validate_call(function)
        except (pydantic.PydanticUserError, NameError, TypeError) as error:
            msg = f"tool {self.name!r} has parameters that JSON cannot describe: {str(error).splitlines()[0]}"
            raise ConfigError(msg) from error
        if parameters.get("type") != "object":
            msg = f"tool {self.name!r} has positional-only parameters: a model can only fill parameters by name"
            raise ConfigError(msg)
        return _Compiled(parameters, checked, pydantic.ValidationError)

    def schema(self, api: Api = "openai") -> dict[str, Any]:
        """Return what a model is told about the tool; for Ollama without `$ref`, which its server drops."""
        parameters = self.compiled.parameters
        if api == "ollama":
            parameters = _inlined(parameters, parameters.get("$defs", {}), ())
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


def _inlined(schema: Any, definitions: Mapping[str, Any], open_names: tuple[str, ...]) -> Any:
    if isinstance(schema, list):
        return [_inlined(item, definitions, open_names) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {k: _inlined(v, definitions, open_names) for k, v in schema.items() if k not in {"$ref", "$defs"}}
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return plain
    name = reference.rpartition("/")[2]
    if name in open_names:
        msg = f"type {name!r} contains itself, which Ollama's tool format cannot describe: use a flat type"
        raise ConfigError(msg)
    return {**_inlined(definitions[name], definitions, (*open_names, name)), **plain}


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(*, name: str | None = None, description: str | None = None) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
) -> Any:
    """
    Offer a function to models, under its own name and docstring unless others are given.

    Types and defaults come from the signature; `Annotated[str, pydantic.Field(description=...)]` describes a
    parameter.
    """
    if function is None:
        return functools.partial(Tool, name=name, description=description)
    return Tool(function)


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

    def schemas(self, api: Api = "openai") -> list[dict[str, Any]]:
        """Return what a model is told about the tools."""
        return [each.schema(api) for each in self._tools.values()]

    def call(self, name: str, arguments: Mapping[str, Any] | str) -> str:
        """Call a tool and return its result as text, or "ERROR: ..." with what went wrong; raises nothing."""
        known = self._tools.get(name)
        if known is None:
            return f"ERROR: no tool is named {storable(name)!r}; there is {', '.join(self._tools) or 'none'}"
        if not isinstance(arguments, Mapping):
            return f"ERROR: the arguments of {name} are not a JSON object: {storable(arguments)[:200]}"
        try:
            return _as_text(known.compiled.call(**arguments))
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises is for the model to read
            return f"ERROR: {_complaint(known, error)}"


def _origin(known: Tool[..., Any]) -> str:
    return f"{getattr(known.function, '__module__', '?')}.{getattr(known.function, '__qualname__', known.name)}"


def _complaint(known: Tool[..., Any], error: Exception) -> str:
    # The title of a complaint about the arguments is the function; its body may raise others of that class.
    fits = getattr(error, "title", None) != getattr(known.function, "__name__", "")
    if fits or not isinstance(error, known.compiled.complaint):
        return str(storable(f"{type(error).__name__}: {error}"))
    faults = error.errors(include_url=False, include_input=False)  # type: ignore[attr-defined]
    found = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
    return str(storable(f"the arguments of {known.name} do not fit: {found}"))


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return str(storable(value))
    import pydantic_core  # noqa: PLC0415 - slow to import; a tool has run, so pydantic is there

    data = pydantic_core.to_jsonable_python(value, fallback=lambda unknown: plain(unknown, "a part of the result"))
    return str(storable(data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)))
