"""Many agents at once: what they cost while they wait."""

import asyncio
import subprocess
import sys
import threading
import time

from stabilize_nb.queue.processor import loop
from stabilize_nb.queue.processor.loop import in_thread, wait_on_loop
from tests.benchmarks.agents import MOST_MB, MOST_THREADS


def test_agents_that_wait_hold_no_thread():
    """Sixty agents that ask a slow server, call a plain function and ask again need no more threads than a few do."""
    command = [sys.executable, "-m", "tests.benchmarks.agents", "--agents", "60", "--delay", "0.5"]

    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("60 of 60 agents succeeded, with two answers of 0.5 s")
    assert f"(bound {MOST_THREADS})" in done.stdout
    assert f"(bound {MOST_MB})" in done.stdout


def test_brief_calls_share_threads_and_long_ones_hold_up_nobody():
    """Brief calls take turns in a few threads; calls that block get threads of their own, and brief ones go on."""
    go, at_work, most = threading.Event(), [], []

    def brief():
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.001)
        at_work.pop()

    async def all_of_them():
        blocked = [asyncio.ensure_future(in_thread(lambda: go.wait(20))) for _ in range(2 * loop.TURNS)]
        await asyncio.gather(*(in_thread(brief) for _ in range(200)))
        assert not any(each.done() for each in blocked)
        go.set()
        return await asyncio.gather(*blocked)

    began = time.monotonic()
    assert all(wait_on_loop(all_of_them()))
    assert time.monotonic() - began < 10
    assert 1 < max(most) <= loop.TURNS
