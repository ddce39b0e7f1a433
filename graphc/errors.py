"""The error tree of graphc and its one formatter. Layer 0: imports nothing of graphc.

Every error that a user can cause is a `GraphcError`. Most also derive from the builtin exception that NumPy would
raise in the same place, so that `except ValueError` keeps working. A message has up to four parts, always in this
order: what is wrong, the operands with shapes and dtypes, the user's file and line, and the way on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np

__all__ = [
    "ArtifactError",
    "AxisError",
    "BatchError",
    "BoundsError",
    "CacheError",
    "CompileError",
    "DTypeError",
    "ExportError",
    "GradientError",
    "GraphcError",
    "HostCallError",
    "InterpreterError",
    "LiteralError",
    "MatrixError",
    "MissingDependencyError",
    "MissingMethodError",
    "NoDerivativeError",
    "OptionError",
    "OverwrittenError",
    "ParseError",
    "RuleError",
    "ShapeError",
    "StateError",
    "StructureError",
    "TraceError",
    "TracerConversionError",
    "UndefinedError",
    "UnknownAttributeError",
    "UnknownNameError",
    "UnsupportedError",
    "VerifyError",
    "ZeroStepError",
    "message",
]


class GraphcError(Exception):
    """Base class of all errors that graphc raises on purpose."""


PlacedT = TypeVar("PlacedT", bound="_Placed")


class _Placed(GraphcError):
    """An error of code that does not know the user's place; who knows it raises `error.at(place)` instead."""

    def __init__(self, what: str, *, hint: str | None = None, location: object = None) -> None:
        super().__init__(message(what, location=location, hint=hint))
        self.what, self.hint, self.location = what, hint, location

    def at(self: PlacedT, location: object) -> PlacedT:
        """The error with a place, if it has none yet."""
        if self.location is not None:
            return self
        return type(self)(self.what, hint=self.hint, location=location)


class ShapeError(GraphcError, ValueError):
    """Operands' shapes do not fit, or a shape argument is not legal."""


class AxisError(ShapeError, np.exceptions.AxisError):
    """An axis is not one of the operand's."""


class MatrixError(_Placed, ShapeError, np.linalg.LinAlgError):
    """Matrices are not square, or do not have the inverse or factors that are asked for."""


class DTypeError(GraphcError, TypeError):
    """An operand's dtype is not one that the op is defined for."""


class LiteralError(GraphcError, OverflowError):
    """A Python integer does not fit the dtype that it takes."""


class OptionError(GraphcError, ValueError):
    """An option has a value that is not legal."""


class ZeroStepError(OptionError, ZeroDivisionError):
    """A range has a step of zero."""


class BoundsError(GraphcError, IndexError):
    """An index is outside of the axis that it indexes."""


class TraceError(GraphcError):
    """A function cannot be traced into a graph."""


class TracerConversionError(TraceError, TypeError):
    """Python or NumPy asked a traced value for a concrete one (`bool`, `float`, `np.asarray`, ...)."""


class UndefinedError(TraceError, UnboundLocalError):
    """A variable is used that is not bound, or whose binding depends on a traced condition in a way that no array can hold."""


class UnsupportedError(TraceError, TypeError):
    """A NumPy function or an argument of one that graphc does not know."""


class StructureError(GraphcError, TypeError):
    """Arguments do not have the structure (pytree, count, names) that is needed."""


class UnknownAttributeError(GraphcError, AttributeError):
    """A tensor or module has no such attribute."""


class UnknownNameError(GraphcError, KeyError):
    """A mapping has no such name."""

    # KeyError would show the message as a quoted string.
    __str__ = Exception.__str__


class MissingMethodError(GraphcError, NotImplementedError):
    """A subclass lacks a method that it must define."""


class StateError(GraphcError, RuntimeError):
    """State (parameters, buffers, gradients) is used in a way that would lose a write."""


class GradientError(GraphcError, RuntimeError):
    """A derivative was asked for that does not exist or is no longer available."""


class NoDerivativeError(_Placed, GradientError):
    """An op has no derivative for what it is applied to."""


class OverwrittenError(GradientError, StateError):
    """A value that a derivative needs was overwritten in place."""


class BatchError(_Placed, TraceError):
    """An op cannot be applied to many examples at once."""


class VerifyError(GraphcError):
    """A graph breaks invariants of the IR; the message lists all of them."""


class ParseError(GraphcError, ValueError):
    """Text that is not a graph; the message points at the place with a caret."""


class RuleError(GraphcError):
    """A pass or rewrite rule did what it may not do (found by GRAPHC=check)."""


class InterpreterError(GraphcError):
    """The reference evaluator met a node that it cannot evaluate."""


class HostCallError(_Placed, TypeError):
    """A Python function that a graph calls cannot be found, or gives other results than declared."""


class CompileError(GraphcError):
    """Code generation or linking failed."""


class ArtifactError(GraphcError):
    """A compiled artifact is damaged or does not fit this machine."""


class CacheError(GraphcError, OSError):
    """The disk cache cannot be used."""


class ExportError(GraphcError):
    """A function cannot be exported."""


class MissingDependencyError(GraphcError, ImportError):
    """An optional dependency is needed and not installed."""


def message(
    what: str,
    *,
    operands: Iterable[tuple[str, object]] = (),
    location: object = None,
    hint: str | None = None,
) -> str:
    """Format an error message: what is wrong, operands, place, way on.

    Parameters
    ----------
    what
        One sentence that says what is wrong.
    operands
        Pairs of a name and a type; the type's `str` is printed (`f32[3, 4]`).
    location
        The user's place, printed with `str` as `file:line`.
    hint
        What the user can do.

    >>> print(message("matmul needs equal inner sizes", operands=[("x1", "f32[3, 4]")], hint="Transpose x1."))
    matmul needs equal inner sizes
      x1: f32[3, 4]
      hint: Transpose x1.
    """
    lines = [what]
    lines += [f"  {name}: {type_}" for name, type_ in operands]
    if location is not None:
        lines.append(f"  at {location}")
    if hint:
        lines.append(f"  hint: {hint}")
    return "\n".join(lines)
