"""
One painter for all panes of this process.

Threads of engines only commit; the painter hears of it (`database.changes`), reads each watched thing once for all its
panes, at most five times a second and for a quarter of the time, and has them painted. Its thread lives while there are
panes. Whoever commits only rings a bell: a queue that takes no lock of Python, since a commit may be ordered by the
main thread, which can be interrupted anywhere (see store/waiting.py).

Where a thread cannot paint (Colab shows changes of other threads only when the next cell runs, and Pyodide has no
threads) there is none: those who wait for a run paint while they wait.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Protocol

from stabilize_nb.errors import StabilizeError
from stabilize_nb.notebook.panes.snapshot import RunReader
from stabilize_nb.queue.processor import capture
from stabilize_nb.run import LOOK_OUTSIDE
from stabilize_nb.store.waiting import ONLOOKERS, Ticket

if TYPE_CHECKING:
    from stabilize_nb.engine import Engine
    from stabilize_nb.run import Run

log = logging.getLogger("stabilize_nb")
#: Seconds between two paintings of the same thing at least, and between signs of life.
PERIOD: Final = 0.2
BEAT: Final = 1.0
#: From the beginning of a painting to that of the next one pass so many times what it took, but no more seconds than
#: that: the picture of a large graph takes long, and bodies of stages want the interpreter too.
SPARED: Final = 4
LONGEST: Final = 2.0


class Pane(Protocol):
    """Something on a page. All three are called by the painter only, except `close`."""

    def paint(self, seen: Any) -> None:
        """Show what was read; sets only what differs from what is shown."""

    def beat(self) -> None:
        """Give a sign of life, about once a second."""

    def close(self) -> None:
        """Take it off the page; the painter has forgotten it."""


class Watched:
    """What is read for one or more panes, and when that was done last (in seconds of the painter's clock)."""

    def __init__(self, engine: Engine, read: Callable[[], Any], ring: Callable[[], None]) -> None:
        self.engine = engine
        self.read = read
        self.panes: list[Pane] = []
        self.stirred = True
        self.painted = self.beaten = float("-inf")
        self.period = PERIOD
        self._ring = ring
        self._version = 0 if engine.database.in_memory else engine.database.write_version()
        engine.database.changes.subscribe(self.stir)

    def stir(self) -> None:
        """Say that something may have changed; called by whoever committed."""
        if not self.stirred:
            self.stirred = True
            self._ring()

    def leave(self) -> None:
        """Listen no more."""
        self.engine.database.changes.unsubscribe(self.stir)
        getattr(self.read, "close", lambda: None)()

    @property
    def is_deaf(self) -> bool:
        """Whether commits of other processes are heard of only by looking: no processor works here that looks."""
        return not (self.engine.database.in_memory or self.engine.processor.running)

    def look_outside(self) -> None:
        """See whether another process has committed."""
        version = self.engine.database.write_version(self._version)
        self.stirred = self.stirred or version != self._version
        self._version = version


class Painter:
    """Paints the panes that are watched. `clock` gives seconds; `threaded` says whether it has a thread of its own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, threaded: bool = True) -> None:
        self._clock = clock
        self._threaded = threaded
        self._watched: dict[Any, Watched] = {}
        self._bell: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()  # never taken by the main thread

    # -- who is painted ---------------------------------------------------------------------------

    def watch(self, run: Run, pane: Pane) -> None:
        """Have a pane painted with a `Snapshot` of the run, now and after each change, until it is forgotten."""
        self.follow(run.engine, run.id, RunReader(run, lambda: self.stir(run.engine, run.id)), pane)

    def follow(self, engine: Engine, key: Any, read: Callable[[], Any], pane: Pane) -> None:
        """
        Have a pane painted with what `read` returns after each change in a store; `key` names what is read.

        If `read` has a method `close`, it is called when nothing of it is watched any more.
        """
        if self not in ONLOOKERS:
            ONLOOKERS.append(self)
        self._have_done(lambda: self._add(engine, (engine.database.path, key), read, pane))
        if self._threaded:
            engine.database.post(self._start)
        else:
            self.turn()

    def forget(self, pane: Pane) -> None:
        """Paint a pane no more."""
        self._have_done(lambda: self._remove(pane))

    def stir(self, engine: Engine, key: Any) -> None:
        """Say that something has changed that no commit tells of, such as the progress of a body."""
        watched = self._watched.get((engine.database.path, key))
        if watched is not None:
            watched.stir()

    def _have_done(self, work: Callable[[], None]) -> None:
        """Have the thread that paints change what it paints."""
        if self._threaded and threading.current_thread() is not self._thread:
            self._bell.put(work)
        else:
            work()

    def _add(self, engine: Engine, place: Any, read: Callable[[], Any], pane: Pane) -> None:
        watched = self._watched.get(place)
        if watched is None or watched.engine.is_closed:
            watched = self._watched[place] = Watched(engine, read, lambda: self._bell.put(None))
        watched.panes.append(pane)
        watched.stirred = True
        if self._hear_print not in capture.LISTENERS:
            capture.LISTENERS.append(self._hear_print)

    def _hear_print(self, run_id: str) -> None:
        """A body of a run has printed; what is watched by other keys shows no prints."""
        for (_, key), watched in list(self._watched.items()):
            if key == run_id:
                watched.stir()

    def _remove(self, pane: Pane) -> None:
        for place, watched in list(self._watched.items()):
            if pane in watched.panes:
                watched.panes.remove(pane)
            if not watched.panes or watched.engine.is_closed:
                del self._watched[place]
                watched.leave()
        if not self._watched and self._hear_print in capture.LISTENERS:
            capture.LISTENERS.remove(self._hear_print)

    # -- those who wait for runs ------------------------------------------------------------------

    def look(self) -> None:
        """Paint from the thread of somebody who waits for a run, if there is no thread that paints."""
        if not self._threaded:
            self.turn()

    def settle(self, timeout: float) -> None:
        """Wait until everything committed so far is shown, at most `timeout` seconds."""
        if not self._threaded:
            self.turn(hurry=True)
        elif self._watched and threading.current_thread() is not self._thread:
            shown = Ticket()
            self._bell.put(lambda: self._settle(shown))
            shown.wait(timeout)

    def _settle(self, shown: Ticket) -> None:
        self.turn(hurry=True)
        shown.done()

    # -- painting ---------------------------------------------------------------------------------

    def turn(self, *, hurry: bool = False) -> float | None:
        """Paint what is due, or with `hurry` what has changed; return seconds until the next turn, None: no panes."""
        waits = [self._turn(watched, hurry=hurry) for watched in list(self._watched.values())]
        return min(waits, default=None)

    def _turn(self, watched: Watched, *, hurry: bool) -> float:
        if watched.engine.is_closed:
            for pane in list(watched.panes):
                self._remove(pane)
            return 0.0
        now = self._clock()
        # A processor that has just begun tells of no commit before it, so with each sign of life everybody looks.
        if not watched.stirred and (watched.is_deaf or now - watched.beaten >= BEAT):
            _safely(watched, watched.look_outside)
        if watched.stirred and (hurry or now - watched.painted >= watched.period):
            watched.stirred, watched.painted = False, now
            if not _safely(watched, lambda: _paint(watched)):
                watched.stirred = True
            watched.period = min(max(PERIOD, SPARED * (self._clock() - now)), LONGEST)
        if now - watched.beaten >= BEAT:
            watched.beaten = now
            for pane in list(watched.panes):
                _safely(watched, pane.beat)
        patience = watched.beaten + BEAT - now
        if watched.stirred:
            return max(0.0, min(patience, watched.painted + watched.period - now))
        return min(patience, LOOK_OUTSIDE) if watched.is_deaf else patience

    # -- the thread -------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="stabilize-painter", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while not self._is_idle():
            self._listen(self.turn())

    def _is_idle(self) -> bool:
        """Whether nothing is left to paint; the thread ends then."""
        with self._starting:
            if self._watched or not self._bell.empty():
                return False
            self._thread = None
            return True

    def _listen(self, patience: float | None) -> None:
        """Wait until something has changed or it is time, and do what others want to have done."""
        try:
            wish = self._bell.get(timeout=patience) if patience is not None else self._bell.get_nowait()
            while True:
                if wish is not None:
                    wish()
                wish = self._bell.get_nowait()
        except Empty:
            return


def _paint(watched: Watched) -> None:
    seen = watched.read()
    for pane in list(watched.panes):
        pane.paint(seen)


def _safely(watched: Watched, work: Callable[[], None]) -> bool:
    """
    Do something for panes; what goes wrong there is no reason to stop painting the others.

    Returns False for what is worth trying again: the store could not be read, and may be later.
    """
    try:
        work()
    except StabilizeError as error:
        log.debug("panes of %s are not painted: %s", watched.engine.url, error)
        return False
    except Exception:
        log.exception("a pane could not be painted")
    return True


def can_thread() -> bool:
    """Whether changes that another thread makes to widgets are shown at once."""
    return sys.platform != "emscripten" and "google.colab" not in sys.modules


#: Of this process.
PAINTER: Final = Painter(threaded=can_thread())
