"""What is on record of one execution: reading looks at the store, and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from stabilize_nb.decisions import decisions_frame, decisions_in
from stabilize_nb.errors import StageNotFoundError
from stabilize_nb.events.calls import calls_frame
from stabilize_nb.events.frames import signals_frame, stages_frame, tasks_frame
from stabilize_nb.events.log_frame import events_frame
from stabilize_nb.events.past import Past
from stabilize_nb.explain import explain
from stabilize_nb.explain_stage import explain_stage
from stabilize_nb.forks import Origin, origin_of
from stabilize_nb.gates import Gate, gates_in
from stabilize_nb.models.near import listed
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.printed import Lines, log_of
from stabilize_nb.results import graph_of
from stabilize_nb.run_diff import changes_between
from stabilize_nb.run_state import Moment, RunState, state_at
from stabilize_nb.spending import Spending, spending_of
from stabilize_nb.tasks.prints import plain_name
from stabilize_nb.versions import missing_code

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

    from stabilize_nb.engine import Engine
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.models.workflow import Workflow


class RunRecord:
    """A run as far as it is only looked at."""

    def __init__(self, engine: Engine, run_id: str) -> None:
        self.engine = engine
        self.id = run_id

    @property
    def workflow(self) -> Workflow:
        """A picture of the workflow as it is now, with all stages."""
        return self.engine.store.retrieve(self.id)

    @property
    def name(self) -> str:
        """The name of the workflow."""
        return str(self._header("name"))

    @property
    def status(self) -> WorkflowStatus:
        """The status of the workflow now."""
        return WorkflowStatus[str(self._header("status"))]

    @property
    def error(self) -> str | None:
        """Why the run failed, when it did."""
        error = self._header("error")
        return None if error is None else str(error)

    def _header(self, column: str) -> Any:
        names = ("id", "application", "name", "status")
        row = self.engine.database.call_read(lambda connection: connection.one("head", {"workflow_id": self.id}))
        if row is None:
            self.engine.run(self.id)
            return None
        return row[11] if column == "error" else row[names.index(column)]

    @property
    def inputs(self) -> dict[str, Any]:
        """What the run was started with."""
        return dict(self.workflow.context)

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """The outputs so far of every stage that has some, by ref_id."""
        return {stage.ref_id: stage.outputs for stage in self.workflow.stages if stage.outputs}

    @property
    def events(self) -> pd.DataFrame:
        """
        The log of the run; columns as `events.frames.EVENTS` states them.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> flow = Flow("greeting")
            >>> @flow.stage
            ... def greet(name):
            ...     return f"Hello {name}"
            >>> with Engine(":memory:") as engine:
            ...     run = engine.start(flow, name="Ada")
            ...     status = run.wait()
            ...     run.events[["type", "stage"]].head(3)
                           type  stage
            0  workflow.created   <NA>
            1  workflow.started   <NA>
            2     stage.started  greet
        """
        return events_frame(self.engine.database, self.id)

    @property
    def stages(self) -> pd.DataFrame:
        """
        One row for each firing of a stage; columns as `events.frames.stages_frame` states them.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> flow = Flow("greeting")
            >>> @flow.stage
            ... def greet(name):
            ...     return f"Hello {name}"
            >>> @flow.stage
            ... def shout(greet):
            ...     return greet.upper()
            >>> with Engine(":memory:") as engine:
            ...     run = engine.start(flow, name="Ada")
            ...     status = run.wait()
            ...     run.stages[["ref_id", "status", "attempts"]]
              ref_id     status  attempts
            0  greet  SUCCEEDED         1
            1  shout  SUCCEEDED         1
        """
        return stages_frame(self.engine.database, self.id)

    @property
    def tasks(self) -> pd.DataFrame:
        """One row for each attempt of a task; columns as `events.frames.tasks_frame` states them."""
        return tasks_frame(self.engine.database, self.id)

    @property
    def signals(self) -> pd.DataFrame:
        """One row for each signal sent to the run; columns as `events.frames.signals_frame` states them."""
        return signals_frame(self.engine.database, self.id)

    @property
    def calls(self) -> pd.DataFrame:
        """One row each time a model or tool was called; columns as `events.calls.calls_frame` states them."""
        return calls_frame(self.engine.database, self.id)

    @property
    def budget(self) -> Spending | None:
        """What was spent of the budget of this run, with its limits; None when it has no budget."""
        return spending_of(self.engine.database, self.id)

    @property
    def gates(self) -> list[Gate]:
        """The gates of this run that wait for a decision now."""
        return gates_in(self.engine.database, self.id)

    @property
    def decisions(self) -> pd.DataFrame:
        """Who decided what, one row for each decision as it came, refused ones too; columns as `DECISIONS` has them."""
        return decisions_frame(decisions_in(self.engine.database, self.id))

    def waiting_for_code(self) -> list[str]:
        """Return the names of the tasks that the run waits for and that this process does not know."""
        return sorted({*map(plain_name, missing_code(self))})

    def graph(self) -> nx.DiGraph[str]:
        """Return the graph: nodes are ref_ids with `status` and `name`, edges point downstream."""
        return graph_of(self.workflow)

    @overload
    def explain(self) -> list[str]: ...

    @overload
    def explain(self, stage: str) -> str: ...

    def explain(self, stage: str | None = None) -> list[str] | str:
        """
        Return a sentence for each thing the run waits for or works at; for a stage why it stands where it stands.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> flow = Flow("letter")
            >>> sign_off = flow.approval("Send it?", name="sign_off")
            >>> @flow.stage
            ... def send(sign_off):
            ...     return "sent"
            >>> with Engine(":memory:") as engine:
            ...     run = engine.start(flow)
            ...     gates = run.until_gate()
            ...     run.explain()
            ...     run.explain("send")
            ["stage 'sign_off' waits for a decision or signal"]
            "stage 'send' waits for 'sign_off' (suspended)"
        """
        if stage is None:
            return explain(self)
        past = Past(self.engine.database, self.id)
        return explain_stage(RunState.of(past, past.last), stage, missing_code(self))

    def log(self, stage: str | None = None) -> Lines:
        """Return what the tasks of a stage have printed and displayed, as text; of all stages when none is named."""
        engine, stage_id = self.engine, None if stage is None else self._stage(stage).id
        return log_of(engine.database, engine.processor.desk, self.workflow, stage_id)

    @property
    def attributes(self) -> dict[str, str]:
        """By what this run is found, as it is now: `engine.runs(where=...)`."""
        here = {"workflow_id": self.id}
        rows = self.engine.database.call_read(lambda connection: connection.all("attributes_of", here))
        return {name: value for name, value in rows}  # noqa: C416 - rows are of any kind

    @property
    def forked_from(self) -> Origin | None:
        """Where this run was forked from: its fields are `run`, `sequence` and `stage`; None when it is no fork."""
        return origin_of(self.engine, self.id)

    # -- looking back -----------------------------------------------------------------------------

    def at(self, moment: Moment) -> RunState:
        """
        Return the run as it was at a moment: after the fact of that number, or at a time.

        Raises ConfigError for a moment that the run does not have.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> flow = Flow("greeting")
            >>> @flow.stage
            ... def greet(name):
            ...     return f"Hello {name}"
            >>> with Engine(":memory:") as engine:
            ...     run = engine.start(flow, name="Ada")
            ...     status = run.wait()
            ...     for number in (3, len(run.events)):
            ...         then = run.at(number)
            ...         print(then.status, then.outputs)
            RUNNING {}
            SUCCEEDED {'greet': {'result': 'Hello Ada'}}
        """
        return state_at(self.engine.database, self.id, moment)

    def diff(self, before: Moment, after: Moment | None = None) -> pd.DataFrame:
        """Return what changed between two moments (or since one); columns as `run_diff.CHANGES` states them."""
        return changes_between(self.engine.database, self.id, before, after)

    def _stage(self, name: str) -> StageExecution:
        workflow = self.workflow
        for stage in workflow.stages:
            if name in (stage.ref_id, stage.id):
                return stage
        known = [stage.ref_id for stage in workflow.stages]
        msg = f"run {self.id} has no stage {name!r}; its stages are: {listed(name, known)}"
        raise StageNotFoundError(msg)
