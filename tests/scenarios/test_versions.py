"""Code that changes while runs are unfinished: each run goes on with what it was started with, until told otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb import Engine, Flow, WaitingForCode, WorkflowStatus
from stabilize_nb.tasks.prints import plain_name, print_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 20.0


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path / "runs.db", durability="normal") as opened:
        yield opened


def essay(review: Callable[..., Any], *, each: bool = False) -> Flow:
    """Make a flow of a stage, a gate, and a stage that differs between versions."""
    flow = Flow("essay")

    @flow.stage
    def draft(question: str) -> str:
        return question.upper()

    flow.approval("Good?", name="good", after="draft")
    if each:
        flow.stage(name="review", each="draft", as_="letter", after="good")(review)
    else:
        flow.stage(name="review", after="good")(review)
    return flow


def first(draft: str) -> str:
    return f"first {draft}"


def second(draft: str) -> str:
    return f"second {draft}"


def test_run_goes_on_with_the_code_it_was_started_with(engine):
    """A changed definition is for new runs; the old one and the new one go on side by side."""
    old = engine.start(essay(first), question="a")
    old.until_gate(PATIENCE)
    new = engine.start(essay(second), question="b")
    new.until_gate(PATIENCE)
    old.approve()
    new.approve()

    assert old.result(PATIENCE) == "first A"
    assert new.result(PATIENCE) == "second B"


def test_migrated_run_uses_the_code_that_is_defined_now(engine):
    """What has not run yet is run by the new code, in the run that is told so and in no other."""
    old, other = (engine.start(essay(first), question=letter) for letter in "ab")
    old.until_gate(PATIENCE)
    other.until_gate(PATIENCE)
    engine.define(essay(second))

    assert old.migrate() == ["essay.review"]
    old.approve()
    other.approve()
    assert old.result(PATIENCE) == "second A"
    assert other.result(PATIENCE) == "first B"
    assert "code.replaced" in set(old.events["type"])
    assert old.migrate() == []


def restarted(tmp_path: Path, flow: Flow) -> tuple[str, Engine]:
    """Leave a run of the first version at its last stage, as a process does that ends; return a new engine."""
    with Engine(tmp_path / "left.db", durability="normal") as engine:
        run = engine.start(flow, question="ab")
        run.until_gate(PATIENCE)
    return run.id, Engine(tmp_path / "left.db", durability="normal")


@pytest.mark.parametrize("each", [False, True], ids=["a stage", "instances made at run time"])
def test_changed_code_is_waited_for_after_a_restart(tmp_path, each):
    """Other code under the same name does not do; the error says so, and migrating goes on with it."""

    def old(letter: str = "", draft: str = "") -> str:
        return f"first {letter or draft}"

    def new(letter: str = "", draft: str = "") -> str:
        return f"second {letter or draft}"

    def listed(question: str) -> list[str]:
        return list(question)

    def made(review: Callable[..., Any]) -> Flow:
        flow = essay(review, each=each)
        if each:
            flow.stage(name="draft")(listed)
        return flow

    run_id, engine = restarted(tmp_path, made(old))
    with engine:
        engine.define(made(new))
        run = engine.resume(run_id)[0]
        run.approve()
        with pytest.raises(WaitingForCode, match=r"review' is not registered.*other code.*run.migrate\(\)"):
            run.result(PATIENCE)
        with pytest.raises(WaitingForCode, match="review' is not registered"):
            run.until_gate(PATIENCE)
        assert run.explain()[0].startswith("waits for code: task 'essay.review'")
        assert run.migrate()

        assert run.result(PATIENCE) == (["second a", "second b"] if each else "second ab".replace("ab", "AB"))


def test_same_code_goes_on_after_a_restart(tmp_path):
    """Code is compared, not functions: a process that defines the same flow again goes on where the other stopped."""
    run_id, engine = restarted(tmp_path, essay(first))
    with engine:
        run = engine.resume(run_id)[0]
        engine.define(essay(first))
        run.approve()

        assert run.result(PATIENCE) == "first AB"


def test_retry_uses_the_code_that_is_defined_now(engine):
    """Whoever mends a stage and runs it again means the mended one; the stored run says so, whoever goes on with it."""

    def broken(draft: str) -> str:
        return draft[10]

    run = engine.start(essay(broken), question="a")
    run.until_gate(PATIENCE)
    run.approve()
    run.wait(PATIENCE)
    mended = essay(second)
    engine.define(mended)
    run.retry()

    assert run.result(PATIENCE) == "second A"
    stored, meant = (flow.stage_by_ref_id("review").tasks[0] for flow in (run.workflow, mended.build(question="a")))
    assert stored.implementing_class == meant.implementing_class


def test_who_waits_after_a_retry_waits_for_what_comes_of_it(engine):
    """The failure that was there before is not taken for the end, however quickly it is asked for."""
    flow, tries = Flow("third"), []

    @flow.stage
    def fail() -> int:
        tries.append(1)
        if len(tries) < 10:
            raise ValueError("not yet")
        return len(tries)

    run = engine.start(flow)
    for _ in range(9):
        assert run.wait(PATIENCE) is WorkflowStatus.TERMINAL
        run.retry()

    assert run.result(PATIENCE) == 10


def test_print_tells_code_apart_and_nothing_else():
    """Lines, names of arguments' owners and documentation are no code; constants, defaults and closures are."""

    def made(factor: int) -> Callable[..., Any]:
        def scaled(x: int, add: int = 1) -> int:
            """Scale."""
            return x * factor + add

        return scaled

    def scaled(x: int, add: int = 1) -> int:
        """Say it otherwise."""
        # and with a comment
        return x * factor + add

    factor = 3

    assert print_of(made(3)) == print_of(made(3)) == print_of(scaled)
    assert print_of(made(3)) != print_of(made(4))
    assert print_of(lambda x: x + 1) != print_of(lambda x: x + 2)
    assert print_of(lambda x=1: x) != print_of(lambda x=2: x)
    assert print_of({"a": 1, "b": {2, 3}}) == print_of({"b": {3, 2}, "a": 1})


def test_prints_are_not_shown():
    """People read the name of a task without the print of its code."""
    flow = essay(first)

    assert plain_name(flow.task_name(flow.stages["draft"])) == "essay.draft"
