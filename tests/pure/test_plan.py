"""When plans are due: calendars, days on which clocks are changed, and what was missed."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stabilize_nb.errors import ConfigError
from stabilize_nb.models.plan import GRACE, MOST, CatchUp, Plan

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def ms(text: str, zone: str = "UTC") -> int:
    """Return a local time as ms since the epoch."""
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1_000)


def due(plan: Plan, after: str, count: int) -> list[str]:
    """Return the next due times as local text."""
    found = []
    at: int | None = ms(after, plan.timezone)
    for _ in range(count):
        assert at is not None
        at = plan.after(at)
        assert at is not None
        found.append(plan.local(at))
    return found


def test_every_morning_at_seven_whatever_the_clocks_do() -> None:
    """The hour is that of the zone, in winter and in summer."""
    plan = Plan(cron="0 7 * * *", timezone="Europe/Berlin")

    assert due(plan, "2026-03-27T12:00", 3) == [
        "2026-03-28T07:00:00+01:00", "2026-03-29T07:00:00+02:00", "2026-03-30T07:00:00+02:00",
    ]  # fmt: skip


def test_hour_that_there_is_not_is_due_right_after_the_gap() -> None:
    """At half past two on the day when clocks go from two to three."""
    plan = Plan(cron="30 2 * * *", timezone="Europe/Berlin")

    assert due(plan, "2026-03-28T12:00", 2) == ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]


def test_hour_that_there_is_twice_is_due_once() -> None:
    """At half past two on the day when clocks go from three back to two."""
    plan = Plan(cron="30 2 * * *", timezone="Europe/Berlin")

    assert due(plan, "2026-10-24T12:00", 2) == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
    second = ms("2026-10-25T00:30") + HOUR  # 02:30 for the second time
    assert plan.after(second - 1) == ms("2026-10-26T01:30")


def test_every_hour_goes_on_through_a_change_of_clocks() -> None:
    """A plan of hours is due 25 times on the long day."""
    plan = Plan(cron="0 * * * *", timezone="Europe/Berlin")
    times = list(plan._from(ms("2026-10-25", plan.timezone), ms("2026-10-26", plan.timezone) - 1))

    assert len(times) == 25
    assert {b - a for a, b in pairwise(times)} == {HOUR}


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [("one", ["05T07"]), ("all", ["02T07", "03T07", "04T07", "05T07"]), ("skip", [])],
    ids=["one", "all", "skip"],
)
def test_what_nobody_saw(catch_up: CatchUp, expected: list[str]) -> None:
    """Four mornings were missed: the last one counts, all do, or none."""
    plan = Plan(cron="0 7 * * *", catch_up=catch_up)
    found, following = plan.firings(ms("2026-01-02T07:00"), ms("2026-01-05T12:00"))

    assert [plan.local(at)[8:13] for at in found] == expected
    assert following == ms("2026-01-06T07:00")


@pytest.mark.parametrize("catch_up", ["one", "all", "skip"])
def test_what_is_seen_within_a_minute_is_on_time(catch_up: CatchUp) -> None:
    """A due time that is a minute old was not missed."""
    plan = Plan(cron="0 7 * * *", catch_up=catch_up)
    seven = ms("2026-01-02T07:00")

    assert plan.firings(seven, seven + GRACE) == ((seven,), seven + DAY)


def test_years_are_made_up_for_in_pieces() -> None:
    """A plan that is due every minute starts at most a hundred at once, and misses none."""
    plan = Plan(cron="* * * * *", catch_up="all")
    begin, now = ms("2026-01-01"), ms("2026-01-01T05:00")
    first, following = plan.firings(begin, now)
    second, _ = plan.firings(following or 0, now)

    assert len(first) == MOST
    assert following == begin + MOST * MINUTE
    assert second[0] == following


@settings(max_examples=60, deadline=None)
@given(
    cron=st.sampled_from(["0 7 * * *", "*/15 * * * *", "30 2 * * *", "0 0 L * *", "0 9 * * 1-5", "5 1,2,3 * * *"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    begin=st.integers(ms("2026-01-01"), ms("2026-12-01")),
    gaps=st.lists(st.integers(min_value=1, max_value=2 * DAY), min_size=1, max_size=12),
)
def test_whoever_looks_when_each_due_time_counts_once(cron: str, zone: str, begin: int, gaps: list[int]) -> None:
    """However irregularly a plan that makes up for all is looked at, no due time is lost and none counts twice."""
    plan = Plan(cron=cron, timezone=zone, catch_up="all")
    now = begin
    following = plan.after(begin)
    seen: list[int] = []
    for gap in gaps:
        now += gap
        while following is not None and following <= now:
            found, following = plan.firings(following, now)
            seen += found
    local = [datetime.fromtimestamp(at / 1_000, ZoneInfo(zone)) for at in seen]

    assert seen == list(plan._from(begin + 1, now))
    assert seen == sorted(set(seen))
    if cron == "0 7 * * *":
        assert {(at.hour, at.minute) for at in local} <= {(7, 0)}
        assert len(seen) >= (timedelta(milliseconds=now - begin).days or 1) - 1
    assert all(plan.last(at) == at for at in seen)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"cron": "0 7 * *"}, "cron='0 7 * *' cannot be read (Wrong number of fields): minute, hour"),
        ({"cron": "61 7 * * *"}, "cannot be read (Bad minute)"),
        ({"cron": 7}, "cron=7 cannot be read"),
        ({"cron": "0 7 * * *", "timezone": "Europe/Atlantis"}, "timezone='Europe/Atlantis' is not known here"),
        ({"cron": "0 7 * * *", "timezone": "/etc/passwd"}, "timezone='/etc/passwd' is not known here"),
        ({"cron": "0 7 * * *", "catch_up": "some"}, "catch_up='some' is not known; write one of 'one', 'all', 'skip'"),
    ],
    ids=["short", "minute", "number", "zone", "path", "catch_up"],
)
def test_what_is_no_plan_is_refused(words: dict[str, str], said: str) -> None:
    """The sentence says what came and what is expected."""
    with pytest.raises(ConfigError) as refused:
        Plan(**words)  # type: ignore[arg-type]

    assert said in str(refused.value)
