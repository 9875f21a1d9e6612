"""Frame of the calls of models and tools that a run has made, with what they took; columns: `CALLS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stabilize_nb.events.frames import CALLS, frame_of
from stabilize_nb.models.calls import LOST, USD

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from stabilize_nb.store.database import Database


def calls_frame(database: Database, run_id: str) -> pd.DataFrame:
    """Frame of the calls of a run, one row each time that one was begun, in that order; columns: `CALLS`."""
    return frame_of(CALLS, _calls(database, run_id))


class Spent(NamedTuple):
    """What the calls of a stage have taken; `cost` in USD, None when no price is known."""

    calls: int = 0
    tokens: int = 0
    cost: float | None = None

    def __add__(self, other: Spent) -> Spent:  # type: ignore[override]  # sums, not tuples
        known = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Spent(self.calls + other.calls, self.tokens + other.tokens, sum(known) if known else None)


def spent_by_stage(database: Database, run_id: str) -> dict[str, Spent]:
    """Return what the calls of models and tools of each stage have taken; stages without calls are left out."""
    names = [column.name for column in CALLS]
    found: dict[str, Spent] = {}
    for row in _calls(database, run_id):
        call = dict(zip(names, row, strict=True))
        spent = Spent(1, call["tokens"] or 0, call["cost"])
        found[call["stage"]] = found.get(call["stage"], Spent()) + spent
    return found


def _calls(database: Database, run_id: str) -> list[tuple[Any, ...]]:
    """Return the rows of the frame."""
    here = {"workflow_id": run_id}
    return [_call(row) for row in database.call_read(lambda connection: connection.all("calls_of_workflow", here))]


def _call(row: Sequence[Any]) -> tuple[Any, ...]:
    (
        ref, stage_id, kind, target, attempt, answered, error, read, written, cost, held_tokens, held_cost, begun, at,
        is_at_work,
    ) = row  # fmt: skip
    is_lost = error == LOST or not (answered or error or is_at_work)
    status = "lost" if is_lost else "answered" if answered else "failed" if error else "open"
    tokens = held_tokens if read is None and written is None else (read or 0) + (written or 0)
    cost = held_cost if cost is None and held_cost else cost
    return (
        ref, kind, target, status, begun, at, None if at is None else at - begun, read, written,
        tokens if kind == "model" else None, None if cost is None else cost / USD, attempt, error, stage_id,
    )  # fmt: skip
