"""Every exception the public API raises, and the rule that tells a transient failure from a permanent one.

Messages are one sentence: what happened, to what (ids and refs), what was expected, what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stabilize_nb.plain import obeyed_by_none

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class StabilizeError(Exception):
    """Root of all errors of this package. Names and errors of others stand in messages: no terminal obeys them."""

    #: The page of the documentation that says more; tracebacks name it as a note.
    page: ClassVar[str] = ""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        if self.page:
            self.add_note(f"see docs/{self.page}")

    def __str__(self) -> str:
        return obeyed_by_none(super().__str__())


class StabilizeFatalError(StabilizeError):
    """The program is wrong: the same call fails again."""


class StabilizeExpectedError(StabilizeError):
    """The world is not as the call needs it; the program is right."""


class ContextError(StabilizeFatalError):
    """A context or output value cannot be used."""


class ConfigError(StabilizeFatalError):
    """A setting, a URL or a definition is wrong."""


class ValueNotStorableError(ContextError, TypeError):
    """A value JSON cannot hold was about to be stored; the message gives its path and type."""

    page = "values.md"


class ValueTooLargeError(ValueNotStorableError):
    """A value takes more than 64 MiB as JSON text; the message gives its path."""


class KeyTakenError(ConfigError):
    """A run was started for a key already, and it is another workflow or has other inputs; the message names both."""

    page = "starting.md"


class InvalidWorkflowError(ConfigError, ValueError):
    """The graph of a workflow cannot be run; the message names every fault and its members."""

    def __init__(self, name: str, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(f"workflow {name!r} cannot be run: " + "; ".join(self.faults))


class PreconditionError(StabilizeExpectedError):
    """Something that must hold before does not."""


class OutputError(StabilizeExpectedError):
    """A task's output is not what was promised."""


class VerificationError(StabilizeExpectedError):
    """A verifier found an output wrong."""

    page = "verification.md"


class StageNotReadyError(StabilizeExpectedError):
    """A stage is not in the state that a call needs."""


class WorkflowNotFoundError(StabilizeExpectedError, LookupError):
    """The store has no such workflow."""


class StageNotFoundError(StabilizeExpectedError, LookupError):
    """The workflow has no such stage."""


class TaskNotFoundError(StabilizeFatalError, LookupError):
    """No task is registered under a name."""


class StoreError(StabilizeError):
    """The database cannot be opened, read or written."""


class StoreUnavailableError(StoreError):
    """The database cannot be used now: its disk is full or fails, or another process locks it. It may be back soon."""


class StoreDamagedError(StoreError):
    """The database file is not as it was written, and nothing more is done with it.

    `stabilize-nb doctor FILE` says what is wrong with it and what can be saved.
    """

    page = "resilience.md"


class SchemaError(StoreError):
    """The database holds another schema than this version of the package."""


class WaitTimeoutError(StabilizeExpectedError, TimeoutError):
    """A wait ended before what was waited for; the run goes on."""


class WaitingForApproval(StabilizeExpectedError):
    """A run cannot go on before a person decides."""

    def __init__(self, run_id: str, gates: Iterable[str]) -> None:
        self.run_id = run_id
        self.gates = tuple(gates)
        names = ", ".join(repr(gate) for gate in self.gates)
        super().__init__(
            f"run {run_id} waits for a decision at {names}: call run.approve({self.gates[0]!r}) or "
            f"run.reject({self.gates[0]!r}), then ask for the result again"
        )


class WaitingForSettlement(WaitingForApproval):
    """A run cannot go on before a person says what became of a body whose process died while it ran."""

    page = "resilience.md"

    def __init__(self, run_id: str, gates: Iterable[str], doubt: str) -> None:
        super().__init__(run_id, gates)
        first = repr(self.gates[0])
        said = (
            f"run {run_id} waits for somebody to say what became of {', '.join(map(repr, self.gates))} ({doubt}): call "
            f"run.settle({first}, 'retry'), run.settle({first}, outputs={{...}}) or run.settle({first}, 'fail'), then "
            "ask for the result again"
        )
        self.args = (said,)


class WaitingForCode(StabilizeExpectedError):
    """A run cannot go on because tasks that it needs are not defined in this process."""

    def __init__(self, run_id: str, names: Iterable[str], changed: Iterable[str] = ()) -> None:
        self.run_id = run_id
        self.names = tuple(names)
        self.changed = tuple(changed)
        listed = ", ".join(repr(name) for name in self.names)
        other = ", ".join(repr(name) for name in self.changed)
        super().__init__(
            f"run {run_id} waits for code: {listed} is not registered in this process"
            + (f" ({other}: other code than the run was started with)" if other else "")
            + "; run the cell or import the module that defines it, and the run goes on by itself"
            + (", or have it use the code that is here: run.migrate()" if other else "")
        )


class WaitingForRedrive(StabilizeExpectedError):
    """A run cannot go on because messages of it could not be processed; `.letters` has a sentence for each."""

    page = "resilience.md"

    def __init__(self, run_id: str, letters: Iterable[str]) -> None:
        self.run_id = run_id
        self.letters = tuple(letters)
        super().__init__(f"run {run_id} cannot go on: {'; '.join(self.letters)}")


class WaitingForResume(StabilizeExpectedError):
    """A run was left by an earlier process, and nobody works at it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"nobody works at run {run_id}, which an earlier process left: %workflow resume {run_id} goes on with it, "
            "or run.engine.resume(run.id)"
        )


class RunFailedError(StabilizeError):
    """A run ended without success; `.status` says how, `.failures` which stage failed and why."""

    def __init__(self, run_id: str, status: str, failures: Mapping[str, str]) -> None:
        self.run_id = run_id
        self.status = status
        self.failures = dict(failures)
        unsaid = "somebody cancelled it" if status == "CANCELED" else "no stage gave a reason"
        why = "; ".join(f"{ref}: {text}" for ref, text in self.failures.items()) or unsaid
        super().__init__(f"run {run_id} ended {status} ({why})")


class RecoveryError(StabilizeError):
    """Recovery could not be carried out."""


class PermanentError(StabilizeError):
    """Trying again cannot help: the task fails at once."""


class SecretNotFoundError(PermanentError, LookupError):
    """A secret is not where it is looked up; the message says which, who needs it, where that is, and what to do."""

    page = "security.md"


class TransientError(StabilizeError):
    """Trying again may help: the task is run again after a back-off.

    `retry_after` is in seconds and is the least that is waited. `context_update` is merged into the
    stage's context before the next attempt.

    For example:

        >>> from stabilize_nb import Engine, Flow, TransientError
        >>> flow, tries = Flow("patience"), []
        >>> @flow.stage(retry=3)
        ... def busy():
        ...     tries.append("try")
        ...     if len(tries) < 2:
        ...         raise TransientError("the service is busy", retry_after=0.5)
        ...     return len(tries)
        >>> with Engine(":memory:") as engine:
        ...     engine.start(flow).result()
        2
    """

    def __init__(
        self,
        message: str = "transient error",
        code: int | str | None = None,
        cause: BaseException | None = None,
        retry_after: float | None = None,
        context_update: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message if code is None else f"{message} (code={code})")
        self.code = code
        self.cause = cause
        self.retry_after = retry_after
        self.context_update: Mapping[str, Any] = {} if context_update is None else context_update


class ProcessLostError(TransientError):
    """The process of an executor died while it ran a body, or the executor took none: the body is begun again."""


class ConcurrencyError(TransientError):
    """Another worker changed the row first."""


class TransientVerificationError(TransientError):
    """A verification that may succeed later."""


class TaskTimeoutError(StabilizeError, TimeoutError):
    """A task took longer than it may."""

    def __init__(
        self, message: str = "task timed out", task_name: str = "", stage_id: str = "", execution_id: str = ""
    ) -> None:
        super().__init__(message)
        self.task_name = task_name
        self.stage_id = stage_id
        self.execution_id = execution_id


#: Fragments of class names that mark an unknown exception as worth another try.
TRANSIENT_NAMES = ("timeout", "connection", "temporary", "unavailable", "retry", "throttl", "ratelimit")
#: Fragments that mark it as hopeless; they win over the ones above.
PERMANENT_NAMES = ("validation", "authentication", "authorization", "forbidden", "notfound", "invalid")
#: Network errnos: EPIPE, ENETDOWN, ENETUNREACH, ECONNABORTED, ECONNRESET, ETIMEDOUT, ECONNREFUSED, EHOSTUNREACH.
TRANSIENT_ERRNOS = frozenset({32, 100, 101, 103, 104, 110, 111, 113})
PERMANENT_BUILTINS = (ValueError, TypeError, AttributeError, LookupError, NotImplementedError)


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        explicit = link.cause if isinstance(link, TransientError) else None
        link = explicit or link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return chain


def transient_cause(error: BaseException) -> TransientError | None:
    """Return the TransientError in the chain of causes, if there is one before a PermanentError."""
    for link in _causes(error):
        if isinstance(link, PermanentError):
            return None
        if isinstance(link, TransientError):
            return link
    return None


def _judge(error: BaseException) -> bool | None:
    """Say whether one exception by itself is transient (True), permanent (False) or unknown (None)."""
    if isinstance(error, TransientError):
        return True
    if isinstance(error, PermanentError):
        return False
    name = type(error).__name__.lower()
    if any(part in name for part in PERMANENT_NAMES):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in TRANSIENT_ERRNOS:
        return True
    if any(part in name for part in TRANSIENT_NAMES):
        return True
    return False if isinstance(error, PERMANENT_BUILTINS) else None


def _verdict(error: BaseException) -> bool | None:
    """Return what the error, or the first of its causes that says anything, says of another try."""
    verdicts = (_judge(link) for link in _causes(error))
    return next((verdict for verdict in verdicts if verdict is not None), None)


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: explicit classes before names, permanent before transient, causes included."""
    return _verdict(error) is True


def is_permanent(error: BaseException) -> bool:
    """Whether the error, or the first of its causes that says anything, excludes another try."""
    return _verdict(error) is False
