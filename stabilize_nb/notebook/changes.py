"""What differs between two definitions of one name: which stages are new, changed or gone. Layout changes nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.flow import Flow
from stabilize_nb.flow_tasks import print_of_task
from stabilize_nb.tasks.prints import print_of

if TYPE_CHECKING:
    from stabilize_nb.flow_parts import FlowLoop, FlowStage
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.models.workflow import Workflow

#: Entry of the prints that stands for everything of the body that is no stage.
REST: Final = ""
#: Fields of a stage that differ from one making of it to the next.
_FLEETING: Final = frozenset({"id", "parent_stage_id", "tasks", "runtime"})


def prints_of(work: Flow | Workflow, tree: ast.Module) -> dict[str, str]:
    """Return what changes when a stage changes, by its name; `tree`: the body that defines them."""
    if isinstance(work, Flow):
        prints = {name: _of_node(node) for name, node in work.nodes.items()}
    else:
        prints = {stage.ref_id: _of_stage(stage) for stage in work.stages}
    rest = [ast.dump(node) for node in _statements(tree.body) if getattr(node, "name", None) not in prints]
    return {**prints, REST: print_of(rest)}


def _of_node(node: FlowStage | FlowLoop) -> str:
    if node.is_loop:
        return print_of(node.condition, node.until, node.most, node.body, {*node.after}, node.settings)
    around = [(word, each.function) for word, each in node.around_it]
    child = node.child.name if node.child is not None else None
    task = print_of_task(node.task) if node.task is not None else None
    return print_of(node.function, {*node.after}, node.settings, around, child, task)


def _of_stage(stage: StageExecution) -> str:
    given = {each.name: getattr(stage, each.name) for each in fields(stage) if each.name not in _FLEETING}
    return print_of(given, [task.implementing_class for task in stage.tasks], _written(stage))


def _written(stage: StageExecution) -> Any:
    """Return the settings whose type alone would say nothing."""
    return repr((stage.mi_config, stage.join_type, stage.split_type))


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a body, those of loops by themselves; what their conditions are stands in the stages."""
    for node in body:
        yield from _statements(node.body) if isinstance(node, ast.With) else (node,)


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """Return "new", "changed" or "gone" by the name of each stage; REST only where nothing else differs."""
    found = dict.fromkeys((name for name in after if name not in before), "new")
    found |= {name: "changed" for name in after if name and before.get(name, after[name]) != after[name]}
    found |= {name: "gone" for name in before if name not in after}
    if not found and before.get(REST) != after.get(REST):
        found[REST] = "changed"
    return found


def said(found: Mapping[str, str]) -> str:
    """Say changes in words: "review is new, plan changed"."""
    return ", ".join(_said(name, what) for name, what in found.items())


def _said(name: str, what: str) -> str:
    if name == REST:
        return "code around the stages changed"
    return f"{name} changed" if what == "changed" else f"{name} is {what}"
