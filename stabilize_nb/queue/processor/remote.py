"""
A body in another process: what is sent there, what a stage is there, and what comes back.

What crosses is bytes that only the executor's own channel carries, never a store. Data are those of the stage, which
are JSON; code is a name where it has one (a function of a module, a class) and else what cloudpickle makes of it, which
is how functions of notebooks and scripts get to other processes. Whatever a body does there comes back as bytes too: an
executor never has to deal with an error or a value that does not survive the way.
"""

from __future__ import annotations

import functools
import pickle
import sys
import traceback
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.errors import ConfigError, PermanentError, PreconditionError, TransientError, is_transient
from stabilize_nb.queue.processor.capture import Catching, Output
from stabilize_nb.tasks.prints import print_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from stabilize_nb.egress.policy import Egress
    from stabilize_nb.models.calls import Call
    from stabilize_nb.models.question import Answer, Question
    from stabilize_nb.models.stage import Upstream

#: The package that makes bytes of code without a name.
CLOUDPICKLE: Final = "cloudpickle"


@dataclass(kw_only=True)
class Away:
    """What a stage is given in another process: what it can know there, and a sentence for what it cannot do."""

    place: str
    idempotency_key: str
    upstream: Mapping[str, tuple[Upstream, ...]]
    egress: Egress | None
    tool_calls: int = 0
    cancelled: bool = False  # nobody tells it

    def progress(self, fraction: float | None, message: str, data: Mapping[str, Any]) -> None:
        """Print how far the body is: listeners are in the engine's process."""
        far = "" if fraction is None else f" {fraction:.0%}"
        more = f" {dict(data)}" if data else ""
        sys.stdout.write(f"progress{far}: {message}{more}\n")

    def step(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Refuse."""
        raise self._refusal("step")

    async def step_async(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Refuse."""
        raise self._refusal("step_async")

    def call(self, call: Call) -> Any:
        """Refuse."""
        raise self._refusal("call")

    async def call_async(self, call: Call) -> Any:
        """Refuse."""
        raise self._refusal("call_async")

    def ask(self, name: str, question: Question) -> Answer:
        """Refuse."""
        raise self._refusal("ask")

    async def ask_async(self, name: str, question: Question) -> Answer:
        """Refuse."""
        raise self._refusal("ask_async")

    async def while_wanted(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Refuse."""
        work.close()
        raise self._refusal("while_wanted")

    def set_attributes(self, attributes: Mapping[str, str]) -> None:
        """Refuse."""
        raise self._refusal("set_attributes")

    @property
    def own_context(self) -> Mapping[str, Any]:
        """Refuse."""
        raise self._refusal("own_context")

    def _refusal(self, what: str) -> PreconditionError:
        return PreconditionError(
            f"{self.place} runs in an executor's process, and stage.{what} needs the store, which only the engine's "
            "process has: make it a stage of its own, an async function, or give it a queue that has no executor"
        )


@dataclass(frozen=True, kw_only=True)
class Named:
    """A function of a module, or of a stage of a flow in one; `code` is its print."""

    module: str
    name: str
    code: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            found = _function_of(attrgetter(self.name)(import_module(self.module)))
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"an executor's process has no {self.module}.{self.name}: {error}") from error
        if print_of(found) != self.code:
            raise ConfigError(
                f"an executor's process has other code of {self.module}.{self.name} than the engine's, or another "
                "version of Python: bring both to the same"
            )
        return found(*args, **kwargs)


def named(function: Any) -> Any:
    """Return a function by its name, if that finds it in another process; else the function."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module in (None, "__main__") or "<" in name or not hasattr(function, "__code__"):
        return function
    try:
        found = _function_of(attrgetter(name)(sys.modules[module]))
    except (KeyError, AttributeError):
        return function
    return Named(module=module, name=name, code=print_of(function)) if found is function else function


def _function_of(found: Any) -> Any:
    """Return the function of a stage of a flow; anything else is what it is."""
    return getattr(found, "function", found)


class Elsewhere(Exception):
    """The traceback of an error in another process."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came of a body: a value or an error, and what was printed."""

    value: Any = None
    error: BaseException | None = None
    trace: str = ""
    transient: bool = False
    printed: list[dict[str, Any]] = field(default_factory=list)

    def get(self) -> Any:
        """Return the value or raise the error."""
        if self.error is None:
            return self.value
        error = self.error
        if self.transient and not is_transient(error):
            error = TransientError(f"{type(error).__name__}: {error}")  # what made it so is among its causes
        error.__cause__ = Elsewhere(f"in another process:\n{self.trace}")
        raise error


@functools.cache
def _pickler() -> Any:
    return import_module(CLOUDPICKLE) if find_spec(CLOUDPICKLE) else pickle


def packed(call: functools.partial[Any], place: str, mark: str) -> bytes:
    """Return a call as bytes; `mark` tells it from all others, for executors that do equal work once."""
    try:
        return bytes(_pickler().dumps((mark, named(call.func), call.args, call.keywords)))
    except Exception as error:
        hint = "; code of notebooks and scripts needs the package cloudpickle" if _pickler() is pickle else ""
        raise ConfigError(f"{place} cannot be sent to another process: {error}{hint}") from error


def unpacked(reply: bytes, place: str) -> Reply:
    """Return what came of a call."""
    try:
        made: Reply = pickle.loads(reply)  # noqa: S301 - of a process of our own
    except Exception as error:
        raise ConfigError(f"what {place} gave cannot be read here: {type(error).__name__}: {error}") from error
    return made


def carry_out(call: bytes) -> bytes:
    """Do the call, in whatever process this is, and return a Reply as bytes; raises nothing."""
    output = Output()
    try:
        with Catching(output):
            _mark, function, args, keywords = pickle.loads(call)  # noqa: S301 - from the engine
            value = function(*args, **keywords)
    except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
        return _failure(error, output)
    try:
        return bytes(_pickler().dumps(Reply(value=value, printed=output.take())))
    except Exception as error:  # noqa: BLE001 - of user code
        odd = f"it returned {type(value).__name__}, which cannot be sent back: {error}"
        return _failure(PermanentError(odd), output)


def _failure(error: BaseException, output: Output) -> bytes:
    trace = "".join(traceback.format_exception(error, limit=-20))
    reply = Reply(
        error=error, trace=trace, transient=isinstance(error, Exception) and is_transient(error), printed=output.take()
    )
    try:
        data = bytes(_pickler().dumps(reply))
        pickle.loads(data)  # noqa: S301 - of its own making
    except Exception:  # noqa: BLE001 - of user code
        kind = TransientError if reply.transient else PermanentError
        stands_for = kind(f"{type(error).__name__}: {error}")
        data = pickle.dumps(Reply(error=stands_for, trace=trace, printed=reply.printed))
    return data
