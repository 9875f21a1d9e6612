"""How long a server asks to be left alone: the Retry-After header (RFC 9110, 10.2.3)."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST_RETRY_AFTER_S: Final = 86_400.0


def seconds(header: str | None) -> float | None:
    """Return the seconds in a Retry-After header, which is a number or a date; None for one that is neither."""
    if header is None:
        return None
    try:
        wait = float(header)
    except ValueError:
        try:
            wait = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # a date without zone cannot be compared
            return None
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER_S) if math.isfinite(wait) else None
