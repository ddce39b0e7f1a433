"""What `fn.inspect(...)` returns: every stage of one compilation, as data and as tables. Layer 5.

A report holds graphs, text and tables; it runs nothing and keeps no traced value. Its tables are sequences of rows that
print with aligned columns.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar, overload

from graphc import dtypes
from graphc.codegen.compiler import SMALL_CONSTANT, Compiled, KernelRow
from graphc.codegen.plan import Row
from graphc.errors import StructureError, message
from graphc.frontend.build import Options, compile_stages
from graphc.frontend.capture import Captured
from graphc.frontend.naming import state_names
from graphc.frontend.tables import WIDTH, Column, count, render, shortened
from graphc.ir.dims import Dim
from graphc.ir.export import to_dot, to_networkx
from graphc.ir.graph import Graph, Node
from graphc.ir.location import Location
from graphc.ir.printer import difference
from graphc.ir.types import TensorType
from graphc.passes.manager import Stage

__all__ = ["ConstantRow", "Kernels", "Memory", "Report", "Stages", "StateRow", "Table", "make_report"]

RowT = TypeVar("RowT")


class Table(Sequence[RowT], Generic[RowT]):
    """Rows that print as a table; indexed by number, or by one of a row's names."""

    columns: tuple[Column, ...] = ()
    empty: str = "none"

    def __init__(self, rows: Sequence[RowT]) -> None:
        self._rows = tuple(rows)

    def names(self, number: int) -> tuple[str, ...]:
        """What the row may be called."""
        return ()

    def cells(self, number: int) -> Sequence[object]:
        """What the row shows."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int | str) -> RowT: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RowT]: ...
    def __getitem__(self, index: int | str | slice) -> RowT | Sequence[RowT]:
        return self._rows[self.position(index) if isinstance(index, str) else index]

    def position(self, name: str) -> int:
        """The number of the first row with this name.

        Raises
        ------
        StructureError
            If there is none.
        """
        for number in range(len(self)):
            if name in self.names(number):
                return number
        known = ", ".join(dict.fromkeys(n for i in range(len(self)) for n in self.names(i)))
        raise StructureError(message(f"there is no {name!r} here", hint=f"There are {known or 'no rows'}."))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[RowT]:
        return iter(self._rows)

    def __str__(self) -> str:
        return render(self.columns, [self.cells(i) for i in range(len(self))]) if self._rows else self.empty

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} rows>\n{self}"


class Stages(Table[Stage]):
    """The graph after each pass. A pass that runs twice is `simplify` and `simplify#2`."""

    columns = (
        *(Column("stage"), Column("nodes", right=True), Column("ms", right=True)),
        Column("what it did", cut="end"),
    )

    def label(self, number: int) -> str:
        """The stage's name, with a number where it repeats."""
        name = self[number].name
        before = sum(s.name == name for s in self._rows[:number])
        return f"{name}#{before + 1}" if before else name

    def names(self, number: int) -> tuple[str, ...]:
        return (self.label(number),)

    def cells(self, number: int) -> Sequence[object]:
        stage = self[number]
        did = ", ".join(f"{n} x {name}" for name, n in stage.counters.items())
        return self.label(number), len(stage.graph.nodes), f"{stage.milliseconds:.2f}", did


class Kernels(Table[KernelRow]):
    """The native functions. `.tree` of a row is its loop nest."""

    columns = (
        *(Column("kernel"), Column("name", cut="end"), Column("calls", right=True), Column("schedule")),
        *(Column("ops", cut="end"), Column("flops", right=True), Column("bytes", right=True)),
        Column("source", cut="start"),
    )
    empty = "no kernels: nothing is computed"

    def names(self, number: int) -> tuple[str, ...]:
        return self[number].symbol, self[number].name

    def cells(self, number: int) -> Sequence[object]:
        row = self[number]
        source = ", ".join(dict.fromkeys(_place(w) for w in row.locations))
        work = count(row.flops), count(row.bytes)
        return row.symbol, row.name, row.calls, row.schedule, row.summary, *work, source

    def trees(self) -> str:
        """All loop nests."""
        return "\n\n".join(f"{row.symbol} {row.name}\n{row.tree.rstrip()}" for row in self)


class Memory(Table[Row]):
    """Places in the scratch block that a call uses. `first` and `last` number the steps of a
    call: kernel calls and copies.

    Attributes
    ----------
    arena_bytes
        Size of the block.
    without_reuse
        What the same temporaries (counted from the graph of kernels) and the kernels' scratch would take, each in memory
        of its own.
    op_by_op
        What every op's result would take if the traced graph were run one op at a time (views are free).
    """

    columns = (
        *(Column("offset", right=True), Column("bytes", right=True), Column("first", right=True)),
        *(Column("last", right=True), Column("value", cut="end")),
    )
    empty = "no temporaries"

    def __init__(self, rows: Sequence[Row], arena_bytes: Dim | None, without_reuse: Dim, op_by_op: Dim) -> None:
        super().__init__(rows)
        self.arena_bytes = arena_bytes
        self.without_reuse = without_reuse
        self.op_by_op = op_by_op

    def cells(self, number: int) -> Sequence[object]:
        row = self[number]
        return count(row.offset), count(row.bytes), row.first, row.last, row.value

    def __str__(self) -> str:
        arena = "depends on sizes" if self.arena_bytes is None else f"{count(self.arena_bytes)} bytes"
        totals = (
            f"arena: {arena}; without reuse: {count(self.without_reuse)} bytes; "
            f"op by op: {count(self.op_by_op)} bytes of intermediate results"
        )
        return f"{super().__str__()}\n{totals}"


@dataclass(frozen=True, slots=True)
class StateRow:
    """A captured Tensor: read at each call, and written in place if `written`."""

    name: str
    type: TensorType
    written: bool


class State(Table[StateRow]):
    """Captured Tensors."""

    columns = (Column("state", cut="end"), Column("type"), Column("access"))
    empty = "no captured tensors"

    def names(self, number: int) -> tuple[str, ...]:
        return (self[number].name,)

    def cells(self, number: int) -> Sequence[object]:
        row = self[number]
        return row.name, row.type, "written" if row.written else "read"


@dataclass(frozen=True, slots=True)
class ConstantRow:
    """A large captured array: a snapshot, stored beside the code."""

    type: TensorType
    bytes: int
    location: Location | None


@dataclass(frozen=True, slots=True)
class HostCallRow:
    """A Python function that native code calls."""

    function: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    locations: tuple[Location, ...]


class HostCalls(Table[HostCallRow]):
    """Calls of Python functions from native code."""

    columns = (
        *(Column("host call"), Column("operands", cut="end"), Column("results", cut="end")),
        Column("source", cut="start"),
    )
    empty = "no host calls"

    def names(self, number: int) -> tuple[str, ...]:
        return (self[number].function,)

    def cells(self, number: int) -> Sequence[object]:
        row = self[number]
        source = ", ".join(dict.fromkeys(_place(w) for w in row.locations))
        return row.function, ", ".join(row.operands), ", ".join(row.results), source


class Constants(Table[ConstantRow]):
    """Captured arrays of more than a few hundred elements."""

    columns = (Column("type"), Column("bytes", right=True), Column("captured at", cut="start"))
    empty = "no large constants"

    def cells(self, number: int) -> Sequence[object]:
        row = self[number]
        return row.type, count(row.bytes), row.location


@dataclass(frozen=True, eq=False)
class Report:
    """One compilation: stages, kernels, code, memory. `print(report)` is a summary.

    Attributes
    ----------
    stages
        The graph after each pass, with milliseconds; `report.stages["fusion"]` or by number.
    compiled
        What codegen made: artifact, LLVM text, kernels.
    state, constants
        Captured Tensors, and large captured arrays.
    warnings
        What is probably not meant, such as a float64 among float32.
    codegen_milliseconds
        Time of code generation.

    Examples
    --------
    >>> import numpy as np, graphc as gx
    >>> report = gx.compile(lambda x: np.tanh(x) * 2).inspect(np.ones(3))
    >>> print(report.graph)
    graph "<lambda>"(%x: f64[3]) -> (f64[3]) {
    ...
    }
    """

    stages: Stages
    compiled: Compiled
    state: State
    constants: Constants
    warnings: tuple[str, ...]
    codegen_milliseconds: float

    @property
    def graph(self) -> Graph:
        """The graph as it was traced."""
        return self.stages[0].graph

    @property
    def optimised(self) -> Graph:
        """The graph of kernels that code was generated from."""
        return self.stages[-1].graph

    @property
    def kernels(self) -> Kernels:
        """One row a kernel: fused ops, source lines, flops and bytes of one call, calls, loop tree."""
        return Kernels(self.compiled.kernels)

    @property
    def host_calls(self) -> HostCalls:
        """The Python functions that native code calls."""
        rows = [row for row in self.compiled.kernels if row.schedule == "host"]
        calls = self.compiled.artifact.hosts
        return HostCalls(
            [
                HostCallRow(call.function, _texts(call.operands), _texts(call.results), row.locations)
                for call, row in zip(calls, rows, strict=True)
            ]
        )

    @property
    def llvm(self) -> str:
        """The module as LLVM IR text."""
        return self.compiled.llvm

    @cached_property
    def asm(self) -> str:
        """The module as assembly text; made when asked for."""
        return self.compiled.assembly()

    def asm_of(self, kernel: int | str | KernelRow) -> str:
        """The assembly text of one kernel and its helpers; by row, number or name."""
        row = kernel if isinstance(kernel, KernelRow) else self.kernels[kernel]
        label = re.compile(rf"{re.escape(row.symbol)}(_\w+)?:")
        lines: list[str] = []
        inside = False
        for line in self.asm.splitlines():
            inside = inside or label.match(line) is not None
            if inside and line.startswith(".Lfunc_end"):
                inside = False
            elif inside:
                lines.append(line)
        return "\n".join(lines)

    @property
    def memory(self) -> Memory:
        """The buffer plan: where temporaries are in the arena, and totals."""
        return Memory(
            self.compiled.memory,
            self.compiled.artifact.arena_bytes,
            _temporary_bytes(self.optimised) + _scratch_bytes(self.compiled.memory),
            _temporary_bytes(self.graph),
        )

    @property
    def arena_bytes(self) -> int | None:
        """Bytes of scratch memory that a call needs (None: depends on symbolic sizes)."""
        return self.compiled.artifact.arena_bytes

    def diff(self, before: str | int, after: str | int) -> str:
        """What changed between two stages, as a unified diff; empty if nothing did."""
        return difference(self.stages[before].graph, self.stages[after].graph)

    def dot(self, stage: str | int = 0) -> str:
        """A stage's graph (the traced one by default) in Graphviz's DOT language."""
        return to_dot(self.stages[stage].graph)

    def networkx(self, stage: str | int = 0) -> Any:
        """A stage's graph (the traced one by default) as a `networkx.MultiDiGraph`."""
        return to_networkx(self.stages[stage].graph)

    def __str__(self) -> str:
        artifact = self.compiled.artifact
        versions = "".join(f", {name} {number}" for name, number in artifact.versions)
        total = sum(stage.milliseconds for stage in self.stages)
        head = f"{self.graph.name}: "
        head += _signature(self.graph, WIDTH - len(head))
        parts = [
            head,
            f"{artifact.isa}{versions}; {sum(k.calls for k in self.kernels)} kernel calls, {len(self.kernels)} kernels, "
            f"{count(len(artifact.image.code))} bytes of code; passes {total:.1f} ms, codegen "
            f"{self.codegen_milliseconds:.1f} ms",
            str(self.stages),
            str(self.kernels),
            str(self.memory),
        ]
        parts += [str(self.state)] if self.state else []
        parts += [str(self.constants)] if self.constants else []
        parts += [str(self.host_calls)] if self.host_calls else []
        parts += [f"warning: {text}" for text in self.warnings]
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return f"<report of {self.graph.name}: {len(self.stages)} stages, {len(self.kernels)} kernels>"


def make_report(
    captured: Captured, options: Options, function: Callable[..., Any], arguments: Sequence[Any] = ()
) -> Report:
    """Compile a captured function, keeping all stages. `arguments` are the leaves of the call."""
    compilation, compiled, milliseconds = compile_stages(captured.graph, captured.writes, options)
    return Report(
        stages=Stages(compilation.stages),
        compiled=compiled,
        state=_state(captured, function, arguments),
        constants=_constants(captured),
        warnings=tuple(_warnings(captured.graph)),
        codegen_milliseconds=milliseconds,
    )


def _state(captured: Captured, function: Callable[..., Any], arguments: Sequence[Any]) -> State:
    names = state_names(function, arguments, captured.states)
    written = set(captured.writes.values())
    written |= {slot.index for slot in captured.states if slot.written}
    types = captured.graph.inputs
    rows = []
    for name, slot in zip(names, captured.states, strict=True):
        type_ = types[slot.index]
        assert isinstance(type_, TensorType)
        rows.append(StateRow(name, type_, slot.index in written))
    return State(rows)


def _constants(captured: Captured) -> Constants:
    rows = []
    for array, _, where in captured.constants:
        if array.size > SMALL_CONSTANT:
            rows.append(ConstantRow(TensorType(dtypes.from_numpy(array.dtype), array.shape), array.nbytes, where))
    return Constants(rows)


def _texts(types: Sequence[tuple[str, tuple[int | str, ...]]]) -> tuple[str, ...]:
    return tuple(f"{dtype}[{', '.join(map(str, shape))}]" for dtype, shape in types)


# -- memory --------------------------------------------------------------------------------------------------------------

#: Ops whose results NumPy and codegen give without copying.
_VIEWS = frozenset({"input", "constant", "broadcast", "reshape", "transpose", "slice", "barrier"})


def _scratch_bytes(rows: Sequence[Row]) -> Dim:
    total: Dim = 0
    for row in rows:
        if row.value == "scratch":
            total = total + row.bytes
    return total


def _temporary_bytes(graph: Graph) -> Dim:
    """Bytes of all results that are neither outputs nor views, each counted once."""
    returned = set(graph.outputs)
    total: Dim = 0
    for node in graph.nodes:
        if node.op.name in _VIEWS:
            continue
        for value in node.results:
            if value not in returned and isinstance(value.type, TensorType):
                total = total + value.type.nbytes
    return total


# -- warnings ------------------------------------------------------------------------------------------------------------


def _warnings(graph: Graph) -> Iterator[str]:
    found = _first_float64(graph)
    if found is not None:
        where = graph.locations.get(found, ())
        place = f" at {where[0]}" if where else ""
        yield (
            f"float64 creeps in{place}: {found.op.name} gives {found.types[0]} while all array inputs are float32. "
            "A float64 array or NumPy scalar makes all that follows float64; convert it with astype(np.float32)."
        )


def _first_float64(graph: Graph) -> Node | None:
    """The first node that computes in float64 where no array input is float64 and some are float32. Calculations with
    scalars that were Python floats are meant so."""
    arrays = [t for t in graph.inputs if isinstance(t, TensorType) and t.rank]
    kinds = {t.dtype for t in arrays}
    if dtypes.float64 in kinds or dtypes.float32 not in kinds:
        return None
    for node in graph.nodes:
        if node.op.name in ("input", "constant") or not _is_float64(node.types):
            continue
        from_float32 = any(isinstance(v.type, TensorType) and v.type.dtype is dtypes.float32 for v in node.operands)
        if from_float32 or any(isinstance(t, TensorType) and t.rank for t in node.types):
            return node
    return None


def _is_float64(types: Sequence[object]) -> bool:
    return any(isinstance(t, TensorType) and t.dtype is dtypes.float64 for t in types)


# -- text ------------------------------------------------------------------------------------------------------------------


def _place(where: Location) -> str:
    """File name and line; the folder is in the graph's comments."""
    return f"{os.path.basename(where.file)}:{where.line}"


def _signature(graph: Graph, width: int) -> str:
    """Inputs and outputs, as many as fit."""
    names = graph.names or tuple(f"#{i}" for i in range(len(graph.inputs)))
    inputs = [f"{name}: {type_}" for name, type_ in zip(names, graph.inputs, strict=True)]
    outputs = [str(v.type) for v in graph.outputs]
    for limit in range(8, 0, -1):
        text = f"({_few(inputs, limit)}) -> ({_few(outputs, limit)})"
        if len(text) <= width:
            return text
    return shortened(text, width)


def _few(texts: Sequence[str], limit: int) -> str:
    more = len(texts) - limit
    return ", ".join([*texts[:limit], *([f"and {more} more"] if more > 0 else [])])
