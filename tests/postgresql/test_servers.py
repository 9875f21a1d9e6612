"""Stores on a PostgreSQL server: what is shared, what dies, what comes back, and what is refused."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import pytest

from stabilize_nb import Engine, Flow
from stabilize_nb.errors import ConfigError, SchemaError, StoreUnavailableError
from stabilize_nb.store import dialect
from stabilize_nb.store.database import Database
from stabilize_nb.store.queries import queries
from tests.postgres import Served, Server, shared_server
from tests.postgresql.work import STAGES, made, notes_in

PATIENCE = 60.0
RUNS = 24
#: Seconds between two deaths.
BEAT = 0.4


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with shared_server() as found:
        yield found


@pytest.fixture
def url(server: Served, request: pytest.FixtureRequest) -> str:
    return server.url(f"t{abs(hash(request.node.name)):x}"[:20])


class Workers:
    """Processes that work at a database; one that is killed is replaced."""

    def __init__(self, url: str, notes: Path, number: int) -> None:
        self._command = [sys.executable, "-m", "tests.postgresql.work", url, str(notes)]
        self.processes = [self._begun() for _ in range(number)]

    def _begun(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def kill(self, which: int) -> None:
        """Kill one and begin another."""
        self._end(self.processes[which])
        self.processes[which] = self._begun()

    def end(self) -> None:
        """Kill all."""
        for process in self.processes:
            self._end(process)

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def ended(engine: Engine) -> bool:
    """Whether no run is left."""
    return not engine.store.unfinished()


def until(condition: Callable[[], bool], meanwhile: Callable[[int], None] = lambda _: None) -> None:
    """Wait for something, and do something else once a beat."""
    deadline = time.monotonic() + PATIENCE
    beats = 0
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(BEAT)
        meanwhile(beats)
        beats += 1


def judge(engine: Engine, notes: Path) -> Counter[tuple[str, str]]:
    """Hold that every run has succeeded with each result committed once; return how often bodies were begun."""
    headers = engine.store.list()
    assert {header["status"] for header in headers} == {"SUCCEEDED"}
    assert len(headers) == RUNS
    for header in headers:
        events = engine.run(header["id"]).events
        assert Counter(events["type"])["task.completed"] == 4
        assert list(events["seq"]) == list(range(1, len(events) + 1))
    assert engine.processor.queue.size() == 0
    return Counter(note.body for note in notes_in(notes))


@pytest.mark.parametrize("name", sorted(dialect.statements()))
def test_statement_is_one_for_postgresql(statements: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    """Every statement of the package, also those that run once in a year."""
    statements.execute(f"PREPARE one AS {dialect.statements()[name].sql}", prepare=False)
    statements.execute("DEALLOCATE one", prepare=False)


@pytest.fixture(scope="module")
def statements(server: Served) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with Database.open(server.url("statements")) as database, database.driver.session({}) as session:
        yield session


def test_every_statement_has_its_twin() -> None:
    """What PostgreSQL has in words of its own is a statement of the package, but for its locks."""
    assert set(dialect.statements()) - set(queries()) == {"beacon_is_lit", "lock_free_head"}


def test_workers_share_and_die(url: str, tmp_path: Path) -> None:
    """Of three processes one is killed again and again: nothing is lost, nothing is committed twice."""
    notes = tmp_path / "notes"
    flow = made(notes)
    with Engine(url) as engine:
        workers = Workers(url, notes, 3)
        for order in range(RUNS):
            engine.start(flow, order=order)
        engine.processor.stop()
        kills = 0

        def kill(beat: int) -> None:
            nonlocal kills
            workers.kill(beat % 3)
            kills += 1

        try:
            until(lambda: ended(engine), kill)
        finally:
            workers.end()
        begun = judge(engine, notes)

    assert kills
    assert len({note.process for note in notes_in(notes)}) > 2, "one did everything"
    assert set(begun) == {(str(order), stage) for order in range(RUNS) for stage in STAGES}
    assert sum(begun.values()) - len(begun) <= 8 * kills, "only what was in flight is begun again"


def test_server_that_loses_power(tmp_path: Path) -> None:
    """The server ends at once and comes back, three times: the work goes on by itself."""
    notes = tmp_path / "notes"
    flow = made(notes)
    with Server() as server, Engine(server.url("power"), workers=4) as engine:
        for order in range(RUNS):
            engine.start(flow, order=order)

        def cut(beat: int) -> None:
            if beat < 3:
                server.stop(signal.SIGQUIT)
                server.start()

        until(lambda: _or_gone(lambda: ended(engine)), cut)
        judge(engine, notes)


def _or_gone(look: Callable[[], bool]) -> bool:
    """Look; a server that is gone just now has nothing to show."""
    try:
        return look()
    except StoreUnavailableError:
        return False


def test_sessions_that_are_terminated(server: Served, url: str, tmp_path: Path) -> None:
    """All sessions of a process are ended again and again, whatever they are doing."""
    notes = tmp_path / "notes"
    flow = made(notes)
    everybody = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
    )
    with Engine(url, workers=4) as engine, psycopg.connect(server.address, autocommit=True) as root:
        for order in range(RUNS):
            engine.start(flow, order=order)
        until(lambda: _or_gone(lambda: ended(engine)), lambda beat: beat < 8 and root.execute(everybody))
        judge(engine, notes)


def test_light_that_the_server_has_put_out_is_lit_again(server: Served, url: str) -> None:
    """A session that alone was ended is noticed although nothing is asked through it."""

    def slots(root: psycopg.Connection[tuple[int]]) -> dict[int, int]:
        """Return the slots that are lit, each with the process of the server that holds its lock."""
        return dict(
            root.execute("SELECT objid::int, pid FROM pg_locks WHERE locktype = 'advisory' AND granted").fetchall()
        )

    flow = Flow("asked")
    flow.approval("Good?", name="good")
    with Engine(url) as engine, psycopg.connect(server.address, autocommit=True) as root:
        others = slots(root)
        engine.start(flow).until_gate(PATIENCE)
        (mine,) = (slot for slot, pid in slots(root).items() if others.get(slot) != pid)
        before = slots(root)[mine]
        root.execute("SELECT pg_terminate_backend(%s)", [before])

        until(lambda: slots(root).get(mine, before) != before)


def test_what_another_process_commits_is_heard_at_once(url: str) -> None:
    """Who waits for a run elsewhere needs no polling: the listener wakes it."""
    flow = Flow("asked")
    flow.approval("Good?", name="good")
    with Engine(url) as engine:
        run = engine.start(flow)
        run.until_gate(PATIENCE)
        there = threading.Event()
        engine.database.changes.subscribe(there.set)
        code = (
            f"from stabilize_nb import Engine\nwith Engine({url!r}) as engine: engine.run({run.id!r}).approve(user='B')"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

        assert there.wait(5)
        run.result(PATIENCE)
        assert run.decisions["user"][0] == "B"


def test_stores_in_schemas_are_apart(server: Served) -> None:
    """One database has many stores; neither runs nor lights are shared."""
    with Engine(server.url("one")) as one, Engine(server.url("two")) as two:
        flow = Flow("alone")
        flow.stage(name="a")(lambda: 1)
        one.start(flow).result(PATIENCE)

        assert len(one.store.list()) == 1
        assert two.store.list() == []


def test_url_is_handed_to_the_server_as_it_is(server: Served) -> None:
    """Options of libpq stay, `schema` is ours, and a password with an @ does not end the name of the host."""
    place = urlsplit(server.address)
    who = place.username or "postgres"
    host = place.netloc.rpartition("@")[2]
    password = place.password or "p%40ss"
    mixed = server.schema("Mixed Case")
    options = f"sslmode=disable&schema={mixed}&application_name=x"
    given = f"postgres://{who}:{password}@{host}{place.path}?{options}"
    with Database.open(given) as database, database.driver.session({}) as session:
        shown = session.execute("SELECT current_schema(), current_setting('application_name')").fetchone()

    assert shown == (mixed, "x")
    assert password not in database.path
    assert unquote(password) not in database.path


def test_server_that_is_not_there_is_said_without_the_password() -> None:
    """One sentence, with the place and what is wrong there."""
    with pytest.raises(StoreUnavailableError, match=r"postgresql://127.0.0.1:1/x\?schema=public: connection") as caught:
        Engine("postgresql://me:geheim@127.0.0.1:1/x")

    assert "geheim" not in str(caught.value)


def test_schema_of_another_program_is_refused(server: Served) -> None:
    """Its tables are named, and nothing is made beside them."""
    with psycopg.connect(server.address, autocommit=True) as root:
        shop = server.schema("shop")
        root.execute(f"CREATE SCHEMA {shop} CREATE TABLE customer (id int)")

        with pytest.raises(SchemaError, match="tables of another program \\(customer"):
            Database.open(server.url("shop"))
        tables = root.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [shop]).fetchall()
    assert tables == [("customer",)]


def test_durability_of_a_server_is_asked_for(url: str) -> None:
    """`normal` does not wait for the disk of the server; what else is asked for is refused."""
    with Database.open(url, durability="normal") as database:
        row = database.read(lambda connection: connection.raw.execute("SHOW synchronous_commit").fetchone())
    assert row == ("off",)
    with pytest.raises(ConfigError, match="durability 'half' is not known"):
        Database.open(url, durability="half")
