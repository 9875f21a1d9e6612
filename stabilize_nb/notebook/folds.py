"""
One box for a stage of a flow that is run for each of something.

The flow makes three kinds of stages of it: one that finds the items, the instances, and one that gathers what they
gave. Whoever wrote `@stage(each=...)` wrote one stage and sees one. Activities of the reference API stay as they were
written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.groups import Grouping, join_ref_of
from stabilize_nb.notebook.shown import Arrow, Box
from stabilize_nb.notebook.signs import Detail, Sign

#: In the context of the stage that finds the items: what they were called where they were asked for.
EACH = "_each"
S = WorkflowStatus


@dataclass(frozen=True, slots=True)
class Fold:
    """Three boxes, by ref, that are shown as one; it has the ref of the first. `each` names the items."""

    finds: str
    stack: str
    gathers: str
    each: str

    @property
    def refs(self) -> tuple[str, str, str]:
        """All three."""
        return self.finds, self.stack, self.gathers

    def box(self, boxes: dict[str, Box]) -> Box:
        """Return what is shown for them."""
        finds, stack, gathers = (boxes[ref] for ref in self.refs)
        quorum = gathers.join if gathers.join is not None and gathers.join.sign is Sign.QUORUM else None
        joins = [Detail(f"joins {quorum.words}", quorum.sign)] if quorum is not None else []
        details = [*finds.details, *map(self._named, stack.details), *joins, *gathers.details]
        return replace(
            stack, ref=self.finds, status=_status(finds, stack, gathers), join=finds.join,
            details=tuple(dict.fromkeys(details)), parts=(*finds.parts, *stack.parts, *gathers.parts),
            frames=tuple(dict.fromkeys((*finds.frames, *stack.frames, *gathers.frames))), end=gathers.end,
            cannot_run=finds.cannot_run,
        )  # fmt: skip

    def _named(self, detail: Detail) -> Detail:
        """Call the items what the author calls them."""
        is_about_items = detail.sign is Sign.MANY and detail.words.startswith("one for each of ")
        return replace(detail, words=f"one for each of {self.each}") if is_about_items and self.each else detail


def _status(finds: Box, stack: Box, gathers: Box) -> WorkflowStatus:
    """Return how far they are: the last of them that has begun says it."""
    return next((box.status for box in (gathers, stack) if box.status is not S.NOT_STARTED), finds.status)


def folds_of(grouping: Grouping) -> Iterator[Fold]:
    """Yield what is to be shown as one."""
    for ref, group in grouping.groups.items():
        parent = group.activity
        if parent is not None and EACH in parent.context and join_ref_of(parent) in grouping.stages:
            yield Fold(grouping.box[parent.ref_id], ref, grouping.box[join_ref_of(parent)], str(parent.context[EACH]))


def folded_boxes(boxes: dict[str, Box], folds: Iterable[Fold]) -> dict[str, Box]:
    """Return the boxes with one in the place of three, in the same order."""
    found = dict(boxes)
    for fold in folds:
        found[fold.finds] = fold.box(boxes)
        del found[fold.stack], found[fold.gathers]
    return found


def folded_arrows(arrows: Iterable[Arrow], folds: Iterable[Fold]) -> tuple[Arrow, ...]:
    """Return the arrows as they lead to and from what is folded; those inside are left out."""
    place = {ref: fold.finds for fold in folds for ref in fold.refs}
    moved = [
        (arrow, replace(arrow, tail=place.get(arrow.tail, arrow.tail), head=place.get(arrow.head, arrow.head)))
        for arrow in arrows
    ]
    return tuple(dict.fromkeys(new for old, new in moved if new.tail != new.head or old.tail == old.head))
