"""Parts of the graph: what a jump leaves alone, and what only one stage needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from stabilize_nb.core.rows import ArrivalRow, StageRow


def kept(arrivals: Iterable[ArrivalRow], region: Collection[str]) -> list[ArrivalRow]:
    """Return the outcomes that came from outside the region: what gave them is not repeated (patterns.md 2.6)."""
    return [arrival for arrival in arrivals if arrival.via not in region]


def exclusive(rows: Mapping[str, StageRow], join_id: str) -> set[str]:
    """
    Return the ids of those stages from which every way leads to the join (WCP-29).

    `rows` holds, by id, some stages and all that follows them as far as the join.
    """
    before: dict[str, list[str]] = {}
    for row in rows.values():
        for edge in row.spec.edges:
            before.setdefault(edge.stage_id, []).append(row.id)
    astray = [row.id for row in rows.values() if not row.spec.edges]
    left = set(rows)
    while astray:
        found = astray.pop()
        if found in left:
            left.remove(found)
            astray.extend(before.get(found, ()))
    return left - {join_id}
