"""
LoopBuilder: a part of the graph that is repeated while, or until, a condition holds (WCP-21).

    before → <prefix>_entry → body ... → <prefix>_exit → next
                    ├───────────────────────┘
                    └ (while, at once false: the body is pruned)

The entry decides whether there is a first pass, the exit whether there is another one: it jumps back to the entry,
which starts a new pass with what the last one gave. The tasks of both are in tasks/loop.py.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from stabilize_nb.expressions import ExpressionError, check_expression
from stabilize_nb.models.stage import SplitType, StageExecution
from stabilize_nb.models.task import TaskExecution
from stabilize_nb.stages.builder import StageBuilderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class LoopBuilder:
    """Makes structured loops of stages.

    Both methods return the entry, the body and the exit: what is before the loop goes into the requisites of the
    first element, and what follows requires the last. Body stages without requisites among themselves are chained
    in the order given; otherwise their requisites are kept. Those of the first body stages are extended in place.

    The condition sees the workflow's context, what was given before the loop, what the last pass gave, and
    `iteration_count` (passes completed) and `max_iterations` unless these names are given otherwise. A name that is
    defined nowhere fails the loop. What a pass gives is visible in the next pass and after the loop; lists of
    several stages are joined as everywhere, so count down a number and not a list. The output `loop_exhausted` of
    the exit says whether `max_iterations` ended the loop, which makes the exit FAILED_CONTINUE. Passes are not
    counted as jumps.

    Raises StageBuilderError (a ValueError) for a loop that cannot be.
    """

    @classmethod
    def while_loop(
        cls,
        condition: str,
        body_stages: Iterable[StageExecution],
        loop_ref_prefix: str = "loop",
        max_iterations: int = 100,
    ) -> list[StageExecution]:
        """Repeat the body while `condition` is true, which is looked at before each pass."""
        entry, *rest = _loop(condition, list(body_stages), loop_ref_prefix, max_iterations, until=False)
        first = (stage.ref_id for stage in rest[:-1] if entry.ref_id in stage.requisite_stage_ref_ids)
        entry.split_type = SplitType.OR
        entry.split_conditions = dict.fromkeys(first, "loop_entered")
        return [entry, *rest]

    @classmethod
    def repeat_until(
        cls,
        condition: str,
        body_stages: Iterable[StageExecution],
        loop_ref_prefix: str = "loop",
        max_iterations: int = 100,
    ) -> list[StageExecution]:
        """Repeat the body until `condition` is true, which is looked at after each pass."""
        return _loop(condition, list(body_stages), loop_ref_prefix, max_iterations, until=True)


def _loop(condition: str, body: list[StageExecution], prefix: str, most: int, *, until: bool) -> list[StageExecution]:
    _check(condition, body, prefix, most)
    entry = _control(prefix, "entry")
    exit_ = _control(prefix, "exit")
    entry.context = {"_loop_config": {"condition": condition, "until": until, "max_iterations": most}}
    exit_.context = {"_loop_config": {**entry.context["_loop_config"], "entry": entry.ref_id}}
    exit_.jump_targets = {entry.ref_id}
    inside = {stage.ref_id for stage in body}
    if not any(stage.requisite_stage_ref_ids & inside for stage in body):
        for before, after in pairwise(body):
            after.requisite_stage_ref_ids.add(before.ref_id)
    required = {ref_id for stage in body for ref_id in stage.requisite_stage_ref_ids}
    for stage in body:
        if not stage.requisite_stage_ref_ids & inside:
            stage.requisite_stage_ref_ids.add(entry.ref_id)
    exit_.requisite_stage_ref_ids = (inside - required) | {entry.ref_id}
    return [entry, *body, exit_]


def _control(prefix: str, what: str) -> StageExecution:
    task = TaskExecution.create(what, f"_loop_{what}", stage_start=True, stage_end=True)
    return StageExecution(ref_id=f"{prefix}_{what}", type=f"loop_{what}", name=f"{prefix} {what}", tasks=[task])


def _check(condition: str, body: Sequence[StageExecution], prefix: str, most: int) -> None:
    fault = ""
    if not body:
        fault = "has no body; at least one stage is expected in body_stages"
    elif type(most) is not int or most < 1:
        fault = f"has max_iterations {most!r}; an integer of 1 or more is expected"
    else:
        try:
            check_expression(condition)
        except ExpressionError as error:
            fault = f"has a condition that is not an expression: {error}"
    if fault:
        msg = f"loop {prefix!r} {fault}"
        raise StageBuilderError(msg)
