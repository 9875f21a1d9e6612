"""What a cell shows of flows, workflows and runs: safe markup that says the same without style, script and kernel."""

import base64
import html.parser
import re
from dataclasses import dataclass, field

import pytest

from stabilize_nb import Engine, Flow, StageExecution, TransientError, Workflow
from stabilize_nb.deterministic import START
from stabilize_nb.models.status import WorkflowStatus as S
from stabilize_nb.notebook.tables import Table, duration, moment
from stabilize_nb.notebook.views import Picture, flow_bundle, run_bundle, workflow_bundle

HOSTILE = "<script>alert(1)</script>\"'&amp;<b>\u202ebold\x1b[31m"
#: What an untrusted notebook leaves in place, and what is used of it.
HARMLESS = {
    "p",
    "b",
    "br",
    "code",
    "span",
    "progress",
    "details",
    "summary",
    "pre",
    "img",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    *("blockquote", "div", "details", "summary"),
}
#: What a bar says to a screen reader, where it is not stripped.
BAR = {"aria-label", "aria-valuemin", "aria-valuemax", "aria-valuenow", "aria-valuetext"}
ATTRIBUTES = {"style", "alt", "src", "scope", "max", "value", "role", *BAR}


@dataclass
class Page(html.parser.HTMLParser):
    """Tags, attributes and text of HTML."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def image(self) -> dict[str, str | None]:
        return next(attributes for tag, attributes in self.tags if tag == "img")


def page(bundle: dict[str, str]) -> Page:
    """Read the HTML of a bundle; only harmless markup may be in it."""
    read = Page()
    read.feed(bundle["text/html"])
    assert {tag for tag, _ in read.tags} <= HARMLESS
    assert {name for _, attributes in read.tags for name in attributes} <= ATTRIBUTES
    return read


@pytest.fixture
def engine():
    with Engine(":memory:") as engine:
        yield engine


def publishing() -> Flow:
    """A flow with a gate that shows what a stage made."""
    flow = Flow("publishing")

    @flow.stage(retry=2, timeout=90)
    def draft(text, tone="plain"):
        """Write a first version."""
        return {"draft": text}

    sign_off = flow.approval(
        "Publish <this>?", name="sign_off", after=draft, show="draft", form={"note": str, "grade": [1, 2, 3]}
    )

    @flow.stage(after=sign_off)
    def publish(draft):
        return draft["draft"]

    return flow


def at_gate(engine, text="a text"):
    run = engine.start(publishing(), text=text)
    with pytest.raises(Exception, match="waits for a decision"):
        run.result(10)
    return run


def test_picture_is_an_image_that_untrusted_notebooks_show():
    """The <img> holds the SVG of the bundle itself, and its alt says the same in words."""
    bundle = flow_bundle(publishing())

    image = page(bundle).image
    kind, _, content = image["src"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(content).decode() == bundle["image/svg+xml"]
    assert image["alt"].startswith("publishing not started, 3 stages: draft not started, ")


def test_flow_shows_what_a_definition_says():
    """Inputs, what stages follow, what they take, their settings and purpose, and nothing of a run."""
    bundle = flow_bundle(publishing(), news="draft changed")

    text = page(bundle).text
    assert "3 stages · inputs: text, tone (optional) · version 1: draft changed" in text
    assert "retry 2, timeout 1 min 30 s" in text
    assert "Write a first version." in text
    assert "Publish <this>?" in text
    assert bundle["text/plain"].splitlines()[0] == (
        "publishing: 3 stages · inputs: text, tone (optional) · version 1: draft changed"
    )


def test_workflow_shows_its_stages_and_tasks():
    """A Workflow of the reference API is shown like a flow before it runs, and like a run afterwards."""
    stages = [StageExecution(ref_id="a"), StageExecution(ref_id="b", requisite_stage_ref_ids={"a"})]
    workflow = Workflow.create("demo", "demo", stages)

    assert "2 stages" in page(workflow_bundle(workflow)).text

    workflow.status, workflow.start_time, workflow.end_time = S.SUCCEEDED, START, START + 7_000

    assert "✓ succeeded · 0 of 2 stages · 7 s" in page(workflow_bundle(workflow)).text


def test_finished_run_shows_status_word_time_and_attempts(engine):
    """Each stage has a row: symbol and word, start, duration, attempts."""
    run = at_gate(engine)
    run.approve(note="fine", grade=1)
    run.wait(10)

    bundle = run_bundle(run)

    words = page(bundle).words
    assert f" · {run.id} · ✓ succeeded · 3 of 3 stages · " in page(bundle).text
    assert words.count("✓ succeeded") == 3
    assert {"status", "stage", "started", "duration", "attempts"} <= set(words)
    assert "error" not in words
    assert bundle["text/plain"].startswith(f"publishing · {run.id} · ✓ succeeded · 3 of 3 stages · ")


def test_gate_says_what_it_asks_and_how_to_answer(engine):
    """Question, what is approved, the fields of the form, and lines that can be copied; a run that waits says so."""
    run = at_gate(engine, text="one\n  two")

    bundle = run_bundle(run)

    text = page(bundle).text
    assert "‖ waiting · 1 of 3 stages" in text
    assert "waits for a decision: Publish <this>?" in re.sub(r"\s+", " ", text)
    assert "one\n  two" in page(bundle).words
    line = f"%workflow approve {run.id[-7:]}/sign_off note=<str> grade=1|2|3"
    assert line in page(bundle).words
    assert f"  yes: {line}\n  no:  %workflow reject {run.id[-7:]}/sign_off reason=…" in bundle["text/plain"]
    assert "  | one\n  |   two\n" in bundle["text/plain"]


def test_text_of_a_model_stays_text(engine):
    """No string of a run becomes markup, turns the direction of writing, or reaches a terminal as a command."""
    run = at_gate(engine, text=HOSTILE)

    bundle = run_bundle(run)

    assert "<script>alert(1)</script>" in page(bundle).text
    for shown in bundle.values():
        assert "\u202e" not in shown
        assert "\x1b" not in shown


def test_long_text_at_a_gate_is_cut_and_says_so(engine):
    """What is to be approved stays readable as text, where how much is left out is said; the page has all of it."""
    run = at_gate(engine, text="word " * 1_000)

    bundle = run_bundle(run)

    assert re.search(r"… \(\d+ characters more\)", bundle["text/plain"])
    assert "word " * 1_000 in page(bundle).text


def test_failed_stage_shows_the_last_line_of_its_error(engine):
    """The table has a column for errors as soon as there is one."""
    flow = Flow("failing")

    @flow.stage
    def only():
        raise ValueError(f"first line\nlast {HOSTILE} line")

    run = engine.start(flow)
    run.wait(10)

    read = page(run_bundle(run))
    assert "✕ failed" in read.words
    assert "error" in read.words
    assert any(word.startswith("last <script>") for word in read.words)
    assert "first line" not in read.words


def test_attempts_are_counted(engine):
    """A stage that was tried again says how often."""
    flow, tries = Flow("trying"), []

    @flow.stage(retry=5)
    def only():
        tries.append(1)
        if len(tries) < 2:
            raise TransientError("busy", retry_after=0.01)
        return 1

    run = engine.start(flow)
    run.wait(20)

    assert page(run_bundle(run)).words[-1] == "2"


def test_missing_code_is_named(tmp_path):
    """A run whose functions no cell has defined says which ones it waits for."""
    with Engine(tmp_path / "runs.db") as engine:
        run_id = at_gate(engine).id
    with Engine(tmp_path / "runs.db") as engine:
        run = engine.run(run_id)
        run.approve(grade=2)
        while not run.waiting_for_code():
            pass

        assert "waits for code that no cell has defined yet: publish" in page(run_bundle(run)).text
        assert "waits for code that no cell has defined yet: publish" in run_bundle(run)["text/plain"]


def test_picture_alone_can_be_saved(tmp_path):
    """A Picture is the drawing without a table; its SVG is written to a file."""
    picture = Picture(workflow=publishing().picture(), direction="TB")
    picture.save(str(tmp_path / "flow.svg"))

    assert (tmp_path / "flow.svg").read_text() == picture.svg
    assert "table" not in picture._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (None, ""),
        (0, "0 ms"),
        (42, "42 ms"),
        (340, "0.3 s"),
        (7_000, "7 s"),
        (59_400, "59.4 s"),
        (59_980, "1 min"),
        (125_000, "2 min 5 s"),
        (3_600_000, "1 h"),
        (11_400_000, "3 h 10 min"),
        (187_200_000, "2 d 4 h"),
    ],
)
def test_durations_are_said_in_two_units_at_most(ms, said):
    """Short times are exact, long ones are rounded."""
    assert duration(ms) == said


def test_moment_has_its_day_only_when_it_is_another(monkeypatch):
    """Times of today are short."""
    monkeypatch.setenv("STABILIZE_NB_DETERMINISTIC", "1")

    assert moment(START + 3_000, START + 60_000) == "00:00:03"
    assert moment(START, START + 86_400_000) == "2026-01-01 00:00:00"
    assert moment(None, START) == ""


def test_table_leaves_out_empty_columns_and_escapes():
    """A column in which no row has anything is not shown; cells are text."""
    table = Table(("name", "nothing", "said"), [("a", "", "<b>"), ("bcd", "", "x")])

    assert page({"text/html": str(table.html())}).words == ["name", "said", "a", "<b>", "bcd", "x"]
    assert table.text() == "name  said\na     <b>\nbcd   x"
    assert Table(("name",), []).html() == ""


def test_ipython_shows_workflows_after_loading(notebook):
    """Models know nothing of notebooks, and are drawn all the same; after unloading they are plain again."""
    cell = notebook.run(
        "from stabilize_nb import StageExecution, Workflow\nWorkflow.create('d', 'demo', [StageExecution('a')])"
    )

    assert "image/svg+xml" in cell.shown[0]
    assert cell.text.startswith("○ demo: not started")

    notebook.run("%unload_ext stabilize_nb")

    assert "image/svg+xml" not in notebook.run("Workflow.create('d', 'demo', [StageExecution('a')])").shown[0]
