from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Literal

import pydantic
import pytest

from stabilize_nb.errors import ConfigError
from stabilize_nb.llm import Tool, ToolContext, ToolRegistry, tool


class Place(pydantic.BaseModel):
    city: str
    country: str = "NO"


class Tree(pydantic.BaseModel):
    branches: list[Tree] = []


@dataclass
class Stay:
    at: str
    on: date


@tool
def account_balance(user_id: str) -> str:
    """Return the current balance for a user id."""
    return f"{user_id} has 12 EUR"


def forecast(
    place: Place,
    days: Annotated[int, pydantic.Field(description="how far", ge=1)] = 3,
    unit: Literal["C", "F"] = "C",
    stops: list[Place] | None = None,
):
    """Return the weather."""
    return f"{place.city} {place.country} {days} {unit}"


def described(function, api="openai"):
    [schema] = ToolRegistry().add(function).schemas(api)
    return schema["function"]


def test_tool_is_still_the_function():
    """A decorated function can be called as before and keeps its name and its docstring."""
    assert account_balance("u_1") == "u_1 has 12 EUR"
    assert account_balance.__name__ == "account_balance"
    assert account_balance.__doc__ == "Return the current balance for a user id."
    assert isinstance(account_balance, Tool)


def test_schema_comes_from_the_signature():
    """Name, description, types, defaults and required parameters come from the function."""
    function = described(account_balance)

    assert function["name"] == "account_balance"
    assert function["description"] == "Return the current balance for a user id."
    assert function["parameters"]["type"] == "object"
    assert function["parameters"]["required"] == ["user_id"]
    assert function["parameters"]["properties"]["user_id"]["type"] == "string"


def test_schema_knows_defaults_choices_and_descriptions():
    """Defaults, literals and annotated descriptions are in the schema."""
    parameters = described(forecast)["parameters"]

    assert parameters["required"] == ["place"]
    assert parameters["properties"]["days"]["default"] == 3
    assert parameters["properties"]["days"]["description"] == "how far"
    assert parameters["properties"]["unit"]["enum"] == ["C", "F"]
    assert parameters["$defs"]["Place"]["properties"]["city"]["type"] == "string"


def test_schema_for_ollama_has_no_references():
    """For Ollama, whose server drops references, every definition stands where it is used."""
    parameters = described(forecast, "ollama")["parameters"]

    assert "$ref" not in json.dumps(parameters)
    assert "$defs" not in parameters
    assert parameters["properties"]["place"]["properties"]["city"]["type"] == "string"
    assert parameters["properties"]["stops"]["anyOf"][0]["items"]["required"] == ["city"]


def test_type_that_contains_itself_is_refused_for_ollama():
    """A recursive type, which cannot be written out, is refused by name."""

    def plant(tree: Tree) -> None: ...

    with pytest.raises(ConfigError, match="'Tree' contains itself"):
        described(plant, "ollama")


def test_name_and_description_can_be_given():
    """The decorator takes another name and another description."""

    @tool(name="sum_up", description="Add.")
    def add(a: int, b: int):
        """Not this."""
        return a + b

    registry = ToolRegistry().add(add)

    assert registry.schemas()[0]["function"]["description"] == "Add."
    assert registry.call("sum_up", {"a": 1, "b": 2}) == "3"


def test_add_chains_and_takes_plain_functions():
    """Adding returns the registry, and a plain function becomes a tool."""
    registry = ToolRegistry().add(account_balance).add(forecast)

    assert "forecast" in registry
    assert repr(registry) == "ToolRegistry(account_balance, forecast)"
    assert repr(ToolRegistry([account_balance, forecast])) == repr(registry)


def test_methods_are_tools():
    """A bound method is a tool without its self."""

    class Bank:
        def rate(self, percent: float) -> float:
            """Return a rate."""
            return percent / 100

    registry = ToolRegistry().add(Bank().rate)

    assert list(registry.schemas()[0]["function"]["parameters"]["properties"]) == ["percent"]
    assert registry.call("rate", {"percent": 5}) == "0.05"


def test_function_defined_again_replaces_itself():
    """Running a cell again replaces the function that it defined."""

    def make(text):
        def say() -> str:
            return text

        return say

    registry = ToolRegistry().add(make("old")).add(make("new"))

    assert registry.call("say", {}) == "new"


def test_two_functions_of_one_name_are_refused():
    """Another function under a name that is taken is refused with both origins."""

    def account_balance() -> None: ...

    with pytest.raises(ConfigError, match="two tools are named 'account_balance'"):
        ToolRegistry().add(globals()["account_balance"]).add(account_balance)


def unknown_type(what: Undefined): ...  # noqa: F821


def odd_type(what: Tool): ...


def positional(what, /): ...


def spread(*what): ...


@pytest.mark.parametrize("function", [unknown_type, odd_type, positional, spread, lambda: None])
def test_function_that_no_model_can_call_is_refused(function):
    """A function whose parameters JSON cannot describe, or that has no usable name, is refused when added."""
    with pytest.raises(ConfigError, match="tool"):
        ToolRegistry().add(function)


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    name: str
    value: object
    text: str


NO_JSON = (
    "ERROR: ValueNotStorableError: a part of the result is of type stabilize_nb.llm.registry.ToolRegistry, which JSON "
    "cannot hold: convert it to JSON data (text, number, list, dict)"
)
VALUES = [
    Value(name="text", value="as it is", text="as it is"),
    Value(name="number", value=42, text="42"),
    Value(name="nothing", value=None, text="null"),
    Value(name="list", value=[1, "ä"], text='[1, "ä"]'),
    Value(name="dataclass", value=Stay("Oslo", date(2026, 1, 2)), text='{"at": "Oslo", "on": "2026-01-02"}'),
    Value(name="model", value=Place(city="Oslo"), text='{"city": "Oslo", "country": "NO"}'),
    Value(name="anything", value=ToolRegistry(), text=NO_JSON),
    Value(name="not storable", value="a\0b\ud83d", text="a\ufffdb\ufffd"),
]  # fmt: skip


@pytest.mark.parametrize("case", VALUES, ids=lambda case: case.name)
def test_result_is_text(case):
    """A result is told to the model as text: strings as they are, other values as JSON."""

    def give():
        return case.value

    assert ToolRegistry().add(give).call("give", {}) == case.text


def test_arguments_are_converted():
    """Arguments arrive as the types of the signature."""
    registry = ToolRegistry().add(forecast)

    assert registry.call("forecast", {"place": {"city": "Oslo"}, "days": "2"}) == "Oslo NO 2 C"


def broken() -> None:
    raise KeyError("u_42")


def misled() -> None:
    Place.model_validate({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    name: str
    tool: str = "forecast"
    arguments: object = field(default_factory=dict)
    text: str


NO_DAYS = {"place": {"city": "Oslo"}, "days": 0}
UNFIT = "the arguments of forecast do not fit:"

MISTAKES = [
    Mistake(name="unknown", tool="nope", text="no tool is named 'nope'; there is forecast, broken, misled"),
    Mistake(name="misspelt", tool="forcast", text="no tool is named 'forcast' (did you mean 'forecast'?)"),
    Mistake(name="text", arguments='{"a', text='the arguments of forecast are not a JSON object: {"a'),
    Mistake(name="missing", text=f"{UNFIT} place: Missing required argument"),
    Mistake(name="too small", arguments=NO_DAYS, text=f"{UNFIT} days: Input should be greater"),
    Mistake(name="unexpected", arguments={**NO_DAYS, "days": 1, "a": 1}, text=f"{UNFIT} a: Unexpected"),
    Mistake(name="exception", tool="broken", text="KeyError: 'u_42'"),
    Mistake(name="its own validation", tool="misled", text="ValidationError: 1 validation error for Place"),
]  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.name)
def test_mistakes_are_told_to_the_model(case):
    """Whatever goes wrong in a call is the result, as a text that starts with ERROR."""
    registry = ToolRegistry([forecast, broken, misled])

    assert registry.call(case.tool, case.arguments).startswith(f"ERROR: {case.text}")


def google(city, days=3):
    """Return the weather.

    It may be wrong.

    Args:
        city: where to look
        days (int): how far to look

    Returns:
        what is to be expected
    """


def numpy(city, days=3):
    """Return the weather.

    It may be wrong.

    Parameters
    ----------
    city : str
        where to look
    days : int
        how far to look

    Returns
    -------
    str
        what is to be expected
    """


def rest(city, days=3):
    """Return the weather.

    It may be wrong.

    :param city: where to look
    :param days: how far to look
    :returns: what is to be expected
    """


@pytest.mark.parametrize("function", [google, numpy, rest])
def test_descriptions_come_from_the_docstring(function):
    """Each of the three manners of docstrings describes the tool, what it gives, and its parameters."""
    told = described(function)

    assert told["description"] == "Return the weather.\n\nIt may be wrong.\n\nReturns: what is to be expected"
    properties = told["parameters"]["properties"]
    assert [properties[name]["description"] for name in ("city", "days")] == ["where to look", "how far to look"]


def test_description_in_the_signature_counts_more():
    """What Field says of a parameter is not replaced by the docstring."""

    def look(city: Annotated[str, pydantic.Field(description="a city")]):
        """Look.

        Args:
            city: where to look
        """

    assert described(look)["parameters"]["properties"]["city"]["description"] == "a city"


def test_docstring_that_cannot_be_read_is_the_description():
    """A docstring in no manner at all is told as it is."""

    def look(city: str):
        """Look: at things.

        :param
        """

    assert described(look)["description"].startswith("Look: at things.")


@tool
async def later(days: int, stop: Place | None = None) -> str:
    """Return what is later."""
    await asyncio.sleep(0)
    if days > 9:
        raise KeyError(days)
    return f"{days} {stop.city if stop else '-'} {threading.current_thread().name}"


def test_coroutine_functions_are_tools():
    """A coroutine function is awaited, on the loop of the caller or on that of the engine; its errors are told."""
    registry = ToolRegistry([later])

    assert registry.call("later", {"days": "2", "stop": {"city": "Oslo"}}) == "2 Oslo stabilize-async"
    assert asyncio.run(registry.acall("later", {"days": 2})) == "2 - MainThread"
    assert registry.call("later", {"days": 10}) == "ERROR: KeyError: 10"
    assert registry.call("later", {}).startswith("ERROR: the arguments of later do not fit: days: Missing")


def test_plain_tool_blocks_no_event_loop():
    """Awaiting the call of a plain function runs it in another thread."""

    def where() -> str:
        return threading.current_thread().name

    registry = ToolRegistry([where])

    assert registry.call("where", {}) == "MainThread"
    assert asyncio.run(registry.acall("where", {})) != "MainThread"


def test_tool_may_know_its_call():
    """A parameter of type ToolContext gets the context of the call, and no model sees it."""

    @tool
    def pay(amount: float, call: ToolContext) -> str:
        """Pay.

        Args:
            amount: how much
            call: not for the model
        """
        return f"{amount} {call.idempotency_key} {call.number}"

    registry = ToolRegistry([pay])
    context = ToolContext(idempotency_key="task:0:tool:2", number=2)

    assert list(described(pay)["parameters"]["properties"]) == ["amount"]
    assert registry.call("pay", {"amount": 2}, context) == "2.0 task:0:tool:2 2"
    assert registry.call("pay", {"amount": 2, "call": {}}).startswith(
        "ERROR: the arguments of pay do not fit: call: Un"
    )
    assert registry.call("pay", {"amount": 2}) == "2.0  1"


def test_what_is_done_about_crashes_and_approval_is_kept():
    """The words of the decorator for whoever runs the calls stand on the tool; unknown ones are refused."""

    @tool(on_crash="ask", approve=True)
    def pay(amount: float): ...

    assert (pay.on_crash, pay.approve) == ("ask", True)
    assert (later.on_crash, later.approve) == ("retry", False)
    assert ToolRegistry([pay]).get("pay") is pay
    with pytest.raises(ConfigError, match="on_crash='never'; one of 'retry', 'fail', 'ask' is expected"):
        tool(on_crash="never", name="pay")(lambda: None)
