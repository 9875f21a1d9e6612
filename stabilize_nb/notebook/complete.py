"""
Completion by a custom matcher of IPython: sub-commands, options and names behind %workflow and %%workflow, and names
of stages where the body of a cell or a method of a run asks for one. Pressing Tab opens no store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

from stabilize_nb.errors import WorkflowNotFoundError
from stabilize_nb.flow import Flow
from stabilize_nb.flow_words import CallWords, GateWords, HTTPWords, OrderWords, ShellWords, StageWords
from stabilize_nb.models.budget import Budget
from stabilize_nb.models.settling import ON_CRASH, SETTLEMENTS
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.commands import COMMANDS, Command
from stabilize_nb.notebook.complete_stage import in_stage_cell
from stabilize_nb.notebook.dead import REDRIVE
from stabilize_nb.notebook.dead import ids as dead_ids
from stabilize_nb.notebook.looking import FORMATS
from stabilize_nb.notebook.magic import OPTIONS
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.run import Run

if TYPE_CHECKING:
    from stabilize_nb.notebook.shell import Shell

IDENTIFIER: Final = "stabilize_nb"
#: Runs that are offered at most, the newest.
OFFERED: Final = 20

_LINE: Final = re.compile(r"(?:^|[=\s])%workflow[ \t]+(?P<rest>.*)$")
_CELL: Final = re.compile(r"^%%workflow[ \t]+(?P<rest>.*)$")
_STAGE: Final = re.compile(
    r"^(?:async[ \t]+)?def[ \t]+(\w+)|^[ \t]+@stage\b.*\n[ \t]+(?:async[ \t]+)?def[ \t]+(\w+)"
    r"|^[ \t]*(\w+)[ \t]*=[ \t]*(?:approval|shell|http|task|call)\(|^[ \t]*with[ \t]+loop\([\"'](\w+)",
    re.MULTILINE,
)
#: Where the body of a cell names a stage: after=, show=, jump("...") and the parameters of a function.
_AFTER: Final = re.compile(
    r"\b(?:after|show|each|cancels|milestone|until)[ \t]*=[ \t]*(?:[\[(](?:[^\])]*[,\s])?)?[\"']?(?P<part>\w*)$"
    r"|\bjump\([\"']?(?P<target>\w*)$"
)
_PARAMETER: Final = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+\w+\((?:[^)]*,[ \t]*)?(?P<part>\w*)$")
#: Where a run is asked about one of its stages, or told which gate is meant.
_OF_RUN: Final = re.compile(
    r"\b(?P<run>\w+)\.(?:(?:log|explain|fork|retry|cancel|signal|settle)\(|outputs\[|(?P<gate>approve|reject|decide)\()"
    r"[\"'](?P<part>\w*)$"
)

#: Where the body of a cell says what is done when a process has died.
_CRASH: Final = re.compile(r"\bon_crash[ \t]*=[ \t]*[\"'](?P<part>\w*)$")
#: Where the body of a cell says a word about a stage.
_WORD: Final = re.compile(
    r"\b(?P<what>stage|approval|shell|http|task|call|loop|budget)\((?:.*[,(][ \t]*)?(?P<part>\w*)$"
)
_WORDS: Final[Mapping[str, Iterable[str]]] = {
    "stage": StageWords.__annotations__,
    "approval": ("show", "form", "choices", "timeout", "on_timeout", "reject_continues", *GateWords.__annotations__),
    "shell": ShellWords.__annotations__,
    "http": ("method", *HTTPWords.__annotations__),
    "task": StageWords.__annotations__,
    "call": CallWords.__annotations__,
    "loop": ("until", "while_", "max", "body", *OrderWords.__annotations__),
    "budget": Budget.__annotations__,
}

Found = tuple[str, Iterable[str]]


def register(shell: Shell) -> None:
    """Add the matcher of this package to IPython's."""
    unregister(shell)

    @context_matcher(identifier=IDENTIFIER)  # type: ignore[untyped-decorator, unused-ignore]  # by version
    def match(context: CompletionContext) -> dict[str, Any]:
        found = candidates(context, shell.user_ns)
        if found is None:
            return {"completions": []}
        part, words = found
        fitting = [SimpleCompletion(word, type="keyword") for word in dict.fromkeys(words) if word.startswith(part)]
        return {"completions": fitting, "matched_fragment": part, "suppress": bool(fitting), "ordered": True}

    shell.Completer.custom_matchers.append(match)


def unregister(shell: Shell) -> None:
    """Undo `register`."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [each for each in matchers if getattr(each, "matcher_identifier", "") != IDENTIFIER]


def candidates(context: CompletionContext, names: Mapping[str, Any]) -> Found | None:
    """Return what is being written and what it may become; None where this package has nothing to say."""
    before = context.text_until_cursor
    if context.full_text.startswith("%%workflow"):
        if context.cursor_line == 0:
            return _in_head(before)
        return _in_body(before, context.full_text)
    if context.full_text.startswith("%%stage"):
        return in_stage_cell(before, context.full_text, context.cursor_line, names)
    match = _LINE.search(before)
    return _in_line(match["rest"], names) if match else _of_run(before, names)


def _of_run(before: str, names: Mapping[str, Any]) -> Found | None:
    match = _OF_RUN.search(before)
    run = names.get(match["run"]) if match else None
    if match is None or not isinstance(run, Run) or run.engine.is_closed:
        return None
    if match["gate"]:
        return match["part"], [gate.name for gate in run.gates]
    return match["part"], [stage.ref_id for stage in run.workflow.stages]


def _in_head(before: str) -> Found | None:
    match = _CELL.match(before)
    if match is None:
        return None
    part = _last(match["rest"])
    if part.startswith("-"):
        return part, OPTIONS
    return (part, RUNTIME.definitions) if part == match["rest"] else None


def _in_body(before: str, text: str) -> Found | None:
    match = _AFTER.search(before)
    if match:
        return match["part"] or match["target"] or "", _stages(text)
    match = _PARAMETER.match(before)
    if match:
        return match["part"], [*_stages(text), "stage", "progress"]
    if crash := _CRASH.search(before):
        return crash["part"], ON_CRASH
    match = _WORD.search(before)
    return (match["part"], [f"{word}=" for word in _WORDS[match["what"]]]) if match else None


def _stages(text: str) -> list[str]:
    return ["".join(found) for found in _STAGE.findall(text)]


def _in_line(rest: str, names: Mapping[str, Any]) -> Found | None:
    words, part = rest.split(" "), _last(rest)
    if len(words) == 1:
        return part, COMMANDS
    command = COMMANDS.get(words[0])
    if command is None:
        return None
    if words[-2] in _VALUES:
        return part, _VALUES[words[-2]]
    if part.startswith("-"):
        return part, command.options
    if command.takes == "stage" and "/" in part:
        return part, _parts(part.rpartition("/")[0], names)
    is_first = not [word for word in words[1:-1] if word and not word.startswith("-")]
    return (part, _OFFERS[command.takes](names)) if command.takes and is_first else _fields(command, words, part)


def _last(text: str) -> str:
    return re.split(r"\s", text)[-1]


def _fields(command: Command, words: list[str], part: str) -> Found | None:
    """Offer the fields of a form, or the inputs of a workflow."""
    if command.name == "run" and isinstance(work := _works({}).get(words[1]), Flow):
        return part, [f"{name}=" for name in work.inputs]
    if command.name == "dead" and words[1] == REDRIVE:
        return part, dead_ids()
    if command.name == "settle" and len(words) == len(("settle", "RUN/STAGE", "CHOICE")):
        return part, SETTLEMENTS
    if command.name != "approve":
        return None
    gates = {f"{gate.run_id}/{gate.name}": gate for engine in RUNTIME.engines() for gate in engine.inbox()}
    gate = gates.get(words[1])
    return None if gate is None else (part, [f"{name}=" for name in gate.form])


def _works(names: Mapping[str, Any]) -> dict[str, Any]:
    bound = {name: value for name, value in names.items() if isinstance(value, Flow | Workflow) and name[:1] != "_"}
    return {**{name: each.work for name, each in RUNTIME.definitions.items()}, **bound}


def _runs(names: Mapping[str, Any]) -> Iterator[str]:
    yield "last"
    yield from (name for name, value in names.items() if isinstance(value, Run) and name[:1] != "_")
    for engine in RUNTIME.engines():
        yield from (header["id"] for header in engine.store.list(limit=OFFERED))


def _gates(names: Mapping[str, Any]) -> Iterator[str]:
    for engine in RUNTIME.engines():
        yield from (f"{gate.run_id}/{gate.name}" for gate in engine.inbox())
    yield from _runs(names)


def _parts(run: str, names: Mapping[str, Any]) -> Iterator[str]:
    """Yield the stages of a run, as it was written."""
    if RUNTIME.engines():
        try:
            workflow = RUNTIME.run(run, names).workflow
        except WorkflowNotFoundError:
            return
        yield from (f"{run}/{stage.ref_id}" for stage in workflow.stages)


def _graphs(names: Mapping[str, Any]) -> Iterator[str]:
    yield from _works(names)
    yield from _runs(names)


_OFFERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Iterable[str]]]] = {
    "workflow": _works,
    "run": _runs,
    "stage": _runs,
    "gate": _gates,
    "graph": _graphs,
    "redrive": lambda _: (REDRIVE,),
    "command": lambda _: COMMANDS,
}
_VALUES: Final[Mapping[str, Iterable[str]]] = {"--format": FORMATS, "--direction": ("LR", "TB", "auto")}
