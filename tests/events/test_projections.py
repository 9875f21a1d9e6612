from datetime import UTC, datetime, timedelta

import pytest

from stabilize_nb.core import facts as f
from stabilize_nb.events import (
    EventType,
    StageMetricsProjection,
    WorkflowTimelineProjection,
    get_event_bus,
)
from stabilize_nb.events.bus import make_event
from stabilize_nb.events.log import EventLog
from stabilize_nb.events.projections import UNKNOWN, StageMetrics
from stabilize_nb.models.status import WorkflowStatus as S
from stabilize_nb.store.store import define
from tests.events.scenes import SCENES, play, tasks
from tests.makers import Bench, stage, workflow

SCENE = {scene.name: scene for scene in SCENES}


def events_of(flow, *facts):
    """Return events of facts, one a second, after the creation of a workflow."""
    return [
        make_event(f.event_type(fact), flow.id, at, at * 1_000, getattr(fact, "stage", None), f.to_data(fact))
        for at, fact in enumerate([f.WorkflowCreated(define(flow)), *facts], start=1)
    ]


def applied(events):
    metrics = StageMetricsProjection()
    for event in events:
        metrics.apply(event)
    return metrics.get_state()


def metrics_of(scene):
    with Bench(tasks=tasks()) as bench:
        play(SCENE[scene], bench)
        return applied(EventLog(bench.database))


def test_success_rate_is_in_percent():
    """Two successes and one failure of a type are 66.7 percent; types are counted apart."""
    flow = workflow(*(stage(name, task="shell") for name in "abc"), stage("d", task="http"))
    a, b, c, d = (each.id for each in flow.stages)
    state = applied(
        events_of(
            flow,
            *(f.StageStarted(each) for each in (a, b, c, d)),
            f.StageEnded(a, S.SUCCEEDED),
            f.StageEnded(b, S.SUCCEEDED),
            f.StageEnded(c, S.TERMINAL, error="no"),
        )
    )

    assert state["shell"].success_rate == pytest.approx(200 / 3)
    assert (state["shell"].succeeded, state["shell"].failed, state["shell"].executions) == (2, 1, 3)
    assert (state["http"].success_rate, state["http"].executions) == (0.0, 1)


def test_durations_are_from_start_to_end():
    """Mean, shortest and longest are of the runs that succeeded or failed."""
    flow = workflow(stage("a", task="x"), stage("b", task="x"), stage("c", task="x"))
    a, b, c = (each.id for each in flow.stages)
    state = applied(
        events_of(
            flow, f.StageStarted(a), f.StageStarted(b), f.StageStarted(c), f.StageEnded(a, S.SUCCEEDED),
            f.StageEnded(c, S.CANCELED), f.StageEnded(b, S.TERMINAL),
        )
    )["x"]  # fmt: skip

    assert (state.shortest, state.longest) == (timedelta(seconds=3), timedelta(seconds=4))
    assert state.mean_duration == timedelta(seconds=3.5)
    assert state.canceled == 1


def test_nothing_ended_has_no_mean():
    """Without a finished run there is no mean duration and the rate is 0."""
    assert (StageMetrics().mean_duration, StageMetrics().success_rate) == (None, 0.0)


def test_retries_are_not_runs():
    """A stage whose task was tried twice ran once and succeeded."""
    state = metrics_of("retry")

    assert (state["once"].executions, state["once"].succeeded, state["once"].retries) == (1, 1, 1)
    assert state["once"].success_rate == 100.0


def test_tolerated_failures_are_failures():
    """A stage that failed and let the workflow go on has failed."""
    state = metrics_of("diamond with a tolerated failure")

    assert (state["fail"].failed, state["fail"].success_rate) == (1, 0.0)


def test_each_run_of_a_loop_counts():
    """A stage that was reset and run again has another run, further activations too."""
    state = metrics_of("loop over activations")

    assert state["give"].executions == state["give"].succeeded == 15
    assert state["loop"].executions == 3


def test_stages_that_never_ran_are_counted_apart():
    """A skipped stage is neither a success nor a failure, nor is a withdrawn one."""
    assert (metrics_of("branch not taken")["give"].skipped, metrics_of("cancel")["give"].canceled) == (1, 1)


def test_events_count_once():
    """Applying the log after having listened changes nothing."""
    metrics = StageMetricsProjection()
    get_event_bus().subscribe("metrics", metrics.apply)
    with Bench(tasks=tasks()) as bench:
        play(SCENE["one stage"], bench)
        bench.database.flush()
        live = metrics.get_state()
        for event in EventLog(bench.database):
            metrics.apply(event)

    assert metrics.get_state() == live
    assert live["give"].succeeded == 1


def test_listening_late_knows_the_types():
    """A projection subscribed after the workflow was stored finds the types of its stages in the log."""
    metrics = StageMetricsProjection()
    with Bench(tasks=tasks()) as bench:
        bench.begin(workflow(stage("a", task="give")))
        get_event_bus().subscribe("metrics", metrics.apply)
        bench.processor.process_all(timeout=20)

    assert set(metrics.get_state()) == {"give"}


def test_types_that_nobody_knows_are_unknown():
    """Events of a workflow that no open store holds are counted as unknown."""
    flow = workflow(stage("a", task="x"))

    assert set(applied(events_of(flow, f.StageStarted(flow.stages[0].id))[1:])) == {UNKNOWN}


def test_states_are_values():
    """A state that was taken does not change with later events."""
    metrics = StageMetricsProjection()
    flow = workflow(stage("a", task="x"))
    here = flow.stages[0].id
    *before, last = events_of(flow, f.StageStarted(here), f.StageEnded(here, S.SUCCEEDED))
    for event in before:
        metrics.apply(event)
    state = metrics.get_state()
    metrics.apply(last)

    assert state["x"].succeeded == 0


def test_timeline_has_what_happened_in_order():
    """A timeline has one entry an event, with the name and the status of what it is about."""
    with Bench(tasks=tasks()) as bench:
        flow = play(SCENE["one stage"], bench)
        timeline = WorkflowTimelineProjection(flow.id)
        for event in EventLog(bench.database):
            timeline.apply(event)
        state = timeline.get_state()

        assert [(entry.event_type.value, entry.name, entry.task, entry.status) for entry in state.entries] == [
            ("workflow.created", "test", None, "NOT_STARTED"),
            ("workflow.started", "test", None, "RUNNING"),
            ("stage.started", "a", None, "RUNNING"),
            ("task.started", "a", "a", "RUNNING"),
            ("task.completed", "a", "a", "SUCCEEDED"),
            ("stage.completed", "a", None, "SUCCEEDED"),
            ("workflow.completed", "test", None, "SUCCEEDED"),
        ]
        done = bench.store.retrieve(flow.id)
        assert state.duration == timedelta(milliseconds=done.end_time - done.start_time)


def test_timeline_is_of_one_workflow():
    """Events of other workflows and events applied before are left out."""
    one, other = workflow(stage("a")), workflow(stage("b"))
    timeline = WorkflowTimelineProjection(one.id)
    for event in [*events_of(one), *events_of(other), *events_of(one)]:
        timeline.apply(event)

    assert [entry.entity_id for entry in timeline.get_state().entries] == [one.id]


def test_timeline_of_a_restarted_workflow_goes_on():
    """A restart takes the end away until the workflow ends again; errors stand at what failed."""
    flow = workflow(stage("a"))
    here = flow.stages[0].id
    timeline = WorkflowTimelineProjection(flow.id)
    events = events_of(
        flow, f.WorkflowStarted(), f.StageStarted(here), f.StageEnded(here, S.TERMINAL, error="no"),
        f.WorkflowEnded(S.TERMINAL), f.WorkflowRestarted(),
    )  # fmt: skip
    for event in events[:-1]:
        timeline.apply(event)
    ended = timeline.get_state()
    timeline.apply(events[-1])

    assert ended.ended == datetime.fromtimestamp(5, UTC)
    assert ended.entries[3].error == "no"
    assert (timeline.get_state().ended, timeline.get_state().duration) == (None, None)
    assert timeline.get_state().entries[-1].event_type is EventType.WORKFLOW_RESTARTED
