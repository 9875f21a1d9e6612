"""
Assertions for task bodies: each raises an error of its own kind, in one sentence that names stage and key.

    report = assert_output(stage, "report")     the value, or OutputError

Nothing of it is tried again: a StabilizeFatalError says that the program is wrong, a StabilizeExpectedError that the
world is not as the call needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import (
    ConfigError,
    ContextError,
    OutputError,
    PreconditionError,
    StabilizeError,
    StabilizeExpectedError,
    StabilizeFatalError,
    StageNotReadyError,
    TransientVerificationError,
    VerificationError,
)
from stabilize_nb.verification import VerifyStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.verification import Verifier

__all__ = [
    "ConfigError",
    "ContextError",
    "OutputError",
    "PreconditionError",
    "StabilizeError",
    "StabilizeExpectedError",
    "StabilizeFatalError",
    "StageNotReadyError",
    "VerificationError",
    "assert_config",
    "assert_context",
    "assert_context_in",
    "assert_context_type",
    "assert_no_upstream_failures",
    "assert_non_empty",
    "assert_not_none",
    "assert_output",
    "assert_output_type",
    "assert_stage_ready",
    "assert_true",
    "assert_verified",
]


def assert_true(holds: object, message: str) -> None:
    """Raise PreconditionError with the message unless something holds."""
    if not holds:
        raise PreconditionError(message)


def assert_not_none(value: Any, name: str) -> Any:
    """Return a value; raises PreconditionError when it is None."""
    assert_true(value is not None, f"{name} is None; a value is expected")
    return value


def assert_non_empty(value: Any, name: str) -> Any:
    """Return a text, list or mapping; raises PreconditionError when nothing is in it, or when it is None."""
    assert_true(value is not None and len(value) > 0, f"{name} is {value!r}; something in it is expected")
    return value


def assert_config(holds: object, message: str) -> None:
    """Raise ConfigError with the message unless something holds."""
    if not holds:
        raise ConfigError(message)


def assert_context(stage: StageExecution, *keys: str) -> Any:
    """Return what the context has under a key, or a tuple for several; raises ContextError naming all that it lacks."""
    lacking = [key for key in keys if stage.context.get(key) is None]
    if lacking:
        there = _listed(key for key in stage.context if not key.startswith("_"))
        raise ContextError(
            f"stage {stage.ref_id!r} needs {_listed(map(repr, lacking))} in its context; it has: {there}"
        )
    values = tuple(stage.context[key] for key in keys)
    return values[0] if len(values) == 1 else values


def assert_context_type(stage: StageExecution, key: str, kind: type | tuple[type, ...]) -> Any:
    """Return a value of the context; raises ContextError when it is missing or of another type."""
    value = assert_context(stage, key)
    _check_type(value, kind, f"{key!r} in the context of stage {stage.ref_id!r}", ContextError)
    return value


def assert_context_in(stage: StageExecution, key: str, allowed: Collection[Any]) -> Any:
    """Return a value of the context; raises ContextError when it is missing or none of those that are allowed."""
    value = assert_context(stage, key)
    if value not in allowed:
        one_of = _listed(map(repr, allowed))
        raise ContextError(
            f"{key!r} in the context of stage {stage.ref_id!r} is {value!r}; one of {one_of} is expected"
        )
    return value


def assert_output(outputs: Mapping[str, Any] | StageExecution, key: str) -> Any:
    """Return an output of a mapping, or of a stage that has it; raises OutputError when it is missing or None."""
    found, owner = _outputs(outputs)
    if found.get(key) is None:
        raise OutputError(f"output {key!r} of {owner} is missing; there is: {_listed(found)}")
    return found[key]


def assert_output_type(outputs: Mapping[str, Any] | StageExecution, key: str, kind: type | tuple[type, ...]) -> Any:
    """Return an output; raises OutputError when it is missing or of another type."""
    value = assert_output(outputs, key)
    _check_type(value, kind, f"output {key!r} of {_outputs(outputs)[1]}", OutputError)
    return value


def assert_stage_ready(stage: StageExecution) -> None:
    """Raise StageNotReadyError unless every stage that this one follows has delivered; for a task's body."""
    lacking = stage.requisite_stage_ref_ids - stage.upstream.keys()
    if lacking:
        names = _listed(map(repr, sorted(lacking)))
        raise StageNotReadyError(f"stage {stage.ref_id!r} needs {names}, which did not lead here")


def assert_no_upstream_failures(stage: StageExecution) -> None:
    """Raise StageNotReadyError when a stage directly before this one failed and was gone past; for a task's body."""
    runs = [run for runs in stage.upstream.values() for run in runs]
    failed = [f"{run.ref_id!r} ({run.context['error']})" for run in runs if run.context.get("error")]
    if failed:
        raise StageNotReadyError(f"stage {stage.ref_id!r} follows stages that failed: {_listed(failed)}")


def assert_verified(stage: StageExecution, verifier: Verifier) -> None:
    """Raise VerificationError when a verifier refuses the outputs, TransientVerificationError when it says to retry."""
    said = verifier.verify(stage)
    if not said.is_ok:
        kind = TransientVerificationError if said.status is VerifyStatus.RETRY else VerificationError
        raise kind(f"outputs of stage {stage.ref_id!r} were refused: {said.message}")


def _outputs(given: Mapping[str, Any] | StageExecution) -> tuple[Mapping[str, Any], str]:
    ref = getattr(given, "ref_id", None)
    return (given.outputs, f"stage {ref!r}") if ref is not None else (given, "the outputs")  # type: ignore[union-attr,return-value]


def _check_type(value: Any, kind: type | tuple[type, ...], name: str, error: type[StabilizeError]) -> None:
    if not isinstance(value, kind):
        expected = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise error(f"{name} is of type {type(value).__name__}; {expected} is expected")


def _listed(names: Any) -> str:
    return ", ".join(names) or "nothing"
