"""The desk: what is waiting for a worker, what is at work, and who may do what next. All of it under one lock.

Workers come to the desk for their next job. A job is to lead (commit every finished body and take messages that are
due, in one transaction), to run a body, or to go home.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from stabilize_nb.store.waiting import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from stabilize_nb.core.draft import Body
    from stabilize_nb.errors import StoreError
    from stabilize_nb.queue.messages import TaskFinished
    from stabilize_nb.queue.processor.body import Running
    from stabilize_nb.queue.processor.commit import Leased
    from stabilize_nb.store.connection import Connection

Finished = tuple["Leased", "TaskFinished"]
#: What a message is claimed by: its id and the number of the claim.
Hold = tuple[str, int]

#: Seconds after which who waits for a time looks at the clock again: it may have been set, or the machine has slept.
LOOK_AT_CLOCK = 1.0


class Letter(NamedTuple):
    """What a caller wants written, who waits for that: it is committed with what it leads to."""

    write: Callable[[Connection], Any]
    reply: Reply[None]

    def answer(self, error: BaseException | None) -> None:
        """Let the caller go on: it is written, or it was refused with an error."""

        def told() -> None:
            if error is not None:
                raise error

        self.reply.fulfil(told)


class Job(Enum):
    """What a worker does next."""

    LEAD = "LEAD"
    RUN = "RUN"
    HOME = "HOME"


class Desk:
    """Shared by the workers of one processor."""

    def __init__(self, slots: int) -> None:
        lock = threading.Lock()
        self.changed = threading.Condition(lock)  # where workers wait
        self.calm = threading.Condition(lock)  # where those wait who want the workers to be done
        self.tick = threading.Condition(lock)  # where the keeper waits
        self.slots = slots
        self.letters: deque[Letter] = deque()
        self.finished: deque[Finished] = deque()
        self.ready: deque[tuple[Leased, Body]] = deque()
        self.hooks: deque[Body] = deque()
        self.in_hand: set[Hold] = set()  # messages that were taken, until what came of their bodies is committed
        self.suspects: set[Hold] = set()  # those among them that are to be at work alone: one at most
        self.aside: tuple[Leased, Body] | None = None  # a suspect that waits until nothing else is in hand
        self.running: dict[str, Running] = {}
        self.late: dict[str, Running] = {}  # took too long: what their hooks say of them is waited for
        self.in_threads = 0
        self.leading = False
        self.dirty = True
        self.starved = False  # messages may be due that nobody was free to take
        self.first_waiting: int | None = None  # when the first of the bodies among them was due
        self.next_due: int | None = None  # ms since the epoch; of anything
        self.next_work: int | None = None  # the same without timers
        self.hired = 0  # workers that may come to the desk
        self.workers = 0  # workers that do
        self.idle = 0
        self.processed = 0
        self.allowance: int | None = None  # messages that may still be taken; None: any number
        self.retry_at = 0.0  # monotonic time before which nobody leads: the store was not available
        self.trouble: StoreError | None = None  # why the store cannot be used now
        self.sign = time.monotonic()  # of life, the last one that the store has
        self.in_question: set[str] = set()  # messages taken before a silence so long that others may have taken them

    def sign_given(self, at: float, lease: float) -> None:
        """Note a sign of life that the store has; after a silence longer than the lease, bodies in hand are doubted."""
        with self.changed:
            if at - self.sign > lease:
                self.in_question.update(leased.id for leased, _ in self.unbegun())
            self.sign = at

    def next_job(self, now_ms: int) -> tuple[Job | None, float | None]:
        """Say what the asking worker does, or None and how many seconds it may wait. The lock is held."""
        if self._may_lead(now_ms):
            self.leading = True
            return Job.LEAD, None
        if (self.ready and self.hired) or self.hooks:
            return Job.RUN, None
        if not (self.hired or self.finished or self.letters):
            return Job.HOME, None
        return None, self._patience(now_ms)

    def _may_lead(self, now_ms: int) -> bool:
        if self.leading or time.monotonic() < self.retry_at:
            return False
        return bool(self.finished or self.letters) or (self._may_take() and self.is_due(now_ms))

    def _may_take(self) -> bool:
        return self.hired > 0 and (self.allowance is None or self.allowance > 0)

    def is_due(self, now_ms: int) -> bool:
        """Whether there may be messages to take."""
        return self.dirty or (self.next_due is not None and self.next_due <= now_ms)

    def _patience(self, now_ms: int) -> float | None:
        blocked = self.retry_at - time.monotonic()
        if blocked > 0:
            return blocked
        if self.next_due is None or self.leading or not self._may_take():
            return None
        return min(max(0.0, (self.next_due - now_ms) / 1_000), LOOK_AT_CLOCK)

    def free_slots(self) -> int:
        """Return how many more bodies may be begun in threads."""
        return max(0, self.slots - self.in_threads - len(self.ready)) if self.hired else 0

    def quiet(self, now_ms: int) -> bool:
        """Whether nothing is at work and nothing but timers is to come."""
        if self.leading or self.finished or self.letters or self.in_hand or self.hooks or self.in_threads:
            return False
        if self.allowance == 0:
            return True
        return not self.is_due(now_ms) and self.next_work is None

    def holds(self) -> bool:
        """Whether messages may be claimed: bodies wait, are at work, or have ended and are not committed yet."""
        return bool(self.leading or self.finished or self.in_hand)

    def unbegun(self) -> list[tuple[Leased, Body]]:
        """Return the bodies that were taken and not begun. The lock is held."""
        return [*self.ready, *([self.aside] if self.aside is not None else [])]

    def take_in(self, runs: Iterable[tuple[Leased, Body]], suspicion: int) -> None:
        """Have bodies begun that were taken; one that was lost so often waits aside. The lock is held."""
        for leased, body in runs:
            self.in_hand.add(leased.hold)
            if leased.lost >= suspicion:
                self.suspects.add(leased.hold)
                self.aside = leased, body
            else:
                self.ready.append((leased, body))

    def let_go(self, holds: Collection[Hold]) -> None:
        """Forget messages that are done with; a suspect is begun once it is alone. The lock is held."""
        self.in_hand.difference_update(holds)
        self.suspects.difference_update(holds)
        if self.aside is not None and len(self.in_hand) == 1:
            self.ready.append(self.aside)
            self.aside = None

    def post(self, write: Callable[[Connection], Any]) -> Reply[None] | None:
        """Have something written by the next commit; None when there may be none, or not soon."""
        with self.changed:
            if not (self.hired and self.workers) or self.trouble is not None:
                return None
            letter = Letter(write, Reply())
            self.letters.append(letter)
            self.changed.notify()
            return letter.reply

    def take_all(self) -> tuple[list[Finished], list[Letter]]:
        """Return every finished body and every letter. The lock is held."""
        batch, letters = list(self.finished), list(self.letters)
        self.finished.clear()
        self.letters.clear()
        return batch, letters

    def give_up(self) -> None:
        """Begin nothing more and forget what was not committed: the store is damaged."""
        with self.changed:
            self.hired = 0
            self.aside = None
            for letter in self.letters:
                letter.answer(self.trouble)
            for left in (self.letters, self.finished, self.ready, self.hooks, self.in_hand, self.suspects):
                left.clear()
            self.changed.notify_all()
            self.calm.notify_all()
            self.tick.notify()

    def put_back(self, batch: Iterable[Finished], pause: float) -> None:
        """Keep finished bodies that could not be committed, and let nobody lead for `pause` seconds."""
        with self.changed:
            self.finished.extendleft(reversed(list(batch)))
            self.retry_at = time.monotonic() + pause
            self.dirty = True
            self.leading = False
            self.changed.notify()
