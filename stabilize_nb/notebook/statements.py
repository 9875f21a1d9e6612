"""
Plain statements as a stage function.

What the statements read becomes its parameters: stages and inputs of the flow, and names that nothing else gives. What
they leave in `outputs` is what it returns. Other names of the notebook are found as in any cell.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from stabilize_nb.flow_parts import HANDLES

OUTPUTS: Final = "outputs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """A function made of statements: its code for the compiler, its text, and the outputs that can be read in it."""

    tree: ast.Module
    text: str
    gives: frozenset[str]


def function_of(name: str, body: ast.Module, known: Collection[str], names: Mapping[str, Any]) -> Statements:
    """Make a function of statements; `known`: stages and inputs of the flow, `names`: those of the notebook."""
    bare = _function(name, body, [])
    read = _read(bare)
    early = [each for each in _read_first(body) if each in known]
    foreign = {*dir(builtins), "jump", OUTPUTS, *(names.keys() - {*known})}
    free = [each for each in read if each in {*known, *HANDLES} or each not in foreign]
    function = _function(name, body, [*dict.fromkeys([*early, *free])])
    tree = ast.fix_missing_locations(ast.Module(body=[function], type_ignores=[]))
    return Statements(tree=tree, text=ast.unparse(tree), gives=frozenset(_gives(body)))


def _function(name: str, body: ast.Module, parameters: list[str]) -> ast.FunctionDef | ast.AsyncFunctionDef:
    statements = [*body.body]
    if any(isinstance(node, ast.Name) and node.id == OUTPUTS for node in ast.walk(body)):
        begin = ast.Assign(targets=[ast.Name(OUTPUTS, ast.Store())], value=ast.Constant(None))
        statements = [begin, *statements, ast.Return(ast.Name(OUTPUTS, ast.Load()))]
    kind: Callable[..., Any] = ast.AsyncFunctionDef if any(_awaits(body.body)) else ast.FunctionDef
    arguments = ast.arguments(
        posonlyargs=[], args=[ast.arg(each) for each in parameters], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    made: ast.FunctionDef = kind(name=name, args=arguments, body=statements or [ast.Pass()], decorator_list=[])
    made.type_params = []  # type: ignore[attr-defined, unused-ignore]  # Python 3.12 and later
    return ast.fix_missing_locations(made)


def _awaits(nodes: Collection[ast.AST]) -> Iterator[bool]:
    """Yield whether nodes wait for something, not looking into functions inside them."""
    for node in nodes:
        yield isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _awaits([*ast.iter_child_nodes(node)])


def _read(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the names that a function takes from outside of it, sorted."""
    (inner,) = symtable.symtable(ast.unparse(function), "<cell>", "exec").get_children()
    return sorted(_global_names(inner))


def _global_names(table: symtable.SymbolTable) -> Iterator[str]:
    yield from (symbol.get_name() for symbol in table.get_symbols() if symbol.is_global())
    for child in table.get_children():
        yield from _global_names(child)


def _read_first(body: ast.Module) -> list[str]:
    """Return the names that statements read before they give them a value: `text = text.strip()`."""
    seen: dict[str, bool] = {}
    for node in _in_order(body):
        if isinstance(node, ast.Name):
            seen.setdefault(node.id, isinstance(node.ctx, ast.Load))
    return [name for name, is_read in seen.items() if is_read]


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    """Yield nodes in the order in which they are evaluated: the value of an assignment before its target."""
    match node:
        case ast.Assign(value=value, targets=targets):
            parts: list[ast.AST] = [value, *targets]
        case ast.AnnAssign(value=value, target=target) if value is not None:
            parts = [value, target]
        case ast.AugAssign(value=value, target=ast.Name(id=name)):
            parts = [ast.Name(name, ast.Load()), value]
        case ast.For(iter=iterated, target=target) | ast.AsyncFor(iter=iterated, target=target):
            parts = [iterated, target, *node.body, *node.orelse]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() | ast.ClassDef():
            parts = []
        case _:
            parts = [*ast.iter_child_nodes(node)]
    yield node
    for part in parts:
        yield from _in_order(part)


def _gives(body: ast.Module) -> Iterator[str]:
    for node in ast.walk(body):
        match node:
            case ast.Assign(targets=[ast.Name(id="outputs")], value=ast.Dict(keys=keys)) | ast.Return(
                ast.Dict(keys=keys)
            ):
                yield from (key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id="outputs"), slice=ast.Constant(value=str(key)))]):
                yield key
            case _:
                pass
