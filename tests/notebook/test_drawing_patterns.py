"""What the drawn graph says about control flow: every field of a stage that changes who runs when is seen."""

import dataclasses
from xml.etree import ElementTree as ET

import pytest

from stabilize_nb import Engine, Flow
from stabilize_nb.models.multi_instance import MultiInstanceConfig
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution, SyntheticStageOwner
from stabilize_nb.models.status import WorkflowStatus as S
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.dot import to_dot
from stabilize_nb.notebook.draw import svg_of
from stabilize_nb.notebook.frames import nest
from stabilize_nb.notebook.marks import SIGNS
from stabilize_nb.notebook.mermaid import to_mermaid
from stabilize_nb.notebook.shown import Box, Line
from stabilize_nb.notebook.signs import Sign
from stabilize_nb.notebook.sketch import describe, sketch
from stabilize_nb.notebook.text import to_text
from stabilize_nb.stages.loop_builder import LoopBuilder
from stabilize_nb.stages.multi_instance_builder import MultiInstanceBuilder
from tests.notebook.drawn import NAMESPACE, flow, jump, stage, titles, words


def boxes(*stages: StageExecution, **settings) -> dict[str, Box]:
    return {box.title: box for box in sketch(flow(*stages, **settings)).boxes}


def arrows(*stages: StageExecution) -> list[tuple[str, str, str]]:
    """Return the arrows that are no edges, as (tail, head, label)."""
    seen = sketch(flow(*stages))
    return [(arrow.tail, arrow.head, arrow.label) for arrow in seen.arrows if arrow not in seen.flow]


def signs(svg: str) -> list[str]:
    """Return the names of the signs that are drawn, in the order of the drawing."""
    names = {path: sign.value for sign, path in SIGNS.items()}
    drawn = [element.get("d") for element in ET.fromstring(svg).iter(f"{NAMESPACE}path")]
    return [names[path] for path in drawn if path in names]


def text(*stages: StageExecution) -> list[str]:
    return to_text(flow(*stages)).splitlines()[2:]


ALONE = {
    "takes the first match": {"split_type": SplitType.XOR, "split_conditions": {"b": "x"}},
    "takes every match": {"split_type": SplitType.OR, "split_conditions": {"b": "x"}},
    "splits into 3 threads": {"thread_split": 3},
    "merges 4 threads": {"thread_merge": 4},
    "one at a time: pen": {"mutex_key": "pen"},
    "only while b is SUCCEEDED": {"milestone_ref_id": "b", "milestone_status": "SUCCEEDED"},
    "only while b is RUNNING until c starts": {
        "milestone_ref_id": "b",
        "milestone_status": "RUNNING",
        "milestone_until_ref_id": "c",
    },
    "cancels b, c": {"cancels_stages": {"c", "b"}},
    "cancels region legal": {"cancels_regions": {"legal"}},
    "ends the workflow": {"ends_workflow": "SUCCEEDED"},
    "cancels the workflow": {"ends_workflow": "CANCELED"},
    "sub-workflow audit": {"context": {"_sub_workflow_config": {"name": "audit"}}},
}


@pytest.mark.parametrize("said", ALONE)
def test_setting_is_seen_in_every_notation(said: str):
    """A setting of one stage stands in picture, text, Mermaid and description, and has a sign of its own."""
    drawn = flow(stage("a", **ALONE[said]), stage("b", "a"), stage("c", "a"))
    svg = svg_of(drawn)

    assert said in " ".join(words(svg))
    assert said in titles(svg)[0]
    assert said in to_text(drawn).splitlines()[2]
    assert said in to_mermaid(drawn).replace("#58;", ":")
    assert said in describe(drawn)
    assert len(signs(svg)) == 1


def test_every_control_flow_field_changes_the_picture():
    """There is no field of a stage about control flow that a picture is silent about."""
    plain = {"ref_id", "type", "name", "context", "outputs", "tasks", "id", "start_time", "end_time", "runtime"}
    state = {"status", "generation", "activation", "error", "parent_stage_id", "synthetic_stage_owner"}
    data = {"output_reducers", "on_crash"}
    given = {
        "requisite_stage_ref_ids": {"b"},
        "join_type": JoinType.OR,
        "join_threshold": 1,
        "join_blocking": True,
        "join_cancel_remaining": True,
        "split_type": SplitType.OR,
        "split_conditions": {"z": "x"},
        "split_default": "z",
        "thread_split": 2,
        "thread_merge": 2,
        "mi_config": MultiInstanceConfig(count=2),
        "deferred_choice_group": "g",
        "milestone_ref_id": "b",
        "milestone_status": "RUNNING",
        "milestone_until_ref_id": "c",
        "mutex_key": "k",
        "critical_section": "s",
        "cancel_region": "r",
        "cancels_stages": {"b"},
        "cancels_regions": {"r"},
        "ends_workflow": "CANCELED",
        "jump_targets": {"b"},
    }
    needed = {
        "join_threshold": {"join_type": JoinType.N_OF_M},
        "join_blocking": {"join_type": JoinType.DISCRIMINATOR},
        "join_cancel_remaining": {"join_type": JoinType.DISCRIMINATOR},
        "split_type": {"split_conditions": {"z": "x"}},
        "split_conditions": {"split_type": SplitType.OR},
        "split_default": {"split_type": SplitType.XOR},
        "milestone_status": {"milestone_ref_id": "b"},
        "milestone_until_ref_id": {"milestone_ref_id": "b"},
    }

    def drawn(**settings) -> str:
        settings = {"requisite_stage_ref_ids": {"b", "c"}} | settings
        return svg_of(flow(stage("b"), stage("c"), StageExecution(ref_id="a", **settings), stage("z", "a")))

    assert {each.name for each in dataclasses.fields(StageExecution)} == plain | state | data | given.keys()
    for name, value in given.items():
        assert drawn(**needed.get(name, {}), **{name: value}) != drawn(**needed.get(name, {})), name


def test_signs_differ():
    """No two signs share a drawing."""

    assert SIGNS.keys() == set(Sign)
    assert len(set(SIGNS.values())) == len(Sign)


# Joins and splits


@pytest.mark.parametrize(
    ("join", "settings", "said", "sign"),
    [
        (JoinType.OR, {}, "joins all taken of 3", "taken"),
        (JoinType.MULTI_MERGE, {}, "joins each of 3", "each"),
        (JoinType.DISCRIMINATOR, {}, "joins the first of 3", "first"),
        (JoinType.DISCRIMINATOR, {"join_blocking": True}, "joins the first of 3, blocking", "first"),
        (JoinType.N_OF_M, {"join_threshold": 2}, "joins 2 of 3", "quorum"),
        (
            JoinType.N_OF_M,
            {"join_threshold": 2, "join_cancel_remaining": True},
            "joins 2 of 3, cancels the rest",
            "quorum",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_joins_differ(join: JoinType, settings: dict, said: str, sign: str):
    """Each kind of join has words and a sign."""
    branches = [stage("a"), stage("b"), stage("c")]
    svg = svg_of(flow(*branches, stage("d", "a", "b", "c", join_type=join, **settings)))

    assert said in " ".join(words(svg))
    assert signs(svg) == [sign]


def test_conditions_of_an_exclusive_choice_are_in_order():
    """The first condition is an if, the further ones are else if, the default is otherwise."""
    router = stage("a", split_type=SplitType.XOR, split_conditions={"c": "x > 1", "b": "x > 0"}, split_default="d")
    seen = sketch(flow(router, stage("b", "a"), stage("c", "a"), stage("d", "a")))

    assert {arrow.head: arrow.label for arrow in seen.arrows} == {
        "c": "if x > 1",
        "b": "else if x > 0",
        "d": "otherwise",
    }


def test_threads_stand_on_the_arrows():
    """An arrow says how many threads go over it, behind its condition."""
    split = stage("a", thread_split=3, split_type=SplitType.OR, split_conditions={"b": "x"})
    seen = sketch(flow(split, stage("b", "a"), stage("c", "a")))

    assert [arrow.label for arrow in seen.arrows] == ["if x, ×3", "×3"]


# Arrows that are no edges


def test_milestone_points_at_what_depends_on_it():
    """A dotted arrow leads from the milestone, and one from what closes the window."""
    window = {"milestone_ref_id": "open", "milestone_status": "SUCCEEDED", "milestone_until_ref_id": "close"}
    stages = [stage("open"), stage("close", "open"), stage("enrol", **window)]

    assert arrows(*stages) == [("open", "enrol", "while SUCCEEDED"), ("close", "enrol", "until it starts")]
    assert {arrow.line for arrow in sketch(flow(*stages)).arrows} == {Line.FLOW, Line.STATE}


def test_cancelling_points_at_what_is_cancelled():
    """An arrow leads from the stage that withdraws another one."""

    assert arrows(stage("a", cancels_stages={"b"}), stage("b")) == [("a", "b", "cancels")]


def test_jump_that_may_be_is_drawn_until_it_was():
    """A declared jump is an arrow without a count; once carried out it has one."""
    history = {"_jump_history": [jump("b", "a", 1)]}

    assert arrows(stage("a"), stage("b", "a", jump_targets={"a", "b"})) == [
        ("b", "a", "may jump"),
        ("b", "b", "may jump"),
    ]
    assert arrows(stage("a"), stage("b", "a", jump_targets={"a"}, context=history)) == [("b", "a", "jumped 1×")]


def test_rounds_are_counted_of_what_is_repeated():
    """A jump resets also what is behind its cycle; only what is in the cycle says its round."""
    history = {"_jump_history": [jump("b", "a", 1)]}
    seen = boxes(
        stage("a", generation=1), stage("b", "a", generation=1, context=history), stage("c", "b", generation=1)
    )

    assert [box.ref for box in seen.values() if "round 2" in box.words] == ["a", "b"]


def test_restarted_stage_says_its_round():
    """Without a jump a stage that was reset was restarted."""

    assert "round 2" in boxes(stage("a", generation=1))["a"].words


def test_loop_has_its_condition_on_its_arrows():
    """A structured loop says on its arrows when it is entered, left and repeated."""
    stages = LoopBuilder.while_loop("n < 3", [stage("body")])
    seen = sketch(flow(*stages))

    assert [(arrow.tail, arrow.head, arrow.label, arrow.line) for arrow in seen.arrows] == [
        ("loop_entry", "body", "if n < 3", Line.FLOW),
        ("loop_entry", "loop_exit", "otherwise", Line.FLOW),
        ("body", "loop_exit", "", Line.FLOW),
        ("loop_exit", "loop_entry", "again while n < 3", Line.LOOP),
    ]


def test_loop_that_is_always_entered_has_one_way():
    """The body of repeat-until is not passed by; its bound and its passes stand at its exit."""
    stages = LoopBuilder.repeat_until("done", [stage("body")], max_iterations=4)
    stages[-1].context["_loop_passes"] = 3
    seen = sketch(flow(*stages))

    assert [(arrow.tail, arrow.head, arrow.label) for arrow in seen.arrows] == [
        ("loop_entry", "body", ""),
        ("body", "loop_exit", ""),
        ("loop_exit", "loop_entry", "again until done"),
    ]
    assert seen.boxes[-1].words == ("not started", "3 passes, at most 4")


# Frames


def test_choice_region_and_section_are_framed():
    """What stages have in common is a frame around them, and needs no line in their boxes."""
    svg = svg_of(
        flow(
            *(stage("a", deferred_choice_group="reply"), stage("b", deferred_choice_group="reply")),
            *(stage("c", cancel_region="legal"), stage("d", "c", cancel_region="legal")),
            stage("e", mutex_key="crane", critical_section="load"),
        )
    )

    assert {"deferred choice: reply", "cancelled together: legal", "critical section: load (crane)"} <= set(words(svg))
    assert words(svg).count("deferred choice: reply") == 1


def test_frames_stand_inside_each_other():
    """A frame within a frame is drawn in it."""
    stages = [stage("a", cancel_region="r", deferred_choice_group="g"), stage("b", cancel_region="r")]
    whole = nest(sketch(flow(*stages)).boxes)

    assert [framed.frame.name for framed in whole.inside] == ["r"]
    assert [framed.frame.name for framed in whole.inside[0].inside] == ["g"]
    assert [box.ref for box in whole.inside[0].boxes] == ["b"]


def test_frame_that_crosses_another_is_written():
    """Of frames that cross the larger one is drawn, and the other one stands in its boxes."""
    svg = svg_of(
        flow(
            stage("a", cancel_region="r"),
            stage("b", cancel_region="r", deferred_choice_group="g"),
            stage("c", cancel_region="r"),
            stage("d", deferred_choice_group="g"),
        )
    )

    assert words(svg).count("cancelled together: r") == 1
    assert words(svg).count("deferred choice: g") == 2


def test_text_writes_the_frames():
    """In text every stage says what it is framed by."""

    assert text(stage("a", cancel_region="r", deferred_choice_group="g")) == [
        "○ a  not started  cancelled together: r · deferred choice: g"
    ]


# Several instances


def many(config: str, *args, **settings) -> list[StageExecution]:
    parent = stage("p", type="work")
    return [parent, *getattr(MultiInstanceBuilder, config)(parent, *args, **settings)]


def test_instances_are_one_stack():
    """All instances are one box between their parent and their join, and say how many are done."""
    stages = many("create_fixed", 3)
    for each, status in zip(stages, [S.SUCCEEDED, S.SUCCEEDED, S.RUNNING, S.NOT_STARTED], strict=False):
        each.status = status
    seen = boxes(*stages)

    assert [*seen] == ["p", "p × 3", "p_mi_join"]
    assert seen["p × 3"].is_stack
    assert seen["p × 3"].words == ("running", "1 of 3 done")
    assert seen["p_mi_join"].words == ("not started", "joins all instances")


def test_stack_is_drawn_as_three_cards():
    """A stack shows three outlines, and its text stands on the card on top."""
    svg = svg_of(flow(*many("create_fixed", 3)))
    node = next(group for group in ET.fromstring(svg)[0] if "p × 3" in [part.text for part in group])
    cards = [part for part in node if part.get("fill") not in {None, "none"} and part.get("d", "").endswith("Z")]

    assert len(cards) == 3
    assert signs(svg) == ["many", "all"]


@pytest.mark.parametrize(
    ("stages", "title", "said", "join"),
    [
        (many("create_fixed", 5, join_threshold=3), "p × 5", "5 instances", "joins 3 of 5 instances"),
        (
            many("create_fixed", 5, join_threshold=3, cancel_remaining=True),
            "p × 5",
            "5 instances",
            "joins 3 of 5 instances, cancels the rest",
        ),
        (many("create_from_context", "num"), "p × n", "as many as num", "joins all instances"),
        (many("create_from_collection", "items"), "p × n", "one for each of items", "joins all instances"),
        (many("create_dynamic", 2), "p × 2", "2 at first, more may be added", "joins all instances"),
        (many("create_dynamic"), "p × n", "none at first, more may be added", "joins all instances"),
        (
            many("create_dynamic", 2, completion_condition="completed > 1"),
            "p × 2",
            "2 at first, more may be added",
            "joins enough instances: completed > 1",
        ),
    ],
    ids=["fixed", "cancelling", "number", "list", "dynamic", "empty", "condition"],
)
def test_instances_say_where_they_come_from(stages: list, title: str, said: str, join: str):
    """A definition says how many instances there will be, and what their join waits for."""
    seen = boxes(*stages)

    assert [*seen] == ["p", title, "p_mi_join"]
    assert seen[title].words == ("not started", said)
    assert seen["p_mi_join"].words == ("not started", join)


def test_instances_that_nothing_waits_for_are_an_end():
    """Without a join the stack says that nothing follows it."""
    seen = sketch(flow(*many("create_fixed", 2, sync_on_complete=False)))

    assert seen.boxes[1].words == ("not started", "2 instances", "nothing waits for them")
    assert [(arrow.tail, arrow.head) for arrow in seen.arrows] == [("p", "p_instance_0")]


@pytest.mark.parametrize(
    ("join", "look"), [(S.SUCCEEDED, S.SUCCEEDED), (S.CANCELED, S.CANCELED)], ids=["enough", "cancelled"]
)
def test_instances_that_were_not_needed_want_no_attention(join: S, look: S):
    """A stack whose rest was withdrawn has succeeded if its join has."""
    stages = many("create_fixed", 3, join_threshold=1, cancel_remaining=True)
    for each, status in zip(stages, [S.SUCCEEDED, S.SUCCEEDED, S.CANCELED, S.CANCELED, join], strict=True):
        each.status = status
    stack = boxes(*stages)["p × 3"]

    assert stack.status is look
    assert stack.words[1:] == ("2 cancelled", "1 succeeded")


# Parts of a stage


def deploy() -> list[StageExecution]:
    parent = stage("deploy", status=S.RUNNING)
    before = StageExecution.create_synthetic("v", "Validate", parent, SyntheticStageOwner.STAGE_BEFORE)
    before.status = S.SUCCEEDED
    after = StageExecution.create_synthetic("n", "Notify", parent, SyntheticStageOwner.STAGE_AFTER)
    failure = StageExecution.create_synthetic("r", "Roll Back", parent, SyntheticStageOwner.STAGE_FAILURE)
    return [failure, after, parent, before, stage("next", "deploy")]


def test_synthetic_stages_stand_in_their_parent():
    """What runs before, after and on failure is a line in the box, with the mark of its status."""
    svg = svg_of(flow(*deploy()))

    assert titles(svg) == [
        "deploy: running, before: Validate succeeded, after: Notify not started, on failure: Roll Back not started",
        "next: not started",
    ]
    assert words(svg)[:5] == ["deploy", "running", "before: Validate", "after: Notify", "on failure: Roll Back"]


def test_text_says_the_parts():
    """In text the parts stand on the line of their parent."""

    assert text(*deploy())[0] == (
        "▶ deploy  running      before: ✓ Validate · after: ○ Notify · on failure: ○ Roll Back"
    )


def test_parents_in_a_circle_are_drawn():
    """Synthetic stages that are parts of each other, or of a stage that is not there, have boxes of their own."""
    a, b, c = stage("a"), stage("b"), stage("c", parent_stage_id="nowhere")
    a.parent_stage_id, b.parent_stage_id = b.id, a.id

    assert [box.ref for box in sketch(flow(a, b, c)).boxes] == ["a", "b", "c"]


# The end, and the rest


@pytest.mark.parametrize("end", ["SUCCEEDED", "CANCELED"])
def test_end_of_the_workflow_is_a_node(end: str):
    """A stage that ends the workflow leads to a mark of its own, and the two ends differ."""
    svg = svg_of(flow(stage("a", ends_workflow=end)))
    rings = [element for element in ET.fromstring(svg).iter(f"{NAMESPACE}circle") if element.get("r") == "9.5"]

    assert titles(svg)[-1] == f"here the workflow ends: {end}"
    assert len(rings) == 1


def test_waiting_stage_says_for_what():
    """A stage that is suspended waits for a person, a sub-workflow or a signal."""
    nested = {"context": {"_sub_workflow_config": {}}}
    seen = boxes(
        stage("gate", type="approval", status=S.SUSPENDED),
        stage("sub", status=S.SUSPENDED, **nested),
        stage("bell", status=S.SUSPENDED),
    )

    assert [box.words[-1] for box in seen.values()] == [
        "waits for approval",
        "waits for its sub-workflow",
        "waits for a signal",
    ]


def test_mermaid_has_a_line_for_each_kind_of_arrow():
    """Loops, states and cancellations have the lines that Mermaid has for them."""
    stages = [stage("a", cancels_stages={"b"}), stage("b", milestone_ref_id="a", milestone_status="RUNNING")]
    drawn = to_mermaid(Workflow(name="x", stages=[*stages, *LoopBuilder.while_loop("n", [stage("c")])]))

    assert '-.-o|"while RUNNING"|' in drawn
    assert '--x|"cancels"|' in drawn
    assert '==>|"again while n"|' in drawn


def test_odd_contexts_are_drawn():
    """Contexts may hold anything under the names that the builders use."""
    odd = {
        "_mi_parent_ref_id": ["p"],
        "_mi_instance_index": "x",
        "_loop_config": {"entry": "a", "condition": None},
        "_sub_workflow_config": 3,
        "_loop_passes": {},
    }
    drawn = flow(stage("a", context=odd), stage("p", mi_config=MultiInstanceConfig()), stage("p_mi_join", "p"))

    assert len(titles(svg_of(drawn))) == 4
    assert to_dot(drawn) == to_dot(drawn)


def test_stage_of_a_flow_for_each_item_is_one_box():
    """What finds the items and what gathers the results is the same stage to whoever wrote it."""
    flow = Flow("research")
    flow.stage(name="plan")(lambda question: {"topics": [question, "ice"]})
    flow.stage(name="study", each="topics", after="plan")(lambda topic: topic)
    flow.stage(name="report", join=2)(lambda study: study)

    shown = sketch(flow.picture())
    with Engine(":memory:") as engine:
        run = engine.start(flow, question="why")
        run.wait(20)
        done = sketch(run.workflow)

    assert [box.title for box in shown.boxes] == ["plan", "study × n", "report"]
    assert shown.boxes[1].words == ("not started", "one for each of topics", "joins 2 instances")
    assert [(arrow.tail, arrow.head) for arrow in shown.arrows] == [("plan", "study"), ("study", "report")]
    assert [box.title for box in done.boxes] == ["plan", "study × 2", "report"]
    assert done.boxes[1].words[0] == "succeeded"
    assert "2 of 2 done" in done.boxes[1].words
