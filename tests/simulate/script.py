"""What bodies answer, and what people order, as messages and outcomes."""

from __future__ import annotations

from collections import Counter

from stabilize_nb.core.draft import Body
from stabilize_nb.queue import messages as m
from tests.simulate.definitions import Answer, definition_of, outcome_of
from tests.simulate.plan import Act, Plan, Stage


class Script:
    """Bodies of a plan: each answer that counts is followed by the next; a body that is run again gives the same."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stages = {(flow.name, stage.ref): stage for flow in plan.flows for stage in flow.stages}
        self.given: Counter[tuple[str, str]] = Counter()  # answers that counted, by workflow and stage
        self.children = 0

    def finish(self, name: str, flow: str, body: Body) -> tuple[m.TaskFinished, Answer]:
        """Let a body of a workflow end."""
        ref = body.stage.spec.ref_id
        answers, given = self._answers(flow, ref), self.given[name, ref]
        answer = Answer(answers[min(given, len(answers) - 1)], given + 1)
        message = m.TaskFinished(
            execution_id=name, stage_id=body.stage.id, generation=body.stage.generation, position=body.task.position,
            attempt=body.task.attempt, outcome=self._outcome(answer, self.stages.get((flow, ref)), ref),
        )  # fmt: skip
        return message, answer

    def counted(self, name: str, body: Body) -> None:
        """The answer of a body counted."""
        self.given[name, body.stage.spec.ref_id] += 1

    def _answers(self, flow: str, ref: str) -> tuple[str, ...]:
        stage = self.stages.get((flow, ref))
        if stage is not None:
            return stage.does
        many = self.stages[flow, ref.rpartition("_instance_")[0]].many
        return ("ok",) if many is None else many.does

    def _outcome(self, answer: Answer, stage: Stage | None, ref: str) -> m.Outcome:
        kind, _, flow = answer.text.partition(":")
        if kind != "call":
            return outcome_of(answer, ref, stage.many if stage else None)
        self.children += 1
        child = definition_of(self.plan.flow(flow), f"{flow}@{self.children}")
        return m.Outcome(kind=m.OutcomeKind.CHILD, child=child)


def message_of(act: Act, signal: str) -> m.Message:
    """Return the message of an order from outside; `signal` is the name of a signal that nobody else has."""
    here = {"execution_id": act.flow}
    there = here | {"stage_id": f"{act.flow}.{act.ref}"}
    match act.kind:
        case "signal" | "keep":
            return m.SignalStage(**there, signal_name=signal, persistent=act.kind == "keep")
        case "cancel":
            return m.CancelStage(**there)
        case "region":
            return m.CancelRegion(**here, region=act.ref)
        case "add":
            return m.AddMultiInstance(**there)
        case "close":
            return m.CloseMultiInstance(**there)
        case "complete":
            return m.CompleteMultiInstance(**there)
        case "end":
            return m.CancelWorkflow(**here)
        case "pause":
            return m.PauseWorkflow(**here)
        case "resume":
            return m.ResumeWorkflow(**here)
    raise AssertionError(act)
