"""
Statements of PostgreSQL that are sent together and answered together: one round trip, whatever their number.

psycopg's own cursors take several times the time for it, so this speaks to libpq through `psycopg.pq`. Statements are
prepared when they are first used in a session. The server carries them out in the order in which they were sent; what
comes after one that failed is not carried out.
"""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Statuses of results after which nothing of a round trip is left to come.
_END: Final = pq.ExecStatus.PIPELINE_SYNC
_FAILED: Final = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED)
#: What waits for a socket and has no descriptor of its own.
_Selector: Final[type[selectors.BaseSelector]] = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Order(NamedTuple):
    """A statement to be sent: the name under which it is prepared, and its parameters as they travel."""

    name: str
    sql: str
    values: list[bytes | None]
    formats: list[int] | None


def order(name: str, sql: str, values: Sequence[Any] = ()) -> Order:
    """Return an order with these parameters; raises what comes of a value that cannot be written."""
    formats = [int(value.__class__ is bytes) for value in values]
    return Order(name, sql, [_written(value) for value in values], formats if any(formats) else None)


def _written(value: Any) -> bytes | None:
    if value is None or value.__class__ is bytes:
        return value
    return (value if value.__class__ is str else repr(value)).encode()


class Pipeline:
    """One session with what is prepared in it; used by one thread at a time. `trips`: how often it has waited."""

    def __init__(self, session: psycopg.Connection[Any]) -> None:
        self._link = session.pgconn
        self._texts = Transformer(session)
        self._prepared: set[str] = set()
        self.trips = 0

    def send(self, orders: Sequence[Order]) -> list[pq.abc.PGresult]:
        """
        Have the server carry out orders, and wait; returns a result for each.

        Raises psycopg.Error for the first that failed: those before it took effect as far as their transaction does.
        """
        link = self._link
        expected: list[str] = []  # what is prepared by each result; "": it is that of an order
        fresh: set[str] = set()
        link.enter_pipeline_mode()
        for name, sql, values, formats in orders:
            key = name.encode()
            if name not in self._prepared and name not in fresh:
                fresh.add(name)
                expected.append(name)
                link.send_prepare(key, sql.encode())
            expected.append("")
            link.send_query_prepared(key, values, formats)
        link.pipeline_sync()
        self.trips += 1
        answers = self._answers()
        link.exit_pipeline_mode()
        return self._judged(expected, answers)

    def rows(self, result: pq.abc.PGresult) -> list[tuple[Any, ...]]:
        """Return the rows of a result."""
        self._texts.set_pgresult(result)
        return self._texts.load_rows(0, result.ntuples, tuple)

    def _judged(self, expected: Sequence[str], answers: Sequence[pq.abc.PGresult]) -> list[pq.abc.PGresult]:
        results = []
        for name, answer in zip(expected, answers, strict=False):
            if answer.status in _FAILED:
                raise psycopg.errors.error_from_result(answer)
            if name:
                self._prepared.add(name)
            else:
                results.append(answer)
        return results

    def _answers(self) -> list[pq.abc.PGresult]:
        """Send everything, and return all results of this round trip; other threads run meanwhile."""
        link = self._link
        with _Selector() as waiting:
            waiting.register(link.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while link.flush():
                if any(ready & selectors.EVENT_READ for _, ready in waiting.select()):
                    link.consume_input()
            waiting.modify(link.socket, selectors.EVENT_READ)
            answers: list[pq.abc.PGresult] = []
            while (answer := self._answer(waiting)) is None or answer.status != _END:
                if answer is not None:
                    answers.append(answer)
                if link.status == pq.ConnStatus.BAD:
                    raise _gone(answer)
            return answers

    def _answer(self, waiting: selectors.BaseSelector) -> pq.abc.PGresult | None:
        """Return the next result; None comes after each."""
        link = self._link
        while link.is_busy():
            waiting.select()
            link.consume_input()
        return link.get_result()


def _gone(answer: pq.abc.PGresult | None) -> psycopg.Error:
    """Return what to say of a session that ended while an answer was awaited."""
    if answer is not None and answer.status in _FAILED:
        return psycopg.errors.error_from_result(answer)
    return psycopg.OperationalError("the server closed the connection")
