"""
Writing a flow: functions, gates, tasks, other flows and loops become its stages.

What follows from how they stand together, and how a run of them is started, is in flow.py.
"""

from __future__ import annotations

import itertools
import keyword
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

from stabilize_nb.errors import ConfigError
from stabilize_nb.flow_parts import HANDLES, FlowLoop, FlowStage
from stabilize_nb.flow_words import (
    CallWords,
    GateWords,
    HTTPWords,
    OrderWords,
    Refusal,
    ShellWords,
    StageWords,
    asked_of,
    condition,
    is_text,
    name_of,
    read,
    refuse_unknown,
    renamed,
    with_words,
)
from stabilize_nb.models.forms import form_data
from stabilize_nb.models.near import close
from stabilize_nb.tasks.http import HTTPTask
from stabilize_nb.tasks.http_order import KEYS
from stabilize_nb.tasks.interface import Task
from stabilize_nb.tasks.shell import ShellTask

if TYPE_CHECKING:
    from stabilize_nb.flow import Flow
    from stabilize_nb.flow_words import Ref

log = logging.getLogger("stabilize_nb")


class Writing:
    """A flow as far as it is written."""

    def __init__(self, name: str) -> None:
        if not is_text(name):
            raise ConfigError(f"{name!r} is no name of a flow; text is expected, such as Flow('essay')")
        self.name = name
        self.stages: dict[str, FlowStage] = {}
        self.loops: dict[str, FlowLoop] = {}
        self.opened: list[FlowLoop] = []  # loops whose body is being written

    @property
    def nodes(self) -> dict[str, FlowStage | FlowLoop]:
        """Its stages and loops by name."""
        return {**self.stages, **self.loops}

    @overload
    def stage(self, function: Callable[..., Any], /, **words: Unpack[StageWords]) -> FlowStage: ...

    @overload
    def stage(self, **words: Unpack[StageWords]) -> Callable[[Callable[..., Any]], FlowStage]: ...

    @with_words(StageWords)  # type: ignore[misc]  # mypy takes words for positional ones here
    def stage(self, function: Any = None, /, **words: Any) -> Any:
        """
        Make a function a stage of this flow: `@flow.stage` or `@flow.stage(after=..., ...)`.

        A parameter that names a stage is a stage that it follows, and gets what that returned. Words for more:

        - `after`: stages it follows beside those. `join`: when it starts, "all" (default: every branch that was taken),
          "any" (the first, WCP-9), a number or "2 of 3" (WCP-30), "each" (once for each branch, WCP-8), "taken"
          (WCP-7). None of them puts up with a branch that fails: `continue_on_failure` of that branch does.
          `cancel_rest=True`: withdraw what is then not needed any more (WCP-29, 32). `blocking=True`: a branch that
          comes again waits until all others have come (WCP-28).
        - `when="score > 3"`: a condition over inputs and outputs; a stage by its name is what it returned, and is
          followed. Of several stages with conditions behind one each runs whose own is true (WCP-6); `choose="one"` at
          that one: only the first (WCP-4). `otherwise=True`: when none is. `when={"plan": ...}`: for that edge alone.
        - `each="topics"`: once for each item of that input, output or stage; or a number, or a list (WCP-13, 14). The
          item is the parameter `topic` or `item`, or `as_` names it. What follows gets the list of results; `enough=2`:
          it goes on after two (WCP-34), `cancel_rest=True`: and withdraws the others (WCP-35). Without `after` it
          follows the stage whose code returns {"topics": ...}.
        - `race="answer"`: of those that say the same, the first to begin is the only one (WCP-16). `mutex="gpu"`: one
          at a time, in all runs of the store (WCP-17, 39, 40). `region="web"` and `cancels="web"`, or a stage: withdraw
          it when this one has ended (WCP-19, 25). `milestone="review"` or `("review", "RUNNING")`: only while that
          stage has this status, and before `until` starts (WCP-18). `ends="SUCCEEDED"`: end the run (WCP-43).
        - `verify="score > 0.5"`, a function of what it returned, or a Verifier: whether that is right. It is asked
          before anything that follows starts, and what it refuses fails the stage or has it run anew.
        - `collect`: outputs of its branches to gather as lists. `reduce`: output -> reducer. `retry`: how often it is
          tried again after a transient error. `on_crash`: what is done when its process died while it ran, "retry"
          (default), "fail", or "ask" a person; with these two it runs at most once. `queue="gpu"`: the label of those
          workers that take it. `priority`: from 0 to 100, each step is worth a minute of waiting. `timeout`: seconds or
          "10 min". `limit="openai: 60/min"`: of all that name it so many begin in any such time, in all runs of the
          store. `continue_on_failure=True`: when it fails for good what follows goes on, with None for it.
          `context`: fixed values for parameters. `name`: its name (the function's). `title`: what people read.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> survey = Flow("survey")
            >>> @survey.stage(each="topics", retry=2)
            ... def ask(topic):
            ...     return f"{topic} is good"
            >>> @survey.stage
            ... def report(ask):
            ...     return ", ".join(ask)
            >>> with Engine(":memory:") as engine:
            ...     engine.start(survey, topics=["tea", "salt"]).result()
            'tea is good, salt is good'

        The first two of three, and the third is withdrawn:

            >>> poll = Flow("poll")
            >>> for name in ("anna", "ben", "cleo"):
            ...     stage = poll.stage(lambda: "yes", name=name)
            >>> @poll.stage(join="2 of 3", after=["anna", "ben", "cleo"], cancel_rest=True)
            ... def verdict():
            ...     return "two of them agree"
            >>> with Engine(":memory:") as engine:
            ...     engine.start(poll).result()
            'two of them agree'
        """
        if function is not None:
            if not callable(function):
                named = repr(function) if isinstance(function, str) else "..."
                msg = f"@stage got {function!r}; a function is expected: @stage, or @stage(name={named})"
                raise ConfigError(msg)
            return self._add(function, words)
        return lambda given: self._add(given, words)

    def _add(self, function: Callable[..., Any], given: Mapping[str, Any]) -> FlowStage:
        name = str(given.get("name") or getattr(function, "__name__", ""))
        words = read(f"stage {name!r}", given, [*StageWords.__annotations__])
        words.pop("name", None)
        stage = FlowStage(name, function, **words)
        stage.line = getattr(getattr(function, "__code__", None), "co_firstlineno", None)
        if (earlier := self.stages.get(name)) is not None and (file := _file_of(earlier)) and file == _file_of(stage):
            log.warning(
                "stage %r (line %s of %s) takes the place of the one in line %s: give one of them another name, "
                "in a loop by @flow.stage(name=...)", name, stage.line, file, earlier.line,
            )  # fmt: skip
        return self._keep(stage)

    @with_words(GateWords)
    def approval(
        self,
        question: str,
        *,
        name: str | None = None,
        show: Any = None,
        form: Mapping[str, Any] | None = None,
        choices: Iterable[str] = (),
        timeout: float | str | timedelta | None = None,
        on_timeout: str = "reject",
        reject_continues: bool = False,
        **words: Unpack[GateWords],
    ) -> FlowStage:
        """
        Add a gate at which a person decides; later stages may ask for it by name and get {"approved", "approval"}.

        `show`: the name of the value that is approved. `form`: field -> type (str, int, float, bool, date; with
        `| None` it may stay empty) or a list of values; `approval` has what was filled in, dates as ISO text.

        `choices=["approve", "revise", "reject"]`: the decisions on offer. Every one but "reject" approves, and stages
        get which one it was: `when="sign_off.decision == 'revise'"`.

        `timeout="2h"` (or seconds, or a timedelta): when nobody has decided by then, `on_timeout` is: "reject", another
        of the choices, or "fail". It survives restarts, and is recorded as decided by "deadline".

        `reject_continues`: whether the flow goes on after a rejection (`when="approved"` then asks how it was decided);
        otherwise the run fails. The other words are those of a stage: `each="reviewers", enough=2` asks several.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> letter = Flow("letter")
            >>> @letter.stage
            ... def draft(to):
            ...     return {"text": f"Dear {to}"}
            >>> sign_off = letter.approval("Send it?", name="sign_off", show="text", after=draft, form={"copies": int})
            >>> @letter.stage
            ... def send(text, sign_off):
            ...     return sign_off["approval"]["copies"] * [text]
            >>> with Engine(":memory:") as engine:
            ...     run = engine.start(letter, to="Ada")
            ...     for gate in run.until_gate():
            ...         print(gate.question, gate.show)
            ...         run.approve(gate, copies=2)
            ...     run.result()
            Send it? Dear Ada
            ['Dear Ada', 'Dear Ada']
        """
        if not is_text(question):
            raise ConfigError(f"approval({question!r}) asks nothing; a question is expected, such as 'Publish this?'")
        place = f"stage {name or question!r}"
        given = read(place, words, [*GateWords.__annotations__])
        stage = FlowStage(
            name or _slug(question), None, question=question, show=_shown(place, show),
            form=form_data(place, form or {}), asked=asked_of(place, choices, timeout, on_timeout),
            reject_continues=reject_continues, unnamed=name is None, **given,
        )  # fmt: skip
        return self._keep(stage)

    @with_words(StageWords)
    def task(self, task: Task, name: str | None = None, **words: Any) -> FlowStage:
        """
        Add a stage that a task carries out: `flow.task(SSHTask(host="gpu", command="nvidia-smi"), "cards")`.

        `{name}` in its options is an input, an output, or what a stage of that name returned, which it then follows.
        What follows gets the outputs. `context`: what the stage says to its task beside that.
        """
        if not isinstance(task, Task):
            msg = f"flow {self.name!r} cannot have {task!r} carry out a stage; a Task is expected, such as SSHTask(...)"
            raise ConfigError(msg)
        chosen = name or self._free(type(task).__name__)
        given = read(f"stage {chosen!r}", words, [*StageWords.__annotations__])
        return self._keep(FlowStage(chosen, None, task=task, unnamed=name is None, **given))

    @with_words(ShellWords)
    def shell(
        self, command: str | list[str], *, name: str | None = None, timeout: float | None = 60, **words: Any
    ) -> FlowStage:
        """
        Add a stage that runs a command: `flow.shell("pytest -q {tests}", name="check", cwd="{checkout}")`.

        `{tests}` is an input, an output, or what the stage `tests` returned, which it then follows; its value is never
        code and never an option. A list of arguments is run without a shell. What it prints is in its log as it comes.
        It returns stdout, stderr and returncode (`check["stdout"]`), and fails when the code is not 0, or none of
        `expected_codes`. It is ended after `timeout` seconds, with all that it has begun. `retry=2`: a failure is tried
        again. The other words are those of a stage, and options of ShellTask.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> flow = Flow("words")
            >>> count = flow.shell("echo {text} | wc -w", name="count")
            >>> with Engine(":memory:") as engine:
            ...     counted = engine.start(flow, text="one; two").result()
            2
            >>> counted["stdout"], counted["returncode"]
            ('2', 0)
        """
        if not is_text(command) and not isinstance(command, list):
            raise ConfigError(f"shell({command!r}) runs nothing; text for a shell, or a list of arguments is expected")
        refuse_unknown(f"stage {name or command!r}", words, ShellWords.__annotations__)
        options = {word: words.pop(word) for word in [*words] if word in ShellTask.keys}
        options |= {"restart_on_failure": True} if words.get("retry") else {}
        task = ShellTask(command=command, timeout=timeout, **options)
        text = command if isinstance(command, str) else " ".join(map(str, command))
        stage = self.task(task, name or self._free(text), **words)
        stage.settings["unnamed"] = name is None
        return stage

    @with_words(HTTPWords)
    def http(
        self, url: str, *, method: str = "GET", name: str | None = None, timeout: float = 30, **words: Any
    ) -> FlowStage:
        """
        Add a stage that sends a request: `flow.http("https://api.test/{city}", name="weather", parse_json=True)`.

        `{city}` is an input, an output, or what the stage `city` returned, which it then follows; it stays one part of
        a path or query. In other options a text that is only a place is the value: `json="{report}"`. It returns
        status_code, headers, body and more (`weather["body_json"]`), and fails from status 400 on. It may go to public
        addresses, unless it or `Engine(egress=...)` says otherwise. `retry=2`: it is sent again when that may help. The
        other words are those of a stage, and options of HTTPTask.

        For example:

            >>> from stabilize_nb import Flow
            >>> flow = Flow("weather")
            >>> weather = flow.http("https://weather.test/{city}", name="weather", parse_json=True, retry=2)
            >>> @flow.stage
            ... def warm(weather):
            ...     return weather["body_json"]["degrees"] > 20
            >>> sorted(flow.inputs), flow.check()
            (['city'], ())
        """
        if not is_text(url):
            raise ConfigError(f"http({url!r}) asks nobody; a URL is expected, such as 'https://api.test/{{city}}'")
        refuse_unknown(f"stage {name or url!r}", words, HTTPWords.__annotations__)
        options = {word: words.pop(word) for word in [*words] if word in KEYS}
        options |= {"retries": words.pop("retry")} if words.get("retry") else {}
        task = HTTPTask(url=url, method=method, timeout=timeout, **options)
        stage = self.task(task, name or self._free(url.partition("://")[2].partition("?")[0] or url), **words)
        stage.settings["unnamed"] = name is None
        return stage

    def _free(self, text: str) -> str:
        """Return a name made of a text, which no stage has."""
        slug = _slug(text)
        name = slug if slug.isidentifier() and not keyword.iskeyword(slug) else f"run_{slug}"
        numbered = (f"{name}_{at}" for at in itertools.count(2))
        return next(each for each in itertools.chain([name], numbered) if each not in self.nodes)

    @with_words(CallWords)
    def call(self, flow: Flow, /, **words: Unpack[CallWords]) -> FlowStage:
        """
        Add a stage that is a run of another flow, or of this one again (WCP-22).

        Its inputs are found like the parameters of a function, by name. It returns the outputs of all stages of that
        flow in one mapping, with `sub_workflow_id`, and fails when that flow fails. `each="topics"`: one run for each.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> study, studies = Flow("study"), Flow("studies")
            >>> @study.stage
            ... def look(topic):
            ...     return {"found": topic.upper()}
            >>> each = studies.call(study, each="topics")
            >>> @studies.stage
            ... def gather(study):
            ...     return [one["found"] for one in study]
            >>> with Engine(":memory:") as engine:
            ...     engine.start(studies, topics=["tea", "salt"]).result()
            ['TEA', 'SALT']
        """
        if not isinstance(flow, Writing):
            msg = f"flow {self.name!r} cannot call {flow!r}; a Flow is expected"
            raise ConfigError(msg)
        name = words.pop("name", None) or flow.name
        return self._keep(
            FlowStage(name, None, child=flow, **read(f"stage {name!r}", words, [*CallWords.__annotations__]))
        )

    @with_words(OrderWords)
    def loop(
        self,
        name: str,
        *,
        until: str | None = None,
        while_: str | None = None,
        max: int = 100,
        body: Iterable[Ref] = (),
        **words: Unpack[OrderWords],
    ) -> FlowLoop:
        """
        Repeat stages until a condition is true, or while it is, at most `max` times (WCP-21).

            with flow.loop("refine", until="critique.score > 8", max=5):
                @flow.stage
                def draft(question, advice=None): ...
                @flow.stage
                def critique(draft): ...

        `until` is looked at after each pass, `while_` before each. Both read the outputs of the last pass, and
        `iteration_count`; a name that nobody gave fails the loop. What a pass gives is there in the next one by the
        names of the outputs (`advice`). `body`: stages that exist already. Stages that name none of each other run in
        the order in which they are written, or side by side if one of them has a condition.

        To what follows, the loop is a stage of this name: it returns what the last stage of its body returned. The
        output `loop_exhausted` says whether `max` ended it; the run goes on then.

        For example:

            >>> from stabilize_nb import Engine, Flow
            >>> root = Flow("root")
            >>> with root.loop("improve", until="error < 0.001", max=20):
            ...     @root.stage
            ...     def guess(number, better=None):
            ...         value = better or number / 2
            ...         better = (value + number / value) / 2
            ...         return {"better": better, "error": abs(better**2 - number)}
            >>> with Engine(":memory:") as engine:
            ...     round(engine.start(root, number=2).result()["better"], 3)
            1.414
        """
        place = f"loop {name!r}"
        given = read(place, words, [*OrderWords.__annotations__])
        if (until is None) == (while_ is None):
            msg = f"{place} needs one condition: until='...' (looked at after each pass) or while_='...' (before each)"
            raise ConfigError(msg)
        if type(max) is not int or max < 1:
            msg = f"{place}: max={max!r} is no number of passes; an integer of 1 or more is expected"
            raise ConfigError(msg)
        word, said = ("while_", while_) if until is None else ("until", until)
        try:
            text = condition(said)
        except Refusal as wrong:
            msg = f"{place}: {word}={said!r} {wrong}"
            raise ConfigError(msg) from None
        loop = FlowLoop(self, name, condition=text, until=until is not None, most=max, **given)
        return self._keep_loop(loop, [member if isinstance(member, str) else member.name for member in body])

    def _keep(self, stage: FlowStage) -> FlowStage:
        self.check_name(stage)
        self.stages[stage.name] = stage
        if self.opened:
            self._put_into(self.opened[-1], stage.name)
        return stage

    def _keep_loop(self, loop: FlowLoop, members: list[str]) -> FlowLoop:
        self.check_name(loop)
        for member in members:
            if member not in self.nodes or member == loop.name:
                msg = f"{loop.place} has {member!r} in its body, which is no stage before it{close(member, self.nodes)}"
                raise ConfigError(msg)
        self.loops[loop.name] = loop
        if self.opened:
            self._put_into(self.opened[-1], loop.name)
        for member in members:
            self._put_into(loop, member)
        return loop

    def _put_into(self, loop: FlowLoop, name: str) -> None:
        for each in self.loops.values():
            each.body = [member for member in each.body if member != name]
        loop.body.append(name)

    def check_name(self, node: FlowStage | FlowLoop) -> None:
        """Raise ConfigError for a name that no stage or loop of this flow can have."""
        if not node.name.isidentifier() or keyword.iskeyword(node.name):
            given = "" if node.is_loop else ", as in name='fetch'"
            msg = f"stage name {node.name!r} cannot be a parameter name; use letters, digits and underscores{given}"
            raise ConfigError(msg)
        if node.name in HANDLES:
            msg = f"stage name {node.name!r} is kept for a handle that the engine passes; choose another"
            raise ConfigError(msg)
        if node.name in (self.stages if node.is_loop else self.loops):
            msg = f"{node.place} has the name of a {'stage' if node.is_loop else 'loop'}; give one of them another name"
            raise ConfigError(msg)

    def rename(self, stage: FlowStage, name: str) -> None:
        """Give a stage another name, keeping its place."""
        old = stage.name
        self.stages = {name if each is stage else key: each for key, each in self.stages.items()}
        for node in self.nodes.values():
            node.after = tuple(name if ref == old else ref for ref in node.after)
            renamed(node.settings, old, name)
        for loop in self.loops.values():
            loop.body = [name if member == old else member for member in loop.body]
        stage.name = name
        stage.settings["unnamed"] = False


def _shown(place: str, show: Any) -> str | None:
    try:
        return None if show is None else name_of(show)
    except Refusal as wrong:
        msg = f"{place}: show {wrong}"
        raise ConfigError(msg) from None


def _file_of(stage: FlowStage) -> str:
    """Return the file that the function of a stage is written in; nothing for one of a cell, which may be run again."""
    file: str = getattr(getattr(stage.function, "__code__", None), "co_filename", "")
    return file if file and Path(file).is_file() else ""


def _slug(text: str) -> str:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return "_".join(words[:4]) or "approval"
