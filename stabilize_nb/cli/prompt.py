"""
`stabilize-nb prompt`: a guide for coding agents, in one text.

What is explained stands in prompt.md beside this file, whose Python blocks the tests run. What can be read from the
code is read: places such as `{{class stabilize_nb.Run}}` in it stand for signatures, docstrings and tables.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from importlib.resources import files
from typing import Any, Final

import click

import stabilize_nb
from stabilize_nb.comparing import COMPARISON
from stabilize_nb.events.frames import FRAMES
from stabilize_nb.flow_words import StageWords
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.run_diff import CHANGES

PLACE: Final = re.compile(r"\{\{(\w+)(?: ([^}]+))?\}\}")
#: What leads elsewhere: numbers of patterns, pages, other modules.
_LEFT_OUT: Final = re.compile(
    r"\s+\((?:WCP-[\d, ]+|contract C\d+|docs/[\w-]+\.md|see `[\w.]+`)\)|, WCP-[\d, ]+(?=\))|; see docs/[\w-]+\.md"
    r"|; columns as `[\w.]+` (?:states|has) them"
)
#: How the example of a docstring begins.
_EXAMPLE: Final = "\n\nFor example:\n"
#: The method whose signature has the words of a stage; others say `**words`.
_HAS_WORDS: Final = "stage"
_FIRST_WORD: Final = "after"
_WORDS: Final = {word: getattr(kind, "__forward_arg__", kind) for word, kind in StageWords.__annotations__.items()}


@click.command(short_help="Print a guide for coding agents.")
def prompt() -> None:
    """Print all that a coding agent has to know to write workflows, as one text: `stabilize-nb prompt > guide.md`."""
    click.echo(guide(), nl=False)


def guide() -> str:
    """Return the guide with what is read from the code in its places."""
    text = files("stabilize_nb.cli").joinpath("prompt.md").read_text(encoding="utf-8")
    return PLACE.sub(lambda place: _PARTS[place[1]](*(place[2] or "").split()), text)


def _class(name: str, *members: str) -> str:
    """Describe a class with these members, or with all public ones but those that follow a minus sign."""
    return _described(name, members, is_brief=False)


def _brief(name: str, *members: str) -> str:
    """Do the same, with the first paragraph of what each member does."""
    return _described(name, members, is_brief=True)


def _described(name: str, members: Sequence[str], *, is_brief: bool) -> str:
    found = pkgutil.resolve_name(name)
    without = {member[1:] for member in members if member.startswith("-")}
    chosen = [member for member in members if not member.startswith("-")] or _public(found)
    lines = [_member(found, member, is_brief=is_brief) for member in chosen if member not in without]
    return "\n".join([f"### `{_shown(name)}{_signature(found)}`", "", _text(found.__doc__), "", *lines]).rstrip()


def _members(name: str, *members: str) -> str:
    """Describe a class that nobody calls: in short with these members, or without any by all that it says."""
    found = pkgutil.resolve_name(name)
    lines = [_member(found, member, is_brief=True) for member in members]
    text = _text(found.__doc__, is_brief=bool(members))
    return "\n".join([f"### `{_shown(name)}`", "", text, "", *lines]).rstrip()


def _public(kind: type) -> Iterator[str]:
    """Yield what a class gives to whoever uses it, with what it has from others of the package, in their order."""
    ours = [each for each in reversed(kind.__mro__) if each.__module__.startswith(stabilize_nb.__name__)]
    for member, value in {name: value for each in ours for name, value in vars(each).items()}.items():
        if not member.startswith("_") and (callable(value) or isinstance(value, property | staticmethod | classmethod)):
            yield member


def _member(kind: type, name: str, *, is_brief: bool) -> str:
    value = inspect.getattr_static(kind, name)
    if isinstance(value, property):
        return f"- `.{name}`: {_text(value.__doc__, '  ', is_brief=is_brief)}"
    function = getattr(kind, name)
    signature = _signature(function, of_instance=inspect.isfunction(value), words=name == _HAS_WORDS)
    return f"- `.{name}{signature}`: {_text(function.__doc__, '  ', is_brief=is_brief)}"


def _function(name: str) -> str:
    found = pkgutil.resolve_name(name)
    return f"### `{_shown(name)}{_signature(found)}`\n\n{_text(found.__doc__)}"


def _shown(name: str) -> str:
    """Return a name without the package where it is the package's own."""
    home, _, last = name.rpartition(".")
    return last if home == stabilize_nb.__name__ else name


def _signature(found: Any, *, of_instance: bool = False, words: bool = False) -> str:
    """Return a signature in short: without `self`; the words of a stage are `**words` unless they are asked for."""
    signature = inspect.signature(found)
    parameters = [*signature.parameters.values()][of_instance:]
    takes_words = any(each.name == _FIRST_WORD and each.kind is each.KEYWORD_ONLY for each in parameters) and not words
    hidden = {
        each.name
        for each in parameters
        if takes_words and each.kind is each.KEYWORD_ONLY and _WORDS.get(each.name) == each.annotation
    }
    shown, kind = [], None
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and kind not in (each.KEYWORD_ONLY, each.VAR_POSITIONAL):
            shown.append("*")
        if each.kind is not each.POSITIONAL_ONLY and kind is each.POSITIONAL_ONLY:
            shown.insert(-1 if shown[-1] == "*" else len(shown), "/")
        kind = each.kind
        if each.name not in hidden:
            shown.append(_parameter(each))
    if shown and shown[-1] == "*":
        shown.pop()
    given = ", ".join([*shown, *(["**words"] if hidden else [])])
    returns = signature.return_annotation
    is_told = isinstance(returns, str) and returns not in ("None", "Any") and not isinstance(found, type)
    return f"({given})" + (f" -> {returns}" if is_told else "")


def _parameter(given: inspect.Parameter) -> str:
    """Return a parameter with its type, or instead with its default, unless that is the None of a word not said."""
    stars = "*" if given.kind is given.VAR_POSITIONAL else "**" if given.kind is given.VAR_KEYWORD else ""
    if given.default is not given.empty:
        return given.name if _is_word(given) else f"{given.name}={_default(given.default)}"
    kind = f": {given.annotation}" if isinstance(given.annotation, str) and given.annotation != "Any" else ""
    return f"{stars}{given.name}{kind}"


def _is_word(given: inspect.Parameter) -> bool:
    return given.default is None and given.kind is given.KEYWORD_ONLY and "None" not in str(given.annotation)


def _default(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name
    return "..." if "factory" in repr(value) else repr(value)


def _text(doc: str | None, indent: str = "", *, is_brief: bool = False) -> str:
    """
    Return a docstring, or its first paragraph, with further lines indented; without its example, for which there are
    whole programs, and without what is said elsewhere.
    """
    text = _LEFT_OUT.sub("", inspect.cleandoc(doc or "").partition(_EXAMPLE)[0])
    first, *rest = (text.partition("\n\n")[0] if is_brief else text).splitlines()
    return "\n".join([first, *(f"{indent}{line}".rstrip() for line in rest)])


def _columns() -> str:
    tables = {**FRAMES, "diff": CHANGES, "comparison": COMPARISON}
    return "\n".join(f"- {name}: {', '.join(column.name for column in tables[name])}" for name in tables)


_PARTS: Final[Mapping[str, Callable[..., str]]] = {
    "brief": _brief,
    "class": _class,
    "function": _function,
    "columns": _columns,
    "members": _members,
    "statuses": lambda: ", ".join(status.name for status in WorkflowStatus),
    "version": lambda: stabilize_nb.__version__,
}
