"""Layers. Layer 6. Names, defaults and initial distributions are PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.errors import OptionError, message
from graphc.frontend.random import Generator
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, default_dtype
from graphc.nn import functional, init
from graphc.nn.module import Module, Parameter

__all__ = ["GELU", "Dropout", "Flatten", "Identity", "Linear", "ReLU", "Sigmoid", "Softmax", "Tanh"]


def _size(name: str, size: Any) -> int:
    """A size of a layer.

    Raises
    ------
    OptionError
        A ValueError, if it is not an integer from 0 on.
    """
    if not isinstance(size, (int, np.integer)) or size < 0:
        raise OptionError(
            message(f"{name} is a size, not {size!r}", location=user_location(), hint="Sizes are integers from 0 on.")
        )
    return int(size)


class Linear(Module):
    """y = x @ weight.T + bias.

    Parameters
    ----------
    in_features, out_features
        Sizes of the last axis of x and of y; `weight` is [out_features, in_features], `bias` [out_features].
    bias
        Whether there is a bias.
    dtype
        Of the parameters; the default dtype if not given.
    generator
        For the initial values, uniform in +-1/sqrt(in_features); the default generator if not given.

    >>> import numpy as np
    >>> from graphc import nn
    >>> nn.Linear(3, 2)(np.ones((5, 3), np.float32)).shape
    (5, 2)
    """

    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        self.in_features = _size("in_features", in_features)
        self.out_features = _size("out_features", out_features)
        dtype = default_dtype() if dtype is None else dtype
        bound = 1 / math.sqrt(max(in_features, 1))
        self.weight = Parameter(np.zeros((out_features, in_features), dtype))
        init.uniform_(self.weight, -bound, bound, generator)
        self.bias = Parameter(np.zeros(out_features, dtype)) if bias else None
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound, generator)

    def forward(self, input: Any) -> Tensor:
        """[..., in_features] to [..., out_features]."""
        return functional.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes, and whether there is a bias."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Identity(Module):
    """The input itself; takes and ignores any options."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def forward(self, input: Any) -> Any:
        """The input."""
        return input


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, input: Any) -> Tensor:
        """Elementwise; any shape."""
        return functional.relu(input)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, input: Any) -> Tensor:
        """Elementwise; any shape."""
        return functional.tanh(input)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, input: Any) -> Tensor:
        """Elementwise; any shape."""
        return functional.sigmoid(input)


class GELU(Module):
    """x * Phi(x); `approximate="tanh"` for the cheaper form."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, input: Any) -> Tensor:
        """Elementwise; any shape."""
        return functional.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        """The approximation."""
        return f"approximate={self.approximate!r}"


class Softmax(Module):
    """exp(x) / sum(exp(x)) along an axis."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        """Same shape as the input."""
        return functional.softmax(input, dim=self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"


class Flatten(Module):
    """Axes `start_dim` to `end_dim` made one; by default all but the first."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Any) -> Tensor:
        """[a, b, c, ...] to [a, b * c * ...] by default."""
        return functional.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """The axes."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Dropout(Module):
    """In training mode, each element is set to zero with probability p and the others are scaled by 1 / (1 - p)
    (Srivastava et al., JMLR 2014); in evaluation mode, the input itself."""

    def __init__(self, p: float = 0.5, *, generator: Generator | None = None) -> None:
        functional.check_probability("Dropout", p)
        self.p = p
        self.generator = generator

    def forward(self, input: Any) -> Tensor:
        """Same shape as the input."""
        return functional.dropout(input, self.p, self.training, self.generator)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"
