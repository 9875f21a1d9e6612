"""Agents that are killed: what was answered and committed is never paid for again, and no budget is overdrawn."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb import Budget, Workflow
from stabilize_nb.core.draft import Limits
from stabilize_nb.events.calls import calls_frame
from stabilize_nb.llm import AgentLoopTask, LLMClient, LLMTask, ToolCall, ToolRegistry, tool
from stabilize_nb.queue.processor.accounts import accounts_over
from stabilize_nb.testing import Reply, ScriptedModel
from stabilize_nb.testing.forks import forked, warm
from stabilize_nb.testing.fuse import Fuse, Moment
from stabilize_nb.testing.model import ModelRequest, by_turn
from tests.makers import Bench, stage, workflow

if TYPE_CHECKING:
    from pathlib import Path

TURNS = 6
TOOLS = 12
SOON = Limits(backoff_min=1, backoff_max=5)


class Work:
    """An agent on a store in a folder; its tool notes its calls in a file."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self._url = url

    def bench(self) -> Bench:
        """Open the store."""

        @tool
        def look(what: str) -> str:
            """Look something up."""
            with (self.folder / "tools").open("a") as opened:
                opened.write(f"{what}\n")
            return f"{what} is there"

        client = LLMClient("any", base_url=self._url)
        tasks = {
            "agent": AgentLoopTask(client, ToolRegistry([look]), stream=False),
            "ask": LLMTask(client, stream=False),
        }
        return Bench(f"sqlite:///{self.folder}/runs.db", tasks=tasks, limits=SOON)

    def tools(self) -> Counter[str]:
        """Return how often the tool was called with what."""
        notes = self.folder / "tools"
        return Counter(notes.read_text().split()) if notes.exists() else Counter()

    def live(self, moment: Moment | None, workers: int = 1) -> dict[str, int]:
        """Work until nothing is left, or until the process is killed; return how many commits there were."""
        fuse = Fuse(moment)
        with self.bench() as bench:
            fuse.light()
            bench.processor.process_all(timeout=30, workers=workers)
        return dict(fuse.counts)


@pytest.fixture
def places(tmp_path):
    """Return a function that makes the folder of another scenario."""
    made = 0

    def place() -> Path:
        nonlocal made
        made += 1
        folder = tmp_path / str(made)
        folder.mkdir()
        return folder

    return place


def turns() -> list[Any]:
    """Return what the model says: five times it wants tools, twelve in all, then it answers."""
    names = iter(range(1, TOOLS + 1))
    sizes = [3, 3, 2, 2, 2]
    asked = [
        Reply(tool_calls=[ToolCall(name="look", arguments={"what": f"t{next(names)}"}) for _ in range(size)])
        for size in sizes
    ]
    return [*asked, "All of it is there."]


def test_agent_killed_at_every_commit(places, record_property):
    """Six model calls and twelve tool calls: none that was committed is made again, and the answer is the same."""
    scenarios = repeats = 0
    with ScriptedModel(by_turn(turns())) as server:
        warm_up(server)
        whole = Work(places(), server.url)
        store(whole)
        counts = forked(lambda: whole.live(None))
        assert (len(server.requests) - 1, sum(whole.tools().values())) == (TURNS, TOOLS)
        for where in ("before", "after"):
            for nth in range(1, counts[where] + 1):
                asked = len(server.requests)
                work = Work(places(), server.url)
                store(work)
                assert killed(work, Moment(where, nth))
                committed = made(work)
                forked(lambda work=work: work.live(None))

                requests = Counter(request.turn + 1 for request in server.requests[asked:])
                calls = {("model", turn): count for turn, count in requests.items()}
                calls |= {("tool", int(name[1:])): count for name, count in work.tools().items()}
                again = {call: count for call, count in calls.items() if count > 1}
                assert len(calls) == TURNS + TOOLS
                assert not again.keys() & committed
                assert all(count == 2 for count in again.values())
                assert len(again) <= 1  # the one in flight
                assert answer(work) == "All of it is there."
                scenarios += 1
                repeats += len(again)
    record_property("line", f"an agent of {TURNS} model and {TOOLS} tool calls, {scenarios} kills: {repeats} calls "
                            "were made again, each in flight when its process was killed")  # fmt: skip


def warm_up(server: ScriptedModel) -> None:
    """Load what asking a model needs before processes are forked."""
    warm()
    LLMClient("any", base_url=server.url).chat([{"role": "user", "content": "?"}])


def killed(work: Work, moment: Moment, workers: int = 1) -> bool:
    """Work in a process that is killed at a moment; return whether it reached it."""
    return forked(lambda: work.live(moment, workers)) is None


def store(work: Work) -> None:
    with work.bench() as bench:
        bench.begin(workflow(stage("agent", task="agent", context={"prompt": "What is there?"})))


def made(work: Work) -> set[tuple[str, int]]:
    """Return the calls whose answers are committed."""
    with work.bench() as bench:
        rows = bench.sql("SELECT kind, number FROM journal WHERE value IS NOT NULL AND kind <> 'step'")
        return {(kind, number) for kind, number in rows}


def answer(work: Work) -> Any:
    with work.bench() as bench:
        ((id_,),) = bench.sql("SELECT id FROM workflow")
        return bench.store.retrieve(id_).stages[0].outputs["answer"]


WIDE = 16
KILLS = 300
LIMIT = Budget(tokens=600, answer_tokens=20)


def crowd() -> Workflow:
    """Make sixteen stages that ask the model three times each, side by side."""
    stages = []
    for at in range(WIDE):
        before = ()
        for turn in range(3):
            name = f"s{at}_{turn}"
            stages.append(stage(name, *before, task="ask", context={"prompt": f"{name}?"}))
            before = (name,)
    return workflow(*stages, context={"_budget": LIMIT.as_data()})


def counted(request: ModelRequest) -> str:
    """Answer with as many words as the question says, at most those that it may have."""
    return " ".join(["word"] * (1 + sum(request.last.encode()) % 20))


def test_budget_is_exact_across_crashes(places, record_property):
    """Sixteen at a time, killed again and again: never more than one reserved call over; the sums are the server's."""
    luck = random.Random(11)
    kills = most = runs = 0
    with ScriptedModel(counted) as server:
        warm_up(server)
        while kills < KILLS:
            runs += 1
            asked = len(server.calls)
            work = Work(places(), server.url)
            with work.bench() as bench:
                flow = crowd()
                bench.begin(flow)
            struck = True
            while struck:
                struck = killed(work, Moment(luck.choice(["before", "after"]), luck.randint(1, 10)), WIDE)
                kills += struck
                most = max(most, taken(work, flow.id))
            compare(work, flow.id, server, asked)
    record_property("line", f"budgets: {kills} kills in {runs} runs of {WIDE} agents at once, at most {most} of "
                            f"{LIMIT.tokens} tokens taken or reserved")  # fmt: skip


#: Bytes of the longest question, as it is sent, and tokens of the longest answer.
RESERVE = 80


def taken(work: Work, run_id: str) -> int:
    """Return the tokens that are spent or reserved, which are never more than one reserve over the limit."""
    with work.bench() as bench:
        (account,) = bench.database.call_read(lambda connection: accounts_over(connection, run_id))
    total = account.tokens + account.held_tokens
    assert total < (LIMIT.tokens or 0) + RESERVE
    return total


def compare(work: Work, run_id: str, server: ScriptedModel, asked: int) -> None:
    """Each request of the server is a call of the run, and each answered call took what the server says."""
    with work.bench() as bench:
        calls = calls_frame(bench.database, run_id)
        (account,) = bench.database.call_read(lambda connection: accounts_over(connection, run_id))
    assert account.tokens == calls["tokens"].sum()
    assert (account.held_tokens, account.calls) == (0, len(calls))
    requests = server.calls[asked:]
    sent = Counter(call.request.last.removesuffix("?") for call in requests)
    begun = Counter(calls["stage"])
    assert all(count <= begun[name] for name, count in sent.items())
    told = {call.request.last.removesuffix("?"): call for call in requests}
    answered = calls[calls["status"] == "answered"]
    for row in answered.itertuples():
        assert row.input_tokens == told[row.stage].prompt_tokens
        assert row.output_tokens == told[row.stage].completion_tokens
    lost = calls[calls["status"] == "lost"]
    assert len(requests) - len(answered) <= len(lost)
