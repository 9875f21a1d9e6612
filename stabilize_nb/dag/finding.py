"""What a rule about graphs looks at, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stabilize_nb.dag.reach import Order, Reach
    from stabilize_nb.dag.shape import Shape
    from stabilize_nb.models.stage import StageExecution

Level = Literal["warning", "contradiction"]

#: Names in a list, and stages of a path, before the rest is left out.
LISTED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with a graph. `stages` (ref_ids) cannot run, `edges` (from, to) are not taken.

    `level`: a contradiction goes wrong in every run that gets that far, a warning is hardly meant. `rule`: its name.
    `sentence`: what is wrong, with its members, and what to do.
    """

    level: Level
    rule: str
    sentence: str
    stages: tuple[str, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A graph of stages with all that is known about it."""

    shape: Shape
    reach: Mapping[str, Reach]
    order: Order

    @property
    def stages(self) -> Mapping[str, StageExecution]:
        """The stages by ref_id, each after all that leads to it."""
        return self.shape.stages

    def path(self, start: str, end: str) -> list[str]:
        """Return a way from `start` to `end`, which never starts without it, or is it; the middle may be left out."""

        def back(ref: str) -> str:
            leads = self.shape.leads(ref)
            return next(lead for lead in leads if lead == start or self.order.follows(lead, start))

        return walked_back(start, end, back)


def walked_back(start: str, end: str, back: Callable[[str], str]) -> list[str]:
    """Return the way that `back` leads from `end` to `start`, first stage first; of a long one only its end."""
    found = [end]
    while found[-1] != start and len(found) < LISTED:
        found.append(back(found[-1]))
    if found[-1] != start:
        found[-1:] = ["…", start]
    return found[::-1]


def arrows(refs: Iterable[str]) -> str:
    """Write a way as "a → b → c"."""
    return " → ".join(refs)


def level(*, is_certain: bool) -> Level:
    """Return the level of what is certain to go wrong, or not."""
    return "contradiction" if is_certain else "warning"


def named(refs: Sequence[str]) -> str:
    """Write stages as a part of a sentence: "stages 'a', 'b' and 'c'"."""
    names = [repr(ref) for ref in refs[:LISTED]]
    if len(refs) > LISTED:
        names.append(f"{len(refs) - LISTED} more")
    listed = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
    return f"stage{'s' if len(refs) > 1 else ''} {listed}"
