"""The join rules, whole: what the latest outcome of a round means for its stage.

| join          | a round fires                                          | a complete round that did not fire       |
|---------------|--------------------------------------------------------|------------------------------------------|
| AND           | complete, no HALT, at least one LIVE                   | all DEAD: prune; a HALT: block           |
| OR            | complete, at least one LIVE                            | all DEAD: prune; DEAD and HALT: block    |
| MULTI_MERGE   | at every LIVE, for itself                              | no LIVE: all DEAD: prune; else block     |
| DISCRIMINATOR | at its first LIVE                                      | all DEAD: prune; DEAD and HALT: block    |
| N_OF_M        | when LIVE reaches the threshold (0: all)               | all DEAD: prune; out of reach: fail, or  |
|               |                                                        | block where a HALT took part             |

A round is complete when every edge has given its outcome. Dead-path elimination makes AND and OR nearly one
rule: a branch not taken says so, and no join looks further than its own edges. Source: patterns.md 2.2.
"""

from __future__ import annotations

from enum import Enum

from stabilize_nb.models.stage import JoinType
from stabilize_nb.queue.messages import Token


class Verdict(Enum):
    """What a round does after an outcome."""

    WAIT = "WAIT"  # not decided, or decided before
    FIRE = "FIRE"  # the stage starts
    PRUNE = "PRUNE"  # no thread can come: skipped, DEAD goes on
    BLOCK = "BLOCK"  # broken off: never runs, HALT goes on
    FAIL = "FAIL"  # the threshold is out of reach


def judge(join: JoinType, threshold: int, fan_in: int, live: int, dead: int, halt: int, latest: Token) -> Verdict:
    """Say what a round that is not settled does, `latest` being the outcome that has just been counted."""
    pending = fan_in - live - dead - halt
    if join is JoinType.N_OF_M:
        return _quorum(threshold or fan_in, live, halt, pending)
    if join is JoinType.MULTI_MERGE and latest is Token.LIVE:
        return Verdict.FIRE
    if join is JoinType.DISCRIMINATOR and live:
        return Verdict.FIRE
    if pending:
        return Verdict.WAIT
    if join is JoinType.AND and halt:
        return Verdict.BLOCK
    if live:
        return Verdict.WAIT if join is JoinType.MULTI_MERGE else Verdict.FIRE
    return Verdict.BLOCK if halt else Verdict.PRUNE


def _quorum(threshold: int, live: int, halt: int, pending: int) -> Verdict:
    if live >= threshold:
        return Verdict.FIRE
    if live and live + pending < threshold:
        return Verdict.BLOCK if halt else Verdict.FAIL
    if pending:
        return Verdict.WAIT
    return Verdict.BLOCK if halt else Verdict.PRUNE
