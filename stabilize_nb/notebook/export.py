"""A %%workflow cell as a Python module: the same stages without a notebook."""

from __future__ import annotations

import ast
import builtins
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from stabilize_nb.errors import ConfigError
from stabilize_nb.flow import Flow
from stabilize_nb.flow_edit import added_edges
from stabilize_nb.notebook.runtime import RUNTIME, Definition

_HEAD = '''"""Workflow {name}, written by %workflow export."""

from stabilize_nb import Flow
from stabilize_nb.flow import jump

{name} = Flow({name!r})
stage, approval, call, loop = {name}.stage, {name}.approval, {name}.call, {name}.loop
shell, http, task = {name}.shell, {name}.http, {name}.task

'''
#: Python compiles a call of what the same file imports otherwise, and then its print would be another one.
_BROUGHT = """# What other cells have imported; an import statement would change the prints of what uses it.
from importlib import import_module

{}

"""
_BUDGET = """
def budget(**limits):
    {name}.budget = Budget(**limits)


"""
_GIVEN = frozenset(
    {
        *(
            "stage",
            "approval",
            "shell",
            "http",
            "task",
            "call",
            "loop",
            "budget",
            "jump",
            "Flow",
            "__name__",
            "__file__",
        ),
        *dir(builtins),
    }
)


def save(flow: Flow, path: str | os.PathLike[str]) -> Path:
    """
    Write a flow of cells as a module that needs no notebook, and return where.

    Raises ConfigError for a flow that was not written in a %%workflow cell, and for one that needs what only the
    notebook has.
    """
    definition = next((each for each in RUNTIME.definitions.values() if each.work is flow), None)
    if definition is None or not definition.source:
        raise ConfigError(
            f"flow {flow.name!r} was not written in a %%workflow cell: write it in a module, and workers import that"
        )
    text, left = _module(definition)
    if left:
        names = _names_of(flow)
        kinds = ", ".join(
            f"{name} (a {type(names[name]).__name__})" if name in names else name for name in sorted(left)
        )
        raise ConfigError(
            f"flow {flow.name!r} uses {kinds} of other cells, which a worker does not have: define it in the "
            "%%workflow cell, hand it over as an input, or import it from a module"
        )
    target = Path(path)
    target.write_text(text, encoding="utf-8")
    return target


def module_of(definition: Definition) -> str:
    """
    Return the text of a module that defines the same flow.

    What other cells have imported is imported there; other names of theirs are listed at the end of its head: they have
    to be written there.

    Raises ConfigError for a definition that is no flow of a cell.
    """
    return _module(definition)[0]


def _module(definition: Definition) -> tuple[str, set[str]]:
    """Return the text of a module, and the names in it that it does not have."""
    flow = definition.work
    if not isinstance(flow, Flow) or not (definition.source or definition.added):
        raise ConfigError(
            f"{definition.name!r} was not written with @stage in a %%workflow cell; only such a cell can be exported"
        )
    body = "\n\n\n".join(filter(None, [definition.source.strip("\n"), *_added(definition)]))
    try:
        tree = ast.parse(body)
    except SyntaxError:
        raise ConfigError(
            f"the cell %%workflow {definition.name} has lines that are no Python, such as a magic"
        ) from None
    wanted = _foreign(tree)
    brought = _brought(wanted, _names_of(flow))
    foreign = sorted(wanted - brought.keys())
    note = _BROUGHT.format("\n".join(brought.values())) if brought else ""
    note += f"# From other cells of the notebook: {', '.join(foreign)}\n\n" if foreign else ""
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    after_variables = [name for name, stage in flow.stages.items() if name in bound and (stage.is_gate or stage.task)]
    names = [f'{definition.name}.rename({name}, "{name}")' for name in after_variables]
    names += [f'{definition.name}.nodes["{name}"].after = {after!r}' for name, after in _moved(definition).items()]
    tail = "\n".join(["", "", *names, ""]) if names else "\n"
    head = _HEAD if flow.budget is None else _HEAD.replace("import Flow\n", "import Budget, Flow\n") + _BUDGET
    return head.format(name=definition.name) + note + body + tail, set(foreign)


def _names_of(flow: Flow) -> Mapping[str, Any]:
    """Return the names of the notebook in which the functions of a flow were written."""
    functions = (stage.function for stage in flow.stages.values() if stage.function is not None)
    return next((each.__globals__ for each in functions if hasattr(each, "__globals__")), {})


def _brought(wanted: Iterable[str], names: Mapping[str, Any]) -> dict[str, str]:
    """Return the statements that bring names of other cells, as far as they come from modules."""
    places = {name: _place(names[name]) for name in wanted if name in names}
    return {name: f"{name} = {place}" for name, place in sorted(places.items()) if place}


def _place(value: Any) -> str:
    """Return where a value is found again; "" when it is no module and stands in none."""
    if isinstance(value, ModuleType):
        return "" if value.__name__ == "__main__" else f'import_module("{value.__name__}")'
    module, own = getattr(value, "__module__", None), getattr(value, "__name__", "")
    if not isinstance(module, str) or module == "__main__" or getattr(sys.modules.get(module), own, None) is not value:
        return ""
    return f'import_module("{module}").{own}'


def _added(definition: Definition) -> Iterator[str]:
    """Yield the stages of %%stage cells as functions."""
    for each in definition.added.values():
        given = {"after": list(each.stage.after), **each.stage.settings}
        words = ", ".join(f"{word}={value!r}" for word, value in given.items() if value not in ([], False))
        yield f"@stage({words})\n{each.text}" if words else f"@stage\n{each.text}"


def _moved(definition: Definition) -> dict[str, tuple[str, ...]]:
    """Return what stages of the %%workflow cell follow since %%stage cells stand before them."""
    flow, base = definition.work, definition.base
    return added_edges(base, flow) if isinstance(flow, Flow) and base is not None else {}


def _foreign(tree: ast.Module) -> set[str]:
    """Return the names that a body reads and nowhere binds."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                bound.add(node.name)
            case ast.arg():
                bound.add(node.arg)
            case ast.alias():
                bound.add((node.asname or node.name).partition(".")[0])
            case ast.ExceptHandler() if node.name:
                bound.add(node.name)
            case _:
                pass
    return {node.id for node in names} - bound - _GIVEN
