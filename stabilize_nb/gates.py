"""Gates: the stages at which a person decides, as they wait in a store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.values import EMPTY
from stabilize_nb.store.codec import loads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A stage that waits for a decision. `since` is ms since the epoch (UTC)."""

    run_id: str
    run_name: str
    name: str
    stage_id: str
    question: str = ""
    show: Any = None
    form: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    since: int | None = None


def is_gate(stage: StageExecution) -> bool:
    """Whether a person decides at a stage: it waits for a signal now, or one of its tasks is an approval."""
    return stage.status is WorkflowStatus.SUSPENDED or any(
        task.implementing_class == "approval" for task in stage.tasks
    )


def gates_in(database: Database) -> list[Gate]:
    """Return every suspended stage of a database that asks for a decision, oldest first."""
    gates = []
    for stage_id, run_id, ref_id, _spec, context, since, run_name in database.call_read(
        lambda connection: connection.all("suspended_stages", {})
    ):
        asked: dict[str, Any] = loads(context)
        gates.append(
            Gate(
                run_id=run_id, run_name=run_name, name=ref_id, stage_id=stage_id, question=asked.get("message", ""),
                show=asked.get("show"), form=asked.get("form") or EMPTY, since=since,
            )
        )  # fmt: skip
    return gates
