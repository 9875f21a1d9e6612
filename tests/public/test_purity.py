"""The pure core stays pure, and imports stand at the head of a module: read from the syntax trees."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "stabilize_nb"

#: Modules that only compute. The rest of the package may not be among them, see PURE.
ALLOWED = {
    *("__future__", "typing", "types", "dataclasses", "enum", "collections", "collections.abc"),
    *("ast", "difflib", "functools", "graphlib", "hashlib", "itertools", "json", "math", "operator", "re", "reprlib"),
    "unicodedata",
}
PURE = ["models", "dag", "core", "handlers", "queue/messages.py"]
PURE += ["expressions.py", "reducers.py", "errors.py", "plain.py"]
#: Ids of objects that users build need entropy, a lock to keep their order, and another prefix in a forked child.
#: A form makes texts of dates, a plan reckons with calendars; neither asks a clock.
EXCEPTIONS = {
    "models/ids.py": {"os", "threading", "ulid"},
    "models/forms.py": {"datetime"},
    "models/plan.py": {"cronsim", "datetime", "zoneinfo"},
}
FORBIDDEN_NAMES = {"open", "eval", "exec", "compile", "__import__", "input", "print", "globals", "breakpoint"}


@dataclass(frozen=True, slots=True)
class Source:
    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(PACKAGE).as_posix()

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text())


def sources(*parts: str) -> list[Source]:
    found: list[Path] = []
    for part in parts or ("",):
        path = PACKAGE / part
        found.extend([path] if path.is_file() else sorted(path.rglob("*.py")))
    assert found
    return [Source(path) for path in found]


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def is_pure(module: str) -> bool:
    """Whether a module of the package belongs to the pure part."""
    within = module.removeprefix("stabilize_nb").lstrip(".").replace(".", "/")
    return any(within == part.removesuffix(".py") or within.startswith(f"{part}/") for part in PURE)


@pytest.mark.parametrize("source", sources(*PURE), ids=lambda source: source.name)
def test_pure_module_imports_only_what_computes(source: Source):
    """No clock, no entropy, no threads, no files, no database, no part of the package that has them."""
    strangers = {
        module
        for module in imported(source.tree)
        if module not in ALLOWED | EXCEPTIONS.get(source.name, set())
        and not (module.startswith("stabilize_nb") and (is_pure(module) or module == "stabilize_nb.queue"))
    }

    assert strangers == set()


@pytest.mark.parametrize("source", sources(*PURE), ids=lambda source: source.name)
def test_pure_module_opens_and_runs_nothing(source: Source):
    """No file is opened and no text becomes code."""
    used = {node.id for node in ast.walk(source.tree) if isinstance(node, ast.Name)}

    assert used & FORBIDDEN_NAMES == set()


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_package_is_not_imported_inside_functions(source: Source):
    """An import of the package inside a function would hide a cycle."""
    functions = (
        node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    )
    hidden = {
        module for function in functions for module in imported(function) if module.startswith(("stabilize_nb", "."))
    }

    assert hidden == set()
