"""Pictures that change quickly: one direction, one height, and what was drawn once is not drawn again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from stabilize_nb.notebook.cards import Direction, rankdir_of
from stabilize_nb.notebook.dot import to_dot
from stabilize_nb.notebook.draw import DrawingError, svg_of, to_svg
from stabilize_nb.notebook.sketch import sketch

if TYPE_CHECKING:
    from stabilize_nb.models.workflow import Workflow

#: Pictures that are kept.
KEPT: Final = 128
#: Pixels of height that a picture may take, and how small it may be made to fit.
TALL: Final = 560
LEAST: Final = 0.75

_GRAPH: Final = Markup('<div style="overflow:auto;max-height:{}px;min-height:{}px;padding:4px 0">{}</div>')
_PICTURE: Final = Markup('<div style="width:{}px;max-width:100%;min-width:{}px">{}</div>')
#: A picture has the width of what is around it.
_FITTING: Final = '<svg style="width:100%;height:auto" '


class Drawings:
    """Pictures by what is in them, in one direction and as high as the highest so far: what is below stays there.

    `tall`: px of height that one may take before it is scrolled.
    """

    def __init__(self, last: Workflow, tall: int = TALL) -> None:
        self._tall = tall
        self._direction: Direction = "TB" if rankdir_of(sketch(last), "auto") == "TB" else "LR"
        self._kept: dict[str, Markup] = {}
        self._tallest = 0

    def of(self, workflow: Workflow) -> Markup:
        """Return the picture of a workflow as markup."""
        source = to_dot(workflow, direction=self._direction)
        drawing = self._kept.pop(source, None) or self._drawn(source, workflow)
        self._kept[source] = drawing
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return _GRAPH.format(self._tall, self._tallest, drawing)

    def _drawn(self, source: str, workflow: Workflow) -> Markup:
        try:
            svg = to_svg(source)
        except DrawingError:
            svg = svg_of(workflow, direction=self._direction)
        width, height = (float(svg.partition(f'{side}="')[2].partition('"')[0]) for side in ("width", "height"))
        scale = max(LEAST, min(1.0, self._tall / height))
        self._tallest = max(self._tallest, min(self._tall, round(height * scale)))
        svg = svg.replace("<svg ", _FITTING, 1)
        return _PICTURE.format(round(width * scale), round(width * LEAST), Markup(svg))  # noqa: S704 - draw.py escapes
