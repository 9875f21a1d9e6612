"""The small programs of examples/, in this process: each prints what its page says, and that is right."""

from __future__ import annotations

import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from stabilize_nb import Engine, RunFailedError
from stabilize_nb.events import EventType, get_event_bus
from tests.tasks.sshd import Sshd

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = ["data_pipeline", "dynamic_routing", "event_sourcing", "http_checks", "langgraph_inside", "shell_pipeline"]
BODY = (EventType.TASK_STARTED, EventType.TASK_COMPLETED)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """Programs write below the folder in which they are started."""
    monkeypatch.chdir(tmp_path)


def program(name):
    return import_module(f"examples.{name}.__main__")


def shown(name):
    """Return what the page of a program says that it prints."""
    page = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    [text] = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return text


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_prints_what_its_page_says(name, capsys):
    """The block of text in its README is its output."""
    program(name).main()

    assert capsys.readouterr().out == shown(name)


def test_suite_that_fails_stops_the_pipeline(tmp_path, capsys):
    """What follows the tests does not begin, and the error names the one that failed."""
    pipeline = program("shell_pipeline")
    project = shutil.copytree(pipeline.PROJECT, tmp_path / "project")
    source = project / "src" / "roman.py"
    source.write_text(source.read_text(encoding="utf-8").replace('"IX": 9', '"IX": 8'), encoding="utf-8")

    pipeline.main(project)

    *stages, error = capsys.readouterr().out.splitlines()
    assert re.split(r" +", stages[5]) == ["build", "NOT_STARTED"]
    assert [line.split()[1] for line in stages if "_instance_" in line] == ["SUCCEEDED", "SUCCEEDED", "TERMINAL"]
    assert "stage 'tests_instance_2' failed" in error
    assert "FAILED (failures=1)" in error


def test_table_that_cannot_be_right_stops_the_pipeline(monkeypatch, capsys):
    """The error says what is wrong with how many penguins, and no report is written."""
    monkeypatch.setitem(import_module("examples.data_pipeline.pipeline").PLAUSIBLE, "body_mass_g", (2500, 6000))

    with pytest.raises(RunFailedError, match="2 penguins with an impossible body_mass_g"):
        program("data_pipeline").main()

    assert capsys.readouterr().err == "100% 344 penguins\n100% 333 of 344 penguins kept\n"
    assert sorted(path.name for path in Path(".stabilize/data_pipeline").glob("*.[cm]*")) == [
        "notes.csv",
        "penguins.csv",
    ]


def test_new_route_is_data():
    """A desk that is added to the table gets the tickets that its condition is true for."""
    desk = import_module("examples.dynamic_routing.desk")
    routes = {"returns": "'broken' in words", "billing": "amount > 0"}

    with Engine(":memory:") as engine:
        desk.register(engine.registry)
        run = engine.start(desk.workflow("It came broken.", routes))
        run.wait(30)
        way = program("dynamic_routing").way(run)

    assert way == "read, returns, answer, check, clerk, letter, letter_mi_join"


def test_fleet_gets_its_release(tmp_path, capsys):
    """Hosts that answer get the release, one after the other; the one that does not stops nothing."""
    (tmp_path / "ssh").mkdir()
    server = Sshd(tmp_path / "ssh")
    with (server.folder / "config").open("a") as config:
        config.write("ListenAddress 127.0.0.3\n")
    known = server.known.read_text()
    server.known.write_text(known + known.replace("127.0.0.1", "127.0.0.3"))
    login = {"--port": server.port, "--key": server.folder / "user_key", "--known-hosts": server.known}
    options = [str(part) for option in {**login, "--folder": tmp_path / "there"}.items() for part in option]
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "release").write_text("7\n")

    heard, bus = [], get_event_bus()
    bus.subscribe("heard", heard.append, {EventType.CLAIM_TAKEN, *BODY})
    with server:
        fleet = program("ssh_fleet")
        fleet.main.main([*options, "--release", "8", "127.0.0.1", "127.0.0.2", "127.0.0.3"], standalone_mode=False)
    bus.flush()
    bus.unsubscribe("heard")

    assert capsys.readouterr().out == shown("ssh_fleet")
    holders = {event.data["holder"] for event in heard if event.event_type is EventType.CLAIM_TAKEN}
    bodies = [event for event in heard if event.event_type in BODY and event.data["stage"] in holders]
    assert [event.event_type for event in bodies] == [*BODY, *BODY]
