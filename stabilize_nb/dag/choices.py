"""Which stages exclude each other: the choices of a graph and what each stage needs of them."""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

from stabilize_nb.dag.shape import Shape, is_skippable
from stabilize_nb.models.stage import SplitType, StageExecution

if TYPE_CHECKING:
    from collections.abc import Sequence


class Choices:
    """The options of every choice as bits: an XOR split and a deferred choice (WCP-16) take one option of theirs each.

    The bits of one choice are neighbours, and those of a choice that comes later in the graph are higher.
    """

    def __init__(self, shape: Shape) -> None:
        members: dict[str, list[str]] = {}
        for ref, stage in shape.stages.items():
            if stage.deferred_choice_group is not None:
                members.setdefault(stage.deferred_choice_group, []).append(ref)
        self._bits: dict[tuple[str, str, str], int] = {}
        self._choice_of: list[int] = []  # bit -> number of its choice
        self._masks: list[int] = []  # number of a choice -> its bits
        for ref, stage in shape.stages.items():
            if stage.split_type is SplitType.XOR:
                self._add("split", ref, shape.after[ref])
            if stage.deferred_choice_group in members:
                self._add("group", stage.deferred_choice_group, members.pop(stage.deferred_choice_group))

    def _add(self, kind: str, name: str, options: Sequence[str]) -> None:
        first = len(self._choice_of)
        self._bits.update({(kind, name, option): first + at for at, option in enumerate(options)})
        self._choice_of.extend([len(self._masks)] * len(options))
        self._masks.append((1 << len(self._choice_of)) - (1 << first))

    def of_split(self, ref: str, head: str) -> int:
        """Return the bit for the branch `head` of the XOR split at `ref`."""
        return 1 << self._bits["split", ref, head]

    def of_group(self, stage: StageExecution) -> int:
        """Return the bit for a stage as winner of its deferred choice; none if it can pass a thread on all the same."""
        if stage.deferred_choice_group is None or is_skippable(stage):
            return 0
        return 1 << self._bits["group", stage.deferred_choice_group, stage.ref_id]

    def most(self, needs: Sequence[int]) -> int:
        """
        Return an upper bound of how many of the stages with these needs can be live together.

        From the last choice back to the first, because all that needs an option needs what its choice needs: the
        options of one choice count as the largest of them.
        """
        everywhere = reduce(and_, needs, -1)
        total = 0
        open_: dict[int, list[tuple[int, int]]] = {}  # number of the last choice -> (need, how many)
        for need in needs:
            total += self._keep(open_, need & ~everywhere, 1)
        while open_:
            choice = max(open_)
            mask = self._masks[choice]
            items = open_.pop(choice)
            sizes: dict[int, int] = {}
            for need, size in items:
                sizes[need & mask] = sizes.get(need & mask, 0) + size
            if len(sizes) > 1:
                items = [(reduce(and_, [need for need, _ in items]), max(sizes.values()))]
            for need, size in items:
                total += self._keep(open_, need & ~mask, size)
        return total

    def _keep(self, open_: dict[int, list[tuple[int, int]]], need: int, size: int) -> int:
        """Put stages to the last choice that they need; return their number when they need none."""
        if not need:
            return size
        open_.setdefault(self._choice_of[need.bit_length() - 1], []).append((need, size))
        return 0
