"""
Who follows whom in a flow, with its loops, and what is wrong with that.

A loop is one thing to what stands outside of it: what leads into it leads to its entry, and what follows one of its
stages follows its exit (WCP-21). What is wrong is found here, not by the engine, so that it can be said in the words of
the flow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.flow_words import in_outputs, is_partial, mentioned, quorum
from stabilize_nb.models.near import close

if TYPE_CHECKING:
    from stabilize_nb.flow import Flow, FlowLoop, FlowStage


class Layout:
    """The graph of a flow by the names of its stages and loops.

    `around`: the loops around each, from the outermost. `edges`: what each follows on its own level, in the order of
    definition. `values`: those of them that it asks for by a parameter (for a loop: that its stages ask for). `left`:
    stages of the body of a loop that something behind the loop asks for. `named`: what a stage follows only because its
    condition reads it, or because it gives the items.
    """

    def __init__(self, flow: Flow, asked: frozenset[int] = frozenset()) -> None:
        self.nodes: Mapping[str, FlowStage | FlowLoop] = flow.nodes
        self.around = _loops_around(flow)
        self._order = _order(self.nodes, self.around)
        self.edges: dict[str, dict[str, None]] = {name: {} for name in self.nodes}
        self.values: dict[str, dict[str, None]] = defaultdict(dict)
        self.left: dict[str, dict[str, None]] = defaultdict(dict)
        self.named: dict[str, set[str]] = {name: set() for name in self.nodes}
        for node in self.nodes.values():
            asks, when = node.asks(asked), node.settings.get("when")
            follows = {*asks, *node.after, *(when if isinstance(when, dict) else ())}
            for ref in self.nodes:
                if ref != node.name and ref in follows:
                    self._connect(node.name, ref, is_value=ref in asks)
        for node in self.nodes.values():
            self._connect_items(node)
        for node in self.nodes.values():
            self._connect_condition(node)
        for loop in flow.loops.values():
            self._chain(self.body(loop.name))

    def _connect(self, name: str, ref: str, *, is_value: bool) -> None:
        here, there = self.around[name], self.around[ref]
        if ref in here or name in there:
            return  # named as a fault below
        level = _shared(here, there)
        source = there[level] if len(there) > level else ref
        target = here[level] if len(here) > level else name
        self.edges[target][source] = None
        if is_value and source == ref:
            self.values[target][ref] = None
        elif is_value:
            self.left[there[-1]][ref] = None

    def _connect_items(self, node: FlowStage | FlowLoop) -> None:
        """Have a stage that says nothing else follow what gives the list that it runs for, as far as code shows it."""
        each = node.settings.get("each")
        if (
            not isinstance(each, str)
            or each in self.nodes
            or any(self.edges[level] for level in self._levels(node.name))
        ):
            return
        for ref, other in self.nodes.items():
            gives = not other.is_loop and each in other.gives
            if gives and ref != node.name and node.name not in self.before(ref):
                self.named[node.name].add(ref)
                self._connect(node.name, ref, is_value=False)

    def _levels(self, name: str) -> tuple[str, ...]:
        """Return a stage and the loops around it: what one of them follows comes before it."""
        return (name, *self.around[name])

    def _connect_condition(self, node: FlowStage | FlowLoop) -> None:
        """Have a stage follow what its condition reads, unless that comes before it anyway, or in a loop after it."""
        when = node.settings.get("when")
        read = mentioned(when) & self.nodes.keys() if isinstance(when, str) else set()
        before = self.before(node.name) if read else set()
        for ref in self.nodes:
            if ref in read and ref != node.name and ref not in before and node.name not in self.before(ref):
                self.named[node.name].add(ref)
                self._connect(node.name, ref, is_value=False)

    def before(self, name: str) -> set[str]:
        """Return all that a stage or loop follows, however far, with the insides of loops."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            here = waiting.pop()
            sources = [source for level in self._levels(here) for source in self.edges[level]]
            new = {*sources, *(each for source in sources for each in self._inside(source))} - found
            found |= new
            waiting += new
        return found

    def _inside(self, name: str) -> list[str]:
        return [each for each in self.nodes if name in self.around[each]] if self.nodes[name].is_loop else []

    def _chain(self, body: list[str]) -> None:
        """Have stages of a loop that name none of each other follow each other, unless one has a condition."""
        conditional = any({"when", "otherwise"} & self.nodes[name].settings.keys() for name in body)
        if not conditional and not any(self.edges[name] for name in body):
            for before, after in pairwise(body):
                self.edges[after][before] = None

    # -- looking ----------------------------------------------------------------------------------

    def body(self, loop: str) -> list[str]:
        """Return the stages and loops directly in a loop, in the order of definition; "" for the flow itself."""
        outer = (*self.around.get(loop, ()), *([loop] if loop else ()))
        return [name for name in self._order if self.around[name] == outer]

    def last(self, loop: str) -> list[str]:
        """Return what of the body of a loop nothing else of it follows."""
        body = self.body(loop)
        followed = {source for name in body for source in self.edges[name]}
        return [name for name in body if name not in followed]

    def heads(self, name: str) -> list[str]:
        """Return the stages with which a stage or loop begins."""
        if not self.nodes[name].is_loop:
            return [name]
        return [head for member in self.body(name) if not self.edges[member] for head in self.heads(member)]

    def tails(self, name: str) -> list[str]:
        """Return the stages with which a stage or loop ends."""
        if not self.nodes[name].is_loop:
            return [name]
        return [tail for member in self.last(name) for tail in self.tails(member)]

    def is_first(self, name: str) -> bool:
        """Whether a stage follows the entry of the loop that it is in."""
        return bool(self.around[name]) and not self.edges[name]

    def is_start(self, name: str) -> bool:
        """Whether nothing but the inputs of a run can give a stage what it asks for."""
        node = self.nodes[name]
        follows = any(self.edges[level] for level in self._levels(name))
        return not follows and (node.is_loop or not node.is_prepared)

    def is_gated(self, name: str) -> bool:
        """Whether the condition of a stage is looked at by a stage of its own: it is about several edges, or none."""
        is_one = isinstance(self.nodes[name].settings.get("when"), str)
        return is_one and len(self.edges[name]) != 1 and not self.is_first(name)

    def is_each(self, name: str) -> bool:
        """Whether a stage runs once for each of some items."""
        return "each" in self.nodes[name].settings

    def counts_instances(self, name: str) -> bool:
        """Whether the `join` of a stage is about the instances of the only stage that it follows (WCP-34)."""
        sources = [*self.edges[name]]
        return len(sources) == 1 and self.is_each(sources[0]) and is_partial(self.nodes[name].settings)

    def counters(self, name: str) -> list[FlowStage | FlowLoop]:
        """Return what counts the instances of a stage by its own `join`."""
        return [self.nodes[each] for each in self.edges if name in self.edges[each] and self.counts_instances(each)]

    def enough(self, name: str) -> tuple[int, bool]:
        """Return how many instances of a stage have to end, 0 for all, and whether the rest is withdrawn."""
        words = self.nodes[name].settings
        if "enough" in words:
            return words["enough"], words.get("cancel_rest", False)
        for node in self.counters(name):
            return quorum(node.settings["join"])[0] or 1, node.settings.get("cancel_rest", False)
        return 0, False


def _loops_around(flow: Flow) -> dict[str, tuple[str, ...]]:
    inside = {member: loop.name for loop in flow.loops.values() for member in loop.body}
    around = {}
    for name in flow.nodes:
        found: list[str] = []
        outer = inside.get(name)
        while outer is not None and outer not in found:
            found.insert(0, outer)
            outer = inside.get(outer)
        around[name] = tuple(found)
    return around


def _order(names: Iterable[str], around: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return stages in the order of definition, and each loop where its first stage is."""
    ordered = dict.fromkeys(each for name in names for each in (*around[name], name))
    return [*ordered]


def _shared(here: tuple[str, ...], there: tuple[str, ...]) -> int:
    """Return how many loops two things are both inside of."""
    pairs = zip(here, there, strict=False)
    return next((level for level, (left, right) in enumerate(pairs) if left != right), min(len(here), len(there)))


def count_of(each: Any) -> int | None:
    """Return how many instances there are, when that is known before the run."""
    return each if isinstance(each, int) else len(each) if isinstance(each, list) else None


# -- what is wrong ------------------------------------------------------------------------------------


def faults(layout: Layout) -> list[str]:
    """Return what is wrong with how the stages of a flow follow each other, one sentence each."""
    found = [fault for node in layout.nodes.values() for rule in _RULES for fault in rule(layout, node)]
    return list(dict.fromkeys(found))


def _references(layout: Layout, node: FlowStage | FlowLoop) -> Iterator[str]:
    words = node.settings
    when = words.get("when")
    named = {
        "follows": node.after, "has a condition for": when if isinstance(when, dict) else (),
        "has as its milestone": [words["milestone"][0]] if "milestone" in words else [],
        "has until=": [words["until"]] if "until" in words else [],
    }  # fmt: skip
    for what, refs in named.items():
        for ref in refs:
            if ref not in layout.nodes:
                yield f"{node.place} {what} {ref!r}, which is no stage{close(ref, layout.nodes)}"
    regions = {each.settings["region"] for each in layout.nodes.values() if "region" in each.settings}
    for ref in words.get("cancels", ()):
        if ref in layout.nodes and layout.nodes[ref].is_loop:
            yield f"{node.place} cancels the loop {ref!r}; give its stages a region= and cancel that"
        elif ref not in layout.nodes and ref not in regions:
            known = {*layout.nodes, *regions}
            yield f"{node.place} cancels {ref!r}, which is neither a stage nor a region of one{close(ref, known)}"


def _inside_out(layout: Layout, node: FlowStage | FlowLoop) -> Iterator[str]:
    for ref in sorted({*node.asks(), *node.after} & {*layout.around[node.name]}):
        yield f"{node.place} is inside the loop {ref!r} and cannot follow it; name a stage of its body instead"
    if node.is_loop and not layout.body(node.name):
        yield f"{node.place} has no body; define its stages in `with flow.loop(...):`, or give it body="


def _joins(layout: Layout, node: FlowStage | FlowLoop) -> Iterator[str]:
    wish = node.settings.get("join", "all")
    needed, said = quorum(wish)
    if not is_partial(node.settings):
        return
    branches = [*layout.edges[node.name]]
    if layout.counts_instances(node.name):
        yield from _instances(layout, node, branches[0])
    elif said is not None and said != len(branches):
        yield f"{node.place}: join={wish!r}, but it has {_listed(branches)}"
    elif needed > len(branches):
        yield f"{node.place}: join={wish!r} waits for more branches than there are: it has {_listed(branches)}"


def _listed(branches: list[str]) -> str:
    number = "1 branch" if len(branches) == 1 else f"{len(branches)} branches"
    return f"{number} ({', '.join(branches) or 'none'})"


def _instances(layout: Layout, node: FlowStage | FlowLoop, ref: str) -> Iterator[str]:
    words = layout.nodes[ref].settings
    wish = node.settings["join"]
    needed, said = quorum(wish)
    count = count_of(words["each"])
    here = f"{node.place}: join={wish!r} is about the instances of {ref!r}"
    if count is not None and (said or needed or 1) > count:
        yield f"{here}, and there are {count}"
    if node.settings.get("blocking"):
        yield f"{here}, which come once; leave out blocking="
    others = [name for name in layout.edges if ref in layout.edges[name] and name != node.name]
    differs = [name for name in others if layout.nodes[name].settings.get("join") != wish]
    if "enough" in words or differs:
        also = (
            f"{ref!r} itself says enough={words['enough']}" if "enough" in words else f"{differs[0]!r} says otherwise"
        )
        yield f"{here}, but {also}; say once at {ref!r} with enough= how many are waited for"


#: Of what kinds of stages give, an output that a condition may well be about.
_AN_OUTPUT: Final = {"approval": "approved", "shell": "returncode", "ssh": "exit_code", "http": "status_code"}


def _wholes(layout: Layout, node: FlowStage | FlowLoop) -> Iterator[str]:
    """Yield conditions about all that an approval, a task or a call returned: there is an output to be named."""
    for text in node.conditions:
        for ref in sorted(mentioned(in_outputs(text, layout.nodes)) & {*layout.nodes}):
            about = layout.nodes[ref]
            if not about.is_loop and about.function is None and not layout.is_each(ref):
                output = f"{ref}.{_AN_OUTPUT.get(about.kind, 'result')}"
                yield f"{node.place}: its condition {text!r} reads all of {ref!r}; name an output of it, as in {output}"


def _conditions(layout: Layout, node: FlowStage | FlowLoop) -> Iterator[str]:
    when = node.settings.get("when")
    for ref in when if isinstance(when, dict) else ():
        if ref in layout.nodes and ref not in layout.edges[node.name]:
            yield (
                f"{node.place} has a condition for {ref!r}, which stands inside or outside of a loop around one of "
                f"them; name what it follows directly: {', '.join(layout.edges[node.name]) or 'nothing'}"
            )
    if not node.settings.get("otherwise"):
        return
    if not layout.edges[node.name] and not layout.is_first(node.name):
        yield f"{node.place} says otherwise=True, but follows nothing; name with after= where the way divides"
    for source in _sources(layout, node.name):
        siblings = [name for name in layout.edges if name != node.name and source in _sources(layout, name)]
        if not any(_condition_on(layout, name, source) for name in siblings):
            yield (
                f"{node.place} says otherwise=True, but nothing else that follows {source!r} has a condition; "
                "write when= at the stages that are to be preferred"
            )
        for name in siblings:
            if layout.nodes[name].settings.get("otherwise") and name > node.name:
                yield f"{node.place} and {name!r} both say otherwise=True behind {source!r}; only one of them can"


def _sources(layout: Layout, name: str) -> list[str]:
    """Return what a stage follows; the loop itself for the first stage of its body."""
    return [layout.around[name][-1]] if layout.is_first(name) else [*layout.edges[name]]


def _condition_on(layout: Layout, name: str, source: str) -> bool:
    when = layout.nodes[name].settings.get("when")
    return source in when if isinstance(when, dict) else when is not None and not layout.is_gated(name)


def _choices(layout: Layout, node: FlowStage | FlowLoop) -> Iterator[str]:
    if node.settings.get("choose") != "one":
        return
    following = [name for name in layout.edges if node.name in layout.edges[name]]
    undecided = [
        name
        for name in following
        if not _condition_on(layout, name, node.name) and not layout.nodes[name].settings.get("otherwise")
    ]
    if len(undecided) == len(following):
        yield f"{node.place} says choose='one', but nothing that follows it has a condition; write when= there"
    elif undecided:
        yield (
            f"{node.place} says choose='one', and {', '.join(map(repr, undecided))} would never run behind it: give it "
            f"when={{{node.name!r}: ...}} or otherwise=True, or have it follow something else"
        )


def _branches(layout: Layout, node: FlowStage | FlowLoop) -> Iterator[str]:
    if node.reducers and not layout.edges[node.name]:
        words = " and ".join(word for word in ("collect", "reduce") if word in node.settings)
        yield f"{node.place}: {words} gathers outputs of stages before it, and there are none; name them with after="


def _items(layout: Layout, node: FlowStage | FlowLoop) -> Iterator[str]:
    if node.is_loop or not layout.is_each(node.name):
        return
    each, item = node.settings["each"], node.item
    if "as_" in node.settings and node.function is not None and item not in node.parameters:
        yield f"{node.place}: as_={item!r} is no parameter of it; it has {', '.join(node.parameters) or 'none'}"
    unknown = [name for name, needed in node.wants().items() if needed and name not in (*layout.nodes, each)]
    if item is None and unknown and (isinstance(each, list) or len(node.item_names) > 1):
        yield (
            f"{node.place} runs for each of {each!r}, and no parameter of it is called "
            f"{' or '.join(map(repr, node.item_names))}; call one so, or name it, as in as_={unknown[0]!r}"
        )
    if node.around_it:
        yield (
            f"{node.place} runs several times (each=), and what runs before or after it can run only once; make that a "
            "stage of its own, or call it in the function"
        )


def _around(layout: Layout, node: FlowStage | FlowLoop) -> Iterator[str]:
    if node.is_loop:
        return
    for word, function in node.around_it:
        asked = {*function.parameters} & {*layout.nodes}
        known = {node.name} if word == "on_success" else set()
        for ref in sorted(asked - known):
            yield (
                f"{node.place}: {function.name!r} ({word}) asks for the stage {ref!r}, which it does not follow; "
                "ask for an output of it by its name"
            )


_RULES = (_references, _inside_out, _joins, _wholes, _conditions, _choices, _branches, _items, _around)
