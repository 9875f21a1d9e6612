"""How far a sweep is: a bar in a terminal or under a cell, and nothing where nobody looks."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Self

from markupsafe import Markup
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from stabilize_nb.deterministic import is_deterministic

if TYPE_CHECKING:
    from types import TracebackType

#: Seconds between two pictures under a cell.
PATIENCE: Final = 0.2
_CELL: Final = Markup(
    '<div><progress role="progressbar" aria-label="crash sweep" max="{}" value="{}" '
    'style="width:16em;vertical-align:middle"></progress> {}</div>'
)


class Bar:
    """Counts steps of `total`; `wanted` None: shown in a notebook and in a terminal, not in deterministic mode."""

    def __init__(self, wanted: bool | None) -> None:
        self.total = 0
        self.done = 0
        self.harmful = 0
        self._wanted = not is_deterministic() if wanted is None else wanted
        self._begun = self._shown = time.monotonic()
        self._cell: Any = None
        self._terminal: Progress | None = None
        self._opened = ExitStack()

    def step(self, harmful: int) -> None:
        """One more is done; `harmful` so far did harm."""
        self.done, self.harmful = self.done + 1, harmful
        if self._terminal is not None:
            self._terminal.update(self._terminal.task_ids[0], completed=self.done, total=self.total, told=self._told())
        elif self._cell is not None and time.monotonic() - self._shown >= PATIENCE:
            self._shown = time.monotonic()
            self._cell.update(self)

    def _told(self) -> str:
        return f"{self.done} of {self.total} kills, {self.harmful} did harm, {time.monotonic() - self._begun:.1f} s"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        told = self._told()
        return {"text/plain": told, "text/html": str(_CELL.format(self.total or 1, self.done, told))}

    def __enter__(self) -> Self:
        if not self._wanted:
            return self
        if _is_in_kernel():
            from IPython.display import display  # noqa: PLC0415 - it is there: this is its kernel

            self._cell = display(self, display_id=True)  # type: ignore[no-untyped-call]
        elif sys.stderr.isatty():
            columns = (BarColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn())
            self._terminal = Progress(*columns, console=Console(stderr=True))
            self._opened.enter_context(self._terminal)
            self._terminal.add_task("", total=None, told="two undisturbed runs")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()
        if self._cell is not None:
            self._cell.update(self)


def _is_in_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
