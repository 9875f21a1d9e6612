"""A damaged or foreign file gives a typed error, never a traceback of something else and never a hang (R11)."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner

from stabilize_nb import Engine, StabilizeError
from stabilize_nb.checkup import examine
from stabilize_nb.cli.main import main
from stabilize_nb.errors import (
    ConfigError,
    SchemaError,
    StoreDamagedError,
    StoreError,
    WaitTimeoutError,
)
from tests.damage import stores
from tests.damage.damages import PAGE, asked, damages, written
from tests.damage.stores import Template, engine_on

#: Damaged files that are tried at least.
LEAST = 150
#: Seconds in which opening a store and looking at it has to say what is wrong.
SOON = 2.0


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """A store that a killed process has left."""
    return stores.left_by_a_killed_process(tmp_path_factory.mktemp("damage") / "killed")


@pytest.fixture(scope="module")
def whole(killed: Template, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The same store, closed."""
    return stores.closed(killed, tmp_path_factory.mktemp("damage") / "whole")


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "stabilize_nb")


def used(path: Path) -> str:
    """Open a store, look at all its runs and go on with them; return what came of it: an error's class, or "fine"."""
    begin = time.monotonic()
    try:
        engine = engine_on(path)
    except StoreError as error:
        told = f"stabilize-nb doctor {path}" in str(error)
        return type(error).__name__ if told and time.monotonic() - begin < SOON else f"{error!r} is late or no advice"
    try:
        for run_id in engine.runs()["run_id"]:
            run = engine.run(run_id)
            _ = run.stages, run.outputs
        for run in engine.unfinished():
            _ = run.events, run.at(1), run.explain()
            if run.name == "asking":
                run.approve("gate")
            engine.work()
            run.wait(SOON)
    except WaitTimeoutError:
        return "stands still"
    except StabilizeError as error:
        return type(error).__name__
    else:
        return "fine"
    finally:
        engine.close()


def test_damaged_files_give_typed_errors(killed: Template, whole: Template, tmp_path: Path) -> None:
    """Whatever is damaged, using the store ends with its class of error or is not disturbed; the process goes on."""
    templates = {"killed": killed, "whole": whole}
    outcomes: Counter[str] = Counter()
    silent = []
    for number, damage in enumerate(damages(killed, whole)):
        path = templates[damage.of].copy(tmp_path / str(number))
        damage.do(path)
        examined = examine(str(path))
        outcome = used(path)
        outcomes[outcome] += 1
        assert "advice" not in outcome, damage.name
        if damage.refused:
            assert outcome in ("StoreDamagedError", "SchemaError", "StoreError"), (damage.name, outcome)
            assert not examined.opens, damage.name
        if outcome == "stands still" and examined.is_healthy and examine(str(path)).is_healthy:
            silent.append(damage.name)
        shutil.rmtree(path.parent)

    print(f"{outcomes.total()} damaged files: {dict(outcomes)}; nobody says why: {silent}")
    assert outcomes.total() >= LEAST
    assert not silent


def test_one_damaged_page_costs_little(killed: Template, whole: Template, tmp_path: Path) -> None:
    """Of a store with one damaged page at least nine facts in ten are salvaged, and what is written is healthy."""
    shares = []
    for damage in damages(killed, whole):
        if not damage.page or (damage.name.startswith("a bit") and damage.page % 3):
            continue
        path = whole.copy(tmp_path / "old")
        damage.do(path)
        report = Engine.salvage(path, tmp_path / "new.db")
        shares.append(report.read / whole.facts)
        if damage.page % 8 == 0:
            assert [finding.what for finding in examine(str(tmp_path / "new.db")).findings] == [], damage.name
        assert report.read / whole.facts >= 0.9, damage.name
        for left in (*path.parent.iterdir(), *tmp_path.glob("new.db*")):
            left.unlink()
        path.parent.rmdir()

    print(f"{len(shares)} stores with one damaged page: {min(shares):.1%} of the facts at least")
    assert len(shares) > 60


def test_salvaged_runs_go_on(killed: Template, tmp_path: Path) -> None:
    """What had not ended ends in the salvaged store, and a step that was paid for is not run again."""
    path = killed.copy(tmp_path / "old")
    before = path.read_bytes()
    report = Engine.salvage(path, tmp_path / "new.db")
    with engine_on(tmp_path / "new.db") as engine:
        runs = {run.name: run for run in engine.resume()}
        runs["asking"].approve("gate")
        states = {name: run.wait(20).name for name, run in runs.items()}
        steps = engine.database.call_read(lambda c: [row[0] for row in c.raw.execute("SELECT value FROM journal")])
        count = len(engine.runs())

    assert states == {"asking": "SUCCEEDED", "paying": "SUCCEEDED"}
    assert sorted(steps) == ['"ticket 0"', '"ticket 1"', '"ticket 2"']
    assert (count, report.lost, report.read) == (killed.runs, 0, killed.facts)
    assert Counter(run.becomes for run in report.runs) == {"ended": stores.FINISHED, "goes on": 2}
    assert path.read_bytes() == before


def test_log_with_gaps_is_history(whole: Template, tmp_path: Path) -> None:
    """A run that has lost facts is told as history, with how many they are; its other facts are there."""
    path = whole.copy(tmp_path / "old")
    connection = apsw.Connection(str(path))
    (victim,) = connection.execute("SELECT min(id) FROM workflow").fetchone()
    connection.execute("DELETE FROM event WHERE workflow_id = ? AND sequence IN (5, 6)", (victim,))
    connection.close()
    report = Engine.salvage(path, tmp_path / "new.db")
    with engine_on(tmp_path / "new.db") as engine:
        run = engine.run(victim)
        told = run.explain()
        with pytest.raises(StoreDamagedError, match="fact 5 is missing"):
            run.at(20)
        facts = len(run.events)

    (lost,) = [each for each in report.runs if each.becomes == "only history"]
    assert (lost.run_id, lost.lost, lost.read) == (victim, 2, facts)
    assert "2 of" in told[0]
    assert examine(str(tmp_path / "new.db")).is_healthy


def test_salvage_refuses_to_overwrite(whole: Template, tmp_path: Path) -> None:
    """A target that is there is left alone, and of nothing nothing is salvaged."""
    path = whole.copy(tmp_path / "old")
    (tmp_path / "there.db").write_text("mine")

    with pytest.raises(ConfigError, match="is there already"):
        Engine.salvage(path, tmp_path / "there.db")
    with pytest.raises(StoreError, match="nothing to read"):
        Engine.salvage(tmp_path / "none.db", tmp_path / "new.db")


def test_damage_that_shows_later_stops_the_run(whole: Template, tmp_path: Path) -> None:
    """A page that turns out damaged while a run is at work ends the wait with a typed error; another store goes on."""
    path = whole.copy(tmp_path / "old")
    engine = engine_on(path)
    run = next(run for run in engine.unfinished() if run.name == "asking")
    wanted = rf"damaged.*stabilize-nb doctor {re.escape(str(path))}"
    connection = apsw.Connection(str(path))
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'event'").fetchone()
    connection.close()
    written(root, b"\x0d" + b"\xff" * (PAGE - 1))(path)
    run.approve("gate")
    begin = time.monotonic()
    with pytest.raises(StoreDamagedError, match=wanted):
        run.wait(20)
    took = time.monotonic() - begin
    told = run.explain()
    with pytest.raises(StoreDamagedError, match=wanted):
        engine.processor.process_all(timeout=20)
    engine.close()

    assert took < SOON
    assert "cannot go on" in told[0]
    with engine_on(tmp_path / "other.db") as other:
        assert other.start(stores.study).wait(20).name == "SUCCEEDED"


@pytest.mark.parametrize("whose", ["another store", "an older copy"])
def test_wal_of_another_store_is_not_taken_in(whose: str, killed: Template, whole: Template, tmp_path: Path) -> None:
    """A WAL that belongs to another database is named, and neither file is changed."""
    path = whole.copy(tmp_path / "old")
    if whose == "an older copy":
        for _ in range(3):
            with engine_on(path) as engine:
                assert engine.start(stores.study).wait(20).name == "SUCCEEDED"
        shutil.copy(killed.folder / "runs.db-wal", f"{path}-wal")
    else:
        other = stores.left_by_a_killed_process(tmp_path / "other")
        shutil.copy(other.folder / "runs.db-wal", f"{path}-wal")
    before = path.read_bytes()

    with pytest.raises(StoreDamagedError, match="-wal beside it belongs to another database"):
        engine_on(path)
    assert path.read_bytes() == before
    assert Path(f"{path}-wal").exists()


def test_journal_of_another_store_is_not_rolled_back(whole: Template, tmp_path: Path) -> None:
    """A hot journal that belongs to another database is named before SQLite writes it over the file."""
    other = tmp_path / "other.db"
    connection = apsw.Connection(str(other))
    connection.execute("CREATE TABLE t (v)")
    connection.close()
    path = whole.copy(tmp_path / "old")
    head = struct.pack(">8s5I", b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", 1, 0, 2, 512, PAGE)
    first = other.read_bytes()[:PAGE]
    checksum = sum(first[at] for at in range(PAGE - 200, 0, -200))
    record = struct.pack(">I", 1) + first + struct.pack(">I", checksum)
    Path(f"{path}-journal").write_bytes(head.ljust(512, b"\0") + record)
    before = path.read_bytes()

    with pytest.raises(StoreDamagedError, match="-journal beside it belongs to another database"):
        engine_on(path)
    assert path.read_bytes() == before


def test_newer_schema_is_refused_by_name(whole: Template, tmp_path: Path) -> None:
    """The migration that this version does not know is named."""
    path = whole.copy(tmp_path / "old")
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO migration VALUES ('0002_budgets.sql', 'x', 0); PRAGMA user_version = 2")
    connection.close()

    with pytest.raises(SchemaError, match=r"has the migration 0002_budgets\.sql.*install a newer version"):
        engine_on(path)


def test_places_that_hold_no_store_are_refused(tmp_path: Path) -> None:
    """A directory, a pipe, and a folder that is not there are refused at once; an empty file becomes a store."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty.db").touch()

    with pytest.raises(StoreError, match="it is a directory"):
        Engine(tmp_path)
    with pytest.raises(StoreError, match="it is no plain file"):
        Engine(tmp_path / "pipe")
    with pytest.raises(StoreError, match="check that its folder exists"):
        Engine(tmp_path / "none" / "runs.db")
    with engine_on(tmp_path / "empty.db") as engine:
        assert engine.start(stores.study).wait(20).name == "SUCCEEDED"


def test_what_may_not_be_written_is_refused(whole: Template) -> None:
    """A file or folder without write permission, or a file that may not be read, is refused with what to do."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    for name, file_mode, folder_mode in (("file", 0o444, 0o777), ("folder", 0o666, 0o555), ("secret", 0o200, 0o777)):
        path = whole.copy(folder / name)
        path.chmod(file_mode)
        path.parent.chmod(folder_mode)
    code = f"""
import os, pathlib
from stabilize_nb import Engine, StabilizeError
if os.getuid() == 0:
    os.setuid(65534)
for name in ("file", "folder", "secret"):
    try:
        Engine(pathlib.Path({str(folder)!r}) / name / "runs.db")
    except StabilizeError as error:
        print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    for path in folder.rglob("*"):
        path.chmod(0o777)
    shutil.rmtree(folder)

    assert [line.split()[0] for line in said] == ["StoreError"] * 3
    assert "it may not be written" in said[0]
    assert "its folder" in said[1]
    assert "may not be read" in said[2]


LOSS = asked("DELETE FROM event WHERE sequence = 3")


@pytest.mark.parametrize(("damage", "code"), [(None, 0), (LOSS, 1), (written(1, bytes(100)), 2)])
def test_doctor_tells_by_its_exit_code(
    damage: object, code: int, whole: Template, tmp_path: Path
) -> None:  # fmt: skip
    """Exit code 0 for a healthy store, 1 for findings, 2 for a file that cannot be opened; JSON says the same."""
    path = whole.copy(tmp_path / "old")
    if damage is None:
        with engine_on(path) as engine:
            for run in engine.resume():
                run.cancel()
                run.wait(20)
    else:
        damage(path)
    told = CliRunner().invoke(main, ["doctor", str(path)])
    document = CliRunner().invoke(main, ["doctor", str(path), "--json"])

    assert (told.exit_code, document.exit_code) == (code, code), told.output
    assert json.loads(document.output)["opens"] is (code < 2)
    assert ("healthy" in told.output) is (code == 0)


def test_doctor_says_what_waits_and_what_died(killed: Template, tmp_path: Path) -> None:
    """The claims of a process that is gone are a finding; a gate is waited for; what can be read is salvaged."""
    path = killed.copy(tmp_path / "old")
    told = CliRunner().invoke(main, ["doctor", str(path)]).output
    saved = CliRunner().invoke(main, ["doctor", str(path), "--salvage", str(tmp_path / "new.db")])

    assert "1 messages are claimed by process" in told
    assert "stage 'gate' waits for a decision" in told
    assert "was at work in a process that is gone; whoever works next goes on with it" in told
    with Engine(path) as engine:  # which only looks
        said = [line for run in engine.unfinished() for line in run.explain()]
    assert sum("was at work in a process that is gone: a worker goes on with it" in line for line in said) == 1
    assert saved.exit_code == 0
    assert "0 are lost (2 goes on, 14 ended, 0 only history)" in saved.output
