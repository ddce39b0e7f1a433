"""Distributions over a source of random bits. Layer 5. What a draw gives is a function of its bits and parameters alone.

Each distribution takes bits once, so that every draw is one stream; `graphc.frontend.random` has the sources: generators, whose
state goes on to the next stream, and keys.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dtypes import DType
from graphc.errors import DTypeError, OptionError, ShapeError, message
from graphc.frontend import context
from graphc.frontend.cumulating import cumsum
from graphc.frontend.elementwise import apply_ufunc, maximum, minimum, where
from graphc.frontend.indexing import take
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, describe, op
from graphc.frontend.reducing import argmax
from graphc.frontend.shaping import integer, moveaxis, normalize_axis, reshape, shape_of
from graphc.frontend.sorting import argsort, searchsorted
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, default_dtype

__all__ = ["Distributions", "Shape", "draw_shape"]

Shape = Any
"""An integer or a sequence of integers."""

#: Standard deviations beyond which the normal distribution's tail is below the least float64.
_FAR = 37.0


def draw_shape(shape: Shape) -> tuple[int, ...]:
    """A shape argument of a draw, checked."""
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
    """A parameter of a distribution in the draw's dtype, broadcast to its shape."""
    return _fitted(convert(x, dtype.numpy) if isinstance(x, Tensor) else as_tensor(np.asarray(x, dtype.numpy)), shape)


def _fitted(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A parameter broadcast to the shape of a draw."""
    pairs = zip(reversed(x.shape), reversed(shape), strict=False)
    if x.ndim > len(shape) or any(size not in (1, wanted) for size, wanted in pairs):
        raise ShapeError(
            message(
                f"a parameter of a distribution must broadcast to the shape of the draw, {shape}",
                operands=[("parameter", describe(x))],
                location=user_location(),
                hint="Give the shape of all numbers that are drawn, parameters broadcast to it.",
            )
        )
    return broadcast_to(x, shape)


def _is_number(x: Any, value: float) -> bool:
    return isinstance(x, (int, float)) and x == value


def _check(name: str, what: str, x: Any, valid: bool, must: str, hint: str) -> None:
    """Refuse a parameter that is known now and out of its range."""
    if not valid:
        raise OptionError(
            message(
                f"{name}: {what} must be {must}", operands=[(what, describe(x))], location=user_location(), hint=hint
            )
        )


def _is_known(*parameters: Any) -> bool:
    return not any(isinstance(x, Tensor) for x in parameters)


def _check_scale(name: str, scale: Any) -> None:
    if _is_known(scale):
        valid = bool(np.all(np.asarray(scale) >= 0))
        _check(name, "scale", scale, valid, "0 or greater", "It is the mean of a standard draw, not a rate: 1 / rate.")


def _sizes(shape: Shape | None, parameter: Any) -> Shape:
    """The shape of a draw: that of the parameter if not given."""
    if shape is not None:
        return shape
    return parameter.shape if isinstance(parameter, Tensor) else np.shape(parameter)


def _wide(x: Any) -> Tensor:
    return convert(as_tensor(x), np.float64)


class Distributions:
    """What a `Generator` draws, and what the functions of `graphc.random` draw from it or with a key."""

    __slots__ = ()

    def _stream(self) -> Tensor:
        """uint32[4]: the key and the number of the stream that the next draw takes."""
        raise NotImplementedError

    def _advance(self) -> None:
        """Go on to the next stream."""

    def bits(self, shape: Shape, dtype: Any = np.uint32) -> Tensor:
        """Uniform integers of all bits: uint32 or uint64."""
        wanted = dtypes.from_numpy(dtype)
        with context.no_grad():
            drawn = op("random_bits", self._stream(), shape=draw_shape(shape), dtype=wanted)
            self._advance()
        return drawn

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

    def exponential(self, shape: Shape = (), scale: Any = 1.0, dtype: Any = None) -> Tensor:
        """Exponential numbers of mean `scale`, which may be a tensor that broadcasts to `shape`; gradients flow to it.

        scale times the quantile of a number in (0, 1) of 32 bits (64 for float64): never 0 for a standard draw.

        >>> import graphc as gx
        >>> gx.random.Generator(0).exponential((3,), scale=2.0).shape
        (3,)

        Raises
        ------
        ValueError
            If a scale that is known when this is called is negative.
        """
        wanted = _float(dtype)
        _check_scale("exponential", scale)
        drawn = self._from_bits("exponential_from_bits", shape, wanted)
        return drawn if _is_number(scale, 1.0) else _scaled(drawn, _parameter(scale, wanted, drawn.shape))

    def gamma(self, alpha: Any, shape: Shape | None = None, scale: Any = 1.0, dtype: Any = None) -> Tensor:
        """Gamma numbers of shape parameter `alpha` and mean alpha * `scale`; `shape` is that of `alpha` if not given.

        By rejection (G. Marsaglia, W. Tsang, A simple method for generating gamma variables, 2000) with at most 16 candidates a
        number; all are refused with probability below 2**-69. Gradients flow to `scale`; by `alpha` there is none: an error.
        Numbers of a small `alpha` may underflow to 0.

        >>> import graphc as gx
        >>> gx.random.Generator(0).gamma(0.5, (2, 3)).shape
        (2, 3)

        Raises
        ------
        ValueError
            If an `alpha` that is known when this is called is not above 0, or a scale is negative.
        """
        wanted = _float(dtype)
        if _is_known(alpha):
            valid = bool(np.all(np.asarray(alpha) > 0))
            _check("gamma", "alpha", alpha, valid, "above 0", "alpha is the shape parameter: the mean over the scale.")
        _check_scale("gamma", scale)
        computed = dtypes.float64 if wanted.bits > 32 else dtypes.float32
        bits = self.bits(_sizes(shape, alpha), np.uint64)
        drawn = op("gamma_from_bits", bits, _parameter(alpha, computed, bits.shape))
        drawn = convert(drawn, wanted.numpy)
        return drawn if _is_number(scale, 1.0) else _scaled(drawn, _parameter(scale, wanted, drawn.shape))

    def truncated_normal(
        self,
        shape: Shape = (),
        low: Any = -2.0,
        high: Any = 2.0,
        mean: Any = 0.0,
        std: Any = 1.0,
        dtype: Any = None,
    ) -> Tensor:
        """Normal numbers, of those from `low` to `high` only: mean + std * z on the condition that they are there.

        By inverting the distribution function in float64. Parameters may be tensors that broadcast to `shape`; gradients flow
        to them.

        >>> import graphc as gx
        >>> x = gx.random.Generator(0).truncated_normal((1000,), 0.5, 1.5)
        >>> bool(((x >= 0.5) & (x <= 1.5)).all())
        True

        Raises
        ------
        ValueError
            For parameters that are known when this is called: if `low` is not below `high`, or `std` not above 0, or both ends
            are more than 37 standard deviations to one side of the mean, where the distribution is 0 in float64.
        """
        wanted = _float(dtype)
        if _is_known(low, high, mean, std):
            _check_truncation(low, high, mean, std)
        unit = _wide(op("open_uniform", self.bits(shape, np.uint32 if wanted.bits <= 32 else np.uint64)))
        center, width = (_wide(x) for x in (mean, std))
        first, last = (apply_ufunc("divide", apply_ufunc("subtract", _wide(x), center), width) for x in (low, high))
        # The tail on the left is accurate however thin, so an interval to the right of the mean is turned about.
        right = apply_ufunc("greater", first, 0.0)
        first, last = where(right, _negated(last), first), where(right, _negated(first), last)
        below, above = op("normal_cdf", first), op("normal_cdf", last)
        size = apply_ufunc("subtract", above, below)
        place = op("scale_shift", unit, _fitted(size, unit.shape), _fitted(below, unit.shape))
        z = op("normal_quantile", place)
        z = where(right, _negated(z), z)
        x = op("scale_shift", z, _fitted(width, z.shape), _fitted(center, z.shape))
        bounds = (_parameter(b, wanted, x.shape) for b in (low, high))
        return minimum(maximum(convert(x, wanted.numpy), next(bounds)), next(bounds))

    def categorical(self, logits: Any, axis: int = -1, shape: Shape | None = None) -> Tensor:
        """Numbers of classes (int64), drawn with the probabilities softmax(logits) along `axis`.

        The class whose logit plus a Gumbel number is greatest, the first of equal ones. -inf is never drawn where another logit
        is finite; a row with NaN gives the place of the first NaN.

        Parameters
        ----------
        logits
            Floats: logarithms of probabilities that need not add up to 1.
        axis
            The axis of classes.
        shape
            The shape of the result; the shape of `logits` without `axis` must broadcast to it, and is the default.

        >>> import graphc as gx
        >>> gx.random.Generator(0).categorical([0.0, -float("inf")], shape=4).tolist()
        [0, 0, 0, 0]
        """
        given = as_tensor(logits)
        dtype = given.type.dtype
        if not dtype.is_float:
            raise DTypeError(
                message(
                    "categorical: logits are floats",
                    operands=[("logits", describe(given))],
                    location=user_location(),
                    hint="Take np.log of probabilities, or use choice(n, p=probabilities).",
                )
            )
        rows = moveaxis(given, normalize_axis("categorical", axis, given.ndim, given), -1)
        if dtype.is_short_float:
            rows = convert(rows, np.float32)
        count = rows.shape[-1]
        if not count:
            raise ShapeError(
                message(
                    "categorical: there are no classes",
                    operands=[("logits", describe(given))],
                    location=user_location(),
                    hint=f"Axis {axis} of the logits must have a size of 1 or more.",
                )
            )
        sizes = draw_shape(rows.shape[:-1] if shape is None else shape)
        noise = op("gumbel_from_bits", self.bits((*sizes, count), np.uint32 if dtype.bits <= 32 else np.uint64))
        one = broadcast_to(as_tensor(np.ones((), rows.dtype)), noise.shape)
        # Two roundings, never one: the sum has the same bits in all modes.
        return argmax(op("scale_shift", _fitted(rows, noise.shape), one, noise), axis=-1)

    def choice(self, a: Any, shape: Shape = (), replace: bool = True, p: Any = None, axis: int = 0) -> Tensor:
        """Elements drawn from 0 .. a-1 (int64) for an integer, else from `a` along an axis; as `numpy.random.Generator.choice`.

        With replacement by inverting the cumulative sum of `p`; without, the order of exponential numbers over `p` (P.
        Efraimidis, P. Spirakis, Weighted random sampling with a reservoir, 2006), which is that of drawing one after the other.

        Parameters
        ----------
        a
            A count, or an array.
        shape
            The shape of the draw; further axes of `a` follow it.
        replace
            Whether an element may come up again.
        p
            The probability of each element, equal if not given. A tensor's are divided by their sum; others must add up to 1.
        axis
            The axis of `a` that is drawn from.

        >>> import graphc as gx
        >>> sorted(gx.random.Generator(0).choice(3, 3, replace=False).tolist())
        [0, 1, 2]

        Raises
        ------
        ValueError
            If there is nothing to draw, too little to draw without replacement, or `p` is not a distribution over the elements.
        """
        whole = np.ndim(a) == 0 if not isinstance(a, Tensor) else a.ndim == 0
        source = None if whole else as_tensor(a)
        number = 0 if source is None else normalize_axis("choice", axis, source.ndim, source)
        count = integer("choice", "a", a) if source is None else source.shape[number]
        sizes = draw_shape(shape)
        wanted = math.prod(sizes)
        weights = None if p is None else _weights(p, count)
        _check_count(count, wanted, replace, p)
        if not replace:
            places = reshape(take(self._order(count, weights), np.arange(wanted), axis=0), sizes)
        elif weights is None:
            places = self.integers(max(count, 1), shape=sizes)
        else:
            total = cumsum(weights)
            share = apply_ufunc("divide", total, total[-1])  # type: ignore[index]
            places = searchsorted(share, self._unit(sizes, dtypes.float64), side="right")
        return places if source is None else take(source, places, axis=number)

    def _order(self, count: int, weights: Tensor | None) -> Tensor:
        """A random order of 0 .. count-1; equal keys (64 bits: with probability below count**2 / 2**65) keep theirs."""
        keys = self.bits((count,), np.uint64)
        if weights is not None:
            keys = apply_ufunc("divide", op("exponential_from_bits", keys), weights)
        return argsort(keys)

    def permutation(self, x: Any) -> Tensor:
        """A random permutation of 0 .. x-1 (int64) for an integer, else `x` with its first axis permuted.

        The order of 64-bit keys; equal ones, which there are with probability below n**2 / 2**65, keep their order.
        """
        whole = np.ndim(x) == 0 if not isinstance(x, Tensor) else x.ndim == 0
        source = None if whole else as_tensor(x)
        order = self._order(integer("permutation", "x", x) if source is None else source.shape[0], None)
        return order if source is None else take(source, order, axis=0)

    def _from_bits(self, name: str, shape: Shape, dtype: DType) -> Tensor:
        return convert(op(name, self.bits(shape, np.uint32 if dtype.bits <= 32 else np.uint64)), dtype.numpy)


def _negated(x: Tensor) -> Tensor:
    return op("negative", x)


def _scaled(x: Tensor, scale: Tensor) -> Tensor:
    """x * scale, rounded whatever follows. -0.0 is what adds nothing, not even to a zero's sign."""
    return op("scale_shift", x, scale, broadcast_to(as_tensor(np.asarray(-0.0, x.dtype)), x.shape))


def _check_truncation(low: Any, high: Any, mean: Any, std: Any) -> None:
    name = "truncated_normal"
    first, last, center, width = (np.asarray(x, np.float64) for x in (low, high, mean, std))
    between = bool(np.all(first < last))
    _check(name, "low", low, between, f"below high = {high}", "Numbers are drawn from between them.")
    _check(name, "std", std, bool(np.all(width > 0)), "above 0", "It is the standard deviation before truncation.")
    valid = bool(np.all(((first - center) / width < _FAR) & ((last - center) / width > -_FAR)))
    must = f"such that numbers within {_FAR:g} standard deviations of the mean are in the interval"
    _check(name, "low", low, valid, must, "Farther out the normal distribution is 0 in float64.")


def _weights(p: Any, count: int) -> Tensor:
    """Probabilities as float64, checked as far as they are known."""
    weights = _wide(p)
    if weights.shape != (count,):
        raise ShapeError(
            message(
                f"choice: p must have a probability for each of the {count} elements",
                operands=[("p", describe(weights))],
                location=user_location(),
                hint="It has one axis, whose size is the number of elements.",
            )
        )
    if _is_known(p):
        known = np.asarray(p, np.float64)
        _check("choice", "p", p, bool(np.all(known >= 0)), "0 or greater", "They are probabilities, not logarithms.")
        near = count == 0 or abs(float(known.sum()) - 1) <= 1.5e-8 or _adds_up(p)
        _check("choice", "p", p, near, f"1 in all, not {known.sum():.9g}", "Divide p by its sum.")
    return weights


def _adds_up(p: Any) -> bool:
    """Whether probabilities of a narrow dtype add up to 1 within its precision."""
    array = np.asarray(p)
    if array.dtype.kind != "f" or array.dtype.itemsize > 4:
        return False
    return bool(abs(float(array.sum(dtype=np.float64)) - 1) <= math.sqrt(float(np.finfo(array.dtype).eps)))


def _check_count(count: int, wanted: int, replace: bool, p: Any) -> None:
    if wanted and not count:
        reason, hint = "there is nothing to draw from", "Draw from 1 element or more."
    elif not replace and wanted > count:
        reason, hint = (
            f"{wanted} of {count} elements cannot be drawn without replacement",
            "Use replace=True, or draw fewer.",
        )
    elif not replace and p is not None and _is_known(p) and wanted > np.count_nonzero(np.asarray(p)):
        reason = f"fewer than {wanted} elements have a probability above 0"
        hint = "Use replace=True, or draw fewer."
    else:
        return
    raise OptionError(message(f"choice: {reason}", location=user_location(), hint=hint))
