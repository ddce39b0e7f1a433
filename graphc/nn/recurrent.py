"""Recurrent layers and cells. Layer 6. Names, gates, defaults and parameters are PyTorch's.

A layer multiplies the whole input by its weights in one product; `scan` carries the hidden state along it, so code does not
grow with the length.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np

from graphc.errors import OptionError, ShapeError, message
from graphc.frontend import elementwise, products, shaping
from graphc.frontend.control import scan
from graphc.frontend.promotion import as_tensor, describe
from graphc.frontend.random import Generator
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, default_dtype
from graphc.nn import functional, init
from graphc.nn.module import Module, Parameter

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

#: How many gates a kind has: rows of its weights over the hidden size.
_GATES = {"rnn": 1, "lstm": 4, "gru": 3}
_NONLINEARITIES = {"tanh": functional.tanh, "relu": functional.relu}


class _Weights(NamedTuple):
    """[gates * hidden, input], [gates * hidden, hidden], and their biases."""

    input: Any
    hidden: Any
    input_bias: Any
    hidden_bias: Any


def _gates(x: Any, count: int) -> list[Any]:
    """The last axis cut into as many parts."""
    size = x.shape[-1] // count
    return [shaping.slice_axis(x, x.ndim - 1, i * size, size) for i in range(count)]


def _step(kind: str, gates: Any, state: tuple[Any, ...], weights: _Weights, nonlinearity: str) -> tuple[Any, ...]:
    """The next state; `gates` is the input times its weights, with their bias."""
    hidden = state[0]
    own: Any = products.matmul(hidden, shaping.permute_dims(weights.hidden, (1, 0)))
    if weights.hidden_bias is not None:
        own = elementwise.add(own, weights.hidden_bias)
    if kind == "gru":
        # Cho et al., EMNLP 2014, with the reset gate behind the product.
        reset, update, new = _gates(gates, 3)
        own_reset, own_update, own_new = _gates(own, 3)
        r = functional.sigmoid(reset + own_reset)
        z: Any = functional.sigmoid(update + own_update)
        n: Any = functional.tanh(new + r * own_new)
        return (n + z * (hidden - n),)
    total = gates + own
    if kind == "rnn":
        return (_NONLINEARITIES[nonlinearity](total),)
    i, f, g, o = _gates(total, 4)
    # Hochreiter and Schmidhuber, Neural Computation 1997, with forget gates.
    kept, filled = elementwise.multiply(functional.sigmoid(f), state[1]), functional.sigmoid(i)
    cell: Any = elementwise.add(kept, elementwise.multiply(filled, functional.tanh(g)))
    out: Any = functional.sigmoid(o)
    return out * functional.tanh(cell), cell


def _nonlinearity(given: str) -> str:
    if given not in _NONLINEARITIES:
        raise OptionError(
            message(
                f"there is no nonlinearity {given!r}",
                location=user_location(),
                hint="nonlinearity is 'tanh' or 'relu'.",
            )
        )
    return given


class _Recurrent(Module):
    """Sizes and parameters of cells and layers; uniform in +-1/sqrt(hidden_size) at first."""

    kind: ClassVar[str]
    input_size: int
    hidden_size: int
    nonlinearity: str = "tanh"

    def _create(self, suffix: str, inputs: int, bias: bool, dtype: Any, generator: Any) -> None:
        rows = _GATES[self.kind] * self.hidden_size
        bound = 1.0 / math.sqrt(max(self.hidden_size, 1))
        for name, shape in (("weight_ih", (rows, inputs)), ("weight_hh", (rows, self.hidden_size))):
            self.register_parameter(name + suffix, Parameter(np.zeros(shape, dtype)))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name + suffix, Parameter(np.zeros(rows, dtype)) if bias else None)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            parameter = getattr(self, name + suffix)
            if parameter is not None:
                init.uniform_(parameter, -bound, bound, generator)

    def _weights(self, suffix: str) -> _Weights:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return _Weights(*(getattr(self, name + suffix) for name in names))

    def _fault(self, what: str, hint: str, **operands: Any) -> ShapeError:
        shown = [(name, describe(x)) for name, x in operands.items()]
        return ShapeError(
            message(f"{type(self).__name__}: {what}", operands=shown, location=user_location(), hint=hint)
        )


class _Cell(_Recurrent):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        self.input_size = input_size
        self.hidden_size = hidden_size
        self._create("", input_size, bias, default_dtype() if dtype is None else dtype, generator)

    def _next(self, input: Any, state: Any, count: int) -> tuple[Any, ...]:
        x = as_tensor(input)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise self._fault(
                f"the input must be [N, {self.input_size}]", "One step of N sequences, or [input_size] of one.", input=x
            )
        shape = (*x.shape[:-1], self.hidden_size)
        if state is None:
            state = tuple(as_tensor(np.zeros(shape, x.dtype)) for _ in range(count))
        state = tuple(as_tensor(s) for s in state)
        if any(s.shape != shape for s in state):
            raise self._fault(f"the state must be {list(shape)}", "One row a sequence.", input=x, state=state[0])
        single = x.ndim == 1
        if single:
            x, state = shaping.expand_dims(x, axis=0), tuple(shaping.expand_dims(s, axis=0) for s in state)
        weights = self._weights("")
        gates = functional.linear(x, weights.input, weights.input_bias)
        found = _step(self.kind, gates, state, weights, self.nonlinearity)
        return tuple(shaping.squeeze(s, axis=0) for s in found) if single else found

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.input_size}, {self.hidden_size}"


class RNNCell(_Cell):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu.

    >>> import numpy as np
    >>> from graphc import nn
    >>> nn.RNNCell(3, 4)(np.ones((2, 3), np.float32)).shape
    (2, 4)
    """

    kind = "rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype, generator=generator)
        self.nonlinearity = _nonlinearity(nonlinearity)

    def forward(self, input: Any, hx: Any = None) -> Tensor:
        """[N, input_size] and [N, hidden_size] (zeros if not given) to the next [N, hidden_size]."""
        found: Tensor = self._next(input, None if hx is None else (hx,), 1)[0]
        return found


class GRUCell(_Cell):
    """r = s(x_r + h_r), z = s(x_z + h_z), n = tanh(x_n + r h_n), h' = (1 - z) n + z h; x_. and h_. are products with rows of
    the weights, with their biases."""

    kind = "gru"

    def forward(self, input: Any, hx: Any = None) -> Tensor:
        """[N, input_size] and [N, hidden_size] (zeros if not given) to the next [N, hidden_size]."""
        found: Tensor = self._next(input, None if hx is None else (hx,), 1)[0]
        return found


class LSTMCell(_Cell):
    """i, f, o = s(.), g = tanh(.), c' = f c + i g, h' = o tanh(c'), with gates in the order i, f, g, o."""

    kind = "lstm"

    def forward(self, input: Any, hx: Any = None) -> tuple[Tensor, Tensor]:
        """[N, input_size] and (h, c), each [N, hidden_size] (zeros if not given), to the next (h, c)."""
        h, c = self._next(input, hx, 2)
        return h, c


class _Layers(_Recurrent):
    states: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        functional.check_probability(f"{type(self).__name__}: dropout", dropout)
        if num_layers < 1:
            raise self._fault("num_layers is 1 or more", f"It is {num_layers}.")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.generator = generator
        dtype = default_dtype() if dtype is None else dtype
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else hidden_size * self._directions
            for suffix in self._suffixes(layer):
                self._create(suffix, inputs, bias, dtype, generator)

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions]

    def _run(self, input: Any, hx: Any, lengths: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Outputs, laid out as the input, and the last states [layers * directions, N, hidden]."""
        x = as_tensor(input)
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise self._fault(
                f"the input must end in {self.input_size}",
                "It is [L, N, input_size], or [N, L, input_size] with batch_first, or [L, input_size].",
                input=x,
            )
        single = x.ndim == 2
        if single:
            x = shaping.expand_dims(x, axis=1)
        elif self.batch_first:
            x = shaping.swapaxes(x, 0, 1)
        states = self._initial(x, hx, single)
        valid = None if lengths is None else self._valid(x, lengths)
        last: list[tuple[Any, ...]] = []
        for layer in range(self.num_layers):
            if layer and self.training:
                x = functional.dropout(x, self.dropout, True, self.generator)
            found = []
            for suffix in self._suffixes(layer):
                start = tuple(shaping.squeeze(shaping.slice_axis(s, 0, len(last), 1), axis=0) for s in states)
                ys, end = self._direction(x, start, self._weights(suffix), valid, suffix.endswith("reverse"))
                found.append(ys)
                last.append(end)
            x = found[0] if len(found) == 1 else shaping.concat(found, axis=-1)
        ends = tuple(shaping.stack(parts, axis=0) for parts in zip(*last, strict=True))
        if single:
            return shaping.squeeze(x, axis=1), tuple(shaping.squeeze(s, axis=1) for s in ends)
        return (shaping.swapaxes(x, 0, 1) if self.batch_first else x), ends

    def _initial(self, x: Any, hx: Any, single: bool) -> tuple[Any, ...]:
        shape = (self.num_layers * self._directions, x.shape[1], self.hidden_size)
        if hx is None:
            return tuple(as_tensor(np.zeros(shape, x.dtype)) for _ in range(self.states))
        given = tuple(as_tensor(s) for s in (hx if self.states > 1 else (hx,)))
        given = tuple(shaping.expand_dims(s, axis=1) for s in given) if single else given
        if len(given) != self.states or any(s.shape != shape for s in given):
            raise self._fault(
                f"the first state must be {list(shape)}",
                "Its axes are layers times directions, N, hidden_size.",
                state=given[0],
            )
        return given

    def _valid(self, x: Any, lengths: Any) -> Tensor:
        """[L, N, 1] bools: whether step t of a sequence is before its end."""
        given = as_tensor(lengths)
        if given.shape != (x.shape[1],) or not given.type.dtype.is_integer:
            raise self._fault(
                f"lengths must be {x.shape[1]} integers", "One for each sequence of the batch.", lengths=given
            )
        steps = np.arange(x.shape[0]).reshape(-1, 1, 1)
        return elementwise.less(steps, shaping.reshape(given, (1, x.shape[1], 1)))

    def _direction(
        self, x: Any, start: tuple[Any, ...], weights: _Weights, valid: Any, reverse: bool
    ) -> tuple[Any, tuple[Any, ...]]:
        """Outputs [L, N, hidden] and the last state of one layer in one direction.

        Beyond its end a sequence keeps its state, and its outputs are zero.
        """
        gates = functional.linear(x, weights.input, weights.input_bias)

        def body(state: tuple[Any, ...], xs: Any) -> tuple[tuple[Any, ...], Any]:
            now, counts = xs
            new = _step(self.kind, now, state, weights, self.nonlinearity)
            if counts is None:
                return new, new[0]
            kept = tuple(elementwise.where(counts, n, s) for n, s in zip(new, state, strict=True))
            return kept, elementwise.where(counts, new[0], 0)

        end, ys = scan(body, start, (gates, valid), reverse=reverse)
        return ys, end

    def extra_repr(self) -> str:
        """Sizes; what has its default is left out."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        parts += [f"num_layers={self.num_layers}"] if self.num_layers > 1 else []
        for name in ("batch_first", "dropout", "bidirectional"):
            parts += [f"{name}={getattr(self, name)}"] if getattr(self, name) else []
        return ", ".join(parts)


class RNN(_Layers):
    """Layers of `RNNCell` along sequences.

    Parameters
    ----------
    input_size, hidden_size, num_layers
        Sizes; layer k reads the outputs of layer k-1.
    nonlinearity
        "tanh" or "relu".
    bias
        Whether there are biases.
    batch_first
        Whether sequences are [N, L, size] and not [L, N, size]; without a batch they are [L, size].
    dropout
        Between layers, in training mode.
    bidirectional
        Whether a second set of weights runs from the end; outputs are put side by side.

    Called with the input, the first state [layers * directions, N, hidden_size] (zeros if not given) and `lengths` (N integers,
    in the place of PyTorch's packed sequences: beyond them outputs are zero), gives outputs and the last state.

    >>> import numpy as np
    >>> from graphc import nn
    >>> output, h = nn.RNN(3, 4, bidirectional=True)(np.ones((5, 2, 3), np.float32))
    >>> output.shape, h.shape
    ((5, 2, 8), (2, 2, 4))
    """

    kind = "rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            generator=generator,
        )
        self.nonlinearity = _nonlinearity(nonlinearity)

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """Outputs [L, N, directions * hidden_size] and the last state."""
        output, (h,) = self._run(input, hx, lengths)
        return output, h


class GRU(_Layers):
    """Layers of `GRUCell` along sequences; parameters and calls as in `RNN`."""

    kind = "gru"

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """Outputs [L, N, directions * hidden_size] and the last state."""
        output, (h,) = self._run(input, hx, lengths)
        return output, h


class LSTM(_Layers):
    """Layers of `LSTMCell` along sequences; parameters and calls as in `RNN`, with a pair (h, c) as state."""

    kind = "lstm"
    states = 2

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Outputs [L, N, directions * hidden_size] and the last (h, c)."""
        output, (h, c) = self._run(input, hx, lengths)
        return output, (h, c)
