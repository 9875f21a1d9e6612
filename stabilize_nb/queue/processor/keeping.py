"""Who works in a processor: workers that come when there is something to do, and the keeper, who looks around.

The keeper is one thread. It has the processor seen to live, looks for the dead and for commits of others, renews
claims, ends what takes too long, and goes home last.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from stabilize_nb.core.draft import Env
from stabilize_nb.errors import StabilizeError, StoreDamagedError, WorkflowNotFoundError
from stabilize_nb.events.bus import announce
from stabilize_nb.queue.processor.commit import carry_out
from stabilize_nb.queue.processor.timetable import Timetable
from stabilize_nb.queue.processor.worker import Workshop
from stabilize_nb.store.retention import Forgetting

if TYPE_CHECKING:
    from collections.abc import Callable

    from stabilize_nb.core.facts import Fact
    from stabilize_nb.queue.messages import KeepOutput
    from stabilize_nb.queue.processor.body import Running
    from stabilize_nb.queue.processor.taking import Shared
    from stabilize_nb.store.connection import Connection

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


class Keeping(Workshop):
    """The threads of one processor."""

    def __init__(self, *shared: *Shared) -> None:
        super().__init__(*shared)
        self._presence = self.custody.presence
        self._keeper: threading.Thread | None = None
        self._keeping = False
        self._arrived = False  # it is announced, and may take something
        self._is_short = False  # there was no thread for a worker
        self._stirred = 0.0  # monotonic time at which the keeper last saw work, or a commit of another process
        self._serial = 0

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
            if self.desk.hired and timetable.go_on(has_news=has_news):
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
