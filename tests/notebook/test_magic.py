"""%%workflow and %workflow in a real IPython: definitions, runs, errors, settings and completion."""

import inspect
import pickle
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from stabilize_nb import Engine, Flow, Run, Workflow
from stabilize_nb.engine import opened_engine
from stabilize_nb.errors import RunFailedError, WaitingForApproval
from stabilize_nb.flow import FlowStage
from stabilize_nb.models.status import WorkflowStatus as S
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.notebook.words import literal, split_words

RESEARCH = """%%workflow research
@stage
def plan(question):
    return {"topics": [question, "more"]}

@stage(retry=2)
def draft(plan):
    return " and ".join(plan["topics"])

sign_off = approval("Publish this?", after=draft, show="draft", form={"note": str, "grade": [1, 2, 3]})

@stage
def report(draft, sign_off):
    return f"{draft}: {sign_off['approval']['note']} {sign_off['approval']['grade']}"
"""

ADD = """%%workflow add -q
@stage
def total(a, b=1):
    return a + b
"""

BROKEN = """%%workflow broken -q
@stage
def compute(n):
    rows = [1, 2, 3]
    return rows[n]
"""

REFERENCE = """%%workflow {name}
from stabilize_nb import StageExecution, Task, TaskExecution, TaskResult, Workflow

class Hello(Task):
    def execute(self, stage):
        return TaskResult.success(outputs={{"said": f"hello {{stage.context['who']}}"}})

first = StageExecution(ref_id="first", tasks=[TaskExecution.create("first", "Hello")])
second = StageExecution(
    ref_id="second", requisite_stage_ref_ids={{"first"}}, tasks=[TaskExecution.create("second", "noop")]
)
{last}
"""


def settled(run: Run, *, seconds: float = 10) -> Run:
    """Wait until a run has ended or waits for a person."""
    deadline = time.monotonic() + seconds
    while not (run.status.is_complete or run.gates):
        assert time.monotonic() < deadline, run.explain()
        time.sleep(0.01)
    return run


# -- loading ------------------------------------------------------------------------------------------


def test_loading_says_and_makes_nothing_in_a_new_folder(bare, tmp_path):
    """Where there is no store, the extension is silent and leaves no folder behind."""
    cell = bare.run("%load_ext stabilize_nb")

    assert cell.text == ""
    assert list(tmp_path.iterdir()) == []


def left_at_a_gate(notebook) -> str:
    """Leave an unfinished run in the store of this folder, as a kernel that was shut down does."""
    notebook.run(RESEARCH)
    run = settled(notebook.run("research.run(question='why')").value)
    RUNTIME.forget_all()
    return run.id


def test_loading_names_unfinished_runs_in_one_line(notebook):
    """The line says how many, where, and what to do."""
    left_at_a_gate(notebook)

    cell = notebook.run("%reload_ext stabilize_nb")

    assert cell.text == "Stabilize: 1 unfinished run in .stabilize/runs.db — %workflow resume\n"


def test_nothing_restarts_by_itself(notebook):
    """After loading, no worker runs; %workflow resume returns the run with its gate."""
    left = left_at_a_gate(notebook)
    notebook.run("%reload_ext stabilize_nb")

    assert not opened_engine().processor.running

    notebook.run(RESEARCH)
    run = notebook.run("%workflow resume").value

    assert run.id == left
    assert [gate.name for gate in run.gates] == ["sign_off"]
    assert notebook.run(f"%workflow approve {left} note=fine grade=1").value.result(5) == "why and more: fine 1"


def test_recover_auto_resumes_and_off_is_silent(notebook):
    """The setting decides what loading does about unfinished runs."""
    left_at_a_gate(notebook)
    notebook.run("%config StabilizeNB.recover = 'off'")

    assert notebook.run("%reload_ext stabilize_nb").text == ""

    notebook.run("%config StabilizeNB.recover = 'auto'")

    assert notebook.run("%reload_ext stabilize_nb").text.endswith(".stabilize/runs.db — resumed\n")
    assert opened_engine().processor.running


def test_store_that_cannot_be_read_is_named_in_the_line(bare, tmp_path):
    """Loading does not fail when the file of the store is something else."""
    (tmp_path / ".stabilize").mkdir()
    (tmp_path / ".stabilize" / "runs.db").write_text("no database at all, only a text that is long enough" * 20)

    cell = bare.run("%load_ext stabilize_nb")

    assert cell.error is None
    assert cell.text.startswith("Stabilize: ")
    assert cell.text.count("\n") == 1


def test_reload_keeps_engines_and_definitions(notebook):
    """A run that waits goes on in the same engine after %reload_ext."""
    notebook.run(RESEARCH)
    run = settled(notebook.run("%workflow run research question=why").value)
    notebook.run("%reload_ext stabilize_nb")

    assert notebook.run("%workflow attach last").value.engine is run.engine
    assert notebook.run("%workflow show research").value is notebook.names["research"]


def test_unload_takes_magics_settings_and_hooks_away(notebook):
    """After %unload_ext the shell is as it was."""
    notebook.run("%unload_ext stabilize_nb")

    assert "not found" in notebook.run("%workflow list").text
    assert "StabilizeNB" not in notebook.run("%config").text
    assert notebook.complete("%workflow ap|") == []
    assert not hasattr(RunFailedError, "_render_traceback_")


# -- defining -----------------------------------------------------------------------------------------


def test_cell_defines_a_flow_and_runs_nothing(notebook):
    """The name is bound to a drawn Flow, and no store is opened for it."""
    cell = notebook.run(RESEARCH)

    flow = notebook.names["research"]
    assert isinstance(flow, Flow)
    assert list(flow.stages) == ["plan", "draft", "sign_off", "report"]
    assert flow.requisites(flow.stages["report"]) == {"draft", "sign_off"}
    assert opened_engine() is None
    assert cell.text.startswith("research: 4 stages · inputs: question\n")
    assert {"text/html", "image/svg+xml"} <= cell.shown[0].keys()


def test_names_of_a_cell_are_the_notebooks(notebook):
    """Stages see what other cells define, and helpers of the body are there afterwards."""
    notebook.run("factor = 3")
    notebook.run("""%%workflow times -q
import math

def helper(x):
    return x * factor

@stage
def product(x):
    return helper(math.floor(x))
""")

    assert notebook.run("times.run(x=2.5).result(5)").value == 6
    assert notebook.run("helper(2)").value == 6
    assert notebook.names["helper"].__module__ == "__main__"
    assert inspect.getsource(notebook.names["product"].function).startswith("@stage\ndef product(x):")


def test_functions_of_a_cell_can_be_pickled(notebook, monkeypatch):
    """A helper of the body is found again by its module and name, as one of any cell."""
    monkeypatch.setitem(sys.modules, "__main__", notebook.shell.user_module)
    notebook.run("%%workflow some -q\ndef helper():\n    return 7\n\n@stage\ndef only():\n    return helper()\n")

    assert pickle.loads(pickle.dumps(notebook.names["helper"]))() == 7


def test_helper_names_are_given_back(notebook):
    """What the user calls stage or approval is untouched by a cell that uses ours."""
    notebook.run("stage = 'mine'")
    notebook.run(RESEARCH)

    assert notebook.names["stage"] == "mine"
    assert "approval" not in notebook.names
    assert "Flow" not in notebook.names


def test_jump_is_still_there_when_stages_run(notebook):
    """A stage may send the run back; the target finds what was passed."""
    notebook.run("""%%workflow loop -q
@stage
def write(round=1):
    return round

@stage
def check(write):
    if write < 3:
        jump("write", round=write + 1)
    return write
""")

    assert notebook.run("loop.run().result(5)").value == 3


def test_jump_of_the_user_is_not_overwritten_silently(notebook):
    """A cell that calls jump is refused while the notebook means something else by it."""
    notebook.run("jump = 'high'")

    cell = notebook.run("%%workflow loop\n@stage\ndef check(n):\n    jump('check')\n")

    assert "line 4 calls jump, but this notebook has bound that name to something else" in cell.text
    assert notebook.names["jump"] == "high"


def test_running_a_cell_again_changes_nothing(notebook):
    """The same code gives the same object and version; comments and layout are no code."""
    notebook.run(RESEARCH)
    flow = notebook.names["research"]

    cell = notebook.run(RESEARCH.replace("@stage\ndef plan", "# a remark\n\n@stage\ndef plan"))

    assert notebook.names["research"] is flow
    assert flow.version == 1
    assert "version" not in cell.text


def test_changed_code_is_a_new_version(notebook):
    """The picture says which version it is and what changed; the earlier object stays as it was."""
    notebook.run(RESEARCH)
    earlier = notebook.names["research"]

    cell = notebook.run(RESEARCH.replace("retry=2", "retry=5") + "\n@stage\ndef post(report):\n    return report\n")

    assert notebook.names["research"].version == 2
    assert cell.text.startswith("research: 5 stages · inputs: question · version 2: post is new, draft changed\n")
    assert (earlier.version, list(earlier.stages)) == (1, ["plan", "draft", "sign_off", "report"])


def test_changed_setting_from_another_cell_is_a_new_version(notebook):
    """What counts is the definition, also when the text of the cell is the same."""
    body = "%%workflow some\n@stage(timeout=limit)\ndef only():\n    return 1\n"
    notebook.run("limit = 5")
    notebook.run(body)
    notebook.run("limit = 6")

    assert "version 2: only changed" in notebook.run(body).text


def test_approvals_with_one_question_are_two_gates(notebook):
    """A gate is named after its variable; its question need not be its own."""
    notebook.run("""%%workflow twice -q
@stage
def begin():
    return 1

first = approval("Go on?", after=begin)
second = approval("Go on?", after=first)
approval("Really?", name="third", after=second)
""")

    assert list(notebook.names["twice"].stages) == ["begin", "first", "second", "third"]


@pytest.mark.parametrize("last", ["[first, second]", 'Workflow.create("demo", "hello", [first, second])'])
def test_last_expression_may_be_a_workflow_of_the_reference_api(notebook, last):
    """A Workflow or a list of stages is bound and drawn; each run is a copy, with code that the cell defines."""
    cell = notebook.run(REFERENCE.format(name="hello", last=last))

    assert isinstance(notebook.names["hello"], Workflow)
    assert "hello" in cell.text
    for who in ("Ada", "Grace"):
        run = notebook.run(f"%workflow run hello who={who}").value
        assert run.wait(5) is S.SUCCEEDED
        assert run.outputs == {"first": {"said": f"hello {who}"}}
    assert notebook.names["hello"].status is S.NOT_STARTED


def test_direction_and_silence_are_options(notebook):
    """--tb draws from top to bottom, -q draws nothing."""
    wide = notebook.run(RESEARCH.replace("research\n", "research --lr\n", 1)).shown[0]["image/svg+xml"]
    tall = notebook.run(RESEARCH.replace("research\n", "research --tb\n", 1)).shown[0]["image/svg+xml"]

    assert wide != tall
    assert notebook.run(RESEARCH.replace("research\n", "research -q\n", 1)).text == ""


def test_run_option_starts_a_run(notebook):
    """With --run the cell gives the run of its inputs."""
    run = notebook.run(ADD.replace("-q", "--run --input a=2 b=40")).value

    assert run.result(5) == 42


def test_store_option_decides_where_runs_live(notebook, tmp_path):
    """The flow of a cell with --store starts its runs there, and they are found by id."""
    notebook.run(ADD.replace("-q", "-q --store other.db"))
    run = notebook.run("add.run(a=1)").value
    run.result(5)

    assert Path(run.engine.database.path) == tmp_path / "other.db"
    assert notebook.run(f"%workflow attach {run.id}").value.id == run.id


def test_export_writes_a_module_that_defines_the_same_flow(notebook, tmp_path, monkeypatch):
    """The module runs without a notebook and says what came from other cells."""
    notebook.run(RESEARCH.replace("research\n", "research -q --export research_flow.py\n", 1))
    monkeypatch.syspath_prepend(tmp_path)

    import research_flow

    with Engine(":memory:") as engine:
        run = settled(engine.start(research_flow.research, question="why"))
        run.approve("sign_off", note="yes", grade=3)
        assert run.result(5) == "why and more: yes 3"
    notebook.run("%%workflow uses -q\n@stage\ndef only():\n    return factor * 2\n")
    path = notebook.run("%workflow export uses uses.py").value
    assert "# From other cells of the notebook: factor\n" in path.read_text()


def test_bound_name_is_replaced_only_when_asked(notebook):
    """A cell does not overwrite data by accident."""
    notebook.run("add = [1, 2, 3]")

    assert "add is bound to a list in this notebook" in notebook.run(ADD).text
    assert notebook.names["add"] == [1, 2, 3]

    notebook.run(ADD.replace("-q", "-q --replace"))

    assert isinstance(notebook.names["add"], Flow)


# -- errors -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refused:
    """A cell that is refused, and all that is said."""

    name: str
    cell: str
    says: str


REFUSED = [
    Refused(
        "unknown stage",
        "%%workflow bad\n@stage\ndef synthesize():\n    ...\n\n@stage(after='sythesize')\ndef report():\n    ...\n",
        "InvalidWorkflowError: workflow 'bad' cannot be run: stage 'report' (line 6) follows 'sythesize', which is no "
        "stage; did you mean 'synthesize'?",
    ),
    Refused(
        "parameter with a slip",
        "%%workflow bad\n@stage\ndef synthesize():\n    ...\n\n@stage\ndef report(sythesize):\n    ...\n",
        "InvalidWorkflowError: workflow 'bad' cannot be run: stage 'report' (line 6) asks for 'sythesize', which is "
        "neither a stage nor an input; did you mean 'synthesize'?",
    ),
    Refused(
        "unknown stage of a gate",
        "%%workflow bad\n@stage\ndef draft():\n    ...\n\n\nok = approval('Go?', after='drfat')\n",
        "InvalidWorkflowError: workflow 'bad' cannot be run: stage 'ok' (line 7) follows 'drfat', which is no stage; "
        "did you mean 'draft'?",
    ),
    Refused(
        "unknown setting",
        "%%workflow bad\n\n@stage(timout=3)\ndef draft():\n    ...\n",
        "ConfigError: stage 'draft': timout=... is not known; did you mean 'timeout'?\n"
        "  Cell In[2], line 3: @stage(timout=3)",
    ),
    Refused(
        "same name twice",
        "%%workflow bad\n@stage\ndef draft():\n    ...\n\n@stage\ndef draft():\n    ...\n",
        "ConfigError: stage 'draft' is defined on lines 2 and 6: give one of them another name\n"
        "  Cell In[2], line 6: @stage",
    ),
    Refused(
        "no stage",
        "%%workflow bad\nx = 1\n",
        "InvalidWorkflowError: workflow 'bad' cannot be run: it has no stages: decorate a function with @stage",
    ),
    Refused(
        "two ways at once",
        "%%workflow bad\n@stage\ndef draft():\n    ...\n\nFlow('other')\n",
        "ConfigError: the body defines stages (draft) and ends with Flow: a cell defines one workflow, either by "
        "@stage or by its last expression",
    ),
    Refused(
        "syntax",
        "%%workflow bad\n@stage\ndef draft():\n    return (1\n\n@stage\ndef report(draft):\n    ...\n",
        "  Cell In[2], line 4\n    return (1\n           ^\nSyntaxError: '(' was never closed",
    ),
    Refused(
        "indentation after blank lines",
        "%%workflow bad\n\n\n@stage\ndef draft():\nreturn 1\n",
        "  Cell In[2], line 6\n    return 1\n    ^\nSyntaxError: expected an indented block after function definition "
        "on line 5",
    ),
    Refused("no name", "%%workflow --run\nx = 1\n", "one name for the workflow is needed, such as research"),
    Refused("bad name", "%%workflow my-flow\nx = 1\n", "such as research, not my-flow"),
    Refused("keyword as name", "%%workflow class\nx = 1\n", "such as research, not class"),
    Refused("unknown option", "%%workflow bad --strore x\nx = 1\n", "--strore is not known, did you mean --store?"),
    Refused("missing value", "%%workflow bad --store\nx = 1\n", "option --store needs a value"),
    Refused("input without --input", "%%workflow bad n=1\nx = 1\n", "n=… is given without --input"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused_cell_gives_one_exact_message(notebook, case):
    """The message has the line of the cell and nothing of this package; nothing is bound."""
    cell = notebook.run(case.cell)

    assert cell.error is not None
    assert case.says in cell.text
    assert cell.text.count("\n") <= case.says.count("\n") + 1
    assert "bad" not in notebook.names


def test_exception_in_a_body_has_frames_of_the_cell_only(notebook):
    """The traceback begins in the cell that was run, with its number and line."""
    cell = notebook.run("%%workflow bad\ndef helper():\n    raise KeyError('x')\n\nhelper()\n")

    assert "Cell In[2], line 5" in cell.text
    assert "Cell In[2], line 3, in helper()" in cell.text
    assert "stabilize_nb" not in cell.text
    assert "run_cell_magic" not in cell.text


def test_stage_function_called_by_hand_has_frames_of_its_cell(notebook):
    """A stage can be tried like any function, and fails like one."""
    notebook.run(BROKEN)

    cell = notebook.run("compute(7)")

    assert "Cell In[2], line 5, in compute(n)" in cell.text
    assert "----> 5     return rows[n]" in cell.text


def test_failed_run_names_the_line_of_its_stage(notebook):
    """What happened in a worker is said with the number of the cell that defines the stage."""
    notebook.run(BROKEN)
    notebook.run("run = broken.run(n=7)")
    run = notebook.names["run"]

    cell = notebook.run("run.result()")

    assert cell.text == (
        f"RunFailedError: run {run.id} ended TERMINAL (compute: IndexError: list index out of range)\n"
        "  compute: Cell In[2], line 5: return rows[n]\n"
    )
    assert "✕ compute failed at Cell In[2], line 5: return rows[n]" in notebook.run("run").text


def test_waiting_for_a_person_is_one_short_message(notebook):
    """run.result() does not hang at a gate, and says how to go on."""
    notebook.run(RESEARCH)
    notebook.run("run = research.run(question='why')")

    cell = notebook.run("run.result()")

    assert isinstance(cell.error, WaitingForApproval)
    assert cell.text.splitlines()[1:] == ["  Cell In[4], line 1: run.result()"]
    assert "waits for a decision at 'sign_off': call run.approve('sign_off')" in cell.text


def test_verbose_mode_shows_the_whole_traceback(notebook):
    """%xmode Verbose is for those who look for a fault of this package."""
    notebook.run("%xmode Verbose")

    cell = notebook.run("%workflow attach nowhere")

    assert "runtime.py" in cell.text
    assert "WorkflowNotFoundError" in cell.text


# -- working with runs --------------------------------------------------------------------------------


def test_values_are_literals_when_they_can_be():
    """Quotes and brackets hold words together; everything else is text."""
    words = split_words(
        """question="two words" n=3 topics=['a', "b c"] who=Ada flag=True note=don't q='' f={"x": (1, 2)}"""
    )
    values = dict(word.split("=", 1) for word in words)

    assert {name: literal(value) for name, value in values.items()} == {
        "question": "two words",
        "n": 3,
        "topics": ["a", "b c"],
        "who": "Ada",
        "flag": True,
        "note": "don't",
        "q": "",
        "f": {"x": (1, 2)},
    }


def test_open_quote_is_named(notebook):
    """A line that ends inside a quote or bracket is refused."""
    notebook.run(ADD)

    assert """" is missing at the end of: add a="two""" in notebook.run("""%workflow run add a="two""").text
    assert "] is missing at the end of: add a=[1, 2" in notebook.run("%workflow run add a=[1, 2").text


def test_run_returns_the_handle(notebook):
    """%workflow run gives the same as the method, with inputs from the line."""
    notebook.run(ADD)
    notebook.run("run = %workflow run add a=[1] b=[2]")

    assert isinstance(notebook.names["run"], Run)
    assert notebook.run("run.result(5)").value == [1, 2]


def test_missing_input_is_named(notebook):
    """A run without an input that is needed is refused before anything is stored."""
    notebook.run(ADD)

    cell = notebook.run("%workflow run add")

    assert "stage 'total' (line 2) needs the input 'a', which was not given: run(a=...)" in cell.text
    assert notebook.run("%workflow list").value.empty


def test_run_is_named_by_id_parts_last_or_variable(notebook):
    """Whatever names one run is accepted; what names none or several is said."""
    notebook.run(ADD)
    notebook.run("older = add.run(a=1)")
    newer = notebook.run("add.run(a=2)").value
    older = notebook.names["older"]
    older.result(5)

    for name, run in [("last", newer), ("older", older), (older.id, older), (newer.id[-8:].lower(), newer)]:
        assert notebook.run(f"%workflow attach {name}").value.id == run.id
    assert f"'{older.id[:4]}' names 2 runs" in notebook.run(f"%workflow attach {older.id[:4]}").text
    assert f"no run is called 'nothing'; the newest are {newer.id}" in notebook.run("%workflow attach nothing").text


def test_approve_fills_the_form(notebook):
    """Values become what the form asks for, and who decided is recorded."""
    notebook.run("%config StabilizeNB.user = 'Ada'")
    notebook.run(RESEARCH)
    run = settled(notebook.run("research.run(question='why')").value)

    cell = notebook.run(f"%workflow approve {run.id}/sign_off note=42 grade=2")

    assert "✓ succeeded" in cell.text
    assert run.outputs["sign_off"]["approval"] == {"user": "Ada", "note": "42", "grade": 2}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("grade=7", "field 'grade' of gate 'sign_off' cannot be 7; choose one of 1, 2, 3"),
        ("garde=1", "gate 'sign_off' has no field 'garde', did you mean grade?; it has note, grade"),
        ("yes", "'yes' is no field: write name=value"),
    ],
)
def test_approve_refuses_what_the_form_does_not_have(notebook, line, says):
    """The gate goes on waiting."""
    notebook.run(RESEARCH)
    run = settled(notebook.run("research.run(question='why')").value)

    assert says in notebook.run(f"%workflow approve last {line}").text
    assert [gate.name for gate in run.gates] == ["sign_off"]


def test_reject_ends_the_run_with_the_reason(notebook):
    """Who said no and why stand in the error."""
    notebook.run("%config StabilizeNB.user = 'Ada'")
    notebook.run(RESEARCH)
    settled(notebook.run("research.run(question='why')").value)

    cell = notebook.run("%workflow reject last reason='too short'")

    assert cell.value.status is S.TERMINAL
    assert "rejected by Ada: too short" in cell.text


def test_cancel_pause_resume_and_retry_order_what_they_say(notebook):
    """Each shows the run after the order has taken effect."""
    notebook.run(RESEARCH)
    run = settled(notebook.run("research.run(question='why')").value)

    assert notebook.run("%workflow pause last").value.status is S.PAUSED
    assert notebook.run(f"%workflow resume {run.id}").value.status is not S.PAUSED
    assert notebook.run("%workflow cancel last").value.status is S.CANCELED
    notebook.run(BROKEN)
    notebook.run("broken.run(n=7).wait(5)")
    notebook.run(BROKEN.replace("rows[n]", "n"))
    assert notebook.run("%workflow retry last").value.result(5) == 7


def test_run_is_forked_and_compared_in_two_lines(notebook):
    """The fork takes another input, and both stand side by side."""
    notebook.run(BROKEN)
    notebook.run("run = broken.run(n=7)\nrun.wait(5)")
    notebook.run(BROKEN.replace("rows[n]", "n"))

    fork = notebook.run("%workflow fork run/compute n=8").value
    assert fork.result(5) == 8
    shown = notebook.run(f"%workflow compare run {fork.id}")
    assert shown.value.differences[""] == ["status", "inputs", "error"]
    assert "a stage is needed" in str(notebook.run("%workflow fork run").error)


def test_signal_reaches_a_stage(notebook):
    """A signal with data is delivered to the stage that is named."""
    notebook.run(RESEARCH)
    run = settled(notebook.run("research.run(question='why')").value)
    notebook.run("%workflow signal last/sign_off approve note=ok grade=1")

    assert run.result(5) == "why and more: ok 1"


def test_looking_returns_objects(notebook, tmp_path):
    """A sub-command gives what it shows: frames, pictures, text."""
    notebook.run(RESEARCH)
    run = settled(notebook.run("research.run(question='why')").value)

    events = notebook.run("%workflow events last --csv events.csv --xes log.xes --ocel log.json").value
    assert list(events["type"][:2]) == ["workflow.created", "workflow.started"]
    assert len((tmp_path / "events.csv").read_text().splitlines()) >= len(events)
    assert run.id in (tmp_path / "log.xes").read_text()
    assert run.id in (tmp_path / "log.json").read_text()
    assert list(notebook.run("%workflow list").value["run_id"]) == [run.id]
    assert notebook.run("%workflow show research").value is notebook.names["research"]
    assert (
        notebook.run("%workflow status").text == f"research {run.id}: stage 'sign_off' waits for a decision or signal\n"
    )
    assert notebook.run("%workflow status last").text == notebook.run("%workflow status").text
    assert notebook.run("%workflow graph last").value.svg.startswith("<svg")
    assert notebook.run("%workflow graph research --format mermaid").value.startswith("flowchart")
    assert notebook.run("%workflow graph research --format dot --direction TB").value.startswith("digraph")
    assert "├─ ○ sign_off" in notebook.run("%workflow graph research --format ascii").value


def test_help_lists_every_sub_command_and_its_python(notebook):
    """%workflow alone is help; `%workflow help NAME` is one line of it."""
    text = notebook.run("%workflow").text

    assert "%workflow approve [RUN[/GATE]] [field=value …]" in text
    assert "run.approve(gate, field=value)" in text
    assert len(notebook.run("%workflow help approve").value.rows) == 1


def test_doctor_says_what_works_here(notebook):
    """Versions, the store, the drawing and the display are looked at, and no store is made for it."""
    found = {check: said for check, said, _ in notebook.run("%workflow doctor").value.rows}

    assert found["drawing"] == "SVG"
    assert found["store"] == ".stabilize/runs.db"
    assert found["display"] == "static (chosen: auto)"
    assert found["somebody to decide"] == "yes"
    assert found["Python"] == sys.version.split()[0]
    assert opened_engine() is None


def test_store_changes_the_default_engine(notebook, tmp_path):
    """%workflow store FILE is used by every run from then on, with the code that is defined already."""
    notebook.run(ADD)
    engine = notebook.run("%workflow store mine.db").value

    assert Path(engine.database.path) == tmp_path / "mine.db"
    assert notebook.run("add.run(a=1)").value.engine is engine
    assert notebook.run("%workflow store").value is engine
    assert engine.registry.latest("add.total") is not None
    assert notebook.run("%workflow store sqlite").value.url == f"sqlite:///{tmp_path}/.stabilize/runs.db"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("shwo", "%workflow shwo is not known, did you mean show?"),
        ("add", "%workflow add is not known; %workflow show add shows it, %%workflow add defines it"),
        ("show ad", "no workflow is called 'ad', did you mean add?; defined here: add"),
        ("show", "something is missing; usage: %workflow show NAME"),
        ("run add 3", "'3' is no input: write name=value; usage: %workflow run NAME [name=value …]"),
        ("graph add --format png", "--format png is not known; write one of svg, mermaid, dot, ascii"),
        ("graph add --direction up", "--direction up is not known; write one of LR, TB, auto"),
        ("list add more", "'more' is too much; usage: %workflow list [NAME] [--all]"),
        ("store embedded", "embedded is no database this version can use; write a file, sqlite or :memory:"),
        ("run add a=1 --new --once", "--new begins another run, --once and --key look for one that is there"),
        ("resume x --all", "name a run or write --all, not both"),
        ("signal last/x", "no run is called 'last'; there are no runs yet"),
    ],
)
def test_slip_in_a_line_gives_one_line(notebook, line, says):
    """What was meant is guessed, what is known is listed."""
    notebook.run(ADD)

    text = notebook.run(f"%workflow {line}").text

    assert says in text
    assert text.strip().count("\n") == 0


# -- settings -----------------------------------------------------------------------------------------


def test_setting_that_is_not_known_is_refused_and_reload_works(notebook):
    """%config keeps the bad value in its own configuration; ours stays as it was."""
    cell = notebook.run("%config StabilizeNB.display = 'pink'")

    assert "StabilizeNB.display cannot be 'pink'; it stays 'auto'" in cell.text
    assert notebook.run("%reload_ext stabilize_nb").error is None
    assert "Current: 'auto'" in notebook.run("%config StabilizeNB").text


def test_environment_is_the_default_of_settings(bare, monkeypatch):
    """STABILIZE_NB_* counts when the extension is loaded."""
    monkeypatch.setenv("STABILIZE_NB_DISPLAY", "text")
    bare.run("%load_ext stabilize_nb")

    assert bare.run(RESEARCH).shown[0].keys() == {"text/plain"}


def test_text_display_shows_text_only(notebook):
    """For terminals and logs."""
    notebook.run("%config StabilizeNB.display = 'text'")

    assert notebook.run(RESEARCH).shown[0].keys() == {"text/plain"}


# -- deterministic mode -------------------------------------------------------------------------------


def rehearsed(notebook) -> list[str]:
    """Run a workflow with a retry, a coroutine and a gate, and return everything that is shown."""
    shown = [
        notebook.run(source)
        for source in (
            """%%workflow study
import asyncio
from stabilize_nb import TransientError
tries = []

@stage
def plan(question):
    return {"topics": [question]}

@stage(retry=3)
def flaky(plan):
    tries.append(1)
    if len(tries) < 3:
        raise TransientError("busy")
    return len(tries)

@stage
async def slow(plan):
    await asyncio.sleep(0.02)
    return "slow"

ok = approval("Good?", after=[flaky, slow], show="slow")

@stage
def report(flaky, slow, ok):
    return [flaky, slow, ok["approval"]["user"]]
""",
            "run = study.run(question='why')\nrun",
            "%workflow approve last",
            "run.result()",
            "run.stages",
            "run.events",
            "%workflow list",
        )
    ]
    return [str(bundle) for cell in shown for bundle in [cell.text, *cell.shown]]


def test_deterministic_mode_gives_the_same_bytes_again(notebook):
    """Ids, times, order and pictures are the same for two kernels that run the same cells."""
    notebook.run("%config StabilizeNB.display = 'deterministic'")
    first = rehearsed(notebook)
    notebook.names.pop("study")
    RUNTIME.forget_all()

    assert rehearsed(notebook) == first
    assert "run-0001" in first[2]
    assert any("00:00:03" in text for text in first)


def test_deterministic_run_is_done_when_the_call_returns(notebook):
    """There is nothing in the background: a cell shows the state after all that its orders lead to."""
    notebook.run("%config StabilizeNB.display = 'deterministic'")
    notebook.run(RESEARCH)

    run = notebook.run("research.run(question='why')").value

    assert run.id == "run-0001"
    assert [gate.name for gate in run.gates] == ["sign_off"]
    run.approve(note="fine", grade=1)
    assert run.status is S.SUCCEEDED
    assert not run.engine.processor.running


def test_leaving_deterministic_mode_uses_the_store_again(notebook):
    """The mode is chosen for a notebook and may be given up."""
    notebook.run(ADD)
    notebook.run("%config StabilizeNB.display = 'deterministic'")
    assert notebook.run("add.run(a=1)").value.id == "run-0001"

    notebook.run("%config StabilizeNB.display = 'auto'")

    assert len(notebook.run("add.run(a=1)").value.id) == 26


# -- completion ---------------------------------------------------------------------------------------


def test_sub_commands_and_options_are_completed(notebook):
    """Behind %workflow stand its words, behind %%workflow its options."""
    assert notebook.complete("%workflow ap|") == ["approve"]
    assert notebook.complete("run = %workflow re|") == ["reject", "resume", "retry", "replay"]
    assert notebook.complete("%workflow list --|") == ["--all"]
    assert notebook.complete("%workflow graph x --format m|") == ["mermaid"]
    assert notebook.complete("%%workflow research --st|") == ["--store"]


def test_names_are_completed(notebook):
    """Workflows, runs, gates, inputs and fields of forms are offered where they fit."""
    notebook.run(RESEARCH)
    notebook.run(ADD)
    notebook.run("mine = research.run(question='why')")
    run = settled(notebook.names["mine"])

    assert notebook.complete("%workflow run re|") == ["research"]
    assert notebook.complete("%workflow run add |") == ["a=", "b="]
    assert notebook.complete("%workflow attach |")[:3] == ["last", "mine", run.id]
    assert notebook.complete("%workflow approve 0|")[0] == f"{run.id}/sign_off"
    assert notebook.complete(f"%workflow approve {run.id}/sign_off gr|") == ["grade="]
    assert notebook.complete("%%workflow re|") == ["research"]


def test_stages_are_completed_in_the_body(notebook):
    """Where the body names a stage, the stages of the cell are offered."""
    assert notebook.complete(RESEARCH + "\n@stage(after=re|") == ["report"]
    assert notebook.complete(RESEARCH + "\n@stage(after=[plan, 'dr|") == ["draft"]
    assert notebook.complete(RESEARCH + "\n@stage\ndef post(report, si|") == ["sign_off"]
    assert notebook.complete(RESEARCH + "\n@stage\ndef post():\n    jump('pl|") == ["plan"]


def test_stages_and_gates_of_a_run_are_completed_in_its_methods(notebook):
    """`run.fork("` offers the stages of that run, `run.approve("` the gates that wait."""
    notebook.run(RESEARCH)
    notebook.run("mine = research.run(question='why')")
    settled(notebook.names["mine"])

    assert notebook.complete("again = mine.fork('pl|") == ["plan"]
    assert notebook.complete('print(mine.explain("dr|') == ["draft"]
    assert notebook.complete("mine.outputs['pl|") == ["plan"]
    assert notebook.complete("mine.approve('|") == ["sign_off"]
    assert "plan" not in notebook.complete("other.fork('pl|")


def test_other_completion_is_left_alone(notebook):
    """Plain Python in a body and in other cells is completed as always."""
    notebook.run("penguins = [1]")

    assert "penguins" in notebook.complete("peng|")
    assert "penguins" in notebook.complete(RESEARCH + "\nx = peng|")


def test_stage_of_a_cell_is_a_flow_stage(notebook):
    """What @stage makes can be passed to after= and called by hand."""
    notebook.run(ADD)

    assert isinstance(notebook.names["total"], FlowStage)
    assert notebook.run("total(1, b=2)").value == 3
