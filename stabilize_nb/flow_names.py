"""
What the names of a flow stand for while it runs.

A parameter that names a stage gets what that stage returned. The engine tells a body that only of the stages directly
before it. Where something else stands between two stages of a flow, that gives the values again (flow_relays.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stabilize_nb.models.near import listed
from stabilize_nb.reducers import apply_output_reducers
from stabilize_nb.tasks.result import returned

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution, Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the names of a flow stand for in its runs.

    `begins`, `ends`: the ref_id at which a stage or loop begins, and the one that holds its value. `lists`: ref_ids
    whose value is a list of several results. `beside`: of a loop, the outputs of its exit that are not its value.
    `conditions`: what conditions read; `wanted`: what anything asks for.
    """

    flow: str
    begins: Mapping[str, str]
    ends: Mapping[str, str]
    lists: frozenset[str]
    beside: Mapping[str, frozenset[str]]
    conditions: frozenset[str]
    wanted: frozenset[str]

    def has(self, stage: StageExecution, name: str) -> bool:
        """Whether a stage or loop of the flow has come directly before."""
        return self.ends.get(name) in stage.upstream

    def value(self, stage: StageExecution, name: str) -> Any:
        """Return what it returned; a list when several runs of it have come."""
        values = [self._value(name, run) for run in stage.upstream[self.ends[name]]]
        return values[0] if len(values) == 1 else values

    def _value(self, name: str, run: Upstream) -> Any:
        beside = self.beside.get(name, ())
        return returned({key: value for key, value in run.outputs.items() if key not in beside}, run.context)

    def values(self, stage: StageExecution, names: Iterable[str]) -> dict[str, Any]:
        """Return the values of those that have come."""
        return {name: self.value(stage, name) for name in names if self.has(stage, name)}

    def reduced(self, stage: StageExecution, reducers: Mapping[str, str]) -> dict[str, Any]:
        """Return what reducers make of the outputs of the branches, of which each instance is one."""
        outputs = [each for ref, runs in stage.upstream.items() for run in runs for each in self._outputs(ref, run)]
        nothing: dict[str, Any] = {name: [] for name, reducer in reducers.items() if reducer == "collect"}
        return nothing | apply_output_reducers(reducers, outputs)

    def _outputs(self, ref: str, run: Upstream) -> Iterator[Mapping[str, Any]]:
        if ref not in self.lists:
            yield run.outputs
            return
        for result in run.outputs.get("result", ()):
            yield result if isinstance(result, dict) else {"result": result}

    def told(self, name: str, value: Any) -> dict[str, Any]:
        """Return a value under the name of its stage, if a condition asks for it so."""
        return {name: value} if name in self.conditions else {}

    def meant(self, names: Iterable[str]) -> list[Any]:
        """Return what some names stand for, for the print of code that uses them."""
        known = {name: self.ends[name] for name in names if name in self.ends}
        beside = {name: self.beside[name] for name in known if name in self.beside}
        return [known, beside, self.lists & {*known.values()}, self.conditions & {*known}]


def lacks(stage: StageExecution, name: str) -> str:
    """Return how a sentence ends about a name that has no value: what there is."""
    have = sorted(key for key in stage.context if not key.startswith("_"))
    there = listed(name, have) if have else "nothing"
    return f"which neither the run's inputs nor the stages before it gave; there is: {there}"
