"""The messages that one transaction decides: together or each for itself, and what becomes of those that fail."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from stabilize_nb.core.draft import Env
from stabilize_nb.errors import (
    StabilizeError,
    StageNotFoundError,
    StoreDamagedError,
    StoreUnavailableError,
    WorkflowNotFoundError,
)
from stabilize_nb.queue.processor.commit import (
    Apart,
    Claim,
    Decided,
    Done,
    Leased,
    LeaseLost,
    decide_together,
    leased_from_row,
    nothing_done,
    process,
    write_together,
)
from stabilize_nb.queue.processor.foresight import Order, together
from stabilize_nb.queue.processor.taking import Taking

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stabilize_nb.queue.messages import Message
    from stabilize_nb.store.connection import Connection

log = logging.getLogger("stabilize_nb")


class Deciding(Taking):
    """What decides messages within the transaction of whoever leads; a message that fails takes no other with it."""

    def _read(self, connection: Connection, row: Sequence[Any], done: list[Done]) -> Leased | None:
        """Return the message of a row; one that is none is a dead letter."""
        try:
            return leased_from_row(row)
        except StabilizeError as error:
            self._count()
            connection.begin_part()
            done.append(self._bury(connection, row[0], row[1], str(error)))
            connection.end_part()
            return None

    def _all(self, connection: Connection, orders: Iterable[Order], free: int, done: list[Done]) -> int:
        """Process messages, those of one workflow together if they can be; return how many slots are left free."""
        for of_one in together(orders).values():
            result = self._together(connection, of_one, free) if len(of_one) > 1 else None
            if result is not None:
                free = _after(free, result, done)
            else:
                for leased, message in of_one:
                    free = _after(free, self._one(connection, leased, message, free), done)
        return free

    def _together(self, connection: Connection, orders: Sequence[Order], free: int) -> Done | None:
        """Process messages about one workflow; None: nothing came of it, and each is to be processed for itself."""
        if self.config.fold_budget == 1:
            return None
        env, claim = self._means(free)
        connection.begin_part()
        decided: Decided | None = None
        result: Done | None = None
        try:
            decided = decide_together(connection, orders, env, budget=self.config.fold_budget)
            result = write_together(connection, decided, claim)
        except Apart:
            pass  # nothing was written
        except Exception as error:
            if isinstance(error, StoreUnavailableError) or connection.blames_store(error):
                raise
            if decided is not None:
                connection.undo_part()
        connection.end_part()
        return result

    def _means(self, free: int) -> tuple[Env, Claim]:
        """Return what a decision may know beside rows, and what its claims say."""
        now = self.database.clock()
        threads, waiting = self.names()
        slots = 0 if self.desk.allowance is not None or self._is_urgent(now) else free
        env = Env(now=now, limits=self.limits, runnable=threads, coroutines=waiting).with_slots(slots)
        return env, Claim(self.owner, now + round(self.config.lease * 1_000))

    def _one(self, connection: Connection, leased: Leased, message: Message, free: int) -> Done | None:
        """Process one message; in a savepoint, so that its failure is only its own."""
        env, claim = self._means(free)
        connection.begin_part()
        try:
            result = self._process(connection, leased, message, env, claim)
        except LeaseLost:
            connection.undo_part()
            result = None
        except (WorkflowNotFoundError, StageNotFoundError) as error:
            connection.undo_part()
            result = self._bury(connection, leased.id, leased.workflow_id, str(error))
        except StoreUnavailableError:
            raise
        except StoreDamagedError as error:  # its rows: trying again cannot help, and others may be well
            connection.undo_part()
            result = self._bury(connection, leased.id, leased.workflow_id, str(error))
        except Exception as error:
            if connection.blames_store(error):
                raise
            connection.undo_part()
            result = self._postpone(connection, leased, error)
        connection.end_part()
        return result

    def _process(self, connection: Connection, leased: Leased, message: Message, env: Env, claim: Claim) -> Done | None:
        """Process a message with what folds into it; alone when that fails, so that what follows fails for itself."""
        try:
            return process(connection, leased, message, env, claim, budget=self.config.fold_budget)
        except (LeaseLost, StoreUnavailableError, StoreDamagedError):
            raise
        except Exception as error:
            if connection.blames_store(error):
                raise
            connection.undo_part()
            return process(connection, leased, message, env, claim, budget=1)

    def _postpone(self, connection: Connection, leased: Leased, error: Exception) -> Done:
        now = self.database.clock()
        cause = f"{type(error).__name__}: {error}"
        log.error("message %s (%s) failed: %s", leased.id, type(leased.message).__name__, cause, exc_info=error)
        if leased.deliveries + 1 >= self.config.max_deliveries or self.config.stop_on_error:
            return self._bury(connection, leased.id, leased.workflow_id, cause)
        due_at = now + round(self.config.retry_delay * 1_000)
        connection.run("postpone", {"id": leased.id, "due_at": due_at, "error": cause})
        return nothing_done(leased.workflow_id, now, left=True)

    def _bury(self, connection: Connection, message_id: str, workflow_id: str, cause: str) -> Done:
        """Put a message that cannot be processed to the dead letters."""
        log.error("message %s of run %s is a dead letter: %s", message_id, workflow_id, cause)
        now = self.database.clock()
        connection.run("bury", {"id": message_id, "now": now, "error": cause})
        return nothing_done(workflow_id, now)


def _after(free: int, result: Done | None, done: list[Done]) -> int:
    if result is None:
        return free
    done.append(result)
    return max(0, free - len(result.runs))
