"""What a stage asks an HTTPTask to do: its context, read and checked before anything is sent."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from stabilize_nb.egress.policy import Egress
from stabilize_nb.errors import ConfigError
from stabilize_nb.secrets.resolving import resolved

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution

METHODS: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
#: Methods that do the same when they are done twice (RFC 9110, 9.2.2).
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
#: Options of the task; `{timeout}` in a url is left alone.
KEYS: Final = frozenset({
    "url", "method", "body", "json", "form", "headers", "auth", "bearer_token", "upload_file", "upload_field",
    "upload_form", "download_to", "timeout", "retries", "retry_delay", "retry_on_status", "retry_non_idempotent",
    "idempotency_key", "expected_status", "parse_json", "max_response_size", "verify_ssl", "allow_private_urls",
    "allowed_hosts", "allowed_ports", "continue_on_failure",
})  # fmt: skip
KEY_HEADER: Final = "Idempotency-Key"
_PLACE: Final = re.compile(r"\{([A-Za-z][A-Za-z0-9_]*)\}")
_BODIES: Final = ("body", "json", "form", "upload_file")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SET_BY_US: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "accept-encoding"}
)
_STATUSES: Final = range(100, 600)


class OrderError(ConfigError):
    """A stage asks for something that cannot be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One request, and what is made of its answer. `sent`: what the client takes as its body."""

    url: str
    method: str
    headers: Mapping[str, str]
    sent: Mapping[str, Any]
    upload: Path | None
    upload_field: str
    download_to: Path | None
    timeout: float
    retries: int
    retry_delay: float
    retry_on_status: frozenset[int]
    retry_non_idempotent: bool
    expected: frozenset[int] | None
    parse_json: bool
    max_size: int
    verify: bool | str
    egress: Egress = field(default_factory=Egress)

    @property
    def may_repeat(self) -> bool:
        """Whether the request may be sent again although it may have been carried out."""
        return self.method in IDEMPOTENT or self.retry_non_idempotent


def asked_by(stage: StageExecution, options: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what a stage asks for: what it says itself, over it what its task says, with values in their places.

    An option that it only sees, of the run or of earlier stages, does not count: an answer or a model that gives an
    output named `headers` or `allow_private_urls` decides neither where a request goes nor what is sent along.
    """
    own = stage.context if stage.runtime is None else stage.runtime.own_context
    said = {key: value for key, value in {**own, **resolved(dict(options))}.items() if key in KEYS}
    filled: dict[str, Any] = {key: _filled(value, stage.context) for key, value in said.items()}
    if isinstance(said.get("url"), str):
        filled["url"] = _PLACE.sub(lambda place: _in_url(place, stage.context), said["url"])
    return filled


def places(options: Mapping[str, Any]) -> list[str]:
    """Return the names of values that options take from what a stage sees."""
    found = [name for key, value in options.items() if key != "url" for name in _whole_places(value)]
    url = options.get("url")
    found += _PLACE.findall(url) if isinstance(url, str) else []
    return [name for name in dict.fromkeys(found) if name not in KEYS]


def _whole_places(value: Any) -> Iterator[str]:
    if isinstance(value, str) and (place := _PLACE.fullmatch(value)):
        yield place[1]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for part in parts:
        yield from _whole_places(part)


def _filled(value: Any, seen: Mapping[str, Any]) -> Any:
    """Return a value, with what is seen in the place of each text that is only a place: `"{rows}"`."""
    if isinstance(value, str):
        place = _PLACE.fullmatch(value)
        return value if place is None or place[1] in KEYS else seen.get(place[1], value)
    if isinstance(value, Mapping):
        return {name: _filled(each, seen) for name, each in value.items()}
    return [_filled(each, seen) for each in value] if isinstance(value, list | tuple) else value


def _in_url(place: re.Match[str], seen: Mapping[str, Any]) -> str:
    """Return a value as one part of a path or query, which it cannot leave."""
    name = place[1]
    if name not in seen or name in KEYS:
        return place[0]
    text = seen[name] if isinstance(seen[name], str) else dumps(seen[name])
    if text in {".", ".."}:
        raise OrderError(f"the value of {{{name}}} is {text!r}, which would leave its place in the path")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise OrderError(f"the value of {{{name}}} holds half of a surrogate pair, which is no character") from None


def read(asked: Mapping[str, Any], egress: Egress, key: str) -> Order:
    """
    Return the order of a stage; `key` tells the server that a request that comes twice is the same one.

    Raises OrderError with a sentence for whatever cannot be meant.
    """
    method = _text(asked, "method", "GET").upper()
    if method not in METHODS:
        raise OrderError(f"unsupported method {method[:20]!r}: one of {', '.join(METHODS)} is expected")
    if "url" not in asked:
        raise OrderError("no 'url' specified: set it in the context of the stage")
    sent, upload = _sent(asked)
    if upload is not None and method not in {"POST", "PUT", "PATCH"}:
        raise OrderError(f"{method} sends no file: set method to POST or PUT")
    download = asked.get("download_to")
    statuses = asked.get("expected_status")
    return Order(
        url=_text(asked, "url", ""), method=method, headers=_headers(asked, method, key), sent=sent, upload=upload,
        upload_field=_text(asked, "upload_field", "file"),
        download_to=None if download is None else Path(_text(asked, "download_to", "")),
        timeout=_number(asked, "timeout", 30.0, above=0.0), retries=int(_number(asked, "retries", 0)),
        retry_delay=_number(asked, "retry_delay", 1.0),
        retry_on_status=_statuses("retry_on_status", asked.get("retry_on_status", [502, 503, 504])),
        retry_non_idempotent=_flag(asked, "retry_non_idempotent"),
        expected=None if statuses is None else _statuses("expected_status", statuses),
        parse_json=_flag(asked, "parse_json"),
        max_size=int(_number(asked, "max_response_size", 10 * 2**20)),
        verify=_verify(asked), egress=_egress(asked, egress),
    )  # fmt: skip


def _text(asked: Mapping[str, Any], key: str, usual: str) -> str:
    value = asked.get(key, usual)
    if not isinstance(value, str):
        raise OrderError(f"{key} is a {type(value).__name__}; text is expected")
    return value


def _flag(asked: Mapping[str, Any], key: str) -> bool:
    value = asked.get(key, False)
    if not isinstance(value, bool):
        raise OrderError(f"{key} is {value!r}; True or False is expected")
    return value


def _number(asked: Mapping[str, Any], key: str, usual: float, above: float | None = None) -> float:
    value = asked.get(key, usual)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < 0 or value == above:
        raise OrderError(f"{key} is {value!r}; a number {'above 0' if above == 0 else 'from 0'} is expected")
    return float(value)


def _statuses(key: str, value: Any) -> frozenset[int]:
    found = value if isinstance(value, list | tuple | set | frozenset) else [value]
    if any(isinstance(each, bool) or each not in _STATUSES for each in found):
        raise OrderError(f"{key} is {value!r}; a status such as 200, or a list of them, is expected")
    return frozenset(found)


def _verify(asked: Mapping[str, Any]) -> bool | str:
    value = asked.get("verify_ssl", True)
    if not isinstance(value, bool | str):
        raise OrderError(f"verify_ssl is {value!r}; True, False or a file of certificates is expected")
    return value


def _sent(asked: Mapping[str, Any]) -> tuple[dict[str, Any], Path | None]:
    """Return the body as the client takes it, and the file to send."""
    given = [key for key in _BODIES if asked.get(key) is not None]
    if len(given) > 1:
        raise OrderError(f"{' and '.join(given)} are given; a request has one of {', '.join(_BODIES)}")
    form = asked.get("upload_form")
    if form is not None and given != ["upload_file"]:
        raise OrderError("upload_form goes with upload_file, which is not given; fields alone go by 'form'")
    match given:
        case ["body"]:
            return {"content": _text(asked, "body", "").encode()}, None
        case ["json"]:
            return {"json": asked["json"]}, None
        case ["form"]:
            return {"data": _fields("form", asked["form"])}, None
        case ["upload_file"]:
            path = Path(_text(asked, "upload_file", ""))
            return {} if form is None else {"data": _fields("upload_form", form)}, path
        case _:
            return {}, None


def _fields(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise OrderError(f"{key} is a {type(value).__name__}; a mapping of fields is expected")
    return {name: list(each) if isinstance(each, list | tuple) else each for name, each in value.items()}


def _headers(asked: Mapping[str, Any], method: str, key: str) -> dict[str, str]:
    given = asked.get("headers") or {}
    if not isinstance(given, Mapping):
        raise OrderError(f"headers is a {type(given).__name__}; a mapping of names and values is expected")
    headers: dict[str, str] = {}
    for name, value in given.items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name) or name.lower() in _SET_BY_US:
            raise OrderError(f"the header {str(name)[:60]!r} cannot be set")
        text = str(value)
        if not isinstance(value, str | int | float) or not text.isprintable() or not text.isascii():
            raise OrderError(f"the value of the header {name!r} is not one line of printable ASCII text")
        headers[name] = text
    headers |= _credentials(asked)
    if method in {"POST", "PATCH"} and key and KEY_HEADER.lower() not in map(str.lower, headers):
        own = asked.get("idempotency_key", True)
        if own is not False:
            headers[KEY_HEADER] = key if own is True else _text(asked, "idempotency_key", "")
    return headers


def _credentials(asked: Mapping[str, Any]) -> dict[str, str]:
    """Return the header that says who asks; what it holds appears in no sentence."""
    auth, token = asked.get("auth"), asked.get("bearer_token")
    if auth is not None and token is not None:
        raise OrderError("auth and bearer_token are given; a request has one of them")
    if token is not None:
        if not isinstance(token, str) or not token.isprintable() or not token.isascii() or not token:
            raise OrderError("bearer_token is not one line of printable ASCII text")
        return {"Authorization": f"Bearer {token}"}
    if auth is None:
        return {}
    if not isinstance(auth, list | tuple) or [type(each) for each in auth] != [str, str]:
        raise OrderError("auth is not [user, password]")
    return {"Authorization": f"Basic {base64.b64encode(':'.join(auth).encode()).decode()}"}


def _egress(asked: Mapping[str, Any], egress: Egress) -> Egress:
    """Return where this stage may go: what it says itself counts, and of all else what the engine says."""
    said: dict[str, Any] = {}
    if "allow_private_urls" in asked:
        said["allow_private"] = _flag(asked, "allow_private_urls")
    for key, name in (("allowed_hosts", "hosts"), ("allowed_ports", "ports")):
        if key in asked:
            said[name] = asked[key]
    try:
        return replace(egress, **said)
    except (ConfigError, TypeError) as error:
        raise OrderError(str(error)) from None
