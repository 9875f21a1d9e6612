"""Frames around the boxes of a picture: regions, choices and sections, inside each other where they are.

A frame can be drawn when every other one is inside it, around it or beside it. Of frames that cross, the larger one is
drawn, and the other one is written into its boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from stabilize_nb.notebook.shown import Box
from stabilize_nb.notebook.signs import Frame


@dataclass(slots=True)
class Framed:
    """A frame with what stands directly in it; without a frame: the whole picture."""

    frame: Frame | None = None
    boxes: list[Box] = field(default_factory=list)
    inside: list[Framed] = field(default_factory=list)

    def all_boxes(self) -> Iterator[Box]:
        """Yield the boxes in the frame, also those in frames inside it."""
        yield from self.boxes
        for framed in self.inside:
            yield from framed.all_boxes()

    def frames(self) -> Iterator[Frame]:
        """Yield every frame that is drawn."""
        for framed in self.inside:
            if framed.frame is not None:
                yield framed.frame
            yield from framed.frames()


def nest(boxes: Sequence[Box]) -> Framed:
    """Return the whole picture, with the frames that can be drawn."""
    members: dict[Frame, set[str]] = {}
    for box in boxes:
        for frame in box.frames:
            members.setdefault(frame, set()).add(box.ref)
    whole = Framed()
    drawn: dict[Frame, Framed] = {}
    for frame in sorted(members, key=lambda frame: -len(members[frame])):  # stable: else as they come
        here = members[frame]
        if all(here <= members[other] or not here & members[other] for other in drawn):
            around = [other for other in drawn if here <= members[other]]
            drawn[frame] = Framed(frame)
            (drawn[around[-1]] if around else whole).inside.append(drawn[frame])
    for box in boxes:
        around = [frame for frame in drawn if box.ref in members[frame]]
        (drawn[around[-1]] if around else whole).boxes.append(box)
    return whole
