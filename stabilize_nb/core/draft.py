"""A decision being written: reads, facts already applied, messages to send and bodies to run.

A Draft is local to one call of `decide`, which stays a pure function of its arguments.
"""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from typing import TYPE_CHECKING, Any

from stabilize_nb.core.evolve import evolve
from stabilize_nb.core.rows import activation_id, only_arrival
from stabilize_nb.core.view import (
    ArrivalKey,
    Arrivals,
    ClaimKey,
    NotLoaded,
    RoundKey,
    Rows,
    Unfinished,
    View,
)
from stabilize_nb.models.priority import priority_in
from stabilize_nb.models.record import named_record, record
from stabilize_nb.models.status import OPEN, WorkflowStatus
from stabilize_nb.queue.messages import RunTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stabilize_nb.core.facts import Fact
    from stabilize_nb.core.rows import ArrivalRow, ClaimRow, Head, RoundRow, StageRow, TaskRow
    from stabilize_nb.models.stage import Upstream
    from stabilize_nb.queue.messages import Message, StageMessage


@named_record
class Limits:
    """Bounds that the engine sets; times are ms."""

    jumps: int = 10
    attempts: int = 10
    backoff_min: int = 1_000
    backoff_max: int = 60_000
    jitter: float = 0.25
    deaths: int = 3  # of the process of one body, before it is given up


@named_record
class Env:
    """What a decision may know besides rows: the time (ms since the epoch, UTC), bounds, and free workers."""

    now: int
    limits: Limits = field(default_factory=Limits)
    slots: int = 0  # bodies that may be begun at once in threads
    runnable: frozenset[str] = frozenset()  # task names whose bodies run in threads here
    coroutines: frozenset[str] = frozenset()  # task names whose bodies wait on the event loop: they need no thread

    def with_slots(self, slots: int) -> Env:
        """Return it with other free workers; without any, coroutines are not begun either."""
        waiting = self.coroutines if slots else frozenset()
        return Env(now=self.now, limits=self.limits, slots=slots, runnable=self.runnable, coroutines=waiting)


class Purpose(Enum):
    """Why task code is run."""

    EXECUTE = "EXECUTE"  # the task itself
    ON_CANCEL = "ON_CANCEL"  # its clean-up after a withdrawal; best effort


@named_record
class Body:
    """Task code to run while no transaction is open; (task, generation, attempt) fences its result."""

    stage: StageRow
    task: TaskRow
    context: Mapping[str, Any]
    upstream: Mapping[str, tuple[Upstream, ...]]
    purpose: Purpose = Purpose.EXECUTE


@record
class Send:
    """A message to come; `after` is ms to wait before it may be taken."""

    message: Message
    after: int = 0


@record
class Decision:
    """What one message led to."""

    view: View
    facts: tuple[Fact, ...]
    sends: tuple[Send, ...]
    bodies: tuple[Body, ...]
    children: tuple[dict[str, Any], ...] = ()
    dead: str = ""  # why the message is a dead letter; nothing when it is done


class Draft:
    """The pen of a handler."""

    __slots__ = ("bodies", "children", "dead", "env", "facts", "sends", "view")

    def __init__(self, view: View, env: Env) -> None:
        self.view = view
        self.env = env
        self.facts: list[Fact] = []
        self.sends: list[Send] = []
        self.bodies: list[Body] = []
        self.children: list[dict[str, Any]] = []
        self.dead = ""

    @property
    def head(self) -> Head:
        """The workflow as it is after the facts so far."""
        return self.view.head

    def find(self, stage_id: str) -> StageRow | None:
        """Return a stage row, or None when the workflow has none of that id (any more)."""
        row: StageRow | None = self.view.stage(stage_id)
        return row

    def stage(self, stage_id: str) -> StageRow:
        """Return a stage row that is known to exist."""
        row: StageRow = self.view.stage(stage_id)
        return row

    def stages(self, ids: Iterable[str]) -> list[StageRow]:
        """Return several stage rows, asking for all that are missing at once; ids without a row are left out."""
        wanted = tuple(ids)
        missing = self.view.missing(wanted)
        if missing:
            raise NotLoaded(Rows(missing))
        return [row for row in map(self.find, wanted) if row is not None]

    def task(self, stage_id: str, position: int) -> TaskRow:
        """Return a task row."""
        row: TaskRow = self.view.task(stage_id, position)
        return row

    def round(self, base: StageRow, number: int) -> RoundRow | None:
        """Return the counters of a round of the stage's present generation."""
        row: RoundRow | None = self.view.get(RoundKey(base.id, base.generation, number))
        return row

    def arrival(self, base: StageRow, number: int, via: str) -> ArrivalRow | None:
        """Return the `number`-th outcome of the edge from `via`, or None while it is pending."""
        if base.via == via and number == 1:
            return only_arrival(base)
        row: ArrivalRow | None = self.view.get(ArrivalKey(base.id, base.generation, number, via))
        return row

    def arrivals(self, base: StageRow, number: int) -> list[ArrivalRow]:
        """Return the outcomes of a round (0: of all rounds) of the stage's present generation, but those held back."""
        return [row for row in self.all_arrivals(base, number) if not row.held]

    def all_arrivals(self, base: StageRow, number: int = 0) -> list[ArrivalRow]:
        """Return the outcomes of a round, or of all rounds, those held back among them."""
        here = (base.id, base.generation)
        found: list[ArrivalRow] = self.view.members(
            Arrivals(*here, number), "arrival", lambda row: row[:2] == here and number in (0, row.number)
        )
        only = only_arrival(base)
        return found if only is None or number > 1 else [only, *found]

    def claim(self, name: str) -> ClaimRow | None:
        """Return a claim, or None while nobody wants it."""
        row: ClaimRow | None = self.view.get(ClaimKey(name))
        return row

    def runs(self, base: StageRow) -> list[StageRow]:
        """Return all runs of a stage: its first row and those of its further activations."""
        further = (activation_id(base, number) for number in range(2, base.fired + 1))
        return [base, *self.stages(further)]

    def open_stages(self) -> list[StageRow]:
        """Return the rows that hold the workflow open."""
        return self.view.members(Unfinished(all=False), "stage", lambda row: row.status in OPEN)

    def current_task(self, row: StageRow) -> TaskRow | None:
        """Return the task at which a row stands: the first that has not ended."""
        for position in range(len(row.spec.tasks)):
            task = self.task(row.id, position)
            if not task.status.is_complete and task.status is not WorkflowStatus.REDIRECT:
                return task
        return None

    def is_current(self, message: StageMessage, row: StageRow | None) -> bool:
        """Whether a message still speaks of the row as it is."""
        return row is not None and message.generation in (None, row.generation)

    def record(self, fact: Fact) -> None:
        """Let something have happened."""
        evolve(self.view, fact, self.env.now)
        self.facts.append(fact)

    def send(self, message: Message, after: int = 0) -> None:
        """Order something, `after` ms from now."""
        self.sends.append(Send(message, after))

    def call(self, row: StageRow, task: TaskRow, after: int = 0, permit: int = 0) -> None:
        """Order the body of a task to be run, `after` ms from now; `permit`: under its limit, if it has it already."""
        message = RunTask(
            execution_id=self.head.id,
            stage_id=row.id,
            generation=row.generation,
            position=task.position,
            task_type=task.implementing_class,
            permit=permit,
            priority=priority_in(row.context) + priority_in(self.head.context),
        )
        self.send(message, after)

    def begin_workflow(self, definition: dict[str, Any]) -> None:
        """Have a child workflow stored and started with the commit."""
        self.children.append(definition)

    def bury(self, reason: str) -> None:
        """Make a dead letter of the message: it is processed again when somebody puts it back."""
        self.dead = reason

    def run(self, body: Body) -> None:
        """Have task code run once no transaction is open."""
        self.bodies.append(body)
