"""The carries of a loop: what its names hold, leaf by leaf. Layer 5, rewriting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import TraceError, message
from graphc.frontend import pytree
from graphc.frontend.promotion import as_tensor, convert
from graphc.frontend.rewriting.merging import (
    Joined,
    common_type,
    handle,
    is_same,
    place_of,
    shown,
    type_of_leaf,
    value_of_leaf,
)
from graphc.frontend.rewriting.values import RETURN_VALUE, Left, Own, State, Undefined, is_number
from graphc.frontend.source import user_location
from graphc.frontend.subtrace import Argument, Sub, argument_of
from graphc.frontend.tensor import Tensor
from graphc.frontend.trace import Traced
from graphc.ir.graph import Value

__all__ = ["Carries"]


class Carries:
    """The carries of a loop: what its names hold, leaf by leaf. Types settle by tracing the body until it keeps them."""

    def __init__(self, statement: str, names: Sequence[str], before: Sequence[Any]) -> None:
        self._statement = statement
        self._names = names
        self._values = list(before)
        self._types: dict[tuple[int, int], Argument] = {}
        #: Names that the body binds anew; arrays under other names are captured (and written) as they are.
        self._rebound: set[int] = set()
        self._order: list[tuple[int, int]] = []
        self._lay_out()

    def _lay_out(self) -> None:
        self._order = []
        for i, value in enumerate(self._values):
            if isinstance(value, Undefined):
                continue
            for k, leaf in enumerate(pytree.flatten(value)[0]):
                if is_number(leaf) and (i in self._rebound or not isinstance(leaf, Tensor)):
                    self._order.append((i, k))
                    self._types.setdefault((i, k), argument_of(leaf))

    @property
    def types(self) -> list[Argument]:
        """The types of the carries, in order."""
        return [self._types[key] for key in self._order]

    def initial(self) -> list[Tensor]:
        """The carries before the first round."""
        found = []
        for i, k in self._order:
            leaf = pytree.flatten(self._values[i])[0][k]
            wanted = self._types[i, k].type
            tensor = as_tensor(leaf if isinstance(leaf, Tensor) else np.asarray(leaf))
            found.append(convert(tensor, wanted.dtype.numpy))
        return found

    def bind(self, state: State, handles: Sequence[Traced]) -> None:
        """Bind the names to the handles of a round."""
        state.set(self._filled(state.get(), dict(zip(self._order, handles, strict=True))))

    def _filled(self, values: Sequence[Any], leaves: dict[tuple[int, int], Any]) -> tuple[Any, ...]:
        found = []
        for i, value in enumerate(values):
            mine = {k: leaf for (n, k), leaf in leaves.items() if n == i}
            if mine:
                old, _, structure = pytree.flatten(self._values[i])
                value = pytree.unflatten(structure, [mine.get(k, leaf) for k, leaf in enumerate(old)])
            found.append(value)
        return tuple(found)

    def settle(self, sub: Sub, left: Sequence[Left | Undefined]) -> list[Value] | None:
        """The values of the carries at the end of a round, in their types; None if types had to change and the body is to be
        traced again."""
        again = False
        values: list[Value] = []
        for i, after in enumerate(left):
            before = self._values[i]
            if isinstance(before, Undefined):
                if self._names[i] == RETURN_VALUE and isinstance(after, Left):
                    self._values[i] = self._placeholder(sub, after)
                    self._rebound.add(i)
                    again = True
                continue
            if isinstance(after, Undefined):
                raise self._changed(i, "", after.why or "is not bound at the end of a round")
            old, _, structure = pytree.flatten(before)
            if after.structure != structure:
                raise self._changed(i, "", "changes its structure from round to round")
            for k, (leaf, new) in enumerate(zip(old, after.leaves, strict=True)):
                if (i, k) not in self._types or (i, k) not in self._order:
                    if isinstance(new, Own) and new.outer is leaf:
                        continue
                    if not is_number(leaf) or not (isinstance(new, Own) or is_number(new)):
                        if not is_same(leaf, new):
                            raise self._changed(
                                i, after.paths[k], f"is {shown(leaf)} before a round and {shown(new)} after it"
                            )
                        continue
                    self._rebound.add(i)
                    again = True
                    continue
                wanted = self._types[i, k]
                found = type_of_leaf(sub, new)
                common = common_type(wanted, found)
                if common is None or (not wanted.weak and common.type != wanted.type):
                    raise self._changed(i, after.paths[k], f"is {wanted.type} before a round and {found.type} after it")
                if (common.type, common.weak) != (wanted.type, wanted.weak) and wanted.weak:
                    self._types[i, k] = common
                    again = True
                    continue
                if not again:
                    values.append(value_of_leaf(sub, new, wanted.type))
        if again:
            self._lay_out()
            return None
        return values

    def _placeholder(self, sub: Sub, after: Left) -> Any:
        """Zeros for a value that the body returns: what is carried until a round returns, and nobody looks at."""

        def zeros(leaf: Any) -> Any:
            if not (isinstance(leaf, Own) or is_number(leaf)):
                return leaf
            wanted = type_of_leaf(sub, leaf).type
            return np.zeros(wanted.shape, wanted.dtype.numpy)

        return pytree.unflatten(after.structure, [zeros(leaf) for leaf in after.leaves])

    def _changed(self, i: int, path: str, why: str) -> TraceError:
        name = "the returned value" if self._names[i] == RETURN_VALUE else f"variable '{self._names[i]}{path}'"
        return TraceError(
            message(
                f"{name} {why} of a `{self._statement}` loop on traced values",
                location=user_location(),
                hint="A compiled loop keeps the shape and dtype of its variables: give it the final shape and dtype before "
                "the loop (np.zeros(n) instead of a growing list; 0.0 instead of None).",
            )
        )

    def after(self, left: Sequence[Left | Undefined], results: Sequence[Tensor]) -> tuple[Any, ...]:
        """What the names hold after the loop."""
        handles = {}
        for key, result in zip(self._order, results, strict=True):
            how = self._types[key]
            handles[key] = handle(result, Joined(0, how.kind, how.weak))
        values = list(self._filled(self._values, handles))
        for i, after in enumerate(left):
            if isinstance(values[i], Undefined) and isinstance(after, Left):
                values[i] = Undefined(
                    self._names[i], f"is bound in a loop only, which may not run ({place_of(self._statement)})"
                )
        return tuple(values)
