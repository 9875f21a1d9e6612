"""Bugs planted one at a time, each of which the simulator has to find: so it can see what it is there to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import pytest

from stabilize_nb.core import evolve
from stabilize_nb.core import facts as f
from stabilize_nb.core.draft import Draft
from stabilize_nb.handlers import HANDLERS, choice, claims, ending, entering, instances, joins, reactions
from stabilize_nb.queue import messages as m
from tests.simulate.graphs import make_plan
from tests.simulate.monitor import Divergence
from tests.simulate.simulation import simulate
from tests.simulate.world import World

#: Modules whose name in the package is that of their function.
jump_to_stage = import_module("stabilize_nb.handlers.jump_to_stage")
complete_workflow = import_module("stabilize_nb.handlers.complete_workflow")
restart_stage = import_module("stabilize_nb.handlers.restart_stage")
Patch = pytest.MonkeyPatch
#: What most plans have, so that others come into play.
BASE = frozenset({"or_join", "discriminator", "n_of_m", "or_split", "xor_split", "stop", "soft", "wait", "jump_back"})


@dataclass(frozen=True)
class Bug:
    """A mistake, how it is made, in how many seeds it has to be found, and what the plans must have for it."""

    name: str
    plant: Callable[[Patch], None]
    within: int
    needs: frozenset[str] = frozenset()


def drop_acknowledgement(patch: Patch) -> None:
    """Every tenth message stays in the queue after its commit."""
    acknowledge = World.acknowledge

    def acknowledge_most(world: World, entry: Any) -> None:
        if world.commits % 10:
            acknowledge(world, entry)

    patch.setattr(World, "acknowledge", acknowledge_most)


def count_an_outcome_twice(patch: Patch) -> None:
    patch.setattr(Draft, "arrival", lambda *_: None)


def forget_to_rearm(patch: Patch) -> None:
    """A jump leaves joins as they are."""
    region_of = jump_to_stage.region_of

    def without_joins(draft: Draft, base_id: str) -> tuple[str, ...]:
        rows = draft.stages(region_of(draft, base_id))
        return tuple(row.id for row in rows if len(row.spec.requisites) < 2 or row.id == base_id)

    patch.setattr(jump_to_stage, "region_of", without_joins)


def forget_arrivals(patch: Patch) -> None:
    """A jump loses what had come from outside."""
    patch.setattr(restart_stage, "kept", lambda *_: [])


def send_no_dead_tokens(patch: Patch) -> None:
    send_tokens = ending.send_tokens

    def send_others(draft: Draft, base: Any, source: str, token: m.Token, *rest: Any) -> None:
        if token is not m.Token.DEAD:
            send_tokens(draft, base, source, token, *rest)

    patch.setattr(ending, "send_tokens", send_others)


def take_halt_for_dead(patch: Patch) -> None:
    judge = joins.judge

    def judge_softly(join: Any, threshold: int, fan_in: int, live: int, dead: int, halt: int, latest: m.Token) -> Any:
        return judge(join, threshold, fan_in, live, dead + halt, 0, latest)

    patch.setattr(joins, "judge", judge_softly)


def ignore_generations(patch: Patch) -> None:
    patch.setattr(Draft, "is_current", lambda _self, _message, row: row is not None)


def ignore_attempts(patch: Patch) -> None:
    """A result is taken whichever attempt it comes from."""
    finish = HANDLERS[m.TaskFinished]

    def finish_any(draft: Draft, message: m.TaskFinished) -> None:
        row = draft.find(message.stage_id)
        attempt = draft.task(row.id, message.position).attempt if row is not None else 0
        finish(draft, replace(message, attempt=attempt))

    patch.setitem(HANDLERS, m.TaskFinished, finish_any)


def settle_never(patch: Patch) -> None:
    """A round that has fired may fire again."""
    patch.setattr(evolve, "_settle", lambda *_: None)


def consume_no_signal(patch: Patch) -> None:
    deliver = evolve._APPLY[f.SignalDelivered]
    patch.setitem(
        evolve._APPLY, f.SignalDelivered, lambda view, fact, at: deliver(view, replace(fact, signal=None), at)
    )


def leave_the_waiting(patch: Patch) -> None:
    """A failure does not withdraw what waits for a person."""
    patch.setattr(ending, "_waiting", lambda _draft: [])


def begin_while_paused(patch: Patch) -> None:
    pause = evolve._APPLY[f.WorkflowPaused]

    def pause_in_name(view: Any, fact: f.WorkflowPaused, at: int) -> None:
        pause(view, fact, at)
        view.head = view.head._replace(paused=False)

    patch.setitem(evolve._APPLY, f.WorkflowPaused, pause_in_name)


def never_release(patch: Patch) -> None:
    patch.setattr(reactions, "let_go", lambda *_: None)


def give_a_lock_to_two(patch: Patch) -> None:
    def take_at_once(draft: Draft, row: Any, name: str, holder: str) -> bool:
        draft.record(f.Claimed(row.id, name, holder))
        return True

    patch.setattr(entering, "take", take_at_once)


def pass_to_the_last(patch: Patch) -> None:
    """A lock goes to who came last."""
    in_line = claims.in_line
    patch.setattr(claims, "in_line", lambda draft, name: iter([*in_line(draft, name)][::-1]))


def leave_the_losers(patch: Patch) -> None:
    patch.setattr(choice, "withdraw", lambda *_, **__: None)


def wake_nobody(patch: Patch) -> None:
    """Nobody looks at a milestone again."""
    patch.setattr(reactions, "_look_up", lambda *_: None)


def count_no_instances(patch: Patch) -> None:
    """The join waits only for the instances that were written down."""
    add = evolve._APPLY[f.InstanceAdded]

    def add_uncounted(view: Any, fact: f.InstanceAdded, at: int) -> None:
        add(view, fact, at)
        parent = evolve._stage(view, fact.stage)
        view.put(evolve.StageKey(parent.id), parent._replace(added=0))

    patch.setitem(evolve._APPLY, f.InstanceAdded, add_uncounted)
    patch.setattr(instances, "made_instances", lambda *_: [])


def tell_no_parent(patch: Patch) -> None:
    patch.setattr(complete_workflow, "_tell_parent", lambda *_: None)


BUGS = [
    Bug("an acknowledgement is dropped", drop_acknowledgement, 200, frozenset({"signals"})),
    Bug("an outcome that comes twice is counted twice", count_an_outcome_twice, 50),
    Bug("a jump forgets to re-arm joins", forget_to_rearm, 50),
    Bug("a jump forgets what came from outside", forget_arrivals, 50),
    Bug("dead tokens are not sent", send_no_dead_tokens, 20),
    Bug("HALT is taken for DEAD", take_halt_for_dead, 50),
    Bug("generations are ignored", ignore_generations, 100),
    Bug("attempts are ignored", ignore_attempts, 100),
    Bug("a round settles twice", settle_never, 20),
    Bug("a signal is consumed twice", consume_no_signal, 400, frozenset({"signals"})),
    Bug("a failure leaves what waits", leave_the_waiting, 400, frozenset({"fail"})),
    Bug("a pause is not kept", begin_while_paused, 400, frozenset({"pause"})),
    Bug("a lock is never released", never_release, 50, frozenset({"mutex"})),
    Bug("a lock is given to two", give_a_lock_to_two, 50, frozenset({"mutex"})),
    Bug("a lock goes to the last in line", pass_to_the_last, 400, frozenset({"mutex"})),
    Bug("losers of a choice stay", leave_the_losers, 50, frozenset({"deferred_choice"})),
    Bug("a milestone wakes nobody", wake_nobody, 400, frozenset({"milestone"})),
    Bug("a join does not count added instances", count_no_instances, 100, frozenset({"instances"})),
    Bug("a parent is not told of its child's end", tell_no_parent, 100, frozenset({"child"})),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug, monkeypatch: Patch):
    """The simulator diverges within so many seeds."""
    bug.plant(monkeypatch)

    assert found(bug) is not None, f"{bug.name}: no divergence in {bug.within} seeds"


def found(bug: Bug) -> int | None:
    """Return the first seed that diverges."""
    for seed in range(bug.within):
        try:
            simulate(make_plan(seed, BASE | bug.needs))
        except Divergence:
            return seed
    return None


def test_nothing_is_found_where_nothing_is_planted():
    """The same seeds agree without the bugs."""
    for needs in {bug.needs for bug in BUGS} - {frozenset({"instances"})}:
        assert found(Bug("none", lambda _patch: None, 50, needs)) is None
