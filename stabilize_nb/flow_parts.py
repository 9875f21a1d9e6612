"""What a flow consists of: stages, which are functions, tasks, approvals or other flows, and loops around them."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from stabilize_nb.errors import ConfigError
from stabilize_nb.tasks.interface import DEFAULT_QUEUE

if TYPE_CHECKING:
    from types import TracebackType

    from stabilize_nb.flow import Flow
    from stabilize_nb.flow_writing import Writing
    from stabilize_nb.tasks.interface import Task

#: Parameters that the engine fills in.
HANDLES: Final = ("stage", "progress")
#: The parameter that gets a reason, and of what.
_ERROR: Final = ("on_failure", "error")
#: Ends of plurals, and what the word for one ends in.
_PLURALS: Final = (("ies", "y"), ("ses", "s"), ("xes", "x"), ("hes", "h"), ("s", ""))


class FlowStage:
    """One stage of a flow. Calling it calls the function, so that it can be tested by itself.

    What belongs to it is said by decorators: `@deploy.before`, `@deploy.on_success`, `@deploy.on_failure`.
    """

    is_loop: Literal[False] = False

    def __init__(
        self,
        name: str,
        function: Callable[..., Any] | None,
        *,
        child: Flow | None = None,
        task: Task | None = None,
        after: Iterable[str] = (),
        **settings: Any,
    ) -> None:
        self.name = name
        self.function = function
        self.child = child
        self.task = task
        self.after = tuple(after)
        self.settings = settings
        self.around_it: list[tuple[str, FlowStage]] = []
        self.line: int | None = None
        if function is not None:
            functools.update_wrapper(self, function)

    # -- what runs around it ----------------------------------------------------------------------

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Run a function before this stage, as part of it: when it fails, the stage fails."""
        return self._add_around("before", function)

    def on_success(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Run a function when this stage has succeeded, as part of it; it may ask for the stage by name."""
        return self._add_around("on_success", function)

    def on_failure(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Run a function when this stage has failed, before its run ends; `error` is the parameter that says why."""
        return self._add_around("on_failure", function)

    def _add_around(self, word: str, function: Callable[..., Any]) -> Callable[..., Any]:
        name = getattr(function, "__name__", "")
        if not name.isidentifier():
            msg = f"{self.place}: {word} got {function!r}; a function with a name is expected: @{self.name}.{word}"
            raise ConfigError(msg)
        kept = [each for each in self.around_it if each[0] != word or each[1].name != name]
        self.around_it = [*kept, (word, FlowStage(name, function, queue=self.queue))]
        return function

    # -- looking ----------------------------------------------------------------------------------

    @property
    def is_gate(self) -> bool:
        """Whether a person decides here."""
        return self.function is None and self.child is None and self.task is None

    @property
    def kind(self) -> str:
        """The type of its stages in a workflow."""
        if self.is_gate:
            return "approval"
        if self.task is not None:
            return type(self.task).__name__.removesuffix("Task").lower()
        return "function" if self.child is None else "sub_workflow"

    @property
    def title(self) -> str:
        """What people read."""
        return str(self.settings.get("title") or self.name.replace("_", " "))

    @property
    def place(self) -> str:
        """What a sentence calls it."""
        return f"stage {self.name!r}" + (f" (line {self.line})" if self.line else "")

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters of the function by name; those that collect further arguments are left out."""
        return self.takes(frozenset())

    def takes(self, asked: frozenset[int]) -> dict[str, inspect.Parameter]:
        """Return the parameters: those of the function, or the inputs of the flow that is called, unless in `asked`."""
        if self.child is not None:
            wanted = {} if id(self.child) in asked else self.child.wanted(asked)
            return {name: parameter(name, needed=needed) for name, needed in wanted.items()}
        if self.task is not None:
            return {name: parameter(name, needed=False) for name in self.task.places}
        return self._of_function

    @functools.cached_property
    def _of_function(self) -> dict[str, inspect.Parameter]:
        if self.function is None:
            return {}
        collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        signature = inspect.signature(self.function)
        return {name: each for name, each in signature.parameters.items() if each.kind not in collecting}

    def asks(self, asked: frozenset[int] = frozenset()) -> set[str]:
        """Return its parameters, what it shows and what it is run for: stages of these names are stages it follows."""
        each, shown = self.settings.get("each"), self.settings.get("show")
        return {*self.takes(asked), *(name for name in (each, shown) if isinstance(name, str))} - {self.name}

    def wants(self, asked: frozenset[int] = frozenset()) -> dict[str, bool]:
        """Return what inputs, outputs or stages may fill in: name -> whether something has to."""
        filled = {*HANDLES, *self.settings.get("context", {}), *self.reducers}
        around = [name for word, each in self.around_it for name in each.parameters if (word, name) != _ERROR]
        wanted = {
            **dict.fromkeys(around, False),
            **{name: each.default is each.empty for name, each in self.takes(asked).items() if name != self.item},
        }
        if isinstance(self.settings.get("each"), str):
            wanted[self.settings["each"]] = True
        return {name: needed for name, needed in wanted.items() if name not in filled}

    @functools.cached_property
    def gives(self) -> frozenset[str]:
        """Outputs that can be read in the code: the keys of `return {"topics": ...}`."""
        if self.function is None:
            return frozenset()
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(self.function))))
        except (OSError, TypeError, SyntaxError):
            return frozenset()
        shown = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
        keys = [key for node in shown if isinstance(node, ast.Dict) for key in node.keys]
        return frozenset(key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))

    @property
    def is_prepared(self) -> bool:
        """Whether a function runs before it, which may give what it asks for."""
        return any(word == "before" for word, _ in self.around_it)

    @property
    def reducers(self) -> dict[str, str]:
        """Output of its branches -> what makes one value of theirs."""
        return {**dict.fromkeys(self.settings.get("collect", ()), "collect"), **self.settings.get("reduce", {})}

    @property
    def queue(self) -> str:
        """The label of the workers that take it."""
        return str(self.settings.get("queue") or getattr(self.task, "queue", DEFAULT_QUEUE))

    @property
    def conditions(self) -> list[str]:
        """The conditions that it depends on."""
        return _texts(self.settings.get("when"))

    @property
    def chooses_one(self) -> bool:
        """Whether only one of the stages that follow runs."""
        return self.settings.get("choose") == "one"

    @property
    def item_names(self) -> list[str]:
        """The parameters that may get the item, when none is named: "item", and for "topics" also "topic"."""
        each = self.settings.get("each")
        found = (
            []
            if not isinstance(each, str)
            else [each.removesuffix(end) + to for end, to in _PLURALS if each.endswith(end)]
        )
        return [*dict.fromkeys(found), "item"]

    @property
    def item(self) -> str | None:
        """The parameter that gets the item of an instance."""
        if "each" not in self.settings:
            return None
        named = self.settings.get("as_")
        return named or next((name for name in self.item_names if name in self.parameters), None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.function is None:
            what = "an approval: a person decides there" if self.is_gate else "no function, but a task or another flow"
            msg = f"{self.name!r} is {what}, it cannot be called"
            raise ConfigError(msg)
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{'approval' if self.is_gate else 'stage'} {self.name!r}>"


class FlowLoop:
    """A part of a flow that is repeated until a condition is true (WCP-21); made by `Flow.loop`."""

    is_loop: Literal[True] = True
    child = None
    chooses_one = False

    def __init__(
        self,
        flow: Writing,
        name: str,
        *,
        condition: str,
        until: bool,
        most: int,
        after: Iterable[str] = (),
        **settings: Any,
    ) -> None:
        self.name = name
        self.condition = condition
        self.until = until
        self.most = most
        self.after = tuple(after)
        self.settings = settings
        self.body: list[str] = []
        self.parameters: dict[str, inspect.Parameter] = {}
        self.reducers: dict[str, str] = {}
        self._flow = flow

    def copied(self, flow: Writing) -> FlowLoop:
        """Return the same loop of another flow."""
        made = FlowLoop(
            flow, self.name, condition=self.condition, until=self.until, most=self.most, after=self.after,
            **self.settings,
        )  # fmt: skip
        made.body = [*self.body]
        return made

    def asks(self, asked: frozenset[int] = frozenset()) -> set[str]:
        """Return nothing: it is the stages of its body that ask for something."""
        return set()

    @property
    def title(self) -> str:
        """What people read."""
        return self.name.replace("_", " ")

    @property
    def place(self) -> str:
        """What a sentence calls it."""
        return f"loop {self.name!r}"

    @property
    def conditions(self) -> list[str]:
        """The conditions that it depends on."""
        return [self.condition, *_texts(self.settings.get("when"))]

    def __enter__(self) -> Self:
        self._flow.opened.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flow.opened.remove(self)

    def __repr__(self) -> str:
        return f"<loop {self.name!r}: {', '.join(self.body) or 'empty'}>"


def parameter(name: str, *, needed: bool) -> inspect.Parameter:
    """Return a parameter by its name; one that is not needed has a default."""
    default = inspect.Parameter.empty if needed else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)


def _texts(when: Any) -> list[str]:
    return [*when.values()] if isinstance(when, dict) else [] if when is None else [when]
