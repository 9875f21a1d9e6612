"""A workflow: a graph of stages that is run as one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.errors import ConfigError, StageNotFoundError
from stabilize_nb.models.ids import new_id
from stabilize_nb.models.near import listed
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.topology import check_topology
from stabilize_nb.models.values import as_dict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stabilize_nb.models.stage import StageExecution


#: Where the trigger of a workflow says which cell began it, with which version of its flow and which code.
ORIGIN: Final = "notebook"


class WorkflowType(Enum):
    """What a workflow is called on messages."""

    PIPELINE = "PIPELINE"  # the only kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What set a workflow going."""

    type: str = "manual"
    user: str = ""
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Workflow:
    """One execution of a graph of stages.

    `start_time`, `end_time` and `created_at` are ms since the epoch (UTC). `context` holds the inputs that every
    stage sees. A workflow that a store returned is a picture of the moment, not a live object.
    """

    application: str = ""
    name: str = ""
    stages: list[StageExecution] = field(default_factory=list)
    trigger: Trigger = field(default_factory=Trigger)
    pipeline_config_id: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=new_id)
    type: WorkflowType = WorkflowType.PIPELINE
    status: WorkflowStatus = WorkflowStatus.NOT_STARTED
    created_at: int | None = None
    start_time: int | None = None
    end_time: int | None = None
    error: str | None = None
    limit_concurrent: bool = False
    max_concurrent_executions: int = 0
    keep_waiting_pipelines: bool = True
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def lane(self) -> str:
        """What workflows share whose number is limited: `pipeline_config_id`, else application and name."""
        return self.pipeline_config_id or f"{self.application}/{self.name}"

    @classmethod
    def create(
        cls,
        application: str,
        name: str,
        stages: Iterable[StageExecution],
        trigger: Trigger | None = None,
        pipeline_config_id: str | None = None,
        context: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
    ) -> Workflow:
        """
        Make a workflow; raises InvalidWorkflowError that names every fault of the graph at once.

        `config` limits how many workflows of one `pipeline_config_id` (else of one application and name) run at once:
        {"limitConcurrent": True, "maxConcurrentExecutions": 5, "keepWaitingPipelines": True}. One too many is BUFFERED
        and starts when a slot is free, the oldest first; without `keepWaitingPipelines` a newer one that has to wait
        cancels those that wait already. Raises ConfigError for other keys and values.
        """
        workflow = cls(
            application=application,
            name=name,
            stages=list(stages),
            trigger=trigger or Trigger(),
            pipeline_config_id=pipeline_config_id,
            context=as_dict(context, f"workflow {name!r} context"),
            **_limits(config or {}),
        )
        check_topology(workflow.name, workflow.stages)
        return workflow

    def stage_by_ref_id(self, ref_id: str) -> StageExecution:
        """Return the stage `ref_id` (its first activation); raises StageNotFoundError."""
        for stage in self.stages:
            if stage.ref_id == ref_id:
                return stage
        there = listed(ref_id, sorted(stage.ref_id for stage in self.stages))
        msg = f"workflow {self.name!r} has no stage {ref_id!r}; its stages are: {there}"
        raise StageNotFoundError(msg)

    def activations(self, ref_id: str) -> list[StageExecution]:
        """Return every run of the stage `ref_id` in order: `ref_id`, `ref_id#2`, ... (several threads, WCP-8)."""
        rows = [stage for stage in self.stages if stage.ref_id.partition("#")[0] == ref_id]
        return sorted(rows, key=lambda stage: stage.activation)

    def get_context(self) -> dict[str, Any]:
        """Return the outputs of all stages merged in the order of the graph; later ones win."""
        merged: dict[str, Any] = {}
        for stage in self.stages:
            merged.update(stage.outputs)
        return merged


#: Key of a configuration -> field, and the kind of its value.
_LIMITS = {
    "limitConcurrent": ("limit_concurrent", bool),
    "maxConcurrentExecutions": ("max_concurrent_executions", int),
    "keepWaitingPipelines": ("keep_waiting_pipelines", bool),
}


def _limits(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a configuration sets."""
    fields: dict[str, Any] = {}
    for key, value in config.items():
        field, kind = _LIMITS.get(key, ("", None))
        if kind is None:
            msg = f"config has the key {key!r}; known are {', '.join(_LIMITS)}"
            raise ConfigError(msg)
        if type(value) is not kind:
            msg = f"config {key!r} is {value!r}; {'True or False' if kind is bool else 'a number'} is expected"
            raise ConfigError(msg)
        fields[field] = value
    if fields.get("limit_concurrent") and fields.get("max_concurrent_executions", 0) < 1:
        msg = "config limits concurrent executions but maxConcurrentExecutions is not 1 or more"
        raise ConfigError(msg)
    return fields
