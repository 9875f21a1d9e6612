"""
Errors as a cell shows them: the sentence and the line of the cell, not the way through this package.

IPython shows what an exception's `_render_traceback_` returns; loading the extension gives one to StabilizeError.
`%xmode Verbose` brings back the whole traceback. Failures of stages happened in other threads: their place is read
from the traceback that the log keeps, with the names of files that are cells turned into their numbers.
"""

from __future__ import annotations

import linecache
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from stabilize_nb.errors import RunFailedError, StabilizeError
from stabilize_nb.notebook.cell import CellSyntaxError
from stabilize_nb.notebook.runtime import RUNTIME

if TYPE_CHECKING:
    from stabilize_nb.notebook.shell import Shell

_FRAME: Final = re.compile(r'  File "(?P<file>[^"]+)", line (?P<line>\d+), in ')
_RED: Final = "\x1b[31m"
_PLAIN: Final = "\x1b[0m"
_HOOK: Final = "_render_traceback_"


def register(shell: Shell) -> None:
    """Have errors of this package shown briefly."""

    def render(error: StabilizeError) -> list[str]:
        return rendered(shell, error)

    setattr(StabilizeError, _HOOK, render)


def unregister() -> None:
    """Undo `register`."""
    if _HOOK in vars(StabilizeError):
        delattr(StabilizeError, _HOOK)


def rendered(shell: Shell, error: StabilizeError) -> list[str]:
    """Return the lines that stand in place of a traceback."""
    if shell.InteractiveTB.mode == "Verbose":
        lines: list[str] = shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
        return lines
    if isinstance(error, CellSyntaxError):
        return [*_syntax_lines(shell, error.fault), f"{_coloured(shell, 'SyntaxError')}: {error}"]
    lines = [f"{_coloured(shell, type(error).__name__)}: {error}"]
    if isinstance(error, RunFailedError):
        return lines + list(_failures(shell, error))
    return lines + list(_place(shell, error))


def _coloured(shell: Shell, text: str) -> str:
    return text if shell.colors.lower() == "nocolor" else f"{_RED}{text}{_PLAIN}"


def cell_of(shell: Shell, file: str) -> str | None:
    """Return "Cell In[3]" for the file name of a cell, None for any other file."""
    numbers: Mapping[str, int] = getattr(shell.compile, "_filename_map", {})
    return f"Cell In[{numbers[file]}]" if file in numbers else None


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


# -- failures of stages -------------------------------------------------------------------------------


def _failures(shell: Shell, error: RunFailedError) -> Iterator[str]:
    for ref, text in tracebacks(error.run_id).items():
        frames = [frame for frame in _FRAME.finditer(text) if cell_of(shell, frame["file"])]
        if frames:
            file, number = frames[-1]["file"], int(frames[-1]["line"])
            yield f"  {ref}: {cell_of(shell, file)}, line {number}: {linecache.getline(file, number).strip()}"


def tracebacks(run_id: str) -> dict[str, str]:
    """Return the traceback of the last failure of each stage of a run, by ref_id; nothing for an unknown run."""
    found = {}
    for engine in RUNTIME.engines():
        if engine.store.exists(run_id):
            events = engine.run(run_id).events
            for stage, data in zip(events["stage"], events["data"], strict=True):
                if text := data.get("details", {}).get("traceback"):
                    found[str(stage)] = str(text)
    return found
