"""WorkflowStore: workflows in, pictures of workflows out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from stabilize_nb.core.evolve import evolve, genesis
from stabilize_nb.core.facts import WorkflowCreated
from stabilize_nb.core.rows import spec_to_data, written
from stabilize_nb.errors import ConfigError, InvalidWorkflowError, TaskNotFoundError, WorkflowNotFoundError
from stabilize_nb.events.bus import announce
from stabilize_nb.handlers.past_of_fork import FORKED_FROM
from stabilize_nb.models.attributes import attributes_of
from stabilize_nb.models.limit import LIMIT, limit_of
from stabilize_nb.models.priority import due_at, priority_in
from stabilize_nb.models.stage import StageExecution
from stabilize_nb.models.task import TaskExecution
from stabilize_nb.models.topology import check_topology
from stabilize_nb.models.values import plain, plain_mapping
from stabilize_nb.models.workflow import Trigger, Workflow
from stabilize_nb.queue.messages import CancelWorkflow, Message, PauseWorkflow, ResumeWorkflow, storable
from stabilize_nb.reducers import check_reducer
from stabilize_nb.secrets.hiding import hidden
from stabilize_nb.secrets.refusal import refuse_plain
from stabilize_nb.stages.builder import plan_workflow
from stabilize_nb.store import rows
from stabilize_nb.store.codec import dumps, loads
from stabilize_nb.store.database import Database
from stabilize_nb.store.graphs import delete_threads_of
from stabilize_nb.store.names import put_attributes, stored_for_key
from stabilize_nb.store.reader import load_head
from stabilize_nb.store.writer import write_facts, write_log, write_message, write_messages, write_view
from stabilize_nb.tasks.child import with_plain_stages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stabilize_nb.core.rows import Head, StageRow, TaskRow
    from stabilize_nb.core.view import View
    from stabilize_nb.handlers.past_of_fork import ForkedPast
    from stabilize_nb.store.connection import Connection

Headers = list[dict[str, Any]]
Workflows = list[Workflow]
_TABLES = (
    "custody",
    "waiters",
    "claims",
    "signals",
    "journal",
    "accounts",
    "rounds",
    "arrivals",
    "tasks",
    "messages",
    "events",
    "stages",
    "blobs",
    "blob_uses",
    "start_keys",
    "attributes",
)


class WorkflowStore:
    """The workflows of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def store(
        self,
        workflow: Workflow,
        *messages: Message,
        owner: str | None = None,
        key: str = "",
        allow_plain_secrets: bool = False,
    ) -> str:
        """
        Store a new workflow with everything it consists of, and its first messages, in one transaction; return its id.

        `owner`: the processor that works at it, where processors do not share their work. `key`: what it is for; when
        one was stored for that already, nothing is, and its id is returned. `allow_plain_secrets`: store also what
        looks like a key of some service.

        Raises InvalidWorkflowError, ValueNotStorableError, TaskNotFoundError or ConfigError before anything is
        written: for a graph that cannot run, a value JSON cannot hold, a task name that no registry of this process
        knows (when there is one), an unknown reducer, an id that is stored already, a secret as plain text; and
        KeyTakenError when what was stored for the key is another workflow or has other inputs.
        """
        definition = self.accepted(workflow, key, allow_plain_secrets=allow_plain_secrets)
        database = self.database

        def write(connection: Connection) -> tuple[WorkflowCreated, int] | str:
            if _exists(connection, workflow.id):
                msg = f"workflow {workflow.id} is stored already; make a new one, or give it another id"
                raise ConfigError(msg)
            if (earlier := stored_for_key(connection, definition)) is not None:
                return earlier
            now = database.clock()
            fact = create(connection, definition, now)
            if owner is not None:
                connection.run("take_custody", {"workflow_id": workflow.id, "owner": owner})
            first = due_at(now, 0, priority_in(definition["context"]))
            write_messages(connection, ((message, first) for message in messages))
            return fact, now

        def tell(written: tuple[WorkflowCreated, int] | str) -> None:
            if not isinstance(written, str):
                fact, now = written
                announce(database.bus, workflow.id, 1, [fact], now)

        written = database.call(lambda: database.write(write, tell))
        if isinstance(written, str):
            return written
        workflow.created_at = written[1]
        database.changes.notify()
        return workflow.id

    def accepted(self, workflow: Workflow, key: str = "", *, allow_plain_secrets: bool = False) -> dict[str, Any]:
        """Return a workflow as it would be stored; raises what `store` does for one that cannot be."""
        definition = define(workflow, key)
        if not allow_plain_secrets:
            refuse_plain(definition)
        self._check_tasks(workflow)
        return definition

    def _check_tasks(self, workflow: Workflow) -> None:
        registries = self.database.registries
        if not registries:
            return
        for stage in workflow.stages:
            for task in stage.tasks:
                if not any(task.implementing_class in registry for registry in registries):
                    msg = f"stage {stage.ref_id!r}: {registries[0].unknown(task.implementing_class)}"
                    raise TaskNotFoundError(msg)

    def retrieve(self, workflow_id: str) -> Workflow:
        """Return a picture of a workflow as it is now; raises WorkflowNotFoundError."""
        found = self.database.call_read(lambda connection: _retrieve(connection, workflow_id))
        if found is None:
            msg = f"workflow {workflow_id!r} is not in {self.database.url}"
            raise WorkflowNotFoundError(msg)
        return found

    def exists(self, workflow_id: str) -> bool:
        """Whether a workflow is stored; a store that cannot be read raises StoreError."""
        return self.database.call_read(lambda connection: _exists(connection, workflow_id))

    def delete(self, workflow_id: str) -> None:
        """Remove a workflow and everything that belongs to it, its log included."""

        def write(connection: Connection) -> None:
            wanted = connection.one("claim_wanted_by_others", {"workflow_id": workflow_id})
            if wanted:
                msg = (
                    f"workflow {workflow_id} holds {wanted[0]!r}, for which other workflows wait: cancel it first, and "
                    "it is given back"
                )
                raise ConfigError(msg)
            remove(connection, [workflow_id])

        self.database.call_write(write)

    def list(
        self, application: str | None = None, limit: int = 1_000, where: Mapping[str, Any] | None = None
    ) -> Headers:
        """
        Return headers, newest first: id, application, name, status, created_at, started_at, ended_at (ms), error.

        `where`: only of workflows with these attributes; name first what the fewest have.
        """
        if type(limit) is not int or limit < 0:
            raise ConfigError(f"limit={limit!r} is no number of runs; an integer of 0 or more is expected")
        params: dict[str, Any] = {"application": application, "most": limit}
        wanted = attributes_of(where, "where")
        if not wanted:
            return headers(self.database.call_read(lambda connection: connection.all("workflows", params)))
        (name, value), *others = wanted.items()
        params |= {"name": name, "value": value, "others": dumps(dict(others))}
        return headers(self.database.call_read(lambda connection: connection.all("workflows_with", params)))

    def unfinished(self, application: str | None = None) -> Headers:
        """Return the headers of workflows that have not ended, oldest first."""
        params = {"application": application}
        return headers(self.database.call_read(lambda connection: connection.all("unfinished_workflows", params)))

    def retrieve_by_application(self, application: str) -> Workflows:
        """Return the workflows of an application, newest first."""
        return [self.retrieve(header["id"]) for header in self.list(application)]

    def pause(self, workflow_id: str, user: str = "") -> None:
        """Order a pause."""
        self._push(PauseWorkflow(execution_id=workflow_id, user=user))

    def resume(self, workflow_id: str, user: str = "") -> None:
        """Order the end of a pause."""
        self._push(ResumeWorkflow(execution_id=workflow_id, user=user))

    def cancel(self, workflow_id: str, user: str = "", reason: str = "") -> None:
        """Order the end of everything that is not complete."""
        self._push(CancelWorkflow(execution_id=workflow_id, user=user, reason=reason))

    def _push(self, message: Message) -> None:
        if not self.exists(message.execution_id):
            msg = f"workflow {message.execution_id!r} is not in {self.database.url}"
            raise WorkflowNotFoundError(msg)
        order, now = storable(message), self.database.clock()
        self.database.order(lambda connection: write_message(connection, order, now))

    def close(self) -> None:
        """Give the database back."""
        self.database.close()


class PostgresWorkflowStore(WorkflowStore):
    """The workflows of a PostgreSQL database, in the schema of `?schema=` ("public"), which is made when needed."""

    def __init__(self, url: str, create_tables: bool = True, durability: str | None = None) -> None:
        super().__init__(Database.open(url, durability=durability))


class SqliteWorkflowStore(WorkflowStore):
    """The workflows of a SQLite database; the schema is made when it is opened."""

    def __init__(self, url: str, create_tables: bool = True, durability: str | None = None) -> None:
        super().__init__(Database.open(url, durability=durability))


def define(workflow: Workflow, key: str = "") -> dict[str, Any]:
    """
    Return everything the author of a workflow wrote as JSON data, and what it is started for.

    Raises what `WorkflowStore.store` does for one that cannot be run or stored.
    """
    plan_workflow(workflow)
    check_topology(workflow.name, workflow.stages)
    name = f"workflow {workflow.name!r}"
    about = {
        key: plain(getattr(workflow, key), f"{name} {key}")
        for key in ("id", "application", "name", "pipeline_config_id")
    }
    ids = [stage.id for stage in workflow.stages]
    if len(set(ids)) < len(ids):
        raise InvalidWorkflowError(workflow.name, ["two stages have the same id; leave the id out to get a new one"])
    stages = []
    for stage in workflow.stages:
        for reducer in stage.output_reducers.values():
            check_reducer(reducer)
        entry: dict[str, Any] = {
            "id": stage.id,
            "spec": plain(spec_to_data(stage), f"{name} stage {stage.ref_id!r}"),
        }
        context = hidden(plain_mapping(with_plain_stages(stage.context), f"{name} stage {stage.ref_id!r} context"))
        if LIMIT in context:
            limit_of(context[LIMIT])
        if context:
            entry["context"] = context
        stages.append(entry)
    trigger = workflow.trigger
    limit = workflow.max_concurrent_executions if workflow.limit_concurrent else 0
    slots = {"lane": workflow.lane, "limit": limit, "keeps_waiting": workflow.keep_waiting_pipelines}
    return {
        **about, "stages": stages,
        "context": hidden(plain_mapping(with_plain_stages(workflow.context), f"{name} context")),
        "trigger": plain({"type": trigger.type, "user": trigger.user, "payload": trigger.payload}, f"{name} trigger"),
        "concurrency": slots if limit else {}, **({"key": key} if key else {}),
        **({"attributes": attributes} if (attributes := attributes_of(workflow.attributes)) else {}),
    }  # fmt: skip


def remove(connection: Connection, ids: Sequence[str]) -> None:
    """Delete workflows and everything that belongs to them."""
    those = {"ids": dumps(list(ids))}
    delete_threads_of(connection, ids)
    for table in _TABLES:
        connection.run(f"delete_{table}_of", those)
    connection.run("delete_workflows", those)


def create(connection: Connection, definition: dict[str, Any], now: int) -> WorkflowCreated:
    """Write everything that a new workflow consists of, and the fact that it was made."""
    fact = WorkflowCreated(definition)
    view = evolve(genesis(definition), fact, now)
    _insert(connection, view, definition)
    connection.make_room(len(definition["stages"]))
    write_facts(connection, definition["id"], 1, [fact], now)
    return fact


def create_with_past(connection: Connection, past: ForkedPast, now: int) -> None:
    """Write a workflow that begins with what another one has come to: its rows, and the log that says how."""
    genesis_head = genesis(past.definition).head
    insert_header(connection, genesis_head, about_of(past.definition))
    write_view(connection, past.view, genesis_head)
    write_log(connection, genesis_head.id, past.told)
    write_messages(connection, ((message, now) for message in past.owed()))


def _insert(connection: Connection, view: View, definition: dict[str, Any]) -> None:
    head: Head = view.head
    insert_header(connection, head, about_of(definition))
    stages: list[StageRow] = [row for key, row in view.changed.items() if key.kind == "stage"]
    tasks: list[TaskRow] = [row for key, row in view.changed.items() if key.kind == "task"]
    text = partial(connection.text, head.id)
    connection.many("insert_stage", [rows.new_stage_params(row, head.id, text) for row in stages])
    connection.many("put_task", [rows.task_params(row, text) for row in tasks])
    put_attributes(connection, definition)


def about_of(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a header keeps of a definition beside its state."""
    return {name: definition[name] for name in ("trigger", "pipeline_config_id", FORKED_FROM) if name in definition}


def insert_header(connection: Connection, head: Head, about: Mapping[str, Any]) -> None:
    """Write the header row of a new workflow; `about` is what it keeps beside its state."""
    connection.run(
        "insert_workflow",
        {
            "id": head.id, "application": head.application, "name": head.name, "status": head.status.name,
            "sequence": head.sequence, "context": connection.text(head.id, dict(head.context)), "about": dumps(about),
            "created_at": head.created_at, "lane": head.lane, "slots": head.limit,
            "keeps_waiting": int(head.keeps_waiting),
        },
    )  # fmt: skip


def _exists(connection: Connection, workflow_id: str) -> bool:
    found = connection.one("workflow_exists", {"workflow_id": workflow_id})
    return bool(found and found[0])


def headers(found: Any) -> Headers:
    """Return rows of the query `workflows` as `WorkflowStore.list` does."""
    names = ("id", "application", "name", "status", "created_at", "started_at", "ended_at", "error")
    return [dict(zip(names, row, strict=True)) for row in found]


def _retrieve(connection: Connection, workflow_id: str) -> Workflow | None:
    here = {"workflow_id": workflow_id}
    head = load_head(connection, workflow_id)
    if head is None:
        return None
    try:
        about_row = connection.one("head_about", here)
        about = loads(about_row[0]) if about_row else {}
        stages = [rows.stage(row) for row in connection.all("stages_of_workflow", here)]
        tasks = connection.all("tasks", {"ids": dumps([row.id for row in stages])})
        return picture(head, about, stages, map(rows.task, tasks))
    except rows.UNREADABLE as error:
        raise rows.unreadable(workflow_id, error) from error


def picture(head: Head, about: dict[str, Any], stages: Sequence[StageRow], tasks: Iterable[TaskRow]) -> Workflow:
    """Return rows as users know workflows; `about` is what the header row keeps beside its state."""
    tasks_of: dict[str, list[TaskExecution]] = {row.id: [] for row in stages}
    for task in tasks:
        tasks_of[task.stage_id].append(_task(task))
    return Workflow(
        application=head.application, name=head.name, stages=[_stage(row, tasks_of[row.id]) for row in stages],
        trigger=Trigger(**about["trigger"]), pipeline_config_id=about["pipeline_config_id"],
        context=dict(head.context), id=head.id, status=head.status, created_at=head.created_at,
        start_time=head.started_at, end_time=head.ended_at, error=head.error, limit_concurrent=head.limit > 0,
        max_concurrent_executions=head.limit, keep_waiting_pipelines=head.keeps_waiting,
    )  # fmt: skip


def _task(row: TaskRow) -> TaskExecution:
    return TaskExecution(
        name=row.name, implementing_class=row.implementing_class, id=row.id, status=row.status, attempt=row.attempt,
        start_time=row.first_started_at, end_time=row.ended_at,
        exception_details={"error": row.error} if row.error else {},
    )  # fmt: skip


def _stage(row: StageRow, tasks: list[TaskExecution]) -> StageExecution:
    spec = row.spec
    if tasks:
        tasks[0].stage_start = tasks[-1].stage_end = True
    return StageExecution(
        **written(spec), ref_id=row.ref_id, context=dict(row.context), outputs=dict(row.outputs), tasks=tasks,
        id=row.id, status=row.status, generation=row.generation, activation=row.activation, start_time=row.started_at,
        end_time=row.ended_at, error=row.error,
    )  # fmt: skip
