"""
Functions that a model may call, and their description for the model.

pydantic derives the schema from the signature and checks the arguments; docstring-parser has the descriptions of
parameters from docstrings in the manner of Google, NumPy or reST. Both are loaded when the first tool is added to a
registry.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, overload

from stabilize_nb.errors import ConfigError
from stabilize_nb.llm.calls import Api
from stabilize_nb.models.settling import ON_CRASH, RETRY

P = ParamSpec("P")
R = TypeVar("R")
Kind = inspect.Parameter

#: What the model servers accept as the name of a function.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What a tool may know of the call: it gets this for a parameter of this type, which no model sees.

    `idempotency_key` is the same text whenever this call is made again after a crash, and for no other call: what goes
    out under it twice can be done once. `number` counts the calls of tools in one body.
    """

    idempotency_key: str
    number: int = 1


@dataclass(frozen=True, slots=True)
class Compiled:
    """What pydantic makes of a function: the schema of its arguments, and what checks and converts them."""

    parameters: dict[str, Any]
    check: Callable[..., dict[str, Any]]
    complaint: type[Exception]  # what `check` raises for arguments that do not fit


class Tool(Generic[P, R]):
    """A function, with name and description as a model knows them; calling the tool calls the function.

    `on_crash` and `approve` are for whoever runs the calls: see `tool`.
    """

    def __init__(
        self,
        function: Callable[P, R],
        name: str | None = None,
        description: str | None = None,
        on_crash: str = RETRY,
        *,
        approve: bool = False,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or str(getattr(function, "__name__", ""))
        self.on_crash = on_crash
        self.approve = approve
        self._description = description
        if not _NAME.fullmatch(self.name):
            msg = f"a tool is named {self.name!r}; models take up to 64 ASCII letters, digits, '_' and '-'"
            raise ConfigError(msg)
        if on_crash not in ON_CRASH:
            msg = f"tool {self.name!r} has on_crash={on_crash!r}; one of {', '.join(map(repr, ON_CRASH))} is expected"
            raise ConfigError(msg)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def description(self) -> str:
        """What the tool does, in the words of its docstring unless others were given."""
        return self._description or self._documented[0]

    @functools.cached_property
    def _documented(self) -> tuple[str, dict[str, str]]:
        return _documented(inspect.getdoc(self.function) or "")

    @functools.cached_property
    def _signature(self) -> tuple[inspect.Signature, str | None]:
        """The parameters that a model fills, with their types, and the name of the one for the context."""
        signature = inspect.signature(self.function)
        hints = typing.get_type_hints(self.function, include_extras=True)
        context = next((name for name, hint in hints.items() if hint is ToolContext and name != "return"), None)
        filled = [
            each.replace(annotation=hints.get(name, Kind.empty))
            for name, each in signature.parameters.items()
            if name != context
        ]
        return inspect.Signature(filled), context

    @functools.cached_property
    def compiled(self) -> Compiled:
        """The schema of the arguments and what checks them; raises ConfigError where JSON cannot describe them."""
        import pydantic  # noqa: PLC0415 - slow to import, and only tools need it here

        try:
            checked = _collector(self._signature[0], self.name)
            described: Any = checked
            parameters = pydantic.TypeAdapter(described).json_schema()
            check = pydantic.validate_call(checked)
        except (pydantic.PydanticUserError, NameError, TypeError) as error:
            msg = f"tool {self.name!r} has parameters that JSON cannot describe: {str(error).splitlines()[0]}"
            raise ConfigError(msg) from error
        if any(each.kind in {Kind.POSITIONAL_ONLY, Kind.VAR_POSITIONAL} for each in self._filled()):
            msg = f"tool {self.name!r} has positional-only parameters: a model can only fill parameters by name"
            raise ConfigError(msg)
        for name, words in self._documented[1].items():
            if name in parameters.get("properties", {}):
                parameters["properties"][name].setdefault("description", words)
        return Compiled(parameters, check, pydantic.ValidationError)

    def _filled(self) -> list[inspect.Parameter]:
        return list(self._signature[0].parameters.values())

    def prepared(self, arguments: Mapping[str, Any], context: ToolContext | None) -> Callable[[], Any]:
        """
        Return the call with arguments of the types of the signature; pydantic.ValidationError when they do not fit.

        Without a context the parameter for it gets one that says nothing.
        """
        checked = self.compiled.check(**arguments)
        name = self._signature[1]
        if name is not None:
            checked[name] = context or ToolContext(idempotency_key="")
        function: Callable[..., Any] = self.function
        return functools.partial(function, **checked)

    def schema(self, api: Api = "openai") -> dict[str, Any]:
        """Return what a model is told about the tool; for Ollama without `$ref`, which its server drops."""
        parameters = self.compiled.parameters
        if api == "ollama":
            parameters = _inlined(parameters, parameters.get("$defs", {}), ())
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


def _collector(signature: inspect.Signature, name: str) -> Callable[..., dict[str, Any]]:
    """Return a function of that signature that returns its arguments by name."""

    def collect(**arguments: Any) -> dict[str, Any]:
        return arguments

    collect.__name__ = collect.__qualname__ = name
    collect.__signature__ = signature  # type: ignore[attr-defined]
    known = signature.parameters.items()
    collect.__annotations__ = {key: each.annotation for key, each in known if each.annotation is not Kind.empty}
    return collect


def _documented(text: str) -> tuple[str, dict[str, str]]:
    """Return what a docstring says of the function, and of its parameters."""
    try:
        import docstring_parser  # noqa: PLC0415 - an optional dependency
    except ImportError:
        msg = "tools need docstring-parser, which is not installed: pip install 'stabilize-nb[llm]'"
        raise ConfigError(msg) from None
    try:
        read = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return text, {}
    returns = read.returns.description if read.returns is not None else None
    said = [read.short_description, read.long_description, returns and f"Returns: {returns}"]
    parameters = {each.arg_name: each.description for each in read.params if each.description}
    return "\n\n".join(part for part in said if part), parameters


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
def tool(
    *, name: str | None = None, description: str | None = None, on_crash: str = RETRY, approve: bool = False
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    on_crash: str = RETRY,
    approve: bool = False,
) -> Any:
    """
    Offer a function, plain or a coroutine function, to models under its own name and docstring unless others are given.

    Types and defaults come from the signature, descriptions of parameters from the docstring, or from
    `Annotated[str, pydantic.Field(description=...)]`. A parameter of type ToolContext is left out of what the model
    sees. `on_crash` ("retry", "fail", "ask"): what is done when the process died while the tool ran. `approve`: a
    person sees every call, and allows it, before it is made.

    For example:

        >>> from stabilize_nb.llm import tool
        >>> @tool
        ... def weather(city: str, days: int = 1) -> str:
        ...     "Say what the weather will be."
        ...     return f"{city}: rain for {days} days"
        >>> weather("Oslo", days=2)
        'Oslo: rain for 2 days'
        >>> weather.schema()["function"]["parameters"]["required"]
        ['city']
    """
    if function is None:
        return functools.partial(Tool, name=name, description=description, on_crash=on_crash, approve=approve)
    return Tool(function)
