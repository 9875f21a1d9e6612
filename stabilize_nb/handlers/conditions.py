"""Conditions of a stage: what cannot be evaluated counts as false, and the log says so (patterns.md 2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core.facts import ConditionFailed
from stabilize_nb.expressions import ExpressionError, judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow


def holds(
    draft: Draft, row: StageRow, condition: str, seen: Mapping[str, Any], *, edge: str = "", otherwise: bool = False
) -> bool:
    """Whether a condition of a stage is true; `otherwise` where it is no expression."""
    try:
        truth, failures = judge(condition, seen)
    except ExpressionError as error:
        truth, failures = otherwise, (str(error),)
    for failure in failures:
        draft.record(ConditionFailed(row.id, condition, failure, edge))
    return truth
