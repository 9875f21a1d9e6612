import subprocess
import sys

import pandas as pd
import pytest

from stabilize_nb.core import facts as f
from stabilize_nb.decisions import decisions_frame, decisions_in
from stabilize_nb.events import EventType
from stabilize_nb.events.calls import calls_frame
from stabilize_nb.events.frames import (
    ATTEMPT_STATUSES,
    FRAMES,
    STATUSES,
    dead_letters_frame,
    runs_frame,
    schema,
    signals_frame,
    stages_frame,
    tasks_frame,
)
from stabilize_nb.events.log_frame import events_frame
from stabilize_nb.models.status import WorkflowStatus as S
from stabilize_nb.queue.queue import DeadLetter
from stabilize_nb.store.database import Database
from stabilize_nb.store.store import define
from stabilize_nb.store.writer import write_facts
from tests.events.scenes import SCENES, play, tasks
from tests.makers import Bench, stage, workflow

OF_A_RUN = {
    "events": events_frame, "stages": stages_frame, "tasks": tasks_frame, "signals": signals_frame,
    "calls": calls_frame, "decisions": lambda database, run_id: decisions_frame(decisions_in(database, run_id)),
}  # fmt: skip
OF_ROWS = {"runs": runs_frame, "dead_letters": dead_letters_frame}
LETTER = DeadLetter("m", "r", None, "StartStage", "{", 1, 1_700_000_000_000, "not JSON", 0, None)
SCENE = {scene.name: scene for scene in SCENES}


def frames_of(scene):
    """Play a scene and return its frames by name."""
    with Bench(tasks=tasks()) as bench:
        flow = play(SCENE[scene], bench)
        made = {name: make(bench.database, flow.id) for name, make in OF_A_RUN.items()}
        return made | {"runs": runs_frame(bench.store.list()), "dead_letters": dead_letters_frame([LETTER])}


def told(flow, *later):
    """Return a database whose log has the creation of a workflow and then facts with their times in ms."""
    database = Database.open("sqlite:///:memory:")
    timed = [(f.WorkflowCreated(define(flow)), 0), (f.WorkflowStarted(), 1_000), *later]

    def write(connection):
        for at, (fact, ms) in enumerate(timed, start=1):
            write_facts(connection, flow.id, at, [fact], ms)

    database.write(write)
    return database


def check_schema(frame, name):
    assert list(frame.columns) == [column.name for column in FRAMES[name]]
    assert [str(dtype) for dtype in frame.dtypes] == [column.dtype for column in FRAMES[name]]
    for column in FRAMES[name]:
        if column.categories:
            assert tuple(frame[column.name].cat.categories) == column.categories


@pytest.mark.parametrize("scene", SCENE)
def test_frames_keep_their_schema(scene):
    """Columns and data types are those of the table, whatever happened."""
    for name, frame in frames_of(scene).items():
        check_schema(frame, name)


@pytest.mark.parametrize("name", FRAMES)
def test_empty_frames_keep_their_schema(name):
    """A frame without rows has the same columns and data types."""
    with Bench() as bench:
        frame = OF_A_RUN[name](bench.database, "nobody") if name in OF_A_RUN else OF_ROWS[name]([])

        assert frame.empty
        check_schema(frame, name)


@pytest.mark.parametrize("name", FRAMES)
def test_frames_of_several_runs_can_be_joined(name):
    """Frames of two runs, one under the other, keep the schema: categories are the same for every run."""
    both = pd.concat([frames_of("one stage")[name], frames_of("gate")[name]])

    check_schema(both, name)


@pytest.mark.parametrize("name", FRAMES)
def test_schema_says_every_column(name):
    """The schema as text has a line for each column with its data type and meaning."""
    lines = schema(name).splitlines()

    assert [line.split()[0] for line in lines] == [column.name for column in FRAMES[name]]
    assert all(column.meaning in line for column, line in zip(FRAMES[name], lines, strict=True))


@pytest.mark.parametrize("name", OF_A_RUN)
def test_frame_is_one_query(name):
    """A frame of a run is made of one select."""
    with Bench() as bench:
        flow = bench.run(workflow(stage("a"), stage("b", "a")))
        statements = []
        bench.database.writer.raw.exec_trace = lambda _, sql, __: statements.append(sql) or True
        OF_A_RUN[name](bench.database, flow.id)
        bench.database.writer.raw.exec_trace = None

        assert len(statements) == 1


def test_module_loads_no_pandas():
    """pandas is loaded when the first frame is made, not before."""
    code = "import sys, stabilize_nb.engine, stabilize_nb.events.frames; sys.exit('pandas' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_events_are_numbered_and_named():
    """The frame of events has every fact in order, with the names of the stage and task it is about."""
    events = frames_of("one stage")["events"]

    assert events["seq"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert events["type"].tolist() == [
        "workflow.created", "workflow.started", "stage.started", "task.started", "task.completed", "stage.completed",
        "workflow.completed",
    ]  # fmt: skip
    assert events["stage"].fillna("").tolist() == ["", "", "a", "a", "a", "a", ""]
    assert events["task"].fillna("").tolist() == ["", "", "", "a", "a", "", ""]
    assert events["attempt"].fillna(0).tolist() == [0, 0, 0, 1, 1, 0, 0]
    assert events["status"].tolist() == [
        "NOT_STARTED", "RUNNING", "RUNNING", "RUNNING", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED",
    ]  # fmt: skip
    assert events["time"].is_monotonic_increasing
    assert events["data"][4] == {"position": 0, "outputs": {"done": "a"}}


def test_scenes_bring_about_every_kind_of_event():
    """Every kind of event that is logged is one that the schema was tried with."""
    seen = set()
    for scene in SCENES:
        with Bench(tasks=tasks()) as bench:
            play(scene, bench)
            seen |= {kind for run in bench.store.list() for kind in events_frame(bench.database, run["id"])["type"]}

    assert seen == {kind.value for kind in EventType} - {EventType.CUSTOM.value, EventType.UNKNOWN.value}


def test_times_are_utc_to_the_millisecond():
    """Times and durations in a frame are those of the log, whatever the zone of the machine."""
    flow = workflow(stage("a"))
    with told(
        flow,
        (f.StageStarted(flow.stages[0].id), 1_500),
        (f.StageEnded(flow.stages[0].id, S.SUCCEEDED), 3_601_501),
    ) as database:
        run = stages_frame(database, flow.id).loc[0]

        assert run["queued"] == pd.Timestamp("1970-01-01T00:00:01Z")
        assert run["finished"] == pd.Timestamp("1970-01-01T01:00:01.501Z")
        assert run["wait"] == pd.Timedelta(milliseconds=500)
        assert run["duration"] == pd.Timedelta(milliseconds=3_600_001)


def test_stage_that_was_reset_has_a_row_for_each_run():
    """Jumping back twice gives three runs; further activations are rows of their own; the source was redirected."""
    stages = frames_of("loop over activations")["stages"].set_index(["ref_id", "run"])

    assert stages.index.is_unique
    assert stages.loc["target"].index.tolist() == [1, 2, 3]
    assert stages.loc["each#2"].index.tolist() == [1, 2, 3]
    assert stages.loc["decide", "status"].tolist() == ["REDIRECT", "REDIRECT", "SUCCEEDED"]


def test_run_that_was_broken_off_is_canceled():
    """After a failure and a restart, the gate that was withdrawn has a canceled run and a new one."""
    stages = frames_of("failure, then restart")["stages"].set_index(["ref_id", "run"])

    assert stages.loc["gate", "status"].tolist() == ["CANCELED", "SUCCEEDED"]
    assert stages.loc["b", "status"].tolist() == ["TERMINAL", "SUCCEEDED"]
    assert stages.loc[("b", 1), "error"] == "broken"


def test_stage_that_never_began_was_never_queued():
    """A stage that the end of its workflow withdrew has a row without times of a beginning."""
    stages = frames_of("cancel")["stages"].set_index("ref_id")

    assert stages.loc["b", "status"] == "CANCELED"
    assert stages.loc["b", ["queued", "started", "wait", "duration"]].isna().all()
    assert stages.loc["b", "attempts"] == 0


@pytest.mark.parametrize(
    ("scene", "statuses"),
    [
        ("retry", ["RETRIED", "SUCCEEDED", "SUCCEEDED"]),
        ("poll", ["POLLED", "POLLED", "SUCCEEDED"]),
        ("gate", ["SUSPENDED", "SUSPENDED", "SUCCEEDED", "SUCCEEDED"]),
        ("withdrawn at work", ["DISCARDED"]),
        ("diamond with a tolerated failure", ["SUCCEEDED", "TERMINAL", "SUCCEEDED", "SUCCEEDED"]),
    ],
)
def test_attempts_say_how_they_ended(scene, statuses):
    """There is a row for each attempt of a body, with what became of it."""
    assert frames_of(scene)["tasks"]["status"].tolist() == statuses


def test_attempts_of_a_stage_are_counted():
    """The attempts that the frame of stages counts are the rows of the frame of tasks."""
    frames = frames_of("retry")
    counted = frames["stages"].set_index(["ref_id", "run"])["attempts"]

    assert counted.to_dict() == frames["tasks"].groupby(["ref_id", "run"]).size().to_dict()


def test_attempt_whose_worker_died_is_lost():
    """When another attempt begins although nothing was heard of the first, the first was lost."""
    flow = workflow(stage("a"))
    here = flow.stages[0].id
    with told(
        flow,
        (f.StageStarted(here), 1_000),
        (f.TaskStarted(here, 0, 1), 1_000),
        (f.TaskStarted(here, 0, 2), 5_000),
        (f.TaskEnded(here, 0, S.SUCCEEDED, 2), 6_000),
    ) as database:
        attempts = tasks_frame(database, flow.id)

        assert attempts["status"].tolist() == ["LOST", "SUCCEEDED"]
        assert attempts["duration"].tolist() == [pd.Timedelta(seconds=4), pd.Timedelta(seconds=1)]


def test_signal_that_came_early_is_kept_and_consumed():
    """A decision before its gate is one row: kept when it came, consumed when the gate asked; others have none."""
    signals = frames_of("decision before the gate")["signals"]
    signal = signals.loc[0]

    assert len(signals) == 1
    assert (signal["ref_id"], signal["name"], signal["status"], signal["kept"]) == ("gate", "approve", "CONSUMED", True)
    assert signal["data"] == {"user": "ann"}
    assert signal["wait"] == signal["consumed"] - signal["came"]
    assert frames_of("one stage")["signals"].empty


def test_signals_say_what_became_of_them():
    """A transient signal that nobody waits for is lost, one at the gate is consumed, a second decision is refused."""
    pings = frames_of("gate")["signals"]
    decisions = frames_of("gate decided twice")["signals"]

    assert pings["name"].tolist() == ["ping", "ping", "approve"]
    assert pings["status"].tolist() == ["LOST", "CONSUMED", "CONSUMED"]
    assert not pings["kept"].any()
    assert pings["consumed"].isna().tolist() == [True, False, False]
    assert decisions["status"].tolist() == ["CONSUMED", "REFUSED"]
    assert decisions["reason"].notna().tolist() == [False, True]


def test_signal_that_was_kept_in_vain_is_lost():
    """A signal that was kept until the workflow ended is one row, which says both."""
    flow = workflow(stage("a"))
    here = flow.stages[0].id
    with told(
        flow,
        (f.SignalBuffered(here, "k1", "ping", {"n": 1}), 1_000),
        (f.SignalBuffered(here, "k2", "ping", {"n": 2}), 2_000),
        (f.SignalDropped(here, "ping", "k1"), 9_000),
    ) as database:
        signals = signals_frame(database, flow.id)

        assert signals["status"].tolist() == ["LOST", "KEPT"]
        assert signals["kept"].all()
        assert signals["data"].tolist() == [{"n": 1}, {"n": 2}]
        assert signals["wait"].isna().all()


def test_statuses_are_those_of_the_engine():
    """The categories of statuses are the engine's, in its order; attempts have four more."""
    assert tuple(status.name for status in S) == STATUSES
    assert set(ATTEMPT_STATUSES) - set(STATUSES) == {"RETRIED", "POLLED", "LOST", "DISCARDED"}


def test_runs_are_in_the_order_of_the_store():
    """The frame of runs has a row for each run, the newest first, with times and duration."""
    with Bench(tasks=tasks()) as bench:
        done = bench.run(workflow(stage("a", task="give"), name="first"))
        bench.store.store(workflow(stage("a", task="give"), name="second"))
        runs = runs_frame(bench.store.list()).set_index("name")

        assert runs.index.tolist() == ["second", "first"]
        assert runs["status"].tolist() == ["NOT_STARTED", "SUCCEEDED"]
        assert runs.loc["first", "duration"] == pd.Timedelta(milliseconds=done.end_time - done.start_time)
        assert runs.loc["second", ["started", "finished", "duration"]].isna().all()
