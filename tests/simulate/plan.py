"""What a seed stands for, as a value that prints as Python: workflows, what their bodies do, and what goes wrong.

Everything is made of tuples, text and numbers, so a report can be pasted into a test, and smaller plans are made of
larger ones by `dataclasses.replace`.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any


def _brief(value: Any) -> str:
    """Write a value as the call that makes it, leaving out what is as usual."""
    given = []
    for each in fields(value):
        usual = each.default_factory() if each.default_factory is not MISSING else each.default
        content = getattr(value, each.name)
        if usual is MISSING:
            given.append(repr(content))
        elif content != usual:
            given.append(f"{each.name}={content!r}")
    return f"{type(value).__name__}({', '.join(given)})"


@dataclass(frozen=True, repr=False)
class Many:
    """How many instances a stage has: those written down, and those made later, by itself or by orders from outside.

    The instances that are written down are stages `<ref>_instance_<i>` of their own, so is the join `<ref>_mi_join`.
    """

    later: tuple[int, ...] = ()  # so many are made when the parent ends, one number for each of its passes
    dynamic: bool = False  # orders from outside may add some
    threshold: int = 0
    condition: str = ""  # completed>=2 or half, if any
    does: tuple[str, ...] = ("ok",)  # of the instances that are not written down

    __repr__ = _brief


@dataclass(frozen=True, repr=False)
class Stage:
    """A stage and what its bodies do, call after call; the last answer is given again and again.

    Answers: ok, soft (FAILED_CONTINUE), skip, stop, fail, wait (suspend until a signal), poll, retry, jump:<ref>,
    loop:<ref> (a jump that is not counted), call:<flow> (a child workflow). Conditions in `when`: true, false, pass<2,
    pass>=2, where `pass` is how often a body of the stage had ended, its own end included.
    """

    ref: str
    after: tuple[str, ...] = ()
    does: tuple[str, ...] = ("ok",)
    tasks: int = 1
    join: str = "AND"
    threshold: int = 0
    split: str = "AND"
    when: tuple[tuple[str, str], ...] = ()
    default: str = ""
    enabled: bool = True
    on_failure: str = ""  # continue, stop, or late: what a failure of the stage means to the workflow
    timeout: int = 0  # ms; 0: none
    blocking: bool = False
    cancel_rest: bool = False
    thread_split: int = 1
    thread_merge: int = 1
    choice: str = ""
    mutex: str = ""
    section: str = ""
    milestone: tuple[str, str] = ("", "")  # ref and status
    until: str = ""
    region: str = ""
    cancels: tuple[str, ...] = ()
    cancels_regions: tuple[str, ...] = ()
    ends: str = ""
    jump_targets: tuple[str, ...] = ()
    many: Many | None = None
    parent: str = ""  # of a synthetic stage
    owner: str = ""

    __repr__ = _brief


@dataclass(frozen=True, repr=False)
class Flow:
    """One workflow; a `child` is begun by a stage of another one."""

    name: str
    stages: tuple[Stage, ...]
    max_jumps: int = 10
    child: bool = False

    __repr__ = _brief


@dataclass(frozen=True, repr=False)
class Act:
    """An order from outside, given after so many commits: signal, keep (a persistent signal), cancel, region, end,
    pause, resume, add, complete or close (a multi-instance activity).
    """

    at: int
    kind: str
    flow: str
    ref: str = ""

    __repr__ = _brief


@dataclass(frozen=True, repr=False)
class Chaos:
    """In what order the work is done, and what goes wrong meanwhile; probabilities are for each message."""

    seed: int
    budget: int = 32  # messages that may be folded into one commit
    slots: int = 4  # bodies that may be begun in the commit that orders them
    prefetch: bool = True
    delay: int = 0  # ms that a message may be late
    repeat: float = 0.0  # a message comes a second time, at any later moment
    lose: float = 0.0  # the lease of a body that runs runs out
    crash: float = 0.0  # the process dies with all its bodies
    abort: float = 0.0  # a decision is lost before its commit

    __repr__ = _brief


@dataclass(frozen=True, repr=False)
class Plan:
    """All that one simulation does; the same plan always does the same."""

    flows: tuple[Flow, ...]
    acts: tuple[Act, ...] = ()
    chaos: Chaos = field(default_factory=lambda: Chaos(0))

    __repr__ = _brief

    def flow(self, name: str) -> Flow:
        return next(flow for flow in self.flows if flow.name == name)

    def show(self) -> str:
        """Return the plan as Python, a stage a line."""
        lines = ["Plan(", "    flows=("]
        for flow in self.flows:
            rest = _brief(flow).partition(repr(flow.stages))[2]
            lines += [f"        Flow({flow.name!r}, (", *(f"            {stage!r}," for stage in flow.stages)]
            lines += [f"        ){rest},"]
        lines += ["    ),"]
        if self.acts:
            lines += ["    acts=(", *(f"        {act!r}," for act in self.acts), "    ),"]
        return "\n".join([*lines, f"    chaos={self.chaos!r},", ")"])
