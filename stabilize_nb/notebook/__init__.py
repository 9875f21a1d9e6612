"""
The notebook face: magics, what cells show, and completion. `%load_ext stabilize_nb` brings it.

Loading runs nothing: it looks whether the store of this notebook exists and names what has not ended there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from stabilize_nb.engine import default_url, notebook_folder, store_path
from stabilize_nb.errors import StabilizeError
from stabilize_nb.notebook import answering, attendance, complete, config, failure, turns, views
from stabilize_nb.notebook.doctor import shown_path
from stabilize_nb.notebook.magic import WorkflowMagics
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.notebook.standing import named
from stabilize_nb.plain import obeyed_by_none

if TYPE_CHECKING:
    from stabilize_nb.notebook.shell import Shell

#: Unfinished runs of which it is looked who works at them, for the line that loading says.
LOOKED_AT = 5


def load_ipython_extension(shell: Shell) -> None:
    """Make %%workflow, %workflow, %config StabilizeNB and completion known, and name unfinished runs."""
    chosen = config.load(shell, lambda _: RUNTIME.renew())
    shell.register_magics(WorkflowMagics)
    views.register(shell)
    failure.register(shell)
    complete.register(shell)
    turns.register()
    attendance.register()
    answering.register(shell)
    line = unfinished(resume=chosen.recover == "auto") if chosen.recover != "off" else ""
    if line := line or kept_elsewhere():
        sys.stdout.write(obeyed_by_none(line) + "\n")


def unload_ipython_extension(shell: Shell) -> None:
    """Take everything away again; engines, runs and definitions stay."""
    answering.unregister(shell)
    attendance.unregister()
    turns.unregister()
    complete.unregister(shell)
    failure.unregister()
    views.unregister(shell)
    config.unload(shell)
    for kind, name in (("line", "workflow"), ("cell", "workflow"), ("cell", "stage")):
        shell.magics_manager.magics[kind].pop(name, None)


def kept_elsewhere() -> str:
    """Return a line about runs that are not kept beside the notebook; empty when they are."""
    path, folder = store_path(default_url()), notebook_folder()
    if path is None or path.is_relative_to(folder):
        return ""
    return f"Stabilize: runs are kept in {path}, since {folder} is read-only or emptied by the system"


def unfinished(*, resume: bool) -> str:
    """Return a line about the runs of this notebook's store that have not ended; empty when there is nothing to say."""
    path = store_path(default_url())
    if not RUNTIME.engines() and (path is None or not path.exists()):
        return ""
    try:
        engine = RUNTIME.engine()
        runs = engine.unfinished()
        if runs and resume:
            engine.resume()
    except StabilizeError as error:
        return f"Stabilize: {error}"
    if not runs:
        return ""
    place = store_path(engine.url)
    where = "memory" if place is None else shown_path(place)
    count = "1 unfinished run" if len(runs) == 1 else f"{len(runs)} unfinished runs"
    owners = {engine.owner_of(run.id) for run in runs[:LOOKED_AT]}
    if len(owners) == 1 and (owner := owners.pop()) is not None and owner.id != engine.processor.owner:
        return f"Stabilize: {count} in {where}, owned by {named(owner)} — %workflow status"
    return f"Stabilize: {count} in {where} — {'resumed' if resume else '%workflow resume'}"
