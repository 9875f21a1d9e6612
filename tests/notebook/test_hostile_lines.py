"""What %workflow says, what a cell shows of a model's words, and what a plain script's terminal gets, is text."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from hostile_texts import OBEYED, TEXTS
from test_hostile_texts import hostile_workflow, marked, plain_of, say, strings_of, wait_for_gates

from stabilize_nb import ApprovalTask, Engine, ShellTask, StageExecution, TaskResult
from stabilize_nb.errors import PermanentError
from stabilize_nb.llm.tokens import Tokens
from stabilize_nb.notebook.panes.afterlife import Pictures
from stabilize_nb.notebook.panes.run_pane import RunPane
from stabilize_nb.notebook.panes.snapshot import RunReader
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.queue.processor.config import QueueProcessorConfig
from tests.makers import stage, workflow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LINES = (
    "%workflow list", "%workflow status", "%workflow status last", "%workflow events last", "%workflow dead",
    "%workflow replay last --at 30", "%workflow graph last --format ascii", "%workflow doctor", "run.log()",
    "run.explain()", "run.gates", "run.inputs", "run.outputs", "run.at(40)", "run.result(0)", "run.stage('nothing')",
    "%workflow approve last/nothing", "%workflow approve last", "%workflow signal last/say0 \x1b[31mx",
    "%workflow retry last/\x1b[2J", "%workflow nothing\x1b[31m", "%workflow cancel last", "%workflow list --all",
    "run.result(5)",
)  # fmt: skip
SAID = "\n".join(TEXTS)


def crash(stage: StageExecution) -> TaskResult:
    """Raise a text."""
    raise PermanentError(stage.context["text"])


def fail(stage: StageExecution) -> TaskResult:
    """Fail with a text."""
    return TaskResult.failed_continue(stage.context["text"])


def test_lines_of_workflow_are_text(notebook):
    """Tables, sentences, frames, errors and pictures of text, of runs that hold every text in every field."""
    notebook.run("%config StabilizeNB.display = 'text'")
    engine = RUNTIME.engine()
    for name, task in (("say", say), ("fail", fail), ("crash", crash), ("approval", ApprovalTask)):
        engine.registry.register(name, task)
    bad: list[tuple[str, str]] = []
    for at in range(0, len(TEXTS), 60):
        texts = TEXTS[at : at + 60]
        run = engine.start(hostile_workflow(texts))
        wait_for_gates(run, len(texts))
        notebook.names["run"] = run
        for line in LINES:
            said = notebook.run(line).text
            assert said, line
            bad += [(line, said[max(0, found.start() - 60) :][:120]) for found in OBEYED.finditer(said)]

    assert bad == []


def test_words_of_a_model_are_text_while_they_come():
    """In the live pane, in the picture that stays, in the text of both, and in the log as a shell shows it."""
    heard, told, go_on = (threading.Event() for _ in range(3))

    async def words() -> AsyncIterator[str | dict[str, str]]:
        for text in TEXTS:
            yield f"{text}\n"
        yield {"answer": "yes"}

    async def speak(stage: StageExecution) -> TaskResult:
        heard.wait(20)
        await Tokens(stage).shown(words())
        stage.progress(0.5, SAID)
        told.set()
        go_on.wait(20)
        return TaskResult.success()

    with Engine(":memory:", config=QueueProcessorConfig(task_output="keep")) as engine:
        engine.registry.register("speak", speak)
        run = engine.start(workflow(stage("model", task="speak")))
        pane, read = RunPane(run, Pictures(), "x"), RunReader(run, lambda: None)
        try:
            read()
            heard.set()
            assert told.wait(20)
            run.engine.database.bus.flush()
            pane.paint(read())
            bundle = run._repr_mimebundle_()
            shown = [*strings_of(pane.box), *marked(bundle), *plain_of(bundle), repr(run.log())]
        finally:
            go_on.set()
            pane.close()
            read.close()
        run.wait(20)
        stored = str(run.log())

    assert sum("canary" in text for text in shown) >= 4
    assert [text for text in shown if OBEYED.search(text)] == []
    assert "\x1b]0;title\x07" in stored


def test_terminal_of_a_script_gets_text_of_programs_and_nothing_of_models(capsys, tmp_path):
    """What a command prints comes without what is obeyed; what a body itself prints is its own, as `print` has it."""
    (tmp_path / "said").write_text(f"{SAID}\n")

    def own(_stage: StageExecution) -> TaskResult:
        print("\x1b[1mmine\x1b[0m")
        return TaskResult.success()

    async def speak(stage: StageExecution) -> TaskResult:
        async def words() -> AsyncIterator[str | dict[str, str]]:
            yield SAID
            yield {"answer": "yes"}

        await Tokens(stage).shown(words())
        return TaskResult.success()

    command = {"command": f"cat {tmp_path}/said; cat {tmp_path}/said >&2"}
    with Engine(":memory:", config=QueueProcessorConfig(task_output="echo")) as engine:
        for name, task in (("own", own), ("speak", speak), ("shell", ShellTask)):
            engine.registry.register(name, task)
        run = engine.start(
            workflow(stage("own", task="own"), stage("model", task="speak"), stage("sh", task="shell", context=command))
        )
        run.wait(20)
        stored = str(run.log("sh"))
    printed = capsys.readouterr()

    assert "\x1b[1mmine\x1b[0m\n" in printed.out
    for text in (printed.out.replace("\x1b[1mmine\x1b[0m\n", ""), printed.err):
        assert text.count("plain 9 ") == 1
        assert OBEYED.findall(text) == []
    assert stored.count("\x1b]0;title\x07") == 2


def test_lines_of_the_logger_are_text(caplog):
    """Names and errors in what the package logs, and in the tracebacks with it."""
    with Engine(":memory:"):
        log = logging.getLogger("stabilize_nb")
        try:
            raise PermanentError(SAID)
        except PermanentError:
            log.exception("stage %s failed", SAID)

    formatted = caplog.handler.format(caplog.records[-1])
    assert "canary" in formatted
    assert OBEYED.findall(formatted) == []


def test_errors_of_this_package_are_text():
    """Whoever prints one: its message is shown, a traceback has it, and no terminal obeys it."""
    assert OBEYED.findall(str(PermanentError(SAID))) == []
    assert "canary" in str(PermanentError(SAID))
