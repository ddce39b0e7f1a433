"""Einstein summation, as `numpy.einsum`. Layer 5.

Operands are contracted in pairs, the pair first whose product is smallest compared with its operands (greedy); each pair is
one product of matrices (`dot` with batch axes), or an elementwise product where nothing is summed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ShapeError, StructureError, message
from graphc.frontend.arranging import diagonal
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, describe, op, refusal, result_dtype
from graphc.frontend.shaping import permute_dims, reshape
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = ["einsum"]

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class _Term:
    """A tensor with a label for each axis, all different."""

    tensor: Tensor
    labels: tuple[str, ...]

    def size(self, label: str) -> int:
        return self.tensor.shape[self.labels.index(label)]


def einsum(subscripts: Any, /, *operands: Any, optimize: Any = True) -> Tensor:
    """Sum of products by labels: `einsum("bij,bjk->bik", x, y)`; implicit outputs, `...`, repeated labels and NumPy's form
    with lists of integers included. All orders of contraction are equal up to rounding, so `optimize` is not looked at."""
    text, arrays = _as_text(subscripts, operands)
    tensors = [as_tensor(x) for x in arrays]
    inputs, output = _parse(text, tensors)
    dtype = result_dtype(*tensors)
    work = np.dtype(np.int32) if dtype == np.bool_ else dtype
    terms = [_Term(convert(t, work), labels) for t, labels in zip(tensors, inputs, strict=True)]
    terms = [_without_repeats(t) for t in terms]
    sizes = _sizes(text, terms, tensors)
    terms = [_without_units(t, sizes) for t in terms]
    while len(terms) > 1:
        first, second = _cheapest(terms, output, sizes)
        rest = [t for i, t in enumerate(terms) if i not in (first, second)]
        needed = set(output).union(*(t.labels for t in rest))
        terms = [*rest, _product(terms[first], terms[second], needed)]
    result = _summed(terms[0], set(output))
    found = permute_dims(result.tensor, [result.labels.index(label) for label in output if label in result.labels])
    shape = tuple(sizes[label] for label in output)
    found = broadcast_to(reshape(found, tuple(sizes[a] if a in result.labels else 1 for a in output)), shape)
    return convert(found, dtype)


# -- reading the subscripts -----------------------------------------------------------------------------------------------


def _fault(text: str, why: str, tensors: Sequence[Any]) -> ShapeError:
    operands = [(f"operand {i}", describe(x)) for i, x in enumerate(tensors)]
    hint = "Write one letter for each axis: 'ij,jk->ik'."
    return ShapeError(message(f"einsum {text!r}: {why}", operands=operands, location=user_location(), hint=hint))


def _as_text(subscripts: Any, operands: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """The form with lists of integers as text."""
    if isinstance(subscripts, str):
        return subscripts, operands
    everything = (subscripts, *operands)
    if not all(isinstance(labels, (list, tuple)) for labels in everything[1::2]):
        what = f"einsum: the subscripts must be a text, or lists of integers between the operands, not {describe(subscripts)}"
        raise refusal(StructureError, what, "Begin with the text: einsum('ij,jk->ik', x, y).")
    output = everything[-1] if len(everything) % 2 else None
    pairs = everything[: len(everything) // 2 * 2]
    text = ",".join(_letters(labels) for labels in pairs[1::2])
    if output is not None:
        text += "->" + _letters(output)
    return text, pairs[::2]


def _letters(labels: Sequence[Any]) -> str:
    return "".join("..." if label is Ellipsis else _LETTERS[label] for label in labels)


def _parse(text: str, tensors: Sequence[Tensor]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Labels of the operands and of the output; axes under an ellipsis are labelled by numbers, counted from the last."""
    bare = text.replace(" ", "")
    left, arrow, right = bare.partition("->")
    parts = left.split(",")
    if any(c not in _LETTERS for c in (left + right).replace("...", "").replace(",", "")) or "," in right:
        raise _fault(text, "only letters, '...', ',' and one '->' may stand in it", tensors)
    if len(parts) != len(tensors):
        raise _fault(text, f"it names {len(parts)} operands, {len(tensors)} are given", tensors)
    inputs = [_labels(text, part, t, tensors) for part, t in zip(parts, tensors, strict=True)]
    hidden = max((sum(label.isdigit() for label in labels) for labels in inputs), default=0)
    ellipsis = tuple(str(i) for i in reversed(range(hidden)))
    named = [label for labels in inputs for label in labels if not label.isdigit()]
    if arrow:
        if right.count("...") > 1:
            raise _fault(text, "an output can have one ellipsis", tensors)
        before, dots, after = right.partition("...")
        if hidden and not dots:
            raise _fault(text, "an ellipsis of an operand must stand in the output, too", tensors)
        output = (*before, *(ellipsis if dots else ()), *after)
    else:
        output = (*ellipsis, *sorted(label for label in set(named) if named.count(label) == 1))
    if len(set(output)) != len(output):
        raise _fault(text, "a label is repeated in the output", tensors)
    unknown = [label for label in output if label not in named and not label.isdigit()]
    if unknown:
        raise _fault(text, f"label {unknown[0]!r} of the output is in no operand", tensors)
    return inputs, output


def _labels(text: str, part: str, x: Tensor, tensors: Sequence[Tensor]) -> tuple[str, ...]:
    before, dots, after = part.partition("...")
    if "..." in after or "." in before + after:
        raise _fault(text, f"{part!r} has more than one ellipsis", tensors)
    hidden = x.ndim - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise _fault(text, f"{part!r} does not fit an operand of rank {x.ndim}", tensors)
    return (*before, *(str(i) for i in reversed(range(hidden))), *after)


def _sizes(text: str, terms: Sequence[_Term], tensors: Sequence[Tensor]) -> dict[str, int]:
    """The size of each label; an axis of size 1 fits any."""
    sizes: dict[str, int] = {}
    for term in terms:
        for label in term.labels:
            size = term.size(label)
            known = sizes.setdefault(label, size)
            if known != size and 1 not in (known, size):
                named = "an axis under the ellipsis" if label.isdigit() else f"label {label!r}"
                raise _fault(text, f"{named} has sizes {known} and {size}", tensors)
            sizes[label] = size if known == 1 else known
    return sizes


# -- single operands --------------------------------------------------------------------------------------------------------


def _without_repeats(term: _Term) -> _Term:
    """Repeated labels become diagonals."""
    tensor, labels = term.tensor, list(term.labels)
    for label in dict.fromkeys(term.labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            if tensor.shape[first] != tensor.shape[second]:
                what = f"einsum: label {label!r} has sizes {tensor.shape[first]} and {tensor.shape[second]}"
                raise refusal(
                    ShapeError, what, "A repeated label takes a diagonal, of axes of one size.", operand=tensor
                )
            tensor = diagonal(tensor, axis1=first, axis2=second)
            labels = [x for i, x in enumerate(labels) if i not in (first, second)] + [label]
    return _Term(tensor, tuple(labels))


def _without_units(term: _Term, sizes: dict[str, int]) -> _Term:
    """Axes of size 1 that broadcast against larger ones vanish."""
    kept = [label for label in term.labels if not (term.size(label) == 1 and sizes[label] != 1)]
    return _Term(reshape(term.tensor, tuple(term.size(label) for label in kept)), tuple(kept))


def _summed(term: _Term, needed: set[str]) -> _Term:
    """Sum over labels that nobody needs."""
    axes = tuple(i for i, label in enumerate(term.labels) if label not in needed)
    if not axes:
        return term
    return _Term(op("sum", term.tensor, axes=axes), tuple(label for label in term.labels if label in needed))


# -- pairs ------------------------------------------------------------------------------------------------------------------


def _cheapest(terms: Sequence[_Term], output: tuple[str, ...], sizes: dict[str, int]) -> tuple[int, int]:
    """The pair whose product is smallest, less its operands; among equals the one with the fewest multiplications."""

    def volume(labels: Any) -> int:
        return math.prod(sizes[label] for label in labels)

    def cost(pair: tuple[int, int]) -> tuple[int, int]:
        both = set(terms[pair[0]].labels) | set(terms[pair[1]].labels)
        needed = set(output).union(*(t.labels for i, t in enumerate(terms) if i not in pair))
        growth = volume(both & needed) - sum(volume(terms[i].labels) for i in pair)
        return growth, volume(both)

    return min(itertools.combinations(range(len(terms)), 2), key=cost)


def _product(x: _Term, y: _Term, needed: set[str]) -> _Term:
    """The product of two terms, summed over what is not needed."""
    x = _summed(x, needed | set(y.labels))
    y = _summed(y, needed | set(x.labels))
    shared = [label for label in x.labels if label in y.labels]
    batch = [label for label in shared if label in needed]
    summed = [label for label in shared if label not in needed]
    if not summed:
        return _elementwise(x, y)
    lhs_batch, lhs_contract = (tuple(x.labels.index(a) for a in group) for group in (batch, summed))
    rhs_batch, rhs_contract = (tuple(y.labels.index(a) for a in group) for group in (batch, summed))
    found = op(
        "dot",
        x.tensor,
        y.tensor,
        lhs_batch=lhs_batch,
        rhs_batch=rhs_batch,
        lhs_contract=lhs_contract,
        rhs_contract=rhs_contract,
    )
    free = [[a for a in term.labels if a not in shared] for term in (x, y)]
    return _Term(found, (*batch, *free[0], *free[1]))


def _elementwise(x: _Term, y: _Term) -> _Term:
    labels = (*x.labels, *(a for a in y.labels if a not in x.labels))
    shape = tuple(x.size(a) if a in x.labels else y.size(a) for a in labels)
    aligned = []
    for term in (x, y):
        moved = permute_dims(term.tensor, [term.labels.index(a) for a in labels if a in term.labels])
        apart = reshape(moved, tuple(term.size(a) if a in term.labels else 1 for a in labels))
        aligned.append(broadcast_to(apart, shape))
    return _Term(op("multiply", *aligned), labels)
