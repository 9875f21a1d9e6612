"""stabilize_nb: a durable workflow engine that lives in a Jupyter kernel."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

#: Public name -> module that holds it. Resolved when first used, so that `import stabilize_nb` stays light; checkers of
#: types read the same from __init__.pyi.
_HOMES = {
    "ApprovalTask": "hitl",
    "Budget": "models.budget",
    "BudgetExceededError": "models.calls",
    "CallableTask": "tasks.interface",
    "DockerTask": "tasks.docker",
    "Egress": "egress.policy",
    "EgressRefusedError": "egress.policy",
    "Engine": "engine",
    "Flow": "flow",
    "HTTPTask": "tasks.http",
    "JoinType": "models.stage",
    "NoOpTask": "tasks.interface",
    "Orchestrator": "orchestrator",
    "PermanentError": "errors",
    "PostgresQueue": "queue.queue",
    "PostgresWorkflowStore": "store.store",
    "PythonTask": "tasks.python",
    "Queue": "queue.queue",
    "QueueProcessor": "queue.processor.processor",
    "QueueProcessorConfig": "queue.processor.config",
    "RetryableTask": "tasks.interface",
    "Run": "run",
    "RunFailedError": "errors",
    "SSHTask": "tasks.ssh",
    "Secret": "models.secret",
    "SecretNotFoundError": "errors",
    "ShellTask": "tasks.shell",
    "SplitType": "models.stage",
    "SqliteQueue": "queue.queue",
    "SqliteWorkflowStore": "store.store",
    "StabilizeError": "errors",
    "StageExecution": "models.stage",
    "StreamItem": "streaming",
    "SubWorkflowTask": "tasks.sub_workflow",
    "Task": "tasks.interface",
    "TaskExecution": "models.task",
    "TaskRegistry": "tasks.registry",
    "TaskResult": "tasks.result",
    "TransientError": "errors",
    "WaitTask": "tasks.interface",
    "Workflow": "models.workflow",
    "WorkflowRecovery": "recovery",
    "WorkflowStatus": "models.status",
    "WorkflowStore": "store.store",
    "WaitingForApproval": "errors",
    "WaitingForCode": "errors",
    "WaitingForRedrive": "errors",
    "WaitingForResume": "errors",
    "WaitingForSettlement": "errors",
    "WorkflowStream": "streaming",
    "approve": "hitl",
    "compare": "comparing",
    "events": "events",  # a package that can be called
    "jump": "flow",
    "emit_progress": "streaming",
    "get_signal": "hitl",
    "guarded_client": "egress.client",
    "image": "pictures",
    "register_reducer": "reducers",
    "reject": "hitl",
    "secret": "models.secret",
    "send_signal": "hitl",
}

__all__ = [*sorted(_HOMES), "__version__", "load_ipython_extension", "unload_ipython_extension"]  # noqa: PLE0604 - names of a table


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module = import_module(f"stabilize_nb.{home}")
    value = module if name == home else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    """Return the version that is installed, which was told from the tags of git when it was built."""
    metadata = import_module("importlib.metadata")
    try:
        return str(metadata.version("stabilize-nb"))
    except metadata.PackageNotFoundError:
        return "0+unknown"  # the folder is on the path, and nothing is installed


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Make %%workflow and %workflow known: `%load_ext stabilize_nb`."""
    import_module("stabilize_nb.notebook").load_ipython_extension(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics away; runs go on."""
    import_module("stabilize_nb.notebook").unload_ipython_extension(shell)
