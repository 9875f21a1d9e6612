"""The slider through a run, in JupyterLab: moved by key and click, live after a reload, a picture without a kernel."""

import subprocess
import sys

import pytest

CELLS = [
    "%load_ext stabilize_nb",
    """
%%workflow research -q
from stabilize_nb import TransientError
calls = []

@stage
def plan(question):
    return {"topics": [question, "ice"]}

@stage(retry=2)
def draft(plan):
    calls.append(1)
    if len(calls) == 1:
        raise TransientError("model is busy")
    return {"draft": "about " + ", ".join(plan["topics"])}

sign_off = approval("Publish this?", after=draft, show="draft", form={"note": str})

@stage(after=sign_off)
def publish(draft, sign_off):
    raise ValueError("no paper")
""",
    """
run = research.run(question="penguins")
run.until_gate(30)
run.approve(note="fine", user="ann")
run.wait(30); None
""",
    "%workflow replay last",
]
REPLAY = 3


@pytest.fixture
def tab(lab_notebook):
    opened = lab_notebook(CELLS)
    opened.run_all()
    opened.wait_text("the run failed", cell=REPLAY)
    return opened


def test_slider_is_moved_by_keys_and_buttons(tab):
    """Arrow keys move by a fact, a button goes to the failures; what happened, the picture and the values follow."""
    tab.click_button("✕ Next failure", cell=REPLAY)
    tab.wait_text("attempt 1 of draft failed and will be repeated: TransientError: model is busy", cell=REPLAY)
    slider = tab._scope(REPLAY).get_by_role("slider")
    number = int(float(slider.get_attribute("aria-valuenow")))
    slider.focus()
    tab.press("ArrowRight")
    tab.wait_text(f"fact {number + 1} of", cell=REPLAY)
    tab.press("ArrowLeft")
    tab.wait_text(f"fact {number} of", cell=REPLAY)
    said = tab.aria(REPLAY)
    tab._scope(REPLAY).get_by_role("combobox", name="Stage").select_option(label="plan")
    tab.wait_text("['penguins', 'ice']", cell=REPLAY)

    assert 'status: "attempt 1 of draft failed and will be repeated' in said
    assert "research running, 4 stages: plan succeeded, draft running, sign_off not started" in said
    assert 'region "stage draft"' in said
    assert tab.errors() == []


def test_replay_plays_and_outlives_a_reload(tab):
    """Playing stops at a click; a page loaded anew has the slider where it was, and it can be moved."""
    tab.click_button("▶ Play", cell=REPLAY)
    tab.wait_text("plan started", cell=REPLAY)
    tab.click_button("‖ Pause", cell=REPLAY)
    tab.wait_button("▶ Play", cell=REPLAY)
    tab.reload()
    tab.wait_button("✕ Next failure", cell=REPLAY).click()
    tab.wait_text("failed and will be repeated", cell=REPLAY)

    assert tab.errors() == []


def test_file_shows_the_steps_without_a_kernel(tab, tmp_path):
    """Converted, the notebook has the picture of the end and the steps, in place of the slider."""
    tab.save()
    page = tmp_path / "replay.html"
    convert = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", "--output", str(page)]
    subprocess.run([*convert, str(tab.folder() / "notebook.ipynb")], check=True, capture_output=True)
    html = page.read_text()

    assert "replay of" in html
    assert "attempt 1 of draft failed and will be repeated" in html
    assert "sign_off was approved" in html
    assert 'alt="research failed, 4 stages' in html
