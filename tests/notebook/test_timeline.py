"""The timeline: what is drawn of each run of a stage, and that any frame of events can be drawn."""

import re
from xml.etree import ElementTree as ET

import pytest

from stabilize_nb import Engine, Flow, TransientError, jump
from stabilize_nb.events.firings import Doing, Firing, RunPast, Span, pasts_of
from stabilize_nb.models.status import WorkflowStatus as S
from stabilize_nb.notebook.config import settings
from stabilize_nb.notebook.looks import LOOKS
from stabilize_nb.notebook.timeline import DRAWN, Timeline, ticks

#: What survives where notebooks are shown.
HARMLESS = {"svg", "g", "path", "rect", "circle", "text", "title"}
HOSTILE = "<script>alert(1)</script>\"'&amp;\x00\u202e\x1b[31m]]>" + "long " * 40


def elements(svg):
    return [(each.tag.rpartition("}")[2], each) for each in ET.fromstring(svg).iter()]


def words_of(svg):
    return [each.text for tag, each in elements(svg) if tag == "text"]


def past(*stages, whole=10_000):
    """Return a run with stages that ran at once, one after the other."""
    firings = []
    for at, name in enumerate(stages):
        firing = Firing(name, name, name, at * 10, None, status="SUCCEEDED", ended=at * 10 + 10)
        firing.spans = [Span(Doing.RUNNING, at * 10, at * 10 + 10)]
        firings.append(firing)
    return RunPast("run", "flow", 0, whole, "SUCCEEDED", firings)


@pytest.fixture(scope="module")
def events():
    """The events of a run with a try that failed, a loop, a decision and a failure."""
    flow, tries = Flow("study"), []

    @flow.stage
    def plan(rounds=0):
        return {"rounds": rounds}

    @flow.stage(after=plan, retry=1)
    def measure():
        tries.append(1)
        if len(tries) == 1:
            raise TransientError("busy")

    @flow.stage(after=measure)
    def review(rounds):
        if rounds < 1:
            jump("plan", rounds=1)

    flow.approval("Publish?", name="sign", after=review)

    @flow.stage(after="sign")
    def publish():
        raise ValueError("no printer")

    with Engine(":memory:") as engine:
        run = engine.start(flow)
        run.until_gate(20)
        run.approve("sign")
        run.wait(20)
        yield run.events


def test_each_try_and_each_round_is_a_bar(events):
    """Tries and rounds stand apart, and failures, jumps and waits for somebody look different."""
    titles = [each.text for tag, each in elements(events.workflow.timeline().svg) if tag == "title"]
    told = {title.partition(":")[0]: title for title in titles}

    assert [*told] == [
        "plan, run 1", "plan, run 2", "measure, run 1", "measure, run 2", "review, run 1", "review, run 2", "sign",
        "publish",
    ]  # fmt: skip
    assert told["measure, run 1"].count("running") == 2
    assert told["measure, run 1"].count("(failed)") == 1
    assert told["review, run 1"].endswith("jumping")
    assert "waiting" in told["sign"]
    assert told["publish"].endswith("failed")


def test_picture_is_harmless_and_says_what_it_shows(events):
    """Only shapes and text that survive in any notebook, with a description and the meaning of each bar and mark."""
    timeline = events.workflow.timeline()
    svg = timeline.svg

    assert {tag for tag, _ in elements(svg)} <= HARMLESS
    assert not re.search(r"style=|class=|url\(|href", svg)
    assert ET.fromstring(svg).get("aria-label") == timeline.description
    assert timeline.description.startswith("timeline of study ")
    assert timeline.description.endswith("failed: publish")
    said = words_of(svg)
    assert said[:5] == ["queued", "running", "waiting for somebody", "a try that failed", "jumped"]
    assert any(each.startswith("study · ") and "✕ failed" in each for each in said)
    assert [each for each in said if each in {"plan", "measure", "review", "sign", "publish"}] == [
        "plan", "measure", "review", "sign", "publish",
    ]  # fmt: skip


def test_nothing_is_drawn_outside_the_picture(events):
    """Every bar and every name lies within the picture."""
    root = ET.fromstring(events.workflow.timeline().svg)
    width, height = float(root.get("width")), float(root.get("height"))
    for _, each in elements(ET.tostring(root, "unicode")):
        x, y = float(each.get("x", 0)), float(each.get("y", 0))
        assert 0 <= x <= x + float(each.get("width", 0)) <= width
        assert 0 <= y <= y + float(each.get("height", 0)) <= height


def test_hostile_names_are_text():
    """Names of workflows, runs and stages are cut and stay text, in picture, alternative and text."""
    run = past(HOSTILE)
    run.run_id = run.workflow = HOSTILE
    timeline = Timeline([run])

    assert {tag for tag, _ in elements(timeline.svg)} <= HARMLESS
    assert "<script" not in timeline._repr_html_()
    assert all(len(each) < 200 for each in words_of(timeline.svg))
    assert "\x1b" not in repr(timeline)
    assert "\u202e" not in repr(timeline)


def test_many_stages_keep_their_lanes():
    """300 stages have a lane each; of more those that took longest are shown, and a line says so."""
    assert sum(each.startswith("s") for each in words_of(Timeline([past(*(f"s{at}" for at in range(300)))]).svg)) == 300

    run = past(*(f"s{at}" for at in range(DRAWN + 20)))
    run.firings[310].spans[0].end += 1
    said = words_of(Timeline([run]).svg)
    assert "s310" in said
    assert sum(bool(re.fullmatch(r"s\d+", each)) for each in said) == DRAWN
    assert "20 more stages are not shown" in said


def test_runs_stand_below_each_other_on_one_axis(events):
    """Several runs have a heading each, and their time runs from their own start."""
    later = past("a", whole=5_000)
    later.begin, later.end = 1_000_000, 1_005_000
    said = words_of(Timeline([past("a"), later]).svg)

    assert [each for each in said if "·" in each] == [
        "flow · run · ✓ succeeded · 10 s",
        "flow · run · ✓ succeeded · 5 s",
    ]
    assert said.count("10 s") == 2


def test_text_shows_the_same(events):
    """As text a lane is a line, with letters for the bars."""
    lines = repr(events.workflow.timeline()).splitlines()

    assert lines[0].startswith("study · ")
    assert [line.split()[:2] for line in lines[1:-1]] == [
        ["✓", "plan"], ["✓", "measure"], ["✓", "review"], ["✓", "sign"], ["✕", "publish"],
    ]  # fmt: skip
    assert "✕" in lines[2].partition("measure")[2]
    assert lines[-1] == "· queued  █ running  ‖ waiting for somebody  ✕ a try that failed"


def test_text_display_has_no_picture(events, monkeypatch):
    """Where only text is wanted there is no picture."""
    timeline = events.workflow.timeline()
    assert timeline._repr_svg_() == timeline.svg

    monkeypatch.setattr(settings(), "display", "text")
    assert timeline._repr_svg_() is None
    assert timeline._repr_html_() is None


def test_saved_picture_is_the_picture(events, tmp_path):
    """`save` writes the SVG."""
    timeline = events.workflow.timeline()
    timeline.save(str(tmp_path / "timeline.svg"))

    assert (tmp_path / "timeline.svg").read_text(encoding="utf-8") == timeline.svg


def test_frame_without_stages_is_drawn():
    """Nothing that ran is a picture that says so."""
    assert "no stage has begun" in words_of(Timeline([]).svg)
    assert repr(Timeline([past()])) == "no stage has begun"


def test_stage_that_still_runs_is_drawn_as_far_as_it_is_known(events):
    """A log that ends in the middle of a stage shows it as running until then."""
    begun = events[events["seq"] <= 5]
    (firing,) = pasts_of(begun)[0].firings
    assert firing.ended is None

    assert {each.get("stroke") for tag, each in elements(begun.workflow.timeline().svg) if tag == "rect"} >= {
        LOOKS[S.RUNNING].stroke
    }


@pytest.mark.parametrize(
    ("whole", "names"),
    [
        (1, [0, 1]),
        (950, [0, 200, 400, 600, 800]),
        (4_500, [0, 1_000, 2_000, 3_000, 4_000]),
        (100_000, [0, 15_000, 30_000, 45_000, 60_000, 75_000, 90_000]),
        (3_600_000, [0, 600_000, 1_200_000, 1_800_000, 2_400_000, 3_000_000, 3_600_000]),
        (200_000_000, [0, 43_200_000, 86_400_000, 129_600_000, 172_800_000]),
    ],
)
def test_ticks_are_round(whole, names):
    """An axis has multiples of a round step, from milliseconds to days."""
    assert ticks(whole, 7) == names


@pytest.mark.parametrize("exponent", range(14))
def test_ticks_fit(exponent):
    """There are never more ticks than there is room, and no run is too long to have some."""
    for first in (1, 3, 9):
        assert 1 <= len(ticks(first * 10**exponent, 7)) <= 8
