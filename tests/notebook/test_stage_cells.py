"""%%stage: a stage in a cell of its own, as plain statements."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import pytest

RESEARCH = """%%workflow research -q
@stage
def plan(question):
    return {"topics": [question]}

@stage
def synthesize(plan):
    return {"draft": "a text about " + plan["topics"][0]}

sign_off = approval("Publish?", after=synthesize, show="draft")

@stage(after=sign_off)
def report(synthesize):
    return synthesize["draft"]
"""
CHECK = """%%stage research.fact_check --after synthesize --before sign_off
limit = len(question)
text = synthesize["draft"]
outputs = {"score": len(text) - limit}
"""


@pytest.fixture
def research(notebook):
    """A notebook in which a flow is defined."""
    assert notebook.run(RESEARCH).error is None
    return notebook


def ended(run, *, gate: bool = True):
    """Wait for the end of a run, saying yes at its gate."""
    if gate:
        run.until_gate(10)
        run.approve()
    run.wait(10)
    return run


def test_stage_is_added_between_others(research):
    """What its statements read are its parameters, what they leave in `outputs` is what it returns."""
    shown = research.run(CHECK).text
    flow = research.names["research"]

    assert [*flow.stages] == ["plan", "synthesize", "fact_check", "sign_off", "report"]
    assert sorted(flow.stages["fact_check"].parameters) == ["question", "synthesize"]
    assert flow.stages["sign_off"].after == ("fact_check",)
    assert ended(flow.run(question="tides")).outputs["fact_check"] == {"score": 13}
    assert "version 2: fact_check is new, sign_off changed" in shown
    assert "fact_check  not started  new" in shown


def test_stage_is_replaced_when_its_cell_is_run_again(research):
    """The same code changes nothing, other code is a new version in which it alone is marked."""
    research.run(CHECK)
    flow = research.names["research"]

    research.run(CHECK)
    assert research.names["research"] is flow
    shown = research.run(CHECK.replace("- limit", "+ limit")).text
    assert research.names["research"].version == 3
    assert "version 3: fact_check changed" in shown
    assert ended(research.names["research"].run(question="tides")).outputs["fact_check"] == {"score": 23}


def test_unfinished_run_goes_on_without_the_stage(research):
    """A run has the graph and the code that it was started with."""
    run = research.names["research"].run(question="tides")
    research.run(CHECK)

    assert "fact_check" not in ended(run).outputs
    assert run.result() == "a text about tides"


def test_workflow_cell_that_is_run_again_keeps_added_stages(research):
    """It is harmless, as any cell that is run again; a stage that it has itself now takes the added one's place."""
    research.run(CHECK)
    flow = research.names["research"]

    research.run(RESEARCH)
    assert research.names["research"] is flow
    own = '\n@stage(after="synthesize")\ndef fact_check(plan):\n    return "mine"\n'
    research.run(RESEARCH + own)
    assert [*research.names["research"].stages["fact_check"].parameters] == ["plan"]


def test_added_stage_is_removed(research):
    """--remove takes it away, and what followed it follows again what it did before."""
    research.run(CHECK)
    research.run("%%stage research.fact_check --remove\npass")

    assert research.names["research"].stages["sign_off"].after == ("synthesize",)
    assert "fact_check" not in research.names["research"].stages


def test_flow_is_written_cell_by_cell(notebook):
    """The first cell makes the flow; words of a stage are options, and statements may wait and return."""
    notebook.run("%%stage study.plan -q\noutputs = {'topics': sorted(question)}")
    notebook.run(
        "%%stage study.look --each topics --retry 2 -q\nimport asyncio\nawait asyncio.sleep(0)\nreturn topic * 2"
    )
    notebook.run("%%stage study.join -q\nreturn ''.join(look)")
    run = notebook.run("study.run(question='ba')").value

    assert run.result(10) == "aabb"
    assert notebook.names["study"].stages["look"].settings["retry"] == 2


def test_stage_may_jump_back(research):
    """jump leads to another stage, which finds what was passed."""
    research.run("%%stage research.plan -q\noutputs = {'topics': [question + advice]}")
    research.run(
        "%%stage research.check --after synthesize --before sign_off -q\n"
        "if len(synthesize['draft']) < 20:\n"
        "    jump('plan', advice=' in detail')\n"
    )
    run = research.names["research"].run(question="tides", advice="")

    assert ended(run).result() == "a text about tides in detail"


def test_export_has_the_stages_of_cells(research, tmp_path, monkeypatch):
    """The module defines the same flow without a notebook."""
    research.run(CHECK)
    research.run("%workflow export research exported_research.py")
    monkeypatch.syspath_prepend(tmp_path)
    flow = importlib.import_module("exported_research").research

    assert flow.stages["sign_off"].after == ("fact_check",)
    assert flow.stages["fact_check"].function("a b", {"draft": "text"}) == {"score": 1}


@dataclass(frozen=True, slots=True)
class Refused:
    """A cell that is refused, and how."""

    name: str
    cell: str
    says: str


REFUSED = [
    Refused("no stage", "%%stage research\nx = 1", "a flow and a stage are needed, such as research.fact_check"),
    Refused("unknown after", "%%stage research.x --after synthesise\nx = 1", "no such stage, did you mean synthesize?"),
    Refused(
        "unknown option", "%%stage research.x --afer plan\nx = 1", "option --afer is not known, did you mean --after?"
    ),
    Refused("bound", "%%stage math.x\nx = 1", "math is a module in this notebook, and no flow"),
    Refused("syntax", "%%stage research.x --after plan\ny = 1\noutputs = {1: )", "line 3"),
    Refused("typo", "%%stage research.x --after plan\noutputs = sinthesize", "did you mean 'synthesize'?"),
    Refused("cycle", "%%stage research.plan\noutputs = report", "cycle"),
    Refused("bad word", "%%stage research.x --after plan --retry many\nx = 1", "retry='many' is no number that fits"),
    Refused("not added", "%%stage research.plan --remove\npass", "no %%stage cell has added 'plan'"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused_cell_gives_one_sentence(research, case):
    """Nothing is bound or changed, and the line is that of the cell."""
    research.run("import math")
    before = research.names["research"]
    cell = research.run(case.cell)

    assert case.says in cell.text
    assert "stabilize_nb/" not in cell.text
    assert research.names["research"] is before


def test_failure_names_the_line_of_the_cell(research):
    """A stage of statements fails like any cell: with its number, line and text."""
    research.run("%%stage research.x --after plan -q\ny = 1\noutputs = y / 0")
    run = ended(research.names["research"].run(question="a"), gate=False)
    research.names["run"] = run
    text = research.run("run.result()").text

    assert "x: ZeroDivisionError: division by zero" in text
    assert "line 3: outputs = y / 0" in text


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("%%stage res|", "research."),
        ("%%stage research.pl|", "research.plan"),
        ("%%stage research.x --bef|\n", "--before"),
        ("%%stage research.x --after plan,syn|\n", "synthesize"),
        ("%%stage research.x --before sig|\n", "sign_off"),
        ("%%stage research.x --each que|\n", "question"),
        ('%%stage research.x\njump("pl|', "plan"),
    ],
)
def test_tab_offers_what_fits(research, text, offered):
    """Options, flows, stages on the first line; where jump may lead in the body."""
    assert offered in research.complete(text)
