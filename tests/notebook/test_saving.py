"""`flow.save`: a flow of cells as a module for workers, and what it cannot take along."""

import subprocess
import sys

import pytest

from stabilize_nb import Engine, Flow
from stabilize_nb.errors import ConfigError
from stabilize_nb.flow import Flow as OtherName

STUDY = """%%workflow study -q
LIMIT = 3

def shorten(text):
    return text[:LIMIT]

@stage
def plan(question):
    return j.dumps(shorten(question))

good = approval("Good?", show="plan")

@stage
def publish(plan, good):
    return f"{plan} {root(4)} {Named.__name__}"
"""


def test_saved_flow_runs_elsewhere_under_the_same_names(notebook, tmp_path):
    """A worker's process imports it without a notebook, and knows the code that the cells have started."""
    notebook.run("import json as j\nfrom math import sqrt as root\nfrom stabilize_nb.flow import Flow as Named")
    notebook.run(STUDY)
    study = notebook.names["study"]
    saved = study.save(tmp_path / "saved_study.py")
    code = (
        "from saved_study import study\nfrom stabilize_nb import Engine\n"
        "with Engine('runs.db') as engine:\n"
        "    engine.define(study)\n"
        "    run = engine.unfinished()[0]\n    engine.resume()\n    run.until_gate(20)\n    run.approve()\n"
        "    print(run.result(20))\n"
    )
    with Engine(tmp_path / "runs.db", workers=0) as engine:
        run = engine.start(study, question="tides")
        told = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )

        assert told.stderr == ""
        assert told.stdout == '"tid" 2.0 Flow\n'
        assert run.result(20) == '"tid" 2.0 Flow'
    assert saved == tmp_path / "saved_study.py"
    assert 'root = import_module("math").sqrt\n' in saved.read_text()
    assert OtherName is Flow


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        ("factor = 3", "uses factor (a int) of other cells"),
        ("def factor(): return 3", "uses factor (a function) of other cells"),
        ("", "uses factor of other cells"),
    ],
    ids=["variable", "function", "nothing"],
)
def test_flow_that_needs_the_notebook_is_not_saved(notebook, tmp_path, before, sentence):
    """What only the kernel has would be missing in a worker, at night."""
    notebook.run(before)
    notebook.run("%%workflow bound -q\n@stage\ndef only():\n    return factor\n")

    with pytest.raises(ConfigError) as refused:
        notebook.names["bound"].save(tmp_path / "bound.py")
    assert sentence in str(refused.value)
    assert not (tmp_path / "bound.py").exists()


def test_flow_without_a_cell_is_not_saved(notebook, tmp_path):
    """Its module is what workers import."""
    flow = Flow("loose")
    flow.stage(name="a")(lambda: 1)

    with pytest.raises(ConfigError, match="'loose' was not written in a %%workflow cell"):
        flow.save(tmp_path / "loose.py")


def test_cell_with_a_magic_is_not_saved(notebook, tmp_path):
    """A module is Python."""
    notebook.run("%%workflow magical -q\nplace = !pwd\n@stage\ndef only():\n    return 1\n")

    with pytest.raises(ConfigError, match="%%workflow magical has lines that are no Python"):
        notebook.names["magical"].save(tmp_path / "magical.py")


WATCHED = """
from stabilize_nb import Engine, Flow

flow = Flow("watched")


@flow.stage
def a():
    return 1


flow.approval("Good?", name="good", after="a")
"""
WORK = """
with Engine("runs.db") as engine:
    engine.define(flow)
    engine.work()
    engine.unfinished()[0].wait(40)
"""


def test_engine_that_watches_leaves_the_work_to_others(tmp_path):
    """It starts, explains, decides and waits; bodies run where somebody works."""
    names = {}
    exec(WATCHED, names)
    with Engine(tmp_path / "runs.db", workers=0) as here:
        run = here.start(names["flow"])
        here.work(run.id)
        before = run.explain()
        with subprocess.Popen([sys.executable, "-c", WATCHED + WORK], cwd=tmp_path) as worker:
            run.until_gate(40)
            run.approve(user="Ada")
            run.wait(40)
            assert worker.wait(40) == 0

        assert before == ["nothing has begun yet"]
        assert run.outputs["a"] == {"result": 1}
        assert list(run.decisions["user"]) == ["Ada"]
        assert here.processor.running is False
        assert repr(here).endswith("watching)")


def test_engine_that_watches_runs_nothing_in_deterministic_mode_either(notebook, tmp_path):
    """What others do, and when, is not rehearsed here."""
    notebook.run("%config StabilizeNB.display = 'deterministic'")
    names = {}
    exec(WATCHED, names)
    with Engine(tmp_path / "runs.db", workers=0) as here:
        assert here.start(names["flow"]).explain() == ["nothing has begun yet"]
