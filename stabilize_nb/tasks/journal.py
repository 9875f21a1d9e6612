"""Durable steps inside one body: what was done once is not done again when the body is run again (C2).

A step is known by the logical call of its task, its name, and its number among the steps of that name in this
attempt. The result is committed before it is returned, unless the worker has lost its claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from stabilize_nb.errors import PermanentError, ValueNotStorableError
from stabilize_nb.models.calls import BudgetExceededError, BudgetHeldError, lost_call, outcome_said
from stabilize_nb.models.gate import DECISIONS, fingerprint_of
from stabilize_nb.models.question import Answer, Question, WaitsForPerson
from stabilize_nb.models.settling import ASK, RETRY, unknown
from stabilize_nb.models.values import plain
from stabilize_nb.secrets.hiding import hidden
from stabilize_nb.tasks.steps import Pause, Steps, Store, Work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stabilize_nb.models.calls import Call, Terms

#: Seconds between two looks at a budget of which the rest is reserved.
HELD: Final = 0.2
#: A step: its name, and its number among those of that name.
Key = tuple[str, int]


class JournalStore(Protocol):
    """Where the results of steps are kept."""

    def recorded(self) -> dict[Key, Any]:
        """Return the results of the steps of this logical call that are committed."""

    def record(self, key: Key, value: Any) -> None:
        """Commit the result of a step."""

    def begin(self, key: Key, call: Call) -> Terms | None:
        """Commit that a call is about to be made, and reserve what it may take; return the terms of its budget.

        Raises BudgetExceededError, and BudgetHeldError when what is left is reserved.
        """

    def settle(self, key: Key, call: Call, value: Any) -> None:
        """Commit the answer to a call, and what it took instead of what was reserved."""

    def fail(self, key: Key, error: BaseException) -> None:
        """Commit that a call failed, or that nobody waits for it any more."""

    def note_begin(self, key: Key) -> None:
        """Remember when a call was begun that is noted only with its answer."""

    def was_begun(self, key: Key) -> bool:
        """Whether the call was begun before and nobody knows what became of it."""

    def extend(self, key: Key, value: Any, amounts: Mapping[str, Any]) -> None:
        """Commit the answer of a person by which the budget has that much more."""


class Resumed(NamedTuple):
    """With what a body was resumed: what it had asked, and the signal."""

    asked: Mapping[str, Any]
    signal: str
    data: Mapping[str, Any]


class Journal:
    """The steps of one attempt of one body."""

    def __init__(self, store: JournalStore, place: str, resumed: Resumed | None = None) -> None:
        self._store = store
        self._place = place
        self._resumed = resumed
        self._known: dict[Key, Any] | None = None
        self._numbers: dict[str, Iterator[int]] = {}
        self.replayed = 0

    def step(self, name: str, work: Callable[[], Any]) -> Steps:
        """Return the committed result of the step, or do the work and commit what it returns."""
        key = self._key(name)
        known = yield Store(self._recorded)
        if key in known:
            self.replayed += 1
            return known[key]
        value = yield Work(work)
        place = self._place_of(name)
        if type(value) is CoroutineType:
            value.close()
            msg = f"{place} is of type coroutine: write `await stage.step_async(...)`, in an `async def` body"
            raise ValueNotStorableError(msg)
        kept = hidden(plain(value, place))
        yield Store(lambda: self._store.record(key, kept))
        return kept

    def call(self, call: Call) -> Steps:
        """Do the same for a call of a model or tool, and note what it takes."""
        key = self._key(call.name)
        known = yield Store(self._recorded)
        if key in known:
            self.replayed += 1
            return known[key]
        terms = None
        if call.is_noted:
            if call.on_crash != RETRY and (yield Store(lambda: self._store.was_begun(key))):
                said = yield from self._became(call)
                if said is not None:
                    yield Store(lambda: self._store.settle(key, call, said))
                    return said
            terms = yield from self._begin(key, call)
        else:
            self._store.note_begin(key)
        try:
            value = yield Work(lambda: call.make(terms))
        except BaseException as error:
            failure = error  # the name above ends with the block
            if call.is_noted:
                yield Store(lambda: self._store.fail(key, failure))
            raise
        kept = hidden(plain(value, self._place_of(call.name)))
        yield Store(lambda: self._store.settle(key, call, kept))
        return kept

    def ask(self, name: str, question: Question) -> Steps:
        """Return what a person has answered; raises WaitsForPerson when nobody has."""
        return (yield from self._ask(name, question, self._store.record))

    def _ask(self, name: str, question: Question, keep: Callable[[Key, Any], None], *, of_this: bool = True) -> Steps:
        """`of_this`: the answer counts only for exactly this question."""
        key = self._key(name)
        known = yield Store(self._recorded)
        asked = hidden({**question.asked(), "step": [*key]})
        shown = fingerprint_of(asked)
        found = known.get(key)
        if found is None:
            found = self._answer(asked, shown, of_this=of_this)
            if found is None:
                raise WaitsForPerson(asked)
            yield Store(lambda: keep(key, found))
        if of_this and found["fingerprint"] != shown:
            raise PermanentError(f"{self._place}: what was decided at {name!r} was about something else than this")
        return Answer(choice=found["choice"], data=found["data"])

    def _answer(self, asked: Mapping[str, Any], shown: str, *, of_this: bool) -> dict[str, Any] | None:
        """Return the answer by which the body was resumed, if it is about this."""
        resumed = self._resumed
        if resumed is None or resumed.signal not in DECISIONS or resumed.asked.get("step") != asked["step"]:
            return None
        if of_this and fingerprint_of(resumed.asked) != shown:
            return None
        choice = resumed.data.get("decision", resumed.signal)
        return {"choice": choice, "data": dict(resumed.data), "fingerprint": shown}

    def _begin(self, key: Key, call: Call) -> Steps:
        while True:
            try:
                return (yield Store(lambda: self._store.begin(key, call)))
            except BudgetHeldError:
                yield Pause(HELD)
                continue
            except BudgetExceededError as exceeded:
                if exceeded.question is None:
                    raise
                question, over = exceeded.question, exceeded
            answer = yield from self._ask(f"budget for {key[0]} {key[1]}", question, self._extend, of_this=False)
            if not answer.approves:
                raise BudgetExceededError(f"{over}; more of it was {answer.told}")

    def _extend(self, key: Key, answer: Mapping[str, Any]) -> None:
        self._store.extend(key, answer, answer["data"])

    def _became(self, call: Call) -> Steps:
        """Return what a person says that a lost call has returned; None: it is to be made again."""
        if call.on_crash != ASK:
            raise PermanentError(f"{self._place}: the call of {call.target!r}: {unknown()}")
        answer = yield from self.ask(f"{call.name} lost", lost_call(call))
        return outcome_said(self._place, call, answer)

    def _key(self, name: str) -> Key:
        """Number a step: in the body itself, so that steps which go on at once have the order in which they began."""
        return name, next(self._numbers.setdefault(name, count(1)))  # also in threads, no number is given twice

    def _recorded(self) -> dict[Key, Any]:
        if self._known is None:
            self._known = self._store.recorded()
        return self._known

    def _place_of(self, name: str) -> str:
        return f"{self._place} step {name!r} result"
