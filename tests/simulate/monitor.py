"""The monitor: what the engine recorded for each message, held against what the model says has to follow from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stabilize_nb.core import facts as f
from stabilize_nb.core.draft import Body, Purpose
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue import messages as m
from tests.simulate.definitions import Answer
from tests.simulate.model import bodies, gates, instances, joins, jumps, orders, over, reactions
from tests.simulate.model.state import Case, Edge, Said


class Divergence(AssertionError):
    """The engine and the model do not agree."""


@dataclass(frozen=True)
class Heard:
    """One decision of the engine: a message and what it led to."""

    message: m.Message
    facts: tuple[f.Fact, ...]
    bodies: tuple[Body, ...]


class Monitor:
    """Feeds the model of one workflow; `names` gives the ref of every row that was ever seen, by its id."""

    def __init__(self, case: Case, names: Mapping[str, str]) -> None:
        self.case = case
        self.names = names
        self.orders: list[m.Message] = []  # from outside: each may be carried out once

    def hear(self, heard: Heard, present: Mapping[str, int], answer: Answer | None) -> bool:
        """
        Compare one decision; returns whether the answer of a body was accepted.

        `present` says which rows there were before the decision: id and generation.
        """
        if isinstance(heard.message, ORDERS):
            if any(heard.message is order for order in self.orders):
                raise Divergence(f"{self._about(heard.message)} is carried out twice")
            self.orders.append(heard.message)
        self.case.said = []
        self.case.patient = dict(self._patient(heard))
        self.case.eager = {self.names[fact.stage] for fact in heard.facts if isinstance(fact, f.StageStarted)}
        accepted = self._tell(heard.message, present, answer)
        for fact in heard.facts:
            if isinstance(fact, f.ChildStarted):
                self.case.runs[self.names[fact.stage]].child = fact.child
        reactions.settle(self.case)
        expected = Counter(self.case.said)
        recorded = Counter(said for fact in heard.facts for said in self._told(fact))
        recorded.update(
            ("on_cancel", self.names[body.stage.id]) for body in heard.bodies if body.purpose is Purpose.ON_CANCEL
        )
        if expected != recorded:
            missing, extra = list((expected - recorded).elements()), list((recorded - expected).elements())
            raise Divergence(f"{self._about(heard.message)}: not recorded {missing}, recorded all the same {extra}")
        for body in heard.bodies:
            if body.purpose is Purpose.EXECUTE:
                self._look(body)
        return accepted

    def would_accept(self, message: m.Message) -> bool:
        """Whether a message is a result that is waited for."""
        if not isinstance(message, m.TaskFinished) or message.generation is None:
            return False
        name = self.names[message.stage_id]
        return bodies.wants(self.case, name, message.generation, message.position, message.attempt)

    def compare(self, statuses: Mapping[str, str]) -> None:
        """Compare the rows that are stored with the runs of the model."""
        runs = {run.name: run.status for run in self.case.runs.values()}
        if runs != statuses:
            wrong = {name for name in runs.keys() | statuses.keys() if runs.get(name) != statuses.get(name)}
            told = ", ".join(f"{name} is {statuses.get(name)} and not {runs.get(name)}" for name in sorted(wrong))
            raise Divergence(f"rows of {self.case.name}: {told}")

    def _patient(self, heard: Heard) -> Iterable[tuple[str, str]]:
        """Say which runs stand in a line after this decision."""
        for fact in heard.facts:
            if isinstance(fact, f.StageWaits) and ":" in fact.waits:
                yield self.names[fact.stage], "lock" if fact.waits.startswith("mutex:") else "choice"

    def _about(self, message: m.Message) -> str:
        place = self.names.get(getattr(message, "stage_id", ""), "")
        return f"{type(message).__name__}({self.case.name} {place}) {message}"

    def _look(self, body: Body) -> None:
        """Compare what a body sees of other stages with the causal history of its run (2.4)."""
        run = self.case.runs[self.names[body.stage.id]]
        seen = {key[4:]: value for key, value in body.context.items() if key.startswith("out_") and key[4:] != run.ref}
        current = {(ref, n) for ref, generation, n in run.sees if self.case.places[ref].generation == generation}
        ever = {ref for ref, _, _ in run.sees}
        expected = {ref for ref, _ in current}
        wrong = {ref for ref in expected if (ref, seen.get(ref)) not in current} | (seen.keys() - ever)
        led = body.context.get("_triggered_by")
        if (None if led is None else (*led,)) != run.led:
            raise Divergence(f"{run.name} was led to by {led} and not by {run.led}")
        if wrong:
            raise Divergence(f"{run.name} sees {seen} and not {sorted(run.sees)}")

    def _tell(self, message: m.Message, present: Mapping[str, int], answer: Answer | None) -> bool:
        case = self.case
        stage_id = getattr(message, "stage_id", "")
        name = self.names.get(stage_id, "") if stage_id in present else ""
        match message:
            case m.StartWorkflow():
                orders.start(case)
            case m.StartStage(via=None):
                joins.begin(case, name)
            case m.StartStage():
                edge = Edge(self.names[message.via], message.via_generation, name, message.number)
                joins.deliver(case, edge)
            case m.EnterStage():
                gates.go_on(case, name, message.generation)
            case m.RunTask():
                bodies.call(case, name, message.generation, message.position)
            case m.TaskFinished() if answer is not None:
                generation = message.generation if stage_id in present and message.generation is not None else -1
                where = (self.names[stage_id], generation, message.position, message.attempt)
                return bodies.finish(case, *where, answer.text, answer.number)
            case m.JumpToStage():
                jumps.leap(case, name, message.generation)
            case m.TimeoutStage():
                bodies.time_out(case, name, message.generation)
            case m.SignalStage(signal_name=bodies.CHILD_ENDED):
                bodies.child_ended(case, self.names.get(stage_id, ""), message.generation)
            case m.SignalStage():
                bodies.signal(case, name, message.signal_name, persistent=message.persistent)
            case m.CancelStage():
                orders.cancel(case, name)
            case m.CancelRegion():
                orders.cancel_region(case, message.region)
            case m.AddMultiInstance():
                instances.add(case, name)
            case m.CloseMultiInstance():
                instances.close(case, name)
            case m.CompleteMultiInstance():
                instances.complete(case, name)
            case m.CancelWorkflow():
                orders.cancel_workflow(case)
            case m.PauseWorkflow():
                orders.pause(case)
            case m.ResumeWorkflow():
                orders.resume(case)
            case m.CompleteWorkflow():
                over.complete(case)
            case _:
                raise Divergence(f"the model knows nothing of {message}")
        return False

    def _told(self, fact: f.Fact) -> Iterable[Said]:
        """Say a fact in the words of the model; what it has no word for is left out."""
        name = self.names.get
        match fact:
            case f.TokenArrived():
                source = name(fact.source)
                yield ("token", name(fact.stage), fact.number, name(fact.via), source, fact.token.value, fact.held)
            case f.JoinFired():
                sources = [name(each) for each in fact.triggers]
                if fact.via:
                    yield ("token", name(fact.stage), fact.number, name(fact.via), *sources, "LIVE", False)
                yield ("fired", name(fact.row), *sorted(sources))
            case f.JoinPassed():
                yield ("passed", name(fact.stage), fact.token.value)
            case f.StageEnded():
                token = fact.token.value if fact.token else ""
                reason = fact.reason if fact.status is WorkflowStatus.CANCELED else ""
                yield ("ended", name(fact.stage), fact.status.value, token, reason, *sorted(fact.not_taken))
            case f.StageReset():
                yield ("reset", name(fact.stage), fact.generation)
            case f.TaskStarted():
                yield ("called", name(fact.stage), fact.position, fact.attempt)
            case f.TaskEnded():
                yield ("task", name(fact.stage), fact.position, fact.status.value)
            case f.SignalBuffered():
                yield ("kept", name(fact.stage), fact.name)
            case f.SignalDelivered():
                yield ("delivered", name(fact.stage), fact.name)
            case f.SignalDropped():
                yield ("dropped", name(fact.stage), fact.name)
            case f.InstanceAdded():
                yield ("added", name(fact.row))
            case f.JumpExecuted():
                yield ("jumped", name(fact.stage), fact.target, fact.number)
            case f.WorkflowStarted() | f.WorkflowPaused() | f.WorkflowResumed():
                yield ("workflow", type(fact).__name__.removeprefix("Workflow").lower())
            case f.WorkflowEnding():
                yield ("workflow", "ending", fact.status.value)
            case f.WorkflowEnded():
                yield ("workflow", "ended", fact.status.value)
            case _ if type(fact) in PLAIN:
                yield (PLAIN[type(fact)], name(fact.stage))


#: Messages that only their acknowledgement keeps from having an effect twice.
ORDERS = (
    m.SignalStage,
    m.CancelStage,
    m.CancelRegion,
    m.CancelWorkflow,
    m.PauseWorkflow,
    m.ResumeWorkflow,
    m.AddMultiInstance,
    m.CloseMultiInstance,
    m.CompleteMultiInstance,
)
#: Facts of which only the row matters.
PLAIN: dict[type[f.Fact], str] = {
    f.StageStarted: "started",
    f.StageSuspended: "suspended",
    f.StagePaused: "paused",
    f.StageResumed: "resumed",
    f.StageRetired: "retired",
    f.TaskRetried: "retried",
    f.TaskPolled: "polled",
    f.ResultDiscarded: "discarded",
    f.ChildStarted: "calls",
    f.InstanceRefused: "refused",
    f.ActivityClosed: "closed",
}
