"""Words of a model, shown while they come: in the log of the stage, and as progress to whoever follows the run."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.errors import PermanentError
from stabilize_nb.events.bus import TOKENS
from stabilize_nb.queue.processor.capture import log_text

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution

#: Seconds between two tellings at least.
PERIOD: Final = 0.1


class Tokens:
    """The words of one answer, told at most ten times a second."""

    def __init__(self, stage: StageExecution) -> None:
        self._stage = stage
        self._untold: list[str] = []
        self._told_at = float("-inf")
        self._line_is_open = False

    async def shown(self, answer: AsyncIterator[Any]) -> Any:
        """Tell the texts of a streamed answer and return its last item, which is the whole."""
        whole: Any = None
        try:
            async for item in answer:
                if isinstance(item, str):
                    self._add(item)
                else:
                    whole = item
        finally:
            self._end()
        if whole is None:
            msg = "the client's astream ended without the whole answer, which is expected as its last item"
            raise PermanentError(msg)
        return whole

    def _add(self, text: str) -> None:
        self._untold.append(text)
        if time.monotonic() - self._told_at >= PERIOD:
            self._tell()

    def _tell(self) -> None:
        text = "".join(self._untold)
        self._untold.clear()
        self._told_at = time.monotonic()
        self._line_is_open = not text.endswith("\n")
        log_text(text)
        self._stage.progress(None, text, kind=TOKENS)

    def _end(self) -> None:
        """Tell what is left; what is told next begins a line."""
        if self._untold:
            self._tell()
        if self._line_is_open:
            log_text("\n")
