"""Random numbers: the same bits in dynamic mode, compiled, fused, threaded and exported. Layer 5.

A `Generator` is four words of state: a key of two, made from the seed, and the number of the next stream. A draw takes
the bits of the current stream (Philox4x32-10, element index as counter; `graphc.ops.random`) and advances the stream
by one. The state is a Tensor, so a compiled function that draws reads and writes it in place, and a repeated call
goes on where the last one stopped.

Invariant: what a draw gives depends on the seed, the number of draws before it, and its own arguments, on nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dtypes import DType
from graphc.errors import DTypeError, OptionError, ShapeError, TracerConversionError, message
from graphc.frontend import context
from graphc.frontend.elementwise import apply_ufunc
from graphc.frontend.indexing import take
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, describe, op
from graphc.frontend.shaping import shape_of
from graphc.frontend.source import user_location
from graphc.frontend.streams import StreamState
from graphc.frontend.tensor import Tensor, default_dtype
from graphc.ops.random import philox

__all__ = [
    "Generator",
    "bernoulli",
    "default_generator",
    "integers",
    "manual_seed",
    "normal",
    "permutation",
    "permutation_array",
    "rand",
    "randint",
    "randn",
    "seed_words",
    "uniform",
]

Array = np.ndarray[Any, Any]
Shape = Any
"""An integer or a sequence of integers."""

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


def _shape_of(shape: Shape) -> tuple[int, ...]:
    sizes = shape_of("random", shape)
    if any(d < 0 for d in sizes):
        raise ShapeError(
            message(f"a shape has no negative sizes: {sizes}", location=user_location(), hint="Sizes are counts.")
        )
    return sizes


def _float(dtype: Any) -> DType:
    found = dtypes.from_numpy(default_dtype() if dtype is None else dtype)
    if not found.is_float:
        raise DTypeError(
            message(
                f"the distribution has floats, not {found.numpy}",
                location=user_location(),
                hint="Use float32 or float64, and convert the numbers drawn with .astype.",
            )
        )
    return found


def _parameter(x: Any, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """A parameter of a distribution, broadcast to the shape of the draw."""
    tensor = convert(x, dtype.numpy) if isinstance(x, Tensor) else as_tensor(np.asarray(x, dtype=dtype.numpy))
    return broadcast_to(tensor, shape)


def _is_number(x: Any, value: float) -> bool:
    return isinstance(x, (int, float)) and x == value


class Generator:
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

    # -- draws ----------------------------------------------------------------------------------------------------------

    def bits(self, shape: Shape, dtype: Any = np.uint32) -> Tensor:
        """Uniform integers of all bits: uint32 or uint64."""
        wanted = dtypes.from_numpy(dtype)
        with context.no_grad():
            drawn = op("random_bits", self._state, shape=_shape_of(shape), dtype=wanted)
            self._advance()
        return drawn

    def _advance(self) -> None:
        """Add one to the stream's number, with the carry into its upper word."""
        state = self._state
        last = broadcast_to(apply_ufunc("equal", state[2:3], np.uint32(_WORD)), (4,))  # type: ignore[index]
        plain = np.array([0, 0, 1, 0], dtype=np.uint32)
        carry = np.array([0, 0, 1, 1], dtype=np.uint32)
        state.assign(op("add", state, op("select", last, as_tensor(carry), as_tensor(plain))))

    def uniform(self, shape: Shape = (), low: Any = 0.0, high: Any = 1.0, dtype: Any = None) -> Tensor:
        """Numbers from [low, high): low + (high - low) * k / 2**24 (2**53 for float64, 2**11 for
        float16, 2**8 for bfloat16), where high itself can come up by
        rounding only. `low` and `high` may be tensors that broadcast to `shape`; gradients flow to them."""
        wanted = _float(dtype)
        unit = self._unit(shape, wanted)
        if _is_number(low, 0.0) and _is_number(high, 1.0):
            return unit
        width = (
            apply_ufunc("subtract", high, low) if isinstance(low, Tensor) or isinstance(high, Tensor) else high - low
        )
        return op("scale_shift", unit, _parameter(width, wanted, unit.shape), _parameter(low, wanted, unit.shape))

    def _unit(self, shape: Shape, dtype: DType) -> Tensor:
        unit = op("uniform_from_bits", self.bits(shape, np.uint32 if dtype.bits <= 32 else np.uint64))
        if not dtype.is_short_float:
            return unit
        # Cut off, so that none is rounded up to 1.
        steps = _parameter(2.0**dtype.digits, dtypes.float32, unit.shape)
        return convert(op("divide", op("trunc", op("multiply", unit, steps)), steps), dtype.numpy)

    def normal(self, shape: Shape = (), mean: Any = 0.0, std: Any = 1.0, dtype: Any = None) -> Tensor:
        """mean + std * z with z standard normal. `mean` and `std` may be tensors that broadcast to `shape`; gradients
        flow to them."""
        wanted = _float(dtype)
        z = convert(
            op("normal_from_bits", self.bits(shape, np.uint32 if wanted.bits <= 32 else np.uint64)), wanted.numpy
        )
        if _is_number(mean, 0.0) and _is_number(std, 1.0):
            return z
        return op("scale_shift", z, _parameter(std, wanted, z.shape), _parameter(mean, wanted, z.shape))

    def integers(self, low: int, high: int | None = None, shape: Shape = (), dtype: Any = np.int64) -> Tensor:
        """Integers from [low, high), or from [0, low) if `high` is not given.

        A 64-bit word modulo the range: an integer's probability is off by less than a part in 2**64 / (high - low).

        Raises
        ------
        ValueError
            If the interval is empty or does not fit the dtype.
        """
        low, high = (0, int(low)) if high is None else (int(low), int(high))
        wanted = dtypes.from_numpy(dtype)
        if not wanted.is_integer:
            raise DTypeError(
                message(
                    f"integers() draws integers, not {wanted.numpy}",
                    location=user_location(),
                    hint="Use np.int32 or np.int64, and convert the numbers drawn with .astype.",
                )
            )
        limits = np.iinfo(wanted.numpy)
        if not (limits.min <= low < high <= int(limits.max) + 1):
            raise OptionError(
                message(
                    f"integers() needs low < high within the range of {wanted.numpy}",
                    operands=[("low", low), ("high", high)],
                    location=user_location(),
                    hint="Numbers are drawn from low to high - 1.",
                )
            )
        drawn = self.bits(shape, np.uint64)
        if high - low < 2**64:
            drawn = apply_ufunc("remainder", drawn, np.uint64(high - low))
        # Sums of two's complement words wrap, so an interval wider than the signed maximum comes out right.
        return apply_ufunc("add", convert(drawn, wanted.numpy), wanted.numpy.type(low))

    def bernoulli(self, p: Any = 0.5, shape: Shape | None = None) -> Tensor:
        """Bools, true with probability `p` (rounded to a multiple of 2**-24); `shape` is that of `p` if not given."""
        sizes = np.shape(p) if shape is None and not isinstance(p, Tensor) else p.shape if shape is None else shape
        unit = self._unit(sizes, dtypes.float32)
        return op("less", unit, _parameter(p, dtypes.float32, unit.shape))

    def permutation(self, x: Any) -> Tensor:
        """A random permutation of 0 .. x-1 (int64) for an integer, else `x` with its first axis permuted.

        Raises
        ------
        TracerConversionError
            While tracing: compiled code has no sort yet.
        """
        if context.trace.get() is not None:
            raise TracerConversionError(
                message(
                    "permutation() is not available in compiled code yet",
                    location=user_location(),
                    hint="Draw the permutation outside, and pass it or the shuffled array as an argument.",
                )
            )
        count = int(x.__index__()) if np.ndim(x) == 0 else x.shape[0]
        key = self._state.numpy().tolist()
        with context.no_grad():
            self._advance()
        order = Tensor(_order_of(count, tuple(key)))
        return order if np.ndim(x) == 0 else take(x, order, axis=0)


_DEFAULT = Generator(0)


def default_generator() -> Generator:
    """The generator that the functions of this module and initialisers draw from; it starts with seed 0."""
    return _DEFAULT


def manual_seed(seed: int) -> Generator:
    """Start the default generator anew."""
    return _DEFAULT.manual_seed(seed)


def rand(*shape: int, dtype: Any = None) -> Tensor:
    """Uniform numbers from [0, 1) of a shape given as arguments."""
    return _DEFAULT.uniform(_spread(shape), dtype=dtype)


def randn(*shape: int, dtype: Any = None) -> Tensor:
    """Standard normal numbers of a shape given as arguments."""
    return _DEFAULT.normal(_spread(shape), dtype=dtype)


def _spread(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape


def uniform(shape: Shape = (), low: Any = 0.0, high: Any = 1.0, dtype: Any = None) -> Tensor:
    """`Generator.uniform` of the default generator."""
    return _DEFAULT.uniform(shape, low, high, dtype)


def normal(shape: Shape = (), mean: Any = 0.0, std: Any = 1.0, dtype: Any = None) -> Tensor:
    """`Generator.normal` of the default generator."""
    return _DEFAULT.normal(shape, mean, std, dtype)


def integers(low: int, high: int | None = None, shape: Shape = (), dtype: Any = np.int64) -> Tensor:
    """`Generator.integers` of the default generator."""
    return _DEFAULT.integers(low, high, shape, dtype)


randint = integers


def bernoulli(p: Any = 0.5, shape: Shape | None = None) -> Tensor:
    """`Generator.bernoulli` of the default generator."""
    return _DEFAULT.bernoulli(p, shape)


def permutation(x: Any) -> Tensor:
    """`Generator.permutation` of the default generator."""
    return _DEFAULT.permutation(x)
