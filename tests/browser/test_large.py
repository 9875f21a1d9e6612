"""A pane stays usable while two hundred instances work."""

import time

LOAD = "%load_ext stabilize_nb"
SURVEY = """%%workflow survey -q
import time

@stage
def plan():
    return {"items": list(range(200))}

@stage(each="items", retry=1)
def measure(item, progress):
    print("measuring", item)
    progress(0.5, f"half of {item}")
    time.sleep(0.4)
    return {"value": item}

sign_off = approval("Is the plan good?", after=plan)

@stage(after=[measure, sign_off])
def report():
    return "done"
"""
RUN = 2
#: Seconds from a click to the decision, and those that the page may stand still.
SOON = 1.0


def test_click_is_handled_at_once_while_two_hundred_instances_work(lab_notebook):
    """A click is a decision in the log within a second, the page never stalls that long, and widgets stay few."""
    tab = lab_notebook([LOAD, SURVEY, "run = survey.run()\nrun"])
    tab.run_all()
    tab.wait_button("Approve", cell=RUN)
    tab.wait_text("of 200", cell=RUN)
    tab.page.evaluate(
        """() => { window.__gap = 0; let last = performance.now();
            const look = now => { window.__gap = Math.max(window.__gap, now - last); last = now; next(); };
            const next = () => requestAnimationFrame(look);
            next(); }"""
    )
    clicked = time.time()
    shown = tab.click_until("Approve", "sign_off was approved by", cell=RUN)
    decided = float(tab.say("print(run.decisions['time'].iloc[-1].timestamp())"))
    paused = tab.click_until("Pause", "Resume", cell=RUN)
    tab.click_button("Resume", cell=RUN)
    working = tab.say(
        "import ipywidgets as w\nfrom ipywidgets.widgets.widget import _instances\n"
        "print(run.status.is_complete, sum(isinstance(each, w.DOMWidget) for each in _instances.values()))"
    ).split()
    gap = tab.page.evaluate("() => window.__gap / 1000")
    print(f"decided after {decided - clicked:.2f} s, shown after {shown:.2f} s, paused after {paused:.2f} s")
    print(f"the page stood still for {gap:.2f} s at most")
    tab.wait_text("succeeded", cell=RUN)

    assert working[0] == "False"
    assert int(working[1]) <= 60
    assert decided - clicked < SOON
    assert shown < 2 * SOON
    assert gap < SOON
    assert tab.errors() == []
