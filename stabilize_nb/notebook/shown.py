"""What a picture of a workflow shows, in no notation: boxes, arrows, and the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from stabilize_nb.models.stage import SyntheticStageOwner
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.looks import LOOKS, Look, shorten
from stabilize_nb.notebook.signs import Detail, Frame

#: Stages in the words for a whole picture; more are counted.
STAGES_DESCRIBED = 12
#: What is written at a stage that the definition itself keeps from running.
CANNOT_RUN = "cannot run"
#: When a synthetic stage runs, seen from the stage that it stands in.
WHEN: Mapping[SyntheticStageOwner | None, str] = {
    SyntheticStageOwner.STAGE_BEFORE: "before",
    SyntheticStageOwner.STAGE_AFTER: "after",
    SyntheticStageOwner.STAGE_FAILURE: "on failure",
    None: "inside",
}


class Line(Enum):
    """What an arrow stands for."""

    FLOW = "flow"  # the head follows the tail
    UNUSED = "unused"  # so it would, but an end of it was skipped
    JUMP = "jump"  # a jump that was carried out, or may be
    LOOP = "loop"  # the way back of a structured loop
    STATE = "state"  # the head starts only in a certain state of the tail
    CANCEL = "cancel"  # the end of the tail withdraws the head


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A synthetic stage, as it is shown inside the box of its parent."""

    when: str
    title: str
    status: WorkflowStatus

    @property
    def label(self) -> str:
        return f"{self.when}: {self.title}"

    @property
    def words(self) -> str:
        return f"{self.label} {LOOKS[self.status].word}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One stage, or all instances of one, as it is shown.

    `join` is what it waits for, None for all of its branches. `details` are the lines under the status, `parts` those
    of its synthetic stages; `end` says how its end ends the workflow. `cannot_run`: the definition never lets it run.
    """

    ref: str
    title: str
    status: WorkflowStatus
    join: Detail | None
    details: tuple[Detail, ...]
    parts: tuple[Part, ...]
    frames: tuple[Frame, ...]
    end: str | None
    is_gate: bool
    is_nested: bool
    is_stack: bool
    cannot_run: bool

    @property
    def look(self) -> Look:
        return LOOKS[self.status]

    @property
    def lines(self) -> tuple[Detail | Part, ...]:
        """All that is written under the title."""
        joins = (Detail(f"joins {self.join.words}", self.join.sign),) if self.join else ()
        return (Detail(self.look.word), *joins, *self.details, *self.parts)

    @property
    def words(self) -> tuple[str, ...]:
        """The same as words alone, each short enough for a line."""
        return tuple(line.words for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """One edge as it is shown; `tail` and `head` are refs of boxes. `is_barred`: the definition never takes it."""

    tail: str
    head: str
    label: str
    line: Line
    is_barred: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """All that a picture of a workflow shows. Boxes are sorted topologically, then as they were defined."""

    title: str
    look: Look
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]

    @property
    def flow(self) -> list[Arrow]:
        """The arrows that order the stages."""
        return [arrow for arrow in self.arrows if arrow.line in {Line.FLOW, Line.UNUSED}]

    @property
    def description(self) -> str:
        """What the picture shows in one line: "analysis running, 5 stages: plan succeeded, ..."."""
        if len(self.boxes) <= STAGES_DESCRIBED:
            parts = ", ".join(map(_described, self.boxes))
        else:
            parts = tally([box.status for box in self.boxes])
        stages = "1 stage" if len(self.boxes) == 1 else f"{len(self.boxes)} stages"
        return f"{self.title} {self.look.word}, {stages}" + (f": {parts}" if parts else "")

    def layers(self) -> dict[str, int]:
        """Longest way from a first stage to each stage, in arrows."""
        layer: dict[str, int] = {}
        before = by_head(self.flow)
        for box in self.boxes:
            tails = [arrow.tail for arrow in before.get(box.ref, ())]
            layer[box.ref] = max((layer.get(tail, -1) + 1 for tail in tails), default=0)
        return layer


def _described(box: Box) -> str:
    """Say a box without what only an eye can go through: errors, numbers, notes."""
    said = [words for line, words in zip(box.lines, box.words, strict=True) if isinstance(line, Part) or line.sign]
    said += [shorten(frame.words) for frame in box.frames]
    said += [CANNOT_RUN] if box.cannot_run else []
    return f"{box.title} {box.look.word}" + (f" ({'; '.join(said)})" if said else "")


def tally(statuses: Sequence[WorkflowStatus]) -> str:
    """Say how many there are of each status."""
    count = Counter(statuses)
    return ", ".join(f"{count[status]} {look.word}" for status, look in LOOKS.items() if status in count)


def by_head(arrows: Iterable[Arrow]) -> dict[str, list[Arrow]]:
    """Return the arrows by the box that they lead to."""
    before: dict[str, list[Arrow]] = {}
    for arrow in arrows:
        before.setdefault(arrow.head, []).append(arrow)
    return before
