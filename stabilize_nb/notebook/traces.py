"""
Where in a cell something failed.

Stages fail in other threads, perhaps in an earlier kernel. Their place is read from the traceback that the log keeps;
IPython knows which of its file names are cells of this kernel.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stabilize_nb.notebook.shell import Shell
    from stabilize_nb.run import Run

_FRAME: Final = re.compile(r'  File "(?P<file>[^"]+)", line (?P<line>\d+), in ')


def cell_of(shell: Shell, file: str) -> str | None:
    """Return "Cell In[3]" for the file name of a cell, None for any other file."""
    numbers: Mapping[str, int] = getattr(shell.compile, "_filename_map", {})
    return f"Cell In[{numbers[file]}]" if file in numbers else None


def places(shell: Shell, run: Run) -> dict[str, str]:
    """Return where in the cells of this kernel stages failed last, by ref_id: "Cell In[3], line 7: return rows[n]"."""
    found = {}
    events = run.events
    for stage, data in zip(events["stage"], events["data"], strict=True):
        trace = data.get("details", {}).get("traceback", "")
        frames = [frame for frame in _FRAME.finditer(trace) if cell_of(shell, frame["file"])]
        if frames:
            file, number = frames[-1]["file"], int(frames[-1]["line"])
            found[str(stage)] = f"{cell_of(shell, file)}, line {number}: {linecache.getline(file, number).strip()}"
    return found
