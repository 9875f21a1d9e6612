"""`{key}` in commands: one word, never code, never an option."""

import subprocess

import pytest

from stabilize_nb.errors import ConfigError
from stabilize_nb.tasks.templates import in_arguments, in_shell, places

NASTY = "a  b$(echo X)`echo Y`'\";*\n echo Z \\"


def printed(text, **context):
    command, variables = in_shell(text, context, {"timeout"})
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("printf '%s|' {v}", f"{NASTY}|"),
        ("printf '%s|' x{v}y", f"x{NASTY}y|"),
        ("printf '%s|' \"{v}\"", f"{NASTY}|"),
        ("printf '%s|' \"x {v} y\"", f"x {NASTY} y|"),
        ("printf '%s|' 'x {v} y'", f"x {NASTY} y|"),
        ("printf '%s|' 'x\\'{v}", f"x\\{NASTY}|"),
        ("printf '%s|' \"x\\\"{v}\"", f'x"{NASTY}|'),
        ("# don't\nprintf '%s|' {v}", f"{NASTY}|"),
        ("printf '%s|' x#'{v}'", f"x#{NASTY}|"),
        ("printf '%s|' \"$(printf '%s' \"{v}\")\"", f"{NASTY}|"),
        ("printf '%s|' \"$( (printf '%s' {v}) )\" {v}", f"{NASTY}|{NASTY}|"),
        ("printf '%s|' \"`printf '%s' \"{v}\"`\"", f"{NASTY}|"),
        ("v=w; printf '%s|' ${v} \\{v} {w} {timeout}", "w|{v}|{w}|{timeout}|"),
    ],
)  # fmt: skip
def test_value_is_the_same_in_any_quotes(text, expected):
    """The shell sees the value as it is, as a part of one word."""
    assert printed(text, v=NASTY, timeout=3) == expected


@pytest.mark.parametrize("text", ["$'it\\'s {v}'", "cat <<E\n{v}\nE", "${x:-{v}}", "case a in a) echo {v};; esac"])
def test_value_is_not_code_where_the_place_is_misread(text, tmp_path):
    """What the scan of quotes does not know costs a wrong text at most."""
    canary = tmp_path / "canary"
    for value in (f"$(touch {canary})", f"`touch {canary}`", f"\\'; touch {canary}; '", f'"; touch {canary}; "'):
        command, variables = in_shell(text, {"v": value}, ())
        subprocess.run(["/bin/sh", "-c", command], env=variables, capture_output=True, check=False)
        assert value not in command

    assert not canary.exists()


@pytest.mark.parametrize("text", ["rm {v}", "rm '{v}'", "rm -- x; rm {v}", "x=$(rm {v})", "rm x {v}"])
def test_option_is_refused(text):
    """Text that begins with "-" is refused at the beginning of an argument."""
    with pytest.raises(ConfigError, match="would be taken for an option; write '--' before"):
        in_shell(text, {"v": "-rf"}, ())


@pytest.mark.parametrize("text", ["rm -- {v}", "rm -- x {v}", "rm ./{v}", "V={v} rm"])
def test_text_with_a_dash_is_taken_where_it_is_no_option(text):
    """Behind `--`, or with something before it."""
    assert in_shell(text, {"v": "-rf"}, ())[1] == {"STABILIZE_NB_v": "-rf"}


def test_list_elements():
    """Each is one argument; a negative number is no option."""
    assert in_arguments(["a", "{v}", "--x={v}", "{n}", "--", "{d}"], {"v": NASTY, "n": -3, "d": "-d"}, ()) == [
        "a", NASTY, f"--x={NASTY}", "-3", "--", "-d",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="option"):
        in_arguments(["a", "{d}"], {"d": "-d"}, ())


@pytest.mark.parametrize("value", ["a\0b", "a\ud800"])
def test_value_that_no_argument_can_hold(value):
    """One sentence."""
    with pytest.raises(ConfigError, match="take it out before"):
        in_shell("echo {v}", {"v": value}, ())


def test_other_values_are_json():
    """And text is as it is."""
    assert printed("printf '%s|' {a} {b} {c}", a=[1, "x y"], b=True, c=None) == '[1, "x y"]|true|null|'


def test_places():
    """The names, each once; `${name}` is the shell's."""
    assert places(["{a} {b}", "{a}", "${c} {1} { d }"]) == ["a", "b"]
    assert places(None) == []


@pytest.mark.parametrize("text", ["echo $(({n} + 1))", "((x = {n}))", 'echo "$((1 + (2 * {n})))"'])
def test_arithmetic_takes_no_values(text):
    """bash runs `$(...)` in what a number should be."""
    with pytest.raises(ConfigError, match="compute it in Python"):
        in_shell(text, {"n": "a[$(touch x)]"}, ())


def test_behind_arithmetic_values_are_taken():
    """It ends where it does."""
    assert printed('echo "$((1 + 2)) {n}" {n}', n=4) == "3 4 4\n"
