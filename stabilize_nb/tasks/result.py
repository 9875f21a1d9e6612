"""TaskResult: what a task body says when it returns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.values import as_dict

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class TaskResult:
    """A task's status after its body, and what it leaves: `context` for its stage, `outputs` for later stages.

    `counted` and `child` are set by built-in tasks only: see `uncounted_jump` and `start_child`.

    For example:

        >>> from stabilize_nb import Engine, StageExecution, Task, TaskExecution, TaskResult, Workflow
        >>> class Greet(Task):
        ...     def execute(self, stage):
        ...         return TaskResult.success(outputs={"text": f"Hello {stage.context['name']}"})
        >>> task = TaskExecution.create("Greet", "greet", stage_start=True, stage_end=True)
        >>> stage = StageExecution(ref_id="1", type="greet", name="Greet", tasks=[task], context={"name": "Ada"})
        >>> with Engine(":memory:") as engine:
        ...     engine.registry.register("greet", Greet)
        ...     engine.start(Workflow.create("docs", "greeting", [stage])).result()
        {'text': 'Hello Ada'}
    """

    status: WorkflowStatus
    context: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    target_stage_ref_id: str | None = None
    counted: bool = True
    child: dict[str, Any] | None = None

    @classmethod
    def success(cls, outputs: Mapping[str, Any] | None = None, context: Mapping[str, Any] | None = None) -> TaskResult:
        """Done."""
        return cls(WorkflowStatus.SUCCEEDED, as_dict(context, "context"), as_dict(outputs, "outputs"))

    @classmethod
    def running(cls, context: Mapping[str, Any] | None = None) -> TaskResult:
        """Not done: call the task again after its back-off period."""
        return cls(WorkflowStatus.RUNNING, as_dict(context, "context"))

    @classmethod
    def terminal(cls, error: str, context: Mapping[str, Any] | None = None) -> TaskResult:
        """Failed; nothing that needs this stage runs. The text lands in `context["error"]`."""
        return cls(WorkflowStatus.TERMINAL, {**as_dict(context, "context"), "error": error})

    @classmethod
    def failed_continue(
        cls, error: str, outputs: Mapping[str, Any] | None = None, context: Mapping[str, Any] | None = None
    ) -> TaskResult:
        """Failed, and what follows goes on all the same."""
        why = {**as_dict(context, "context"), "error": error}
        return cls(WorkflowStatus.FAILED_CONTINUE, why, as_dict(outputs, "outputs"))

    @classmethod
    def skipped(cls) -> TaskResult:
        """Nothing to do: the stage counts as skipped, and what follows goes on."""
        return cls(WorkflowStatus.SKIPPED)

    @classmethod
    def canceled(cls, outputs: Mapping[str, Any] | None = None) -> TaskResult:
        """Broken off: what needs this stage does not run."""
        return cls(WorkflowStatus.CANCELED, {}, as_dict(outputs, "outputs"))

    @classmethod
    def stopped(cls, outputs: Mapping[str, Any] | None = None) -> TaskResult:
        """Break off this branch only."""
        return cls(WorkflowStatus.STOPPED, {}, as_dict(outputs, "outputs"))

    @classmethod
    def redirect(cls, context: Mapping[str, Any] | None = None) -> TaskResult:
        """Count as done; kept for programs that say redirect without a target."""
        return cls(WorkflowStatus.REDIRECT, as_dict(context, "context"))

    @classmethod
    def jump_to(
        cls,
        target_stage_ref_id: str,
        context: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> TaskResult:
        """Go on at another stage, which is run again with `context` merged into its own (WCP-10)."""
        return cls(
            WorkflowStatus.REDIRECT, as_dict(context, "context"), as_dict(outputs, "outputs"), target_stage_ref_id
        )

    @classmethod
    def suspend(cls, context: Mapping[str, Any] | None = None) -> TaskResult:
        """Wait for a signal; the next attempt finds it as `_signal_name` and `_signal_data` in its context."""
        return cls(WorkflowStatus.SUSPENDED, as_dict(context, "context"))

    @classmethod
    def builder(cls, status: WorkflowStatus) -> TaskResultBuilder:
        """Build a result step by step."""
        return TaskResultBuilder(status)


class TaskResultBuilder:
    """Collects the parts of a TaskResult; every call returns the builder."""

    def __init__(self, status: WorkflowStatus) -> None:
        self._status = status
        self._context: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}

    def context(self, context: Mapping[str, Any]) -> TaskResultBuilder:
        """Set the whole context."""
        self._context = as_dict(context, "context")
        return self

    def outputs(self, outputs: Mapping[str, Any]) -> TaskResultBuilder:
        """Set all outputs."""
        self._outputs = as_dict(outputs, "outputs")
        return self

    def add_context(self, key: str, value: Any) -> TaskResultBuilder:
        """Add one key of the context."""
        self._context[key] = value
        return self

    def add_output(self, key: str, value: Any) -> TaskResultBuilder:
        """Add one output."""
        self._outputs[key] = value
        return self

    def build(self) -> TaskResult:
        """Return the result."""
        return TaskResult(self._status, self._context, self._outputs)


def uncounted_jump(target_stage_ref_id: str, context: Mapping[str, Any]) -> TaskResult:
    """Go on at another stage without using up one of the jumps that a workflow may make: a pass of a loop (WCP-21)."""
    return replace(TaskResult.jump_to(target_stage_ref_id, context), counted=False)


def start_child(definition: Mapping[str, Any]) -> TaskResult:
    """Start a child workflow (see tasks/child.py) and wait for its end, which comes as a signal (WCP-22)."""
    return replace(TaskResult.suspend(), child=dict(definition))


def returned(outputs: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    """
    Return what a stage function gave back: its outputs, or the one value that it returned instead of a mapping; None
    for one that failed and gave nothing.
    """
    kind = context.get("_returns")
    if kind == "value":
        return outputs.get("result")
    has_failed = "error" in context and not outputs
    return None if kind == "nothing" or has_failed else dict(outputs)
