"""What `help` shows is true: the examples in docstrings run, each by itself, and print what stands below them."""

import ast
import doctest
from pathlib import Path

import pytest

from stabilize_nb import deterministic
from tests.memory import tmp_path

PACKAGE = Path(__file__).parents[2] / "stabilize_nb"
#: What a person meets first.
MET_FIRST = """
Agent AgentLoopTask Budget Engine Engine.inbox Engine.resume Engine.runs Engine.start EventReplayer Flow Flow.approval
Flow.call Flow.check Flow.http Flow.loop Flow.shell Flow.stage HTTPTask LLMTask PythonTask Run Run.approve Run.at
Run.events Run.explain Run.fork Run.result Run.retry Run.stages Run.until_gate ScriptedModel ShellTask TaskResult
TransientError compare crash_sweep deterministic evaluate_expression jump register_reducer secret tool
"""
#: The class that a person knows, by the one below it that has a part of what it does.
KNOWN_AS = {"Writing": "Flow", "RunRecord": "Run"}
__all__ = ["tmp_path"]


def documented(tree, outside=""):
    """Yield the classes and functions of a module, by name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{outside}{node.name}", node
            yield from documented(node, f"{outside}{node.name}.")


def found():
    """Return the docstrings with examples, by name."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    trees = [ast.parse(text) for text in texts.values() if ">>> " in text]
    named = [(name, ast.get_docstring(node) or "") for tree in trees for name, node in documented(tree)]
    return {name: text for name, text in named if ">>> " in text}


EXAMPLES = found()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_example_runs_as_it_is_printed(name, tmp_path, monkeypatch):
    """It needs nothing but its own lines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(deterministic, "_chosen", None)
    example = doctest.DocTestParser().get_doctest(EXAMPLES[name], {"__name__": "__main__"}, name, name, 0)
    said = []

    result = doctest.DocTestRunner(verbose=False).run(example, out=said.append)

    assert result.failed == 0, "".join(said)
    assert result.attempted > 0


def test_what_is_met_first_has_an_example():
    """And so `help` answers how it is used."""
    named = [name.partition(".") for name in EXAMPLES]
    assert set(MET_FIRST.split()) <= {f"{KNOWN_AS.get(kind, kind)}{dot}{member}" for kind, dot, member in named}
