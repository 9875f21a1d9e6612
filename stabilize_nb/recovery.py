"""Recovery: what a processor that died had in its hands is free again, at once.

Nothing else needs recovering: state, messages and log are one commit (C1), so what is unfinished is in the queue.
Every processor looks for the dead by itself all the time (C8, queue/processor/presence.py); this is the same look on
demand, with a report. Doing it again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stabilize_nb.errors import ConfigError
from stabilize_nb.models.ids import new_id
from stabilize_nb.queue.processor.presence import Presence

if TYPE_CHECKING:
    from stabilize_nb.queue.queue import Queue
    from stabilize_nb.store.connection import Connection
    from stabilize_nb.store.store import WorkflowStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryResult:
    """An unfinished workflow. `stages_requeued` counts the messages that a dead processor held, one a stage at most."""

    workflow_id: str
    status: str = "recovered"
    stages_requeued: int = 0


class WorkflowRecovery:
    """Frees what dead processors of one database held."""

    def __init__(self, store: WorkflowStore, queue: Queue) -> None:
        if store.database is not queue.database:
            msg = f"the store is {store.database.url} and the queue {queue.database.url}: they must be one database"
            raise ConfigError(msg)
        self._store = store

    def recover_pending_workflows(self, application: str | None = None) -> list[RecoveryResult]:
        """
        Free the work of the dead and report every workflow that has not ended, of one application or of all.

        There is no limit of age or number. Stages that run in a living processor are left alone.
        """
        database = self._store.database
        freed = database.call(self._free)
        if freed:
            database.changes.notify()
        return [
            RecoveryResult(workflow_id=header["id"], stages_requeued=freed[header["id"]])
            for header in self._store.unfinished(application)
        ]

    def _free(self) -> Counter[str]:
        """Return how many stages of each workflow were freed. Who looks must be present: see presence.py."""
        database = self._store.database
        presence = Presence(database, new_id(), lease=60)
        presence.enter()
        try:
            return database.write(lambda connection: _free_dead(connection, presence))
        finally:
            presence.leave()


def _free_dead(connection: Connection, presence: Presence) -> Counter[str]:
    before = _claims(connection, presence.owner)
    presence.free_dead(connection)
    after = _claims(connection, presence.owner)
    return Counter(workflow_id for workflow_id, _stage_id in before - after)


def _claims(connection: Connection, owner: str) -> set[tuple[str, str | None]]:
    owners = [row[0] for row in connection.all("other_owners", {"owner": owner})]
    return {
        (workflow_id, stage_id)
        for other in owners
        for workflow_id, stage_id in connection.all("claims_of_owner", {"owner": other})
    }


def recover_on_startup(store: WorkflowStore, queue: Queue, application: str | None = None) -> list[RecoveryResult]:
    """Do what `WorkflowRecovery.recover_pending_workflows` does."""
    return WorkflowRecovery(store, queue).recover_pending_workflows(application)
