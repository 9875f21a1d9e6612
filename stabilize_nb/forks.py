"""
Forks: a run that takes over what another one has finished, and goes on from there in its own way.

A fork is a run like any other, with the past of its parent in its log, up to the fact `workflow.forked`. Making one is
one commit, and the parent is not touched: it may have ended or be at work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from stabilize_nb.core.draft import Env
from stabilize_nb.core.view import Region
from stabilize_nb.deterministic import is_deterministic
from stabilize_nb.errors import ConfigError, StageNotFoundError, StageNotReadyError
from stabilize_nb.events.bus import announce
from stabilize_nb.events.history import entries_of
from stabilize_nb.events.past import Past
from stabilize_nb.handlers.fork_workflow import KEPT
from stabilize_nb.handlers.past_of_fork import FORKED_FROM, ForkedPast
from stabilize_nb.models.ids import new_id
from stabilize_nb.models.near import listed
from stabilize_nb.models.values import plain_mapping
from stabilize_nb.models.workflow import ORIGIN
from stabilize_nb.queue.messages import ForkWorkflow
from stabilize_nb.queue.processor.commit import carry_out
from stabilize_nb.run_state import sequence_of
from stabilize_nb.store.codec import loads
from stabilize_nb.store.store import create_with_past
from stabilize_nb.tasks.child import with_plain_stages
from stabilize_nb.versions import newer_code_of

if TYPE_CHECKING:
    from stabilize_nb.core.facts import Fact
    from stabilize_nb.core.rows import StageRow
    from stabilize_nb.engine import Engine
    from stabilize_nb.events.history import Entry
    from stabilize_nb.run import Run
    from stabilize_nb.run_state import Moment
    from stabilize_nb.store.connection import Connection

#: Whose code the rest is run with: that which is defined now, or that of the parent.
Code = Literal["current", "recorded"]
#: Messages that are decided in the commit which makes a fork; more are queued.
BUDGET: Final = 32


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a fork comes from: the run, its last fact that was taken over, and the stage it was made at, or nothing."""

    run: str
    sequence: int
    stage: str


def fork(run: Run, at: str | Moment, inputs: Mapping[str, Any], outputs: Mapping[str, Any], code: str) -> str:
    """
    Make a fork of a run, in one commit, and return its id.

    Raises ConfigError, StageNotFoundError, StageNotReadyError for a stage that never ran, ValueNotStorableError;
    nothing is stored then.
    """
    if code not in get_args(Code):
        raise ConfigError(f"code={code!r} is not known; write one of {', '.join(map(repr, get_args(Code)))}")
    engine = run.engine
    stage, until = (at, None) if isinstance(at, str) else ("", _until(run, at))
    entries = entries_of(engine.database, run.id, until)
    rehearsal = engine.rehearsal
    past = _past(run.id, entries, stage, new_id() if rehearsal is None else rehearsal.new_run_id())
    refs = {row.ref_id: row for row in _rows(past)}
    point = _point(run, refs, stage)
    behind = _behind(refs, point)
    order = ForkWorkflow(
        execution_id=past.definition["id"], run=run.id, until=len(entries), stage_id="" if point is None else point.id,
        inputs=_inputs(past, inputs, _asked(engine, refs.values())), outputs=_outputs(run, refs, behind, outputs),
        codes=newer_code_of(engine.registry, (row.spec for row in refs.values())) if code == "current" else {},
    )  # fmt: skip
    _write(engine, past, order, {} if point is None else {Region(point.id): behind})
    return order.execution_id


def origin_of(engine: Engine, run_id: str) -> Origin | None:
    """Return where a run was forked from; None when it is no fork."""
    row = engine.database.call_read(lambda connection: connection.one("head_about", {"workflow_id": run_id}))
    about = loads(row[0]) if row else {}
    return Origin(**about[FORKED_FROM]) if FORKED_FROM in about else None


def forks_of(engine: Engine, run_id: str) -> list[str]:
    """Return the ids of the runs that were forked from a run, oldest first."""
    rows = engine.database.call_read(lambda connection: connection.all("forks_of", {"workflow_id": run_id}))
    return [row[0] for row in rows]


def _until(run: Run, moment: Moment) -> int:
    past = Past(run.engine.database, run.id)
    until = sequence_of(past, moment)
    if past.view(until).head.started_at is None:
        raise StageNotReadyError(f"run {run.id} had not begun after fact {until}: there is nothing to take over yet")
    return until


def _past(run_id: str, entries: Sequence[Entry], stage: str, fork_id: str) -> ForkedPast:
    definition = {**entries[0].data["definition"]}
    definition.pop("key", None)  # a key is that of one run
    trigger = definition["trigger"]
    noted = trigger["payload"].get(ORIGIN, {})
    kept = {ORIGIN: {"version": noted["version"]}} if "version" in noted else {}  # no cell has begun the fork
    definition["trigger"] = {**trigger, "payload": {**trigger["payload"], ORIGIN: {}, **kept}}
    ids = {each["id"]: f"{fork_id}:{each['spec']['ref_id']}" for each in definition["stages"]}
    if not is_deterministic():
        ids = {old: new_id() for old in ids}
    past = ForkedPast(
        definition, {**ids, run_id: fork_id}, {"run": run_id, "sequence": len(entries), "stage": stage}
    )  # fmt: skip
    for entry in entries:
        past.tell(entry.data, entry.at)
    return past


def _rows(past: ForkedPast) -> list[StageRow]:
    return [row for key, row in past.view.changed.items() if key.kind == "stage" and row is not None]


def _point(run: Run, refs: Mapping[str, StageRow], stage: str) -> StageRow | None:
    if not stage:
        return None
    row = refs.get(stage)
    if row is None:
        known = tuple(refs)
        raise StageNotFoundError(f"run {run.id} has no stage {stage!r}; its stages are: {listed(stage, known)}")
    if row.started_at is None:
        began = ", ".join(repr(ref) for ref, each in refs.items() if each.started_at is not None) or "none"
        raise StageNotReadyError(
            f"run {run.id} cannot be forked at {stage!r}, which never ran there; stages that did: {began}"
        )
    return refs[row.spec.ref_id]


def _asked(engine: Engine, stages: Iterable[StageRow]) -> set[str]:
    """Return what the code of stages that is known here asks for: also an input that was left at its default."""
    codes = {code for row in stages for _, code in row.spec.tasks if code in engine.registry}
    return {name for code in codes for name in getattr(engine.registry.get(code), "asks", ())}


def _inputs(past: ForkedPast, given: Mapping[str, Any], asked: Collection[str]) -> dict[str, Any]:
    inputs = plain_mapping(with_plain_stages(dict(given)), "inputs of the fork")
    known = sorted({name for name in past.view.head.context if not name.startswith("_")}.union(asked))
    stray = [name for name in inputs if name not in known]
    if stray and known:
        raise ConfigError(f"the run has no input {stray[0]!r}; its inputs are: {listed(stray[0], known)}")
    return inputs


def _outputs(
    run: Run, refs: Mapping[str, StageRow], behind: Collection[str], given: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    found = {}
    for ref, value in given.items():
        row = refs.get(ref)
        if row is None or row.status not in KEPT or row.base_id in behind:
            kept = [repr(each) for each, row in refs.items() if row.status in KEPT and row.base_id not in behind]
            raise ConfigError(
                f"outputs of {ref!r} cannot be replaced: the fork of run {run.id} takes over only those of "
                f"{', '.join(kept) or 'no stage'}"
            )
        is_value = row.context.get("_returns") == "value"
        if not is_value and not isinstance(value, Mapping):
            names = ", ".join(row.outputs) or "none so far"
            raise ConfigError(f"stage {ref!r} puts out values by name ({names}): give a dict, not {value!r}")
        outputs = {"result": value} if is_value else {**row.outputs, **value}
        found[row.id] = plain_mapping(outputs, f"outputs of {ref!r}")
    return found


def _behind(refs: Mapping[str, StageRow], point: StageRow | None) -> tuple[str, ...]:
    """Return the first rows of a stage and of all that follows it, itself first and the others by ordinal."""
    by_id = {row.id: row for row in refs.values()}
    found: set[str] = set()
    todo = [] if point is None else [point.id]
    while todo:
        row = by_id[todo.pop()]
        if row.id not in found:
            found.add(row.id)
            todo.extend([edge.stage_id for edge in row.spec.edges] + [child.stage_id for child in row.spec.children])
    return tuple(sorted(found, key=lambda id_: (point is None or id_ != point.id, by_id[id_].ordinal)))


def _write(engine: Engine, past: ForkedPast, order: ForkWorkflow, region: dict[Any, Any]) -> None:
    database = engine.database
    if not engine.processor.custody.shares:
        engine.processor.announce()

    def write(connection: Connection) -> tuple[tuple[Fact, ...], int, int]:
        now = database.clock()
        create_with_past(connection, past, now)
        if engine.owner is not None:
            connection.run("take_custody_alone", {"workflow_id": order.execution_id, "owner": engine.owner})
        facts, last = carry_out(connection, order, Env(now=now), past.known() | region, budget=BUDGET)
        return facts, last, now

    def tell(written: tuple[tuple[Fact, ...], int, int]) -> None:
        facts, last, now = written
        announce(database.bus, order.execution_id, last - len(facts) + 1, facts, now)

    database.call(lambda: database.write(write, tell))
    database.changes.notify()
