"""
Errors as a cell shows them: the sentence and the line of the cell, not the way through this package.

IPython shows what an exception's `_render_traceback_` returns; loading the extension gives one to StabilizeError.
`%xmode Verbose` brings back the whole traceback.
"""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from stabilize_nb.errors import RunFailedError, StabilizeError
from stabilize_nb.notebook.cell import CellSyntaxError
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.notebook.traces import cell_of, places
from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.waiting import AwaitInterrupted, WaitInterrupted

if TYPE_CHECKING:
    from stabilize_nb.notebook.shell import Shell

_RED: Final = "\x1b[31m"
_PLAIN: Final = "\x1b[0m"
_HOOK: Final = "_render_traceback_"
BRIEF: Final = (StabilizeError, WaitInterrupted, AwaitInterrupted)


def register(shell: Shell) -> None:
    """Have errors of this package shown briefly."""
    for kind in BRIEF:
        setattr(kind, _HOOK, lambda error: rendered(shell, error))


def unregister() -> None:
    """Undo `register`."""
    for kind in BRIEF:
        if _HOOK in vars(kind):
            delattr(kind, _HOOK)


def rendered(shell: Shell, error: BaseException) -> list[str]:
    """Return the lines that stand in place of a traceback."""
    if shell.InteractiveTB.mode == "Verbose":
        lines: list[str] = shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
        return lines
    if isinstance(error, CellSyntaxError):
        return [*_syntax_lines(shell, error.fault), f"{_coloured(shell, 'SyntaxError')}: {error}"]
    said = f"{_coloured(shell, type(error).__name__)}: {error}"
    if isinstance(error, RunFailedError) and (found := dict(_failures(shell, error))):
        return [said, *(f"  {ref}: {place}" for ref, place in found.items())]
    return [said, *(f"  {note}" for note in _notes(error)), *_place(shell, error)]


def _notes(error: BaseException) -> list[str]:
    return [obeyed_by_none(str(note)) for note in getattr(error, "__notes__", ())]


def _coloured(shell: Shell, text: str) -> str:
    return text if shell.colors.lower() == "nocolor" else f"{_RED}{text}{_PLAIN}"


def _failures(shell: Shell, error: RunFailedError) -> Iterator[tuple[str, str]]:
    for engine in RUNTIME.engines():
        if engine.store.exists(error.run_id):
            yield from places(shell, engine.run(error.run_id)).items()
            return


def _syntax_lines(shell: Shell, fault: SyntaxError) -> Iterator[str]:
    yield f"  {cell_of(shell, fault.filename or '') or 'Cell'}, line {fault.lineno}"
    text = (fault.text or linecache.getline(fault.filename or "", fault.lineno or 0)).rstrip()
    if text:
        words = text.lstrip()
        yield f"    {words}"
        yield " " * (4 + max(0, (fault.offset or 1) - 1 - (len(text) - len(words)))) + "^"


def _place(shell: Shell, error: BaseException) -> Iterator[str]:
    """Yield the last line of a cell on the way to an error; that of a magic says nothing new."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        cell = cell_of(shell, frame.filename)
        text = (frame.line or "").strip()
        if cell and text and "get_ipython().run_" not in text:
            yield f"  {cell}, line {frame.lineno}: {text}"
            return
