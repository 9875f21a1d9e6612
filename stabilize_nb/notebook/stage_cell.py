"""
%%stage: one stage of a flow in a cell of its own, as plain statements.

The flow gets a new version in which the stage of this name is the one of the cell. What such cells add stands beside
the %%workflow cell: running that one again keeps them, unless it now defines a stage of the same name itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from IPython.core.error import UsageError

from stabilize_nb.errors import ConfigError, InvalidWorkflowError
from stabilize_nb.flow import Flow, FlowStage, jump
from stabilize_nb.flow_edit import with_stage
from stabilize_nb.flow_words import StageWords, names_of, read
from stabilize_nb.notebook.cell import parsed, refuse_foreign_jump
from stabilize_nb.notebook.changes import REST, prints_of
from stabilize_nb.notebook.runtime import RUNTIME, Added, Definition
from stabilize_nb.notebook.statements import function_of
from stabilize_nb.notebook.words import Line, did_you_mean, literal

if TYPE_CHECKING:
    from stabilize_nb.notebook.shell import Shell

#: Options of %%stage, and whether a value follows.
OPTIONS: Final = {
    "--after": True,
    "--before": True,
    "--when": True,
    "--otherwise": False,
    "--join": True,
    "--each": True,
    "--retry": True,
    "--timeout": True,
    "--on-crash": True,
    "--title": True,
    "--remove": False,
    "-q": False,
    "--lr": False,
    "--tb": False,
}
USAGE: Final = (
    "%%stage FLOW.STAGE [--after STAGE,…] [--before STAGE,…] [--when CONDITION] [--join N] [--each LIST] "
    "[--retry N] [--timeout S] [--on-crash fail|ask] [-q] [--remove]"
)
#: Options that are words of a stage, and those of them that are text whatever they look like.
_WORDS: Final = ("when", "otherwise", "join", "each", "retry", "timeout", "on_crash", "title")
_TEXT: Final = frozenset({"when", "on_crash", "title"})


def define_stage(shell: Shell, line: str, asked: Line, body: str) -> tuple[Definition, Definition | None]:
    """
    Return the definition of a flow with the stage of a cell, and the one before it; nothing is bound yet.

    Raises CellSyntaxError, UsageError, ConfigError or InvalidWorkflowError.
    """
    flow_name, name = _names(asked)
    old = _known(flow_name, shell.user_ns)
    base = old.base if old is not None and old.base is not None else Flow(flow_name) if old is None else old.work
    assert isinstance(base, Flow), "_known has seen to that"  # noqa: S101 - tells mypy
    added = dict(old.added) if old is not None else {}
    if "--remove" in asked.options:
        if name not in added:
            raise UsageError(f"no %%stage cell has added {name!r} to {flow_name}; added: {', '.join(added) or 'none'}")
        del added[name]
    else:
        now = base if old is None else old.work
        assert isinstance(now, Flow)  # noqa: S101 - as above
        added[name] = _added(shell, line, asked, body, now, name)
    work = with_added(base, added)
    work.check()
    rest = old.prints.get(REST, "") if old is not None else ""
    prints = {**prints_of(work, ast.Module([], [])), REST: rest}
    source = old.source if old is not None else ""
    return Definition(name=flow_name, work=work, source=source, prints=prints, base=base, added=added), old


def _names(asked: Line) -> tuple[str, str]:
    flow, _, stage = (asked.words[0] if len(asked.words) == 1 else "").partition(".")
    if not (flow.isidentifier() and stage.isidentifier()) or asked.given:
        given = " ".join([*asked.words, *(f"{name}=…" for name in asked.given)]) or "nothing"
        raise UsageError(f"a flow and a stage are needed, such as research.fact_check, not {given}; usage: {USAGE}")
    return flow, stage


def _known(name: str, names: Mapping[str, Any]) -> Definition | None:
    found = RUNTIME.definitions.get(name)
    bound = names.get(name)
    if bound is not None and (found is None or found.work is not bound):
        if not isinstance(bound, Flow):
            raise UsageError(f"{name} is a {type(bound).__name__} in this notebook, and no flow that has stages")
        return Definition(name=name, work=bound, prints=prints_of(bound, ast.Module([], [])))
    if found is not None and not isinstance(found.work, Flow):
        raise UsageError(f"{name} is a workflow of the reference API; %%stage adds stages to flows")
    return found


def _added(shell: Shell, line: str, asked: Line, body: str, flow: Flow, name: str) -> Added:
    tree, file = parsed(shell, f"%%stage {line}", body)
    refuse_foreign_jump(tree, shell.user_ns)
    made = function_of(name, tree, {*flow.nodes, *flow.inputs} - {name}, shell.user_ns)
    shell.user_ns["jump"] = jump
    found: dict[str, Any] = {}
    exec(shell.compile(made.tree, file, "exec"), shell.user_ns, found)  # noqa: S102 - a cell is the user's own code
    said = {word: option for word in _WORDS if (option := f"--{word.replace('_', '-')}") in asked.options}
    words = {word: _value(word, asked.options[option]) for word, option in said.items()}
    words["after"] = _stages(asked, "after", flow, name)
    place = f"stage {name!r}"
    stage = FlowStage(name, found[name], **read(place, words, [*StageWords.__annotations__]))
    stage.line = 1
    stage.__dict__["gives"] = made.gives
    return Added(stage=stage, before=_stages(asked, "before", flow, name), text=made.text)


def _value(word: str, given: Any) -> Any:
    return given if word in _TEXT or not isinstance(given, str) else literal(given)


def _stages(asked: Line, word: str, flow: Flow, name: str) -> tuple[str, ...]:
    given = [each.strip() for each in str(asked.options.get(f"--{word}", "")).strip("[]").split(",") if each.strip()]
    for each in given:
        if each not in flow.nodes or each == name:
            known = [node for node in flow.nodes if node != name]
            hint = did_you_mean(each, known) or f"; it has {', '.join(known) or 'no stages yet'}"
            raise UsageError(f"--{word} {each}: {flow.name} has no such stage{hint}")
    return names_of(given)


# -- what cells have added ------------------------------------------------------------------------------


def with_added(base: Flow, added: Mapping[str, Added]) -> Flow:
    """Return a flow with what %%stage cells add to it."""
    work = base
    for each in added.values():
        work = with_stage(work, each.stage, each.before)
    return work


def added_again(new: Definition, old: Definition | None) -> Definition:
    """Return the definition of a %%workflow cell with what %%stage cells added; what does not fit is left out."""
    if old is None or not old.added or not isinstance(new.work, Flow):
        return new
    known = old.base.nodes if old.base is not None else {}
    wanted = {name: each for name, each in old.added.items() if name in known or name not in new.work.nodes}
    added = _fitting(new.work, wanted.items())
    if not added:
        return new
    work = with_added(new.work, added)
    prints = {**prints_of(work, ast.Module([], [])), REST: new.prints[REST]}
    return replace(new, work=work, base=new.work, added=added, prints=prints)


def _fitting(base: Flow, wanted: Iterable[tuple[str, Added]]) -> dict[str, Added]:
    added: dict[str, Added] = {}
    for name, each in wanted:
        try:
            with_added(base, {**added, name: each}).check()
        except (ConfigError, InvalidWorkflowError, KeyError):
            continue
        added[name] = each
    return added
