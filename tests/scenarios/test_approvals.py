"""Decisions at gates: bound to what was shown, the first one counts, values are typed, and deadlines decide."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stabilize_nb import Engine, Flow, Run, WorkflowStatus
from stabilize_nb.decisions import Decision, answer_to, decisions_in, last_of, order, who_and_when, why_refused
from stabilize_nb.errors import ConfigError, StageNotReadyError
from stabilize_nb.gates import Gate, gates_in
from stabilize_nb.hitl import ApprovalTask, approve
from stabilize_nb.models.gate import fingerprint_of, seconds_of
from stabilize_nb.queue.messages import SignalStage
from stabilize_nb.store.codec import dumps
from tests.makers import Bench, asked, decided

PATIENCE = 20.0
S = WorkflowStatus
HOUR = 3_600_000


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(":memory:", durability="normal") as opened:
        yield opened


def publishing(**words: Any) -> Flow:
    """A flow with a gate between two stages; its draft counts how often it was written."""
    flow, written = Flow("publishing"), []

    @flow.stage
    def draft(text="words"):
        written.append(text)
        return {"draft": f"{text} {len(written)}"}

    flow.approval("Publish?", name="gate", after=draft, **{"show": "draft", **words})

    @flow.stage
    def report(gate):
        return gate

    return flow


def at_gate(engine: Engine, **words: Any) -> tuple[Run, Gate]:
    run = engine.start(publishing(**words))
    (gate,) = run.until_gate(PATIENCE)
    return run, gate


def answer(run: Run, decision_id: str) -> Decision:
    """Wait until the log has what became of a decision."""
    for _ in range(round(PATIENCE / 0.05)):
        ticket = run.engine.database.changes.ticket()
        found = answer_to(decided(run), decision_id)
        if found is not None:
            return found
        ticket.wait(0.05)
    raise AssertionError(decided(run))


def said(run: Run, decision_id: str) -> str:
    return why_refused(answer(run, decision_id), decided(run))


# -- fingerprints -------------------------------------------------------------------------------------


def test_a_decision_about_what_was_shown_counts(engine: Engine) -> None:
    """The gate is decided, and the log has who, what, and the fingerprint of what was shown."""
    run, gate = at_gate(engine)

    decision = answer(run, run.decide(gate, "approve", user="ada"))

    assert run.result(PATIENCE) == {"approved": True, "approval": {"user": "ada"}}
    assert (decision.user, decision.choice, decision.refused) == ("ada", "approve", "")
    assert decision.fingerprint == gate.fingerprint
    assert who_and_when(decision).startswith("approved by ada at 20")


def test_a_decision_about_what_was_shown_before_is_refused(engine: Engine) -> None:
    """The gate goes on waiting with the new preview, the log says that the decision had no effect, and so is told."""
    run, before = at_gate(engine)
    run.retry("draft")
    after = _next_gate(run, before)

    refused = run.decide(before, "approve", user="ada")

    assert said(run, refused) == (
        "nothing was decided: what this gate asks has changed since you looked; look again, then decide"
    )
    assert run.gates == [after]
    assert after.show == {"draft": "words 2"}
    events = run.events
    assert list(events[events["type"] == "signal.refused"]["stage"]) == ["gate"]
    run.decide(after, "approve")
    assert run.result(PATIENCE)["approved"] is True


def _next_gate(run: Run, before: Gate) -> Gate:
    for _ in range(round(PATIENCE / 0.05)):
        ticket = run.engine.database.changes.ticket()
        gates = [gate for gate in run.gates if gate.generation != before.generation]
        if gates:
            return gates[0]
        ticket.wait(0.05)
    raise AssertionError(run.gates)


def test_a_gate_that_is_asked_again_is_another_question(engine: Engine) -> None:
    """Also where nothing that it shows has changed, a decision is about the round in which it was shown."""
    run, before = at_gate(engine, show=None)
    run.retry("draft")
    after = _next_gate(run, before)

    assert after.fingerprint == before.fingerprint
    assert answer(run, run.decide(before, "approve")).refused == "changed"
    assert run.gates == [after]


def test_a_gate_shows_what_a_stage_for_each_item_and_a_loop_return(engine: Engine) -> None:
    """The list of results, or what the last pass gave, also where a condition stands before the gate."""
    flow = Flow("shown")

    @flow.stage(each="numbers")
    def double(number):
        return 2 * number

    with flow.loop("grow", until="size > 2"):

        @flow.stage
        def step(size=0):
            return {"size": size + 1}

    flow.approval("All?", name="all", show=double)
    flow.approval("Some?", name="some", show="double", when="numbers")
    flow.approval("Big?", name="big", show="grow")
    run = engine.start(flow, numbers=[3, 4])

    shown = {}
    while gates := run.until_gate(PATIENCE):
        shown |= {gate.name: gate.show for gate in gates}
        run.approve(gates[0])

    assert shown["all"] == shown["some"] == {"result": [6, 8]}
    assert shown["big"]["size"] == 3


def test_a_decision_by_name_needs_no_fingerprint(engine: Engine) -> None:
    """From Python, and before the gate waits, a decision counts whatever is shown; the log has what was shown."""
    run = engine.start(publishing())
    run.approve("gate", user="ada")

    assert run.result(PATIENCE) == {"approved": True, "approval": {"user": "ada"}}
    (decision,) = decided(run)
    assert decision.fingerprint == fingerprint_of(run.workflow.stage_by_ref_id("gate").context)


SHOWN = {
    "message": "Pay these?",
    "show": {"rows": [{"to": "Ada", "amount": 120.5, "paid": False}, {"to": "Bob", "amount": 80, "note": None}]},
    "form": {"note": "str", "grade": [1, 2, 3]},
    "choices": ["approve", "revise", "reject"],
}


def mutated(seen: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Change one thing that a person sees, be it as small as a character that shows nothing."""
    changed = deepcopy(seen)
    row = chance.choice(changed["show"]["rows"])
    match chance.randrange(9):
        case 0:
            row["amount"] += chance.choice([1, -1, 0.01, 1e-9])
        case 1:
            place = chance.randrange(len(row["to"]) + 1)
            row["to"] = row["to"][:place] + chance.choice(["x", " ", "\u200b", "\u202e", "ä"]) + row["to"][place:]
        case 2:
            changed["message"] += chance.choice([" ", "!", "\u200b", "\n"])
        case 3:
            changed["show"]["rows"].append(dict(row))
        case 4:
            changed["show"]["rows"].reverse()
        case 5:
            row.pop(chance.choice(sorted(row)))
        case 6:
            changed["form"][chance.choice(["note", "grade", "more"])] = chance.choice(["int", "bool", [1, 2]])
        case 7:
            changed["choices"] = chance.sample(changed["choices"], 2)
        case 8:
            row["paid"] = chance.choice([True, 0, None, "false", [], {}])
    return changed


def test_of_a_thousand_changed_previews_none_is_approved() -> None:
    """Whatever is changed after it was shown: the decision is refused, and the gate still waits."""
    chance = random.Random(4)
    flow = Flow("paying")
    flow.approval("Pay these?", name="gate")
    with Bench() as bench:
        bench.registry.register("approval", ApprovalTask)
        workflow = flow.build()
        workflow.stages[0].context.update(SHOWN)
        bench.run(workflow)
        (shown,) = gates_in(bench.database)
        changes = 0
        while changes < 1_000:
            seen = mutated(SHOWN, chance)
            if json.dumps(seen, sort_keys=True) == json.dumps(SHOWN, sort_keys=True):
                continue
            changes += 1
            _show(bench, shown.stage_id, seen)
            bench.queue.push(order(shown, "approve", {"grade": 1}, bound=True))
            bench.processor.process_all(timeout=PATIENCE)
        decisions = decisions_in(bench.database, workflow.id)

        assert [each.refused for each in decisions] == ["changed"] * 1_000
        assert bench.statuses(workflow) == {"gate": "SUSPENDED"}
        _show(bench, shown.stage_id, SHOWN)
        bench.queue.push(order(shown, "approve", {"grade": 1}, bound=True))
        bench.processor.process_all(timeout=PATIENCE)
        assert bench.statuses(workflow) == {"gate": "SUCCEEDED"}


def _show(bench: Bench, stage_id: str, seen: dict[str, Any]) -> None:
    """Have a gate ask something else, as whoever changes a store behind its back does."""
    statement = "UPDATE stage SET context = ? WHERE id = ?"
    bench.database.write(lambda db: asked(db, statement, dumps(seen), stage_id))


# -- the first one counts -----------------------------------------------------------------------------


def test_of_two_decisions_the_first_counts_and_the_second_hears_of_it(engine: Engine) -> None:
    """The second one changes nothing, and is told who decided what and when."""
    run, gate = at_gate(engine)
    first, second = run.decide(gate, "approve", user="ada"), run.decide(gate, "reject", user="bob", reason="no")

    decided = answer(run, first)

    assert said(run, second) == f"your decision came second: {who_and_when(decided)}"
    assert "approved by ada at " in said(run, second)
    assert run.result(PATIENCE) == {"approved": True, "approval": {"user": "ada"}}


def test_who_decides_as_gates_come_meets_each_once(engine: Engine) -> None:
    """A gate that this handle has decided is not given again while its decision waits to be processed."""
    flow = Flow("committee")
    for at in range(12):
        flow.approval("Agreed?", name=f"gate_{at}")
    run, met = engine.start(flow), []

    while gates := run.until_gate(PATIENCE):
        for gate in gates:
            met.append(gate.name)
            run.approve(gate)

    assert sorted(met) == sorted(flow.stages)
    assert run.status is S.SUCCEEDED


def test_of_many_people_at_once_one_decides(engine: Engine) -> None:
    """Twenty clicks in twenty threads: one counts, and all others name the same person."""
    run, gate = at_gate(engine)
    ids: dict[str, str] = {}

    def click(user: str) -> None:
        ids[user] = run.decide(gate, "approve", user=user)

    clicks = [threading.Thread(target=click, args=(f"user-{number}",)) for number in range(20)]
    for each in clicks:
        each.start()
    for each in clicks:
        each.join()

    answers = {user: answer(run, each) for user, each in ids.items()}
    (winner,) = [user for user, each in answers.items() if not each.refused]
    assert run.result(PATIENCE)["approval"] == {"user": winner}
    assert {said(run, each) for user, each in ids.items() if user != winner} == {
        f"your decision came second: {who_and_when(answers[winner])}"
    }


def test_a_second_decision_is_not_kept_for_the_next_round() -> None:
    """A click too many decides nothing later, when the same gate is asked again."""
    with Bench() as bench:
        flow = publishing()
        flow.register(bench.registry)
        bench.registry.register("approval", ApprovalTask)
        workflow = flow.build()
        bench.run(workflow)
        (gate,) = gates_in(bench.database)
        for _ in range(2):
            approve(bench.queue, workflow.id, gate.stage_id, {"user": "ada"})
        bench.processor.process_all(timeout=PATIENCE)

        decisions = decisions_in(bench.database, workflow.id)
        assert [each.refused for each in decisions] == ["", "not waiting"]
        assert bench.statuses(workflow)["gate"] == "SUCCEEDED"


def test_who_comes_after_the_end_is_told_who_decided(engine: Engine) -> None:
    """From Python an error says who and when; a click that was under way hears the same."""
    run, gate = at_gate(engine)
    run.decide(gate, "approve", user="ada")
    run.wait(PATIENCE)

    with pytest.raises(StageNotReadyError, match=r"gate 'gate' of run .* was decided already: approved by ada at 20"):
        run.approve("gate")
    assert said(run, run.decide(gate, "reject")).startswith("your decision came second: approved by ada at ")


def test_a_gate_that_was_withdrawn_is_not_said_to_be_decided(engine: Engine) -> None:
    """Nobody decided it, so nobody is named."""
    run, gate = at_gate(engine)
    run.cancel()
    run.wait(PATIENCE)

    assert said(run, run.decide(gate, "approve")) == "nothing was decided: this gate does not wait any more"


# -- choices and values -------------------------------------------------------------------------------


def revising() -> Flow:
    """A flow that goes two ways behind its gate."""
    flow = publishing(choices=["approve", "revise", "reject"])

    @flow.stage(after="gate", when="gate.decision == 'revise'")
    def mend(gate):
        return gate["approval"]["note"]

    return flow


@pytest.mark.parametrize(
    ("choice", "mends"), [("approve", "SKIPPED"), ("revise", "SUCCEEDED")], ids=["approve", "revise"]
)
def test_stages_behind_a_gate_can_ask_which_choice_was_taken(engine: Engine, choice: str, mends: str) -> None:
    """Every choice but "reject" approves; `decision` says which one it was."""
    run = engine.start(revising())
    (gate,) = run.until_gate(PATIENCE)

    run.decide(gate, choice, note="tighter")
    run.wait(PATIENCE)

    stages = {stage.ref_id: stage for stage in run.workflow.stages}
    assert stages["gate"].outputs == {
        "approved": True, "decision": choice, "approval": {"note": "tighter", "decision": choice},
    }  # fmt: skip
    assert stages["mend"].status.name == mends


def test_python_takes_a_choice_by_its_name(engine: Engine) -> None:
    """`run.approve(decision="revise")` is what people try first."""
    run = engine.start(revising())
    run.until_gate(PATIENCE)

    run.approve(decision="revise", note="x")
    run.wait(PATIENCE)

    assert run.outputs["gate"]["decision"] == "revise"


def test_a_choice_that_is_not_on_offer_is_refused(engine: Engine) -> None:
    """At once by Python, and by the engine when it comes as a signal; the gate goes on waiting."""
    run, gate = at_gate(engine, choices=["ship", "hold"])

    with pytest.raises(ConfigError, match="gate 'gate' does not offer 'approve'; choose one of 'ship', 'hold'"):
        run.approve("gate")
    with pytest.raises(ConfigError, match="does not offer 'reject'"):
        run.reject("gate")
    run.signal("gate", "approve", {"decision": "burn"})
    refused = _refused(run)

    assert why_refused(refused, decided(run)) == "nothing was decided: this gate does not offer 'burn'"
    run.decide(gate, "hold")
    assert run.result(PATIENCE)["decision"] == "hold"


def _refused(run: Run) -> Decision:
    for _ in range(round(PATIENCE / 0.05)):
        ticket = run.engine.database.changes.ticket()
        if decided(run):
            return decided(run)[-1]
        ticket.wait(0.05)
    raise AssertionError


def test_what_came_before_the_gate_is_looked_at_when_it_waits() -> None:
    """A decision that is kept and that the gate does not offer is refused, and the next one counts."""
    with Bench() as bench:
        flow = publishing(choices=["ship", "hold"])
        flow.register(bench.registry)
        bench.registry.register("approval", ApprovalTask)
        workflow = flow.build()
        gate = workflow.stage_by_ref_id("gate")
        bench.store.store(workflow)
        for decision in ("burn", "hold"):
            approve(bench.queue, workflow.id, gate.id, {"decision": decision})
        bench.orchestrator.start(workflow)
        bench.processor.process_all(timeout=PATIENCE)

        decisions = decisions_in(bench.database, workflow.id)
        assert [(each.choice, each.refused) for each in decisions] == [("burn", "choice"), ("hold", "")]


@dataclass(frozen=True)
class Typed:
    """A kind of field, what is filled in, and what stages get."""

    kind: Any
    given: Any
    value: Any


@pytest.mark.parametrize(
    "typed",
    [
        Typed(int, "2", 2), Typed(int, 2.0, 2), Typed(float, "1.5", 1.5), Typed(float, 2, 2.0), Typed(str, 7, "7"),
        Typed(bool, "yes", True), Typed(bool, False, False), Typed([1, 2], "2", 2), Typed([1, True, "1"], True, True),
        Typed(date, date(2026, 11, 22), "2026-11-22"), Typed(date, "2026-11-22", "2026-11-22"),
        Typed(date, datetime(2026, 11, 22, 9), "2026-11-22"),  # noqa: DTZ001 - a day has no zone
        Typed(int | None, None, None), Typed("int?", "3", 3),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_filled_in_arrives_typed(engine: Engine, typed: Typed) -> None:
    """Stages get values of the type that the form names; a date is ISO text, which JSON has."""
    run, _ = at_gate(engine, form={"field": typed.kind})

    run.approve(field=typed.given)

    arrived = run.result(PATIENCE)["approval"]["field"]
    assert (arrived, type(arrived)) == (typed.value, type(typed.value))


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        (int, "2.5", "field 'field' of gate 'gate' takes a whole number, not '2.5'"),
        (int, True, "takes a whole number, not True"),
        (int, 2**70, "takes a whole number"),
        (float, "nan", "takes a number, not 'nan'"),
        (bool, "perhaps", "takes yes or no, not 'perhaps'"),
        (date, "22.11.2026", "takes a date such as 2026-11-22, not '22.11.2026'"),
        ([1, 2], 3, "cannot be 3; choose one of 1, 2"),
        (int, None, "takes a whole number, not None"),
    ],
)
def test_what_does_not_fit_a_field_is_refused(engine: Engine, kind: Any, given: Any, says: str) -> None:
    """One sentence names the field, what it takes and what came; the gate still waits."""
    run, gate = at_gate(engine, form={"field": kind})

    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        run.approve(field=given)
    assert run.gates == [gate]


def test_approval_without_a_field_that_has_to_be_filled_in_is_refused(engine: Engine) -> None:
    """No stage behind the gate misses a value: text and yes-or-no have an empty one, the rest is asked for."""
    run, gate = at_gate(engine, form={"times": int, "on": date | None, "note": str, "urgent": bool, "grade": [1, 2]})

    with pytest.raises(ConfigError, match=r"needs 'times' \(a whole number\), 'grade' .*approve\(times=\.\.\., grade="):
        run.approve(note="late")
    assert run.gates == [gate]
    run.approve(times=2, grade=1)

    given = run.result(PATIENCE)["approval"]
    assert {name: given[name] for name in ("times", "note", "urgent", "grade")} == {
        "times": 2, "note": "", "urgent": False, "grade": 1,
    }  # fmt: skip
    assert "on" not in given


def test_rejection_needs_no_field(engine: Engine) -> None:
    """Who says no owes nothing more."""
    run, _ = at_gate(engine, form={"times": int})

    run.reject(reason="no")

    assert run.wait(PATIENCE).is_complete


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            {"form": {"a": "number"}},
            "stage 'gate': form field 'a' is 'number'; write one of str, int, float, bool, date",
        ),
        ({"form": {"a": []}}, "form field 'a' is []"),
        ({"choices": [1]}, "stage 'gate': choices=[1] is no list of names"),
        ({"timeout": "soon"}, "stage 'gate': timeout='soon' is no time: seconds above 0, a timedelta, or text such as"),
        ({"timeout": 0}, "timeout=0 is no time"),
        ({"timeout": float("nan")}, "timeout=nan is no time"),
        (
            {"timeout": "2h", "on_timeout": "revise"},
            "on_timeout='revise' is not known; write one of 'approve', 'reject'",
        ),
    ],
)
def test_a_gate_that_cannot_be_is_refused_where_it_is_written(words: dict[str, Any], says: str) -> None:
    """The line that defines it says what is wrong."""
    with pytest.raises(ConfigError) as refused:
        publishing(**words)
    assert says in str(refused.value)


# -- deadlines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("2h", 7_200), ("90 min", 5_400), ("1h 30m", 5_400), ("1h30m", 5_400), ("5min3s", 303), ("2d", 172_800),
        ("500ms", 0.5), ("1.5h", 5_400), ("30", 30), (30, 30), (0.25, 0.25),
        (timedelta(hours=2), 7_200), ("1w", 604_800),
    ],
)  # fmt: skip
def test_times_are_written_as_people_write_them(given: Any, seconds: float) -> None:
    """Numbers are seconds."""
    assert seconds_of(given) == seconds


@pytest.mark.parametrize("given", ["", "h", "2 fortnights", "-1", "2h x", True, None, [], "inf", "nan", 1e300])
def test_what_is_no_time_is_refused(given: Any) -> None:
    """Rather than taken for no deadline, or for one that never comes."""
    with pytest.raises(ValueError, match="is no time"):
        seconds_of(given)


class Clock:
    """A clock that is set by hand."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.now = bench.database.clock()
        bench.database.clock = lambda: self.now

    def to(self, ms: int) -> None:
        """Set the clock, and let what is due happen."""
        self.now = ms
        self.bench.processor.process_all(timeout=PATIENCE)


@dataclass
class Waiting:
    """A gate with a deadline, and the clock by which it waits."""

    bench: Bench
    clock: Clock
    gate: Gate
    run_id: str

    @property
    def statuses(self) -> dict[str, str]:
        return {stage.ref_id: stage.status.name for stage in self.bench.store.retrieve(self.run_id).stages}

    @property
    def outputs(self) -> dict[str, Any]:
        return self.bench.store.retrieve(self.run_id).stage_by_ref_id("gate").outputs

    @property
    def error(self) -> str | None:
        return self.bench.store.retrieve(self.run_id).stage_by_ref_id("gate").error


@pytest.fixture
def waiting() -> Iterator[Callable[..., Waiting]]:
    """Bring gates with deadlines to where they wait."""
    with Bench() as bench:
        bench.registry.register("approval", ApprovalTask)
        clock = Clock(bench)

        def make(**words: Any) -> Waiting:
            flow = publishing(**{"timeout": "2h", **words})
            flow.register(bench.registry)
            workflow = flow.build()
            bench.run(workflow)
            (gate,) = gates_in(bench.database, workflow.id)
            return Waiting(bench, clock, gate, workflow.id)

        yield make


def test_a_gate_says_when_it_decides_itself(waiting: Callable[..., Waiting]) -> None:
    """The deadline counts from when the gate began to wait."""
    made = waiting()

    assert made.gate.deadline == made.clock.now + 2 * HOUR
    assert made.gate.on_timeout == "reject"


def test_until_its_deadline_a_gate_waits_and_then_it_rejects(waiting: Callable[..., Waiting]) -> None:
    """Not a millisecond before; it is recorded as decided by the deadline, and denies unless something else is said."""
    made = waiting()

    made.clock.to(made.gate.deadline - 1)
    assert made.statuses["gate"] == "SUSPENDED"
    made.clock.to(made.gate.deadline)

    assert made.statuses["gate"] == "TERMINAL"
    assert made.error == "approval 'gate' was rejected by deadline: nobody decided within 2 h"
    decision = last_of(decisions_in(made.bench.database, made.run_id))
    assert (decision.user, decision.choice, decision.fingerprint) == ("deadline", "reject", made.gate.fingerprint)
    assert who_and_when(decision).startswith("rejected by the deadline at ")


@pytest.mark.parametrize(
    ("words", "status", "outputs"),
    [
        ({"on_timeout": "approve"}, "SUCCEEDED", {"approved": True}),
        ({"reject_continues": True}, "FAILED_CONTINUE", {"approved": False}),
        ({"on_timeout": "fail", "reject_continues": True}, "TERMINAL", {}),
        ({"on_timeout": "hold", "choices": ["ship", "hold"]}, "SUCCEEDED", {"approved": True, "decision": "hold"}),
    ],
    ids=["approve", "reject and go on", "fail", "a choice"],
)
def test_a_deadline_does_what_the_gate_says(
    waiting: Callable[..., Waiting], words: dict[str, Any], status: str, outputs: dict[str, Any]
) -> None:
    """Each outcome of `on_timeout`."""
    made = waiting(**words)

    made.clock.to(made.gate.deadline)

    assert made.statuses["gate"] == status
    assert outputs.items() <= made.outputs.items()
    assert not made.outputs or made.outputs["approval"]["user"] == "deadline"


def test_whoever_comes_after_the_deadline_hears_of_it(waiting: Callable[..., Waiting]) -> None:
    """Deadline and person are two who decide: the first counts."""
    made = waiting()
    made.clock.to(made.gate.deadline)

    made.bench.queue.push(order(made.gate, "approve", {"user": "ada"}, bound=True))
    made.clock.to(made.clock.now + 1)

    *_, late = decisions = decisions_in(made.bench.database, made.run_id)
    assert why_refused(late, decisions).startswith("your decision came second: rejected by the deadline at ")


def test_a_gate_that_was_decided_in_time_has_no_deadline_any_more(waiting: Callable[..., Waiting]) -> None:
    """The timer finds nothing to do."""
    made = waiting()
    made.bench.queue.push(order(made.gate, "approve", {"user": "ada"}, bound=True))
    made.clock.to(made.clock.now + 1)

    made.clock.to(made.gate.deadline + HOUR)

    assert made.outputs["approval"] == {"user": "ada"}
    assert len(decisions_in(made.bench.database, made.run_id)) == 1


def test_other_signals_do_not_give_a_gate_more_time(waiting: Callable[..., Waiting]) -> None:
    """A gate that was woken by something else waits for the rest of its time."""
    made = waiting()
    ping = SignalStage(execution_id=made.run_id, stage_id=made.gate.stage_id, signal_name="ping")
    for hour in (0.5, 1, 1.5):
        made.bench.queue.push(ping)
        made.clock.to(made.gate.deadline - 2 * HOUR + round(hour * HOUR))
        assert gates_in(made.bench.database) == [made.gate]

    made.clock.to(made.gate.deadline)

    assert made.statuses["gate"] == "TERMINAL"


def test_a_clock_that_was_set_back_decides_nothing_early(waiting: Callable[..., Waiting]) -> None:
    """The timer waits again for the time that is left."""
    made = waiting()
    begun = made.clock.now
    made.clock.to(begun - HOUR)
    assert made.statuses["gate"] == "SUSPENDED"

    made.clock.to(made.gate.deadline)

    assert made.statuses["gate"] == "TERMINAL"


def test_a_deadline_outlives_its_process(tmp_path: Path) -> None:
    """It was due while nothing ran, and the next engine carries it out at once."""
    with Engine(tmp_path / "runs.db") as engine:
        run, gate = at_gate(engine, timeout=0.3, on_timeout="approve")
        run_id = run.id
    with Engine(tmp_path / "runs.db") as engine:
        engine.define(publishing())
        (run,) = engine.resume()

        assert run.id == run_id
        assert run.wait(PATIENCE) is S.SUCCEEDED
        (decision,) = decided(run)
        assert decision.user == "deadline"
        assert decision.at >= gate.deadline


def test_a_gate_of_the_reference_api_that_cannot_wait_fails_with_a_sentence(engine: Engine) -> None:
    """What its context says about time and choices is looked at before anybody is asked."""
    workflow = publishing().build()
    workflow.stage_by_ref_id("gate").context["timeout"] = "next week"
    engine.define(publishing())

    run = engine.start(workflow)
    run.wait(PATIENCE)

    assert "approval 'gate' cannot wait: timeout='next week' is no time" in run.workflow.stage_by_ref_id("gate").error


def test_the_inbox_has_the_gates_of_all_runs(engine: Engine) -> None:
    """Oldest first, as a list; what waits for another run or has been decided is not in it."""
    outer = Flow("outer")
    outer.call(publishing(), name="inner")
    run = engine.start(outer)
    first, _ = at_gate(engine)
    while len(engine.inbox()) < 2:
        engine.database.changes.ticket().wait(0.05)

    names = {(gate.run_name, gate.name) for gate in engine.inbox()}
    assert names == {("publishing", "gate")}
    assert all(gate.run_id != run.id for gate in engine.inbox())
    first.approve("gate")
    first.wait(PATIENCE)
    assert [gate.run_id for gate in engine.inbox() if gate.run_id == first.id] == []
