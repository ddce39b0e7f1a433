"""Counting what dynamic mode does: op calls, temporaries and their bytes. Layer 5.

The count looks at the arrays that ops return, so it knows nothing of the planner that it is compared with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.frontend import tensor
from graphc.ir.op import Op

__all__ = ["OpCount", "count_ops"]


@dataclass(slots=True)
class OpCount:
    """`calls` of ops (by name in `by_op`), and the new arrays they made: `temporaries`, `bytes`. Views are no arrays."""

    calls: int = 0
    temporaries: int = 0
    bytes: int = 0
    by_op: Counter[str] = field(default_factory=Counter)

    def observe(self, op: Op, operands: Sequence[Any], results: Sequence[Any]) -> None:
        """Count one op."""
        self.calls += 1
        self.by_op[op.name] += 1
        for result in results:
            array = np.asarray(result)
            if array.base is None:
                self.temporaries += 1
                self.bytes += array.nbytes


class count_ops:
    """Count the ops of dynamic mode within a `with` block (of all threads).

    >>> import graphc as gx
    >>> with gx.count_ops() as count:
    ...     y = gx.ones(3) + gx.ones(3) * 2
    >>> count.calls, count.temporaries
    (3, 2)
    """

    def __enter__(self) -> OpCount:
        self._count = OpCount()
        self._observer = self._count.observe
        tensor._OBSERVERS.append(self._observer)
        return self._count

    def __exit__(self, *_: object) -> None:
        tensor._OBSERVERS.remove(self._observer)
