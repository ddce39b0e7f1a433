"""What `fn.inspect(...)` returns. Layer 5."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from graphc.codegen.compiler import Compiled, KernelRow
from graphc.frontend.build import Options, compile_stages
from graphc.ir.graph import Graph
from graphc.ir.printer import to_text
from graphc.passes.manager import Stage

__all__ = ["Report", "make_report"]


@dataclass(frozen=True)
class Report:
    """Every stage of one compilation.

    Attributes
    ----------
    stages
        Graphs from the trace to the kernels, with the milliseconds that each pass took.
    """

    stages: tuple[Stage, ...]
    compiled: Compiled
    codegen_milliseconds: float
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def graph(self) -> Graph:
        """The graph as it was traced."""
        return self.stages[0].graph

    @property
    def optimised(self) -> Graph:
        """The graph of kernels that code was generated from."""
        return self.stages[-1].graph

    @property
    def kernels(self) -> tuple[KernelRow, ...]:
        """One row a kernel: fused ops, source lines, flops, bytes, calls, loop tree."""
        return self.compiled.kernels

    @property
    def llvm(self) -> str:
        """The module as LLVM IR text."""
        return self.compiled.llvm

    @cached_property
    def asm(self) -> str:
        """The module as assembly text; made when asked for."""
        return self.compiled.assembly()

    @property
    def memory(self) -> Sequence[Any]:
        """The buffer plan: one row a buffer of the arena."""
        return self.compiled.memory

    @property
    def arena_bytes(self) -> int | None:
        """Bytes of scratch memory that a call needs (None: evaluated at the call)."""
        return self.compiled.artifact.arena_bytes

    def diff(self, before: str | int, after: str | int) -> str:
        """A unified diff of two stages, by name or number."""
        first, second = self._stage(before), self._stage(after)
        texts = [to_text(s.graph).splitlines() for s in (first, second)]
        return "\n".join(difflib.unified_diff(*texts, first.name, second.name, lineterm=""))

    def _stage(self, which: str | int) -> Stage:
        if isinstance(which, int):
            return self.stages[which]
        for stage in self.stages:
            if stage.name == which:
                return stage
        raise KeyError(f"there is no stage {which!r}; stages are {', '.join(s.name for s in self.stages)}")

    def __str__(self) -> str:
        lines = [f"{self.graph.name}: {len(self.graph.nodes)} nodes traced, {len(self.kernels)} kernels"]
        lines += [f"  {s.milliseconds:8.2f} ms  {s.name} ({len(s.graph.nodes)} nodes)" for s in self.stages]
        lines.append(
            f"  {self.codegen_milliseconds:8.2f} ms  codegen ({len(self.compiled.artifact.image.code)} bytes of code)"
        )
        lines.append(f"arena: {self.arena_bytes} bytes")
        for row in self.kernels:
            where = f"  {', '.join(map(str, row.locations[:2]))}" if row.locations else ""
            lines.append(
                f"  {row.name} x{row.calls} [{row.schedule}] {' '.join(row.ops)}: {row.flops} flops, {row.bytes} bytes{where}"
            )
        return "\n".join(lines)


def make_report(graph: Graph, writes: Mapping[int, int], options: Options) -> Report:
    """Compile a graph, keeping all stages."""
    compilation, compiled, milliseconds = compile_stages(graph, writes, options)
    return Report(compilation.stages, compiled, milliseconds)
