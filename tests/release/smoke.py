"""What somebody does first who has installed the wheel: run by `python -m tests.release` in an empty environment."""

import subprocess
import sys
from pathlib import Path

import stabilize_nb
from stabilize_nb import Engine, Flow
from stabilize_nb.cli.prompt import guide

assert "site-packages" in stabilize_nb.__file__, stabilize_nb.__file__
assert stabilize_nb.__version__[0].isdigit()
assert stabilize_nb.__version__ != "0+unknown"
assert Path(stabilize_nb.__file__).with_name("py.typed").exists()

flow = Flow("smoke")


@flow.stage
def one(number):
    return number + 1


flow.approval("Go on?", name="gate", after=one)


@flow.stage
def two(one, gate):
    return one * 2


with Engine("smoke.db") as engine:  # schema, migrations and queries are files of the wheel
    run = engine.start(flow, number=1)
    (gate,) = run.until_gate(timeout=60)
    run.approve(gate)
    assert run.result(timeout=60) == 4
    assert len(run.events) > 10

# A process of its own starts without anything of this one; the magics draw, with their styles.
from IPython.core.interactiveshell import InteractiveShell  # noqa: E402 - after the engine has worked without it
from IPython.utils.capture import capture_output  # noqa: E402

shell = InteractiveShell.instance()
with capture_output() as captured:
    shell.run_cell("%load_ext stabilize_nb")
    shell.run_cell("%%workflow drawn\n@stage\ndef first(): return 1\n\n@stage\ndef second(first): return first")
    shown = shell.run_cell("%workflow doctor").result
    ended = shell.run_cell("run = drawn.run(); run.wait(60); run").result
html = "".join(output.data.get("text/html", "") + output.data.get("image/svg+xml", "") for output in captured.outputs)
assert "<svg" in html, captured.outputs
assert "style=" in ended._repr_mimebundle_()["text/html"]
assert "stabilize-nb" in str(shown)

assert 20_000 < len(guide().encode()) <= 60_000
printed = subprocess.run(
    [Path(sys.executable).with_name("stabilize-nb"), "prompt"], capture_output=True, text=True, check=True
)
assert printed.stdout == guide()
print(f"stabilize-nb {stabilize_nb.__version__} works on Python {sys.version.split()[0]}")
