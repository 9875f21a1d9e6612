"""The terminal of the commands: names, errors and questions of others pass it, and no terminal obeys them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.segment import Segment

from stabilize_nb.plain import obeyed_by_none

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import ConsoleOptions, RenderableType


class Terminal(Console):
    """A console for which text is text: no markup, no emoji names, no links, no control characters in it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as a console does; what a text brings along is left out, what the console itself orders stays."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(obeyed_by_none(segment.text), segment.style)
