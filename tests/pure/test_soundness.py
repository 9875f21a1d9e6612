"""What is found wrong with a graph before it is run, and that it is wrong in every run of a token game."""

from __future__ import annotations

from dataclasses import dataclass
from time import process_time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stabilize_nb.dag.soundness import Finding, check_soundness, contradictions, softened
from stabilize_nb.errors import InvalidWorkflowError
from stabilize_nb.flow import Flow, jump
from stabilize_nb.models.multi_instance import MultiInstanceConfig
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution, SyntheticStageOwner
from stabilize_nb.models.topology import check_topology
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.views import flow_bundle, workflow_bundle
from tests.makers import stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

J, X = JoinType, SplitType
LIVE, DEAD, HALT = "LIVE", "DEAD", "HALT"


# The token game: patterns.md 2.1 and 2.2 played over a graph, without jumps and without bodies.


class Script:
    """Decisions in the order in which they are asked for: first those given, then always the first option."""

    def __init__(self, given: list[int]) -> None:
        self.taken: list[tuple[int, int]] = []
        self._given = given

    def choose(self, options: int) -> int:
        at = len(self.taken)
        pick = self._given[at] if at < len(self._given) else 0
        self.taken.append((pick, options))
        return pick


def scripts(play: Callable[[Script], Any], most: int) -> Iterator[Any]:
    """Play with every script there is, or with `most` of them."""
    given: list[int] | None = []
    while given is not None and most > 0:
        script = Script(given)
        yield play(script)
        most -= 1
        taken = script.taken
        while taken and taken[-1][0] + 1 >= taken[-1][1]:
            taken.pop()
        given = [pick for pick, _ in taken[:-1]] + [taken[-1][0] + 1] if taken else None


@dataclass(eq=False)
class Row:
    """One activation of a stage."""

    ref: str
    status: str = "NOT_STARTED"


class Game:
    """One run of a graph, as a script decides: which body ends next, what is true, who wins, what breaks off."""

    def __init__(self, stages: list[StageExecution], script: Script, *, stops: bool = False) -> None:
        self.stages = {each.ref_id: each for each in stages}
        self.choose = script.choose
        self.stops = stops
        self.ran: set[str] = set()
        self.rows: dict[str, list[Row]] = {ref: [] for ref in self.stages}
        self.given: dict[str, int] = dict.fromkeys(self.stages, 0)
        self.over: dict[str, str] = {}  # stages that ended without a row: SKIPPED, CANCELED, BLOCKED
        self.rounds: dict[str, dict[int, list[str]]] = {ref: {} for ref in self.stages}
        self.settled: set[tuple[str, int]] = set()
        self.pool: dict[str, int] = dict.fromkeys(self.stages, 0)
        self.waiting: list[Row] = []
        self.locks: dict[str, object] = {}
        self.winner: dict[str, Row] = {}
        self.regions = {each.cancel_region for each in stages} - {None}
        self.ended = False

    def play(self) -> set[str]:
        for ref, each in self.stages.items():
            if not each.requisite_stage_ref_ids:
                self.fire(ref)
        while not self.ended and sum(map(len, self.rows.values())) < 60:
            self.wake()
            events: list[Any] = [
                row for rows in self.rows.values() for row in rows if row.status in {"RUNNING", "OFFER"}
            ]
            if not events:
                break
            events += sorted(self.regions)
            event = events[self.choose(len(events))]
            if isinstance(event, str):
                self.cancel_region(event)
            else:
                self.complete(event)
        return self.ran

    # -- starting

    def fire(self, ref: str) -> None:
        row = Row(ref)
        self.rows[ref].append(row)
        self.enter(row)

    def wake(self) -> None:
        again = True
        while again:
            waiting, self.waiting = self.waiting, []
            for row in waiting:
                self.enter(row)
            again = len(self.waiting) < len(waiting)

    def enter(self, row: Row) -> None:
        each = self.stages[row.ref]
        group = each.deferred_choice_group
        if row.status != "NOT_STARTED" or self.ended:
            return
        if group in self.winner and self.winner[group] is not row:
            self.end(row, "CANCELED", DEAD)
        elif each.context.get("stageEnabled", True) is False or (gate := self.gate(each)) == "PASSED":
            self.end(row, "SKIPPED", LIVE)
        elif gate == "WAIT" or not self.lock(row, each):
            self.waiting.append(row)
        else:
            row.status = "RUNNING"
            self.ran.add(row.ref)

    def status(self, ref: str) -> str:
        if self.rows[ref]:
            return self.rows[ref][0].status
        return self.over.get(ref, "NOT_STARTED")

    def gate(self, each: StageExecution) -> str:
        if each.milestone_ref_id is None:
            return "OPEN"
        until = each.milestone_until_ref_id
        if until and until in self.ran:
            return "PASSED"
        status = self.status(each.milestone_ref_id).replace("OFFER", "SUSPENDED")
        if status == each.milestone_status:
            return "OPEN"
        begun = status != "NOT_STARTED"
        is_complete = status not in {"NOT_STARTED", "RUNNING", "SUSPENDED"}
        return "PASSED" if is_complete or (begun and each.milestone_status == "NOT_STARTED") else "WAIT"

    def lock(self, row: Row, each: StageExecution) -> bool:
        if each.mutex_key is None:
            return True
        holder = each.critical_section or row
        return self.locks.setdefault(each.mutex_key, holder) is holder

    def unlock(self, each: StageExecution, row: Row | None) -> None:
        key, holder = each.mutex_key, each.critical_section or row
        if key is None or holder is None or self.locks.get(key) is not holder:
            return
        mates = [
            ref
            for ref, other in self.stages.items()
            if each.critical_section and (other.mutex_key, other.critical_section) == (key, each.critical_section)
        ]
        if all(self.is_over(ref) for ref in mates):
            del self.locks[key]

    def is_over(self, ref: str) -> bool:
        if not self.rows[ref]:
            return ref in self.over
        return all(row.status in {"SUCCEEDED", "STOPPED", "CANCELED", "SKIPPED", "TERMINAL"} for row in self.rows[ref])

    # -- ending

    def complete(self, row: Row) -> None:
        each = self.stages[row.ref]
        group = each.deferred_choice_group
        if group is not None and group not in self.winner:
            if row.status == "RUNNING" and self.choose(2):
                row.status = "OFFER"
                return
            self.winner[group] = row
            for ref, other in self.stages.items():
                if other.deferred_choice_group == group:
                    self.withdraw(ref, but=row)
        if self.stops and self.choose(2):
            self.end(row, "STOPPED", HALT)
        else:
            self.ended = each.ends_workflow is not None
            self.end(row, "SUCCEEDED", LIVE)

    def withdraw(self, ref: str, but: Row | None = None) -> None:
        for row in self.rows[ref]:
            if row is not but and row.status in {"NOT_STARTED", "RUNNING", "OFFER"}:
                self.end(row, "CANCELED", DEAD)
        if not self.rows[ref] and ref not in self.over:
            self.over[ref] = "CANCELED"
            self.settled.add((ref, 1))
            self.send(ref, DEAD)

    def cancel_region(self, region: str) -> None:
        self.regions.discard(region)
        for ref, each in self.stages.items():
            if each.cancel_region == region:
                self.withdraw(ref)

    def end(self, row: Row, status: str, token: str) -> None:
        row.status = status
        if row in self.waiting:
            self.waiting.remove(row)
        self.send(row.ref, token)
        self.unlock(self.stages[row.ref], row)

    def send(self, ref: str, token: str) -> None:
        each = self.stages[ref]
        heads = [other.ref_id for other in self.stages.values() if ref in other.requisite_stage_ref_ids]
        taken = self.taken(each, heads) if token == LIVE else heads
        for _ in range(each.thread_split):
            self.given[ref] += 1
            number = self.given[ref]
            for head in heads:
                self.arrive(head, number, token if head in taken else DEAD)

    def taken(self, each: StageExecution, heads: list[str]) -> list[str]:
        if each.split_type is X.AND:
            return heads
        truths = {head: self.truth(text) for head, text in each.split_conditions.items()}
        if each.split_type is X.XOR:
            found = [head for head, truth in truths.items() if truth][:1]
        else:
            found = [head for head in heads if truths.get(head, head != each.split_default)]
        return found or [each.split_default or ""]

    def truth(self, text: str) -> bool:
        return bool(self.choose(2)) if text == "x" else text == "True"

    # -- joins

    def arrive(self, ref: str, number: int, token: str) -> None:
        each = self.stages[ref]
        edges = len(each.requisite_stage_ref_ids)
        if each.thread_merge > 1:
            self.pool[ref] += token == LIVE
            seen = self.rounds[ref].setdefault(0, [])
            seen.append(token)
            if token == LIVE and self.pool[ref] % each.thread_merge == 0:
                self.fire(ref)
            elif LIVE not in seen and len(seen) == edges:
                self.pass_on(ref, HALT if HALT in seen else DEAD)
            return
        seen = self.rounds[ref].setdefault(number, [])
        seen.append(token)
        if (ref, number) in self.settled:
            return
        verdict = self.verdict(each, seen, edges)
        if verdict:
            if each.join_type is not J.MULTI_MERGE or verdict != "FIRE":
                self.settled.add((ref, number))
            self.act(ref, verdict)

    def act(self, ref: str, verdict: str) -> None:
        if verdict == "FIRE" and ref in self.over and not self.rows[ref]:
            self.pass_on(ref, DEAD)
        elif verdict == "FIRE":
            self.fire(ref)
        elif verdict == "FAIL":
            self.rows[ref].append(Row(ref, "TERMINAL"))
        else:
            self.pass_on(ref, verdict)

    def pass_on(self, ref: str, token: str) -> None:
        if not self.rows[ref]:
            self.over.setdefault(ref, "SKIPPED" if token == DEAD else "BLOCKED")
        self.send(ref, token)
        self.unlock(self.stages[ref], None)

    def verdict(self, each: StageExecution, seen: list[str], edges: int) -> str:
        live, pending = seen.count(LIVE), edges - len(seen)
        broken = HALT if HALT in seen else DEAD
        match each.join_type:
            case J.MULTI_MERGE:
                return "FIRE" if seen[-1] == LIVE else "" if pending or live else broken
            case J.DISCRIMINATOR:
                return "FIRE" if live else "" if pending else broken
            case J.N_OF_M:
                wanted = each.join_threshold or edges
                if live >= wanted:
                    return "FIRE"
                if live and live + pending < wanted:
                    return HALT if broken == HALT else "FAIL"
                return "" if pending else broken
            case J.AND:
                return "" if pending else "FIRE" if live and broken == DEAD else broken
            case J.OR:
                return "" if pending else "FIRE" if live else broken


def runs(stages: list[StageExecution], most: int, *, stops: bool = False) -> set[str]:
    """Return all that ran in any of `most` runs."""
    ran: set[str] = set()
    for each in scripts(lambda script: Game(stages, script, stops=stops).play(), most):
        ran |= each
    return ran


# Graphs for the game.


def refs(findings: Iterable[Finding]) -> set[str]:
    return {ref for finding in findings for ref in finding.stages}


@st.composite
def skeletons(draw, most: int = 7) -> list[StageExecution]:
    """Acyclic stages s0, s1, ... with at most three requisites each; some are chains with a few more edges."""
    stages = []
    is_chain = draw(st.booleans())
    for at in range(draw(st.integers(2, most))):
        before = draw(st.sets(st.integers(0, at - 1), max_size=3 - is_chain)) if at else set()
        before |= {at - 1} if at and is_chain else set()
        stages.append(stage(f"s{at}", *(f"s{other}" for other in before)))
    return stages


def followers(stages: list[StageExecution], ref: str) -> list[str]:
    return [each.ref_id for each in stages if ref in each.requisite_stage_ref_ids]


@st.composite
def constant_graphs(draw) -> list[StageExecution]:
    """XOR, AND and N_OF_M, where every condition is a constant: what runs is decided."""
    stages = draw(skeletons(9))
    for each in stages:
        heads = followers(stages, each.ref_id)
        fan_in = len(each.requisite_stage_ref_ids)
        if heads and draw(st.booleans()):
            each.split_type = X.XOR
            chosen = draw(st.lists(st.sampled_from(heads), unique=True))
            each.split_conditions = {head: draw(st.sampled_from(["True", "False"])) for head in chosen}
            each.split_default = draw(st.sampled_from([None, *heads]))
        if fan_in > 1 and draw(st.booleans()):
            each.join_type = J.N_OF_M
            each.join_threshold = draw(st.integers(0, fan_in))
    return stages


FEATURES = ("choice", "region", "lock", "milestone", "end", "threads", "skip")


@st.composite
def graphs(draw) -> list[StageExecution]:
    """All joins and splits, and some of the other features."""
    stages = draw(skeletons())
    features = draw(st.sets(st.sampled_from(FEATURES), max_size=2) | st.sets(st.sampled_from(FEATURES)))
    for each in stages:
        heads = followers(stages, each.ref_id)
        if heads and draw(st.booleans()):
            each.split_type = draw(st.sampled_from([X.OR, X.XOR]))
            chosen = draw(st.lists(st.sampled_from(heads), unique=True))
            each.split_conditions = {head: draw(st.sampled_from(["x", "x", "True", "False"])) for head in chosen}
            each.split_default = draw(st.sampled_from([None, *heads]))
        fan_in = len(each.requisite_stage_ref_ids)
        if fan_in > 1:
            each.join_type = draw(st.sampled_from([J.AND, *J]))
        if each.join_type is J.N_OF_M:
            each.join_threshold = draw(st.integers(0, fan_in))
        for feature in sorted(features):
            add(draw, each, feature, [other.ref_id for other in stages])
    return stages


def add(draw, each: StageExecution, feature: str, names: list[str]) -> None:
    """Give a stage the fields of a feature, or not."""
    if not draw(st.booleans()):
        return
    match feature:
        case "choice":
            each.deferred_choice_group = draw(st.sampled_from(["g", "h"]))
        case "region":
            each.cancel_region = "r"
        case "lock":
            each.mutex_key = "k"
            each.critical_section = draw(st.sampled_from([None, "c", "c", "d"]))
        case "milestone":
            each.milestone_ref_id = draw(st.sampled_from(names))
            each.milestone_status = draw(st.sampled_from(["SUCCEEDED", "RUNNING", "NOT_STARTED", "SKIPPED"]))
            each.milestone_until_ref_id = draw(st.sampled_from([None, None, *names]))
        case "end" if draw(st.integers(0, 3)) == 0:
            each.ends_workflow = "SUCCEEDED"
        case "threads":
            each.thread_split = draw(st.sampled_from([1, 2]))
            if len(each.requisite_stage_ref_ids) == 1 or each.join_type is J.MULTI_MERGE:
                each.thread_merge = draw(st.sampled_from([1, 2, 3]))
        case "skip":
            each.context["stageEnabled"] = False


@settings(max_examples=300)
@given(graphs(), st.booleans())
def test_what_is_said_never_to_run_runs_in_no_run(stages, stops):
    """No stage of a finding has its turn, whatever conditions, choices and the order of events are."""
    check_topology("game", stages)
    findings = check_soundness(stages)
    if stops:  # behind a join that never fires a branch that is broken off lets others pass
        findings = [finding for finding in findings if finding.rule not in {"dead_stage", "passed_milestone"}]

    assert not refs(findings) & runs(stages, 100, stops=stops), findings


@given(constant_graphs())
def test_what_never_runs_is_said(stages):
    """Where constants decide everything, exactly the stages that never run are found."""
    findings = check_soundness(stages)

    assert refs(findings) == {each.ref_id for each in stages} - runs(stages, 1)


# One graph for each rule.


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    stages: list[StageExecution]
    level: str
    rule: str
    refs: set[str]
    says: str
    edges: set[tuple[str, str]] | None = None


def split(ref: str, *after: str, kind: SplitType = X.XOR, default: str | None = None, **conditions: str):
    return stage(ref, *after, split_type=kind, split_conditions=conditions, split_default=default)


def section(ref: str, *after: str, name: str | None = "s", key: str = "k", **fields: Any):
    return stage(ref, *after, mutex_key=key, critical_section=name, **fields)


def waiting(ref: str, *after: str, on: str, status: str = "SUCCEEDED", until: str | None = None, **fields: Any):
    return stage(
        ref, *after, milestone_ref_id=on, milestone_status=status, milestone_until_ref_id=until, **fields
    )  # fmt: skip


def part(ref: str, of: StageExecution, **fields: Any):
    return stage(ref, parent_stage_id=of.id, synthetic_stage_owner=SyntheticStageOwner.STAGE_BEFORE, **fields)


def loop(condition: str, *, until: bool = False):
    config = {"condition": condition, "until": until, "max_iterations": 9}
    return [
        stage("l_entry", context={"_loop_config": config}),
        stage("body", "l_entry"),
        stage("l_exit", "body", "l_entry", context={"_loop_config": {**config, "entry": "l_entry"}}),
    ]


LOCKED = section("p")
CASES = [
    Case(
        name="branches of one choice cannot meet",
        stages=[
            split("a", x="n == 1", y="n == 2"), stage("x", "a"), stage("y", "a"), stage("z"),
            stage("j", "x", "y", "z", join_type=J.N_OF_M, join_threshold=3),
        ],
        level="contradiction", rule="starved_join", refs={"j"}, edges={("x", "j"), ("y", "j"), ("z", "j")},
        says="'j' can never start: it waits for 3 of its branches (x → j, y → j, z → j), and no more than 2",
    ),
    Case(
        name="members of one deferred choice cannot meet",
        stages=[
            stage("x", deferred_choice_group="g"), stage("y", deferred_choice_group="g"),
            stage("j", "x", "y", join_type=J.N_OF_M),
        ],
        level="contradiction", rule="starved_join", refs={"j"}, says="waits for 2 of its branches",
    ),
    Case(
        name="too few threads",
        stages=[stage("s", thread_split=2), stage("r", "s"), stage("m", "r", thread_merge=3)],
        level="contradiction", rule="starved_join", refs={"m"}, says="merges 3 threads, and no more than 2 can come",
    ),
    Case(
        name="a join out of reach of which the failure is tolerated",
        stages=[
            split("a", x="n == 1", y="n == 2"), stage("x", "a"), stage("y", "a"),
            stage("j", "x", "y", join_type=J.N_OF_M, context={"continuePipelineOnFailure": True}), stage("k", "j"),
        ],
        level="warning", rule="starved_join", refs={"j"}, says="'j' can never start",
    ),
    Case(
        name="behind a condition that is always false",
        stages=[split("a", kind=X.OR, b="False", z="n > 1"), stage("b", "a"), stage("c", "b"), stage("z", "a")],
        level="warning", rule="dead_stage", refs={"b", "c"}, edges={("a", "b"), ("b", "c")},
        says="stages 'b' and 'c' can never run: the way from 'a' to 'b' is never taken, because its condition 'False' "
        "is always false (a → b → c)",
    ),
    Case(
        name="behind a branch that is always taken first",
        stages=[split("a", b="True", c="n > 1"), stage("b", "a"), stage("c", "a")],
        level="warning", rule="dead_stage", refs={"c"}, says="another branch of the split is always taken first",
    ),
    Case(
        name="a branch that an XOR split does not know",
        stages=[split("a", b="n > 1"), stage("b", "a"), stage("c", "a")],
        level="warning", rule="dead_stage", refs={"c"}, says="this one has neither",
    ),
    Case(
        name="behind a join that never fires",
        stages=[
            stage("s"), stage("m", "s", thread_merge=2), stage("n", "m"), stage("z"), stage("o", "n", "z"),
        ],
        level="warning", rule="dead_stage", refs={"n", "o"}, says="nothing gets past 'm', which never starts (m → n",
    ),
    Case(
        name="a constant that decides",
        stages=[split("a", kind=X.OR, b="True"), stage("b", "a")],
        level="warning", rule="constant_condition", refs=set(), says="(a → b: 'True')",
    ),
    Case(
        name="conditions without a split",
        stages=[split("a", kind=X.AND, b="n > 1"), stage("b", "a")],
        level="warning", rule="ignored_condition", refs=set(), says="SplitType.AND takes every branch",
    ),
    Case(
        name="a milestone behind the stage that waits for it",
        stages=[waiting("r", on="m"), stage("s", "r"), stage("m", "s", "z"), stage("z")],
        level="contradiction", rule="endless_milestone", refs={"r"},
        says="'r' waits for 'm' to be SUCCEEDED, which follows 'r' (r → s → m)",
    ),
    Case(
        name="a milestone that is the stage itself",
        stages=[waiting("r", on="r")],
        level="contradiction", rule="endless_milestone", refs={"r"}, says="'r' waits for itself to be SUCCEEDED;",
    ),
    Case(
        name="milestones that wait for each other",
        stages=[waiting("p", on="q2"), stage("p2", "p"), waiting("q", on="p2"), stage("q2", "q")],
        level="contradiction", rule="endless_milestone", refs={"p", "q"}, says="which follows 'q' (q → q2)",
    ),
    Case(
        name="a milestone inside the stage that waits for it",
        stages=[whole := waiting("r", on="t"), part("t", whole)],
        level="contradiction", rule="endless_milestone", refs={"r"}, says="which follows 'r' (r → t)",
    ),
    Case(
        name="a milestone that never runs",
        stages=[split("a", m="False"), stage("m", "a"), waiting("r", on="m")],
        level="warning", rule="passed_milestone", refs={"r"}, says="'m' can never run",
    ),
    Case(
        name="a milestone that is over",
        stages=[stage("m"), stage("x", "m"), waiting("r", "x", on="m", status="RUNNING")],
        level="warning", rule="passed_milestone", refs={"r"}, says="'m' is always over by then (m → x → r)",
    ),
    Case(
        name="a window that is closed before",
        stages=[stage("u"), stage("m"), waiting("r", "u", on="m", until="u")],
        level="warning", rule="passed_milestone", refs={"r"}, says="its window is closed by 'u'",
    ),
    Case(
        name="a window that its own milestone closes",
        stages=[stage("m"), waiting("r", on="m", until="m")],
        level="warning", rule="passed_milestone", refs={"r"}, says="its window closes when 'm' starts",
    ),
    Case(
        name="a status that nobody sees",
        stages=[stage("m"), waiting("r", on="m", status="REDIRECT")],
        level="warning", rule="fleeting_milestone", refs=set(), says="wait for RUNNING or SUCCEEDED",
    ),
    Case(
        name="a lock that is held around the stage that needs it",
        stages=[section("b"), section("x", "b", name=None), stage("y", "x"), section("d", "y")],
        level="contradiction", rule="endless_lock", refs={"x"},
        says="the critical section 's' holds from 'b' until 'd' is over (b → x → y → d)",
    ),
    Case(
        name="a lock that another section needs",
        stages=[section("b"), section("c", "b", name="t"), section("d", "c")],
        level="contradiction", rule="endless_lock", refs={"c"}, says="give 'c' the same critical_section",
    ),
    Case(
        name="a lock that is held in some runs",
        stages=[
            split("a", b="n > 1", z="n < 1"), section("b", "a"), stage("z", "a"),
            section("x", "b", "z", name=None), section("d", "x"),
        ],
        level="warning", rule="endless_lock", refs=set(), says="'x' can never start once 'b' has run",
    ),
    Case(
        name="a lock that the stage around a synthetic stage holds",
        stages=[LOCKED, part("q", LOCKED, mutex_key="k")],
        level="contradiction", rule="endless_lock", refs={"q"}, says="'p' holds while its synthetic stages run",
    ),
    Case(
        name="behind the end",
        stages=[stage("e", ends_workflow="SUCCEEDED"), stage("f", "e")],
        level="warning", rule="after_the_end", refs={"f"}, edges={("e", "f")}, says="'f' cannot run after 'e'",
    ),
    Case(
        name="a choice without an alternative",
        stages=[stage("a", deferred_choice_group="g")],
        level="warning", rule="lone_choice", refs=set(), says="the only member of the deferred choice 'g'",
    ),
    Case(
        name="a choice between a stage and what follows it",
        stages=[stage("a", deferred_choice_group="g"), stage("b", "a"), stage("c", "b", deferred_choice_group="g")],
        level="warning", rule="lost_choice", refs={"c"}, says="has won by then (a → b → c)",
    ),
    Case(
        name="a region without stages",
        stages=[stage("a", cancels_regions={"r"})],
        level="warning", rule="empty_region", refs=set(), says="cancels the region 'r'",
    ),
    Case(
        name="stages that are over when they are cancelled",
        stages=[stage("a"), stage("b", "a", cancels_stages={"a", "b"})],
        level="warning", rule="late_cancellation", refs=set(), says="cancels stages 'a' and 'b'",
    ),
    Case(
        name="a loop that only its bound ends",
        stages=loop("True"),
        level="warning", rule="constant_loop", refs=set(), says="only max_iterations ends it, after 9 passes",
    ),
    Case(
        name="a loop that is none",
        stages=loop("1 == 1", until=True),
        level="warning", rule="constant_loop", refs=set(), says="its body runs once",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rule_names_what_is_wrong(case: Case):
    """The finding has its level, the stages and edges to draw red, and a sentence with the way."""
    check_topology("case", case.stages)
    found = [finding for finding in check_soundness(case.stages) if finding.rule == case.rule]

    assert [(finding.level, set(finding.stages)) for finding in found] == [(case.level, case.refs)]
    assert case.says in found[0].sentence
    assert case.edges in (None, set(found[0].edges))


# Graphs with which nothing is wrong.


def activity(**config: Any) -> list[StageExecution]:
    """A multi-instance activity of which the join waits for more instances than are written down."""
    return [
        stage("p", mi_config=MultiInstanceConfig(**config)),
        stage("p_instance_0", "p"),
        stage("p_mi_join", "p_instance_0", join_type=J.N_OF_M, join_threshold=3),
    ]


SOUND = {
    "an exclusive choice with an else": [split("a", x="n == 1", y="True"), stage("x", "a"), stage("y", "a")],
    "a multi-choice may take both": [
        split("a", kind=X.OR, x="n == 1", y="n == 2"), stage("x", "a"), stage("y", "a"),
        stage("j", "x", "y", join_type=J.N_OF_M),
    ],
    "several threads may choose differently": [
        stage("s", thread_split=2), split("a", "s", x="n == 1", y="n == 2"), stage("x", "a"), stage("y", "a"),
        stage("j", "x", "y", join_type=J.N_OF_M),
    ],
    "a member of a choice that may be passed over": [
        stage("x", deferred_choice_group="g", context={"stageEnabled": {"type": "expression", "expression": "n > 1"}}),
        stage("y", deferred_choice_group="g"), stage("j", "x", "y", join_type=J.N_OF_M),
    ],
    "instances that a run adds": activity(allow_dynamic=True, join_threshold=3),
    "a declared jump starts a stage": [
        split("a", b="n > 1", rescue="False"), stage("b", "a", jump_targets={"rescue"}), stage("rescue", "a"),
    ],
    "a loop gives a thread merge more threads": [
        stage("a"), stage("m", "a", thread_merge=2), stage("b", "a", jump_targets={"a"}),
    ],
    "a milestone beside": [stage("a"), waiting("r", "a", on="m", status="RUNNING"), stage("m", "a")],
    "a milestone behind that must not have begun": [waiting("r", on="m", status="NOT_STARTED"), stage("m", "r")],
    "a milestone behind another branch too": [
        waiting("r", on="m"), stage("z"), stage("m", "r", "z", join_type=J.DISCRIMINATOR),
    ],
    "a milestone that a jump can reach": [
        waiting("r", on="m"), stage("m", "r"), stage("z", jump_targets={"m"}),
    ],
    "a milestone behind a stage that can be cancelled": [
        waiting("r", on="m"), stage("p", "r", cancel_region="R"), stage("z"), stage("m", "p", "z"),
        stage("c", cancels_regions={"R"}),
    ],
    "a waiting stage that is switched off": [
        waiting("r", on="m", context={"stageEnabled": False}), stage("m", "r"),
    ],
    "sections one after the other": [section("b"), section("d", "b"), section("x", "d", name=None)],
    "sections side by side": [section("b"), section("d", "b"), section("c", name="t"), section("e", "c", name="t")],
    "a section with a stage without the key inside": [section("b"), stage("x", "b"), section("d", "x")],
    "a key used once": [section("b", name=None)],
    "an end beside": [stage("a"), stage("e", "a", ends_workflow="SUCCEEDED"), stage("b", "a")],
    "cancelling what may still run": [
        stage("a"), stage("b", "a"), stage("c", "a", cancels_stages={"b", "a"}, cancels_regions={"R"}),
        stage("d", cancel_region="R"),
    ],
    "a condition with a name": loop("n < 3"),
    "a cycle, which topology names": [stage("a", "b"), stage("b", "a")],
    "a name twice, which topology names": [stage("a"), stage("a")],
    "a condition that is none, which topology names": [split("a", b="n >"), stage("b", "a")],
    "nothing": [],
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_said_of_a_sound_graph(name: str):
    """What could be meant is not found fault with."""
    assert check_soundness(SOUND[name]) == ()


def test_contradictions_come_first_and_refuse():
    """A run is refused with the sentences of the contradictions alone, unless bodies may jump anywhere."""
    stages = [stage("a", cancels_regions={"r"}), stage("m", "a", thread_merge=2)]
    findings = check_soundness(stages)

    assert [finding.level for finding in findings] == ["contradiction", "warning"]
    assert contradictions(findings) == [findings[0].sentence]
    assert contradictions(softened(findings)) == []


def test_thousand_stages_cost_little_more_than_topology():
    """What is looked at when a run is started is in proportion to what is looked at when a workflow is made."""
    graph = [split("s0", s1="n > 1", s2="n > 2")]
    for at in range(1, 1_000):
        before = {f"s{at - 1}", f"s{max(0, at - 2)}"}
        each = section(f"s{at}", *before, key=f"k{at % 5}", name=f"c{at % 3}", join_type=J.N_OF_M)
        graph.append(waiting("m", on=f"s{(at * 7) % 1_000}") if at % 9 == 0 else each)
        graph[at].ref_id, graph[at].requisite_stage_ref_ids = f"s{at}", before

    assert quickest(lambda: check_soundness(graph)) < 20 * quickest(lambda: check_topology("graph", graph))


def quickest(function: Callable[[], Any]) -> float:
    """Return the seconds of processor time that the quickest of five calls takes."""
    took = []
    for _ in range(5):
        begun = process_time()
        function()
        took.append(process_time() - begun)
    return min(took)


# Flows.


def merging(draft: Callable[..., Any]) -> Flow:
    """Return a flow that waits for two branches of which it takes one."""
    flow = Flow("paper")
    flow.stage(name="draft", choose="one")(draft)
    flow.stage(name="long", when="draft > 1")(lambda: 1)
    flow.stage(name="short", after="draft", otherwise=True)(lambda: 1)
    flow.stage(name="review", join=2)(lambda long, short: long or short)
    return flow


def test_flow_refuses_a_run_for_a_contradiction():
    """What `check` returns as a contradiction is what `build` raises."""
    flow = merging(lambda: 1)

    assert [finding.rule for finding in flow.check()] == ["starved_join"]
    with pytest.raises(InvalidWorkflowError, match="'review' can never start: it waits for 2 of its branches"):
        flow.build()


def test_flow_whose_bodies_jump_is_run():
    """A jump may start any stage, so what is found is a warning."""

    def draft():
        def again():
            return jump("review")

        return again()

    flow = merging(draft)

    assert [finding.level for finding in flow.check()] == ["warning"]
    assert flow.build().stage_by_ref_id("review")


def test_flow_that_is_sound_has_no_findings():
    """Nothing is said of an approval between two stages."""
    flow = Flow("paper")
    flow.stage(name="draft")(lambda: 1)
    flow.approval("Good enough?", name="good", after="draft")
    flow.stage(name="publish")(lambda draft, good: draft)

    assert flow.check() == ()


def test_definition_shows_in_red_what_cannot_run_and_says_why():
    """The picture marks stage and edge, its description says it in words, and the reason stands under it."""
    flow = merging(lambda: 1)
    bundle = flow_bundle(flow)
    text = bundle["text/plain"].splitlines()

    assert "cannot run" in next(line for line in text if "review" in line)
    assert text[-1].startswith("✕ stage 'review' can never start: it waits for 2 of its branches")
    assert "✕ stage &#39;review&#39; can never start" in bundle["text/html"]
    assert "review not started (joins 2 of 2; cannot run)" in bundle["text/html"]
    assert bundle["image/svg+xml"].count("#c62828") >= 2


def test_definition_that_is_sound_shows_nothing_in_red():
    """Nothing stands under the picture of a workflow without findings."""
    bundle = workflow_bundle(Workflow.create("tests", "paper", [stage("draft"), stage("review", "draft")]))

    assert "#c62828" not in bundle["image/svg+xml"]
    assert bundle["text/plain"].splitlines()[-1].startswith("○ review")
