"""A %%workflow cell as a Python module: the same stages without a notebook."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

from stabilize_nb.errors import ConfigError
from stabilize_nb.flow import Flow
from stabilize_nb.flow_edit import added_edges
from stabilize_nb.notebook.runtime import Definition

_HEAD = '''"""Workflow {name}, written by %workflow export."""

from stabilize_nb import Flow
from stabilize_nb.flow import jump

{name} = Flow({name!r})
stage, approval, call, loop = {name}.stage, {name}.approval, {name}.call, {name}.loop
shell, http, task = {name}.shell, {name}.http, {name}.task

'''
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


def module_of(definition: Definition) -> str:
    """
    Return the text of a module that defines the same flow.

    Names that come from other cells are listed at the end of its head: they have to be imported or written there.

    Raises ConfigError for a definition that is no flow of a cell.
    """
    flow = definition.work
    if not isinstance(flow, Flow) or not (definition.source or definition.added):
        raise ConfigError(
            f"{definition.name!r} was not written with @stage in a %%workflow cell; only such a cell can be exported"
        )
    body = "\n\n\n".join(filter(None, [definition.source.strip("\n"), *_added(definition)]))
    tree = ast.parse(body)
    foreign = sorted(_foreign(tree))
    note = f"# From other cells of the notebook: {', '.join(foreign)}\n\n" if foreign else ""
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    after_variables = [name for name, stage in flow.stages.items() if name in bound and (stage.is_gate or stage.task)]
    names = [f'{definition.name}.rename({name}, "{name}")' for name in after_variables]
    names += [f'{definition.name}.nodes["{name}"].after = {after!r}' for name, after in _moved(definition).items()]
    tail = "\n".join(["", "", *names, ""]) if names else "\n"
    head = _HEAD if flow.budget is None else _HEAD.replace("import Flow\n", "import Budget, Flow\n") + _BUDGET
    return head.format(name=definition.name) + note + body + tail


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
