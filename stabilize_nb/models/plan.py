"""
When something recurring is due: a cron expression in a time zone, and what is done about times that nobody saw.

Times are ms since the epoch (UTC). On days when clocks are changed, cronsim does as Debian's cron does: what is due at
a local time that there is not is due right after the gap, what is due at one that there is twice is due once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from typing import Final, Literal, get_args
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from stabilize_nb.errors import ConfigError

#: What is done about due times that nobody saw: the last one counts, each counts, or none does.
CatchUp = Literal["one", "all", "skip"]
#: ms by which a due time may be seen late and still be on time.
GRACE: Final = 60_000
#: Times that are made up for at once; more follow.
MOST: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A recurrence. Raises ConfigError for what is none."""

    cron: str
    timezone: str = "UTC"
    catch_up: CatchUp = "one"

    def __post_init__(self) -> None:
        if self.catch_up not in get_args(CatchUp):
            known = ", ".join(map(repr, get_args(CatchUp)))
            raise ConfigError(f"catch_up={self.catch_up!r} is not known; write one of {known}")
        try:
            zone = self._zone
        except (ValueError, OSError, KeyError):
            raise ConfigError(
                f"timezone={self.timezone!r} is not known here; write a name such as 'Europe/Berlin'"
            ) from None
        try:
            CronSim(self.cron, datetime(2000, 1, 1, tzinfo=zone))
        except (CronSimError, AttributeError) as error:
            raise ConfigError(
                f"cron={self.cron!r} cannot be read ({error}): minute, hour, day of the month, month and weekday are "
                "expected, such as '0 7 * * *' for every day at seven"
            ) from None

    @property
    def _zone(self) -> tzinfo:
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)

    @property
    def words(self) -> str:
        """What the expression says, in English."""
        return CronSim(self.cron, datetime(2000, 1, 1, tzinfo=UTC)).explain()

    def local(self, at: int) -> str:
        """Return a time as ISO 8601 text in the zone of the plan."""
        return datetime.fromtimestamp(at / 1_000, self._zone).isoformat(timespec="seconds")

    def after(self, at: int) -> int | None:
        """Return the first due time after `at`; None when there is none in the next fifty years."""
        start = datetime.fromtimestamp(at // 1_000, self._zone)
        return next((due for due in _times(CronSim(self.cron, start)) if due > at), None)

    def last(self, at: int) -> int | None:
        """Return the last due time up to `at`; None when there was none in fifty years."""
        start = datetime.fromtimestamp(at // 1_000, self._zone) + timedelta(seconds=1)
        return next((due for due in _times(CronSim(self.cron, start, reverse=True)) if due <= at), None)

    def firings(self, due: int, now: int) -> tuple[tuple[int, ...], int | None]:
        """
        Return which due times count now, oldest first, and what is due next.

        `due`: the first one that nothing was done about. Those of the last minute always count, the others as
        `catch_up` says; what is due next may be due already, when very many are made up for.
        """
        if self.catch_up == "all":
            found = tuple(islice(self._from(due, now), MOST))
            return found, self.after(found[-1]) if found else due
        found = tuple(self._from(max(due, now - GRACE), now))
        if not found and self.catch_up == "one":
            last = self.last(now)
            found = (due if last is None else max(due, last),)
        return found, self.after(now)

    def _from(self, first: int, until: int) -> Iterator[int]:
        due = self.after(first - 1)
        while due is not None and due <= until:
            yield due
            due = self.after(due)


def _times(found: CronSim) -> Iterator[int]:
    return (round(each.timestamp() * 1_000) for each in found)
