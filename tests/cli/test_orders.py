"""`stabilize-nb` on a store that workers share: who sees what, who decides, who works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stabilize_nb import Engine, Flow
from stabilize_nb.cli.main import main
from stabilize_nb.models.ids import new_id
from stabilize_nb.queue.messages import StartWorkflow

PATIENCE = 60.0
CODE = """
from stabilize_nb import Flow

letter = Flow("letter")


@letter.stage
def draft(topic):
    return topic.upper()


letter.approval("Good?", name="good", after="draft", show="draft", form={"note": "str"})


@letter.stage(after="good")
def publish(draft, good):
    open("published", "a").write(draft + "\\n")
    return f"{draft} {good['approval']['note']}"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MG_DATABASE_URL", raising=False)
    (tmp_path / "letters.py").write_text(CODE)
    return tmp_path


def call(*arguments: str, **settings: Any) -> Result:
    return CliRunner().invoke(main, [*arguments], **settings)


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def imported() -> ModuleType:
    """Return the module in the folder."""
    spec = spec_from_file_location("letters", "letters.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def letter() -> Flow:
    """Return the flow of the module in the folder."""
    flow: Flow = imported().letter
    return flow


@pytest.fixture
def run_id(folder: Path) -> str:
    """A run that nobody works at, in the store runs.db."""
    with Engine("runs.db") as engine:
        run = engine.start(letter(), topic="tides")
        run.until_gate(PATIENCE)
        return run.id


@pytest.fixture
def worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [str(Path(sys.executable).with_name("stabilize-nb")), "worker", "--db-url", "runs.db"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*command, "--import", "letters"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert "flow letter" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def test_run_is_seen_approved_and_finished_by_a_worker(folder: Path, run_id: str, worker: Any) -> None:
    """A shell sees the gate and approves it; a worker that imports the code does the rest, and drains on SIGTERM."""
    listed = call("runs", "--db-url", "runs.db")
    shown = call("show", run_id[-7:], "--db-url", "runs.db")
    approved = call("approve", f"{run_id}/good", "note=fine", "--user", "Ada", "--db-url", "runs.db")
    deadline = time.monotonic() + PATIENCE
    with Engine("runs.db") as engine:
        engine.hold()
        run = engine.run(run_id)
        while not run.status.is_complete:
            assert time.monotonic() < deadline
            time.sleep(0.05)

        assert run.outputs["publish"]["result"] == "TIDES fine"
        assert list(run.decisions["user"]) == ["Ada"]
    worker.send_signal(signal.SIGTERM)
    said, _ = worker.communicate(timeout=PATIENCE)

    assert (listed.exit_code, shown.exit_code, approved.exit_code) == (0, 0, 0), approved.output
    assert run_id in listed.output
    assert f"approve {run_id}/good" in shown.output
    assert "Good?" in shown.output
    assert worker.returncode == 0
    assert "what is at work ends" in said
    assert (folder / "published").read_text() == "TIDES\n"


def test_orders_need_nobody_at_work(run_id: str) -> None:
    """An order is carried out by the command itself when nobody else does; code that is elsewhere is waited for."""
    rejected = call("reject", "last", "note=no", "--db-url", "runs.db")
    told = json.loads(call("show", run_id, "--json", "--db-url", "runs.db").output)
    again = call("retry", run_id, "--db-url", "runs.db")
    withdrawn = call("cancel", run_id, "--reason", "enough", "--user", "Ada", "--db-url", "runs.db")

    assert rejected.exit_code == 0, rejected.output
    assert told["status"] == "TERMINAL"
    assert {each["ref_id"]: each["status"] for each in told["stages"]}["good"] == "TERMINAL"
    assert again.exit_code == 0, again.output
    assert withdrawn.exit_code == 0, withdrawn.output
    assert [each["status"] for each in json.loads(call("runs", "--json", "--db-url", "runs.db").output)] == ["CANCELED"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "NOBODY"], "run 'NOBODY': no run has an id that ends so"),
        (["show", ""], "2 runs have an id that ends so"),
        (["approve", "last/other", "note=x"], "other"),
        (["approve", "last", "fine"], "'fine': FIELD=VALUE is expected"),
        (["cancel", "last/nothing"], "nothing"),
        (["retry", "last"], "has no failed stage"),
    ],
)
def test_wrong_orders_are_refused(run_id: str, arguments: list[str], sentence: str) -> None:
    """One sentence, exit code 1, and nothing is ordered."""
    with Engine("runs.db") as engine:
        engine.start(letter(), topic="winds").until_gate(PATIENCE)
    refused = call(*arguments, "--db-url", "runs.db")

    assert refused.exit_code == 1, refused.output
    assert sentence in refused.output
    assert refused.output.startswith("Error: ")


def test_command_that_is_not_known_is_guessed() -> None:
    """A slip in the name of a command is answered with the name that is near."""
    refused = call("rnus")

    assert refused.exit_code == 2
    assert "No such command 'rnus'; did you mean 'runs'?" in refused.output
    assert "No such command 'list'; did you mean 'runs'?" in CliRunner().invoke(main, ["list"]).output


def test_run_that_failed_shows_where(folder: Path) -> None:
    """What is shown of a failed run has the lines of the code that failed."""
    flow = Flow("birds")

    @flow.stage
    def count(text: str) -> int:
        return int(text)

    with Engine("runs.db") as engine:
        engine.start(flow, text="many").wait(PATIENCE)

    shown = call("show", "last", "--db-url", "runs.db").output

    assert f'  File "{__file__}", line ' in shown
    assert "return int(text)" in shown
    assert "bodies.py" not in shown


@pytest.mark.parametrize("command", ["runs", "show x", "approve x", "cancel x", "retry x"])
def test_store_that_is_not_there_is_not_made(folder: Path, command: str) -> None:
    """A mistyped name makes no empty store."""
    refused = call(*command.split(), "--db-url", "nothing.db")

    assert refused.exit_code == 1
    assert "nothing.db: there is no such file" in refused.output
    assert not (folder / "nothing.db").exists()


def test_store_is_named_by_option_variable_or_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In that order; the file has a URL or the parts of an address."""
    for name in ("option", "variable", "file"):
        with Engine(f"{name}.db") as engine:
            flow = Flow(name)
            flow.stage(name="a")(lambda: 1)
            engine.start(flow).result(PATIENCE)
    (folder / "mg.yaml").write_text("database: sqlite:///file.db\n")

    assert "file" in call("runs").output
    monkeypatch.setenv("MG_DATABASE_URL", "sqlite:///variable.db")
    assert "variable" in call("runs").output
    assert "option" in call("runs", "--db-url", "option.db").output


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("database: {host: 127.0.0.1, port: 1, user: me, password: 'p@ss', dbname: x}", "postgresql://127.0.0.1:1/x"),
        ("database: {hots: db}", "hots is not known"),
        ("store: x", "has no `database`"),
        ("database: [", "cannot be read"),
    ],
)
def test_file_of_addresses_is_read_or_refused(folder: Path, content: str, sentence: str) -> None:
    """The parts become an address; the password is in no message."""
    (folder / "mg.yaml").write_text(content)
    refused = call("runs")

    assert refused.exit_code == 1
    assert sentence in refused.output
    assert "p@ss" not in refused.output
    assert "p%40ss" not in refused.output


def test_schema_is_brought_up_and_shown(folder: Path) -> None:
    """Pending before, applied after, once; a migration that was changed is a mismatch."""
    before = call("mg-status", "--db-url", "new.db")
    made = (folder / "new.db").exists()
    first, second = call("mg-up", "--db-url", "new.db"), call("mg-up", "--db-url", "new.db")
    after = call("mg-status", "--db-url", "new.db")
    with Engine("new.db") as engine:
        engine.database.call_write(lambda db: db.raw.execute("UPDATE migration SET checksum = 'other'"))
    changed = call("mg-status", "--db-url", "new.db")

    assert "pending  0001_initial.sql" in before.output
    assert not made
    assert first.output == "Applying: 0001_initial.sql\nApplied 1 migration(s)\n"
    assert second.output == "All migrations already applied\n"
    assert "applied  0001_initial.sql" in after.output
    assert "MISMATCH" in changed.output


@pytest.mark.parametrize(
    ("module", "text", "sentence"),
    [
        ("absent", None, "--import absent: no such module"),
        ("empty", "", "--import empty: it has no Flow, TaskRegistry or register(registry)"),
    ],
)
def test_worker_without_code_does_not_begin(folder: Path, module: str, text: str | None, sentence: str) -> None:
    """It would wait for ever beside runs that wait for it."""
    name = f"{module}_{new_id().lower()}" if text is not None else module
    if text is not None:
        (folder / f"{name}.py").write_text(text)
    refused = call("worker", "--db-url", "runs.db", "--import", name)

    assert refused.exit_code == 1
    assert sentence.replace(module, name) in refused.output


def test_what_others_named_is_text_in_the_terminal(folder: Path) -> None:
    """Names, errors and questions of a store that somebody else wrote command nothing."""
    flow = Flow("\x1b]0;owned\x07[red]evil\u202e")
    flow.approval("\x1b[2JGood?[link=http://x]y[/link]", name="good")
    with Engine("runs.db") as engine:
        engine.start(flow).until_gate(PATIENCE)
    shown = "".join(call(*order, "--db-url", "runs.db").output for order in (["runs"], ["show", "last"]))

    assert "[red]evil" in shown
    assert "[link=http://x]y[/link]" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


SLOW = """
import time
from pathlib import Path
from stabilize_nb import Flow

slow = Flow("slow")


@slow.stage
def work():
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.02)
    return "kept"


@slow.stage
def after(work):
    return work
"""


def test_stopped_worker_ends_what_is_at_work(folder: Path) -> None:
    """After SIGTERM the body at work is committed, what follows is left to the next worker, and the code is 0."""
    (folder / "letters.py").write_text(SLOW)
    with Engine("runs.db") as engine:
        engine.hold()
        module = vars(imported())
        stored = module["slow"].build()
        engine.define(module["slow"])
        engine.store.store(stored, StartWorkflow(execution_id=stored.id))
        run = engine.run(stored.id)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        command = [str(Path(sys.executable).with_name("stabilize-nb")), "worker", "--db-url", "runs.db"]
        process = subprocess.Popen(
            [*command, "--import", "letters", "--only", "default"], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        until((folder / "begun").exists)
        process.send_signal(signal.SIGTERM)
        said = [process.stdout.readline(), process.stdout.readline()]
        (folder / "go").touch()
        process.communicate(timeout=PATIENCE)
        done, left = run.workflow.stages

        assert "flow slow" in said[0]
        assert "what is at work ends" in said[1]
        assert process.returncode == 0
        assert (done.status.name, done.outputs["result"], done.tasks[0].attempt) == ("SUCCEEDED", "kept", 1)
        assert left.status.name == "RUNNING"
        assert left.tasks[0].attempt == 0
