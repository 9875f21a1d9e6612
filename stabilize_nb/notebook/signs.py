"""What a stage says about control flow: in words, and the sign that a picture puts beside them.

A field of `StageExecution` that changes who runs when is one detail here, so that no picture is silent about it. What
several stages have in common (a region, a choice, a section) is a `Frame` around them. The numbers of the patterns are
those of docs/patterns.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from stabilize_nb.models.gate import APPROVAL, is_gate
from stabilize_nb.models.limit import LIMIT, limit_in
from stabilize_nb.models.multi_instance import JOIN_TYPE, MultiInstanceConfig
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution
from stabilize_nb.models.status import WorkflowStatus


class Sign(Enum):
    """What a line in a box is about; each has a small drawing in `draw`."""

    ALL = "all"  # every branch, or every instance (WCP-3, WCP-13)
    TAKEN = "taken"  # those branches that are taken (WCP-6, WCP-7)
    ONE = "one"  # exactly one branch (WCP-4)
    EACH = "each"  # each branch for itself (WCP-8)
    FIRST = "first"  # the first branch (WCP-9)
    QUORUM = "quorum"  # some of the branches (WCP-30)
    FORK = "fork"  # several threads out of one (WCP-42)
    MERGE = "merge"  # one thread out of several (WCP-41)
    MANY = "many"  # several instances (WCP-12)
    MILESTONE = "milestone"  # only while another stage is somewhere (WCP-18)
    LOCK = "lock"  # one at a time (WCP-17, WCP-39, WCP-40)
    CANCEL = "cancel"  # withdraws others (WCP-19, WCP-25)
    END = "end"  # ends the workflow (WCP-43)
    LOOP = "loop"  # repeats (WCP-21)
    CHILD = "child"  # a workflow of its own (WCP-22)
    WAIT = "wait"  # an event from outside (WCP-23, WCP-24)


@dataclass(frozen=True, slots=True)
class Detail:
    """One line of a box; without a sign it is plain information. `status`: the one that the line counts."""

    words: str
    sign: Sign | None = None
    status: WorkflowStatus | None = None


class FrameKind(Enum):
    """What the stages in a frame have in common."""

    REGION = "cancelled together"  # WCP-25
    CHOICE = "deferred choice"  # WCP-16
    SECTION = "critical section"  # WCP-39


@dataclass(frozen=True, slots=True)
class Frame:
    """What is drawn around several stages."""

    kind: FrameKind
    name: str

    @property
    def words(self) -> str:
        return f"{self.kind.value}: {self.name}"


JOINS: Final[Mapping[JoinType, tuple[Sign, str]]] = {
    JoinType.OR: (Sign.TAKEN, "all taken of {m}"),
    JoinType.MULTI_MERGE: (Sign.EACH, "each of {m}"),
    JoinType.DISCRIMINATOR: (Sign.FIRST, "the first of {m}"),
    JoinType.N_OF_M: (Sign.QUORUM, "{n} of {m}"),
}
SPLITS: Final[Mapping[SplitType, Detail]] = {
    SplitType.OR: Detail("takes every match", Sign.TAKEN),
    SplitType.XOR: Detail("takes the first match", Sign.ONE),
}
ENDS: Final[Mapping[str, Detail]] = {
    "SUCCEEDED": Detail("ends the workflow", Sign.END),
    "CANCELED": Detail("cancels the workflow", Sign.END),
}
#: Passes that a loop is allowed when nobody says otherwise.
USUAL_PASSES: Final = 100


def join_of(stage: StageExecution, branches: int) -> Detail | None:
    """Say what a stage with several requisites waits for; None for one that waits for all of them."""
    if stage.join_type not in JOINS or not branches:
        return None
    sign, words = JOINS[stage.join_type]
    said = words.format(n=stage.join_threshold or branches, m=branches)
    return Detail(said + _manner(stage), sign)


def join_of_instances(stage: StageExecution, config: MultiInstanceConfig, instances: int) -> Detail:
    """Say what the join of a multi-instance activity waits for."""
    if config.completion_condition is not None:
        return Detail(f"enough instances{_manner(stage)}: {config.completion_condition}", Sign.QUORUM)
    if config.join_threshold:
        of = f" of {instances}" if instances else ""
        return Detail(f"{config.join_threshold}{of} instances" + _manner(stage), Sign.QUORUM)
    return Detail("all instances", Sign.ALL)


def _manner(stage: StageExecution) -> str:
    rest = ", cancels the rest" if stage.join_cancel_remaining else ""
    return (", blocking" if stage.join_blocking else "") + rest


def settings_of(stage: StageExecution) -> Iterator[Detail]:
    """Yield what the definition of a stage says beyond its edges and its join."""
    if stage.type != JOIN_TYPE and _letters(stage.name) not in {"", _letters(stage.ref_id)}:
        yield Detail(stage.name)
    yield from _kind(stage)
    if stage.thread_merge > 1:
        yield Detail(f"merges {stage.thread_merge} threads", Sign.MERGE)
    if stage.milestone_ref_id is not None:
        until = f" until {stage.milestone_until_ref_id} starts" if stage.milestone_until_ref_id else ""
        status = stage.milestone_status or "reached"
        yield Detail(f"only while {stage.milestone_ref_id} is {status}{until}", Sign.MILESTONE)
    if stage.mutex_key is not None:
        yield Detail(f"one at a time: {stage.mutex_key}", Sign.LOCK)
    if (limit := limit_in(stage.context)) is not None:
        yield Detail(f"limit {limit.name}: {stage.context[LIMIT].partition(':')[2].strip()}", Sign.LOCK)
    if stage.split_conditions and stage.split_type in SPLITS and loop_of(stage) is None:
        yield SPLITS[stage.split_type]
    if stage.thread_split > 1:
        yield Detail(f"splits into {stage.thread_split} threads", Sign.FORK)
    yield from _reach(stage)


def _kind(stage: StageExecution) -> Iterator[Detail]:
    if is_nested(stage):
        config = stage.context["_sub_workflow_config"]
        name = config.get("name") if isinstance(config, Mapping) else None
        yield Detail(f"sub-workflow {name}" if name else "sub-workflow", Sign.CHILD)
    loop = loop_of(stage)
    if loop is not None and "entry" in loop:
        passes, most = stage.context.get("_loop_passes"), loop.get("max_iterations", USUAL_PASSES)
        done = f"{passes} pass{'es' * (passes != 1)}" if passes else ""
        bound = f"at most {most}{'' if done else ' passes'}" if most != USUAL_PASSES else ""
        yield Detail(", ".join(filter(None, (done, bound))), Sign.LOOP)


def _reach(stage: StageExecution) -> Iterator[Detail]:
    """Yield what the end of a stage does to others."""
    if stage.cancels_stages:
        yield Detail(f"cancels {', '.join(sorted(stage.cancels_stages))}", Sign.CANCEL)
    for region in sorted(stage.cancels_regions):
        yield Detail(f"cancels region {region}", Sign.CANCEL)
    if stage.ends_workflow is not None:
        yield ENDS.get(stage.ends_workflow, Detail(f"ends the workflow as {stage.ends_workflow}", Sign.END))


def instances_of(config: MultiInstanceConfig, instances: int) -> Iterator[Detail]:
    """Yield what the definition says of the instances of an activity; `instances`: how many there are by now."""
    if config.collection_from_context is not None:
        yield Detail(f"one for each of {config.collection_from_context}", Sign.MANY)
    elif config.count_from_context is not None:
        yield Detail(f"as many as {config.count_from_context}", Sign.MANY)
    elif config.allow_dynamic:
        yield Detail(f"{config.count or 'none'} at first, more may be added", Sign.MANY)
    elif instances:
        yield Detail(f"{instances} instances", Sign.MANY)
    if not config.sync_on_complete:
        yield Detail("nothing waits for them", Sign.MANY)


def frames_of(stage: StageExecution) -> Iterator[Frame]:
    """Yield the frames that a stage stands in."""
    if stage.cancel_region is not None:
        yield Frame(FrameKind.REGION, stage.cancel_region)
    if stage.deferred_choice_group is not None:
        yield Frame(FrameKind.CHOICE, stage.deferred_choice_group)
    if stage.critical_section is not None:
        yield Frame(FrameKind.SECTION, f"{stage.critical_section} ({stage.mutex_key})")


def is_approval(stage: StageExecution) -> bool:
    """Whether a stage is shown as a gate: it has such a task, or its type says so."""
    return stage.type == APPROVAL or is_gate(task.implementing_class for task in stage.tasks)


def is_nested(stage: StageExecution) -> bool:
    """Whether a stage runs a workflow of its own."""
    return "_sub_workflow_config" in stage.context


def loop_of(stage: StageExecution) -> Mapping[str, Any] | None:
    """Return the settings of the loop that a stage begins or, with `entry`, ends; None: it does neither."""
    config = stage.context.get("_loop_config")
    return config if isinstance(config, Mapping) and "condition" in config else None


def condition_of(stage: StageExecution, head: str) -> str:
    """Say when a stage takes the branch to `head`; nothing when it always does."""
    loop = loop_of(stage)
    if loop is not None:
        return _entering(stage, loop, head)
    if stage.split_type not in SPLITS:
        return ""
    if head not in stage.split_conditions:
        return "otherwise" if stage.split_default == head else ""
    first = stage.split_type is not SplitType.XOR or next(iter(stage.split_conditions)) == head
    return f"{'if' if first else 'else if'} {stage.split_conditions[head]}"


def _entering(stage: StageExecution, loop: Mapping[str, Any], head: str) -> str:
    if loop.get("until") or "entry" in loop:
        return ""
    return f"if {loop['condition']}" if head in stage.split_conditions else "otherwise"


def again(loop: Mapping[str, Any]) -> str:
    """Say when a loop is passed once more."""
    return f"again {'until' if loop.get('until') else 'while'} {loop['condition']}"


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text).casefold()
