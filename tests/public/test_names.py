"""The names and import paths of the reference documents that this version has."""

from __future__ import annotations

import importlib

import pytest

PATHS = {
    "stabilize_nb": """Workflow StageExecution TaskExecution TaskRegistry SqliteWorkflowStore SqliteQueue QueueProcessor
        Orchestrator WorkflowStatus Task TaskResult TransientError ApprovalTask approve reject send_signal get_signal
        WorkflowStream StreamItem emit_progress JoinType SplitType WorkflowRecovery Queue WorkflowStore RetryableTask
        register_reducer Engine Flow Run QueueProcessorConfig PermanentError StabilizeError SubWorkflowTask events""",
    "stabilize_nb.llm": """LLMClient LLMTask AgentLoopTask ToolRegistry tool ChatMessage ChatResponse Tool ToolCall
        ToolContext""",
    "stabilize_nb.hitl": "ApprovalTask approve reject send_signal get_signal",
    "stabilize_nb.streaming": "WorkflowStream emit_progress StreamItem",
    "stabilize_nb.reducers": "register_reducer apply_output_reducers",
    "stabilize_nb.events": """configure_event_sourcing SqliteEventStore get_event_bus EventType EventReplayer
        StageMetricsProjection WorkflowTimelineProjection reset_event_bus""",
    "stabilize_nb.queue.processor.config": "QueueProcessorConfig",
    "stabilize_nb.queue.processor": "QueueProcessorConfig QueueProcessor",
    "stabilize_nb.queue.messages": "SignalStage CancelStage CancelWorkflow StartWorkflow StartStage JumpToStage",
    "stabilize_nb.models.stage": "JoinType SplitType SyntheticStageOwner StageExecution",
    "stabilize_nb.models.multi_instance": "MultiInstanceConfig",
    "stabilize_nb.models.status": "can_transition validate_transition InvalidStateTransitionError WorkflowStatus",
    "stabilize_nb.models.workflow": "Workflow Trigger",
    "stabilize_nb.models.task": "TaskExecution",
    "stabilize_nb.expressions": "evaluate_expression ExpressionError",
    "stabilize_nb.errors": """TransientError PermanentError TaskTimeoutError ConcurrencyError is_transient is_permanent
        StabilizeError StabilizeFatalError ContextError ConfigError StabilizeExpectedError PreconditionError OutputError
        VerificationError StageNotReadyError TransientVerificationError RecoveryError TaskNotFoundError""",
    "stabilize_nb.tasks.result": "TaskResult TaskResultBuilder",
    "stabilize_nb.tasks.interface": """Task RetryableTask SkippableTask OverridableTimeoutRetryableTask CallableTask
        NoOpTask WaitTask""",
    "stabilize_nb.tasks.registry": "TaskRegistry",
    "stabilize_nb.tasks.sub_workflow": "SubWorkflowTask",
    "stabilize_nb.stages.builder": """StageDefinitionBuilder StageDefinitionBuilderFactory register_builder get_builder
        plan""",
    "stabilize_nb.stages.loop_builder": "LoopBuilder",
    "stabilize_nb.stages.multi_instance_builder": "MultiInstanceBuilder",
    "stabilize_nb.dag.graph": "StageGraphBuilder",
    "stabilize_nb.recovery": "WorkflowRecovery recover_on_startup",
    "stabilize_nb.tasks.docker": "DockerTask",
    "stabilize_nb.verification": "VerifyResult VerifyStatus Verifier OutputVerifier CallableVerifier",
    "stabilize_nb.conditions": "Condition ConditionSet ConditionType ConditionReason",
    "stabilize_nb.assertions": """assert_true assert_not_none assert_non_empty assert_config assert_context
        assert_context_type assert_context_in assert_output assert_output_type assert_stage_ready
        assert_no_upstream_failures assert_verified StabilizeError StabilizeFatalError StabilizeExpectedError
        PreconditionError ContextError OutputError ConfigError VerificationError StageNotReadyError""",
    "stabilize_nb.validation": """validate_context validate_outputs is_valid SchemaValidator ValidationError
        SHELL_TASK_SCHEMA WAIT_TASK_SCHEMA""",
}


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in PATHS.items() for name in names.split()])
def test_name_is_where_the_documents_say(path: str, name: str) -> None:
    """A documented name can be imported from its documented path."""
    assert getattr(importlib.import_module(path), name) is not None


def test_package_lists_its_names() -> None:
    """Every name that the package lists exists, and an unknown one is an AttributeError."""
    package = importlib.import_module("stabilize_nb")

    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = package.nonsense
