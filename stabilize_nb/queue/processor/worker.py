"""The work of one worker thread: lead, run bodies, come back (design.md 7).

Leading is group commit: the worker that finds the writer free commits every finished body there is and takes the
messages that are due, all in one transaction, each message in a savepoint of its own. The body that follows from a
commit is run by the same thread, so a chain of tasks changes threads never.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from stabilize_nb.core.draft import Env, Purpose
from stabilize_nb.core.facts import ConditionFailed, InstanceRefused, StageEnded, StageReset, StageRetired
from stabilize_nb.errors import (
    StabilizeError,
    StageNotFoundError,
    StoreDamagedError,
    StoreError,
    StoreUnavailableError,
    WorkflowNotFoundError,
)
from stabilize_nb.events.bus import announce
from stabilize_nb.queue.processor.body import (
    Running,
    failed,
    outcome_of,
    outcome_of_error,
    stage_for,
    time_limit,
    timed_out,
)
from stabilize_nb.queue.processor.capture import catching, output_for
from stabilize_nb.queue.processor.commit import Claim, Done, Leased, LeaseLost, leased_from_row, nothing_done, process
from stabilize_nb.queue.processor.custody import Custody
from stabilize_nb.queue.processor.desk import Desk, Finished, Job
from stabilize_nb.queue.processor.loop import run_on_loop
from stabilize_nb.store.codec import dumps
from stabilize_nb.store.sqlite import is_of_store
from stabilize_nb.tasks.interface import is_awaitable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from stabilize_nb.core.draft import Body, Limits
    from stabilize_nb.core.facts import Fact
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.queue.messages import Message, Outcome
    from stabilize_nb.queue.processor.config import QueueProcessorConfig
    from stabilize_nb.store.database import Database
    from stabilize_nb.store.sqlite import Connection
    from stabilize_nb.tasks.interface import Task
    from stabilize_nb.tasks.registry import TaskRegistry

log = logging.getLogger("stabilize_nb")
#: When the next message is due (ms since the epoch): without timers, and with them.
Due = tuple[int | None, int | None]
#: Messages taken in one transaction at most, so that no commit keeps others waiting long.
BATCH = 64
#: Seconds: a deadline nearer than this wakes the keeper, which looks up less often than that.
SOON = 2.0
#: Seconds before a store that was not available is tried again.
STORE_RETRY = 0.5
#: Where the rows of messages that are due say how often their body was lost, and a number that is never reached.
LOST = 8
NEVER = 2**31


class Workshop:
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
        self.database = database
        self.registry = registry
        self.config = config
        self.limits = limits
        self.owner = owner
        self.desk = desk
        self.custody = Custody(database, owner, config.lease)
        self._names: tuple[frozenset[str], frozenset[str]] | None = None
        self._suspects: set[str] = set()  # messages in hand whose body may kill this process
        self._attempted: list[Done] = []  # by the transaction that is under way
        self._doubtful: list[Leased] = []  # taken by commits that failed, or did they?

    def forget_names(self) -> None:
        """Look at the registry anew: a name was registered."""
        self._names = None

    def names(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return the task names whose bodies run in threads, and those whose bodies are coroutines."""
        if self._names is None:
            everything = self.registry.names()
            waiting = frozenset(name for name in everything if self.registry.is_coroutine(name))
            self._names = (everything - waiting, waiting)
        return self._names

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
            batch = desk.take_all()
            look = desk.starved or desk.is_due(self.database.clock())
            desk.dirty = False
        self._attempted = []  # a transaction that cannot even begin has taken nothing
        now = time.monotonic()
        try:
            done, due = self.database.write(lambda db: self._commit(db, batch, look=look), then=self._announce)
        except BaseException as error:
            self._doubtful += [leased for result in self._attempted for leased, _ in result.runs]
            desk.put_back(batch, STORE_RETRY)
            if not isinstance(error, StoreError):
                raise
            self.complain(error)
            return
        if any(result.runs for result in done):
            desk.sign = now
        self._suspects = self._suspects.difference(leased.id for leased, _ in batch) | self._suspects_in(done)
        if desk.trouble is not None:
            self.forgive()
        self._doubtful.clear()
        self._settle(done, due)

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

    def _commit(self, connection: Connection, batch: Sequence[Finished], *, look: bool) -> tuple[list[Done], Due]:
        """Commit finished bodies, then take messages: those known to be due (`look`) and those just sent."""
        desk = self.desk
        done = self._attempted = []
        self._give_back_doubtful(connection)
        free = desk.free_slots()
        for leased, message in batch:
            free = _after(free, self._one(connection, leased, message, free), done)
        ended = {leased.id for leased, _ in batch}
        look = look or any(result.left for result in done) or bool(self._suspects & ended)
        if not look:
            return done, (desk.next_work, desk.next_due)
        while len(done) < BATCH and (rows := self._due(connection, free, self._bound(done, ended))):
            for row in rows:
                free = _after(free, self._taken(connection, row, free), done)
        return done, self._next_due(connection, free, self._bound(done, ended))

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

    def _bound(self, done: Sequence[Done], ended: Collection[str]) -> int:
        """
        Return how often a body must have been lost not to be begun now.

        One that would be given up if it was lost once more is begun while no other such one is at work: so those that
        were beside a body that kills its process are not taken for it.
        """
        suspects = self._suspects.difference(ended) or self._suspects_in(done)
        return self._limit_of_losses if suspects else NEVER

    def _suspects_in(self, done: Iterable[Done]) -> set[str]:
        bound = self._limit_of_losses
        return {leased.id for result in done for leased, _ in result.runs if leased.lost >= bound}

    @property
    def _limit_of_losses(self) -> int:
        return max(1, self.limits.deaths - 1)

    def _due(self, connection: Connection, free: int, bound: int) -> list[Sequence[Any]]:
        desk = self.desk
        most = BATCH if desk.allowance is None else desk.allowance
        if most <= 0:
            return []
        now = self.database.clock()
        threads, waiting = self.names()
        mine = {"owner": self.custody.filter}
        rows = connection.all("due", {"now": now, "most": most, **mine})[:most]
        for names, places in ((waiting, most - len(rows)), (threads, min(free, most - len(rows)))):
            if names and places > 0 and len(rows) < most:
                room = min(places, most - len(rows))
                bodies = {"now": now, "known": dumps(sorted(names)), "most": room, "lost": bound, **mine}
                found = connection.all("due_bodies", bodies)
                if any(row[LOST] >= self._limit_of_losses for row in found):
                    return rows + _with_one_suspect(found, self._limit_of_losses)
                rows += found
        return rows

    def _next_due(self, connection: Connection, free: int, bound: int) -> Due:
        """Return when something is due that could be taken; a body that nobody is free for does not count."""
        threads, waiting = self.names()
        due = self._due_among(connection, threads | waiting, bound)
        self.desk.starved = free <= 0 and due[1] is not None and due[1] <= self.database.clock()
        return self._due_among(connection, waiting, bound) if self.desk.starved else due

    def _due_among(self, connection: Connection, names: frozenset[str], bound: int) -> Due:
        mine = {"known": dumps(sorted(names)), "owner": self.custody.filter, "lost": bound}
        row = connection.one("next_due", mine)
        order, timer, body = row or (None, None, None)
        return _first(order, body), _first(order, timer, body)

    def _taken(self, connection: Connection, row: Sequence[Any], free: int) -> Done | None:
        desk = self.desk
        desk.processed += 1
        if desk.allowance is not None:
            desk.allowance -= 1
        try:
            leased = leased_from_row(row)
        except StabilizeError as error:
            connection.begin_part()
            dead = self._bury(connection, row[0], row[1], str(error))
            connection.end_part()
            return dead
        return self._one(connection, leased, leased.message, free)

    def _one(self, connection: Connection, leased: Leased, message: Message, free: int) -> Done | None:
        """Process one message; in a savepoint, so that its failure is only its own."""
        now = self.database.clock()
        threads, waiting = self.names()
        slots = free if self.desk.allowance is None else 0
        env = Env(
            now=now,
            limits=self.limits,
            slots=slots,
            runnable=threads,
            coroutines=waiting if slots else frozenset(),
        )
        claim = Claim(self.owner, now + round(self.config.lease * 1_000))
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
            if is_of_store(error):
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
            if is_of_store(error):
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

    def _settle(self, done: list[Done], due: Due) -> None:
        """Let the desk have what follows from a commit."""
        if done:
            self.database.changes.notify(origin=self.wake)
        desk = self.desk
        with desk.changed:
            for result in done:
                desk.ready.extend(result.runs)
                desk.hooks.extend(result.hooks)
            before, (desk.next_work, desk.next_due) = desk.next_due, due
            desk.leading = False
            if desk.starved and desk.free_slots() > 0:
                desk.dirty = True  # a place was given back meanwhile
            jobs = self._bodies() + len(desk.hooks) + bool(desk.finished or desk.dirty) - 1
            sooner = desk.next_due is not None and (before is None or desk.next_due < before)
            self.hire_for(jobs)
            desk.changed.notify(max(jobs, int(sooner), 0))
            if not (desk.ready or desk.finished or desk.running or desk.hooks):
                desk.calm.notify_all()

    def _bodies(self) -> int:
        """Return for how many workers there are bodies: one begins all coroutines, each of which is done in no time."""
        in_threads = sum(not self._is_coroutine(body) for _, body in self.desk.ready)
        return in_threads + (in_threads < len(self.desk.ready))

    def _is_coroutine(self, body: Body) -> bool:
        return body.task.implementing_class in self.names()[1]

    def wake(self) -> None:
        """Look for messages: somebody else has committed. Never takes the desk's lock in the main thread."""
        if threading.current_thread() is threading.main_thread():
            self.database.post(self._wake)
        else:
            self._wake()

    def _wake(self) -> None:
        with self.desk.changed:
            self.desk.dirty = True
            self.desk.changed.notify()

    def hire_for(self, jobs: int) -> None:
        """Let more workers come when there is work for them. The desk's lock is held."""

    def _withdraw_stale(self, result: Done) -> None:
        """Tell bodies at work that their result is no longer wanted."""
        if not self.desk.running:
            return
        gone = {fact.stage for fact in result.facts if isinstance(fact, StageEnded | StageReset | StageRetired)}
        if gone:
            with self.desk.changed:
                for running in self.desk.running.values():
                    if running.body.stage.id in gone:
                        running.cancel()

    # -- bodies -----------------------------------------------------------------------------------

    def run_next(self) -> bool:
        """Run one body or hook; return whether this worker may go on (its place was not given to another)."""
        desk = self.desk
        with desk.changed:
            hook = desk.hooks.popleft() if desk.hooks else None
            ready = desk.ready.popleft() if hook is None and desk.ready else None
            if ready is None and hook is None:
                return True
            desk.in_threads += 1
            if ready is None or desk.workers == 1 or not self._is_coroutine(ready[1]):
                self.hire_for(1)
        if ready is not None and self._is_held(ready[0]):
            return self._run(*ready)
        if hook is not None:  # first: what it cleans up is over, and a process that dies forgets it
            self._run_hook(hook)
        with desk.changed:
            self._leave_place()
            desk.calm.notify_all()
        return True

    def _is_held(self, leased: Leased) -> bool:
        """Return whether a body may begin: who was stopped for longer than its lease asks who has the claim by now."""
        if time.monotonic() - self.desk.sign <= self.config.lease:
            return True
        claim = {"id": leased.id, "owner": leased.owner, "fence": leased.fence}
        try:
            return bool(self.database.read(lambda connection: connection.one("still_mine", claim) or (0,))[0])
        except StoreError:
            return True  # nobody can say; what is not its own any more is refused when it ends

    def _leave_place(self) -> None:
        """Give a thread's place back; whoever found none free looks again. The desk's lock is held."""
        desk = self.desk
        desk.in_threads -= 1
        if desk.starved:
            desk.dirty = True
            desk.changed.notify()

    def _run_hook(self, body: Body) -> None:
        if body.purpose is not Purpose.ON_CANCEL:
            return
        try:
            task = self.registry.get(body.task.implementing_class)
            if hasattr(task, "on_cancel"):
                task.on_cancel(stage_for(body, None))
        except Exception:
            log.exception("on_cancel of task %r (stage %r) failed", body.task.name, body.stage.ref_id)

    def _run(self, leased: Leased, body: Body) -> bool:
        running = Running(self.database, leased, body, deadline=0)
        running.output = output_for(self.config.task_output, leased.workflow_id)
        outcome = self._begin(running)
        if outcome is None:
            return True
        return self.deliver(running, outcome, in_thread=True)

    def _begin(self, running: Running) -> Outcome | None:
        """Call the body in this thread; None when it turned out to be a coroutine, which then runs on the loop."""
        body = running.body
        try:
            task = self.registry.get(body.task.implementing_class)
            stage = stage_for(body, running)
            limit = time_limit(task, stage, self.config.task_timeout)
        except Exception as error:  # noqa: BLE001 - user code and user settings
            return failed(f"task {body.task.name!r} of stage {body.stage.ref_id!r} could not be begun: {error}")
        now = self.database.clock()
        first = (body.task.first_started_at if body.task.polls else None) or now
        left = limit - max(0, now - first) / 1_000
        running.limit = limit
        running.deadline = time.monotonic() + left
        with self.desk.changed:
            self.desk.running[running.leased.id] = running
            if left < SOON:
                self.desk.tick.notify()
        try:
            if left <= 0:
                return timed_out(task, stage, running, limit, now)
            with catching(running.output):
                result = task.execute(stage)
            if is_awaitable(result):
                self._go_on_waiting(running, task, stage, limit, result)
                return None
            return outcome_of(result, task, stage, running, self.database.clock())
        except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
            return outcome_of_error(error, task, running)

    def _go_on_waiting(self, running: Running, task: Task, stage: StageExecution, limit: float, result: Any) -> None:
        async def finish() -> None:
            try:
                with catching(running.output):
                    returned = await (running.while_wanted(result) if getattr(task, "waits", False) else result)
                outcome = outcome_of(returned, task, stage, running, self.database.clock())
            except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
                outcome = outcome_of_error(error, task, running)
            self.deliver(running, outcome, in_thread=False)

        with self.desk.changed:
            self._leave_place()
        running.future = run_on_loop(finish())

    def deliver(self, running: Running, outcome: Outcome, *, in_thread: bool) -> bool:
        """Put an outcome on the desk unless the body was given up; return whether the thread keeps its place."""
        desk = self.desk
        with desk.changed:
            if running.abandoned:
                return False
            desk.running.pop(running.leased.id, None)
            desk.in_threads -= in_thread
            desk.finished.append((running.leased, running.finished(outcome)))
            if not in_thread:
                desk.changed.notify()
        return True

    def give_up(self, running: Running) -> bool:
        """End the wait for a body that took too long: its thread is left to itself. Returns whether it was at work."""
        body = running.body
        with self.desk.changed:
            if running.abandoned or self.desk.running.pop(running.leased.id, None) is None:
                return False
            running.abandoned = True
            running.cancel()
            if running.future is None:
                self._leave_place()
        if running.future is not None:
            running.future.cancel()
        try:
            task = self.registry.get(body.task.implementing_class)
            outcome = timed_out(task, stage_for(body, None), running, running.limit, self.database.clock())
        except Exception as error:  # noqa: BLE001 - user code
            outcome = failed(f"task {body.task.name!r} timed out and its hook failed: {error}")
        with self.desk.changed:
            self.desk.finished.append((running.leased, running.finished(outcome)))
            self.desk.changed.notify()
        return True


def _warn(facts: Sequence[Fact]) -> None:
    """Say in the log what was asked for and not done."""
    for fact in facts:
        if isinstance(fact, InstanceRefused):
            log.warning("no instance was added: %s", fact.reason)
        elif isinstance(fact, ConditionFailed):
            way = f" of the way to {fact.edge!r}" if fact.edge else ""
            log.warning("the condition %r%s counts as false: %s", fact.condition, way, fact.error)


def _with_one_suspect(rows: Sequence[Sequence[Any]], bound: int) -> list[Sequence[Any]]:
    """Leave out all bodies but the first that were lost that often."""
    first = next(at for at, row in enumerate(rows) if row[LOST] >= bound)
    return [row for at, row in enumerate(rows) if at == first or row[LOST] < bound]


def _first(*times: int | None) -> int | None:
    return min((time for time in times if time is not None), default=None)


def _after(free: int, result: Done | None, done: list[Done]) -> int:
    if result is None:
        return free
    done.append(result)
    return max(0, free - len(result.runs))
