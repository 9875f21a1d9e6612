"""Schedules on a store: who starts what is due, once, and what becomes of them."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from stabilize_nb import Engine, Flow, StageExecution, TaskExecution, Workflow
from stabilize_nb.errors import ConfigError, StabilizeError
from stabilize_nb.models.plan import CatchUp
from stabilize_nb.models.stage import SyntheticStageOwner
from stabilize_nb.store.database import driver_of
from stabilize_nb.store.schedules import fire

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
#: Midnight of a Friday, UTC.
FRIDAY = 1_767_916_800_000
ROOT = Path(__file__).parents[2]


def made() -> Flow:
    """Make a flow that says for which time it was started."""
    flow = Flow("report")

    @flow.stage
    def write(city: str, due: str) -> str:
        return f"{city} {due}"

    return flow


class Clock:
    """Stands still until it is set."""

    def __init__(self, engine: Engine) -> None:
        self.now = FRIDAY
        self.engine = engine
        engine.database.clock = lambda: self.now

    def go_on(self, by: int) -> None:
        self.now += by

    def results(self, count: int) -> list[str]:
        """Wait until there are so many runs and all have ended, and return what they gave, oldest first."""
        while True:
            ticket = self.engine.database.changes.ticket()
            runs = [self.engine.run(header["id"]) for header in self.engine.store.list()]
            if len(runs) >= count:
                break
            assert ticket.wait(20), f"there are {len(runs)} runs"
        assert len(runs) == count
        return sorted(str(run.result(20)) for run in runs)


@pytest.fixture
def clock(engine: Engine) -> Clock:
    return Clock(engine)


def test_run_is_started_whenever_it_is_due(engine: Engine, clock: Clock) -> None:
    """Each day at seven, not before, and the run knows for when; its trigger and its schedule say so too."""
    schedule = engine.schedule(made(), cron="0 7 * * *", timezone="Europe/Berlin", city="Oslo")
    assert schedule.next_due == "2026-01-09T07:00:00+01:00"
    clock.go_on(6 * 60 * MINUTE)
    assert clock.results(1) == ["Oslo 2026-01-09T07:00:00+01:00"]
    clock.go_on(DAY)
    assert clock.results(2)[1] == "Oslo 2026-01-10T07:00:00+01:00"

    newest = engine.store.list()[0]["id"]
    assert engine.store.retrieve(newest).trigger.payload["schedule"] == "report"
    assert schedule.row.last_run == newest
    assert schedule.next_due == "2026-01-11T07:00:00+01:00"


@pytest.mark.parametrize(
    ("catch_up", "missed"),
    [("one", ["01-02"]), ("all", ["12-31", "01-01", "01-02"]), ("skip", [])],
    ids=["one", "all", "skip"],
)
def test_what_was_due_while_nobody_worked(opened: Callable[[], Engine], catch_up: CatchUp, missed: list[str]) -> None:
    """The schedule is in the store: whoever works there next makes up for what was missed, as it says."""
    first = opened()
    before = Clock(first)
    before.now = FRIDAY - 9 * DAY
    first.schedule(made(), "0 7 * * *", catch_up=catch_up, city="Oslo")
    first.close()
    second = opened()
    clock = Clock(second)
    clock.now = FRIDAY - 6 * DAY + 60 * MINUTE
    second.define(made())
    second.work()

    assert [text[10:15] for text in clock.results(len(missed))] == missed
    clock.go_on(6 * 60 * MINUTE)
    assert [text[10:15] for text in clock.results(len(missed) + 1)] == [*missed, "01-03"]


def test_two_stores_at_one_database_start_each_due_time_once(url: str, engine: Engine) -> None:
    """Whoever comes second finds the schedule moved on; a due time that was put back is started once all the same."""
    clock = Clock(engine)
    schedule = engine.schedule(made(), "0 7 * * *", city="Oslo")
    engine.processor.stop()
    due = FRIDAY + 7 * 60 * MINUTE
    with closing(driver_of(url).connect("full")) as other:
        other.begin()
        first = fire(other, due, "other")
        other.commit()
    put_back = {"key": schedule.key, "next_due": due}

    assert len(first) == 1
    assert engine.database.call_write(lambda connection: fire(connection, due, "own")) == []
    engine.database.call_write(lambda connection: connection.run("resume_schedule", put_back))
    assert engine.database.call_write(lambda connection: fire(connection, due, "own")) == []
    assert len(engine.runs()) == 1
    assert clock.now < due


def test_pause_resume_and_delete(engine: Engine, clock: Clock) -> None:
    """A paused schedule starts nothing, and what was due meanwhile is not made up for; a deleted one is gone."""
    engine.schedule(made(), "0 7 * * *", key="nightly", catch_up="all", city="Oslo")
    schedule = engine.scheduled("nightly")
    schedule.pause()
    assert (schedule.is_paused, schedule.next_due) == (True, None)
    clock.go_on(2 * DAY)
    schedule.resume()
    clock.go_on(DAY)
    assert clock.results(1) == ["Oslo 2026-01-11T07:00:00+00:00"]
    schedule.delete()

    assert engine.schedules().empty
    with pytest.raises(ConfigError, match="there is no schedule 'nightly'; there are none"):
        engine.scheduled("nightly")


def test_scheduling_again_replaces_what_is_started(engine: Engine, clock: Clock) -> None:
    """A cell that is run again changes the inputs and keeps what is due next; other times begin anew."""
    first = engine.schedule(made(), "0 7 * * *", city="Oslo")
    clock.go_on(60 * MINUTE)
    engine.schedule(made(), "0 7 * * *", city="Rome")
    again = engine.schedules()
    engine.schedule(made(), "0 6 * * *", city="Rome")

    assert len(again) == 1
    assert again["next_due"][0].isoformat() == "2026-01-09T07:00:00+00:00"
    assert first.next_due == "2026-01-09T06:00:00+00:00"
    clock.go_on(DAY)
    assert clock.results(1) == ["Rome 2026-01-09T06:00:00+00:00"]


def test_frame_of_schedules(engine: Engine, clock: Clock) -> None:
    """One row each, by key, with what the expression says in words."""
    engine.schedule(made(), "0 7 * * 1-5", key="work", timezone="Europe/Berlin", city="Oslo")
    engine.schedule(made(), "*/5 * * * *", catch_up="skip", key="often", city="Oslo").pause()
    frame = engine.schedules().set_index("key")

    assert frame.index.tolist() == ["often", "work"]
    assert frame["says"].tolist() == ["Every fifth minute of every hour", "At 07:00 on Monday through Friday"]
    assert frame["paused"].tolist() == [True, False]
    assert frame["next_due"].notna().tolist() == [False, True]
    assert frame["workflow"].unique().tolist() == ["report"]


def test_workflow_with_synthetic_stages_is_started_with_ids_of_its_own(engine: Engine, clock: Clock) -> None:
    """A Workflow can be scheduled too; each of its runs is another one."""
    parent = StageExecution(ref_id="p", tasks=[TaskExecution.create("p", "noop")])
    before = StageExecution.create_synthetic(
        "before",
        "b",
        parent=parent,
        owner=SyntheticStageOwner.STAGE_BEFORE,
        context={},
        tasks=[TaskExecution.create("b", "noop")],
    )
    engine.schedule(Workflow.create("tests", "plain", [parent, before]), "0 7 * * *", catch_up="all")
    clock.go_on(2 * DAY)
    clock.results(2)
    runs = [engine.store.retrieve(header["id"]) for header in engine.store.list()]

    assert [str(run.status) for run in runs] == ["SUCCEEDED", "SUCCEEDED"]
    assert len({stage.id for run in runs for stage in run.stages}) == 4


def test_schedule_that_cannot_start_is_paused_and_says_why(engine: Engine, clock: Clock) -> None:
    """A row that cannot be read keeps no other schedule from starting; scheduling again mends it."""
    engine.schedule(made(), "0 7 * * *", key="good", city="Oslo")
    engine.schedule(made(), "0 7 * * *", key="broken", city="Rome")
    row = {"catch_up": "one", "cron": "0 7 * * *", "definition": "[]", "next_due": FRIDAY, "timezone": "UTC"}
    engine.database.call_write(lambda connection: connection.run("put_schedule", {"key": "broken", **row}))
    clock.go_on(8 * 60 * MINUTE)
    assert clock.results(1) == ["Oslo 2026-01-09T07:00:00+00:00"]
    frame = engine.database.call_read(lambda connection: connection.one("schedule", {"key": "broken"}))

    assert frame is not None
    assert frame[-1]
    engine.schedule(made(), "0 7 * * *", key="broken", city="Rome")
    assert engine.schedules()["error"].isna().all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"cron": "0 0 31 2 *"}, "cannot be read (Bad day-of-month)"),
        ({"cron": "0 7 * * *", "city": b"x"}, "bytes"),
        ({"cron": "0 7 * * *"}, "needs the input 'city', which was not given"),
    ],
    ids=["never", "bytes", "input"],
)
def test_what_cannot_be_scheduled_is_refused(engine: Engine, words: dict[str, object], said: str) -> None:
    """Before anything is stored, as a start would be."""
    with pytest.raises(StabilizeError) as refused:
        engine.schedule(made(), **words)  # type: ignore[arg-type]

    assert said in str(refused.value)
    assert engine.schedules().empty


FLOW = """
from stabilize_nb import Flow

flow = Flow("beat")

@flow.stage
def beat(due):
    return due
"""


@contextmanager
def workers(url: str, folder: Path, number: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Have processes work at a store, from before what is yielded until after it."""
    command = [str(Path(sys.executable).with_name("stabilize-nb")), "worker", "--db-url", url, "--import", "beats"]
    begun = [
        subprocess.Popen(command, cwd=folder, env={"PYTHONPATH": f"{ROOT}"}, stdout=subprocess.PIPE, text=True)
        for _ in range(number)
    ]
    try:
        for each in begun:
            assert each.stdout is not None
            assert each.stdout.readline().startswith("worker ")
        yield begun
    finally:
        for each in begun:
            each.terminate()
        for each in begun:
            each.communicate(timeout=60)


def test_workers_start_what_nobody_else_does(url: str, opened: Callable[[], Engine], tmp_path: Path) -> None:
    """Each second there is one run, whichever of three processes begins it; two of them have its code."""
    module = tmp_path / "beats.py"
    module.write_text(FLOW)
    author = opened()
    author.schedule(runpy.run_path(str(module))["flow"], "* * * * * *", catch_up="all")
    author.close()
    watcher = opened()
    watcher.work()
    with workers(url, tmp_path, 2):
        while True:
            ticket = watcher.database.changes.ticket()
            if sum(run["ended_at"] is not None for run in watcher.store.list()) >= 3:
                break
            assert ticket.wait(20)
    runs = [watcher.run(header["id"]) for header in watcher.store.list()]
    times = sorted(datetime.fromisoformat(str(run.workflow.context["due"])) for run in runs)

    assert len(set(times)) == len(times)
    assert times[-1] - times[0] == timedelta(seconds=len(times) - 1)
