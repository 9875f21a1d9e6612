"""Run: the handle on one execution. Waiting looks at the store; ordering pushes a message."""

from __future__ import annotations

import asyncio
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stabilize_nb.deciding import decide, settle
from stabilize_nb.errors import StabilizeError, StageNotReadyError, WaitingForApproval, WaitTimeoutError
from stabilize_nb.forks import Code, fork, forks_of
from stabilize_nb.gates import Gate
from stabilize_nb.models.gate import APPROVE, REJECT
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.values import as_dict
from stabilize_nb.queue.messages import (
    CancelStage,
    CancelWorkflow,
    MigrateWorkflow,
    PauseWorkflow,
    RestartStage,
    ResumeWorkflow,
    SignalStage,
)
from stabilize_nb.results import result_of
from stabilize_nb.run_record import RunRecord
from stabilize_nb.run_state import Moment
from stabilize_nb.store.waiting import look
from stabilize_nb.store.waiting import settle as show_all
from stabilize_nb.tasks.prints import plain_name
from stabilize_nb.versions import newer_code
from stabilize_nb.waiting import AwaitInterrupted, deadline_of, have_looked_at, interruptible, look_after, stuck_at

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from stabilize_nb.engine import Engine
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.store.waiting import Ticket
    from stabilize_nb.waiting import Patience

S = WorkflowStatus
#: Seconds between looks of `await run`: an await of a future cannot be interrupted in a kernel, a sleep can.
LOOK = 0.05
#: Seconds between looks when nothing was heard: commits of other processes.
LOOK_OUTSIDE = 0.25


class Run(RunRecord):
    """
    One execution of a workflow in an engine. `await run` waits for its end and gives its result.

    For example:

        >>> from stabilize_nb import Engine, Flow
        >>> flow = Flow("sums")
        >>> @flow.stage
        ... def double(number):
        ...     return {"twice": 2 * number}
        >>> with Engine(":memory:") as engine:
        ...     run = engine.start(flow, number=4)
        ...     print(run.wait(), run.inputs, run.outputs)
        SUCCEEDED {'number': 4} {'double': {'twice': 8}}
    """

    def __init__(self, engine: Engine, run_id: str) -> None:
        super().__init__(engine, run_id)
        self._deciding: dict[str, str] = {}  # message -> gate: decisions of this handle that may not be processed yet
        self._beginning_again = ""  # the last order of this handle to run a stage again, which may not be processed yet

    def replay(self, at: Moment | None = None) -> Any:
        """Return what goes through the run fact by fact: a slider in a notebook, else a table of its steps."""
        return import_module("stabilize_nb.notebook.replay").Replay(self, at)

    # -- going another way -----------------------------------------------------------------------

    def fork(
        self,
        at: str | Moment,
        *,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        code: Code = "current",
    ) -> Run:
        """
        Start a run that takes over what this one has finished, runs the stage `at` and all that follows it again, and
        whatever else was not finished here.

        `at`: a stage that ran, or a moment (number of a fact, or datetime): what was finished then is taken over.
        `inputs` replace those of the same name; `outputs` (stage -> what it returned) those of stages that are taken
        over. `code`: "current", what is defined now, or "recorded", what this run would use.

        Raises StageNotReadyError for a stage that never ran, StageNotFoundError, ConfigError for a moment that the run
        does not have or a replacement that fits nothing. Nothing is stored then.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> flow = Flow("essay")
            >>> @flow.stage
            ... def facts(topic):
            ...     return f"facts about {topic}"  # expensive
            >>> @flow.stage
            ... def draft(facts, tone):
            ...     return f"{facts}, {tone}"
            >>> with Engine(":memory:") as engine:
            ...     run = engine.start(flow, topic="tea", tone="plain")
            ...     status = run.wait()
            ...     run.fork("draft", inputs={"tone": "kind"}).result()
            'facts about tea, kind'
        """
        made = Run(self.engine, fork(self, at, inputs or {}, outputs or {}, code))
        self.engine.work(made.id)
        return made

    @property
    def forks(self) -> list[Run]:
        """The runs that were forked from this one, oldest first."""
        return [Run(self.engine, run_id) for run_id in forks_of(self.engine, self.id)]

    # -- waiting ----------------------------------------------------------------------------------

    @interruptible
    def wait(self, timeout: Patience = None) -> WorkflowStatus:
        """
        Wait until the run has ended, gates included, and return its status.

        Raises WaitTimeoutError after `timeout`: seconds, a timedelta, or text such as "90 min"; the run goes on.
        """
        deadline = deadline_of(timeout)
        while True:
            ticket = self.engine.database.changes.ticket(self.id)
            if (status := self._end()) is not None:
                show_all()
                return status
            self._pause(ticket, deadline, self.status)

    @interruptible
    def until_gate(self, timeout: Patience = None) -> list[Gate]:
        """
        Wait until the run waits for decisions or has ended, and return the gates that wait now; those that this handle
        has decided a moment ago are not among them.

        Raises WaitingForCode when a task is not defined here, WaitTimeoutError after `timeout` seconds; the run itself
        goes on.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> flow = Flow("trip")
            >>> money = flow.approval("Can we pay for it?", name="money")
            >>> time = flow.approval("Have we the time?", name="time", reject_continues=True)
            >>> with Engine(":memory:") as engine:
            ...     run = engine.start(flow)
            ...     while gates := run.until_gate():
            ...         run.approve(gates[0])
            ...     print(run.status)
            SUCCEEDED
        """
        deadline = deadline_of(timeout)
        while True:
            ticket = self.engine.database.changes.ticket(self.id)
            gates = self._undecided()
            if gates or self._end() is not None:
                return gates
            if (stuck := stuck_at(self)) and not isinstance(stuck, WaitingForApproval):
                raise stuck
            self._pause(ticket, deadline, S.RUNNING, to_gate=True)

    def _undecided(self) -> list[Gate]:
        left = self.engine.queue.is_left  # asked first: a gate whose decision is processed does not wait any more
        self._deciding = {message: gate for message, gate in self._deciding.items() if left(message)}
        decided = {*self._deciding.values()}
        return [gate for gate in self.gates if gate.stage_id not in decided]

    @interruptible
    def result(self, timeout: Patience = None) -> Any:
        """
        Wait for the end and return the result: what the last stage returned, or a mapping by stage of several.

        Raises WaitingForApproval at a gate, WaitingForCode when a task is not defined here, RunFailedError when the run
        ended without success, WaitTimeoutError after `timeout` seconds. The run itself goes on.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> from stabilize_nb.errors import RunFailedError
            >>> flow = Flow("division")
            >>> @flow.stage
            ... def divide(a, b):
            ...     return a / b
            >>> with Engine(":memory:") as engine:
            ...     print(engine.start(flow, a=6, b=3).result(timeout=60))
            ...     try:
            ...         engine.start(flow, a=6, b=0).result()
            ...     except RunFailedError as error:
            ...         print(str(error).partition("TERMINAL ")[2])
            2.0
            (divide: ZeroDivisionError: division by zero)
        """
        deadline = deadline_of(timeout)
        while True:
            ticket = self.engine.database.changes.ticket(self.id)
            workflow = self._finished()
            if workflow is not None:
                return result_of(workflow)
            if stuck_at(self):
                have_looked_at(self, awaits=False)
                if stuck := stuck_at(self):
                    raise stuck
            self._pause(ticket, deadline, S.RUNNING)

    def _pause(self, ticket: Ticket, deadline: float | None, status: WorkflowStatus, *, to_gate: bool = False) -> None:
        left = LOOK_OUTSIDE if deadline is None else min(LOOK_OUTSIDE, deadline - time.monotonic())
        if left <= 0:
            msg = f"run {self.id} is still {status}; it goes on in the background: {'; '.join(self.explain())}"
            raise WaitTimeoutError(msg)
        look_after(self)
        if not to_gate:  # who waits for a gate decides at it
            have_looked_at(self, awaits=False)
        look()
        if not ticket.wait(left):
            self.engine.database.changes.give_back(ticket)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._watch().__await__()

    async def _watch(self) -> Any:
        try:
            while (workflow := self._finished()) is None:
                if self.engine.rehearsal is not None and (stuck := stuck_at(self)):
                    raise stuck
                look_after(self)
                have_looked_at(self, awaits=True)
                look()
                await asyncio.sleep(LOOK)
        except (asyncio.CancelledError, KeyboardInterrupt):  # which of them depends on where the interrupt strikes
            raise AwaitInterrupted(self) from None
        return result_of(workflow)

    def _finished(self) -> Workflow | None:
        if self._end() is None:
            return None
        show_all()
        return self.workflow

    def _end(self) -> WorkflowStatus | None:
        """Return how the run has ended; one that this handle has begun again a moment ago has not."""
        begins = self._beginning_again and self.engine.queue.is_left(self._beginning_again)  # asked before the status
        status = self.status
        return status if status.is_complete and not begins else None

    # -- ordering ---------------------------------------------------------------------------------

    def approve(self, gate: Gate | str | None = None, **payload: Any) -> None:
        """
        Approve a gate; the payload reaches the stages behind it.

        Not named: the only one that waits now. Named: also one that does not wait yet, for which the decision is kept.
        One of `run.gates`: only if it still asks what it asks there. `decision="revise"` takes another choice.

        Raises StageNotReadyError when there is not exactly one such gate, ConfigError for what it does not take.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> flow = Flow("letter")
            >>> sign_off = flow.approval("Send it?", name="sign_off", form={"copies": int})
            >>> with Engine(":memory:") as engine:
            ...     run = engine.start(flow)
            ...     run.approve("sign_off", copies=2, user="ada")
            ...     print(run.wait(), run.decisions["user"].tolist())
            SUCCEEDED ['ada']
        """
        self._decide(decide(self, gate, APPROVE, payload))

    def reject(self, gate: Gate | str | None = None, **payload: Any) -> None:
        """Reject a gate; as `approve` otherwise."""
        self._decide(decide(self, gate, REJECT, payload))

    def decide(self, gate: Gate | str, choice: str, /, **payload: Any) -> str:
        """Take one of the choices that a gate offers; the id by which `run.decisions` has what became of it."""
        return self._decide(decide(self, gate, choice, payload))

    def _decide(self, message: SignalStage) -> str:
        message_id = self._push(message)
        self._deciding[message_id] = message.stage_id
        return message.decision_id

    def settle(
        self, stage: str, choice: str | None = None, *, outputs: Mapping[str, Any] | None = None, reason: str = "",
        user: str = "",
    ) -> str:  # fmt: skip
        """
        Say what became of a stage whose process died while it ran, and which waits for that (`on_crash="ask"`).

        "retry": run it again; "done", which `outputs` says too: it is done, with these outputs; "fail": it has failed.
        The first to say it counts. Returns the id by which `run.decisions` has what became of this.

        Raises StageNotReadyError when the stage does not wait for this, ConfigError for another choice.
        """
        return self._decide(settle(self, stage, choice, outputs, {"reason": reason, "user": user}))

    def signal(self, stage: str, name: str, data: Mapping[str, Any] | None = None, *, persistent: bool = True) -> None:
        """Send a signal to a stage; a persistent one is kept until the stage waits for it."""
        self._signal(self._stage(stage).id, name, as_dict(data, f"data of signal {name!r}"), persistent=persistent)

    def _signal(self, stage_id: str, name: str, data: dict[str, Any], *, persistent: bool) -> None:
        self._push(
            SignalStage(
                execution_id=self.id,
                stage_id=stage_id,
                signal_name=name,
                signal_data=data,
                persistent=persistent,
            )
        )

    def cancel(self, stage: str | None = None, *, user: str = "", reason: str = "") -> None:
        """Withdraw one stage, or everything of the run that is not complete."""
        if stage is None:
            self._push(CancelWorkflow(execution_id=self.id, user=user, reason=reason))
        else:
            self._push(CancelStage(execution_id=self.id, stage_id=self._stage(stage).id, user=user))

    def pause(self) -> None:
        """Begin no further task; bodies at work end as usual."""
        self._push(PauseWorkflow(execution_id=self.id))

    def resume(self) -> None:
        """Go on after a pause, or after this process was started anew."""
        self._push(ResumeWorkflow(execution_id=self.id))

    def migrate(self) -> list[str]:
        """Have what has not run yet use the code that is defined now; return the tasks whose code that changes."""
        codes = newer_code(self)
        if codes:
            self._push(MigrateWorkflow(execution_id=self.id, codes=codes))
        return sorted({*map(plain_name, codes)})

    def retry(self, stage: str | None = None) -> None:
        """
        Run a stage and what follows it again, with the code that is defined now; without a name what failed.

        Raises StageNotReadyError when no stage has failed.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> flow, stock = Flow("shop"), {"tea": 0}
            >>> @flow.stage
            ... def take(item):
            ...     if not stock[item]:
            ...         raise ValueError(f"no {item} left")
            ...     return item
            >>> with Engine(":memory:") as engine:
            ...     run = engine.start(flow, item="tea")
            ...     print(run.wait(), run.error)
            ...     stock["tea"] = 5
            ...     run.retry()
            ...     print(run.result())
            TERMINAL stage 'take' failed: ValueError: no tea left
            tea
        """
        if stage is None:
            failed = [each.ref_id for each in self.workflow.stages if each.status is S.TERMINAL]
            if not failed:
                msg = f"run {self.id} has no failed stage; name the stage to run again: run.retry('stage')"
                raise StageNotReadyError(msg)
            stage = failed[0]
        self.migrate()
        self._beginning_again = self._push(RestartStage(execution_id=self.id, stage_id=self._stage(stage).id))

    def _push(self, message: Any) -> str:
        message_id = self.engine.queue.push(message)
        self.engine.work(self.id)
        return message_id

    # -- showing ----------------------------------------------------------------------------------

    def __repr__(self) -> str:
        try:
            workflow = self.workflow
        except StabilizeError as error:
            return f"Run({self.id}: {error})"
        done = sum(stage.status.is_complete for stage in workflow.stages)
        return f"Run({workflow.name!r}, {self.id}, {workflow.status}, {done}/{len(workflow.stages)} stages)"

    def pane(self) -> Any:
        """Show the run in the output of the cell that runs, live while it goes on, whatever the display mode is."""
        return import_module("stabilize_nb.notebook.panes.showing").show(self)

    def _ipython_display_(self) -> None:
        # As below. Raises NotImplementedError where there are no live panes: IPython asks for the bundle then.
        import_module("stabilize_nb.notebook.views").show_live(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # IPython calls this; nothing below the notebook may import it.
        bundle: dict[str, Any] = import_module("stabilize_nb.notebook.views").run_bundle(self)
        return bundle
