"""
`mg-up` from every schema there was, killed before each statement and run again: `python -m tests.cli.upgrades URL`.

`{}` in the URL is a number, for a store of its own. A step to a version to come is added to those that there are, so
there is always an earlier schema. Each death is one of a process that was forked for it; this one has no threads.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from typing import Any

import apsw
import psycopg

from stabilize_nb.store import migrate as migrating
from stabilize_nb.store.database import applied_migrations, driver_of, migrate_store

TO_COME = """
ALTER TABLE workflow ADD COLUMN note TEXT;
CREATE TABLE note (id INTEGER PRIMARY KEY, said TEXT);
UPDATE workflow SET note = name;
INSERT INTO note (said) SELECT note FROM workflow;
"""
STEPS = (*migrating.migrations(), ("9999_to_come.sql", TO_COME))
KEPT = """
INSERT INTO workflow (id, application, name, status, context, about, created_at)
VALUES ('one', 'a', 'kept', 'RUNNING', '{}', '{}', 1)
"""


@contextmanager
def known(number: int) -> Iterator[None]:
    """Have this version know so many steps."""
    migrating.migrations = cache(lambda: STEPS[:number])
    migrating.schema.cache_clear()
    yield
    migrating.migrations = cache(lambda: STEPS)
    migrating.schema.cache_clear()


def hear_statements(heard: Callable[[], None]) -> None:
    """Have `heard` called before each statement of a connection that is made from now on."""

    def trace(*_: Any) -> bool:
        heard()
        return True

    def hook(connection: apsw.Connection) -> None:
        connection.exec_trace = trace

    apsw.connection_hooks.append(hook)
    execute = psycopg.Cursor.execute

    def heard_first(*given: Any, **words: Any) -> Any:
        heard()
        return execute(*given, **words)

    for kind in (psycopg.Cursor, psycopg.RawCursor):
        kind.execute = heard_first  # type: ignore[method-assign]


def die_at(step: int) -> None:
    """Kill this process before its statement of this number."""
    left = step

    def heard() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    hear_statements(heard)


def make(url: str, version: int) -> None:
    """Make a store of an earlier version, with a run in it; none of version 0."""
    if not version:
        return
    with known(version):
        migrate_store(url)
    with closing(driver_of(url).connect("full")) as connection:
        connection.begin()
        connection.script(KEPT)
        connection.commit()


def is_killed_at(step: int, url: str) -> bool:
    """Bring a store up in another process that is killed at a step; return whether it came to that."""
    child = os.fork()
    if not child:
        try:
            die_at(step)
            migrate_store(url)
            os._exit(0)
        except BaseException as error:  # a child must not go on as its parent
            sys.stderr.write(repr(error))
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise AssertionError(f"{url}: the command failed at step {step}")
    return os.WIFSIGNALED(status)


def judge(url: str, version: int) -> None:
    """Hold that a store is at an earlier version or the last, and that the same command brings it to the last."""
    before = [status for _, status, _ in applied_migrations(url)]
    done = before.count("applied")
    assert done in (version, len(STEPS)), before
    assert migrate_store(url) == [name for name, _ in STEPS[done:]]
    assert [status for _, status, _ in applied_migrations(url)] == ["applied"] * len(STEPS)
    with closing(driver_of(url).surveyor()) as connection:
        found = connection.raw.cursor().execute("SELECT note FROM workflow")
        assert [*found] == ([("kept",)] if version else [])


def main(template: str) -> None:
    """Print for each version how often the command was killed."""
    number = 0
    told: dict[int, int] = {}
    with known(len(STEPS)):
        for version in range(len(STEPS)):
            for step in range(10_000):
                number += 1
                url = template.format(number)
                make(url, version)
                killed = is_killed_at(step, url)
                judge(url, version)
                if not killed:
                    told[version] = step
                    break
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
