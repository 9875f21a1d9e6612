"""Databases that somebody has changed so that they do more than data may, and a process that watches what they do.

Run as a program it makes a store, changes a copy of it in every way, works with each, and prints what came of it. An
audit hook cannot be taken away again, so this is a process of its own.
"""

from __future__ import annotations

import ast
import base64
import json
import logging
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw

from stabilize_nb import Engine, Flow, QueueProcessorConfig, StabilizeError, secret
from stabilize_nb.checkup import examine
from stabilize_nb.errors import WaitingForApproval, WaitTimeoutError
from stabilize_nb.models.stage import StageExecution
from stabilize_nb.queue.messages import StartWorkflow

#: What no database may bring about, and what importing it would be called.
EVENTS = frozenset(
    {"exec", "compile", "pickle.find_class", "marshal.loads", "os.system", "os.exec", "os.posix_spawn", "os.fork",
     "subprocess.Popen", "ctypes.dlopen", "code.__new__", "sqlite3.load_extension", "socket.connect", "import"}
)  # fmt: skip
CANARY = "canary_of_the_database"
VALUE = "value-that-a-row-may-not-name"
#: Seconds that a run may take to end, or to say what it waits for.
SOON = 0.4
IMPATIENT = QueueProcessorConfig(retry_delay=0.01, max_deliveries=2, secrets={"KEY": "the-key-of-the-test"})


class Reduced:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return __import__("os").system, (f"touch {CANARY}",)


PICKLE = pickle.dumps(Reduced())
#: What is put in the place of a document, a text or a number.
HOSTILE: dict[str, Any] = {
    "pickle": PICKLE,
    "pickle as text": base64.b64encode(PICKLE).decode(),
    "call": f"__import__('os').system('touch {CANARY}')",
    "module": f"{CANARY}:run",
    "path": "os.system",
    "constructor": json.dumps({"lc": 2, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": CANARY}}),
    "py/object": json.dumps({"py/reduce": [{"py/function": "os.system"}, {"py/tuple": [f"touch {CANARY}"]}]}),
    "yaml": f'!!python/object/apply:os.system ["touch {CANARY}"]',
    "secret": json.dumps({"$secret": "NAMED_BY_A_ROW"}),
    "secrets": json.dumps({"key": {"$secret": "NAMED_BY_A_ROW"}, "result": [{"$secret": ["x"]}, {"$secret": ""}]}),
    "reference": json.dumps({"\0": "0" * 64}),
    "depth": "[" * 100_000,
    "closed depth": "[" * 100_000 + "]" * 100_000,
    "giant number": "1" + "0" * 5_000,
    "giant float": "1e999",
    "no number": "NaN",
    "largest": 2**63 - 1,
    "negative": -(2**63),
    "fraction": 1e300,
    "nothing": "",
    "list": "[1, 2]",
    "half a text": b"\xff\xfe{\x00",
    "template": "{0.__class__.__init__.__globals__}",
}
DOCUMENTS = (
    "workflow.context", "stage.spec", "stage.context", "stage.outputs", "stage.inherited",
    "message.payload", "event.data", "journal.value",
)  # fmt: skip
#: What the column with an index on a part of its JSON can hold.
JSON = ("constructor", "py/object", "secret", "secrets", "reference", "list")
TEXTS = ("task.implementing_class", "message.kind", "stage.ref_id", "event.type", "task.name", "stage.triggers")
NUMBERS = (
    "message.fence",
    "task.attempt",
    "stage.generation",
    "event.at",
    "workflow.created_at",
    "message.deliveries",
)

asking = Flow("asking")


@asking.stage
def draft(stage: StageExecution) -> dict[str, Any]:
    return {"text": stage.step("write", lambda: "a draft"), "by": "me"}


asking.approval("Send it?", name="gate", after="draft")


@asking.stage(after="gate", when="draft.by == 'me'")
def send(draft: Any, key: str = secret("KEY")) -> Any:
    return f"sent {draft}"


def made(path: Path) -> None:
    """Make a store with a run that has ended, one that waits, and one that has not begun."""
    with Engine(path, durability="normal", secrets={"KEY": "the-key-of-the-test"}) as engine:
        first, second = engine.start(asking), engine.start(asking)
        first.until_gate(10)
        second.until_gate(10)
        first.approve("gate")
        first.wait(10)
        workflow = asking.build()
        engine.processor.close()
        engine.store.store(workflow, StartWorkflow(execution_id=workflow.id))


def changed(path: Path, change: str, *values: Any) -> None:
    """Have SQLite change a store, against its constraints where that is needed."""
    database = apsw.Connection(str(path))
    database.pragma("ignore_check_constraints", True)
    database.pragma("writable_schema", True)
    database.execute(change, values or None)
    database.close()


def put(place: str, value: Any) -> Callable[[Path], None]:
    """Put a value into a column of every row."""
    table, column = place.split(".")
    return lambda path: changed(path, f"UPDATE OR IGNORE {table} SET {column} = ?", value)


def asked(sql: str) -> Callable[[Path], None]:
    """Have SQLite run some statements."""
    return lambda path: changed(path, sql)


def within(table: str, column: str, old: str, new: str) -> Callable[[Path], None]:
    """Replace a part of the documents of a column."""
    return lambda path: changed(path, f"UPDATE {table} SET {column} = replace({column}, ?, ?)", old, new)


SCHEMAS = {
    "trigger": "CREATE TRIGGER t AFTER INSERT ON event BEGIN DELETE FROM stage; END",
    "trigger that loads": "CREATE TRIGGER t AFTER UPDATE ON message BEGIN SELECT load_extension('./x.so'); END",
    "trigger on a claim": "CREATE TRIGGER t BEFORE UPDATE ON message BEGIN UPDATE task SET name = 'x'; END",
    "view of its own": "CREATE VIEW v AS SELECT load_extension('./x.so')",
    "view for a table": "ALTER TABLE event RENAME TO e; CREATE VIEW event AS SELECT * FROM e",
    "view with a trigger": "ALTER TABLE signal RENAME TO s; CREATE VIEW signal AS SELECT * FROM s;"
    "CREATE TRIGGER t INSTEAD OF INSERT ON signal BEGIN DELETE FROM event; END",
    "generated column": "ALTER TABLE event ADD COLUMN g AS (hex(data))",
    "column beside": "ALTER TABLE event ADD COLUMN d TEXT DEFAULT 'x'",
    "index that computes": "CREATE INDEX i ON event (hex(data))",
    "virtual table": "CREATE VIRTUAL TABLE f USING fts5(x)",
    "check that computes": "UPDATE sqlite_schema SET sql = replace(sql, 'CHECK (active >= 0)', "
    "'CHECK (load_extension(x)>=0)') WHERE name = 'workflow'",
    "definition that is none": "UPDATE sqlite_schema SET sql = 'CREATE TABLE event(x, y' WHERE name = 'event'",
    "name of a table": 'CREATE TABLE "x\'); DROP TABLE event; --" (y)',
    "table beside": "CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine')",
}
WITHIN = {
    "expression that calls": within("stage", "spec", "draft.by == 'me'", f"__import__('os').system('touch {CANARY}')"),
    "expression that reaches": within("stage", "spec", "draft.by == 'me'", "draft.__class__.__mro__"),
    "expression that is long": within("stage", "spec", "draft.by == 'me'", "-" * 100_000 + "1"),
    "name with a path": within("message", "payload", "asking", "../../etc/passwd"),
    "cycle": within("stage", "spec", '"requisites":[]', '"requisites":["send"]'),
    "unknown field": within("stage", "spec", '{"', '{"__class__":"os.system","'),
    "unknown kind": asked("UPDATE message SET kind = 'Message'"),
    "kind of a module": asked("UPDATE message SET kind = 'os'"),
    "migration by name": asked(f"INSERT INTO migration VALUES ('{CANARY}.sql', 'x', 0)"),
    "blob of itself": asked(
        "INSERT INTO blob VALUES ('d', 0, CAST('{\"\\u0000\":\"d\"}' AS BLOB)); "
        'UPDATE stage SET outputs = \'{"\\u0000":"d"}\''
    ),
    "blob that is a pickle": lambda path: (
        changed(path, "INSERT INTO blob VALUES ('p', 0, ?)", PICKLE),
        changed(path, 'UPDATE stage SET outputs = \'{"\\u0000":"p"}\''),
    )[0],
    "due before all time": put("message.due_at", -(2**63)),
    "processor that is none": asked("INSERT OR REPLACE INTO custody SELECT id, 'x; touch y' FROM workflow"),
}


def cases() -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Yield every change."""
    kinds = list(HOSTILE)
    for at, place in enumerate(DOCUMENTS):
        for kind in [*kinds[at::3], "pickle", "secrets", "depth"]:
            yield f"{kind} as {place}", put(place, HOSTILE[kind])
    for kind in JSON:
        yield f"{kind} as workflow.about", put("workflow.about", HOSTILE[kind])
    for place in TEXTS:
        for kind in ("call", "module", "path", "pickle", "half a text"):
            yield f"{kind} as {place}", put(place, HOSTILE[kind])
    for place in NUMBERS:
        for kind in ("largest", "negative", "fraction", "call"):
            yield f"{kind} as {place}", put(place, HOSTILE[kind])
    for name, sql in SCHEMAS.items():
        yield name, asked(sql)
    yield from WITHIN.items()


def used(path: Path) -> str:
    """Open a store, look at everything in it and go on with its runs; return what came of it."""
    examine(str(path))
    try:
        engine = Engine(path, durability="normal", config=IMPATIENT)
    except StabilizeError as error:
        return f"refused: {type(error).__name__}"
    try:
        engine.define(asking)
        try:
            for run_id in engine.runs()["run_id"]:
                looked_at(engine, run_id)
            return went_on(engine)
        except StabilizeError as error:
            return f"refused: {type(error).__name__}"
    finally:
        engine.close()


def looked_at(engine: Engine, run_id: str) -> None:
    run = engine.run(run_id)
    _ = run.outputs, run.inputs, run.stages, run.explain(), run.events.to_csv(), str(run.log()), run.at(1).outputs


def went_on(engine: Engine) -> str:
    """Go on with all runs; every one ends, fails with a sentence, or is held by a dead letter."""
    for run in engine.resume():
        for _ in range(2):
            try:
                run.result(SOON)
            except WaitingForApproval:
                run.approve()
            except WaitTimeoutError:
                if not len(engine.dead_letters()):
                    return f"stands still: {run.explain()}"
                break
            except StabilizeError:
                break
    return "dead letters" if len(engine.dead_letters()) else "works"


def parses(event: str) -> bool:
    """Whether `ast.parse` makes a tree of a text, of which no code is made: of a condition, or to show a traceback."""
    return event == "compile" and sys._getframe(2).f_code is ast.parse.__code__


def main(folder: Path) -> None:
    """Print what came of every change, and what the hook saw."""
    logging.getLogger("stabilize_nb").setLevel(logging.CRITICAL + 1)
    template = folder / "template.db"
    made(template)
    seen: list[str] = []
    watching = ""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and (event in EVENTS or CANARY in str(arguments[:1])) and not parses(event):
            seen.append(f"{watching}: {event} {str(arguments)[:200]}")

    def tried(name: str, change: Callable[[Path], None]) -> str:
        path = folder / "copy.db"
        for left in folder.glob("copy.db*"):
            left.unlink()
        shutil.copy(template, path)
        change(path)
        nonlocal watching
        watching = name
        try:
            return used(path)
        finally:
            watching = ""

    for _, change in list(cases())[::7]:  # loads what is loaded when it is first needed
        tried("", change)
    sys.addaudithook(watch)
    outcomes = {name: tried(name, change) for name, change in cases()}
    print(json.dumps({"outcomes": outcomes, "seen": seen, "canaries": [str(each) for each in Path().glob("*canary*")]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
