"""The condition language: what it means, what it refuses, and that it can do nothing else."""

import contextlib
import copy
import math
import time
from typing import Any

import pytest
from expression_corpus import HOSTILE, fuzzed
from hypothesis import given
from hypothesis import strategies as st

from stabilize_nb.expressions import ExpressionError, check_expression, evaluate_expression, is_true, judge

DATA: dict[str, Any] = {
    "score": 7,
    "name": "ann",
    "flag": True,
    "nothing": None,
    "items": [1, 2, 3],
    "report": {"grade": "A", "pages": [{"n": 1}], "items": 3},
    "_signal_name": "go",
}

MEANINGS: list[tuple[str, Any]] = [
    ("score", 7),
    ("  score  ", 7),
    ("score > 5", True),
    ("score >= 7 and name == 'ann'", True),
    ("score < 5 or flag", True),
    ("not flag", False),
    ("1 < score < 10", True),
    ("1 < score < 3", False),
    ("-score", -7),
    ("+score", 7),
    ("-1 < 0", True),
    ("'yes' if flag else 'no'", "yes"),
    ("report.grade", "A"),
    ("report['grade']", "A"),
    ("report.pages[0].n", 1),
    ("report.items", 3),
    ("report.keys", None),
    ("items[0]", 1),
    ("items[-1]", 3),
    ("items[9]", None),
    ("items['x']", None),
    ("name[0]", None),
    ("2 in items", True),
    ("'grade' in report", True),
    ("4 not in items", True),
    ("name in ['ann', 'bob']", True),
    ("name in ('ann', 'bob')", True),
    ("'n' in name", True),
    ("1 in 2", False),
    ("1 not in nothing", True),
    ("report in report", False),
    ("missing", None),
    ("missing.deeper.still", None),
    ("missing > 3", False),
    ("missing < 3", False),
    ("missing == none", True),
    ("missing is None", True),
    ("score is not null", True),
    ("name > 3", False),
    ("-name", None),
    ("true", True),
    ("TRUE", True),
    ("False", False),
    ("null", None),
    ("1", True),
    ("0", False),
    ("2", 2),
    ("1.0", 1.0),
    ("'1'", "1"),
    ("flag == 1", True),
    ("_signal_name == 'go'", True),
    ("_jump_count", None),
]


@pytest.mark.parametrize(("text", "value"), MEANINGS, ids=[text for text, _ in MEANINGS])
def test_expression_means(text: str, value: Any):
    """An expression is a look-up, a comparison or logic over the data; what is not there is None."""
    found = evaluate_expression(text, DATA)

    assert found == value
    assert type(found) is type(value)


def test_data_hides_the_words_for_true_and_false():
    """A key of the data that is called like a literal is the key."""
    assert evaluate_expression("none", {"none": 5}) == 5


def test_everything_else_is_refused():
    """Text that is not of the language is an ExpressionError with a sentence, also when it is only checked."""
    assert len(set(HOSTILE)) > 300
    for text in HOSTILE:
        for use in (check_expression, lambda text: evaluate_expression(text, DATA)):
            with pytest.raises(ExpressionError) as caught:
                use(text)
            assert 0 < len(str(caught.value)) < 400, text


@pytest.mark.parametrize("thing", [None, 5, True, b"x", ["x"], {"x": 1}])
def test_expression_is_text(thing: Any):
    """Anything but text is refused with its type."""
    with pytest.raises(ExpressionError, match=f"not {type(thing).__name__}"):
        evaluate_expression(thing, {})


def test_data_is_only_read():
    """Evaluating changes nothing of the data, and a result shares what it points to."""
    before = copy.deepcopy(DATA)

    for text, _ in MEANINGS:
        evaluate_expression(text, DATA)

    assert before == DATA


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in", "is", "is not"])


@given(json_values, operators, json_values)
def test_any_values_can_be_compared(left: Any, operator: str, right: Any):
    """No pair of values makes a comparison fail."""
    assert evaluate_expression(f"a {operator} b", {"a": left, "b": right}) in (True, False)


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_an_expression_error(text: str):
    """Whatever a person types, there is no other exception."""
    with contextlib.suppress(ExpressionError):
        is_true(text, DATA)


def nested(depth: int) -> list[Any]:
    """Return a list in a list in a list."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


class Odd:
    """A value that refuses everything, as a DataFrame refuses to be true or false."""

    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")

    def __eq__(self, other: object) -> bool:
        raise OSError("gone")

    __hash__ = None
    __repr__ = __lt__ = __eq__


TRYING = {**DATA, "huge": 10**5_000, "deep": nested(50_000), "other": nested(50_000), "odd": Odd()}


def cpu_time(text: str) -> float:
    """Return the seconds of CPU that evaluating text takes; any exception but ExpressionError comes out."""
    began = time.thread_time()
    with contextlib.suppress(ExpressionError):
        judge(text, TRYING)
    return time.thread_time() - began


def test_any_text_costs_next_to_nothing_and_changes_nothing():
    """20,000 made texts and the hostile ones take at most 10 ms each; what they are evaluated over stays as it was."""
    before = copy.deepcopy(DATA)
    texts = [*HOSTILE, *fuzzed(seed=8, count=20_000)]

    slow = [text for text in texts if cpu_time(text) > 0.01]

    assert not [text for text in slow if min(cpu_time(text) for _ in range(5)) > 0.01]
    assert {key: TRYING[key] for key in DATA} == before
    assert sum(is_of_language(text) for text in texts) > 5_000


def is_of_language(text: str) -> bool:
    """Whether text can be evaluated."""
    try:
        check_expression(text)
    except ExpressionError:
        return False
    return True


@pytest.mark.parametrize("text", ["deep == other", "deep in [other]", "odd == 1", "not odd", "odd and flag"])
def test_value_that_cannot_be_judged_is_an_expression_error(text: str):
    """What goes wrong inside the values is told as a fault of the expression over this data."""
    with pytest.raises(ExpressionError, match="has no value over this data"):
        evaluate_expression(text, TRYING)


@pytest.mark.parametrize("text", ["huge < 'a'", "huge + 1", "deep < 1", "odd * 2"])
def test_value_too_large_to_be_written_is_named_by_its_type(text: str):
    """A number of 5,000 digits, or a list 50,000 levels deep, is neither written nor an error."""
    truth, failures = judge(text, TRYING)

    assert not truth
    assert len(failures) == 1
    assert len(failures[0]) < 150


words = st.sampled_from(["score", "items", "report", ".grade", "[0]", "(", ")", "==", "<", "not", "and", "1", "'a'"])


@given(st.lists(words, max_size=12))
def test_any_arrangement_of_words_is_a_value_or_an_expression_error(parts: list[str]):
    """Text made of the words of the language is either of the language or refused."""
    try:
        check_expression(" ".join(parts))
    except ExpressionError:
        return
    evaluate_expression(" ".join(parts), DATA)


def test_number_that_is_none_is_not_ordered():
    """NaN is neither smaller nor larger nor equal, as everywhere."""
    assert not any(is_true(f"x {operator} 1", {"x": math.nan}) for operator in ("<", ">", "=="))


@pytest.mark.parametrize(
    ("expression", "failures"),
    [
        ("score > 3 or nowhere > 3", ()),
        ("nowhere > 3", ("nowhere > 3 cannot compare None with 3",)),
        ("1 < nowhere < 3", ("1 < nowhere < 3 cannot compare 1 with None",)),
        ("'a' in nowhere", ("'a' in nowhere cannot compare 'a' with None",)),
        ("2 * word == 4", ("2 * word has no value for 2 and 'four'",)),
        ("nowhere == None", ()),
    ],
)
def test_what_has_no_value_is_named(expression: str, failures: tuple[str, ...]):
    """A part that cannot be evaluated counts as false or as None, and is named with its values."""
    assert judge(expression, {"score": 4, "word": "four"})[1] == failures
