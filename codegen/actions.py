"""What runs and in which order: kernels, range checks and copies, and where each value lives. Layer 4, codegen.

A *root* is a value that has memory of its own: an input, a constant, a kernel's result (views share their operand's root).
Each root has one *home*: an input's buffer, a constant, an output's buffer or the arena. An output that is the new value
of an input (`writes`) is computed straight into that input's buffer where every reader of the old value can run before,
and goes through a copy otherwise.

Invariants: an action runs after the producers of what it reads; every reader of an input's old value runs before the
action that overwrites it; every range check runs before the kernel that it guards; range checks and host calls run before
the first write into an input's buffer (of the entry's graph: the inputs of a held graph are no state). Tokens order actions
and have no memory: their home is the arena, without bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from graphc.artifact import Failure
from graphc.errors import CompileError
from graphc.ir.access import is_view
from graphc.ir.dims import Dim
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import Control, Host
from graphc.ir.types import TensorType

__all__ = ["Action", "Check", "Home", "Layout", "lay_out", "root_of"]


@dataclass(frozen=True, slots=True)
class Home:
    """Where a root lives: `room` is `"input"`, `"constant"`, `"output"` or `"arena"`; `index` numbers it within."""

    room: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class Check:
    """All elements of `indices` are in [-size, size) (`mode` raise), or the axis has elements at all (other modes)."""

    indices: Value
    size: Dim
    mode: str
    failure: Failure


@dataclass(eq=False, slots=True)
class Action:
    """One thing to do: run `node`'s kernel, make a `check`, or copy `source` to `target`.

    `reads` are roots. `defines` are the roots that come into being; `aliases[result] = operand` are results that overwrite
    the operand of the same kernel, element by element.
    """

    reads: tuple[Value, ...]
    node: Node | None = None
    check: Check | None = None
    source: Value | None = None
    target: Home | None = None
    defines: tuple[Value, ...] = ()
    aliases: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Layout:
    """The actions in order, the homes of all roots, and the table of roots."""

    actions: list[Action]
    homes: dict[Value, Home]
    roots: dict[Value, Value]


InPlace = Callable[[Node, int, int], bool]
"""`in_place(node, operand, result)`: whether the kernel may write a result over an operand of the same memory."""


def root_of(value: Value) -> Value:
    """The value whose memory `value` is."""
    while is_view(value.node):
        value = value.node.operands[0]
    return value


def lay_out(
    graph: Graph,
    writes: Mapping[int, int],
    in_place: InPlace,
    checks: Callable[[Node], Iterable[Check]],
    *,
    held: bool = False,
) -> Layout:
    """Actions and homes for a graph of kernels.

    Parameters
    ----------
    graph
        The graph.
    writes
        `writes[k] = j`: output k is the new value of input j and ends in its buffer.
    in_place
        Which kernels may write over an operand.
    checks
        The range checks that a kernel needs.
    held
        Whether a control node holds the graph: its inputs are no state, so nothing needs to be done before they are written
        except to read them.
    """
    return _Planner(graph, writes, in_place, checks, held).run()


class _Planner:
    def __init__(
        self,
        graph: Graph,
        writes: Mapping[int, int],
        in_place: InPlace,
        checks: Callable[[Node], Iterable[Check]],
        held: bool,
    ) -> None:
        _check_writes(graph, writes)
        self.held = held
        self.graph = graph
        self.writes = writes
        self.in_place = in_place
        self.nodes = graph.nodes
        self.roots = {v: root_of(v) for node in self.nodes for v in node.results}
        self.homes: dict[Value, Home] = {}
        self.actions: list[Action] = []
        self.producer: dict[Value, Action] = {}
        self.inputs: dict[int, Value] = {}
        self.writer: dict[int, Action] = {}
        """Which action overwrites an input."""
        self.before: dict[Action, set[Action]] = {}
        """What must run before an action."""
        self._add_kernels(checks)

    def run(self) -> Layout:
        for output, target in self.writes.items():
            self._write(self.roots[self.graph.outputs[output]], target)
        for output, value in enumerate(self.graph.outputs):
            if output not in self.writes and isinstance(value.type, TensorType):
                self._output(self.roots[value], output)
        for action in self.actions:
            for value in action.defines:
                self.homes.setdefault(value, Home("arena"))
        return Layout(_ordered(self.actions, self.before, self.homes), self.homes, self.roots)

    # -- actions ------------------------------------------------------------------------------------------------------
    def _add_kernels(self, checks: Callable[[Node], Iterable[Check]]) -> None:
        made: dict[tuple[Value, Dim, str], Action] = {}
        constants = 0
        for node in self.nodes:
            if node.op.name == "input":
                index = node.attrs["index"]
                self.inputs[index] = node.result
                self.homes[node.result] = Home("input", index)
            elif node.op.name == "constant":
                self.homes[node.result] = Home("constant", constants)
                constants += 1
            elif not is_view(node):
                guards = []
                for check in checks(node):
                    key = self.roots[check.indices], check.size, check.mode
                    if key not in made:
                        made[key] = self._add(Action((key[0],), check=check))
                    guards.append(made[key])
                reads = tuple(dict.fromkeys(self.roots[v] for v in node.operands))
                self._add(Action(reads, node=node, defines=node.results), guards)

    def _add(self, action: Action, after: Iterable[Action] = ()) -> Action:
        self.actions.append(action)
        self.before[action] = set(after)
        for value in action.reads:
            if value in self.producer:
                self.before[action].add(self.producer[value])
            elif value.node.op.name == "input" and value.node.attrs["index"] in self.writer:
                self.before[self.writer[value.node.attrs["index"]]].add(action)
        for value in action.defines:
            self.producer[value] = action
        return action

    def _copy(self, source: Value, target: Home) -> Action:
        return self._add(Action((source,), source=source, target=target))

    # -- homes --------------------------------------------------------------------------------------------------------
    def _output(self, value: Value, output: int) -> None:
        """An output of its own: computed in place, or copied if the value lives elsewhere already."""
        home = Home("output", output)
        if value in self.producer and value not in self.homes:
            self.homes[value] = home
        else:
            self._copy(value, home)

    def _write(self, value: Value, target: int) -> None:
        """The new value of an input."""
        old = self.inputs.get(target)
        if value is old:
            return
        action = self.producer.get(value)
        if action is not None and value not in self.homes and self._write_direct(action, value, target, old):
            return
        copy = self._copy(value, Home("input", target))
        if self._constrain(copy, target, old):
            return
        # Two inputs exchange their values: keep the old value apart first.
        self._remove(copy)
        copy = self._copy(self._keep(value), Home("input", target))
        if not self._constrain(copy, target, old):
            raise CompileError(f"no order of kernels allows to write input {target}")

    def _keep(self, value: Value) -> Value:
        """A copy of an input's old value in the arena, made before the input is overwritten."""
        kept = Value(value.node, value.index, value.type)  # a value of its own, without a node that makes it
        self.homes[kept] = Home("arena")
        self.roots[kept] = kept
        self._add(Action((value,), source=value, target=self.homes[kept], defines=(kept,)))
        return kept

    def _remove(self, action: Action) -> None:
        self.actions.remove(action)
        del self.before[action]
        for others in self.before.values():
            others.discard(action)

    def _write_direct(self, action: Action, value: Value, target: int, old: Value | None) -> bool:
        """Let a kernel write its result over the input, if order and the kernel allow."""
        assert action.node is not None
        if _may_end(action) and not self.held:
            return False  # it may fail when part of the result has been written
        alias: int | None = None
        if old is not None and old in action.reads:
            places = [i for i, v in enumerate(action.node.operands) if self.roots[v] is old]
            if len(places) != 1 or not self.in_place(action.node, places[0], value.index):
                return False
            if places[0] in action.aliases.values():
                return False
            alias = places[0]
        if not self._constrain(action, target, old):
            return False
        if alias is not None:
            action.aliases[value.index] = alias
        self.homes[value] = Home("input", target)
        return True

    def _constrain(self, writer: Action, target: int, old: Value | None) -> bool:
        """Order all readers of the old value and all checks before `writer`; False (and nothing done) if that is a cycle."""
        first = set() if self.held else {a for a in self.actions if a.check is not None or _may_end(a)}
        if old is not None:
            first |= {a for a in self.actions if old in a.reads}
        first.discard(writer)
        if _reaches(self.before, first, writer):
            return False
        self.before[writer] |= first
        self.writer[target] = writer
        return True


def _may_end(action: Action) -> bool:
    """Whether an action may end the call by itself: held graphs have checks of their own, and host calls raise."""
    return action.node is not None and isinstance(action.node.op, (Control, Host))


def _check_writes(graph: Graph, writes: Mapping[int, int]) -> None:
    if len(set(writes.values())) != len(writes):
        raise CompileError(f"two outputs are written into one input: {dict(writes)}")
    for output, target in writes.items():
        if not 0 <= output < len(graph.outputs) or not 0 <= target < len(graph.inputs):
            raise CompileError(f"there is no output {output} or no input {target} to write")
        if graph.outputs[output].type != graph.inputs[target]:
            raise CompileError(
                f"output {output} ({graph.outputs[output].type}) cannot be written into input {target} "
                f"({graph.inputs[target]})"
            )


def _reaches(before: Mapping[Action, set[Action]], starts: Iterable[Action], goal: Action) -> bool:
    """Whether `goal` must run before any of `starts`."""
    stack = list(starts)
    seen: set[Action] = set()
    while stack:
        action = stack.pop()
        if action is goal:
            return True
        if action not in seen:
            seen.add(action)
            stack.extend(before[action])
    return False


# -- order --------------------------------------------------------------------------------------------------------------

#: How many ready actions are compared; more would make large graphs quadratic.
WINDOW = 32


def _ordered(
    actions: Sequence[Action], before: Mapping[Action, set[Action]], homes: Mapping[Value, Home]
) -> list[Action]:
    """A topological order that keeps the arena small: of the ready actions, the one that frees most comes first."""
    number = {action: i for i, action in enumerate(actions)}
    after: dict[Action, list[Action]] = {action: [] for action in actions}
    missing = {action: len(before[action]) for action in actions}
    readers: dict[Value, int] = {}
    for action in actions:
        for earlier in before[action]:
            after[earlier].append(action)
        for value in action.reads:
            readers[value] = readers.get(value, 0) + 1
    ready = [a for a in actions if not missing[a]]
    order: list[Action] = []
    while ready:
        window = ready[:WINDOW]
        action = min(window, key=lambda a: (_growth(a, readers, homes), number[a]))
        ready.remove(action)
        order.append(action)
        for value in action.reads:
            readers[value] -= 1
        for later in after[action]:
            missing[later] -= 1
            if not missing[later]:
                ready.append(later)
        ready.sort(key=number.__getitem__)
    assert len(order) == len(actions), "actions depend on one another in a cycle"
    return order


def _growth(action: Action, readers: Mapping[Value, int], homes: Mapping[Value, Home]) -> int:
    """Bytes of the arena that an action needs less those that it frees; symbolic sizes count nothing."""
    grown = sum(_arena_bytes(v, homes) for v in action.defines)
    freed = sum(_arena_bytes(v, homes) for v in action.reads if readers[v] == 1)
    return grown - freed


def _arena_bytes(value: Value, homes: Mapping[Value, Home]) -> int:
    if homes[value].room != "arena" or not isinstance(value.type, TensorType):
        return 0
    size = value.type.nbytes
    return size if isinstance(size, int) else 0
