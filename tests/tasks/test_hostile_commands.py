"""R19: 500 hostile strings in 21 places of commands. A value arrives as it is, or is refused; no canary is touched."""

from __future__ import annotations

import asyncio
import shlex
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb import DockerTask, PythonTask, ShellTask, SSHTask
from stabilize_nb.models.status import WorkflowStatus
from tests.makers import stage
from tests.tasks.sshd import Sshd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stabilize_nb import TaskResult

TOUCH = "touch {canary}"
#: What runs a command wherever text becomes code, options or more than one word.
SHAPES = (
    "; {t}", "\n{t}", "\n{t}\n", "\r\n{t}\r\n", "&& {t}", "|| {t}", "| {t}", "& {t} &", "$({t})", "`{t}`",
    "${{x:-$({t})}}", "a$({t})b", "a`{t}`b", '"$({t})"', "'$({t})'", "';{t};'", '";{t};"', "');{t};('", '");{t};("',
    "`;{t};`", "\\';{t};\\'", '\\";{t};\\"', "\\\n;{t}", "\\;{t}", "\\\\';{t};'", "'\"';{t};'\"'", "\"'\";{t};\"'\"",
    "$';{t};'", "$'\\';{t};'", '$"$({t})"', "a[$({t})]", "x[$({t})]=1", "$((a[$({t})]))", "{{a,$({t})}}", "<({t})",
    ">({t})", "<<<$({t})", "<<E\n$({t})\nE", "> {canary}", ">> {canary}", ">{canary}", "2>{canary}", "&>{canary}",
    ">|{canary}", "<>{canary}", "tee {canary} <", "#\n{t}", "!{t}", "!!;{t}", "~;{t}", "*;{t}", "?;{t}", "[;{t}",
    "%0a{t}", "%0d%0a{t}", "\t;{t}", "\x0b;{t}", "\x0c;{t}", "\x1b;{t}", "\x7f;{t}", "\u0085{t}", "\u2028{t}",
    "\u2029{t}", "\u00a0;{t}", "；{t}", "\uff02;{t};\uff02", "\u2019;{t};\u2019", "\u202e;{t}", "é';{t};'",
    "\U0001f4a3;{t}", "{{x}};{t}", "{{v}};{t}", "${{v}};{t}", "{{{{v}}}};{t}", "%s;{t}", "%n;{t}", "env {t}",
    "exec {t}", "eval {t}", "sh -c '{t}'", "-c '{t}'", "-c {t}", "--command={t}", "-oProxyCommand={t}",
    "-o ProxyCommand={t}", "-F{canary}", "-E {canary}", "-S{canary}", "--output={canary}", "-o{canary}", "--;{t}",
    "-- ;{t}", "-;{t}", "-e system('{t}')", "-", "--", "--help;{t}", "__import__('os').system('{t}')",
    "'+__import__('os').system('{t}')+'", "\"\"\";import os;os.system('{t}');\"\"\"", "x@host;{t}", "host:{t}",
    "ssh://-oProxyCommand={t}/", "[-oProxyCommand={t}]", "127.0.0.1;{t}", "127.0.0.1\n{t}",
)  # fmt: skip
#: What stands around a shape: nothing, each kind of quotes, a word before it, lines and a comment.
WRAPPINGS = ("{s}", "'{s}'", '"{s}"', "value {s}", "\n{s} #")
#: Values that one command gets.
BATCH = 100
IN_SHELL = "printf '%s\\n' x{v} \"x{v}\" 'x{v}' \"$(printf %s x{v})\""


def strings(canary: Path) -> list[str]:
    """Return every shape in every wrapping, each once."""
    touch = TOUCH.format(canary=canary)
    shapes = [shape.format(t=touch, canary=canary) for shape in SHAPES]
    return list(dict.fromkeys(wrapping.format(s=shape) for wrapping, shape in product(WRAPPINGS, shapes)))


def batches(canary: Path) -> Iterator[dict[str, str]]:
    """Yield them as values of the context, under names v0, v1, ..."""
    for texts in batched(strings(canary)):
        yield {f"v{at}": text for at, text in enumerate(texts)}


def batched(texts: list[str]) -> Iterator[list[str]]:
    return (texts[at : at + BATCH] for at in range(0, len(texts), BATCH))


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def carried_out(loop: asyncio.Runner, task: Any, **context: Any) -> TaskResult:
    return loop.run(task.execute(stage("it", context=context)))


def test_there_are_enough_of_them(tmp_path):
    """500 or more, all different."""
    found = strings(tmp_path / "c")

    assert len(set(found)) == len(found) >= 500


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_no_string_is_run_in_the_text_of_a_command(loop, tmp_path, shell):
    """Without quotes, in each kind of quotes, and in a command within; each arrives as it is."""
    canary = tmp_path / "canary"
    for values in batches(canary):
        command = "\n".join(IN_SHELL.replace("{v}", f"{{{name}}}") for name in values)
        done = carried_out(loop, ShellTask(), command=command, shell=shell, **values)
        shown = [f"x{text}" for text in values.values()]
        wanted = "".join(f"{each}\n{each}\n{each}\n{each.rstrip(chr(10))}\n" for each in shown)
        assert done.outputs["stdout"] == wanted.strip()

    assert not canary.exists()


def test_no_string_is_run_as_a_word(loop, tmp_path):
    """A value is one word, and none that begins with - is taken for an option."""
    canary = tmp_path / "canary"
    for values in batches(canary):
        plain = {name: text for name, text in values.items() if not text.startswith("-")}
        command = "printf '%s\\n' " + " ".join(f"{{{name}}}" for name in plain)
        done = carried_out(loop, ShellTask(), command=command, **plain)
        assert done.outputs["stdout"] == "".join(f"{text}\n" for text in plain.values()).strip()
        for text in values.keys() - plain.keys():
            done = carried_out(loop, ShellTask(), command="printf %s {v}", v=values[text])
            assert done.status is WorkflowStatus.TERMINAL, values[text]

    assert not canary.exists()


def test_no_string_is_run_in_a_list_the_environment_or_the_input(loop, tmp_path):
    """Each arrives as it is, three times."""
    canary = tmp_path / "canary"
    for values in batches(canary):
        lines = "".join(f"{text}\n" for text in values.values())
        script = "cat; printf '%s\\n' " + " ".join(f'"${name}"' for name in values) + ' "$@"'
        command = ["sh", "-c", script, "--", *(f"{{{name}}}" for name in values)]
        done = carried_out(loop, ShellTask(), command=command, env=values, stdin=lines, **values)
        assert done.outputs["stdout"] == (3 * lines).strip()

    assert not canary.exists()


def test_no_string_is_run_as_the_name_of_something(loop, tmp_path):
    """Folder, shell, module, function, interpreter and image are refused; the name of a variable is one."""
    canary = tmp_path / "canary"
    for text in strings(canary):
        for task, context in (
            (ShellTask(), {"command": "true", "cwd": text}),
            (ShellTask(), {"command": "true", "shell": text}),
            (PythonTask(), {"module": text, "function": "f"}),
            (PythonTask(), {"module": "os", "function": text}),
            (PythonTask(), {"script": "1", "python_path": text}),
            (DockerTask(base_url="http://127.0.0.1:1"), {"command": "true", "image": text}),
        ):
            assert carried_out(loop, task, **context).status is WorkflowStatus.TERMINAL, (context, text)
        carried_out(loop, ShellTask(), command=["true"], env={text: "x"})

    assert not canary.exists()


def test_no_string_is_run_as_a_host_or_a_user(loop, tmp_path):
    """Refused before anything is looked up, or no host of that name."""
    canary = tmp_path / "canary"
    for text in strings(canary):
        for context in ({"host": text}, {"host": "127.0.0.1", "user": text}, {"host": "::1", "key_file": text}):
            done = carried_out(loop, SSHTask(), **context, command="true", connect_timeout=1, port=1)
            assert done.status is WorkflowStatus.TERMINAL, text

    assert not canary.exists()


def test_no_string_is_run_on_the_other_side(loop, tmp_path):
    """Neither in the text of a command nor in a list; the host's shell is one that reads single quotes as all do."""
    canary = tmp_path / "canary"
    with Sshd(tmp_path) as there:
        for values in batches(canary):
            places = [f"x{{{name}}}" for name in values]
            expected = "".join(f"x{text}\n" for text in values.values()).strip()
            for command in (
                ["printf", "%s\\n", *places],
                "printf '%s\\n' " + " ".join(places),
                "printf '%s\\n' " + " ".join(f'"{place}"' for place in places),
            ):
                done = carried_out(loop, SSHTask(), **there.context, command=command, **values)
                assert done.outputs["stdout"] == expected

    assert not canary.exists()


@pytest.mark.parametrize("at", [0, 8])
def test_canary_would_show(tmp_path, at):
    """The strings do what they are for where text is pasted into a command."""
    canary = tmp_path / "canary"
    asyncio.run(ShellTask().execute(stage("it", context={"command": "true " + strings(canary)[at]})))

    assert canary.exists()
    assert shlex.quote(str(canary)) == str(canary)
