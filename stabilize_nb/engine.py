"""Engine: one database opened, with everything that works on it."""

from __future__ import annotations

import os
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from stabilize_nb.deciding import Inbox
from stabilize_nb.deterministic import Rehearsal, is_deterministic
from stabilize_nb.errors import ConfigError, WorkflowNotFoundError
from stabilize_nb.events.frames import dead_letters_frame, runs_frame
from stabilize_nb.flow_words import is_text
from stabilize_nb.gates import gates_in
from stabilize_nb.hitl import ApprovalTask
from stabilize_nb.models.attributes import attributes_of
from stabilize_nb.models.plan import CatchUp, Plan
from stabilize_nb.models.priority import PRIORITY, checked_priority
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.queue.messages import StartWorkflow
from stabilize_nb.queue.processor.config import QueueProcessorConfig
from stabilize_nb.queue.processor.custody import Owner, owner_of
from stabilize_nb.queue.processor.processor import QueueProcessor
from stabilize_nb.queue.queue import Queue, letters_in
from stabilize_nb.run import Run
from stabilize_nb.salvage import SalvageReport, salvage
from stabilize_nb.schedules import Schedule, schedule, schedules_frame
from stabilize_nb.store.database import Database
from stabilize_nb.store.driver import POSTGRES
from stabilize_nb.store.names import checked_key
from stabilize_nb.store.retention import Keep, prune
from stabilize_nb.store.sqlite import database_path
from stabilize_nb.store.store import WorkflowStore
from stabilize_nb.tasks.interface import NoOpTask, WaitTask
from stabilize_nb.tasks.registry import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    import pandas as pd

    from stabilize_nb.egress.policy import Egress
    from stabilize_nb.models.status import WorkflowStatus
    from stabilize_nb.queue.processor.executors import Sources
    from stabilize_nb.secrets.resolving import Source

#: Tasks every engine knows, by the names that stages use.
BUILT_IN = {"noop": NoOpTask, "wait": WaitTask, "approval": ApprovalTask}


class Definition(Protocol):
    """What can be started: it knows its code and makes a workflow of inputs. A Flow is one."""

    @property
    def inputs(self) -> Mapping[str, bool]:
        """What a run can be given: name -> whether some stage cannot do without it."""

    def register(self, registry: TaskRegistry) -> None:
        """Make its code known."""

    def build(self, **inputs: Any) -> Workflow:
        """Return the workflow of a run."""


class Engine:
    """Runs workflows of one database in the background of this process.

    `url`: a file ("analyst.db"), a URL ("sqlite:///analyst.db"), ":memory:", or nothing for
    `.stabilize/<notebook>.db` beside the notebook. `durability`: "full" survives power loss once a call has returned,
    "normal" survives a killed process (contract C6). Work begins with the first run that is started or resumed.
    `egress`: where tasks may send requests; without it to public addresses alone.
    `secrets`: where stages find what `secret(...)` names, a mapping or a function from name to value; without it in
    the environment. `only`: the queues or tasks whose bodies run here; `executor`: a `concurrent.futures.Executor` that
    runs them (docs/workers.md). `workers=0`: nothing is worked at here; runs are started, watched and decided, and
    others carry them out. `rehearsal` is set in deterministic mode (see `stabilize_nb.deterministic`), unless this
    engine only watches.

    For example:

        >>> from stabilize_nb import Engine, Flow
        >>> flow = Flow("sums")
        >>> @flow.stage
        ... def total(numbers):
        ...     return sum(numbers)
        >>> with Engine("sums.db") as engine:
        ...     run = engine.start(flow, numbers=[1, 2, 3])
        ...     print(run.result(), run.status, len(engine.runs()))
        6 SUCCEEDED 1
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        durability: str | None = None,
        registry: TaskRegistry | None = None,
        workers: int | None = None,
        config: QueueProcessorConfig | None = None,
        egress: Egress | None = None,
        secrets: Source = None,
        only: Sequence[str] = (),
        executor: Sources = None,
    ) -> None:
        if config is not None and workers is not None:
            msg = "give Engine either workers or a config (which has max_workers), not both"
            raise ConfigError(msg)
        if config is None:
            config = QueueProcessorConfig(max_workers=workers) if workers else QueueProcessorConfig()
        if egress is not None:
            config = replace(config, egress=egress)
        if secrets is not None:
            config = replace(config, secrets=secrets)
        if executor is not None:
            config = replace(config, executor=executor)
        if only:
            config = replace(config, only=only)
        self.url = store_url(url)
        if workers == 0 and self.url == "sqlite:///:memory:":
            msg = "Engine(workers=0) watches what other processes work at, and a store in memory has none"
            raise ConfigError(msg)
        if url is None and (place := store_path(self.url)) is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
        self.database = Database.open(self.url, durability=durability)
        self.store = WorkflowStore(self.database)
        self.queue = Queue(self.database)
        self.registry = registry or TaskRegistry()
        for name, task in BUILT_IN.items():
            if name not in self.registry:
                self.registry.register(name, task)
        self.processor = QueueProcessor(self.queue, config, self.store, self.registry)
        self.watches = workers == 0
        self.rehearsal = Rehearsal(self.store, self.processor) if is_deterministic() and not self.watches else None
        self.processor.watches = self.watches
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def start(
        self,
        work: Definition | Workflow,
        *given: Any,
        key: str = "",
        priority: int = 0,
        attributes: Mapping[str, Any] | None = None,
        allow_plain_secrets: bool = False,
        **inputs: Any,
    ) -> Run:
        """
        Store a workflow and begin it, in one commit; returns at once.

        `inputs` are for a Flow: what its stages ask for by parameter name. What looks like a secret is refused among
        them, unless `allow_plain_secrets` says that it may be stored as it is.
        `key`: what the run is for, such as "order-42". In whatever process and however often something is started for
        one key, it is started once, and this returns that run, also when it has failed; see docs/starting.md.
        `priority`: from 0 to 100; each step is worth a minute of waiting in the queue.
        `attributes`: short texts by which `runs(where=...)` finds it. To a flow of which a stage asks for an input of
        one of these names it is that input.

        Raises what `WorkflowStore.store` raises, before anything is stored.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> flow = Flow("order")
            >>> @flow.stage
            ... def ship(item):
            ...     return f"{item} is on its way"
            >>> with Engine(":memory:") as engine:
            ...     run = engine.start(flow, key="order-42", attributes={"customer": "ada"}, item="tea")
            ...     again = engine.start(flow, key="order-42", item="tea")
            ...     print(run.result(), run.id == again.id)
            tea is on its way True
        """
        if given:
            msg = "inputs are given by their names: start(flow, topic=...), or start(flow, **inputs) for a dict of them"
            raise ConfigError(msg)
        if not isinstance(work, Workflow):
            refuse_undefined(work)
            if key and "key" in work.inputs:
                inputs, key = {**inputs, "key": key}, ""
            if priority and "priority" in work.inputs:
                inputs, priority = {**inputs, "priority": priority}, 0
            if attributes and "attributes" in work.inputs:
                inputs, attributes = {**inputs, "attributes": attributes}, None
            work.register(self.registry)
            workflow = work.build(**inputs)
        else:
            workflow = work
            workflow.context.update(inputs)
        if checked_priority(priority):
            workflow.context = {**workflow.context, PRIORITY: priority}
        workflow.attributes = {**workflow.attributes, **attributes_of(attributes)}
        if self.rehearsal is not None:
            self.rehearsal.name(workflow)
        if not self.processor.custody.shares:
            self.processor.announce()
        first = StartWorkflow(execution_id=workflow.id)
        run_id = self.store.store(
            workflow, first, owner=self.owner, key=checked_key(key), allow_plain_secrets=allow_plain_secrets
        )
        self.work(None if run_id == workflow.id else run_id)
        return Run(self, run_id)

    def schedule(
        self,
        work: Definition | Workflow,
        cron: str,
        *,
        timezone: str = "UTC",
        catch_up: CatchUp = "one",
        key: str = "",
        attributes: Mapping[str, Any] | None = None,
        allow_plain_secrets: bool = False,
        **inputs: Any,
    ) -> Schedule:
        """
        Start something whenever it is due, by whichever process works at this store then; see docs/starting.md.

        `cron`: minute, hour, day of the month, month and weekday, such as "0 7 * * *", in `timezone`. `catch_up`: which
        of the due times count that nobody saw: the last "one", "all", or "skip" for none. `key`: what the schedule is
        called, the name of the workflow unless given; scheduling for the same key again replaces what it starts.
        A stage that asks for `due` gets the time for which its run was started, as ISO 8601 text. `attributes` are
        those of its runs, beside `schedule`, which is the key.

        Raises ConfigError for a plan that cannot be, and what `start` raises for a workflow that cannot be run.
        """
        if not isinstance(work, Workflow):
            refuse_undefined(work)
        plan = Plan(cron=cron, timezone=timezone, catch_up=catch_up)
        found_by = attributes_of(attributes)
        return schedule(self, work, plan, key, inputs, attributes=found_by, plain_secrets=allow_plain_secrets)

    def scheduled(self, key: str) -> Schedule:
        """Return the handle of a schedule, with `pause`, `resume` and `delete`; raises ConfigError for none."""
        return Schedule(self, Schedule(self, key).row.key)

    def schedules(self) -> pd.DataFrame:
        """Return the schedules of this store, by key; columns as `schedules.SCHEDULES` states them."""
        return schedules_frame(self)

    @property
    def owner(self) -> str | None:
        """The processor that works at what is begun here; None: those of other processes do."""
        return None if self.watches else self.processor.owner

    def hold(self) -> None:
        """Work from now on only at runs that are started, resumed or ordered something here, as a notebook does."""
        self.processor.custody.shares = self.watches

    def owner_of(self, run_id: str) -> Owner | None:
        """Return the living processor that works at a run; None when there is none."""
        return self.database.call(lambda: owner_of(self.database, run_id))

    def work(self, run_id: str | None = None) -> None:
        """Have what is queued done: in the background, or in deterministic mode before this returns.

        A run that is named is taken up, where this engine holds on to its own: at once, or when its owner is gone.
        An engine that only watches leaves everything to others.
        """
        if self.watches:
            return
        if run_id is not None and not self.processor.custody.shares:
            self.processor.adopt(run_id)
        if self.rehearsal is None:
            self.processor.start()
        else:
            self.rehearsal.play()

    def define(self, flow: Definition) -> None:
        """Make the code of a flow known, so that runs that wait for it go on."""
        refuse_undefined(flow)
        flow.register(self.registry)

    def resume(self, run_id: str | None = None) -> list[Run]:
        """
        Go on with a run, or with all that have not ended, and return them: work begins where it stopped.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> flow = Flow("letter")
            >>> sign_off = flow.approval("Send it?", name="sign_off")
            >>> with Engine("letters.db") as engine:
            ...     gates = engine.start(flow).until_gate()
            >>> with Engine("letters.db") as engine:  # another process, tomorrow
            ...     engine.define(flow)
            ...     (run,) = engine.resume()
            ...     run.approve()
            ...     print(run.wait())
            SUCCEEDED
        """
        ids = [run_id] if run_id is not None else [header["id"] for header in self.store.unfinished()]
        runs = [self.run(each) for each in ids]
        for run in runs:
            self.work(run.id)
        self.work()
        return runs

    def run(self, run_id: str) -> Run:
        """Return the handle of a stored run; raises WorkflowNotFoundError."""
        if not self.store.exists(run_id):
            known = [header["id"] for header in self.store.list(limit=5)]
            hint = f"; the newest are {', '.join(known)}" if known else "; it holds no runs"
            msg = f"run {run_id!r} is not in {self.database.url}{hint}"
            raise WorkflowNotFoundError(msg)
        return Run(self, run_id)

    def runs(
        self, application: str | None = None, limit: int = 1_000, where: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """
        Return the runs of this store, newest first; columns as `events.frames.runs_frame` states them.

        `where={"customer": "x"}`: only those with these attributes; name first what the fewest have.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> flow = Flow("order")
            >>> @flow.stage
            ... def ship(item):
            ...     return item
            >>> with Engine(":memory:") as engine:
            ...     for customer in ("ada", "ben"):
            ...         status = engine.start(flow, item="tea", attributes={"customer": customer}).wait()
            ...     engine.runs(where={"customer": "ada"})["status"].tolist()
            ['SUCCEEDED']
        """
        return runs_frame(self.store.list(application, limit, where))

    def unfinished(self) -> list[Run]:
        """Return the runs that have not ended, oldest first."""
        return [Run(self, header["id"]) for header in self.store.unfinished()]

    def inbox(self) -> Inbox:
        """
        Return every gate of every run that waits for a decision, oldest first; a notebook shows them as forms.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> flow = Flow("letter")
            >>> sign_off = flow.approval("Send it?", name="sign_off")
            >>> with Engine(":memory:") as engine:
            ...     for to in ("Ada", "Ben"):
            ...         gates = engine.start(flow, to=to).until_gate()
            ...     for gate in engine.inbox():
            ...         run = engine.run(gate.run_id)
            ...         run.approve(gate)
            ...         print(gate.question, run.inputs, run.wait())
            Send it? {'to': 'Ada'} SUCCEEDED
            Send it? {'to': 'Ben'} SUCCEEDED
        """
        return Inbox(self, gates_in(self.database))

    def dead_letters(self) -> pd.DataFrame:
        """
        Return the messages that could not be processed, oldest first: the runs they belong to wait for them.

        Columns as `events.frames.dead_letters_frame` states them: message_id, run_id, stage, kind, error and payload
        (string), attempts and lost (int64), died (UTC, us resolution), stage_id (string).
        """
        return dead_letters_frame(letters_in(self.database))

    def redrive(self, letters: str | Iterable[str] | pd.DataFrame = "all") -> int:
        """
        Put dead letters back as they were, with fresh attempts, and return how many: those of an id, of several ids, of
        the rows of a frame that `dead_letters` gave, or all. Either all that are asked for are put back, or none.

        Raises ConfigError for what is not, or not any more, a dead letter.
        """
        ids = ids_of(letters)
        if ids == []:
            return 0
        put_back = self.queue.redrive(*(ids or ()))
        for run_id in dict.fromkeys(put_back):
            self.work(run_id)
        return len(put_back)

    def prune(
        self,
        keep: Keep,
        *,
        statuses: Iterable[WorkflowStatus | str] | None = None,
        dry_run: bool = False,
    ) -> pd.DataFrame:
        """
        Delete runs that have ended, with their logs, give their space back, and return what went, newest first.

        `keep`: how many of the newest stay, or for how long a run stays after its end ("30d", "12h", a timedelta).
        `statuses`: only runs that ended so. `dry_run`: only return what would go. A run that has not ended, that has
        queued messages or dead letters, or whose parent has not ended always stays. Columns as `engine.runs()`.

        Raises ConfigError for a `keep` or a status that cannot be meant.
        """
        return runs_frame(prune(self.database, keep, statuses, dry_run=dry_run))

    @staticmethod
    def salvage(damaged: str | os.PathLike[str], target: str | os.PathLike[str]) -> SalvageReport:
        """
        Write what can be read of a damaged store into a new one, in which unfinished runs go on; see `salvage`.

        Raises ConfigError when the target is there already, StoreError when nothing of the damaged one can be read.
        """
        return salvage(database_path(store_url(damaged)), database_path(store_url(target)))

    def close(self, timeout: float = 30.0) -> None:
        """Stop working, waiting at most `timeout` seconds for bodies at work, and give the database back."""
        if self._closed:
            return
        self._closed = True
        self.processor.close(timeout)
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        rest = "watching" if self.watches else "at rest"
        state = "closed" if self._closed else ("working" if self.processor.running else rest)
        return f"Engine({self.database.url!r}, {state})"


def refuse_undefined(work: object) -> None:
    """Raise ConfigError for what is no Definition, such as the name of one, or its class."""
    if isinstance(work, type) or not all(hasattr(work, word) for word in ("inputs", "register", "build")):
        raise ConfigError(f"{work!r} is not what an engine runs; a Flow or a Workflow is expected")


def ids_of(letters: str | Iterable[str] | pd.DataFrame) -> list[str] | None:
    """Return the ids of dead letters by one of the ways to name them; None for all. Raises ConfigError."""
    if isinstance(letters, str):
        return None if letters == "all" else [letters]
    rows: Any = letters
    if not hasattr(rows, "loc"):
        return [str(each) for each in letters]
    if "message_id" not in rows:  # a frame, or one row of it
        raise ConfigError("these rows have no message_id; rows of engine.dead_letters() are expected")
    found = rows["message_id"]
    return [found] if isinstance(found, str) else [str(each) for each in found]


def store_url(url: str | os.PathLike[str] | None) -> str:
    """
    Return the database URL for what a user wrote; a relative file is taken from the working directory.

    Raises ConfigError for a kind of database that this version cannot open.
    """
    if url is None:
        return default_url()
    if not is_text(url) and not hasattr(url, "__fspath__"):
        raise ConfigError(f"{url!r} is no store; a file, a URL, or nothing for that of this notebook is expected")
    text = os.fspath(url)
    if text == ":memory:":
        return "sqlite:///:memory:"
    if text.startswith(("sqlite:", *POSTGRES)):
        return text
    if "://" in text:
        scheme = text.partition("://")[0]
        msg = (
            f"{scheme}:// is not a database this version can open; use a file name, sqlite:///file.db or "
            "postgresql://host/database"
        )
        raise ConfigError(msg)
    return f"sqlite:///{Path.home() / text[2:] if text.startswith('~/') else text}"


def default_url() -> str:
    """
    Return the store of the notebook or script that runs now: `.stabilize/<name>.db` in its folder.

    A folder that cannot be written, or that the system empties, is replaced by the user's data folder. In deterministic
    mode it is in memory.
    """
    if is_deterministic():
        return "sqlite:///:memory:"
    notebook = Path(os.environ.get("JPY_SESSION_NAME", ""))
    folder = notebook_folder()
    name = notebook.stem if notebook.suffix == ".ipynb" else "runs"
    target = folder / ".stabilize"
    temporary = folder.resolve().is_relative_to(Path(tempfile.gettempdir()).resolve())
    if not os.access(folder, os.W_OK) or (temporary and notebook.name):
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
        target = data / "stabilize_nb"
    return f"sqlite:///{target / name}.db"


def notebook_folder() -> Path:
    """Return the folder of the notebook or script that runs now."""
    notebook = Path(os.environ.get("JPY_SESSION_NAME", ""))
    return notebook.parent if notebook.is_absolute() else Path.cwd()


def store_path(url: str) -> Path | None:
    """Return the file of a database URL; None for one that is none."""
    if url.startswith(POSTGRES):
        return None
    path = database_path(url)
    return None if path == ":memory:" else Path(path)


_default: Engine | None = None
_default_lock = threading.Lock()


def default_engine() -> Engine:
    """Return the engine that `flow.run()` and the notebook use; opened when first needed."""
    global _default  # noqa: PLW0603 - one default engine a process
    with _default_lock:
        if _default is None or _default.is_closed:
            _default = Engine()
        return _default


def opened_engine() -> Engine | None:
    """Return the default engine when it is open already; None, and nothing is opened, when it is not."""
    with _default_lock:
        return None if _default is None or _default.is_closed else _default


def use_engine(engine: Engine) -> Engine:
    """Make `engine` the default one and return it."""
    global _default  # noqa: PLW0603 - one default engine a process
    with _default_lock:
        _default = engine
    return engine
