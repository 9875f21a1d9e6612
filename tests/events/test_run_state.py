"""A run as it was at a moment: equal to the rows that were stored then, and had without folding the whole log."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from stabilize_nb import Engine, Flow, TaskResult, TransientError
from stabilize_nb.core import facts as f
from stabilize_nb.core.facts import event_type, to_data
from stabilize_nb.errors import ConfigError, StageNotFoundError, WorkflowNotFoundError
from stabilize_nb.events import past
from stabilize_nb.events.history import entries_of
from stabilize_nb.events.past import COPIES, Past
from stabilize_nb.models.status import WorkflowStatus as S
from stabilize_nb.run_diff import CHANGES, KINDS
from stabilize_nb.run_state import RunState
from stabilize_nb.store.codec import dumps
from stabilize_nb.store.database import Database
from tests.events.scenes import SCENES, play, tasks
from tests.events.test_replay import rebuilt, watch_commits
from tests.makers import Bench, stage, workflow
from tests.simulate.graphs import make_plan
from tests.simulate.memory import Table
from tests.simulate.simulation import simulate

SEEDS = 120
CHUNK = 20


@pytest.fixture
def engine():
    """Make an engine in which another try comes at once."""
    with Engine(":memory:") as engine:
        engine.processor.limits = replace(engine.processor.limits, backoff_min=1)
        yield engine


@pytest.fixture
def often(monkeypatch):
    """Keep copies of the rows so often that moments fall before, on and behind them."""
    monkeypatch.setattr(past, "EVERY", 3)


def publishing():
    """A flow that asks for a decision, fails once and then for good."""
    flow, calls = Flow("publishing"), []

    @flow.stage(retry=2)
    def draft(text):
        calls.append(text)
        if len(calls) == 1:
            raise TransientError("busy")
        return {"draft": text.upper(), "words": [len(text)]}

    sign_off = flow.approval("Publish?", after=draft, show="draft", form={"note": str}, name="sign_off")

    @flow.stage(after=sign_off)
    def publish(draft, sign_off):
        raise ValueError("no paper")

    return flow


def published(engine):
    run = engine.start(publishing(), text="tea")
    run.until_gate(20)
    run.approve(note="go", user="ann")
    run.wait(20)
    return run


def number_of(run, kind, stage=None):
    """Return the number of the first fact of a type, of a stage."""
    events = run.events
    found = events[(events["type"] == kind) & ((events["stage"] == stage) if stage else True)]
    return int(found["seq"].iloc[0])


# -- equality with the stored rows --------------------------------------------------------------------


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_state_is_the_rows_of_that_moment(scene, often, monkeypatch):
    """C7: after each commit the state is what was stored then, whichever copy it is folded from."""
    with Bench(tasks=tasks()) as bench:
        seen = watch_commits(bench, monkeypatch)
        play(scene, bench)

        for (run_id, sequence), stored in seen.items():
            assert rebuilt(RunState.of(Past(bench.database, run_id), sequence).view) == stored


@pytest.mark.parametrize("start", range(0, SEEDS, CHUNK))
def test_state_is_the_rows_of_every_moment_of_random_workflows(start, often, monkeypatch):
    """C7 for workflows that nobody thought of: at every number that a commit ended with, forwards and backwards."""
    stored = {}
    write = Table.write

    def writing(table, view, facts, now):
        write(table, view, facts, now)
        stored[table.head.id, table.head.sequence] = (table.head, dict(table.rows))

    monkeypatch.setattr(Table, "write", writing)
    compared = 0
    for seed in range(start, start + CHUNK):
        stored.clear()
        tables = simulate(make_plan(seed)).tables
        with Database.open("sqlite:///:memory:") as database:
            for run_id, table in tables.items():
                log(database, run_id, table.log)
                there = Past(database, run_id)
                moments = [sequence for of, sequence in stored if of == run_id]
                for sequence in [*moments, *reversed(moments)]:
                    head, rows = stored[run_id, sequence]
                    assert rebuilt(there.view(sequence)) == (head, rows)
                    compared += 1

    assert compared > 500


def log(database, run_id, facts):
    """Write facts and their times as the log of a run."""
    rows = [
        {
            "workflow_id": run_id, "sequence": number, "type": event_type(fact), "at": at,
            "stage_id": getattr(fact, "stage", None), "data": dumps(to_data(fact)),
        }
        for number, (at, fact) in enumerate(facts, 1)
    ]  # fmt: skip
    database.write(lambda connection: connection.many("copy_event", rows))


def test_last_state_is_what_the_store_returns(engine):
    """The state after the last fact has the picture, the statuses, outputs and gates that the run has."""
    run = engine.start(publishing(), text="tea")
    gates = run.until_gate(20)
    state = run.at(len(run.events))

    assert (state.workflow, state.status, state.outputs) == (run.workflow, run.status, run.outputs)
    assert state.gates == gates == run.gates
    assert state.inputs == run.inputs == {"text": "tea"}


# -- what a state says --------------------------------------------------------------------------------


def test_stages_are_as_they_were(engine):
    """Status, inputs, outputs, error and attempts of a stage are those of the moment, not those of the end."""
    run = published(engine)
    before = run.at(number_of(run, "task.retried")).stage("draft")
    after = run.at(number_of(run, "stage.completed", "draft")).stage("draft")
    failed = run.at(len(run.events)).stage("publish")

    assert (before.status, before.attempts, before.outputs) == (S.RUNNING, 1, {})
    assert (after.status, after.attempts) == (S.SUCCEEDED, 2)
    assert after.outputs == {"draft": "TEA", "words": [3]}
    assert after.started < after.finished
    assert failed.inputs["draft"] == "TEA"
    assert failed.inputs["approval"] == {"note": "go", "user": "ann"}
    assert (failed.status, failed.error) == (S.TERMINAL, "ValueError: no paper")


def test_inputs_are_what_the_body_saw():
    """What a state calls inputs is the context that the body was called with, but for what the engine keeps there."""
    seen = {}

    def look(stage):
        seen[stage.ref_id] = {key: value for key, value in stage.context.items() if not key.startswith("_")}
        return TaskResult.success(outputs={stage.ref_id: [stage.ref_id], "both": [stage.ref_id]})

    with Bench(tasks={"look": look}) as bench:
        flow = workflow(
            stage("a", task="look"),
            stage("b", "a", task="look", context={"both": ["x"]}),
            stage("c", "a", task="look"),
            stage("d", "b", "c", task="look", context={"own": 1}),
            context={"asked": "why"},
        )
        bench.run(flow)
        state = RunState.of(there := Past(bench.database, flow.id), there.last)

        assert {each.ref_id: each.inputs for each in state.stages} == seen
        assert seen["d"]["both"] == ["a", "b", "c"]


def test_gates_are_those_that_waited_then(engine):
    """A gate is in the states between its question and its decision, with all that it asked."""
    run = published(engine)
    asked, decided = number_of(run, "stage.suspended"), number_of(run, "signal.delivered")
    [gate] = run.at(asked).gates

    assert (gate.name, gate.question, dict(gate.form)) == ("sign_off", "Publish?", {"note": "str"})
    assert gate.show == {"draft": "TEA", "words": [3]}
    assert [bool(run.at(number).gates) for number in (asked - 1, asked, decided - 1, decided)] == [0, 1, 1, 0]


def test_state_cannot_be_changed(engine):
    """A state is frozen, and what it gives out is a copy: the next look sees the same."""
    run = published(engine)
    state = run.at(len(run.events))
    state.stage("draft").outputs["words"].append(99)
    state.workflow.stages[0].outputs["words"].append(99)
    state.inputs["text"] = "coffee"

    with pytest.raises(AttributeError):
        state.sequence = 1
    assert state.stage("draft").outputs["words"] == [3]
    assert state.inputs == {"text": "tea"}


def test_states_of_one_moment_are_equal(engine):
    """The log only grows, so a number stands for a state; another number is another state."""
    run = published(engine)

    assert run.at(4) == run.at(4) != run.at(5)
    assert len({run.at(4), run.at(4), run.at(5)}) == 2
    assert repr(run.at(1)) == f"RunState('publishing', {run.id}, fact 1, NOT_STARTED, 0/3 stages)"


def test_stage_that_was_not_there_is_refused(engine):
    """A stage that the workflow does not have is named, with those that it has."""
    with pytest.raises(StageNotFoundError, match="no stage 'print' after fact 3; its stages were: draft, sign_off"):
        published(engine).at(3).stage("print")


# -- moments ------------------------------------------------------------------------------------------


def test_moments_are_numbers_and_times(engine):
    """Numbers of any integer type, datetimes with and without zone, timestamps and text all name a moment."""
    run = published(engine)
    times = run.events["time"]
    number = number_of(run, "stage.suspended")
    same = int(times[times == times[number - 1]].index[-1]) + 1
    moment = times[number - 1]
    local = moment.tz_convert(datetime.now().astimezone().tzinfo)
    after = [moment, moment.to_pydatetime(), local.tz_localize(None).to_pydatetime(), str(moment), moment.isoformat()]

    assert run.at(np.int64(number)) == run.at(number)
    assert [run.at(each).sequence for each in after] == [same] * len(after)
    assert run.at(moment + timedelta(microseconds=10)).sequence == same


def test_whole_second_is_all_of_it(engine):
    """A time as cells show it, without parts of a second, means the last fact of that second."""
    run = published(engine)
    times = run.events["time"]
    second = times.iloc[-1].floor("s")
    last = int(run.events["seq"][times < second + timedelta(seconds=1)].iloc[-1])
    shown = second.to_pydatetime().astimezone()

    assert run.at(f"{shown:%H:%M:%S}").sequence == run.at(f"{shown:%Y-%m-%d %H:%M:%S}").sequence == last


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (0, "has no fact 0; its facts have the numbers 1 to "),
        (-1, "has no fact -1; its facts have the numbers 1 to "),
        (10_000, "has no fact 10000; its facts have the numbers 1 to "),
        (True, "True is no moment of run"),
        (1.5, "1.5 is no moment of run"),
        (None, "None is no moment of run"),
        ("soon", "'soon' is no moment of run .*: give the number of a fact .*, a datetime, or a time as text such as"),
        ("25:00:00", "'25:00:00' is no moment of run"),
        (pd.NaT, "NaT is no moment of run"),
        ("2020-01-01", "was not there yet at 2020-01-01T00:00:00.*; it was stored at 20"),
        (datetime(2999, 1, 1, tzinfo=UTC), "2999-01-01T00:00:00.* is still to come; run .* has .* facts so far"),
    ],
)
def test_what_is_no_moment_is_refused_in_a_sentence(engine, moment, said):
    """What the run does not have, and what is no moment at all, is said with what there is and what to write."""
    with pytest.raises(ConfigError, match=said) as caught:
        published(engine).at(moment)
    assert "\n" not in str(caught.value)


def test_unknown_run_has_no_past():
    """A log without the run is named."""
    with Bench() as bench, pytest.raises(WorkflowNotFoundError, match="'nope' is not in the log sqlite:///:memory:"):
        Past(bench.database, "nope")


# -- the work that a moment takes ---------------------------------------------------------------------


def long_log(facts):
    """Return as many facts of a workflow whose task is called again and again."""
    with Bench() as bench:
        flow = bench.run(workflow(stage("a")))
        created = entries_of(bench.database, flow.id)[0].data["definition"]
    begun = [f.WorkflowCreated(created), f.WorkflowStarted(), f.StageStarted(row := created["stages"][0]["id"])]
    calls = [
        fact
        for number in range(1, facts // 2)
        for fact in (f.TaskStarted(row, 0, number), f.TaskPolled(row, 0, 1_000 * number, {"call": number}))
    ]
    return flow.id, list(enumerate([*begun, *calls][:facts], 1_000))


@pytest.mark.parametrize("facts", [5_000, 20_000])
def test_moment_of_a_long_run_is_folded_from_nearby(facts):
    """However long the log, a moment folds less than `every` facts and there is a bounded number of copies."""
    run_id, log_of_it = long_log(facts)
    with Database.open("sqlite:///:memory:") as database:
        log(database, run_id, log_of_it)
        there = Past(database, run_id)
        counts = []
        for sequence in [facts, 1, facts // 2, *range(17, facts, facts // 40)]:
            before = there.folded
            assert there.view(sequence).head.sequence == sequence
            counts.append(there.folded - before)

        print(f"{facts} facts: a copy every {there.every}, at most {max(counts)} folded for a position")
        assert there.last == facts
        assert max(counts) <= there.every == pytest.approx(facts / COPIES, rel=1)
        assert len(there._copies) <= COPIES


def test_past_reads_on(often):
    """What was committed meanwhile is read by `refresh`, and only that is folded."""
    with Bench(tasks=tasks()) as bench:
        flow = workflow(stage("gate", task="gate"), stage("b", "gate", task="give"))
        bench.begin(flow)
        bench.processor.process_all(timeout=20)
        there = Past(bench.database, flow.id)
        last, folded = there.last, there.folded
        bench.store.cancel(flow.id, user="ann")
        bench.processor.process_all(timeout=20)

        assert there.count() > last == there.last
        more = there.refresh()
        assert (there.last, there.folded) == (last + more, folded + more)
        assert RunState.of(there, there.last).workflow == bench.store.retrieve(flow.id)
        assert there.refresh() == 0


# -- what changed -------------------------------------------------------------------------------------


def test_diff_has_the_stated_columns(engine):
    """The frame has the columns and types that `CHANGES` states, also when nothing changed."""
    run = published(engine)

    for frame in (run.diff(1), run.diff(3, 3)):
        assert list(frame.columns) == [column.name for column in CHANGES]
        assert [str(dtype) for dtype in frame.dtypes] == [column.dtype for column in CHANGES]
        assert list(frame["what"].cat.categories) == list(KINDS)
    assert run.diff(3, 3).empty


def test_diff_lists_what_changed(engine):
    """Statuses, attempts, errors, outputs and what was told to a stage, the run first; each with before and after."""
    run = published(engine)
    changed = run.diff(number_of(run, "workflow.started"), number_of(run, "stage.suspended"))
    rows = changed.astype(object).where(changed.notna(), None).to_numpy().tolist()

    assert rows == [
        ["draft", "status", None, "NOT_STARTED", "SUCCEEDED"],
        ["draft", "attempts", None, 0, 2],
        ["draft", "output", "draft", None, "TEA"],
        ["draft", "output", "words", None, [3]],
        ["sign_off", "status", None, "NOT_STARTED", "SUSPENDED"],
        ["sign_off", "attempts", None, 0, 1],
        ["sign_off", "context", "show", None, {"draft": "TEA", "words": [3]}],
    ]
    end = run.diff(number_of(run, "stage.suspended"))
    assert end.iloc[0][["what", "before", "after"]].tolist() == ["status", "RUNNING", "TERMINAL"]
    assert "ValueError: no paper" in end[(end["stage"] == "publish") & (end["what"] == "error")]["after"].tolist()


def test_diff_backwards_undoes(engine):
    """From the later moment to the earlier the same changes are listed, before and after exchanged."""
    run = published(engine)
    there, back = run.diff(5, 20), run.diff(20, 5)

    assert there[["stage", "what", "key"]].equals(back[["stage", "what", "key"]])
    assert there["before"].tolist() == back["after"].tolist()
    assert there["after"].tolist() == back["before"].tolist()


def test_stage_that_came_is_told_by_its_status(engine):
    """An instance that was made meanwhile has no status before; its round and attempts count from the beginning."""
    flow = Flow("many")

    @flow.stage
    def plan():
        return {"topics": ["a"]}

    @flow.stage(each="topics", after="plan")
    def research(topic):
        return {"finding": topic}

    run = engine.start(flow)
    run.wait(20)
    made = run.diff(1)
    made = made[made["stage"] == "research_instance_0"]

    assert made["what"].tolist() == ["status", "attempts", "context", "output"]
    assert (made["before"].iloc[0], made["after"].iloc[0]) == (None, "SUCCEEDED")


def test_an_error_is_told_of_the_run_and_of_its_stage() -> None:
    """What the engine notes of an error in the context of a stage is not told again."""
    flow = Flow("birds")

    @flow.stage
    def count(text: str) -> int:
        return int(text)

    with Engine(":memory:") as engine:
        run = engine.start(flow, text="many")
        run.wait(20)
        changed = run.diff(1)

    told = changed[changed["after"].astype(str).str.contains("invalid literal")]
    assert told[["stage", "what"]].fillna("").to_numpy().tolist() == [["", "error"], ["count", "error"]]
