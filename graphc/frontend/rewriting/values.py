"""Names and what they hold after a region. Layer 5, rewriting.

A region (a branch, a loop's body) binds names. Its traced values end with it, so what it left in the names is written down
leaf by leaf: an output of the region's graph, a thing from outside, or a Python value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from graphc.errors import UndefinedError, message
from graphc.frontend import pytree
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.frontend.trace import Trace, Traced
from graphc.ir.location import Location

__all__ = ["RETURN_VALUE", "Left", "Own", "State", "Undefined", "check_defined", "is_number", "left_in"]

#: The name that rewritten functions keep the value in that they are about to return.
RETURN_VALUE = "_gx_value"


class Undefined:
    """What a name holds that is not bound, or whose binding depends on traced values in a way that no array can hold.
    Using it is an error that says why."""

    __slots__ = ("name", "why")

    def __init__(self, name: str, why: str = "") -> None:
        self.name = name
        self.why = why

    def fail(self) -> UndefinedError:
        """The error for a use."""
        return UndefinedError(
            message(
                f"variable {self.name!r} {self.why or 'has no value here'}",
                location=user_location(),
                hint=f"Give {self.name!r} a value of the same shape and dtype before the branch or loop, and keep both in it.",
            )
        )

    def _use(self, *_: Any, **__: Any) -> NoReturn:
        raise self.fail()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        raise self.fail()

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = (
        _use
    )
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __matmul__ = __rmatmul__ = __neg__ = __abs__ = __invert__ = _use
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __lshift__ = __rshift__ = __lt__ = __le__ = __gt__ = __ge__ = _use
    __bool__ = __int__ = __float__ = __index__ = __len__ = __iter__ = __getitem__ = __setitem__ = __call__ = _use
    __hash__ = _use
    __array__ = __array_function__ = __array_ufunc__ = __contains__ = _use

    def __repr__(self) -> str:
        return f"<{self.name} is not defined>"


@dataclass(frozen=True, slots=True)
class State:
    """Names of a rewritten function, with access to them."""

    names: tuple[str, ...]
    get: Callable[[], tuple[Any, ...]]
    set: Callable[[tuple[Any, ...]], None]


@dataclass(frozen=True, slots=True)
class Own:
    """A leaf that is output `index` of the region's graph, and how its handle was; `outer` is the tensor itself where it comes
    from outside of the region."""

    index: int
    kind: str
    weak: bool
    outer: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """What a region left in a name: leaves in a structure. A leaf is an `Own`, or a Python value."""

    leaves: tuple[Any, ...]
    paths: tuple[str, ...]
    structure: pytree.Structure


def left_in(value: Any, trace: Trace, outputs: list[Tensor]) -> Left:
    """What a name holds at the end of the region traced by `trace`; its tensors are put on `outputs`."""
    leaves, paths, structure = pytree.flatten(value)
    found: list[Any] = []
    for leaf in leaves:
        if isinstance(leaf, Traced):
            outer = None if leaf._trace is trace else leaf
            found.append(Own(len(outputs), leaf.kind, leaf.weak, outer))
            outputs.append(leaf)
        elif isinstance(leaf, Tensor):
            found.append(Own(len(outputs), "tensor", False, leaf))
            outputs.append(leaf)
        else:
            found.append(leaf)
    return Left(tuple(found), tuple(paths), structure)


def is_number(x: Any) -> bool:
    """Whether a leaf can be an array in compiled code."""
    return isinstance(x, (Tensor, np.ndarray, np.generic, bool, int, float, complex))


def check_defined(value: Any, place: Location | None = None) -> None:
    """Raise if a result holds something undefined."""
    for leaf in pytree.flatten(value)[0]:
        if isinstance(leaf, Undefined):
            raise leaf.fail()
