"""The pane of a run: what it shows, how much of it there is, how often it is painted, and what stays of it."""

import contextlib
import html.parser
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import apsw
import ipywidgets as w
import pytest
from ipywidgets.widgets import widget as registry

from stabilize_nb import Engine, Flow, emit_progress
from stabilize_nb.errors import StoreUnavailableError
from stabilize_nb.llm import LLMClient, LLMTask
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.panes import run_pane, showing
from stabilize_nb.notebook.panes.painter import BEAT, PAINTER, PERIOD, Painter
from stabilize_nb.queue.processor.config import QueueProcessorConfig
from stabilize_nb.run import Run
from stabilize_nb.testing import ScriptedModel
from tests.makers import stage, workflow

S = WorkflowStatus


@pytest.fixture
def engine(notebook, tmp_path, monkeypatch, capsys) -> Iterator[Engine]:
    """Make an engine beside a real shell; panes may leave the page at once."""
    monkeypatch.setattr(run_pane, "SHORTEST", 0.0)
    with Engine(tmp_path / "runs.db", config=QueueProcessorConfig(task_output="keep")) as engine:
        yield engine


def until(done: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for what the painter does."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        PAINTER.settle(0.2)


def parts(widget: w.Widget) -> list[w.Widget]:
    """Return a widget with everything in it."""
    return [widget, *(part for child in getattr(widget, "children", ()) for part in parts(child))]


def shown(pane: run_pane.RunPane) -> str:
    """Return the markup of a pane that is on the page."""
    pieces = [each for each in parts(pane.box) if isinstance(each, w.HTML) and each.layout.display != "none"]
    return "\n".join(piece.value for piece in pieces)


def buttons(pane: run_pane.RunPane) -> dict[str, w.Button]:
    """Return the buttons that are offered."""
    found = [each for each in parts(pane.box) if isinstance(each, w.Button)]
    return {each.description: each for each in found if each.layout.display != "none" and not each.disabled}


class Tags(html.parser.HTMLParser):
    """The attributes of the tags of markup."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.attributes: list[dict[str, str | None]] = []
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.attributes.append(dict(attrs))


def with_role(markup: str, role: str) -> list[dict[str, str | None]]:
    """Return the attributes of the tags that have a role."""
    return [attributes for attributes in Tags(markup).attributes if attributes.get("role") == role]


def gated() -> Flow:
    """Make a flow that waits for a person."""
    flow = Flow("gated")

    @flow.stage
    def draft():
        print("drafting")
        return {"text": "hello"}

    flow.approval("Send it?", name="sign_off", after="draft", show="text")

    @flow.stage(after="sign_off")
    def send(draft):
        return draft

    return flow


def waiting(engine: Engine) -> tuple[Run, run_pane.RunPane]:
    """Start a run that waits for a person, and show it."""
    run = engine.start(gated())
    assert run.until_gate(20)
    pane = showing.show(run)
    assert pane is not None
    until(lambda: "Send it?" in shown(pane))
    return run, pane


def test_pane_shows_header_graph_gate_stages_log_and_buttons_in_this_order(engine):
    """Everything that A4 of the design asks for, each once."""
    _, pane = waiting(engine)
    page = shown(pane)
    order = [page.index(each) for each in ("<b>gated</b>", "<svg", "Send it?", "<table", "drafting")]

    assert order == sorted(order)
    assert {"Approve", "Reject", "Cancel", "Pause", "Refresh"} <= set(buttons(pane))


def test_status_is_a_live_region_that_says_no_time(engine):
    """A screen reader hears of a status once: what goes on with every second is not in the region."""
    _, pane = waiting(engine)
    regions = with_role(pane._status.value, "status")

    assert [region["aria-live"] for region in regions] == ["polite"]
    assert "‖ waiting" in pane._status.value
    assert "of 3 stages" not in pane._status.value
    assert "2 of 3 stages" in shown(pane) or "1 of 3 stages" in shown(pane)


def test_run_that_ends_leaves_its_picture_and_no_widget(engine):
    """The widgets are closed when the run has ended; the picture under the display id is the last state."""
    before = set(registry._instances)
    run, pane = waiting(engine)
    assert set(registry._instances) - before
    run.approve()
    run.wait(20)
    until(lambda: set(registry._instances) == before)

    assert "✓ succeeded" in pane._pictures.shown
    assert "log: 1 line" in pane._pictures.shown


def test_widget_buttons_order_and_their_effect_is_seen(engine):
    """Pause becomes Resume, Cancel ends the run."""
    run, pane = waiting(engine)
    buttons(pane)["Pause"].click()
    until(lambda: "Resume" in buttons(pane))
    buttons(pane)["Resume"].click()
    until(lambda: "Pause" in buttons(pane))
    buttons(pane)["Cancel"].click()

    assert run.wait(20) is S.CANCELED
    until(lambda: pane.life.is_over)


def test_failed_run_keeps_a_button_that_tries_again(engine):
    """A failure is shown with its error, and the failed stage can be run again from the pane."""
    flow, mends = Flow("fails"), []

    @flow.stage
    def work():
        if not mends:
            raise ValueError("on fire")
        return 1

    run = engine.start(flow)
    run.wait(20)
    pane = showing.show(run)
    assert pane is not None
    until(lambda: set(buttons(pane)) == {"Retry failed", "Refresh", "Close"})
    assert "on fire" in shown(pane)

    mends.append(1)
    buttons(pane)["Retry failed"].click()
    until(lambda: pane.life.is_over)

    assert run.status is S.SUCCEEDED


def test_run_that_has_ended_is_only_a_picture(engine):
    """No widget is made for what cannot change."""
    flow = Flow("done")

    @flow.stage
    def only():
        return 1

    run = engine.start(flow)
    run.wait(20)
    before = set(registry._instances)

    assert showing.show(run) is None
    assert set(registry._instances) == before


def test_showing_a_run_again_closes_the_earlier_pane(engine):
    """However often a run is shown, there is one pane of it; all pictures follow."""
    run, first = waiting(engine)
    size = len(registry._instances)
    for _ in range(4):
        pane = showing.show(run)
        assert pane is not None
        until(lambda pane=pane: "Send it?" in shown(pane))

    assert first.life.is_over
    assert len(registry._instances) == size
    pane.close()


def many(release: threading.Event) -> Flow:
    """Make a flow with 200 instances that stop halfway."""
    flow = Flow("many")

    @flow.stage
    def pages():
        return list(range(200))

    @flow.stage(each="pages")
    def read(page, progress):
        print("page", page)
        progress(0.5, "half")
        if page >= 100:
            release.wait(30)
        return page

    return flow


def test_two_hundred_instances_are_rows(engine):
    """The pane of a wide run has no more than 60 widgets, twelve rows that are seen, and bars that say how far."""
    release = threading.Event()
    run = engine.start(many(release))
    pane = showing.show(run)
    assert pane is not None
    try:
        until(lambda: "100 of 200" in shown(pane))
        until(lambda: "50 %" in pane._table.value)
        bars = {each["aria-label"]: each for each in with_role(pane._table.value, "progressbar")}
        size = len(parts(pane.box))
        seen = pane._table.value
    finally:
        release.set()
    run.wait(30)

    assert size <= 60
    assert seen.count("<tr>") == 1 + 12
    assert {name: bars["progress of read"][f"aria-value{name}"] for name in ("min", "max", "now", "text")} == {
        "min": "0",
        "max": "200",
        "now": "100",
        "text": "100 of 200",
    }
    until(lambda: pane.life.is_over)
    assert "more stages · 190: 190 succeeded" in pane._pictures.shown


class Canvas:
    """A pane that notes when it is painted."""

    def __init__(self) -> None:
        self.painted: list[object] = []
        self.beats = 0

    def paint(self, seen: object) -> None:
        self.painted.append(seen)

    def beat(self) -> None:
        self.beats += 1

    def close(self) -> None:
        pass


def test_painter_paints_at_most_five_times_a_second_and_nothing_for_nothing(engine):
    """A thousand changes in a second are five paintings; a second without changes is none, with one sign of life."""
    now = [100.0]
    painter, canvas = Painter(lambda: now[0], threaded=False), Canvas()
    times: list[float] = []
    painter.follow(engine, "canvas", lambda: times.append(now[0]), canvas)
    for _ in range(1_000):
        now[0] += 0.001
        painter.stir(engine, "canvas")
        painter.turn()

    assert len(canvas.painted) == 1 + 5
    assert all(later - earlier >= PERIOD - 1e-9 for earlier, later in pairwise(times))

    painter.turn(hurry=True)
    painted, beats = len(canvas.painted), canvas.beats
    for _ in range(100):
        now[0] += 0.01
        painter.turn()

    assert len(canvas.painted) == painted
    assert canvas.beats == beats + 1
    painter.forget(canvas)
    assert painter.turn() is None


def test_painter_takes_a_quarter_of_the_time_at_most(engine):
    """What takes long to paint is painted less often; after two seconds in any case."""
    now, takes = [100.0], [0.3]
    painter, canvas = Painter(lambda: now[0], threaded=False), Canvas()
    times: list[float] = []

    def read() -> None:
        times.append(now[0])
        now[0] += takes[0]

    def painted_at(seconds: float) -> list[float]:
        times.clear()
        until = now[0] + seconds
        while now[0] < until:
            now[0] += 0.01
            painter.stir(engine, "canvas")
            painter.turn()
        return [later - earlier for earlier, later in pairwise(times)]

    painter.follow(engine, "canvas", read, canvas)

    assert painted_at(12) == pytest.approx([1.2] * 9, abs=0.02)
    takes[0] = 1.5
    assert painted_at(20)[1:] == pytest.approx([2.0] * 8, abs=0.02)
    painter.forget(canvas)


def test_what_nobody_told_of_is_painted_a_second_later(engine, tmp_path, monkeypatch):
    """A processor that has just begun tells of no commit before it: the painter looks with each sign of life."""
    now = [100.0]
    painter, canvas = Painter(lambda: now[0], threaded=False), Canvas()
    engine.start(gated()).until_gate(20)
    monkeypatch.setattr(type(engine.processor), "_look_outside", lambda _processor, seen: seen)
    painter.follow(engine, "canvas", lambda: now[0], canvas)
    assert engine.processor.running
    with contextlib.closing(apsw.Connection(str(tmp_path / "runs.db"))) as other:
        other.execute("UPDATE workflow SET application = 'other'")
    now[0] += BEAT - 0.1
    painter.turn()
    before = len(canvas.painted)
    now[0] += 0.1 + PERIOD
    painter.turn()

    assert (before, len(canvas.painted)) == (1, 2)
    painter.forget(canvas)


def test_store_that_cannot_be_read_is_painted_once_it_can(engine):
    """What fails because of the store is done again by itself; there may be no further change that asks for it."""
    now, broken = [100.0], [True]
    painter, canvas = Painter(lambda: now[0], threaded=False), Canvas()

    def read() -> float:
        if broken[0]:
            msg = "the disk is away"
            raise StoreUnavailableError(msg)
        return now[0]

    painter.follow(engine, "canvas", read, canvas)
    for _ in range(3):
        now[0] += PERIOD
        painter.turn()
    assert canvas.painted == []
    broken[0] = False
    now[0] += PERIOD
    painter.turn()

    assert len(canvas.painted) == 1
    painter.forget(canvas)


def test_one_reading_serves_all_panes_of_a_thing(engine):
    """What two panes show is read once."""
    painter, first, second, read = Painter(threaded=False), Canvas(), Canvas(), []
    painter.follow(engine, "thing", lambda: read.append(1), first)
    painter.follow(engine, "thing", lambda: read.append(2), second)
    painter.turn(hurry=True)

    assert read == [1, 1]
    assert (len(first.painted), len(second.painted)) == (2, 1)
    painter.forget(first)
    painter.forget(second)


def test_painter_without_a_thread_paints_for_whoever_waits(engine):
    """Where other threads cannot paint, waiting for a run does; at the end the last state is shown."""
    painter, canvas = Painter(threaded=False), Canvas()
    run = engine.start(gated())
    painter.watch(run, canvas)
    run.until_gate(20)
    run.approve()
    run.wait(20)

    assert canvas.painted[-1].workflow.status is S.SUCCEEDED
    painter.forget(canvas)


def painters() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "stabilize-painter"]


def test_painter_has_one_thread_and_it_ends_with_the_last_pane(engine):
    """No thread works while nothing is shown."""
    (first, one), (second, two) = waiting(engine), waiting(engine)
    assert len(painters()) == 1

    one.close()
    two.close()
    deadline = time.monotonic() + 10
    while painters() and time.monotonic() < deadline:
        time.sleep(0.01)

    assert painters() == []
    first.cancel()
    second.cancel()


def test_decision_of_another_process_is_seen(engine, tmp_path):
    """A commit from outside reaches the pane, though no engine of this process works any more."""
    run, pane = waiting(engine)
    engine.processor.stop()
    source = (
        "from stabilize_nb import Engine\n"
        f"engine = Engine({str(tmp_path / 'runs.db')!r})\nrun = engine.run({run.id!r})\nrun.cancel()\nrun.wait(20)\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)
    until(lambda: pane.life.is_over)

    assert "– cancelled" in pane._pictures.shown


def test_words_of_a_model_are_in_the_log_and_not_in_the_progress(engine):
    """While a model speaks the pane shows each word once, in the log, and what was told of progress stays."""
    words = [f"w{number}" for number in range(30)]
    listening = threading.Event()

    class Ask(LLMTask):
        def execute(self, stage):
            assert listening.wait(10)
            emit_progress(stage, "asking", 0.5)
            return super().execute(stage)

    with ScriptedModel([" ".join(words)], pace=0.2) as model:
        engine.registry.register("ask", Ask(LLMClient("glm", base_url=model.url)))
        run = engine.start(workflow(stage("ask", task="ask", context={"prompt": "Count."})))
        pane = showing.show(run)
        assert pane is not None
        until(lambda: "running" in shown(pane))
        listening.set()
        until(lambda: "w3 " in shown(pane))
        early = shown(pane)
        model.pace = 0
        until(lambda: pane.life.is_over)

    assert "w29" not in early
    assert "50 % asking" in early
    assert "<details open><summary>log</summary>" in early
    assert [len(re.findall(rf"\b{word}\b", early)) for word in words[:3]] == [1, 1, 1]
    assert run.log("ask") == " ".join(words) + "\n"
