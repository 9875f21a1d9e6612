"""
What a stage says of a body whose process died while it ran, and how a person settles it (C2 of the design).

Nobody knows then what the body has done. `on_crash` of the stage: "retry" runs it again, which is right for whatever
may be done twice; "fail" fails the stage; "ask" has it wait for a person. With these two a body is run at most once.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Final

RETRY: Final = "retry"
FAIL: Final = "fail"
ASK: Final = "ask"
#: What `on_crash` may be.
ON_CRASH: Final = (RETRY, FAIL, ASK)
#: What a person may say: run it again, it is done (with outputs), it has failed.
DONE: Final = "done"
SETTLEMENTS: Final = (RETRY, DONE, FAIL)
#: Name of the signal that settles, and of the outputs in its data.
SETTLE: Final = "settle"
OUTPUTS: Final = "outputs"

DIED: Final = "the process died while it ran"


def unknown(cause: str = "") -> str:
    """Return what is said of a body of which nothing came; `cause`: why the result that it had could not be taken."""
    return f"outcome unknown: {cause or DIED}"


def quarantined(deaths: int) -> str:
    """Return what is said of a body that is not run again by itself."""
    return f"its process died {_TIMES.get(deaths, f'{deaths} times')} while it ran"


_TIMES: Final = {1: "once", 2: "twice", 3: "three times"}


def fingerprint(doubt: str, attempt: int) -> str:
    """Return what stands for a doubt, as for what a gate shows: it is about one attempt."""
    return blake2b(json.dumps([doubt, attempt]).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
