"""Steps on PostgreSQL: what they cost, and how they keep out of each other's way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stabilize_nb import Engine, Flow
from stabilize_nb.events.log import EventLog
from stabilize_nb.store.connection import Connection
from stabilize_nb.store.database import Database
from stabilize_nb.store.pipeline import Order, Pipeline
from stabilize_nb.store.store import WorkflowStore
from tests.makers import chain
from tests.postgres import Served, shared_server

STAGES = 40
#: Round trips and commits beside those of the stages: the run is stored, begun and ended, the keeper looks around.
BESIDES = 24


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with shared_server() as found:
        yield found


@pytest.fixture
def database(server: Served, request: pytest.FixtureRequest) -> Iterator[Database]:
    with Database.open(server.url(f"s{abs(hash(request.node.name)):x}"[:20])) as opened:
        yield opened


@contextmanager
def session(database: Database, *, beside: bool = True) -> Iterator[Connection]:
    """Have another session with a transaction under way, which is undone in the end."""
    connection = database.driver.connect("full")
    connection.begin(beside=beside, careful=not beside)
    try:
        yield connection
    finally:
        connection.rollback()
        connection.close()


def stored(database: Database, number: int) -> list[str]:
    """Store workflows and return their ids."""
    flows = [chain(1) for _ in range(number)]
    for flow in flows:
        WorkflowStore(database).store(flow)
    return [flow.id for flow in flows]


def fact(workflow_id: str) -> dict[str, object]:
    """Return a row of the log."""
    return {"workflow_id": workflow_id, "sequence": 99, "type": "x", "at": 0, "stage_id": None, "data": "{}"}


def test_a_task_is_two_round_trips_and_one_commit(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a chain of tasks that do nothing, however long."""
    trips: list[list[str]] = []
    send = Pipeline.send

    def counted(self: Pipeline, orders: list[Order]) -> object:
        trips.append([order.name for order in orders])
        return send(self, orders)

    flow = Flow("chain")
    for place in range(STAGES):
        flow.stage(name=f"s{place}", after=[f"s{place - 1}"] if place else [])(lambda: None)
    with Engine(server.url("trips")) as engine:
        writer = engine.database.writer
        monkeypatch.setattr(writer.pipeline, "send", counted.__get__(writer.pipeline))  # type: ignore[attr-defined]
        engine.start(flow).wait(30)

    commits = sum("commit" in trip for trip in trips)
    assert STAGES <= commits <= STAGES + BESIDES / 2
    assert len(trips) <= 2 * STAGES + BESIDES


def test_workflows_are_decided_side_by_side(database: Database) -> None:
    """Who has one workflow in hand keeps others from that one only."""
    mine, other = stored(database, 2)
    with session(database) as first, session(database) as second:
        assert first.one("lock_head", {"workflow_id": mine}) is not None
        assert second.one("lock_free_head", {"workflow_id": mine}) is None
        assert second.one("lock_head", {"workflow_id": other}) is not None


def test_what_looks_at_everything_waits_for_steps(database: Database) -> None:
    """An order that is given while a step is under way comes after it."""
    (mine,) = stored(database, 1)
    with session(database) as step:
        assert step.one("lock_head", {"workflow_id": mine}) is not None
        alone = threading.Thread(target=database.write, args=(lambda connection: connection.one("last_position", {}),))
        alone.start()
        alone.join(0.2)
        assert alone.is_alive()
        step.commit()
        alone.join(10)
        assert not alone.is_alive()


def test_who_follows_the_log_passes_nobody(database: Database) -> None:
    """A fact that was numbered first and committed last is seen in its place."""
    first, second = stored(database, 2)
    seen: list[str] = []
    with session(database) as slow, session(database) as quick:
        slow.run("insert_event", fact(first))
        assert slow.one("last_position", {})  # it is numbered by now
        quick.run("insert_event", fact(second))
        quick.commit()
        reader = threading.Thread(target=lambda: seen.extend(row[1] for row in _facts(database)))
        reader.start()
        reader.join(0.2)
        assert reader.is_alive()
        slow.commit()
        reader.join(10)

    assert seen == [first, second]


def _facts(database: Database) -> list[tuple[int, str]]:
    found = EventLog(database)
    return [(event.sequence, event.workflow_id) for event in found if event.sequence == 99]


def test_a_claim_that_was_lost_undoes_the_step(database: Database) -> None:
    """The server refuses the whole of it; it is done again with care, and told which part is not its own any more."""
    (mine,) = stored(database, 1)
    answers: list[bool] = []

    def step(connection: Connection) -> None:
        connection.begin_part()
        connection.run("count_head", {"id": mine, "active": 7, "sequence": 7})
        answers.append(connection.must("acknowledge", {"id": "none", "owner": "me", "fence": 1, "now": 0}))
        if not answers[-1]:
            connection.undo_part()
        connection.end_part()

    database.write(step, beside=True)
    head = database.read(lambda connection: connection.one("head", {"workflow_id": mine}))

    assert answers == [True, False]
    assert head is not None
    assert 7 not in head


def test_steps_that_wait_in_a_circle_are_done_again(database: Database) -> None:
    """The server undoes one of two that wait for each other; both are kept in the end."""
    ids = sorted(stored(database, 2))
    met = threading.Barrier(2, timeout=20)
    tries = [0, 0]

    def step(number: int, connection: Connection) -> None:
        tries[number] += 1
        order = ids if number else ids[::-1]
        connection.one("lock_head", {"workflow_id": order[0]})
        if tries[number] == 1:
            met.wait()
        connection.one("lock_head", {"workflow_id": order[1]})
        connection.run("count_head", {"id": ids[number], "active": 0, "sequence": 7})

    other = Database(database.driver.__class__(database.driver.address), "full")
    threads = [
        threading.Thread(
            target=each.write, args=(lambda connection, place=place: step(place, connection),), kwargs={"beside": True}
        )
        for place, each in enumerate((database, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    sequences = [
        other.read(lambda connection, id_=id_: (connection.one("head", {"workflow_id": id_}) or [])[9]) for id_ in ids
    ]
    other.close()

    assert sequences == [7, 7]
    assert sum(tries) > 2


def test_rates_are_those_of_the_page() -> None:
    """What several processes do beside one, as `python -m tests.postgresql.rates` has seen it."""
    docs = Path(__file__).parents[2] / "docs"
    found = json.loads((docs / "postgresql-rates.json").read_text())
    page = " ".join((docs / "postgresql.md").read_text().split())

    assert found["no-op"]["ratio"] >= 1.4
    assert found["naps"]["ratio"] >= 2.5
    for name in ("no-op", "naps"):
        assert f"{found[name]['ratio']:.1f} times" in page
