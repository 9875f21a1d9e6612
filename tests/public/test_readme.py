"""The README is true: its code runs, its outputs are what the code prints, and what it points at is there."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TWO_COMMANDS = (
    'python3 -m venv .venv && .venv/bin/pip install -q -e ".[lab]" && .venv/bin/stabilize-nb demo',
    'python3 -m venv .venv && .venv/bin/pip install -q -e ".[test]" && .venv/bin/pytest',
)
#: What loads notebooks takes longer to import than all the rest.
WITHOUT_NOTEBOOKS = ("-o", "addopts=", "-p", "no:nbval", "-p", "no:langsmith_plugin")


@dataclass(frozen=True)
class Block:
    """A block of code below a heading; `expected` is the text block that follows it."""

    heading: str
    code: str
    expected: str | None


def blocks():
    heading, found = "", []
    for match in re.finditer(r"^## ([^\n]+)$|^```(python|text)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        title, language, code = match.groups()
        if title is not None:
            heading = title
        elif language == "python":
            found.append(Block(heading, code, None))
        else:
            found[-1] = Block(heading, found[-1].code, code)
    return found


CELLS = [block for block in blocks() if block.heading == "In a notebook"]
PROGRAMS = [block for block in blocks() if block.heading != "In a notebook"]


def test_cells_run_in_a_kernel(tmp_path):
    """The blocks of the notebook section are cells of one notebook that runs to its end without an error."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(block.code.strip()) for block in CELLS])

    NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()

    assert len(CELLS) == 4
    (shown,) = notebook.cells[-1].outputs
    assert shown["data"]["text/plain"].startswith("'WHAT IS KNOWN? ")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda block: block.code.splitlines()[-1])
def test_a_program_prints_what_stands_below_it(program, tmp_path):
    """Each further block is a program of its own, and prints the text block that follows it."""
    outcome = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input=program.code,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert outcome.stderr == ""
    assert outcome.stdout == program.expected


@pytest.mark.parametrize("command", TWO_COMMANDS)
def test_the_two_commands_are_there_word_for_word(command):
    """The README gives both commands on lines of their own, as .ci/run runs them."""
    assert re.search(rf"^ +{re.escape(command)}$", README, re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", README))))
def test_a_link_leads_somewhere(target):
    """What the README links to is a file of the repository; pictures weigh at most 300 KB."""
    path = ROOT / target

    assert path.is_file()
    assert path.suffix != ".png" or path.stat().st_size <= 300_000


@pytest.mark.parametrize("command", re.findall(r"`\.venv/bin/pytest ([^`]+)`", README))
def test_a_promise_has_tests(command):
    """Each command that stands beside a promise selects tests."""
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", *WITHOUT_NOTEBOOKS, "--collect-only", "-q", *command.split()],
        cwd=ROOT,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert outcome.returncode == 0, outcome.stdout
    assert "::test_" in outcome.stdout


def test_commands_that_measure_are_modules():
    """What is said to show a promise is there to be called."""
    modules = re.findall(r"`\.venv/bin/python -m ([\w.]+)`", README)

    assert modules
    places = [ROOT / Path(*module.split(".")) for module in modules]
    assert all(place.with_suffix(".py").is_file() or (place / "__main__.py").is_file() for place in places)
