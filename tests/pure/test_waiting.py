"""Retries, polls, signals, timeouts, pauses, and results that come too late."""

from itertools import permutations

import pytest
from shell import EPOCH, Answer, Body, Order, Script, Shell, done, retry, running, stage, suspend, until_signalled
from shell import workflow as workflow_of

from stabilize_nb.core import facts as f
from stabilize_nb.core.draft import Limits
from stabilize_nb.handlers.task_finished import backoff
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue import messages as m

S = WorkflowStatus


def chain(answer: Answer | list[Answer], **fields) -> Shell:
    """Make a workflow a → b whose a gives these answers."""
    return Shell(workflow_of(stage("a", **fields), stage("b", "a")), Script(a=answer))


def begun(shell: Shell) -> Shell:
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    return shell.drain(until=shell.now)


def starts(shell: Shell, ref_id: str) -> list[int]:
    """Return the times, from the beginning in ms, at which bodies of a stage were begun."""
    stage_id = shell.row(ref_id).id
    return [at - EPOCH for at, fact in shell.log if isinstance(fact, f.TaskStarted) and fact.stage == stage_id]


# Retries.


def test_transient_failure_is_tried_again_after_a_back_off():
    """The waits double from about a second, and the stage succeeds when the body does."""
    shell = chain([retry(), retry(), retry(), done()]).start()

    first, second, third = (
        later - sooner for sooner, later in zip(starts(shell, "a"), starts(shell, "a")[1:], strict=False)
    )
    assert 750 <= first <= 1_250
    assert 1_500 <= second <= 2_500
    assert 3_000 <= third <= 5_000
    assert shell.statuses == {"a": "SUCCEEDED", "b": "SUCCEEDED"}
    assert shell.task("a").retries == 3


def test_retry_waits_at_least_as_long_as_the_error_says():
    """`retry_after` is a lower bound of the wait."""
    shell = chain([retry(after=30_000), done()]).start()

    assert starts(shell, "a")[1] >= 30_000


def test_retry_ends_in_failure_when_the_attempts_are_used_up():
    """The last attempt fails the stage with the last error, which the context shows."""
    answer = retry("down", max_attempts=3, details={"transient": True})
    shell = chain(answer).start()

    assert shell.runs() == ["a", "a", "a"]
    assert shell.statuses == {"a": "TERMINAL", "b": "NOT_STARTED"}
    assert shell.row("a").error == "down"
    assert shell.row("a").context["error"] == "down"
    assert shell.row("a").context["exception"] == {"details": {"transient": True}}
    assert "down" in shell.head.error


def test_context_update_reaches_the_next_attempt():
    """What a transient error puts into the context is there when the body runs again."""
    answers = [retry(context={"page": 2}), lambda body: done(page=body.context["page"])]
    shell = chain(answers).start()

    assert shell.row("a").outputs == {"page": 2}


def test_back_off_is_bounded_and_the_same_for_the_same_attempt():
    """Waits never exceed the bound by more than the jitter, and deciding again gives the same wait."""
    shell = begun(chain(running()))
    tasks = [shell.task("a")._replace(retries=retries, attempt=retries) for retries in range(60)]
    waits = [backoff(Limits(), task) for task in tasks]

    assert max(waits) <= 75_000
    assert waits == [backoff(Limits(), task) for task in tasks]
    assert len(set(waits[10:])) > 40


# Polls.


def test_running_body_is_called_again_after_its_wait():
    """A body that returns running is polled at the interval it asks for, never early, and keeps its context."""
    answers = [running(1_000, seen=1), running(2_000, seen=2), lambda body: done(seen=body.context["seen"])]
    shell = chain(answers).start()

    assert starts(shell, "a") == [0, 1_000, 3_000]
    assert shell.row("a").outputs == {"seen": 2}
    assert shell.task("a").polls == 2


def test_polling_stage_is_withdrawn_when_the_workflow_fails():
    """Nobody waits for the next poll of a stage whose workflow has failed."""
    made = workflow_of(stage("a"), stage("b"))
    shell = begun(Shell(made, Script(a=running(10**9), b=retry(max_attempts=2))))

    shell.drain(until=shell.now + 5_000)

    assert shell.statuses == {"a": "CANCELED", "b": "TERMINAL"}
    assert shell.status is S.TERMINAL
    assert [body.stage.ref_id for body in shell.cleanups] == ["a"]


@pytest.mark.parametrize("answer", [running(), suspend()], ids=["running", "suspend"])
def test_body_that_wants_to_wait_in_a_failed_workflow_is_withdrawn(answer: m.Outcome):
    """A stage that was at work when the workflow failed may end, but not wait."""
    made = workflow_of(stage("a"), stage("b"), stage("c"))
    shell = Shell(made)
    shell.push(m.StartWorkflow(execution_id=made.id))
    waiting, ending, failing = (shell.begin(ref) for ref in "abc")

    shell.finish(failing, done(S.TERMINAL))
    shell.finish(waiting, answer)
    shell.finish(ending, done())

    assert shell.statuses == {"a": "CANCELED", "b": "SUCCEEDED", "c": "TERMINAL"}
    assert shell.status is S.TERMINAL


# Signals.


def test_suspended_stage_resumes_with_the_signal():
    """The body runs again and sees the name and the data of the signal, for that attempt only."""
    shell = begun(chain(until_signalled()))
    assert shell.statuses["a"] == "SUSPENDED"
    assert shell.status is S.RUNNING

    shell.send(m.SignalStage, "a", signal_name="go", signal_data={"n": 1})

    assert shell.row("a").outputs == {"signal": "go", "data": {"n": 1}}
    assert shell.status is S.SUCCEEDED
    assert "_signal_name" not in shell.inputs("b").context
    assert "_signal_name" not in shell.row("a").context


def test_second_suspension_does_not_see_the_first_signal():
    """A signal belongs to the attempt that it resumed."""
    seen = []

    def body(current: Body) -> m.Outcome:
        seen.append(current.context.get("_signal_name"))
        return suspend() if len(seen) < 3 else done()

    shell = begun(chain(body))
    shell.send(m.SignalStage, "a", signal_name="one")
    shell.send(m.SignalStage, "a", signal_name="two")

    assert seen == [None, "one", "two"]
    assert shell.status is S.SUCCEEDED


def test_signal_is_seen_again_when_its_attempt_is_retried():
    """A transient failure of the attempt that a signal resumed does not lose the signal."""

    def body(current: Body) -> m.Outcome:
        if "_signal_name" not in current.context:
            return suspend()
        return retry() if current.task.retries == 0 else done(signal=current.context["_signal_name"])

    shell = begun(chain(body)).send(m.SignalStage, "a", signal_name="go").drain()

    assert shell.row("a").outputs == {"signal": "go"}


@pytest.mark.parametrize("persistent", [True, False], ids=["persistent", "transient"])
@pytest.mark.parametrize("when", ["before start", "while running", "suspended", "after end"])
def test_signal_at_every_moment(when: str, persistent: bool):
    """A persistent signal is kept until its stage suspends, a transient one is for whoever waits now."""
    shell = chain(until_signalled())
    signal = m.SignalStage(execution_id=shell.made.id, stage_id="id-a", signal_name="go", persistent=persistent)
    if when == "before start":
        shell.push(signal).drain(until=shell.now)
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    if when == "while running":
        shell.begin("a")
        shell.at_once(signal)
    shell.drain(until=shell.now)
    if when in ("suspended", "after end"):
        shell.push(signal).drain(until=shell.now)
    if when == "after end":
        shell.push(signal).drain(until=shell.now)

    arrives = persistent or when in ("suspended", "after end")
    assert shell.statuses["a"] == ("SUCCEEDED" if arrives else "SUSPENDED")
    assert len(shell.facts(f.SignalDelivered)) == arrives
    assert len(shell.facts(f.SignalDropped)) == (when == "after end" or not arrives)


@pytest.mark.parametrize("order", list(permutations(["one", "two", "three"])), ids="-".join)
def test_buffered_signals_are_used_one_by_one_oldest_first(order: tuple[str, ...]):
    """Three suspensions take three kept signals in the order in which these were sent."""
    seen = []

    def body(current: Body) -> m.Outcome:
        seen.append(current.context.get("_signal_name"))
        return suspend() if len(seen) <= 3 else done()

    shell = chain(body)
    for name in order:
        shell.push(m.SignalStage(execution_id=shell.made.id, stage_id="id-a", signal_name=name, persistent=True))
    begun(shell.drain(until=shell.now))

    assert seen == [None, *order]
    assert shell.status is S.SUCCEEDED
    assert not shell.facts(f.SignalDropped)


def test_signal_that_nobody_took_is_dropped_at_the_end():
    """A kept signal does not outlive its workflow, and the log says that it was dropped."""
    shell = chain(done())
    shell.push(m.SignalStage(execution_id=shell.made.id, stage_id="id-b", signal_name="go", persistent=True))
    shell.drain(until=shell.now)
    begun(shell)

    (dropped,) = shell.facts(f.SignalDropped)
    assert (dropped.stage, dropped.name) == ("id-b", "go")
    assert not [row for row in shell.rows.values() if type(row).__name__ == "SignalRow"]


def test_signal_of_an_unknown_stage_changes_nothing():
    """A signal for a stage that the workflow does not have leaves no trace."""
    shell = begun(chain(until_signalled()))
    before = len(shell.log)

    shell.push(m.SignalStage(execution_id=shell.made.id, stage_id="nobody", persistent=True))
    shell.drain(until=shell.now)

    assert len(shell.log) == before


# Timeouts.


@pytest.mark.parametrize("answer", [running(10**6), suspend(), retry(after=10**6)], ids=lambda a: a.kind.name)
def test_stage_that_takes_too_long_fails_whatever_it_does(answer: m.Outcome):
    """`stageTimeoutMs` ends a polling, a suspended and a retrying stage, never early."""
    shell = begun(chain(answer, context={"stageTimeoutMs": 5_000}))
    shell.drain(until=EPOCH + 4_999)
    assert shell.status is S.RUNNING

    shell.drain(until=EPOCH + 5_000)

    assert shell.statuses == {"a": "TERMINAL", "b": "NOT_STARTED"}
    assert shell.row("a").error == "stage 'a' timed out after 5000 ms"
    assert shell.status is S.TERMINAL


def test_result_of_a_body_that_timed_out_is_discarded():
    """The body may end when it likes: its stage has failed, and the log says so."""
    shell = chain(done(), context={"stageTimeoutMs": 5_000})
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    body = shell.begin("a")
    shell.now += 5_000
    shell.at_once(m.TimeoutStage(execution_id=shell.made.id, stage_id="id-a", generation=0))

    (fact,) = shell.finish(body, done(late=1))

    assert fact == f.ResultDiscarded("id-a", 0, 1, "the stage is TERMINAL")
    assert shell.row("a").outputs == {}


def test_timer_of_a_stage_that_ended_in_time_does_nothing():
    """The timer of a finished stage is not waited for and changes nothing when it comes."""
    shell = begun(chain(done(), context={"stageTimeoutMs": 5_000}))
    assert shell.status is S.SUCCEEDED
    before = len(shell.log)

    shell.drain()

    assert shell.now == EPOCH + 5_000
    assert len(shell.log) == before


def test_timeout_can_be_tolerated():
    """A stage that timed out fails as its context says failure is to be taken."""
    context = {"stageTimeoutMs": 5_000, "continuePipelineOnFailure": True}
    shell = chain(suspend(), context=context).start()

    assert shell.statuses == {"a": "FAILED_CONTINUE", "b": "SUCCEEDED"}


@pytest.mark.parametrize("limit", ["5 s", [], True, {"ms": 1}])
def test_timeout_that_is_no_number_fails_its_stage_with_a_sentence(limit: object):
    """Nonsense in `stageTimeoutMs` neither stops the engine nor passes silently."""
    shell = chain(done(), context={"stageTimeoutMs": limit}).start()

    assert shell.status is S.TERMINAL
    assert "a number of ms is expected" in shell.row("a").error


@pytest.mark.parametrize("limit", [2**62, 1e300, None])
def test_timeout_beyond_all_time_never_comes(limit: float | None):
    """A limit that no clock reaches sets no timer."""
    shell = begun(chain(done(), context={"stageTimeoutMs": limit}))

    assert shell.status is S.SUCCEEDED
    assert not shell.queue


# Pause and resume.


def test_paused_workflow_begins_no_task_and_loses_none():
    """A body that runs ends as usual, what follows waits, and resuming starts it."""
    shell = chain(done())
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    body = shell.begin("a")
    shell.at_once(m.PauseWorkflow(execution_id=shell.made.id))

    shell.finish(body, done())
    shell.drain()
    assert shell.status is S.PAUSED
    assert shell.statuses == {"a": "SUCCEEDED", "b": "PAUSED"}

    shell.send(m.ResumeWorkflow)
    assert shell.status is S.SUCCEEDED
    assert shell.runs() == ["a", "b"]


def test_pausing_twice_and_resuming_twice_is_pausing_and_resuming_once():
    """The second order of a kind changes nothing."""
    shell = begun(chain(suspend()))
    shell.send(m.PauseWorkflow).send(m.PauseWorkflow)
    shell.send(m.ResumeWorkflow).send(m.ResumeWorkflow)

    assert len(shell.facts(f.WorkflowPaused)) == len(shell.facts(f.WorkflowResumed)) == 1
    assert shell.statuses["a"] == "SUSPENDED"


def test_signal_during_a_pause_is_not_lost():
    """A stage that is signalled while the workflow is paused goes on when it is resumed."""
    shell = begun(chain(until_signalled())).send(m.PauseWorkflow)

    shell.send(m.SignalStage, "a", signal_name="go")
    assert shell.statuses["a"] == "PAUSED"

    shell.send(m.ResumeWorkflow)
    assert shell.row("a").outputs["signal"] == "go"
    assert shell.status is S.SUCCEEDED


def test_retry_that_is_due_during_a_pause_runs_after_it():
    """A delayed attempt is parked and not lost."""
    shell = begun(chain([retry(), done()])).send(m.PauseWorkflow).drain()
    assert shell.statuses["a"] == "PAUSED"

    shell.send(m.ResumeWorkflow)

    assert shell.status is S.SUCCEEDED


def test_workflow_that_has_not_started_or_has_ended_cannot_be_paused():
    """Pausing is for workflows that run."""
    shell = chain(done()).send(m.PauseWorkflow)
    assert shell.status is S.NOT_STARTED

    begun(shell).send(m.PauseWorkflow)
    assert shell.status is S.SUCCEEDED


# Fences.


def test_result_of_an_attempt_that_was_taken_over_is_discarded():
    """When a lease is lost the second attempt counts, and the first changes nothing."""
    shell = chain(done())
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    lost = shell.begin("a")
    (queued,) = shell.queue
    queued.body = None
    second = shell.begin("a")

    (fact,) = shell.finish(lost, done(by="first"))
    shell.finish(second, done(by="second"))

    assert fact == f.ResultDiscarded("id-a", 0, 1, "attempt 2 has taken over")
    assert shell.drain().row("a").outputs == {"by": "second"}


def test_result_that_comes_twice_counts_once():
    """A second result of the same attempt is discarded, also while the stage waits for its next call."""
    shell = chain([running(), done()])
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    body = shell.begin("a")
    shell.finish(body, running())

    (fact,) = shell.finish(body, done(twice=1))

    assert fact == f.ResultDiscarded("id-a", 0, 1, "attempt 1 has ended before")
    assert shell.drain().row("a").outputs == {}


def test_task_that_no_worker_knows_stays_in_the_queue():
    """A worker without the task's code leaves its message for another one, and the run does not fail."""
    made = workflow_of(stage("a"))
    made.stages[0].tasks[0].implementing_class = "unknown"
    shell = Shell(made, order=Order(slots=4))
    shell.push(m.StartWorkflow(execution_id=made.id))
    shell.tick()

    assert [type(queued.message).__name__ for queued in shell.queue] == ["RunTask"]
    assert shell.statuses == {"a": "RUNNING"}


def test_body_that_took_too_long_fails_its_stage():
    """A task's own time limit ends in failure, without another try."""
    answer = m.Outcome(kind=m.OutcomeKind.TIMED_OUT, error="task 'a.0' timed out after 5 s")
    shell = chain(answer).start()

    assert shell.runs() == ["a"]
    assert shell.row("a").error == "task 'a.0' timed out after 5 s"
    assert shell.status is S.TERMINAL
