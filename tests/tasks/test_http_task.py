"""HTTPTask against a real server: what is sent, what an answer becomes, and how answers that are none end."""

import base64
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest

from stabilize_nb import Egress, Engine, Flow, HTTPTask, WorkflowStatus, secret
from stabilize_nb.egress.client import library
from stabilize_nb.errors import ConfigError
from tests.makers import stage, workflow
from tests.tasks.http_server import MIB, Server, authority

S = WorkflowStatus
LOCAL = {"allow_private_urls": True}


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


@pytest.fixture(scope="module")
def engine():
    with Engine(":memory:") as working:
        working.registry.register("http", HTTPTask)
        yield working


def begin(engine, **context):
    return engine.start(workflow(stage("s", task="http", context={**LOCAL, **context})))


def done(engine, **context):
    """Run one request and return its stage."""
    run = begin(engine, **context)
    run.wait(30)
    return run.workflow.stages[0]


def sent(engine, server, **context):
    """Run a request that succeeds and return what the server heard."""
    found = done(engine, url=server.url("echo"), parse_json=True, **context)
    assert found.status is S.SUCCEEDED, found.error
    return found.outputs["body_json"]


def test_answer_becomes_outputs_without_cookies(engine, server):
    """Every output of the table is there, and nothing of them is a credential."""
    found = done(engine, url=server.url("text?x=1"))

    outputs = found.outputs
    assert found.status is S.SUCCEEDED
    assert outputs["status_code"] == 200
    assert outputs["body"] == "Grüße"
    assert outputs["body_json"] is None
    assert outputs["headers"]["x-kind"] == "plain"
    assert outputs["url"] == server.url("text?x=1")
    assert outputs["content_type"] == "text/plain; charset=utf-8"
    assert outputs["content_length"] == 7
    assert 0 <= outputs["elapsed_ms"] < 30_000
    assert "s3cret" not in str(outputs)


def test_request_says_what_the_context_says(engine, server):
    """Body, JSON, form, headers and credentials arrive as they were given."""
    assert sent(engine, server, method="post", json={"a": [1]})["body"] == '{"a":[1]}'
    assert sent(engine, server, method="PUT", body="täxt")["body"] == "täxt".encode().decode("latin-1")
    assert sent(engine, server, method="POST", form={"a": "1 2", "b": ["x", "y"]})["body"] == "a=1+2&b=x&b=y"
    assert sent(engine, server, headers={"X-Own": "1"})["headers"]["x-own"] == "1"
    assert sent(engine, server, bearer_token="t0ken")["headers"]["authorization"] == "Bearer t0ken"
    basic = sent(engine, server, auth=["me", "pass:word"])["headers"]["authorization"]
    assert base64.b64decode(basic.removeprefix("Basic ")) == b"me:pass:word"
    assert sent(engine, server, method="OPTIONS")["method"] == "OPTIONS"


def test_head_has_an_empty_body(engine, server):
    """HEAD keeps the headers and the length they state."""
    outputs = done(engine, url=server.url("big/1234"), method="HEAD", parse_json=True).outputs

    assert (outputs["body"], outputs["content_length"], outputs["status_code"]) == ("", 1234, 200)


@pytest.mark.parametrize("kind", ["gzip", "deflate"])
def test_packed_answers_are_unpacked(engine, server, kind):
    """gzip and deflate are asked for and unpacked."""
    assert done(engine, url=server.url(f"packed/{kind}")).outputs["body"] == "hello"


def test_text_is_decoded_as_the_server_says(engine, server):
    """The charset of the answer counts when Python knows it as one of text."""
    assert done(engine, url=server.url("latin")).outputs["body"] == "Grüße"
    assert done(engine, url=server.url("odd-charset")).outputs["body"] == "fine"


@dataclass(frozen=True)
class Failing:
    name: str
    path: str
    said: str
    context: dict[str, Any] = field(default_factory=dict)


FAILING = [
    Failing("404", "status/404", "unexpected status 404 (no luck)"),
    Failing("500", "status/500", "unexpected status 500"),
    Failing(
        "not expected", "status/200", "unexpected status 200, expected 201 or 202", {"expected_status": [201, 202]}
    ),
    Failing("not JSON", "not-json", "the answer is not JSON", {"parse_json": True}),
    Failing("not a number", "nan", "NaN is no number", {"parse_json": True}),
    Failing("deep JSON", "deep", "the answer is not JSON: nested too deep", {"parse_json": True}),
    Failing("large", "big/2000", "larger than the max size of 1,000 bytes", {"max_response_size": 1_000}),
    Failing("endless", "endless", "larger than the max size of 10,485,760 bytes"),
    Failing("gzip bomb", "bomb/gzip", "larger than the max size of 10,485,760 bytes"),
    Failing("deflate bomb", "bomb/deflate", "larger than the max size of 10,485,760 bytes"),
    Failing("brotli bomb", "bomb/br", "packed as 'br'; gzip, deflate was asked for"),
    Failing("gzip twice", "bomb/gzip,gzip", "packed as 'gzip,gzip'"),
    Failing("broken gzip", "broken-gzip", "the packed answer breaks off"),
    Failing("slow body", "slow-body", "the answer took too long", {"timeout": 0.3}),
    Failing("slow headers", "slow-headers", "the answer took too long", {"timeout": 0.3}),
    Failing("endless 1xx", "continue-forever", "the answer took too long", {"timeout": 0.3}),
    Failing("many headers", "many-headers", "Receive buffer too long"),
    Failing("body too short", "short", "without sending complete message body"),
    Failing("length is no number", "length/abc", "Content-Length"),
    Failing("length is negative", "length/-5", "Content-Length"),
    Failing("two lengths", "length/5%0d%0aContent-Length:%206", "Content-Length"),
    Failing("no HTTP", "noise", "GET"),
    Failing("hangs up", "hang-up", "without sending a response"),
    Failing("six redirects", "hops/6", "redirect"),
    Failing("location is no URL", "redirect/302/http:%2F%2Fx.test:port", "Invalid URL in location header"),
]


@pytest.mark.parametrize("case", FAILING, ids=lambda case: case.name)
def test_bad_answer_fails_with_a_sentence(engine, server, case):
    """The stage is TERMINAL, and its error says what was asked and what is wrong."""
    found = done(engine, url=server.url(case.path), **case.context)

    assert found.status is S.TERMINAL
    assert case.said in found.error
    assert "Traceback" not in found.error


def test_five_redirects_are_followed(engine, server):
    """The output `url` is where the answer came from."""
    outputs = done(engine, url=server.url("hops/5")).outputs

    assert (outputs["body"], outputs["url"]) == ("arrived", server.url("hops/0"))


def test_failed_request_leaves_its_answer(engine, server):
    """What the server said is kept in the outputs; with continue_on_failure the flow goes on."""
    failed = done(engine, url=server.url("status/404"))
    goes_on = done(engine, url=server.url("status/404"), continue_on_failure=True)

    assert (failed.outputs["status_code"], failed.outputs["body"]) == (404, "no luck")
    assert (goes_on.status, goes_on.outputs["status_code"]) == (S.FAILED_CONTINUE, 404)


def test_expected_status_may_be_an_error(engine, server):
    """A status that is expected is a success, whatever it is."""
    assert done(engine, url=server.url("status/404"), expected_status=404).status is S.SUCCEEDED


WRONG = [
    ({}, "no 'url' specified"),
    ({"url": 5}, "url is a int; text is expected"),
    ({"url": "http://ex ample.com\n"}, "the url of GET is none"),
    ({"url": "http://127.0.0.1:99999/"}, "port 99999 is none"),
    ({"url": "http://x.test/" + "a" * 70_000}, "the url of GET is none"),
    ({"url": "http://x.test/", "method": "BREW"}, "unsupported method 'BREW'"),
    ({"url": "http://x.test/", "body": "a", "json": 1}, "body and json are given"),
    ({"url": "http://x.test/", "timeout": 0}, "timeout is 0; a number above 0 is expected"),
    ({"url": "http://x.test/", "retries": -1}, "retries is -1"),
    ({"url": "http://x.test/", "expected_status": "200"}, "expected_status is '200'"),
    ({"url": "http://x.test/", "headers": {"A": "b\r\nC: d"}}, "the value of the header 'A' is not one line"),
    ({"url": "http://x.test/", "headers": {"Host": "other"}}, "the header 'Host' cannot be set"),
    ({"url": "http://x.test/", "auth": "me:secret-word"}, "auth is not [user, password]"),
    ({"url": "http://x.test/", "bearer_token": "a\nsecret-word"}, "bearer_token is not one line"),
    ({"url": "http://x.test/", "upload_file": "/no/such", "method": "POST"}, "file not found: upload_file '/no/such'"),
    ({"url": "http://x.test/", "upload_file": "/dev/zero", "method": "POST"}, "is no regular file"),
    ({"url": "http://x.test/", "upload_file": "a"}, "GET sends no file"),
    ({"url": "http://x.test/", "download_to": "/no/such/folder/file"}, "in a folder that does not exist"),
    ({"url": "http://x.test/", "download_to": "/tmp"}, "is a folder; a file is expected"),
    ({"url": "http://x.test/", "verify_ssl": "/no/such.pem"}, "no file of certificates"),
    ({"url": "http://x.test/", "allowed_ports": [0]}, "ports has 0"),
    ({"url": "http://x.test/", "allowed_hosts": "x.test"}, "a list of names and networks is expected"),
    ({"url": "http://x.test/", "allow_private_urls": "yes"}, "allow_private_urls is 'yes'; True or False is expected"),
]  # fmt: skip


@pytest.mark.parametrize(("context", "said"), WRONG, ids=lambda each: each if isinstance(each, str) else "")
def test_order_that_cannot_be_meant_is_refused(engine, context, said):
    """Nothing is sent, and the sentence says what is expected, but never what a credential is."""
    found = done(engine, **context)

    assert found.status is S.TERMINAL
    assert said in found.error
    assert "secret-word" not in found.error


def test_missing_library_is_named_with_its_remedy(engine, server, monkeypatch):
    """Without httpx2 the stage fails with the command that installs it."""
    monkeypatch.setitem(sys.modules, "httpx2", None)
    library.cache_clear()

    found = done(engine, url=server.url("text"))

    assert found.status is S.TERMINAL
    assert "pip install 'stabilize-nb[tasks]'" in found.error
    library.cache_clear()


# -- again and again -----------------------------------------------------------------------------


def test_busy_server_is_asked_again_after_the_time_it_names(engine, server):
    """503 with Retry-After: the engine waits that long, and every try of a POST has the same key."""
    begun = time.monotonic()
    found = done(engine, url=server.url("busy/1/2"), method="POST", retries=2, retry_delay=0, retry_non_idempotent=True)

    tries = [asked for asked in server.asked if asked["path"] == "/busy/1/2"]
    assert found.status is S.SUCCEEDED, found.error
    assert time.monotonic() - begun >= 2
    assert len(tries) == 2
    assert len({asked["headers"]["idempotency-key"] for asked in tries}) == 1


def test_post_is_not_repeated_unless_asked(engine, server):
    """A POST that may have been carried out is sent once, and the error says why and what to do."""
    found = done(engine, url=server.url("status/503"), method="POST", retries=3)

    assert "POST is not repeated" in found.error
    assert sum(asked["path"] == "/status/503" for asked in server.asked) == 1


def test_retries_end(engine, server):
    """After the last try the error says how many there were."""
    found = done(engine, url=server.url("busy/9/0"), retries=1, retry_delay=0)

    assert "unexpected status 503 (tried 2 times)" in found.error


def test_nothing_heard_is_repeated_for_any_method(engine):
    """A POST whose connection was refused was not heard, and is sent again."""
    with Server() as gone:
        pass
    found = done(engine, url=gone.url("echo"), method="POST", retries=1, retry_delay=0)

    assert found.status is S.TERMINAL
    assert "(tried 2 times)" in found.error


@pytest.mark.parametrize(("key", "expected"), [(False, None), ("mine", "mine")])
def test_idempotency_key_can_be_chosen(engine, server, key, expected):
    """The key of a POST may be one's own, or left out."""
    assert sent(engine, server, method="POST", idempotency_key=key)["headers"].get("idempotency-key") == expected


WORKER = """
import sys
from stabilize_nb import Engine, HTTPTask
from stabilize_nb.egress.client import library
from stabilize_nb.errors import ConfigError
from tests.makers import stage, workflow

with Engine("runs.db") as engine:
    engine.registry.register("http", HTTPTask)
    runs = engine.resume()
    context = {"url": sys.argv[1], "method": "POST", "allow_private_urls": True}
    run = runs[0] if runs else engine.start(workflow(stage("s", task="http", context=context)))
    run.wait(30)
    print(run.status.name, end="")
"""


def test_killed_process_sends_the_same_key_again(tmp_path):
    """SIGKILL while a POST is at work: the process that takes over sends it again, and the server can tell."""
    command = [sys.executable, "-c", WORKER]
    with Server() as server:
        first = subprocess.Popen([*command, server.url("slow-body")], cwd=tmp_path)
        server.await_request()
        first.kill()
        first.wait()
        server.closing.set()
        subprocess.run([*command, "-"], cwd=tmp_path, check=True, capture_output=True, timeout=60)

        keys = [asked["headers"]["idempotency-key"] for asked in server.asked]
    assert len(keys) == 2
    assert keys[0] == keys[1]


# -- files ---------------------------------------------------------------------------------------


def test_file_is_sent_with_its_fields_and_progress(engine, server, tmp_path):
    """The server gets a multipart form; listeners hear how far it is."""
    path = tmp_path / "report.bin"
    path.write_bytes(b"\0\1" * MIB)
    heard = []
    engine.database.bus.subscribe("test", lambda event: heard.append(event.data.get("message", "")))

    found = done(
        engine, url=server.url("status/200"), method="POST", upload_file=str(path), upload_field="doc",
        upload_form={"title": "Q3"},
    )  # fmt: skip

    body = server.asked[-1]["body"]
    assert found.status is S.SUCCEEDED, found.error
    assert b'name="doc"; filename="report.bin"' in body
    assert b"\0\1" * MIB in body
    assert b'name="title"\r\n\r\nQ3' in body
    engine.database.flush()
    assert "sent 2.0 MiB of 2.0 MiB" in heard


def test_download_appears_when_it_is_whole(engine, server, tmp_path):
    """The body is the path; nothing else is left in the folder."""
    target = tmp_path / "data.bin"

    outputs = done(engine, url=server.url(f"big/{3 * MIB}"), download_to=str(target)).outputs

    assert (outputs["body"], outputs["content_length"]) == (str(target), 3 * MIB)
    assert target.stat().st_size == 3 * MIB
    assert [path.name for path in tmp_path.iterdir()] == ["data.bin"]


@pytest.mark.parametrize("path", ["status/404", "short", f"big/{11 * MIB}", "bomb/gzip"])
def test_failed_download_leaves_the_old_file(engine, server, tmp_path, path):
    """What was there before stays, and no part of the new one."""
    target = tmp_path / "data.bin"
    target.write_text("old")

    found = done(engine, url=server.url(path), download_to=str(target))

    assert found.status is S.TERMINAL
    assert target.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["data.bin"]


# -- being broken off ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["slow-body", "slow-headers"])
def test_cancel_closes_the_connection_at_once(engine, tmp_path, path):
    """A run that is cancelled in the middle of an answer leaves no connection and no file."""
    with Server() as server:
        run = begin(engine, url=server.url(path), download_to=str(tmp_path / "file"))
        server.await_request()
        begun = time.monotonic()
        run.cancel()
        assert run.wait(10) is S.CANCELED
        assert server.broken_off.wait(10)
        assert time.monotonic() - begun < 5
    assert list(tmp_path.iterdir()) == []


def test_waiting_requests_hold_no_threads(engine):
    """Fifty requests that wait at once need no thread each."""
    done(engine, url="http://127.0.0.1:1/")  # starts what is shared
    before = {*threading.enumerate()}
    with Server() as server:
        runs = [begin(engine, url=server.url("slow-body")) for _ in range(50)]
        server.await_request(50)
        mine = [each for each in {*threading.enumerate()} - before if each.name.startswith("stabilize")]
        for run in runs:
            run.cancel()
        for run in runs:
            run.wait(20)
    assert len(mine) < 20, mine


# -- what may not be ------------------------------------------------------------------------------


def test_tls_goes_by_name(engine, tmp_path):
    """A certificate of the authority that is named is taken for its own host only; False takes any."""
    root, context = authority(tmp_path, "127.0.0.1")
    _, other = authority(tmp_path, "else.test")
    with Server(context) as right, Server(other) as wrong:
        trusted = done(engine, url=right.url("text"), verify_ssl=str(root))
        unknown = done(engine, url=right.url("text"), retries=3)
        mismatch = done(engine, url=wrong.url("text"), verify_ssl=str(root))
        unchecked = done(engine, url=wrong.url("text"), verify_ssl=False)

    assert trusted.status is unchecked.status is S.SUCCEEDED, trusted.error
    assert "CERTIFICATE_VERIFY_FAILED" in unknown.error
    assert "tried" not in unknown.error
    assert "CERTIFICATE_VERIFY_FAILED" in mismatch.error


def test_credentials_stay_with_their_origin(engine, server):
    """A redirect to another port is followed without token, own headers, and key; one to the same keeps them."""
    with Server() as other:
        for place in (server, other):
            url = server.url(f"redirect/307/{quote(place.url('echo'), safe='')}")
            done(
                engine,
                url=url,
                method="POST",
                body="x",
                bearer_token="t0ken",
                headers={"X-Api-Key": "k", "Accept": "a"},
            )
        (heard,) = other.asked
    same = server.asked[-2]["headers"]
    assert (same["authorization"], same["x-api-key"]) == ("Bearer t0ken", "k")
    assert heard["body"] == b"x"
    assert heard["headers"]["accept"] == "a"
    assert not heard["headers"].keys() & {"authorization", "x-api-key", "idempotency-key", "cookie"}


def test_outputs_of_earlier_stages_fill_places_and_decide_nothing(engine, server):
    """What a stage gives out under the names of options is not taken, unless a place asks for it."""
    hostile = {
        "allow_private_urls": True, "verify_ssl": False, "headers": {"X-Injected": "1"}, "bearer_token": "stolen",
        "upload_file": "/etc/passwd", "rows": [1, 2], "user": "a/b?c", "up": "..",
    }  # fmt: skip
    engine.registry.replace("hostile", lambda: hostile)
    said = {"url": server.url("echo/{user}?q={rows}&x={unknown}"), "method": "POST", "json": {"data": "{rows}"}}
    open_ = stage("b", "a", task="http", context={**LOCAL, **said, "parse_json": True})
    closed = stage("c", "a", task="http", context={"url": server.url("echo")})
    climbing = stage("d", "a", task="http", context={**LOCAL, "url": server.url("echo/{up}/admin")})

    run = engine.start(workflow(stage("a", task="hostile"), open_, closed, climbing))
    run.wait(20)

    found = {each.ref_id: each for each in run.workflow.stages}
    heard = found["b"].outputs["body_json"]
    assert heard["body"] == '{"data":[1,2]}'
    assert heard["path"] == "/echo/a%2Fb%3Fc?q=%5B1%2C%202%5D&x={unknown}"
    assert not heard["headers"].keys() & {"x-injected", "authorization"}
    assert "is this machine" in found["c"].error
    assert "'..', which would leave its place" in found["d"].error


def test_options_of_the_task_hold_for_its_stages(engine, server):
    """What the task was made with counts before what a stage says; a wrong name is refused."""
    task = HTTPTask(url=server.url("status/{code}"), allow_private_urls=True, expected_status=[204])
    engine.registry.replace("fixed", task)
    run = engine.start(workflow(stage("s", task="fixed", context={"code": 204, "url": "http://else.test/"})))

    assert run.wait(20) is S.SUCCEEDED, run.workflow.stages[0].error
    assert task.places == ["code"]
    assert str(task) == f"GET {server.url('status/{code}')}"
    with pytest.raises(ConfigError, match="no option 'timout'"):
        HTTPTask(timout=3)


def test_secret_is_sent_and_kept_nowhere(server, tmp_path):
    """A token that is declared reaches the server, and of an answer that repeats it only its name is kept."""
    with Engine(tmp_path / "runs.db", secrets={"API_TOKEN": "correct-horse-battery"}) as engine:
        engine.registry.register("http", HTTPTask)
        found = done(
            engine, url=server.url("echo"), bearer_token=secret("API_TOKEN"), headers={"X-Key": secret("API_TOKEN")}
        )

    heard = server.asked[-1]["headers"]
    assert (heard["authorization"], heard["x-key"]) == ("Bearer correct-horse-battery", "correct-horse-battery")
    assert "Bearer [secret API_TOKEN]" in found.outputs["body"]
    assert "correct-horse" not in str(found)


def test_request_is_a_stage_of_a_flow(engine, server):
    """`flow.http`: names in braces are inputs and stages, which are followed; the answer goes on; `retry` counts."""
    flow = Flow("cities")

    @flow.stage
    def place(country):
        return f"{country}/capital"

    echo = server.url("echo/{place}")
    asked = flow.http(echo, name="asked", method="POST", json={"at": "{place}"}, parse_json=True, **LOCAL)
    flow.http(server.url("busy/1/0"), name="again", retry=1, retry_delay=0, after="asked", **LOCAL)

    @flow.stage
    def seen(asked, again):
        return asked["body_json"]["path"], asked["body_json"]["body"], again["status_code"]

    run = engine.start(flow, country="no")

    assert run.result(20) == ["/echo/no%2Fcapital", '{"at":"no/capital"}', 200]
    assert flow.requisites(asked) == {"place"}


def test_engine_says_where_tasks_may_go_and_a_stage_says_it_for_itself(server, tmp_path):
    """The engine's policy holds for stages that say nothing; what a stage says replaces it."""
    only = Egress(hosts=["127.0.0.1"])
    with Engine(tmp_path / "runs.db", egress=only) as engine:
        engine.registry.register("http", HTTPTask)
        allowed = engine.start(workflow(stage("s", task="http", context={"url": server.url("text")})))
        refused = engine.start(workflow(stage("s", task="http", context={"url": "http://8.8.8.8/"})))
        own = {"url": server.url("text"), "allowed_hosts": ["api.example.com"]}
        closer = engine.start(workflow(stage("s", task="http", context=own)))
        assert allowed.wait(20) is S.SUCCEEDED
        assert refused.wait(20) is closer.wait(20) is S.TERMINAL
        assert "8.8.8.8 is not among the allowed hosts" in refused.workflow.stages[0].error
        assert "127.0.0.1 is this machine" in closer.workflow.stages[0].error


def test_every_decision_is_in_the_log_of_the_stage(engine, server):
    """The log names what was connected and what was refused, without queries."""
    url = server.url(f"redirect/302/{quote('http://169.254.169.254/latest/meta-data/?key=s3cret', safe='')}")
    run = begin(engine, url=url)
    run.wait(20)

    log = str(run.log("s"))
    assert f"egress: connecting to 127.0.0.1:{server.server_port}: 127.0.0.1 is this machine" in log
    assert "egress: refused http://169.254.169.254/latest/meta-data/: 169.254.169.254 is a link-local address" in log
    assert "s3cret" not in log
