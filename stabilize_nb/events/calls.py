"""Frame of the calls of models and tools that a run has made, with what they took; columns: `CALLS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stabilize_nb.events.frames import CALLS, frame_of, stages_frame
from stabilize_nb.models.calls import USD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from stabilize_nb.store.database import Database


def calls_frame(database: Database, run_id: str) -> pd.DataFrame:
    """Frame of the calls of a run, one row each time that one was begun, in that order; columns: `CALLS`."""
    here = {"workflow_id": run_id}
    rows = database.call_read(lambda connection: connection.all("calls_of_workflow", here))
    gone: Mapping[str, str] = {}
    if any(row[0] is None for row in rows):  # such as instances of an earlier pass of a loop
        stages = stages_frame(database, run_id)
        gone = dict(zip(stages["stage_id"], stages["ref_id"], strict=True))
    return frame_of(CALLS, (_call(row, gone) for row in rows))


class Spent(NamedTuple):
    """What the calls of a stage have taken; `cost` in USD, None when no price is known."""

    calls: int = 0
    tokens: int = 0
    cost: float | None = None

    def __add__(self, other: Spent) -> Spent:  # type: ignore[override]  # sums, not tuples
        known = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Spent(self.calls + other.calls, self.tokens + other.tokens, sum(known) if known else None)


def spent_by_stage(database: Database, run_id: str) -> dict[str, Spent]:
    """Return what the calls of each stage have taken; stages without calls, and those that are gone, are left out."""
    here = {"workflow_id": run_id}
    found: dict[str, Spent] = {}
    rows = database.call_read(lambda connection: connection.all("calls_of_workflow", here))
    for row in (row for row in rows if row[0] is not None):
        call = dict(zip((column.name for column in CALLS), _call(row, {}), strict=True))
        spent = Spent(1, call["tokens"] or 0, call["cost"])
        found[call["stage"]] = found.get(call["stage"], Spent()) + spent
    return found


def _call(row: Sequence[Any], gone: Mapping[str, str]) -> tuple[Any, ...]:
    (
        ref, stage_id, kind, target, attempt, answered, error, read, written, cost, held_tokens, held_cost, begun, at,
        is_at_work,
    ) = row  # fmt: skip
    status = "answered" if answered else "failed" if error else "open" if is_at_work else "lost"
    if error and error.startswith("outcome unknown"):
        status = "lost"
    tokens = held_tokens if read is None and written is None else (read or 0) + (written or 0)
    cost = held_cost if cost is None and held_cost else cost
    return (
        ref or gone.get(stage_id), kind, target, status, begun, at, None if at is None else at - begun, read, written,
        tokens if kind == "model" else None, None if cost is None else cost / USD, attempt, error, stage_id,
    )  # fmt: skip
