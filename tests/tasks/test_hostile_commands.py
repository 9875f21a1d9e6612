"""R19: 100 hostile strings in 7 places of commands. A value arrives as it is, or is refused; no canary is touched."""

from __future__ import annotations

import asyncio
import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb import PythonTask, ShellTask, SSHTask
from stabilize_nb.models.status import WorkflowStatus
from tests.makers import stage
from tests.tasks.sshd import Sshd

if TYPE_CHECKING:
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
IN_SHELL = "printf '%s\\n' x{v} \"x{v}\" 'x{v}' \"$(printf %s x{v})\""


def strings(canary: Path) -> list[str]:
    touch = TOUCH.format(canary=canary)
    return [shape.format(t=touch, canary=canary) for shape in SHAPES]


def carried_out(task: Any, **context: Any) -> TaskResult:
    return asyncio.run(task.execute(stage("it", context=context)))


def test_there_are_enough_of_them(tmp_path):
    """100 or more, all different, and one of them run by a shell would touch the canary."""
    assert len(set(strings(tmp_path / "c"))) == len(SHAPES) >= 100


def test_no_string_is_run_here(tmp_path):
    """In a shell's text, in a list, in the environment, in input, as a folder, as a shell, and as a module."""
    canary, seen = tmp_path / "canary", Counter()
    for text in strings(canary):
        shown = f"x{text}"
        for shell in ("/bin/sh", "/bin/bash"):
            done = carried_out(ShellTask(), command=IN_SHELL, v=text, shell=shell)
            assert done.outputs["stdout"] == "\n".join([shown, shown, shown, shown.rstrip("\n")]).strip(), text
        done = carried_out(ShellTask(), command="printf %s {v}", v=text)
        assert done.status is WorkflowStatus.SUCCEEDED or text.startswith("-"), done.context
        done = carried_out(
            ShellTask(),
            command=["sh", "-c", 'cat; printf %s "$A" "$1"', "--", "{v}"],
            v=text,
            env={"A": text},
            stdin=text,
        )
        assert done.outputs["stdout"] == (3 * text).strip(), text
        for name in ("cwd", "shell"):
            done = carried_out(ShellTask(), command="true", **{name: text})
            assert done.status is WorkflowStatus.TERMINAL, text
            seen[name] += 1
        for context in ({"module": text, "function": "f"}, {"module": "os", "function": text}, {"python_path": text}):
            done = carried_out(PythonTask(), **{**({"script": "1"} if "python_path" in context else {}), **context})
            assert done.status is WorkflowStatus.TERMINAL, text
        carried_out(ShellTask(), command="true", env={text: "x"})

    assert not canary.exists()


def test_no_string_is_run_as_a_host_or_a_user(tmp_path):
    """Refused before anything is looked up, or no host of that name."""
    canary = tmp_path / "canary"
    for text in strings(canary):
        for context in ({"host": text}, {"host": "127.0.0.1", "user": text}, {"host": "::1", "key_file": text}):
            done = carried_out(SSHTask(), **context, command="true", connect_timeout=1, port=1)
            assert done.status is WorkflowStatus.TERMINAL, text

    assert not canary.exists()


def test_no_string_is_run_on_the_other_side(tmp_path):
    """Neither in the text of a command nor in a list; the host's shell is one that reads single quotes as all do."""
    canary = tmp_path / "canary"
    with Sshd(tmp_path) as there:
        every = {f"v{at}": text for at, text in enumerate(strings(canary))}
        places = [f"x{{{name}}}" for name in every]
        expected = "".join(f"x{text}\n" for text in every.values()).strip()
        for command in (["printf", "%s\\n", *places], "printf '%s\\n' " + " ".join(places)):
            done = carried_out(SSHTask(), **there.context, command=command, **every)
            assert done.outputs["stdout"] == expected
        quoted = "printf '%s\\n' " + " ".join(f'"{place}"' for place in places)
        assert carried_out(SSHTask(), **there.context, command=quoted, **every).outputs["stdout"] == expected

    assert not canary.exists()


@pytest.mark.parametrize("at", [0, 8])
def test_canary_would_show(tmp_path, at):
    """The strings do what they are for where text is pasted into a command."""
    canary = tmp_path / "canary"
    asyncio.run(ShellTask().execute(stage("it", context={"command": "true " + strings(canary)[at]})))

    assert canary.exists()
    assert shlex.quote(str(canary)) == str(canary)
