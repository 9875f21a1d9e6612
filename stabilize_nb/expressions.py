"""Conditions as text, evaluated over data and nothing else.

An own walk over the syntax tree: comparisons, boolean logic, conditional expressions, literals and look-ups.
No calls, no arithmetic beyond a sign, no attributes of anything but mappings, no names that begin with an
underscore except the engine's documented keys. Length, size and depth are capped before and after parsing
(reliability.md C2). A name defined nowhere is None; comparing it by size is false (patterns.md 2.4).
"""

from __future__ import annotations

import ast
import operator
import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from stabilize_nb.errors import StabilizeError

MAX_LENGTH = 1_000
MAX_NODES = 200
MAX_DEPTH = 20
MAX_CHAIN = 8
#: Names that begin with an underscore and may be read all the same.
ENGINE_NAMES = frozenset({"_signal_name", "_signal_data", "_jump_count", "_activation", "_triggered_by"})
#: The documents write true and false; both spellings are literals.
WORDS: Mapping[str, Any] = {"true": True, "false": False, "none": None, "null": None}


class ExpressionError(StabilizeError, ValueError):
    """The text is not an expression of this language; the message says which part is not."""


def evaluate_expression(expression: str, context: Mapping[str, Any]) -> Any:
    """
    Evaluate `expression` over `context`.

    The values "1" and "0" alone are True and False. Comparing values of types that have no order is false.

    Raises ExpressionError when the text is not an expression, or when a value in `context` refuses to be compared.

    For example:

        >>> from stabilize_nb.expressions import evaluate_expression
        >>> evaluate_expression("score > 0.5 and 'en' in languages", {"score": 0.7, "languages": ["en", "de"]})
        True
    """
    return _result(_Evaluation(context), expression)


def evaluate_defined(expression: str, context: Mapping[str, Any]) -> Any:
    """
    Do the same as `evaluate_expression`, but take a name that is defined nowhere for a mistake (WCP-21).

    As in Python, only a name that is come to counts: `done` in `first or done` does not while `first` is true.

    Raises ExpressionError that names it.
    """
    return _result(_Defined(context), expression)


def is_true(expression: str, context: Mapping[str, Any]) -> bool:
    """Return the truth of `expression` over `context`; raises ExpressionError as `evaluate_expression` does."""
    return judge(expression, context)[0]


def judge(expression: str, context: Mapping[str, Any]) -> tuple[bool, tuple[str, ...]]:
    """
    Return the truth of `expression` over `context`, and what in it had no value, such as a size beside None.

    Raises ExpressionError as `evaluate_expression` does.
    """
    evaluation = _Evaluation(context)
    truth = _result(evaluation, expression, bool)
    return truth, tuple(evaluation.failures)


def check_expression(expression: str) -> None:
    """Raise ExpressionError unless the text can be evaluated."""
    _checked(expression)


def _result(evaluation: _Evaluation, expression: str, kind: Callable[[Any], Any] | None = None) -> Any:
    tree = _checked(expression)
    try:
        value = evaluation.value(tree)
        return value if kind is None else kind(value)
    except ExpressionError:
        raise
    except Exception as error:  # the values are the user's, and so is how they compare and whether they are true
        msg = f"{_short(expression)} has no value over this data: {type(error).__name__}: {_cut(str(error))}"
        raise ExpressionError(msg) from error


def _checked(expression: str) -> ast.expr:
    if type(expression) is not str:
        msg = f"an expression is text, not {type(expression).__name__}"
        raise ExpressionError(msg)
    return _compiled(expression)


_SIZE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_PLAIN_NODES = (
    ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.Compare, ast.Eq, ast.NotEq, ast.Lt,
    ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is, ast.IsNot, ast.IfExp, ast.List, ast.Tuple, ast.Load, ast.Add,
    ast.Sub, ast.Mult, ast.Div,
)  # fmt: skip
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_LARGEST = 2**63
_BEGINNINGS = reprlib.Repr()
_BEGINNINGS.maxstring = 60


@lru_cache(maxsize=1_024)
def _compiled(expression: str) -> ast.expr:
    if len(expression) > MAX_LENGTH:
        msg = f"the expression has {len(expression)} characters; at most {MAX_LENGTH} are allowed"
        raise ExpressionError(msg)
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        msg = f"{_short(expression)} cannot be parsed: {reason}"
        raise ExpressionError(msg) from None
    _check_size(tree, expression)
    for node in ast.walk(tree):
        _check_node(node, expression)
    if isinstance(tree, ast.Constant) and tree.value in (0, 1) and type(tree.value) is int:
        return ast.Constant(bool(tree.value))
    return tree


def _check_size(tree: ast.expr, expression: str) -> None:
    count, level = 0, [tree]
    depth = 0
    while level:
        depth += 1
        count += len(level)
        if depth > MAX_DEPTH or count > MAX_NODES:
            msg = f"{_short(expression)} is too large: at most {MAX_NODES} parts, {MAX_DEPTH} levels deep"
            raise ExpressionError(msg)
        level = [child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def _check_node(node: ast.AST, expression: str) -> None:
    match node:
        case ast.Constant(value=value):
            legal = value is None or type(value) in (bool, int, float, str)
        case ast.Name(id=name):
            legal = not name.startswith("_") or name in ENGINE_NAMES
        case ast.Attribute(attr=name):
            legal = not name.startswith("_")
        case ast.Subscript(slice=ast.Constant(value=key)):
            legal = type(key) in (str, int)
        case ast.Subscript(slice=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=key))):
            legal = type(key) is int
        case ast.Compare(ops=ops):
            legal = len(ops) <= MAX_CHAIN
        case ast.BinOp(op=op):
            legal = type(op) in _ARITHMETIC
        case _:
            legal = isinstance(node, _PLAIN_NODES)
    if not legal:
        part = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
        msg = (
            f"{_short(expression)} uses {_short(part)}, which is not allowed: only comparisons, + - * /, and/or/not, "
            "conditional expressions, literals and names, keys and items of the data"
        )
        raise ExpressionError(msg)


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a line's worth of text


def _short(text: str) -> str:
    return repr(_cut(text))


def _short_value(value: Any) -> str:
    """Return the beginning of a value, which may be too large or too deep to be written whole."""
    try:
        return _cut(_BEGINNINGS.repr(value))
    except (ValueError, RecursionError):
        return f"a large {type(value).__name__}"


class _Evaluation:
    """One walk over a checked tree."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        self.context = context
        self.failures: list[str] = []

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self.name(name)
            case ast.Attribute(value=inner, attr=name):
                return _item(self.value(inner), name)
            case ast.Subscript(value=inner, slice=key):
                return _item(self.value(inner), self.value(key))
            case ast.BoolOp(op=op, values=values):
                return self.boolean(op, values)
            case ast.UnaryOp(op=op, operand=operand):
                return _unary(op, self.value(operand))
            case ast.BinOp(left=left, op=operation, right=right):
                return self.calculated(node, operation, self.value(left), self.value(right))
            case ast.Compare():
                return self.compare(node)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self.value(body if self.value(test) else orelse)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self.value(item) for item in items]
            case _:
                msg = f"{ast.unparse(node)!r} is not allowed"
                raise ExpressionError(msg)

    def name(self, name: str) -> Any:
        if name in self.context:
            return self.context[name]
        return WORDS.get(name.lower())

    def boolean(self, op: ast.boolop, values: list[ast.expr]) -> Any:
        stop_at = isinstance(op, ast.Or)
        result: Any = None
        for value in values:
            result = self.value(value)
            if bool(result) is stop_at:
                break
        return result

    def calculated(self, node: ast.expr, operation: ast.operator, left: Any, right: Any) -> int | float | None:
        result = _calculated(operation, left, right)
        if result is None:
            self.failures.append(f"{ast.unparse(node)} has no value for {_short_value(left)} and {_short_value(right)}")
        return result

    def compare(self, node: ast.Compare) -> bool:
        left = self.value(node.left)
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.value(comparator)
            try:
                holds = _holds(op, left, right)
            except TypeError:
                self.failures.append(
                    f"{ast.unparse(node)} cannot compare {_short_value(left)} with {_short_value(right)}"
                )
                holds = isinstance(op, ast.NotIn)  # nothing is in what holds nothing
            if not holds:
                return False
            left = right
        return True


class _Defined(_Evaluation):
    """A walk that stops at a name that is defined nowhere."""

    def name(self, name: str) -> Any:
        if name not in self.context and name.lower() not in WORDS:
            msg = f"{name!r} is defined nowhere"
            raise ExpressionError(msg)
        return super().name(name)


def _unary(op: ast.unaryop, value: Any) -> Any:
    if isinstance(op, ast.Not):
        return not value
    if not isinstance(value, int | float):
        return None
    return -value if isinstance(op, ast.USub) else value


def _calculated(operation: ast.operator, left: Any, right: Any) -> int | float | None:
    """Return a sum, difference, product or quotient of numbers up to 2^63; None where there is none."""
    if not (_is_number(left) and _is_number(right)) or (isinstance(operation, ast.Div) and right == 0):
        return None
    result: int | float = _ARITHMETIC[type(operation)](left, right)
    return result if abs(result) <= _LARGEST else None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST


def _item(container: Any, key: Any) -> Any:
    if isinstance(container, Mapping):
        return container.get(key)
    if isinstance(container, Sequence) and not isinstance(container, str) and type(key) is int:
        return container[key] if -len(container) <= key < len(container) else None
    return None


def _holds(op: ast.cmpop, left: Any, right: Any) -> bool:
    """Whether two values stand in a relation; raises TypeError for values that cannot."""
    match op:
        case ast.Eq() | ast.Is():
            return bool(left == right)
        case ast.NotEq() | ast.IsNot():
            return bool(left != right)
        case ast.In():
            return left in right
        case ast.NotIn():
            return left not in right
        case _:
            return bool(_SIZE[type(op)](left, right))
