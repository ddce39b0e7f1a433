"""Attention, embeddings and encodings of positions, as functions. Layer 6. Names and meanings are mostly PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.errors import DTypeError, OptionError, ShapeError, message
from graphc.frontend import elementwise, indexing, products, reducing, shaping
from graphc.frontend.promotion import as_tensor, convert, describe
from graphc.frontend.random import Generator, default_generator
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = ["embedding", "rotary_embedding", "scaled_dot_product_attention", "sinusoidal_encoding"]

Array = Any
"""A Tensor or what can become one."""


def embedding(input: Array, weight: Array, padding_idx: int | None = None) -> Tensor:
    """Rows of `weight` ([num, dim]) at integers [...]: [..., dim]. The row `padding_idx` gets no gradient.

    Raises
    ------
    BoundsError
        An IndexError, for an integer outside of 0 .. num-1; from compiled code too.

    >>> from graphc import nn
    >>> nn.functional.embedding([1, 0], [[1.0, 2.0], [3.0, 4.0]]).tolist()
    [[3.0, 4.0], [1.0, 2.0]]
    """
    index: Any = as_tensor(input)
    table = as_tensor(weight)
    if not index.type.dtype.is_integer or table.ndim != 2:
        raise DTypeError(
            message(
                "embedding: needs integers and a table of rank 2",
                operands=[("input", describe(index)), ("weight", describe(table))],
                location=user_location(),
                hint="Convert indices with .astype(np.int64).",
            )
        )
    rows = table.shape[0]
    wanted = index
    if index.type.dtype.is_signed:  # `take` counts negative ones from the end; here they are out of range
        wide = convert(index, np.int64)
        wanted = elementwise.where(elementwise.less(wide, 0), elementwise.subtract(wide, rows), wide)
    found = indexing.take(table, wanted, axis=0)
    if padding_idx is None:
        return found
    place = padding_idx if padding_idx >= 0 else rows + padding_idx
    padded = shaping.expand_dims(elementwise.apply_ufunc("equal", index, place), axis=-1)
    return elementwise.where(padded, found.detach(), found)


def _check(query: Tensor, key: Tensor, value: Tensor) -> None:
    fits = min(query.ndim, key.ndim, value.ndim) >= 2
    if not fits or query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            message(
                "scaled_dot_product_attention: query and key must agree in their last axis, key and value in the one before",
                operands=[("query", describe(query)), ("key", describe(key)), ("value", describe(value))],
                location=user_location(),
                hint="The query is [..., L, E], the key [..., S, E], the value [..., S, Ev].",
            )
        )


def causal_mask(length: Any, keys: Any) -> Tensor:
    """[length, keys] bools: whether key j is not after query i."""
    rows, columns = np.arange(length)[:, None], np.arange(keys)[None, :]
    return as_tensor(columns <= rows)


def attention_weights(
    query: Array, key: Array, mask: Array | None = None, is_causal: bool = False, scale: float | None = None
) -> Tensor:
    """softmax(query @ key^T * scale) along the keys; a mask of bools says which may be looked at, one of floats is added."""
    q, k = as_tensor(query), as_tensor(key)
    factor = 1.0 / math.sqrt(max(q.shape[-1], 1)) if scale is None else scale
    axes = (*range(k.ndim - 2), k.ndim - 1, k.ndim - 2)
    scores: Any = products.matmul(elementwise.multiply(q, factor), shaping.permute_dims(k, axes))
    if is_causal:
        if mask is not None:
            raise OptionError(
                message(
                    "attention is causal by a mask or by is_causal, not by both",
                    location=user_location(),
                    hint="Combine masks of bools with &.",
                )
            )
        mask = causal_mask(q.shape[-2], k.shape[-2])
    if mask is not None:
        allowed = as_tensor(mask)
        if allowed.type.dtype.kind == "b":
            scores = elementwise.where(allowed, scores, -math.inf)
        else:
            scores = elementwise.add(scores, convert(allowed, scores.dtype))
    return reducing.softmax(scores, axis=-1)


def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """softmax(query @ key^T * scale + mask) @ value (Vaswani et al., NeurIPS 2017).

    Parameters
    ----------
    query, key, value
        [..., L, E], [..., S, E] and [..., S, Ev]; the result is [..., L, Ev].
    attn_mask
        Broadcasts to [..., L, S]: bools that are true where a query may look, or floats that are added. A row without
        any key gives NaN.
    dropout_p
        The probability by which weights are dropped; applied whenever it is not 0.
    is_causal
        Query i looks at keys 0 to i only.
    scale
        1 / sqrt(E) if not given.

    >>> import numpy as np
    >>> from graphc import nn
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)[0].tolist()
    [1.0, 0.0]
    """
    q, k, v = as_tensor(query), as_tensor(key), as_tensor(value)
    _check(q, k, v)
    weights = attention_weights(q, k, attn_mask, is_causal, scale)
    return products.matmul(dropped(weights, dropout_p, generator), v)


def dropped(x: Tensor, p: float, generator: Generator | None) -> Tensor:
    """Elements to zero with probability p, the others scaled."""
    if not p:
        return x
    kept = (generator or default_generator()).bernoulli(1.0 - p, x.shape)
    return elementwise.where(kept, elementwise.multiply(x, 1.0 / (1.0 - p)), 0)


def sinusoidal_encoding(length: int, dim: int, base: float = 10000.0, dtype: Any = np.float32) -> Tensor:
    """[length, dim]: sin(t / base**(2i/dim)) in even columns 2i, cos in odd ones (Vaswani et al., NeurIPS 2017)."""
    angles = np.arange(length)[:, None] / base ** (np.arange(0, dim, 2) / max(dim, 1))
    table = np.zeros((length, dim))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : dim // 2])
    return as_tensor(table.astype(dtype))


def rotary_embedding(input: Array, positions: Array | None = None, base: float = 10000.0) -> Tensor:
    """Pairs (x[i], x[i + E/2]) of the last axis turned by position * base**(-2i/E) (Su et al., 2021; halves as in GPT-NeoX).

    `input` is [..., L, E] with E even; `positions` [L], 0 to L-1 if not given. Products of turned queries and keys
    depend on the difference of their positions only.
    """
    x = as_tensor(input)
    if x.ndim < 2 or x.shape[-1] % 2:
        raise ShapeError(
            message(
                "rotary_embedding: the input's last axis must be even",
                operands=[("input", describe(x))],
                location=user_location(),
                hint="The input is [..., L, E]; elements i and i + E/2 make a pair.",
            )
        )
    half = x.shape[-1] // 2
    rates = base ** (-np.arange(half) / max(half, 1))
    where: Any = np.arange(x.shape[-2]) if positions is None else as_tensor(positions)
    angles: Any = elementwise.multiply(shaping.expand_dims(convert(as_tensor(where), np.float64), axis=-1), rates)
    cos, sin = (convert(f(angles), x.dtype) for f in (elementwise.cos, elementwise.sin))
    first: Any = shaping.slice_axis(x, x.ndim - 1, 0, half)
    second: Any = shaping.slice_axis(x, x.ndim - 1, half, half)
    return shaping.concat([first * cos - second * sin, second * cos + first * sin], axis=-1)
