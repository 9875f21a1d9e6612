"""Parts of the graph: what a jump leaves alone, and what only one stage needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from stabilize_nb.core.rows import ArrivalRow, StageRow


def kept(arrivals: Iterable[ArrivalRow], region: Collection[str]) -> list[ArrivalRow]:
    """Return the outcomes that came from outside the region: what gave them is not repeated (patterns.md 2.6)."""
    return [arrival for arrival in arrivals if arrival.via not in region]


def exclusive(rows: Mapping[str, StageRow], join_id: str) -> list[StageRow]:
    """Return those of `rows` (by id) from which every way leads to the join through none but them (WCP-29)."""
    left = dict(rows)
    while True:
        others = [row for row in left.values() if not _leads_only(row, left, join_id)]
        if not others:
            return list(left.values())
        for row in others:
            del left[row.id]


def _leads_only(row: StageRow, among: Collection[str], join_id: str) -> bool:
    return all(edge.stage_id == join_id or edge.stage_id in among for edge in row.spec.edges)
