"""
Verifiers: what looks at the outputs of a task before anything that follows may start (docs/verification.md).

The engine asks the verifier of a task when its body has succeeded, in the body's thread, before anything is committed:
outputs, the verifier's word and what starts next are one commit. A worker that dies in between has told nobody, and
the body is run again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Self

from stabilize_nb.errors import ConfigError, TransientVerificationError, VerificationError
from stabilize_nb.expressions import ExpressionError, check_expression, judge
from stabilize_nb.validation import SchemaValidator

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution

#: In the context of a stage: what its verifier said last, {status, message, details}, and the outputs it `refused`.
VERIFICATION: Final = "_verification"


class VerifyStatus(Enum):
    """What a verifier says."""

    OK = "OK"  # the outputs are right
    RETRY = "RETRY"  # they are not, and may be when the task is run anew
    FAILED = "FAILED"  # they are wrong: the task has failed
    SKIPPED = "SKIPPED"  # there was nothing to look at


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a verifier says, and why. `details` is plain data for the log; `retry_after` is in seconds."""

    status: VerifyStatus
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    retry_after: float | None = None

    @classmethod
    def ok(cls, message: str = "", details: Mapping[str, Any] | None = None) -> Self:
        """Let what follows start."""
        return cls(VerifyStatus.OK, message, details or {})

    @classmethod
    def retry(cls, message: str, details: Mapping[str, Any] | None = None, retry_after: float | None = None) -> Self:
        """Have the task run anew, as often as it may be tried."""
        return cls(VerifyStatus.RETRY, message, details or {}, retry_after)

    @classmethod
    def failed(cls, message: str, details: Mapping[str, Any] | None = None) -> Self:
        """Fail the task."""
        return cls(VerifyStatus.FAILED, message, details or {})

    @classmethod
    def skipped(cls, message: str = "") -> Self:
        """Say that there was nothing to look at; what follows starts."""
        return cls(VerifyStatus.SKIPPED, message)

    @property
    def is_ok(self) -> bool:
        """Whether what follows may start."""
        return self.status in (VerifyStatus.OK, VerifyStatus.SKIPPED)


class Verifier:
    """Looks at what a task has made. Subclasses override `verify`, which is a plain function.

    The stage that it gets has the new outputs in `stage.outputs`; it changes nothing of them. It may make steps and
    calls, as a body may.
    """

    def verify(self, stage: StageExecution) -> VerifyResult:
        """Return a VerifyResult."""
        raise NotImplementedError


class CallableVerifier(Verifier):
    """A function of the stage as a verifier.

    It returns a VerifyResult, or True or None for right, False for wrong, or a text that says what is wrong. It may
    also raise: VerificationError and AssertionError fail the task, TransientVerificationError has it run anew.
    """

    def __init__(self, function: Callable[[StageExecution], Any]) -> None:
        if inspect.iscoroutinefunction(function):
            msg = f"{function.__name__!r} is a coroutine function; a verifier is a plain function"
            raise ConfigError(msg)
        self.function = function

    def verify(self, stage: StageExecution) -> VerifyResult:
        """Call the function."""
        return verdict(self.function, stage)


class OutputVerifier(Verifier):
    """Says what outputs have to be like, in any of four ways.

    `required`: keys that there must be, and that are not None. `types`: key -> type, or a tuple of them, of a value
    that is there. `condition`: text such as "score > 0.5" over the outputs. `schema`: a JSON schema of all of them.
    `retry`: whether the task is run anew when they are not like that; otherwise it fails.
    """

    def __init__(
        self, required: Iterable[str] = (), *, types: Mapping[str, Any] | None = None, condition: str | None = None,
        schema: Mapping[str, Any] | None = None, retry: bool = False,
    ) -> None:  # fmt: skip
        self.required = (required,) if isinstance(required, str) else tuple(required)
        self.types = dict(types or {})
        self.condition = condition
        self.schema = None if schema is None else dict(schema)
        self.retry = retry
        if condition is not None:
            check_expression(condition)
        if schema is not None:
            SchemaValidator(schema)

    def verify(self, stage: StageExecution) -> VerifyResult:
        """Name everything that is not as it has to be."""
        faults = [*self._missing(stage.outputs), *self._mistyped(stage.outputs), *self._untrue(stage.outputs)]
        if self.schema is not None:
            faults += map(str, SchemaValidator(self.schema).validate(stage.outputs))
        if not faults:
            return VerifyResult.ok()
        say = VerifyResult.retry if self.retry else VerifyResult.failed
        return say("; ".join(faults), {"faults": faults})

    def _missing(self, outputs: Mapping[str, Any]) -> Iterable[str]:
        for key in self.required:
            if outputs.get(key) is None:
                there = ", ".join(sorted(outputs)) or "nothing"
                yield f"output {key!r} is {'None' if key in outputs else 'missing'} (there is: {there})"

    def _mistyped(self, outputs: Mapping[str, Any]) -> Iterable[str]:
        for key, kinds in self.types.items():
            if key in outputs and not isinstance(outputs[key], kinds):
                names = [kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))]
                yield f"output {key!r} is of type {type(outputs[key]).__name__}; {' or '.join(names)} is expected"

    def _untrue(self, outputs: Mapping[str, Any]) -> Iterable[str]:
        if self.condition is None:
            return
        try:
            holds, why = judge(self.condition, outputs)
        except ExpressionError as error:
            yield str(error)
            return
        if not holds:
            yield f"{self.condition!r} is not true" + (f" ({'; '.join(why)})" if why else "")


def verdict(function: Callable[..., Any], *arguments: Any) -> VerifyResult:
    """Make a VerifyResult of what a function returns or raises to say something; anything else it raises comes out."""
    try:
        said = function(*arguments)
    except (VerificationError, AssertionError) as error:
        return VerifyResult.failed(str(error) or type(error).__name__)
    except TransientVerificationError as error:
        return VerifyResult.retry(str(error), retry_after=error.retry_after)
    name = getattr(function, "__name__", type(function).__name__).replace("<lambda>", "the verifier")
    if isinstance(said, VerifyResult):
        return said
    if said is None or said is True:
        return VerifyResult.ok()
    if said is False:
        return VerifyResult.failed(f"{name} says that it is not right")
    if isinstance(said, str) and said:
        return VerifyResult.failed(said)
    return VerifyResult.failed(
        f"{name} returned {said!r:.60}; a VerifyResult, True, False, None or a text that says what is wrong is expected"
    )
