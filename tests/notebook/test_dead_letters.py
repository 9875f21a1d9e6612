"""Dead letters in a notebook: they are told of, listed, and put back."""

from __future__ import annotations

import pytest

from stabilize_nb.handlers import HANDLERS
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.queue.messages import AddMultiInstance


@pytest.fixture
def letter(notebook, monkeypatch) -> str:
    """Have a run that waits at a gate get a message that cannot be processed."""
    notebook.run("%%workflow wait -q\nok = approval('Go on?')")
    run = notebook.run("run = wait.run()\nrun.until_gate(20)\nrun").value
    engine = RUNTIME.engine()
    engine.processor.stop()
    monkeypatch.setitem(HANDLERS, AddMultiInstance, lambda _draft, _message: 1 / 0)
    monkeypatch.setattr(engine.processor, "config", type(engine.processor.config)(max_deliveries=1))
    stage_id = run.workflow.stages[0].id
    engine.queue.push(AddMultiInstance(execution_id=run.id, stage_id=stage_id), message_id="letter")
    engine.processor.process_all()
    return "letter"


def test_run_tells_of_its_dead_letters(notebook, letter):
    """Shown with the run, and by %workflow status, with what to do."""
    sentence = (
        "the message AddMultiInstance for stage 'ok' could not be processed and is a dead letter: "
        "ZeroDivisionError: division by zero; engine.redrive('letter') tries it again once that is mended"
    )

    assert sentence in notebook.run("run").shown[0]["text/html"].replace("&#39;", "'")
    assert sentence in notebook.run("%workflow status run").text


def test_dead_letters_are_listed_and_put_back(notebook, letter):
    """A frame of them, and a line that puts one back; Tab offers which."""
    assert notebook.run("%workflow dead").value.message_id.tolist() == ["letter"]
    assert notebook.complete("%workflow dead |") == ["redrive"]
    assert notebook.complete("%workflow dead redrive |") == ["all", "letter"]

    assert "1 dead letter put back" in notebook.run("%workflow dead redrive letter").text

    cell = notebook.run("%workflow dead redrive other")
    assert "'other' is not the id of a dead letter" in str(cell.error)
    assert "usage: %workflow dead [redrive ID …|redrive all]" in str(notebook.run("%workflow dead burn letter").error)
