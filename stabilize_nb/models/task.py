"""A task: the unit in which a stage's code runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stabilize_nb.models.ids import new_id
from stabilize_nb.models.status import WorkflowStatus


@dataclass(slots=True)
class TaskExecution:
    """One task of a stage: which registered code runs, and how far it is.

    `start_time` and `end_time` are ms since the epoch (UTC), None while unknown.
    """

    name: str = ""
    implementing_class: str = ""
    stage_start: bool = False
    stage_end: bool = False
    id: str = field(default_factory=new_id)
    status: WorkflowStatus = WorkflowStatus.NOT_STARTED
    attempt: int = 0
    start_time: int | None = None
    end_time: int | None = None
    exception_details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(
        cls, name: str, implementing_class: str, *, stage_start: bool = False, stage_end: bool = False
    ) -> TaskExecution:
        """Make a task that runs the code registered as `implementing_class`."""
        return cls(name=name, implementing_class=implementing_class, stage_start=stage_start, stage_end=stage_end)
