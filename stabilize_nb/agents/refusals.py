"""What a server of models refuses, as errors by which the engine knows whether to ask again; it costs nothing."""

from collections.abc import Mapping

from stabilize_nb.egress.retry_after import seconds
from stabilize_nb.models.calls import RefusedError, RefusedForNowError

#: Answers that may be others later, beside those of a server that failed.
_BUSY = frozenset({408, 409, 425, 429})
_FAILED = 500


def refusal(error: Exception, status: int, headers: Mapping[str, str] | None) -> RefusedError | RefusedForNowError:
    """Return the error for an answer with this status; `headers` may say when to ask again."""
    if status in _BUSY or status >= _FAILED:
        return RefusedForNowError(str(error), retry_after=seconds((headers or {}).get("retry-after")))
    return RefusedError(str(error))
