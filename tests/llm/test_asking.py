"""Bodies that ask people in their middle: the answer counts once, for what was asked, and survives restarts."""

from __future__ import annotations

from collections import deque
from importlib import import_module

import pytest

from stabilize_nb import Engine, Flow, RunFailedError, StageExecution
from stabilize_nb.decisions import order
from stabilize_nb.errors import ConfigError, WaitingForApproval
from stabilize_nb.hitl import send_signal
from stabilize_nb.models.gate import ASKS
from tests.llm.waiting import next_gate
from tests.makers import decided


@pytest.fixture
def engine():
    with Engine(":memory:") as opened:
        yield opened


def pays(log):
    """Make a flow that asks before it pays, and once more when it has."""
    flow = Flow("pays")

    @flow.stage
    def pay(amount: int, stage: StageExecution):
        price = stage.step("price", lambda: log.append("priced") or amount * 2)
        answer = stage.ask("Pay this?", show={"price": price}, form={"limit": "int?"}, name="pay")
        if not answer.approves:
            return answer.told
        stage.step("pay", log.append, f"paid {answer.data.get('limit') or price}")
        again = stage.ask("And send it?", choices=["by post", "by train", "reject"], name="send")
        return again.choice

    return flow


def test_body_goes_on_behind_the_answer(engine):
    """Steps before the question are not done again; each question takes one answer."""
    log = []
    run = engine.start(pays(log), amount=4)

    gate = next_gate(run)
    assert (gate.question, gate.show, gate.choices) == ("Pay this?", {"price": 8}, ("approve", "reject"))
    run.approve(gate, limit=7)
    gate = next_gate(run, gate)
    assert gate.question == "And send it?"
    run.decide(gate, "by train")

    assert run.result(10) == "by train"
    assert log == ["priced", "paid 7"]
    assert [(each.choice, each.refused) for each in decided(run)] == [("approve", ""), ("by train", "")]
    assert run.workflow.stage_by_ref_id("pay").context[ASKS] is None


def test_rejection_is_an_answer(engine):
    """The body learns who said no, and why."""
    log = []
    run = engine.start(pays(log), amount=4)
    run.until_gate(10)

    run.reject(user="ann", reason="too dear")

    assert run.result(10) == "rejected by ann: too dear"
    assert log == ["priced"]


def test_question_waits_through_a_restart(tmp_path):
    """Another process finds the question, and the steps that were made before it."""
    url, log = f"sqlite:///{tmp_path}/runs.db", deque()  # a list would be part of the code
    with Engine(url) as engine:
        run_id = engine.start(pays(log), amount=4).id
        engine.run(run_id).until_gate(10)
    with Engine(url) as engine:
        pays(log).register(engine.registry)
        run = engine.run(run_id)
        with pytest.raises(WaitingForApproval):
            run.result(10)
        first = next_gate(run)
        run.approve(first)
        run.decide(next_gate(run, first), "by post")
        assert run.result(10) == "by post"
    assert [*log] == ["priced", "paid 8"]


def test_second_approval_is_not_taken_for_the_next_question(engine):
    """Who presses twice has answered the question that was shown, and no other."""
    run = engine.start(pays([]), amount=4)
    (gate,) = run.until_gate(10)
    for message in (order(gate, "approve", {}, bound=True), order(gate, "approve", {}, bound=True)):
        engine.queue.push(message)
    send_signal(engine.queue, run.id, gate.stage_id, "approve", {"user": "nobody"})

    assert next_gate(run, gate).question == "And send it?"
    while not (refused := [each.refused for each in decided(run) if each.refused]):
        engine.database.changes.ticket().wait(0.05)
    assert set(refused) <= {"not waiting", "changed", "choice"}  # whenever it comes, the next question is not answered


def test_answer_counts_for_exactly_what_was_asked(engine):
    """A body that asks something else when it is run again gets no answer to what it asked before."""
    prices = iter([10, 20, 20])
    flow = Flow("drifts")

    @flow.stage
    def pay(stage: StageExecution):
        return stage.ask("Pay?", show=next(prices)).choice

    run = engine.start(flow)
    first = next_gate(run)
    run.approve(first)
    second = next_gate(run, first)
    assert (first.show, second.show) == (10, 20)
    run.approve(second)
    assert run.result(10) == "approve"


def test_what_was_decided_is_not_used_for_something_else(engine):
    """An answer that is kept belongs to its question: whoever asks another one under its number is refused."""
    prices = iter([10, 10, 20])
    flow = Flow("changes")

    @flow.stage
    def pay(stage: StageExecution):
        stage.ask("Pay?", show=next(prices), name="pay")
        return stage.ask("Really?", name="really").choice

    run = engine.start(flow)
    first = next_gate(run)
    run.approve(first)
    run.approve(next_gate(run, first))

    with pytest.raises(RunFailedError, match="about something else than this"):
        run.result(10)


def test_form_that_is_none_is_refused(engine):
    """A field of no known kind is a sentence, not a gate that cannot be filled in."""
    flow = Flow("odd")

    @flow.stage
    def pay(stage: StageExecution):
        return stage.ask("Pay?", form={"limit": "money"})

    with pytest.raises(RunFailedError, match="form field 'limit' is 'money'"):
        engine.start(flow).result(10)


def test_coroutine_asks(engine):
    """A coroutine asks as well; it holds no worker meanwhile."""
    flow = Flow("asks")

    @flow.stage
    async def pay(stage: StageExecution):
        answer = await stage.ask_async("Pay?", form={"limit": int})
        return answer.data["limit"]

    run = engine.start(flow)
    (gate,) = run.until_gate(10)
    with pytest.raises(ConfigError, match="limit"):
        run.approve(gate)
    run.approve(gate, limit=3)

    assert run.result(10) == 3


def test_picture_and_words_say_who_is_waited_for(engine):
    """A stage that asks looks and reads as one that waits for a person, also where no widgets are."""
    run = engine.start(pays([]), amount=4)
    next_gate(run)

    assert run.explain("pay") == "stage 'pay' waits for a decision: Pay this?"
    bundle = import_module("stabilize_nb.notebook.views").run_bundle(run)
    assert "Pay this?" in bundle["text/html"]
    run.cancel()
