"""Attributes: by what runs are found, in SQL and by an index."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from stabilize_nb import Engine, Flow, StageExecution
from stabilize_nb.cli.main import main
from stabilize_nb.errors import ConfigError, StageNotReadyError
from stabilize_nb.events.replay import EventReplayer
from stabilize_nb.store import dialect
from stabilize_nb.store.queries import queries


def made() -> Flow:
    """Make a flow whose stage says what it has found out, and then fails for nobody."""
    flow = Flow("tickets")

    @flow.stage
    def classify(customer: str, stage: StageExecution) -> str:
        stage.set_attributes(topic="billing", urgent=True)
        if not customer:
            raise ValueError("nobody asks")
        return customer

    return flow


def ids(engine: Engine, **where: object) -> list[str]:
    """Return the ids of the runs that are found, newest first."""
    return list(engine.runs(where=where)["run_id"])


def test_runs_are_found_by_what_they_were_started_with(engine: Engine) -> None:
    """All attributes have to be as asked for; newest first, at most so many."""
    flow = made()
    runs = [
        engine.start(flow, customer="x", attributes={"customer": name, "number": number})
        for number, name in enumerate(["ada", "bob", "ada"])
    ]
    for run in runs:
        run.wait(10)

    assert ids(engine, customer="ada") == [runs[2].id, runs[0].id]
    assert ids(engine, customer="ada", number=2) == [runs[2].id]
    assert ids(engine, number="2", customer="ada") == [runs[2].id]
    assert ids(engine, customer="bob", number=2) == []
    assert ids(engine, customer="carol") == []
    assert len(engine.runs(where={"customer": "ada"}, limit=1)) == 1
    assert len(engine.runs("other", where={"customer": "ada"})) == 0
    assert len(engine.runs(where={})) == 3


@pytest.mark.parametrize("customer", ["ada", ""], ids=["succeeds", "fails"])
def test_stage_sets_attributes(engine: Engine, customer: str) -> None:
    """They are stored with what becomes of the stage, and are part of the log."""
    run = engine.start(made(), customer=customer, attributes={"topic": "unknown", "from": "mail"})
    run.wait(10)

    assert run.attributes == {"from": "mail", "topic": "billing", "urgent": "true"}
    assert ids(engine, topic="billing", urgent=True) == [run.id]
    assert ids(engine, topic="unknown") == []
    told = next(
        data for kind, data in zip(run.events["type"], run.events["data"], strict=True) if kind == "attributes.set"
    )
    assert told["attributes"] == {"topic": "billing", "urgent": "true"}
    assert EventReplayer(engine.store).rebuild_workflow_state(run.id) is not None


def test_fork_is_found_and_a_deleted_run_is_not(engine: Engine) -> None:
    """A fork has what its parent had."""
    run = engine.start(made(), customer="ada", attributes={"from": "mail"})
    run.wait(10)
    fork = run.fork("classify")
    fork.wait(10)
    engine.store.delete(run.id)

    assert fork.attributes == {"from": "mail", "topic": "billing", "urgent": "true"}
    assert ids(engine, **{"from": "mail"}) == [fork.id]


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"a b": "x"}, "'a b' is no name of an attribute"),
        ({"x" * 65: "x"}, "is no name of an attribute"),
        ({"a": "x" * 201}, "text of at most 200 characters is expected"),
        ({"a": None}, "a is None; text of at most"),
        ({"a": ["x"]}, "a is ['x']; text of at most"),
        ("a=x", "a mapping of at most 50 names to texts"),
        ({f"a{at}": "x" for at in range(51)}, "a mapping of at most 50"),
    ],
    ids=["blank", "long name", "long", "none", "list", "text", "many"],
)
def test_what_is_no_attribute_is_refused(engine: Engine, attributes: object, said: str) -> None:
    """Where a run is started and where one is looked for."""
    with pytest.raises(ConfigError) as start:
        engine.start(made(), customer="x", attributes=attributes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as look:
        engine.runs(where=attributes)  # type: ignore[arg-type]

    assert said in str(start.value)
    assert said in str(look.value)
    with pytest.raises(StageNotReadyError):
        StageExecution(ref_id="a").set_attributes(a="x")


def test_hostile_attributes_are_text(engine: Engine) -> None:
    """A value is bound, never part of a statement."""
    hostile = "'; DROP TABLE workflow; --"
    run = engine.start(made(), customer="x", attributes={"customer": hostile, "q": '"%_\\'})

    assert ids(engine, customer=hostile) == [run.id]
    assert ids(engine, q='"%_\\') == [run.id]
    assert ids(engine, q="%") == []


def test_search_reads_an_index(engine: Engine) -> None:
    """In the order in which runs are returned, so that a limit ends it."""
    connection = engine.database.writer
    sql = queries()["workflows_with"]
    if engine.url.startswith("postgresql"):
        text = dialect.question(sql).replace(":most", "10")
        for name in ("name", "value", "application"):
            text = text.replace(f":{name}", "'x'")
        text = text.replace(":others", "'{}'")
        connection.raw.execute("SET enable_seqscan TO off")
        plan = "\n".join(row[0] for row in connection.raw.execute(f"EXPLAIN {text}"))
        assert "attribute_value" in plan
    else:
        values = {"name": "x", "value": "y", "application": None, "others": "{}", "most": 10}
        rows = connection.raw.execute(f"EXPLAIN QUERY PLAN {sql}", values)
        plan = "\n".join(row[3] for row in rows)
        assert "SEARCH first USING COVERING INDEX attribute_value (name=? AND value=?)" in plan
        assert "TEMP B-TREE" not in plan


def test_schedule_is_an_attribute_of_its_runs(engine: Engine) -> None:
    """What a schedule has started is found by its key."""
    engine.database.clock = lambda: 1_767_916_800_000
    schedule = engine.schedule(made(), "0 7 * * *", customer="x", attributes={"from": "clock"})
    engine.database.clock = lambda: 1_767_916_800_000 + 8 * 3_600_000
    while not ids(engine, schedule="tickets"):
        ticket = engine.database.changes.ticket()
        assert ids(engine, schedule="tickets") or ticket.wait(20)

    assert ids(engine, schedule="tickets", **{"from": "clock"}) == [schedule.row.last_run]


def test_command_lists_what_is_found(engine: Engine) -> None:
    """`stabilize-nb runs --where customer=ada`, alone and with what has not ended."""
    flow = made()
    run = engine.start(flow, customer="x", attributes={"customer": "ada", "from": "mail"})
    run.wait(10)
    engine.start(flow, customer="x", attributes={"customer": "bob"}).wait(10)
    line = ["runs", "--db-url", engine.database.driver.address if "postgres" in engine.url else engine.url, "--json"]

    found = CliRunner().invoke(main, [*line, "--where", "customer=ada", "--where", "from=mail"])
    ended = CliRunner().invoke(main, [*line, "--where", "customer=ada", "--unfinished"])
    wrong = CliRunner().invoke(main, [*line, "--where", "customer"])

    assert [each["id"] for each in json.loads(found.output)] == [run.id]
    assert json.loads(ended.output) == []
    assert "--where 'customer': NAME=VALUE is expected" in wrong.output + str(wrong.exception)
