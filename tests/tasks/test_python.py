"""PythonTask: inputs in, a result out beside whatever is printed, and a process that is ended."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from stabilize_nb import Engine, PythonTask, ShellTask
from stabilize_nb.models.status import WorkflowStatus
from tests.makers import stage, workflow
from tests.tasks.commands import alive, begun, carried_out, engine_with, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

S = WorkflowStatus


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with engine_with(python=PythonTask, shell=ShellTask) as made:
        yield made


def test_input_and_result(engine):
    """A script reads INPUT and sets RESULT; what it prints is text beside it."""
    script = "import sys\nprint('hello', sys.argv[1:])\nRESULT = {'n': INPUT['n'] + 1, 'm': INPUT['m']}"
    done = carried_out(engine, "python", script=script, n=1, m="of the stage", inputs={"m": "given"}, args=["a", 2])

    assert done.status is S.SUCCEEDED
    assert done.outputs == {
        "stdout": "hello ['a', '2']", "stderr": "", "exit_code": 0, "result": {"n": 2, "m": "given"},
    }  # fmt: skip


def test_input_has_what_the_stages_before_gave(engine):
    """Outputs of ancestors, under the stage's own context, under `inputs`."""
    flow = workflow(
        stage("before", task="shell", context={"command": "echo 7"}),
        stage("it", "before", task="python", context={"script": "RESULT = int(INPUT['stdout']) + INPUT['k']", "k": 1}),
    )
    run = engine.start(flow)
    run.wait(20)

    assert run.outputs["it"]["result"] == 8


def test_nothing_printed_is_taken_for_the_result(engine):
    """The result comes by a channel of its own, also when text that looks like one is printed."""
    script = "import os\nprint('__RESULT__{\"a\": 1}')\nos.write(1, b'RESULT')\nRESULT = [INPUT['x']]\nprint(RESULT)"
    done = carried_out(engine, "python", script=script, x="\n__RESULT__")

    assert done.outputs["result"] == ["\n__RESULT__"]


@pytest.mark.parametrize("size", [70_000, 5_000_000])
def test_large_results_and_prints_do_not_block(engine, size):
    """Larger than any pipe, in all three directions at once."""
    script = "import sys\nx = 'x' * INPUT['size']\nprint(x)\nprint(x, file=sys.stderr)\nRESULT = x + INPUT['given'][-1]"
    done = carried_out(engine, "python", script=script, size=size, given="y" * size)

    assert (len(done.outputs["stdout"]), len(done.outputs["stderr"])) == (size, size)
    assert done.outputs["result"] == "x" * size + "y"


def test_exception_fails_the_stage(engine):
    """The traceback has the user's frames, with the lines of the script."""
    done = carried_out(engine, "python", script="def f():\n    return 1 / 0\nf()")

    assert done.status is S.TERMINAL
    assert done.context["error"] == "stage 'it': its Python ended with code 1: ZeroDivisionError: division by zero"
    assert done.context["stderr"].splitlines()[0] == "Traceback (most recent call last):"
    assert "child_python" not in done.context["stderr"]
    assert "return 1 / 0" in done.context["stderr"]


def test_exit_codes(engine):
    """sys.exit(0) is success and keeps the result; another code is failure."""
    done = carried_out(engine, "python", script="import sys\nRESULT = 1\nsys.exit(0)")
    assert (done.status, done.outputs["result"]) == (S.SUCCEEDED, 1)

    done = carried_out(engine, "python", script="import sys\nsys.exit(4)", continue_on_failure=True)
    assert (done.status, done.outputs["exit_code"]) == (S.FAILED_CONTINUE, 4)


def test_result_that_is_no_json(engine):
    """One sentence."""
    done = carried_out(engine, "python", script="RESULT = {1, 2}")

    assert "RESULT cannot be passed on, because it is no JSON" in done.context["error"]


def test_script_file_and_function(engine, tmp_path):
    """A file finds its neighbours; a function is called with args and inputs."""
    (tmp_path / "beside.py").write_text("def double(n, plus=0):\n    return 2 * n + plus\n")
    (tmp_path / "run.py").write_text("from beside import double\nRESULT = [__file__, __name__, double(INPUT['n'])]\n")

    done = carried_out(engine, "python", script_file=str(tmp_path / "run.py"), n=4)
    assert done.outputs["result"] == [str(tmp_path / "run.py"), "__main__", 8]
    done = carried_out(
        engine, "python", module="beside", function="double", args=[5], inputs={"plus": 1}, cwd=str(tmp_path)
    )
    assert done.outputs["result"] == 11


def test_prints_come_while_it_runs(engine, tmp_path):
    """A flushed line is in the log before the script ends."""
    script = "import os, time\nprint('first', flush=True)\nwhile not os.path.exists(INPUT['go']):\n    time.sleep(0.01)"
    run = begun(engine, "python", script=script, go=str(tmp_path / "go"))

    wait_for(lambda: run.log() == "it: first\n")
    (tmp_path / "go").touch()
    assert run.wait(10) is S.SUCCEEDED


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_tree_is_ended(engine, how):
    """With its children."""
    mark = f"mark-{uuid.uuid4().hex}"
    script = "import subprocess\nsubprocess.run(['sh', '-c', 'echo begun; sleep 300; : ' + INPUT['mark']])"
    run = begun(engine, "python", script=script, mark=mark, **({"timeout": 1} if how == "timeout" else {}))
    wait_for(lambda: "begun" in run.log())
    if how == "cancel":
        run.cancel()
    run.wait(10)

    wait_for(lambda: not alive(mark))
    assert run.status is (S.CANCELED if how == "cancel" else S.TERMINAL)


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({}, "give one of them: 'script'"),
        ({"script": "1", "module": "os", "function": "getcwd"}, "give one of them: 'script'"),
        ({"module": "os"}, "give one of them: 'script'"),
        ({"script": 1}, "the text of a script is expected"),
        ({"script_file": "/there/is/none.py"}, "it cannot be read"),
        ({"script_file": "-c"}, "does not begin with '-'"),
        ({"module": "os; import sys", "function": "getcwd"}, "the name of a module is expected"),
        ({"module": "os", "function": "system('x')"}, "the name of a function"),
        ({"script": "1", "python_path": "/there/is/none"}, "there is no such interpreter"),
        ({"script": "1", "inputs": [1]}, "a mapping from names to values is expected"),
        ({"script": "1", "args": "a"}, "a list is expected"),
    ],
)
def test_wrong_key_fails_the_stage_with_a_sentence(engine, context, said):
    """What, where, expected."""
    done = carried_out(engine, "python", **context)

    assert done.status is S.TERMINAL
    assert said in done.context["error"]
