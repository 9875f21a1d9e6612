"""QueueProcessor: starts and stops the workers, and waits for them on behalf of a caller.

No transaction ever runs in the caller's thread (C12): an interrupt ends the waiting, never the work.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stabilize_nb.core.draft import Limits
from stabilize_nb.errors import ConfigError, StabilizeError, StoreDamagedError
from stabilize_nb.models.ids import new_id
from stabilize_nb.queue.processor.config import QueueProcessorConfig
from stabilize_nb.queue.processor.desk import Desk
from stabilize_nb.queue.processor.keeping import Keeping
from stabilize_nb.tasks.registry import TaskRegistry

if TYPE_CHECKING:
    from stabilize_nb.queue.processor.executors import Sources
    from stabilize_nb.queue.queue import Queue
    from stabilize_nb.store.store import WorkflowStore

log = logging.getLogger("stabilize_nb")
#: Seconds after which whoever closes an engine is told what it waits for, and how many bodies are named.
PATIENCE = 2.0
NAMED = 5
#: Seconds that the end of the interpreter waits for the workers.
EXIT_BUDGET = 2.0
#: What is said of a body whose process ended in good order.
LEFT = "its process ended while it ran: the kernel was restarted, or the program came to its end"
_processors: weakref.WeakSet[QueueProcessor] = weakref.WeakSet()


@dataclass(slots=True)
class Drain:
    """One call of process_all; `cancelled` is set when its caller was interrupted."""

    timeout: float
    workers: int
    allowance: int | None
    cancelled: bool = False


class QueueProcessor(Keeping):
    """Takes messages from a queue, decides them, runs the tasks that the registry knows, and commits.

    A processor works in the background between `start` and `stop`, or for as long as a call of `process_all` lasts.
    `executor`: a `concurrent.futures.Executor` that runs bodies, a function that makes one, or either by queue; without
    it they run in threads (docs/workers.md).
    """

    def __init__(
        self,
        queue: Queue,
        config: QueueProcessorConfig | None = None,
        store: WorkflowStore | None = None,
        task_registry: TaskRegistry | None = None,
        limits: Limits | None = None,
        *,
        executor: Sources = None,
    ) -> None:
        if store is not None and store.database is not queue.database:
            msg = (
                f"the store is {store.database.url} and the queue {queue.database.url}: they must be one database, "
                "since every step commits state and messages together; open both with the same URL"
            )
            raise ConfigError(msg)
        config = config or QueueProcessorConfig()
        if executor is not None:
            config = replace(config, executor=executor)
        super().__init__(
            queue.database,
            task_registry or TaskRegistry(),
            config,
            limits or Limits(),
            new_id(),
            Desk(config.max_workers),
        )
        self.queue = queue
        self._drains = threading.Lock()
        self._drain_at_work: Drain | None = None
        self.closed = False
        self.registry.subscribe(self._registered)
        self.database.registries.append(self.registry)
        self.database.changes.subscribe(self.wake)
        self.database.couriers.append(self.desk.post)
        _processors.add(self)

    # -- what users call --------------------------------------------------------------------------

    def start(self) -> None:
        """Work in the background until `stop`; a second call does nothing."""
        self.database.call(lambda: self._open_shop(self.config.max_workers))

    def announce(self) -> None:
        """Be seen to live, also before the first job."""
        self.database.call(self.custody.presence.enter)

    def adopt(self, workflow_id: str) -> bool:
        """Work at a workflow from now on, or as soon as whoever does now is gone; return whether it is now."""
        taken = self.database.call(lambda: self.custody.adopt(workflow_id))
        self.wake()
        return taken

    def rest(self) -> None:
        """Begin nothing more until `start`, and return at once: an interrupt may ask for it."""
        self.database.post(lambda: self.close_shop(0.0))

    def stop(self, wait: bool = True, timeout: float = 30.0) -> None:
        """Begin nothing more; with `wait` return once the bodies at work are committed, at most after `timeout` s."""
        self.rest()  # also where no thread can be begun that waits, such as at the end of the interpreter
        reply = self.database.spawn(lambda: self.close_shop(timeout if wait else 0.0), "stabilize-stop")
        reply.wait(timeout + 1 if wait else 1)

    @property
    def is_hopeless(self) -> bool:
        """Whether the store is damaged, so that nothing more is done with it."""
        return isinstance(self.desk.trouble, StoreDamagedError)

    @property
    def running(self) -> bool:
        """Whether the processor works in the background."""
        return self.desk.hired > 0

    def process_all(self, timeout: float = 60.0, workers: int = 1) -> int:
        """
        Work until nothing is left but timers and waits for signals, and return how many messages were taken.

        Delayed messages, such as retries, are waited for. Tasks run one at a time unless `workers` says otherwise; a
        processor that was started keeps its own workers. Returns early after `timeout` seconds; a second call at the
        same time returns 0. An interrupt ends the waiting at once; bodies at work are committed in the background.
        """
        return self._wait_for_drain(Drain(timeout, workers, None))

    def process_one(self, timeout: float = 60.0) -> bool:
        """Take one message that is due, with the body it leads to; return whether there was one."""
        return self._wait_for_drain(Drain(timeout, 1, 1)) > 0

    def register_handler(self, *_: object) -> None:
        """Refuse: handlers are a fixed table here."""
        msg = "handlers are pure functions in stabilize_nb.handlers; a processor has all of them and takes no others"
        raise ConfigError(msg)

    def close(self, timeout: float = 30.0) -> None:
        """Stop and forget the registry's and the database's news."""
        if self.closed:
            return
        self.stop(timeout=timeout)
        self.executors.close()
        self.closed = True
        self.registry.unsubscribe(self._registered)
        self.database.changes.unsubscribe(self.wake)
        self.database.couriers.remove(self.desk.post)
        if self.registry in self.database.registries:
            self.database.registries.remove(self.registry)

    # -- draining ---------------------------------------------------------------------------------

    def _wait_for_drain(self, drain: Drain) -> int:
        try:
            return self.database.spawn(lambda: self._drain(drain), "stabilize-drain").result()
        except BaseException:
            drain.cancelled = True
            raise

    def _drain(self, drain: Drain) -> int:
        if not self._drains.acquire(blocking=False):
            earlier = self._drain_at_work
            if earlier is None or not earlier.cancelled or not self._drains.acquire(timeout=EXIT_BUDGET):
                return 0
        self._drain_at_work = drain
        desk = self.desk
        before = desk.processed
        own = not self.running
        try:
            if own:
                with desk.changed:
                    desk.allowance = drain.allowance
                    desk.slots = drain.workers
                self._open_shop(drain.workers)
            self._wait_quiet(drain)
            if self.is_hopeless and desk.trouble is not None:
                raise desk.trouble
        finally:
            if own:
                self.close_shop(EXIT_BUDGET)
                with desk.changed:
                    desk.allowance = None
                    desk.slots = self.config.max_workers
            self._drains.release()
        self.database.flush()
        return desk.processed - before

    def _wait_quiet(self, drain: Drain) -> None:
        desk = self.desk
        deadline = time.monotonic() + drain.timeout
        with desk.changed:
            while not (drain.cancelled or desk.quiet(self.database.clock()) or self.is_hopeless):
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                desk.calm.wait(min(left, 0.1))

    # -- workers and keeper -----------------------------------------------------------------------

    def _open_shop(self, workers: int) -> None:
        desk = self.desk
        with desk.changed:
            if desk.hired:
                return
            desk.hired = workers
            desk.dirty = True
            if self.is_hopeless:
                desk.trouble = None  # whoever orders something more has it looked at again
            if self._keeping:
                self.hire_for(1)
                desk.changed.notify()
                return
            self._keeping = True
            self.database.retain()  # given back by the keeper: bodies may outlive their engine
            keeper = threading.Thread(
                target=self._keep_after, args=(self._keeper,), name="stabilize-keeper", daemon=True
            )
            self._keeper = keeper
        try:
            keeper.start()
        except RuntimeError as error:
            with desk.changed:
                desk.hired, self._keeping, self._keeper = 0, False, None
            self.database.close()
            msg = (
                f"no work can be begun: the system gives this process no further thread ({error}); end some, then start"
            )
            raise StabilizeError(msg) from error

    def close_shop(self, timeout: float) -> None:
        """Begin nothing more, and wait in this thread for the bodies at work, at most so many seconds."""
        desk = self.desk
        deadline = time.monotonic() + timeout
        with desk.changed:
            desk.hired = 0
            desk.changed.notify_all()
            desk.tick.notify()
            self._wait_for_bodies(min(deadline, time.monotonic() + PATIENCE))
            if desk.running and (left := deadline - time.monotonic()) > 0:
                at_work = ", ".join(running.whereabouts for running in [*desk.running.values()][:NAMED])
                more = f" and {len(desk.running) - NAMED} more" if len(desk.running) > NAMED else ""
                log.warning("waiting for what is at work, %.0f s at most: %s%s", left, at_work, more)
            self._wait_for_bodies(deadline)
            keeper = self._keeper
        if keeper is not None and timeout > 0:
            keeper.join(max(0.1, deadline - time.monotonic()))

    def _wait_for_bodies(self, deadline: float) -> None:
        """Wait until nothing is at work, or until a monotonic time. The desk's lock is held."""
        desk = self.desk
        while (desk.workers or desk.running or desk.late) and (left := deadline - time.monotonic()) > 0:
            desk.calm.wait(min(left, 0.1))

    def _registered(self) -> None:
        self.forget_names()
        self.wake()

    def commit_rest(self) -> None:
        """Commit in this thread what has ended and no worker has committed."""
        desk = self.desk
        with desk.changed:
            if desk.leading or not desk.finished:
                return
            desk.leading = True
        self.lead()

    def leave_bodies(self) -> None:
        """
        Give back bodies that are at work: this process ends in good order, and they end with it.

        They are begun again, but have not killed their process: that a kernel is restarted often proves nothing.
        """
        with self.desk.changed:
            at_work = [*self.desk.running.values(), *self.desk.late.values()]
            left = [running.leased for running in at_work]
        if not left or self.database.in_memory:
            return
        now = self.database.clock()
        claims = [{"id": each.id, "owner": self.owner, "fence": each.fence, "error": LEFT, "now": now} for each in left]
        try:
            self.database.write(lambda connection: connection.many("leave_body", claims))
        except StabilizeError as error:
            log.warning("%s", error)


def _stop_all() -> None:
    for processor in list(_processors):
        if not processor.closed:
            processor.close_shop(EXIT_BUDGET)  # in this thread: Python 3.12 starts none any more when it ends
            processor.commit_rest()
        processor.leave_bodies()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):  # a forked child has no worker, and nothing of this process is its own to give back
    os.register_at_fork(after_in_child=_processors.clear)
