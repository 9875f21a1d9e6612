"""Budgets: reserved before a call, charged with its answer, and never more than one call over a limit."""

from __future__ import annotations

import threading

import pytest

from stabilize_nb import Budget, Engine, Flow, RunFailedError, StageExecution, TransientError, compare
from stabilize_nb.errors import ConfigError
from stabilize_nb.events.calls import calls_frame
from stabilize_nb.llm import AgentLoopTask, LLMClient, LLMTask, ToolRegistry
from stabilize_nb.llm.paid import model_call
from stabilize_nb.models.budget import BUDGET
from stabilize_nb.models.calls import USD
from stabilize_nb.queue.processor.call_rows import CallRow
from stabilize_nb.tasks.interface import CallableTask
from stabilize_nb.testing import Failure, ScriptedModel
from tests.llm.waiting import next_gate
from tests.makers import Bench, stage, workflow

PRICES = {"any": (1_000_000.0, 2_000_000.0)}  # USD for a million tokens: 1 USD for each read, 2 for each written


def answer(read, written):
    return {"content": "well", "usage": {"prompt_tokens": read, "completion_tokens": written}}


def asks(flow, name, read=3, written=2, *, after=(), error=None):
    """Make a stage that makes one call, which takes that many tokens."""

    def body(stage: StageExecution):
        def make(terms):
            if error is not None:
                raise error
            return answer(read, written)

        stage.call(model_call("any", "?", make))
        return "done"

    return flow.stage(name=name, after=after)(body)


@pytest.fixture
def engine():
    with Engine(":memory:") as opened:
        yield opened


def test_calls_are_charged(engine):
    """Money, tokens and calls of a run are sums of what its calls took."""
    flow = Flow("spends", budget=Budget(usd=100, tokens=1_000, calls=10, prices=PRICES))
    asks(flow, "a")
    asks(flow, "b", after="a")

    run = engine.start(flow)
    run.result(10)

    assert (run.budget.usd, run.budget.tokens, run.budget.calls) == (14.0, 10, 2)
    assert (run.budget.reserved_tokens, run.budget.reserved_usd) == (0, 0.0)
    assert str(run.budget) == "14 of 100 USD, 10 of 1,000 tokens, 2 of 10 calls"
    assert [*run.calls["cost"]] == [7.0, 7.0]
    assert run.calls["tokens"].sum() == 10
    assert [*run.calls["status"]] == ["answered", "answered"]


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        (Budget(calls=2), "2 of 2 calls"),
        (Budget(tokens=10, answer_tokens=1), "10 of 10 tokens"),
        (Budget(usd=14, answer_tokens=1, prices=PRICES), "14 of 14 USD"),
    ],
    ids=["calls", "tokens", "usd"],
)
def test_nothing_is_called_when_the_budget_is_used_up(engine, budget, told):
    """The third call is not made, and the stage says what was spent."""
    flow = Flow("spends", budget=budget)
    for at in range(3):
        asks(flow, f"s{at}", after=f"s{at - 1}" if at else ())

    run = engine.start(flow)

    with pytest.raises(RunFailedError, match=f"is used up \\({told}"):
        run.result(10)
    assert len(run.calls) == 2


def test_person_gives_more(engine):
    """With at_limit="ask" the stage waits for somebody, who says how much more."""
    flow = Flow("spends", budget=Budget(calls=1, at_limit="ask"))
    asks(flow, "a")
    asks(flow, "b", after="a")
    asks(flow, "c", after="b")
    run = engine.start(flow)

    (gate,) = run.until_gate(10)
    assert gate.question == "The budget is used up (1 of 1 calls). How much more?"
    run.approve(gate, calls=1)
    gate = next_gate(run, gate)
    assert (gate.name, run.budget.call_limit) == ("c", 2)
    run.reject(gate, reason="enough")

    with pytest.raises(RunFailedError, match=r"more of it was rejected by .*: enough"):
        run.result(10)
    assert len(run.calls) == 2


def test_too_little_more_asks_again(engine):
    """Who adds nothing is asked once more."""
    flow = Flow("spends", budget=Budget(calls=1, at_limit="ask"))
    asks(flow, "a")
    asks(flow, "b", after="a")
    run = engine.start(flow)
    first = next_gate(run)
    run.approve(first)
    run.approve(next_gate(run, first), calls=5)

    assert run.result(10) == "done"
    assert run.budget.call_limit == 6


def test_refused_call_costs_nothing_and_a_broken_one_its_reserve(engine):
    """What a server has refused was not paid for; of what broke off nobody knows."""

    class Refused(TransientError):
        refused = True

    for error, charged in ((Refused("busy"), 0), (TransientError("cut"), 4 + 3)):  # '"?"' is 3 bytes
        flow = Flow("fails", budget=Budget(tokens=100, answer_tokens=4))
        asks(flow, "a", error=error)
        flow.stages["a"].function._max_attempts = 1
        run = engine.start(flow)
        for _ in range(200):
            if len(run.calls) and run.calls["status"].iloc[0] == "failed":
                break
            run.engine.database.changes.ticket().wait(0.05)
        assert run.calls["tokens"].iloc[0] == charged
        run.cancel()
        run.wait(10)


def test_price_that_nobody_knows(engine):
    """A budget of money needs prices; the sentence says how to give one."""
    flow = Flow("spends", budget=Budget(usd=1))
    asks(flow, "a")

    with pytest.raises(RunFailedError, match="nobody knows the price of model 'any': say it as Budget"):
        engine.start(flow).result(10)


def test_called_workflow_spends_of_its_caller(engine):
    """What a workflow calls is paid from its budget too."""
    inner = Flow("inner")
    asks(inner, "think")
    outer = Flow("outer", budget=Budget(calls=10))
    asks(outer, "first")
    outer.call(inner, name="inner", after="first")

    run = engine.start(outer)
    run.wait(10)

    assert (run.budget.calls, run.budget.tokens) == (2, 10)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({}, "limits nothing"),
        ({"usd": 0}, r"Budget\(usd=0\)"),
        ({"tokens": 1.5}, r"Budget\(tokens=1.5\)"),
        ({"calls": True}, r"Budget\(calls=True\)"),
        ({"usd": float("nan")}, "usd=nan"),
        ({"calls": 1, "at_limit": "wait"}, "at_limit='wait'"),
        ({"calls": 1, "answer_tokens": 0}, "answer_tokens=0"),
    ],
)
def test_budget_that_is_none(words, told):
    """Each fault is named."""
    with pytest.raises(ConfigError, match=told):
        Budget(**words)


def test_server_is_told_how_long_an_answer_may_be(engine):
    """Under a budget the model is asked for no more than is reserved; refusals of the server cost nothing."""
    script = [Failure(status=429, retry_after=0), "A short answer."]
    with ScriptedModel(script) as server:
        client = LLMClient("any", base_url=server.url)
        engine.registry.register("ask", LLMTask(client))
        engine.registry.register("agent", AgentLoopTask(client, ToolRegistry()))
        flow = Flow("asks", budget=Budget(tokens=10_000, answer_tokens=77))
        asks(flow, "first")
        workflow = flow.build()
        workflow.stages[0].tasks[0].implementing_class = "ask"
        workflow.stages[0].context["prompt"] = "Say something."
        run = engine.start(workflow)
        assert run.wait(20).is_successful

        assert [request.body["max_tokens"] for request in server.requests] == [77, 77]
        assert [*run.calls["status"]] == ["failed", "answered"]
        used = sum(run.calls[name].sum() for name in ("input_tokens", "output_tokens"))
        assert run.budget.tokens == used > 0
        assert USD == 10**9


def test_runs_are_compared_by_what_they_spent(engine):
    """Calls, tokens and cost stand side by side, in frame and view; without calls the view has no columns."""
    sizes = iter([3, 30])
    flow = Flow("spends", budget=Budget(calls=5, prices=PRICES))

    @flow.stage
    def think(stage: StageExecution):
        stage.call(model_call("any", "?", lambda _terms: answer(next(sizes), 2)))

    runs = []
    for _ in range(2):
        runs.append(engine.start(flow))
        runs[-1].wait(10)
    frame = compare(*runs).frame.set_index("stage").loc["think"]

    assert [frame[f"calls_{side}"] for side in "ab"] == [1, 1]
    assert [frame[f"tokens_{side}"] for side in "ab"] == [5, 32]
    assert [frame[f"cost_{side}"] for side in "ab"] == [7.0, 34.0]
    assert "1 · 32 tokens · $34.0000" in repr(compare(*runs))
    quiet = Flow("quiet")
    quiet.stage(name="rest")(lambda: None)
    silent = engine.start(quiet)
    silent.wait(10)
    assert "calls" not in repr(compare(silent, silent))


def test_reservation_of_a_body_that_is_gone_holds_up_nobody(tmp_path):
    """What a process that died had reserved, for a body that is not run again, counts as spent: nobody waits for it."""
    spends = CallableTask(lambda given: given.call(model_call("any", "?", lambda _terms: answer(3, 2))))
    with Bench(f"sqlite:///{tmp_path}/runs.db", tasks={"spends": spends}) as bench:
        budget = Budget(tokens=100, answer_tokens=95)
        flow = workflow(stage("a", task="spends"), context={BUDGET: budget.as_data()})
        bench.store.store(flow)
        lost = {"stage_id": "gone", "call": "gone", "name": "model", "number": 1}
        owner = {"workflow_id": flow.id, "ref_id": "gone"}
        call = model_call("any", "?????", lambda _terms: None)
        bench.database.write(lambda connection: CallRow(connection, owner, lost, 1).begin(call, 0, "gone"))

        bench.orchestrator.start(flow)
        bench.processor.process_all(timeout=10)
        calls = calls_frame(bench.database, flow.id)
        (found,) = bench.store.retrieve(flow.id).stages

    assert [*calls["status"]] == ["lost"]
    assert calls["tokens"].sum() == 102  # 95, and 7 bytes of what was asked
    assert "is used up (102 of 100 tokens)" in found.error


@pytest.mark.parametrize("taken_over", [False, True])
def test_answer_that_comes_late_is_charged(engine, taken_over):
    """Of a run that was cancelled, or a body that another worker has taken over: it was paid for."""
    asked, go = threading.Event(), threading.Event()
    flow = Flow("late", budget=Budget(tokens=1_000))

    @flow.stage
    def think(stage: StageExecution):
        def make(_terms):
            asked.set()
            go.wait(20)
            return answer(30, 2)

        return stage.call(model_call("any", "?", make))

    def steal(connection):
        connection.raw.execute("UPDATE message SET owner = 'another', fence = fence + 1 WHERE kind = 'RunTask'")

    run = engine.start(flow)
    assert asked.wait(20)
    if taken_over:
        engine.database.call(lambda: engine.database.write(steal))
    else:
        run.cancel()
        run.wait(20)
    go.set()
    while run.budget.reserved_tokens:
        engine.database.changes.ticket().wait(0.05)

    assert (run.budget.tokens, run.budget.calls) == (32, 1)
    (call,) = run.calls.itertuples()
    assert (call.status, call.input_tokens, call.output_tokens) == ("failed" if taken_over else "answered", 30, 2)
