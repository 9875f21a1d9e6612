"""The journal of one logical call in the database; a store that fails for a while costs nothing that was paid for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stabilize_nb.errors import StoreUnavailableError
from stabilize_nb.queue.processor.commit import LeaseLost
from stabilize_nb.store.codec import loads

if TYPE_CHECKING:
    from collections.abc import Callable

    from stabilize_nb.queue.processor.commit import Leased
    from stabilize_nb.store.database import Database
    from stabilize_nb.store.sqlite import Connection

T = TypeVar("T")
log = logging.getLogger("stabilize_nb")
#: Seconds between two tries to use a store that is not to be had.
RETRY: Final = 0.5


class JournalRows:
    """What is kept of the steps of one call, fenced by the claim of the attempt.

    `is_wanted` says whether the result of the body is still wanted; while it is, a step waits for a store that cannot
    be used now, since its function may have done what must not be done twice.
    """

    def __init__(
        self, database: Database, leased: Leased, stage_id: str, call: str, is_wanted: Callable[[], bool]
    ) -> None:
        self._database = database
        self._leased = leased
        self._here = {"stage_id": stage_id, "call": call}
        self._is_wanted = is_wanted

    def recorded(self) -> dict[tuple[str, int], Any]:
        """Read all results at once."""
        rows = self._when_possible(
            lambda: self._database.read(lambda connection: connection.all("journal_of_call", self._here))
        )
        return {(name, number): loads(value) for name, number, value in rows}

    def record(self, name: str, number: int, value: Any) -> None:
        """Commit one result; raises LeaseLost when another worker has taken the task over."""

        def write(connection: Connection) -> None:
            mine = {"id": self._leased.id, "owner": self._leased.owner, "fence": self._leased.fence}
            held = connection.one("still_mine", mine)
            if not held or not held[0]:
                raise LeaseLost(self._leased.id)
            row = {
                "name": name,
                "number": number,
                "value": connection.text(self._leased.workflow_id, value),
                "at": self._database.clock(),
            }
            connection.run("insert_journal", self._here | row)
            if self._leased.lost:
                connection.run("forget_losses", {"id": self._leased.id})

        self._when_possible(lambda: self._database.write(write))

    def _when_possible(self, work: Callable[[], T]) -> T:
        while True:
            ticket = self._database.changes.ticket()
            try:
                return work()
            except StoreUnavailableError as error:
                if not self._is_wanted():
                    raise
                log.warning("%s; the step goes on by itself when the store is back", error)
            ticket.wait(RETRY)
