"""Cells with the words of a flow: loops, instances, conditions; what Tab offers in them."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest

from stabilize_nb import Budget, Engine
from stabilize_nb.notebook.complete import candidates

CELL = """%%workflow essay
@stage
def plan(question):
    return {"topics": [question, "b"]}

@stage(each="topics")
def study(topic):
    return topic * 2

with loop("refine", until="critique.score >= 2") as refine:
    @stage
    def draft(study, score=0):
        return {"text": "".join(study), "version": score + 1}

    @stage
    def critique(draft):
        return {"score": draft["version"]}

good = approval("Good?", after=refine, reject_continues=True)

@stage(when="good.approved")
def publish(draft, good):
    return draft["text"]
"""

COMMANDS = """%%workflow sizes_of -q
from stabilize_nb import PythonTask

@stage
def files(count):
    return [f"f{at}" for at in range(count)]

listed = shell("echo {files}")
sizes = shell(["echo", "{file}", "big"], each="files")
total = task(PythonTask(script="RESULT = len(INPUT['all'])", inputs={"all": "{sizes}"}))

@stage
def report(listed, total, sizes):
    return [listed["stdout"], total["result"], [each["stdout"] for each in sizes]]
"""


def test_cell_with_words_is_run(notebook):
    """A cell may have loops, instances and conditions; the variable of an approval is its name in a condition."""
    assert notebook.run(CELL).error is None
    with Engine(":memory:") as engine:
        run = engine.start(notebook.names["essay"], question="a")
        run.until_gate(20)
        run.approve()

        assert run.result(20) == "aabb"


def test_cell_says_what_its_runs_may_spend(notebook, tmp_path, monkeypatch):
    """A budget that a cell names is that of its runs; one that is none is refused where it stands."""
    assert notebook.run(CELL + "\nbudget(usd=2.0, calls=60)\n").error is None
    monkeypatch.chdir(tmp_path)
    with Engine(":memory:") as engine:
        run = engine.start(notebook.names["essay"], question="a")
        assert (run.budget.usd_limit, run.budget.call_limit) == (2.0, 60)

    notebook.run("%workflow export essay limited_essay.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("limited_essay").essay.budget == Budget(usd=2.0, calls=60)
    assert "limits nothing" in str(notebook.run(CELL + "\nbudget()\n").error)
    assert "budget" not in notebook.names


def test_cell_has_commands_and_tasks(notebook, tmp_path, monkeypatch):
    """They have the names of their variables, and the exported module makes the same flow."""
    assert notebook.run(COMMANDS).error is None
    monkeypatch.chdir(tmp_path)
    notebook.run("%workflow export sizes_of exported_sizes.py")
    monkeypatch.syspath_prepend(tmp_path)
    exported = importlib.import_module("exported_sizes").sizes_of

    with Engine(tmp_path / "runs.db") as engine:
        for flow in (notebook.names["sizes_of"], exported):
            assert engine.start(flow, count=2).result(20) == ['["f0", "f1"]', 2, ["f0 big", "f1 big"]]
            assert "echo {files}" in flow._repr_mimebundle_()["text/html"]
    assert "shell" not in notebook.names


@pytest.mark.parametrize(
    ("before", "offered"),
    [
        ("@stage(oth", "otherwise="),
        ("x = approval('?', ra", "race="),
        ("with loop('l', unt", "until="),
        ("call(x, ea", "each="),
        ("x = shell('make', expe", "expected_codes="),
        ("x = http('https://api.test', pars", "parse_json="),
        ("task(x, ret", "retry="),
        ("budget(us", "usd="),
    ],
)
def test_tab_offers_words_in_a_cell(before: str, offered: str):
    """Inside the brackets of a word Tab offers what can be said there."""
    context = SimpleNamespace(full_text=f"{CELL}\n{before}", text_until_cursor=before, cursor_line=30)
    found = candidates(context, {})

    assert found is not None
    assert offered in [word for word in found[1] if word.startswith(found[0])]


def test_tab_offers_stages_and_loops():
    """Stages in a loop, the loop itself and approvals can be followed."""
    context = SimpleNamespace(full_text=CELL, text_until_cursor='@stage(after=["', cursor_line=30)

    assert [*candidates(context, {})[1]] == ["plan", "study", "refine", "draft", "critique", "good", "publish"]
