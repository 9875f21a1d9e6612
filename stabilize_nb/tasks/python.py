"""PythonTask: a stage that runs Python in a process of its own, of this interpreter or another."""

from __future__ import annotations

import json
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

from stabilize_nb.tasks.command import CommandTask, ended_with, failed
from stabilize_nb.tasks.options import Options
from stabilize_nb.tasks.process import RESULT, Ended, Order, run, text_of
from stabilize_nb.tasks.result import TaskResult

#: Options of the task, which a script does not find in INPUT.
KEYS: Final = frozenset({
    "script", "script_file", "module", "function", "inputs", "args", "python_path", "timeout", "cwd", "env",
    "inherit_env", "secrets", "continue_on_failure", "restart_on_failure",
})  # fmt: skip
DEFAULT_TIMEOUT: Final = 60
DEFAULT_CAP: Final = 10_000_000
_WAYS: Final = "give one of them: 'script' (its text), 'script_file', or 'module' and 'function'"


class PythonTask(CommandTask):
    """Runs a script, which reads `INPUT` and may set `RESULT`, or calls a function with `args` and `inputs`.

    Options: one of `script`, `script_file`, or `module` with `function`; `inputs`, `args`, `python_path` (this
    interpreter), `timeout` (60 s), `cwd`, `env`, `inherit_env`, `secrets`, `continue_on_failure`,
    `restart_on_failure`. INPUT is the stage's context, and over it `inputs`; a script gets `args` as sys.argv[1:].
    Outputs: stdout, stderr, exit_code, result, which is JSON. docs/tasks.md has the whole.

    For example:

        >>> from stabilize_nb import Engine, Flow, PythonTask
        >>> flow = Flow("apart")
        >>> task = PythonTask(script="RESULT = INPUT['number'] ** 2", inputs={"number": "{number}"})
        >>> square = flow.task(task, "square")
        >>> with Engine(":memory:") as engine:
        ...     engine.start(flow, number=7).result()["result"]
        49
    """

    keys = KEYS
    fillable = ("cwd", "env", "inputs")

    async def carried_out(self, options: Options) -> TaskResult:
        """Run the code and take its result."""
        order = _order(options)
        ended = await run(order)
        outputs = _outputs(ended)
        if ended.timed_out:
            return failed(options, f"{options.place}: its Python timed out after {order.timeout:g} s", outputs)
        if ended.code != 0:
            return failed(options, f"{options.place}: its Python {ended_with(ended.code, outputs['stderr'])}", outputs)
        if len(ended.result) >= RESULT:
            return failed(options, f"{options.place}: the result takes more than {RESULT} bytes as JSON", outputs)
        return TaskResult.success({**outputs, "result": json.loads(ended.result) if ended.result else None})


def _order(options: Options) -> Order:
    code = _code(options)
    return Order(
        argv=[_interpreter(options), "-c", _program()], env=options.environment(), cwd=options.folder(),
        stdin=json.dumps(code).encode(), timeout=options.seconds("timeout", DEFAULT_TIMEOUT), cap=DEFAULT_CAP,
        has_channel=True, masked=options.mask(),
    )  # fmt: skip


@cache
def _program() -> str:
    return Path(__file__).with_name("child_python.py").read_text(encoding="utf-8")


def _code(options: Options) -> dict[str, Any]:
    """Return what is to be run, as tasks/child_python.py takes it."""
    given = [key for key in ("script", "script_file", "module") if options.get(key) is not None]
    if len(given) != 1 or (given == ["module"]) != (options.get("function") is not None):
        raise options.wrong(given[0] if given else "script", _WAYS)
    inputs, args = options.get("inputs") or {}, options.get("args") or []
    if not hasattr(inputs, "keys"):
        raise options.wrong("inputs", "a mapping from names to values is expected")
    if not isinstance(args, list):
        raise options.wrong("args", "a list is expected")
    inputs = {name: options.filled(value) for name, value in inputs.items()}
    if given == ["module"]:
        return _call(options, inputs, args)
    seen = {key: value for key, value in options.context.items() if key not in KEYS and not key.startswith("_")}
    name, text, path = _script(options)
    argv = [each if isinstance(each, str) else json.dumps(each) for each in args]
    return {"is_script": True, "name": name, "text": text, "path": path, "inputs": {**seen, **inputs}, "args": argv}


def _call(options: Options, inputs: dict[str, Any], args: list[Any]) -> dict[str, Any]:
    module, function = options.text("module") or "", options.text("function") or ""
    if not all(part.isidentifier() for part in module.split(".")):
        raise options.wrong("module", "the name of a module is expected, such as 'package.module'")
    if not function.isidentifier():
        raise options.wrong("function", "the name of a function of the module is expected")
    return {
        "is_script": False, "name": module, "module": module, "function": function, "path": [], "inputs": inputs,
        "args": args,
    }  # fmt: skip


def _script(options: Options) -> tuple[str, str, list[str]]:
    """Return a script's name and text, and what comes first on its path."""
    text = options.get("script")
    if text is not None:
        if not isinstance(text, str):
            raise options.wrong("script", "the text of a script is expected")
        return "<script>", text, []
    path = Path(options.folder() or ".", options.path("script_file") or "")
    try:
        return str(path), path.read_text(encoding="utf-8"), [str(path.resolve().parent)]
    except (OSError, UnicodeDecodeError) as error:
        raise options.wrong("script_file", f"it cannot be read: {error}") from error


def _interpreter(options: Options) -> str:
    found = shutil.which(options.path("python_path") or sys.executable)
    if found is None:
        raise options.wrong("python_path", "there is no such interpreter")
    return found


def _outputs(ended: Ended) -> dict[str, Any]:
    return {
        "stdout": text_of(ended.stdout).strip(), "stderr": text_of(ended.stderr).strip(), "exit_code": ended.code,
        "result": None,
    }  # fmt: skip
