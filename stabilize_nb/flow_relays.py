"""
The tasks that stand between the stages of a flow and pass values on.

They are parents of instances, entries and exits of loops, stages that look at a condition, calls of other flows. Each
gives the values that something behind it asks for again, as outputs of its own under the names of the stages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import ConfigError, StabilizeError
from stabilize_nb.flow_names import lacks
from stabilize_nb.models.multi_instance import INSTANCE_INDEX, is_instance
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.tasks.child import CONFIG, with_plain_stages
from stabilize_nb.tasks.interface import Task
from stabilize_nb.tasks.loop import LoopEntryTask, LoopExitTask
from stabilize_nb.tasks.prints import print_of
from stabilize_nb.tasks.result import TaskResult, returned

if TYPE_CHECKING:
    from stabilize_nb.flow import Flow, FlowStage
    from stabilize_nb.flow_names import Names
    from stabilize_nb.models.stage import StageExecution

#: In the own context of a parent of instances: what they are made for.
ITEMS = "_items"


class RelayTask(Task):
    """Gives values of the stages before it again: those that what stands behind it asks for."""

    sees_secrets = False

    def __init__(self, names: Names, values: Iterable[str], reducers: Mapping[str, str]) -> None:
        self._names = names
        self._values = tuple(values)
        self._reducers = reducers

    @property
    def code(self) -> str:
        """The print of what is passed on."""
        lists = self._names.lists if self._reducers else ()
        return print_of(type(self), self._values, self._reducers, lists, self._names.meant(self._values))

    def execute(self, stage: StageExecution) -> TaskResult:
        """Look, and pass on."""
        return TaskResult.success(self.passed_on(stage))

    def passed_on(self, stage: StageExecution) -> dict[str, Any]:
        """Return the values by the names under which they are asked for."""
        gathered = self._names.reduced(stage, self._reducers) if self._reducers else {}
        return {**self._names.values(stage, self._values), **gathered}


class EachTask(RelayTask):
    """Begins a stage that runs once for each item: says for which (WCP-13, WCP-14)."""

    def __init__(self, names: Names, values: Iterable[str], reducers: Mapping[str, str], stage: FlowStage) -> None:
        super().__init__(names, values, reducers)
        self._name = stage.name
        self._each = stage.settings["each"]

    @property
    def code(self) -> str:
        """The print of what it is run for."""
        return print_of(super().code, self._each)

    def execute(self, stage: StageExecution) -> TaskResult:
        """Find the list, or the number."""
        given = self.passed_on(stage)
        if not isinstance(self._each, str):
            return TaskResult.success(given)
        try:
            items = self._items({**stage.context, **given}, stage)
        except ConfigError as error:
            return TaskResult.terminal(str(error))
        return TaskResult.success(given, {ITEMS: items})

    def _items(self, seen: Mapping[str, Any], stage: StageExecution) -> list[Any]:
        here = f"stage {self._name!r} of flow {self._names.flow!r}"
        if self._each not in seen:
            raise ConfigError(f"{here} runs for each of {self._each!r}, {lacks(stage, self._each)}")
        found = seen[self._each]
        if isinstance(found, list):
            return found
        if type(found) is int and found >= 0:
            return list(range(found))
        raise ConfigError(
            f"{here} runs for each of {self._each!r}, which is {found!r}; a list is expected, or a number of 0 or more"
        )


class GatherTask(Task):
    """Makes one list of what the instances returned, in the order of the items.

    The value is that list. An output of theirs that anything in the flow asks for by its name becomes a list of these;
    outputs that are lists themselves are joined by the engine.
    """

    sees_secrets = False

    def __init__(self, names: Names, name: str) -> None:
        self._names = names
        self._name = name

    @property
    def code(self) -> str:
        """The print of what is gathered."""
        return print_of(type(self), self._name, self._names.wanted, self._names.meant([self._name]))

    def execute(self, stage: StageExecution) -> TaskResult:
        """Gather."""
        runs = [run for runs in stage.upstream.values() for run in runs if is_instance(run.context)]
        runs.sort(key=lambda run: run.context[INSTANCE_INDEX])
        results = [returned(run.outputs, run.context) for run in runs]
        lists = {key: [run.outputs[key] for run in runs if key in run.outputs] for key in sorted(self._names.wanted)}
        outputs = {key: found for key, found in lists.items() if found and not any(isinstance(x, list) for x in found)}
        outputs |= {**self._names.told(self._name, results), "result": results}
        return TaskResult.success(outputs, {"_returns": "value"})


class LoopBegin(LoopEntryTask):
    """The entry of a loop, which also gives again what the stages of the body ask for from before the loop."""

    def __init__(self, relay: RelayTask) -> None:
        self._relay = relay

    @property
    def code(self) -> str:
        """The print of what it gives again."""
        return print_of(type(self), self._relay.code)

    def execute(self, stage: StageExecution) -> TaskResult:
        """Begin a pass."""
        values = self._relay.passed_on(stage)
        stage.context.update(values)  # so that the exit does not take them for something that the pass gave
        result = super().execute(stage)
        begun = result.status is WorkflowStatus.SUCCEEDED
        return dataclasses.replace(result, outputs={**result.outputs, **values}) if begun else result


class LoopEnd(LoopExitTask):
    """The exit of a loop, which also gives what the last stage of the body returned in the last pass.

    With several last stages that is a mapping from their names. `values`: further stages of the body that something
    behind the loop asks for.
    """

    def __init__(self, names: Names, name: str, last: Iterable[str], values: Iterable[str]) -> None:
        self._names = names
        self._name = name
        self._last = tuple(last)
        self._values = tuple(values)

    @property
    def code(self) -> str:
        """The print of what it returns."""
        meant = self._names.meant([*self._last, *self._values, self._name])
        return print_of(type(self), self._name, self._last, self._values, meant)

    def execute(self, stage: StageExecution) -> TaskResult:
        """End a pass."""
        result = super().execute(stage)
        if result.status not in {WorkflowStatus.SUCCEEDED, WorkflowStatus.FAILED_CONTINUE}:
            return result
        outputs, context = self._value(stage)
        outputs = {**self._names.values(stage, self._values), **outputs, **result.outputs}
        return dataclasses.replace(result, outputs=outputs, context={**context, **result.context})

    def _value(self, stage: StageExecution) -> tuple[dict[str, Any], dict[str, Any]]:
        if len(self._last) > 1:
            value = self._names.values(stage, self._last)
            kind = "mapping" if value else "nothing"
            return {**self._names.told(self._name, value), **value}, {"_returns": kind}
        if not self._names.has(stage, self._last[0]):
            return {}, {"_returns": "nothing"}
        run = stage.upstream[self._names.ends[self._last[0]]][-1]
        value = self._names.value(stage, self._last[0])
        context = {"_returns": run.context["_returns"]} if "_returns" in run.context else {}
        return {**run.outputs, **self._names.told(self._name, value)}, context


class CallTask(Task):
    """Says what the child workflow of a stage is: another flow, with its inputs (WCP-22)."""

    sees_secrets = False

    def __init__(self, name: str, child: Flow, names: Names, reducers: Mapping[str, str]) -> None:
        self._name = name
        self._child = child
        self._names = names
        self._reducers = reducers

    @property
    def code(self) -> str:
        """The print of what is called: the code of the other flow has prints of its own in its runs."""
        inputs = self._child.inputs
        return print_of(type(self), self._child.name, inputs, self._reducers, self._names.meant(inputs))

    def execute(self, stage: StageExecution) -> TaskResult:
        """Find the inputs of the child and build it."""
        given = self._names.reduced(stage, self._reducers) if self._reducers else {}
        for name in self._child.inputs:
            if name not in given and self._names.has(stage, name):
                given[name] = self._names.value(stage, name)
            elif name not in given and name in stage.context:
                given[name] = stage.context[name]
        try:
            child = self._child.build(**given)
        except StabilizeError as error:
            return TaskResult.terminal(f"stage {self._name!r} cannot call flow {self._child.name!r}: {error}")
        config = {"name": child.name, "application": child.application, "stages": child.stages, "context": given}
        return TaskResult.success(context=dict(with_plain_stages({CONFIG: config})))
