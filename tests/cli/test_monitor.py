"""`stabilize-nb monitor`: what is counted, what is shown at which size, and how it ends."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stabilize_nb import Engine, Flow
from stabilize_nb.cli.dashboard import Frame, age, dashboard
from stabilize_nb.cli.main import main
from stabilize_nb.cli.terminal import Terminal
from stabilize_nb.models.status import WorkflowStatus as S
from stabilize_nb.overview import Body, DeadLetter, Overview, Processor, QueueDepth, RunLine
from tests.cli.test_demo import Terminal as Screen
from tests.notebook.hostile_texts import MARKUP, OBEYED, TEXTS

PATIENCE = 60.0
DYING = """
import os, signal, sys
from stabilize_nb import Engine, Flow

flow = Flow("dying")

@flow.stage
def die():
    print("begun", flush=True)
    signal.pause()

with Engine("runs.db") as engine:
    engine.start(flow)
    signal.pause()
"""


def seen_in(*texts: str) -> Overview:
    """Return a store with many rows of everything, which are called as `texts` say, in turn."""
    parts = [named(text, 60 // len(texts) // 3 * 3 or 3) for text in texts]
    rows = {name: sum((getattr(each, name) for each in parts), ()) for name in ("runs", "bodies", "processors", "dead")}
    return replace(parts[0], **rows)


def named(text: str, rows: int) -> Overview:
    run = RunLine(id="0" * 26, name=text, status=S.RUNNING, error=text, created_at=0, ended_at=None, done=1, stages=3,
                  open={S.RUNNING: text})  # fmt: skip
    asked, failed = replace(run, open={S.SUSPENDED: text}), replace(run, status=S.TERMINAL, ended_at=9)
    return Overview(
        at=90_000, counts=dict.fromkeys(S, 7), gates=1, rate=2.5,
        queue=QueueDepth(bodies=rows, orders=1, due=2, later=3, dead=rows), runs=(run, asked, failed) * (rows // 3),
        bodies=(Body(run_id=text, name=text, stage=text, since=5, owner=text, deliveries=2),) * rows,
        processors=(Processor(owner=text, host=text, pid=1, started_at=2, alive=False, bodies=3),) * rows,
        dead=(DeadLetter(run_id=text, name=text, stage="", kind=text, died_at=1, error=text),) * rows,
    )  # fmt: skip


def lines_of(seen: Overview, width: int, height: int | None, **words: str) -> list[str]:
    console = Terminal(file=io.StringIO(), width=width, height=height, color_system=None, legacy_windows=False)
    console.print(dashboard(seen, Frame(place="a.db", note="note", width=width, height=height, **words)), end="")
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50), (130, 16), (100, 30), (60, 20)])
@pytest.mark.parametrize("text", ["stage", "long name of a stage " * 20, "水文学" * 30], ids=["short", "long", "wide"])
def test_frame_is_as_large_as_the_screen(width: int, height: int, text: str) -> None:
    """However much there is to say, each part says something, and no line is too many or too long."""
    lines = lines_of(seen_in(text), width, height, trouble=text)
    shown = "\n".join(lines)

    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    for title in ("run ", "workers (", "at work (", "dead letters (", "60 dead letters"):
        assert title in shown


def test_empty_store_is_shown() -> None:
    """Nothing is there yet."""
    empty = replace(seen_in("a"), counts={}, gates=0, runs=(), bodies=(), processors=(), dead=())

    assert "no runs to show" in "\n".join(lines_of(empty, 80, 24))
    assert "no runs to show" in "\n".join(lines_of(empty, 160, None))


def test_what_others_named_is_text_on_the_dashboard() -> None:
    """A name commands no terminal, is no markup, and takes no second line."""
    texts = (*TEXTS, *MARKUP)
    lines = lines_of(seen_in(*texts), 1_000, None, trouble=texts[0])

    assert OBEYED.findall("".join(lines)) == []
    assert len(lines) == len(lines_of(seen_in(*"a" * len(texts)), 1_000, None, trouble="a"))
    assert all(any(text in line for line in lines) for text in MARKUP)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3_600, "1h 0m"), (90_000, "1d 1h"), (-5, "0s")]
)
def test_durations_are_short(seconds: int, said: str) -> None:
    """One unit or two."""
    assert age(seconds * 1_000) == said


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run that ended, one that failed, one that asks, and one whose process was killed at work."""
    path = tmp_path_factory.mktemp("monitor") / "runs.db"
    good, bad, asked = Flow("good"), Flow("bad"), Flow("asked")
    good.stage(name="a")(lambda: 1)
    bad.stage(name="a")(lambda: 1 / 0)
    asked.approval("Good?", name="ok")
    with Engine(path) as engine:
        engine.start(good).wait(PATIENCE)
        engine.start(bad).wait(PATIENCE)
        engine.start(asked).until_gate(PATIENCE)
    with subprocess.Popen([sys.executable, "-c", DYING], stdout=subprocess.PIPE, text=True, cwd=path.parent) as dying:
        assert dying.stdout is not None
        assert dying.stdout.readline() == "begun\n"
        dying.kill()
    return path


def told(store: Path, *arguments: str) -> Any:
    result = CliRunner().invoke(main, ["monitor", "--db-url", str(store), "--json", *arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_what_is_counted(store: Path) -> None:
    """Each run once, who died with what in hand, and which runs an option lists."""
    seen = told(store)
    (processor,), (body,) = seen["processors"], seen["bodies"]

    assert seen["counts"] == {"RUNNING": 2, "SUCCEEDED": 1, "TERMINAL": 1}
    assert seen["gates"] == 1
    assert seen["queue"] == {"bodies": 1, "orders": 0, "due": 0, "later": 0, "dead": 0}
    assert seen["rate"] == pytest.approx(1 / 60)
    assert (processor["alive"], processor["bodies"]) == (False, 1)
    assert (body["name"], body["stage"], body["owner"]) == ("dying", "die", processor["owner"])
    listed = {
        shown: [run["name"] for run in told(store, "--status", shown)["runs"]] for shown in ("all", "running", "failed")
    }
    assert listed == {"all": ["dying", "asked", "bad", "good"], "running": ["dying", "asked"], "failed": ["bad"]}
    assert told(store, "--app", "other")["runs"] == []


def test_one_frame_is_printed_where_there_is_no_terminal(store: Path) -> None:
    """As with --once: a pipe gets text without colours."""
    result = CliRunner().invoke(main, ["monitor", "--db-url", str(store)])

    assert result.exit_code == 0, result.output
    assert "ok waits" in result.output
    assert "✕ gone" in result.output
    assert "ZeroDivisionError" in result.output
    assert "\x1b" not in result.output


@pytest.mark.parametrize("end", ["q", "Ctrl-C"])
def test_terminal_is_as_it_was_when_it_ends(store: Path, end: str) -> None:
    """q and Ctrl-C end it with exit code 0; what is typed is seen again, and the screen of before is back."""
    with Screen(store.parent, "monitor", "--db-url", store.name, columns=80) as screen:
        before = termios.tcgetattr(screen._ours)
        screen.read_until("dying")
        screen.type("q") if end == "q" else screen.process.send_signal(signal.SIGINT)

        assert screen.end() == 0
        assert termios.tcgetattr(screen._ours) == before
        assert "\x1b[?1049l" in screen._read.decode()


def test_store_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """It is not made."""
    result = CliRunner().invoke(main, ["monitor", "--db-url", str(tmp_path / "none.db")])

    assert result.exit_code == 1
    assert "there is no such file" in result.output
    assert not (tmp_path / "none.db").exists()
