"""Layers of attention and embedding, and their caches. Layer 6. Names, defaults and parameters are PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.errors import ShapeError, StructureError, message
from graphc.frontend import context, elementwise, indexing, products, reducing, shaping
from graphc.frontend.promotion import as_tensor, convert, describe
from graphc.frontend.random import Generator
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, default_dtype
from graphc.nn import attention, functional, init
from graphc.nn.layers import Linear
from graphc.nn.module import Module, Parameter

__all__ = ["Embedding", "KeyValueCache", "MultiheadAttention", "RotaryEmbedding", "SinusoidalEncoding"]


class Embedding(Module):
    """Rows of a table `weight` [num_embeddings, embedding_dim] (standard normal) at integers; see `functional.embedding`.

    With `padding_idx` that row is zero at first and gets no gradient.

    >>> import numpy as np
    >>> from graphc import nn
    >>> nn.Embedding(10, 3)(np.array([[1, 2], [4, 5]])).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ShapeError(
                message(
                    f"Embedding: padding_idx {padding_idx} is not one of {num_embeddings} rows",
                    location=user_location(),
                    hint="It is the number of a row.",
                )
            )
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        dtype = default_dtype() if dtype is None else dtype
        self.weight = Parameter(np.zeros((num_embeddings, embedding_dim), dtype))
        init.normal_(self.weight, generator=generator)
        if padding_idx is not None:
            with context.no_grad():
                row: Any = self.weight
                row[padding_idx] = 0

    def forward(self, input: Any) -> Tensor:
        """[...] integers to [..., embedding_dim]."""
        return functional.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """Sizes."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class SinusoidalEncoding(Module):
    """Adds `functional.sinusoidal_encoding` to [..., L, dim], L up to `max_len`."""

    def __init__(self, dim: int, max_len: int = 5000, base: float = 10000.0, dtype: Any = None) -> None:
        self.dim = dim
        self.max_len = max_len
        dtype = default_dtype() if dtype is None else dtype
        self.register_buffer("table", attention.sinusoidal_encoding(max_len, dim, base, dtype), persistent=False)

    def forward(self, input: Any) -> Tensor:
        """Same shape as the input."""
        x, table = as_tensor(input), self.table
        if x.ndim < 2 or x.shape[-1] != self.dim or x.shape[-2] > self.max_len:
            raise ShapeError(
                message(
                    f"SinusoidalEncoding: the input must be [..., L, {self.dim}] with L up to {self.max_len}",
                    operands=[("input", describe(x))],
                    location=user_location(),
                    hint="Make the layer with a larger max_len.",
                )
            )
        return elementwise.add(x, shaping.slice_axis(table, 0, 0, x.shape[-2]))

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.dim}, max_len={self.max_len}"


class RotaryEmbedding(Module):
    """`functional.rotary_embedding` as a layer."""

    def __init__(self, base: float = 10000.0) -> None:
        self.base = base

    def forward(self, input: Any, positions: Any = None) -> Tensor:
        """[..., L, E], E even, to the same shape."""
        return functional.rotary_embedding(input, positions, self.base)

    def extra_repr(self) -> str:
        """The base."""
        return f"base={self.base}"


class KeyValueCache(Module):
    """Keys and values of what has been read, for decoding one piece after the other with one compiled step.

    Buffers `keys` and `values` [batch, heads, length, head_dim] are filled in place up to `position`.
    """

    def __init__(self, batch: int, heads: int, length: int, head_dim: int, dtype: Any = None) -> None:
        dtype = default_dtype() if dtype is None else dtype
        shape = (batch, heads, length, head_dim)
        self.register_buffer("keys", np.zeros(shape, dtype), persistent=False)
        self.register_buffer("values", np.zeros(shape, dtype), persistent=False)
        self.register_buffer("position", np.zeros((), np.int64), persistent=False)

    def reset(self) -> None:
        """Forget everything."""
        with context.no_grad():
            self.position.assign(as_tensor(np.zeros((), np.int64)))

    def append(self, keys: Any, values: Any) -> Tensor:
        """Add [batch, heads, L, head_dim]; returns bools [L, length], which keys each of the L may look at.

        Raises
        ------
        BoundsError
            An IndexError, if the cache is full.
        """
        count, capacity = keys.shape[-2], self.keys.shape[-2]
        start: Any = self.position
        places = elementwise.add(start, np.arange(count))
        with context.no_grad():
            # The cache is written through `take`'s check: a place beyond the end fails before anything is written.
            places = indexing.take(as_tensor(np.arange(capacity)), places)
            for buffer, new in ((self.keys, keys), (self.values, values)):
                buffer[:, :, places] = convert(new.detach(), buffer.dtype)
            self.position.assign(elementwise.add(start, count))
        return elementwise.less_equal(np.arange(capacity)[None, :], shaping.expand_dims(places, axis=-1))


class MultiheadAttention(Module):
    """Attention in several heads, with projections of queries, keys, values and results (Vaswani et al., NeurIPS 2017).

    Parameters
    ----------
    embed_dim, num_heads
        The size of queries and results, and into how many heads it is split.
    dropout
        Of the weights, in training mode.
    bias
        Whether the projections have one.
    add_bias_kv
        Whether one learned key and value is added to each sequence.
    add_zero_attn
        Whether one key and value of zeros is added to each sequence.
    kdim, vdim
        Sizes of keys and values; `embed_dim` if not given.
    batch_first
        Whether inputs are [N, L, E] and not [L, N, E]; without a batch they are [L, E].

    >>> import numpy as np
    >>> from graphc import nn
    >>> layer = nn.MultiheadAttention(8, 2, batch_first=True)
    >>> x = np.ones((3, 5, 8), np.float32)
    >>> y, weights = layer(x, x, x)
    >>> y.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))
    """

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        if num_heads < 1 or embed_dim % num_heads:
            raise ShapeError(
                message(
                    f"MultiheadAttention: {num_heads} heads must divide embed_dim {embed_dim}",
                    location=user_location(),
                    hint="Each head has embed_dim / num_heads elements.",
                )
            )
        functional.check_probability("MultiheadAttention: dropout", dropout)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.dropout = dropout
        self.batch_first = batch_first
        self.add_zero_attn = add_zero_attn
        self.generator = generator
        dtype = default_dtype() if dtype is None else dtype
        sizes = {"q": embed_dim, "k": self.kdim, "v": self.vdim}
        self.in_proj_weight = None
        if set(sizes.values()) == {embed_dim}:
            self.in_proj_weight = Parameter(np.zeros((3 * embed_dim, embed_dim), dtype))
            init.xavier_uniform_(self.in_proj_weight, generator=generator)
        else:
            for letter, size in sizes.items():
                weight = Parameter(np.zeros((embed_dim, size), dtype))
                setattr(self, f"{letter}_proj_weight", init.xavier_uniform_(weight, generator=generator))
        self.in_proj_bias = Parameter(np.zeros(3 * embed_dim, dtype)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype, generator=generator)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)
        self.bias_k: Parameter | None = None
        self.bias_v: Parameter | None = None
        if add_bias_kv:
            self.bias_k, self.bias_v = (Parameter(np.zeros((1, 1, embed_dim), dtype)) for _ in range(2))
            for extra in (self.bias_k, self.bias_v):
                init.normal_(extra, std=math.sqrt(1.0 / embed_dim), generator=generator)

    def make_cache(self, batch: int, length: int) -> KeyValueCache:
        """An empty cache for `batch` sequences of up to `length` elements."""
        return KeyValueCache(batch, self.num_heads, length, self.head_dim, self.out_proj.weight.dtype)

    def _projected(self, inputs: tuple[Any, Any, Any]) -> list[Tensor]:
        """Queries, keys and values [N, L, E]."""
        size = self.embed_dim
        found = []
        for i, (letter, x) in enumerate(zip("qkv", inputs, strict=True)):
            if self.in_proj_weight is not None:
                weight = shaping.slice_axis(self.in_proj_weight, 0, i * size, size)
            else:
                weight = getattr(self, f"{letter}_proj_weight")
            bias = self.in_proj_bias
            bias_part = None if bias is None else shaping.slice_axis(bias, 0, i * size, size)
            found.append(functional.linear(x, weight, bias_part))
        return found

    def _heads(self, x: Tensor) -> Tensor:
        """[N, L, E] to [N, heads, L, head_dim]."""
        split = shaping.reshape(x, (x.shape[0], x.shape[1], self.num_heads, self.head_dim))
        return shaping.permute_dims(split, (0, 2, 1, 3))

    def _extended(self, key: Any, value: Any) -> tuple[Tensor, Tensor, int]:
        """Keys and values with the learned one and the one of zeros behind, and how many were added."""
        shape = (key.shape[0], 1, self.embed_dim)
        extra: list[tuple[Any, Any]] = []
        if self.bias_k is not None and self.bias_v is not None:
            extra.append((shaping.broadcast_to(self.bias_k, shape), shaping.broadcast_to(self.bias_v, shape)))
        if self.add_zero_attn:
            zeros = as_tensor(np.zeros(shape, key.dtype))
            extra.append((zeros, zeros))
        if extra:
            key = shaping.concat([key, *(k for k, _ in extra)], axis=1)
            value = shaping.concat([value, *(v for _, v in extra)], axis=1)
        return key, value, len(extra)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Results [N, L, E] (or as the inputs are laid out) and weights [N, L, S], or [N, heads, L, S] if not averaged.

        Parameters
        ----------
        query, key, value
            [L, N, E], [S, N, kdim] and [S, N, vdim]; with N first or absent as `batch_first` says.
        key_padding_mask
            [N, S]: bools that are true for keys that do not count, or floats that are added.
        attn_mask
            [L, S] or [N * heads, L, S]: bools that are true where queries may not look, or floats that are added.
        need_weights
            Whether weights are returned, else None.
        is_causal
            Query i looks at keys 0 to i only; no mask is needed (unlike PyTorch, where it is a hint).
        cache
            Keys and values are added to it, and queries look at all that it holds up to their own position. It takes no
            further mask; no gradients flow into what it holds.

        Raises
        ------
        StructureError
            If a mask is given beside a cache.
        """
        if cache is not None and not (key_padding_mask is None and attn_mask is None):
            raise StructureError(
                message(
                    "MultiheadAttention: a cache decides by itself which keys are looked at; a mask beside it is not taken",
                    location=user_location(),
                    hint="Leave attn_mask and key_padding_mask out, or attend without the cache.",
                )
            )
        inputs = tuple(as_tensor(x) for x in (query, key, value))
        single = inputs[0].ndim == 2
        if single:
            inputs = tuple(shaping.expand_dims(x, axis=0) for x in inputs)
        elif not self.batch_first:
            inputs = tuple(shaping.swapaxes(x, 0, 1) for x in inputs)
        self._check(inputs)
        q, k, v = self._projected((inputs[0], inputs[1], inputs[2]))
        k, v, added = self._extended(k, v)
        heads = [self._heads(x) for x in (q, k, v)]
        mask = self._mask(key_padding_mask, attn_mask, is_causal, q.shape[1], k.shape[1], added)
        if cache is not None:
            seen = cache.append(heads[1], heads[2])
            heads[1:] = [cache.keys, cache.values]
            mask = seen
        weights = attention.attention_weights(heads[0], heads[1], mask)
        weights = attention.dropped(weights, self.dropout if self.training else 0.0, self.generator)
        mixed = shaping.permute_dims(products.matmul(weights, heads[2]), (0, 2, 1, 3))
        out = self.out_proj(shaping.reshape(mixed, q.shape))
        given: Tensor | None = None
        if need_weights:
            given = reducing.mean(weights, axis=1) if average_attn_weights else weights
        if single:
            return shaping.squeeze(out, axis=0), None if given is None else shaping.squeeze(given, axis=0)
        return (out if self.batch_first else shaping.swapaxes(out, 0, 1)), given

    def _check(self, inputs: tuple[Any, ...]) -> None:
        sizes = (self.embed_dim, self.kdim, self.vdim)
        fits = all(x.ndim == 3 and x.shape[-1] == size for x, size in zip(inputs, sizes, strict=True))
        if not fits or len({x.shape[0] for x in inputs}) > 1 or inputs[1].shape[1] != inputs[2].shape[1]:
            raise ShapeError(
                message(
                    f"MultiheadAttention: query, key and value must end in {sizes}, with one batch and equally many keys "
                    "and values",
                    operands=[(name, describe(x)) for name, x in zip(("query", "key", "value"), inputs, strict=True)],
                    location=user_location(),
                    hint="Shapes are shown with the batch first. batch_first=True takes [N, L, E], else [L, N, E].",
                )
            )

    def _mask(self, padding: Any, mask: Any, is_causal: bool, length: Any, keys: Any, added: int) -> Any:
        """The masks as one: bools of what may be looked at, or floats; [..., L, S]."""
        parts = []
        if is_causal and mask is None:
            parts.append(attention.causal_mask(length, keys - added))
        if mask is not None:
            given = _allowed(mask)
            if given.ndim == 3:
                given = shaping.reshape(given, (-1, self.num_heads, *given.shape[1:]))
            parts.append(given)
        if padding is not None:
            given = _allowed(padding)
            given = shaping.expand_dims(given, axis=0) if given.ndim == 1 else given
            parts.append(shaping.expand_dims(given, axis=(1, 2)))
        if added:
            parts = [_widened(part, added) for part in parts]
        if not parts:
            return None
        if any(part.type.dtype.kind != "b" for part in parts):
            parts = [elementwise.where(p, 0.0, -math.inf) if p.type.dtype.kind == "b" else p for p in parts]
        total: Any = parts[0]
        for part in parts[1:]:
            both = total.type.dtype.kind == "b"
            total = elementwise.logical_and(total, part) if both else elementwise.add(total, part)
        return total


def _allowed(mask: Any) -> Tensor:
    """PyTorch's masks of layers are true where one may not look; floats stay."""
    given = as_tensor(mask)
    return elementwise.logical_not(given) if given.type.dtype.kind == "b" else given


def _widened(mask: Any, added: int) -> Tensor:
    """A mask for `added` more keys, which may be looked at."""
    shape = (*mask.shape[:-1], added)
    full = np.ones(shape, bool) if mask.type.dtype.kind == "b" else np.zeros(shape, mask.dtype)
    return shaping.concat([mask, full], axis=-1)
