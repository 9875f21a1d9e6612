"""What there is to know about an unfinished run besides its stages: who works at it, and with which code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from stabilize_nb.flow import Flow
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.workflow import ORIGIN
from stabilize_nb.notebook.gates import handle
from stabilize_nb.notebook.looks import LOOKS
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.queue.queue import letters_in
from stabilize_nb.versions import changed_code, newer_code

if TYPE_CHECKING:
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.queue.processor.custody import Owner
    from stabilize_nb.run import Run

#: Dead letters of a run that are told at most.
LETTERS: Final = 3
_WAITS: Final = LOOKS[WorkflowStatus.SUSPENDED].symbol


def standing(run: Run, workflow: Workflow) -> tuple[str, ...]:
    """Return a line for each thing that is to be known; nothing for a run that has ended."""
    return () if workflow.status.is_complete else tuple(_lines(run, workflow))


def _lines(run: Run, workflow: Workflow) -> Iterator[str]:
    if said := owner_line(run):
        yield f"{_WAITS} {said}"
    for letter in letters_in(run.engine.database, run.id)[:LETTERS]:
        yield f"{LOOKS[WorkflowStatus.TERMINAL].symbol} {letter.said}"
    changed = changed_code(run)
    if missing := [name for name in run.waiting_for_code() if name not in changed]:
        names = ", ".join(name.removeprefix(f"{workflow.name}.") for name in missing)
        cell = "" if workflow.name in RUNTIME.definitions else f"; run the cell %%workflow {workflow.name}"
        yield f"{_WAITS} waits for code that no cell has defined yet: {names}{cell}"
    if changed:
        names = ", ".join(name.removeprefix(f"{workflow.name}.") for name in changed)
        order = f"%workflow resume {handle(run.id)} --accept-changes"
        yield f"{_WAITS} waits for the code it was started with, which has changed: {names}; {order} goes on with it"
    elif said := version_line(run, workflow):
        yield said


def owner_line(run: Run) -> str:
    """Say who works at a run when that is not this kernel; nothing when it is, or when runs go on only in cells."""
    if run.engine.processor.custody.shares or run.engine.rehearsal is not None:
        return ""
    owner = run.engine.owner_of(run.id)
    if owner is None:
        return f"nobody works at it: %workflow resume {handle(run.id)} goes on"
    if owner.id == run.engine.processor.owner:
        return ""
    wanted = run.id in run.engine.processor.custody.wanted
    then = "is taken over here" if wanted else f"%workflow resume {handle(run.id)} takes it over"
    return f"owned by {named(owner)}; {then} when that kernel ends"


def named(owner: Owner) -> str:
    """Return what people know a processor of another process by."""
    return f"kernel pid {owner.pid} on host {owner.host}"


def version_line(run: Run, workflow: Workflow) -> str:
    """Say that a run goes on with other code than what is defined now; nothing when it does not."""
    if workflow.status.is_complete:
        return ""
    found = RUNTIME.definitions.get(workflow.name)
    current = found.work.version if found is not None and isinstance(found.work, Flow) else 0
    started = workflow.trigger.payload.get(ORIGIN, {}).get("version", 0)
    if not current or not newer_code(run, workflow):
        return ""
    which = f"running v{started}, current v{current}" if current > started > 0 else "running other code than current"
    return f"{which}: run.migrate() has what has not run yet use the current code"
