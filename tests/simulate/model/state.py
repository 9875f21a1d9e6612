"""What there is: workflows, stages, runs, what edges have said, who holds what."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulate.plan import Flow, Stage

LIVE, DEAD, HALT = "LIVE", "DEAD", "HALT"
COMPLETE = frozenset({"SUCCEEDED", "FAILED_CONTINUE", "SKIPPED", "STOPPED", "CANCELED", "TERMINAL"})
OPEN = frozenset({"RUNNING", "SUSPENDED", "PAUSED", "REDIRECT"})
BEFORE, AFTER, FAILURE = "STAGE_BEFORE", "STAGE_AFTER", "STAGE_FAILURE"
#: After so many failures of the kind that may be mended a task is given up.
ATTEMPTS = 3

Said = tuple[object, ...]
#: Who holds a lock: a workflow, and a run and its generation (0 where resets do not count), or a section and -1.
Holder = tuple[str, str, int]


@dataclass(frozen=True)
class Word:
    """What an edge says: an outcome, and the run whose end said it."""

    outcome: str
    source: str


@dataclass(frozen=True)
class Edge:
    """The `number`-th outcome of an edge; a reset of its upper end makes another generation of them."""

    above: str
    generation: int
    below: str
    number: int


@dataclass(eq=False)
class Run:
    """One activation of a stage: a row."""

    name: str
    ref: str
    generation: int
    status: str = "NOT_STARTED"
    ready: bool = False  # activated, and nothing has become of it yet
    waits: str = ""  # a run that is ready: for its "milestone", "lock" or "choice"
    begun: bool = False
    outcome: str = ""  # what its edges said
    bypassed: bool = False  # SKIPPED, but its thread went on
    phase: str = ""  # which of its parts run
    is_late: bool = False  # its time was over, and what it has for a failure runs
    task: int = 0  # which of its tasks it is at
    attempt: int = 0  # bodies of that task
    at_work: bool = False  # the last of them has not ended
    polling: bool = False
    retries: int = 0
    soft: bool = False
    target: str = ""  # of a jump that is under way
    is_counted: bool = True
    child: str = ""  # workflow whose end it waits for
    led: tuple[str, ...] | None = None  # the runs whose threads led here
    sees: frozenset[tuple[str, int, int]] = frozenset()  # what led here put out: ref, generation, output
    output: int | None = None

    @property
    def is_first(self) -> bool:
        return self.name == self.ref


@dataclass
class Place:
    """One stage of a workflow: what has come to it, how often it fired, how often it spoke."""

    plan: Stage
    after: list[str]  # upper ends of its edges; instances are added to those of their join
    generation: int = 0
    fired: int = 0
    sent: int = 0
    got: dict[tuple[str, int], Word] = field(default_factory=dict)  # by upper end and number, in order of arrival
    settled: set[int] = field(default_factory=set)  # rounds that fired, were pruned or blocked
    merged: int = 0  # threads that a thread merge has used up
    made: list[str] = field(default_factory=list)  # instances made while the workflow runs
    closed: bool = False  # no further ones are
    absorbs: bool = False  # what would make its first run is absorbed: it was jumped to, or withdrawn before


@dataclass
class Lock:
    """A mutex of the store; who is passed it from the line holds it before having begun."""

    holder: Holder | None = None
    line: list[tuple[Run, Holder]] = field(default_factory=list)
    kept: bool = False  # for the moment nobody gives it back


@dataclass
class Choice:
    """A deferred choice: at most one member begins at a time, and the first that does more than wait wins."""

    beginner: Run | None = None
    winner: Run | None = None
    line: list[Run] = field(default_factory=list)


@dataclass(frozen=True)
class Caller:
    """The run that waits for the end of a child workflow."""

    case: str
    run: str
    generation: int


@dataclass
class Store:
    """What all workflows have in common."""

    cases: dict[str, Case] = field(default_factory=dict)
    locks: dict[str, Lock] = field(default_factory=dict)
    calls: list[Caller] = field(default_factory=list)  # whose child has ended, and nobody has told them


class Case:
    """One workflow of a store."""

    def __init__(self, name: str, flow: Flow, store: Store, caller: Caller | None = None) -> None:
        self.name = name
        self.caller = caller
        self.store = store
        store.cases[name] = self
        self.max_jumps = flow.max_jumps
        self.places = {stage.ref: Place(stage, [*stage.after]) for stage in flow.stages}
        self.below = {ref: [s.ref for s in flow.stages if ref in s.after] for ref in self.places}
        self.runs = {ref: Run(ref, ref, 0) for ref in self.places}
        self.flight: dict[Edge, Word] = {}
        self.roots: set[str] = set()  # stages without requisites that are still to be started
        self.kept: dict[tuple[str, int], list[str]] = {}  # persistent signals, by run and generation
        self.choices: dict[str, Choice] = {}
        self.status = "NOT_STARTED"
        self.ending = ""
        self.jumps = 0
        self.cancels = False  # CancelStage or CancelRegion took effect
        self.said: list[Said] = []
        self.patient: dict[str, str] = {}  # runs that take their time, and whether for a "lock" or a "choice"
        self.eager: set[str] = set()  # runs that start in this moment
        self.moved: list[tuple[Run, str]] = []  # who came to what status, and nobody has reacted to it

    def say(self, *what: object) -> None:
        self.said.append(what)

    def plan(self, run: Run) -> Stage:
        return self.places[run.ref].plan

    def find(self, name: str, generation: int | None) -> Run | None:
        """Return the run that a message speaks of, unless it was reset since."""
        run = self.runs.get(name)
        return run if run is not None and generation in (None, run.generation) else None

    def runs_of(self, ref: str) -> list[Run]:
        return [run for run in self.runs.values() if run.ref == ref]

    def parts(self, run: Run, *phases: str) -> list[str]:
        """Return the synthetic stages of a run that belong to some phases."""
        plans = (place.plan for place in self.places.values())
        return [plan.ref for plan in plans if run.is_first and plan.parent == run.ref and plan.owner in phases]

    def enter_phase(self, run: Run, phase: str) -> None:
        run.phase = phase
        self.moved.append((run, phase))

    def move(self, run: Run, status: str) -> None:
        run.status = status
        self.moved.append((run, status))

    def is_over(self, run: Run) -> bool:
        """Whether a run is complete, or blocked: it was not activated, and has said so to those below."""
        blocked = run.status == "NOT_STARTED" and run.is_first and not run.ready and self.places[run.ref].sent > 0
        return run.status in COMPLETE or blocked

    def region(self, ref: str) -> set[str]:
        """Return a stage and everything reachable from it."""
        found = {ref}
        for other, place in self.places.items():
            if found & {*place.plan.after, place.plan.parent}:
                found.add(other)
        return found
