"""Parts of the graph: what a jump leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from stabilize_nb.core.rows import ArrivalRow


def kept(arrivals: Iterable[ArrivalRow], region: Collection[str]) -> list[ArrivalRow]:
    """Return the outcomes that came from outside the region: what gave them is not repeated (patterns.md 2.6)."""
    return [arrival for arrival in arrivals if arrival.via not in region]
