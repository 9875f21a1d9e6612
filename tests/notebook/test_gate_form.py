"""Gates as forms, with real widgets: what they show, what a click does, and what becomes of it."""

from __future__ import annotations

import base64
import html.parser
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import ipywidgets as w
import pytest

from stabilize_nb import Engine, Flow, Run, image
from stabilize_nb.errors import ConfigError, RunFailedError
from stabilize_nb.gates import Gate
from stabilize_nb.notebook.config import StabilizeNB
from stabilize_nb.notebook.inbox import inbox_bundle
from stabilize_nb.notebook.panes import gate_list
from stabilize_nb.notebook.panes.gate_form import GateForm
from stabilize_nb.notebook.panes.gate_list import GateForms
from stabilize_nb.notebook.panes.inbox import InboxPane
from stabilize_nb.notebook.preview import preview
from tests.makers import decided

PATIENCE = 20.0
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


@pytest.fixture
def engine() -> Iterator[Engine]:
    StabilizeNB.clear_instance()
    StabilizeNB.instance().user = "ada"
    with Engine(":memory:") as opened:
        yield opened
    StabilizeNB.clear_instance()


def publishing(**words: Any) -> Flow:
    flow, written = Flow("publishing"), []

    @flow.stage
    def draft(text="words"):
        written.append(text)
        return {"draft": f"{text} {len(written)}"}

    flow.approval("Publish?", name="gate", after=draft, **{"show": "draft", **words})

    @flow.stage
    def report(gate):
        return gate

    return flow


@dataclass
class Page:
    """A run at a gate, and the form of the gate."""

    run: Run
    gate: Gate
    form: GateForm

    def click(self, choice: str) -> None:
        self.form.buttons[choice].click()

    def paint(self) -> None:
        """Paint as the painter does: with the gate as it is now."""
        gates = [gate for gate in self.run.gates if gate.stage_id == self.gate.stage_id]
        self.form.paint(gates[0] if gates else None, self.run.engine.database.clock())

    def paint_until(self, condition: Callable[[], Any]) -> None:
        """Paint after every commit until something is so."""
        for _ in range(round(PATIENCE / 0.05)):
            ticket = self.run.engine.database.changes.ticket()
            self.paint()
            if condition():
                return
            ticket.wait(0.05)
        raise AssertionError(said(self.form))


def page(engine: Engine, **words: Any) -> Page:
    run = engine.start(publishing(**words))
    (gate,) = run.until_gate(PATIENCE)
    return Page(run, gate, GateForm(run, gate))


def widgets(widget: w.Widget) -> list[w.Widget]:
    return [widget, *(each for child in getattr(widget, "children", ()) for each in widgets(child))]


def is_shown(widget: w.DOMWidget) -> bool:
    return widget.layout.display != "none"


def said(form: GateForm) -> str:
    """Everything that is written on the page for a form."""
    text = " ".join(each.value for each in widgets(form.box) if isinstance(each, w.HTML) and is_shown(each))
    read = Markup()
    read.feed(text)
    return re.sub(r"\s+", " ", " ".join(read.words)).strip()


@dataclass
class Markup(html.parser.HTMLParser):
    """Tags, attributes and text of HTML."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


# -- what is shown ------------------------------------------------------------------------------------


def test_a_form_shows_what_is_asked_and_who_will_have_decided(engine: Engine) -> None:
    """Question, what is approved, a field for each entry of the form, a note, and one button for each choice."""
    made = page(engine, form={"grade": [1, 2, 3], "budget": float, "urgent": bool, "on": date})

    assert "gate waits for a decision Publish?" in said(made.form)
    assert "words 1" in said(made.form)
    assert "will be recorded as ada" in said(made.form)
    assert [each.description for each in made.form.inputs.values()] == ["grade", "budget", "urgent", "on", "Note"]
    kinds = [w.ToggleButtons, w.Text, w.Checkbox, w.DatePicker, w.Text]
    assert [type(each) for each in made.form.inputs.values()] == kinds
    assert [each.description for each in made.form.buttons.values()] == ["Approve", "Reject"]
    assert not any(each.disabled for each in made.form.buttons.values())


def test_a_form_is_a_dozen_widgets(engine: Engine) -> None:
    """So that panes with several of them stay small."""
    made = page(engine, form={"a": int, "b": str, "c": bool}, choices=["approve", "revise", "reject"])

    assert len(widgets(made.form.box)) <= 12


def test_a_deadline_is_shown_and_runs_down(engine: Engine) -> None:
    """Until when, what happens then, and how long that is."""
    made = page(engine, timeout="2h", on_timeout="fail")
    assert re.search(r"1 h 59 min left, until .*; then it fails|2 h left", said(made.form))

    made.form.tick(made.gate.deadline - 60_000)
    assert "1 min left, until" in said(made.form)
    made.form.tick(made.gate.deadline + 1)
    assert "the time is over: it fails" in said(made.form)


# -- clicks -------------------------------------------------------------------------------------------


def test_approval_by_click(engine: Engine) -> None:
    """The buttons are disabled at once; then the form says who decided and when, and the stages get typed values."""
    made = page(engine, form={"grade": [1, 2, 3], "budget": float, "urgent": bool, "on": date, "times": int})
    fields = made.form.inputs
    fields["grade"].value, fields["budget"].value, fields["urgent"].value = 2, "1.5", True
    fields["on"].value, fields["times"].value, fields["note"].value = date(2026, 11, 22), " 7 ", "fine"

    made.click("approve")

    assert all(each.disabled for each in [*made.form.buttons.values(), *fields.values()])
    assert made.run.result(PATIENCE)["approval"] == {
        "user": "ada", "grade": 2, "budget": 1.5, "urgent": True, "on": "2026-11-22", "times": 7, "note": "fine",
    }  # fmt: skip
    made.paint()
    assert re.fullmatch(r"✓ gate was approved by ada at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d “fine”", said(made.form))
    assert not any(is_shown(each) for each in fields.values())


def test_rejection_by_click_with_a_note(engine: Engine) -> None:
    """The note is the reason of the rejection, and what is not filled in is no matter."""
    made = page(engine, form={"grade": [1, 2, 3]})
    made.form.inputs["note"].value = "too long"

    made.click("reject")

    with pytest.raises(RunFailedError, match="approval 'gate' was rejected by ada: too long"):
        made.run.result(PATIENCE)
    made.paint()
    assert said(made.form).startswith("✕ gate was rejected by ada at ")
    assert said(made.form).endswith("“too long”")


def test_another_choice_by_click(engine: Engine) -> None:
    """Every choice has its button, and stages get which one it was."""
    made = page(engine, choices=["approve", "ask_legal", "reject"])
    assert [each.description for each in made.form.buttons.values()] == ["Approve", "Ask legal", "Reject"]

    made.click("ask_legal")

    assert made.run.result(PATIENCE)["decision"] == "ask_legal"
    made.paint()
    assert "gate was decided: ask_legal by ada at " in said(made.form)


def test_what_is_missing_or_does_not_fit_is_said_and_nothing_is_sent(engine: Engine) -> None:
    """The form stays as it was filled in, and the next click counts."""
    made = page(engine, form={"grade": [1, 2], "times": int, "more": int | None})

    made.click("approve")
    assert "Nothing was decided: fill in grade, times first" in said(made.form)
    made.form.inputs["grade"].value, made.form.inputs["times"].value = 2, "seven"
    made.click("approve")
    assert "Nothing was decided: times takes a whole number, not 'seven'" in said(made.form)
    assert decided(made.run) == []
    assert not any(each.disabled for each in made.form.buttons.values())

    made.form.inputs["times"].value = "7"
    made.click("approve")
    assert made.run.result(PATIENCE)["approval"] == {"user": "ada", "grade": 2, "times": 7}


def test_a_long_list_is_typed_and_completed(engine: Engine) -> None:
    """More choices than fit beside each other are a text field that knows them; another text is refused."""
    made = page(engine, form={"place": [*"abcdefgh", 9]})
    field = made.form.inputs["place"]
    assert isinstance(field, w.Combobox)
    assert list(field.options) == [*"abcdefgh", "9"]
    field.value = "z"
    made.click("approve")
    assert "Nothing was decided: place cannot be 'z'; choose one of a, b, c, d, e, f, g, h, 9" in said(made.form)
    field.value = "9"
    made.click("approve")

    assert made.run.result(PATIENCE)["approval"] == {"user": "ada", "place": 9}


def test_a_field_may_have_any_name(engine: Engine) -> None:
    """Also one that a parameter of Python has."""
    made = page(engine, form={"gate": str, "choice": str, "self": str, "decision": str})
    for name, each in made.form.inputs.items():
        each.value = f"my {name}"

    made.click("approve")

    assert made.run.result(PATIENCE)["approval"]["gate"] == "my gate"
    assert made.run.result(PATIENCE)["approval"]["self"] == "my self"


def test_a_double_click_decides_once(engine: Engine) -> None:
    """What is clicked before the page has heard that the buttons are disabled is ignored."""
    made = page(engine)

    for choice in ("approve", "approve", "reject"):
        made.click(choice)

    assert made.run.result(PATIENCE)["approved"] is True
    assert len(decided(made.run)) == 1


def test_of_two_who_click_the_second_sees_who_was_first(engine: Engine) -> None:
    """Two notebooks show one gate: the second click has no effect, and says who decided and when."""
    made = page(engine)
    other = Page(made.run, made.gate, GateForm(made.run, made.gate))
    made.click("approve")
    StabilizeNB.instance().user = "bob"

    other.click("reject")

    other.paint_until(lambda: "second" in said(other.form))
    assert re.search(r"Your decision came second: approved by ada at \d{4}", said(other.form))
    assert "✓ gate was approved by ada at" in said(other.form)
    assert all(each.disabled for each in other.form.buttons.values())
    assert made.run.result(PATIENCE)["approval"] == {"user": "ada"}


def test_who_only_looks_on_sees_who_decided(engine: Engine) -> None:
    """A form that was not clicked says it too, whoever decided and from wherever."""
    made = page(engine)
    made.run.approve("gate", user="eve", note="by phone")
    made.run.wait(PATIENCE)

    made.paint()

    assert re.fullmatch(r"✓ gate was approved by eve at [\d: -]+ “by phone”", said(made.form))


def test_a_gate_that_is_not_needed_any_more_says_so(engine: Engine) -> None:
    """Nobody decided it, so nobody is named."""
    made = page(engine)
    made.run.cancel()
    made.run.wait(PATIENCE)

    made.paint()

    assert said(made.form) == "– gate does not wait any more"


# -- what was shown -----------------------------------------------------------------------------------


def test_a_click_on_what_has_changed_is_refused_and_the_new_preview_is_shown(engine: Engine) -> None:
    """What was typed is kept, and the next click is about what is shown now."""
    made = page(engine, form={"why": str})
    made.form.inputs["why"].value = "good"
    made.run.retry("draft")
    for _ in range(round(PATIENCE / 0.05)):
        ticket = engine.database.changes.ticket()
        if any(gate.generation for gate in made.run.gates):
            break
        ticket.wait(0.05)

    made.click("approve")

    made.paint_until(lambda: "Nothing was decided" in said(made.form))
    assert "what this gate asks has changed since you looked; look again, then decide" in said(made.form)
    assert "words 2" in said(made.form)
    assert made.form.inputs["why"].value == "good"
    made.click("approve")
    assert made.run.result(PATIENCE)["approval"] == {"user": "ada", "why": "good"}


def test_paints_keep_what_was_typed(engine: Engine) -> None:
    """A form is painted five times a second while people type."""
    made = page(engine, form={"why": str, "grade": [1, 2]})
    made.form.inputs["why"].value, made.form.inputs["grade"].value = "because", 2
    before = widgets(made.form.box)

    for _ in range(5):
        made.paint()

    assert (made.form.inputs["why"].value, made.form.inputs["grade"].value) == ("because", 2)
    assert widgets(made.form.box) == before


def test_clicks_and_paints_may_come_from_several_threads(engine: Engine) -> None:
    """A click comes in a thread of the kernel while the painter paints: one decision, and a form that says so."""
    made = page(engine)
    painting = threading.Thread(target=lambda: made.paint_until(lambda: made.form.decided))
    clicks = [threading.Thread(target=made.click, args=("approve",)) for _ in range(8)]

    for each in (painting, *clicks):
        each.start()
    for each in (painting, *clicks):
        each.join(PATIENCE)

    assert len(decided(made.run)) == 1
    assert "approved by ada" in said(made.form)


# -- several gates, and the inbox ---------------------------------------------------------------------


def asking(engine: Engine, number: int) -> Run:
    flow = Flow("asking")
    flow.approval("Go on?", name="ask", each=number)
    run = engine.start(flow)
    while len(run.gates) < number:
        engine.database.changes.ticket().wait(0.05)
    return run


def test_many_gates_are_a_few_forms_and_names(engine: Engine) -> None:
    """A pane stays small: further gates are named, and get their forms as others are decided."""
    run = asking(engine, 20)
    forms = GateForms(lambda _: run)

    forms.paint(run.gates, engine.database.clock())

    assert len(forms.forms) == gate_list.FORMS
    assert "16 more wait for a decision" in forms.box.children[-1].value
    assert len(widgets(forms.box)) <= 45
    for _ in range(10):
        first = next(form for form in forms.forms.values() if form.decided is None)
        first.buttons["approve"].click()
        while first.gate in run.gates:
            engine.database.changes.ticket().wait(0.05)
        forms.paint(run.gates, engine.database.clock())
    told = [form for form in forms.forms.values() if form.decided is not None]
    assert len(told) <= gate_list.TOLD + 1
    assert len(forms.forms) - len(told) == gate_list.FORMS


def test_the_inbox_shows_gates_of_all_runs_and_follows_them(engine: Engine) -> None:
    """Each form says of which run it is; a gate that is decided elsewhere is told of, a new one comes in."""
    first, second = page(engine), page(engine)
    pane = InboxPane(engine)
    pane.paint(pane.read())
    text = " ".join(said(form) for form in pane._forms.forms.values())
    assert first.run.id in text
    assert second.run.id in text
    assert "2 gates wait for a decision" in pane._header.value

    first.run.approve("gate", user="eve")
    first.run.wait(PATIENCE)
    third = page(engine)
    pane.paint(pane.read())

    shown = {form.run.id: said(form) for form in pane._forms.forms.values()}
    assert "was approved by eve" in shown[first.run.id]
    assert "waits for a decision" in shown[third.run.id]
    assert "2 gates wait for a decision" in pane._header.value
    pane.close()


def test_without_widgets_the_inbox_is_a_list_with_the_lines_that_decide(engine: Engine) -> None:
    """What a saved notebook, a terminal and a program see of it."""
    made = page(engine, choices=["approve", "revise", "reject"], timeout="2h", form={"on": date | None})
    inbox = engine.inbox()

    assert [gate.name for gate in inbox] == ["gate"]
    with pytest.raises(NotImplementedError):
        inbox._ipython_display_()
    text = inbox_bundle(engine)["text/plain"]
    place = f"{made.run.id[-7:]}/gate"
    assert f"approve: %workflow approve {place} decision=approve on=<date or nothing>" in text
    assert f"revise:  %workflow approve {place} decision=revise on=<date or nothing>" in text
    assert f"reject:  %workflow reject {place} reason=…" in text
    assert "left, until" in text


# -- previews -----------------------------------------------------------------------------------------


HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)> ![p](http://far.example/p.png) [go](javascript:alert(1)) "
    '[a](http://far.example/a "hidden title") <http://far.example/b> &#x202E; \u202etfel \U000e0041 \u200b\n\n'
    "```python hidden words\ncode\n```\n\n[note]: http://far.example/c 'hidden'\n\n"
    "| a | b |\n|---|---|\n| 1 | 2 | 3 |\n"
)


@pytest.mark.parametrize(
    "shown",
    [HOSTILE, {"draft": HOSTILE, HOSTILE: 1}, [{"to": HOSTILE, HOSTILE: 2}], {"tree": {HOSTILE: [HOSTILE]}}],
    ids=["text", "parts", "table", "tree"],
)
def test_nothing_in_a_preview_is_markup_or_fetched(shown: Any) -> None:
    """What a model wrote is shown: no tag of it, nothing that is loaded or can be clicked, nothing turned or hidden."""
    read = Markup()
    read.feed(str(preview(shown)))

    assert not {"script", "img", "a", "iframe", "link", "style", "svg", "form", "input"} & {tag for tag, _ in read.tags}
    assert {name for _, given in read.tags for name in given} <= {
        "style", "scope", "open", "role", "aria-level", "start",
    }  # fmt: skip
    text = "".join(read.words)
    assert "<script>alert(1)</script>" in text
    assert not set("\u202e\U000e0041\u200b") & set(text)
    assert "⟨U+202E⟩" in text
    assert "hidden title" in text
    assert "hidden words" in text
    assert "| 1 | 2 | 3 |" in text
    assert "http://far.example/c" in text


def test_a_preview_is_what_its_value_is() -> None:
    """Markdown, tables, trees, pictures and scalars."""
    assert "<strong>bold</strong>" in preview("**bold** words")
    assert preview("plain words").count("<div") == 0
    table = preview([{"a": 1, "b": "x"}, {"a": 2.5}])
    assert table.count("<tr>") == 3
    assert preview({"columns": ["a"], "data": [[1], [2]], "index": [0, 1]}).count("<tr>") == 3
    assert preview({"n": {"a": [1, None]}}).count("<details open>") == 2
    assert "<code>null</code>" in preview({"n": {"a": [1, None]}})
    assert preview({"score": 0.5, "ok": True}) == preview({"score": 0.5}) + preview({"ok": True})


def test_what_is_too_large_is_said_to_be() -> None:
    """The rest is counted, since the decision is about it too."""
    assert "… and 50 more rows, which the decision is about too" in preview([{"a": at} for at in range(250)])
    assert "more characters, which the decision is about too" in preview("word " * 100_000)
    assert preview([list(range(100))] * 100).count("<details") == 0


def test_a_picture_is_shown_from_what_is_stored(engine: Engine, tmp_path: Any) -> None:
    """Bytes and files become data of the run when the gate begins to wait: what the file has later does not matter."""
    path = tmp_path / "chart.png"
    path.write_bytes(PNG)
    flow = Flow("drawing")

    @flow.stage
    def draw():
        return {"bytes": image(PNG), "file": str(path), "missing": "nowhere.png"}

    flow.approval("Good?", name="look", after=draw, show="draw")
    (gate,) = engine.start(flow).until_gate(PATIENCE)
    path.unlink()

    read = Markup()
    read.feed(str(preview(gate.show)))
    pictures = [given for tag, given in read.tags if tag == "img"]
    assert [given["alt"] for given in pictures] == ["bytes", str(path)]
    assert {base64.b64decode(given["src"].partition(",")[2]) for given in pictures} == {PNG}
    assert "nowhere.png" in "".join(read.words)


@pytest.mark.parametrize(
    "picture", [b"GIFT", "nowhere.png", 3, PNG + bytes(4_000_000)], ids=["text", "path", "3", "big"]
)
def test_what_is_no_picture_is_refused(picture: Any) -> None:
    """With what was expected."""
    with pytest.raises(ConfigError, match=r"image\(\) "):
        image(picture)
