"""The reference model: section 2 of patterns.md, told as simply as can be, without one line of the engine.

It is told what happens (an outcome reaches a join, a body ends, somebody cancels) and says what has to follow at once,
as tuples in `said`; the monitor compares these with what the engine recorded. What happens when is the engine's
choice, so the model needs no clock and no queue: what an edge says stays in `flight` until the engine delivers it,
and at rest nothing may be in flight. Runs are named as their rows are: `s3`, `s3#2`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulate.plan import Flow, Stage

LIVE, DEAD, HALT = "LIVE", "DEAD", "HALT"
COMPLETE = {"SUCCEEDED", "FAILED_CONTINUE", "SKIPPED", "STOPPED", "CANCELED", "TERMINAL"}
OPEN = {"RUNNING", "SUSPENDED", "PAUSED", "REDIRECT"}
ATTEMPTS = 3

Said = tuple[object, ...]


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


@dataclass
class Run:
    """One activation of a stage: a row."""

    name: str
    ref: str
    generation: int
    status: str = "NOT_STARTED"
    ready: bool = False  # activated, and nothing has become of it yet
    bypassed: bool = False  # SKIPPED, but its thread went on
    task: int = 0  # which of its tasks it is at
    attempt: int = 0  # bodies of that task
    at_work: bool = False  # the last of them has not ended
    polling: bool = False
    retries: int = 0
    soft: bool = False
    target: str = ""  # of a jump that is under way
    sees: frozenset[tuple[str, int, int]] = frozenset()  # what led here put out: ref, generation, output
    output: int | None = None


@dataclass
class Place:
    """One stage of a workflow: what has come to it, how often it fired, how often it spoke."""

    plan: Stage
    generation: int = 0
    fired: int = 0
    sent: int = 0
    got: dict[tuple[str, int], Word] = field(default_factory=dict)  # by upper end and number
    settled: set[int] = field(default_factory=set)  # rounds that fired, were pruned or blocked


class Case:
    """One workflow."""

    def __init__(self, flow: Flow) -> None:
        self.name = flow.name
        self.max_jumps = flow.max_jumps
        self.places = {stage.ref: Place(stage) for stage in flow.stages}
        self.below = {ref: [s.ref for s in flow.stages if ref in s.after] for ref in self.places}
        self.runs = {ref: Run(ref, ref, 0) for ref in self.places}
        self.flight: dict[Edge, Word] = {}
        self.roots: set[str] = set()  # stages without requisites that are still to be started
        self.kept: dict[tuple[str, int], list[str]] = {}  # persistent signals, by run and generation
        self.status = "NOT_STARTED"
        self.ending = ""
        self.jumps = 0
        self.cancels = False
        self.said: list[Said] = []

    def say(self, *what: object) -> None:
        self.said.append(what)

    # What happens to a workflow.

    def start(self) -> None:
        if self.status == "NOT_STARTED":
            self.status = "RUNNING"
            self.say("workflow", "started")
            self.roots = {ref for ref, place in self.places.items() if not place.plan.after}

    def begin(self, ref: str) -> None:
        """A stage without requisites is to start."""
        if ref in self.roots and not self.ending:
            self.roots.discard(ref)
            run = self.runs[ref]
            if run.status == "NOT_STARTED" and not run.ready:
                self.enter(run)

    def pause(self) -> None:
        if self.status == "RUNNING" and not self.ending:
            self.status = "PAUSED"
            self.say("workflow", "paused")

    def resume(self) -> None:
        if self.status == "PAUSED":
            self.status = "RUNNING"
            self.say("workflow", "resumed")
            for run in self.runs.values():
                if run.status == "PAUSED":
                    run.status = "RUNNING"
                    self.say("resumed", run.name)

    def cancel_workflow(self) -> None:
        if self.status in COMPLETE or self.ending == "CANCELED":
            return
        if self.status == "NOT_STARTED":
            self.say("workflow", "started")
        if self.status == "PAUSED":
            self.say("workflow", "resumed")
        self.status = "RUNNING"
        self.ending = "CANCELED"
        self.say("workflow", "ending", "CANCELED")
        for run in list(self.runs.values()):
            self.withdraw(run)

    def complete(self) -> None:
        """The engine finds that nothing is left to do."""
        if self.status == "RUNNING" and not self.unfinished():
            self.status = self.verdict()
            for (name, _), signals in self.kept.items():
                for signal in signals:
                    self.say("dropped", name, signal)
            self.say("workflow", "ended", self.status)

    # 2.8 When a workflow ends, and how.

    def unfinished(self) -> list[str]:
        """Return what still has to happen, in words."""
        left = [f"{run.name} is {run.status}" for run in self.runs.values() if run.status in OPEN]
        if not self.ending:
            left += [f"{edge} is under way" for edge in self.flight]
            left += [f"{ref} is to be started" for ref in self.roots]
            left += [f"{run.name} is ready" for run in self.runs.values() if run.ready]
        return left

    def verdict(self) -> str:
        if self.ending:
            return self.ending
        if any(self.holds_a_thread(place) for place in self.places.values()):
            return "TERMINAL"
        if any(run.status == "STOPPED" and self.plan(run).on_failure == "late" for run in self.runs.values()):
            return "TERMINAL"
        arrived = {"SUCCEEDED", "FAILED_CONTINUE"}
        ends = [run for run in self.runs.values() if not self.below[run.ref]]
        if self.cancels and not any(run.status in arrived or run.bypassed for run in ends):
            return "CANCELED"
        return "SUCCEEDED"

    def holds_a_thread(self, place: Place) -> bool:
        """Whether a stage got a thread, has never run, and has not said that it never will."""
        if place.fired or place.sent:
            return False
        return any(word.outcome == LIVE for (_, number), word in place.got.items() if number not in place.settled)

    # 2.1 Edges and their outcomes.

    def plan(self, run: Run) -> Stage:
        return self.places[run.ref].plan

    def end(self, run: Run, status: str, outcome: str) -> None:
        """A run ends; with an outcome its edges speak."""
        run.status = status
        run.ready = run.at_work = run.polling = False
        if run.name == run.ref:
            self.places[run.ref].fired = self.places[run.ref].fired or 1
        dead = self.not_taken(run) if outcome == LIVE else []
        self.say("ended", run.name, status, outcome, *sorted(dead))
        if outcome:
            self.speak(run.ref, run.name, outcome, dead)

    def speak(self, ref: str, source: str, outcome: str, dead: list[str]) -> None:
        place = self.places[ref]
        for _ in range(place.plan.thread_split):
            place.sent += 1
            for below in self.below[ref]:
                edge = Edge(ref, place.generation, below, place.sent)
                self.flight[edge] = Word(DEAD if below in dead else outcome, source)

    # 2.5 Splits.

    def not_taken(self, run: Run) -> list[str]:
        stage, below = self.plan(run), self.below[run.ref]
        if stage.split == "AND":
            return []
        true = [ref for ref, condition in stage.when if is_true(condition, run.output)]
        if stage.split == "XOR":
            taken = true[:1]
        else:
            free = [ref for ref in below if ref not in dict(stage.when) and ref != stage.default]
            taken = true + free
        if not taken and stage.default:
            taken = [stage.default]
        return [ref for ref in below if ref not in taken]

    # 2.2 Rounds and joins.

    def deliver(self, edge: Edge) -> None:
        """An outcome reaches its join; while the workflow is ending it has no effect."""
        word = self.flight.pop(edge, None)
        if word is None:
            return
        self.say("token", edge.below, edge.number, edge.above, word.source, word.outcome, bool(self.ending))
        if not self.ending:
            place = self.places[edge.below]
            place.got[edge.above, edge.number] = word
            self.judge(place, edge.number, word)

    def judge(self, place: Place, number: int, word: Word) -> None:
        if number in place.settled:
            return
        words = [place.got[above, number] for above in place.plan.after if (above, number) in place.got]
        if place.plan.join == "MULTI_MERGE" and word.outcome == LIVE:
            self.fire(place, [word])
            return
        match verdict(place.plan, [each.outcome for each in words]):
            case "fire":
                place.settled.add(number)
                self.fire(place, [each for each in words if each.outcome == LIVE])
            case "fail":
                place.settled.add(number)
                run = self.activate(place, [each for each in words if each.outcome == LIVE])
                self.set_out(run)
                self.fail(run)
            case "prune":
                self.pass_on(place, number, DEAD)
            case "block":
                self.pass_on(place, number, HALT)

    def pass_on(self, place: Place, number: int, outcome: str) -> None:
        """A round ends without a run: the stage says so to those below."""
        place.settled.add(number)
        ref = place.plan.ref
        if outcome == DEAD and not place.fired:
            self.end(self.runs[ref], "SKIPPED", DEAD)
        else:
            self.say("passed", ref, outcome)
            self.speak(ref, ref, outcome, [])

    # 2.3 Activations.

    def fire(self, place: Place, words: list[Word]) -> None:
        self.enter(self.activate(place, words))

    def activate(self, place: Place, words: list[Word]) -> Run:
        ref = place.plan.ref
        place.fired += 1
        if place.fired > 1:
            name = f"{ref}#{place.fired}"
            self.runs[name] = Run(name, ref, place.generation)
        run = self.runs[ref if place.fired == 1 else f"{ref}#{place.fired}"]
        run.ready = True
        sources = [self.runs[word.source] for word in words]
        run.sees = seen_by(sources)
        self.say("fired", run.name, *sorted(source.name for source in sources))
        return run

    def enter(self, run: Run) -> None:
        """An activation starts unless something stands in its way."""
        if not self.plan(run).enabled:
            run.bypassed = True
            self.end(run, "SKIPPED", LIVE)
            return
        self.set_out(run)
        if not self.plan(run).tasks:
            self.end(run, "SUCCEEDED", LIVE)

    def set_out(self, run: Run) -> None:
        run.status = "RUNNING"
        run.ready = False
        place = self.places[run.ref]
        place.fired = place.fired or 1
        self.say("started", run.name)

    # Bodies.

    def find(self, name: str, generation: int | None) -> Run | None:
        run = self.runs.get(name)
        return run if run is not None and generation in (None, run.generation) else None

    def call(self, name: str, generation: int | None, task: int) -> bool:
        """A task is due; return whether its body is begun."""
        run = self.find(name, generation)
        if run is None or run.status != "RUNNING" or task != run.task:
            return False
        if self.status == "PAUSED":
            run.status, run.at_work = "PAUSED", False
            self.say("paused", name)
            return False
        run.attempt += 1
        run.at_work, run.polling = True, False
        self.say("called", name, task, run.attempt)
        return True

    def finish(self, name: str, generation: int, task: int, attempt: int, answer: str, number: int) -> bool:
        """A body ends; return whether its answer counts."""
        run = self.find(name, generation)
        if run is None or not self.wants(name, generation, task, attempt):
            self.say("discarded", name)
            return False
        run.at_work = False
        kind, _, target = answer.partition(":")
        if self.ending and kind in ("poll", "wait", "jump"):
            self.withdraw(run)
            return True
        match kind:
            case "poll":
                run.polling = True
                self.say("polled", name)
            case "wait":
                self.suspend(run)
            case "retry" if run.retries + 1 < ATTEMPTS:
                run.retries += 1
                self.say("retried", name)
            case "jump":
                run.status, run.target = "REDIRECT", target
                self.say("task", name, task, "REDIRECT")
            case _:
                self.task_over(run, kind, number)
        return True

    def wants(self, name: str, generation: int, task: int, attempt: int) -> bool:
        """Whether a body is the one whose answer is waited for."""
        run = self.find(name, generation)
        return (
            run is not None
            and run.status == "RUNNING"
            and (run.task, run.attempt, run.at_work) == (task, attempt, True)
        )

    def task_over(self, run: Run, kind: str, number: int) -> None:
        status = {"ok": "SUCCEEDED", "soft": "FAILED_CONTINUE", "skip": "SKIPPED", "stop": "STOPPED"}
        self.say("task", run.name, run.task, status.get(kind, "TERMINAL"))
        last = run.task + 1 == self.plan(run).tasks
        run.task += 1
        run.attempt = run.retries = 0
        if kind in ("ok", "soft"):
            run.output = number
            run.soft = run.soft or kind == "soft"
            if last:
                self.end(run, "FAILED_CONTINUE" if run.soft else "SUCCEEDED", LIVE)
        elif kind == "skip":
            run.bypassed = True
            self.end(run, "SKIPPED", LIVE)
        elif kind == "stop":
            self.end(run, "STOPPED", HALT)
        else:
            self.fail(run)

    def time_out(self, name: str, generation: int | None) -> None:
        """The time of a run is over."""
        run = self.find(name, generation)
        if run is None or run.status not in OPEN:
            return
        if run.status != "RUNNING":
            self.say("resumed", name)
        task = run.task + (run.status == "REDIRECT")
        if task < self.plan(run).tasks:
            self.say("task", name, task, "TERMINAL")
        self.fail(run)

    # 2.9 Failure.

    def fail(self, run: Run) -> None:
        match self.plan(run).on_failure:
            case "continue":
                self.end(run, "FAILED_CONTINUE", LIVE)
            case "stop" | "late":
                self.end(run, "STOPPED", HALT)
            case _:
                self.end(run, "TERMINAL", "")
                if not self.ending:
                    self.ending = "TERMINAL"
                    self.say("workflow", "ending", "TERMINAL")
                    for other in list(self.runs.values()):
                        if other.status in ("SUSPENDED", "PAUSED", "REDIRECT") or other.polling:
                            self.withdraw(other)

    # 2.7 Withdrawing work.

    def withdraw(self, run: Run, outcome: str = "") -> None:
        if run.status in COMPLETE:
            return
        if run.attempt and run.status != "REDIRECT":
            self.say("on_cancel", run.name)
        if run.name == run.ref and not self.places[run.ref].fired:
            self.places[run.ref].settled.add(1)
        self.end(run, "CANCELED", outcome)

    def cancel(self, name: str) -> None:
        """CancelStage (WCP-19)."""
        run = self.runs.get(name)
        if run is None or run.status in COMPLETE or self.status in COMPLETE:
            return
        self.cancels = True
        blocked = run.status == "NOT_STARTED" and not run.ready and self.places[run.ref].sent
        self.withdraw(run, "" if blocked else HALT)

    # 2.6 Jumps and resets.

    def leap(self, name: str, generation: int | None) -> None:
        """Carry out the jump that a body asked for."""
        run = self.find(name, generation)
        if run is None or run.status != "REDIRECT":
            return
        if run.target not in self.places or self.jumps >= self.max_jumps:
            self.say("resumed", name)
            self.fail(run)
            return
        self.jumps += 1
        self.say("jumped", name, run.target, self.jumps)
        region = self.region(run.target)
        put_back = self.reset(region, leaving=run)
        sources = [word for edge, word in put_back.items() if edge.below == run.target and edge.number == 1]
        sources = [word for word in sources if word.outcome == LIVE]
        if run.ref not in region:
            self.end(run, "SUCCEEDED", DEAD)
            sources.append(Word(LIVE, run.name))
        self.places[run.target].settled.add(1)
        self.roots.discard(run.target)
        self.fire(self.places[run.target], sources)

    def region(self, ref: str) -> set[str]:
        """Return a stage and everything reachable from it."""
        found = {ref}
        for other, place in self.places.items():
            if found & {*place.plan.after}:
                found.add(other)
        return found

    def reset(self, region: set[str], leaving: Run) -> dict[Edge, Word]:
        """Put stages back to before they ran; return what had come to them from outside: it comes again."""
        inside = [run for run in self.runs.values() if run.ref in region]
        for run in inside:
            if run.status in OPEN and run is not leaving:
                self.withdraw(run)
            if run.name != run.ref:
                self.say("retired", run.name)
                del self.runs[run.name]
        put_back = {
            Edge(above, self.places[above].generation, ref, number): word
            for ref in region
            for (above, number), word in self.places[ref].got.items()
            if above not in region
        }
        self.flight = {edge: word for edge, word in self.flight.items() if edge.above not in region} | put_back
        for ref in region:
            generation = self.places[ref].generation + 1
            self.places[ref] = Place(self.places[ref].plan, generation)
            self.runs[ref] = Run(ref, ref, generation)
            self.say("reset", ref, generation)
        return put_back

    # WCP-23, WCP-24: signals.

    def signal(self, name: str, signal: str, *, persistent: bool) -> None:
        run = self.runs.get(name)
        if run is None:
            return
        if run.status == "SUSPENDED":
            run.status = "RUNNING"
            self.say("delivered", name, signal)
        elif persistent and run.status not in COMPLETE and self.status not in COMPLETE:
            self.kept.setdefault(self.box(run), []).append(signal)
            self.say("kept", name, signal)
        else:
            self.say("dropped", name, signal)

    def suspend(self, run: Run) -> None:
        run.status = "SUSPENDED"
        self.say("suspended", run.name)
        kept = self.kept.get(self.box(run))
        if kept:
            run.status = "RUNNING"
            self.say("delivered", run.name, kept.pop(0))

    @staticmethod
    def box(run: Run) -> tuple[str, int]:
        """Signals of a stage outlive its resets, those of further activations do not."""
        return run.name, 0 if run.name == run.ref else run.generation

    # What must be so when nothing moves.

    def complaints(self) -> Iterator[str]:
        """Say what should have happened by now and did not."""
        if self.status in COMPLETE or self.status == "NOT_STARTED":
            return
        if self.status == "RUNNING" and not self.unfinished():
            yield "the workflow should have ended"
        yield from (
            f"{run.name} is {run.status}" for run in self.runs.values() if run.status in ("RUNNING", "REDIRECT")
        )
        if not self.ending:
            yield from (f"{word} on {edge} was never delivered" for edge, word in self.flight.items())
            yield from (f"{ref} was never started" for ref in self.roots)


def verdict(stage: Stage, outcomes: list[str]) -> str:
    """Say what a round does that has not fired (the table of 2.2)."""
    live, halt = outcomes.count(LIVE), outcomes.count(HALT)
    pending = len(stage.after) - len(outcomes)
    needed = stage.threshold or len(stage.after)
    match stage.join:
        case "DISCRIMINATOR" if live:
            return "fire"
        case "N_OF_M" if live >= needed:
            return "fire"
        case "N_OF_M" if live and live + pending < needed:
            return "block" if halt else "fail"
        case "OR" if live and not pending:
            return "fire"
        case "AND" if live and not pending and not halt:
            return "fire"
    if pending or (stage.join == "MULTI_MERGE" and live):
        return "wait"
    return "block" if halt else "prune"


def is_true(condition: str, output: int | None) -> bool:
    """Judge a condition; a name that is not defined compares as false."""
    if condition in ("true", "false"):
        return condition == "true"
    if output is None:
        return False
    return output < 2 if condition == "pass<2" else output >= 2


def seen_by(sources: list[Run]) -> frozenset[tuple[str, int, int]]:
    """Return what a run sees whose threads came from these: their outputs and all that they saw (2.4)."""
    own = {(source.ref, source.generation, source.output) for source in sources if source.output is not None}
    return frozenset(own).union(*(source.sees for source in sources))
