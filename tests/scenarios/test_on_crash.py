"""What a stage does when the process of its body died (C2): retry, fail, or ask a person, who settles it.

A death is played within one process: the message of a body at work is taken from its worker, as it is when the worker's
process has died. tests/crash kills real ones.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from stabilize_nb import Engine, Flow, StageExecution, TaskResult, TransientError, WaitingForSettlement, WorkflowStatus
from stabilize_nb.errors import ConfigError, InvalidWorkflowError, StageNotReadyError
from stabilize_nb.gates import gates_in
from stabilize_nb.queue.messages import SignalStage
from stabilize_nb.queue.processor.presence import free_claims
from stabilize_nb.run import Run
from tests.makers import decided, stage, workflow

S = WorkflowStatus
UNKNOWN = "outcome unknown: the process died while it ran"
QUARANTINED = "its process died three times while it ran"


class Deaths:
    """A body that hangs until its process is said to have died; after `left` deaths it returns at once."""

    def __init__(self, left: int = 1) -> None:
        self.begun: list[int] = []
        self.left = left
        self._hanging: SimpleQueue[threading.Event] = SimpleQueue()

    def __call__(self, value: Any = "paid") -> Any:
        """Do the work."""
        self.begun.append(len(self.begun) + 1)
        if self.left:
            self.left -= 1
            over = threading.Event()
            self._hanging.put(over)
            over.wait(20)
        return value

    def hanging(self) -> threading.Event:
        """Wait until the body is at work, and return what ends it."""
        return self._hanging.get(timeout=20)

    def die(self, engine: Engine) -> None:
        """Have the process die in which the body is at work: what it comes to is lost."""
        over = self.hanging()
        engine.database.write(lambda connection: free_claims(connection, engine.processor.owner, 3))
        over.set()
        engine.database.changes.notify()


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Open an engine in memory."""
    with Engine(":memory:", workers=4) as made:
        yield made


@pytest.fixture
def deaths() -> Deaths:
    """Make a body whose process dies once."""
    return Deaths()


def paying(deaths: Deaths, **words: Any) -> Flow:
    """Make a flow that pays and then ships."""
    flow = Flow("shop")

    @flow.stage(**words)
    def pay(amount: int = 5) -> dict[str, Any]:
        return {"receipt": deaths(amount)}

    @flow.stage
    def ship(pay: dict[str, Any]) -> dict[str, Any]:
        return {"shipped": pay["receipt"]}

    return flow


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def look_through(engine: Engine) -> None:
    """Have everything seen that is due: a run is begun and withdrawn, which needs no body to end."""
    flow = Flow("nothing")
    flow.stage(name="never")(lambda: None)
    run = engine.start(flow)
    run.cancel()
    run.wait(20)


def asked(engine: Engine, deaths: Deaths, **words: Any) -> Run:
    """Bring a run to where it waits for somebody to say what became of the payment."""
    run = engine.start(paying(deaths, on_crash="ask", **words), amount=5)
    deaths.die(engine)
    assert [gate.name for gate in run.until_gate(20)] == ["pay"]
    return run


def statuses(run: Run) -> dict[str, str]:
    """Return the status of each stage."""
    return {each.ref_id: each.status.name for each in run.workflow.stages}


def test_retry_is_what_is_done_if_nothing_is_said(engine: Engine, deaths: Deaths) -> None:
    """The body is run again, and the run ends well."""
    run = engine.start(paying(deaths))
    deaths.die(engine)

    assert run.wait(20) is S.SUCCEEDED
    assert deaths.begun == [1, 2]


def test_fail_runs_once(engine: Engine, deaths: Deaths) -> None:
    """The stage fails and says that nobody knows what its body has done."""
    run = engine.start(paying(deaths, on_crash="fail"))
    deaths.die(engine)

    assert run.wait(20) is S.TERMINAL
    assert statuses(run) == {"pay": "TERMINAL", "ship": "NOT_STARTED"}
    assert run.workflow.stage_by_ref_id("pay").error == UNKNOWN
    assert deaths.begun == [1]


def test_ask_waits_and_says_why(engine: Engine, deaths: Deaths) -> None:
    """The stage waits as a gate with three choices; whoever asks for the result is told what to do."""
    run = asked(engine, deaths)

    (gate,) = engine.inbox()
    assert (gate.name, gate.doubt, gate.choices) == ("pay", UNKNOWN, ("retry", "done", "fail"))
    assert gate.question == f"{UNKNOWN}. What became of it?"
    assert statuses(run) == {"pay": "SUSPENDED", "ship": "NOT_STARTED"}
    sentence = (
        f"stage 'pay' waits for somebody to say what became of it: {UNKNOWN}; run.settle('pay', 'retry'), "
        "run.settle('pay', outputs={...}) or run.settle('pay', 'fail')"
    )
    assert run.explain() == [sentence]
    assert run.explain("pay") == sentence
    with pytest.raises(WaitingForSettlement, match=r"what became of 'pay' .*run\.settle\('pay', 'retry'\)"):
        run.result(20)
    assert run.tasks.query("ref_id == 'pay'").status.tolist() == ["LOST"]
    assert deaths.begun == [1]


def test_settled_by_another_try(engine: Engine, deaths: Deaths) -> None:
    """With "retry" the body is run again, and what follows gets what it returns."""
    run = asked(engine, deaths)

    run.settle("pay", "retry", user="ada")

    assert run.result(20) == {"shipped": 5}
    assert deaths.begun == [1, 2]
    (decision,) = decided(run)
    assert (decision.gate, decision.choice, decision.user, decision.refused) == ("pay", "retry", "ada", "")


def test_settled_as_done(engine: Engine, deaths: Deaths) -> None:
    """With outputs the body counts as done, is not run again, and what follows gets these outputs."""
    run = asked(engine, deaths)

    run.settle("pay", outputs={"receipt": 77})

    assert run.result(20) == {"shipped": 77}
    assert deaths.begun == [1]
    assert decided(run)[0].data["outputs"] == {"receipt": 77}


def test_settled_as_failed(engine: Engine, deaths: Deaths) -> None:
    """With "fail" the stage fails, and its error says by whom and why."""
    run = asked(engine, deaths)

    run.settle("pay", "fail", reason="the bank knows of nothing", user="ada")

    assert run.wait(20) is S.TERMINAL
    error = f"{UNKNOWN}; settled as failed by ada: the bank knows of nothing"
    assert run.workflow.stage_by_ref_id("pay").error == error


def test_first_settlement_counts(engine: Engine, deaths: Deaths) -> None:
    """Of two settlements the second has no effect, which the log says."""
    run = asked(engine, deaths)
    late = SignalStage(
        execution_id=run.id, stage_id=run.workflow.stage_by_ref_id("pay").id, signal_name="settle",
        signal_data={"decision": "fail"}, decision_id="late",
    )  # fmt: skip

    run.settle("pay", outputs={"receipt": 1}, user="ada")
    engine.queue.push(late)

    assert run.result(20) == {"shipped": 1}
    wait_for(lambda: len(decided(run)) == 2)
    assert [(each.choice, each.refused) for each in decided(run)] == [("done", ""), ("fail", "not waiting")]
    with pytest.raises(StageNotReadyError, match="nothing to settle: it was decided already: decided: done by ada"):
        run.settle("pay", "retry")


def test_decision_about_an_earlier_death_is_refused(engine: Engine, deaths: Deaths) -> None:
    """Who looked at one death does not settle the next one."""
    deaths.left = 2
    run = asked(engine, deaths)
    (before,) = run.gates
    run.settle("pay", "retry")
    deaths.die(engine)
    wait_for(lambda: run.gates and run.gates[0].fingerprint != before.fingerprint)

    identity = run.decide(before, "done", outputs={"receipt": 0})

    wait_for(lambda: any(each.decision_id == identity for each in decided(run)))
    assert decided(run)[-1].refused == "changed"
    assert statuses(run)["pay"] == "SUSPENDED"
    run.decide(run.gates[0], "done", outputs={"receipt": 3})
    assert run.result(20) == {"shipped": 3}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda run: run.settle("pay"), "it is not said what became of stage 'pay': write one of 'retry', "),
        (lambda run: run.settle("pay", "again"), "stage 'pay' does not offer 'again'; choose one of 'retry', 'done'"),
        (lambda run: run.settle("pay", "retry", outputs={"a": 1}), "outputs only when its body is said to be done"),
        (lambda run: run.settle("pay", outputs=[1]), "field 'outputs' of stage 'pay' takes values by name"),
        (lambda run: run.approve("pay"), "stage 'pay' does not offer 'approve'"),
    ],
)  # fmt: skip
def test_settlement_that_is_wrong(call: Callable[[Run], None], says: str, engine: Engine, deaths: Deaths) -> None:
    """It is refused in a sentence, and the stage goes on waiting."""
    run = asked(engine, deaths)

    with pytest.raises(ConfigError, match=says):
        call(run)

    assert [gate.name for gate in run.gates] == ["pay"]


def test_nothing_to_settle(engine: Engine) -> None:
    """A stage whose process did not die is not settled."""
    flow = Flow("calm")
    flow.stage(name="a")(lambda: 1)
    run = engine.start(flow)
    run.wait(20)

    with pytest.raises(StageNotReadyError, match=r"stage 'a' of run .* has nothing to settle"):
        run.settle("a", "retry")


def test_doubt_survives_a_restart(tmp_path: Any, deaths: Deaths) -> None:
    """Another engine on the file knows of the doubt and settles it; the past can be looked at as well."""
    file = f"{tmp_path}/runs.db"
    with Engine(file, workers=2) as first:
        run_id = asked(first, deaths).id

    with Engine(file, workers=2) as second:
        second.define(paying(deaths, on_crash="ask"))
        run = second.run(run_id)
        assert [gate.doubt for gate in run.gates] == [UNKNOWN]
        run.settle("pay", outputs={"receipt": 9})
        assert run.result(20) == {"shipped": 9}

        lost = int(run.events.query("type == 'task.lost'").seq.iloc[0])
        assert run.at(lost).stage("pay").status is S.SUSPENDED
        assert run.at(lost - 1).stage("pay").status is S.RUNNING
        assert run.at(lost + 1).stage("pay").status in {S.RUNNING, S.SUCCEEDED}


@pytest.mark.parametrize("settled", ["retry", "done"])
def test_signals_do_not_settle(settled: str, engine: Engine, deaths: Deaths) -> None:
    """A signal for a stage in doubt is kept for it, and does not end the doubt."""
    seen: list[Any] = []

    def wait_then_work(given: StageExecution) -> Any:
        if "_signal_name" not in given.context:
            return TaskResult.suspend()
        seen.append(given.context["_signal_data"])
        deaths()
        return TaskResult.success(outputs={"n": given.context["_signal_data"]["n"]})

    engine.registry.register("wait_then_work", wait_then_work)
    run = engine.start(workflow(stage("a", task="wait_then_work", on_crash="ask")))
    wait_for(lambda: statuses(run)["a"] == "SUSPENDED")
    run.signal("a", "go", {"n": 1})
    deaths.die(engine)
    wait_for(lambda: run.gates and run.gates[0].doubt)

    run.signal("a", "go", {"n": 2})
    engine.processor.process_all()
    assert run.gates[0].doubt == UNKNOWN

    run.settle("a", settled, outputs={"n": 0} if settled == "done" else None)
    assert run.wait(20) is S.SUCCEEDED
    assert run.outputs["a"] == {"n": 1 if settled == "retry" else 0}
    assert seen == [{"n": 1}] * (2 if settled == "retry" else 1), "the signal that it was run with is with it again"


def test_steps_that_are_done_stay_done(engine: Engine, deaths: Deaths) -> None:
    """A body in doubt that is tried again does not repeat its durable steps."""
    calls: list[str] = []
    flow = Flow("steps")

    @flow.stage(on_crash="ask")
    def work(stage: StageExecution) -> int:
        first = stage.step("first", lambda: calls.append("first") or 1)
        stage.step("second", lambda: calls.append("second") or deaths())
        return first

    run = engine.start(flow)
    deaths.die(engine)
    run.until_gate(20)
    run.settle("work", "retry")

    assert run.result(20) == 1
    assert calls == ["first", "second", "second"]


def test_coroutine_bodies_are_asked_about(engine: Engine, deaths: Deaths) -> None:
    """A body that awaits when its process dies is in doubt as any other."""
    flow = Flow("waits")

    @flow.stage(on_crash="ask")
    async def work() -> Any:
        return await asyncio.to_thread(deaths)

    run = engine.start(flow)
    deaths.die(engine)

    assert [gate.doubt for gate in run.until_gate(20)] == [UNKNOWN]
    run.settle("work", "retry")
    assert run.result(20) == "paid"


@pytest.mark.parametrize("word", ["fail", "ask"])
def test_body_that_raises_is_no_death(word: str, engine: Engine) -> None:
    """What a body raises is known: a transient error is tried again, another one fails the stage with its text."""
    tries: list[int] = []
    flow = Flow("raises")

    @flow.stage(on_crash=word)
    def shaky() -> None:
        tries.append(1)
        raise TransientError("again") if len(tries) == 1 else ValueError("no such thing")

    run = engine.start(flow)

    assert run.wait(20) is S.TERMINAL
    assert len(tries) == 2
    assert run.workflow.stages[0].error == "ValueError: no such thing"


def test_each_instance_is_asked_about(engine: Engine, deaths: Deaths) -> None:
    """Instances do as their stage says."""
    flow = Flow("several")

    @flow.stage(each=[1, 2], on_crash="ask")
    def work(item: int) -> int:
        return deaths(item) if item == 2 else item

    run = engine.start(flow)
    wait_for(lambda: any("_instance_" in ref and state == "SUCCEEDED" for ref, state in statuses(run).items()))
    deaths.die(engine)
    (gate,) = run.until_gate(20)
    run.settle(gate.name, outputs={"result": 20})

    assert run.wait(20) is S.SUCCEEDED
    assert deaths.begun == [1]


def test_body_is_given_up_after_three_deaths(engine: Engine, deaths: Deaths) -> None:
    """It is not run for ever: its message is a dead letter and its stage waits; put back, it is run once more."""
    deaths.left = 3
    run = engine.start(paying(deaths))
    for _ in range(3):
        deaths.die(engine)

    (gate,) = run.until_gate(20)
    assert gate.doubt == QUARANTINED
    (letter,) = engine.dead_letters().itertuples()
    assert (letter.kind, letter.stage, letter.error, letter.lost) == ("RunTask", "pay", QUARANTINED, 3)
    assert deaths.begun == [1, 2, 3]

    assert engine.redrive(letter.message_id) == 1
    assert run.result(20) == {"shipped": 5}
    assert [each.choice for each in decided(run)] == ["retry"]


def test_suspect_is_at_work_alone(engine: Engine, deaths: Deaths) -> None:
    """A body that the next death would give up waits for those at work, and those that are due wait for it."""
    deaths.left = 3
    told: list[str] = []
    end = threading.Event()
    other = Flow("other")

    @other.stage
    def long() -> None:
        told.append("begun")
        end.wait(20)
        told.append(f"ended, {len(deaths.begun)} payments begun")

    run = engine.start(paying(deaths))
    deaths.die(engine)
    beside = engine.start(other)
    wait_for(lambda: told == ["begun"] and len(deaths.begun) == 2)
    deaths.die(engine)  # of both
    look_through(engine)
    assert (told, deaths.begun) == (["begun"], [1, 2])

    end.set()
    over = deaths.hanging()  # the third payment
    look_through(engine)
    assert told == ["begun", "ended, 2 payments begun"]

    over.set()
    assert (run.result(20), beside.wait(20)) == ({"shipped": 5}, S.SUCCEEDED)
    assert told[2:] == ["begun", "ended, 3 payments begun"]


@pytest.mark.parametrize("end", ["settle", "cancel"])
def test_dead_letter_of_a_body_that_was_settled_is_gone(end: str, engine: Engine, deaths: Deaths) -> None:
    """What was settled or withdrawn cannot be put back as well."""
    deaths.left = 3
    run = engine.start(paying(deaths))
    for _ in range(3):
        deaths.die(engine)
    run.until_gate(20)

    run.settle("pay", "retry") if end == "settle" else run.cancel()

    assert run.wait(20) is (S.SUCCEEDED if end == "settle" else S.CANCELED)
    assert engine.dead_letters().empty
    assert len(deaths.begun) == (4 if end == "settle" else 3)


def test_run_that_is_ending_asks_nobody(engine: Engine, deaths: Deaths) -> None:
    """Where another stage has failed already, a stage in doubt fails, and the run ends."""
    flow = Flow("ending")
    fails = threading.Event()

    @flow.stage(on_crash="ask")
    def pay() -> Any:
        return deaths()

    @flow.stage
    def broken() -> None:
        fails.wait(20)
        raise ValueError("no")

    run = engine.start(flow)
    fails.set()
    wait_for(lambda: statuses(run)["broken"] == "TERMINAL")
    deaths.die(engine)

    assert run.wait(20) is S.TERMINAL
    assert run.workflow.stage_by_ref_id("pay").error == UNKNOWN


def test_durable_step_is_progress(engine: Engine, deaths: Deaths) -> None:
    """A body that gets further each time before its process dies is not given up."""
    deaths.left = 5
    flow = Flow("far")

    @flow.stage
    def work(stage: StageExecution) -> int:
        for at in range(6):
            stage.step(f"part {at}", lambda: None)
            if at == len(deaths.begun):
                deaths()
        return 1

    run = engine.start(flow)
    for _ in range(5):
        deaths.die(engine)

    assert run.result(20) == 1


def test_wrong_words_are_refused(engine: Engine) -> None:
    """In one sentence, at a flow and in the reference API."""
    flow = Flow("wrong")
    with pytest.raises(ConfigError, match="on_crash='never' is not known; write 'retry', 'fail' or 'ask'"):
        flow.stage(name="pay", on_crash="never")(lambda: 1)
    with pytest.raises(InvalidWorkflowError, match="stage 'a' has on_crash='never'; expected is one of 'retry'"):
        engine.start(workflow(stage("a", on_crash="never")))
    assert gates_in(engine.database) == []
