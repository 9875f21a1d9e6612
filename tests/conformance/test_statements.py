"""The named statements of store/sql."""

from __future__ import annotations

import pytest

from stabilize_nb.store import queries

TWICE = "-- one -- First.\nSELECT 1;\n\n-- two -- Other.\nSELECT 2;\n\n-- one -- Again.\nSELECT 3;\n"


def test_two_statements_of_one_name_are_refused(monkeypatch):
    """The later one would win, and whoever wrote the earlier one would not know."""
    monkeypatch.setattr(queries, "sql_file", lambda _: TWICE)

    with pytest.raises(ValueError, match=r"x\.sql has more than one statement of the name one$"):
        queries.statements_in("x.sql")
