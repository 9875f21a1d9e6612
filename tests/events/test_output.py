"""What task bodies print: in the log, by stage, bounded, and still printed where somebody reads it."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from stabilize_nb import Engine, Flow
from stabilize_nb.errors import ConfigError
from stabilize_nb.printed import Printed
from stabilize_nb.queue.processor import keeping
from stabilize_nb.queue.processor.body import Running
from stabilize_nb.queue.processor.capture import CUT, LIMIT, Output
from stabilize_nb.queue.processor.config import QueueProcessorConfig


@pytest.fixture
def engine(tmp_path):
    """Make an engine that keeps what is printed."""
    with Engine(tmp_path / "runs.db", config=QueueProcessorConfig(task_output="keep")) as engine:
        yield engine


def ended(engine: Engine, flow: Flow, **inputs):
    """Run a flow to its end."""
    run = engine.start(flow, **inputs)
    run.wait(30)
    return run


def outputs(run) -> list[str]:
    """Return the stages of the log's entries of what was printed."""
    events = run.events
    return list(events["stage"][events["type"] == "task.output"])


def test_log_of_a_stage_has_what_its_tasks_printed(engine, capsys):
    """Both streams in order, one entry in the log, and nothing on the terminal when it is only kept."""
    flow = Flow("talk")

    @flow.stage
    def speak():
        print("one")
        print("two", file=sys.stderr)
        print("three")

    run = ended(engine, flow)

    assert run.log("speak") == "one\ntwo\nthree\n"
    assert outputs(run) == ["speak"]
    assert capsys.readouterr().out == ""


def test_silent_tasks_add_nothing_to_the_log(engine):
    """A body that prints nothing leaves no entry."""
    flow = Flow("silent")

    @flow.stage
    def quiet():
        return 1

    assert outputs(ended(engine, flow)) == []


def test_prints_of_threads_and_coroutines_do_not_mix(engine):
    """Bodies that print at the same time, in threads or as coroutines, have each their own log."""
    flow = Flow("chorus")
    together = threading.Barrier(3)

    def singer(name):
        def sing():
            for number in range(20):
                together.wait(10)
                print(name, number)

        sing.__name__ = name
        return sing

    for name in ("alto", "bass", "tenor"):
        flow.stage(singer(name))

    @flow.stage
    async def choir():
        for number in range(5):
            await asyncio.sleep(0)
            print("choir", number)
        await asyncio.to_thread(print, "choir in a thread")

    run = ended(engine, flow)

    for name in ("alto", "bass", "tenor"):
        assert run.log(name) == "".join(f"{name} {number}\n" for number in range(20))
    assert run.log("choir").splitlines()[-1] == "choir in a thread"
    assert "alto: alto 19\n" in run.log()


def test_failed_and_repeated_attempts_keep_what_they_printed(engine):
    """The log has the prints of every attempt."""
    flow = Flow("again")
    tries = []

    @flow.stage(retry=2)
    def flaky():
        tries.append(1)
        print("try", len(tries))
        if len(tries) == 1:
            raise ConnectionError("busy")
        raise ValueError("no")

    assert ended(engine, flow).log("flaky") == "try 1\ntry 2\n"


def test_prints_survive_a_restart(tmp_path):
    """Another engine on the same file reads them."""
    flow = Flow("kept")

    @flow.stage
    def speak():
        print("still here")

    with Engine(tmp_path / "a.db", config=QueueProcessorConfig(task_output="keep")) as engine:
        run_id = ended(engine, flow).id

    with Engine(tmp_path / "a.db") as engine:
        assert engine.run(run_id).log("speak") == "still here\n"


def test_prints_of_a_body_at_work_are_seen_and_enter_the_log_before_its_end(tmp_path, monkeypatch):
    """A crash of a long body takes away little: what it has printed is logged every now and then."""
    monkeypatch.setattr(keeping, "KEEP_OUTPUT", 0.02)
    flow, go_on = Flow("long"), threading.Event()

    @flow.stage
    def work():
        print("begun")
        go_on.wait(30)
        print("ended")

    with Engine(tmp_path / "a.db", config=QueueProcessorConfig(task_output="keep")) as engine:
        run = engine.start(flow)
        deadline = time.monotonic() + 20
        while not outputs(run) and time.monotonic() < deadline:
            engine.database.changes.ticket().wait(0.1)

        assert outputs(run) == ["work"]
        assert run.log("work") == "begun\n"

        go_on.set()
        run.wait(30)

        assert run.log("work") == "begun\nended\n"


def test_prints_stay_in_order_when_a_body_ends_while_they_are_kept(tmp_path, monkeypatch):
    """What was taken first is in the log first, also when the body ends before that is committed."""
    monkeypatch.setattr(keeping, "KEEP_OUTPUT", 0.02)
    flow, go_on = Flow("long"), threading.Event()
    take = Running.printed

    @flow.stage
    def work():
        print("begun")
        go_on.wait(30)
        print("ended")

    with Engine(tmp_path / "a.db", config=QueueProcessorConfig(task_output="keep")) as engine:
        desk = engine.processor.desk

        def slowly(running):
            message = take(running)
            go_on.set()
            deadline = time.monotonic() + 20
            while desk.running and time.monotonic() < deadline:
                time.sleep(0.001)
            return message

        monkeypatch.setattr(Running, "printed", slowly)
        run = engine.start(flow)
        run.wait(30)

        assert run.log("work") == "begun\nended\n"
        assert len(outputs(run)) == 2


def test_too_much_is_cut():
    """After the limit one line says so, and nothing more is kept."""
    output = Output()
    for _ in range(3):
        output.write("stdout", "x" * (LIMIT // 2))
    output.write("stdout", "more")
    (part,) = output.parts()

    assert part["stdout"] == "x" * LIMIT + "\n" + CUT


def test_lines_that_are_written_anew_are_kept_as_they_were_last():
    """A progress bar leaves one line, not a thousand."""
    output = Output()
    for percent in range(0, 101, 10):
        output.write("stderr", f"\r{percent} %")
    output.write("stderr", "\ndone\r\n")

    assert output.parts() == [{"stderr": "100 %\ndone\n"}]


def test_display_is_kept_as_text_and_picture_and_an_update_takes_its_place():
    """Only what can be shown without running anything is kept of a display."""
    output = Output()
    output.display({"text/plain": "a", "text/html": "<script>", "image/png": "AAAA"}, "one", is_update=False)
    output.display({"text/plain": "b"}, "one", is_update=True)
    output.display({"text/plain": "<object>", "text/markdown": "# c"}, None, is_update=False)
    parts = tuple(output.parts())

    assert parts == ({"text/plain": "b"}, {"text/plain": "<object>", "text/markdown": "# c"})
    assert Printed(stage_id="", attempt=1, parts=parts).text == "b\n# c\n"


def test_script_prints_as_ever_and_keeps_what_it_printed(tmp_path):
    """Without IPython nothing disappears from the terminal; the log has it besides; the setting can say otherwise."""
    source = (
        "import os, sys\nfrom stabilize_nb import Engine, Flow\nflow = Flow('talk')\n"
        "@flow.stage\ndef speak():\n    print('hello from a task')\n\n"
        "run = Engine(':memory:').start(flow)\nrun.wait(20)\nprint(repr(str(run.log('speak'))))\n"
    )

    def printed(manner: str) -> str:
        environment = {"PATH": "", "STABILIZE_NB_TASK_OUTPUT": manner}
        command = [sys.executable, "-c", source]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path).stdout

    assert printed("auto") == "hello from a task\n'hello from a task\\n'\n"
    assert printed("keep") == "'hello from a task\\n'\n"
    assert printed("off") == "hello from a task\n''\n"


def test_unknown_manner_is_refused():
    """The error names what may be written."""
    with pytest.raises(ConfigError, match="task_output 'loud' is not known; expected one of auto, keep, echo, off"):
        QueueProcessorConfig(task_output="loud")
