"""One decision per message, and the table of them. Handlers read and write only through their Draft."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.handlers.cancel_region import cancel_region
from stabilize_nb.handlers.cancel_stage import cancel_stage
from stabilize_nb.handlers.cancel_workflow import cancel_workflow
from stabilize_nb.handlers.complete_workflow import complete_workflow
from stabilize_nb.handlers.control import pause_workflow, resume_workflow
from stabilize_nb.handlers.enter_stage import enter_stage
from stabilize_nb.handlers.fork_workflow import fork_workflow
from stabilize_nb.handlers.jump_to_stage import jump_to_stage
from stabilize_nb.handlers.keep_output import keep_output
from stabilize_nb.handlers.migrate_workflow import migrate_workflow
from stabilize_nb.handlers.multi_instance import (
    add_multi_instance,
    close_multi_instance,
    complete_multi_instance,
)
from stabilize_nb.handlers.restart_stage import restart_stage
from stabilize_nb.handlers.run_task import run_task
from stabilize_nb.handlers.signal_stage import signal_stage
from stabilize_nb.handlers.start_stage import start_stage
from stabilize_nb.handlers.start_workflow import start_workflow
from stabilize_nb.handlers.task_finished import task_finished
from stabilize_nb.handlers.timeout_gate import timeout_gate
from stabilize_nb.handlers.timeout_stage import timeout_stage
from stabilize_nb.queue import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from stabilize_nb.core.draft import Draft

HANDLERS: dict[type[m.Message], Callable[[Draft, Any], None]] = {
    m.StartWorkflow: start_workflow,
    m.StartStage: start_stage,
    m.RunTask: run_task,
    m.TaskFinished: task_finished,
    m.TimeoutStage: timeout_stage,
    m.TimeoutGate: timeout_gate,
    m.SignalStage: signal_stage,
    m.JumpToStage: jump_to_stage,
    m.RestartStage: restart_stage,
    m.ForkWorkflow: fork_workflow,
    m.EnterStage: enter_stage,
    m.CancelStage: cancel_stage,
    m.CancelRegion: cancel_region,
    m.AddMultiInstance: add_multi_instance,
    m.CompleteMultiInstance: complete_multi_instance,
    m.CloseMultiInstance: close_multi_instance,
    m.KeepOutput: keep_output,
    m.CancelWorkflow: cancel_workflow,
    m.PauseWorkflow: pause_workflow,
    m.ResumeWorkflow: resume_workflow,
    m.MigrateWorkflow: migrate_workflow,
    m.CompleteWorkflow: complete_workflow,
}
