"""
What the front end says about itself with each cell, and what this kernel can do while a cell runs.

Whether a person is there is what the messaging protocol calls `allow_stdin`: nbclient, and with it nbconvert, papermill
and jupyter execute, and nbval say no; JupyterLab, Notebook, VS Code, Colab and consoles say yes. JPY_SESSION_NAME does
not tell, since a batch run that is started from a notebook inherits it; neither do widgets, since nbclient takes their
messages and never answers.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from IPython.core.getipython import get_ipython

#: The first ipykernel that handles clicks while a cell awaits, in the main thread (notebook.md B0, fact 1).
CLICKS_DURING_AWAIT: Final = (7, 4)
#: Environment variable with which gates of a notebook that nobody watches are approved.
AUTO_APPROVE: Final = "STABILIZE_NB_AUTO_APPROVE"


def request() -> dict[str, Any]:
    """Return the message that runs this cell; empty where there is no kernel."""
    found: dict[str, Any] = getattr(get_ipython(), "get_parent", dict)()
    return found


def has_kernel() -> bool:
    """Whether this is a kernel, with a front end that shows what it displays."""
    return getattr(get_ipython(), "kernel", None) is not None


def is_attended() -> bool:
    """Whether a person is there who can answer."""
    return not has_kernel() or bool(request().get("content", {}).get("allow_stdin", True))


def clicks_while_awaiting() -> bool:
    """Whether a button is heard while a cell awaits something."""
    return not has_kernel() or kernel_version() >= CLICKS_DURING_AWAIT


def kernel_version() -> tuple[int, ...]:
    """Return the first two numbers of the version of ipykernel; nothing where there is none."""
    try:
        return tuple(int(part) for part in version("ipykernel").split(".")[:2] if part.isdigit())
    except PackageNotFoundError:
        return ()


def approves_by_itself() -> bool:
    """Whether gates that nobody watches are to be approved."""
    return os.environ.get(AUTO_APPROVE, "").strip().lower() in {"1", "true", "yes", "on"}
