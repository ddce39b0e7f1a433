"""One LLVM module: graph functions, the kernels that they call, constants and failures. Layer 4, codegen.

A *graph function* runs a whole graph: the entry point, and each graph that a control node holds. They share kernels:
equal ones are emitted once and called from everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from graphc.artifact import Constant, Failure, HostCall, constant
from graphc.codegen import llvm
from graphc.codegen.actions import Action, Home, Layout, lay_out
from graphc.codegen.control import emit_control
from graphc.codegen.emitted import Emitted, GraphFunction
from graphc.codegen.emitters import (
    EMITTERS,
    Job,
    is_control,
    is_nothing,
    job_of,
    may_overwrite,
    range_checks,
    require_kernels,
)
from graphc.codegen.entry import Callees, entry_function
from graphc.codegen.host import emit_host, host_call_of
from graphc.codegen.plan import Row, plan_arena, share_blocks
from graphc.ir.dims import Dim
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.location import Location
from graphc.ir.op import Host
from graphc.target import Target

__all__ = ["SMALL_CONSTANT", "KernelRow", "Module"]

#: Constants of more elements than this are passed by pointer and stored beside the code; smaller ones are part of it.
SMALL_CONSTANT = 256


@dataclass(frozen=True, slots=True)
class KernelRow:
    """A kernel for the report: its function, the ops fused in it, the user's lines, work and schedule."""

    name: str
    symbol: str
    schedule: str
    ops: tuple[str, ...]
    locations: tuple[Location, ...]
    flops: Dim
    bytes: Dim
    calls: int
    tree: str

    @property
    def summary(self) -> str:
        """The ops in order, each once."""
        return " ".join(dict.fromkeys(self.ops))


@dataclass(slots=True)
class _Made:
    """A kernel that has been emitted, and its uses."""

    name: str
    job: Job
    emitted: Emitted
    calls: int = 0
    locations: dict[Location, None] = field(default_factory=dict)


class Module:
    """A module under construction."""

    def __init__(self, target: Target, symbols: Sequence[int], *, contract: bool) -> None:
        self.target, self.symbols, self.contract = target, tuple(symbols), contract
        self.functions: dict[str, str] = {}
        self.declarations: dict[str, str] = {}
        self.globals: dict[str, str] = {}
        self.constants: list[Constant] = []
        self.failures: list[Failure] = []
        self.hosts: list[HostCall] = []
        self._kernels: dict[Any, _Made] = {}
        self._held: dict[Any, GraphFunction] = {}
        self._numbers = count()

    def entry(self, graph: Graph, name: str, writes: Mapping[int, int]) -> tuple[Dim, tuple[Row, ...]]:
        """Write the entry point; returns the arena's size and the memory report."""
        return self._graph_function(graph, name, writes, exported=True)

    def held(self, graph: Graph, writes: Mapping[int, int]) -> GraphFunction:
        """The function of a graph that a control node holds; output k is written over input `writes[k]`."""
        key = graph.key, tuple(writes.items())
        found = self._held.get(key)
        if found is None:
            # The name is taken before the graphs that this one holds take theirs.
            name = f"graph{next(self._numbers)}"
            arena, _ = self._graph_function(graph, name, writes, exported=False)
            found = self._held[key] = GraphFunction(name, arena)
        return found

    def text(self) -> str:
        parts = [*self.globals.values(), *self.functions.values(), "\n".join(sorted(self.declarations.values()))]
        return "\n\n".join([*parts, llvm.attributes(self.target)]) + "\n"

    def rows(self) -> tuple[KernelRow, ...]:
        """The kernels, for the report."""
        return tuple(_row(made) for made in self._kernels.values())

    def _graph_function(
        self, graph: Graph, name: str, writes: Mapping[int, int], *, exported: bool
    ) -> tuple[Dim, tuple[Row, ...]]:
        require_kernels(graph)
        layout = lay_out(graph, writes, may_overwrite, range_checks, held=not exported)
        blocks = share_blocks(layout, may_overwrite)
        kernels = self._emit_kernels(graph, layout)
        plan = plan_arena(
            blocks, {i: kernels[a][1].scratch_bytes for i, a in enumerate(layout.actions) if a in kernels}
        )
        pointers = self._pointers(graph, layout, exported=exported)
        callees = Callees(kernels, pointers, self.symbols, self.failures)
        for key, text in entry_function(name, layout, plan, callees, exported=exported).items():
            self.functions.setdefault(key, text)
        return plan.arena_bytes, plan.rows

    # -- kernels ------------------------------------------------------------------------------------------------------
    def _emit_kernels(self, graph: Graph, layout: Layout) -> dict[Action, tuple[str, Emitted]]:
        kernels: dict[Action, tuple[str, Emitted]] = {}
        for action in layout.actions:
            node = action.node
            if node is None or (not is_control(node) and is_nothing(node)):
                continue
            made = self._kernel(node, action.aliases)
            made.calls += 1
            made.locations.update(dict.fromkeys(graph.locations.get(node, ())))
            kernels[action] = made.name, made.emitted
        return kernels

    def _kernel(self, node: Node, aliases: Mapping[int, int]) -> _Made:
        job = job_of(node)
        key = job.key(aliases)
        made = self._kernels.get(key)
        if made is None:
            name = f"k{len(self._kernels)}"
            if is_control(node):
                # The name is taken before the held graphs' kernels take theirs.
                self._kernels[key] = _Made(name, job, None)  # type: ignore[arg-type]
                emitted = emit_control(name, job.body.outputs[0].node, self.held, self.symbols)
            elif isinstance(node.op, Host):
                held = job.body.outputs[0].node
                emitted = emit_host(name, held, len(self.hosts), len(self.symbols))
                self.hosts.append(host_call_of(held))
            else:
                emitted = EMITTERS[job.schedule](name, job.body, aliases, self.target, contract=self.contract)
            made = self._kernels[key] = _Made(name, job, emitted)
            self.functions.update(emitted.functions)
            self.declarations.update(emitted.declarations)
        return made

    # -- constants ----------------------------------------------------------------------------------------------------
    def _pointers(self, graph: Graph, layout: Layout, *, exported: bool) -> dict[Home, str | int]:
        """Where inputs, constants and outputs are: a number in the function's table of pointers, or a constant's name.

        Large constants are in the entry's table; those of held graphs are part of the image whatever their size.
        """
        pointers: dict[Home, str | int] = {Home("input", i): i for i in range(len(graph.inputs))}
        used = {v for a in layout.actions for v in a.reads}
        slots = len(graph.inputs)
        for value, home in layout.homes.items():
            if home.room != "constant" or value not in used:
                continue
            literal = value.node.attrs["value"]
            if exported and literal.array.size > SMALL_CONSTANT:
                pointers[home] = slots
                self.constants.append(constant(literal.array))
                slots += 1
            else:
                pointers[home] = self._image_constant(value)
        pointers.update((Home("output", k), slots + k) for k in range(len(graph.outputs)))
        return pointers

    def _image_constant(self, value: Value) -> str:
        literal = value.node.attrs["value"]
        name = f"@constant.{literal.digest}"
        text = "".join(f"\\{byte:02X}" for byte in literal.array.tobytes())
        kind = f"[{literal.array.nbytes} x i8]"
        self.globals[name] = f'{name} = private unnamed_addr constant {kind} c"{text}", align 64'
        return name


def _row(made: _Made) -> KernelRow:
    ops = tuple(n.op.name for n in made.job.body.nodes if n.op.name not in ("input", "constant"))
    telling = [op for op in dict.fromkeys(ops) if op not in ("broadcast", "reshape", "transpose")] or list(ops)
    name = "_".join(telling[:5]) + ("_etc" if len(telling) > 5 else "")
    return KernelRow(
        name=name or "copy",
        symbol=made.name,
        schedule=made.job.schedule,
        ops=ops,
        locations=tuple(made.locations),
        flops=made.emitted.flops,
        bytes=made.emitted.bytes,
        calls=made.calls,
        tree=made.emitted.tree,
    )
