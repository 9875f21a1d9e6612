"""%workflow dead: the messages that could not be processed, and putting them back."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Final

from IPython.core.error import UsageError

from stabilize_nb.notebook.order import Order
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.printed import Lines
from stabilize_nb.queue.queue import letters_in

if TYPE_CHECKING:
    import pandas as pd

REDRIVE: Final = "redrive"
ALL: Final = "all"


def dead(order: Order) -> pd.DataFrame | Lines:
    """Return the dead letters as a frame, or put some of them, or all, back."""
    engine = RUNTIME.engine()
    if not order.words:
        order.only(0)
        shown: pd.DataFrame = import_module("stabilize_nb.notebook.run_list").ShownFrame(engine.dead_letters())
        return shown
    order.only(len(order.words))
    verb, *ids = order.words
    if verb != REDRIVE or not ids:
        raise UsageError(f"what is to be put back is not said; usage: {order.usage}")
    count = engine.redrive(ALL if ids == [ALL] else ids)
    return Lines(f"{count} dead letter{'' if count == 1 else 's'} put back")


def ids() -> Iterator[str]:
    """Yield what can be put back in the stores that are open."""
    yield ALL
    for engine in RUNTIME.engines():
        yield from (letter.id for letter in letters_in(engine.database))
