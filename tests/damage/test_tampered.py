"""A database is data: whatever somebody has put into it, nothing of it is run (R21)."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import apsw
import pytest

from stabilize_nb import Engine
from stabilize_nb.checkup import examine
from stabilize_nb.errors import SchemaError
from tests.damage import tampering
from tests.damage.tampering import SCHEMAS, asking, changed, made

ROOT = Path(__file__).parents[2]
#: Changed databases that are tried at least.
LEAST = 100
#: A program that does all that is watched for, and prints what was seen before and after it.
SEEN = """
import ast, contextlib, pickle, sys
from tests.damage import tampering

seen = []

def watch(event, arguments):
    if event in tampering.EVENTS and not tampering.parses(event):
        seen.append(event)

sys.addaudithook(watch)
ast.parse("1 + 1")
before = len(seen)
eval("1 + 1")
pickle.loads(tampering.PICKLE)
with contextlib.suppress(ImportError):
    import there_is_no_such_module
print(before, sorted(set(seen)))
"""


def test_tampered_databases_run_nothing(tmp_path: Path) -> None:
    """Each is used, refused with a sentence, or has dead letters; an audit hook sees no code of theirs."""
    done = subprocess.run(
        [sys.executable, "-m", tampering.__name__, str(tmp_path)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4_000:]
    found = json.loads(done.stdout)

    outcomes = Counter(found["outcomes"].values())
    print(f"{outcomes.total()} changed databases: {dict(outcomes)}; the hook saw {len(found['seen'])} events")
    assert outcomes.total() >= LEAST
    assert found["seen"] == []
    assert found["canaries"] == []
    odd = {name: outcome for name, outcome in found["outcomes"].items() if not outcome.startswith(("refused", "works"))}
    assert set(odd.values()) <= {"dead letters"}, odd


def test_the_hook_sees_what_it_watches_for(tmp_path: Path) -> None:
    """Code that is run, unpickled or imported is seen; a tree that is made of text is not."""
    done = subprocess.run(
        [sys.executable, "-c", SEEN],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.startswith("0 ")
    for event in ("compile", "exec", "import", "os.system", "pickle.find_class"):
        assert repr(event) in done.stdout


@pytest.mark.parametrize("name", [name for name in SCHEMAS if "beside" not in name and "name of" not in name])
def test_what_would_run_is_refused_and_named(name: str, tmp_path: Path) -> None:
    """A trigger, a view, a column or index that computes: it is not opened, and the doctor says so too."""
    path = tmp_path / "runs.db"
    made(path)
    changed(path, SCHEMAS[name])

    with pytest.raises(Exception, match=r"somebody has added or changed its|is damaged") as refused:
        Engine(path)
    assert f"doctor {path}" in str(refused.value)
    assert not examine(str(path)).opens


def test_what_others_keep_beside_is_left_alone(tmp_path: Path) -> None:
    """A table of somebody's own does not disturb."""
    path = tmp_path / "runs.db"
    made(path)
    changed(path, SCHEMAS["table beside"])
    with Engine(path) as engine:
        assert len(engine.runs()) == 3
    assert examine(str(path)).opens


def test_what_was_changed_can_be_salvaged(tmp_path: Path) -> None:
    """The facts of a store with a trigger go into a new one, where its runs go on."""
    path = tmp_path / "runs.db"
    made(path)
    changed(path, SCHEMAS["trigger"])
    Engine.salvage(path, tmp_path / "new.db")

    with Engine(tmp_path / "new.db") as engine:
        assert len(engine.runs()) == 3


def test_triggers_and_views_are_not_honoured_that_come_later(tmp_path: Path) -> None:
    """What another process adds while the store is open does not run either."""
    path = tmp_path / "runs.db"
    made(path)
    with Engine(path) as engine:
        changed(path, "CREATE TRIGGER t AFTER INSERT ON event BEGIN DELETE FROM stage; END")
        run = engine.start(asking)
        run.until_gate(10)
        assert {"draft", "gate", "send"} <= {stage.ref_id for stage in run.workflow.stages}
    with pytest.raises(SchemaError, match="trigger 't'"):
        Engine(path)


def test_new_files_are_private(tmp_path: Path) -> None:
    """A new database, and what lies beside it, is for its owner alone; the mode of one that is there stays."""
    path = tmp_path / "runs.db"
    old = os.umask(0o000)
    try:
        with Engine(path) as engine:
            engine.start(asking).until_gate(10)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    finally:
        os.umask(old)
    path.chmod(0o640)
    Engine(path).close()

    assert set(modes) >= {"runs.db", "runs.db-wal", "runs.db-shm"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_no_extension_can_be_loaded(tmp_path: Path) -> None:
    """Connections refuse SQL that loads code."""
    with Engine(tmp_path / "runs.db") as engine, pytest.raises(apsw.SQLError, match="not authorized"):
        engine.database.writer.raw.execute("SELECT load_extension('./x.so')")
