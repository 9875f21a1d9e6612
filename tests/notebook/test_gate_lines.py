"""Deciding by a line: choices, dates, deadlines, and the promise that a decision is about what was shown."""

from __future__ import annotations

import pytest

FLOW = """%%workflow publish -q
from datetime import date
written = []

@stage
def draft():
    written.append(1)
    return {"draft": f"words {len(written)}"}

ok = approval("Publish?", after=draft, show="draft", form={"on": date | None, "times": int | None},
    choices=["approve", "revise", "reject"], timeout="2h")

@stage(after=ok)
def report(ok):
    return ok"""


@pytest.fixture
def run(notebook):
    """Bring a run to its gate."""
    notebook.run("%config StabilizeNB.user = 'ada'")
    cell = notebook.run(FLOW)
    assert cell.error is None
    run = notebook.run("run = publish.run()\nrun.until_gate(20)\nrun").value
    assert [gate.name for gate in run.gates] == ["ok"]
    return run


def test_a_line_takes_a_choice_and_typed_values(notebook, run):
    """Numbers are numbers, a date is ISO text, and stages get which choice it was."""
    notebook.run("%workflow approve last/ok decision=revise on=2026-11-22 times=7")

    assert run.result(20) == {
        "approved": True,
        "decision": "revise",
        "approval": {"user": "ada", "on": "2026-11-22", "times": 7, "decision": "revise"},
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "approve last/ok decision=burn",
            "gate 'ok' does not offer 'burn'; choose one of 'approve', 'revise', 'reject'",
        ),
        ("approve last/ok on=tomorrow", "field 'on' of gate 'ok' takes a date such as 2026-11-22, not 'tomorrow'"),
        ("approve last/ok tmes=7", "gate 'ok' has no field 'tmes', did you mean times?"),
    ],
)
def test_a_line_that_is_wrong_says_why(notebook, run, line, says):
    """In one sentence; the gate goes on waiting."""
    cell = notebook.run(f"%workflow {line}")

    assert says in cell.text or says in str(cell.error)
    assert [gate.name for gate in run.gates] == ["ok"]


def test_what_is_shown_names_the_deadline_and_the_lines(notebook, run):
    """So that they can be copied."""
    text = notebook.run("run").shown[-1]["text/plain"]

    assert "then it is rejected" in text
    assert f"revise:  %workflow approve {run.id[-7:]}/ok decision=revise" in text


def test_a_line_about_what_has_changed_is_refused(notebook, run):
    """The run that is shown then has the new preview, and the same line is about that."""
    notebook.run("run")
    run.retry("draft")
    while not any(gate.generation for gate in run.gates):
        run.engine.database.changes.ticket().wait(0.05)

    refused = notebook.run("%workflow approve last/ok")

    assert "ok: nothing was decided: what this gate asks has changed since you looked" in refused.text
    assert "words 2" in refused.shown[-1]["text/plain"]
    assert [gate.name for gate in run.gates] == ["ok"]
    notebook.run("%workflow approve last/ok")
    assert run.result(20)["approval"]["user"] == "ada"


def test_a_line_that_comes_second_says_who_was_first(notebook, run):
    """Somebody else decided while the gate was on the page."""
    notebook.run("run")
    run.approve("ok", user="eve")
    run.wait(20)

    cell = notebook.run("%workflow approve last/ok")

    assert "was decided already: approved by eve at" in cell.text or "approved by eve at" in str(cell.error)
