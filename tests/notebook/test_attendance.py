"""Cells that wait for a run which waits for a person, where nobody is there or nobody can be heard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain, repeat

import nbformat
import papermill
import pytest
from nbclient import NotebookClient

from stabilize_nb import Engine, Flow
from stabilize_nb import run_record as record_module
from stabilize_nb.notebook import attendance
from stabilize_nb.waiting import WATCH
from tests.kernels import OLDEST_NAME, Kernel, OldestKernel, started_kernel

FLOW = """%%workflow letter -q
import time

@stage
def draft(topic="tides"):
    return topic.upper()

good = approval("Good?", after=draft, show="draft", form={form})

@stage(after=good)
def publish(draft, seconds=0.0):
    time.sleep(seconds)
    return draft + "!"
"""

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def batch(tmp_path, *cells: str, form: str = "{}") -> list[str]:
    """Run a notebook as nbconvert and papermill do, and return what each cell said."""
    sources = ["%load_ext stabilize_nb", FLOW.format(form=form), *cells]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    client = NotebookClient(
        notebook, timeout=60, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    kinds = {kind for cell in notebook.cells for output in cell.outputs for kind in output.get("data", {})}
    assert not [kind for kind in kinds if "widget" in kind]
    return ["\n".join(map(_text, cell.outputs)) for cell in notebook.cells[2:]]


def _text(output: nbformat.NotebookNode) -> str:
    return output.get("text") or "\n".join(output.get("traceback", [])) or output["data"].get("text/plain", "")


@pytest.mark.parametrize("wait", ["await run", "run.result()", "run.wait()"])
def test_gate_that_nobody_can_decide_is_an_error(tmp_path, monkeypatch, wait):
    """A batch run ends with a sentence that names the gate and what to do; it never hangs, and it has no widgets."""
    monkeypatch.delenv("STABILIZE_NB_AUTO_APPROVE", raising=False)
    shown, said, mode = batch(
        tmp_path, "run = letter.run()\n_ = run.until_gate()\nrun", wait, "%config StabilizeNB.display"
    )

    assert "good" in shown
    assert mode == "'auto'"
    assert "NobodyToDecide" in said
    assert "waits for a decision at 'good'" in said
    assert "STABILIZE_NB_AUTO_APPROVE=1" in said


def test_waiting_for_a_gate_leaves_the_decision_to_its_caller(tmp_path, monkeypatch):
    """Also when the gate comes just after it was looked for: it is returned, not an error and not approved."""
    found = record_module.gates_in
    has_come = chain([False], repeat(True))
    monkeypatch.setattr(WATCH, "look", attendance.look)
    monkeypatch.setattr(attendance, "is_attended", lambda: False)
    flow = Flow("letter")
    flow.approval("Good?", name="good")
    with Engine(tmp_path / "runs.db") as engine:
        run = engine.start(flow)
        run.until_gate(20)
        monkeypatch.setattr(record_module, "gates_in", lambda *given: found(*given) if next(has_come) else [])

        assert [gate.name for gate in run.until_gate(20)] == ["good"]


def test_scripted_decision_is_taken(tmp_path):
    """A decision that was made before the gate is reached counts as in any run."""
    (said,) = batch(tmp_path, "run = letter.run()\nrun.approve('good')\nawait run")

    assert said == "'TIDES!'"


@pytest.mark.parametrize("wait", ["await run", "run.result()", "run.wait(), run.result()"])
def test_gates_are_approved_when_the_environment_says_so(tmp_path, monkeypatch, wait):
    """Who decided is recorded."""
    monkeypatch.setenv("STABILIZE_NB_AUTO_APPROVE", "1")
    said, who = batch(tmp_path, f"run = letter.run()\n{wait}", "print(run.decisions['user'][0])")

    assert "TIDES!" in said
    assert who == "STABILIZE_NB_AUTO_APPROVE\n"


@pytest.mark.parametrize("wait", ["await run", "run.result()"])
def test_form_that_nobody_fills_in_is_not_approved(tmp_path, monkeypatch, wait):
    """A field without a default has no value to take: the cell says which one, and the gate still waits."""
    monkeypatch.setenv("STABILIZE_NB_AUTO_APPROVE", "1")
    said, waits = batch(tmp_path, f"run = letter.run()\n{wait}", "print(len(run.gates))", form='{"grade": int}')

    assert "NobodyToDecide" in said
    assert "'grade'" in said
    assert waits == "1\n"


@pytest.mark.parametrize("decides", [True, False])
def test_papermill_runs_a_notebook_with_its_parameters(tmp_path, monkeypatch, decides):
    """A parameter reaches the run; a gate is approved where the environment says so, else it ends the notebook."""
    monkeypatch.setenv("STABILIZE_NB_AUTO_APPROVE", "1" if decides else "0")
    parameters = nbformat.v4.new_code_cell("topic = 'none'", metadata={"tags": ["parameters"]})
    sources = ["%load_ext stabilize_nb", FLOW.format(form="{}"), "run = letter.run(topic=topic)", "await run", "1"]
    cells = [parameters, *map(nbformat.v4.new_code_cell, sources)]
    source, target = tmp_path / "letter.ipynb", tmp_path / "done.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), source)

    def execute():
        papermill.execute_notebook(source, target, {"topic": "moon"}, cwd=str(tmp_path), progress_bar=False)
        return nbformat.read(target, as_version=4)

    if decides:
        assert any("MOON!" in _text(output) for output in execute().cells[-2].outputs)
    else:
        with pytest.raises(papermill.PapermillExecutionError, match="waits for a decision at 'good'"):
            execute()
        assert nbformat.read(target, as_version=4).cells[-1].execution_count is None


@pytest.fixture(scope="module")
def oldest(tmp_path_factory, oldest_kernel: OldestKernel) -> Iterator[Kernel]:
    """Start a kernel that hears no clicks while a cell awaits."""
    with started_kernel(tmp_path_factory.mktemp("oldest"), OLDEST_NAME, oldest_kernel.specs) as kernel:
        kernel.must("%load_ext stabilize_nb\n%config StabilizeNB.display = 'static'")
        kernel.must(FLOW.format(form="{}"))
        yield kernel


def test_await_at_a_gate_gives_control_back_where_clicks_are_not_heard(oldest):
    """The cell ends with one line instead of hanging; after the click the next one gets the result."""
    reply = oldest.run("run = letter.run()\nawait run")

    assert reply.error == "DecideBetweenCells"
    assert "click, then run the next cell" in reply.text
    assert "stabilize_nb/" not in reply.text
    oldest.must("run.approve()")
    assert oldest.must("await run").text.endswith("'TIDES!'")


def test_run_goes_on_as_its_cells_are_run_in_the_next_kernel(tmp_path):
    """A cell that awaits code ends with its name, since the cell that defines it cannot be run meanwhile."""
    with started_kernel(tmp_path) as kernel:
        kernel.must("%load_ext stabilize_nb\n%config StabilizeNB.display = 'static'")
        kernel.must(FLOW.format(form="{}"))
        kernel.must("letter.run().until_gate()")
    with started_kernel(tmp_path) as kernel:
        kernel.must("%load_ext stabilize_nb\n%config StabilizeNB.display = 'static'")
        kernel.must("run = %workflow resume last\nrun.approve()")
        reply = kernel.run("await run")

        assert reply.error == "WaitingForCode"
        assert "letter.publish" in reply.text
        kernel.must(FLOW.format(form="{}"))
        assert kernel.must("await run").text.endswith("'TIDES!'")


def test_second_interrupt_begins_nothing_more(tmp_path):
    """Within two seconds of the first one, also when no cell runs; what is at work ends, and resume goes on."""
    with started_kernel(tmp_path) as kernel:
        kernel.must("%load_ext stabilize_nb\n%config StabilizeNB.display = 'static'")
        kernel.must(FLOW.format(form="{}").replace("return topic.upper()", "time.sleep(1)\n    return topic.upper()"))
        message = kernel.send("run = letter.run()\nprint(end='', flush=True)\nawait run")
        time.sleep(0.5)
        kernel.interrupt()
        first = kernel.reply(message)
        time.sleep(0.3)
        kernel.interrupt()
        kernel.must("while run.engine.processor.running: time.sleep(0.01)")

        assert "only the waiting was stopped" in first.text
        assert "a second interrupt begins nothing more" in first.text
        kernel.must("while run.outputs.get('draft') is None: time.sleep(0.01)")
        assert kernel.must("print(run.gates)").text.strip() == "[]"
        kernel.must("_ = %workflow resume last")
        assert kernel.must("print(run.until_gate()[0].name)").text.strip() == "good"
