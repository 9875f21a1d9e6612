"""The drawn graph of a workflow: what is seen, in every notation, and that no text can spoil it."""

import base64
import itertools
import shutil
import string
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stabilize_nb.errors import ConfigError
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution
from stabilize_nb.models.status import WorkflowStatus as S
from stabilize_nb.models.task import TaskExecution
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook import draw
from stabilize_nb.notebook.cards import text_width
from stabilize_nb.notebook.dot import to_dot
from stabilize_nb.notebook.draw import DrawingError, data_uri, svg_of, to_svg
from stabilize_nb.notebook.looks import LOOKS, shorten
from stabilize_nb.notebook.mermaid import to_mermaid
from stabilize_nb.notebook.shown import Line
from stabilize_nb.notebook.sketch import describe, sketch
from stabilize_nb.notebook.text import to_text
from tests.notebook.drawn import NAMESPACE, elements, flow, jump, size, stage, titles, words

HOSTILE = [
    "<b>bold</b>",
    "<",
    "<script>alert(1)</script>",
    'a"];evil[label="x',
    '"; subgraph cluster_x { y } "',
    "back\\slash\\N\\l\\",
    "a:port:n",
    "&amp;&lt;&#8238;&bogus;",
    "\u202eesrever\u2066\u200f",
    "\x00\x1b[31m\x07\x9b\ufffe\ud800",
    "two\nlines\r\n\u2028three",
    "x" * 10_000,
    "z\u0300\u0301" * 5_000,
    "漢字" * 60,
    "--> | }} ]] `js` #quot; %%",
    " ",
]


def research() -> Workflow:
    """A diamond with a quorum, a loop taken twice and a gate that waits."""
    history = {"_jump_history": [jump("review", "draft", 1), jump("review", "draft", 2)]}
    return flow(
        stage("plan", status=S.SUCCEEDED),
        stage("web", "plan", status=S.SUCCEEDED),
        stage("papers", "plan", status=S.SUCCEEDED),
        stage("people", "plan", status=S.RUNNING),
        stage(
            "draft",
            *("web", "papers", "people"),
            join_type=JoinType.N_OF_M,
            join_threshold=2,
            status=S.SUCCEEDED,
            context=history,
            generation=2,
        ),
        stage("review", "draft", status=S.SUCCEEDED, context=history, generation=2),
        stage("approve", "review", type="approval", status=S.SUSPENDED),
        stage("publish", "approve"),
        status=S.RUNNING,
    )


def triage() -> Workflow:
    """An OR-split of three branches of which two were not taken."""
    conditions = {"refund": "amount > 100", "escalate": "severity >= 3"}
    return flow(
        stage("classify", split_type=SplitType.OR, split_conditions=conditions, split_default="answer"),
        stage("refund", "classify"),
        stage("escalate", "classify", status=S.SKIPPED),
        stage("answer", "classify", status=S.SKIPPED),
        stage("close", "refund", "escalate", "answer", join_type=JoinType.OR),
    )


def hostile() -> Workflow:
    refs = [f"{text}{number}" for number, text in enumerate(HOSTILE)]
    return Workflow(
        name=HOSTILE[2],
        stages=[
            stage("root", split_type=SplitType.OR, split_conditions=dict(zip(refs, HOSTILE, strict=True))),
            *(
                stage(ref, "root", name=text, error=text, status=S.TERMINAL, cancel_region=text)
                for ref, text in zip(refs, HOSTILE, strict=True)
            ),
        ],
    )


def fan(width: int) -> Workflow:
    branches = [stage(f"case_{number:02d}", "split") for number in range(width)]
    return flow(stage("split"), *branches, stage("report", *(branch.ref_id for branch in branches)))


def chain(length: int) -> Workflow:
    refs = [f"s{number}" for number in range(length)]
    return flow(stage(refs[0]), *(stage(after, before) for before, after in itertools.pairwise(refs)))


# What is seen


def test_svg_names_every_stage():
    """Each stage is one titled node, in the order in which the stages follow each other."""

    assert titles(svg_of(research())) == [
        "plan: succeeded",
        "web: succeeded",
        "papers: succeeded",
        "people: running",
        "draft: succeeded, joins 2 of 3, round 3",
        "review: succeeded, round 3",
        "approve: waiting, waits for approval",
        "publish: not started",
    ]


def test_svg_says_what_a_waiting_stage_waits_for():
    """The words of quorum, round, gate and jump stand in the picture."""
    seen = words(svg_of(research()))

    assert {"joins 2 of 3", "round 3", "waits for approval", "jumped 2×"} <= set(seen)


@pytest.mark.parametrize("status", S, ids=lambda status: status.name)
def test_status_is_told_by_colour_mark_and_word(status: S):
    """Every status has its fill, its border, its drawn mark and its word."""
    svg = svg_of(flow(stage("only", status=status)))
    node = ET.fromstring(svg)[0][0]
    outline, *marks = [part for part in node if part.tag in {f"{NAMESPACE}path", f"{NAMESPACE}circle"}]
    marks = marks[:2]

    assert (outline.get("fill"), outline.get("stroke")) == (LOOKS[status].fill, LOOKS[status].stroke)
    assert marks[0].get("stroke" if status is S.NOT_STARTED else "fill") == LOOKS[status].stroke
    assert len(marks) == (1 if status is S.NOT_STARTED else 2)
    assert words(svg)[:2] == ["only", LOOKS[status].word]


def test_looks_differ():
    """No two statuses share a symbol or a word."""

    assert len({look.symbol for look in LOOKS.values()}) == len(S)
    assert len({look.word for look in LOOKS.values()}) == len(S)


@pytest.mark.parametrize(
    ("join", "said"),
    [
        (JoinType.AND, ""),
        (JoinType.OR, "all taken of 3"),
        (JoinType.MULTI_MERGE, "each of 3"),
        (JoinType.DISCRIMINATOR, "the first of 3"),
        (JoinType.N_OF_M, "2 of 3"),
    ],
)
def test_joins_are_named(join: JoinType, said: str):
    """A join that is not the usual one says what it waits for."""
    seen = sketch(flow(stage("a"), stage("b"), stage("c"), stage("d", "a", "b", "c", join_type=join, join_threshold=2)))

    assert (seen.boxes[-1].join.words if seen.boxes[-1].join else "") == said


def test_quorum_without_threshold_is_all():
    """A quorum whose threshold is 0 waits for all, and the drawing says so."""
    seen = sketch(flow(stage("a"), stage("b"), stage("c", "a", "b", join_type=JoinType.N_OF_M)))

    assert seen.boxes[-1].join.words == "2 of 2"


def test_conditions_stand_on_the_arrows():
    """A split shows the condition of each branch, and the way that is taken when none holds."""
    labels = {arrow.head: arrow.label for arrow in sketch(triage()).arrows if arrow.tail == "classify"}

    assert labels == {"refund": "if amount > 100", "escalate": "if severity >= 3", "answer": "otherwise"}
    assert {"if amount > 100", "if severity >= 3", "otherwise"} <= set(words(svg_of(triage())))


def test_branches_not_taken_are_dotted():
    """Arrows from and to a skipped stage are drawn as unused."""
    unused = {(arrow.tail, arrow.head) for arrow in sketch(triage()).arrows if arrow.line is Line.UNUSED}

    assert unused == {
        ("classify", "escalate"),
        ("classify", "answer"),
        ("escalate", "close"),
        ("answer", "close"),
    }


def test_jump_is_counted_once_though_both_ends_remember_it():
    """Jumps are told apart by their number; the arrow has the count."""
    jumps = [arrow for arrow in sketch(research()).arrows if arrow.line is Line.JUMP]

    assert [(arrow.tail, arrow.head, arrow.label) for arrow in jumps] == [("review", "draft", "jumped 2×")]


def test_further_runs_share_the_box_of_their_stage():
    """A stage that ran twice is one box that shows the run which most wants attention."""
    seen = sketch(
        flow(
            stage("a"),
            stage("b"),
            stage("each", "a", "b", join_type=JoinType.MULTI_MERGE, status=S.SUCCEEDED),
            stage("each#2", "a", "b", status=S.RUNNING, activation=2),
            stage("next", "each"),
        )
    )

    assert [box.ref for box in seen.boxes] == ["a", "b", "each", "next"]
    assert seen.boxes[2].status is S.RUNNING
    assert "2 runs: 1 running, 1 succeeded" in seen.boxes[2].words


@pytest.mark.parametrize(
    "gate",
    [stage("g", type="approval"), stage("g", tasks=[TaskExecution.create("ask", "approval")])],
    ids=["type", "task"],
)
def test_gate_has_a_shape_of_its_own(gate: StageExecution):
    """Where a person decides, corners are cut, a person is drawn and the word stands there."""
    node = ET.fromstring(svg_of(flow(gate)))[0][0]
    outlines = [part for part in node if part.tag == f"{NAMESPACE}polygon"]

    assert len(outlines[0].get("points", "").split()) == 8
    assert "approval" in [part.text for part in node]


def test_sub_workflow_has_a_double_border():
    """A stage that runs a workflow of its own has two outlines and says so."""
    node = ET.fromstring(svg_of(flow(stage("sub", context={"_sub_workflow_config": {}}))))[0][0]
    outlines = [part for part in node if part.get("stroke") == LOOKS[S.NOT_STARTED].stroke and part.get("d")]

    assert len(outlines) == 2
    assert "sub-workflow" in [part.text for part in node]


def test_cancel_region_is_framed():
    """Stages that are cancelled together stand in a named frame."""
    svg = svg_of(flow(stage("a", cancel_region="legal"), stage("b", "a", cancel_region="legal")))

    assert "cancelled together: legal" in words(svg)


def test_notes_are_added_by_ref_id():
    """The caller may add a line to a stage."""

    assert "62 %" in words(svg_of(research(), notes={"people": "62 %"}))
    assert "62 %" in to_text(research(), notes={"people": "62 %"})


def test_error_of_a_failed_stage_is_seen():
    """The first line of the error stands in the box that failed."""

    assert "no such file" in words(svg_of(flow(stage("load", status=S.TERMINAL, error="no such file\n  at line 3"))))


# That it fits and stays the same


def test_same_workflow_gives_same_bytes():
    """The drawing depends on nothing but the workflow."""

    assert svg_of(research()) == svg_of(research())
    assert to_dot(hostile()) == to_dot(hostile())


def test_chain_runs_down_and_fan_runs_to_the_right():
    """The automatic direction is the one that fits on a page."""
    (chain_width, chain_height), (fan_width, fan_height) = size(svg_of(chain(12))), size(svg_of(fan(30)))

    assert chain_width < chain_height < 1000
    assert fan_width < 800
    assert fan_height < 1200


def test_boxes_are_as_wide_as_their_text():
    """In every box the widest line ends before the border, whatever font of the list is used."""
    for node in ET.fromstring(svg_of(research()))[0].iter(f"{NAMESPACE}g"):
        outline, texts = node.find(f"{NAMESPACE}path"), node.findall(f"{NAMESPACE}text")
        if outline is None or outline.get("fill") == "none" or not texts:
            continue
        right = max(float(pair.partition(",")[0]) for pair in outline.get("d", "").replace("C", " ")[1:].split())
        for text in texts:
            width = text_width(text.text or "", float(text.get("font-size", "")), bold=bool(text.get("font-weight")))
            start = float(text.get("x", "")) - (width / 2 if text.get("text-anchor") == "middle" else 0)
            assert start + width < right


def test_width_of_text_is_never_underestimated():
    """Measured widths are at least those of DejaVu Sans Bold, for its widest and its usual letters."""

    assert text_width("W", 10, bold=True) >= 11.0
    assert text_width(string.ascii_lowercase, 10, bold=True) >= 168
    assert text_width(string.digits, 10, bold=True) >= 69.6


def test_description_says_the_picture_in_words():
    """The root of the picture is an image with a description; so is the text for <img alt>."""
    root = ET.fromstring(svg_of(research()))

    assert root.get("role") == "img"
    assert root.get("aria-label") == describe(research())
    assert describe(research()).startswith("analysis running, 8 stages: plan succeeded, web succeeded, ")


def test_long_description_counts():
    """Of many stages the description gives the numbers, not the names."""

    assert describe(fan(30)) == "analysis not started, 32 stages: 32 not started"


def test_empty_workflow_is_drawn():
    """A workflow without stages is a picture without nodes."""

    assert titles(svg_of(flow())) == []
    assert to_text(flow()) == "○ analysis: not started"


def test_unchecked_definition_is_drawn():
    """Cycles, unknown and repeated stages are drawn as far as they make sense."""
    odd = flow(stage("a", "b"), stage("b", "a"), stage("c", "nowhere"), stage(""))

    assert len(titles(svg_of(odd))) == 4
    assert len(to_text(odd).splitlines()) == 6


# Hostile text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_shortened_text_is_one_harmless_line(text: str):
    """Whatever comes in, one short line without control characters goes out."""
    short = shorten(text, 40)

    assert len(short) <= 40
    assert not set(short) & set("\x00\x07\x1b\x9b\n\r\u2028\u202e\u2066\u200f\ufffe\ud800")


def test_hostile_labels_make_no_nodes():
    """There are as many nodes as stages, and each label is shown as it was written."""
    svg = svg_of(hostile())

    assert len(titles(svg)) == len(HOSTILE) + 1
    assert "<b>bold</b>0" in words(svg)
    assert 'a"];evil[label="x3' in words(svg)
    assert "back\\slash\\N\\l\\5" in words(svg)
    assert "&amp;&lt;&#8238;&bogus;7" in words(svg)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30) | st.text(alphabet='<>&;\\\\"nlNG{}|#x', max_size=20), min_size=1, max_size=4))
def test_any_text_is_drawn_as_it_is_shortened(texts: list[str]):
    """Labels are shown letter by letter, and make one node each."""
    svg = to_svg(to_dot(flow(*(stage(f"{number} {text}") for number, text in enumerate(texts)))))

    assert len(titles(svg)) == len(texts)
    assert {shorten(f"{number} {text}", 28) for number, text in enumerate(texts)} <= set(words(svg))


def test_svg_has_only_harmless_elements_and_attributes():
    """No style, script, link, id or reference is left: only shapes, text and presentation attributes."""
    seen = list(elements(svg_of(hostile())))
    tags = {element.tag.removeprefix(NAMESPACE) for element in seen}
    attributes = {name for element in seen for name in element.attrib}

    assert tags <= {"svg", "g", "title", "path", "polygon", "polyline", "circle", "text"}
    assert attributes <= {
        *("width", "height", "viewBox", "role", "aria-label", "transform", "font-family", "font-size"),
        *("font-weight", "text-anchor", "x", "y", "cx", "cy", "r", "d", "points", "fill", "stroke"),
        *("stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin"),
    }


def test_svg_has_no_background_and_no_comments():
    """The page shines through; nothing tells of the engine."""
    svg = svg_of(research())
    shapes = ET.fromstring(svg)[0]

    assert "<!" not in svg
    assert "graphviz" not in svg
    assert all(child.tag == f"{NAMESPACE}g" for child in shapes)


def test_foreign_dot_is_cleaned_too():
    """DOT of any origin is laid out, and its links, images and scripts are left out."""
    svg = to_svg('digraph { a [URL="javascript:alert(1)" tooltip="x" image="/etc/passwd"]; a -> b [label=go] }')

    assert words(svg) == ["go", "a", "b"]
    assert "javascript" not in svg
    assert "href" not in svg


# Engines


def test_engine_is_found_without_the_path(monkeypatch: pytest.MonkeyPatch):
    """The engine that came with the package works in a kernel whose PATH knows nothing of it."""
    monkeypatch.setenv("PATH", "")

    assert to_svg("digraph { a }", engine="pure")


def test_engine_is_found_by_its_distribution(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """When it is not beside the interpreter, the engine is where its distribution says."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    assert to_svg("digraph { a }", engine="pure")


def test_installed_graphviz_is_used_when_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """engine="dot" runs the dot of the PATH."""
    pure = shutil.which("graphviz-pure", path=str(Path(sys.executable).parent))
    (tmp_path / "dot").symlink_to(str(pure))
    monkeypatch.setenv("PATH", str(tmp_path))

    assert svg_of(research(), engine="dot") == svg_of(research(), engine="pure")


def test_without_an_engine_text_is_drawn(monkeypatch: pytest.MonkeyPatch):
    """A machine that cannot lay out still gets a picture: of text."""
    monkeypatch.setenv("PATH", "")
    svg = svg_of(research(), engine="dot")

    assert any("joins" in line or "2\N{NO-BREAK SPACE}of\N{NO-BREAK SPACE}3" in line for line in words(svg))
    assert ET.fromstring(svg).get("aria-label") == describe(research())


def test_engine_that_fails_is_quoted():
    """The error names the engine and what it said."""

    with pytest.raises(DrawingError, match=r"graphviz-pure: .*syntax error"):
        to_svg("digraph { a -> ", engine="pure")


def test_unknown_engine_and_direction_are_refused():
    """The error lists what is accepted."""

    with pytest.raises(ConfigError, match="auto, pure, dot"):
        to_svg("digraph {}", engine="neato")
    with pytest.raises(ConfigError, match="LR, TB, auto"):
        to_dot(research(), direction="up")


def test_data_uri_holds_the_svg():
    """The URI is the SVG in base64."""
    svg = svg_of(research())
    kind, _, packed = data_uri(svg).partition(",")

    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(packed).decode() == svg


# Text and Mermaid


def test_text_shows_branches_joins_and_jumps():
    """Branches are indented, a join stands where they split and names what it waits for."""

    assert to_text(research()).splitlines() == [
        "▶ analysis: running",
        "",
        "✓ plan       succeeded",
        "├─ ✓ web     succeeded",
        "├─ ✓ papers  succeeded",
        "├─ ▶ people  running",
        "✓ draft      succeeded    after 2 of 3: web, papers, people · round 3",
        "✓ review     succeeded    round 3 · jumped 2× to draft",
        "‖ approve    waiting      waits for approval",
        "○ publish    not started",
    ]


def test_text_shows_conditions():
    """What decides about a branch stands on its line."""

    assert to_text(triage()).splitlines()[2:] == [
        "○ classify     not started  takes every match",
        "├─ ○ refund    not started  if amount > 100",
        "├─ » escalate  skipped      if severity >= 3",
        "├─ » answer    skipped      otherwise",
        "○ close        not started  after all taken of 3: refund, escalate, answer",
    ]


def test_text_of_several_beginnings():
    """Stages that nothing comes before are branches of the whole."""

    assert to_text(flow(stage("a"), stage("b"), stage("a2", "a"), stage("c", "a2", "b"))).splitlines()[2:] == [
        "╭─ ○ a   not started",
        "│  ○ a2  not started",
        "├─ ○ b   not started",
        "○ c      not started  after b, a2",
    ]


def test_text_of_branches_that_never_join():
    """The last branch closes the rail, and what follows in a branch stays in it."""

    assert to_text(flow(stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "c"))).splitlines()[2:] == [
        "○ a     not started",
        "├─ ○ b  not started",
        "╰─ ○ c  not started",
        "   ○ d  not started",
    ]


def test_text_of_a_very_long_chain():
    """Depth is no limit."""

    assert len(to_text(chain(2000)).splitlines()) == 2002


def test_mermaid_shows_the_same():
    """Boxes, gates, conditions and jumps have their Mermaid forms; colours come as classes."""
    drawn = to_mermaid(research()).splitlines()

    assert drawn[0] == "flowchart LR"
    assert '    n4["draft<br/>✓ succeeded<br/>joins 2 of 3<br/>round 3"]' in drawn
    assert '    n6{{"approve<br/>‖ waiting<br/>waits for approval"}}' in drawn
    assert '    n5 -.->|"jumped 2×"| n4' in drawn
    assert "    class n6 SUSPENDED" in drawn


def test_mermaid_labels_cannot_break_out():
    """Inside quotes there are only letters, digits, plain marks and entities."""
    for line in to_mermaid(hostile()).splitlines():
        label = line.partition('"')[2].rpartition('"')[0].replace("<br/>", "")
        assert not set(label) & set("\"'<>[]{}()|`&\\\n")


@pytest.mark.parametrize("place", ["_shapes", "status_mark", "_text"])
def test_drawing_can_be_interrupted(monkeypatch, place):
    """An interrupt while a picture is drawn ends the cell; it is not taken for a fault of the drawing."""

    def struck(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(draw, place, struck)

    with pytest.raises(KeyboardInterrupt):
        svg_of(research())
