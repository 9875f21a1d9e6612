"""
HTTPTask: one request to a server, as a stage.

It waits on the event loop and holds no thread; when its result is not wanted any more the connection is closed at once.
Where it may go is decided by `egress`, and every decision is a line in the log of the stage: there a person who asks
why a request was refused looks first, and it is stored with what the stage prints.

A request that failed for a reason that passes is repeated by the engine, which holds neither connection nor thread
meanwhile. POST and PATCH may be carried out twice then, and after a crash of the process, whoever repeats them: they
are sent with an Idempotency-Key, which is the same for every try of one run of a stage.
"""

from __future__ import annotations

import json
import math
import ssl
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

from stabilize_nb.egress.client import guarded_client, library, shown, target_of
from stabilize_nb.egress.policy import Egress, judge
from stabilize_nb.egress.retry_after import seconds
from stabilize_nb.errors import ConfigError, PermanentError, TransientError
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.tasks.http_files import Meter, Sending, check_target, gathered, kept
from stabilize_nb.tasks.http_order import KEYS, Order, OrderError, asked_by, places, read
from stabilize_nb.tasks.interface import Task
from stabilize_nb.tasks.result import TaskResult

if TYPE_CHECKING:
    import httpx2

    from stabilize_nb.models.stage import StageExecution

#: What answers say that is meant for one who may see credentials.
_SECRET_HEADERS: Final = frozenset({"set-cookie", "set-cookie2", "authorization", "authentication-info"})
_FAILURES_FROM: Final = 400


class _FailedError(Exception):
    """A request has failed; `again`: whether another try may help, `sent`: whether the server may have heard it."""

    def __init__(
        self, why: str, *, again: bool = False, sent: bool = True, after: float | None = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(why)
        self.again = again
        self.sent = sent
        self.after = after or 0.0
        self.outputs = outputs or {}


class HTTPTask(Task):
    """Sends one request and keeps the answer; `egress` says where it may go, before what the engine says.

    Options, given here or in the context of a stage: `url`; `method` ("GET"); one of `body` (text), `json`, `form`,
    `upload_file` (with `upload_field`, "file", and `upload_form`); `headers`; `auth` ([user, password]) or
    `bearer_token`; `download_to`, a file that is there only when it is whole; `timeout` (30 s for everything, redirects
    included); `retries` (0), `retry_delay` (1.0 s), `retry_on_status` ([502, 503, 504]), `retry_non_idempotent` (False:
    POST and PATCH are repeated only when nothing was sent); `idempotency_key` (True: one of its own; False: none; or
    text); `expected_status`; `parse_json` (False); `max_response_size` (10 MiB); `verify_ssl` (True, False, or a file
    of certificates); `continue_on_failure` (False).
    Where it may go: `allow_private_urls` (False), `allowed_hosts`, `allowed_ports` ([80, 443], and any at private
    addresses that may be asked).

    Outputs: `status_code`, `headers` (names in small letters, no cookies), `body` (text; the path of a download),
    `body_json`, `elapsed_ms`, `url` (after redirects), `content_type`, `content_length` (bytes of the body). A request
    that fails with an answer leaves them too.

    `{name}` in the url is a value that the stage sees, as one part of a path or query; in other options a text that is
    only a place (`json="{report}"`) is the value itself. Options that a stage only sees do not count.

    For example:

        >>> from stabilize_nb import Flow, HTTPTask
        >>> flow = Flow("rates")
        >>> rates = flow.task(HTTPTask(url="https://rates.test/{currency}", parse_json=True), "rates")
        >>> sorted(flow.inputs)
        ['currency']
    """

    waits = True
    timeout = math.inf  # the option `timeout` counts
    max_attempts = 2**31 - 1  # and `retries`

    def __init__(self, egress: Egress | None = None, **options: Any) -> None:
        for name in options.keys() - KEYS:
            raise ConfigError(f"HTTPTask has no option {name!r}; known are {', '.join(sorted(KEYS))}")
        self.egress = egress
        self.options = options

    def __str__(self) -> str:
        url = str(self.options.get("url", "the url of its stage")).partition("?")[0]
        return f"{self.options.get('method', 'GET')} {url}"

    @property
    def places(self) -> list[str]:
        """Names of values that its options take from what a stage sees."""
        return places(self.options)

    async def execute(self, stage: StageExecution) -> TaskResult:
        """Send the request; raises TransientError when it is to be sent again."""
        asked: dict[str, Any] = {}
        try:
            asked = asked_by(stage, self.options)
            order = _read(asked, self.egress or _egress_of(stage), stage)
            try:
                return TaskResult.success(await _exchanged(order, stage))
            except _FailedError as failed:
                return _ended(order, failed, stage, asked)
        except OrderError as error:
            return _failure(f"stage {stage.ref_id!r}: {error}", {}, asked)


def _read(asked: dict[str, Any], egress: Egress, stage: StageExecution) -> Order:
    return read(asked, egress, "" if stage.runtime is None else stage.idempotency_key)


def _egress_of(stage: StageExecution) -> Egress:
    found = None if stage.runtime is None else stage.runtime.egress
    return found or Egress()


def _failure(why: str, outputs: dict[str, Any], asked: dict[str, Any]) -> TaskResult:
    if asked.get("continue_on_failure"):
        return TaskResult.failed_continue(why, outputs)
    return TaskResult(WorkflowStatus.TERMINAL, {"error": why}, outputs)


def _ended(order: Order, failed: _FailedError, stage: StageExecution, asked: dict[str, Any]) -> TaskResult:
    """Return the failure, or raise TransientError when the request is to be sent again."""
    tries = next((task.attempt for task in stage.tasks if task.status is WorkflowStatus.RUNNING), order.retries + 1)
    if failed.again and tries <= order.retries:
        if order.may_repeat or not failed.sent:
            raise TransientError(str(failed), retry_after=max(order.retry_delay, failed.after)) from None
        why = f"{failed}; {order.method} is not repeated, for the server may have carried it out: "
        return _failure(f"{why}set retry_non_idempotent if it may be", failed.outputs, asked)
    tried = f" (tried {tries} times)" if failed.again and order.retries else ""
    return _failure(f"{failed}{tried}", failed.outputs, asked)


async def _exchanged(order: Order, stage: StageExecution) -> dict[str, Any]:
    """Send the request and return what the answer leaves; raises _FailedError and OrderError."""
    tls = _certificates(order.verify)
    client = guarded_client(order.egress, timeout=order.timeout, max_size=order.max_size, verify=tls, note=print)
    if order.download_to is not None:
        check_target(order.download_to)
    address = _address(order)
    sent = dict(order.sent)
    begun = time.monotonic()
    try:
        async with client:
            if order.upload is None:
                return await _answered(client, order, stage, sent, begun)
            with Sending(order.upload, stage) as file:
                sent["files"] = {order.upload_field: (order.upload.name, file)}
                return await _answered(client, order, stage, sent, begun)
    except library().HTTPError as error:
        _tell(error, f"{order.method} {address}")
    except PermanentError as error:
        raise _FailedError(f"{order.method} {address}: {error}") from None


def _address(order: Order) -> str:
    """Return the URL as it may be shown; raises _FailedError for one that may not be asked."""
    try:
        url = library().URL(order.url)
        target = target_of(url)
    except (library().InvalidURL, ValueError) as error:
        raise _FailedError(f"the url of {order.method} is none: {error}") from None
    verdict = judge(target, order.egress)
    if not verdict.allowed:
        print(f"egress: refused {shown(url)}: {verdict.why}")  # noqa: T201 - a line in the log of the stage
        raise _FailedError(f"{order.method} {shown(url)} may not be asked: {verdict.why}")
    return shown(url)


async def _answered(
    client: httpx2.AsyncClient, order: Order, stage: StageExecution, sent: dict[str, Any], begun: float
) -> dict[str, Any]:
    async with client.stream(order.method, order.url, headers=order.headers, **sent) as answer:
        status = answer.status_code
        fits = status in order.expected if order.expected is not None else status < _FAILURES_FROM
        keeps = order.download_to if fits and order.method != "HEAD" else None
        length = answer.headers.get("content-length", "")
        total = int(length) if length.isdecimal() and order.method != "HEAD" else None
        meter = Meter(stage, "received", total)
        if keeps is not None:
            key = stage.id if stage.runtime is None else stage.idempotency_key
            size = await kept(answer.aiter_raw(), meter, keeps, key)
            body, text = b"", str(keeps)
        else:
            body = await gathered(answer.aiter_raw(), meter)
            size = int(length) if order.method == "HEAD" and length.isdecimal() else len(body)
            text = body.decode(_charset(answer), "replace")
    outputs = {
        "status_code": status,
        "headers": {name: value for name, value in answer.headers.items() if name not in _SECRET_HEADERS},
        "body": text,
        "body_json": None,
        "elapsed_ms": round((time.monotonic() - begun) * 1_000),
        "url": str(answer.url),
        "content_type": answer.headers.get("content-type", ""),
        "content_length": size,
    }
    if not fits:
        _refuse(order, answer, outputs)
    if order.parse_json and order.method != "HEAD":
        outputs["body_json"] = _parsed(order, body if keeps is None else None, outputs)
    return outputs


def _refuse(order: Order, answer: httpx2.Response, outputs: dict[str, Any]) -> NoReturn:
    status = answer.status_code
    wanted = "" if order.expected is None else f", expected {' or '.join(map(str, sorted(order.expected)))}"
    why = f"{order.method} {answer.url.copy_with(query=None, fragment=None)}: unexpected status {status}{wanted}"
    said = " ".join(str(outputs["body"]).split())[:200]
    raise _FailedError(
        f"{why} ({said})" if said else why,
        again=status in order.retry_on_status, after=seconds(answer.headers.get("retry-after")), outputs=outputs,
    )  # fmt: skip


def _parsed(order: Order, body: bytes | None, outputs: dict[str, Any]) -> Any:
    if body is None:
        raise _FailedError(f"{order.method}: parse_json and download_to exclude each other", outputs=outputs)
    try:
        return json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else error
        raise _FailedError(f"{order.method}: the answer is not JSON: {why}", outputs=outputs) from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _charset(answer: httpx2.Response) -> str:
    """Return how the text of an answer is encoded, where Python knows it; UTF-8 where nobody says."""
    name = answer.charset_encoding or "utf-8"
    try:
        "".encode(name)
        b"".decode(name)
    except (LookupError, ValueError):
        return "utf-8"
    return name


def _certificates(verify: bool | str) -> ssl.SSLContext | bool:
    if isinstance(verify, bool):
        return verify
    try:
        return ssl.create_default_context(cafile=verify)
    except OSError as error:
        raise OrderError(f"verify_ssl is {verify!r}, which is no file of certificates: {error}") from None


def _tell(error: httpx2.HTTPError, what: str) -> NoReturn:
    """Raise the failure that an error of the way is."""
    httpx2 = library()
    said = str(error) or f"the connection broke ({type(error).__name__})"
    never = (httpx2.DecodingError, httpx2.TooManyRedirects, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    raise _FailedError(
        f"{what}: {said}",
        again=not isinstance(error, never) and cause is None,
        sent=not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout),
    ) from None
