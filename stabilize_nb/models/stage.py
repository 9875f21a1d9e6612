"""A stage: a node of the graph, with its tasks, its join and split rules and what it has produced."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from stabilize_nb.errors import StageNotReadyError
from stabilize_nb.models.attributes import attributes_of
from stabilize_nb.models.gate import APPROVE, REJECT
from stabilize_nb.models.ids import new_id
from stabilize_nb.models.question import Question
from stabilize_nb.models.settling import RETRY
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.values import as_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from stabilize_nb.models.calls import Call
    from stabilize_nb.models.multi_instance import MultiInstanceConfig
    from stabilize_nb.models.question import Answer
    from stabilize_nb.models.task import TaskExecution


class JoinType(Enum):
    """When a stage with several requisites starts."""

    AND = "AND"  # every branch has delivered (WCP-3)
    OR = "OR"  # every branch that was taken has delivered (WCP-7)
    MULTI_MERGE = "MULTI_MERGE"  # once for each branch that delivers (WCP-8)
    DISCRIMINATOR = "DISCRIMINATOR"  # at the first branch that delivers (WCP-9)
    N_OF_M = "N_OF_M"  # when join_threshold branches have delivered (WCP-30)


class SplitType(Enum):
    """Which branches a finished stage takes."""

    AND = "AND"  # all (WCP-2)
    OR = "OR"  # each whose condition is true (WCP-6)
    XOR = "XOR"  # the first whose condition is true (WCP-4)


class SyntheticStageOwner(Enum):
    """When a synthetic stage runs, seen from its parent."""

    STAGE_BEFORE = "STAGE_BEFORE"  # before the parent's tasks
    STAGE_AFTER = "STAGE_AFTER"  # after them, when they succeeded
    STAGE_FAILURE = "STAGE_FAILURE"  # after one of them failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """What one finished run of a direct requisite left behind."""

    ref_id: str
    outputs: Mapping[str, Any]
    context: Mapping[str, Any]


class StageRuntime(Protocol):
    """What the engine gives to a stage while one of its task bodies runs."""

    idempotency_key: str
    upstream: Mapping[str, tuple[Upstream, ...]]
    egress: Any  # an Egress: where the engine lets tasks send requests; None: the usual
    tool_calls: int  # of models so far in this attempt; whoever makes one counts it

    def step(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a durable step."""

    async def step_async(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run a durable step of a coroutine."""

    def call(self, call: Call) -> Any:
        """Call a model or tool as a durable step."""

    async def call_async(self, call: Call) -> Any:
        """Do the same in a coroutine."""

    def ask(self, name: str, question: Question) -> Answer:
        """Ask a person."""

    async def ask_async(self, name: str, question: Question) -> Answer:
        """Ask a person from a coroutine."""

    async def while_wanted(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Wait for a part of a coroutine body, which is broken off when its result is not wanted any more."""

    def progress(self, fraction: float | None, message: str, data: Mapping[str, Any]) -> None:
        """Tell listeners how far the body is."""

    def set_attributes(self, attributes: Mapping[str, str]) -> None:
        """Have the run be found by attributes once the body has ended."""

    @property
    def own_context(self) -> Mapping[str, Any]:
        """What the stage says itself, without what it sees of others."""

    @property
    def cancelled(self) -> bool:
        """Whether the result is no longer wanted."""


@dataclass(slots=True)
class StageExecution:
    """One stage of a workflow, as it is defined and as far as it has come.

    `ref_id` alone is enough. `requisite_stage_ref_ids` names the stages it follows. The fields of control flow, with a
    runnable example of each, are in docs/patterns.md. `on_crash`, "retry", "fail" or "ask": what is done
    when the process of a body died (docs/resilience.md). `start_time` and `end_time` are ms since the epoch (UTC).
    Inside a task body `context` is what the stage sees: its own context over the outputs of all that led to it.
    """

    ref_id: str = ""
    type: str = ""
    name: str = ""
    context: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    tasks: list[TaskExecution] = field(default_factory=list)
    requisite_stage_ref_ids: set[str] = field(default_factory=set)
    join_type: JoinType = JoinType.AND
    join_threshold: int = 0
    split_type: SplitType = SplitType.AND
    split_conditions: dict[str, str] = field(default_factory=dict)
    split_default: str | None = None
    join_blocking: bool = False
    join_cancel_remaining: bool = False
    thread_split: int = 1
    thread_merge: int = 1
    mi_config: MultiInstanceConfig | None = None
    deferred_choice_group: str | None = None
    milestone_ref_id: str | None = None
    milestone_status: str | None = None
    milestone_until_ref_id: str | None = None
    mutex_key: str | None = None
    critical_section: str | None = None
    cancel_region: str | None = None
    cancels_stages: set[str] = field(default_factory=set)
    cancels_regions: set[str] = field(default_factory=set)
    ends_workflow: str | None = None
    jump_targets: set[str] = field(default_factory=set)
    output_reducers: dict[str, str] = field(default_factory=dict)
    on_crash: str = RETRY
    synthetic_stage_owner: SyntheticStageOwner | None = None
    parent_stage_id: str | None = None
    id: str = field(default_factory=new_id)
    status: WorkflowStatus = WorkflowStatus.NOT_STARTED
    generation: int = 0
    activation: int = 1
    start_time: int | None = None
    end_time: int | None = None
    error: str | None = None
    runtime: StageRuntime | None = field(default=None, repr=False, compare=False)

    @classmethod
    def create_synthetic(
        cls,
        type: str,
        name: str,
        parent: StageExecution,
        owner: SyntheticStageOwner,
        context: dict[str, Any] | None = None,
        tasks: list[TaskExecution] | None = None,
        ref_id: str | None = None,
    ) -> StageExecution:
        """
        Make a stage that runs before, after or on failure of `parent`.

        Without a `ref_id` it is told from the name: "Validate Config" before the stage `deploy` is
        `deploy.before.validate_config`, the same at every call.
        """
        when = owner.value.removeprefix("STAGE_").lower()
        slug = re.sub(r"\W+", "_", name or type).strip("_").lower() or "stage"
        return cls(
            ref_id=ref_id or f"{parent.ref_id}.{when}.{slug}", type=type, name=name,
            context=as_dict(context, f"context of {name!r}"),
            tasks=list(tasks or ()), parent_stage_id=parent.id, synthetic_stage_owner=owner,
        )  # fmt: skip

    @property
    def idempotency_key(self) -> str:
        """The same text for every attempt of one logical call of the running task, and for no other call."""
        return self._running("idempotency_key").idempotency_key

    @property
    def upstream(self) -> Mapping[str, tuple[Upstream, ...]]:
        """The direct requisites that led here, by ref_id: one entry a run that delivered."""
        return self._running("upstream").upstream

    @property
    def cancelled(self) -> bool:
        """Whether the result of the running body is no longer wanted: a long body looks and returns early."""
        return self._running("cancelled").cancelled

    def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """
        Run `function` as a durable step of this body and return its result.

        Once the result is committed the function is never called again for this logical call, whatever
        crashes later: the stored result is returned. Several steps of one name are told apart by the order in which
        they begin: where that may differ when the body is run again, give each a name of its own.

        Raises ValueNotStorableError when JSON cannot hold the result.
        """
        return self._running("step").step(name, function, args, kwargs)

    async def step_async(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Do the same as `step` inside an async body; `function` may be a coroutine function."""
        return await self._running("step_async").step_async(name, function, args, kwargs)

    def call(self, call: Call) -> Any:
        """
        Call a model or tool as a durable step, and note in `run.calls` what it took.

        Raises BudgetExceededError when the budget of the workflow is used up; the call is not made then.
        """
        return self._running("call").call(call)

    async def call_async(self, call: Call) -> Any:
        """Do the same as `call` inside an async body."""
        return await self._running("call_async").call_async(call)

    def ask(
        self, message: str, *, show: Any = None, form: Mapping[str, Any] | None = None,
        choices: Sequence[str] = (APPROVE, REJECT), name: str = "ask",
    ) -> Answer:  # fmt: skip
        """
        Ask a person in the middle of this body, and return what was decided: its fields are `choice` and `data`.

        The stage waits as a gate does, which survives restarts and holds no worker. With the answer the body is run
        again from its beginning: what it does before should be steps, which are not done again. An answer counts only
        for exactly what was asked. `form`: field -> type, as of a gate; the fields are in `data`.
        """
        asked = Question(message=message, show=show, form=form or {}, choices=tuple(choices))
        return self._running("ask").ask(name, asked)

    async def ask_async(
        self, message: str, *, show: Any = None, form: Mapping[str, Any] | None = None,
        choices: Sequence[str] = (APPROVE, REJECT), name: str = "ask",
    ) -> Answer:  # fmt: skip
        """Do the same as `ask` inside an async body."""
        asked = Question(message=message, show=show, form=form or {}, choices=tuple(choices))
        return await self._running("ask_async").ask_async(name, asked)

    def progress(self, fraction: float | None = None, message: str = "", **data: Any) -> None:
        """Tell listeners how far the body is; `fraction` is between 0 and 1, None when unknown."""
        self._running("progress").progress(fraction, message, data)

    def set_attributes(self, **attributes: str | float) -> None:
        """
        Have the run be found by attributes: `engine.runs(where={"customer": "x"})`.

        They are stored with what becomes of the body, whether it succeeds or fails; the last value counts. Raises
        ConfigError for what cannot be an attribute.
        """
        self._running("set_attributes").set_attributes(attributes_of(attributes, f"attributes of {self.ref_id!r}"))

    def _running(self, what: str) -> StageRuntime:
        if self.runtime is None:
            msg = f"stage {self.ref_id!r} is not running here: stage.{what} works only inside a task body"
            raise StageNotReadyError(msg)
        return self.runtime
