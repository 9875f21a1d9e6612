"""The logs of many runs, as one frame."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from stabilize_nb.engine import default_engine, store_path, store_url
from stabilize_nb.errors import ConfigError
from stabilize_nb.events.log_frame import events_of_many
from stabilize_nb.run import Run
from stabilize_nb.run_state import aware
from stabilize_nb.store.database import Database

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    import pandas as pd


class Stored(Protocol):
    """What has a database with a log: an Engine, a WorkflowStore, a SqliteEventStore."""

    @property
    def database(self) -> Database:
        """The database."""


def events(
    store: Stored | str | os.PathLike[str] | None = None,
    *,
    application: str | None = None,
    name: str | None = None,
    since: datetime | str | None = None,
    runs: Iterable[str | Run] | None = None,
) -> pd.DataFrame:
    """
    Frame of the logs of all runs, or of those that are meant, one row a fact; columns: `events.frames.EVENTS`.

    `store`: an Engine, a store, a file or URL as Engine takes it, or a copy of a log; nothing for the default engine.
    `application`, `name`: of the workflow. `since`: runs made then or later (datetime, or text such as "2026-11-01";
    of this machine's zone unless it says one). `runs`: ids or Run objects. Ordered by `run_id`, then `seq`.

    Raises ConfigError for a file that is not there and a time that cannot be meant, and what opening a store raises.
    """
    began = None if since is None else _ms(since)
    ids = None if runs is None else [each.id if isinstance(each, Run) else each for each in runs]
    database, close = _opened(store)
    try:
        return events_of_many(database, application, name, began, ids)
    finally:
        if close:
            database.close()


def _opened(store: Stored | str | os.PathLike[str] | None) -> tuple[Database, bool]:
    """Return the database of a store, and whether it was opened for this."""
    if store is None:
        return default_engine().database, False
    if hasattr(store, "database"):
        return store.database, False
    url = store_url(store)
    path = store_path(url)
    if path is not None and not path.exists():
        raise ConfigError(f"there is no store at {path}; give the file of one, its URL, or an Engine")
    return Database.open(url), True


def _ms(since: datetime | str) -> int:
    try:
        return round(aware(datetime.fromisoformat(since) if isinstance(since, str) else since).timestamp() * 1_000)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConfigError(f"since={since!r} is no time: give a datetime, or text such as '2026-11-01'") from error
