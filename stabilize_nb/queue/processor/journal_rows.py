"""The journal of one logical call in the database; a store that fails for a while costs nothing that was paid for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stabilize_nb.errors import StoreUnavailableError
from stabilize_nb.models.calls import BudgetHeldError
from stabilize_nb.queue.processor.accounts import accounts_over, extend
from stabilize_nb.queue.processor.call_rows import BLANK, CallRow
from stabilize_nb.queue.processor.commit import LeaseLost
from stabilize_nb.secrets.patterns import masked
from stabilize_nb.store.codec import loads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stabilize_nb.core.draft import Body
    from stabilize_nb.models.calls import Call, Terms
    from stabilize_nb.queue.processor.commit import Leased
    from stabilize_nb.store.connection import Connection
    from stabilize_nb.store.database import Database
    from stabilize_nb.tasks.journal import Key

T = TypeVar("T")
log = logging.getLogger("stabilize_nb")
#: Seconds between two tries to use a store that is not to be had.
RETRY: Final = 0.5
_ERROR_LENGTH: Final = 1_000


class JournalRows:
    """What is kept of the steps of one call, fenced by the claim of the attempt.

    `is_wanted` says whether the result of the body is still wanted; while it is, a step waits for a store that cannot
    be used now, since its function may have done what must not be done twice.
    """

    def __init__(
        self, database: Database, leased: Leased, body: Body, call: str, is_wanted: Callable[[], bool]
    ) -> None:
        self._database = database
        self._leased = leased
        self._place = f"stage {body.stage.ref_id!r}"
        self._attempt = body.task.attempt
        self._here = {"stage_id": body.stage.id, "call": call}
        self._owner = {"workflow_id": leased.workflow_id, "ref_id": body.stage.ref_id}
        self._is_wanted = is_wanted
        self._begun: dict[Key, int] = {}
        self._terms: dict[Key, Terms | None] = {}

    def recorded(self) -> dict[Key, Any]:
        """Read all results at once."""
        rows = self._read(lambda connection: connection.all("journal_of_call", self._here))
        return {(name, number): loads(value) for name, number, value in rows}

    def was_begun(self, key: Key) -> bool:
        """Whether a call was begun and not settled."""
        return self._read(lambda connection: connection.one("open_call", self._key(key))) is not None

    def record(self, key: Key, value: Any) -> None:
        """Commit one result; raises LeaseLost when another worker has taken the task over."""
        self._write(lambda connection, now: self._insert(connection, key, value, now))

    def extend(self, key: Key, value: Any, amounts: Mapping[str, Any]) -> None:
        """Commit what a person has answered, by which the first budget that is used up has more."""

        def write(connection: Connection, now: int) -> None:
            self._insert(connection, key, value, now)
            accounts = accounts_over(connection, self._leased.workflow_id)
            for account in [account for account in accounts if account.is_used_up()][:1]:
                extend(connection, account, amounts)

        self._write(write)

    def note_begin(self, key: Key) -> None:
        """Remember when a call was begun that is noted only with its answer."""
        self._begun[key] = self._database.clock()

    def begin(self, key: Key, call: Call) -> Terms | None:
        """Commit that a call is about to be made, and reserve what it may take; return the terms of its budget."""
        try:
            terms = self._write(lambda connection, now: self._row(connection, key).begin(call, now, self._place))
        except BudgetHeldError:
            if self._is_wanted() and self._write(lambda connection, now: self._row(connection, key).clear(now)):
                return self.begin(key, call)
            raise
        self._terms[key] = terms
        return terms

    def settle(self, key: Key, call: Call, value: Any) -> None:
        """
        Commit the answer to a call, and charge what it took instead of what was reserved.

        Raises LeaseLost when another worker has taken the task over; what was paid for is charged all the same.
        """
        used = call.measure(self._terms.get(key), value)

        def write(connection: Connection) -> bool:
            now, held = self._database.clock(), self._is_held(connection)
            text = connection.text(self._leased.workflow_id, value) if held else None
            self._row(connection, key).settle(call, used, text, begun=self._begun.get(key, now), now=now)
            return held

        if not self._when_possible(lambda: self._database.write(write)):
            raise LeaseLost(self._leased.id)

    def fail(self, key: Key, error: BaseException) -> None:
        """Commit that a call failed; `refused` of an error says that the server did nothing for it."""
        said = masked(f"{type(error).__name__}: {error}")[:_ERROR_LENGTH]
        refused = bool(getattr(error, "refused", False))

        def write(connection: Connection) -> None:
            self._row(connection, key).fail(said, self._database.clock(), is_refused=refused)

        self._when_possible(lambda: self._database.write(write))

    def _row(self, connection: Connection, key: Key) -> CallRow:
        return CallRow(connection, self._owner, self._key(key), self._attempt)

    def _insert(self, connection: Connection, key: Key, value: Any, now: int) -> None:
        own = {"value": connection.text(self._leased.workflow_id, value), "attempt": self._attempt}
        connection.run("insert_journal", BLANK | self._owner | self._key(key) | own | {"begun_at": now, "at": now})

    def _key(self, key: Key) -> dict[str, Any]:
        name, number = key
        return self._here | {"name": name, "number": number}

    def _read(self, work: Callable[[Connection], T]) -> T:
        return self._when_possible(lambda: self._database.read(work))

    def _write(self, work: Callable[[Connection, int], T]) -> T:
        """Do some work in a transaction, unless another worker has taken the task over."""

        def write(connection: Connection) -> T:
            if not self._is_held(connection):
                raise LeaseLost(self._leased.id)
            result = work(connection, self._database.clock())
            if self._leased.lost:
                connection.run("forget_losses", {"id": self._leased.id})
            return result

        return self._when_possible(lambda: self._database.write(write))

    def _is_held(self, connection: Connection) -> bool:
        mine = {"id": self._leased.id, "owner": self._leased.owner, "fence": self._leased.fence}
        held = connection.one("still_mine", mine)
        return bool(held and held[0])

    def _when_possible(self, work: Callable[[], T]) -> T:
        while True:
            try:
                return work()
            except StoreUnavailableError as error:
                if not self._is_wanted():
                    raise
                log.warning("%s; the step goes on by itself when the store is back", error)
            ticket = self._database.changes.ticket()
            ticket.wait(RETRY)
            self._database.changes.give_back(ticket)
