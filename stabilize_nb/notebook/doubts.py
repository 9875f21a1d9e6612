"""What is wrong with a definition, in the lines that stand under its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from stabilize_nb.dag.soundness import Finding, check_soundness
from stabilize_nb.errors import InvalidWorkflowError
from stabilize_nb.flow import Flow
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.looks import LOOKS, shorten

if TYPE_CHECKING:
    from stabilize_nb.models.workflow import Workflow

#: Columns of a sentence, and findings that are shown; more are counted.
COLUMNS: Final = 600
SHOWN: Final = 5
#: A contradiction stops a run, a warning does not.
SYMBOLS: Final[Mapping[str, str]] = {
    "contradiction": LOOKS[WorkflowStatus.TERMINAL].symbol,
    "warning": LOOKS[WorkflowStatus.FAILED_CONTINUE].symbol,
}


def doubts_of(work: Flow | Workflow) -> list[str]:
    """Return a line for each thing that is wrong with a definition; what has been started is beyond that."""
    findings = _findings(work)
    lines = [f"{SYMBOLS[finding.level]} {shorten(finding.sentence, COLUMNS)}" for finding in findings[:SHOWN]]
    return lines if len(findings) <= SHOWN else [*lines, f"and {len(findings) - SHOWN} more"]


def under(lines: Sequence[str]) -> list[str]:
    """Return lines as they stand under a picture made of text."""
    return ["", *lines] if lines else []


def _findings(work: Flow | Workflow) -> tuple[Finding, ...]:
    if isinstance(work, Flow):
        try:
            return work.check()
        except InvalidWorkflowError:
            return ()  # whoever starts a run is told
    is_begun = work.status is not WorkflowStatus.NOT_STARTED or work.start_time is not None
    return () if is_begun else check_soundness(work.stages)
