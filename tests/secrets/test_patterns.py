"""What nobody declared is masked where it is shown or logged, left where it is computed with, refused at start."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stabilize_nb import Engine, Flow, secret
from stabilize_nb.engine import store_url
from stabilize_nb.errors import ConfigError
from stabilize_nb.models.stage import StageExecution
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.gates import Asked
from stabilize_nb.notebook.past import values_table
from stabilize_nb.notebook.preview import preview
from stabilize_nb.notebook.views import run_bundle
from stabilize_nb.secrets.forms import forms_of
from stabilize_nb.secrets.hiding import HIDDEN, held_back, hidden, hide, marked
from stabilize_nb.secrets.patterns import FORMATS, kind_in, masked, masked_value, names_secret
from stabilize_nb.store.codec import dumps, loads
from stabilize_nb.store.sqlite import database_path
from tests.secrets.keys import formats

KEYS = formats()
log = logging.getLogger("stabilize_nb")

careless = Flow("careless")


@careless.stage
def get(name: str) -> dict[str, str]:
    key = KEYS[name]
    print("got", key)
    print(key, file=sys.stderr)
    log.warning("got %s", key)
    return {"found": key, "text": f"with {key} in it"}


careless.approval("Use it?", name="gate", after="get", show="get")


@careless.stage(after="gate")
def use(get: dict[str, str], name: str) -> None:
    assert get["found"] == KEYS[name]
    raise ValueError(f"{get['found']} was refused")


def test_undeclared_keys_are_masked_where_they_are_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key of each kind is in no log, error, HTML or export; the next stage has it as it was."""
    found = []
    with Engine(":memory:") as engine:
        for name, key in KEYS.items():
            run = engine.start(careless, name=name)
            gate = run.until_gate(20)[0]
            asked = "\n".join([*Asked(gate, 0).lines(), str(Asked(gate, 0).html())])
            run.approve(gate)
            run.wait(20)
            assert "was refused" in str(run.error), run.error
            run.events.workflow.to_ocel(tmp_path / "run.json")
            shown = {
                "log": str(run.log()),
                "error": str(run.error) + str(run.explain()),
                "HTML": str(run_bundle(run)) + str(preview(run.outputs)) + str(values_table("o", run.outputs).html()),
                "gate": asked,
                "export": (tmp_path / "run.json").read_text(),
                "logging": caplog.text,
            }
            assert run.outputs["get"]["found"] == key
            found += [f"{name} in {sink}" for sink, text in shown.items() if key.strip()[-30:] in text]
            caplog.clear()

    print(f"{len(KEYS)} kinds of keys x {len(shown)} places: {len(found)} found")
    assert found == []
    assert len(KEYS) >= 40


@pytest.mark.parametrize("kind", KEYS)
def test_formats_know_their_keys(kind: str) -> None:
    """Each kind is known, alone and in text; masking twice is masking once; a shorter one is none."""
    key = KEYS[kind]
    text = f"before {key} behind"

    assert kind_in(key) is not None
    assert kind_in(text) == kind_in(key)
    assert masked(text).startswith("before [hidden: ")
    assert masked(text).endswith(" behind")
    assert masked(masked(text)) == masked(text)


def test_ordinary_text_is_left_alone() -> None:
    """Words, numbers, hashes, ids and code that resemble keys are no keys."""
    texts = [
        "task-force of the desk-top", "sk-learn and scikit-learn", "the token: 5 of 7", "max_tokens=4096", "key=value",
        "https://example.com/a?b=c", "user@example.com", "d41d8cd98f00b204e9800998ecf8427e",
        "3f786850e387550fdab836ed7e6dc881de23001b", "2026-11-22T17:00:00Z", "secret('OPENAI_API_KEY')",
        '{"$secret":"OPENAI_API_KEY"}', "password=[secret DB_PASSWORD]", "the secret: of it all", "eyJust a word",
        "xoxo", "AKIA", "SKyscraper", "hf_hub", "npm_config", "-----BEGIN CERTIFICATE-----",
    ]  # fmt: skip

    assert [text for text in texts if masked(text) != text] == []
    assert [text for text in texts if kind_in(text)] == []


def test_names_of_secrets_are_known_however_they_are_written() -> None:
    """Case and separators do not count; numbers and short words under such names are shown."""
    for name in (
        "password",
        "DB_PASSWORD",
        "Api-Key",
        "apiKey",
        "x-api-key",
        "Authorization",
        "Set-Cookie",
        "accessToken",
    ):
        assert names_secret(name), name
    for name in ("tokens", "max_tokens", "keyboard", "author", "secretary", "key"):
        assert not names_secret(name), name
    shown = masked_value({"token": 5, "headers": {"X-Api-Key": "abcdefghij"}, "rows": [{"token": "the"}]})
    assert masked_value({"password": secret("DB")}) == {"password": "secret('DB')"}
    assert shown == {"token": 5, "headers": {"X-Api-Key": "[hidden]"}, "rows": [{"token": "the"}]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def", "Authorization: Bearer [hidden]"),
        ('{"authorization": "Basic bWU6eW91"}', '{"authorization": "Basic [hidden]"}'),
        ("Cookie: a=b; c=d", "Cookie: [hidden]"),
        ("postgresql://me:p%40ss@db/x", "postgresql://me:[hidden]@db/x"),
        ("login?user=me&password=correct-horse&x=1", "login?user=me&password=[hidden]&x=1"),
        ("API_KEY='abcdefghijkl'", "API_KEY='[hidden]'"),
    ],
)
def test_what_stands_behind_such_names_is_masked_in_text(text: str, shown: str) -> None:
    """Headers, cookies, addresses and settings keep their names and lose their values."""
    assert masked(text) == shown
    assert masked(shown) == shown


def test_masking_takes_time_in_proportion() -> None:
    """No text of 100,000 characters takes longer than a moment, however it is made for that."""
    signs = [sign for each in FORMATS for sign in each.signs]
    for part in (*signs, "a-", "password", "://", "://a:", "cookie", "authorization=", "token ", "-----BEGIN "):
        text = part * (100_000 // len(part)) + "PRIVATE"
        begin = time.perf_counter()
        masked(text)
        assert time.perf_counter() - begin < 1.0, part


@pytest.mark.parametrize("kind", KEYS)
def test_keys_as_plain_text_are_refused_at_start(kind: str) -> None:
    """The sentence says where they stand and what to do, and not which they are; nothing is stored."""
    key = KEYS[kind]
    with Engine(":memory:") as engine:
        stage = StageExecution(ref_id="ask", context={"headers": [{"x": key}]})
        for work, inputs, place in (
            (careless, {"name": f"with {key}"}, "inputs.name"),
            (Workflow.create("tests", "plain", [stage]), {}, "stage 'ask' context.headers[0].x"),
        ):
            with pytest.raises(ConfigError, match="keys stand in it as plain text") as error:
                engine.start(work, **inputs)
            assert f"{place} (" in str(error.value)
            assert 'Write secret("NAME") in place of each' in str(error.value)
            assert key.strip() not in str(error.value)
        assert len(engine.runs()) == 0


def test_who_says_so_may_store_them() -> None:
    """`allow_plain_secrets=True` stores what looks like a key, of an engine as of a flow."""
    flow = Flow("allowed")
    taken = []

    @flow.stage
    def take(text: str) -> None:
        taken.append(text)

    key = KEYS["github"]
    with Engine(":memory:") as engine:
        flow.engine = engine
        engine.start(flow, allow_plain_secrets=True, text=key).wait(10)
        flow.run("new", text=key, allow_plain_secrets=True).wait(10)
        with pytest.raises(ConfigError):
            flow.run("new", text=key)

    assert taken == [key, key]


@pytest.mark.parametrize("url", ["oracle://me:correct-horse@db/x", "mysql://me:correct-horse@db"])
def test_addresses_of_databases_are_echoed_without_password(url: str) -> None:
    """An address that cannot be opened is named without what opens it."""
    for refuse in (store_url, database_path):
        with pytest.raises(ConfigError) as error:
            refuse(url)
        assert "correct-horse" not in str(error.value)


# -- the values that are known ------------------------------------------------------------------------


def test_nothing_is_done_while_nothing_is_hidden() -> None:
    """Without secrets data and text pass as they are, the same object."""
    data = {"a": ["b"]}

    assert hidden(data) is marked(data) is data
    assert hide("text") == "text"
    assert held_back("text") == 0


def test_json_stays_json() -> None:
    """What is hidden in data never breaks its text: numbers, keys, quotes, the mark of references."""
    for value in ('","a":"b', "12345678", "$secret", '"$secret"', "null,null", "[secret KEY]", "\\u0000\\n"):
        HIDDEN.clear()
        HIDDEN.add("KEY", value)
        data = {"a": value, "n": 12345678, value: [value * 2], "ref": secret("KEY"), "x": 1234567890.5}
        stored = loads(dumps(hidden(data)))
        assert stored["ref"] == secret("KEY")
        assert stored["a"] == (secret("KEY") if len(value) >= 8 else value)
        assert stored["n"] == ("[secret KEY]" if value == "12345678" else 12345678)


def test_short_values_are_not_hidden(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has less than eight characters stays in other text, and a line of the log says so."""
    monkeypatch.setenv("PIN", "12345")
    flow = Flow("short")

    @flow.stage
    def ask(pin: str = secret("PIN")) -> str:
        return f"room {pin}"

    with Engine(":memory:") as engine:
        assert engine.start(flow).result(10) == "room 12345"
    assert "secret('PIN') has fewer than 8 characters" in caplog.text


def test_the_beginning_of_a_value_waits_for_its_end() -> None:
    """What is put into the log in parts is cut before what may be a value, not within."""
    HIDDEN.add("KEY", "correct horse battery")

    assert held_back("I said corr") == 4
    assert held_back("I said correct horse batter") == len("correct horse batter")
    assert held_back("I said correct horses") == 0


def test_forms_are_what_gives_a_value_away() -> None:
    """A value, its escapes and encodings, the lines of a long one; nothing that is too short to be told from others."""
    forms = forms_of('a/b+c d&e"f\nsecond line of the key')

    assert {"a%2Fb%2Bc%20d%26e%22f%0Asecond%20line%20of%20the%20key", "second line of the key"} <= forms
    assert min(map(len, forms)) >= 8


def test_import_of_secrets_is_light() -> None:
    """What says a secret's name loads neither the engine nor a database."""
    code = "import sys; from stabilize_nb import secret; secret('A'); print('apsw' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def test_log_records_are_masked_with_their_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    """Arguments and tracebacks of log lines hold no key, before any handler has them."""
    try:
        raise ValueError(KEYS["aws"])
    except ValueError:
        log.exception("asking with %s failed", KEYS["github"])

    assert KEYS["aws"] not in caplog.text
    assert KEYS["github"] not in caplog.text
    assert "ValueError: [hidden: AWS access key]" in caplog.text
