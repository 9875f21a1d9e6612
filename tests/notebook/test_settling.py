"""A stage whose process died, as a notebook shows and settles it."""

from __future__ import annotations

import threading

import pytest

from stabilize_nb.notebook.panes.gate_form import GateForm
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.queue.processor.presence import free_claims
from tests.makers import decided

FLOW = """%%workflow shop -q
@stage(on_crash="ask")
def pay():
    return {"receipt": bank()}

@stage
def ship(pay):
    return {"shipped": pay["receipt"]}"""
UNKNOWN = "outcome unknown: the process died while it ran"


@pytest.fixture
def run(notebook):
    """Bring a run to where somebody has to say what became of a payment."""
    begun, over = threading.Event(), threading.Event()

    def bank():
        if not begun.is_set():
            begun.set()
            over.wait(20)
        return 5

    notebook.names["bank"] = bank
    notebook.run("%config StabilizeNB.user = 'ada'")
    assert notebook.run(FLOW).error is None
    run = notebook.run("run = shop.run()").value or notebook.names["run"]
    assert begun.wait(20)
    engine = RUNTIME.engine()
    engine.database.write(lambda connection: free_claims(connection, engine.processor.owner, 3))
    over.set()
    engine.database.changes.notify()
    assert [gate.name for gate in run.until_gate(20)] == ["pay"]
    return run


def test_lines_that_settle_are_shown(notebook, run):
    """With the run: what is not known, and a line for each answer."""
    text = notebook.run("run").text

    assert f"pay waits for a decision: {UNKNOWN}. What became of it?" in text
    for line in ("pay retry", "pay done [name=value …]", "pay fail reason=…"):
        assert f"/{line}" in text


@pytest.mark.parametrize(
    ("line", "result"),
    [("run/pay retry", {"shipped": 5}), ("run/pay done receipt=7", {"shipped": 7})],
)
def test_lines_settle(notebook, run, line, result):
    """A line runs the body again, or says what it gave; who settled is recorded."""
    cell = notebook.run(f"%workflow settle {line}")

    assert cell.error is None
    assert run.result(20) == result
    assert [(each.user, each.choice) for each in decided(run)] == [("ada", line.split()[1])]


def test_line_that_fails_a_stage(notebook, run):
    """The reason is in the error."""
    notebook.run("%workflow settle run/pay fail reason='no such transfer'")

    assert run.wait(20).name == "TERMINAL"
    assert f"{UNKNOWN}; settled as failed by ada: no such transfer" in run.error


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("settle run/pay", "a stage and what became of it are needed"),
        ("settle run retry", "the stage is missing"),
        ("settle run/pay burn", "stage 'pay' does not offer 'burn'; choose one of 'retry', 'done', 'fail'"),
        ("settle run/pay retry receipt=7", "receipt=… is said only of what is done"),
        ("settle run/ship retry", "stage 'ship' of run"),
    ],
)
def test_lines_that_are_wrong(notebook, run, line, says):
    """They are refused in a sentence, and the stage goes on waiting."""
    assert says in str(notebook.run(f"%workflow {line}").error)
    assert [gate.name for gate in run.gates] == ["pay"]


def test_words_are_completed(notebook, run):
    """Tab offers the answers of the line, the word of a stage and what it may be."""
    assert notebook.complete("%workflow settle run/pay |") == ["retry", "done", "fail"]
    assert notebook.complete("%%workflow x\n@stage(on_|") == ["on_crash="]
    assert notebook.complete('%%workflow x\n@stage(on_crash="|') == ["retry", "fail", "ask"]


def test_form_settles(notebook, run):
    """The form has a button for each answer, and a field for what the body gave."""
    form = GateForm(run, run.gates[0])

    assert [button.description for button in form.buttons.values()] == ["Retry", "Done", "Fail"]
    form.inputs["outputs"].value = "[7]"
    form.decide("done")
    assert "values by name as JSON" in form._said.value
    form.inputs["outputs"].value = '{"receipt": 7}'
    form.decide("done")

    assert run.result(20) == {"shipped": 7}
    form.close()
