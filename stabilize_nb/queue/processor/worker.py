"""The work of one worker thread: lead, run bodies, come back (design.md 7).

Leading is group commit: the worker that finds the writer free commits every finished body there is and takes the
messages that are due, all in one transaction. Those of one workflow are decided together and written once; each has a
savepoint of its own when that fails. The body that follows from a commit is run by the same thread, so a chain of tasks
changes threads never.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from stabilize_nb.core.blame import suspicion
from stabilize_nb.core.facts import ConditionFailed, InstanceRefused, StageSuspended, WorkflowEnded
from stabilize_nb.errors import StoreDamagedError, StoreError, StoreUnavailableError
from stabilize_nb.events.bus import announce
from stabilize_nb.queue.processor.deciding import Deciding
from stabilize_nb.queue.processor.desk import Job
from stabilize_nb.queue.processor.foresight import foresee_all, within_reach
from stabilize_nb.queue.processor.taking import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stabilize_nb.core.facts import Fact
    from stabilize_nb.queue.processor.commit import Done, Leased
    from stabilize_nb.queue.processor.desk import Finished, Letter
    from stabilize_nb.queue.processor.taking import Due, Shared
    from stabilize_nb.store.connection import Connection

log = logging.getLogger("stabilize_nb")
#: Seconds before a store that was not available is tried again.
STORE_RETRY = 0.5
#: Facts after which whoever waits for a workflow looks at it, and those that are warned of.
_LOOKED_AT = frozenset({WorkflowEnded, StageSuspended})
_NOT_DONE = frozenset({InstanceRefused, ConditionFailed})


class Workshop(Deciding):
    """What the workers of one processor share beside the desk, and what they do."""

    def __init__(self, *shared: *Shared) -> None:
        super().__init__(*shared)
        self._attempted: list[Done] = []  # by the transaction that is under way
        self._hindered = False  # messages are due of workflows that another process had in hand
        self._woken = False  # by whoever else has committed
        self._doubtful: list[Leased] = []  # taken by commits that failed, or did they?

    # -- the loop of a worker ---------------------------------------------------------------------

    def work(self) -> None:
        """Do jobs until sent home."""
        desk = self.desk
        while True:
            with desk.changed:
                job, patience = desk.next_job(self.database.clock())
                if job is None:
                    desk.idle += 1
                    desk.changed.wait(patience)
                    desk.idle -= 1
                    continue
                if job is Job.HOME:
                    desk.workers -= 1
                    desk.changed.notify()  # another may wait for what was committed last, and go home too
                    desk.calm.notify_all()
                    desk.tick.notify()
                    return
            if job is Job.LEAD:
                self.lead()
            elif not self.run_next():
                return

    # -- leading ----------------------------------------------------------------------------------

    def lead(self) -> None:
        """Commit what is finished and take what is due."""
        desk = self.desk
        with desk.changed:
            batch, letters = desk.take_all()
            look = bool(letters) or desk.starved or desk.is_due(self.database.clock())
            desk.dirty = False
        self._attempted = []  # a transaction that cannot even begin has taken nothing
        now = time.monotonic()
        counts = desk.processed, desk.allowance
        answers: list[Exception | None] = []
        try:
            done, due = self.database.write(
                lambda db: self._commit(db, batch, letters, answers, look=look, counts=counts),
                then=self._announce,
                beside=not self._doubtful,  # a commit in doubt may be under way still
            )
        except BaseException as error:
            self._doubtful += [leased for result in self._attempted for leased, _ in result.runs]
            desk.put_back(batch, STORE_RETRY)
            for letter in letters:
                letter.answer(error)
            if not isinstance(error, StoreError):
                raise
            self.complain(error)
            return
        if any(result.runs for result in done):
            desk.sign_given(now, self.config.lease)
        if desk.trouble is not None:
            self.forgive()
        self._doubtful.clear()
        for letter, answer in zip(letters, answers, strict=True):
            letter.answer(answer)
        self._settle(batch, done, due, has_news=bool(letters))

    def complain(self, error: StoreError) -> None:
        """Say once that the store cannot be used now; with a damaged one nothing more is done."""
        known = self.desk.trouble
        self.desk.trouble = error
        hopeless = isinstance(error, StoreDamagedError)
        if hopeless:
            self.desk.give_up()
        if type(known) is not type(error):
            end = "nothing more is done with it" if hopeless else "the work goes on by itself when the store is back"
            log.warning("%s; %s", error, end)
        self.database.changes.notify(origin=self.wake)

    def forgive(self) -> None:
        """Say that the store can be used again."""
        self.desk.trouble = None
        log.warning("database %s: it can be used again, the work goes on", self.database.path)
        self.database.changes.notify(origin=self.wake)

    def _announce(self, committed: tuple[list[Done], Due]) -> None:
        """Tell everybody what has just been committed, in the order of commits."""
        for result in committed[0]:
            self._withdraw_stale(result)
            for created in result.born:
                announce(self.database.bus, created.definition["id"], 1, (created,), result.at)
            if result.facts:
                _warn(result.facts)
                announce(self.database.bus, result.workflow_id, result.last, result.facts, result.at)

    def _commit(
        self,
        connection: Connection,
        batch: Sequence[Finished],
        letters: Iterable[Letter],
        answers: list[Exception | None],
        *,
        look: bool,
        counts: tuple[int, int | None],
    ) -> tuple[list[Done], Due]:
        """
        Write letters, commit finished bodies, then take messages: those known to be due (`look`) and those just sent.

        `answers` becomes what was wrong with each letter.
        """
        desk = self.desk
        desk.processed, desk.allowance = counts  # it may be done again
        self._hindered = False
        done = self._attempted = []
        self._give_back_doubtful(connection)
        free = desk.free_slots()
        ended = {leased.hold for leased, _ in batch}
        suspects = desk.suspects - ended
        if suspects:  # whose end is waited for
            free = 0
        foresee_all(connection, batch)
        answers[:] = [self._write_letter(connection, letter) for letter in letters]
        free = self._all(connection, batch, free, done)
        look = look or any(result.left for result in done) or suspects != desk.suspects
        if not look:
            return done, (desk.next_work, desk.next_due)
        names = self._names_beside(suspects, done)
        while _decided(done) < BATCH and not self._hindered and (rows := self._due(connection, free, names)):
            readable = [order for row in rows if (order := self._read(connection, row, done)) is not None]
            reachable = within_reach(connection, readable)
            self._hindered = len(reachable) < len(readable)
            for _ in reachable:
                self._count()
            free = self._all(connection, [(leased, leased.message) for leased in reachable], free, done)
            names = self._names_beside(suspects, done)
            free = free if any(names) else 0
        due = self._next_due(connection, free, names)
        if connection.BUSY and _decided(done) < BATCH:  # what is due now, others have in hand
            later = self.database.clock() + connection.BUSY
            due = _not_before(later, due[0]), _not_before(later, due[1])
        return done, due

    def _write_letter(self, connection: Connection, letter: Letter) -> Exception | None:
        """Write a letter; what is wrong with it is only its own affair, and returned."""
        refused: Exception | None = None
        connection.begin_part()
        try:
            letter.write(connection)
        except Exception as error:
            if isinstance(error, StoreUnavailableError) or connection.blames_store(error):
                raise
            connection.undo_part()
            refused = self.database.refusal(error)
        connection.end_part()
        return refused

    def _give_back_doubtful(self, connection: Connection) -> None:
        """
        Give back what a failed commit has taken.

        A disk that fails in the last sync of a commit fails the commit and keeps it: the messages are claimed, and
        nobody has them.
        """
        if self._doubtful:
            now = self.database.clock()
            claims = [{"id": one.id, "owner": self.owner, "fence": one.fence, "now": now} for one in self._doubtful]
            connection.begin_part()
            connection.many("give_back", claims)
            connection.end_part()

    def _settle(self, ended: Iterable[Finished], done: list[Done], due: Due, *, has_news: bool) -> None:
        """Let the desk have what follows from a commit."""
        if done or has_news:
            self.database.changes.notify(self.wake, {result.workflow_id for result in done if _matters(result)})
        desk = self.desk
        with desk.changed:
            for result in done:
                desk.take_in(result.runs, suspicion(self.limits.deaths))
                desk.hooks.extend(result.hooks)
            desk.let_go([leased.hold for leased, _ in ended])
            before, (desk.next_work, desk.next_due) = desk.next_due, due
            desk.leading = False
            if desk.starved and desk.free_slots() > 0:
                desk.dirty = True  # a place was given back meanwhile
            jobs = self.jobs_ready() + len(desk.hooks) + bool(desk.finished or desk.letters or desk.dirty) - 1
            sooner = desk.next_due is not None and (before is None or desk.next_due < before)
            self.hire_for(jobs)
            desk.changed.notify(max(jobs, int(sooner), 0))
            if not (desk.in_hand or desk.finished or desk.letters or desk.hooks):
                desk.calm.notify_all()

    def wake(self) -> None:
        """Look for messages: somebody else has committed. Never takes the desk's lock in the main thread."""
        if threading.current_thread() is threading.main_thread():
            self.database.post(self._wake)
        else:
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        with self.desk.changed:
            self.desk.dirty = True
            self.desk.changed.notify()


def _matters(result: Done) -> bool:
    """Whether whoever waits for a workflow looks at it: it has not just gone on with another body."""
    return not result.runs or not _LOOKED_AT.isdisjoint(map(type, result.facts))


def _warn(facts: Sequence[Fact]) -> None:
    """Say in the log what was asked for and not done."""
    if _NOT_DONE.isdisjoint(map(type, facts)):
        return
    for fact in facts:
        if isinstance(fact, InstanceRefused):
            log.warning("no instance was added: %s", fact.reason)
        elif isinstance(fact, ConditionFailed):
            way = f" of the way to {fact.edge!r}" if fact.edge else ""
            log.warning("the condition %r%s counts as false: %s", fact.condition, way, fact.error)


def _not_before(earliest: int, time: int | None) -> int | None:
    return None if time is None else max(earliest, time)


def _decided(done: Iterable[Done]) -> int:
    """Return how many messages were decided."""
    return sum(result.messages for result in done)
