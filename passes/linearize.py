"""Forward-mode differentiation of a whole graph. Layer 4, passes.

    f(x...) -> (y...)  -->  f_jvp(x..., dx...) -> (y..., dy...)

The driver is that of `gx.jvp` on the tape (`graphc.forward`); this pass is for graphs that are there already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from graphc.errors import GradientError
from graphc.forward import jvp_graph
from graphc.ir.graph import Graph
from graphc.ir.types import TensorType
from graphc.passes.base import Journal, Rewriter
from graphc.passes.inline import without_composites

__all__ = ["Linearize"]


@dataclass(frozen=True)
class Linearize(Rewriter):
    """The Jacobian-vector product of a graph: tangents of its floating-point inputs become further inputs, and tangents of
    its floating-point outputs further outputs, in order; zeros where an output does not depend on the inputs.

    Raises
    ------
    GradientError
        If no output or no input is floating point.
    NoDerivativeError
        If a tangent meets an op without a derivative.
    """

    name: ClassVar[str] = "linearize"

    @property
    def preserves(self) -> Literal["nothing"]:
        return "nothing"

    def apply(self, graph: Graph, journal: Journal) -> Graph:
        if not journal.permit("linearize"):
            return graph
        graph = without_composites(graph)
        smooth = [isinstance(v.type, TensorType) and v.type.dtype.is_float for v in graph.outputs]
        inputs = [isinstance(t, TensorType) and t.dtype.is_float for t in graph.inputs]
        if not any(smooth) or not any(inputs):
            missing = "outputs" if any(inputs) else "inputs"
            raise GradientError(f"{graph.name!r} has no floating-point {missing} to differentiate")
        return jvp_graph(graph, always=smooth)[0]
