"""Bad input gets one sentence that names what is wrong, before anything is stored."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb import Engine, Flow, StageExecution, WaitTask, Workflow
from stabilize_nb.errors import ConfigError, RunFailedError, SchemaError, StabilizeError, StageNotReadyError
from stabilize_nb.models.stage import JoinType
from tests.makers import Bench, stage

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Case:
    """A workflow that cannot be run, and what the sentence about it must name."""

    name: str
    make: Callable[[], list[StageExecution]]
    words: tuple[str, ...]


CASES = [
    Case("cycle", lambda: [stage("a", "c"), stage("b", "a"), stage("c", "b")], ("cycle", "a", "b", "c", "→")),
    Case("duplicate", lambda: [stage("a"), stage("a")], ("duplicate ref_id 'a'",)),
    Case("unknown requisite", lambda: [stage("a", "ghost")], ("'a' requires unknown stage 'ghost'",)),
    Case("itself", lambda: [stage("a", "a")], ("'a' requires itself",)),
    Case(
        "threshold",
        lambda: [stage("a"), stage("b"), stage("j", "a", "b", join_type=JoinType.N_OF_M, join_threshold=3)],
        ("'j' waits for 3 branches but has 2 (a, b)",),
    ),
    Case("task name", lambda: [stage("a", task="nop")], ("stage 'a'", "'nop'", "did you mean 'noop'")),
    Case(
        "value",
        lambda: [stage("a", context={"when": [{"at": datetime(2026, 1, 1, tzinfo=UTC)}]})],
        ("stage 'a' context.when[0].at", "datetime.datetime", "JSON cannot hold"),
    ),
    Case("reducer", lambda: [stage("a", output_reducers={"x": "colect"})], ("unknown reducer 'colect'",)),
    Case("activation name", lambda: [stage("a#2")], ("'a#2'",)),
    Case("split", lambda: [stage("a", split_conditions={"z": "x == 1"})], ("'a' splits to 'z'",)),
    Case(
        "condition",
        lambda: [stage("a", split_conditions={"b": "x.("}), stage("b", "a")],
        ("'a' has a condition for 'b'",),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refusal_names_its_members(case: Case) -> None:
    """A workflow that cannot be run is refused in one sentence that names the members, and nothing is stored."""
    with Bench() as bench:
        flow = Workflow(application="tests", name="bad", stages=case.make())

        with pytest.raises(StabilizeError) as refused:
            bench.store.store(flow)

        sentence = str(refused.value)
        print(sentence)
        assert "\n" not in sentence
        for word in case.words:
            assert word in sentence
        assert not bench.store.exists(flow.id)
        assert bench.sql("SELECT count(*) FROM stage") == [(0,)]


def test_several_faults_come_at_once() -> None:
    """All faults of a graph stand in one sentence."""
    with pytest.raises(StabilizeError) as refused:
        Workflow.create("tests", "bad", [stage("a", "ghost"), stage("a"), stage("b", "b")])

    assert len(refused.value.faults) == 3


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ({"x": {1, 2}}, "outputs of stage 'a'.x is of type set"),
        ({"x": [float("nan")]}, "outputs of stage 'a'.x[0] is the number nan"),
        ({"x": {3: 4}}, "key of type int (3)"),
        ({"x": "\ud800"}, "lone surrogate"),
        ({"x": 2**70}, "beyond 64 bits"),
        ("not a result", None),
    ],
)
def test_output_that_cannot_be_stored_fails_its_stage(returned: Any, words: str | None) -> None:
    """A value JSON cannot hold fails the stage with the path of the value; nothing else is lost."""
    with Bench(tasks={"give": lambda _stage: returned}) as bench:
        flow = bench.run(Workflow.create("tests", "odd", [stage("a", task="give"), stage("b")]))

        if words is None:
            assert flow.stages[0].outputs == {"result": "not a result"}
        else:
            assert flow.stages[0].status.name == "TERMINAL"
            assert words in flow.stages[0].error
        assert flow.stages[1].status.name == "SUCCEEDED"


def test_flow_names_what_it_does_not_know() -> None:
    """A parameter that is neither a stage nor an input is refused with a suggestion, before anything is stored."""
    flow = Flow("analyst")

    @flow.stage
    def synthesize(question):
        return question

    @flow.stage
    def report(sythesize):
        return sythesize

    with Engine(":memory:") as engine:
        with pytest.raises(StabilizeError, match=r"'report' .* asks for 'sythesize'.*did you mean 'synthesize'"):
            engine.start(flow, question="?")
        assert len(engine.runs()) == 0


def test_flow_knows_what_its_stages_return() -> None:
    """An output that the code of a stage shows is no slip, however much it is like an input."""
    flow = Flow("analyst")

    @flow.stage
    def plan(question):
        return {"questions": [question, "why?"]}

    @flow.stage(after=plan)
    def answers(questions, question):
        return [*questions, question]

    flow.check()

    with Engine(":memory:") as engine:
        assert engine.start(flow, question="what?").result(10) == ["what?", "why?", "what?"]


def one() -> Flow:
    flow = Flow("one")
    flow.stage(lambda: 1, name="only")
    return flow


def in_memory(ask: Callable[[Engine], Any]) -> Any:
    with Engine(":memory:") as engine:
        return ask(engine)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Engine("mysql://here"), "mysql:// is not a database"),
        (lambda: Engine("sqlite:relative.db"), "is not a SQLite URL"),
        (lambda: Engine(":memory:", durability="ful"), "durability 'ful' is not known"),
        (lambda: Engine(":memory:", workers=-1), "max_workers is -1"),
        (lambda: Engine(":memory:", workers=0), "a store in memory has none"),
        (lambda: Flow("f").stage(lambda: 1 ), "cannot be a parameter name"),
        (lambda: Flow("f").stage(aftr="x")(len), "did you mean 'after'"),
        (lambda: Flow("f").stage(retries=3)(len), "did you mean 'retry'"),
        (lambda: Flow("f").stage("load"), "a function is expected: @stage, or @stage(name='load')"),
        (lambda: Flow(3), "3 is no name of a flow"),
        (lambda: Flow(" "), "' ' is no name of a flow"),
        (lambda: Flow("f").approval(3), "approval(3) asks nothing"),
        (lambda: Flow("f").approval("Go?", on_timeout="approve"), "is about a deadline; say it, as in timeout='2h'"),
        (lambda: Flow("f").shell(None), "shell(None) runs nothing; text for a shell"),
        (lambda: Flow("f").shell("ls", cwdd="x"), "stage 'ls': cwdd=... is not known; did you mean 'cwd'?"),
        (lambda: Flow("f").shell("ls", aftr="x"), "did you mean 'after'?"),
        (lambda: Flow("f").http(3), "http(3) asks nobody; a URL is expected"),
        (lambda: Flow("f").http("https://x.test", header={}), "did you mean 'headers'?"),
        (lambda: Engine(3), "3 is no store"),
        (lambda: Engine(""), "'' is no store"),
        (lambda: Engine(":memory:", workers="3"), "max_workers is '3'; a number above 0"),
        (lambda: in_memory(lambda engine: engine.start("sums")), "'sums' is not what an engine runs; a Flow"),
        (lambda: in_memory(lambda engine: engine.define(Flow)), "is not what an engine runs; a Flow"),
        (lambda: in_memory(lambda engine: engine.schedule("sums", cron="0 7 * * *")), "'sums' is not what an engine"),
        (lambda: in_memory(lambda engine: engine.runs(limit="x")), "limit='x' is no number of runs"),
        (lambda: in_memory(lambda engine: engine.start(one()).wait("soon")), "timeout='soon' is no time"),
    ],
)  # fmt: skip
def test_setting_that_is_wrong_is_named(call: Callable[[], Any], words: str) -> None:
    """A setting that is not known is refused with what is expected."""
    with pytest.raises(ConfigError) as refused:
        call()

    assert words in str(refused.value)


def test_store_and_queue_must_be_one_database(tmp_path) -> None:
    """A store and a queue on different databases are refused with the reason."""
    from stabilize_nb import QueueProcessor, SqliteQueue, SqliteWorkflowStore

    store = SqliteWorkflowStore(f"sqlite:///{tmp_path}/a.db")
    queue = SqliteQueue(f"sqlite:///{tmp_path}/b.db")
    with pytest.raises(ConfigError, match="they must be one database"):
        QueueProcessor(queue, store=store)
    store.close()
    queue.close()


@pytest.mark.sqlite
def test_file_of_another_program_is_refused(tmp_path) -> None:
    """A file that is no store of ours is not touched."""
    path = tmp_path / "other.db"
    path.write_text("this is not a database at all, but long enough to look at" * 20)

    with pytest.raises(StabilizeError, match="not a SQLite database"):
        Engine(path)


@pytest.mark.sqlite
def test_database_of_another_program_stays_as_it_is(tmp_path) -> None:
    """A database with tables of another program is refused, and neither it nor its folder is changed."""
    path = tmp_path / "birds.db"
    with closing(sqlite3.connect(path)) as birds:
        birds.execute("CREATE TABLE birds (name)")
    before = path.read_bytes()

    with pytest.raises(SchemaError, match="of another program"):
        Engine(path)

    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["birds.db"]


@pytest.mark.sqlite
def test_store_may_be_in_the_home_folder(tmp_path, monkeypatch) -> None:
    """`~/` at the beginning of a file is the user's folder."""
    monkeypatch.setenv("HOME", str(tmp_path))

    with Engine("~/birds.db"):
        assert (tmp_path / "birds.db").exists()


def test_result_of_a_failed_run_says_where_its_code_failed() -> None:
    """The error of a failed run has a note for each stage whose code raised: its frames, and none of the engine's."""
    flow = Flow("birds")

    def count(text):
        return int(text)

    @flow.stage
    def read(text):
        return count(text)

    @flow.stage
    def kinds():
        return {"auk"}

    with Engine(":memory:") as engine, pytest.raises(RunFailedError) as failed:
        engine.start(flow, text="many").result(20)

    [note] = failed.value.__notes__
    assert note.startswith("stage 'read': Traceback (most recent call last):")
    assert [line.strip() for line in note.splitlines() if "File" in line] == [
        f'File "{__file__}", line {read.function.__code__.co_firstlineno + 2}, in read',
        f'File "{__file__}", line {count.__code__.co_firstlineno + 1}, in count',
    ]
    assert note.endswith("ValueError: invalid literal for int() with base 10: 'many'")


def test_parameters_may_be_positional_only() -> None:
    """A function that takes arguments by place alone is a stage as any other."""
    flow = Flow("birds")

    @flow.stage
    def pair(first, /, second):
        return [first, second]

    with Engine(":memory:") as engine:
        assert engine.start(flow, first=1, second=2).result(20) == [1, 2]


def test_decision_without_a_gate_says_how_the_run_stands() -> None:
    """A decision that names no gate is refused with what the run is at: nothing asks yet, several ask, it has ended."""
    flow = Flow("letter")

    @flow.stage
    def draft():
        done.wait(20)

    for name in ("text", "price"):
        flow.approval("Good?", name=name, after=draft)
    done = Event()

    with Engine(":memory:") as engine:
        run = engine.start(flow)
        with pytest.raises(StageNotReadyError, match="waits for no decision yet: wait for it"):
            run.approve()
        done.set()
        for name in ("text", "price"):
            run.approve(name)
        run.wait(20)
        with pytest.raises(StageNotReadyError, match="waits for no decision: it ended SUCCEEDED"):
            run.approve()


def test_wait_that_is_no_time_fails_its_stage() -> None:
    """A wait may be text such as "10 ms"; what is no time fails with what is expected."""
    with Engine(":memory:") as engine:
        for wait, error in (("10 ms", None), ("tomorrow", "waitTime='tomorrow' is no time: seconds above 0")):
            flow = Flow("night")
            flow.task(WaitTask(), "sleep", context={"waitTime": wait})
            run = engine.start(flow)
            run.wait(20)
            assert (error is None) is (run.error is None), run.error
            assert error is None or error in run.error
