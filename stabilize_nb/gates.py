"""Gates: the stages at which a person decides, as they wait in a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from stabilize_nb.models.forms import Field, fields_of
from stabilize_nb.models.gate import (
    APPROVE,
    REJECT,
    asked_in,
    choices_of,
    deadline_of,
    fingerprint_of,
    is_gate,
    on_timeout_of,
)
from stabilize_nb.models.settling import OUTPUTS, SETTLEMENTS, fingerprint
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.values import EMPTY
from stabilize_nb.store.codec import loads

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A stage that waits for a decision. `since` and `deadline` are ms since the epoch (UTC).

    `choices`: the decisions on offer, of which "reject" rejects and every other one approves. `named`: whether its
    author named them, so that stages get `decision`. `fingerprint` stands for the question, what is shown, the form and
    the choices: a decision that carries it counts only while the gate asks exactly that. `doubt`: why it is not known
    what became of the stage's body, which is then what is to be settled; nothing for every other gate.
    """

    run_id: str
    run_name: str
    name: str
    stage_id: str
    question: str = ""
    show: Any = None
    form: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    since: int | None = None
    choices: tuple[str, ...] = (APPROVE, REJECT)
    named: bool = False
    deadline: int | None = None
    on_timeout: str = REJECT
    generation: int = 0
    fingerprint: str = ""
    doubt: str = ""

    @property
    def fields(self) -> tuple[Field, ...]:
        """What a person fills in."""
        return fields_of(self.form)


def takes_decision(stage: StageExecution) -> bool:
    """Whether a decision can be sent to a stage: it waits for somebody now, or it is a gate."""
    return stage.status is WorkflowStatus.SUSPENDED or is_gate(task.implementing_class for task in stage.tasks)


def doubt_about(stage: StageExecution) -> tuple[str, int]:
    """Return why it is not known what became of a stage's body, and of which attempt; "" when nothing is to settle."""
    waiting = (task for task in stage.tasks if task.status is WorkflowStatus.SUSPENDED)
    return next(((str(task.exception_details.get("error", "")), task.attempt) for task in waiting), ("", 0))


def gates_in(database: Database, run_id: str | None = None) -> list[Gate]:
    """Return every suspended stage of a database, or of one run, that asks for a decision, oldest first."""
    rows = database.call_read(lambda connection: connection.all("suspended_stages", {"workflow_id": run_id}))
    return [
        _in_doubt(_gate(stage_id, of_run, ref_id, loads(context), since, generation, begun, run_name), error, attempt)
        for stage_id, of_run, ref_id, context, since, generation, begun, run_name, error, attempt in rows
    ]


def gate_of(run_id: str, run_name: str, stage: StageExecution) -> Gate:
    """Return a gate as its stage has it, also one that does not wait yet."""
    begun = min((task.start_time for task in stage.tasks if task.start_time is not None), default=None)
    gate = _gate(stage.id, run_id, stage.ref_id, stage.context, stage.start_time, stage.generation, begun, run_name)
    return _in_doubt(gate, *doubt_about(stage))


def _in_doubt(gate: Gate, error: str | None, attempt: int) -> Gate:
    """Return a gate as it is, or one that asks what became of the body of its stage."""
    if not error:
        return gate
    return replace(
        gate, doubt=error, question=f"{error}. What became of it?", show=None, form=_OUTCOME, choices=SETTLEMENTS,
        named=True, deadline=None, fingerprint=fingerprint(error, attempt),
    )  # fmt: skip


#: What a person may fill in about a body that is done.
_OUTCOME: Mapping[str, Any] = {OUTPUTS: "json?"}


def _gate(
    stage_id: str, run_id: str, ref_id: str, asked: Mapping[str, Any], since: int | None, generation: int,
    begun: int | None, run_name: str,
) -> Gate:  # fmt: skip
    asked = asked_in(asked)
    return Gate(
        run_id=run_id, run_name=run_name, name=ref_id, stage_id=stage_id, question=str(asked.get("message") or ""),
        show=asked.get("show"), form=_form(asked), since=since, choices=choices_of(asked),
        named=bool(asked.get("choices")), deadline=_deadline(asked, begun), on_timeout=on_timeout_of(asked),
        generation=generation, fingerprint=fingerprint_of(asked),
    )  # fmt: skip


def _form(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    form = asked.get("form")
    return form if isinstance(form, dict) else EMPTY


def _deadline(asked: Mapping[str, Any], begun: int | None) -> int | None:
    """Return the deadline; a stage that waits by code of its own may mean something else by `timeout`."""
    try:
        return deadline_of(asked, begun)
    except ValueError:
        return None
