"""
The tasks of a loop's entry and exit (WCP-21; the stages are made by stages/loop_builder.py).

A pass ends with a jump back to the entry. A jump clears the outputs of everything that it repeats, so the exit sends
along what the passes have given so far, and the entry gives it again as its own outputs. What that is shows in the
difference between what the entry saw and what the exit sees: the entry notes a digest of each value.

A reset leaves the user's context of a stage alone, and with it the note of the last pass. It counts only for the
generation of the entry that the jump leads to: a loop that is entered anew, in the pass of an outer loop, begins at 0.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from stabilize_nb.expressions import ExpressionError, evaluate_defined
from stabilize_nb.tasks.interface import Task
from stabilize_nb.tasks.result import TaskResult, uncounted_jump

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stabilize_nb.models.stage import StageExecution

#: In the entry's own context: whether the body is run. The split of a while loop reads it.
ENTERED = "loop_entered"


class LoopEntryTask(Task):
    """Begins a pass, or the loop: a while loop whose condition is false at once has no pass."""

    sees_secrets = False

    def execute(self, stage: StageExecution) -> TaskResult:
        """Give again what the passes before gave, and say whether the body is run."""
        config = stage.context["_loop_config"]
        note = stage.context.get("_loop_pass") or {}
        is_next = note.get("generation") == stage.generation
        try:
            enters = is_next or config["until"] or _holds(config, stage.context, 0)
        except ExpressionError as error:
            return _failed(stage, config, error)
        state = {
            "generation": stage.generation,
            "iteration_count": note["iteration_count"] if is_next else 0,
            "before": {key: _digest(value) for key, value in _data(stage.context).items()},
        }
        return TaskResult.success(note["given"] if is_next else {}, {ENTERED: enters, "_loop_state": state})


class LoopExitTask(Task):
    """Ends a pass: jumps back for another one, or lets what follows the loop go on."""

    sees_secrets = False

    def execute(self, stage: StageExecution) -> TaskResult:
        """Look at the condition and the bound."""
        config = stage.context["_loop_config"]
        entries = stage.upstream.get(config["entry"])
        if not entries or not entries[-1].context[ENTERED]:
            return TaskResult.success({"loop_exhausted": False})
        state = entries[-1].context["_loop_state"]
        passes = state["iteration_count"] + 1
        try:
            is_over = _holds(config, stage.context, passes) is config["until"]
        except ExpressionError as error:
            return _failed(stage, config, error)
        if is_over:
            return TaskResult.success({"loop_exhausted": False}, {"_loop_passes": passes})
        if passes >= config["max_iterations"]:
            error_text = f"loop {_name(stage)!r} was ended by its bound of {passes} passes: {_still(config)}"
            return TaskResult.failed_continue(error_text, {"loop_exhausted": True}, {"_loop_passes": passes})
        return uncounted_jump(config["entry"], {"_loop_pass": _note(stage, state, passes)})


def _note(stage: StageExecution, state: Mapping[str, Any], passes: int) -> dict[str, Any]:
    before = state["before"]
    given = {key: value for key, value in _data(stage.context).items() if before.get(key) != _digest(value)}
    # The jump resets the entry, which makes its generation the next one.
    return {"generation": state["generation"] + 1, "iteration_count": passes, "given": given}


def _data(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return what users gave; names with an underscore are the engine's."""
    return {key: value for key, value in context.items() if not key.startswith("_") and key != ENTERED}


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def _holds(config: Mapping[str, Any], context: Mapping[str, Any], passes: int) -> bool:
    seen = {"iteration_count": passes, "max_iterations": config["max_iterations"], **context}
    return bool(evaluate_defined(config["condition"], seen))


def _still(config: Mapping[str, Any]) -> str:
    return f"{config['condition']!r} is still {'not true' if config['until'] else 'true'}"


def _failed(stage: StageExecution, config: Mapping[str, Any], error: ExpressionError) -> TaskResult:
    text = (
        f"loop {_name(stage)!r} cannot look at its condition {config['condition']!r}: {error}; the workflow's context, "
        "a stage before the loop or a stage of its body has to give it"
    )
    return TaskResult.terminal(text)


def _name(stage: StageExecution) -> str:
    return stage.ref_id.partition("#")[0].removesuffix("_entry").removesuffix("_exit")
