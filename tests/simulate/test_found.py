"""What the simulator has found, as plans that must agree for good, in the order in which it was found and in others."""

from dataclasses import dataclass, replace

import pytest

from tests.simulate.plan import Act, Chaos, Flow, Many, Plan, Stage
from tests.simulate.simulation import simulate

#: Further orders in which the work of each plan is done.
ORDERS = range(1, 25)


@dataclass(frozen=True)
class Found:
    """A plan on which engine and model once did not agree."""

    name: str
    plan: Plan


def _under_way(*above: Stage) -> Plan:
    """Return a plan of three threads that go to a cancelling join by a short way, and by a longer one that waits."""
    *rest, last = (Stage("x", ("s",)), *above)
    longer = (*rest, replace(last, does=("wait", "ok")))
    join = Stage("m", ("f", "g"), join="DISCRIMINATOR", cancel_rest=True)
    stages = (Stage("s", thread_split=3), Stage("f", ("s",)), *longer, join, Stage("n", ("m",)))
    return Plan((Flow("w0", stages),), chaos=Chaos(0, slots=1))


FOUND = (
    Found(
        "an instance that was withdrawn before its parent ended without a thread is left alone",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s0", does=("wait", "ok"), region="R", many=Many(dynamic=True, does=("stop",))),
                        Stage("s0_instance_0", after=("s0",), region="R"),
                    ),
                ),
            ),
            acts=(Act(29, "add", "w0", ref="s0"), Act(32, "region", "w0", ref="R")),
            chaos=Chaos(4068532005),
        ),
    ),
    Found(
        "an instance that was withdrawn before its parent was broken off says nothing more",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s0", does=("wait", "stop"), many=Many(dynamic=True)),
                        Stage("s0_instance_0", after=("s0",), region="R"),
                        Stage("s0_mi_join", after=("s0_instance_0",)),
                    ),
                ),
            ),
            acts=(Act(3, "add", "w0", ref="s0"), Act(4, "region", "w0", ref="R")),
            chaos=Chaos(0, budget=1),
        ),
    ),
    Found(
        "a run that waits for its milestone again gives back the lock that was passed on to it",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s0", does=("wait", "skip"), mutex="k1"),
                        Stage("s1", mutex="k1", milestone=("s0", "SUSPENDED")),
                        Stage("s3", does=("jump:s0", "ok"), mutex="k1"),
                    ),
                ),
            ),
            chaos=Chaos(1861197854),
        ),
    ),
    Found(
        "the join of an activity that was closed does not fire when its parent was not chosen",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s0", split="XOR"),
                        Stage("s1", after=("s0",), many=Many(dynamic=True, condition="completed>=2", does=("soft",))),
                        Stage("s1_instance_0", after=("s1",)),
                        Stage("s1_mi_join", after=("s1_instance_0",)),
                    ),
                ),
            ),
            acts=tuple(Act(at, "close", "w0", ref="s1") for at in range(2, 7)),
            chaos=Chaos(3752785119, budget=1),
        ),
    ),
    Found(
        "cancelling an activity whose parent was left by a jump cancels nothing",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s0", does=("jump:s1", "ok"), cancels=("s0",), many=Many(later=(0, 3))),
                        Stage("s0_mi_join", after=("s0",)),
                        Stage("s1"),
                    ),
                ),
            ),
            chaos=Chaos(3172513414),
        ),
    ),
    Found(
        "a stage that was blocked in one round and fires in a later one is not over while it waits",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s0", thread_split=2, cancels=("s4",)),
                        Stage("s1", after=("s0",)),
                        Stage("s4", after=("s1",)),
                        Stage("s6", choice="c0"),
                        Stage("s7", after=("s4",), choice="c0"),
                    ),
                ),
            ),
            chaos=Chaos(0, slots=0),
        ),
    ),
    Found(
        "a thread merge takes threads also after a branch was broken off",
        Plan(
            (
                Flow("w0", (Stage("s1", does=("call:c1", "ok")),)),
                Flow(
                    "c1",
                    (
                        Stage("s0", thread_split=3, cancels=("s1",)),
                        Stage("s1", after=("s0",)),
                        Stage("s3", after=("s1",), thread_merge=2),
                    ),
                    child=True,
                ),
            ),
            chaos=Chaos(1),
        ),
    ),
    Found(
        "a part of a stage that a jump resets is cleaned up once",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s0", does=("jump:s1", "ok")),
                        Stage("s1"),
                        Stage("s1_part_0", parent="s1", owner="STAGE_BEFORE"),
                    ),
                ),
            ),
            chaos=Chaos(2385607327),
        ),
    ),
    Found(
        "a timer that comes twice does not end what runs because of it",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s0", does=("wait", "ok"), timeout=5),
                        Stage("s0_part_0", does=("wait", "ok"), parent="s0", owner="STAGE_FAILURE"),
                    ),
                ),
            ),
            chaos=Chaos(2, repeat=0.9),
        ),
    ),
    Found(
        "what runs on failure ends when the workflow fails meanwhile and its first part is withdrawn",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s0", split="XOR", when=(("s3", "true"), ("s4", "false"))),
                        Stage("s2", does=("retry", "ok"), timeout=300),
                        Stage("s3", after=("s0",)),
                        Stage("s4", after=("s0", "s3"), join="N_OF_M"),
                        Stage("s2_part_0", does=("wait", "ok"), parent="s2", owner="STAGE_FAILURE"),
                        Stage("s2_part_1", after=("s2_part_0",), parent="s2", owner="STAGE_FAILURE"),
                    ),
                ),
            ),
            chaos=Chaos(3443761946),
        ),
    ),
    Found(
        "a member of a choice that has parts and no tasks decides the choice",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s1", tasks=0, choice="c1"),
                        Stage("s2", choice="c1"),
                        Stage("s1_part_0", parent="s1", owner="STAGE_BEFORE"),
                    ),
                ),
            ),
            chaos=Chaos(3003478443),
        ),
    ),
    Found(
        "a blocking join with one edge fires for every thread",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s1", thread_split=2),
                        Stage("s4", after=("s1",), join="N_OF_M", blocking=True),
                    ),
                ),
            ),
            chaos=Chaos(1),
        ),
    ),
    Found(
        "a section keeps its lock while further runs of its stages are reset",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s0", thread_split=3, mutex="k0", section="one"),
                        Stage("s1", after=("s0",)),
                        Stage("s3", after=("s1",), does=("jump:s1", "ok"), mutex="k0", section="one"),
                    ),
                ),
                Flow("w1", (Stage("s0", mutex="k0"),)),
            ),
            chaos=Chaos(1, abort=0.05),
        ),
    ),
    Found(
        "a section keeps its lock while its last stage is at work and reset",
        Plan(
            (
                Flow(
                    "w1",
                    (
                        Stage("s0"),
                        Stage("s1", does=("jump:s0", "ok")),
                        Stage("s2", mutex="k0", section="one"),
                        Stage("s3", after=("s0",), does=("wait", "ok"), mutex="k0", section="one"),
                        Stage("s4", mutex="k0"),
                    ),
                ),
            ),
            chaos=Chaos(1),
        ),
    ),
    Found(
        "a section gives its lock back when a stage of the same name with another lock is repeated",
        Plan(
            (
                Flow(
                    "w2",
                    (
                        Stage("s0", mutex="k0", section="one", many=Many(dynamic=True, condition="completed>=2")),
                        Stage("s0_instance_0", after=("s0",), mutex="k1"),
                        Stage("s1", after=("s0",), does=("jump:s0", "ok"), mutex="k1", section="one"),
                    ),
                ),
            ),
            chaos=Chaos(0),
        ),
    ),
    Found(
        "an OR-join that waited for a jump does not fire while the workflow fails",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s0"),
                        Stage("s2", split="OR", when=(("s1", "true"), ("s3", "pass<2"))),
                        Stage("s1", after=("s2",), does=("jump:s2", "fail"), jump_targets=("s2",)),
                        Stage("s3", after=("s2",)),
                        Stage("s4", after=("s0", "s3"), join="OR"),
                    ),
                ),
            ),
            chaos=Chaos(6),
        ),
    ),
    Found(
        "a join that fails has only what it has for that run, and nothing before its tasks",
        Plan(
            (
                Flow(
                    "w1",
                    (
                        Stage("s0", split="XOR", default="s2"),
                        Stage("s2", after=("s0",)),
                        Stage("s3", after=("s0", "s2"), join="N_OF_M"),
                        Stage("s3_part_0", parent="s3", owner="STAGE_FAILURE"),
                        Stage("s3_part_2", parent="s3", owner="STAGE_BEFORE"),
                    ),
                ),
            ),
            chaos=Chaos(3237958535),
        ),
    ),
    Found(
        "a cancelling join withdraws the instances that an activity in a branch has made",
        Plan(
            (
                Flow(
                    "w1",
                    (
                        Stage("s0", many=Many(later=(1, 0))),
                        Stage("s0_mi_join", after=("s0",)),
                        Stage("s1", after=("s0_mi_join",)),
                        Stage("s2", after=("s0", "s1"), join="DISCRIMINATOR", cancel_rest=True),
                    ),
                ),
            ),
            chaos=Chaos(2257104970),
        ),
    ),
    Found(
        "an activity that is closed with all its instances done leaves alone what comes late to its parent",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s0"),
                        Stage("s1", does=("wait", "ok")),
                        Stage(
                            "s2",
                            after=("s0", "s1"),
                            join="DISCRIMINATOR",
                            many=Many(dynamic=True, condition="completed>=2", does=("soft",)),
                        ),
                        Stage("s2_mi_join", after=("s2",), join="N_OF_M", cancel_rest=True),
                    ),
                ),
            ),
            acts=(Act(14, "add", "w0", ref="s2"),),
            chaos=Chaos(0),
        ),
    ),
    Found(
        "an activity that has enough withdraws what comes late to its parent with an instance that was added",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s1"),
                        Stage("s2", does=("retry", "retry", "retry", "soft")),
                        Stage(
                            "s3",
                            after=("s1", "s2"),
                            join="DISCRIMINATOR",
                            many=Many(dynamic=True, condition="completed>=2"),
                        ),
                        Stage("s3_instance_0", after=("s3",)),
                        Stage("s3_mi_join", after=("s3_instance_0",), tasks=0, join="N_OF_M", cancel_rest=True),
                    ),
                ),
            ),
            acts=(
                Act(5, "add", "w0", ref="s3"),
                Act(17, "add", "w0", ref="s3"),
                Act(21, "add", "w0", ref="s3"),
                Act(23, "close", "w0", ref="s3"),
            ),
            chaos=Chaos(555099822, budget=2, slots=0, delay=800, repeat=0.4, lose=0.3),
        ),
    ),
    Found(
        "a lock that a jump sets free goes to nobody who waited for it and is reset by the jump, too",
        Plan(
            (
                Flow(
                    "w0",
                    (
                        Stage("s0"),
                        Stage("s2", after=("s0",)),
                        Stage("s3", mutex="k0", section="two"),
                        Stage("s4", after=("s0",), does=("jump:s0", "jump:s0", "ok"), mutex="k0"),
                        Stage("s5", after=("s2",), mutex="k0", section="two"),
                    ),
                ),
            ),
            chaos=Chaos(2),
        ),
    ),
    *(
        Found(f"a cancelling join withdraws the threads that are under way to {kind}", _under_way(*above))
        for kind, above in {
            "a stage": (Stage("g", ("x",)),),
            "a stage behind another": (Stage("y", ("x",)), Stage("g", ("y",))),
            "a join": (Stage("z", ("s",)), Stage("g", ("x", "z"))),
            "a multi-merge": (Stage("z", ("s",)), Stage("g", ("x", "z"), join="MULTI_MERGE")),
            "a thread merge": (Stage("g", ("x",), thread_merge=2),),
        }.items()
    ),
)


@pytest.mark.parametrize("found", FOUND, ids=lambda found: found.name)
def test_what_was_found_stays_mended(found: Found):
    """Engine and model agree in the order in which they once did not, and in others with small and large commits."""
    chaos = found.plan.chaos
    simulate(found.plan)

    for seed in ORDERS:
        simulate(replace(found.plan, chaos=replace(chaos, seed=seed, budget=1 if seed % 2 else 32)))
