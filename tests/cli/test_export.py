"""`stabilize-nb export`: each format is read back by what reads such files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from stabilize_nb import Engine, Flow
from stabilize_nb.cli.main import main


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "runs.db"
    flow = Flow("<b>sum</b>")
    flow.stage(name="two")(lambda one: one + 1)
    with Engine(path) as engine:
        engine.start(flow, one=1).result(20)
    return path


def exported(store: Path, kind: str, tmp_path: Path) -> str:
    target = tmp_path / "out"
    result = CliRunner().invoke(main, ["export", "last", "--db-url", str(store), "--to", kind, "--output", str(target)])
    assert result.exit_code == 0, result.output
    assert result.output == f"{target}\n"
    return target.read_text()


def test_run_is_written_as_data(store: Path, tmp_path: Path) -> None:
    """The log as rows, and the run with its inputs, stages and log as one document."""
    rows = list(csv.DictReader(exported(store, "csv", tmp_path).splitlines()))
    told = json.loads(exported(store, "json", tmp_path))

    assert [row["type"] for row in rows][-1] == "workflow.completed"
    assert (told["status"], told["inputs"]) == ("SUCCEEDED", {"one": 1})
    assert told["stages"] == [{"ref_id": "two", "name": "two", "status": "SUCCEEDED", "outputs": {"result": 2}}]
    assert [event["type"] for event in told["events"]] == [row["type"] for row in rows]


def test_run_is_written_for_process_mining(store: Path, tmp_path: Path) -> None:
    """One trace with the stage in XES, objects in OCEL."""
    log = ET.fromstring(exported(store, "xes", tmp_path))
    told = json.loads(exported(store, "ocel", tmp_path))

    assert [event[0].get("value") for event in log.iter("event")] == ["two", "two"]
    assert {each["type"] for each in told["objects"]} == {"workflow", "stage", "task"}


def test_run_is_written_as_a_page_that_needs_nothing_else(store: Path, tmp_path: Path) -> None:
    """A name is text in it, and it loads nothing."""
    page = exported(store, "html", tmp_path)

    assert "<title>&lt;b&gt;sum&lt;/b&gt; · " in page
    assert "<b>sum" not in page
    assert "data:image/svg+xml" in page
    for word in ("<script", "http://", "https://", "<link"):
        assert word not in page


def test_file_is_named_after_the_run(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --output it lies in this folder."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["export", "last", "--db-url", str(store), "--to", "ocel"])

    assert result.output.endswith(".ocel.json\n")
    assert (tmp_path / result.output.strip()).exists()


@pytest.mark.parametrize("kind", ["xes", "ocel", "json", "csv", "html"])
def test_place_that_cannot_be_written_is_a_sentence(store, kind, tmp_path):
    """No traceback: what is wrong with the place, and what to do."""
    target = tmp_path / "missing" / "run"
    result = CliRunner().invoke(main, ["export", "last", "--db-url", str(store), "--to", kind, "--output", str(target)])
    assert result.exit_code == 1
    assert f"{target} cannot be written (" in result.output
    assert isinstance(result.exception, SystemExit)
