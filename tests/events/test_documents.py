import pickle

import pandas as pd
import pytest

from stabilize_nb.events.documents import Documents
from stabilize_nb.events.log_frame import events_frame
from tests.makers import Bench, stage, workflow


@pytest.fixture
def events():
    """A frame of seven facts."""
    with Bench() as bench:
        return events_frame(bench.database, bench.run(workflow(stage("a"))).id)


def test_elements_are_fresh_dicts(events):
    """What is done to a document that was looked at is not done to the column."""
    events["data"][4]["outputs"] = "changed"

    assert type(events["data"][4]) is dict
    assert "outputs" not in events["data"][4]
    assert events["data"].iloc[3] == {"position": 0}


def test_column_is_used_like_any_other(events):
    """It is mapped, filtered, joined, sorted, compared, shown, written and pickled."""
    data = events["data"]
    positions = data.map(lambda document: document.get("position", -1))

    assert positions.tolist() == [-1, -1, -1, 0, 0, -1, -1]
    assert positions.sum() == -5
    assert data[positions == 0].tolist() == [{"position": 0}, {"position": 0}]
    assert (data == {"position": 0}).tolist() == (positions == 0).tolist()
    assert (data == data).all()  # noqa: PLR0124 - with itself
    assert list(pd.json_normalize(data[3:5])) == ["position"]
    assert events.sort_values("seq", ascending=False)["data"].iloc[3] == {"position": 0}
    assert str(pd.concat([events, events])["data"].dtype) == "document"
    assert "{'position': 0}" in events.to_csv()
    assert "{'position': 0}" in repr(data)
    assert data.astype(object).str.get("position").tolist()[3] == 0
    assert pickle.loads(pickle.dumps(events)).equals(events)
    assert events.memory_usage()["data"] > 7 * 8


def test_what_is_missing_is_na(events):
    """Rows that a join or a shift adds have no document."""
    wider = events.reindex([3, 100])["data"]

    assert wider.isna().tolist() == [False, True]
    assert wider.iloc[1] is pd.NA
    assert events["data"].shift(1).isna().tolist() == [True] + [False] * 6
    assert events.where(events["seq"] > 1)["data"].isna().sum() == 1
    assert list(wider.dropna()) == [{"position": 0}]


def test_column_takes_dicts_only(events):
    """Documents can be made and set; something else is refused."""
    made = pd.Series([{"a": 1}, None], dtype="document")
    made.array[1] = {"fact": "x", "b": 2}

    assert made.tolist() == [{"a": 1}, {"b": 2}]
    with pytest.raises(TypeError, match="takes dicts, not 7"):
        Documents._from_sequence([7])
    with pytest.raises(ValueError, match="compared with a dict"):
        _ = events["data"].array == 7
