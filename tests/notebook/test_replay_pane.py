"""The pane of a replay: real widgets, moved as a front end moves them, and the picture that stays without a kernel."""

import base64
import re
import threading
from dataclasses import replace

import ipywidgets as w
import pytest

from stabilize_nb import Engine, Flow, StageExecution, TaskExecution, TransientError, Workflow
from stabilize_nb.core.facts import FACTS
from stabilize_nb.events.history import Entry
from stabilize_nb.events.past import Past
from stabilize_nb.notebook import telling
from stabilize_nb.notebook.panes import afterlife, drawings, player, showing
from stabilize_nb.notebook.panes.replay import TICKS, ReplayPane
from stabilize_nb.notebook.past import DRAWN, NEAR, Scene, around
from stabilize_nb.notebook.replay import LISTED, Replay
from stabilize_nb.notebook.telling import failures_in
from stabilize_nb.run_state import RunState
from tests.notebook.test_views import HOSTILE, page


@pytest.fixture
def engine():
    """Make an engine in which another try comes at once."""
    with Engine(":memory:") as engine:
        engine.processor.limits = replace(engine.processor.limits, backoff_min=1)
        yield engine


@pytest.fixture
def quick(monkeypatch):
    """Play without waiting between two positions."""
    monkeypatch.setattr(player, "TICK", 0.001)


def publishing() -> Flow:
    flow, calls = Flow("publishing"), []

    @flow.stage(retry=2)
    def draft(text):
        calls.append(text)
        if len(calls) == 1:
            raise TransientError("busy")
        return {"draft": text.upper()}

    sign_off = flow.approval("Publish?", after=draft, show="draft", name="sign_off")

    @flow.stage(after=sign_off)
    def publish(draft, sign_off):
        raise ValueError(f"no paper for {draft['draft']}")

    return flow


def waiting(engine):
    run = engine.start(publishing(), text="tea")
    run.until_gate(20)
    return run


def published(engine):
    run = waiting(engine)
    run.approve(user="ann")
    run.wait(20)
    return run


@pytest.fixture
def pane(engine):
    made = ReplayPane(Replay(published(engine)))
    yield made
    made.close()


def texts(pane) -> str:
    """Return all markup of a pane."""
    return "\n".join(each.value for each in parts(pane.box) if isinstance(each, w.HTML))


def parts(widget):
    """Yield a widget and all that is in it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from parts(child)


def press(pane, words: str) -> None:
    """Click a button as a front end does."""
    button(pane, words).click()


def button(pane, words: str) -> w.Button:
    return next(each for each in parts(pane.box) if isinstance(each, w.Button) and words in each.description)


def said(pane) -> str:
    """Return what the line under the slider says."""
    return re.sub(r"<[^>]+>", "", re.search(r'<div role="status".*?</div>', texts(pane))[0])


def number_of(pane, kind: str) -> int:
    return next(entry.sequence for entry in pane.past.entries if entry.type == kind)


# -- positions ----------------------------------------------------------------------------------------


def test_slider_shows_the_run_as_it_was(pane):
    """Moved to a fact, the pane says what happened, by whom, and has the picture, the stages and the values of then."""
    pane.slider.value = number_of(pane, "stage.suspended")
    waiting = texts(pane)
    pane.slider.value = number_of(pane, "signal.delivered")

    assert (
        'aria-label="publishing running, 3 stages: draft succeeded, sign_off waiting, publish not started"' in waiting
    )
    assert "‖ sign_off waited for a decision: Publish?" in waiting
    assert "‖ waiting" in waiting
    assert "1 of 3 stages" in waiting
    assert said(pane).startswith("sign_off was approved (by ann) · fact ")
    assert "sign_off running" in texts(pane)


def test_pane_opens_at_the_last_fact(pane):
    """The end is what is seen first; the slider goes from the first fact to the last."""
    assert (pane.slider.min, pane.slider.max, pane.position) == (1, pane.past.last, pane.past.last)
    assert said(pane).startswith(f"the run failed · fact {pane.past.last} of {pane.past.last} · ")


def test_steps_go_one_fact_back_and_on(pane):
    """Two buttons move by one fact, and stop at the first and the last."""
    pane.slider.value = 2
    for words, position in [("Step back", 1), ("Step back", 1), ("Step forward", 2), ("Step forward", 3)]:
        press(pane, words)
        assert pane.position == position
    pane.slider.value = pane.past.last
    press(pane, "Step forward")

    assert pane.position == pane.past.last


def test_next_failure_is_found(pane):
    """Each press goes to the next fact at which something failed, behind the last one to the first."""
    found = []
    for _ in range(3):
        press(pane, "Next failure")
        found.append(said(pane).partition(" · ")[0])

    assert found == [
        "attempt 1 of draft failed and will be repeated: TransientError: busy",
        "task of publish failed: ValueError: no paper for TEA",
        found[0],
    ]


def test_run_without_failures_has_none_to_go_to(engine):
    """Where nothing failed the button cannot be pressed."""
    pane = ReplayPane(Replay(plain(engine)))

    assert button(pane, "Next failure").disabled
    pane.close()


def plain(engine):
    flow = Flow("plain")

    @flow.stage
    def only():
        return 1

    run = engine.start(flow)
    run.wait(20)
    return run


def test_stage_is_that_of_the_fact_or_the_chosen_one(pane):
    """Inputs and outputs are those of the stage that the fact is about, or of the one that was chosen, of then."""
    pane.slider.value = next(
        entry.sequence for entry in pane.past.entries if entry.type == "task.completed" and entry.stage_id
    )
    about = texts(pane)
    pane.stage.value = next(id_ for ref, id_ in pane.stage.options if ref == "publish")
    before = texts(pane)
    pane.slider.value = pane.past.last

    assert '<section aria-label="stage draft">' in about
    assert re.search(r"<td[^>]*>text</td><td[^>]*><code[^>]*>tea</code>", about)
    assert re.search(r"<td[^>]*>draft</td><td[^>]*><code[^>]*>TEA</code>", about)
    assert "no outputs yet" in before
    assert '<section aria-label="stage publish">' in before
    assert "ValueError: no paper for TEA" in texts(pane)


def test_fact_about_the_run_shows_the_stage_that_moved_last(pane):
    """At the end that is the one that failed; before anything moved there is none."""
    end = texts(pane)
    pane.slider.value = 1

    assert '<section aria-label="stage publish">' in end
    assert "no stage has moved yet" in texts(pane)


def test_stage_that_was_not_there_yet_says_so(engine):
    """An instance that is made later is no stage before."""
    flow = Flow("many")

    @flow.stage
    def plan():
        return {"topics": ["a", "b"]}

    @flow.stage(each="topics", after="plan")
    def research(topic):
        return {"finding": topic}

    run = engine.start(flow)
    run.wait(20)
    pane = ReplayPane(Replay(run, 2))
    pane.stage.value = dict(pane.stage.options)["research_instance_0"]

    assert "this stage was not there yet" in texts(pane)
    pane.close()


# -- playing ------------------------------------------------------------------------------------------


def test_playing_stops_at_the_end(pane, quick):
    """From the end it begins at the first fact; every fact of a short run is shown, then the button says Play again."""
    shown, ended = [], threading.Event()
    pane.slider.observe(lambda change: shown.append(change["new"]), "value")
    button(pane, "Play").observe(lambda change: ended.set() if "Play" in change["new"] else None, "description")
    press(pane, "Play")

    assert ended.wait(20)
    assert shown == list(range(1, pane.past.last + 1))
    assert pane.past.last < TICKS
    assert 'aria-live="polite"' in texts(pane)


def test_playing_is_silent_and_can_be_paused(pane, monkeypatch):
    """While it plays no reader is told of each position; the same button pauses, and so does any other move."""
    monkeypatch.setattr(player, "TICK", 0.01)
    moved = threading.Event()
    pane.slider.value = 1
    pane.slider.observe(lambda change: moved.set() if change["new"] == 4 else None, "value")
    press(pane, "Play")
    assert moved.wait(20)
    playing = texts(pane)
    press(pane, "Pause")
    position = pane.position
    press(pane, "Play")
    press(pane, "Step back")

    assert 'aria-live="off"' in playing
    assert 4 <= position <= pane.past.last
    assert button(pane, "Play").description == "▶ Play"
    assert not pane._playing.is_on


# -- runs that go on ----------------------------------------------------------------------------------


def test_refresh_reads_on(engine):
    """New facts are announced on the button; pressed, the slider has them, and stays at the end if it was there."""
    run = waiting(engine)
    pane = ReplayPane(Replay(run))
    last = pane.past.last
    run.approve(user="ann")
    run.wait(20)
    pane.paint(pane.count())
    announced = button(pane, "Refresh").description
    press(pane, "Refresh")

    assert announced == f"Refresh ({len(run.events) - last} new)"
    assert button(pane, "Refresh").description == "Refresh"
    assert (pane.slider.max, pane.position) == (len(run.events), len(run.events))
    assert said(pane).startswith("the run failed")
    assert not button(pane, "Next failure").disabled
    pane.close()


def test_refresh_keeps_position_and_stage(engine):
    """Who looks at an earlier fact goes on looking at it."""
    run = waiting(engine)
    pane = ReplayPane(Replay(run, 5))
    pane.stage.value = dict(pane.stage.options)["sign_off"]
    run.cancel()
    run.wait(20)
    press(pane, "Refresh")

    assert pane.position == 5
    assert pane.stage.value == dict(pane.stage.options)["sign_off"]
    assert pane.slider.max == len(run.events)
    pane.close()


# -- what it costs ------------------------------------------------------------------------------------


def chain_of(engine, length: int):
    """Run a chain of stages and return its handle."""
    stages = [
        StageExecution(
            ref_id=f"s{at}", requisite_stage_ref_ids={f"s{at - 1}"} if at else set(),
            tasks=[TaskExecution.create("noop", "noop")],
        )
        for at in range(length)
    ]  # fmt: skip
    run = engine.start(Workflow.create("tests", "chain", stages))
    run.wait(60)
    return run


def test_position_of_a_long_run_costs_little(engine, monkeypatch):
    """A position folds less than `every` facts and draws one picture at most, of few stages; the way back none."""
    run = chain_of(engine, 120)
    drawn = []
    monkeypatch.setattr(drawings, "to_svg", lambda source: drawn.append(source) or '<svg width="9" height="9"></svg>')
    pane = ReplayPane(Replay(run))
    positions = range(pane.past.last, 1, -37)
    costs = []
    for position in positions:
        folded, before = pane.past.folded, len(drawn)
        pane.slider.value = position
        costs.append((pane.past.folded - folded, len(drawn) - before))
    first = len(drawn)
    for position in reversed(positions):
        pane.slider.value = position

    print(f"{pane.past.last} facts: {max(costs)} (folded, drawn) at most for a position")
    assert max(folded for folded, _ in costs) < pane.past.every
    assert max(pictures for _, pictures in costs) <= 1
    assert len(drawn) == first
    assert max(source.count("class=") for source in drawn) <= 3 * DRAWN
    pane.close()


def test_big_graph_is_drawn_around_the_stage(engine):
    """Of more stages than a picture can hold, those nearest to the stage of the fact are drawn; the rest is counted."""
    run = chain_of(engine, 120)
    past = Past(engine.database, run.id)
    number = next(entry.sequence for entry in past.entries if past.names.refs.get(entry.stage_id) == "s60")
    scene = Scene(RunState.of(past, number))

    assert [stage.ref_id for stage in scene.workflow.stages] == [f"s{at}" for at in range(60 - NEAR, 61 + NEAR)]
    [remark] = scene.remarks()
    assert remark.startswith(f"{2 * NEAR + 1} of 120 stages are shown, those near the last that moved; all: ")
    assert "not started" in remark
    assert "of 120 stages" in scene.facts


def test_instances_share_a_place_in_the_picture(engine):
    """However many instances an activity has, they are one box, so all of them are drawn."""
    flow = Flow("many")

    @flow.stage
    def plan():
        return {"topics": list(range(2 * DRAWN))}

    @flow.stage(each="topics", after="plan")
    def research(topic):
        return {"finding": topic}

    run = engine.start(flow)
    run.wait(60)
    state = run.at(len(run.events))

    assert len(state.rows) > 2 * DRAWN
    assert around(state.rows, None) is None


def test_pane_is_few_widgets(engine):
    """The number of widgets is that of a small form, whatever the size of the graph."""
    run = chain_of(engine, 60)
    pane = ReplayPane(Replay(run))

    assert len(list(parts(pane.box))) <= 25
    pane.close()


# -- safety and words ---------------------------------------------------------------------------------


def test_what_comes_from_a_model_is_shown_as_text(engine):
    """Names, inputs, outputs and errors are escaped, and marks that turn the direction of writing are left out."""
    flow = Flow("hostile")

    @flow.stage
    def say(text):
        return {HOSTILE: text}

    @flow.stage(after=say)
    def fail(text):
        raise ValueError(HOSTILE)

    run = engine.start(flow, text=HOSTILE)
    run.wait(20)
    pane = ReplayPane(Replay(run))
    for position in range(1, pane.past.last + 1):
        pane.slider.value = position
        assert "<script" not in texts(pane)
        assert "\u202e" not in texts(pane)
    pane.close()
    page(Replay(run)._repr_mimebundle_())


def test_pane_speaks_to_readers_and_has_no_letter_shortcuts(pane):
    """The line is a status, the picture an image with words, a stage a region; every control has words."""
    shown = texts(pane)
    controls = [each for each in parts(pane.box) if isinstance(each, w.Button | w.IntSlider | w.Dropdown)]

    assert 'role="status" aria-live="polite"' in shown
    assert re.search(r'<svg[^>]* role="img" aria-label="publishing failed', shown)
    assert all(re.search(r"[A-Za-z]{4}", each.description) for each in controls)
    assert "accesskey" not in shown


def test_closed_pane_leaves_nothing(pane):
    """Close takes away every widget, and a late paint or beat is no error."""
    inside = list(parts(pane.box))
    press(pane, "Close")
    pane.paint(99)
    pane.beat()

    assert pane.life.is_over
    assert all(each.comm is None for each in inside)


# -- without widgets ----------------------------------------------------------------------------------


def test_static_replay_is_picture_and_steps(engine):
    """Without a kernel there is the run at the position and what happened until its end, in harmless markup."""
    run = published(engine)
    bundle = Replay(run)._repr_mimebundle_()
    shown = page(bundle)

    assert set(bundle) == {"text/html", "text/plain", "image/svg+xml"}
    assert "publishing failed, 3 stages" in shown.image["alt"]
    assert base64.b64decode(shown.image["src"].partition(",")[2]).decode() == bundle["image/svg+xml"]
    for step in ("draft started", "attempt 1 of draft failed and will be repeated", "sign_off was approved", "ann"):
        assert step in shown.text
        assert step in bundle["text/plain"]


def test_static_replay_of_a_moment(engine):
    """With a moment the picture is that of the moment."""
    bundle = Replay(published(engine), 4)._repr_mimebundle_()

    assert "publishing running, 3 stages: draft running, sign_off not started" in page(bundle).image["alt"]
    assert "fact 4 of" in bundle["text/plain"]


def test_static_replay_of_a_long_run_leaves_out_the_middle(engine):
    """Of many steps the first and the last are listed, the others counted."""
    steps = Replay(chain_of(engine, 60)).steps()

    assert len(steps.rows) == 2 * LISTED + 1
    assert steps.rows[LISTED][2] == f"{2 + 120 + 1 - 2 * LISTED} more steps"


def test_stage_that_fails_with_its_task_counts_once(engine):
    """Failures are facts at which something went wrong, a task and its stage being one."""
    past = Past(engine.database, published(engine).id)

    assert [past.entry(number).type for number in failures_in(past.entries)] == ["task.retried", "task.failed"]


def test_every_fact_has_its_words(engine):
    """No fact of this version is told by its type alone; one of another version is."""
    past = Past(engine.database, plain(engine).id)
    strange = Entry(8, "moon.rose", 0, past.entries[2].stage_id, {"fact": "MoonRose"})

    assert set(FACTS) <= set(telling._SENTENCES)
    assert telling.sentence_of(strange, past.names) == "only: moon rose"


# -- in a notebook ------------------------------------------------------------------------------------

CELL = """
%%workflow greeting -q
@stage
def greet(name):
    return f"hello {name}"
"""


def test_magic_replays_a_run(notebook):
    """%workflow replay gives the Replay, at the end or at the moment after --at, and shows it without widgets here."""
    notebook.run("%workflow store :memory:")
    notebook.run(CELL)
    notebook.run("run = greeting.run(name='you')\nrun.wait(20)")
    end = notebook.run("%workflow replay last")
    early = notebook.run("%workflow replay run --at 3")

    assert end.value.position == notebook.names["run"].replay().position == len(notebook.names["run"].events)
    assert early.value.position == 3
    assert "greet started" in early.shown[-1]["text/plain"]


def test_magic_refuses_what_is_no_moment(notebook):
    """A moment that the run does not have is said in a sentence."""
    notebook.run("%workflow store :memory:")
    notebook.run(CELL)
    notebook.run("run = greeting.run(name='you')\nrun.wait(20)")

    assert "has no fact 99; its facts have the numbers 1 to" in str(notebook.run("%workflow replay run --at 99").error)
    assert "'soon' is no moment" in str(notebook.run("%workflow replay run --at soon").error)


def test_live_replay_is_a_picture_and_widgets_that_hide_it(notebook):
    """Two outputs: the picture that stays, and widgets whose text is a hint; shown again, the earlier is closed."""
    notebook.run("%workflow store :memory:")
    notebook.run("%config StabilizeNB.display = 'live'")
    notebook.run(CELL)
    notebook.run("run = greeting.run(name='you'); run.wait(20); None")
    shown = notebook.run("display(run.replay())").shown
    token = re.search(r'class="sn-static sn-(replay-\w+)"', shown[0]["text/html"])[1]
    box = showing._panes["replay", notebook.names["run"].id].box
    hiding, model = box.children[0].value, box.model_id
    notebook.run("display(run.replay())")

    assert afterlife.hiding(token) in hiding
    assert shown[1]["application/vnd.jupyter.widget-view+json"]["model_id"] == model
    assert shown[1]["text/plain"] == ""
    assert "The slider through run" in shown[1]["text/html"]
    assert box.comm is None
