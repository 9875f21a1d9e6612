"""What the builders of stages make: synthetic stages, multi-instance activities, loops, and children as plain data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb import StageExecution, SubWorkflowTask, TaskExecution, TaskRegistry, TaskResult, Workflow
from stabilize_nb.dag.graph import StageGraphBuilder
from stabilize_nb.errors import ConfigError, StabilizeError
from stabilize_nb.models.stage import JoinType, SplitType, SyntheticStageOwner
from stabilize_nb.models.topology import check_topology
from stabilize_nb.stages.builder import (
    StageBuilderError,
    StageDefinitionBuilder,
    StageDefinitionBuilderFactory,
    get_builder,
    plan,
    plan_workflow,
    register_builder,
    unregister_builder,
)
from stabilize_nb.stages.loop_builder import LoopBuilder
from stabilize_nb.stages.multi_instance_builder import MultiInstanceBuilder
from stabilize_nb.tasks.child import with_plain_stages, workflow_of
from tests.makers import stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEFORE, AFTER = SyntheticStageOwner.STAGE_BEFORE, SyntheticStageOwner.STAGE_AFTER
FAILURE = SyntheticStageOwner.STAGE_FAILURE


def task(name: str, implementing_class: str = "shell") -> TaskExecution:
    """Make the only task of a stage."""
    return TaskExecution.create(name, implementing_class, stage_start=True, stage_end=True)


class DeployStageBuilder(StageDefinitionBuilder):
    """The builder of the reference document."""

    @property
    def type(self) -> str:
        return "deploy"

    def build_tasks(self, stage: StageExecution) -> list[TaskExecution]:
        return [task("Deploy Application")]

    def before_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        graph.add(
            StageExecution.create_synthetic(
                type="shell",
                name="Validate Configuration",
                parent=stage,
                owner=SyntheticStageOwner.STAGE_BEFORE,
                context={"command": "validate-config.sh"},
                tasks=[task("Validate")],
            )
        )

    def after_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        graph.add(StageExecution.create_synthetic("http", "Send Notification", stage, AFTER, {"method": "POST"}))

    def on_failure_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        graph.add(StageExecution.create_synthetic("shell", "Rollback Deployment", stage, AFTER))


@pytest.fixture
def factory() -> StageDefinitionBuilderFactory:
    """Make a factory that knows the builder of the reference document."""
    made = StageDefinitionBuilderFactory()
    made.register(DeployStageBuilder())
    return made


@pytest.fixture
def deploy() -> Iterator[None]:
    """Have the builder of the reference document known everywhere."""
    register_builder(DeployStageBuilder())
    yield
    unregister_builder("deploy")


# -- synthetic stages -------------------------------------------------------------------------------------------


def test_synthetic_stage_belongs_to_its_parent():
    """create_synthetic takes the tasks, names the parent and the owner, and tells the ref_id from the name."""
    parent = StageExecution(ref_id="d", type="deploy")

    made = StageExecution.create_synthetic("shell", "Validate (all) Größen", parent, BEFORE, {"x": 1}, [task("t")])

    assert (made.parent_stage_id, made.synthetic_stage_owner) == (parent.id, BEFORE)
    assert made.ref_id == "d.before.validate_all_größen"
    assert [each.name for each in made.tasks] == ["t"]
    assert made.context == {"x": 1}
    assert StageExecution.create_synthetic("shell", "", parent, FAILURE).ref_id == "d.failure.shell"
    assert StageExecution.create_synthetic("", "", parent, AFTER, ref_id="own").ref_id == "own"


def test_planning_adds_what_the_builder_says(factory: StageDefinitionBuilderFactory):
    """A stage gets its tasks and its synthetic stages, behind the stages that were given; the graph can be run."""
    first, second = StageExecution(ref_id="d", type="deploy"), stage("z", "d")

    planned = plan([first, second], factory)

    assert [(each.ref_id, each.synthetic_stage_owner) for each in planned] == [
        ("d", None),
        ("z", None),
        ("d.before.validate_configuration", BEFORE),
        ("d.after.send_notification", AFTER),
        ("d.failure.rollback_deployment", FAILURE),
    ]
    assert {each.parent_stage_id for each in planned[2:]} == {first.id}
    assert [each.name for each in first.tasks] == ["Deploy Application"]
    check_topology("planned", planned)


def test_planning_again_changes_nothing(factory: StageDefinitionBuilderFactory):
    """A workflow that is planned twice has each synthetic stage once, and the same ones."""
    once = plan([StageExecution(ref_id="d", type="deploy")], factory)

    assert [each.id for each in plan(once, factory)] == [each.id for each in once]


def test_tasks_that_are_there_stay(factory: StageDefinitionBuilderFactory):
    """The builder is not asked for the tasks of a stage that has some."""
    mine = StageExecution(ref_id="d", type="deploy", tasks=[task("mine")])

    plan([mine], factory)

    assert [each.name for each in mine.tasks] == ["mine"]


def test_workflow_is_planned_with_the_builders_known_everywhere(deploy: None):
    """plan_workflow extends the workflow itself, by what register_builder knows."""
    flow = Workflow.create("tests", "w", [StageExecution(ref_id="d", type="deploy")])

    plan_workflow(flow)

    assert len(flow.stages) == 4
    assert get_builder("deploy").type == "deploy"
    assert get_builder("nonsense") is None


def test_synthetic_stages_are_planned_too(factory: StageDefinitionBuilderFactory):
    """A synthetic stage of a type that has a builder gets its own synthetic stages."""

    class Release(StageDefinitionBuilder):
        type = "release"

        def after_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
            graph.append(StageExecution.create_synthetic("deploy", "Roll Out", stage, AFTER))
            graph.append(StageExecution.create_synthetic("shell", "Smoke Test", stage, AFTER))

    factory.register(Release())

    planned = {each.ref_id: each for each in plan([StageExecution(ref_id="r", type="release")], factory)}

    assert planned["r.after.smoke_test"].requisite_stage_ref_ids == {"r.after.roll_out"}
    inner = planned["r.after.roll_out.before.validate_configuration"]
    assert inner.parent_stage_id == planned["r.after.roll_out"].id
    check_topology("planned", list(planned.values()))


class Broken(StageDefinitionBuilder):
    """A builder that goes wrong in the way that its subclass says."""

    type = "broken"


class Raises(Broken):
    def before_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        message = "no such cluster"
        raise LookupError(message)


class ReturnsNames(Broken):
    def build_tasks(self, stage: StageExecution) -> Any:
        return ["shell"]


class NeverEnds(Broken):
    def before_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        graph.add(StageExecution.create_synthetic("broken", "again", stage, BEFORE))


class AddsAnothers(Broken):
    def before_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        graph.add(StageExecution.create_synthetic("shell", "x", StageExecution(ref_id="other"), BEFORE))


@pytest.mark.parametrize(
    ("builder", "words"),
    [
        (Raises, ("Raises", "'s'", "before_stages", "LookupError: no such cluster")),
        (ReturnsNames, ("ReturnsNames", "'s'", "['shell']", "list of TaskExecution")),
        (NeverEnds, ("more than 10 deep", "'s.before.again")),
        (AddsAnothers, ("AddsAnothers", "'s'", "'other.before.x'", "parent")),
    ],
)
def test_builder_that_goes_wrong_is_named(builder: type[Broken], words: tuple[str, ...]):
    """A builder that raises, or returns something odd, gives one sentence that names it and the stage."""
    factory = StageDefinitionBuilderFactory()
    factory.register(builder())

    with pytest.raises(StageBuilderError) as refused:
        plan([StageExecution(ref_id="s", type="broken")], factory)

    assert "\n" not in str(refused.value)
    for word in words:
        assert word in str(refused.value)


def test_factory_takes_builders_only():
    """A class in the place of its instance is refused; a builder of a known type takes the place of the other."""
    factory = StageDefinitionBuilderFactory()
    with pytest.raises(StageBuilderError, match="an instance of a StageDefinitionBuilder subclass is expected"):
        factory.register(DeployStageBuilder)

    factory.register(DeployStageBuilder())
    factory.register(again := DeployStageBuilder())
    assert factory.list() == [again]


def test_graph_builder_keeps_order():
    """connect and append add requisites, add adds a stage once, and a name that is taken gets a number."""
    parent = StageExecution(ref_id="p")
    graph = StageGraphBuilder(parent, FAILURE)
    one, two, three = (StageExecution.create_synthetic("shell", name, parent, AFTER) for name in ("a", "b", "a"))
    two.requisite_stage_ref_ids = {one.ref_id}

    graph.connect(one, two)
    graph.add(one)
    graph.append(three)

    assert [(each.ref_id, each.requisite_stage_ref_ids) for each in graph.build()] == [
        ("p.failure.a", set()),
        ("p.failure.b", {"p.failure.a"}),
        ("p.failure.a_2", {"p.failure.b"}),
    ]
    with pytest.raises(ConfigError, match="both parent and owner"):
        StageGraphBuilder(parent)


def test_graph_builder_names_what_was_not_named():
    """A plain stage that a hook adds becomes a synthetic stage of the hook."""
    parent = StageExecution(ref_id="p")
    graph = StageGraphBuilder(parent, BEFORE)

    made = graph.append(StageExecution(type="shell", name="Check It"))

    assert (made.ref_id, made.synthetic_stage_owner, made.parent_stage_id) == ("p.before.check_it", BEFORE, parent.id)
    assert StageGraphBuilder().append(StageExecution(ref_id="free")).parent_stage_id is None


# -- multi-instance activities ----------------------------------------------------------------------------------


def parent(**fields: Any) -> StageExecution:
    """Make the parent of the reference document."""
    return StageExecution(ref_id="review", type="review", name="Review", **fields)


def planned(p: StageExecution, made: list[StageExecution]) -> list[StageExecution]:
    """Plan and check the workflow of a parent and what the builder made for it."""
    stages = plan([p, *made], StageDefinitionBuilderFactory())
    check_topology("mi", stages)
    return stages


def test_fixed_number_of_instances():
    """WCP-13: six instances require the parent, and the join requires the six."""
    p = parent()
    made = MultiInstanceBuilder.create_fixed(
        parent_stage=p,
        count=6,
        instance_type="check",
        instance_name_prefix="Reviewer",
        sync_on_complete=True,
        instance_contexts=[{"who": "ann"}, {"who": "bob"}],
    )

    *instances, join = made
    assert [each.ref_id for each in instances] == [f"review_instance_{index}" for index in range(6)]
    assert all(each.requisite_stage_ref_ids == {"review"} for each in instances)
    assert instances[1].context == {
        "who": "bob",
        "_mi_parent_ref_id": "review",
        "_mi_instance_index": 1,
        "_mi_instance_count": 6,
    }
    assert (instances[1].type, instances[1].name) == ("check", "Reviewer 1")
    assert join.ref_id == "review_mi_join"
    assert join.requisite_stage_ref_ids == {each.ref_id for each in instances}
    assert (join.join_type, join.join_threshold, join.tasks) == (JoinType.AND, 0, [])
    assert p.mi_config.count == 6
    planned(p, made)


def test_instances_without_synchronization_have_no_join():
    """WCP-12: only the instances are made."""
    p = parent()

    made = MultiInstanceBuilder.create_fixed(parent_stage=p, count=3, sync_on_complete=False)

    assert [each.ref_id for each in made] == ["review_instance_0", "review_instance_1", "review_instance_2"]
    assert p.mi_config.sync_on_complete is False


def test_tasks_of_instances(deploy: None):
    """The caller's tasks, else those of the type's builder, else one task of the type's name."""
    own, built = MultiInstanceBuilder.create_fixed(parent(), 2, "deploy", sync_on_complete=False)
    (plain,) = MultiInstanceBuilder.create_fixed(parent(), 1, sync_on_complete=False)
    own.tasks = [task("own", "python")]
    flow = Workflow(name="w", stages=[own, built, plain])

    plan_workflow(flow)

    names = [[(each.name, each.implementing_class) for each in row.tasks] for row in (own, built, plain)]
    assert names == [[("own", "python")], [("Deploy Application", "shell")], [("review", "review")]]


def test_threshold_makes_a_partial_join():
    """WCP-34 and 35: join_threshold counts, and cancel_remaining withdraws the rest."""
    p = parent()

    made = MultiInstanceBuilder.create_fixed(parent_stage=p, count=5, join_threshold=3, cancel_remaining=True)

    join = made[-1]
    assert (join.join_type, join.join_threshold, join.join_cancel_remaining) == (JoinType.N_OF_M, 3, True)
    assert p.mi_config.join_threshold == 3
    planned(p, made)


def test_cancelling_without_a_threshold_has_nothing_to_cancel():
    """cancel_remaining without a threshold is a plain join of all."""
    made = MultiInstanceBuilder.create_fixed(parent(), 2, cancel_remaining=True)

    assert (made[-1].join_type, made[-1].join_cancel_remaining) == (JoinType.AND, False)


def test_number_in_the_parents_context_is_taken_at_once():
    """WCP-14: what is known when the builder is called makes instances that are there from the beginning."""
    p = parent(context={"num_reviewers": 4})

    made = MultiInstanceBuilder.create_from_context(parent_stage=p, count_key="num_reviewers")

    assert len(made) == 5
    assert (p.mi_config.count, p.mi_config.count_from_context, p.mi_config.instance) == (4, None, {})


def test_number_that_comes_at_run_time_makes_the_join_only():
    """WCP-14: the join requires the parent in the place of instances that are not known, and the template is kept."""
    p = parent()

    made = MultiInstanceBuilder.create_from_context(p, "num", instance_name_prefix="R", join_threshold=7)

    assert [each.ref_id for each in made] == ["review_mi_join"]
    assert made[0].requisite_stage_ref_ids == {"review"}
    assert p.mi_config.count_from_context == "num"
    assert p.mi_config.instance == {"type": "review", "name": "R", "tasks": [["review", "review"]], "context": {}}
    planned(p, made)


def test_collection_gives_each_instance_its_item():
    """WCP-14: item i is in the context of instance i."""
    p = parent(context={"items": ["a", "b", "c"]})

    made = MultiInstanceBuilder.create_from_collection(
        parent_stage=p, collection_key="items", item_context_key="current_item"
    )

    assert [each.context["current_item"] for each in made[:-1]] == ["a", "b", "c"]
    assert (p.mi_config.count, p.mi_config.collection_from_context) == (3, None)


def test_collection_that_comes_at_run_time(deploy: None):
    """WCP-14: the key and the name of the item are kept, and the tasks of the type's builder."""
    p = parent()

    MultiInstanceBuilder.create_from_collection(p, "found", instance_type="deploy")

    assert (p.mi_config.collection_from_context, p.mi_config.item_context_key) == ("found", "item")
    assert p.mi_config.instance["tasks"] == [["Deploy Application", "shell"]]


def test_no_instances_at_all():
    """Zero is a number: the join requires the parent alone."""
    p = parent()

    made = MultiInstanceBuilder.create_fixed(p, 0)

    assert [(each.ref_id, each.requisite_stage_ref_ids) for each in made] == [("review_mi_join", {"review"})]
    planned(p, made)


def test_dynamic_instances_are_like_the_first():
    """WCP-15: what the user gave the first instance is what an instance gets that is added while it runs."""
    p = parent()
    made = MultiInstanceBuilder.create_dynamic(parent_stage=p, initial_count=2)
    for instance in made[:-1]:
        instance.tasks = [task("mine", "python")]
        instance.mutex_key = "desk"

    planned(p, made)

    assert p.mi_config.allow_dynamic
    assert p.mi_config.instance["tasks"] == [["mine", "python"]]
    assert p.mi_config.instance["mutex_key"] == "desk"


def test_dynamic_partial_joins():
    """WCP-36: a threshold may be more than there is yet; a condition takes its place."""
    counted, judged = parent(), parent()

    first = MultiInstanceBuilder.create_dynamic(counted, 2, join_threshold=3)
    second = MultiInstanceBuilder.create_dynamic(judged, completion_condition="completed == 2", cancel_remaining=True)

    assert (first[-1].join_type, first[-1].join_threshold) == (JoinType.N_OF_M, 3)
    assert judged.mi_config.completion_condition == "completed == 2"
    assert second[-1].join_cancel_remaining
    planned(counted, first)
    planned(judged, second)


@dataclass(frozen=True)
class Refusal:
    """A call that a builder refuses, and what the sentence about it must say."""

    name: str
    call: Callable[[], Any]
    words: tuple[str, ...]


MI = MultiInstanceBuilder
REFUSALS = [
    Refusal("n > m", lambda: MI.create_fixed(parent(), 3, join_threshold=4), ("'review'", "4 of 3", "at most 3")),
    Refusal("negative", lambda: MI.create_fixed(parent(), -1), ("'review'", "count -1", "0 or more")),
    Refusal("text", lambda: MI.create_fixed(parent(), "3"), ("count '3'", "an integer")),
    Refusal("truth", lambda: MI.create_fixed(parent(), True), ("count True",)),
    Refusal("threshold", lambda: MI.create_fixed(parent(), 3, join_threshold=-2), ("join_threshold -2",)),
    Refusal(
        "no join",
        lambda: MI.create_fixed(parent(), 3, join_threshold=2, sync_on_complete=False),
        ("join_threshold 2", "sync_on_complete"),
    ),
    Refusal("contexts", lambda: MI.create_fixed(parent(), 1, instance_contexts=[{}, {}]), ("2 instance_contexts",)),
    Refusal(
        "number in context",
        lambda: MI.create_from_context(parent(context={"num": "many"}), "num"),
        ("context key 'num' 'many'",),
    ),
    Refusal(
        "n > m in context",
        lambda: MI.create_from_context(parent(context={"num": 2}), "num", join_threshold=3),
        ("3 of 2",),
    ),
    Refusal(
        "no list",
        lambda: MI.create_from_collection(parent(context={"items": "abc"}), "items"),
        ("'items'", "'abc'", "a list is expected"),
    ),
    Refusal("no type", lambda: MI.create_from_context(StageExecution(ref_id="p"), "num"), ("'p'", "instance_type")),
    Refusal(
        "condition",
        lambda: MI.create_dynamic(parent(), completion_condition="completed >="),
        ("'review'", "completion_condition", "cannot be parsed"),
    ),
    Refusal(
        "two bounds",
        lambda: MI.create_dynamic(parent(), 1, 1, "completed == 1"),
        ("join_threshold and completion_condition",),
    ),
    Refusal("no body", lambda: LoopBuilder.while_loop("n < 3", []), ("loop 'loop'", "no body")),
    Refusal("no passes", lambda: LoopBuilder.repeat_until("x", [stage("b")], "l", 0), ("'l'", "max_iterations 0")),
    Refusal("no condition", lambda: LoopBuilder.while_loop("n <", [stage("b")]), ("cannot be parsed",)),
    Refusal("call", lambda: LoopBuilder.while_loop("len(x)", [stage("b")]), ("condition", "not allowed")),
]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.name)
def test_builder_refuses_in_a_sentence(case: Refusal):
    """What cannot be is refused when the builder is called, as a ValueError and an error of this package."""
    with pytest.raises(ValueError) as refused:
        case.call()

    assert isinstance(refused.value, StabilizeError)
    assert "\n" not in str(refused.value)
    for word in case.words:
        assert word in str(refused.value)


# -- loops ------------------------------------------------------------------------------------------------------


def test_loop_chains_body_stages():
    """Body stages without requisites among themselves follow each other between the entry and the exit."""
    entry, one, two, end = LoopBuilder.while_loop(
        condition="iteration_count < max_iterations",
        body_stages=[stage("b1", "outside"), stage("b2")],
        loop_ref_prefix="retry_loop",
        max_iterations=100,
    )

    assert (entry.ref_id, end.ref_id) == ("retry_loop_entry", "retry_loop_exit")
    assert entry.requisite_stage_ref_ids == set()
    assert one.requisite_stage_ref_ids == {"outside", "retry_loop_entry"}
    assert two.requisite_stage_ref_ids == {"b1"}
    assert end.requisite_stage_ref_ids == {"b2", "retry_loop_entry"}
    assert (entry.split_type, entry.split_conditions) == (SplitType.OR, {"b1": "loop_entered"})
    assert end.jump_targets == {"retry_loop_entry"}


def test_loop_keeps_the_order_of_its_body():
    """Body stages with requisites among themselves keep them; the first follow the entry, the exit the last."""
    body = [stage("f"), stage("x", "f"), stage("y", "f"), stage("alone")]

    entry, f, x, _, alone, end = LoopBuilder.repeat_until("done", body)

    assert f.requisite_stage_ref_ids == alone.requisite_stage_ref_ids == {"loop_entry"}
    assert x.requisite_stage_ref_ids == {"f"}
    assert end.requisite_stage_ref_ids == {"loop_entry", "x", "y", "alone"}
    assert entry.split_type is SplitType.AND
    check_topology("loop", [entry, *body, end])


def test_built_in_tasks_need_no_registration():
    """A bare registry finds the tasks of loops and sub-workflows, silently gives way, and does not list them."""
    registry = TaskRegistry(strict=True)

    assert {"_loop_entry", "_loop_exit", "sub_workflow"} <= registry.names()
    assert isinstance(registry.get("sub_workflow"), SubWorkflowTask)
    registry.register("sub_workflow", SubWorkflowTask)
    registry.register("mine", SubWorkflowTask)
    assert registry.unknown("thine").endswith("(registered: mine, sub_workflow)")


# -- children as plain data -------------------------------------------------------------------------------------


def config(*stages: Any, **fields: Any) -> dict[str, Any]:
    """Make the config of a child workflow."""
    return {"name": "Resolve", "application": "tracker", "stages": list(stages), "context": {"id": 7}, **fields}


def running(child: Any, **context: Any) -> StageExecution:
    """Make a stage that is about to start a child workflow."""
    return StageExecution(ref_id="s", name="Sub", context={"_sub_workflow_config": child, **context})


def test_child_becomes_plain_data_and_a_workflow_again():
    """StageExecution objects survive JSON with every field that an author writes; ids are new."""
    one = stage("c1", context={"x": [1]}, jump_targets={"c2"}, mutex_key="k")
    two = stage("c2", "c1", join_type=JoinType.N_OF_M, join_threshold=1, output_reducers={"x": "sum"})
    check = StageExecution.create_synthetic("shell", "Check", one, BEFORE)
    many = MultiInstanceBuilder.create_fixed(p := stage("p", "c2"), 2)

    context = with_plain_stages({"_sub_workflow_config": config(one, two, check, p, *many), "other": 1})
    back = workflow_of(json.loads(json.dumps(context))["_sub_workflow_config"])

    first = back.stages[0]
    assert (back.name, back.application, back.context) == ("Resolve", "tracker", {"id": 7})
    assert [each.ref_id for each in back.stages[:3]] == ["c1", "c2", "c1.before.check"]
    assert (first.context, first.jump_targets, first.mutex_key) == ({"x": [1]}, {"c2"}, "k")
    assert [(each.name, each.implementing_class, each.stage_start) for each in first.tasks] == [("c1", "noop", True)]
    assert back.stages[1].join_type is JoinType.N_OF_M
    assert back.stages[2].parent_stage_id == first.id != one.id
    assert back.stages[2].synthetic_stage_owner is BEFORE
    assert back.stages[3].mi_config == p.mi_config
    check_topology("child", back.stages)


def test_hand_written_stages_may_hold_sets_and_tasks():
    """Plain data with a set, an enum or TaskExecution objects in it becomes storable too."""
    written = {"ref_id": "c2", "requisite_stage_ref_ids": {"c1"}, "join_type": JoinType.OR, "tasks": [task("t")]}

    plain = with_plain_stages({"_sub_workflow_config": config({"ref_id": "c1"}, written)})

    stages = plain["_sub_workflow_config"]["stages"]
    assert json.loads(json.dumps(stages)) == stages
    assert workflow_of(plain["_sub_workflow_config"]).stages[1].requisite_stage_ref_ids == {"c1"}


def test_children_of_children_become_plain_data():
    """Configs inside the contexts of child stages, and of the child itself, are turned as well; the givers stay."""
    inner = stage("i", context={"_sub_workflow_config": config(stage("leaf"))})
    outer = config(inner, context={"_sub_workflow_config": config(stage("late"))})

    plain = with_plain_stages({"_sub_workflow_config": outer})

    assert "leaf" in json.dumps(plain)
    assert "late" in json.dumps(plain)
    assert isinstance(inner.context["_sub_workflow_config"]["stages"][0], StageExecution)


def test_config_that_contains_itself_is_refused():
    """Recursion is written by a task, level for level; a config inside itself has no end."""
    itself = stage("s")
    itself.context["_sub_workflow_config"] = config(itself)

    with pytest.raises(ConfigError, match="contains itself"):
        with_plain_stages(itself.context)


def test_first_call_starts_the_child():
    """The result holds the child's definition with its depth; other contexts are left as they are."""
    result = SubWorkflowTask().execute(running(config(stage("c1"))))

    assert result.status.name == "SUSPENDED"
    assert (result.child["name"], result.child["application"], result.child["depth"]) == ("Resolve", "tracker", 1)
    assert result.child["context"] == {"id": 7, "_recursion_depth": 1}
    assert [each["ref_id"] for each in result.child["stages"]] == ["c1"]
    assert with_plain_stages(same := {"a": 1}) is same
    assert TaskResult.success().child is None


def test_end_of_the_child_ends_the_stage():
    """Success brings the child's outputs and its id; anything else fails the stage and names the child."""
    data = {"workflow_id": "W", "status": "SUCCEEDED", "outputs": {"x": 1}, "error": None}
    ended = {"_signal_name": "_child_ended", "_signal_data": data}
    failed = {**ended, "_signal_data": {**data, "status": "TERMINAL", "error": "c1 broke"}}

    done = SubWorkflowTask().execute(running(config(stage("c1")), **ended))
    broken = SubWorkflowTask().execute(running(config(stage("c1")), **failed))
    other = SubWorkflowTask().execute(running(config(stage("c1")), _signal_name="hello", _signal_data={}))

    assert done.outputs == {"x": 1, "sub_workflow_id": "W", "sub_workflow_status": "SUCCEEDED"}
    assert broken.status.name == "TERMINAL"
    assert broken.context["error"] == "sub-workflow 'Resolve' (W) of stage 's' ended TERMINAL: c1 broke"
    assert (other.status.name, other.child) == ("SUSPENDED", None)


@pytest.mark.parametrize(
    ("depth", "limits", "starts"), [(9, {}, True), (10, {}, False), (1, {"_max_recursion_depth": 1}, False)]
)
def test_recursion_is_bounded(depth: int, limits: dict[str, int], starts: bool):
    """A child deeper than ten, or than _max_recursion_depth, is not started; the limit goes down to the children."""
    result = SubWorkflowTask().execute(running(config(stage("c1")), _recursion_depth=depth, **limits))

    assert (result.child is not None) is starts
    assert starts or "depth" in result.context["error"]


def test_limit_of_recursion_goes_down():
    """A child inherits _max_recursion_depth, unless its own context says otherwise."""
    limit = {"_max_recursion_depth": 3}

    inherited = SubWorkflowTask().execute(running(config(stage("c1")), **limit))
    own = SubWorkflowTask().execute(running(config(stage("c1"), context={"_max_recursion_depth": 5}), **limit))

    assert inherited.child["context"]["_max_recursion_depth"] == 3
    assert own.child["context"]["_max_recursion_depth"] == 5


@pytest.mark.parametrize(
    ("child", "words"),
    [
        (None, ("_sub_workflow_config None", "mapping")),
        (config(), ("stages []", "at least one")),
        (config("c1"), ("stages[0]", "'c1'", "StageExecution")),
        (config({"name": "x"}), ("stages[0]", "no ref_id")),
        (
            config({"ref_id": "c", "requisite_stage_ids": []}),
            ("'requisite_stage_ids'", "did you mean 'requisite_stage_ref_ids'"),
        ),
        (config({"ref_id": "c", "requisite_stage_ref_ids": "c1"}), ("requisite_stage_ref_ids", "'c1'", "a list")),
        (config({"ref_id": "c", "join_type": "XOR"}), ("join_type", "'XOR'", "AND, OR")),
        (config({"ref_id": "c", "join_threshold": "2"}), ("join_threshold", "an integer")),
        (config({"ref_id": "c", "mutex_key": 3}), ("mutex_key", "text")),
        (config({"ref_id": "c", "tasks": [{"name": "t"}]}), ("implementing_class", "tasks of stages[0]")),
        (config({"ref_id": "c", "tasks": [{"class": "t"}]}), ("'class'",)),
        (config({"ref_id": "c", "requisite_stage_ref_ids": ["c0"]}), ("'c' requires unknown stage 'c0'",)),
        (config({"ref_id": "c"}, context=[1]), ("context [1]", "mapping")),
        (config({"ref_id": "c"}, stage=1), ("'stage'", "did you mean 'stages'")),
    ],
)
def test_child_that_cannot_be_run_fails_its_stage(child: Any, words: tuple[str, ...]):
    """A config that is wrong fails the stage in one sentence that names what is wrong."""
    result = SubWorkflowTask().execute(running(child))

    error = result.context["error"]
    assert result.status.name == "TERMINAL"
    assert error.startswith("stage 's' cannot start its sub-workflow: ")
    assert "\n" not in error
    for word in words:
        assert word in error
