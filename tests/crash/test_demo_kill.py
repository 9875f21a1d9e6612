"""
`stabilize-nb demo` killed by `kill -9` at ten moments of its run, and called again.

The moments are spread evenly over what a run commits (facts and durable steps), so that they do not depend on the
machine: each is a number of rows at which the process is killed.
"""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from stabilize_nb.engine import Engine

PROGRAM = Path(sys.executable).with_name("stabilize-nb")
MOMENTS = 10
#: A tenth of the demo's samples: the same stages and steps in a tenth of the time.
COMMAND = [str(PROGRAM), "demo", "--yes", "--samples", "400"]
EFFECTS = "effects.txt"


def begin(folder):
    return subprocess.Popen(
        COMMAND,
        cwd=folder,
        env={**os.environ, "STABILIZE_NB_DEMO_EFFECTS": EFFECTS},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@dataclass(frozen=True)
class Effect:
    """A line that a body left behind: what ("start" or "end"), of which stage, in which run of it."""

    what: str
    ref_id: str
    run: int
    process: int
    at: float


def effects(folder):
    path = folder / EFFECTS
    lines = path.read_text().splitlines() if path.exists() else []
    parts = [line.split() for line in lines]
    return [Effect(what, ref, int(generation) + 1, int(pid), float(at)) for what, ref, generation, pid, at in parts]


@dataclass(frozen=True)
class Kept:
    """What the database holds: finished (stage, run) pairs, outputs by stage, times and types of the events (s)."""

    finished: set
    outputs: dict
    events: list


def kept(folder):
    """Look into the database as a process that does no work."""
    with Engine(folder / ".stabilize" / "demo.db") as engine:
        (header,) = engine.store.list()
        run = engine.run(header["id"])
        stages = run.stages
        done = stages[stages["status"] == "SUCCEEDED"]
        events = run.events
        return Kept(
            finished=set(zip(done["ref_id"], done["run"].astype(int), strict=True)),
            outputs=run.outputs,
            events=[(at.timestamp(), kind) for at, kind in zip(events["time"], events["type"], strict=True)],
        )


def committed(folder):
    """How many facts and durable steps are committed; 0 as long as there is no database."""
    try:
        connection = apsw.Connection(str(folder / ".stabilize" / "demo.db"), flags=apsw.SQLITE_OPEN_READONLY)
        return connection.execute("SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM journal)").get
    except apsw.Error:
        return 0


def watch(process, folder, rows=sys.maxsize):
    """Return the rows that a process has committed when they are `rows`, at the latest when it begins the report."""
    while (now := committed(folder)) < rows and not any(effect.ref_id == "report" for effect in effects(folder)):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)
    return now


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The report's sentences of a run that nobody kills, and the rows that it commits before the report."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = begin(folder)
    rows = watch(process, folder)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    outputs = kept(folder).outputs
    return {name: outputs[name]["answer"] for name in ("sexes", "islands", "species")}, rows


def imports():
    """Return the seconds that a process needs now until everything the demo imports is imported."""
    script = "import time, stabilize_nb.cli.main, stabilize_nb.cli.demo; print(time.time())"
    before = time.time()
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(outcome.stdout) - before


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_killed_demo_goes_on_where_it_was(moment, undisturbed, tmp_path):
    """
    After kill -9 the same command finishes the run: begun within 1 s, no finished body again, the report right.

    The second begins when everything is imported; on a machine so busy that the imports alone take longer than half of
    it, twice as long as they take is allowed.
    """
    answers, rows = undisturbed
    process = begin(tmp_path)
    watch(process, tmp_path, rows * (moment + 0.5) / MOMENTS)
    process.kill()
    process.communicate()
    assert process.returncode == -9
    before, counted = kept(tmp_path), effects(tmp_path)

    importing = imports()
    started = time.time()
    process = begin(tmp_path)
    said, _ = process.communicate(timeout=60)

    assert process.returncode == 0, said
    after, all_counted = kept(tmp_path), effects(tmp_path)
    repeated = [effect for effect in all_counted[len(counted) :] if (effect.ref_id, effect.run) in before.finished]
    assert repeated == []
    ends = [(effect.ref_id, effect.run) for effect in all_counted if effect.what == "end"]
    assert all(ends.count(each) == 1 for each in ends if each in before.finished)
    assert before.finished <= after.finished
    check_report((tmp_path / "penguins.md").read_text(), answers, after.outputs)
    check_words(said, before)
    begun = after.events[len(before.events)][0] - started
    print(
        f"killed with {len(before.events)} facts and {len(before.finished)} finished bodies; resumed {begun:.2f} s "
        f"after the start of the process, {begun - importing:.2f} s after its imports ({importing:.2f} s)"
    )
    assert begun - importing < max(1, 2 * importing)


def check_report(report, answers, outputs):
    """Every finding that the report has is word for word that of the undisturbed run; at least two are there."""
    used = outputs["draft"]["used"]
    assert len(used) == 2
    assert report.startswith(outputs["draft"]["text"])
    assert all(answers[name] in report for name in used)
    assert sum(answer in report for answer in answers.values()) >= 2
    assert f"Confidence {outputs['review']['confidence']:.1%}" in report


def check_words(said, before):
    """The command says which stages were done and are not done again."""
    words = re.search(r"resumed run \w+: (\d+) of 10 stages were already done(?:: ([\w, ]+))?", said)
    assert words, said
    named = set((words[2] or "").split(", ")) - {""}
    assert len(named) == int(words[1])
    assert named <= {ref for ref, _ in before.finished}
