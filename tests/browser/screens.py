"""
The pictures of panes in the documentation, one of each state in the light and in the dark theme.

    python -m tests.browser.screens            all of them, in docs/images/panes
    python -m tests.browser.screens waiting    those whose names begin so

Look at them afterwards: nothing but an eye sees whether they are good.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.browser.lab import Lab, Tab, started_lab

FOLDER = Path(__file__).parents[2] / "docs" / "images" / "panes"
#: The cell that is photographed.
SHOWN = 2

LOAD = "%load_ext stabilize_nb\n%config StabilizeNB.user = 'ada'"
ESSAY = '''%%workflow essay -q
import pathlib, time
from stabilize_nb import TransientError

TEXT = """# Penguins of the Palmer archipelago

Three species live on **three islands**; only Adelies live on all of them.

| island | number |
|---|---|
| Biscoe | 168 |
| Dream | 124 |
| Torgersen | 52 |
"""

@stage
def facts(question):
    print(f"looking for {question}")
    for island in ("Biscoe", "Dream", "Torgersen"):
        print(f"{island}: counted")
    return ["size", "colour", "place"]

@stage(retry=2)
def draft(facts, progress):
    for number, topic in enumerate(facts, 1):
        progress(number / 4, f"writing about {topic}")
        print(f"a paragraph about {topic}")
    while pathlib.Path("slowly").exists():
        progress(0.75, "writing about place")
        time.sleep(0.05)
    return TEXT

sign_off = approval("Publish this essay?", after=draft, show=draft, timeout="2h",
                    form={"title": str, "copies": int, "grade": ["A", "B", "C"], "public": bool})

@stage
def publish(draft, sign_off):
    if pathlib.Path("no paper").exists():
        raise RuntimeError("the printer has no paper")
    return {"published": len(draft)}
'''
SURVEY = """%%workflow survey -q
import time

@stage
def plan():
    return {"items": list(range(200))}

@stage(each="items")
def measure(item, progress):
    progress(item % 10 / 10, f"bird {item}")
    time.sleep(0.5)
    if item % 67 == 66:
        print("no ring on bird", item)
    return item

@stage
def report(measure):
    return len(measure)
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """
    A state of a pane: the cells that lead to it, and what is done on the page then.

    `ready` is what has to be so in each theme before the picture is taken.
    """

    name: str
    cells: Sequence[str]
    act: Callable[[Tab], None]
    ready: Callable[[Tab], None] = lambda _: None


def begun(first: str = "", flow: str = ESSAY, run: str = "essay.run(question='penguins')") -> tuple[str, ...]:
    """Return cells that start a run; `first` is run before."""
    return (f"{LOAD}\n{first}", flow, f"run = {run}\nrun")


def touched(name: str) -> str:
    return f"import pathlib; pathlib.Path({name!r}).touch()"


def at_work(tab: Tab) -> None:
    tab.wait_text("7 lines of 2 stages", cell=SHOWN)
    unfold(tab, "log")


def unfold(tab: Tab, words: str) -> None:
    tab._scope(SHOWN).locator("summary", has_text=words).filter(visible=True).first.click()


def waiting(tab: Tab) -> None:
    tab.wait_button("Approve", cell=SHOWN)
    tab.fill("title", "Penguins", cell=SHOWN)
    tab.fill("copies", "12", cell=SHOWN)
    tab.click_button("A", cell=SHOWN)


def refused(tab: Tab) -> None:
    tab.wait_button("Approve", cell=SHOWN)
    tab.fill("copies", "a dozen", cell=SHOWN)
    tab.click_button("B", cell=SHOWN)
    tab.click_button("Approve", cell=SHOWN)
    tab.wait_text("Nothing was decided", cell=SHOWN)


def approved(tab: Tab) -> None:
    waiting(tab)
    tab.click_button("Approve", cell=SHOWN)
    tab.wait_gone("Cancel", cell=SHOWN)
    tab.wait_text("4 of 4 stages", cell=SHOWN)


def rejected(tab: Tab) -> None:
    tab.wait_button("Reject", cell=SHOWN)
    tab.fill("Note", "the numbers of Dream look wrong", cell=SHOWN)
    tab.click_button("Reject", cell=SHOWN)
    tab.wait_button("Retry failed", cell=SHOWN)


def failed(tab: Tab) -> None:
    waiting(tab)
    tab.click_button("Approve", cell=SHOWN)
    tab.wait_button("Retry failed", cell=SHOWN)


def paused(tab: Tab) -> None:
    tab.wait_text("7 lines of 2 stages", cell=SHOWN)
    tab.click_button("Pause", cell=SHOWN)
    tab.wait_button("Resume", cell=SHOWN)


def many(tab: Tab) -> None:
    tab.wait(lambda: any(f"{done} of 200" in tab.cell_output_text(SHOWN) for done in range(40, 200)), "some to be done")


def timed(tab: Tab) -> None:
    tab._scope(SHOWN).locator("img[alt^='timeline of survey']").wait_for()


def in_full_light(tab: Tab) -> None:
    tab.wait_js("() => document.getAnimations().length === 0 && !document.querySelector('#jupyterlab-splash')")


def inbox(tab: Tab) -> None:
    tab.wait_button("Approve", cell=SHOWN)


def replayed(tab: Tab) -> None:
    tab.wait_text("fact", cell=SHOWN)
    for _ in range(2):
        tab.click_button("✕ Next failure", cell=SHOWN)


def without_code(tab: Tab) -> None:
    tab.restart_kernel()
    tab.run_cell(0)
    tab.set_source(SHOWN, "run = %workflow resume\nrun")
    tab.run_cell(SHOWN)
    tab.wait_text("waits for code", cell=SHOWN)


def cancelled(tab: Tab) -> None:
    tab.wait_text("7 lines of 2 stages", cell=SHOWN)
    tab.click_button("Cancel", cell=SHOWN)
    tab.wait_gone("Pause", cell=SHOWN)
    tab.wait_text("cancelled", cell=SHOWN)


def left(tab: Tab) -> None:
    """End the kernel, once the picture beneath the pane shows the gate; the watchdog does not let us wait."""
    tab.wait(lambda: "waits for a decision" in str(tab.outputs(SHOWN)), "the picture to show the gate")
    tab.server.shutdown_kernels()


def without_news(tab: Tab) -> None:
    tab.page.evaluate("() => document.getAnimations().forEach(each => each.finish())")
    tab.wait_text("No news from the kernel", cell=SHOWN)


def unknown(tab: Tab) -> None:
    tab.wait_button("Retry", cell=SHOWN)
    tab.fill("outputs", '{"receipt": 77}', cell=SHOWN)
    tab.wait_text("dead letter", cell=SHOWN)


ENDED = (
    "run.until_gate(30); run.approve(title='Penguins', copies=1, grade='A', public=True); run.wait(30)\nrun.replay()"
)
TWO = """from stabilize_nb.engine import default_engine
for question in ("penguins", "seals"):
    essay.run(question=question).until_gate(30)
default_engine().inbox()"""
DEATH = '''
import time
from stabilize_nb.queue.processor.presence import free_claims

def have_die(run):
    """Take the message of the body away, as when its process has died, and leave one of a newer version."""
    engine = run.engine
    while not engine.processor.desk.running:
        time.sleep(0.01)
    engine.database.call_write(lambda db: free_claims(db, engine.processor.owner, 3))
    engine.database.call_write(lambda db: db.raw.execute(
        "INSERT INTO message (id, workflow_id, kind, payload, counts, timer, due_at)"
        " VALUES ('01M81F3T7QSV0G1X2X4YTZ5E5', ?, 'PauseWorkflow', '[9]', 0, 0, 0)", (run.id,)))
'''
SHOP = """%%workflow shop -q
@stage
def pick(order):
    return ["tea", "cups"]

@stage(on_crash="ask")
def pay(pick):
    time.sleep(2)
    return {"receipt": 5}

@stage
def ship(pay):
    return {"shipped": pay["receipt"]}"""
COMPARED = """from stabilize_nb import compare
run = essay.run(question="penguins")
run.until_gate(30); run.approve(title="Penguins", copies=1, grade="A", public=True); run.wait(30)
fork = run.fork("draft", outputs={"facts": ["size", "weight"]})
fork.until_gate(30); fork.reject(reason="too short"); fork.wait(30)
compare(run, fork)"""
ROUNDS = """%%workflow survey -q
import time
from stabilize_nb import TransientError
tries = []

@stage
def plan(rounds=0):
    time.sleep(0.2)
    return {"rounds": rounds}

@stage(after=plan, retry=2)
def count():
    time.sleep(0.3)
    tries.append(1)
    if len(tries) == 1:
        raise TransientError("the birds are at sea")

@stage(after=plan)
def photograph():
    time.sleep(0.9)

@stage(after=[count, photograph])
def review(rounds):
    time.sleep(0.3)
    if rounds < 1:
        jump("plan", rounds=1)

sign_off = approval("Publish?", after=review)

@stage
def publish(sign_off):
    time.sleep(0.2)
    raise OSError("no paper")"""
TIMED = """run = survey.run()
run.until_gate(30); time.sleep(0.8); run.approve(); run.wait(30)
run.events.workflow.timeline()"""
AGENT = '''%%workflow helpdesk -q
from stabilize_nb import Budget
from stabilize_nb.llm.acting import call_tool
from stabilize_nb.llm import ToolCall, ToolRegistry, tool

@tool(approve=True)
def refund(user_id: str, amount: float) -> str:
    """Give money back."""
    return f"{amount} EUR for {user_id}"

@stage
def look_up(user_id):
    return {"orders": 3, "paid": 900}

@stage
async def agent(look_up, user_id, stage):
    print("The order has not come. I give the money back.")
    call = ToolCall(name="refund", arguments={"user_id": user_id, "amount": look_up["paid"]})
    return await call_tool(stage, ToolRegistry([refund]), call, 1)

@stage
def reply(agent):
    return f"Dear customer: {agent}"
'''


SCENES = (
    Scene("running", begun(touched("slowly")), at_work),
    Scene("waiting", begun(), waiting),
    Scene("refused", begun(), refused),
    Scene(
        "leave",
        begun(flow=AGENT, run="helpdesk.run(user_id='u_42')"),
        lambda tab: tab.wait_button("Approve", cell=SHOWN),
    ),
    Scene("succeeded", begun(), approved),
    Scene("rejected", begun(), rejected),
    Scene("failed", begun(touched("no paper")), failed),
    Scene("paused", begun(touched("slowly")), paused),
    Scene("cancelled", begun(touched("slowly")), cancelled),
    Scene("many", begun(flow=SURVEY, run="survey.run()"), many),
    Scene("inbox", (LOAD, ESSAY, TWO), inbox),
    Scene("replay", (*begun(touched("no paper"))[:2], "run = essay.run(question='penguins')\n" + ENDED), replayed),
    Scene("compared", (LOAD, ESSAY, COMPARED), lambda tab: tab.wait_text("stages differ", cell=SHOWN)),
    Scene("timeline", (LOAD, ROUNDS, TIMED), timed, in_full_light),
    Scene("unknown", begun(DEATH, SHOP, "shop.run(order=7); have_die(run)"), unknown),
    Scene("without-code", begun(touched("slowly")), without_code),
    Scene("no-kernel", begun(), left, without_news),
)


def photograph(lab: Lab, scene: Scene, folder: Path) -> None:
    """Take the pictures of a scene."""
    tab = lab.open(f"{scene.name}/essay.ipynb", scene.cells)
    for cell in range(len(scene.cells)):
        tab.run_cell(cell)
    scene.act(tab)
    for theme in ("light", "dark"):
        tab.set_theme(theme)
        scene.ready(tab)
        output = tab._scope(SHOWN).locator(".jp-Cell-outputArea").first
        output.scroll_into_view_if_needed()
        output.screenshot(path=str(folder / f"{scene.name}-{theme}.png"), animations="allow")
    tab.set_theme("light")
    if scene.name == "no-kernel":
        photograph_converted(tab, folder)
    tab.close()


def photograph_converted(tab: Tab, folder: Path) -> None:
    """Take the picture of what nbconvert makes of the notebook, as it was left by its kernel."""
    tab.save()
    page = tab.lab.new_page()
    page.set_content(tab.converted())
    page.locator(".jp-Cell").nth(SHOWN).screenshot(path=str(folder / "converted.png"))
    page.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Take the pictures whose names begin with one of the words, or all."""
    parser = argparse.ArgumentParser(description="Take the pictures of panes anew.")
    parser.add_argument("names", nargs="*", default=[""], help=", ".join(scene.name for scene in SCENES))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root, started_lab(Path(root) / "lab", width=1000, height=1400) as lab:
        for scene in SCENES:
            if scene.name.startswith(tuple(chosen.names)):
                print(scene.name, flush=True)
                photograph(lab, scene, chosen.folder)


if __name__ == "__main__":
    main()
