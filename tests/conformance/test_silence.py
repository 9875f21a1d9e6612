"""Who is silent for its whole lease has lost its claims, but only to somebody who has listened all that time."""

from __future__ import annotations

import pytest

from stabilize_nb.queue.processor import QueueProcessorConfig, presence
from stabilize_nb.queue.processor.processor import QueueProcessor
from tests.makers import Bench, chain

LEASE = 2.0
#: Seconds between two looks.
LOOK = 0.4


@pytest.fixture
def watcher(tmp_path, monkeypatch):
    """Return what looks `pause` seconds after the last time, and says whether claims of another are free then.

    The other is there, holds a body, and gives no sign.
    """
    clock = [1_000.0]
    monkeypatch.setattr(presence.time, "monotonic", lambda: clock[0])
    config = QueueProcessorConfig(lease=LEASE)
    with Bench(f"sqlite:///{tmp_path}/runs.db", config=config) as bench:
        other = QueueProcessor(bench.queue, config, bench.store, bench.registry)
        bench.begin(chain(1))
        for each in (bench.processor, other):
            each.announce()
        mine = "UPDATE message SET owner = ?, lease_until = 1"
        bench.database.write(lambda connection: connection.raw.execute(mine, (other.owner,)))

        def look(pause: float = LOOK) -> bool:
            clock[0] += pause
            return bench.database.read(bench.processor.custody.presence.any_dead)

        yield look
        other.custody.presence.leave()
        other.close()
        bench.processor.custody.presence.leave()


@pytest.mark.sqlite
def test_silence_of_a_lease_is_enough(watcher):
    """It is there and does nothing: it hangs. The first look only sees what it renewed last."""
    looks = [watcher() for _ in range(8)]

    assert looks == [False] * 6 + [True] * 2


@pytest.mark.sqlite
def test_who_was_kept_waiting_listens_anew(watcher):
    """What kept the watcher from looking for seconds may have kept the others from giving a sign."""
    before = [watcher() for _ in range(6)]
    after = [watcher(2.5), *(watcher() for _ in range(6))]

    assert before == [False] * 6
    assert after == [False] * 6 + [True]
