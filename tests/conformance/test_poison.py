"""A message that cannot be processed becomes a dead letter; whatever it is, its neighbours go on (R12)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import apsw
import pandas as pd
import pytest

from stabilize_nb import Engine, WaitingForRedrive, WorkflowStatus
from stabilize_nb.errors import ConfigError
from stabilize_nb.events.frames import DEAD_LETTERS
from stabilize_nb.handlers import HANDLERS
from stabilize_nb.queue.messages import AddMultiInstance, StartStage
from stabilize_nb.queue.processor import QueueProcessorConfig
from tests.makers import Bench, asked, chain, stage, workflow

if TYPE_CHECKING:
    from stabilize_nb import Workflow

S = WorkflowStatus
ATTEMPTS = 3
QUICK = QueueProcessorConfig(max_deliveries=ATTEMPTS, retry_delay=0.001, max_workers=4)
NEIGHBOURS = 4
DEEP = "[" * 100_000


@dataclass(frozen=True)
class Poison:
    """A row of the queue; "" stands for the workflow and the stage that it is about, which exist.

    `raises`: what the handler of the message raises; `spoil`: a statement that damages what it is about. `tries`: how
    often it is taken before it is dead.
    """

    name: str
    cause: str
    kind: str = "AddMultiInstance"
    payload: Any = "{}"
    workflow: str = ""
    stage: str | None = ""
    raises: BaseException | None = None
    spoil: str = ""
    tries: int = field(default=0)


def constraint() -> BaseException:
    """Make what SQLite says of a row that breaks a rule."""
    return apsw.ConstraintError("CHECK constraint failed")


POISONS = [
    Poison("unknown kind", "'Nonsense' is not known", kind="Nonsense"),
    Poison("no kind", "message type '' is not known", kind=""),
    Poison("a kind that is never queued", "'TaskFinished' is not known", kind="TaskFinished"),
    Poison("not JSON", "not JSON", payload="{nonsense"),
    Poison("empty", "not JSON", payload=""),
    Poison("cut off", "not JSON", payload='{"instance_context": {"a"'),
    Poison("nested too deep", "not JSON", payload=DEEP),
    Poison("an endless number", "not JSON", payload='{"generation": ' + "9" * 5_000 + "}"),
    # PostgreSQL keeps no bytes in a column of text
    pytest.param(Poison("bytes", "not JSON", payload=b"\xff\xfe\xfd"), marks=pytest.mark.sqlite),
    Poison("a list", "holds list", payload="[1]"),
    Poison("nothing", "holds NoneType", payload="null"),
    Poison("a field of a newer version", "unknown fields: since_version_9", payload='{"since_version_9": 1}'),
    Poison("text for a number", "generation='x'", payload='{"generation": "x"}'),
    Poison("truth for a number", "generation=True", payload='{"generation": true}'),
    Poison("a number for data", "instance_context=7", payload='{"instance_context": 7}'),
    Poison("unknown token", "token='NEITHER'", kind="StartStage", payload='{"token": "NEITHER"}'),
    Poison("missing workflow", "workflow 'nowhere'", kind="StartWorkflow", workflow="nowhere", stage=None),
    Poison("missing workflow of a stage", "workflow 'nowhere'", kind="SignalStage", workflow="nowhere"),
    Poison("missing stage", "stage id 'nothing'", kind="SignalStage", stage="nothing"),
    Poison("no stage", "stage id ''", kind="RestartStage", stage=None),
    Poison("handler raises", "ValueError: no", raises=ValueError("no"), tries=ATTEMPTS - 1),
    Poison("handler runs out of stack", "RecursionError", raises=RecursionError(), tries=ATTEMPTS - 1),
    Poison("handler breaks a rule of the store", "ConstraintError", raises=constraint(), tries=ATTEMPTS - 1),
    Poison("damaged stage", "not JSON", spoil="UPDATE stage SET context = '{' WHERE id = :stage"),
]  # fmt: skip


def put(bench: Bench, poison: Poison, flow: Workflow) -> None:
    """Queue a poisoned message about a workflow that has begun nothing."""
    stage_id = flow.stages[0].id if poison.stage == "" else poison.stage

    def write(connection: Any) -> None:
        if poison.spoil:
            asked(connection, poison.spoil.replace(":stage", "?"), stage_id)
        asked(
            connection,
            "INSERT INTO message (id, workflow_id, stage_id, kind, payload, counts, timer, due_at)"
            " VALUES ('poison', ?, ?, ?, ?, 1, 0, 0)",
            poison.workflow or flow.id, stage_id, poison.kind, poison.payload,
        )  # fmt: skip

    bench.database.write(write)


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait until something holds; fail when it does not come to hold."""
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.002)


@pytest.mark.parametrize("background", [True, False], ids=["background", "drained"])
@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.name)
def test_poison(poison: Poison, background: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each of five places among its neighbours it is dead after its attempts, with the cause, and they succeed."""
    if poison.raises is not None:

        def broken(_draft: Any, _message: Any) -> None:
            raise poison.raises  # type: ignore[misc]

        monkeypatch.setitem(HANDLERS, AddMultiInstance, broken)
    for place in range(NEIGHBOURS + 1):
        with Bench(config=QUICK) as bench:
            flows = [chain(2) for _ in range(NEIGHBOURS)]
            about = workflow(stage("a"))
            bench.store.store(about)
            bench.begin(*flows[:place])
            put(bench, poison, about)
            bench.begin(*flows[place:])

            if background:
                bench.processor.start()
                wait_for(lambda bench=bench: not bench.queue.size())
            else:
                bench.processor.process_all(timeout=15)

            assert [bench.store.retrieve(flow.id).status for flow in flows] == [S.SUCCEEDED] * NEIGHBOURS
            (letter,) = bench.queue.dead_letters()
            assert poison.cause in letter["error"]
            assert (letter["id"], letter["payload"], letter["deliveries"]) == ("poison", poison.payload, poison.tries)
            assert bench.queue.size() == 0


def test_redriven_message_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put back is processed once its cause is mended, and the run that waited for it goes on and says so."""
    mended = HANDLERS[AddMultiInstance]
    monkeypatch.setitem(HANDLERS, AddMultiInstance, lambda _draft, _message: 1 / 0)
    with Engine(":memory:", config=QUICK) as engine:
        flow = workflow(stage("a"), stage("b", "a"))
        engine.store.store(flow)
        run = engine.run(flow.id)
        with Bench(engine.url) as bench:
            put(bench, Poison("", "", payload='{"instance_context":{"é":1}}'), flow)
        run.retry("a")
        engine.processor.process_all()

        (sentence,) = [each for each in run.explain() if "dead letter" in each]
        assert "AddMultiInstance" in sentence
        assert "ZeroDivisionError: division by zero" in sentence
        assert "engine.redrive('poison')" in sentence
        letters = engine.dead_letters()
        assert letters.columns.tolist() == [column.name for column in DEAD_LETTERS]
        assert {name: str(dtype) for name, dtype in letters.dtypes.items()} == {
            column.name: column.dtype for column in DEAD_LETTERS
        }
        row = letters.iloc[0]
        assert (row.message_id, row.run_id, row.stage, row.attempts, row.payload) == (
            "poison", flow.id, "a", ATTEMPTS - 1, '{"instance_context":{"é":1}}',
        )  # fmt: skip

        monkeypatch.setitem(HANDLERS, AddMultiInstance, mended)
        assert engine.redrive(letters[letters.run_id == flow.id]) == 1
        engine.processor.process_all()

        assert engine.dead_letters().empty
        assert engine.queue.size() == 0


@pytest.mark.parametrize("way", ["id", "ids", "row", "rows", "all"])
def test_ways_to_redrive(way: str) -> None:
    """Letters are named by an id, several ids, a row or rows of the frame, or all."""
    with Engine(":memory:", config=QUICK) as engine, Bench(engine.url, config=QUICK) as bench:
        put(bench, POISONS[0], chain(1))
        bench.processor.process_all()
        letters = engine.dead_letters()
        named: Any = {"id": "poison", "ids": ["poison"], "row": letters.iloc[0], "rows": letters, "all": "all"}[way]

        assert engine.redrive(named) == 1
        wait_for(lambda: not engine.queue.size())
        assert engine.redrive() == 1


def test_redrive_is_all_or_nothing() -> None:
    """An id that is no dead letter's is refused by name, and nothing is put back."""
    with Engine(":memory:", config=QUICK) as engine, Bench(engine.url, config=QUICK) as bench:
        put(bench, POISONS[0], chain(1))
        bench.processor.process_all()

        with pytest.raises(ConfigError, match=r"'other' is not the id of a dead letter.*nothing was put back"):
            engine.redrive(["poison", "other"])
        with pytest.raises(ConfigError, match="no message_id"):
            engine.redrive(pd.DataFrame({"id": ["poison"]}))

        assert len(engine.dead_letters()) == 1
        assert engine.redrive([]) == 0


def test_run_waits_for_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose next message is dead does not end as if nothing was to come: it says so, and goes on."""
    start = HANDLERS[StartStage]

    def broken(draft: Any, message: Any) -> None:
        if draft.stage(message.stage_id).ref_id == "b":
            raise KeyError("lost page")
        start(draft, message)

    monkeypatch.setitem(HANDLERS, StartStage, broken)
    with Engine(":memory:", config=QUICK) as engine:
        run = engine.start(workflow(stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c")))

        with pytest.raises(WaitingForRedrive, match="KeyError: 'lost page'"):
            run.result(timeout=15)
        assert run.status is S.RUNNING
        assert "engine.redrive" in str(run.explain())

        monkeypatch.setitem(HANDLERS, StartStage, start)
        engine.redrive()
        assert run.wait(15) is S.SUCCEEDED


def test_cancelled_run_waits_for_no_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is cancelled ends, also when a dead letter could have moved it."""
    with Engine(":memory:", config=QUICK) as engine:
        flow = workflow(stage("a", task="approval"))
        run = engine.start(flow)
        run.until_gate(15)
        monkeypatch.setitem(HANDLERS, AddMultiInstance, lambda _draft, _message: 1 / 0)
        engine.queue.push(AddMultiInstance(execution_id=run.id, stage_id=flow.stages[0].id))
        wait_for(lambda: len(engine.dead_letters()))

        run.cancel()

        assert run.wait(15) is S.CANCELED
