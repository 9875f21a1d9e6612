"""
Waiting for a run: what ends it besides the end of the run.

An interrupt ends only the waiting. A second one for the same run within two seconds also asks the engine to begin
nothing more; bodies at work end as usual, and the next order to a run has it work again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

from stabilize_nb.errors import (
    ConfigError,
    WaitingForApproval,
    WaitingForCode,
    WaitingForRedrive,
    WaitingForResume,
    WaitingForSettlement,
)
from stabilize_nb.models.gate import seconds_of
from stabilize_nb.queue.queue import letters_in
from stabilize_nb.store.codec import dumps
from stabilize_nb.tasks.prints import plain_name
from stabilize_nb.versions import changed_code, queued_code

if TYPE_CHECKING:
    from stabilize_nb.run import Run
    from stabilize_nb.store.connection import Connection

P = ParamSpec("P")
T = TypeVar("T")
#: How long to wait: seconds, a timedelta, or text such as "2h" or "90 min"; None: for ever.
Patience = float | str | timedelta | None
#: Seconds within which a second interrupt means the engine.
AGAIN: Final = 2.0


class WaitInterrupted(KeyboardInterrupt):
    """The waiting for a run was interrupted; the run goes on."""

    def __init__(self, run: Run) -> None:
        super().__init__(WATCH.struck(run))


class AwaitInterrupted(asyncio.CancelledError):
    """The awaiting of a run was cancelled; the run goes on."""

    def __init__(self, run: Run) -> None:
        super().__init__(WATCH.struck(run))


class Watch:
    """What a notebook adds to waiting. `look` is called again and again and may raise; True: the cell awaits.

    `heard` is called after an interrupt that ended a wait, with what to do if another one comes soon.
    """

    def __init__(self) -> None:
        self.look: Callable[[Run, bool], None] | None = None
        self.heard: Callable[[Callable[[], None]], None] | None = None
        self._last = ("", 0.0)

    def struck(self, run: Run) -> str:
        """Note an interrupt and return what is said about it."""
        now = time.monotonic()
        again = self._last[0] == run.id and now - self._last[1] < AGAIN
        self._last = (run.id, now)
        if again:
            rest(run)
            return f"nothing more is begun, what is at work ends as usual: %workflow resume {run.id} goes on"
        if self.heard is not None:
            self.heard(lambda: rest(run))
        if self.look is None:
            return (
                f"only the waiting was stopped: run {run.id} goes on as long as this program does, and is kept in "
                f"{run.engine.database.url}: engine.resume() goes on with it later, run.cancel() ends it"
            )
        return (
            f"only the waiting was stopped: run {run.id} is still running in the background "
            f"(%workflow cancel {run.id} or run.cancel() ends it; a second interrupt begins nothing more)"
        )


WATCH: Final = Watch()


def deadline_of(timeout: Patience) -> float | None:
    """Return until when to wait, by the monotonic clock; raises ConfigError for what is no time."""
    if timeout is None:
        return None
    try:
        seconds = timeout if isinstance(timeout, int | float) else seconds_of(timeout)
    except ValueError as error:
        raise ConfigError(f"timeout={timeout!r} {error}") from None
    return time.monotonic() + seconds


def rest(run: Run) -> None:
    """Ask the engine of a run to begin nothing more; returns at once."""
    if not run.engine.is_closed:
        run.engine.processor.rest()


def interruptible(wait: Callable[Concatenate[Run, P], T]) -> Callable[Concatenate[Run, P], T]:
    """Have an interrupt at any moment of the waiting say that only the waiting was stopped."""

    @wraps(wait)
    def waiting(run: Run, /, *args: P.args, **words: P.kwargs) -> T:
        try:
            return wait(run, *args, **words)
        except KeyboardInterrupt:
            raise WaitInterrupted(run) from None

    return waiting


def look_after(run: Run) -> None:
    """Raise what ends a wait for a run that nobody works at any more."""
    processor = run.engine.processor
    if processor.is_hopeless and processor.desk.trouble is not None and not run.status.is_complete:
        raise processor.desk.trouble
    if not run.engine.processor.custody.shares and run.engine.owner_of(run.id) is None and not run.status.is_complete:
        raise WaitingForResume(run.id)


def have_looked_at(run: Run, *, awaits: bool) -> None:
    """Have a notebook see to a run: it may decide at its gate, or know better why nobody will."""
    if WATCH.look is not None and run.engine.rehearsal is None:
        WATCH.look(run, awaits)


def stuck_at(run: Run) -> WaitingForCode | WaitingForApproval | WaitingForRedrive | None:
    """Return what a run waits for when nothing but that can have it go on."""
    registry, here = run.engine.registry, {"workflow_id": run.id}

    def look(connection: Connection) -> tuple[bool, bool, set[str]]:
        tasks, taken = queued_code(run, connection)
        known = registry.names() | taken.keys()
        row = connection.one("moving", {**here, "known": dumps(sorted(known))}) or (0, 0)
        return bool(row[0]), bool(row[1]), tasks - known

    running, messages, missing = run.engine.database.call_read(look)
    if messages:
        return None
    if missing and not _at_work(run):
        return WaitingForCode(run.id, map(plain_name, sorted(missing)), changed_code(run))
    if not running and (gates := run.gates):
        doubts = [gate for gate in gates if gate.doubt]
        if doubts:
            return WaitingForSettlement(run.id, [gate.name for gate in doubts], doubts[0].doubt)
        return WaitingForApproval(run.id, [gate.name for gate in gates])
    if not _at_work(run) and (letters := letters_in(run.engine.database, run.id)):
        return WaitingForRedrive(run.id, [letter.said for letter in letters])
    return None


def _at_work(run: Run) -> bool:
    running = run.engine.processor.desk.running
    return any(body.leased.workflow_id == run.id for body in list(running.values()))
