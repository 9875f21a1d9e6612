"""Commands for scripts and shells: one JSON document each, schedules, and what Tab offers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from stabilize_nb import Engine, Flow
from stabilize_nb.cli.main import main
from stabilize_nb.models.ids import new_id

PATIENCE = 20.0


@pytest.fixture
def store(tmp_path: Any) -> str:
    return f"{tmp_path}/runs.db"


@pytest.fixture
def run_id(store: str) -> Iterator[str]:
    """A run at its gate, in a store that somebody works at."""
    flow = Flow("letter")
    flow.approval("Good?", name="good")
    flow.approval("Send?", name="send", after="good")
    with Engine(store) as engine:
        run = engine.start(flow)
        run.until_gate(PATIENCE)
        yield run.id


def told(*arguments: str, code: int = 0) -> Any:
    """Call a command with --json and return what it prints."""
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.output)


def offered(*arguments: str) -> list[str]:
    """Return what Tab offers for the last argument."""
    *before, begun = arguments
    complete = ShellComplete(main, {}, "stabilize-nb", "_STABILIZE_NB_COMPLETE")
    return [item.value for item in complete.get_completions(before, begun)]


def test_orders_tell_what_became_of_the_run(store: str, run_id: str) -> None:
    """An order with --json prints the run, its status, and what it waits for now."""
    approved = told("approve", f"{run_id}/good", "--db-url", store)
    rejected = told("reject", f"{run_id}/send", "--db-url", store)
    again = told("retry", f"{run_id}/send", "--db-url", store)
    withdrawn = told("cancel", run_id, "--db-url", store)

    for each in (approved, rejected, again, withdrawn):
        assert each.keys() == {"id", "status", "explain"}
        assert each["id"] == run_id


def test_prune_and_migrations_are_told_as_data(store: str, run_id: str) -> None:
    """What would go, and which migrations a store has had, come as lists with times in ms."""
    flow = Flow("done")
    flow.stage(lambda: 1, name="only")
    with Engine(store) as engine:
        ended = engine.start(flow)
        ended.wait(PATIENCE)

    gone = told("prune", store, "--keep", "0", "--dry-run")
    migrations = told("mg-status", "--db-url", store)

    assert gone["dry_run"] is True
    assert [(run["id"], run["status"]) for run in gone["runs"]] == [(ended.id, "SUCCEEDED")]
    assert {each["status"] for each in migrations} == {"applied"}
    assert all(isinstance(each["applied_at"], int) for each in migrations)


def test_schedules_are_listed_paused_resumed_and_deleted(store: str) -> None:
    """A shell sees the schedules of a store, and gives orders to one by its key."""
    flow = Flow("report")
    flow.stage(lambda: 1, name="write")
    with Engine(store) as engine:
        engine.schedule(flow, cron="0 7 * * 1-5", timezone="Europe/Berlin", key="mornings")

    def order(*words: str) -> str:
        result = CliRunner().invoke(main, ["schedules", *words, "--db-url", store])
        return f"{result.exit_code} {result.output}"

    assert "At 07:00 on" in order()
    assert "T07:00:00+0" in order()
    assert offered("schedules", "--db-url", store, "pause", "mo") == ["mornings"]
    assert "paused" in order("pause", "mornings")
    [paused] = told("schedules", "--db-url", store)
    assert (paused["key"], paused["workflow"], paused["paused"], paused["next_due"]) == (
        "mornings",
        "report",
        True,
        None,
    )
    assert "paused" not in order("resume", "mornings")
    assert "which schedule? Write `schedules pause KEY`" in order("pause")
    assert order("delete", "morning").startswith("1 Error: there is no schedule 'morning'; did you mean 'mornings'?")
    assert order("delete", "mornings") == "0 no schedules\n"


def test_tab_offers_runs_and_is_silent_without_a_store(store: str, run_id: str) -> None:
    """Ids are offered by how they begin or end, in every command that takes a run."""
    for command in ("show", "approve", "reject", "cancel", "retry", "export"):
        assert offered(command, "--db-url", store, run_id[-5:].lower()) == [run_id]
    assert offered("show", "--db-url", store, "") == [run_id]
    assert offered("show", "--db-url", store, new_id()) == []
    assert offered("show", "--db-url", f"{store}.not", "") == []
