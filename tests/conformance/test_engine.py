"""What the engine does on a real database, looped over the kinds of it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stabilize_nb import RetryableTask, Task, TaskResult, TransientError, WaitTask
from stabilize_nb.core.draft import Limits
from stabilize_nb.models.stage import JoinType, SplitType
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import CancelStage, SignalStage
from stabilize_nb.queue.processor import QueueProcessor, QueueProcessorConfig
from tests.makers import Bench, asked, chain, refs, stage, workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta
    from pathlib import Path

    from stabilize_nb.models.stage import StageExecution

S = WorkflowStatus
QUICK = Limits(backoff_min=1, backoff_max=2)


@pytest.fixture(params=["memory", "file"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Open benches on one kind of database; all are closed at the end."""
    opened: list[Bench] = []

    def make(**settings: Any) -> Bench:
        url = "sqlite:///:memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/test.db"
        made = Bench(url, **settings)
        made.processor.limits = QUICK
        opened.append(made)
        return made

    yield make
    for each in opened:
        each.close()


def outputs(value: Any) -> Callable[[StageExecution], TaskResult]:
    """Make a task that returns one output, `v`."""
    return lambda _stage: TaskResult.success(outputs={"v": value})


def test_chain_runs_in_order(bench: Callable[..., Bench]) -> None:
    """A chain runs its stages one after the other, each once."""
    seen: list[str] = []
    made = bench(tasks={"note": lambda stage: seen.append(stage.ref_id)})

    done = made.run(chain(20, task="note"))

    assert done.status is S.SUCCEEDED
    assert seen == [f"s{at}" for at in range(20)]
    assert made.queue.size() == 0


def test_branches_overlap_in_the_background(bench: Callable[..., Bench]) -> None:
    """Two branches of a split run at the same time when the processor has workers for both."""
    meeting = threading.Barrier(2, timeout=10)
    made = bench(tasks={"meet": lambda _stage: meeting.wait() and None})
    flow = workflow(stage("a"), stage("b", "a", task="meet"), stage("c", "a", task="meet"), stage("d", "b", "c"))
    made.begin(flow)

    made.processor.start()
    wait_for(lambda: made.store.retrieve(flow.id).status.is_complete)

    assert made.store.retrieve(flow.id).status is S.SUCCEEDED


def wait_for(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    """Wait until something holds; fail when it does not come to hold."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def test_outputs_reach_later_stages(bench: Callable[..., Bench]) -> None:
    """A stage sees the outputs of everything before it, not only of its direct requisites."""
    seen: dict[str, Any] = {}
    made = bench(
        tasks={
            "a": lambda _stage: TaskResult.success(outputs={"x": 1, "l": [1]}),
            "b": lambda _stage: TaskResult.success(outputs={"y": 2, "l": [1, 2]}),
            "look": lambda stage: seen.update(stage.context),
        }
    )

    made.run(
        workflow(stage("s1", task="a"), stage("s2", "s1", task="b"), stage("s3", "s2", task="look"), context={"z": 0})
    )

    assert (seen["x"], seen["y"], seen["z"], seen["l"]) == (1, 2, 0, [1, 2])


def test_context_of_a_body_is_its_own(bench: Callable[..., Bench]) -> None:
    """What a body changes in its context reaches nobody else."""
    seen: list[Any] = []

    def spoil(stage: StageExecution) -> TaskResult:
        stage.context["shared"]["n"] = 99
        seen.append(stage.context["shared"])
        return TaskResult.success()

    made = bench(
        tasks={
            "give": lambda _s: {"shared": {"n": 1}},
            "spoil": spoil,
            "look": lambda s: seen.append(s.context["shared"]),
        }
    )

    made.run(workflow(stage("a", task="give"), stage("b", "a", task="spoil"), stage("c", "b", task="look")))

    assert seen == [{"n": 99}, {"n": 1}]


@pytest.mark.parametrize(
    ("join", "threshold", "runs"),
    [
        (JoinType.AND, 0, 1),
        (JoinType.OR, 0, 1),
        (JoinType.DISCRIMINATOR, 0, 1),
        (JoinType.N_OF_M, 2, 1),
        (JoinType.MULTI_MERGE, 0, 3),
    ],
)
def test_join(bench: Callable[..., Bench], join: JoinType, threshold: int, runs: int) -> None:
    """Each join runs its stage as often as its rule says, and nothing is left in the queue."""
    seen: list[str] = []
    made = bench(tasks={"note": lambda stage: seen.append(stage.ref_id)})
    flow = workflow(
        stage("a"), stage("x", "a"), stage("y", "a"), stage("z", "a"),
        stage("j", "x", "y", "z", task="note", join_type=join, join_threshold=threshold), stage("k", "j", task="note"),
    )  # fmt: skip

    done = made.run(flow)

    assert done.status is S.SUCCEEDED
    assert len(seen) == 2 * runs
    assert len(done.activations("j")) == runs
    assert made.queue.size() == 0


def test_branch_not_taken_is_skipped_to_its_end(bench: Callable[..., Bench]) -> None:
    """A branch whose condition is false is skipped with everything behind it, and the join does not wait for it."""
    made = bench(tasks={"pick": lambda _s: {"x": 2}})
    flow = workflow(
        stage("a", task="pick", split_type=SplitType.OR, split_conditions={"b": "x == 1", "c": "x == 2"}),
        stage("b", "a"), stage("b2", "b"), stage("c", "a"), stage("j", "b2", "c"),
    )  # fmt: skip

    done = made.run(flow)

    assert done.status is S.SUCCEEDED
    assert {ref: each.status.name for ref, each in refs(done).items()} == {
        "a": "SUCCEEDED", "b": "SKIPPED", "b2": "SKIPPED", "c": "SUCCEEDED", "j": "SUCCEEDED",
    }  # fmt: skip


def test_failure_stops_what_needs_it_only(bench: Callable[..., Bench]) -> None:
    """A failed stage fails the workflow; a parallel branch still finishes its stage, the join never starts."""

    def fail(_stage: StageExecution) -> TaskResult:
        return TaskResult.terminal("broken on purpose")

    made = bench(tasks={"fail": fail})

    done = made.run(workflow(stage("a"), stage("b", "a", task="fail"), stage("c", "a"), stage("d", "b", "c")))

    assert done.status is S.TERMINAL
    assert made.statuses(done) == {"a": "SUCCEEDED", "b": "TERMINAL", "c": "SUCCEEDED", "d": "NOT_STARTED"}
    assert "broken on purpose" in str(done.error)


def test_unknown_exception_fails_at_once(bench: Callable[..., Bench]) -> None:
    """An exception that does not promise to go away fails the stage at its first attempt, with its traceback."""
    calls: list[int] = []

    def broken(_stage: StageExecution) -> None:
        calls.append(1)
        msg = "no such thing"
        raise ValueError(msg)

    made = bench(tasks={"broken": broken})

    done = made.run(workflow(stage("a", task="broken")))

    assert len(calls) == 1
    details = done.stages[0].context["exception"]["details"]
    assert details["error"] == "ValueError: no such thing"
    assert "raise ValueError" in details["traceback"]


def test_transient_error_is_tried_again_with_its_context(bench: Callable[..., Bench]) -> None:
    """A transient error is tried again with `context_update` in the context, under one idempotency key."""
    keys: set[str] = set()

    class Flaky(Task):
        def execute(self, stage: StageExecution) -> TaskResult:
            keys.add(stage.idempotency_key)
            done = stage.context.get("done", 0)
            if done < 3:
                message = "busy"
                raise TransientError(message, context_update={"done": done + 1})
            return TaskResult.success(outputs={"tries": done})

    made = bench(tasks={"flaky": Flaky})

    done = made.run(workflow(stage("a", task="flaky")))

    assert done.status is S.SUCCEEDED
    assert done.stages[0].outputs == {"tries": 3}
    assert len(keys) == 1


def test_attempts_are_bounded(bench: Callable[..., Bench]) -> None:
    """A task that fails transiently for ever fails for good after its attempts."""
    calls: list[int] = []

    class Down(Task):
        max_attempts = 4

        def execute(self, _stage: StageExecution) -> TaskResult:
            calls.append(1)
            raise ConnectionError

    made = bench(tasks={"down": Down})

    assert made.run(workflow(stage("a", task="down"))).status is S.TERMINAL
    assert len(calls) == 4


def test_polling_task_is_called_again(bench: Callable[..., Bench]) -> None:
    """A task that returns running is called again after its back-off period, with the context it left."""

    class Poll(RetryableTask):
        def execute(self, stage: StageExecution) -> TaskResult:
            polls = stage.context.get("polls", 0)
            return TaskResult.running({"polls": polls + 1}) if polls < 3 else TaskResult.success({"polls": polls})

        def get_backoff_period(self, stage: StageExecution, elapsed: timedelta) -> timedelta:
            return type(elapsed)(milliseconds=1)

    made = bench(tasks={"poll": Poll})

    assert made.run(workflow(stage("a", task="poll"))).stages[0].outputs == {"polls": 3}


def test_timeout_ends_a_body_that_hangs(bench: Callable[..., Bench]) -> None:
    """A body that does not end in its time fails its stage, and its late result is discarded."""
    release = threading.Event()

    class Hang(Task):
        timeout = 0.1

        def execute(self, _stage: StageExecution) -> TaskResult:
            release.wait(20)
            return TaskResult.success(outputs={"late": True})

    made = bench(tasks={"hang": Hang})
    flow = workflow(stage("a", task="hang"), stage("b"))

    done = made.run(flow)
    release.set()

    assert done.status is S.TERMINAL
    assert "timed out after 0.1 s" in str(refs(done)["a"].error)
    assert refs(done)["b"].status is S.SUCCEEDED
    assert made.store.retrieve(flow.id).stage_by_ref_id("a").outputs == {}


def test_stage_timeout_reaches_a_suspended_stage(bench: Callable[..., Bench]) -> None:
    """A stage that waits longer than its stageTimeoutMs fails."""
    made = bench(tasks={"wait": lambda _s: TaskResult.suspend()})
    flow = workflow(stage("a", task="wait", context={"stageTimeoutMs": 50}))
    made.begin(flow)

    made.processor.start()
    wait_for(lambda: made.store.retrieve(flow.id).status.is_complete)

    assert made.store.retrieve(flow.id).status is S.TERMINAL


def test_coroutines_wait_together(bench: Callable[..., Bench]) -> None:
    """Fifty coroutine bodies wait at the same time on one event loop, whatever the number of workers."""
    together = 50
    inside = 0
    most = 0

    class Sleep(Task):
        async def execute(self, _stage: StageExecution) -> TaskResult:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            while most < together:  # noqa: ASYNC110 - the test is that all get here
                await asyncio.sleep(0.001)
            inside -= 1
            return TaskResult.success()

    made = bench(tasks={"sleep": Sleep})
    flow = workflow(stage("a"), *(stage(f"w{at}", "a", task="sleep") for at in range(together)))

    assert made.run(flow).status is S.SUCCEEDED
    assert most == together


def test_signal_resumes_a_suspended_stage(bench: Callable[..., Bench]) -> None:
    """A suspended stage goes on with the signal's name and data; process_all ends while it waits."""

    def gate(stage: StageExecution) -> TaskResult:
        if stage.context.get("_signal_name") == "go":
            return TaskResult.success(outputs=stage.context["_signal_data"])
        return TaskResult.suspend()

    made = bench(tasks={"gate": gate})
    flow = workflow(stage("a", task="gate"), stage("b", "a"))
    waiting = made.run(flow).stages[0]
    assert waiting.status is S.SUSPENDED

    made.queue.push(SignalStage(execution_id=flow.id, stage_id=waiting.id, signal_name="go", signal_data={"n": 7}))
    made.processor.process_all()

    done = made.store.retrieve(flow.id)
    assert (done.status, done.stages[0].outputs) == (S.SUCCEEDED, {"n": 7})


def test_persistent_signal_waits_for_its_stage(bench: Callable[..., Bench]) -> None:
    """A persistent signal that comes first is kept, a transient one is lost."""

    def gate(stage: StageExecution) -> TaskResult:
        return TaskResult.success() if stage.context.get("_signal_name") else TaskResult.suspend()

    made = bench(tasks={"gate": gate})
    early, lost = workflow(stage("a", task="gate")), workflow(stage("a", task="gate"))
    for flow, persistent in ((early, True), (lost, False)):
        made.store.store(flow)
        signal = SignalStage(execution_id=flow.id, stage_id=flow.stages[0].id, signal_name="x", persistent=persistent)
        made.queue.push(signal)
        made.orchestrator.start(flow)

    made.processor.process_all()

    assert made.store.retrieve(early.id).status is S.SUCCEEDED
    assert made.store.retrieve(lost.id).stages[0].status is S.SUSPENDED


def test_jump_back_repeats_the_region(bench: Callable[..., Bench]) -> None:
    """A jump back runs the target and what follows it again, with the jump's context, and counts."""
    seen: list[tuple[str, Any]] = []

    def note(stage: StageExecution) -> None:
        seen.append((stage.ref_id, stage.context.get("feedback")))

    def route(stage: StageExecution) -> TaskResult:
        if stage.context.get("_jump_count", 0) or len(seen) > 3:
            return TaskResult.success()
        return TaskResult.jump_to("plan", context={"feedback": "tighter"})

    made = bench(tasks={"note": note, "route": route})
    flow = workflow(
        stage("plan", task="note"), stage("work", "plan", task="note"), stage("route", "work", task="route")
    )

    done = made.run(flow)

    assert done.status is S.SUCCEEDED
    assert [ref for ref, _ in seen] == ["plan", "work", "plan", "work"]
    assert seen[2] == ("plan", "tighter")
    assert done.stage_by_ref_id("plan").context["_jump_count"] == 1


def test_jump_limit_names_itself(bench: Callable[..., Bench]) -> None:
    """The jump beyond the limit fails its stage with the documented text."""
    made = bench(tasks={"again": lambda _s: TaskResult.jump_to("a")})

    done = made.run(workflow(stage("a", task="again"), context={"_max_jumps": 3}))

    assert done.status is S.TERMINAL
    assert done.stages[0].context["jump_error"] == "Max jump count exceeded: 4/3"


def test_cancel_withdraws_and_cleans_up(bench: Callable[..., Bench]) -> None:
    """Cancelling a workflow cancels every stage that is not complete and calls on_cancel of those that had begun."""
    cleaned: list[str] = []

    class Gate(Task):
        def execute(self, _stage: StageExecution) -> TaskResult:
            return TaskResult.suspend()

        def on_cancel(self, stage: StageExecution) -> None:
            cleaned.append(stage.ref_id)

    made = bench(tasks={"gate": Gate})
    flow = workflow(stage("a", task="gate"), stage("b", "a"))
    made.run(flow)

    made.orchestrator.cancel(flow, user="ann", reason="no longer needed")
    made.processor.process_all()

    assert made.store.retrieve(flow.id).status is S.CANCELED
    assert made.statuses(flow) == {"a": "CANCELED", "b": "CANCELED"}
    assert cleaned == ["a"]


def test_cancel_reaches_a_running_body(bench: Callable[..., Bench]) -> None:
    """A body at work sees that its stage was cancelled, and what it returns changes nothing."""
    begun = threading.Event()

    def work(stage: StageExecution) -> TaskResult:
        begun.set()
        wait_for(lambda: stage.cancelled)
        return TaskResult.success(outputs={"late": True})

    made = bench(tasks={"work": work})
    flow = workflow(stage("a", task="work"))
    made.begin(flow)
    made.processor.start()
    assert begun.wait(10)

    made.queue.push(CancelStage(execution_id=flow.id, stage_id=flow.stages[0].id))
    wait_for(lambda: made.store.retrieve(flow.id).status.is_complete)
    made.processor.stop()

    done = made.store.retrieve(flow.id)
    assert (done.status, done.stages[0].status, done.stages[0].outputs) == (S.CANCELED, S.CANCELED, {})


def test_pause_begins_nothing_and_resume_goes_on(bench: Callable[..., Bench]) -> None:
    """While a workflow is paused no task begins; afterwards it goes on where it was."""
    begun, release = threading.Event(), threading.Event()

    def hold(_stage: StageExecution) -> None:
        begun.set()
        release.wait(10)

    made = bench(tasks={"hold": hold})
    flow = workflow(stage("a", task="hold"), stage("b", "a"))
    made.begin(flow)
    made.processor.start()
    assert begun.wait(10)
    made.store.pause(flow.id)
    wait_for(lambda: made.store.retrieve(flow.id).status is S.PAUSED)
    release.set()
    wait_for(lambda: made.statuses(flow)["b"] == "PAUSED")

    made.store.resume(flow.id)
    wait_for(lambda: made.store.retrieve(flow.id).status.is_complete)

    assert made.store.retrieve(flow.id).status is S.SUCCEEDED


def test_restart_repeats_a_failed_stage(bench: Callable[..., Bench]) -> None:
    """Restarting the failed stage of an ended workflow runs it and what follows, and nothing before it."""
    seen: list[str] = []

    def work(stage: StageExecution) -> TaskResult:
        seen.append(stage.ref_id)
        return (
            TaskResult.terminal("first time") if seen.count("b") == 1 and stage.ref_id == "b" else TaskResult.success()
        )

    made = bench(tasks={"work": work})
    flow = workflow(*(stage(ref, *after, task="work") for ref, after in (("a", ()), ("b", ("a",)), ("c", ("b",)))))
    assert made.run(flow).status is S.TERMINAL

    made.orchestrator.restart(flow, "b")
    made.processor.process_all()

    assert made.store.retrieve(flow.id).status is S.SUCCEEDED
    assert seen == ["a", "b", "b", "c"]


def test_wait_task_holds_no_worker(bench: Callable[..., Bench]) -> None:
    """A wait is a timer: other work goes on, and it is never early."""
    made = bench(tasks={"wait": WaitTask})
    begun = time.monotonic()

    done = made.run(workflow(stage("a", task="wait", context={"waitTime": 0.2}), stage("b")))

    assert done.status is S.SUCCEEDED
    assert time.monotonic() - begun >= 0.2


def test_durable_step_is_not_repeated(bench: Callable[..., Bench]) -> None:
    """A step whose result is committed is not called again when the body is run again."""
    calls: list[str] = []

    class Agent(Task):
        def execute(self, stage: StageExecution) -> TaskResult:
            first = stage.step("model", lambda: calls.append("first") or {"answer": len(calls)})
            again = stage.step("model", lambda: calls.append("second") or "other")
            if len(calls) == 2 and not stage.context.get("tried"):
                message = "lost the connection"
                raise TransientError(message, context_update={"tried": True})
            return TaskResult.success(outputs={"first": first, "again": again})

    made = bench(tasks={"agent": Agent})

    done = made.run(workflow(stage("a", task="agent")))

    assert calls == ["first", "second"]
    assert done.stages[0].outputs == {"first": {"answer": 1}, "again": "other"}


def test_task_nobody_registered_waits_and_goes_on(bench: Callable[..., Bench]) -> None:
    """A run whose task name becomes known only later waits without failing and goes on by itself."""
    made = bench()
    flow = workflow(stage("a", task="later"))
    made.database.registries.clear()  # as if another process had submitted it
    made.begin(flow)

    made.processor.process_all(timeout=2)
    assert made.store.retrieve(flow.id).status is S.RUNNING
    made.registry.register("later", outputs(1))
    made.processor.process_all()

    assert made.store.retrieve(flow.id).status is S.SUCCEEDED


def test_process_one_takes_one_message(bench: Callable[..., Bench]) -> None:
    """process_one takes one message with the body it leads to, and says whether there was one."""
    made = bench()
    made.begin(chain(2))

    steps = 0
    while made.processor.process_one():
        steps += 1
        assert steps < 10

    assert steps >= 2
    assert made.queue.size() == 0


def test_delete_leaves_no_row(bench: Callable[..., Bench]) -> None:
    """Deleting a workflow removes its rows from every table."""
    made = bench(tasks={"step": lambda stage: stage.step("x", lambda: 1) and None})
    flow = workflow(stage("a", task="step"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c"))
    made.run(flow)

    made.store.delete(flow.id)

    tables = ("workflow", "stage", "task", "round", "arrival", "signal", "journal", "message", "event")
    counts = {table: made.sql(f"SELECT count(*) FROM {table}")[0][0] for table in tables}
    assert counts == dict.fromkeys(tables, 0)


def test_poisoned_message_is_buried_with_its_cause(bench: Callable[..., Bench]) -> None:
    """A row that is no message of ours goes to the dead letters and its neighbours go on."""
    made = bench()
    flow = chain(3)
    made.begin(flow)
    made.database.write(
        lambda c: asked(
            c,
            "INSERT INTO message (id, workflow_id, kind, payload, counts, timer, due_at)"
            " VALUES ('x', ?, 'Nonsense', '{}', 0, 0, 0)",
            flow.id,
        )
    )

    made.processor.process_all()

    assert made.store.retrieve(flow.id).status is S.SUCCEEDED
    (letter,) = made.queue.dead_letters()
    assert "Nonsense" in letter["error"]


def test_two_processors_share_the_work(bench: Callable[..., Bench]) -> None:
    """Two processors on one database run every body once."""
    seen: list[str] = []
    made = bench(tasks={"note": lambda stage: seen.append(stage.id)}, config=QueueProcessorConfig(max_workers=3))
    other = QueueProcessor(made.queue, QueueProcessorConfig(max_workers=3), made.store, made.registry)
    flows = [workflow(*(stage(f"s{at}", task="note") for at in range(10))) for _ in range(5)]
    made.begin(*flows)

    made.processor.start()
    other.start()
    wait_for(lambda: not made.store.unfinished())
    other.close()

    assert len(seen) == len(set(seen)) == 50


def test_engine_may_close_while_a_body_is_at_work(bench: Callable[..., Bench]) -> None:
    """A body that is at work when its engine closes is committed by the thread it runs in."""
    begun, release = threading.Event(), threading.Event()

    def hold(_stage: StageExecution) -> None:
        begun.set()
        release.wait(10)

    made = bench(tasks={"hold": hold})
    flow = workflow(stage("a", task="hold"), stage("b", "a"))
    made.begin(flow)
    made.processor.start()
    assert begun.wait(10)
    made.database.retain()

    made.processor.close(timeout=0.05)
    made.database.close()
    release.set()
    wait_for(lambda: made.statuses(flow)["a"] == "SUCCEEDED")

    assert made.statuses(flow)["b"] == "RUNNING"
    wait_for(lambda: made.database._users == 1)  # the threads of the processor have given it back


def test_numbers_of_numpy_become_plain(bench: Callable[..., Bench]) -> None:
    """What numpy and pandas compute may be returned as it is."""
    made = bench(tasks={"give": lambda _s: {"f": np.float64(1.5), "i": np.int32(2), "b": np.bool_(True)}})

    done = made.run(workflow(stage("a", task="give")))

    assert done.stages[0].outputs == {"f": 1.5, "i": 2, "b": True}
    assert [type(value) for value in done.stages[0].outputs.values()] == [float, int, bool]
