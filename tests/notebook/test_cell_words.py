"""Cells with the words of a flow: loops, instances, conditions; what Tab offers in them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stabilize_nb import Engine
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


def test_cell_with_words_is_run(notebook):
    """A cell may have loops, instances and conditions; the variable of an approval is its name in a condition."""
    assert notebook.run(CELL).error is None
    with Engine(":memory:") as engine:
        run = engine.start(notebook.names["essay"], question="a")
        run.until_gate(20)
        run.approve()

        assert run.result(20) == "aabb"


@pytest.mark.parametrize(
    ("before", "offered"),
    [
        ("@stage(oth", "otherwise="),
        ("x = approval('?', ra", "race="),
        ("with loop('l', unt", "until="),
        ("call(x, ea", "each="),
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
