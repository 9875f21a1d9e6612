"""Deciding at gates by what a person has: a mouse, a keyboard, a screen reader, two notebooks, an older kernel."""

import re

import pytest

from tests.kernels import NEWEST_NAME, OLDEST_NAME

LOAD = "%load_ext stabilize_nb"
ESSAY = """%%workflow essay -q
import time

@stage
def plan(question):
    print("thinking about", question)
    return {"topics": ["size", "colour"]}

@stage
def draft(plan):
    return {"text": "# Penguins\\n\\n**Three** species", "topics": plan["topics"]}

sign_off = approval("Publish this essay?", after=draft, show=draft,
                    form={"title": str, "copies": int, "weight": float, "grade": ["A", "B"],
                          "day": "date?", "public": bool})

@stage
def publish(draft, sign_off):
    given = sign_off["approval"]
    return {name: (type(value).__name__, value) for name, value in given.items()}
"""
START = 'run = essay.run(question="birds")\nrun'
BUSY = """
import pathlib, time
while not pathlib.Path("enough").exists(): time.sleep(0.05)
print("computed")
"""
RUN = 2


@pytest.fixture
def essay(lab_notebook):
    """Open a notebook whose run waits at its gate."""
    tab = lab_notebook([LOAD, ESSAY, START])
    tab.run_all()
    tab.wait_button("Approve", cell=RUN)
    return tab


def fill_in(tab, cell=RUN, **given):
    """Type into the fields of a form as a person does, letter by letter, and press what is to be chosen."""
    for name, text in given.items():
        if name == "grade":
            tab.click_button(text, cell=cell)
        else:
            tab._scope(cell).get_by_label(name, exact=True).click()
            tab.press("Control+A")
            tab.page.keyboard.type(text, delay=15)


def test_approve_by_click_gives_typed_values(essay):
    """Text that fits no field is refused with a sentence; what fits arrives in the stage with its type."""
    awaiting = essay.add_cell("await run", run=False)
    essay.run_cell(awaiting, wait=False)
    fill_in(essay, title="On birds", copies="many", weight="4.5", grade="B")
    essay.page.get_by_label("public").check()
    essay.click_button("Approve", cell=RUN)
    essay.wait_text("Nothing was decided: copies takes a whole number, not 'many'", cell=RUN)
    fill_in(essay, copies="12")
    essay.click_button("Approve", cell=RUN)
    essay.wait_text("'title'", cell=awaiting)

    said = re.sub(r"\s+", " ", essay.cell_output_text(awaiting))
    for part in ("['str', 'On birds']", "['int', 12]", "['float', 4.5]", "['str', 'B']", "['bool', True]"):
        assert part in said
    assert "day" not in said
    essay.wait_text("4 of 4 stages", cell=RUN)
    essay.wait(lambda: not essay.button("Approve").count(), "the buttons to be gone")
    assert essay.errors() == []


def test_reject_with_a_note(essay):
    """A rejection ends the run with who said no and why, and the pane keeps both."""
    essay.fill("Note", "too short", cell=RUN)
    essay.click_button("Reject", cell=RUN)
    essay.wait_text("was rejected by", cell=RUN)
    essay.wait_text("failed", cell=RUN)

    assert "too short" in essay.cell_output_text(RUN)
    assert re.search(r"rejected by .*too short", essay.say("print(run.error or run.stages['error'].tolist())"))
    assert essay.errors() == []


def test_form_is_filled_in_by_keyboard_alone(essay):
    """Tab goes through the preview, the fields in their order and the buttons; Space and Enter press."""
    essay.page.evaluate("() => document.querySelector('[aria-label=\"what is decided about\"]').focus()")
    for name, typed in (("title", "By keys"), ("copies", "2"), ("weight", "1.5")):
        while not essay.focused().endswith(name):
            essay.press("Tab")
        essay.page.keyboard.type(typed)
    while essay.focused() != "button A":
        essay.press("Tab")
    essay.press("Enter")
    while not essay.focused().endswith("public"):
        essay.press("Tab")
    essay.press("Space")
    while "Approve" not in essay.focused():
        essay.press("Tab")
    essay.press("Enter")
    essay.wait_text("4 of 4 stages", cell=RUN)

    said = re.sub(r"\s+", " ", essay.say("run.result()"))
    for part in ("By keys", "['int', 2]", "['float', 1.5]", "['str', 'A']", "['bool', True]"):
        assert part in said
    assert essay.cell_count() == 4  # no key was taken for a command of JupyterLab


def test_screen_reader_is_told_the_same(essay):
    """Status, picture, question, fields and buttons have roles and names; so has the progress of a stage."""
    told = essay.aria(RUN)

    for line in (
        '"essay running, 4 stages: plan succeeded, draft succeeded, sign_off waiting, publish not started"',
        'region "what is decided about"',
        'textbox "title"',
        'textbox "copies"',
        'button "A"',
        'checkbox "public"',
        'textbox "Note"',
        'button "Approve"',
        'button "Reject"',
        'button "Cancel"',
        "columnheader",
    ):
        assert line in told
    assert re.search(r"- status:\n.*essay\n.*\n.*waiting for a decision at sign_off", told)


def test_pane_is_readable_in_the_dark_theme(essay):
    """Every text keeps a contrast of at least 4.5 to 1 in both themes, beside the buttons that JupyterLab colours."""
    weakest = {}
    for theme in ("light", "dark"):
        essay.set_theme(theme)
        weakest[theme] = essay.weakest_contrast(RUN)
    essay.set_theme("light")

    for theme, (ratio, text) in weakest.items():
        assert ratio >= 4.5, f"{theme}: {text!r} has a contrast of {ratio:.1f}"


@pytest.mark.parametrize("kernel", [NEWEST_NAME, OLDEST_NAME])
def test_click_while_a_cell_is_busy_counts(lab_notebook, kernel):
    """What is typed, mended and clicked while a cell computes counts to the last letter: at once, or when it ends."""
    tab = lab_notebook([LOAD, ESSAY, START, BUSY], kernel=kernel)
    for cell in (0, 1, RUN):
        tab.run_cell(cell)
    tab.wait_button("Approve", cell=RUN)
    tab.run_cell(3, wait=False)
    tab.wait_js("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'busy'")
    fill_in(tab, title="Latre", copies="1", weight="2", grade="A")
    fill_in(tab, title="Later", grade="B")
    tab.click_button("Approve", cell=RUN)
    if kernel == NEWEST_NAME:
        tab.wait_text("4 of 4 stages", cell=RUN)
    assert "computed" not in tab.cell_output_text(3)
    (tab.folder() / "enough").touch()
    tab.wait_text("computed", cell=3)
    tab.wait_text("4 of 4 stages", cell=RUN)

    said = tab.say("run.result()")
    assert "'Later'" in said
    assert "'B'" in said


def test_other_notebook_on_the_store_decides(lab_notebook, essay):
    """The inbox of another kernel shows the gate; its click counts, and both notebooks say who it was."""
    store = essay.folder() / ".stabilize" / "notebook.db"
    other = lab_notebook(
        [f"{LOAD}\n%config StabilizeNB.user = 'ben'\nengine = %workflow store {store}", "engine.inbox()"], name="other"
    )
    other.run_all()
    other.wait_button("Approve", cell=1)
    assert "Publish this essay?" in other.cell_output_text(1)
    fill_in(other, 1, title="From afar", copies="1", weight="2", grade="A")
    other.click_button("Approve", cell=1)
    other.wait_text("no gate waits", cell=1)
    other.wait_text("sign_off was approved by ben", cell=1)
    assert other.errors() == []
    essay.show()
    essay.wait_text("4 of 4 stages", cell=RUN)

    said = essay.say("run.result()")
    assert "From afar" in said
    assert "'ben'" in said


def test_await_in_the_oldest_kernel_comes_back_at_a_gate(lab_notebook):
    """Where a click waits for the cell, an await gives control back with a line; click, then await again."""
    tab = lab_notebook([LOAD, ESSAY, START, "await run", "await run"], kernel=OLDEST_NAME)
    for cell in (0, 1, RUN, 3):
        tab.run_cell(cell)
    assert "click, then run the next cell" in tab.cell_output_text(3)
    fill_in(tab, title="Old", copies="1", weight="2", grade="A")
    tab.click_button("Approve", cell=RUN)
    tab.wait_text("4 of 4 stages", cell=RUN)
    tab.run_cell(4)

    assert "'Old'" in tab.cell_output_text(4)
    assert [error for error in tab.errors() if "DecideBetweenCells" not in error] == []
