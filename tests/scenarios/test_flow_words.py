"""The words of a flow, carried out by a real engine: what each does, and what is said where one is wrong."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from stabilize_nb import Engine, Flow, WorkflowStatus, jump
from stabilize_nb.errors import ConfigError, InvalidWorkflowError, RunFailedError
from stabilize_nb.models.stage import JoinType
from stabilize_nb.tasks.prints import plain_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stabilize_nb import Run
    from stabilize_nb.flow import FlowStage

PATIENCE = 20.0
S = WorkflowStatus


@pytest.fixture(params=["memory", "file"])
def engine(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Engine]:
    url = ":memory:" if request.param == "memory" else tmp_path / "runs.db"
    with Engine(url, durability="normal") as opened:
        yield opened


def ended(run: Run) -> dict[str, str]:
    """Wait for the end and return ref_id -> status."""
    run.wait(PATIENCE)
    return statuses(run)


def statuses(run: Run) -> dict[str, str]:
    return {stage.ref_id: stage.status.name for stage in run.workflow.stages}


def until(run: Run, version: int = 0, **wanted: str) -> None:
    """Wait until stages have these statuses, and the draft is of a version."""
    deadline = time.monotonic() + PATIENCE
    while not wanted.items() <= statuses(run).items() or (version and drafted(run) != version):
        assert time.monotonic() < deadline, f"{wanted} never came: {statuses(run)}"
        run.engine.database.changes.ticket().wait(0.05)


def value(run: Run, ref: str) -> Any:
    """Wait for the end and return the one value that a stage returned."""
    run.wait(PATIENCE)
    assert run.status is S.SUCCEEDED, run.error
    return run.workflow.stage_by_ref_id(ref).outputs["result"]


def stages_of(flow: Flow, *names: str, **words: Any) -> list[FlowStage]:
    """Add stages that return their names."""
    return [flow.stage(name=name, **words)(lambda name=name: name) for name in names]


def test_function_may_come_with_its_words(engine: Engine) -> None:
    """A stage that is made by a call, not as a decorator, has its words too."""
    flow = Flow("called")
    flow.stage(lambda: 1, name="one")
    flow.stage(lambda one: one + 1, name="two", title="Two")

    assert value(engine.start(flow), "two") == 2
    assert flow.stages["two"].settings["title"] == "Two"


# -- joins ---------------------------------------------------------------------------------------------


def joining(join: Any, **words: Any) -> Flow:
    """A flow of three branches, two of which wait for a person, into one stage."""
    flow = Flow("joining")
    stages_of(flow, "fast")
    flow.approval("Go?", name="first")
    flow.approval("Go?", name="second")

    @flow.stage(after=["fast", "first", "second"], join=join, **words)
    def end(stage: Any) -> list[str]:
        return sorted(stage.upstream)

    return flow


def test_join_any_starts_at_the_first(engine: Engine) -> None:
    """`join="any"`: the stage runs once, with the first branch (WCP-9)."""
    run = engine.start(joining("any"))

    until(run, end="SUCCEEDED", first="SUSPENDED", second="SUSPENDED")
    run.approve("first")
    run.approve("second")
    assert value(run, "end") == ["fast"]
    assert [stage.ref_id for stage in run.workflow.activations("end")] == ["end"]


def test_join_any_withdraws_the_rest(engine: Engine) -> None:
    """`cancel_rest=True`: what is not waited for any more is withdrawn (WCP-29)."""
    run = engine.start(joining("any", cancel_rest=True))

    assert ended(run) == {"fast": "SUCCEEDED", "first": "CANCELED", "second": "CANCELED", "end": "SUCCEEDED"}


@pytest.mark.parametrize("join", [2, "2", "2 of 3"])
def test_join_number_waits_for_so_many(engine: Engine, join: Any) -> None:
    """`join=2` and `join="2 of 3"`: the stage runs when two branches have come (WCP-30)."""
    run = engine.start(joining(join, cancel_rest=True))

    until(run, fast="SUCCEEDED", first="SUSPENDED", end="NOT_STARTED")
    run.approve("second")
    assert value(run, "end") == ["fast", "second"]
    assert statuses(run)["first"] == "CANCELED"


def test_join_each_runs_once_for_each_branch(engine: Engine) -> None:
    """`join="each"`: one run of the stage, and of what follows it, for each branch (WCP-8)."""
    flow = Flow("each")
    stages_of(flow, "a", "b")
    flow.stage(name="m", join="each")(lambda a, b: a or b)
    flow.stage(name="n")(lambda m: m + "!")
    run = engine.start(flow)

    run.wait(PATIENCE)
    assert sorted(stage.outputs["result"] for stage in run.workflow.activations("n")) == ["a!", "b!"]


def test_joins_are_those_of_the_reference_api() -> None:
    """Each word of `join` is one join type, and `blocking` and `cancel_rest` are its flags."""
    built = {join: joining(join, blocking=True).picture().stage_by_ref_id("end") for join in ("any", 2)}
    plain = {join: joining(join).picture().stage_by_ref_id("end").join_type for join in ("all", "each", "taken")}

    assert [(stage.join_type, stage.join_threshold, stage.join_blocking) for stage in built.values()] == [
        (JoinType.DISCRIMINATOR, 0, True),
        (JoinType.N_OF_M, 2, True),
    ]
    assert plain == {"all": JoinType.AND, "each": JoinType.MULTI_MERGE, "taken": JoinType.OR}


def test_join_taken_waits_for_what_was_taken(engine: Engine) -> None:
    """`join="taken"`: branches whose condition was false are not waited for (WCP-7)."""
    flow = Flow("taken")
    flow.stage(name="start")(lambda n: n)
    flow.stage(name="low", when="start < 5")(lambda start: "low")
    flow.stage(name="high", when="start > 3")(lambda start: "high")
    flow.stage(name="end", join="taken")(lambda low, high: [low, high])

    assert [value(engine.start(flow, n=n), "end") for n in (1, 4, 9)] == [
        ["low", None],
        ["low", "high"],
        [None, "high"],
    ]


# -- conditions ----------------------------------------------------------------------------------------


def choosing(choose: str) -> Flow:
    flow = Flow("choosing")
    flow.stage(name="score", choose=choose)(lambda n: n)
    flow.stage(name="high", when="score > 5")(lambda: 1)
    flow.stage(name="good", when="score > 3")(lambda: 1)
    flow.stage(name="poor", after="score", otherwise=True)(lambda: 1)
    return flow


@pytest.mark.parametrize(
    ("choose", "runs"),
    [("any", [{"high", "good"}, {"good"}, {"poor"}]), ("one", [{"high"}, {"good"}, {"poor"}])],
)
def test_when_and_otherwise_choose(engine: Engine, choose: str, runs: list[set[str]]) -> None:
    """Each stage runs whose condition is true (WCP-6), with `choose="one"` the first of them (WCP-4); else the rest."""
    found = [ended(engine.start(choosing(choose), n=n)) for n in (9, 4, 1)]

    assert [{ref for ref, status in one.items() if status == "SUCCEEDED"} - {"score"} for one in found] == runs


def test_otherwise_does_not_mind_stages_without_a_condition(engine: Engine) -> None:
    """A stage that always runs is no match: `otherwise` is about the conditions beside it."""
    flow = choosing("any")
    flow.stage(name="always", after="score")(lambda: 1)

    assert ended(engine.start(flow, n=1)) == {
        "score": "SUCCEEDED", "high": "SKIPPED", "good": "SKIPPED", "poor": "SUCCEEDED", "always": "SUCCEEDED",
    }  # fmt: skip
    assert ended(engine.start(flow, n=4))["poor"] == "SKIPPED"


def test_condition_over_several_stages_looks_when_all_have_come(engine: Engine) -> None:
    """With several stages before it, a stage runs when its condition is true, and gets what they all returned."""
    flow = Flow("release")
    flow.stage(name="build")(lambda: {"image": "v1"})
    flow.stage(name="tests")(lambda ok: {"passed": ok})
    flow.stage(name="deploy", when="tests['passed'] == True")(lambda build, tests: [build["image"], tests["passed"]])
    flow.stage(name="tell")(lambda deploy: deploy)

    assert value(engine.start(flow, ok=True), "tell") == ["v1", True]
    refused = ended(engine.start(flow, ok=False))
    assert (refused["deploy"], refused["tell"]) == ("SKIPPED", "SKIPPED")


def test_condition_follows_the_stages_that_it_names(engine: Engine) -> None:
    """A stage whose condition names a stage waits for that, and needs no `after`."""
    flow = Flow("named")
    flow.approval("Good?", name="good", reject_continues=True)
    flow.stage(name="text")(lambda: "text")
    flow.stage(name="publish", when="good.approved")(lambda text: text + "!")
    run = engine.start(flow)

    until(run, text="SUCCEEDED", good="SUSPENDED", publish="NOT_STARTED")
    run.approve()
    assert value(run, "publish") == "text!"


def test_condition_of_what_came_long_before_adds_no_branch(engine: Engine) -> None:
    """A stage that comes before anyway is read by the condition and is no further branch of the join."""
    flow = Flow("before")
    flow.stage(name="score")(lambda: 4)
    flow.stage(name="a", after="score")(lambda: "a")
    flow.stage(name="b", after="score")(lambda: "b")
    end = flow.stage(name="end", after=["a", "b"], join="2 of 2", when="score > 3")(lambda score=None: "end")

    assert flow.requisites(end) == {"a", "b", "score"}
    flow.stage(name="end", after=["a", "b"], join="2 of 2", when="score > 3")(lambda: "end")
    assert flow.requisites(flow.stages["end"]) == {"a", "b"}
    assert value(engine.start(flow), "end") == "end"


def test_condition_in_a_loop_may_read_what_comes_later(engine: Engine) -> None:
    """The first stage of a body may ask what the last one gave in the pass before."""
    flow = Flow("later")
    with flow.loop("again", until="n >= 3"):
        flow.stage(name="count")(lambda n=0: {"n": n + 1})
        flow.stage(name="extra", after="count", when="last.seen == 1")(lambda: "extra")
        flow.stage(name="last", after="extra")(lambda: {"seen": 1})
        flow.stage(name="note", after="count")(lambda n: {"seen": n})
    flow.stage(name="end", after="again")(lambda n: n)

    assert flow.check() == ()
    assert value(engine.start(flow), "end") == 3


def test_condition_of_one_edge(engine: Engine) -> None:
    """A mapping puts a condition on one edge: the stage runs when one of its edges was taken."""
    flow = Flow("edges")
    flow.stage(name="a")(lambda n: n)
    flow.stage(name="b")(lambda: "b")
    flow.stage(name="end", when={"a": "a > 3"})(lambda a, b: [a, b])

    assert value(engine.start(flow, n=9), "end") == [9, "b"]
    assert value(engine.start(flow, n=1), "end") == [None, "b"]


def test_condition_of_a_first_stage_reads_inputs(engine: Engine) -> None:
    """A stage that follows nothing can have a condition over the inputs of the run."""
    flow = Flow("first")
    flow.stage(name="quick", when="fast")(lambda: "quick")
    flow.stage(name="thorough", when="not fast")(lambda: "thorough")
    flow.stage(name="end")(lambda quick, thorough: quick or thorough)

    assert flow.inputs == {"fast": False}
    assert [value(engine.start(flow, fast=fast), "end") for fast in (True, False)] == ["quick", "thorough"]


def test_condition_reads_a_decision(engine: Engine) -> None:
    """After an approval that lets a rejection pass, conditions ask how it was decided; the gate may be named later."""
    flow = Flow("review")
    gate = flow.approval("Good?", reject_continues=True)
    flow.stage(name="publish", after=gate, when={gate: "good.approved"})(lambda: "published")
    flow.stage(name="rework", after=gate, otherwise=True)(lambda: "again")
    flow.rename(gate, "good")
    yes, no = engine.start(flow), engine.start(flow)
    yes.approve("good")
    no.reject("good")

    assert ended(yes) == {"good": "SUCCEEDED", "publish": "SUCCEEDED", "rework": "SKIPPED"}
    assert ended(no) == {"good": "FAILED_CONTINUE", "publish": "SKIPPED", "rework": "SUCCEEDED"}


# -- instances -----------------------------------------------------------------------------------------


def research() -> Flow:
    flow = Flow("research")

    @flow.stage
    def plan(question: str) -> dict[str, Any]:
        return {"topics": [f"{question}{at}" for at in range(3)]}

    @flow.stage(each="topics")
    def study(topic: str, plan: dict[str, Any], question: str) -> dict[str, str]:
        return {"finding": f"{topic} of {len(plan['topics'])} for {question}"}

    return flow


def test_each_runs_once_for_each_item(engine: Engine) -> None:
    """`each="topics"`: a run for each item of what the stage before gave; what follows gets the list (WCP-14)."""
    flow = research()
    flow.stage(name="end")(lambda study: [each["finding"] for each in study])

    assert value(engine.start(flow, question="q"), "end") == ["q0 of 3 for q", "q1 of 3 for q", "q2 of 3 for q"]


def test_items_lead_to_the_stage_that_gives_them(engine: Engine) -> None:
    """A stage that only says what it runs for follows the stage whose code returns that; an input needs no stage."""
    flow = research()
    flow.stage(name="study", each="topics", retry=3)(lambda topic: topic.upper())
    flow.stage(name="end")(lambda study: study)

    assert flow.requisites(flow.stages["study"]) == {"plan"}
    assert value(engine.start(flow, question="q"), "end") == ["Q0", "Q1", "Q2"]
    flow.stage(name="plan")(lambda question: question)
    assert flow.inputs == {"question": True, "topics": True}
    with pytest.raises(
        InvalidWorkflowError, match=r"needs the input 'topics', .* or name with after= the stage that gives"
    ):
        engine.start(flow, question="q")


@pytest.mark.parametrize(
    "words", [{}, {"collect": "finding"}, {"reduce": {"finding": "collect"}}], ids=["name", "collect", "reduce"]
)
def test_output_of_instances_is_a_list(engine: Engine, words: dict[str, Any]) -> None:
    """An output of the instances is a list by its name, whether it is gathered in so many words or not."""
    flow = research()
    flow.stage(name="end", after="study", **words)(lambda finding: [len(finding), finding[1]])

    assert value(engine.start(flow, question="q"), "end") == [3, "q1 of 3 for q"]


def test_two_of_many_are_gathered(engine: Engine) -> None:
    """`join=2, collect="finding"` behind instances: the first two findings, as soon as they are there."""
    flow = research()

    @flow.stage(join=2, collect="finding", cancel_rest=True)
    def end(study: list[dict[str, str]], finding: list[str]) -> bool:
        return finding == [each["finding"] for each in study] and len(finding) >= 2

    assert value(engine.start(flow, question="q"), "end") is True


def test_reducers_take_instances_as_branches(engine: Engine) -> None:
    """A reducer behind instances makes one value of what all of them gave."""
    flow = Flow("sum")
    flow.stage(name="square", each="numbers", as_="n")(lambda n: n * n)
    flow.stage(name="end", after="square", reduce={"result": "sum"})(lambda result: result)

    assert value(engine.start(flow, numbers=[1, 2, 3]), "end") == 14


@pytest.mark.parametrize(
    ("each", "inputs"),
    [
        (3, {}), ([0, 1, 2], {}), ("item", {"item": [0, 1, 2]}), ("n", {"n": 3}), ("numbers", {"numbers": [0, 1, 2]}),
        ("given", {"given": [0, 1, 2]}),
    ],
    ids=repr,
)  # fmt: skip
def test_each_takes_a_number_a_list_or_a_name(engine: Engine, each: Any, inputs: dict[str, Any]) -> None:
    """What to run a stage for is written there, or named: an input, an output, or a stage (WCP-13, WCP-14)."""
    flow = Flow("each")
    flow.stage(name="square", each=each)(lambda item: item * item)
    flow.stage(name="end")(lambda square: square)

    assert value(engine.start(flow, **inputs), "end") == [0, 1, 4]


def test_each_over_a_stage_that_returned_a_list(engine: Engine) -> None:
    """The stage itself is named when it returned the list; none at all is an empty list."""
    flow = Flow("each")
    numbers = flow.stage(name="numbers")(lambda n: list(range(n)))
    flow.stage(name="square", each=numbers)(lambda number: number * number)
    flow.stage(name="end")(lambda square: square)

    assert value(engine.start(flow, n=3), "end") == [0, 1, 4]
    assert value(engine.start(flow, n=0), "end") == []


def test_enough_instances_go_on(engine: Engine) -> None:
    """`enough=2, cancel_rest=True`: two decisions of three will do, the third is withdrawn (WCP-35)."""
    flow = Flow("panel")
    flow.approval("Accept?", name="vote", each=["Ada", "Bob", "Eve"], as_="reviewer", enough=2, cancel_rest=True)
    flow.stage(name="end")(lambda vote: [each["approved"] for each in vote])
    run = engine.start(flow)

    until(run, vote_instance_0="SUSPENDED", vote_instance_1="SUSPENDED", vote_instance_2="SUSPENDED")
    run.approve("vote_instance_2")
    run.approve("vote_instance_0")
    assert value(run, "end") == [True, True]
    assert statuses(run)["vote_instance_1"] == "CANCELED"


@pytest.mark.parametrize("join", ["any", 1, "1 of 3"])
def test_join_behind_instances_counts_them(engine: Engine, join: Any) -> None:
    """`join=1` at the only stage behind instances is about the instances (WCP-34)."""
    flow = Flow("panel")
    flow.approval("Accept?", name="vote", each=["Ada", "Bob", "Eve"])
    flow.stage(name="end", join=join)(lambda vote: [each["approved"] for each in vote])
    run = engine.start(flow)

    until(run, vote_instance_2="SUSPENDED")
    run.approve("vote_instance_2")
    until(run, end="SUCCEEDED")
    run.approve("vote_instance_0")
    run.approve("vote_instance_1")
    assert value(run, "end") == [True]


def test_instances_take_turns(engine: Engine) -> None:
    """`mutex` at a stage that runs several times is about each of its runs (WCP-17)."""
    inside, most = [0], [0]
    flow = Flow("turns")

    @flow.stage(each="names", mutex="printer")
    async def use(name: str) -> str:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        await asyncio.sleep(0.01)
        inside[0] -= 1
        return name

    flow.stage(name="end")(lambda use: use)

    assert value(engine.start(flow, names=["a", "b", "c"]), "end") == ["a", "b", "c"]
    assert most == [1]


@pytest.mark.parametrize(
    ("given", "words"), [({"a": 1}, "which is {'a': 1}; a list is expected"), (-1, "which is -1;")]
)
def test_what_is_no_list_fails_the_stage(engine: Engine, given: Any, words: str) -> None:
    """A run whose items turn out to be something else fails with a sentence that names the stage and what came."""
    flow = research()
    flow.stage(name="plan")(lambda: {"topics": given})
    run = engine.start(flow, question="q")

    assert ended(run)["study"] == "TERMINAL"
    assert f"stage 'study' of flow 'research' runs for each of 'topics', {words}" in run.error


def test_each_with_a_condition_and_a_loop(engine: Engine) -> None:
    """Words go together: instances behind a condition over two stages, in a loop, twice."""
    flow = Flow("all")
    with flow.loop("twice", until="rounds >= 2"):
        flow.stage(name="a")(lambda rounds=0: {"rounds": rounds + 1})
        flow.stage(name="b")(lambda a: ["x", "y"])
        flow.stage(name="c", each="b", when="a.rounds > 0 and b != None")(lambda a, item: f"{item}{a['rounds']}")
    flow.stage(name="end")(lambda twice, c: [twice, c])

    assert value(engine.start(flow), "end") == [["x2", "y2"], ["x2", "y2"]]


# -- loops ---------------------------------------------------------------------------------------------


def refining(most: int = 5) -> Flow:
    flow = Flow("refining")

    @flow.stage
    def plan(question: str) -> str:
        return f"plan for {question}"

    with flow.loop("refine", until="critique.score >= 3", max=most):

        @flow.stage
        def draft(plan: str, score: int = 0) -> dict[str, Any]:
            return {"text": f"{plan}, version {score + 1}", "version": score + 1}

        @flow.stage
        def critique(draft: dict[str, Any]) -> dict[str, int]:
            return {"score": draft["version"]}

    @flow.stage
    def publish(refine: dict[str, int], draft: dict[str, Any], loop_exhausted: bool) -> list[Any]:
        return [refine, draft["text"], loop_exhausted]

    return flow


@pytest.mark.parametrize(("most", "passes", "exhausted"), [(5, 3, False), (2, 2, True)])
def test_loop_repeats_until(engine: Engine, most: int, passes: int, exhausted: bool) -> None:
    """A pass sees what the last one gave; what follows gets what the last stage, or one it names, returned (WCP-21)."""
    found = value(engine.start(refining(most), question="q"), "publish")

    assert found == [{"score": passes}, f"plan for q, version {passes}", exhausted]


def test_loop_over_stages_that_exist(engine: Engine) -> None:
    """`body=[...]` repeats stages that were defined before; those that name none of each other run in this order."""
    order: list[str] = []
    flow = Flow("body")
    first = flow.stage(name="first")(lambda n=0: order.append("first") or {"n": n + 1})
    second = flow.stage(name="second")(lambda: order.append("second"))
    loop = flow.loop("again", until="n >= 2", body=[first, second])
    flow.stage(name="end", after=loop)(lambda n: n)

    assert value(engine.start(flow), "end") == 2
    assert order == ["first", "second", "first", "second"]


def test_loop_while(engine: Engine) -> None:
    """`while_` is looked at before each pass: there may be none, even if a body stage asks for one outside."""
    flow = Flow("while")
    flow.stage(name="base")(lambda: "b")
    with flow.loop("drain", while_="left > 0", after="base"):
        flow.stage(name="work")(lambda left, base: {"left": left - 1, "base": base})
        flow.stage(name="note")(lambda base: base)
    flow.stage(name="end")(lambda drain, work: [drain, work and work["left"]])

    assert value(engine.start(flow, left=2), "end") == ["b", 0]
    assert value(engine.start(flow, left=0), "end") == [None, None]


def test_loops_nest(engine: Engine) -> None:
    """A loop in a loop begins anew in each pass of the outer one, and what it gives is a stage to the rest."""
    flow = Flow("nested")
    with flow.loop("outer", until="rounds >= 2"):
        with flow.loop("inner", until="tries >= 2"):
            flow.stage(name="attempt")(lambda tries=0, total=0: {"tries": tries + 1, "total": total + 1})
        flow.stage(name="count")(lambda inner, rounds=0: {"rounds": rounds + 1, "tries": 0, "seen": inner["tries"]})
    flow.stage(name="end")(lambda outer, attempt: [outer["seen"], attempt["total"]])

    assert value(engine.start(flow), "end") == [2, 4]


def test_loop_with_a_condition(engine: Engine) -> None:
    """A loop is left out like a stage, and what follows with it."""
    flow = Flow("maybe")
    flow.stage(name="score")(lambda n: n)
    with flow.loop("improve", until="True", after="score", when="score < 5"):
        flow.stage(name="better")(lambda: "better")
    flow.stage(name="good", after="score", otherwise=True)(lambda: "good")
    flow.stage(name="end")(lambda improve, good: improve or good)

    assert [value(engine.start(flow, n=n), "end") for n in (1, 9)] == ["better", "good"]


def test_conditions_inside_a_loop(engine: Engine) -> None:
    """The first stages of a body may have conditions; they are looked at in each pass."""
    flow = Flow("inside")
    with flow.loop("three", until="n >= 3"):
        flow.stage(name="odd", when="n == None or n == 2")(lambda n=0: {"n": n + 1})
        flow.stage(name="even", otherwise=True)(lambda n=0: {"n": n + 1})
        flow.stage(name="join")(lambda odd, even: ["odd" if odd else "even"])
    flow.stage(name="end")(lambda three, n: [three, n])

    assert value(engine.start(flow), "end") == [["odd"], 3]


def test_stages_of_a_loop_that_exclude_each_other(engine: Engine) -> None:
    """Stages of a body that name none of each other stand side by side when one of them has a condition."""
    flow = Flow("sides")
    with flow.loop("climb", while_="n < 3") as climb:
        flow.stage(name="odd", when="n == 1")(lambda n: {"n": n + 1, "from_odd": True})
        flow.stage(name="even", otherwise=True)(lambda n: {"n": n + 1})
    flow.stage(name="end", after=climb)(lambda n, climb, from_odd=None: [n, climb, from_odd])

    assert value(engine.start(flow, n=0), "end") == [3, {"even": {"n": 3}}, True]
    assert value(engine.start(flow, n=2), "end") == [3, {"even": {"n": 3}}, None]
    assert value(engine.start(flow, n=5), "end") == [5, None, None]


def test_values_pass_through_nested_loops(engine: Engine) -> None:
    """A stage in a loop in a loop may ask for one outside, and one outside for a stage in both."""
    flow = Flow("deep")
    flow.stage(name="plan")(lambda: "plan")
    with flow.loop("outer", until="rounds >= 2"):
        flow.stage(name="first")(lambda rounds=0: {"rounds": rounds + 1})
        with flow.loop("inner", until="tries >= 2"):
            flow.stage(name="deep")(lambda plan, first, tries=0: {"tries": tries + 1, "saw": [plan, first["rounds"]]})
        flow.stage(name="last")(lambda inner, deep: {"tries": 0, "same": inner == deep})
    flow.stage(name="end")(lambda outer, deep, first: [outer["same"], deep["saw"], first["rounds"]])

    assert value(engine.start(flow), "end") == [True, ["plan", 2], 2]


def test_jump_to_a_loop(engine: Engine) -> None:
    """A jump to a loop, by its name or itself, begins it anew (WCP-10)."""
    flow = Flow("jumping")
    with flow.loop("refine", until="n >= 2") as refine:
        flow.stage(name="step")(lambda n=0: {"n": n + 1})
    passes: list[int] = []

    @flow.stage(after="refine")
    def check(n: int) -> int:
        passes.append(n)
        return jump(refine, n=0) if len(passes) < 2 else n

    assert value(engine.start(flow), "check") == 2
    assert passes == [2, 2]


# -- choices, locks, milestones, withdrawal, ends ------------------------------------------------------


def test_race_has_one_winner(engine: Engine) -> None:
    """`race`: the first decision counts, the other is not asked for any more (WCP-16)."""
    flow = Flow("race")
    flow.stage(name="ask")(lambda: 1)
    flow.approval("By mail?", name="mail", after="ask", race="answer")
    flow.approval("By phone?", name="phone", after="ask", race="answer")
    flow.stage(name="end")(lambda mail, phone: "phone" if mail is None else "mail")
    run = engine.start(flow)

    until(run, mail="SUSPENDED", phone="SUSPENDED")
    run.approve("phone")
    assert value(run, "end") == "phone"
    assert statuses(run)["mail"] == "CANCELED"


def test_mutex_lets_one_in_at_a_time(engine: Engine) -> None:
    """`mutex`: while one stage waits for a person with the key, the other has not begun (WCP-39)."""
    flow = Flow("locks")
    flow.approval("Done?", name="holder", mutex="gpu")
    flow.stage(name="other", mutex="gpu", after="holder")(lambda: 1)
    first, second = engine.start(flow), engine.start(flow)

    until(first, holder="SUSPENDED")
    assert statuses(second)["holder"] == "NOT_STARTED"
    first.approve("holder")
    until(second, holder="SUSPENDED")
    second.approve("holder")
    assert [run.wait(PATIENCE) for run in (first, second)] == [S.SUCCEEDED, S.SUCCEEDED]


def test_milestone_opens_and_closes(engine: Engine) -> None:
    """`milestone` and `until`: a stage runs after one stage has succeeded, and before another starts (WCP-18)."""
    flow = Flow("window")
    opening = flow.approval("Open?", name="opening")
    closing = flow.approval("Close?", name="closing")
    flow.stage(name="closed", after=closing)(lambda: 1)
    flow.approval("Enrol?", name="late")
    flow.stage(name="early", milestone=opening)(lambda: 1)
    flow.stage(name="never", after="late", milestone=("opening", "SUCCEEDED"), until="closed")(lambda: 1)
    run = engine.start(flow)

    until(run, opening="SUSPENDED", early="NOT_STARTED")
    run.approve("opening")
    until(run, early="SUCCEEDED")
    run.approve("closing")
    until(run, closed="SUCCEEDED")
    run.approve("late")
    assert ended(run)["never"] == "SKIPPED"
    assert run.status is S.SUCCEEDED


def test_milestone_of_instances_and_loops(engine: Engine) -> None:
    """Of a stage that runs several times, and of a loop, the end is the milestone."""
    flow = Flow("ends")
    flow.stage(name="many", each=2)(lambda item: item)
    with flow.loop("again", until="n >= 2", after="many"):
        flow.stage(name="step")(lambda n=0: {"n": n + 1})
    flow.stage(name="one", milestone="many")(lambda: 1)
    flow.stage(name="two", milestone="again")(lambda: 1)
    built = {stage.ref_id: stage.milestone_ref_id for stage in flow.picture().stages}

    assert (built["one"], built["two"]) == ("many_mi_join", "again_exit")
    assert ended(engine.start(flow))["two"] == "SUCCEEDED"


def test_stage_cancels_a_region_and_a_stage(engine: Engine) -> None:
    """`region` and `cancels`: when a stage has ended, others are withdrawn (WCP-19, WCP-25)."""
    flow = Flow("regions")
    flow.approval("?", name="p", region="web")
    flow.approval("?", name="q", region="web")
    flow.approval("?", name="r")
    flow.approval("?", name="kept")
    flow.approval("Stop?", name="stop")
    flow.stage(name="killer", after="stop", cancels=["web", "r"])(lambda: 1)
    run = engine.start(flow)

    until(run, p="SUSPENDED", q="SUSPENDED", r="SUSPENDED", kept="SUSPENDED", stop="SUSPENDED")
    run.approve("stop")
    until(run, p="CANCELED", q="CANCELED", r="CANCELED", kept="SUSPENDED")
    run.approve("kept")
    assert run.wait(PATIENCE) is S.SUCCEEDED


@pytest.mark.parametrize("ends", ["SUCCEEDED", "CANCELED"])
def test_stage_ends_the_run(engine: Engine, ends: str) -> None:
    """`ends`: when the stage has succeeded, the run is over, whatever else was going on (WCP-43, WCP-20)."""
    flow = Flow("over")
    flow.approval("?", name="waiting")
    flow.stage(name="last", ends=ends)(lambda: 1)

    run = engine.start(flow)
    assert ended(run) == {"waiting": "CANCELED", "last": "SUCCEEDED"}
    assert run.status.name == ends


# -- around a stage ------------------------------------------------------------------------------------


def deploying() -> Flow:
    flow = Flow("deploying")

    @flow.stage(context={"place": "eu"})
    def deploy(place: str, ready: str, broken: bool) -> str:
        if broken:
            raise ValueError("no space")
        return f"{place} {ready}"

    @deploy.before
    def check(place: str) -> dict[str, str]:
        return {"ready": f"{place} is ready"}

    @deploy.on_success
    async def announce(deploy: str) -> dict[str, str]:
        return {"said": f"deployed: {deploy}"}

    @deploy.on_failure
    def clean(error: str) -> str:
        return f"cleaned after {error}"

    flow.stage(name="end", after=deploy)(lambda said: said)
    return flow


def test_functions_before_and_after_a_stage(engine: Engine) -> None:
    """`@deploy.before` and `@deploy.on_success` are part of the stage: what follows waits for them."""
    run = engine.start(deploying(), broken=False)

    assert value(run, "end") == "deployed: eu eu is ready"
    assert statuses(run)["deploy.on_failure.clean"] == "SKIPPED"


def test_function_on_failure_learns_why(engine: Engine) -> None:
    """`@deploy.on_failure` runs before the run ends, with the reason; the run fails all the same."""
    run = engine.start(deploying(), broken=True)

    assert ended(run)["end"] == "NOT_STARTED"
    assert run.workflow.stage_by_ref_id("deploy.on_failure.clean").outputs == {
        "result": "cleaned after ValueError: no space"
    }
    with pytest.raises(RunFailedError, match="no space"):
        run.result()


# -- flows in flows ------------------------------------------------------------------------------------


def child() -> Flow:
    flow = Flow("child")
    flow.stage(name="double")(lambda number: {"twice": number * 2})
    flow.stage(name="plus")(lambda double, extra=1: double["twice"] + extra)
    return flow


def test_call_runs_another_flow(engine: Engine) -> None:
    """A call finds the inputs of the other flow by their names, and returns its outputs (WCP-22)."""
    flow = Flow("parent")
    flow.stage(name="number")(lambda: 4)
    flow.call(child(), name="calculated", context={"extra": 10})
    flow.stage(name="end")(lambda calculated: [calculated["twice"], calculated["result"]])

    assert value(engine.start(flow), "end") == [8, 18]


def test_call_for_each_item(engine: Engine) -> None:
    """`each` at a call: one run of the other flow for each item."""
    flow = Flow("parent")
    flow.call(child(), each="numbers")
    flow.stage(name="end")(lambda child: [each["result"] for each in child])

    assert flow.inputs == {"numbers": True, "extra": False}
    assert value(engine.start(flow, numbers=[1, 2, 3]), "end") == [3, 5, 7]


def test_flow_calls_itself(engine: Engine) -> None:
    """A flow that calls itself ends where its condition says so."""
    flow = Flow("countdown")
    flow.stage(name="step")(lambda n, depth=0: {"n": n - 1, "depth": depth + 1})
    flow.call(flow, name="again", after="step", when="n > 0")
    run = engine.start(flow, n=3)

    run.wait(PATIENCE)
    assert run.workflow.stage_by_ref_id("again").outputs["depth"] == 3


def test_call_that_fails_says_where(engine: Engine) -> None:
    """A called flow that fails, or lacks an input, fails the stage with its sentence."""
    flow = Flow("parent")
    flow.stage(name="start")(lambda: 1)
    flow.call(child(), name="calculated", after="start")
    run = engine.start(flow)

    assert ended(run)["calculated"] == "TERMINAL"
    assert "cannot call flow 'child'" in run.error
    assert "needs the input 'number'" in run.error


# -- after a restart -----------------------------------------------------------------------------------


def everything() -> Flow:
    """A flow with a word of each kind that makes stages of its own."""
    flow = Flow("everything")
    flow.stage(name="plan")(lambda: {"topics": ["x", "y"]})
    flow.stage(name="study", each="topics")(lambda topic, plan: topic * len(plan["topics"]))
    with flow.loop("refine", until="version >= 2"):
        flow.stage(name="draft")(lambda study, version=0: {"version": version + 1, "text": "".join(study)})
        flow.approval("Good?", name="good", after="draft")
    ship = flow.stage(name="ship", when="draft.version == 2 and plan.topics != None")(
        lambda draft, plan, tested=None: [draft["text"], len(plan["topics"]), tested]
    )
    ship.before(smoke)
    flow.call(child(), name="counted", after="ship", context={"number": 1})
    flow.stage(name="end")(lambda ship, counted: [ship, counted["result"]])
    return flow


def smoke() -> dict[str, bool]:
    return {"tested": True}


def test_run_goes_on_after_a_restart(tmp_path: Any) -> None:
    """In a new process the cell is run again, and the run goes on where it was: all code has the same names."""
    with Engine(tmp_path / "runs.db") as engine:
        run = engine.start(everything())
        until(run, good="SUSPENDED")
    for version in (1, 2):
        with Engine(tmp_path / "runs.db") as engine:
            engine.define(everything())
            run = engine.resume()[0]
            assert drafted(run) == version
            run.approve()
            until(run, version=2, **({"good": "SUSPENDED"} if version == 1 else {"end": "SUCCEEDED"}))
            found = run.workflow.stage_by_ref_id("end").outputs
    assert found["result"] == [["xxyy", 2, True], 3]


def drafted(run: Run) -> int | None:
    return run.workflow.stage_by_ref_id("draft").outputs.get("version")


def test_every_task_name_is_registered(engine: Engine) -> None:
    """Whatever a flow is built of is known after `define`, the flows that it calls included."""
    engine.define(everything())
    names = {task.implementing_class for stage in everything().build().stages for task in stage.tasks}

    assert names <= engine.registry.names()
    assert "child.plus" in map(plain_name, engine.registry.names())


def test_graph_has_the_stages_by_name() -> None:
    """The graph is that of the flow as it is written; a loop is one pass of its body."""
    graph = everything().graph()

    assert set(graph.nodes) == set(everything().stages)
    assert set(graph.edges) == {
        ("plan", "study"), ("study", "draft"), ("draft", "good"), ("good", "ship"), ("plan", "ship"),
        ("ship", "counted"), ("ship", "end"), ("counted", "end"),
    }  # fmt: skip


def test_check_has_nothing_to_say_about_words() -> None:
    """What the words make is sound."""
    for flow in (everything(), refining(), research(), deploying(), choosing("one"), joining(2)):
        assert flow.check() == ()


def test_tab_offers_the_words() -> None:
    """In a call of `flow.stage(` Tab offers the words, in both ways of IPython."""
    shell = InteractiveShell()
    shell.user_ns["flow"] = Flow("f")
    for use_jedi in (True, False):
        shell.Completer.use_jedi = use_jedi
        for text, word in [("flow.stage(oth", "otherwise="), ("flow.approval(ra", "race="), ("flow.loop(wh", "when=")]:
            with provisionalcompleter():
                assert word in {found.text for found in shell.Completer.completions(text, len(text))}


# -- what is refused -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refused:
    """A word that is wrong, and the sentence about it."""

    name: str
    make: Callable[[], Any]
    says: str


def two(**words: Any) -> Flow:
    """A flow of two stages and one with words behind them."""
    flow = Flow("f")
    stages_of(flow, "a", "b")
    flow.stage(name="end", **{"after": ["a", "b"], **words})(lambda: 1)
    return flow


def one(**words: Any) -> Flow:
    """A flow of one stage with words."""
    flow = Flow("f")
    flow.stage(name="end", **words)(lambda topic=None, item=None: 1)
    return flow


def looped(**words: Any) -> Flow:
    flow = Flow("f")
    with flow.loop("again", **{"until": "x", **words}):
        stages_of(flow, "a", "b")
    return flow


def around(flow: Flow, word: str, function: Any) -> Flow:
    getattr(flow.stages["end"], word)(function)
    return flow


AT_ONCE = [
    Refused("word", lambda: one(wen="x"), "stage 'end': wen=... is not known; did you mean 'when'?"),
    Refused("gate word", lambda: Flow("f").approval("?", retry=3), "stage '?': retry=... is not known; known are"),
    Refused("join", lambda: one(join="some"), "stage 'end': join='some' is not known; write 'all', 'any', 'each'"),
    Refused("join 0", lambda: one(join=0), "stage 'end': join=0 is not known"),
    Refused("join True", lambda: one(join=True), "stage 'end': join=True is not known"),
    Refused("3 of 2", lambda: one(join="3 of 2"), "waits for more branches than it says there are"),
    Refused("lambda", lambda: one(when=lambda: 1), "is code, and conditions are kept as text: write it in quotes"),
    Refused("no text", lambda: one(when=3), "stage 'end': when=3 is no condition; text is expected"),
    Refused("syntax", lambda: one(when="x >"), "stage 'end': when='x >' is no condition: 'x >' cannot be parsed"),
    Refused("call", lambda: one(when={"a": "f(x)"}), "uses 'f(x)', which is not allowed"),
    Refused("both", lambda: one(when="x", otherwise=True), "stage 'end': it says both when= and otherwise=True"),
    Refused("choose", lambda: one(choose="two"), "choose='two' is not known; write 'one' or 'any'"),
    Refused("each", lambda: one(each={"a": 1}), "each={'a': 1} is neither a number above 0, nor a list"),
    Refused("each 0", lambda: one(each=0), "each=0 is neither a number above 0"),
    Refused("as_ alone", lambda: one(as_="x"), "stage 'end': as_='x' is about instances; say with each="),
    Refused("as_", lambda: one(each=2, as_="a b"), "as_='a b' cannot be a parameter name"),
    Refused("enough", lambda: one(each=2, enough=3), "enough=3, but each=2 makes only 2; write 2 or less"),
    Refused("enough 0", lambda: one(each=2, enough=0), "enough=0 is no number that fits; an integer of 1 or more"),
    Refused("blocking", lambda: one(blocking=True), "blocking=True is about branches that come again; it needs"),
    Refused("rest", lambda: one(cancel_rest=True), "cancel_rest=True has no rest; it needs join='any'"),
    Refused("flag", lambda: one(otherwise="no"), "otherwise='no' is neither True nor False"),
    Refused("race", lambda: one(race=3), "stage 'end': race=3 is no name; text is expected"),
    Refused("milestone", lambda: one(milestone=("a", "DONE")), "milestone=('a', 'DONE') is no milestone; write"),
    Refused("until", lambda: one(until="a"), "until='a' closes the window of a milestone; say with milestone="),
    Refused("ends", lambda: one(ends="done"), "ends='done' is not known; write 'SUCCEEDED' or 'CANCELED'"),
    Refused("after", lambda: one(after=3), "after=3 is no name; the name of a stage, or a list of names, is expected"),
    Refused("after [3]", lambda: one(after=[3]), "after=[3] names no stage by 3"),
    Refused("retry", lambda: one(retry=-1), "retry=-1 is no number that fits; an integer of 0 or more is expected"),
    Refused("timeout", lambda: one(timeout="5 ages"), "timeout='5 ages' is no time: seconds above 0, a timedelta"),
    Refused("context", lambda: one(context=[1]), "context=[1] is no mapping from names to values"),
    Refused("show", lambda: Flow("f").approval("Go?", show=3), "stage 'Go?': show names no stage by 3"),
    Refused("no condition", lambda: looped(until=None), "loop 'again' needs one condition: until='...'"),
    Refused("conditions", lambda: looped(while_="y"), "loop 'again' needs one condition"),
    Refused("max", lambda: looped(max=0), "loop 'again': max=0 is no number of passes; an integer of 1 or more"),
    Refused("until code", lambda: looped(until=len), "loop 'again': until=<built-in function len> is code"),
    Refused("loop word", lambda: looped(each=3), "loop 'again': each=... is not known"),
    Refused("body", lambda: Flow("f").loop("l", until="x", body=["a"]), "has 'a' in its body, which is no stage"),
    Refused("loop name", lambda: looped(until="x").stage(name="again")(len), "stage 'again' has the name of a loop"),
    Refused("name of loop", lambda: two().loop("a", until="x"), "loop 'a' has the name of a stage"),
    Refused("call of what", lambda: Flow("f").call(len), "flow 'f' cannot call <built-in function len>; a Flow"),
    Refused("around", lambda: around(one(), "before", 3), "stage 'end' (line"),
]  # fmt: skip


@pytest.mark.parametrize("case", AT_ONCE, ids=lambda case: case.name)
def test_word_is_refused_where_it_is_written(case: Refused) -> None:
    """A word that is wrong by itself is refused at once, in one sentence that names the stage and what is expected."""
    with pytest.raises(ConfigError) as refused:
        case.make()

    sentence = str(refused.value)
    assert case.says in sentence
    assert "\n" not in sentence


def chosen(**words: Any) -> Flow:
    flow = two(after=["a"], **words)
    flow.stages["a"].settings["choose"] = "one"
    return flow


def behind_instances(*joins: Any, **words: Any) -> Flow:
    flow = Flow("f")
    flow.stage(name="many", each=3, **words)(lambda item: 1)
    for at, join in enumerate(joins):
        flow.stage(name=f"end{at}", after="many", join=join)(lambda: 1)
    return flow


def called() -> Flow:
    flow = Flow("outer")
    flow.call(two(after="c"), name="inner")
    return flow


def inside(**words: Any) -> Flow:
    flow = Flow("f")
    with flow.loop("again", until="x"):
        stages_of(flow, "a")
        flow.stage(name="end", **words)(lambda: 1)
    return flow


def losing() -> Flow:
    flow = chosen(when="x")
    flow.stage(name="lost", after="a")(lambda: 1)
    return flow


def named_wrongly() -> Flow:
    flow = Flow("f")
    flow.stage(each="topics")(asking)
    return flow


def asking(a: Any) -> Any:
    return a


def emptied() -> Flow:
    flow = two()
    flow.loop("again", until="x")
    return flow


def cancelling() -> Flow:
    flow = inside()
    flow.stage(name="stop", cancels="again")(lambda: 1)
    return flow


def deep() -> Flow:
    flow = inside()
    flow.stage(name="out", when={"a": "x"})(lambda: 1)
    return flow


def gated() -> Flow:
    flow = Flow("f")
    flow.approval("Good?", name="good")
    flow.stage(name="end", when="good")(lambda: 1)
    return flow


def cyclic() -> Flow:
    flow = two(after="b")
    flow.stage(name="b")(lambda end: 1)
    return flow


CHECKED = [
    Refused("after", lambda: two(after="c"), "follows 'c', which is no stage"),
    Refused("count", lambda: two(join="2 of 3"), "join='2 of 3', but it has 2 branches (a, b)"),
    Refused("number", lambda: two(join=3), "join=3 waits for more branches than there are: it has 2 branches (a, b)"),
    Refused("edge", deep, "has a condition for 'a', which stands inside or outside of a loop"),
    Refused("no edge", lambda: two(when={"bb": "x"}), "has a condition for 'bb', which is no stage"),
    Refused("nothing", lambda: one(otherwise=True), "says otherwise=True, but follows nothing"),
    Refused("alone", lambda: two(otherwise=True), "but nothing else that follows 'a' has a condition"),
    Refused("no choice", chosen, "says choose='one', but nothing that follows it has a condition"),
    Refused(
        "left out",
        losing,
        "says choose='one', and 'lost' would never run behind it: give it when={'a': ...}",
    ),
    Refused("milestone", lambda: two(milestone="c"), "has as its milestone 'c', which is no stage"),
    Refused("until", lambda: two(milestone="a", until="c"), "has until= 'c', which is no stage"),
    Refused("cancels", lambda: two(cancels="webb"), "cancels 'webb', which is neither a stage nor a region of one"),
    Refused("collect", lambda: one(collect="x"), "collect gathers outputs of stages before it, and there are none"),
    Refused("item", named_wrongly, "no parameter of it is called 'topic' or 'item'; call one so, or name it"),
    Refused("as_", lambda: one(each=2, as_="x"), "as_='x' is no parameter of it; it has topic, item"),
    Refused("around each", lambda: around(one(each=2), "before", smoke), "runs several times (each=)"),
    Refused("asks", lambda: around(two(), "before", asking), "'asking' (before) asks for the stage 'a'"),
    Refused("instances", lambda: behind_instances("2 of 4"), "is about the instances of 'many', and there are 3"),
    Refused("twice", lambda: behind_instances(1, 2), "'end1' says otherwise; say once at 'many' with enough="),
    Refused("enough", lambda: behind_instances(1, enough=2), "'many' itself says enough=2"),
    Refused("own loop", lambda: inside(after="again"), "is inside the loop 'again' and cannot follow it"),
    Refused("empty loop", emptied, "loop 'again' has no body; define its stages in `with flow.loop(...):`"),
    Refused("cancels loop", cancelling, "cancels the loop 'again'; give its stages a region= and cancel that"),
    Refused("called", called, "flow 'f', which it calls, cannot be run: stage 'end'"),
    Refused("cycle", cyclic, "cycle: "),
    Refused("whole", gated, "its condition 'good' reads all of 'good'; name an output of it, as in good.approved"),
]  # fmt: skip


@pytest.mark.parametrize("case", CHECKED, ids=lambda case: case.name)
def test_flow_is_refused_before_anything_is_stored(case: Refused) -> None:
    """What does not go together is refused when the flow is checked, and its picture can be drawn all the same."""
    flow = case.make()

    with pytest.raises(InvalidWorkflowError) as refused:
        flow.check()
    assert case.says in str(refused.value)
    assert "\n" not in str(refused.value)
    with Engine(":memory:") as engine:
        with pytest.raises(InvalidWorkflowError):
            engine.start(flow)
        assert engine.runs().empty
    assert flow.picture().stages
