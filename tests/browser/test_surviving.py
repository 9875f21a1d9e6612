"""What is left on the page, in the store and in the file when a tab, a kernel or a page is gone."""

import os
import signal

import nbformat
import pytest

from tests.browser import lab_browser

LOAD = "%load_ext stabilize_nb"
#: Each body that is done leaves a line in a file; `slow` works until the file "go" is there.
STUDY = """%%workflow study -q
import pathlib, time

def note(word):
    with open("done.txt", "a") as file:
        file.write(word + "\\n")

@stage
def plan(question):
    note("plan")
    return question

@stage
def paid(plan, stage):
    stage.step("bill", note, "bill")
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
    note("paid")
    return plan

sign_off = approval("Publish this study?", after="plan", show="plan")

@stage
def publish(paid, sign_off):
    note("publish")
    return paid + "!"
"""
START = 'run = study.run(question="penguins")\nrun'
RUN = 2


@pytest.fixture
def study(lab_notebook):
    """Open a notebook whose run waits at a gate while another stage is at work."""
    tab = lab_notebook([LOAD, STUDY, START])
    tab.run_all()
    tab.wait_button("Approve", cell=RUN)
    tab.wait(lambda: "bill" in done(tab), "the stage at work to have begun")
    return tab


def done(tab) -> list[str]:
    file = tab.folder() / "done.txt"
    return file.read_text().split() if file.exists() else []


def kill_kernel(tab) -> None:
    """Kill the kernel as the system does when memory is short, and wait until JupyterLab has started another."""
    pid = int(tab.say("import os; print(os.getpid())"))
    os.kill(pid, signal.SIGKILL)
    tab.page.locator(".jp-Dialog", has_text="appears to have died").get_by_role("button").click()
    tab.wait_js(lab_browser._READY, what="the kernel to be started again")


def test_pane_is_live_again_after_the_tab_was_reloaded(study):
    """The page is loaded anew while the run is at work: the pane follows it again, and its buttons decide."""
    study.reload()
    study.wait_button("Approve", cell=RUN)
    study.click_button("Approve", cell=RUN)
    study.wait_text("2 of 4 stages", cell=RUN)
    (study.folder() / "go").touch()
    study.wait_text("4 of 4 stages", cell=RUN)

    assert done(study) == ["plan", "bill", "paid", "publish"]
    assert "'penguins!'" in study.say("run.result()")
    assert study.errors() == []


def test_earlier_cell_keeps_its_picture_when_the_run_is_shown_again(study):
    """The widgets move to the newer cell; in the earlier one the picture takes their place and follows the run."""
    again = study.add_cell("run")
    study.wait_button("Approve", cell=again)
    study.wait_gone("Approve", cell=RUN)
    picture = study._scope(RUN).get_by_role("img", name="study running")

    assert picture.first.is_visible()
    assert not study._scope(again).locator(".sn-static").first.is_visible()
    assert study._scope(RUN).get_by_text("1 of 4 stages").is_visible()
    study.click_button("Approve", cell=again)
    (study.folder() / "go").touch()
    study.wait_text("4 of 4 stages", cell=RUN)
    assert study.errors() == []


def test_run_goes_on_after_its_kernel_was_killed(study):
    """Kill -9 while a stage works and a gate waits, resume in the next, click the same gate: nothing is done twice."""
    kill_kernel(study)
    study.run_cell(0)
    assert "1 unfinished run" in study.cell_output_text(0)
    study.run_cell(1)
    resumed = study.add_cell("run = %workflow resume\nrun")
    study.wait_button("Approve", cell=resumed)
    study.click_button("Approve", cell=resumed)
    (study.folder() / "go").touch()
    study.wait_text("4 of 4 stages", cell=resumed)

    assert sorted(done(study)) == ["bill", "paid", "plan", "publish"]
    assert "'penguins!'" in study.say("run.result()")


def test_what_is_left_without_the_kernel_is_the_last_picture(study, lab):
    """After a kill the page says so and takes the buttons away; the saved file shows the last state, everywhere."""
    study.wait_text("1 of 4 stages", cell=RUN)
    study.page.evaluate("() => document.getAnimations().forEach(each => each.pause())")  # the time of the test is ours
    kill_kernel(study)
    study.page.evaluate("() => document.getAnimations().forEach(each => each.finish())")
    study.wait_text("No news from the kernel: run this cell again to reconnect", cell=RUN)
    assert not study.button("Approve", cell=RUN).first.is_visible()
    assert "sign_off" in study.cell_output_text(RUN)
    study.save()

    page = lab.new_page()
    page.set_content(study.converted())
    assert page.get_by_role("img", name="study running").first.is_visible()
    assert page.get_by_text("1 of 4 stages").is_visible()
    assert page.get_by_text("Publish this study?").first.is_visible()
    assert page.get_by_role("button").count() == 0
    page.close()
    distrust(study)
    study.reload(save=False)
    study.wait_text("1 of 4 stages", cell=RUN)
    assert study._scope(RUN).get_by_role("img", name="study running").first.is_visible()
    assert not study.button("Approve", cell=RUN).count()


def distrust(tab) -> None:
    """Make the saved file one that came from somebody else: no output of it has been made here."""
    path = tab.server.root / tab.path
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("'written elsewhere'"))
    nbformat.write(notebook, path)
