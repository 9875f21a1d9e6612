"""Large values are kept once, whoever passes them along, and nobody who reads notices (R13 of reliability.md)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from stabilize_nb import TaskResult, WorkflowStream
from stabilize_nb.engine import Engine
from stabilize_nb.events import SqliteEventStore, configure_event_sourcing
from stabilize_nb.events.log import EventLog
from stabilize_nb.events.past import Past
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.values import MAX_SIZE
from stabilize_nb.queue.messages import SignalStage
from stabilize_nb.run_state import state_at
from stabilize_nb.salvage import salvage
from stabilize_nb.store import rows
from stabilize_nb.store.blobs import INLINE, Shelf, put_back
from tests.makers import Bench, stage, workflow

KIB, MIB = 2**10, 2**20
BIG = "ä\n" * (INLINE // 2)
#: Text of so many characters as JSON, and how many values are kept apart.
SIZES = [(KIB, 0), (4 * KIB, 0), (16 * KIB, 0), (64 * KIB, 0), (INLINE - 4 * KIB, 0), (INLINE + 1, 1),
         (MIB, 1), (4 * MIB, 1), (16 * MIB, 1), (MAX_SIZE - 100, 1)]  # fmt: skip
KINDS: dict[str, tuple[Any, int]] = {
    "numbers": ([at / 7 for at in range(40_000)], 1),
    "records": ([{"n": at, "text": "x" * 20} for at in range(10_000)], 1),
    "two of them": ({"a": "x" * 300_000, "b": ["y" * 300_000, 1]}, 2),
    "the same twice": (["x" * 300_000, {"again": "x" * 300_000}], 1),
    "deep inside": ({"a": [{"b": [{"c": "x" * 300_000}]}]}, 1),
    "looks like a reference": ({"text": '{"\\u0000":"' + "0" * 64 + '"}', "big": "x" * 300_000}, 1),
    "no ASCII": ("鳥🐧" * 200_000, 1),
}


def kept(bench: Bench) -> int:
    """Return how many large values the store has."""
    return bench.database.writer.raw.execute("SELECT count(DISTINCT digest) FROM blob").get


def passes(given: Any) -> TaskResult:
    """Be a stage of a chain that passes on what it sees."""
    return TaskResult.success(outputs={"value": given.context["value"]})


def chain_of(length: int, value: Any) -> Any:
    stages = [stage(f"s{at}", *([f"s{at - 1}"] if at else []), task="passes") for at in range(length)]
    return workflow(*stages, context={"value": value})


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


@pytest.mark.parametrize(("size", "apart"), SIZES)
def test_text_of_any_size_is_passed_along(tmp_path: Path, size: int, apart: int) -> None:
    """Text up to 256 KiB stays in its document, longer text is in the file once, and comes back the same."""
    text = "x" * (size - len('{"value":""}'))
    with Bench(f"sqlite:///{tmp_path}/runs.db", durability="normal", tasks={"passes": passes}) as bench:
        done = bench.run(chain_of(2, text), timeout=60)

        assert done.status is WorkflowStatus.SUCCEEDED
        assert done.stages[1].outputs["value"] == done.context["value"] == text
        assert kept(bench) == apart
    if apart:
        assert size_of(tmp_path) < 1.2 * size + MIB


@pytest.mark.parametrize("kind", KINDS)
def test_value_of_any_shape_is_passed_along(kind: str) -> None:
    """What is large in a value is kept apart, as few texts as can be, and the value comes back the same."""
    value, apart = KINDS[kind]
    with Bench(tasks={"passes": passes}) as bench:
        done = bench.run(chain_of(3, value))

        assert done.status is WorkflowStatus.SUCCEEDED
        assert [each.outputs for each in done.stages] == [{"value": value}] * 3
        assert kept(bench) == apart


def test_ten_thousand_keys() -> None:
    """A document of very many small values is kept apart as a whole, but for the engine's own keys."""
    many = {f"key {at}": "v" * 40 for at in range(10_000)}
    with Bench(tasks={"many": lambda: TaskResult.success(outputs=many, context={**many, "_mark": 1})}) as bench:
        done = bench.run(workflow(stage("a", task="many")))

        assert done.stages[0].outputs == many
        assert done.stages[0].context == {**many, "_mark": 1}
        mark = "SELECT json_extract(context, '$._mark') FROM stage"
        assert bench.database.writer.raw.execute(mark).get == 1
        assert kept(bench) == 1


def test_chain_of_fifty_keeps_one_copy(tmp_path: Path) -> None:
    """A value that fifty stages pass along is in the file once; the log has it not once more."""
    text = "x" * MIB
    with Bench(f"sqlite:///{tmp_path}/runs.db", durability="normal", tasks={"passes": passes}) as bench:
        done = bench.run(chain_of(50, text), timeout=60)

        assert done.stages[-1].outputs == {"value": text}
        assert kept(bench) == 1
        assert bench.database.writer.raw.execute("SELECT max(length(data)) FROM event").get < 32 * KIB
    assert size_of(tmp_path) < 3 * MIB


def test_whoever_reads_sees_the_value(tmp_path: Path) -> None:
    """Rows, log, past, streams and frames have the value itself; folding the log gives the rows (C7)."""
    engine = Engine(tmp_path / "runs.db", durability="normal")
    engine.registry.register("passes", passes)
    run = engine.start(chain_of(2, BIG))
    assert run.wait(20) is WorkflowStatus.SUCCEEDED

    last = Past(engine.database, run.id)
    folded = {key.id: row for key, row in last.view(last.last).changed.items() if key.kind == "stage"}
    stored = engine.database.call_read(lambda c: c.all("stages_of_workflow", {"workflow_id": run.id}))
    assert {row.id: row for row in map(rows.stage, stored)} == folded
    assert run.outputs["s1"] == {"value": BIG}
    assert state_at(engine.database, run.id, last.last).stage("s1").inputs == {"value": BIG}
    ends = [item.data for item in WorkflowStream(run.id).replay() if item.event_type == "task.completed"]
    assert [each["outputs"] for each in ends] == [{"value": BIG}] * 2
    assert len(run.events) == last.last
    engine.close()


def test_every_way_in_keeps_large_values_apart() -> None:
    """Signals, durable steps, jumps and errors bring large values too."""

    def steps(given: Any) -> TaskResult:
        if "_signal_name" not in given.context:
            given.step("make", lambda: BIG)
            return TaskResult.suspend(context={"asked": BIG})
        assert given.step("make", lambda: "not again") == BIG
        return TaskResult.success(outputs=given.context["_signal_data"])

    with Bench(tasks={"steps": steps}) as bench:
        flow = bench.run(workflow(stage("a", task="steps")))
        bench.queue.push(
            SignalStage(execution_id=flow.id, stage_id=flow.stages[0].id, signal_name="go", signal_data={"b": BIG})
        )
        bench.processor.process_all()
        done = bench.store.retrieve(flow.id)

        assert done.stages[0].outputs == {"b": BIG}
        assert done.stages[0].context["asked"] == BIG
        assert kept(bench) == 1
        longest = "SELECT max(n) FROM (SELECT max(length(payload)) AS n FROM message UNION ALL SELECT max(length(data))"
        assert bench.database.writer.raw.execute(f"{longest} FROM event)").get < 32 * KIB


def test_deleting_takes_what_nobody_else_uses() -> None:
    """A large value is there as long as one workflow uses it."""
    with Bench(tasks={"passes": passes}) as bench:
        one, two = (bench.run(chain_of(1, BIG)) for _ in range(2))
        assert kept(bench) == 1

        bench.store.delete(one.id)
        assert bench.store.retrieve(two.id).stages[0].outputs == {"value": BIG}
        bench.store.delete(two.id)
        assert kept(bench) == 0
        assert bench.database.writer.raw.execute("SELECT count(*) FROM blob_use").get == 0


def test_copied_log_has_large_values_itself(tmp_path: Path) -> None:
    """A log at another place is whole without the store that it is a copy of."""
    copy = SqliteEventStore(f"sqlite:///{tmp_path}/log.db")
    configure_event_sourcing(copy)
    with Bench(tasks={"passes": passes}) as bench:
        flow = bench.run(chain_of(1, BIG))
        bench.database.flush()
    configure_event_sourcing(None)

    ends = [each.data for each in EventLog(copy.database).get_events(flow.id) if each.event_type == "task.completed"]
    assert ends[0]["outputs"] == {"value": BIG}
    copy.close()


@pytest.mark.parametrize("loses", [False, True], ids=["whole", "without a piece"])
def test_salvage_saves_large_values(tmp_path: Path, loses: bool) -> None:
    """A salvaged store has the large values; a run that lacks a piece of one is kept as history."""
    with Bench(f"sqlite:///{tmp_path}/runs.db", tasks={"passes": passes}) as bench:
        flow = bench.run(chain_of(2, BIG))
        if loses:
            bench.database.write(lambda c: c.raw.execute("PRAGMA secure_delete=ON; DELETE FROM blob WHERE part = 0"))
    if loses:
        raw = apsw.Connection(str(tmp_path / "runs.db"))
        raw.execute("DELETE FROM blob WHERE part = 0")
        raw.execute("VACUUM")
        raw.pragma("wal_checkpoint(TRUNCATE)")
        raw.close()
    report = salvage(str(tmp_path / "runs.db"), str(tmp_path / "new.db"))

    assert [run.becomes for run in report.runs] == (["only history"] if loses else ["ended"])
    with Bench(f"sqlite:///{tmp_path}/new.db") as bench:
        found = bench.store.retrieve(flow.id)
        assert [each.outputs for each in found.stages] == ([] if loses else [{"value": BIG}] * 2)


def test_small_values_cost_no_statement() -> None:
    """A run without large values never looks at the tables of large ones."""
    said: list[str] = []
    with Bench(tasks={"passes": passes}) as bench:
        bench.database.writer.raw.exec_trace = lambda _cursor, sql, _values: said.append(sql) or True
        bench.run(chain_of(5, "x" * (INLINE // 2)))
        bench.database.writer.raw.exec_trace = None

    assert len(said) > 50
    assert [sql for sql in said if "blob" in sql] == []


def test_undone_part_of_a_transaction_forgets_what_it_put_away() -> None:
    """What was put away in a part that is undone is put away again, and is there."""
    with Bench() as bench:

        def write(connection: Any) -> list[str]:
            texts = []
            for _ in range(3):
                connection.begin_part()
                texts.append(connection.text("run", {"value": BIG}))
                connection.undo_part()
                texts.append(connection.text("run", {"value": BIG}))
                connection.end_part()
            return texts

        assert len(set(bench.database.write(write))) == 1
        assert kept(bench) == 1


def test_a_document_is_small_once_its_large_parts_are_away() -> None:
    """Whatever the document, what is left fits, and putting back gives the same."""
    texts: dict[str, str] = {}

    def put(_workflow: str, text: str) -> str:
        texts[str(len(texts))] = text
        return str(len(texts) - 1)

    for value, _ in KINDS.values():
        document = {"fact": "TaskEnded", "outputs": {"value": value}, "context": {"_own": 1, "value": value}}
        smaller = Shelf(put).parts("run", document)
        assert all(len(json.dumps(part, ensure_ascii=False)) <= INLINE + KIB for part in smaller.values())
        assert put_back(smaller, lambda name: put_back(json.loads(texts[name]), None)) == document


MEASURE = """
import resource, sys
from stabilize_nb import TaskResult
from tests.makers import Bench, chain
SIZE = int(sys.argv[2])
body = lambda s: TaskResult.success(outputs={"big": s.context.get("big") or "x" * SIZE})
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with Bench(f"sqlite:///{sys.argv[1]}/runs.db", tasks={"body": body}, durability="normal") as bench:
    bench.run(chain(3, "noop"))
    before = peak()
    done = chain(3, "body")
    bench.begin(done)
    bench.processor.process_all(timeout=100)
    print((peak() - before) / SIZE)
"""


def test_memory_is_three_times_the_value_at_most(tmp_path: Path) -> None:
    """Text of 32 MiB that three stages pass along takes at most three times as much memory at any moment."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), str(32 * MIB)],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip

    print(f"{float(done.stdout):.2f} times the value")
    assert float(done.stdout) <= 3
