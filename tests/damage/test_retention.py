"""What has ended goes when it is pruned, nothing else does, and its space goes back to the disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from stabilize_nb import Engine, Flow, SubWorkflowTask, TaskResult
from stabilize_nb.checkup import examine
from stabilize_nb.cli.main import main
from stabilize_nb.errors import ConfigError
from stabilize_nb.queue.messages import RestartStage
from stabilize_nb.store.retention import REMEMBERED, Forgetting
from tests.crash.soak import soak
from tests.makers import Bench, chain, stage, workflow

short = Flow("short")
short.stage(name="one")(lambda: "x" * 3_000)
failing = Flow("failing")


@failing.stage
def broken() -> None:
    """Fail."""
    raise ValueError("no")


asking = Flow("asking")
asking.approval("Go on?", name="gate")
DAY = 24 * 3_600_000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine on a file."""
    with Engine(tmp_path / "runs.db", durability="normal") as opened:
        yield opened


def runs_of(engine: Engine) -> set[str]:
    """Return the ids of the runs that are there."""
    return set(engine.runs()["run_id"])


def rows_left(engine: Engine) -> dict[str, int]:
    """Return how many rows each table holds that belongs to runs."""
    tables = (
        "workflow",
        "stage",
        "task",
        "round",
        "arrival",
        "signal",
        "claim",
        "waiter",
        "journal",
        "message",
        "event",
    )
    count = "SELECT count(*) FROM "
    return engine.database.call_read(
        lambda connection: {name: connection.raw.execute(count + name).fetchone()[0] for name in (*tables, "custody")}
    )


def test_newest_runs_are_kept(engine: Engine) -> None:
    """Of seven runs the three that ended last stay; the frame names the four that went, newest first."""
    runs = [engine.start(short) for _ in range(7)]
    for run in runs:
        run.wait(20)
    ended = [header["id"] for header in engine.store.list()]
    told = engine.prune(keep=3, dry_run=True)
    assert len(runs_of(engine)) == 7
    gone = engine.prune(keep=3)

    assert list(gone["run_id"]) == list(told["run_id"])
    assert len(gone) == 4
    assert runs_of(engine) == set(ended) - set(gone["run_id"])
    assert set(gone["status"]) == {"SUCCEEDED"}


def test_runs_are_kept_for_a_time(engine: Engine) -> None:
    """What ended longer ago than that goes; text and timedelta mean the same, and a status chooses among them."""
    old = [engine.start(flow) for flow in (short, failing)]
    for run in old:
        run.wait(20)
    now = engine.database.clock()
    engine.database.clock = lambda: now + 40 * DAY
    young = engine.start(short)
    young.wait(20)

    assert len(engine.prune(keep="50d")) == 0
    assert list(engine.prune(keep=timedelta(days=30), statuses=["terminal"])["run_id"]) == [old[1].id]
    assert list(engine.prune(keep="30d")["run_id"]) == [old[0].id]
    assert runs_of(engine) == {young.id}


def test_nothing_of_a_run_is_left(engine: Engine) -> None:
    """No table holds a row of what went, and the store is healthy."""
    for flow in (short, failing, short):
        engine.start(flow).wait(20)
    engine.processor.stop()
    engine.prune(keep=0)

    assert set(rows_left(engine).values()) == {0}
    assert examine(engine.database.path).is_healthy


def test_what_lives_stays(engine: Engine) -> None:
    """A run that waits, one for which an order is queued, and the child of a living parent stay; others go."""
    waiting = engine.start(asking)
    waiting.until_gate(20)
    ordered, plain = engine.start(short), engine.start(short)
    for run in (ordered, plain):
        run.wait(20)
    engine.processor.stop()
    stage_id = ordered.workflow.stages[0].id
    engine.queue.push(RestartStage(execution_id=ordered.id, stage_id=stage_id), delay=3_600)

    assert list(engine.prune(keep=0)["run_id"]) == [plain.id]
    assert runs_of(engine) == {waiting.id, ordered.id}


def test_child_of_a_living_parent_stays() -> None:
    """A child that has ended stays as long as its parent has not; then both go."""
    child = {"name": "child", "stages": [stage("x", task="noop")]}
    call = stage("call", task="sub", context={"_sub_workflow_config": child})
    with Bench(tasks={"sub": SubWorkflowTask(), "patient": lambda _stage: TaskResult.suspend()}) as bench:
        parent = workflow(call, stage("later", "call", task="patient"))
        bench.run(parent)
        engine = Engine(":memory:")
        assert {header["status"] for header in bench.store.list()} == {"SUCCEEDED", "RUNNING"}
        assert len(engine.prune(keep=0)) == 0
        engine.run(parent.id).cancel()
        engine.run(parent.id).wait(20)
        assert len(engine.prune(keep=0)) == 2
        engine.close()


def test_space_goes_back(engine: Engine) -> None:
    """After four hundred runs and a prune the file is at most a quarter of what it was, and so it stays."""
    for _ in range(4):
        for run in [engine.start(short) for _ in range(100)]:
            run.wait(60)
    engine.processor.stop()
    file = Path(engine.database.path)
    engine.database.shrink(200, 200)
    before = file.stat().st_size
    gone = engine.prune(keep=20)
    after = file.stat().st_size

    print(f"{len(gone)} runs went: {before} bytes before, {after} after")
    assert len(gone) == 380
    assert after <= before / 4
    assert Path(f"{file}-wal").stat().st_size == 0


def test_pruning_holds_nobody_up(engine: Engine) -> None:
    """Runs go on while hundreds are pruned; none of them is lost and none waits long."""
    for run in [engine.start(short) for _ in range(200)]:
        run.wait(60)
    pruning = threading.Thread(target=engine.prune, args=(0,))
    pruning.start()
    waits = []
    while pruning.is_alive() or len(waits) < 5:
        begin = time.monotonic()
        run = engine.start(asking)
        run.until_gate(20)
        waits.append(time.monotonic() - begin)
    pruning.join()

    print(f"{len(waits)} runs began meanwhile; the longest wait was {max(waits):.2f} s")
    assert len(runs_of(engine)) == len(waits)
    assert max(waits) < 5


@pytest.mark.parametrize("keep", [-1, True, 2.5, "soon", "0d", timedelta(0), None])
def test_what_cannot_be_meant_is_refused(keep: object, engine: Engine) -> None:
    """A `keep` that is neither a number of runs nor a time, or a status with which no run ends, is named."""
    with pytest.raises(ConfigError, match="keep="):
        engine.prune(keep)
    with pytest.raises(ConfigError, match="'RUNNING' is none that a run ends with"):
        engine.prune(1, statuses=["RUNNING"])


def test_done_messages_are_forgotten_after_a_day() -> None:
    """Messages that were done a day ago go, window by window; those that are younger or queued stay."""
    with Bench() as bench:
        bench.run(chain(5))
        bench.begin(chain(1))
        now = bench.database.clock()
        count = "SELECT count(*) FROM message"
        before = bench.database.read(lambda connection: connection.raw.execute(count).fetchone()[0])
        assert Forgetting(bench.database).go_on() == 0
        bench.database.clock = lambda: now + REMEMBERED + 60_000
        forgetting = Forgetting(bench.database)
        gone = forgetting.go_on()
        bench.processor.process_all(timeout=20)

        assert gone == before - 1
        assert bench.queue.size() == 0
        assert {header["status"] for header in bench.store.list()} == {"SUCCEEDED"}


def test_prune_as_a_command(engine: Engine) -> None:
    """The command names what goes and says how small the file is then; with --dry-run nothing goes."""
    run = engine.start(short)
    run.wait(20)
    path = engine.database.path
    told = CliRunner().invoke(main, ["prune", path, "--keep", "0", "--dry-run"])
    assert len(runs_of(engine)) == 1
    done = CliRunner().invoke(main, ["prune", path, "--keep", "0"])

    assert "1 runs would go" in told.output
    assert run.id in done.output
    assert "1 runs are gone; runs.db took" in done.output
    assert len(runs_of(engine)) == 0


def test_small_soak(tmp_path: Path) -> None:
    """Over 2,000 stages with retention on descriptors stay the same, and memory and file within bounds."""
    found = soak(tmp_path, 2_000)
    summary = found.summary()

    print(summary)
    first, last = found.rounds[0], found.rounds[-1]
    assert last.descriptors == first.descriptors
    assert last.memory - first.memory < 24 * 2**20
    assert last.file <= 1.2 * first.file
    assert summary["longest"] < 30
