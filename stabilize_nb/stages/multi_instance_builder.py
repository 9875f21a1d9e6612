"""
MultiInstanceBuilder: one activity, several times at once (WCP-12 to 15, 34 to 36).

The parent is an ordinary stage that runs first. Its instances `<parent>_instance_<i>` require it, and the join
`<parent>_mi_join` requires them. Where no instance is known before the parent has run, the join requires the parent
instead, and the engine makes the instances when the parent completes; `MultiInstanceConfig.instance` tells how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stabilize_nb.expressions import ExpressionError, check_expression
from stabilize_nb.models.multi_instance import (
    INSTANCE_COUNT,
    INSTANCE_INDEX,
    JOIN_TYPE,
    PARENT_REF_ID,
    MultiInstanceConfig,
    instance_ref,
    join_ref,
)
from stabilize_nb.models.settling import RETRY
from stabilize_nb.models.stage import JoinType, StageExecution
from stabilize_nb.stages.builder import StageBuilderError, get_builder, task_names, tasks_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class MultiInstanceBuilder:
    """Makes the instances of a stage and, last in the list, the join that waits for them.

    Every method also sets `mi_config` of the parent, which is not in the list. The tasks of an instance are those
    that the caller puts into the returned stage, else those of the StageDefinitionBuilder of `instance_type` (by
    default the parent's type), else one task of that name. With `sync_on_complete=False` there is no join.
    `join_threshold` lets the join pass when so many instances are complete (0: all), and `cancel_remaining` then
    withdraws the others.

    Raises StageBuilderError (a ValueError) for a number or threshold that cannot be.
    """

    @classmethod
    def create_fixed(
        cls,
        parent_stage: StageExecution,
        count: int,
        instance_type: str | None = None,
        instance_name_prefix: str | None = None,
        sync_on_complete: bool = True,
        join_threshold: int = 0,
        cancel_remaining: bool = False,
        instance_contexts: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[StageExecution]:
        """Make `count` instances (WCP-12, 13, 34, 35); `instance_contexts[i]` goes into the context of instance i."""
        plan = _Plan(parent_stage, instance_type, instance_name_prefix)
        contexts = plan.contexts(count, "count", instance_contexts)
        config = MultiInstanceConfig(
            count=count, sync_on_complete=sync_on_complete, join_threshold=join_threshold,
            cancel_remaining=cancel_remaining,
        )  # fmt: skip
        return plan.made(contexts, config)

    @classmethod
    def create_from_context(
        cls,
        parent_stage: StageExecution,
        count_key: str,
        instance_type: str | None = None,
        instance_name_prefix: str | None = None,
        sync_on_complete: bool = True,
        join_threshold: int = 0,
        cancel_remaining: bool = False,
    ) -> list[StageExecution]:
        """Make as many instances as `count_key` says in the parent's context, else when the parent completes: in
        what it saw and gave (WCP-14).
        """
        plan = _Plan(parent_stage, instance_type, instance_name_prefix)
        known = count_key in parent_stage.context
        count = parent_stage.context.get(count_key, 0)
        contexts = plan.contexts(count, f"context key {count_key!r}", None)
        config = MultiInstanceConfig(
            count=count, count_from_context=None if known else count_key, sync_on_complete=sync_on_complete,
            join_threshold=join_threshold, cancel_remaining=cancel_remaining,
            instance={} if known else plan.template(),
        )  # fmt: skip
        return plan.made(contexts, config)

    @classmethod
    def create_from_collection(
        cls,
        parent_stage: StageExecution,
        collection_key: str,
        item_context_key: str = "item",
        instance_type: str | None = None,
        instance_name_prefix: str | None = None,
        sync_on_complete: bool = True,
        join_threshold: int = 0,
        cancel_remaining: bool = False,
    ) -> list[StageExecution]:
        """Make an instance for each item of the list `collection_key`, as `create_from_context` does for a number;
        each finds its item under `item_context_key` (WCP-14).
        """
        plan = _Plan(parent_stage, instance_type, instance_name_prefix)
        known = collection_key in parent_stage.context
        items = parent_stage.context.get(collection_key, [])
        if not isinstance(items, list | tuple):
            msg = f"{plan.here} has the context key {collection_key!r} with {items!r}; a list is expected"
            raise StageBuilderError(msg)
        contexts = plan.contexts(len(items), "collection", [{item_context_key: item} for item in items])
        config = MultiInstanceConfig(
            count=len(items), collection_from_context=None if known else collection_key,
            item_context_key=item_context_key, sync_on_complete=sync_on_complete, join_threshold=join_threshold,
            cancel_remaining=cancel_remaining, instance={} if known else plan.template(),
        )  # fmt: skip
        return plan.made(contexts, config)

    @classmethod
    def create_dynamic(
        cls,
        parent_stage: StageExecution,
        initial_count: int = 0,
        join_threshold: int = 0,
        completion_condition: str | None = None,
        instance_type: str | None = None,
        instance_name_prefix: str | None = None,
        sync_on_complete: bool = True,
        cancel_remaining: bool = False,
        instance_contexts: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[StageExecution]:
        """Make `initial_count` instances, to which AddMultiInstance adds while the activity is open (WCP-15).

        `completion_condition` is an expression over `completed`, `total`, `outputs` and what the parent sees; once
        it is true after a completion, the join passes (WCP-36).
        """
        plan = _Plan(parent_stage, instance_type, instance_name_prefix)
        contexts = plan.contexts(initial_count, "initial_count", instance_contexts)
        if completion_condition is not None:
            plan.check_condition(completion_condition, join_threshold)
        config = MultiInstanceConfig(
            count=initial_count, allow_dynamic=True, sync_on_complete=sync_on_complete, join_threshold=join_threshold,
            cancel_remaining=cancel_remaining, completion_condition=completion_condition,
            instance=plan.template(needed=not contexts),
        )  # fmt: skip
        return plan.made(contexts, config)


@dataclass(frozen=True, slots=True)
class _Plan:
    """One call of the builder: the parent, and what its instances are."""

    parent: StageExecution
    instance_type: str | None
    name_prefix: str | None

    @property
    def here(self) -> str:
        return f"multi-instance activity {self.parent.ref_id!r}"

    @property
    def type(self) -> str:
        return self.instance_type or self.parent.type

    @property
    def name(self) -> str:
        return self.name_prefix or self.parent.name or self.parent.ref_id

    def contexts(self, count: Any, what: str, given: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
        """Return the own context of each instance."""
        if type(count) is not int or count < 0:
            msg = f"{self.here} has {what} {count!r}; an integer of 0 or more is expected"
            raise StageBuilderError(msg)
        given = given or ()
        if len(given) > count:
            msg = f"{self.here} has {len(given)} instance_contexts for {count} instances; at most {count} are expected"
            raise StageBuilderError(msg)
        place = {PARENT_REF_ID: self.parent.ref_id, INSTANCE_COUNT: count}
        own: list[Mapping[str, Any]] = [*given, *({} for _ in range(count - len(given)))]
        return [{**context, **place, INSTANCE_INDEX: index} for index, context in enumerate(own)]

    def check_condition(self, condition: str, threshold: int) -> None:
        """Raise StageBuilderError when the activity can not be completed by such a condition."""
        if threshold:
            msg = f"{self.here} has both join_threshold and completion_condition; one of them says when it is complete"
            raise StageBuilderError(msg)
        try:
            check_expression(condition)
        except ExpressionError as error:
            msg = f"{self.here} has a completion_condition that is not an expression: {error}"
            raise StageBuilderError(msg) from error

    def template(self, *, needed: bool = True) -> dict[str, Any]:
        """Return what an instance is that is made while the workflow runs."""
        if needed and not self.type:
            msg = f"{self.here} makes instances while the workflow runs: give instance_type, or the parent a type"
            raise StageBuilderError(msg)
        sample = self._instance({INSTANCE_INDEX: 0})
        sample.tasks = tasks_for(sample, get_builder(self.type))
        crash = {} if sample.on_crash == RETRY else {"on_crash": sample.on_crash}
        return {"type": self.type, "name": self.name, "tasks": task_names(sample), "context": {}, **crash}

    def made(self, contexts: Sequence[dict[str, Any]], config: MultiInstanceConfig) -> list[StageExecution]:
        """Return the instances and the join, and tell the parent about them."""
        self._check_threshold(config)
        instances = [self._instance(context) for context in contexts]
        self.parent.mi_config = config
        return [*instances, self._join(instances, config)] if config.sync_on_complete else instances

    def _check_threshold(self, config: MultiInstanceConfig) -> None:
        wanted = config.join_threshold
        counted = not (config.allow_dynamic or config.count_from_context or config.collection_from_context)
        fault = ""
        if type(wanted) is not int or wanted < 0:
            fault = f"has join_threshold {wanted!r}; an integer of 0 (all) or more is expected"
        elif wanted and not config.sync_on_complete:
            fault = f"has join_threshold {wanted} but no join, with sync_on_complete=False; leave out one of them"
        elif counted and wanted > config.count:
            fault = f"waits for {wanted} of {config.count} instances; a join_threshold of at most {config.count} fits"
        if fault:
            msg = f"{self.here} {fault}"
            raise StageBuilderError(msg)

    def _instance(self, context: dict[str, Any]) -> StageExecution:
        index = context[INSTANCE_INDEX]
        return StageExecution(
            ref_id=instance_ref(self.parent.ref_id, index), type=self.type, name=f"{self.name} {index}",
            context=context, requisite_stage_ref_ids={self.parent.ref_id}, on_crash=self.parent.on_crash,
        )  # fmt: skip

    def _join(self, instances: Sequence[StageExecution], config: MultiInstanceConfig) -> StageExecution:
        cancels = config.cancel_remaining and bool(config.join_threshold or config.completion_condition)
        counts = cancels or config.join_threshold > 0
        return StageExecution(
            ref_id=join_ref(self.parent.ref_id), type=JOIN_TYPE, name=f"{self.name} join",
            context={PARENT_REF_ID: self.parent.ref_id},
            requisite_stage_ref_ids={stage.ref_id for stage in instances} or {self.parent.ref_id},
            join_type=JoinType.N_OF_M if counts else JoinType.AND, join_threshold=config.join_threshold,
            join_cancel_remaining=cancels,
        )  # fmt: skip
