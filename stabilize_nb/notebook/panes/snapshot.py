"""What panes are painted from: everything about a run at one moment, read once for all panes that show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stabilize_nb.notebook.progress import Told

if TYPE_CHECKING:
    from stabilize_nb.gates import Gate
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A run at a moment (`now`: ms since the epoch); `missing`: names of tasks whose code is not here."""

    workflow: Workflow
    now: int
    gates: tuple[Gate, ...] = ()
    missing: tuple[str, ...] = ()
    told: Mapping[str, Told] = field(default_factory=dict)


def read(run: Run) -> Snapshot:
    """Read a run as it is now."""
    workflow = run.workflow
    is_open = not workflow.status.is_complete
    return Snapshot(
        workflow=workflow,
        now=run.engine.database.clock(),
        gates=tuple(run.gates) if is_open else (),
        missing=tuple(run.waiting_for_code()) if is_open else (),
    )
