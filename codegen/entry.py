"""Graph functions: one native call that runs a whole graph. Layer 4, codegen.

    i64 @graphc_entry(ptr %buffers, ptr %sizes, ptr %arena)

The entry point is one; each graph that a control node holds is another, internal one. A graph function loads pointers,
works out the places of temporaries, and calls kernels, checks and copies in the planned order. It returns 0, or
`1 + index into the failures` as soon as a check fails, with the guilty index in the table of sizes behind the host calls'
callback. Where the arena's size depends on symbolic sizes, `i64 @graphc_arena(ptr %sizes)` computes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc.artifact import ARENA, DETAIL, Failure
from graphc.codegen.actions import Action, Check, Home, Layout
from graphc.codegen.emitted import Argument, Emitted
from graphc.codegen.helpers import COPY, check_function, copy_function, element
from graphc.codegen.plan import Plan
from graphc.codegen.sizes import Sizes, parameter
from graphc.codegen.text import Function
from graphc.ir.dims import Dim, product
from graphc.ir.graph import Value
from graphc.ir.types import TensorType

__all__ = ["Callees", "arena_function", "entry_function", "load_symbols"]


@dataclass(frozen=True, slots=True)
class Callees:
    """What a graph function calls and reads.

    Attributes
    ----------
    kernels
        Name and emission of the kernel of each action that has one.
    pointers
        For each home outside of the arena: its number in the table of buffers, or the name of a constant in the image.
    symbols
        The symbols in the order of the table of sizes.
    failures
        The module's table of failures; entries are appended.
    """

    kernels: Mapping[Action, tuple[str, Emitted]]
    pointers: Mapping[Home, str | int]
    symbols: Sequence[int]
    failures: list[Failure]


def entry_function(name: str, layout: Layout, plan: Plan, callees: Callees, *, exported: bool) -> dict[str, str]:
    """The function that runs a graph, and the helpers that it calls, by name."""
    return _Entry(name, layout, plan, callees, exported=exported).write()


class _Entry:
    def __init__(self, name: str, layout: Layout, plan: Plan, callees: Callees, *, exported: bool) -> None:
        self.layout, self.plan = layout, plan
        self.kernels, self.pointers, self.failures = callees.kernels, callees.pointers, callees.failures
        parameters = ["ptr %buffers", "ptr %sizes", "ptr %arena"]
        self.f = Function("i64", f"@{name}", parameters, linkage="dso_local" if exported else "internal")
        self.sizes = Sizes(self.f)
        self.detail = len(callees.symbols) + DETAIL
        self.helpers: dict[str, str] = {}
        self._loaded: dict[int, str] = {}
        self._dims: dict[Dim, str] = {}
        load_symbols(self.f, callees.symbols)
        self._load_pointers()

    def write(self) -> dict[str, str]:
        for number, action in enumerate(self.layout.actions):
            if action.check is not None:
                self._check(action.check)
            elif action.node is None:
                self._copy(action)
            elif action in self.kernels:
                self._call(number, action)
        return {**self.helpers, self.f.name: self.f.finish("ret i64 0")}

    def _load_pointers(self) -> None:
        """All pointers that are used, loaded once, in the first block."""
        used = {h for a in self.layout.actions for h in self._homes(a)}
        places = (self.pointers[h] for h in used if h.room != "arena")
        for number in sorted(p for p in places if isinstance(p, int)):
            place = self.f.emit(f"getelementptr ptr, ptr %buffers, i64 {number}")
            self._loaded[number] = self.f.emit(f"load ptr, ptr {place}, align 8")

    def _homes(self, action: Action) -> list[Home]:
        homes = [self.layout.homes[v] for v in (*action.reads, *action.defines)]
        return homes if action.target is None else [*homes, action.target]

    def _dim(self, dim: Dim) -> str:
        """The value of a dimension; worked out once in a block that dominates its uses (there is one path)."""
        if dim not in self._dims:
            self._dims[dim] = str(self.sizes.dim(dim))
        return self._dims[dim]

    # -- addresses ------------------------------------------------------------------------------------------------------
    def _pointer(self, value: Value) -> str:
        root = self.layout.roots.get(value, value)
        return self._at(self.layout.homes[root], root)

    def _at(self, home: Home, root: Value | None = None) -> str:
        if home.room == "arena":
            assert root is not None
            return self._arena(self.plan.offsets[root])
        place = self.pointers[home]
        return place if isinstance(place, str) else self._loaded[place]

    def _arena(self, offset: Dim) -> str:
        return self._moved("%arena", self._dim(offset))

    def _moved(self, pointer: str, bytes_: str) -> str:
        return pointer if bytes_ == "0" else self.f.emit(f"getelementptr i8, ptr {pointer}, i64 {bytes_}")

    # -- actions --------------------------------------------------------------------------------------------------------
    def _call(self, number: int, action: Action) -> None:
        name, emitted = self.kernels[action]
        arguments = ", ".join(self._argument(number, action, a) for a in emitted.arguments)
        if not emitted.fallible:
            self.f.do(f"call void @{name}({arguments})")
            return
        status = self.f.emit(f"call i64 @{name}({arguments})")
        failed, passed = self.f.label("failed"), self.f.label("passed")
        self.f.branch_if(self.f.emit(f"icmp ne i64 {status}, 0"), failed, passed)
        self.f.start(failed)
        self.f.do(f"ret i64 {status}")
        self.f.start(passed)

    def _argument(self, number: int, action: Action, argument: Argument) -> str:
        assert action.node is not None
        if argument.room == "size":
            return f"i64 {parameter(argument.index)}"
        if argument.room in ("null", "sizes"):
            return "ptr null" if argument.room == "null" else "ptr %sizes"
        if argument.room == "scratch":
            return f"ptr {self._arena(self.plan.scratch[number])}" if number in self.plan.scratch else "ptr %arena"
        values = action.node.operands if argument.room == "operand" else action.node.results
        if not isinstance(values[argument.index].type, TensorType):
            return "ptr null"
        return f"ptr {self._moved(self._pointer(values[argument.index]), str(argument.bytes))}"

    def _copy(self, action: Action) -> None:
        assert action.source is not None and action.target is not None
        size = action.source.tensor.nbytes
        if size == 0:
            return
        self.helpers.setdefault(COPY, copy_function())
        target = self._at(action.target, action.defines[0] if action.defines else None)
        source = self._pointer(action.source)
        self.f.do(f"call void {COPY}(ptr {target}, ptr {source}, i64 {self._dim(size)})")

    def _check(self, check: Check) -> None:
        dtype = check.indices.dtype
        count = product(check.indices.shape)
        if count == 0:
            return
        pointer = self._pointer(check.indices)
        f = self.f
        size, number = self._dim(check.size), self._dim(count)
        if check.mode == "raise":
            name = f"@graphc_check_{dtype.name}"
            self.helpers.setdefault(name, check_function(dtype))
            bad = f.emit(f"call i64 {name}(ptr {pointer}, i64 {number}, i64 {self._negated(size)}, i64 {size})")
        else:  # every index is legal, unless the axis is empty: then none is
            empty, some = f.emit(f"icmp eq i64 {size}, 0"), f.emit(f"icmp sgt i64 {number}, 0")
            bad = f.emit(f"select i1 {f.emit(f'and i1 {empty}, {some}')}, i64 0, i64 -1")
        failed, passed = f.label("failed"), f.label("passed")
        f.branch_if(f.emit(f"icmp sge i64 {bad}, 0"), failed, passed)
        f.start(failed)
        self._fail(check, pointer, bad)
        f.start(passed)

    def _negated(self, size: str) -> str:
        return self.f.emit(f"sub i64 0, {size}") if size.startswith("%") else str(-int(size))

    def _fail(self, check: Check, pointer: str, position: str) -> None:
        f, kind = self.f, element(check.indices.dtype)
        place = f.emit(f"getelementptr {kind}, ptr {pointer}, i64 {position}")
        index = f.emit(f"load {kind}, ptr {place}, align {check.indices.dtype.itemsize}")
        if kind != "i64":
            extend = "sext" if check.indices.dtype.is_signed else "zext"
            index = f.emit(f"{extend} {kind} {index} to i64")
        slot = f.emit(f"getelementptr i64, ptr %sizes, i64 {self.detail}")
        f.do(f"store i64 {index}, ptr {slot}, align 8")
        self.failures.append(check.failure)
        f.do(f"ret i64 {len(self.failures)}")


def arena_function(size: Dim, symbols: Sequence[int]) -> str:
    """`i64 @graphc_arena(ptr %sizes)`: the arena's size where it depends on symbols."""
    f = Function("i64", f"@{ARENA}", ["ptr %sizes"], linkage="dso_local")
    load_symbols(f, symbols)
    return f.finish(f"ret i64 {Sizes(f).dim(size)}")


def load_symbols(f: Function, symbols: Sequence[int]) -> None:
    """Define `%s<i>` for each symbol from the table `%sizes`."""
    for number, symbol in enumerate(symbols):
        place = f.emit(f"getelementptr i64, ptr %sizes, i64 {number}")
        f.do(f"{parameter(symbol)} = load i64, ptr {place}, align 8")
