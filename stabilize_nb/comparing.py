"""Two runs side by side: which stages went another way, how long they took, and what they put out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from stabilize_nb.errors import ConfigError
from stabilize_nb.events.calls import Spent, spent_by_stage
from stabilize_nb.events.frames import DURATION, STATUSES, Column, frame_of
from stabilize_nb.events.history import History, entries_of

if TYPE_CHECKING:
    import pandas as pd

    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.run import Run

COMPARISON = (
    Column("stage", "string", "ref_id of the stage; missing for the run itself, whose outputs are its inputs"),
    Column("differs", "string", "what is not the same, such as 'status, outputs'; empty when all is"),
    Column("taken_over", "bool", "whether the second run, a fork, has taken it over and not run it"),
    Column("status_a", "category", "status in the first run; missing when that has no such stage", STATUSES),
    Column("status_b", "category", "status in the second run", STATUSES),
    Column("duration_a", DURATION, "from the first start to the last end in the first run"),
    Column("duration_b", DURATION, "the same in the second run"),
    Column("attempts_a", "Int64", "task bodies begun in the first run"),
    Column("attempts_b", "Int64", "task bodies begun in the second run"),
    Column("calls_a", "Int64", "calls of models and tools in the first run"),
    Column("calls_b", "Int64", "the same in the second run, without those that it has taken over"),
    Column("tokens_a", "Int64", "tokens that they have taken"),
    Column("tokens_b", "Int64", "the same in the second run"),
    Column("cost_a", "Float64", "USD that they have cost; missing when no price is known"),
    Column("cost_b", "Float64", "the same in the second run"),
    Column("outputs_a", "object", "what it put out in the first run, as a dict; None when there is no such stage"),
    Column("outputs_b", "object", "what it put out in the second run, as a dict"),
)


class Side(NamedTuple):
    """A stage, or the run itself, as one of the runs has it; times are ms."""

    status: str
    duration: int | None
    attempts: int
    outputs: Mapping[str, Any]
    error: str | None
    begun: int | None
    spent: Spent = Spent()

    @property
    def calls(self) -> int:
        """Calls of models and tools."""
        return self.spent.calls

    @property
    def tokens(self) -> int:
        """Tokens that they have taken."""
        return self.spent.tokens

    @property
    def cost(self) -> float | None:
        """USD that they have cost."""
        return self.spent.cost


class Pair(NamedTuple):
    """A stage in both runs; None where a run has none of that name. `stage` "" is the run itself."""

    stage: str
    a: Side | None
    b: Side | None
    taken_over: bool

    @property
    def differs(self) -> list[str]:
        """What is not the same: "there", "status", "error", "inputs" or "outputs"; how long it took does not count."""
        if self.a is None or self.b is None:
            return ["there"]
        values = "outputs" if self.stage else "inputs"
        pairs = {
            "status": (self.a.status, self.b.status), values: (self.a.outputs, self.b.outputs),
            "error": (self.a.error, self.b.error),
        }  # fmt: skip
        return [name for name, (a, b) in pairs.items() if a != b]


@dataclass(frozen=True)
class Comparison:
    """Two runs, stage by stage. `frame` has it as data; a notebook shows it with the differences marked."""

    a: Run
    b: Run
    pairs: tuple[Pair, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """Return one row a stage, those of the first run in its order, then those that only the second one has.

        Columns: `COMPARISON`.
        """
        return frame_of(COMPARISON, (_row(pair) for pair in self.pairs))

    @property
    def differences(self) -> dict[str, list[str]]:
        """What differs, by stage; "" is the run itself. Empty when both did the same."""
        return {pair.stage: pair.differs for pair in self.pairs if pair.differs}

    def __repr__(self) -> str:
        text: str = import_module("stabilize_nb.notebook.comparison").text_of(self)
        return text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # IPython calls this; nothing below the notebook may import it.
        bundle: dict[str, Any] = import_module("stabilize_nb.notebook.comparison").comparison_bundle(self)
        return bundle


def compare(a: Run, b: Run) -> Comparison:
    """
    Compare two runs, of one workflow or of two that have stages of the same names, as they are now.

    Stages are paired by their ref_id. Raises WorkflowNotFoundError when a run is not stored any more, and ConfigError
    for what is no run.

    For example:

        >>> from stabilize_nb import Engine, Flow, compare
        >>> flow = Flow("sums")
        >>> @flow.stage
        ... def double(number):
        ...     return {"twice": 2 * number}
        >>> with Engine(":memory:") as engine:
        ...     first, second = (engine.start(flow, number=number) for number in (1, 2))
        ...     statuses = [run.wait() for run in (first, second)]
        ...     compare(first, second).differences
        {'': ['inputs'], 'double': ['outputs']}
    """
    for each in (a, b):
        if not hasattr(each, "engine"):
            msg = f"compare got {each!r}; two runs are expected, such as engine.run('RUN_ID') gives or run.fork() makes"
            raise ConfigError(msg)
    first, second = a.workflow, b.workflow
    sides_a = _sides(a, first, _taken_over(a, first))
    inherited = _taken_over(b, second)
    sides_b = _sides(b, second, inherited)
    pairs = [Pair("", _whole(first, sides_a), _whole(second, sides_b), taken_over=False)]
    pairs += [
        Pair(ref, sides_a.get(ref), sides_b.get(ref), taken_over=ref in inherited) for ref in sides_a | sides_b
    ]  # fmt: skip
    return Comparison(a, b, tuple(pairs))


def _sides(run: Run, workflow: Workflow, inherited: set[str]) -> dict[str, Side]:
    since = workflow.created_at or 0
    attempts: dict[str, int] = {}
    spans: dict[str, list[int]] = {}
    for each in History(entries_of(run.engine.database, run.id)).runs:
        times = [at for at in (each.started, each.finished) if at is not None]
        if each.ref_id in inherited or (times and times[0] >= since):  # what a fork runs again counts for its parent
            attempts[each.ref_id] = attempts.get(each.ref_id, 0) + each.attempts
            spans.setdefault(each.ref_id, []).extend(times)
    spent = spent_by_stage(run.engine.database, run.id)
    return {
        ref: _side(stage, attempts.get(ref, 0), spans.get(ref, []), spent.get(ref, Spent()))
        for ref, stage in ((stage.ref_id, stage) for stage in workflow.stages)
    }


def _side(stage: StageExecution, attempts: int, span: list[int], spent: Spent) -> Side:
    took = max(span) - min(span) if span and stage.end_time is not None else None
    return Side(stage.status.name, took, attempts, dict(stage.outputs), stage.error, stage.start_time, spent)


def _whole(workflow: Workflow, sides: Mapping[str, Side]) -> Side:
    spent = sum((side.spent for side in sides.values()), Spent())
    begun, ended = workflow.start_time, workflow.end_time
    took = None if begun is None or ended is None else ended - begun
    return Side(workflow.status.name, took, 0, dict(workflow.context), workflow.error, begun, spent)


def _taken_over(run: Run, workflow: Workflow) -> set[str]:
    if run.forked_from is None or workflow.created_at is None:
        return set()
    begun = {stage.ref_id: stage.start_time for stage in workflow.stages}
    return {ref for ref, at in begun.items() if at is not None and at < workflow.created_at}


def _row(pair: Pair) -> list[Any]:
    names = ("status", "duration", "attempts", "calls", "tokens", "cost", "outputs")
    values = [None if side is None else getattr(side, name) for name in names for side in (pair.a, pair.b)]
    return [pair.stage or None, ", ".join(pair.differs), pair.taken_over, *values]
