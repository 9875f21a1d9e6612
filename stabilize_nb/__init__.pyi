# What `import stabilize_nb` offers, for checkers of types: __init__.py finds each name when it is first used.

from IPython.core.interactiveshell import InteractiveShell

from stabilize_nb import events as events
from stabilize_nb.comparing import compare as compare
from stabilize_nb.egress.client import guarded_client as guarded_client
from stabilize_nb.egress.policy import Egress as Egress
from stabilize_nb.egress.policy import EgressRefusedError as EgressRefusedError
from stabilize_nb.engine import Engine as Engine
from stabilize_nb.errors import PermanentError as PermanentError
from stabilize_nb.errors import RunFailedError as RunFailedError
from stabilize_nb.errors import SecretNotFoundError as SecretNotFoundError
from stabilize_nb.errors import StabilizeError as StabilizeError
from stabilize_nb.errors import TransientError as TransientError
from stabilize_nb.errors import WaitingForApproval as WaitingForApproval
from stabilize_nb.errors import WaitingForCode as WaitingForCode
from stabilize_nb.errors import WaitingForRedrive as WaitingForRedrive
from stabilize_nb.errors import WaitingForResume as WaitingForResume
from stabilize_nb.errors import WaitingForSettlement as WaitingForSettlement
from stabilize_nb.flow import Flow as Flow
from stabilize_nb.flow import jump as jump
from stabilize_nb.hitl import ApprovalTask as ApprovalTask
from stabilize_nb.hitl import approve as approve
from stabilize_nb.hitl import get_signal as get_signal
from stabilize_nb.hitl import reject as reject
from stabilize_nb.hitl import send_signal as send_signal
from stabilize_nb.models.budget import Budget as Budget
from stabilize_nb.models.calls import BudgetExceededError as BudgetExceededError
from stabilize_nb.models.secret import Secret as Secret
from stabilize_nb.models.secret import secret as secret
from stabilize_nb.models.stage import JoinType as JoinType
from stabilize_nb.models.stage import SplitType as SplitType
from stabilize_nb.models.stage import StageExecution as StageExecution
from stabilize_nb.models.status import WorkflowStatus as WorkflowStatus
from stabilize_nb.models.task import TaskExecution as TaskExecution
from stabilize_nb.models.workflow import Workflow as Workflow
from stabilize_nb.orchestrator import Orchestrator as Orchestrator
from stabilize_nb.pictures import image as image
from stabilize_nb.queue.processor.config import QueueProcessorConfig as QueueProcessorConfig
from stabilize_nb.queue.processor.processor import QueueProcessor as QueueProcessor
from stabilize_nb.queue.queue import PostgresQueue as PostgresQueue
from stabilize_nb.queue.queue import Queue as Queue
from stabilize_nb.queue.queue import SqliteQueue as SqliteQueue
from stabilize_nb.recovery import WorkflowRecovery as WorkflowRecovery
from stabilize_nb.reducers import register_reducer as register_reducer
from stabilize_nb.run import Run as Run
from stabilize_nb.store.store import PostgresWorkflowStore as PostgresWorkflowStore
from stabilize_nb.store.store import SqliteWorkflowStore as SqliteWorkflowStore
from stabilize_nb.store.store import WorkflowStore as WorkflowStore
from stabilize_nb.streaming import StreamItem as StreamItem
from stabilize_nb.streaming import WorkflowStream as WorkflowStream
from stabilize_nb.streaming import emit_progress as emit_progress
from stabilize_nb.tasks.docker import DockerTask as DockerTask
from stabilize_nb.tasks.http import HTTPTask as HTTPTask
from stabilize_nb.tasks.interface import CallableTask as CallableTask
from stabilize_nb.tasks.interface import NoOpTask as NoOpTask
from stabilize_nb.tasks.interface import RetryableTask as RetryableTask
from stabilize_nb.tasks.interface import Task as Task
from stabilize_nb.tasks.interface import WaitTask as WaitTask
from stabilize_nb.tasks.python import PythonTask as PythonTask
from stabilize_nb.tasks.registry import TaskRegistry as TaskRegistry
from stabilize_nb.tasks.result import TaskResult as TaskResult
from stabilize_nb.tasks.shell import ShellTask as ShellTask
from stabilize_nb.tasks.ssh import SSHTask as SSHTask
from stabilize_nb.tasks.sub_workflow import SubWorkflowTask as SubWorkflowTask

__version__: str

def load_ipython_extension(shell: InteractiveShell) -> None: ...
def unload_ipython_extension(shell: InteractiveShell) -> None: ...
