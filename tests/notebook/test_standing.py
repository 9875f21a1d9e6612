"""Who works at a run and with which code: several kernels, restarts, and definitions that change meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kernels import started_kernel

FLOW = """%%workflow letter -q
@stage
def draft(topic="tides"):
    return topic.upper()

good = approval("Good?", after=draft)

@stage(after=good)
def publish(draft):
    return draft + "!"
"""
CHANGED = FLOW.replace('"!"', '"?"')
LOAD = "%load_ext stabilize_nb\n%config StabilizeNB.display = 'static'"


def at_its_gate(notebook, call: str = "letter.run()"):
    run = notebook.run(call).value
    run.until_gate(10)
    return run


def test_run_of_an_older_version_says_so_and_can_be_migrated(notebook):
    """The old run goes on with its code, the picture and the status say which version is current."""
    notebook.run(FLOW)
    old, other = at_its_gate(notebook), at_its_gate(notebook)
    notebook.run(CHANGED)
    notebook.names.update(old=old, other=other)

    assert "running v1, current v2: run.migrate()" in notebook.run("old").text
    assert "running v1, current v2" in notebook.run("%workflow status old").text
    assert old.migrate() == ["letter.publish"]
    for run in (old, other):
        run.approve()
    assert (old.result(10), other.result(10)) == ("TIDES?", "TIDES!")
    assert "current v2" not in notebook.run("old").text


def test_starting_a_run_leaves_those_of_an_earlier_kernel(tmp_path):
    """Nothing of it goes on before it is resumed, its line says so, and resuming shows its gate."""
    with started_kernel(tmp_path) as kernel:
        kernel.must(LOAD)
        kernel.must(FLOW)
        kernel.must("run = letter.run()\n_ = run.until_gate()\nprint(run.id)")
    with started_kernel(tmp_path) as kernel:
        kernel.must(LOAD)
        kernel.must(FLOW)
        left = kernel.must("engine = %workflow store\nleft = engine.unfinished()[0]\nprint(left.id)").text.strip()
        kernel.must("letter.run(topic='other').until_gate()")

        assert "nobody works at it: %workflow resume" in kernel.must(f"%workflow status {left}").text
        assert kernel.run("await left").error == "WaitingForResume"
        resumed = kernel.must(f"%workflow resume {left}").text
        assert "good waits for a decision" in resumed
        assert "nobody works at it" not in resumed
        kernel.must("left.approve()")
        assert kernel.must("await left").text.endswith("'TIDES!'")


def test_changed_code_is_reported_after_a_restart_and_accepted(tmp_path):
    """The run waits for what it was started with, names what has changed, and goes on when that is accepted."""
    with started_kernel(tmp_path) as kernel:
        kernel.must(LOAD)
        kernel.must(FLOW)
        kernel.must("letter.run().until_gate()")
    with started_kernel(tmp_path) as kernel:
        kernel.must(LOAD)
        kernel.must("run = %workflow resume last\nrun.approve()")
        assert "run the cell %%workflow letter" in kernel.must("while not run.waiting_for_code(): pass\nrun").text
        kernel.must(CHANGED)
        reply = kernel.must("run")

        assert "waits for the code it was started with, which has changed: publish" in reply.text
        assert "--accept-changes goes on with it" in reply.text
        kernel.must("x = %workflow resume last --accept-changes")
        assert kernel.must("await run").text.endswith("'TIDES?'")


def test_two_kernels_on_one_store(tmp_path):
    """The second names the first as owner, may decide, and takes over what it has resumed when the first dies."""
    with started_kernel(tmp_path) as first, started_kernel(tmp_path) as second:
        for kernel in (first, second):
            kernel.must(LOAD)
            kernel.must(FLOW)
        pid = first.must("import os; print(os.getpid())").text.strip()
        decided = first.must("run = letter.run()\n_ = run.until_gate()\nprint(run.id)").text.strip()
        watched = first.must("run = letter.run(topic='b')\n_ = run.until_gate()\nprint(run.id)").text.strip()

        assert f"owned by kernel pid {pid}" in second.must("%reload_ext stabilize_nb").text
        assert f"owned by kernel pid {pid} on host {os.uname().nodename}" in second.must("%workflow status").text
        second.must(f"run = %workflow attach {decided}\nrun.approve()")
        assert second.must("print(run.result())").text.strip() == "TIDES!"
        second.must(f"run = %workflow resume {watched}")
        assert "is taken over here when that kernel ends" in second.must("run").text
        first.manager.shutdown_kernel(now=True)
        second.must("run.approve()")
        assert second.must("print(run.result())").text.strip() == "B!"


def test_list_fits_a_terminal_and_is_a_frame(notebook):
    """Its text shows each run on a line, with what it waits for; what is taken out of it is a plain frame."""
    notebook.run(FLOW)
    run = at_its_gate(notebook)
    cell = notebook.run("%workflow list")
    header, line = cell.text.strip().splitlines()

    assert header.split() == ["run", "workflow", "status", "created", "note"]
    assert line.startswith(f"{run.id}  letter    ‖ waiting")
    assert line.endswith("waits for a decision: good")
    assert len(line) <= 120
    assert list(cell.value.columns) == ["run_id", "name", "status", "created", "duration", "note"]
    assert "text/html" in cell.shown[0]


@pytest.mark.parametrize("where", ["read-only", "emptied"])
def test_runs_are_kept_elsewhere_with_a_line(bare, tmp_path, monkeypatch, where):
    """A folder that cannot keep runs is replaced by the user's data folder, and loading says which."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    if where == "read-only":
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and access(path, mode))
    else:
        monkeypatch.setenv("JPY_SESSION_NAME", str(folder / "study.ipynb"))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = bare.run("%load_ext stabilize_nb").text

    assert f"runs are kept in {tmp_path / 'data' / 'stabilize_nb'}" in text
    assert f"since {folder} is read-only or emptied by the system" in text
