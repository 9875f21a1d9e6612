import subprocess
import sys
from datetime import UTC, datetime

import pandas as pd
import pytest

import stabilize_nb
from stabilize_nb import Engine
from stabilize_nb.core.facts import _FIELDS, FACTS
from stabilize_nb.errors import ConfigError, StoreDamagedError
from stabilize_nb.events import SqliteEventStore, configure_event_sourcing
from stabilize_nb.events.frames import EVENTS
from stabilize_nb.events.history import STATUS_AFTER, Names, entries_of
from stabilize_nb.events.log_frame import events_frame, events_of_many
from stabilize_nb.store.database import Database
from stabilize_nb.store.queries import queries
from tests.benchmarks.frames import make
from tests.events.scenes import SCENES, play, tasks
from tests.events.test_frames import check_schema
from tests.makers import Bench, stage, workflow

PLAIN = ["seq", "type", "run_id", "workflow", "stage", "stage_id", "task", "attempt", "status"]
BIG = "x" * 300_000
FRAMED = ("framed_events", "framed_events_of_many")


def plain(frame):
    """Return the rows of a frame without times and documents, with None for what is missing."""
    rows = frame[PLAIN].astype(object)
    return rows.where(rows.notna(), None).to_numpy().tolist()


def told(database, run_id, name="test"):
    """Return what the rows of the frame of a run should say, fact by fact."""
    names, rows = Names(), []
    for entry in entries_of(database, run_id):
        names.learn(entry.data)
        status = None if entry.type == "workflow.ending" else entry.data.get("status", STATUS_AFTER.get(entry.type))
        task = names.task(entry.stage_id, entry.data.get("position"))
        rows.append([
            entry.sequence, entry.type, run_id, name, names.refs.get(entry.stage_id), entry.stage_id, task,
            entry.data.get("attempt"), status,
        ])  # fmt: skip
    return rows


def three_runs(bench):
    """Run a workflow twice and another one of another application once; return their ids in this order."""
    flows = [
        workflow(stage("a"), name="one"),
        workflow(stage("a"), stage("b", "a"), name="two"),
        workflow(stage("c"), name="one"),
    ]
    flows[1].application = "others"
    return [bench.run(flow).id for flow in flows]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_columns_say_what_the_facts_say(scene):
    """The frame has for each fact what going through the log fact by fact finds, whatever happened."""
    with Bench(tasks=tasks()) as bench:
        play(scene, bench)
        for run in bench.store.list():
            events = events_frame(bench.database, run["id"])
            shown = {"fact", "stage", "attempt", "status"}
            documents = [
                {key: value for key, value in entry.data.items() if key not in shown}
                for entry in entries_of(bench.database, run["id"])
            ]

            assert plain(events) == told(bench.database, run["id"], run["name"])
            assert list(events["data"]) == documents


def test_types_that_are_not_looked_into_say_nothing_that_has_a_column():
    """The statements look for status, attempt and position in every fact that has one of them."""
    skipped = {name for name, kind in FACTS.items() if kind.TYPE and f"'{kind.TYPE}'" in queries()["framed_events"]}

    assert len(skipped) == 5
    assert all(f"'{FACTS[name].TYPE}'" in queries()["framed_events_of_many"] for name in skipped)
    assert not any({"status", "attempt", "position"} & set(_FIELDS[FACTS[name]]) for name in skipped)


@pytest.mark.parametrize("name", FRAMED)
def test_frame_sorts_nothing(name):
    """Facts come in the order of the index; a sort would have to hold all of them."""
    params = dict.fromkeys(("workflow_id", "application", "name", "since", "runs"))
    with Database.open("sqlite:///:memory:") as database:
        plan = database.read(lambda c: list(c.raw.execute(f"EXPLAIN QUERY PLAN {queries()[name]}", params)))

        assert any("SEARCH event USING INDEX event_by_sequence (workflow_id=?)" in step for *_, step in plan)
        assert not any("B-TREE" in step or step == "SCAN first" for *_, step in plan)


def test_frame_of_many_runs_has_the_rows_of_each():
    """The frame of all runs is the frames of each, one under the other, made of one select."""
    with Bench() as bench:
        ids = three_runs(bench)
        statements = []
        bench.database.writer.raw.exec_trace = lambda _, sql, __: statements.append(sql) or True
        every = stabilize_nb.events(bench)
        bench.database.writer.raw.exec_trace = None

        assert len(statements) == 1
        check_schema(every, "events")
        assert plain(every) == plain(pd.concat([events_frame(bench.database, each) for each in sorted(ids)]))
        assert every.groupby("run_id")["workflow"].first().to_dict() == dict(
            zip(ids, ["one", "two", "one"], strict=True)
        )


def test_runs_are_chosen():
    """Application, name, time and ids choose runs, which are there as a whole."""
    with Bench() as bench:
        one, two, three = three_runs(bench)
        (made,) = bench.sql("SELECT created_at FROM workflow WHERE id = ?", three)[0]

        def chosen(**which):
            return set(stabilize_nb.events(bench, **which)["run_id"])

        assert chosen(application="others") == {two}
        assert chosen(name="one") == {one, three}
        assert chosen(runs=[one, two], name="one") == {one}
        assert chosen(runs=[]) == set()
        assert three in chosen(since=datetime.fromtimestamp(made / 1_000, UTC))
        assert chosen(since="2999-01-01") == set()
        assert len(stabilize_nb.events(bench, runs=[two])) == len(events_frame(bench.database, two))


def test_store_is_named_in_any_way(tmp_path):
    """An engine, a file and a URL give the same frame; a run of an engine is chosen by itself."""
    with Engine(tmp_path / "runs.db", durability="normal") as engine:
        run = engine.start(workflow(stage("a")))
        run.wait(20)
        engine.start(workflow(stage("a"))).wait(20)
        of_engine = stabilize_nb.events(engine)
        of_run = stabilize_nb.events(engine, runs=[run])

    assert plain(of_run) == [row for row in plain(of_engine) if row[2] == run.id]
    assert plain(stabilize_nb.events(tmp_path / "runs.db")) == plain(of_engine)
    assert plain(stabilize_nb.events(f"sqlite:///{tmp_path}/runs.db")) == plain(of_engine)


def test_copy_of_a_log_is_framed_without_its_store(tmp_path):
    """A log at another place has no rows of workflows and stages, and gives the same frames."""
    copy = SqliteEventStore(f"sqlite:///{tmp_path}/log.db")
    configure_event_sourcing(copy)
    with Bench() as bench:
        three_runs(bench)
        bench.database.flush()
        stored = stabilize_nb.events(bench)
    configure_event_sourcing(None)

    pd.testing.assert_frame_equal(stabilize_nb.events(copy), stored)
    assert set(stabilize_nb.events(copy, application="others")["workflow"]) == {"two"}
    copy.close()


@pytest.mark.parametrize(
    ("store", "which", "said"),
    [
        ("nowhere.db", {}, "there is no store at"),
        (":memory:", {"since": "soon"}, "since='soon' is no time"),
        (":memory:", {"since": 7}, "since=7 is no time"),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path, monkeypatch, store, which, said):
    """A file that is not there is not made, and a time that is none is named."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        stabilize_nb.events(store, **which)

    assert not list(tmp_path.iterdir())


def test_package_of_events_is_light_and_can_be_called():
    """The name is a package and what makes the frame; neither it nor the name loads pandas or an engine."""
    code = (
        "import sys, stabilize_nb, stabilize_nb.events.bus; "
        "assert stabilize_nb.events is sys.modules['stabilize_nb.events'] and callable(stabilize_nb.events); "
        "sys.exit('pandas' in sys.modules or 'stabilize_nb.engine' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_large_values_come_out(tmp_path):
    """A value that is kept apart stands in the documents of the frame, in a file and in memory."""
    for url in ("sqlite:///:memory:", f"sqlite:///{tmp_path}/runs.db"):
        with Bench(url, tasks={"big": lambda: stabilize_nb.TaskResult.success(outputs={"text": BIG})}) as bench:
            flow = bench.run(workflow(*(stage(name, task="big") for name in "abc")))
            events = events_frame(bench.database, flow.id)
            ends = events.loc[events["type"] == "task.completed", "data"]

            assert [each["outputs"] for each in ends] == [{"text": BIG}] * 3
            assert events["stage"].dropna().isin(list("abc")).all()


def test_log_that_is_damaged_is_said():
    """A definition without names is told as damage, with what to do."""
    with Bench() as bench:
        flow = bench.run(workflow(stage("a")))
        bench.database.write(
            lambda c: c.raw.execute("""UPDATE event SET data = '{"definition":1}' WHERE sequence = 1""")
        )
        with pytest.raises(StoreDamagedError, match="doctor"):
            events_frame(bench.database, flow.id)


def test_log_without_its_first_facts_is_framed():
    """What is left of a log is shown, without the names that nothing tells any more."""
    with Bench() as bench:
        flow = bench.run(workflow(stage("a")))
        whole = events_frame(bench.database, flow.id)
        bench.database.write(lambda c: c.raw.execute("DELETE FROM event WHERE sequence < 3"))
        left = events_frame(bench.database, flow.id)

        assert left["type"].tolist() == whole["type"].tolist()[2:]
        assert set(left["run_id"]) == {flow.id}
        assert left[["workflow", "stage", "task"]].isna().all(axis=None)


def test_nobody_waits_for_a_frame(tmp_path):
    """While a survey goes on, others read and write; it sees the log as it was when it began."""
    with Bench(f"sqlite:///{tmp_path}/runs.db", durability="normal") as bench:
        done = bench.run(workflow(stage("a")))

        def look(connection):
            blocks = connection.blocks("framed_events", {"workflow_id": done.id})
            first = next(blocks)
            bench.run(workflow(stage("b")))
            return [first, *blocks]

        assert bench.database.read(lambda c: c.one("log_end", {"workflow_id": done.id}))[0] == 7
        assert sum(len(block[0]) for block in bench.database.survey(look)) == 7


def test_benchmark_makes_a_run_of_the_size_that_is_asked_for(tmp_path):
    """The benchmark's run has as many facts as it says, numbered without gaps, all of them named."""
    run_id = make(tmp_path / "runs.db", 2_000)
    with Database.open(f"sqlite:///{tmp_path}/runs.db") as database:
        events = events_of_many(database, None, None, None, None)

    assert events["seq"].tolist() == list(range(1, 2_001))
    assert set(events["run_id"]) == {run_id}
    assert (events["stage"].isna() == events["stage_id"].isna()).all()
    assert [column.name for column in EVENTS] == list(events)
