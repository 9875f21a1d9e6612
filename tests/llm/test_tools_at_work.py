"""Tools that need leave, and tools whose process died: what runs was approved, and nothing runs twice unasked."""

from __future__ import annotations

import json
import random

import pytest

from stabilize_nb import Engine, RunFailedError
from stabilize_nb.llm import AgentLoopTask, LLMClient, ToolCall, ToolRegistry, tool
from stabilize_nb.testing import ScriptedModel
from stabilize_nb.testing.forks import Child, told_by
from tests.llm.waiting import next_gate
from tests.makers import stage, workflow

PAY = ToolCall(name="pay", arguments={"to": "ann", "amount": 3})


def agent(server, log, **words):
    @tool(**words)
    def pay(to: str, amount: float) -> str:
        """Pay somebody."""
        log.append((to, amount))
        return "paid"

    return AgentLoopTask(LLMClient("any", base_url=server.url), ToolRegistry([pay]), stream=False)


def question():
    return workflow(stage("agent", task="agent", context={"prompt": "Pay ann."}), name="pays")


def started(engine, server, log, **words):
    engine.registry.register("agent", agent(server, log, **words))
    return engine.start(question())


def test_approved_call_is_made_once():
    """A person sees tool and arguments; what was approved runs, and the answer of the model follows."""
    log = []
    with ScriptedModel([PAY, "It is paid."]) as server, Engine(":memory:") as engine:
        run = started(engine, server, log, approve=True)
        gate = next_gate(run)
        assert gate.show == {"tool": "pay", "arguments": {"to": "ann", "amount": 3}}
        assert log == []
        run.approve(gate)
        run.wait(10)

        assert log == [("ann", 3.0)]
        assert run.outputs["agent"]["answer"] == "It is paid."
        assert len(server.requests) == 2


def test_edited_call_is_made_as_edited():
    """The arguments of the person run, and the model is told so."""
    log = []
    with ScriptedModel([PAY, "It is paid."]) as server, Engine(":memory:") as engine:
        run = started(engine, server, log, approve=True)
        run.approve(next_gate(run), arguments={"to": "bob", "amount": 1})
        run.wait(10)

        assert log == [("bob", 1.0)]
        told = server.requests[1].body["messages"][-1]["content"]
        assert told == '(a person has changed the arguments to {"to": "bob", "amount": 1}) paid'


def test_rejected_call_is_not_made():
    """The model hears who said no, and goes on."""
    log = []
    with ScriptedModel([PAY, "Then not."]) as server, Engine(":memory:") as engine:
        run = started(engine, server, log, approve=True)
        run.reject(next_gate(run), user="ann", reason="no money")
        run.wait(10)

        assert log == []
        assert "REFUSED: a person does not allow this call, rejected by ann: no money" in json.dumps(
            server.requests[1].body
        )


def mutated(arguments, chance):
    """Return other arguments for the same call."""
    kinds = [
        {**arguments, "amount": arguments["amount"] + chance.choice([1, -1, 0.5, 1e9])},
        {**arguments, "to": arguments["to"] + chance.choice(["a", " ", "\u200b", "\u0430"])},
        {**arguments, chance.choice(["note", "To", "amount "]): 1},
        {**arguments, "amount": str(arguments["amount"] + 1)},
    ]
    return chance.choice(kinds)


def test_call_that_was_changed_after_its_approval_is_not_made(record_property):
    """1,000 calls whose arguments change in the store between approval and execution: none of them is executed."""
    chance, log, changes = random.Random(7), [], 0
    with ScriptedModel([PAY] * 20) as server, Engine(":memory:") as engine:
        engine.registry.register("agent", agent(server, log, approve=True))
        for run in [engine.start(question()) for _ in range(20)]:
            gate = next_gate(run)
            for _ in range(50):
                other = mutated(PAY.arguments | {"at": changes}, chance)
                engine.database.call(lambda run=run, other=other: engine.database.write(change(run.id, other)))
                changes += 1
                run.approve(gate)
                gate = next_gate(run, gate)  # it asks again, about what would run now
                assert gate.show["arguments"] == other

        record_property("line", f"{changes} calls were changed after their approval: {len(log)} of them executed")
        assert (changes, log) == (1_000, [])


def change(run_id, arguments):
    """Return what changes the call that the model has asked for, as the journal has it."""

    def write(connection):
        (stage_id,) = connection.raw.execute("SELECT id FROM stage WHERE workflow_id = ?", (run_id,)).fetchone()
        where = "WHERE stage_id = ? AND name = 'model'"
        (text,) = connection.raw.execute(f"SELECT value FROM journal {where}", (stage_id,)).fetchone()
        reply = json.loads(text)
        reply["tool_calls"][0]["arguments"] = arguments
        connection.raw.execute(f"UPDATE journal SET value = ? {where}", (json.dumps(reply), stage_id))

    return write


def dies_in_the_tool(url, server, log_file, on_crash):
    """Run the agent in a process that dies while its tool is at work."""

    def work(_say):
        @tool(on_crash=on_crash)
        def pay(to: str, amount: float) -> str:
            """Pay somebody."""
            with log_file.open("a") as opened:
                opened.write(f"{to} {amount}\n")
            import os

            os.kill(os.getpid(), 9)

        with Engine(url) as engine:
            engine.registry.register(
                "agent", AgentLoopTask(LLMClient("any", base_url=server), ToolRegistry([pay]), stream=False)
            )
            engine.start(question()).wait(20)

    list(told_by([Child(work)], silence=30))


@pytest.mark.parametrize(
    ("on_crash", "choice"), [("ask", "retry"), ("ask", "done"), ("ask", "fail"), ("fail", ""), ("retry", "")]
)
def test_tool_whose_process_died(tmp_path, on_crash, choice):
    """It is called again, or not: as it says itself, or a person who is asked what became of it."""
    url, log_file = f"sqlite:///{tmp_path}/runs.db", tmp_path / "log"
    with ScriptedModel([PAY, "So be it."]) as server:
        dies_in_the_tool(url, server.url, log_file, on_crash)
        before = len(server.requests)
        log = []
        with Engine(url) as engine:
            engine.registry.register("agent", agent(server, log, on_crash=on_crash))
            (run,) = engine.resume()
            if choice:
                gate = next_gate(run)
                assert gate.choices == ("retry", "done", "fail")
                assert gate.show == {"tool": "pay", "arguments": {"to": "ann", "amount": 3}}
                run.decide(gate, choice, **({"result": "paid by hand"} if choice == "done" else {}))
            run.wait(20)
            if "fail" in (choice, on_crash):
                with pytest.raises(RunFailedError, match=r"failed, says|outcome unknown"):
                    run.result(1)
            again = {"retry": 1, "done": 0, "fail": 0, "": int(on_crash == "retry")}[choice]
            assert len(log) == again
            assert log_file.read_text() == "ann 3.0\n"
            assert before == 1
            if choice == "done":
                assert server.requests[1].body["messages"][-1]["content"] == "paid by hand"
