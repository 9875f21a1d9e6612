"""
StageDefinitionBuilder: what stages of one type consist of, and the planning that asks it.

Planning gives a stage its tasks, and the synthetic stages before it, after it and on its failure. It happens when a
workflow is stored (`plan_workflow`), and at any time before by `plan`; planning again changes nothing, since a
synthetic stage has the same ref_id each time.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from stabilize_nb.dag.graph import StageGraphBuilder
from stabilize_nb.errors import ConfigError
from stabilize_nb.models.multi_instance import instance_ref, is_instance
from stabilize_nb.models.stage import SyntheticStageOwner
from stabilize_nb.models.task import TaskExecution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.models.workflow import Workflow

#: Synthetic stages around synthetic stages, at most: a builder that adds stages of its own type never ends.
MAX_NESTING = 10


class StageBuilderError(ConfigError, ValueError):
    """A builder was asked for stages that cannot be run, or made such stages."""


class StageDefinitionBuilder:
    """What a stage of one `type` consists of. Subclasses override `type` and those hooks that they need."""

    @property
    def type(self) -> str:
        """The type of the stages that the builder is asked for."""
        raise NotImplementedError

    def build_tasks(self, stage: StageExecution) -> list[TaskExecution]:
        """Return the tasks of a stage that was written without any."""
        return []

    def before_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        """Add the stages that run before the tasks of `stage`."""

    def after_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        """Add the stages that run after them, when they succeeded."""

    def on_failure_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        """Add the stages that run when one of them failed."""


Builders = list[StageDefinitionBuilder]


class StageDefinitionBuilderFactory:
    """Builders by the type of stage that they are for."""

    def __init__(self) -> None:
        self._builders: dict[str, StageDefinitionBuilder] = {}

    def register(self, builder: StageDefinitionBuilder) -> None:
        """Use `builder` for stages of its type, in the place of another one (a notebook cell that is run again)."""
        if not isinstance(builder, StageDefinitionBuilder):
            msg = f"{builder!r} is no builder of stages; an instance of a StageDefinitionBuilder subclass is expected"
            raise StageBuilderError(msg)
        self._builders[builder.type] = builder

    def unregister(self, type: str) -> None:
        """Use no builder for stages of a type."""
        self._builders.pop(type, None)

    def get(self, type: str) -> StageDefinitionBuilder | None:
        """Return the builder for a type; None when there is none."""
        return self._builders.get(type)

    def list(self) -> Builders:
        """Return all builders, in the order in which they were registered."""
        return [*self._builders.values()]


_everywhere = StageDefinitionBuilderFactory()


def register_builder(builder: StageDefinitionBuilder) -> None:
    """Use `builder` for stages of its type in every workflow that this process stores."""
    _everywhere.register(builder)


def unregister_builder(type: str) -> None:
    """Take back what `register_builder` said about a type."""
    _everywhere.unregister(type)


def get_builder(type: str) -> StageDefinitionBuilder | None:
    """Return the builder that `register_builder` knows for a type; None when there is none."""
    return _everywhere.get(type)


def plan_workflow(workflow: Workflow) -> None:
    """Plan the stages of a workflow that is about to be stored, with the builders of `register_builder`."""
    workflow.stages = plan(workflow.stages, _everywhere)


def plan(stages: Iterable[StageExecution], factory: StageDefinitionBuilderFactory) -> list[StageExecution]:
    """
    Return the stages, with tasks where they had none, and behind them the synthetic stages that builders add.

    Synthetic stages are planned as well. An instance of a multi-instance activity that has no tasks and no builder
    gets one task named like its type (WCP-12).

    Raises StageBuilderError that names the stage and the builder when one fails.
    """
    planned = list(stages)
    parents = {stage.id: stage.parent_stage_id for stage in planned}
    known = {(stage.parent_stage_id, stage.ref_id) for stage in planned}
    for stage in planned:  # which grows meanwhile
        builder = factory.get(stage.type)
        if not stage.tasks:
            stage.tasks = tasks_for(stage, builder)
        for added in _around(stage, builder) if builder else ():
            if (stage.id, added.ref_id) not in known:
                parents[added.id] = stage.id
                _check_nesting(added, parents)
                known.add((stage.id, added.ref_id))
                planned.append(added)
    _teach(planned)
    return planned


def tasks_for(stage: StageExecution, builder: StageDefinitionBuilder | None) -> list[TaskExecution]:
    """Return the tasks of a stage that was written without any."""
    tasks: list[TaskExecution] = []
    if builder is not None:
        tasks = _ask(builder, stage, "build_tasks", lambda: builder.build_tasks(stage)) or []
        if not isinstance(tasks, list) or not all(isinstance(task, TaskExecution) for task in tasks):
            msg = f"{_who(builder, stage)} returned {tasks!r} from build_tasks; a list of TaskExecution is expected"
            raise StageBuilderError(msg)
    if not tasks and stage.type and is_instance(stage.context):
        tasks = [TaskExecution.create(stage.type, stage.type, stage_start=True, stage_end=True)]
    return tasks


def _around(stage: StageExecution, builder: StageDefinitionBuilder) -> list[StageExecution]:
    hooks = {
        SyntheticStageOwner.STAGE_BEFORE: builder.before_stages,
        SyntheticStageOwner.STAGE_AFTER: builder.after_stages,
        SyntheticStageOwner.STAGE_FAILURE: builder.on_failure_stages,
    }
    return [added for owner, hook in hooks.items() for added in _filled(stage, builder, owner, hook)]


def _filled(
    stage: StageExecution,
    builder: StageDefinitionBuilder,
    owner: SyntheticStageOwner,
    hook: Callable[[StageExecution, StageGraphBuilder], None],
) -> list[StageExecution]:
    graph = StageGraphBuilder(stage, owner)
    _ask(builder, stage, hook.__name__, lambda: hook(stage, graph))
    return graph.build()


def _ask(builder: StageDefinitionBuilder, stage: StageExecution, hook: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        msg = f"{_who(builder, stage)} failed in {hook}: {type(error).__name__}: {error}"
        raise StageBuilderError(msg) from error


def _who(builder: StageDefinitionBuilder, stage: StageExecution) -> str:
    return f"builder {type(builder).__name__} of stage {stage.ref_id!r}"


def _check_nesting(stage: StageExecution, parents: dict[str, str | None]) -> None:
    depth, above = 0, parents.get(stage.id)
    while above is not None and depth <= MAX_NESTING:
        depth, above = depth + 1, parents.get(above)
    if depth > MAX_NESTING:
        msg = (
            f"synthetic stages are nested more than {MAX_NESTING} deep, the last being {stage.ref_id!r}: a builder "
            "seems to add stages of its own type to them; give them another type"
        )
        raise StageBuilderError(msg)


def _teach(stages: list[StageExecution]) -> None:
    """Let instances that are made while the workflow runs be like the first that was made before (WCP-15)."""
    by_ref = {stage.ref_id: stage for stage in stages}
    for parent in stages:
        first = by_ref.get(instance_ref(parent.ref_id, 0))
        if parent.mi_config is not None and parent.mi_config.allow_dynamic and first is not None:
            template = {**parent.mi_config.instance, "tasks": task_names(first)}
            template.update({name: getattr(first, name) for name in _SHARED if getattr(first, name)})
            parent.mi_config = dataclasses.replace(parent.mi_config, instance=template)


#: What the instances of an activity have in common, beside their tasks, where a user gave it to the first.
_SHARED = ("mutex_key", "critical_section", "cancel_region", "on_crash")


def task_names(stage: StageExecution) -> list[list[str]]:
    """Return the tasks of a stage as `MultiInstanceConfig.instance` holds them."""
    return [[task.name, task.implementing_class] for task in stage.tasks]
