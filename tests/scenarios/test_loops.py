"""Structured loops on the real engine (WCP-21): passes, data from pass to pass, bounds, loops in loops."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb import QueueProcessor, StageExecution, TaskRegistry, TaskResult, Workflow
from stabilize_nb.models.stage import SplitType
from stabilize_nb.stages.loop_builder import LoopBuilder
from tests.makers import Bench, refs, stage, workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Script:
    """Bodies that note that they ran, and the engine on which they run."""

    def __init__(self, url: str) -> None:
        self.ran: list[str] = []
        self.seen: list[dict[str, Any]] = []
        self.bench = Bench(url, tasks={"note": self._note, "plus": self._plus})

    def _note(self, running: StageExecution) -> TaskResult:
        self.ran.append(running.ref_id)
        self.seen.append(dict(running.context))
        return TaskResult.success(outputs=running.context.get("gives", {}))

    def _plus(self, running: StageExecution) -> TaskResult:
        self.ran.append(running.ref_id)
        self.seen.append(dict(running.context))
        name = running.context.get("counter", "n")
        return TaskResult.success(outputs={name: running.context[name] + 1})

    def task(self, name: str, body: Callable[[StageExecution], Any]) -> None:
        """Register one more body."""

        def noted(running: StageExecution) -> Any:
            self.ran.append(running.ref_id)
            return body(running)

        self.bench.registry.register(name, noted)

    def run(self, *stages: StageExecution, **context: Any) -> Workflow:
        """Run a workflow of stages to its end."""
        return self.bench.run(workflow(*stages, context=context))


@pytest.fixture(params=["memory", "file"])
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Script]:
    made = Script("sqlite:///:memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/loops.db")
    yield made
    made.bench.close()


def after(loop: list[StageExecution], ref_id: str = "next") -> StageExecution:
    """Make the stage that follows a loop."""
    return stage(ref_id, loop[-1].ref_id, task="note")


def test_while_repeats_its_body_in_order(script: Script):
    """S21.1: while n < 3 with two stages runs b1 b2 three times, and next once; the last pass stays to be seen."""
    loop = LoopBuilder.while_loop("n < 3", [stage("b1", task="plus"), stage("b2", task="note")])
    loop[0].requisite_stage_ref_ids = {"a"}

    flow = script.run(stage("a", task="note"), *loop, after(loop), n=0)

    assert script.ran == ["a", "b1", "b2", "b1", "b2", "b1", "b2", "next"]
    assert str(flow.status) == "SUCCEEDED"
    assert {str(each.status) for each in flow.stages} == {"SUCCEEDED"}
    assert refs(flow)["b1"].outputs == {"n": 3}
    assert refs(flow)["loop_exit"].outputs == {"loop_exhausted": False}
    assert script.seen[-1]["n"] == 3


def test_while_with_a_false_condition_skips_its_body(script: Script):
    """S21.1: while n < 0 runs no body stage, all of them are skipped, and next runs once."""
    body = [stage("b1", task="plus"), stage("b2", task="note")]
    loop = LoopBuilder.while_loop("n < 0", body)

    flow = script.run(*loop, after(loop), n=0)

    assert script.ran == ["next"]
    assert str(flow.status) == "SUCCEEDED"
    assert {ref: str(each.status) for ref, each in refs(flow, ["b1", "b2"]).items()} == {
        "b1": "SKIPPED",
        "b2": "SKIPPED",
    }
    assert str(refs(flow)["loop_exit"].status) == "SUCCEEDED"


@pytest.mark.parametrize(("condition", "passes"), [("n >= 3", 3), ("n >= 0", 1)])
def test_repeat_looks_at_its_condition_afterwards(script: Script, condition: str, passes: int):
    """S21.2: until n >= 3 makes three passes, until n >= 0 makes one."""
    loop = LoopBuilder.repeat_until(condition, [stage("b", task="plus")])

    script.run(*loop, after(loop), n=0)

    assert script.ran == ["b"] * passes + ["next"]


def test_passes_are_not_jumps(script: Script):
    """S21.3: fifteen passes need no jump of the ten that a workflow may make, nor any."""
    loop = LoopBuilder.while_loop("n < 15", [stage("b", task="plus")])

    flow = script.run(*loop, after(loop), n=0, _max_jumps=0)

    assert script.ran == ["b"] * 15 + ["next"]
    assert str(flow.status) == "SUCCEEDED"


def test_bound_ends_a_loop(script: Script):
    """S21.3: with max_iterations=4 there are exactly four passes; the exit says so, and the process goes on."""
    loop = LoopBuilder.repeat_until("n < 0", [stage("b", task="plus")], max_iterations=4)

    flow = script.run(*loop, after(loop), n=0)

    end = refs(flow)["loop_exit"]
    assert script.ran == ["b"] * 4 + ["next"]
    assert str(flow.status) == "SUCCEEDED"
    assert str(end.status) == "FAILED_CONTINUE"
    assert end.outputs == {"loop_exhausted": True}
    assert "bound of 4 passes" in end.context["error"]
    assert script.seen[-1]["loop_exhausted"] is True


def test_condition_that_ends_with_the_bound_is_no_exhaustion(script: Script):
    """The condition of the reference document, iteration_count < max_iterations, ends its loop by itself."""
    loop = LoopBuilder.while_loop("iteration_count < max_iterations", [stage("b", task="note")], max_iterations=4)

    flow = script.run(*loop)

    assert script.ran == ["b"] * 4
    assert refs(flow)["loop_exit"].outputs == {"loop_exhausted": False}


def test_user_names_win_over_the_names_of_the_loop(script: Script):
    """A user's max_iterations is what the condition sees; the bound stays what the builder was given."""
    loop = LoopBuilder.while_loop("iteration_count < max_iterations", [stage("b", task="note")], max_iterations=9)

    script.run(*loop, max_iterations=2)

    assert script.ran == ["b"] * 2


def test_failure_in_the_body_fails_the_workflow(script: Script):
    """S21.4: a body stage that fails in its first pass ends the workflow, and what follows the loop does not run."""
    script.task("fail", lambda _: TaskResult.terminal("no"))
    loop = LoopBuilder.while_loop("n < 3", [stage("b1", task="plus"), stage("b2", task="fail")])

    flow = script.run(*loop, after(loop), n=0)

    assert script.ran == ["b1", "b2"]
    assert str(flow.status) == "TERMINAL"


def test_branch_beside_a_loop_is_not_repeated(script: Script):
    """S21.4: a parallel branch that joins behind the loop runs once, and so does the join."""
    loop = LoopBuilder.while_loop("n < 3", [stage("b", task="plus")])
    loop[0].requisite_stage_ref_ids = {"a"}

    script.run(
        stage("a", task="note"), *loop, stage("x", "a", task="note"), stage("j", "x", "loop_exit", task="note"), n=0
    )

    assert Counter(script.ran) == {"a": 1, "b": 3, "x": 1, "j": 1}


def test_name_that_is_defined_nowhere_fails_the_loop(script: Script):
    """A condition with an unknown name fails the loop in a sentence that names it."""
    loop = LoopBuilder.while_loop("m < 3 and n < 3", [stage("b", task="plus")])

    flow = script.run(*loop, after(loop), n=0)

    entry = refs(flow)["loop_entry"]
    assert script.ran == []
    assert str(flow.status) == "TERMINAL"
    assert "'m' is defined nowhere" in entry.error
    assert "loop 'loop'" in entry.error


def test_name_that_is_not_come_to_is_no_mistake(script: Script):
    """A name that only the body gives may stand behind a condition that holds in the first pass."""
    loop = LoopBuilder.while_loop("iteration_count == 0 or not found", [stage("b", task="search")])
    script.task("search", lambda running: {"found": running.context.get("n", 0) == 2, "n": 2})

    script.run(*loop, after(loop))

    assert script.ran == ["b", "b", "next"]


def test_outputs_of_earlier_passes_stay_visible(script: Script):
    """What a stage gave in pass 1 is there in pass 3 and after the loop, also when later passes prune that stage."""
    choose = stage(
        "choose",
        task="plus",
        split_type=SplitType.OR,
        split_conditions={"first": "n == 1", "others": "n != 1"},
    )
    first = stage("first", "choose", task="note", context={"gives": {"found_in": "pass 1"}})
    others = stage("others", "choose", task="note")
    loop = LoopBuilder.while_loop("n < 3", [choose, first, others])

    script.run(*loop, after(loop), n=0)

    assert script.ran == ["choose", "first", "choose", "others", "choose", "others", "next"]
    assert [seen.get("found_in") for seen in script.seen] == [None, None] + ["pass 1"] * 5


def test_lists_grow_from_pass_to_pass(script: Script):
    """A list to which each pass adds an item holds all of them after the loop, as in a chain of stages."""
    script.task("collect", lambda running: {"found": [f"item {running.context['n']}"]})
    loop = LoopBuilder.while_loop("n < 3", [stage("b1", task="plus"), stage("b2", task="collect")])

    script.run(*loop, after(loop), n=0, found=["older"])

    assert script.seen[-1]["found"] == ["item 1", "item 2", "item 3"]


def test_what_was_not_changed_is_not_carried(script: Script):
    """The entry gives again only what the passes gave, not all that was there before the loop."""
    loop = LoopBuilder.while_loop("n < 3", [stage("b", task="plus")])
    loop[0].requisite_stage_ref_ids = {"a"}

    flow = script.run(stage("a", task="note", context={"gives": {"big": "x" * 1_000}}), *loop, n=0)

    assert refs(flow)["loop_entry"].outputs == {"n": 2}


def test_inner_loop_has_its_full_budget_on_each_pass(script: Script):
    """An inner loop of two passes at most is run with both of them on each of three passes of the outer loop."""
    inner = LoopBuilder.repeat_until("n < 0", [stage("b", task="plus")], "inner", max_iterations=2)
    outer = LoopBuilder.while_loop("iteration_count < 3", inner, "outer")

    flow = script.run(*outer, after(outer), n=0)

    assert script.ran == ["b"] * 6 + ["next"]
    assert script.seen[-1]["n"] == 6
    assert str(flow.status) == "SUCCEEDED"


def test_inner_while_loop_may_be_left_out_in_a_later_pass(script: Script):
    """An inner while loop runs in the first pass of the outer one, and its body is skipped in the next."""
    inner = LoopBuilder.while_loop("m < 2", [stage("b", task="plus", context={"counter": "m"})], "inner")
    inner[0].requisite_stage_ref_ids = {"o"}
    outer = LoopBuilder.while_loop("n < 2", [stage("o", task="plus"), *inner], "outer")

    flow = script.run(*outer, after(outer), n=0, m=0)

    assert script.ran == ["o", "b", "b", "o", "next"]
    assert str(refs(flow)["b"].status) == "SKIPPED"
    assert {script.seen[-1][name] for name in ("n", "m")} == {2}


def test_loop_that_is_jumped_to_begins_anew(script: Script):
    """A jump from behind a loop to its entry gives it all its passes again."""
    once = TaskResult.jump_to("loop_entry")
    script.task("again", lambda running: None if running.context.get("_jump_count") else once)
    loop = LoopBuilder.while_loop("iteration_count < 2", [stage("b", task="plus")])

    flow = script.run(*loop, stage("k", "loop_exit", task="again"), n=0)

    assert script.ran == ["b", "b", "k", "b", "b", "k"]
    assert refs(flow)["b"].outputs == {"n": 2}


def test_loop_needs_no_registration():
    """A loop runs with a registry that knows nothing but the tasks of its body."""
    loop = LoopBuilder.while_loop("iteration_count < 2", [StageExecution(ref_id="b")])
    with Bench() as bench:
        processor = QueueProcessor(bench.queue, None, bench.store, TaskRegistry())
        flow = workflow(*loop)
        bench.begin(flow)
        processor.process_all(timeout=20)
        processor.close()

        assert str(bench.store.retrieve(flow.id).status) == "SUCCEEDED"


def test_body_with_branches_is_repeated_whole(script: Script):
    """Requisites among body stages are kept: both branches run in each pass, and the exit waits for both."""
    body = [stage("f", task="plus"), stage("x", "f", task="note"), stage("y", "f", task="note")]
    loop = LoopBuilder.while_loop("n < 2", body)

    flow = script.run(*loop, after(loop), n=0)

    assert Counter(script.ran) == {"f": 2, "x": 2, "y": 2, "next": 1}
    assert refs(flow)["loop_exit"].requisite_stage_ref_ids == {"loop_entry", "x", "y"}


def test_two_loops_follow_each_other(script: Script):
    """Two loops in a row keep their counts apart."""
    first = LoopBuilder.while_loop("iteration_count < 2", [stage("b", task="plus")], "one")
    second = LoopBuilder.repeat_until("iteration_count >= 3", [stage("c", task="plus")], "two")
    second[0].requisite_stage_ref_ids = {"one_exit"}

    script.run(*first, *second, after(second), n=0)

    assert script.ran == ["b"] * 2 + ["c"] * 3 + ["next"]
    assert script.seen[-1]["n"] == 5


def test_loop_goes_on_in_another_process(tmp_path: Path):
    """S21.5: an engine that opens the database in the middle of the second pass ends the loop as one engine would."""
    url = f"sqlite:///{tmp_path}/loops.db"
    loop = LoopBuilder.while_loop("n < 3", [stage("b1", task="plus"), stage("b2", task="note")])
    flow = workflow(*loop, after(loop), context={"n": 0})
    first = Script(url)
    first.bench.begin(flow)
    while first.ran.count("b1") < 2:
        first.bench.processor.process_one()
    first.bench.close()

    second = Script(url)
    second.bench.processor.process_all(timeout=20)

    assert Counter(first.ran) + Counter(second.ran) == {"b1": 3, "b2": 3, "next": 1}
    second.bench.close()
