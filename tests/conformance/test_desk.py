"""How workers come and go: whoever goes home tells the others, so that nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

from stabilize_nb.queue.processor import keeping
from tests.makers import Bench


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.001)


def test_a_worker_that_waited_for_the_last_commit_goes_home():
    """One commits what is finished while another waits for that, and nobody is hired any more: both go home."""
    with Bench("sqlite:///:memory:", tasks={}) as bench:
        processor, desk = bench.processor, bench.processor.desk
        with desk.changed:
            desk.workers, desk.leading = 2, True
            desk.finished.append((None, None))
        waiting = threading.Thread(target=processor.work, daemon=True)
        waiting.start()
        wait_for(lambda: desk.idle == 1)

        with desk.changed:
            desk.finished.clear()
            desk.leading = False
        processor.work()
        waiting.join(5)

        assert not waiting.is_alive()
        assert desk.workers == 0


def test_commits_of_others_are_looked_for_less_often_when_nothing_happens(tmp_path, monkeypatch):
    """An engine that waits for a person for days costs next to nothing; work makes it look often again."""
    now = 1_000.0
    monkeypatch.setattr(keeping, "time", SimpleNamespace(monotonic=lambda: now))
    with Bench(f"sqlite:///{tmp_path}/runs.db", tasks={}) as bench:
        processor, often = bench.processor, bench.processor.config.poll_frequency_ms / 1_000
        version = processor._look_outside(-2)  # another process has committed
        assert processor._pause() == often

        now += keeping.CALM
        assert processor._look_outside(version) == version
        tells = bench.database.driver.tells
        assert processor._pause() == often * (keeping.SELDOM_IF_TOLD if tells else keeping.SELDOM)

        with processor.desk.changed:
            processor.desk.leading = True
            assert processor._pause() == often
            processor.desk.leading = False
        assert processor._pause() == often


def test_a_death_has_messages_looked_for_also_when_nothing_was_held(tmp_path, monkeypatch):
    """Who has committed and died before telling it held nothing: what it has sent is taken by whoever finds it dead."""
    with Bench(f"sqlite:///{tmp_path}/runs.db", tasks={}) as bench:
        processor = bench.processor
        monkeypatch.setattr(processor._presence, "any_dead", lambda _: True)
        monkeypatch.setattr(processor._presence, "free_dead", lambda _: 0)
        with processor.desk.changed:
            processor.desk.dirty = False
        bench.database.call(processor.look_for_dead)

        assert processor.desk.dirty
