"""A notebook that watches and two worker processes, in one PostgreSQL: a click here, and they do the rest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.browser.lab import Tab
from tests.postgres import shared_server

LOAD = "%load_ext stabilize_nb"
ENGINE = """from stabilize_nb import Engine
from stabilize_nb.engine import use_engine
import os as system
engine = use_engine(Engine("{url}", workers=0))"""
ESSAY = """%%workflow essay -q
def note(word):
    with open("done.txt", "a") as file:
        file.write(f"{word} {system.getpid()}\\n")

@stage
def plan(question):
    note("plan")
    return {"topics": ["size", "colour"]}

@stage(each="topics")
def draft(topic):
    note("draft")
    return topic.upper()

sign_off = approval("Publish this essay?", show="draft")

@stage
def publish(draft, sign_off):
    note("publish")
    return " and ".join(draft)"""
SAVE = 'essay.save("saved_essay.py")'
RUN = 'run = essay.run(question="penguins")\nrun'
AT = 4


@pytest.fixture
def watched(lab_notebook: Callable[..., Tab]) -> Iterator[tuple[Tab, str]]:
    """Open a notebook that has saved its flow and watches the run that it has started, which nobody works at."""
    with shared_server() as server:
        url = server.url("browser")
        tab = lab_notebook([LOAD, ENGINE.format(url=url), ESSAY, SAVE, RUN])
        tab.run_all()
        yield tab, url
        tab.say("engine.close()")


@pytest.fixture
def workers(watched: tuple[Tab, str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that have imported what the notebook has saved."""
    tab, url = watched
    command = [
        str(Path(sys.executable).with_name("stabilize-nb")),
        "worker",
        "--db-url",
        url,
        "--import",
        "saved_essay",
    ]
    with ExitStack() as stack:
        begun = [
            stack.enter_context(subprocess.Popen(command, cwd=tab.folder(), stdout=subprocess.PIPE, text=True))
            for _ in range(2)
        ]
        for each in begun:
            stack.callback(each.kill)
        yield begun


def test_click_here_and_workers_finish_the_run(watched: tuple[Tab, str], workers: list[subprocess.Popen[str]]) -> None:
    """The kernel runs no body; what was approved by a click goes on in the workers, and the pane shows its end."""
    tab, _ = watched
    tab.wait_button("Approve", cell=AT)
    tab.click_button("Approve", cell=AT)
    tab.wait_text("7 of 7 stages", cell=AT)

    lines = [line.split() for line in (tab.folder() / "done.txt").read_text().splitlines()]
    assert sorted(word for word, _ in lines) == ["draft", "draft", "plan", "publish"]
    assert {int(pid) for _, pid in lines} <= {each.pid for each in workers}
    assert "'SIZE and COLOUR'" in tab.say("run.result()")
    assert "False" in tab.say("engine.processor.running")
    assert tab.errors() == []
