"""Failure that is put up with: what it means for what follows, for a quorum, and for the run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb import Engine, Flow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stabilize_nb import Run

PATIENCE = 20.0


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(":memory:") as opened:
        yield opened


def statuses(run: Run) -> dict[str, str]:
    return {stage.ref_id: stage.status.name for stage in run.workflow.stages}


def test_what_follows_an_optional_stage_goes_on(engine: Engine) -> None:
    """A function that fails is None to what follows; the run succeeds, and still says why that stage failed."""
    flow = Flow("optional")

    @flow.stage(continue_on_failure=True)
    def spelling() -> None:
        raise ValueError("two slips")

    @flow.stage
    def report(spelling: Any) -> list[Any]:
        return [spelling]

    run = engine.start(flow)

    assert run.result(PATIENCE) == [None]
    assert statuses(run) == {"spelling": "FAILED_CONTINUE", "report": "SUCCEEDED"}
    assert run.stages.set_index("ref_id").loc["spelling", "error"] == "ValueError: two slips"


def test_late_and_failed_branches_are_left_out(engine: Engine) -> None:
    """With a time for each branch a plain join waits for all of them and goes on with those that succeeded."""
    flow = Flow("gathered")

    @flow.stage(continue_on_failure=True, timeout=0.2)
    async def late() -> dict[str, str]:
        await asyncio.sleep(PATIENCE)
        return {"finding": "late"}

    @flow.stage(continue_on_failure=True, retry=0)
    def ill() -> dict[str, str]:
        raise ConnectionError

    @flow.stage(continue_on_failure=True)
    def well() -> dict[str, str]:
        return {"finding": "well"}

    @flow.stage(collect="finding")
    def review(late: Any, ill: Any, well: Any, finding: list[str]) -> list[Any]:
        return [late, ill, well, finding]

    assert engine.start(flow).result(PATIENCE) == [None, None, {"finding": "well"}, ["well"]]


def test_what_is_collected_of_nobody_is_an_empty_list(engine: Engine) -> None:
    """Where no branch has what is collected, a stage can still look how many there are."""
    flow = Flow("nobody")
    flow.stage(name="ill", continue_on_failure=True)(lambda: 1 / 0)
    flow.stage(name="count", collect="finding")(lambda ill, finding: [ill, finding])

    assert engine.start(flow).result(PATIENCE) == [None, []]


def test_instances_and_calls_may_fail(engine: Engine) -> None:
    """An instance that failed is None in the list; so is a run of another flow."""
    inner = Flow("inner")
    inner.stage(name="invert")(lambda number: 1 / number)
    flow = Flow("outer")
    flow.stage(name="halved", each="numbers", as_="number", continue_on_failure=True)(lambda number: 2 / number)
    flow.call(inner, name="inverted", continue_on_failure=True, context={"number": 0})
    flow.stage(name="end")(lambda halved, inverted: [halved, inverted])

    assert engine.start(flow, numbers=[1, 0, 2]).result(PATIENCE) == [[2.0, None, 1.0], None]


def votes(**words: Any) -> Flow:
    """Return a flow with a quorum of a branch that fails, one that succeeds, and a person."""
    flow = Flow("votes")

    @flow.stage(**words)
    def ben() -> None:
        raise ValueError("no")

    @flow.stage
    def ada() -> dict[str, str]:
        return {"vote": "ada"}

    flow.approval("Eve?", name="eve")

    @flow.stage(join="2 of 3", cancel_rest=True)
    def decide(ada: Any, ben: Any, eve: Any) -> list[bool]:
        return [each is not None for each in (ada, ben, eve)]

    return flow


def test_a_branch_that_fails_fails_its_quorum(engine: Engine) -> None:
    """A quorum waits for no more than it needs, and a failure is a failure all the same."""
    run = engine.start(votes())

    assert run.wait(PATIENCE) == "TERMINAL"
    assert statuses(run)["decide"] == "NOT_STARTED"


def test_a_branch_that_may_fail_counts_for_its_quorum(engine: Engine) -> None:
    """It has come, with nothing."""
    run = engine.start(votes(continue_on_failure=True))

    assert run.result(PATIENCE) == [True, False, False]
    assert statuses(run)["eve"] == "CANCELED"


def test_a_branch_that_breaks_off_does_not_count(engine: Engine) -> None:
    """The quorum waits for those that succeed; the run does too."""
    run = engine.start(votes(context={"failPipeline": False}))
    run.until_gate(PATIENCE)
    run.approve("eve")

    assert run.result(PATIENCE) == [True, False, True]
    assert statuses(run)["ben"] == "STOPPED"
