import logging
import threading

import pytest

from stabilize_nb.errors import ConfigError, StoreError
from stabilize_nb.events import SqliteEventStore, configure_event_sourcing, get_event_bus
from stabilize_nb.events import log as log_module
from stabilize_nb.events.log import EventLog, log_of
from tests.events.scenes import SCENES, play, tasks
from tests.makers import Bench, chain, stage, workflow

SEVEN = [
    "workflow.created", "workflow.started", "stage.started", "task.started", "task.completed", "stage.completed",
    "workflow.completed",
]  # fmt: skip


@pytest.fixture(params=["file, copy in memory", "memory, copy in a file", "file, copy in a file"])
def urls(request, tmp_path):
    """URLs of a workflow store and of a log that is another database."""
    memory = "sqlite:///:memory:"
    store, copy = f"sqlite:///{tmp_path}/store.db", f"sqlite:///{tmp_path}/log.db"
    return {
        "file, copy in memory": (store, memory),
        "memory, copy in a file": (memory, copy),
        "file, copy in a file": (store, copy),
    }[request.param]


@pytest.fixture
def event_store(urls):
    """A log that is another database than the workflow store."""
    opened = SqliteEventStore(urls[1], create_tables=True)
    yield opened
    opened.close()


def lines(log, workflow_id=None):
    """Return the events of a log without what differs between databases."""
    found = list(log) if workflow_id is None else log.get_events(workflow_id)
    return [(e.workflow_id, e.sequence, e.event_type, e.timestamp, e.entity_id, e.data) for e in found]


def test_one_stage_gives_seven_events(urls, event_store):
    """After process_all the configured log has exactly the seven events of a run of one stage."""
    configure_event_sourcing(event_store)
    with Bench(urls[0]) as bench:
        flow = bench.run(workflow(stage("a")))

        assert [event.event_type.value for event in event_store.get_events(flow.id)] == SEVEN
        assert event_store.count() == event_store.count(flow.id) == 7


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_copy_is_equal_to_the_log(scene, urls, event_store):
    """Whatever happens, the copy has the same events in the same order."""
    configure_event_sourcing(event_store)
    with Bench(urls[0], tasks=tasks()) as bench:
        play(scene, bench)
        bench.database.flush()

        assert lines(event_store) == lines(EventLog(bench.database))


def test_same_url_is_the_same_log():
    """With the URL of the workflow store the event store is its own log, and nothing is copied."""
    event_store = SqliteEventStore("sqlite:///:memory:")
    configure_event_sourcing(event_store)
    with Bench("sqlite:///:memory:") as bench:
        bench.run(workflow(stage("a")))

        assert event_store.count() == 7
        assert bench.database.followers == []
    event_store.close()


@pytest.mark.parametrize("known", range(8))
def test_copy_catches_up(known, tmp_path):
    """When a crash kept the rest of a run from the copy, it comes when the database is opened again, once."""
    url, copy = f"sqlite:///{tmp_path}/store.db", f"sqlite:///{tmp_path}/log.db"
    with Bench(url) as bench:
        flows = [bench.run(workflow(stage("a"))) for _ in range(3)]
    with SqliteEventStore(copy).database as database:
        event_store = EventLog(database)
        configure_event_sourcing(event_store)
        Bench(url).close()
        configure_event_sourcing(None)
        database.write(
            lambda connection: connection.raw.execute(
                "DELETE FROM event WHERE workflow_id = ? AND sequence > ?", (flows[1].id, known)
            )
        )
        configure_event_sourcing(event_store)
        with Bench(url) as bench:
            bench.run(workflow(stage("a")))

            assert {flow.id: event_store.count(flow.id) for flow in flows} == {flow.id: 7 for flow in flows}
            assert event_store.count() == 28
            assert lines(event_store, flows[1].id) == lines(EventLog(bench.database), flows[1].id)


def test_databases_that_are_open_already_are_followed(urls, event_store):
    """Configuring after the database was opened, and after the run, copies all the same."""
    with Bench(urls[0]) as bench:
        flow = bench.run(workflow(stage("a")))
        configure_event_sourcing(event_store)
        bench.database.flush()

        assert event_store.count(flow.id) == 7


def test_copying_is_not_done_by_threads_that_commit(urls, event_store, monkeypatch):
    """Only threads of relays write to the copy."""
    writers = set()
    write = event_store.database.write

    def noting(*arguments):
        writers.add(threading.current_thread().name)
        return write(*arguments)

    monkeypatch.setattr(event_store.database, "write", noting)
    configure_event_sourcing(event_store)
    with Bench(urls[0]) as bench:
        bench.run(chain(3))

    assert writers == {"stabilize-relay"}


def test_copy_that_cannot_be_written_is_late(urls, event_store, monkeypatch, caplog):
    """While the copy is out of reach runs go on; one line says so; when it is back everything comes."""
    monkeypatch.setattr(log_module, "RETRY", 0.01)
    write = event_store.database.write
    back = threading.Event()

    def broken(*arguments):
        if not back.is_set():
            raise StoreError("no room")
        return write(*arguments)

    monkeypatch.setattr(event_store.database, "write", broken)
    configure_event_sourcing(event_store)
    with caplog.at_level(logging.WARNING), Bench(urls[0]) as bench:
        flow = bench.run(chain(3))
        late = event_store.count()
        back.set()
        bench.database.flush()

        assert (flow.status.name, late) == ("SUCCEEDED", 0)
        assert lines(event_store) == lines(EventLog(bench.database))
    assert [record.message for record in caplog.records] == [
        f"no room; the log at {event_store.database.url} is late and catches up by itself"
    ]


def test_deleting_workflows_loses_no_events_of_others(urls, event_store):
    """Deleting a workflow keeps its copy, and what is stored where it was is copied too."""
    configure_event_sourcing(event_store)
    with Bench(urls[0]) as bench:
        first = bench.run(chain(1))
        bench.store.delete(first.id)
        second = bench.run(chain(2))

        assert event_store.count(first.id) == 7
        assert lines(event_store, second.id) == lines(EventLog(bench.database), second.id)


def test_copy_follows_an_id_that_is_used_again(urls, event_store):
    """A workflow stored anew under the id of a deleted one takes its place in the copy."""
    configure_event_sourcing(event_store)
    with Bench(urls[0]) as bench:
        first = bench.run(chain(3))
        bench.store.delete(first.id)
        again = chain(1)
        again.id = first.id
        bench.database.clock = lambda: first.end_time + 1
        bench.run(again)

        assert lines(event_store) == lines(EventLog(bench.database))


def test_another_store_takes_the_place_of_the_first(tmp_path):
    """Configuring another store copies everything there from then on; the first gets no more."""
    one, two = (SqliteEventStore(f"sqlite:///{tmp_path}/{name}.db") for name in ("one", "two"))
    with one.database, two.database, Bench() as bench:
        configure_event_sourcing(one)
        configure_event_sourcing(one)
        bench.run(chain(1))
        configure_event_sourcing(two)
        bench.run(chain(1))

        assert (one.count(), two.count(), len(bench.database.followers)) == (7, 14, 1)


def test_none_ends_copying(urls, event_store):
    """After configure_event_sourcing(None) nothing is copied and no thread follows."""
    configure_event_sourcing(event_store)
    with Bench(urls[0]) as bench:
        configure_event_sourcing(None)
        bench.run(chain(1))

        assert (event_store.count(), bench.database.followers) == (0, [])


def test_events_can_be_read_in_parts():
    """Events are read by their numbers; all of a database are read in the order of commits, in pages."""
    with Bench() as bench:
        flow = bench.run(chain(1))
        other = bench.run(chain(1))
        log = EventLog(bench.database)

        assert [event.sequence for event in log.get_events(flow.id, after=2, until=4)] == [3, 4]
        assert log.last_sequence(flow.id) == 7
        assert (log.get_events("nobody"), log.last_sequence("nobody")) == ([], 0)
        assert [event.workflow_id for event in log] == [flow.id] * 7 + [other.id] * 7


def test_iteration_goes_over_pages(monkeypatch):
    """A log longer than a page is read to its end."""
    monkeypatch.setattr(log_module, "BATCH", 3)
    with Bench() as bench:
        flow = bench.run(chain(2))

        assert [event.sequence for event in EventLog(bench.database)] == list(
            range(1, EventLog(bench.database).count(flow.id) + 1)
        )


def test_log_of_a_workflow_is_found():
    """The log that holds a workflow is found among the databases of the process."""
    with Bench() as bench:
        flow = bench.run(chain(1))

        assert log_of(flow.id).count(flow.id) == 7
        assert log_of("nobody") is None


def test_nothing_is_published_that_is_not_stored():
    """A workflow that the store refuses is not announced."""
    heard = []
    with Bench() as bench:
        flow = chain(1)
        bench.store.store(flow)
        get_event_bus().subscribe("heard", heard.append)
        with pytest.raises(ConfigError):
            bench.store.store(flow)
        bench.database.flush()

    assert heard == []
