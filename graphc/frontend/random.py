"""Random numbers: the same bits in dynamic mode, compiled, fused, threaded and exported. Layer 5.

A `Generator` is four words of state: a key of two, made from the seed, and the number of the next stream. A draw takes
the bits of the current stream (Philox4x32-10, element index as counter; `graphc.ops.random`) and advances the stream
by one. The state is a Tensor, so a compiled function that draws reads and writes it in place, and a repeated call
goes on where the last one stopped.

A draw with `key=` takes the stream that the key names and changes nothing.

Invariant: what a draw gives depends on the seed, the number of draws before it, and its own arguments, on nothing else; with a
key, on the key and its own arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import DTypeError, OptionError, message
from graphc.frontend import context
from graphc.frontend.distributions import Distributions, Shape, draw_shape
from graphc.frontend.elementwise import apply_ufunc
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, describe, op
from graphc.frontend.shaping import stack
from graphc.frontend.source import user_location
from graphc.frontend.streams import StreamState
from graphc.frontend.tensor import Tensor
from graphc.ops.random import philox

__all__ = [
    "Distributions",
    "Generator",
    "bernoulli",
    "bits",
    "categorical",
    "choice",
    "default_generator",
    "exponential",
    "fold_in",
    "gamma",
    "integers",
    "key",
    "manual_seed",
    "normal",
    "permutation",
    "permutation_array",
    "rand",
    "randint",
    "randn",
    "seed_words",
    "split",
    "truncated_normal",
    "uniform",
]

Array = np.ndarray[Any, Any]
_WORD = 0xFFFFFFFF
#: Upper stream word of permutations that are made from a seed alone, apart from all streams that draws reach.
_SHUFFLE = 0x5348_5546


def seed_words(seed: int) -> tuple[int, int]:
    """The two words of the key that a seed gives: its lower and its upper half.

    Raises
    ------
    ValueError
        If the seed is not an integer from 0 to 2**64 - 1.
    """
    number = int(seed.__index__()) if hasattr(seed, "__index__") else -1
    if not 0 <= number < 2**64:
        raise OptionError(
            message(
                f"a seed is an integer from 0 to 2**64 - 1, not {seed!r}",
                location=user_location(),
                hint="Any such number will do; hash a text with zlib.crc32(text.encode()).",
            )
        )
    return number & _WORD, number >> 32


def permutation_array(n: int, seed: int, stream: int) -> Array:
    """A permutation of 0 .. n-1 as int64, a function of its arguments alone: the order of n 64-bit keys.

    Equal keys keep their order; there are any with probability below n**2 / 2**65.
    """
    words = seed_words(seed)
    return _order_of(n, (*words, stream & _WORD, _SHUFFLE))


def _order_of(n: int, state: tuple[int, int, int, int]) -> Array:
    block = np.arange((n + 1) // 2, dtype=np.uint64)
    counter = (block & np.uint64(_WORD), block >> np.uint64(32), np.uint32(state[2]), np.uint32(state[3]))
    words = [w.astype(np.uint64) for w in philox(counter, (np.uint32(state[0]), np.uint32(state[1])))]
    keys = np.stack([words[0] | words[1] << np.uint64(32), words[2] | words[3] << np.uint64(32)], axis=-1)
    return np.argsort(keys.reshape(-1)[:n], kind="stable").astype(np.int64)


class Generator(Distributions):
    """A stream of random numbers.

    Parameters
    ----------
    seed
        An integer from 0 to 2**64 - 1.

    >>> import graphc as gx
    >>> gx.random.Generator(0).uniform((2,)).shape
    (2,)

    Drawing from one generator in several threads at once is not safe; give each its own seed.
    """

    def __init__(self, seed: int = 0) -> None:
        self._state = StreamState([*seed_words(seed), 0, 0])

    @property
    def state(self) -> Tensor:
        """uint32[4]: two words of the key, lower and upper word of the next stream's number. Writing sets the generator."""
        return self._state

    def manual_seed(self, seed: int) -> Generator:
        """Start anew as `Generator(seed)` does, in place: compiled functions that draw are not traced again."""
        with context.no_grad():
            self._state.assign(as_tensor(np.array([*seed_words(seed), 0, 0], dtype=np.uint32)))
        return self

    def __repr__(self) -> str:
        return f"Generator({describe(self._state)})"

    def _stream(self) -> Tensor:
        return self._state

    def _advance(self) -> None:
        """Add one to the stream's number, with the carry into its upper word."""
        state = self._state
        last = broadcast_to(apply_ufunc("equal", state[2:3], np.uint32(_WORD)), (4,))  # type: ignore[index]
        plain = np.array([0, 0, 1, 0], dtype=np.uint32)
        carry = np.array([0, 0, 1, 1], dtype=np.uint32)
        state.assign(op("add", state, op("select", last, as_tensor(carry), as_tensor(plain))))


class _Keyed(Distributions):
    """Draws that are a function of a key: each takes the stream that the key names."""

    __slots__ = ("_key",)

    def __init__(self, key: Any) -> None:
        self._key = _checked_key(key)

    def _stream(self) -> Tensor:
        return self._key


def _checked_key(key: Any) -> Tensor:
    if not isinstance(key, int):
        tensor = as_tensor(key)
        if tensor.dtype == np.uint32 and tensor.shape == (4,):
            return tensor
    raise DTypeError(
        message(
            "key= takes a key: uint32[4]",
            operands=[("key", describe(key))],
            location=user_location(),
            hint="gx.random.key(seed) makes one; split(key) and fold_in(key, number) make others of it.",
        )
    )


_DEFAULT = Generator(0)


def _source(key: Any) -> Distributions:
    """What draws: the default generator, or a key."""
    return _DEFAULT if key is None else _Keyed(key)


def default_generator() -> Generator:
    """The generator that the functions of this module and initialisers draw from; it starts with seed 0."""
    return _DEFAULT


def manual_seed(seed: int) -> Generator:
    """Start the default generator anew."""
    return _DEFAULT.manual_seed(seed)


# -- keys --------------------------------------------------------------------------------------------------------------


def key(seed: int) -> Tensor:
    """The key (uint32[4]) of a seed from 0 to 2**64 - 1.

    A draw with `key=` is a function of the key and its other arguments: the same key gives the same numbers again, in any order
    of calls and in exported functions too. `Generator(seed)` draws first what this key gives.

    >>> import graphc as gx
    >>> k = gx.random.key(7)
    >>> gx.random.normal(2, key=k).tolist() == gx.random.normal(2, key=k).tolist()
    True
    """
    return as_tensor(np.array([*seed_words(seed), 0, 0], dtype=np.uint32))


#: Exclusive ors that set apart the streams of `split` and `fold_in` from those of draws with the same key.
_SPLIT = np.array([0x53504C49, 0x54000000, 0, 0], np.uint32)
_FOLD = np.array([0x464F4C44, 0x494E0000, 0, 0], np.uint32)


def split(key: Any, num: int = 2) -> Tensor:
    """`num` new keys (uint32[num, 4]), independent of one another and of what `key` draws.

    >>> import graphc as gx
    >>> first, second = gx.random.split(gx.random.key(0))
    >>> gx.random.uniform((), key=first).item() == gx.random.uniform((), key=second).item()
    False
    """
    apart = apply_ufunc("bitwise_xor", _checked_key(key), _SPLIT)
    return op("random_bits", apart, shape=draw_shape((num, 4)), dtype=dtypes.uint32)


def fold_in(key: Any, data: Any) -> Tensor:
    """A new key (uint32[4]) from a key and an integer, which may be traced: the number of a step, of a layer, of a worker.

    >>> import graphc as gx
    >>> k = gx.random.key(0)
    >>> gx.random.fold_in(k, 1).tolist() == gx.random.fold_in(k, 2).tolist()
    False
    """
    number = as_tensor(data)
    if not number.type.dtype.is_integer or number.ndim:
        raise DTypeError(
            message(
                "fold_in: data must be one integer",
                operands=[("data", describe(data))],
                location=user_location(),
                hint="Its 64 bits count; fold in several numbers one after the other.",
            )
        )
    wide = convert(number, np.uint64)
    words = stack(
        [convert(apply_ufunc("bitwise_right_shift", wide, np.uint64(by)), np.uint32) for by in (0, 32)]
        + [_zero_word()] * 2
    )
    first = op("random_bits", apply_ufunc("bitwise_xor", _checked_key(key), _FOLD), shape=(4,), dtype=dtypes.uint32)
    return op("random_bits", apply_ufunc("bitwise_xor", first, words), shape=(4,), dtype=dtypes.uint32)


def _zero_word() -> Tensor:
    return as_tensor(np.zeros((), np.uint32))


# -- draws -------------------------------------------------------------------------------------------------------------
# From the default generator, or with `key=` as a function of that key.


def rand(*shape: int, dtype: Any = None, key: Any = None) -> Tensor:
    """Uniform numbers from [0, 1) of a shape given as arguments."""
    return _source(key).uniform(_spread(shape), dtype=dtype)


def randn(*shape: int, dtype: Any = None, key: Any = None) -> Tensor:
    """Standard normal numbers of a shape given as arguments."""
    return _source(key).normal(_spread(shape), dtype=dtype)


def _spread(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape


def bits(shape: Shape, dtype: Any = np.uint32, *, key: Any = None) -> Tensor:
    """`Distributions.bits` of the default generator, or of a key."""
    return _source(key).bits(shape, dtype)


def uniform(shape: Shape = (), low: Any = 0.0, high: Any = 1.0, dtype: Any = None, *, key: Any = None) -> Tensor:
    """`Distributions.uniform` of the default generator, or of a key."""
    return _source(key).uniform(shape, low, high, dtype)


def normal(shape: Shape = (), mean: Any = 0.0, std: Any = 1.0, dtype: Any = None, *, key: Any = None) -> Tensor:
    """`Distributions.normal` of the default generator, or of a key."""
    return _source(key).normal(shape, mean, std, dtype)


def integers(low: int, high: int | None = None, shape: Shape = (), dtype: Any = np.int64, *, key: Any = None) -> Tensor:
    """`Distributions.integers` of the default generator, or of a key."""
    return _source(key).integers(low, high, shape, dtype)


randint = integers


def bernoulli(p: Any = 0.5, shape: Shape | None = None, *, key: Any = None) -> Tensor:
    """`Distributions.bernoulli` of the default generator, or of a key."""
    return _source(key).bernoulli(p, shape)


def exponential(shape: Shape = (), scale: Any = 1.0, dtype: Any = None, *, key: Any = None) -> Tensor:
    """`Distributions.exponential` of the default generator, or of a key."""
    return _source(key).exponential(shape, scale, dtype)


def gamma(alpha: Any, shape: Shape | None = None, scale: Any = 1.0, dtype: Any = None, *, key: Any = None) -> Tensor:
    """`Distributions.gamma` of the default generator, or of a key."""
    return _source(key).gamma(alpha, shape, scale, dtype)


def truncated_normal(
    shape: Shape = (),
    low: Any = -2.0,
    high: Any = 2.0,
    mean: Any = 0.0,
    std: Any = 1.0,
    dtype: Any = None,
    *,
    key: Any = None,
) -> Tensor:
    """`Distributions.truncated_normal` of the default generator, or of a key."""
    return _source(key).truncated_normal(shape, low, high, mean, std, dtype)


def categorical(logits: Any, axis: int = -1, shape: Shape | None = None, *, key: Any = None) -> Tensor:
    """`Distributions.categorical` of the default generator, or of a key."""
    return _source(key).categorical(logits, axis, shape)


def choice(a: Any, shape: Shape = (), replace: bool = True, p: Any = None, axis: int = 0, *, key: Any = None) -> Tensor:
    """`Distributions.choice` of the default generator, or of a key."""
    return _source(key).choice(a, shape, replace, p, axis)


def permutation(x: Any, *, key: Any = None) -> Tensor:
    """`Distributions.permutation` of the default generator, or of a key."""
    return _source(key).permutation(x)
