"""What a scripted model is asked, and what it answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stabilize_nb.errors import ConfigError
from stabilize_nb.llm.calls import Api, ToolCall

#: End of the path of a request, and the wire format spoken there.
_FORMATS: dict[str, Api] = {"/chat/completions": "openai", "/api/chat": "ollama"}
#: Where an answer has what a group of its pattern found.
_GROUP = re.compile(r"\$([1-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer of the model: text, calls of tools, or both.

    `delay`: seconds before the first byte. `pace`: seconds between the words of a streamed answer; None: as the server
    has it. `cut_after`: the connection breaks after so many pieces (words, or calls of tools) of a streamed answer, and
    in the middle of one that is not streamed.
    """

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    delay: float = 0.0
    pace: float | None = None
    cut_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Any other answer of the server; `retry_after` becomes the header of that name (seconds, or a date).

    With status 200 `body` stands where a completion is expected.
    """

    status: int = 500
    body: str = "a scripted failure"
    retry_after: float | str | None = None
    delay: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """A request that the server got; names of headers are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def api(self) -> Api | None:
        """The wire format of the path; None: no model answers there."""
        return next((api for end, api in _FORMATS.items() if self.path.endswith(end)), None)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation."""
        return [each for each in self.body.get("messages") or () if isinstance(each, dict)]

    @property
    def last(self) -> str:
        """What was said last."""
        return str(self.messages[-1].get("content") or "") if self.messages else ""

    @property
    def turn(self) -> int:
        """How often the model has spoken in this conversation."""
        return sum(each.get("role") == "assistant" for each in self.messages)


@dataclass(slots=True, kw_only=True)
class ModelCall:
    """A line of the server's log: when a request came (s since the epoch), and what became of it.

    `status` 0: nothing was answered yet. `ended`: when the last of it was sent; None: not yet, or nobody took it any
    more. Tokens are words, those of the answer as far as they were sent; `is_whole` once all of it was.
    """

    request: ModelRequest
    at: float
    ended: float | None = None
    status: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    is_whole: bool = False

    def as_data(self) -> dict[str, Any]:
        """Return the line as JSON data; of the request its model and its messages."""
        asked = {"model": self.request.body.get("model"), "messages": self.request.messages}
        counted = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}
        return {
            "at": self.at,
            "ended": self.ended,
            "status": self.status,
            "is_whole": self.is_whole,
            **counted,
            **asked,
        }


Answer = str | ToolCall | Reply | Failure
Line = Answer | Callable[[ModelRequest], Answer]
Script = Iterable[Line] | Mapping[str, Line] | Callable[[ModelRequest], Answer]


def by_turn(lines: Iterable[Line]) -> Callable[[ModelRequest], Answer]:
    """Answer with the line of the turn of a conversation: a question that is asked again gets the same answer."""
    listed = list(lines)

    def answer(request: ModelRequest) -> Answer:
        if request.turn >= len(listed):
            return Failure(status=400, body=f"this ScriptedModel has no answer for turn {request.turn}")
        return said(listed[request.turn], request)

    return answer


def by_rule(rules: Mapping[str, Line]) -> Callable[[ModelRequest], Answer]:
    """
    Answer with the first line whose pattern is found in what was said last.

    Where the pattern has groups, $1 to $9 in the answer are what they found.
    """
    compiled = [(re.compile(pattern, re.IGNORECASE | re.DOTALL), line) for pattern, line in rules.items()]

    def answer(request: ModelRequest) -> Answer:
        for pattern, line in compiled:
            if found := pattern.search(request.last):
                return _filled(said(line, request), found)
        return Failure(status=400, body=f"no rule of this ScriptedModel fits {request.last!r:.80}")

    return answer


def _filled(answer: Answer, found: re.Match[str]) -> Answer:
    if not found.groups() or isinstance(answer, Failure):
        return answer
    reply = reply_of(answer)
    calls = [replace(call, arguments=_with_groups(call.arguments, found)) for call in reply.tool_calls]
    return replace(reply, text=_with_groups(reply.text, found), tool_calls=calls)


def _with_groups(value: Any, found: re.Match[str]) -> Any:
    if isinstance(value, str):
        known = len(found.groups())
        return _GROUP.sub(lambda mark: found[int(mark[1])] or "" if int(mark[1]) <= known else mark[0], value)
    if isinstance(value, Mapping):
        return {key: _with_groups(each, found) for key, each in value.items()}
    return [_with_groups(each, found) for each in value] if isinstance(value, list | tuple) else value


def said(line: Line, request: ModelRequest) -> Answer:
    """Return the answer that a line of a script is or gives."""
    return line(request) if callable(line) else line


def reply_of(answer: str | ToolCall | Reply) -> Reply:
    """Return any answer that is a completion in its general form."""
    match answer:
        case str():
            return Reply(text=answer)
        case ToolCall():
            return Reply(tool_calls=[answer])
        case Reply():
            return answer


def script_of(data: Any) -> Script:
    """
    Return the script that JSON data describes: a list of answers, {"turns": [...]} or {"rules": {pattern: answer}}.

    An answer is a text, {"name", "arguments"} for a call of a tool, or the fields of a Reply or of a Failure.

    Raises ConfigError for anything else.
    """
    if isinstance(data, list):
        return [_answer_of(each) for each in data]
    turns, rules = (data.get(name) if isinstance(data, dict) else None for name in ("turns", "rules"))
    if isinstance(turns, list):
        return by_turn([_answer_of(each) for each in turns])
    if isinstance(rules, dict):
        return {pattern: _answer_of(each) for pattern, each in rules.items()}
    msg = f"the script is {data!r:.80}; a list of answers, an object with 'turns' or one with 'rules' is expected"
    raise ConfigError(msg)


def _answer_of(data: Any) -> Answer:
    if isinstance(data, str):
        return data
    if not isinstance(data, dict):
        msg = f"{data!r:.80} is no answer: a text, a call of a tool, or the fields of a Reply or a Failure are expected"
        raise ConfigError(msg)
    kind = ToolCall if "name" in data else Failure if "status" in data else Reply
    try:
        calls = {"tool_calls": [ToolCall(**call) for call in data["tool_calls"]]} if "tool_calls" in data else {}
        return kind(**{**data, **calls})
    except TypeError as error:
        msg = f"{data!r:.80} is no answer: {error}"
        raise ConfigError(msg) from error
