"""`df.workflow`: what frames of events say of the way the work went, and the files that other tools read."""

import itertools
import json
import re
import subprocess
import sys
from contextlib import closing
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from stabilize_nb.core import facts as f
from stabilize_nb.errors import ConfigError
from stabilize_nb.events.analysis import FRAMES
from stabilize_nb.events.firings import Doing, critical_path, pasts_of
from stabilize_nb.events.frames import stages_frame
from stabilize_nb.events.log_frame import events_frame
from stabilize_nb.models.status import WorkflowStatus as S
from stabilize_nb.store.database import Database
from stabilize_nb.store.store import define
from stabilize_nb.store.writer import write_facts
from tests.events.scenes import SCENES, play, tasks
from tests.events.standards import faults_of_ocel, faults_of_xes
from tests.makers import Bench, stage, workflow

SCENE = {scene.name: scene for scene in SCENES}
SECOND = pd.Timedelta(seconds=1)


def told(flow, *later):
    """Return the events of a log that has the start of a workflow at 0 s and then facts with their times in s."""
    timed = [(f.WorkflowCreated(define(flow)), 0), (f.WorkflowStarted(), 0), *later]

    def write(connection):
        for at, (fact, second) in enumerate(timed, start=1):
            write_facts(connection, flow.id, at, [fact], second * 1_000)

    with closing(Database.open("sqlite:///:memory:")) as database:
        database.write(write)
        return events_frame(database, flow.id)


def ids_of(flow):
    return {each.ref_id: each.id for each in flow.stages}


def ran(id_, begin, work, end, *, by=None, status=S.SUCCEEDED):
    """Yield the facts of a stage that was begun, put to work and ended; `by` is the stage that let it begin."""
    if by is not None:
        yield f.JoinFired(id_, 1, id_, 1, triggers=[by]), begin
    yield f.StageStarted(id_), begin
    yield f.TaskStarted(id_, 0, 1), work
    yield f.TaskEnded(id_, 0, status, 1), end
    yield f.StageEnded(id_, status), end


def diamond():
    return workflow(stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c"), name="diamond")


def events_of_diamond(c_before_b=False):
    """Return the log of a diamond: a 0 to 4 s; then b to 14 s, of which it was queued 5; c to 9 s; d to 20 s."""
    flow = diamond()
    at = ids_of(flow)
    b = [*ran(at["b"], 4, 9, 14, by=at["a"])]
    c = [*ran(at["c"], 4, 4, 9, by=at["a"])]
    both = sorted([*b, *c], key=lambda timed: timed[1]) if not c_before_b else [*c, *b]
    facts = [*ran(at["a"], 0, 0, 4), *both, *ran(at["d"], 14, 14, 20, by=at["b"])]
    return told(flow, *facts, (f.WorkflowEnded(S.SUCCEEDED), 20))


@pytest.fixture(scope="module")
def played():
    """The events and the stages of every scene, by its name."""
    frames = {}
    for name, scene in SCENE.items():
        with Bench(tasks=tasks()) as bench:
            play(scene, bench)
            ids = [run["id"] for run in bench.store.list()]
            frames[name] = [
                pd.concat([make(bench.database, id_) for id_ in ids]) for make in (events_frame, stages_frame)
            ]
    return frames


# -- frames -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FRAMES)
def test_frames_keep_their_schema(played, name):
    """Columns and data types are those of the table, whatever happened, and also when nothing did."""
    every = pd.concat([events for events, _ in played.values()])
    for events in (every, every.iloc[:0]):
        frame = getattr(events.workflow, name)()

        assert [(column, str(dtype)) for column, dtype in frame.dtypes.items()] == [
            (column.name, column.dtype) for column in FRAMES[name]
        ]


@pytest.mark.parametrize("scene", SCENE)
def test_firings_are_those_of_the_frame_of_stages(played, scene):
    """Each run of a stage is found with its end and its status, and its time is all accounted for."""
    events, stages = played[scene]
    pasts = pasts_of(events)
    found = {
        (each.instance.rpartition(":")[0], each.stage, each.status if each.ended else "", each.ended)
        for past in pasts
        for each in [*past.taken_over, *past.firings]
    }
    begun = stages[stages["started"].notna()]
    ended = begun["finished"].dt.as_unit("ms").astype("int64").where(begun["finished"].notna(), 0)

    expected = {
        (row.stage_id, row.ref_id, row.status if at else "", at or None)
        for row, at in zip(begun.itertuples(), ended, strict=True)
    }
    assert found <= expected
    assert {stage for _, stage, *_ in expected - found} == ({"n"} if scene == "forked" else set())  # it is run again
    for past in pasts:
        for each in [*past.taken_over, *past.firings]:
            assert sum(each.total(doing) for doing in Doing) == each.end - each.queued
            assert all(one.end == two.begin for one, two in itertools.pairwise(each.spans))


def test_order_of_rows_does_not_matter(played):
    """Rows of several runs, mixed up and some of them twice, say the same."""
    every = pd.concat([events for events, _ in played.values()])
    mixed = pd.concat([every, every.iloc[::3]]).sample(frac=1, random_state=np.random.default_rng(1))

    for name in FRAMES:
        columns = [column.name for column in FRAMES[name]]
        one, two = (getattr(frame.workflow, name)().sort_values(columns) for frame in (every, mixed))
        pd.testing.assert_frame_equal(one.reset_index(drop=True), two.reset_index(drop=True))


def test_variants_count_the_orders_in_which_stages_ended():
    """Two of three runs went the same way; the third one's branches ended in the other order."""
    frame = pd.concat([events_of_diamond(), events_of_diamond(), events_of_diamond(c_before_b=True)])
    quick = told(flow := workflow(stage("a"), name="quick"), *ran(ids_of(flow)["a"], 0, 0, 1, status=S.TERMINAL))
    variants = pd.concat([frame, quick]).workflow.variants()

    assert variants.drop(columns="example").to_numpy().tolist() == [
        ["diamond", "a → c → b → d", 3, 1.0],
        ["quick", "a (failed)", 1, 1.0],
    ]
    assert variants["example"][0] in set(frame["run_id"])


def test_variants_tell_of_jumps(played):
    """A stage that jumped is in the way with what it did."""
    events, _ = played["loop over activations"]

    (variant,) = events.workflow.variants()["variant"]
    assert variant.count("decide (jumped)") == 2
    assert variant.endswith(("decide", "each"))


def test_durations_have_the_figures_of_each_stage():
    """What a stage was queued, running and waiting is told by median, 95th percentile, longest and sum."""
    durations = pd.concat([events_of_diamond(), events_of_diamond()]).workflow.durations().set_index("stage")

    assert durations.index.tolist() == ["b", "d", "c", "a"]
    assert durations.loc["b", "count"] == 2
    assert durations.loc["b", ["queued_p50", "queued_max", "queued_total"]].tolist() == [
        5 * SECOND,
        5 * SECOND,
        10 * SECOND,
    ]
    assert durations.loc["b", "running_p95"] == 5 * SECOND
    assert durations.loc["b", "waiting_total"] == 0 * SECOND


def test_time_of_a_person_is_no_time_of_work():
    """From the suspension of a stage to the decision it waits; tries and pauses between them are told apart."""
    flow = workflow(stage("gate"))
    (id_,) = ids_of(flow).values()
    events = told(
        flow, (f.StageStarted(id_), 0), (f.TaskStarted(id_, 0, 1), 1), (f.TaskRetried(id_, 0, 1, due=5_000), 3),
        (f.TaskStarted(id_, 0, 2), 6), (f.StageSuspended(id_, 0), 7), (f.SignalDelivered(id_, 0, "go", {}), 100),
        (f.TaskStarted(id_, 0, 3), 101), (f.TaskEnded(id_, 0, S.SUCCEEDED, 3), 105),
        (f.StageEnded(id_, S.SUCCEEDED), 105),
    )  # fmt: skip
    (row,) = events.workflow.durations().itertuples()

    assert (row.queued_total, row.running_total, row.waiting_total) == (5 * SECOND, 7 * SECOND, 93 * SECOND)
    assert [span.failed for span in pasts_of(events)[0].firings[0].spans if span.doing is Doing.RUNNING] == [
        True,
        False,
        False,
    ]


def test_bottlenecks_are_the_critical_path():
    """Of two branches the longer one counts, with what it spent its time on; the shorter one costs nothing."""
    bottlenecks = events_of_diamond().workflow.bottlenecks()

    assert bottlenecks[["stage", "share", "runs"]].to_numpy().tolist() == [
        ["b", 0.5, 1], ["d", 0.3, 1], ["a", 0.2, 1], ["c", 0.0, 0],
    ]  # fmt: skip
    assert bottlenecks.loc[0, ["queued", "running"]].tolist() == [5 * SECOND, 5 * SECOND]
    assert bottlenecks["why"].tolist() == [
        "1 of 1 run waited for it, 50% of the time, 50% of it queued for a worker, a lock or its next try",
        "1 of 1 run waited for it, 30% of the time, all of it at work",
        "1 of 1 run waited for it, 20% of the time, all of it at work",
        "no run waited for it: all it did went on beside something longer",
    ]


@pytest.mark.parametrize("scene", SCENE)
def test_critical_path_goes_back_to_the_beginning(played, scene):
    """Each stage on the path could begin when the one before it had ended, and the first one when the run began."""
    for past in pasts_of(played[scene][0]):
        path = critical_path(past)

        assert all(after.queued >= before.ended for after, before in itertools.pairwise(path))
        assert not path or path[-1].cause is None


def test_fork_counts_what_it_did_itself(played):
    """What a fork has taken over is part of its way; its time counts once, for the run that did it."""
    events, _ = played["forked"]
    fork = max(pasts_of(events), key=lambda past: past.begin)
    both = events.workflow

    assert [firing.stage for firing in fork.firings] == ["n"]
    assert [firing.stage for firing in fork.taken_over] == ["a"]
    assert fork.firings[0].queued == fork.begin
    assert fork.origin in set(events["run_id"]) - {fork.run_id}
    assert both.variants()["variant"].tolist() == ["a → n"]
    assert dict(zip(both.durations()["stage"], both.durations()["count"], strict=True)) == {"a": 1, "n": 2}
    assert f"1 stage taken over from {fork.origin}" in repr(both.timeline())


def test_instances_and_activations_count_as_one_stage(played):
    """Statistics know an activity, not each of its instances, and a stage with all its activations."""
    events, _ = played["instances added, refused and closed"]
    stages = events.workflow.durations().set_index("stage")["count"]
    assert stages["p_instance"] == 2

    events, _ = played["loop over activations"]
    assert not any("#" in stage for stage in events.workflow.durations()["stage"])


def test_frame_without_its_beginning_is_read_as_far_as_it_goes(played):
    """Rows that are left out, first or last ones, raise nothing."""
    events, _ = played["failure, then restart"]

    for cut in range(len(events)):
        for part in (events.iloc[cut:], events.iloc[:cut]):
            assert len(part.workflow.durations()) <= len(events.workflow.durations())
            assert part.workflow.bottlenecks()["share"].between(0, 1.001).all()


# -- what is no frame of events -----------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FRAMES, "timeline", "to_xes", "to_ocel"])
def test_other_frames_are_refused(name, tmp_path):
    """A frame that is none of events is refused with a sentence that says what is missing."""
    frame = pd.DataFrame({"seq": [1]})
    arguments = [tmp_path / "file"] if name.startswith("to_") else []

    with pytest.raises(ConfigError, match=r"no frame of events.*no column run_id.*time.*run\.events"):
        getattr(frame.workflow, name)(*arguments)
    assert not any(tmp_path.iterdir())


def test_accessor_says_what_it_offers(played):
    """Looked at, the accessor names its methods, or says what is missing."""
    said = repr(played["forked"][0].workflow)

    assert re.match(r"analysis of \d+ events of 2 runs: bottlenecks\(\), durations\(\), process_mining\(\), ", said)
    assert repr(pd.DataFrame().workflow).startswith("no frame of events: it has no column run_id, ")


def test_column_of_the_same_name_stays():
    """A frame of somebody else with a column `workflow` has that as its attribute, as ever."""
    frame = pd.DataFrame({"workflow": ["x"]})
    assert frame.workflow.tolist() == ["x"]

    frame["workflow"] = ["y"]
    assert frame.workflow.tolist() == ["y"]

    frame.workflow = ["z"]
    assert frame["workflow"].tolist() == ["z"]
    with pytest.raises(AttributeError, match=r"df\['workflow'\]"):
        pd.DataFrame().workflow = 1


def test_column_workflow_of_events_is_no_hindrance():
    """A frame of events with a column `workflow` has the analysis as attribute, and the column by its name."""
    events = events_of_diamond()

    assert events.workflow.variants()["count"].tolist() == [1]
    assert set(events["workflow"]) == {"diamond"}


def test_first_frame_brings_the_accessor():
    """In a fresh process frames have `workflow` from the first frame of the package on; pandas is not loaded before."""
    code = """
import sys
from stabilize_nb import Engine, Flow
assert "pandas" not in sys.modules
with Engine(":memory:") as engine:
    flow = Flow("f"); flow.stage(lambda: 1, name="a")
    run = engine.start(flow); run.wait(20)
    assert run.events.workflow.variants()["variant"].tolist() == ["a"]
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


# -- files --------------------------------------------------------------------------------------------


def test_files_hold_by_the_rules_of_their_formats(played, tmp_path):
    """The files of everything that can happen, of one run or of many or of none, are valid."""
    every = pd.concat([events for events, _ in played.values()])
    for frame in (every, played["retry"][0], every.iloc[:0]):
        frame.workflow.to_xes(tmp_path / "log.xes")
        frame.workflow.to_ocel(tmp_path / "log.json")

        assert [*faults_of_xes(tmp_path / "log.xes")] == []
        assert [*faults_of_ocel(tmp_path / "log.json")] == []


def test_rules_find_faults(tmp_path):
    """What the validators of these tests are for they find."""
    events = events_of_diamond()
    events.workflow.to_xes(tmp_path / "log.xes")
    events.workflow.to_ocel(tmp_path / "log.json")
    xes, ocel = (tmp_path / "log.xes").read_text(), (tmp_path / "log.json").read_text()
    for right, wrong in (
        ('value="start"', 'value="begin"'),
        ("+00:00", " noon"),
        ('prefix="org"', ""),
        ("concept:name", "c n"),
    ):
        (tmp_path / "bad.xes").write_text(xes.replace(right, wrong))
        assert [*faults_of_xes(tmp_path / "bad.xes")]
    for right, wrong in (
        ('"value":"2"', '"value":"two"'),
        ("+00:00", ""),
        ('"id":"stage:', '"id":"'),
        ('"qualifier"', '"q"'),
    ):
        (tmp_path / "bad.json").write_text(ocel.replace(right, wrong))
        assert [*faults_of_ocel(tmp_path / "bad.json")]


def test_xes_says_what_the_frame_says(played, tmp_path):
    """A trace is a run and an event is a transition, with time, instance and person."""
    events, _ = played["gate"]
    events.workflow.to_xes(tmp_path / "log.xes")
    (trace,) = ET.parse(tmp_path / "log.xes").getroot().iterfind("trace")
    told = [{child.get("key"): child.get("value") for child in event} for event in trace.iterfind("event")]
    mined = events.workflow.process_mining()

    assert [each["lifecycle:transition"] for each in told] == [
        "start", "suspend", "resume", "suspend", "resume", "complete", "start", "complete",
    ]  # fmt: skip
    assert [each["concept:name"] for each in told] == mined["concept:name"].tolist()
    assert [pd.Timestamp(each["time:timestamp"]) for each in told] == mined["time:timestamp"].tolist()
    assert [each.get("org:resource") for each in told if "org:resource" in each] == ["ann"]
    assert mined["org:resource"].dropna().tolist() == ["ann"]
    assert trace.find("string[@key='concept:name']").get("value") == events["run_id"].iloc[0]


def test_ocel_has_what_events_are_about(played, tmp_path):
    """Workflow, stage and task are objects, each event names them, and an object has its statuses in time."""
    events, _ = played["forked"]
    events.workflow.to_ocel(tmp_path / "log.json")
    log = json.loads((tmp_path / "log.json").read_text())
    objects = {each["id"]: each for each in log["objects"]}

    assert [each["type"] for each in log["events"]] == events.sort_values(["run_id", "seq"])["type"].tolist()
    assert sorted(each["type"] for each in objects.values()) == ["stage"] * 4 + ["task"] * 4 + ["workflow"] * 2
    links = [
        (tail["type"], link["qualifier"], objects[link["objectId"]]["type"])
        for tail in objects.values()
        for link in tail["relationships"]
    ]
    assert links.count(("stage", "part of", "workflow")) == links.count(("task", "part of", "stage")) == 4
    assert links.count(("workflow", "forked from", "workflow")) == 1
    about = {len(each["relationships"]) for each in log["events"] if each["type"].startswith("task.")}
    assert about == {3}
    last = {each["type"]: each["attributes"][-1]["value"] for each in objects.values()}
    assert last == {"workflow": "SUCCEEDED", "stage": "SUCCEEDED", "task": "SUCCEEDED"}


def test_files_hold_whatever_names_are_like(tmp_path):
    """Names with markup, quotes, control characters and lone surrogates break neither file nor picture."""
    hostile = "<b> & \" ' ]]> \x00\x0b\x1f\n\t\ufffe\ud800 😀"
    flow = workflow(stage("a"), name="hostile")
    (id_,) = ids_of(flow).values()
    events = told(flow, *ran(id_, 0, 0, 1), (f.WorkflowEnded(S.SUCCEEDED), 1)).assign(run_id=hostile)
    events["stage"] = events["stage"].astype(object).where(events["stage"].isna(), hostile)
    events.workflow.to_xes(tmp_path / "log.xes")
    events.workflow.to_ocel(tmp_path / "log.json")

    assert [*faults_of_xes(tmp_path / "log.xes")] == []
    assert [*faults_of_ocel(tmp_path / "log.json")] == []
    (trace,) = ET.parse(tmp_path / "log.xes").getroot().iterfind("trace")
    kept = "<b> & \" ' ]]> \ufffd\ufffd\ufffd\n\t\ufffd\ufffd 😀"
    assert trace.find("event/string").get("value") == kept
    ET.fromstring(events.workflow.timeline().svg)
