"""`stabilize-nb` as people call it: in a pipe, in a terminal, twice."""

import fcntl
import importlib.util
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from palmerpenguins import load_penguins

from stabilize_nb.cli.main import main

COMMAND = [str(Path(sys.executable).with_name("stabilize-nb"))]
SMALL = ["demo", "--samples", "400"]


def call(folder, *arguments, typed=""):
    """Run the command in a folder, through pipes."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, input=typed, capture_output=True, text=True, timeout=60, check=False
    )


class Terminal:
    """The command in a pseudo-terminal."""

    def __init__(self, folder, *arguments, columns=100):
        self._read = b""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "LINES": ""},
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    @property
    def text(self):
        """All that was printed, without what moves the cursor and sets colours: a piece may end inside of these."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._read.decode(errors="replace"))

    def read_until(self, text, timeout=30):
        """Read until `text` is on the screen (None: until the program ends)."""
        deadline = time.monotonic() + timeout
        while text is None or text not in self.text:
            ready, _, _ = select.select([self._ours], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come:\n{self.text}"
            try:
                data = os.read(self._ours, 65_536)
            except OSError:  # the program has closed its end
                data = b""
            if not data:
                assert text is None, f"ended without {text!r}:\n{self.text}"
                return
            self._read += data

    def type(self, text):
        os.write(self._ours, text.encode())

    def end(self):
        """Return the exit code."""
        self.read_until(None)
        return self.process.wait(timeout=10)


def numbers(pattern, text):
    found = re.search(pattern, text)
    return None if found is None else [float(number) for number in found.groups()]


@dataclass(frozen=True)
class Truth:
    """What the data of the demo say, by draws of this file."""

    penguins: str
    gap: float
    gap_interval: Any
    spread: float
    chance: float


@cache
def truth():
    everything = load_penguins()
    kept = everything.dropna()
    random = np.random.default_rng(2026)
    means = kept.groupby(["species", "sex"])["body_mass_g"].mean().unstack()
    draws = [
        np.mean(
            [
                each[each["sex"] == "male"]["body_mass_g"].mean() - each[each["sex"] == "female"]["body_mass_g"].mean()
                for _, each in kept.sample(len(kept), replace=True, random_state=random).groupby("species")
            ]
        )
        for _ in range(400)
    ]
    adelie = kept[kept["species"] == "Adelie"]
    flipper, island = adelie["flipper_length_mm"], adelie["island"]
    spread = np.ptp(flipper.groupby(island).mean())
    return Truth(
        penguins=f"{len(kept)} of {len(everything)} penguins were measured in full.",
        gap=(means["male"] - means["female"]).mean(),
        gap_interval=np.quantile(draws, [0.025, 0.975]),
        spread=spread,
        chance=np.mean([np.ptp(flipper.groupby(random.permutation(island)).mean()) >= spread for _ in range(1_000)]),
    )


def check_report(text):
    """Compare what the report says with numbers computed here, by other draws."""
    expected = truth()
    assert expected.penguins in text

    sexes = numbers(r"males are (\d+) g heavier than females \(95% interval (\d+) to (\d+) g\)", text)
    if sexes is not None:
        assert sexes[0] == round(expected.gap)
        assert sexes[1:] == pytest.approx(expected.gap_interval, abs=25)

    islands = numbers(r"differ by ([\d.]+) mm .* gives as much in ([\d.]+)% of", text)
    if islands is not None:
        assert islands[0] == pytest.approx(expected.spread, abs=0.05)
        assert islands[1] == pytest.approx(100 * expected.chance, abs=6)

    species = numbers(r"tell the species of ([\d.]+)% .* \(95% interval ([\d.]+)% to ([\d.]+)%\)", text)
    if species is not None:
        assert species[1] < species[0] < species[2]
        assert species[0] == pytest.approx(95.5, abs=1.5)

    assert [sexes, islands, species].count(None) <= 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that was approved by --yes, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, call(folder, *SMALL, "--yes")


def test_the_report_has_the_numbers_that_pandas_finds(finished):
    """The report's estimates are those of the data, its intervals and chances those of other random draws."""
    folder, outcome = finished

    assert outcome.returncode == 0, outcome.stderr
    check_report((folder / "penguins.md").read_text())


def test_without_a_terminal_there_are_plain_lines(finished):
    """In a pipe the demo prints a line for each thing that happens, and no control characters."""
    _, outcome = finished

    assert "\x1b" not in outcome.stdout
    assert outcome.stderr == ""
    for line in ("✓ load: 344 penguins, 333 of them complete", "↻ review: goes to plan", "✓ report: written to"):
        assert line in outcome.stdout


def test_the_review_goes_back_once(finished):
    """The review sends the analysts back once, and then finds the confidence that is wanted."""
    _, outcome = finished

    assert outcome.stdout.count("review: goes to plan") == 1
    assert outcome.stdout.count("✓ review: confidence") == 1


def test_a_finished_run_is_followed_by_a_new_one(finished):
    """Called again after the end, the demo starts a new run, which finds the same numbers."""
    folder, first = finished

    second = call(folder, *SMALL, "--yes")

    started = re.compile(r"started run (\w+)")
    assert started.search(second.stdout)[1] != started.search(first.stdout)[1]
    check_report((folder / "penguins.md").read_text())


def test_an_unanswered_question_keeps_the_run(tmp_path):
    """Without a terminal and --yes the demo ends at the question with one sentence; the next call goes on there."""
    asked = call(tmp_path, *SMALL)
    answered = call(tmp_path, *SMALL, "--yes")

    assert asked.returncode == 1
    assert asked.stderr.count("\n") == 1
    assert "Publish this report? Answer in a terminal, or give --yes; until then the run is kept" in asked.stderr
    assert answered.returncode == 0
    assert "resumed run" in answered.stdout
    assert "of 10 stages were already done: load, plan, " in answered.stdout
    assert "↻" not in answered.stdout
    check_report((tmp_path / "penguins.md").read_text())


def test_fresh_drops_an_unfinished_run(tmp_path):
    """With --fresh an unfinished run is cancelled and a new one started."""
    call(tmp_path, *SMALL)

    outcome = call(tmp_path, *SMALL, "--yes", "--fresh")

    assert outcome.returncode == 0, outcome.stderr
    assert re.search(r"dropped run (\w+)\nstarted run (?!\1)", outcome.stdout)


def test_a_terminal_shows_the_run_and_asks(tmp_path):
    """In a terminal there is a table that changes, and a question with exactly the text that the report then has."""
    with Terminal(tmp_path, *SMALL) as terminal:
        terminal.read_until("▶ running")
        terminal.read_until("Approve?")
        terminal.type("y\n")
        code = terminal.end()

    report = (tmp_path / "penguins.md").read_text()
    preview = terminal.text.partition("Publish this report?")[2].partition("Approve?")[0]
    approved = re.findall(r"│ (.*?) +│", preview)
    assert code == 0
    assert " ".join(line for line in approved[1:] if line.strip()) in " ".join(report.split())
    assert "10 of 10 done" in terminal.text
    check_report(report)


def test_a_narrow_terminal_shows_the_table_too(tmp_path):
    """With 50 columns the table has no bars and no line is longer than the screen."""
    with Terminal(tmp_path, *SMALL, "--yes", columns=50) as terminal:
        code = terminal.end()

    painted = [line for line in re.split(r"[\r\n]+", terminal.text) if re.match(r"[ ├└] \w+ +[○▶‖✓] ", line)]
    assert code == 0
    assert len(painted) >= 10
    assert max(len(line) for line in painted) <= 50
    assert "━" not in terminal.text


def test_ctrl_c_keeps_the_run(tmp_path):
    """Ctrl-C in the live view ends with code 130, says that the run is kept, and how to go on."""
    with Terminal(tmp_path, *SMALL) as terminal:
        terminal.read_until("▶ running")
        terminal.process.send_signal(signal.SIGINT)
        code = terminal.end()
    again = call(tmp_path, *SMALL, "--yes")

    said = " ".join(terminal.text.split())
    assert code == 130
    assert re.search(r"is kept in \.stabilize/demo\.db \(\d of 10 stages done\)", said)
    assert "go on with: stabilize-nb demo --samples 400" in said
    assert "Traceback" not in said
    assert "resumed run" in again.stdout
    check_report((tmp_path / "penguins.md").read_text())


def test_a_rejected_report_is_not_written(tmp_path):
    """A rejection ends the run with exit code 1 and the reason, and there is no report."""
    with Terminal(tmp_path, *SMALL) as terminal:
        terminal.read_until("Approve?")
        terminal.type("n\n")
        terminal.read_until("Why not?")
        terminal.type("too few penguins\n")
        code = terminal.end()

    assert code == 1
    assert "too few penguins" in terminal.text
    assert not (tmp_path / "penguins.md").exists()


def test_a_decision_made_elsewhere_ends_the_question(tmp_path):
    """An answer to a question that was answered in another process meanwhile changes nothing, and says so."""
    with Terminal(tmp_path, *SMALL) as terminal:
        terminal.read_until("Approve?")
        elsewhere = call(tmp_path, *SMALL, "--yes")
        terminal.type("n\n")
        terminal.read_until("Why not?")
        terminal.type("too late\n")
        code = terminal.end()

    assert elsewhere.returncode == 0
    assert code == 0
    assert "sign_off was decided elsewhere meanwhile" in terminal.text
    check_report((tmp_path / "penguins.md").read_text())


def test_a_missing_data_set_is_one_sentence(monkeypatch):
    """Without the package of the data set the demo says in one sentence what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    outcome = CliRunner().invoke(main, ["demo"])

    assert outcome.exit_code == 1
    assert outcome.output == (
        "Error: the demo needs the data set palmerpenguins; install it with: pip install 'stabilize-nb[lab]'\n"
    )


def test_no_command_shows_the_help():
    """Without a command the help is shown, with every command."""
    outcome = CliRunner().invoke(main, [])

    assert outcome.exit_code == 0
    assert re.search(r"demo +Study penguins; killed at any moment, it goes on", outcome.output)


def test_a_store_that_is_no_database_is_one_sentence(tmp_path):
    """An error of the package is one sentence on the error stream, without a traceback."""
    (tmp_path / "notes.txt").write_text("not a database, only text that is long enough to be read as a header")

    outcome = call(tmp_path, "demo", "--store", "notes.txt")

    assert outcome.returncode == 1
    assert outcome.stderr.startswith("Error: ")
    assert "notes.txt" in outcome.stderr
    assert "Traceback" not in outcome.stderr
