"""What a model, a tool, a user or a name says is text: in every field, in everything that draws, in a real browser."""

from __future__ import annotations

import itertools
import re
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hostile_texts import FAR, OBEYED, TEXTS
from ipywidgets import HTML, Widget
from playwright.sync_api import sync_playwright

from stabilize_nb import (
    ApprovalTask,
    Engine,
    StageExecution,
    TaskExecution,
    TaskRegistry,
    TaskResult,
    Workflow,
    compare,
)
from stabilize_nb.models.topology import check_topology
from stabilize_nb.notebook.dot import to_dot
from stabilize_nb.notebook.draw import svg_of
from stabilize_nb.notebook.inbox import inbox_bundle
from stabilize_nb.notebook.mermaid import to_mermaid
from stabilize_nb.notebook.panes.afterlife import Pictures
from stabilize_nb.notebook.panes.inbox import InboxPane
from stabilize_nb.notebook.panes.replay import ReplayPane
from stabilize_nb.notebook.panes.run_pane import RunPane
from stabilize_nb.notebook.panes.snapshot import read
from stabilize_nb.notebook.preview import preview
from stabilize_nb.notebook.replay import Replay
from stabilize_nb.notebook.text import to_text
from stabilize_nb.notebook.views import workflow_bundle
from tests.browser.lab_browser import launch_chromium
from tests.notebook.drawn import titles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stabilize_nb import Run

#: Texts that one workflow has; more make its drawing slow.
BATCH = 15
COUNT = """window.canaries = []; window.canary = (...given) => { window.canaries.push(given.join()); };
window.alert = window.confirm = window.prompt = window.canary; null"""


def say(stage: StageExecution) -> TaskResult:
    """Print, tell and return a text in every way there is."""
    text = stage.context["text"]
    print(text)
    stage.progress(0.5, text)
    frame = pd.DataFrame({text: [text], "plain": [1]}).to_dict("list")
    outputs = {"said": text, text: [text, {"deep": text}], "frame": frame, "rows": [{"a": text}, {"a": 1}]}
    return TaskResult.success(outputs=outputs, context={"noted": text})


def fail(stage: StageExecution) -> TaskResult:
    """Fail with a text, which what follows does not mind."""
    return TaskResult.failed_continue(stage.context["text"], outputs={"said": stage.context["text"]})


def crash(stage: StageExecution) -> TaskResult:
    """Raise a text."""
    raise RuntimeError(stage.context["text"])


def staged(ref: str, text: str, task: str, *after: str, **context: Any) -> StageExecution:
    return StageExecution(
        ref_id=ref, name=text, type=task, requisite_stage_ref_ids=set(after), context={"text": text, **context},
        tasks=[TaskExecution.create(text, task, stage_start=True, stage_end=True)],
    )  # fmt: skip


def hostile_workflow(texts: tuple[str, ...]) -> Workflow:
    """Return a workflow in which texts are names, values, prints, errors and questions."""
    stages: list[StageExecution] = []
    for number, text in enumerate(texts):
        stages.append(staged(f"say{number}", text, "say"))
        stages.append(staged(f"fail{number}", text, "fail", f"say{number}"))
        form = {"note": "str", "grade": [text, "B"]}
        asks = {"message": text, "show_key": "said", "form": form, "choices": ["approve", "reject"]}
        stages.append(staged(f"gate{number}", text, "approval", f"say{number}", **asks))
    stages.append(staged("crash", texts[0], "crash", "gate0"))
    return Workflow.create(
        application=texts[0], name=texts[1], stages=stages, context={texts[2]: texts[3], "q": texts[4]}
    )


def strings_of(widget: Widget) -> Iterator[str]:
    """Yield the markup of a widget and of what is in it, as a front end puts it into the page."""
    if isinstance(widget, HTML):
        yield widget.value
    for output in getattr(widget, "outputs", ()):
        yield from marked(output.get("data", {}))
    for child in getattr(widget, "children", ()):
        yield from strings_of(child)


def marked(bundle: dict[str, Any]) -> Iterator[str]:
    """Yield what a page shows of a bundle."""
    for kind in ("text/html", "image/svg+xml"):
        if bundle.get(kind):
            yield str(bundle[kind])
    if "text/markdown" in bundle:
        pytest.fail("a page renders Markdown as it likes; nothing here may give it")


def plain_of(bundle: dict[str, Any]) -> Iterator[str]:
    if "text/plain" in bundle:
        yield str(bundle["text/plain"])


def bundles_of(run: Run, other: Run) -> Iterator[dict[str, Any]]:
    """Yield what a cell shows of a run, of its past and of what belongs to it."""
    yield run._repr_mimebundle_()
    yield Replay(run)._repr_mimebundle_()
    yield run.at(len(run.events) // 2)._repr_mimebundle_()
    yield compare(run, other)._repr_mimebundle_()
    line = run.events.workflow.timeline()
    yield {"text/html": line._repr_html_(), "image/svg+xml": line._repr_svg_(), "text/plain": repr(line)}
    yield inbox_bundle(run.engine)
    for frame in (run.events, run.stages, run.tasks, run.decisions, run.engine.runs()):
        yield {"text/html": frame._repr_html_()}


def panes_of(run: Run) -> Iterator[str]:
    """Yield the markup of the live panes."""
    pane, inbox, replay = RunPane(run, Pictures(), "x"), InboxPane(run.engine), ReplayPane(Replay(run))
    pane.paint(read(run))
    inbox.paint(inbox.read())
    for painted in (pane, inbox):
        assert "gate0" in "".join(strings_of(painted.box))
    for made in (pane, inbox, replay):
        yield from strings_of(made.box)
        made.close()


@pytest.fixture(scope="module")
def shown() -> dict[str, list[str]]:
    """What everything that draws makes of every text in every field: markup and plain text."""
    markup: list[str] = []
    plain: list[str] = []
    registry = TaskRegistry()
    for name, task in (("say", say), ("fail", fail), ("crash", crash), ("approval", ApprovalTask)):
        registry.register(name, task)
    batches = [TEXTS[at : at + BATCH] for at in range(0, len(TEXTS), BATCH)]
    with Engine(":memory:", registry=registry) as engine:
        for texts in batches:
            run, other = (engine.start(hostile_workflow(texts)) for _ in range(2))
            wait_for_gates(run, len(texts))
            for bundle in bundles_of(run, other):
                markup += marked(bundle)
                plain += plain_of(bundle)
            markup += panes_of(run)
            for number, text in reversed([*enumerate(texts)]):  # behind the first one it crashes
                run.decide(f"gate{number}", "approve", user=text, comment=text, note=text, grade=text)
            run.wait(20)
            for bundle in (run._repr_mimebundle_(), {"text/html": run.decisions._repr_html_()}):
                markup += marked(bundle)
                plain += plain_of(bundle)
            other.cancel()
    for text in TEXTS:
        markup += [str(preview(value)) for value in (text, [text], {text: text}, [{"a": text}, {"b": text}])]
    return {"markup": [*dict.fromkeys(markup)], "plain": plain}


def wait_for_gates(run: Run, count: int) -> None:
    """Wait until all gates of a run are open."""
    latest = time.monotonic() + 20
    while len(run.gates) < count:
        assert time.monotonic() < latest, run.gates
        time.sleep(0.01)


def test_nothing_runs_and_nothing_is_loaded(shown):
    """In Chromium none of it calls a function, asks for anything, or leaves a handler, a script or a link to code."""
    asked: list[str] = []
    with sync_playwright() as playwright:
        chromium = launch_chromium(playwright)
        page = chromium.new_page()
        page.route("**/*", lambda route: (asked.append(route.request.url), route.abort()))
        page.on("dialog", lambda dialog: (asked.append("dialog"), dialog.dismiss()))
        page.add_init_script(COUNT)
        page.set_content("<!DOCTYPE html><body>")
        page.evaluate(COUNT)
        found = page.evaluate(
            """parts => {
                const bad = [];
                for (const part of parts) {
                    const place = document.createElement("div");
                    document.body.append(place);
                    place.innerHTML = part;
                    for (const each of place.querySelectorAll("*")) {
                        const name = each.tagName.toLowerCase();
                        if (/^(script|iframe|object|embed|link|meta|base|form|audio|video)$/.test(name))
                            bad.push(each.outerHTML.slice(0, 300));
                        for (const {name: key, value} of each.attributes)
                            if (/^on/i.test(key) || /^\\s*(javascript|vbscript):/i.test(value)
                                || (/^(src|href|xlink:href|srcset|action)$/i.test(key)
                                    && !/^(data:image\\/|#)/.test(value)))
                                bad.push(`${key}=${value.slice(0, 200)} in ${each.outerHTML.slice(0, 200)}`);
                    }
                }
                return bad;
            }""",
            shown["markup"],
        )
        page.wait_for_timeout(300)
        called = page.evaluate("() => window.canaries")
        whole = chromium.new_page()
        whole.route("**/*", lambda route: (asked.append(route.request.url), route.abort()))
        whole.add_init_script(COUNT)
        whole.set_content("<!DOCTYPE html><script>" + COUNT + "</script><body>" + "\n".join(shown["markup"]))
        called += whole.evaluate("() => window.canaries")
        chromium.close()

    assert found == []
    assert called == []
    assert [url for url in asked if not url.startswith(("data:", "about:"))] == []


def test_probe_sees_what_it_looks_for():
    """The page that finds nothing finds a text that is put into it unescaped."""
    with sync_playwright() as playwright:
        chromium = launch_chromium(playwright)
        page = chromium.new_page()
        asked: list[str] = []
        page.route("**/*", lambda route: (asked.append(route.request.url), route.abort()))
        page.set_content(f"<script>{COUNT}</script><img src={FAR}/p.png onerror=canary()>")
        page.wait_for_function("() => window.canaries.length > 0")
        chromium.close()

    assert asked == [f"{FAR}/p.png"]


def test_plain_text_commands_no_terminal(shown):
    """What a terminal shows has no escape, no control character and no mark of the direction of writing."""
    bad = [text for text in shown["plain"] if OBEYED.search(text)]

    assert shown["plain"]
    assert bad == []


@pytest.mark.parametrize("number", range(0, len(TEXTS), BATCH))
def test_labels_make_no_nodes(number):
    """A drawing has a node for each stage, and no more, whatever names and ref_ids hold; so have DOT and Mermaid."""
    texts = TEXTS[number : number + BATCH]
    stages = [StageExecution(ref_id=f"{place} {text}", name=text) for place, text in enumerate(texts)]
    for before, after in itertools.pairwise(stages):
        after.requisite_stage_ref_ids = {before.ref_id}
    drawn = Workflow(name=texts[0], stages=stages)
    check_topology(drawn.name, stages)
    notes = {each.ref_id: each.name for each in stages}

    assert len(titles(svg_of(drawn))) == len(stages)
    dot = to_dot(drawn, notes=notes)
    assert len(re.findall(r"^\s*n\d+ \[", dot, re.MULTILINE)) == len(stages)
    assert len(re.findall(r"^\s*n\d+ -> n\d+", dot, re.MULTILINE)) == len(stages) - 1
    mermaid = to_mermaid(drawn, notes=notes)
    assert len(re.findall(r"^\s*n\d+[\[({>]", mermaid, re.MULTILINE)) == len(stages)
    assert "click " not in re.sub(r'"[^"\n]*"', "", mermaid)
    for said in (
        to_text(drawn, notes=notes),
        dot,
        mermaid,
        workflow_bundle(drawn)["text/plain"],
    ):
        assert not OBEYED.search(said)
