"""What a store from elsewhere says is text in a terminal: no colour, no link, no title, no line over another."""

from __future__ import annotations

import io
import re
import sqlite3
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import click
import pytest

from stabilize_nb import ApprovalTask, Engine, StageExecution, TaskRegistry, TaskResult, Workflow
from stabilize_nb.cli.demo import ask, conclude
from stabilize_nb.cli.live import Watch
from stabilize_nb.cli.terminal import Terminal
from tests.cli.test_demo import Terminal as Screen
from tests.makers import stage, workflow
from tests.notebook.hostile_texts import MARKUP, OBEYED, TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVERY = (*TEXTS, *MARKUP)
#: What doctor itself sends: bold, and not bold any more.
BOLD = re.compile(r"\x1b\[[01]m")
#: What a table that is painted again sends without colours: up, empty the line, hide and show the cursor.
PAINT = re.compile(r"\r|\x1b\[(?:1A|2K|\?25[lh])")


def say(stage: StageExecution) -> TaskResult:
    """Tell a text and end with it."""
    text = stage.context["text"]
    stage.progress(0.5, text)
    return TaskResult.failed_continue(text) if stage.context["fails"] else TaskResult.success()


def engine_at(path: Path | str) -> Engine:
    registry = TaskRegistry()
    registry.register("say", say)
    registry.register("approval", ApprovalTask)
    return Engine(path, registry=registry)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with runs that have ended and runs that wait, and in which every name, error and id is a text."""
    path = tmp_path_factory.mktemp("hostile") / "runs.db"
    with engine_at(path) as engine:
        for text in EVERY:
            engine.start(workflow(stage(f"wait {text}", task="approval", context={"message": text}), name=text))
            engine.start(workflow(stage(text, task="say", context={"text": text, "fails": True}), name=text)).wait(20)
    with sqlite3.connect(path) as connection:
        for number, text in enumerate(EVERY):
            quoted = text.replace('"', '""')
            connection.execute(f'CREATE TABLE "own {quoted}" (a)')
            connection.execute("INSERT INTO claim VALUES (?, ?, 'x', 0, 0, 0)", (f"mutex:{text}", text))
            connection.execute(
                "INSERT INTO message (id, workflow_id, kind, payload, counts, timer, due_at, dead_at, error)"
                " VALUES (?, ?, ?, '{}', 0, 0, 0, 1, ?)",
                (f"dead {number}", text, text, text),
            )
    connection.close()
    return path


def said_by(folder: Path, *arguments: str) -> str:
    """Return all that a command sends to a terminal that can do everything."""
    with Screen(folder, *arguments, columns=1_000) as screen:
        screen.end()
        return screen._read.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("command", ["doctor", "doctor --salvage new.db", "prune --keep 0 --dry-run"])
def test_terminal_obeys_nothing_of_a_store(store, command):
    """Of what reaches a terminal only bold is more than text, and what looks like markup is there as it is."""
    name, *options = command.split()
    said = said_by(store.parent, name, str(store), *options)

    plain = BOLD.sub("", said)
    assert OBEYED.findall(plain) == []
    for text in MARKUP:
        assert text in plain


def test_refusal_is_a_plain_sentence(tmp_path):
    """What is said of a database that cannot be opened repeats no control characters of its path."""
    said = said_by(tmp_path, "prune", "no\x1b[2J\u202e.db", "--keep", "0")

    assert "there is no such file" in said
    assert OBEYED.findall(said) == []


@pytest.fixture
def console() -> Terminal:
    """A terminal without colours, so that any colour is one of a text."""
    return Terminal(file=io.StringIO(), force_terminal=True, color_system=None, width=200, legacy_windows=False)


def batches() -> Iterator[Workflow]:
    """Make workflows in which texts are names, progress, errors and questions."""
    for at in range(0, len(EVERY), 16):
        texts = EVERY[at : at + 16]
        said = [
            stage(f"{at} {text}", task="say", context={"text": text, "fails": at % 2 == 1})
            for at, text in enumerate(texts)
        ]
        gate = stage("ok", *(each.ref_id for each in said), task="approval", context={"message": texts[0]})
        gate.join_threshold = 1
        yield workflow(*said, gate, name=texts[-1])


def test_live_table_and_its_log_are_text(console):
    """Names, progress and errors, in the table and in the lines above it."""
    with engine_at(":memory:") as engine:
        for hostile in batches():
            run = engine.start(hostile)
            with Watch(run, console) as watch:
                gate = watch.follow()
                assert gate is not None
                run.reject(gate.name, reason=hostile.name)
                watch.follow([gate.stage_id])
            conclude(run, console)

    written = console.file.getvalue()
    assert PAINT.search(written)
    assert OBEYED.findall(PAINT.sub("", written)) == []
    for text in MARKUP:
        assert text in written


def test_question_is_text(console, monkeypatch):
    """What is to be approved is drawn as Markdown, without its links; its question is no markup."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(click, "confirm", lambda *_, **__: True)
    run = SimpleNamespace(approve=lambda *_, **__: None)
    for text in EVERY:
        ask(run, SimpleNamespace(name="ok", question=text, show=f"# {text}\n\n{text}\n\n> {text}"), console)

    written = console.file.getvalue()
    assert OBEYED.findall(written) == []
    assert "[red]evil[/red]" in written


def test_text_would_show(console):
    """A console that lets texts be more than text fails what is asked of this one."""
    careless = super(Terminal, console)
    sent = "".join(each.text for text in TEXTS for each in careless.render(text))

    assert len(OBEYED.findall(sent)) > 10
