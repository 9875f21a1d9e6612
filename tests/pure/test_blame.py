"""Whom the deaths of processes give up: those that kill, after three, and nobody who was beside them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from stabilize_nb.core.blame import after_death, suspicion

DEATHS = 3


@dataclass
class Town:
    """Processes that take bodies in turn, a suspect alone; a killer among those at work kills its process."""

    killers: frozenset[int]
    waiting: list[int]
    lost: Counter[int] = field(default_factory=Counter)
    died: Counter[int] = field(default_factory=Counter)
    at_work: dict[int, list[int]] = field(default_factory=dict)
    given_up: set[int] = field(default_factory=set)

    def is_suspect(self, body: int) -> bool:
        return self.lost[body] >= suspicion(DEATHS)

    def take(self, process: int) -> None:
        """Take what waits first, unless a suspect is at work, or it is one and others are."""
        mine = self.at_work.setdefault(process, [])
        if not self.waiting or any(map(self.is_suspect, mine)) or (mine and self.is_suspect(self.waiting[0])):
            return
        body = self.waiting.pop(0)
        (self.given_up.add if self.lost[body] >= DEATHS else mine.append)(body)

    def end(self, process: int, chosen: int) -> None:
        """Have a body of a process end, or the process with all that it has in hand."""
        mine = self.at_work.get(process) or []
        if not mine:
            return
        body = mine.pop(chosen % len(mine))
        if body in self.killers:
            self.die(process, [body, *mine])

    def die(self, process: int, mine: list[int]) -> None:
        for body in mine:
            self.lost[body] = after_death(self.lost[body], alone=len(mine) == 1, deaths=DEATHS)
            self.died[body] += 1
        self.waiting[:0] = mine
        self.at_work[process] = []

    def play_to_the_end(self) -> None:
        while self.waiting or any(self.at_work.values()):
            for process in list(self.at_work):
                self.take(process)
                self.end(process, 0)


@given(
    st.sets(st.integers(0, 9)),
    st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, 9)), max_size=80),
)
def test_killers_alone_are_given_up(killers: set[int], moves: list[tuple[bool, int, int]]) -> None:
    """Each by its third death, whoever was beside it; the others all end."""
    town = Town(frozenset(killers), list(range(10)), at_work={process: [] for process in range(3)})
    for takes, process, chosen in moves:
        town.take(process) if takes else town.end(process, chosen)
    town.play_to_the_end()

    assert town.given_up == killers
    assert all((town.died[body], town.lost[body]) == (DEATHS, DEATHS) for body in killers)


@given(st.lists(st.booleans(), max_size=20), st.integers(1, 6))
def test_the_last_death_was_alone(deaths: list[bool], limit: int) -> None:
    """No number of deaths in company gives up what needs more than one; each counts until one is missing."""
    lost = 0
    for at, alone in enumerate(deaths, 1):
        before, lost = lost, after_death(lost, alone=alone, deaths=limit)

        assert before <= lost <= before + 1
        assert lost >= min(at, suspicion(limit))
        assert limit == 1 or alone or lost < limit or before >= limit
