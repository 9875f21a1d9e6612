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
from typing import TYPE_CHECKING, Any

from stabilize_nb.core.blame import suspicion
from stabilize_nb.core.draft import Env
from stabilize_nb.core.facts import ConditionFailed, InstanceRefused, StageSuspended, WorkflowEnded
from stabilize_nb.errors import (
    StabilizeError,
    StageNotFoundError,
    StoreDamagedError,
    StoreError,
    StoreUnavailableError,
    WorkflowNotFoundError,
)
from stabilize_nb.events.bus import announce
from stabilize_nb.models.priority import STEP
from stabilize_nb.queue.processor.bodies import Bodies
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
from stabilize_nb.queue.processor.custody import Custody
from stabilize_nb.queue.processor.desk import Desk, Finished, Hold, Job, Letter
from stabilize_nb.queue.processor.foresight import Order, foresee_all, together, within_reach
from stabilize_nb.store.codec import dumps

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from stabilize_nb.core.draft import Limits
    from stabilize_nb.core.facts import Fact
    from stabilize_nb.queue.messages import Message
    from stabilize_nb.queue.processor.config import QueueProcessorConfig
    from stabilize_nb.store.connection import Connection
    from stabilize_nb.store.database import Database
    from stabilize_nb.tasks.registry import TaskRegistry

log = logging.getLogger("stabilize_nb")
#: When the next message is due (ms since the epoch): without timers, and with them.
Due = tuple[int | None, int | None]
#: Names of tasks whose bodies run in threads, and of those that wait on the event loop.
Names = tuple[frozenset[str], frozenset[str]]
#: Messages taken in one transaction at most, so that no commit keeps others waiting long.
BATCH = 64
#: Seconds before a store that was not available is tried again.
STORE_RETRY = 0.5
#: Workflows that are looked at beyond those that get a turn: what they have may be due later, or unknown here.
TURNS = 16
#: Facts after which whoever waits for a workflow looks at it, and those that are warned of.
_LOOKED_AT = frozenset({WorkflowEnded, StageSuspended})
_NOT_DONE = frozenset({InstanceRefused, ConditionFailed})
#: Where the rows of messages that are due name the workflow, have the payload, and say how often their body was lost.
WORKFLOW = 1
PAYLOAD = 5
LOST = 8
#: What the payload of a message has that is urgent.
PRIORITY = '"priority":'


class Workshop(Bodies):
    """What the workers of one processor share beside the desk, and what they do."""

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

    def _count(self) -> None:
        """Count a message that is taken."""
        desk = self.desk
        desk.processed += 1
        if desk.allowance is not None:
            desk.allowance -= 1

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


def _first(*times: int | None) -> int | None:
    return min((time for time in times if time is not None), default=None)


def _decided(done: Iterable[Done]) -> int:
    """Return how many messages were decided."""
    return sum(result.messages for result in done)


def _after(free: int, result: Done | None, done: list[Done]) -> int:
    if result is None:
        return free
    done.append(result)
    return max(0, free - len(result.runs))
