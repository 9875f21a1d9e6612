"""A thread that plays: it goes on and on until there is no more, or somebody stops it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two positions.
TICK: Final = 0.25


class Player:
    """A thread that calls `advance` again and again until that says there is no more; then `ended` is called."""

    def __init__(self, advance: Callable[[], bool], ended: Callable[[], None]) -> None:
        self._advance = advance
        self._ended = ended
        self._stop: threading.Event | None = None

    @property
    def is_on(self) -> bool:
        """Whether it plays."""
        return self._stop is not None

    def start(self) -> None:
        """Begin to play."""
        self._stop = stop = threading.Event()
        threading.Thread(target=self._work, args=(stop,), name="stabilize-replay", daemon=True).start()

    def stop(self) -> None:
        """Play no more."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop.set()
            self._ended()

    def _work(self, stop: threading.Event) -> None:
        while not stop.wait(TICK):
            if not self._advance():
                if self._stop is stop:
                    self.stop()
                return
