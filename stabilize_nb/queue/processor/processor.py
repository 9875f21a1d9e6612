"""QueueProcessor: starts and stops the workers, and waits for them on behalf of a caller.

No transaction ever runs in the caller's thread (C12): an interrupt ends the waiting, never the work.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stabilize_nb.core.draft import Env, Limits
from stabilize_nb.errors import ConfigError, StabilizeError, StoreDamagedError, WorkflowNotFoundError
from stabilize_nb.events.bus import announce
from stabilize_nb.models.ids import new_id
from stabilize_nb.queue.processor.commit import carry_out
from stabilize_nb.queue.processor.config import QueueProcessorConfig
from stabilize_nb.queue.processor.desk import Desk
from stabilize_nb.queue.processor.timetable import Timetable
from stabilize_nb.queue.processor.worker import Workshop
from stabilize_nb.store.retention import Forgetting
from stabilize_nb.tasks.registry import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

    from stabilize_nb.core.facts import Fact
    from stabilize_nb.queue.messages import KeepOutput
    from stabilize_nb.queue.processor.body import Running
    from stabilize_nb.queue.processor.executors import Sources
    from stabilize_nb.queue.queue import Queue
    from stabilize_nb.store.connection import Connection
    from stabilize_nb.store.store import WorkflowStore

log = logging.getLogger("stabilize_nb")
#: Seconds between looks for processors that have died (C8 allows one second in all).
LOOK_FOR_DEAD = 0.4
#: Seconds without work or a commit of others after which the keeper looks around less often, and how much: where it
#: has to look for commits of others, and where these make themselves heard.
CALM = 3.0
SELDOM = 5
SELDOM_IF_TOLD = 10
#: Seconds between two entries in the log of what a body prints.
KEEP_OUTPUT = 2.0
#: Seconds between two looks for messages that have long been done.
FORGET = 60.0
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


class QueueProcessor(Workshop):
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
        self._presence = self.custody.presence
        self._drains = threading.Lock()
        self._drain_at_work: Drain | None = None
        self._keeper: threading.Thread | None = None
        self._keeping = False
        self._arrived = False  # it is announced, and may take something
        self._is_short = False  # there was no thread for a worker
        self._stirred = 0.0  # monotonic time at which the keeper last saw work, or a commit of another process
        self._serial = 0
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

    def hire_for(self, jobs: int) -> None:
        """Have a worker for each job, and one more than there are bodies: messages are taken also when all are busy."""
        desk = self.desk
        if not self._arrived:
            return  # nobody would see this processor live, and others would take from it what it takes
        for _ in range(min(jobs - desk.idle, desk.hired + 1 - desk.workers)):
            if not self._hire():
                return

    def _hire(self) -> bool:
        """Let one worker come; return whether there was a thread for it, else the keeper tries again."""
        self._serial += 1
        try:
            threading.Thread(target=self._work_safely, name=f"stabilize-worker-{self._serial}", daemon=True).start()
        except RuntimeError as error:
            if not self._is_short:
                log.warning("no worker can be begun (%s); the work goes on with those that there are", error)
            self._is_short = True
            return False
        self._is_short = False
        self.desk.workers += 1  # it waits for the desk's lock
        return True

    def _hire_again(self) -> None:
        """Let those workers come for whom there was no thread."""
        with self.desk.changed:
            if self._is_short:
                self.hire_for(max(1, self.jobs_ready()))

    def _work_safely(self) -> None:
        try:
            self.work()
        except BaseException:
            log.exception("a worker broke; another takes its place")
            with self.desk.changed:
                self.desk.workers -= 1
                self.hire_for(1)
                self.desk.calm.notify_all()

    def _keep_after(self, earlier: threading.Thread | None) -> None:
        if earlier is not None:
            earlier.join()
        try:
            self._keep()
        except BaseException:
            log.exception("the keeper of a processor broke: nothing more is begun until it is started again")
            with self.desk.changed:
                self.desk.hired, self._keeping = 0, False
                self.desk.changed.notify_all()
        self._go_home()

    def _keep(self) -> None:
        """Be present, look for the dead, renew claims, end what takes too long, see commits of others."""
        self._stirred = time.monotonic()
        said = self._tried(self._arrive, "")
        next_look = next_renewal = next_keeping = time.monotonic()
        forgetting, next_forgetting = Forgetting(self.database), next_look + FORGET
        timetable = Timetable(self.database, self.owner)
        seen = self._see()

        def look_around() -> None:
            nonlocal seen, next_look, next_renewal, next_keeping, next_forgetting
            now = time.monotonic()
            if not self._arrived:
                self._arrive()
            self.database.sweep()
            seen = self._look_outside(seen)
            if now >= next_renewal:
                next_renewal = now + self.config.lease / 3
                self._renew()
            if now >= next_look:
                next_look = now + LOOK_FOR_DEAD
                self.look_for_dead()
            has_news, self._woken = self._woken, False
            if self.running and timetable.go_on(has_news=has_news):
                self.wake()
                self.database.changes.notify(origin=self.wake)
            if now >= next_forgetting:
                next_forgetting = now + FORGET
                forgetting.go_on()
            if now >= next_keeping:
                next_keeping = now + KEEP_OUTPUT
                self._keep_output()

        while self._stay():
            said = self._tried(look_around, said)
            self._end_late_bodies()
            self._hire_again()

    def _arrive(self) -> None:
        """Be seen to live, take over what the dead have left, and let the first worker come."""
        self._presence.enter()
        self.database.write(self._presence.free_dead)
        with self.desk.changed:
            self._arrived = True
            self.hire_for(1)

    def _tried(self, work: Callable[[], None], said: str) -> str:
        """Do what may fail now and succeed later; return what was said of it, which is not said again."""
        try:
            work()
        except StoreDamagedError as error:
            self.complain(error)
            return str(error)
        except Exception as error:
            if said != str(error):
                if isinstance(error, StabilizeError):
                    log.warning("%s", error)
                else:
                    log.warning("a processor could not look around, and tries again", exc_info=error)
            return str(error)
        return ""

    def _see(self) -> int:
        """Return what `_look_outside` compares with; a store that cannot be read is looked at again later."""
        try:
            return self.database.in_memory or self.database.write_version()
        except StabilizeError:
            return -1

    def _stay(self) -> bool:
        """Wait a little and return whether the keeper is still needed."""
        desk = self.desk
        with desk.changed:
            if self._is_needed():
                desk.tick.wait(self._pause())
            self._keeping = self._is_needed()
            return self._keeping

    def _is_needed(self) -> bool:
        desk = self.desk
        return bool(desk.hired or desk.workers or desk.running or desk.late or desk.finished)

    def _pause(self) -> float:
        if self.database.in_memory:
            deadlines = [running.deadline for running in self.desk.running.values()]
            return min(1.0, max(0.01, min(deadlines, default=math.inf) - time.monotonic()))
        now = time.monotonic()
        if self.desk.holds():
            self._stirred = now
        seldom = SELDOM_IF_TOLD if self.database.driver.tells else SELDOM
        return self.config.poll_frequency_ms / 1_000 * (1 if now - self._stirred < CALM else seldom)

    def _look_outside(self, seen: int) -> int:
        """See whether another process has committed."""
        if self.database.in_memory:
            return seen
        version = self.database.write_version(seen)
        if version != seen:
            self._stirred = time.monotonic()
            self.wake()
            self.database.changes.notify(origin=self.wake)
        return version

    def look_for_dead(self) -> None:
        """Free what processors held that have died; called by an engine thread."""
        self._presence.say(frozenset().union(*self.names()))
        if not self.database.in_memory and self.database.read(self._presence.any_dead):
            freed = self.database.write(self._presence.free_dead)
            if freed:
                log.info("took over %d messages of a processor that has died", freed)
            self.wake()  # also for what it has committed and told nobody
        if self.custody.wanted and self.custody.take_wanted():
            self.wake()

    def _renew(self) -> None:
        """
        Have claims last longer.

        Who watches others does so too, since it is the store that may keep them from it: then it waits beside them.
        """
        if self.desk.holds() or self._presence.watches:
            now = time.monotonic()
            until = self.database.clock() + round(self.config.lease * 1_000)
            self.database.write(lambda connection: connection.run("renew", {"owner": self.owner, "lease_until": until}))
            self.desk.sign_given(now, self.config.lease)

    def _keep_output(self) -> None:
        """Put into the log what long bodies have printed: a crash does not take it away, other processes see it."""
        with self.desk.changed:
            at_work = [] if self.desk.allowance is not None else list(self.desk.running.values())
        long = [running for running in at_work if running.has_printed(KEEP_OUTPUT)]
        if not long:
            return
        taken: list[tuple[Running, KeepOutput]] = []
        try:
            self.database.write(lambda connection: self._kept(connection, long, taken), self._tell_kept)
        except StabilizeError:
            for running, message in taken:
                running.print_again(message)
            raise
        self.database.changes.notify(origin=self.wake)

    def _kept(
        self, connection: Connection, long: list[Running], taken: list[tuple[Running, KeepOutput]]
    ) -> list[tuple[str, tuple[Fact, ...], int, int]]:
        """Take and write what bodies have printed; a body that ends meanwhile is written after that, in order."""
        written = []
        for running in long:
            message = running.printed()
            if message is None:
                continue
            taken.append((running, message))
            now = self.database.clock()
            with suppress(WorkflowNotFoundError):  # it was deleted
                facts, last = carry_out(connection, message, Env(now=now), {}, budget=1)
                written.append((message.execution_id, facts, last, now))
        return written

    def _tell_kept(self, written: list[tuple[str, tuple[Fact, ...], int, int]]) -> None:
        for workflow_id, facts, last, now in written:
            announce(self.database.bus, workflow_id, last, facts, now)

    def _end_late_bodies(self) -> None:
        now = time.monotonic()
        with self.desk.changed:
            late: list[Running] = [r for r in self.desk.running.values() if r.deadline <= now]
        for running in late:
            if self.give_up(running) and running.future is None:
                with self.desk.changed:
                    self.desk.workers -= 1
                    self.hire_for(1)

    def _go_home(self) -> None:
        """Give back what was taken and not begun, withdraw the announcement, and leave the database."""
        desk = self.desk
        with desk.changed:
            unbegun = desk.unbegun()
            self._arrived = False
            desk.ready.clear()
            desk.aside = None
            desk.let_go([leased.hold for leased, _ in unbegun])
        now = self.database.clock()
        free = [{"id": leased.id, "owner": self.owner, "due_at": now, "error": None} for leased, _ in unbegun]
        try:
            if free:
                self.database.write(lambda connection: connection.many("release", free))
            self._presence.leave()
        except Exception as error:  # noqa: BLE001 - nobody else would give the database back
            log.warning("%s", error)
        finally:
            self.database.close()

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
