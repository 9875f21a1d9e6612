"""
The words that one writes at a stage of a flow: what they are called, what they may be, and what they mean together.

Everything is refused here that is wrong by itself, in one sentence, at the line that says it. What depends on the other
stages is found by flow_layout.py when the flow is checked.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final, Protocol, TypedDict, TypeVar

from stabilize_nb.errors import ConfigError
from stabilize_nb.expressions import ExpressionError, check_expression
from stabilize_nb.models.gate import REJECT, fault_in, seconds_of
from stabilize_nb.models.limit import limit_of
from stabilize_nb.models.near import SIMILAR, close
from stabilize_nb.models.priority import HIGHEST
from stabilize_nb.models.settling import ON_CRASH
from stabilize_nb.models.stage import JoinType
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.verification import OutputVerifier, Verifier

Method = TypeVar("Method", bound=Callable[..., Any])

_QUORUM = re.compile(r"^\s*(\d+)\s*(?:of\s*(\d+))?\s*$")
JOINS: Final[Mapping[str, JoinType]] = {
    "all": JoinType.AND,  # every branch that was taken has come (WCP-3)
    "any": JoinType.DISCRIMINATOR,  # the first one has come (WCP-9, 28, 29)
    "each": JoinType.MULTI_MERGE,  # once for each one that comes (WCP-8)
    "taken": JoinType.OR,  # every one that was taken, also where branches were broken off (WCP-7, 37, 38)
}


class Refusal(Exception):
    """What is wrong with a value, as the end of a sentence that begins with it."""


class Named(Protocol):
    """A stage or a loop of a flow."""

    name: str


Ref = str | Named
Refs = Ref | Iterable[Ref]


class OrderWords(TypedDict, total=False):
    """When something of a flow begins, seen from what it follows."""

    after: Refs  # what it follows beside what its parameters name
    join: str | int  # "all", "any", "each", "taken", a number, "2 of 3"
    cancel_rest: bool  # whether the branches (with `enough`: the instances) that were not needed are withdrawn
    blocking: bool  # whether a branch that comes again waits until all others have come (WCP-28, WCP-31)
    when: str | Mapping[Any, str]  # the condition, or one for each stage that it follows (WCP-4, WCP-6)
    otherwise: bool  # runs when no `when` beside it is true


class GateWords(OrderWords, total=False):
    """What else may be said of whatever runs."""

    choose: str  # "one": of the stages that follow only the first whose `when` is true runs (WCP-4)
    each: int | Refs | list[Any]  # what to run it for: a number, a list, or the name of one (WCP-13, WCP-14)
    as_: str  # the parameter that gets the item
    enough: int  # instances that must have ended for the flow to go on (WCP-34, WCP-35)
    race: str  # of the stages that say the same the first to begin is the only one (WCP-16)
    mutex: str  # of the stages that say the same, in all runs of a store, one runs at a time (WCP-17, 39, 40)
    region: str  # of what `cancels` may withdraw together (WCP-25)
    cancels: Refs  # regions and stages that are withdrawn when this one has ended (WCP-19, WCP-25)
    milestone: Ref | tuple[Ref, str]  # runs only when a stage has this status, "SUCCEEDED" if none is said (WCP-18)
    until: Ref  # closes the window of `milestone` when it starts
    ends: str  # "SUCCEEDED" or "CANCELED": ends the whole run (WCP-20, WCP-43)
    title: str  # what people read


class CallWords(GateWords, total=False):
    """What may be said of a stage that takes values and gives some."""

    name: str  # its name in the flow
    collect: str | Iterable[str]  # outputs of its branches to gather as lists
    reduce: Mapping[str, str]  # output of its branches -> reducer
    context: Mapping[str, Any]  # fixed values for its parameters
    continue_on_failure: bool  # whether what follows, and the run, go on when it fails


class StageWords(CallWords, total=False):
    """What may be said of a function."""

    retry: int  # how often it is tried again after a transient error
    timeout: float | str | timedelta  # seconds, or such as "10 min"
    on_crash: str  # "retry", "fail" or "ask": what is done when its process died while it ran
    queue: str  # the label of the workers that take it: `stabilize-nb worker --only gpu`
    limit: str  # "openai: 60/min": so many begin in any such time, in all runs of a store
    priority: int  # from 0 to 100: each step is worth a minute of waiting for a worker
    verify: Any  # a condition, a function or a Verifier: whether what it gives is right, before anything follows


class ShellWords(StageWords, total=False):
    """What may be said of a command; those that are no words of a stage are options of ShellTask."""

    cwd: str  # the folder in which it runs
    env: Mapping[str, Any]  # variables of its environment
    inherit_env: bool | list[str]  # what it gets of this process's environment beside the usual: names, or True for all
    shell: str  # the path of another shell
    stdin: Any  # what it reads
    max_output_size: int  # bytes that are kept of each stream
    expected_codes: list[int]  # codes that are no failure
    secrets: list[str]  # values that are masked in what it prints
    binary: bool  # whether it prints bytes, which come as stdout_b64


class HTTPWords(StageWords, total=False):
    """What may be said of a request; those that are no words of a stage are options of HTTPTask."""

    body: str  # what is sent: text,
    json: Any  # or data,
    form: Mapping[str, Any]  # or fields,
    upload_file: str  # or a file
    upload_field: str  # the field of the file
    upload_form: Mapping[str, Any]  # fields beside the file
    download_to: str  # the file that takes the answer
    headers: Mapping[str, str]  # sent along
    auth: list[Any]  # [user, password]
    bearer_token: Any  # or a token; best by secret("NAME")
    parse_json: bool  # whether the answer has to be JSON
    expected_status: int | list[int]  # statuses that are no failure; all below 400 if none is said
    retry_delay: float  # seconds that are waited at least before it is sent again
    retry_on_status: list[int]  # answers after which it is sent again
    retry_non_idempotent: bool  # whether POST and PATCH are sent again though the server may have carried them out
    idempotency_key: bool | str  # of POST and PATCH: one of its own, none (False), or text
    max_response_size: int  # bytes of the answer
    verify_ssl: bool | str  # whether certificates are checked, or a file of those that are trusted
    allow_private_urls: bool  # whether this machine and private networks may be asked
    allowed_hosts: list[str]  # the only names and networks that may be asked
    allowed_ports: list[int]  # the only ports


def with_words(words: type) -> Callable[[Method], Method]:
    """Have Tab offer the words of a TypedDict in a call of a method that takes them as **words."""
    kinds = inspect.Parameter

    def shown(method: Method) -> Method:
        given = inspect.signature(method).parameters.values()
        own = [each for each in given if each.kind is not kinds.VAR_KEYWORD]
        known = {each.name for each in own}
        added = [
            kinds(word, kinds.KEYWORD_ONLY, default=None, annotation=getattr(kind, "__forward_arg__", kind))
            for word, kind in words.__annotations__.items()
            if word not in known
        ]
        method.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]  # inspect looks for it
        return method

    return shown


# -- reading ------------------------------------------------------------------------------------------


def read(place: str, given: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """
    Return the words with their values as the rest of the package takes them; None stands for a word that is not given.

    Raises ConfigError that names the place, the word, what it is, and what is expected.
    """
    words: dict[str, Any] = {}
    refuse_unknown(place, given, known)
    for word, value in given.items():
        if value is None:
            continue
        try:
            words[word] = _READERS[word](value)
        except Refusal as wrong:
            raise ConfigError(f"{place}: {word}={_shown(value)} {wrong}") from None
    for fault in _disagreements(words):
        raise ConfigError(f"{place}: {fault}")
    return words


def refuse_unknown(place: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise ConfigError for a word that is not known, with what is near, or all that there are."""
    for word in given:
        if word not in known:
            hint = close(word, known, SIMILAR) or f"; known are {', '.join(known)}"
            raise ConfigError(f"{place}: {word}=... is not known{hint}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - a line's worth of text


def name_of(ref: Any) -> str:
    """Return the name of a stage or loop that was given as itself or by its name."""
    name = ref if isinstance(ref, str) else getattr(ref, "name", None)
    if not isinstance(name, str) or not name:
        raise Refusal(f"names no stage by {ref!r}; the name of a stage, or the stage itself, is expected")
    return name


def names_of(refs: Any) -> tuple[str, ...]:
    """Return the names of one or several stages."""
    if isinstance(refs, str) or hasattr(refs, "name"):
        return (name_of(refs),)
    if not isinstance(refs, Iterable):
        raise Refusal("is no name; the name of a stage, or a list of names, is expected")
    return tuple(dict.fromkeys(name_of(ref) for ref in refs))


def _join(wish: Any) -> Any:
    if wish in JOINS and isinstance(wish, str):
        return wish
    match = None if isinstance(wish, bool) else _QUORUM.match(str(wish))
    if match is None or int(match[1]) < 1:
        raise Refusal("is not known; write 'all', 'any', 'each', 'taken', a number, or '2 of 3'")
    if match[2] is not None and int(match[2]) < int(match[1]):
        raise Refusal("waits for more branches than it says there are; write the smaller number first")
    return wish


def quorum(wish: Any) -> tuple[int, int | None]:
    """Return how many branches a `join` waits for, and of how many it says so; (0, None) for the words of JOINS."""
    if isinstance(wish, str) and wish in JOINS:
        return 0, None
    match = _QUORUM.match(str(wish))
    assert match is not None, "read has seen to that"  # noqa: S101 - tells mypy
    return int(match[1]), None if match[2] is None else int(match[2])


def is_partial(words: Mapping[str, Any]) -> bool:
    """Whether a stage does not wait for all of its branches."""
    return words.get("join", "all") not in {"all", "each", "taken"}


def condition(text: Any) -> str:
    """Return the text of a condition; raises Refusal for anything else."""
    if callable(text):
        raise Refusal('is code, and conditions are kept as text: write it in quotes, such as "score > 3"')
    if not isinstance(text, str):
        raise Refusal('is no condition; text is expected, such as "score > 3"')
    try:
        check_expression(text)
    except ExpressionError as error:
        raise Refusal(f"is no condition: {error}") from None
    return text


def _when(given: Any) -> str | dict[str, str]:
    if isinstance(given, Mapping):
        return {name_of(ref): condition(text) for ref, text in given.items()}
    return condition(given)


def _each(given: Any) -> int | str | list[Any]:
    if isinstance(given, list | tuple):
        return list(given)
    if type(given) is int and given > 0:
        return given
    if isinstance(given, str) or hasattr(given, "name"):
        return name_of(given)
    raise Refusal("is neither a number above 0, nor a list, nor the name of one; write such as each='topics'")


def _milestone(given: Any) -> tuple[str, str]:
    known = [status.name for status in WorkflowStatus]
    if not isinstance(given, tuple):
        return name_of(given), WorkflowStatus.SUCCEEDED.name
    if len(given) != 2 or given[1] not in known:  # noqa: PLR2004 - a stage and a status
        raise Refusal(f"is no milestone; write a stage, or (stage, status) with one of {', '.join(known)}")
    return name_of(given[0]), given[1]


def _identifier(given: Any) -> str:
    if not isinstance(given, str) or not given.isidentifier():
        raise Refusal("cannot be a parameter name; use letters, digits and underscores")
    return given


def is_text(given: object) -> bool:
    """Whether a value is text that says something."""
    return isinstance(given, str) and bool(given.strip())


def _text(given: Any) -> str:
    if not is_text(given):
        raise Refusal("is no name; text is expected")
    return str(given)


def _flag(given: Any) -> bool:
    if not isinstance(given, bool):
        raise Refusal("is neither True nor False")
    return given


def _whole(least: int, most: float = math.inf) -> Callable[[Any], int]:
    bounds = f"of {least} or more" if most == math.inf else f"from {least} to {most}"

    def whole(given: Any) -> int:
        if type(given) is not int or not least <= given <= most:
            raise Refusal(f"is no number that fits; an integer {bounds} is expected")
        return given

    return whole


def _limit(given: Any) -> str:
    try:
        limit_of(given)
    except ConfigError:
        raise Refusal("is no limit; a name, a number and a time are expected, such as 'openai: 60/min'") from None
    return str(given)


def _seconds(given: Any) -> float:
    try:
        return seconds_of(given)
    except ValueError as wrong:
        raise Refusal(str(wrong)) from None


def _one_of(*known: str) -> Callable[[Any], str]:
    def member(given: Any) -> str:
        if given not in known:
            *rest, last = map(repr, known)
            raise Refusal(f"is not known; write {', '.join(rest)} or {last}")
        return str(given)

    return member


def _verify(given: Any) -> Any:
    if isinstance(given, str):
        return OutputVerifier(condition=condition(given))
    if isinstance(given, Verifier):
        return given
    if inspect.iscoroutinefunction(given) or not callable(given):
        raise Refusal(
            'verifies nothing; a condition over the outputs such as "score > 3", a plain function of what the stage '
            "returned, or a Verifier is expected"
        )
    return given


def _mapping(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise Refusal("is no mapping from names to values")
    return dict(given)


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "after": names_of, "join": _join, "cancel_rest": _flag, "blocking": _flag, "when": _when, "otherwise": _flag,
    "choose": _one_of("one", "any"), "each": _each, "as_": _identifier, "enough": _whole(1), "race": _text,
    "mutex": _text, "region": _text, "cancels": names_of, "milestone": _milestone, "until": name_of,
    "ends": _one_of("SUCCEEDED", "CANCELED"), "title": _text, "name": _text, "collect": names_of, "reduce": _mapping,
    "context": _mapping, "continue_on_failure": _flag, "retry": _whole(0), "timeout": _seconds,
    "on_crash": _one_of(*ON_CRASH), "queue": _text, "limit": _limit, "priority": _whole(0, HIGHEST), "verify": _verify,
}  # fmt: skip


def _disagreements(words: Mapping[str, Any]) -> Iterable[str]:
    """Yield what words of one stage say against each other."""
    each, enough = words.get("each"), words.get("enough")
    for word in ("as_", "enough"):
        if word in words and each is None:
            yield f"{word}={words[word]!r} is about instances; say with each= what the stage is run for"
    count = each if isinstance(each, int) else len(each) if isinstance(each, list) else None
    if enough is not None and count is not None and enough > count:
        yield f"enough={enough}, but each={_shown(each)} makes only {count}; write {count} or less"
    if words.get("blocking") and not is_partial(words):
        yield "blocking=True is about branches that come again; it needs join='any' or a number of branches"
    if words.get("cancel_rest") and not is_partial(words) and enough is None:
        yield "cancel_rest=True has no rest; it needs join='any', a number of branches, or enough="
    if words.get("otherwise") and "when" in words:
        yield "it says both when= and otherwise=True; a stage has a condition or runs when no other one is true"
    if "until" in words and "milestone" not in words:
        yield f"until={words['until']!r} closes the window of a milestone; say with milestone= what opens it"


def renamed(words: dict[str, Any], old: str, new: str) -> None:
    """Have words speak of a stage by its new name."""
    for word in ("after", "cancels"):
        if word in words:
            words[word] = tuple(new if name == old else name for name in words[word])
    for word in ("until", "each", "show"):
        if isinstance(words.get(word), str) and words[word] == old:
            words[word] = new
    if "milestone" in words and words["milestone"][0] == old:
        words["milestone"] = (new, words["milestone"][1])
    if isinstance(words.get("when"), dict):
        words["when"] = {new if name == old else name: text for name, text in words["when"].items()}


def asked_of(place: str, choices: Iterable[str], timeout: Any, on_timeout: str) -> dict[str, Any]:
    """Return the choices and the deadline of a gate as its context has them; raises ConfigError."""
    if timeout is None and on_timeout != REJECT:
        raise ConfigError(f"{place}: on_timeout={on_timeout!r} is about a deadline; say it, as in timeout='2h'")
    asked: dict[str, Any] = {"choices": [choices] if isinstance(choices, str) else list(choices)}
    if timeout is not None:
        asked |= {"timeout": timeout, "on_timeout": on_timeout}
    given = {word: value for word, value in asked.items() if value != []}
    if wrong := fault_in(given):
        raise ConfigError(f"{place}: {wrong}")
    return {**given, "timeout": seconds_of(timeout)} if timeout is not None else given


# -- conditions ---------------------------------------------------------------------------------------


def mentioned(text: str) -> set[str]:
    """Return the names that a condition reads."""
    return {node.id for node in ast.walk(ast.parse(text.strip(), mode="eval")) if isinstance(node, ast.Name)}


def in_outputs(text: str, stages: Collection[str]) -> str:
    """
    Return a condition in which outputs of stages stand by themselves, as the engine knows them.

    `review["score"] > 3` and `review.score > 3` become `score > 3`, as in a function with the parameter `review`.
    """
    if not mentioned(text) & set(stages):
        return text
    tree = _Outputs(stages).visit(ast.parse(text.strip(), mode="eval"))
    return ast.unparse(tree)


class _Outputs(ast.NodeTransformer):
    def __init__(self, stages: Collection[str]) -> None:
        self._stages = stages

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return ast.Name(node.attr, ast.Load()) if self._is_stage(node.value) else self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if self._is_stage(node.value) and isinstance(key, str) and key.isidentifier():
            return ast.Name(key, ast.Load())
        return self.generic_visit(node)

    def _is_stage(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in self._stages
