"""Errors say where more is written."""

import pickle
import traceback
from pathlib import Path

from stabilize_nb.errors import StabilizeError, ValueNotStorableError


def test_errors_that_need_more_words_name_the_page_that_has_them():
    """A traceback ends with the page, which is there; the message stays as it is."""
    kinds = [StabilizeError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    pages = {kind: kind.page for kind in kinds if kind.page}

    assert len(pages) >= 8
    assert all((Path(__file__).parents[2] / "docs" / page).is_file() for page in pages.values())
    assert traceback.format_exception_only(ValueNotStorableError("no")) == [
        "stabilize_nb.errors.ValueNotStorableError: no\n",
        "see docs/values.md\n",
    ]
    assert pickle.loads(pickle.dumps(ValueNotStorableError("no"))).__notes__ == ["see docs/values.md"]
