"""
Who killed a process? Each body that was at work in it may have, or somebody from outside.

The deaths of its process are counted for each body; as many as `deaths` in a row give it up. A death in company is a
suspicion, and suspicion alone is never enough: the last death, which gives a body up, must have found it alone. So one
that only needs that death to be given up is a suspect, and a suspect is begun when nothing else is at work in its
process, where nothing else is begun before it has ended. A body that kills its process is found by its third death; no
number of deaths of those beside it proves anything about another.
"""

from __future__ import annotations


def suspicion(deaths: int) -> int:
    """Return how often a body has been lost that is a suspect."""
    return max(1, deaths - 1)


def after_death(lost: int, *, alone: bool, deaths: int) -> int:
    """Return how often a body counts as lost once its process has died; `alone`: that had nothing else at work."""
    return lost + 1 if alone or lost < suspicion(deaths) else lost
