"""What is found wrong with a graph before it is run, and that it is wrong in every run of a token game."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stabilize_nb.dag.soundness import Finding, check_soundness, contradictions
from stabilize_nb.models.multi_instance import MultiInstanceConfig
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution, SyntheticStageOwner
from stabilize_nb.models.topology import check_topology
from tests.makers import stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    """One run. `ran`: the stages whose turn came; `truths`: what constant conditions mean."""

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
            events: list[Any] = [row for rows in self.rows.values() for row in rows if row.status in {"RUNNING", "OFFER"}]
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
        elif each.context.get("stageEnabled", True) is False:
            self.end(row, "SKIPPED", LIVE)
        elif (gate := self.gate(each)) == "PASSED":
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


def refs(findings: tuple[Finding, ...], level: str | None = None) -> set[str]:
    return {ref for finding in findings if level in (None, finding.level) for ref in finding.stages}


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


@settings(max_examples=600)
@given(graphs(), st.booleans())
def test_what_is_said_never_to_run_runs_in_no_run(stages, stops):
    """No stage of a finding has its turn, whatever conditions, choices and the order of events are."""
    check_topology("game", stages)
    findings = check_soundness(stages)

    assert not refs(findings) & runs(stages, 150, stops=stops), findings


@given(constant_graphs())
def test_what_never_runs_is_said(stages):
    """Where constants decide everything, exactly the stages that never run are found."""
    findings = check_soundness(stages)

    assert refs(findings) == {each.ref_id for each in stages} - runs(stages, 1)
