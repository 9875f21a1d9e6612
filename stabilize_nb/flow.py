"""Flow: functions become stages. A parameter that names a stage is a dependency; the rest are inputs.

A Flow builds reference objects (`build() -> Workflow`): there is one engine and one model behind both ways of writing.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stabilize_nb.dag.soundness import Finding, check_soundness, contradictions, softened
from stabilize_nb.errors import ConfigError, InvalidWorkflowError
from stabilize_nb.flow_build import Assembly, families
from stabilize_nb.flow_layout import Layout, faults
from stabilize_nb.flow_parts import HANDLES, FlowLoop, FlowStage
from stabilize_nb.flow_tasks import JumpRequested, jump
from stabilize_nb.flow_words import mentioned
from stabilize_nb.flow_writing import Writing
from stabilize_nb.models.budget import BUDGET, Budget
from stabilize_nb.models.near import CLOSE, close
from stabilize_nb.models.topology import check_topology
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.starting import START_WORDS, STARTER, How, Work
from stabilize_nb.tasks.prints import plain_name

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import networkx as nx

    from stabilize_nb.engine import Engine
    from stabilize_nb.run import Run
    from stabilize_nb.tasks.registry import TaskRegistry

__all__ = ["Flow", "FlowLoop", "FlowStage", "JumpRequested", "jump"]

#: As CLOSE, where the name may also be an output of a stage before: only what can hardly be anything but a slip.
TYPO = 0.88


class Flow(Writing):
    """A workflow written as functions.

    Flow("analyst") collects stages by `@flow.stage`; `flow.run(question=...)` starts a run of it in the default engine.
    `budget`: what the model calls of a run may take together.

    For example:

        >>> from stabilize_nb import Engine, Flow
        >>> greeting = Flow("greeting")
        >>> @greeting.stage
        ... def greet(name):
        ...     return f"Hello {name}"
        >>> @greeting.stage
        ... def shout(greet):
        ...     return greet.upper()
        >>> with Engine(":memory:") as engine:
        ...     engine.start(greeting, name="Ada").result()
        'HELLO ADA'
    """

    def __init__(self, name: str, *, description: str = "", budget: Budget | None = None) -> None:
        super().__init__(name)
        self.description = description
        self.budget = budget
        self.version = 1  # a notebook counts it up when the code changes
        self.engine: Engine | None = None  # where `run` starts runs; None: in the default engine

    # -- checking and building --------------------------------------------------------------------

    def requisites(self, stage: FlowStage) -> set[str]:
        """Return the names of the stages and loops that a stage follows."""
        when = stage.settings.get("when")
        named = Layout(self).named[stage.name] | {*(when if isinstance(when, dict) else ())}
        return (stage.asks() & self.nodes.keys()) | {*stage.after} | named

    @property
    def inputs(self) -> dict[str, bool]:
        """What a run can be given: name -> whether some stage cannot do without it."""
        return self.wanted(frozenset())

    def wanted(self, asked: frozenset[int]) -> dict[str, bool]:
        """Return the inputs; those of flows that are called and `asked` already are left out."""
        asked |= {id(self)}
        layout = Layout(self, asked)
        found: dict[str, bool] = {}
        for stage in self.stages.values():
            is_start = layout.is_start(stage.name)
            for name, needed in stage.wants(asked).items():
                if name not in layout.nodes:
                    found[name] = found.get(name, False) or (needed and is_start)
            for text in stage.conditions if is_start else ():
                found = {**dict.fromkeys(sorted(mentioned(text)), False), **found}
        return found

    def check(self, inputs: Iterable[str] | None = None) -> tuple[Finding, ...]:
        """
        Return what is wrong with the graph: stages that can never run, waits that never end.

        Contradictions are those for which `build` refuses a run. Where a stage function jumps there are only warnings.

        Raises InvalidWorkflowError that names all else that is wrong with the flow (with `inputs`: for a run of these).

        For example:

            >>> from stabilize_nb import Flow
            >>> from stabilize_nb.errors import InvalidWorkflowError
            >>> flow = Flow("survey")
            >>> @flow.stage
            ... def ask():
            ...     return "yes"
            >>> @flow.stage(join="2 of 3")
            ... def verdict(ask):
            ...     return ask
            >>> try:
            ...     flow.check()
            ... except InvalidWorkflowError as error:
            ...     print(error)
            workflow 'survey' cannot be run: stage 'verdict' (line 1): join='2 of 3', but it has 1 branch (ask)
        """
        layout, given = Layout(self), None if inputs is None else set(inputs)
        wrong = [fault for stage in self.stages.values() for fault in self._faults(stage, layout, given)]
        wrong += faults(layout)
        if not self.stages:
            wrong.append("it has no stages: decorate a function with @stage")
        for child in families(self):
            if child is not self and (
                inside := faults(Layout(child)) or ([] if child.stages else ["it has no stages"])
            ):
                wrong.append(f"flow {child.name!r}, which it calls, cannot be run: {'; '.join(inside)}")
        if wrong:
            raise InvalidWorkflowError(self.name, wrong)
        stages = Assembly(self).stages
        check_topology(self.name, stages)
        findings = check_soundness(stages)
        return softened(findings) if any(map(_jumps, self.stages.values())) else findings

    def _faults(self, stage: FlowStage, layout: Layout, given: Collection[str] | None) -> list[str]:
        known = {*layout.nodes, *HANDLES, *(given or ())}
        is_start = layout.is_start(stage.name)
        shown = set() if is_start else {name for other in self.stages.values() for name in other.gives}
        found = []
        for name in [name for name, needed in stage.wants().items() if needed and name not in known | shown]:
            like = close(name, known - {stage.name}, CLOSE if is_start else TYPO)
            if like:
                found.append(f"{stage.place} asks for {name!r}, which is neither a stage nor an input{like}")
            elif given is not None and is_start:
                also = ", or name with after= the stage that gives it" if name == stage.settings.get("each") else ""
                found.append(f"{stage.place} needs the input {name!r}, which was not given: run({name}=...){also}")
        return found

    def build(self, **inputs: Any) -> Workflow:
        """
        Return the Workflow of a run with these inputs.

        Raises InvalidWorkflowError for a flow that cannot be run, with every fault named.
        """
        wanted = self.inputs
        read_too = {name for node in self.nodes.values() for text in node.conditions for name in mentioned(text)}
        for name in inputs.keys() - wanted.keys() - read_too:
            if like := close(name, wanted):
                msg = f"flow {self.name!r} has no input {name!r}{like}"
                raise ConfigError(msg)
        if wrong := contradictions(self.check(inputs)):
            raise InvalidWorkflowError(self.name, wrong)
        stages = Assembly(self).stages
        context = inputs if self.budget is None else {**inputs, BUDGET: self.budget.as_data()}
        return Workflow.create(application=self.name, name=self.name, stages=stages, context=context)

    def task_name(self, stage: FlowStage) -> str:
        """Return the name under which the code of a stage is registered: `flow.stage@print`, so versions differ."""
        wanted = f"{self.name}.{stage.name}"
        names = {plain_name(name): name for name in Assembly(self).tasks}
        return "approval" if stage.is_gate else names[wanted]

    def register(self, registry: TaskRegistry) -> None:
        """Make the functions of the flow and of those that it calls known; earlier versions of them stay known."""
        for flow in families(self):
            for name, task in Assembly(flow).tasks.items():
                registry.replace(name, task)

    def graph(self) -> nx.DiGraph[str]:
        """Return the graph: nodes are stage names, edges point downstream; of a loop it is one pass."""
        import networkx as nx  # noqa: PLC0415 - heavy, and only needed for this

        layout = Layout(self)
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(self.stages)
        for name in self.nodes:
            for source in layout.edges[name]:
                graph.add_edges_from((tail, head) for tail in layout.tails(source) for head in layout.heads(name))
        return graph

    def picture(self) -> Workflow:
        """Return the flow as an unstarted workflow, for drawing: inputs are not asked for."""
        return Workflow(application=self.name, name=self.name, stages=Assembly(self).stages)

    # -- running ----------------------------------------------------------------------------------

    def run(self, how: How = "again", /, **inputs: Any) -> Run:
        """
        Start a run, in the default engine unless `engine` is set, and return its handle at once.

        A notebook's cell that is run again gets the run that it began with these inputs, as long as that has not ended.
        `run("new", ...)` starts another one; `run("once", ...)` returns also one that has succeeded with these inputs
        and this code. Words of `Engine.start` are taken too, unless a stage asks for an input of that name: `key="..."`
        says what the run is for, `priority=5` how urgent it is, `attributes={...}` by what it is found, and
        `allow_plain_secrets=True` that inputs which look like secrets may be stored.
        """
        words = {name: inputs.pop(name) for name in [*inputs] if name in START_WORDS and name not in self.inputs}
        work = Work(build=lambda: self.build(**inputs), register=self.register, version=self.version)
        return STARTER.start(work, inputs, how=how, engine=self.engine, **words)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """
        Write this flow, of a %%workflow cell, as a module for `stabilize-nb worker --import`, and return where.

        What other cells have imported is imported there. Raises ConfigError for a flow that needs what only the
        notebook has, such as a variable or function of another cell.
        """
        saved: Path = import_module("stabilize_nb.notebook.export").save(self, path)
        return saved

    def __repr__(self) -> str:
        return f"Flow({self.name!r}, stages: {', '.join(self.stages) or 'none'})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # IPython calls this; nothing below the notebook may import it.
        bundle: dict[str, Any] = import_module("stabilize_nb.notebook.views").flow_bundle(self)
        return bundle


def _jumps(stage: FlowStage) -> bool:
    """Whether the code of a stage function, or of one inside it, names what makes a jump."""
    codes = [getattr(inspect.unwrap(stage.function), "__code__", None)] if stage.function is not None else []
    for code in filter(None, codes):
        if {"jump", "jump_to"} & {*code.co_names, *code.co_freevars}:
            return True
        codes += [constant for constant in code.co_consts if inspect.iscode(constant)]
    return False
