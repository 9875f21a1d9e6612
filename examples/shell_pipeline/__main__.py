"""`python -m examples.shell_pipeline`: from a source tree to a program that was tested, as a CI server does it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from stabilize_nb import Engine, Flow, QueueProcessorConfig

Outputs = dict[str, Any]

PROJECT = Path(__file__).with_name("project")
#: What commands print is kept in the log of their stage, and not shown here too.
QUIET = QueueProcessorConfig(task_output="keep")

flow = Flow("pipeline", description="From a source tree to a program")


@flow.stage
def checkout(project: str, folder: str) -> Outputs:
    tree = Path(folder, "tree")
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(project, tree)
    return {"tree": str(tree), "suites": sorted(path.stem for path in tree.glob("test_*.py"))}


flow.shell("{python} -m compileall -q src", name="compiled", after=checkout, cwd="{tree}")
flow.shell(
    """awk 'length > 79 {print FILENAME ":" FNR; long = 1} END {exit long}' src/*.py""",
    name="style",
    after=checkout,
    cwd="{tree}",
    continue_on_failure=True,
)
flow.shell(
    "{python} -m unittest {suite}", name="tests", each="suites", cwd="{tree}", env={"PYTHONPATH": "src"}, timeout=120
)
flow.shell(
    "{python} -m zipapp src --main roman:main --output roman.pyz",
    name="build",
    after=["compiled", "tests"],
    cwd="{tree}",
)


@flow.stage(after="build")
def package(tree: str) -> Outputs:
    return {"artefact": str(Path(tree, "roman.pyz"))}


flow.shell("{python} {artefact} {year}", name="tried", after=package)


@flow.stage
def report(tests: list[Outputs], style: Outputs, tried: Outputs, year: int) -> list[str]:
    return [
        f"{len(tests)} suites have passed",
        f"lines that are too long: {', '.join(style['stdout'].split()) or 'none'}",
        f"the program writes {year} as {tried['stdout']}",
    ]


def main(project: Path = PROJECT, folder: Path = Path(".stabilize", "shell_pipeline")) -> None:
    """Run the pipeline on a project, and tell what came of each stage."""
    folder.mkdir(parents=True, exist_ok=True)
    with Engine(folder / "runs.db", config=QUIET) as engine:
        run = engine.start(flow, project=str(project), folder=str(folder.resolve()), python=sys.executable, year=2026)
        run.wait(timeout=120)
        for stage in run.workflow.stages:
            print(f"{stage.ref_id:18}{stage.status}")
        print(run.error or "\n".join(run.result()))


if __name__ == "__main__":
    main()
