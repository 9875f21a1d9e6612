"""
A flow as stages of the reference API, and the code of their tasks.

    @flow.stage                             plan
    @flow.stage(when=...)                   a condition of the split before it; of several edges: deploy.when → deploy
    @flow.stage(each=...)                   study → study_instance_<i> ... → study_mi_join
    with flow.loop("refine", ...)           refine_entry → draft → critique → refine_exit
    @deploy.before, .on_success, ...        synthetic stages of deploy

What a stage returned is found at the last of these, and what leads to it leads to the first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.flow_layout import Layout
from stabilize_nb.flow_names import Names
from stabilize_nb.flow_relays import ITEMS, CallTask, EachTask, GatherTask, LoopBegin, LoopEnd, RelayTask
from stabilize_nb.flow_tasks import AroundTask, FunctionTask, StageTask
from stabilize_nb.flow_words import JOINS, in_outputs, is_partial, mentioned, quorum
from stabilize_nb.models.limit import LIMIT
from stabilize_nb.models.multi_instance import join_ref
from stabilize_nb.models.priority import PRIORITY
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution, SyntheticStageOwner
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.task import TaskExecution
from stabilize_nb.stages.loop_builder import LoopBuilder
from stabilize_nb.stages.multi_instance_builder import MultiInstanceBuilder
from stabilize_nb.tasks.loop import ENTERED
from stabilize_nb.tasks.prints import marked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stabilize_nb.flow import Flow, FlowLoop, FlowStage
    from stabilize_nb.flow_tasks import Coded

OWNERS: Final = {
    "before": SyntheticStageOwner.STAGE_BEFORE,
    "on_success": SyntheticStageOwner.STAGE_AFTER,
    "on_failure": SyntheticStageOwner.STAGE_FAILURE,
}


class Assembly:
    """The stages of a flow, and the tasks by the names under which they are registered."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.layout = Layout(flow)
        self.names = _names(flow, self.layout)
        self.tasks: dict[str, Coded] = {}
        self._around: list[StageExecution] = []
        self._conditions: dict[tuple[str, str], str | None] = {}  # (from, to) -> text; None: otherwise
        self.stages = self._body("")
        self.stages.extend(self._around)
        self._split()

    # -- nodes ------------------------------------------------------------------------------------

    def _body(self, loop: str) -> list[StageExecution]:
        return [stage for name in self.layout.body(loop) for stage in self._node(name)]

    def _node(self, name: str) -> list[StageExecution]:
        node = self.layout.nodes[name]
        if node.is_loop:
            made = self._loop(node)
        elif self.layout.is_each(name):
            made = self._instances(node)
        else:
            made = [self._plain(node)]
        if not made:
            return []
        if self.layout.is_gated(name):
            made = [self._gate(node, made[0]), *made]
        self._join(node, made[0])
        self._note_conditions(node, made)
        return made

    def _plain(self, stage: FlowStage) -> StageExecution:
        made = self._stage(stage.name, stage, self._code(stage), _fixed(stage, self.names.ends))
        self._place(made, stage, *self._ALL)
        for word, function in stage.around_it:
            self._add_around(stage, made, word, function)
        return made

    def _stage(self, ref: str, stage: FlowStage, tasks: list[TaskExecution], context: dict[str, Any]) -> StageExecution:
        return StageExecution(ref_id=ref, type=stage.kind, name=stage.title, tasks=tasks, context=context)

    def _task(self, name: str, task: Coded) -> TaskExecution:
        code = marked(f"{self.flow.name}.{name}", task.code)
        self.tasks[code] = task
        return TaskExecution.create(name, code, stage_start=True, stage_end=True)

    def _code(self, stage: FlowStage) -> list[TaskExecution]:
        """Return what a stage, or each of its instances, carries out."""
        if stage.is_gate:
            return [TaskExecution.create(stage.name, "approval", stage_start=True, stage_end=True)]
        relayed = self.layout.is_gated(stage.name) or self.layout.is_each(stage.name)
        reducers = {} if relayed else stage.reducers
        if stage.child is not None:
            prepare = self._task(stage.name, CallTask(stage.name, stage.child, self.names, reducers))
            prepare.stage_end = False
            return [prepare, TaskExecution.create("call", "sub_workflow", stage_end=True)]
        if stage.task is not None:
            return [self._task(stage.name, StageTask(stage.task, stage.queue, self.names, reducers))]
        return [self._task(stage.name, FunctionTask(stage, self.names, reducers))]

    # -- words ------------------------------------------------------------------------------------

    _ALL = ("race", "milestone", "mutex", "region", "cancels", "ends", "on_crash")

    def _place(self, made: StageExecution, stage: FlowStage, *words: str) -> None:
        """Say on a reference stage what some words of the flow say."""
        given = {word: stage.settings[word] for word in words if word in stage.settings}
        made.deferred_choice_group = given.get("race", made.deferred_choice_group)
        made.mutex_key = given.get("mutex", made.mutex_key)
        made.cancel_region = given.get("region", made.cancel_region)
        made.ends_workflow = given.get("ends", made.ends_workflow)
        made.on_crash = given.get("on_crash", made.on_crash)
        for name in given.get("cancels", ()):
            (made.cancels_stages if name in self.layout.nodes else made.cancels_regions).add(name)
        if "milestone" in given:
            name, status = given["milestone"]
            place = self.names.ends if WorkflowStatus[status].is_complete else self.names.begins
            made.milestone_ref_id, made.milestone_status = place.get(name, name), status
            until = stage.settings.get("until")
            made.milestone_until_ref_id = self.names.begins.get(until, until) if until else None

    def _join(self, node: FlowStage | FlowLoop, made: StageExecution) -> None:
        """Have a stage wait for what its node follows, and as its node says."""
        sources = [self.names.ends[name] for name in self.layout.edges[node.name]]
        made.requisite_stage_ref_ids |= set(sources)
        words = node.settings
        if not self.names.lists & set(sources):
            made.output_reducers = dict(node.reducers)
        if self.layout.counts_instances(node.name):
            return
        made.join_type, made.join_threshold = _join_of(words.get("join", "all"))
        if is_partial(words):
            made.join_blocking = words.get("blocking", False)
            made.join_cancel_remaining = words.get("cancel_rest", False) and "enough" not in words

    def _gate(self, node: FlowStage | FlowLoop, following: StageExecution) -> StageExecution:
        """Make the stage that looks at a condition where not exactly one edge leads to it."""
        ref = f"{node.name}.when"
        following.requisite_stage_ref_ids = {ref}
        task = self._task(ref, self._relay(node))
        return StageExecution(ref_id=ref, type="relay", name=f"{node.title}?", tasks=[task])

    def _relay(self, node: FlowStage | FlowLoop) -> RelayTask:
        return RelayTask(self.names, self.layout.values[node.name], node.reducers)

    # -- instances (WCP-13, WCP-14, WCP-34, WCP-35) -------------------------------------------------

    def _instances(self, stage: FlowStage) -> list[StageExecution]:
        each, item = stage.settings["each"], stage.item or "item"
        enough, cancels = self.layout.enough(stage.name)
        gated = self.layout.is_gated(stage.name)
        values, reducers = ((), {}) if gated else (self.layout.values[stage.name], stage.reducers)
        begin = self._task(f"{stage.name}.each", EachTask(self.names, values, reducers, stage))
        named = each if isinstance(each, str) else ""
        parent = self._stage(stage.name, stage, [begin], {**_given(stage), "_each": named})
        self._place(parent, stage, "race", "milestone", "region")
        if isinstance(each, str):
            made = MultiInstanceBuilder.create_from_collection(
                parent, ITEMS, item, stage.kind, stage.title, join_threshold=enough, cancel_remaining=cancels
            )
            self._teach(parent, stage)
        else:
            items = list(range(each)) if isinstance(each, int) else each
            made = MultiInstanceBuilder.create_fixed(
                parent, len(items), stage.kind, stage.title, join_threshold=min(enough, len(items)),
                cancel_remaining=cancels, instance_contexts=[{item: each} for each in items],
            )  # fmt: skip
        *instances, join = made
        for instance in instances:
            instance.tasks = self._code(stage)
            instance.context = {**_fixed(stage, self.names.ends), **instance.context}
            self._place(instance, stage, "mutex", "region", "on_crash")
        join.tasks = [self._task(f"{stage.name}.gather", GatherTask(self.names, stage.name))]
        self._place(join, stage, "region", "cancels", "ends")
        return [parent, *instances, join]

    def _teach(self, parent: StageExecution, stage: FlowStage) -> None:
        """Say what an instance is that is made while the flow runs."""
        assert parent.mi_config is not None, "the builder has set it"  # noqa: S101 - tells mypy
        words = {"mutex_key": "mutex", "cancel_region": "region", "on_crash": "on_crash"}
        shared = {name: stage.settings.get(word) for name, word in words.items()}
        instance = {
            "type": stage.kind, "name": stage.title, "context": _fixed(stage, self.names.ends),
            "tasks": [[task.name, task.implementing_class] for task in self._code(stage)],
            **{name: value for name, value in shared.items() if value},
        }  # fmt: skip
        parent.mi_config = dataclasses.replace(parent.mi_config, instance=instance)

    # -- loops (WCP-21) ---------------------------------------------------------------------------

    def _loop(self, loop: FlowLoop) -> list[StageExecution]:
        inside = self._body(loop.name)
        if not inside:
            return []
        build = LoopBuilder.repeat_until if loop.until else LoopBuilder.while_loop
        text = in_outputs(loop.condition, self.layout.nodes)
        is_chained = any(self.layout.edges[name] for name in self.layout.body(loop.name))
        entry, *body, leave = build(text, inside, loop.name, loop.most)
        if len(self.layout.body(loop.name)) == len(body) > 1 and not is_chained:
            _put_side_by_side(entry, body, leave)
        gated = self.layout.is_gated(loop.name)
        relay = RelayTask(self.names, () if gated else self.layout.values[loop.name], {})
        last, left = self.layout.last(loop.name), self.layout.left[loop.name]
        entry.tasks = [self._task(f"{loop.name}.entry", LoopBegin(relay))]
        leave.tasks = [self._task(f"{loop.name}.exit", LoopEnd(self.names, loop.name, last, left))]
        leave.requisite_stage_ref_ids |= {self.names.ends[name] for name in left}
        return [entry, *body, leave]

    # -- around (synthetic stages) ----------------------------------------------------------------

    def _add_around(self, stage: FlowStage, parent: StageExecution, word: str, function: FlowStage) -> None:
        task = self._task(f"{stage.name}.{word}.{function.name}", AroundTask(function, self.names, stage.name))
        made = StageExecution.create_synthetic(
            "function", function.title, parent, OWNERS[word], _given(stage), [task],
            ref_id=f"{stage.name}.{word}.{function.name}",
        )  # fmt: skip
        self._around.append(made)

    # -- conditions (WCP-4, WCP-6) ----------------------------------------------------------------

    def _note_conditions(self, node: FlowStage | FlowLoop, made: list[StageExecution]) -> None:
        when = node.settings.get("when")
        name, head = node.name, made[0].ref_id
        if self.layout.is_gated(name):
            self._conditions[head, made[1].ref_id] = when
            return
        first = self.layout.is_first(name)
        sources = [f"{self.layout.around[name][-1]}_entry"] if first else [
            self.names.ends[source] for source in self.layout.edges[name]
        ]  # fmt: skip
        if isinstance(when, dict):
            self._conditions.update({(self.names.ends.get(ref, ref), head): text for ref, text in when.items()})
        elif when is not None or node.settings.get("otherwise"):
            self._conditions.update({(source, head): when for source in sources})

    def _split(self) -> None:
        """Have each stage choose among those behind it."""
        ones = {self.names.ends[name] for name, node in self.layout.nodes.items() if node.chooses_one}
        heads: dict[str, list[str]] = {stage.ref_id: [] for stage in self.stages}
        for stage in self.stages:
            for ref in stage.requisite_stage_ref_ids & heads.keys():
                heads[ref].append(stage.ref_id)
        for stage in self.stages:
            here = {head: (stage.ref_id, head) for head in heads[stage.ref_id]}
            said = {head: self._conditions[edge] for head, edge in here.items() if edge in self._conditions}
            if said:
                plain = [head for head in here if head not in said]
                self._divide(stage, said, one=stage.ref_id in ones, plain=plain)

    def _divide(self, stage: StageExecution, said: Mapping[str, str | None], *, one: bool, plain: list[str]) -> None:
        nodes = self.layout.nodes
        texts = {head: in_outputs(text, nodes) for head, text in said.items() if text is not None}
        rest = [head for head, text in said.items() if text is None]
        entered = stage.split_conditions  # of a while loop: whether there is a pass at all
        plain = [head for head in plain if head not in entered]
        if rest and texts and not one and (plain or entered):
            none = " or ".join(f"({text})" for text in texts.values())
            texts.update(dict.fromkeys(rest, f"not ({none})"))
        elif rest:
            stage.split_default = rest[0]
        stage.split_type = SplitType.XOR if one else SplitType.OR
        both = {head: f"{entered[head]} and ({text})" if head in entered else text for head, text in texts.items()}
        stage.split_conditions = {**entered, **both}


def _join_of(wish: Any) -> tuple[JoinType, int]:
    if isinstance(wish, str) and wish in JOINS:
        return JOINS[wish], 0
    return JoinType.N_OF_M, quorum(wish)[0]


def _given(stage: FlowStage | FlowLoop) -> dict[str, Any]:
    return dict(stage.settings.get("context", {}))


def _fixed(stage: FlowStage, ends: Mapping[str, str]) -> dict[str, Any]:
    """Return the own context of a stage, or of each of its instances."""
    words = stage.settings
    context = _given(stage)
    if stage.is_gate:
        context |= {
            "message": words["question"], "show_key": words["show"], "show_stage": ends.get(words["show"]),
            "form": dict(words["form"]), "approval_reject_continues": words["reject_continues"], **words["asked"],
        }  # fmt: skip
    if "timeout" in words:
        context["_timeout"] = float(words["timeout"])
    if "limit" in words:
        context[LIMIT] = words["limit"]
    if words.get("priority"):
        context[PRIORITY] = words["priority"]
    if "retry" in words:
        context["_max_attempts"] = words["retry"] + 1
    if words.get("continue_on_failure"):
        context["continuePipelineOnFailure"] = True
    return context


def _names(flow: Flow, layout: Layout) -> Names:
    begins, ends, lists = {}, {}, []
    for name, node in layout.nodes.items():
        begins[name] = f"{name}_entry" if node.is_loop else name
        ends[name] = f"{name}_exit" if node.is_loop else join_ref(name) if layout.is_each(name) else name
        if layout.is_each(name):
            lists.append(ends[name])
    beside = {
        name: frozenset({*layout.left[name], name, "loop_exhausted"} - {*_several(layout.last(name))})
        for name, node in layout.nodes.items()
        if node.is_loop
    }
    texts = [text for node in layout.nodes.values() for text in node.conditions]
    read = {name for text in texts for each in (text, in_outputs(text, layout.nodes)) for name in mentioned(each)}
    asked = {name for node in layout.nodes.values() for name in node.parameters}
    return Names(
        flow=flow.name, begins=begins, ends=ends, lists=frozenset(lists), beside=beside, conditions=frozenset(read),
        wanted=frozenset({*asked, *read}),
    )  # fmt: skip


def _put_side_by_side(entry: StageExecution, body: list[StageExecution], leave: StageExecution) -> None:
    """Undo that the builder of loops has put stages one behind the other that name none of each other."""
    for stage in body:
        stage.requisite_stage_ref_ids = {entry.ref_id}
    leave.requisite_stage_ref_ids |= {stage.ref_id for stage in body}
    if entry.split_conditions:
        entry.split_conditions = dict.fromkeys((stage.ref_id for stage in body), ENTERED)


def _several(names: list[str]) -> list[str]:
    """Return the last stages of a loop whose names stand in its value: those of more than one."""
    return names if len(names) > 1 else []


def families(flow: Flow) -> Iterable[Flow]:
    """Return a flow and all that it calls, however deep, each once."""
    found: dict[int, Flow] = {}
    waiting = [flow]
    while waiting:
        each = waiting.pop()
        if id(each) not in found:
            found[id(each)] = each
            waiting += [stage.child for stage in each.stages.values() if stage.child is not None]
    return found.values()
