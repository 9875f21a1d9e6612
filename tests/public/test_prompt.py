"""The guide for coding agents is true: what it names is there, and its programs print what stands below them."""

import ast
import builtins
import contextlib
import inspect
import io
import pkgutil
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

import stabilize_nb
from stabilize_nb import (
    DockerTask,
    Engine,
    Flow,
    PythonTask,
    QueueProcessorConfig,
    Run,
    SSHTask,
    StageExecution,
    StreamItem,
    TransientError,
    Workflow,
    WorkflowStream,
    errors,
    llm,
    testing,
)
from stabilize_nb.cli.main import COMMANDS, main
from stabilize_nb.cli.prompt import guide
from stabilize_nb.events.bus import EventType
from stabilize_nb.flow import FlowStage
from stabilize_nb.flow_words import HTTPWords, ShellWords, StageWords
from stabilize_nb.gates import Gate
from stabilize_nb.models.question import Answer
from stabilize_nb.models.status import WorkflowStatus

ROOT = Path(__file__).parents[2]
#: What is explained, with the places that are filled from the code.
EXPLAINED = (ROOT / "stabilize_nb" / "cli" / "prompt.md").read_text(encoding="utf-8").partition("## 5. Reference")[0]
TRIAL = (ROOT / "docs" / "prompt-trial.md").read_text(encoding="utf-8")
LIMIT = 60_000
#: What a name stands for in the guide.
OWNERS = {
    "NAME": Flow,
    "answer": Answer, "deploy": FlowStage, "engine": Engine, "errors": errors, "flow": Flow, "gate": Gate, "run": Run,
    "item": StreamItem, "stabilize_nb": stabilize_nb, "stage": StageExecution, "stream": WorkflowStream,
    "testing": testing, "work": Workflow,
}  # fmt: skip
#: Where the classes are that it names.
HOMES = (stabilize_nb, llm, testing, errors)
#: Names of examples: a stage, columns of a frame.
EXAMPLES = {"critique", "df", "package", "review", "sign_off", "value"}
#: Kinds of facts, which look like attributes.
KINDS = {kind.value for kind in EventType}
KNOWN = {
    *dir(builtins), *dir(errors), *stabilize_nb.__all__, *llm.__all__, *testing.__all__, *WorkflowStatus.__members__,
    "NAME", "RUN", "GATE", "RESULT", "INPUT", "JSON", "Definition",
}  # fmt: skip


@dataclass(frozen=True)
class Program:
    """A Python block of the guide, what its heading is, and the text below it."""

    heading: str
    code: str
    expected: str | None


def programs(text=EXPLAINED):
    heading = ""
    for match in re.finditer(
        r"^##+ ([^\n]+)$|^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", text, re.MULTILINE | re.DOTALL
    ):
        heading = match[1] or heading
        if match[2]:
            yield Program(heading, match[2], match[3])


def spans(text=EXPLAINED):
    """Return what stands in backquotes in the sentences."""
    sentences = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return sorted(set(re.findall(r"`([^`\n]+)`", sentences)))


def trees():
    for span in spans():
        with contextlib.suppress(SyntaxError):
            yield span, ast.parse(span.removeprefix("@"))


def words():
    """Return every name that can be given to something public."""
    public = [getattr(stabilize_nb, name) for name in stabilize_nb.__all__]
    public += [getattr(module, name) for module in (llm, testing) for name in module.__all__]
    public += [getattr(kind, name) for kind in (Engine, Flow, Run, StageExecution) for name in dir(kind)]
    found = {*StageWords.__annotations__, *ShellWords.__annotations__, *HTTPWords.__annotations__}
    found |= {key for task in (DockerTask, PythonTask, SSHTask) for key in task.keys}
    for each in filter(callable, public):
        with contextlib.suppress(TypeError, ValueError):
            found |= {*inspect.signature(each).parameters}
    return found


def test_the_guide_is_short_enough():
    """It fits beside a task: 60 kB at most, and no place is left open."""
    text = guide()

    assert len(text.encode()) <= LIMIT
    assert "{{" not in text


def test_the_command_prints_it():
    """`stabilize-nb prompt` prints the guide and nothing else."""
    assert CliRunner().invoke(main, ["prompt"]).output == guide()


def test_every_template_has_a_program():
    """Each numbered part but the notebook's has a program."""
    headings = re.findall(r"^### (\d[^\n]+)$", EXPLAINED, re.MULTILINE)

    assert {program.heading for program in programs()} >= {*headings} - {"3.10 In a notebook"}


@pytest.mark.parametrize("program", [*programs(), *programs(TRIAL)], ids=lambda program: program.heading)
def test_a_program_prints_what_stands_below_it(program, tmp_path, monkeypatch):
    """Every block is a program of its own, and so are those that were written from the guide."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(program.code, encoding="utf-8")
    said = io.StringIO()

    with contextlib.redirect_stdout(said):
        exec(compile(program.code, str(tmp_path / "program.py"), "exec"), {"__name__": "__main__"})

    assert program.expected in (None, said.getvalue())


def test_what_is_said_of_an_object_is_there():
    """`run.fork` and its like are attributes of what they are said of."""
    said = {
        (node.value.id, node.attr)
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id not in EXAMPLES
        and ast.unparse(node) not in KINDS
    }

    assert len(said) > 20
    assert [(name, attribute) for name, attribute in said if not _has(name, attribute)] == []


def _has(name, attribute):
    owner = OWNERS.get(name) or next(getattr(home, name) for home in HOMES if hasattr(home, name))
    return hasattr(owner, attribute) or attribute in getattr(owner, "__annotations__", {})


def test_every_class_and_word_is_there():
    """Names with a capital letter can be imported; words with = can be given."""
    nodes = [node for _, tree in trees() for node in ast.walk(tree)]
    classes = {node.id for node in nodes if isinstance(node, ast.Name) and node.id[0].isupper()}
    given = {node.arg for node in nodes if isinstance(node, ast.keyword)} | {
        span[:-1] for span in spans() if re.fullmatch(r"\w+=", span)
    }
    variables = {name for name in classes - KNOWN if "_" in name}

    assert classes - KNOWN - variables == set()
    assert given - words() == set()
    assert [name for name in variables if not _is_read(name)] == []


def _is_read(variable):
    return any(variable in path.read_text(encoding="utf-8") for path in (ROOT / "stabilize_nb").rglob("*.py"))


def test_every_command_is_there():
    """`stabilize-nb worker --import` and its like are commands with these options."""
    lines = [span.split()[1:] for span in spans(guide()) if span.startswith("stabilize-nb ")]
    assert lines
    for name, *rest in lines:
        command = getattr(import_module(COMMANDS[name]), name.replace("-", "_"))
        known = {option for parameter in command.params for option in parameter.opts}
        assert {re.sub(r"\W+$", "", word.lstrip("[")) for word in rest if word.lstrip("[").startswith("--")} <= known


def test_facts_have_the_data_that_the_table_says():
    """Each kind of fact in the table of `data` has these keys in the log of a run in which all of it happens."""
    rows = re.findall(r"^\| `(\w+\.\w+)` \| (`.+) \|$", EXPLAINED, re.MULTILINE)
    flow = Flow("facts")

    @flow.stage(retry=1)
    def again(stage):
        print("hello")
        if stage.tasks[0].attempt == 1:
            raise TransientError("once", retry_after=0, context_update={"seen": 1})

    @flow.stage(after=again)
    def back(stage):
        if stage.context.get("_jump_count", 0) < 1:
            stabilize_nb.jump("back")

    flow.approval("Go on?", name="gate", after=back)

    @flow.stage(after="gate")
    def broken():
        raise ValueError("no")

    with Engine(":memory:", config=QueueProcessorConfig(task_output="keep")) as engine:
        run = engine.start(flow)
        run.until_gate(timeout=30)
        run.approve()
        run.wait(timeout=30)
        had = {row.type: {*row.data, *row.data.get("details", ())} for row in run.events.itertuples()}

    assert len(rows) == 8
    for kind, text in rows:
        assert set(re.findall(r"`(\w+)`", text)) - {"context_update"} <= had[kind], kind


def test_every_import_is_there():
    """What a sentence imports or names with its module exists."""
    imported = [
        (node.module, alias.name)
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert imported
    for module, name in imported:
        assert pkgutil.resolve_name(f"{module}:{name}")


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", (ROOT / "docs" / "llms.txt").read_text("utf-8")))
def test_llms_txt_leads_somewhere(target):
    """Each page that docs/llms.txt names is there."""
    assert (ROOT / "docs" / target).is_file()
