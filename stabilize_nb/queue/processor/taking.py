"""What is due in the queue and may be taken here: orders, and bodies for which there is a place; whose turn it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core.blame import suspicion
from stabilize_nb.models.priority import STEP
from stabilize_nb.queue.processor.bodies import Bodies
from stabilize_nb.queue.processor.custody import Custody
from stabilize_nb.store.codec import dumps

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from stabilize_nb.core.draft import Limits
    from stabilize_nb.queue.processor.commit import Done
    from stabilize_nb.queue.processor.config import QueueProcessorConfig
    from stabilize_nb.queue.processor.desk import Desk, Hold
    from stabilize_nb.store.connection import Connection
    from stabilize_nb.store.database import Database
    from stabilize_nb.tasks.registry import TaskRegistry

    #: What the parts of a processor are made with, in the order of `Taking`.
    Shared = tuple[Database, TaskRegistry, QueueProcessorConfig, Limits, str, Desk]

#: When the next message is due (ms since the epoch): without timers, and with them.
Due = tuple[int | None, int | None]
#: Names of tasks whose bodies run in threads, and of those that wait on the event loop.
Names = tuple[frozenset[str], frozenset[str]]
#: Messages taken in one transaction at most, so that no commit keeps others waiting long.
BATCH = 64
#: Workflows that are looked at beyond those that get a turn: what they have may be due later, or unknown here.
TURNS = 16
#: Where the rows of messages that are due name the workflow, have the payload, and say how often their body was lost.
WORKFLOW = 1
PAYLOAD = 5
LOST = 8
#: What the payload of a message has that is urgent.
PRIORITY = '"priority":'


class Taking(Bodies):
    """What looks into the queue for the workers of one processor."""

    def __init__(
        self,
        database: Database,
        registry: TaskRegistry,
        config: QueueProcessorConfig,
        limits: Limits,
        owner: str,
        desk: Desk,
    ) -> None:
        super().__init__(database, registry, config, desk)
        self.limits = limits
        self.owner = owner
        self.custody = Custody(database, owner, config.lease, limits.deaths)
        self._had_turn = ""  # the workflow of which a body was taken last, when workflows take turns

    def _names_beside(self, suspects: Collection[Hold], done: Iterable[Done]) -> Names:
        """Return the names of tasks whose bodies may be taken: none while a suspect is in hand (core/blame.py)."""
        taken = (leased.lost for result in done for leased, _ in result.runs)
        is_alone = suspects or any(map(self._is_suspicious, taken))
        return (frozenset(), frozenset()) if is_alone else self.names()

    def _is_suspicious(self, lost: int) -> bool:
        return lost >= suspicion(self.limits.deaths)

    def _due(self, connection: Connection, free: int, names_now: Names) -> list[Sequence[Any]]:
        desk = self.desk
        most = BATCH if desk.allowance is None else desk.allowance
        if most <= 0:
            return []
        now = self.database.clock()
        threads, waiting = names_now
        mine = {"owner": self.custody.filter}
        rows = connection.all("due", {"now": now, "most": most, **mine})[:most]
        for names, places in ((waiting, most - len(rows)), (threads, min(free, most - len(rows)))):
            if names and places > 0 and len(rows) < most:
                room = min(places, most - len(rows))
                bodies = {"now": now, "known": dumps(sorted(names)), "most": room, **mine}
                found = self._in_turn(connection, bodies, connection.all("due_bodies", bodies))
                suspect = next((row for row in found if self._is_suspicious(row[LOST])), None)
                if suspect is not None:
                    return [*rows, suspect]
                rows += found
        return rows

    def _in_turn(
        self, connection: Connection, bodies: dict[str, Any], oldest: list[Sequence[Any]]
    ) -> list[Sequence[Any]]:
        """
        Take what is due of each workflow in turn, when there is more than can be taken.

        So one with thousands of bodies does not keep others waiting. Those with a priority that are among the oldest
        go first, and those that were begun before and lost. Places that are left go to the oldest; what is looked at
        does not grow with what is waiting.
        """
        if len(oldest) < bodies["most"]:
            return oldest
        first = [row for row in oldest if row[LOST] or PRIORITY in row[PAYLOAD]]
        most = bodies["most"] - len(first)
        if not most:
            return first
        turns = connection.all(
            "bodies_in_turn", {**bodies, "most": most, "after": self._had_turn, "turns": most + TURNS}
        )
        self._had_turn = turns[-1][WORKFLOW] if len(turns) == most else ""
        found = {row[0]: row for row in (*first, *turns, *oldest)}
        return list(found.values())[: bodies["most"]]

    def _next_due(self, connection: Connection, free: int, names_now: Names) -> Due:
        """Return when something is due that could be taken; a body that nobody is free for does not count."""
        threads, waiting = names_now
        due, body = self._due_among(connection, threads | waiting)
        self.desk.starved = free <= 0 and due[1] is not None and due[1] <= self.database.clock()
        self.desk.first_waiting = body if self.desk.starved else None
        return self._due_among(connection, waiting)[0] if self.desk.starved else due

    def _due_among(self, connection: Connection, names: frozenset[str]) -> tuple[Due, int | None]:
        """Return when something is due, and when the first body is."""
        mine = {"owner": self.custody.filter}
        if names:
            row = connection.one("next_due", {"known": dumps(sorted(names)), **mine})
        else:  # looking for bodies of no name would be looking at all bodies
            row = connection.one("next_order", mine)
        order, timer, body = row or (None, None, None)
        return (_first(order, body), _first(order, timer, body)), body

    def _is_urgent(self, now: int) -> bool:
        """Whether a body waits that is far ahead in the queue: then a run that is at work does not go on before it."""
        first = self.desk.first_waiting
        return first is not None and first < now - STEP

    def _count(self) -> None:
        """Count a message that is taken."""
        desk = self.desk
        desk.processed += 1
        if desk.allowance is not None:
            desk.allowance -= 1


def _first(*times: int | None) -> int | None:
    return min((time for time in times if time is not None), default=None)
