"""The bodies of one processor: begun in threads or on the event loop, given up when they take too long (design 7)."""

from __future__ import annotations

import logging
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from stabilize_nb.core.draft import Purpose
from stabilize_nb.core.facts import StageEnded, StageReset, StageRetired
from stabilize_nb.errors import StoreError
from stabilize_nb.models.settling import RETRY
from stabilize_nb.queue.processor.body import (
    Running,
    failed,
    outcome_of_error,
    outcome_once_verified,
    stage_for,
    text_of,
    time_limit,
    timed_out,
)
from stabilize_nb.queue.processor.capture import STREAMS, Catching, output_for
from stabilize_nb.queue.processor.executors import Executors, Pool, call_of
from stabilize_nb.queue.processor.loop import in_thread, run_on_loop
from stabilize_nb.secrets.log_lines import mask_logger
from stabilize_nb.secrets.resolving import looking_up, resolved
from stabilize_nb.tasks.interface import is_awaitable
from stabilize_nb.tasks.prints import plain_name

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from stabilize_nb.core.draft import Body
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.queue.messages import Outcome
    from stabilize_nb.queue.processor.commit import Done, Leased
    from stabilize_nb.queue.processor.config import QueueProcessorConfig
    from stabilize_nb.queue.processor.desk import Desk
    from stabilize_nb.queue.processor.remote import Reply
    from stabilize_nb.secrets.resolving import Desk as Secrets
    from stabilize_nb.store.database import Database
    from stabilize_nb.tasks.interface import Task
    from stabilize_nb.tasks.registry import TaskRegistry
    from stabilize_nb.within import Within

log = logging.getLogger("stabilize_nb")
#: Seconds: a deadline nearer than this wakes the keeper, which looks up less often than that.
SOON = 2.0
mask_logger()


class Bodies:
    """What runs the bodies that were taken, and puts what came of them on the desk."""

    def __init__(self, database: Database, registry: TaskRegistry, config: QueueProcessorConfig, desk: Desk) -> None:
        self.database = database
        self.registry = registry
        self.config = config
        self.desk = desk
        self.executors = Executors(config.executor)
        self.watches = False  # what is begun here is worked at by other processes
        self._names: tuple[frozenset[str], frozenset[str]] | None = None

    def forget_names(self) -> None:
        """Look at the registry anew: a name was registered."""
        self._names = None

    def names(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return the names of tasks that are run here: those whose bodies run in threads, and coroutines."""
        if self._names is None:
            everything = frozenset(filter(self.takes, self.registry.names()))
            waiting = frozenset(name for name in everything if self.registry.is_coroutine(name))
            self._names = (everything - waiting, waiting)
        return self._names

    def takes(self, name: str) -> bool:
        """Whether bodies of a task that is known are run here."""
        only = self.config.only
        if self.watches:
            return False
        return not only or self.registry.queue_of(name) in only or plain_name(name) in only

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

    def jobs_ready(self) -> int:
        """Return for how many workers there are bodies: one begins all coroutines, each of which is done in no time."""
        in_threads = sum(not self._is_coroutine(body) for _, body in self.desk.ready)
        return in_threads + (in_threads < len(self.desk.ready))

    def _is_coroutine(self, body: Body) -> bool:
        return body.task.implementing_class in self.names()[1]

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
            if ready is not None:  # somebody else has it by now
                desk.let_go((ready[0].hold,))
                desk.dirty = True
                self.hire_for(self.jobs_ready())
                desk.changed.notify()
            desk.calm.notify_all()
        return True

    def _is_held(self, leased: Leased) -> bool:
        """Return whether a body may begin: who was stopped for longer than its lease asks who has the claim by now."""
        desk = self.desk
        if leased.id not in desk.in_question and time.monotonic() - desk.sign <= self.config.lease:
            return True
        desk.in_question.discard(leased.id)
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
                with self._looking_up(body):
                    task.on_cancel(_seen_by(task, stage_for(body, None)))
        except BaseException:
            log.exception("on_cancel of task %r (stage %r) failed", body.task.name, body.stage.ref_id)

    def _run(self, leased: Leased, body: Body) -> bool:
        running = Running(self.database, leased, body, deadline=0)
        running.egress = self.config.egress
        running.output = output_for(self.config.task_output, leased.workflow_id)
        outcome = self._begin(running)
        if outcome is None:
            return running.future is not None  # else it was given up before, and its place was given to another
        return self.deliver(running, outcome, in_thread=True)

    def _begin(self, running: Running) -> Outcome | None:
        """Call the body in this thread; None when it turned out to be a coroutine, which then runs on the loop."""
        body = running.body
        try:
            task = self.registry.get(body.task.implementing_class)
            stage = stage_for(body, running)
            limit = time_limit(task, stage, self.config.task_timeout)
        except BaseException as error:  # noqa: BLE001 - user code and user settings
            return failed(
                f"task {body.task.name!r} of stage {body.stage.ref_id!r} could not be begun: {text_of(error)}"
            )
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
            with Catching(running.output), self._looking_up(body):
                result = self._executed(running, task, stage)
            if is_awaitable(result):
                self._go_on_waiting(running, task, stage, limit, result)
                return None
            return outcome_once_verified(result, task, stage, running, self.database.clock())
        except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
            return outcome_of_error(error, task, running)

    def _executed(self, running: Running, task: Task, stage: StageExecution) -> Any:
        """Execute a task, or have an executor do it, for which is waited."""
        _seen_by(task, stage)
        pool = self._pool_of(running.body)
        if pool is not None:
            stage.runtime = running.away
            if (call := task.away(stage)) is not None:
                running.elsewhere = True
                sent = pool.send(call_of(call, running), running.idempotency_key)
                return self._from_elsewhere(pool.run(sent, running), running, task)
            stage.runtime = running
        return task.execute(stage)

    def _pool_of(self, body: Body) -> Pool | None:
        """Return where a body is run; None: here, as what is run at most once: an executor may repeat what it lost."""
        if body.stage.spec.on_crash != RETRY:
            return None
        return self.executors.of(self.registry.queue_of(body.task.implementing_class))

    async def _from_elsewhere(self, work: Awaitable[Reply], running: Running, task: Task) -> Any:
        reply = await work
        for part in reply.printed:
            for stream in STREAMS & part.keys():
                getattr(sys, stream).write(part.pop(stream))
            if part and running.output is not None:
                running.output.display(part, None, is_update=False)
        return await in_thread(lambda: task.back(reply.get))

    def _go_on_waiting(self, running: Running, task: Task, stage: StageExecution, limit: float, result: Any) -> None:
        async def finish() -> None:
            try:
                with Catching(running.output), self._looking_up(running.body):
                    returned = await running.while_wanted(result)
                judge = partial(outcome_once_verified, returned, task, stage, running, self.database.clock())
                outcome = judge() if getattr(task, "verifier", None) is None else await in_thread(judge)
            except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
                outcome = outcome_of_error(error, task, running)
            self.deliver(running, outcome, in_thread=False)

        with self.desk.changed:
            if running.abandoned:
                _close(result)
                return
            work = finish()
            try:
                running.future = run_on_loop(work)
            except RuntimeError:  # the system has no thread left for the loop
                _close(work, result)
                raise
            if not running.elsewhere:
                self._leave_place()

    def _looking_up(self, body: Body) -> Within[Secrets]:
        return looking_up(self.config.secrets, f"stage {body.stage.ref_id!r}")

    def deliver(self, running: Running, outcome: Outcome, *, in_thread: bool) -> bool:
        """Put an outcome on the desk unless the body was given up; return whether the thread keeps its place."""
        desk = self.desk
        with desk.changed:
            if running.abandoned:
                return False
            desk.running.pop(running.leased.id, None)
            desk.in_threads -= in_thread or running.elsewhere
            desk.finished.append((running.leased, running.finished(outcome)))
            if not in_thread:
                self._call_worker()
        return True

    def _call_worker(self) -> None:
        """Have somebody commit what has ended, also when all workers have gone home. The desk's lock is held."""
        if not self.desk.workers:
            self.hire_for(1)
        self.desk.changed.notify()

    def give_up(self, running: Running) -> bool:
        """End the wait for a body that took too long: its thread is left to itself. Returns whether it was at work."""
        with self.desk.changed:
            if running.abandoned or self.desk.running.pop(running.leased.id, None) is None:
                return False
            running.abandoned = True
            running.cancel()
            if running.future is None or running.elsewhere:
                self._leave_place()
            self.desk.late[running.leased.id] = running
        if running.future is not None:
            running.future.cancel()
        try:
            threading.Thread(target=self._end_late, args=(running,), name="stabilize-late", daemon=True).start()
        except RuntimeError:  # the system has no thread left
            self._end_late(running)
        return True

    def _end_late(self, running: Running) -> None:
        """Ask the hook of a task what becomes of a body that took too long: it may take its time, too."""
        body = running.body
        try:
            task = self.registry.get(body.task.implementing_class)
            outcome = timed_out(task, stage_for(body, None), running, running.limit, self.database.clock())
        except BaseException as error:  # noqa: BLE001 - user code
            outcome = failed(f"task {body.task.name!r} timed out and its hook failed: {text_of(error)}")
        with self.desk.changed:
            del self.desk.late[running.leased.id]
            self.desk.finished.append((running.leased, running.finished(outcome)))
            self._call_worker()


def _close(*unawaited: Any) -> None:
    """End coroutines that nobody will await."""
    for each in unawaited:
        if hasattr(each, "close"):
            each.close()


def _seen_by(task: Task, stage: StageExecution) -> StageExecution:
    """Put the values of secrets into what a body sees, unless it only passes data on."""
    if getattr(task, "sees_secrets", True):
        stage.context = resolved(stage.context)
    return stage
