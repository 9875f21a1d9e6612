"""
Waiting for what a person has typed.

A page sends the first change of a field at once and holds the next ones back until the kernel has dealt with it; a
click is never held back. So a click can overtake what was typed before it, for as long as the kernel is busy. A form
that is about to be sent asks the page once more: the question is a value that the page copies from one hidden widget to
another. What was held back has gone ahead of the copy, since the page hears that the kernel is free before it hears the
question. It is asked twice, because ipykernel 7.4 may take messages out of their order when a cell begins or ends.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any, Final

import ipywidgets as w

from stabilize_nb.notebook.panes.widgets import close_all, hear_at_once

#: How often the page is asked, and seconds after which one that does not answer is taken for closed.
TIMES: Final = 2
PATIENCE: Final = 3.0


class Typed:
    """Asks the pages that show a form whether all has come; one question at a time."""

    def __init__(self, form: w.DOMWidget) -> None:
        self._form = form
        form._view_count = 0  # noqa: SLF001 - ipywidgets has no other name for it
        self._numbers = itertools.count(1)
        self._left = 0
        self._question, self._answer = w.IntText(0), w.IntText(0)
        self._copy = w.jsdlink((self._question, "value"), (self._answer, "value"))
        self._answer.observe(self._answered, "value")
        hear_at_once(self._answer)
        self._work: Callable[[], None] | None = None
        self._late: threading.Timer | None = None

    def when_all_has_come(self, work: Callable[[], None]) -> None:
        """Do something at once when no page shows the form, else when one has answered or is taken for closed."""
        if not self._form._view_count:  # noqa: SLF001 - as above
            work()
            return
        self._work = work
        self._late = threading.Timer(PATIENCE, self._go_on)
        self._late.daemon = True
        self._late.start()
        self._left = TIMES
        self._ask()

    def close(self) -> None:
        """Take the hidden widgets away."""
        self._copy.close()
        close_all(self._question)
        close_all(self._answer)

    def _ask(self) -> None:
        self._left -= 1
        self._question.value = next(self._numbers)

    def _answered(self, change: Any) -> None:
        if change["new"] != self._question.value:
            return
        if self._left:
            self._ask()
        else:
            self._go_on()

    def _go_on(self) -> None:
        work, self._work = self._work, None
        if self._late is not None:
            self._late.cancel()
        if work is not None:
            work()
