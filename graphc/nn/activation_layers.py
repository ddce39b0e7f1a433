"""Layers of activations, dropout of whole channels, and the bilinear layer. Layer 6. Names and parameters are PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.errors import ShapeError, message
from graphc.frontend import elementwise, products
from graphc.frontend.promotion import as_tensor, describe
from graphc.frontend.random import Generator, default_generator
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, default_dtype
from graphc.nn import functional, init
from graphc.nn.activations import alpha_dropout_constants
from graphc.nn.layers import Dropout
from graphc.nn.module import Module, Parameter
from graphc.nn.spatial_layers import function_layer

__all__ = [
    "CELU",
    "ELU",
    "GLU",
    "SELU",
    "AlphaDropout",
    "Bilinear",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU6",
    "SiLU",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanhshrink",
    "Threshold",
]

CELU = function_layer("CELU", "celu", ("alpha",), __name__)
ELU = function_layer("ELU", "elu", ("alpha",), __name__)
GLU = function_layer("GLU", "glu", ("dim",), __name__)
SELU = function_layer("SELU", "selu", (), __name__)
Hardshrink = function_layer("Hardshrink", "hardshrink", ("lambd",), __name__)
Hardsigmoid = function_layer("Hardsigmoid", "hardsigmoid", (), __name__)
Hardswish = function_layer("Hardswish", "hardswish", (), __name__)
Hardtanh = function_layer("Hardtanh", "hardtanh", ("min_val", "max_val"), __name__)
LeakyReLU = function_layer("LeakyReLU", "leaky_relu", ("negative_slope",), __name__)
LogSigmoid = function_layer("LogSigmoid", "logsigmoid", (), __name__)
LogSoftmax = function_layer("LogSoftmax", "log_softmax", ("dim",), __name__)
Mish = function_layer("Mish", "mish", (), __name__)
ReLU6 = function_layer("ReLU6", "relu6", (), __name__)
SiLU = function_layer("SiLU", "silu", (), __name__)
Softmin = function_layer("Softmin", "softmin", ("dim",), __name__)
Softplus = function_layer("Softplus", "softplus", (), __name__)
Softshrink = function_layer("Softshrink", "softshrink", ("lambd",), __name__)
Softsign = function_layer("Softsign", "softsign", (), __name__)
Tanhshrink = function_layer("Tanhshrink", "tanhshrink", (), __name__)
Threshold = function_layer("Threshold", "threshold", ("threshold", "value"), __name__)


class PReLU(Module):
    """`functional.prelu` with a weight for all channels, or one for each (He et al., ICCV 2015)."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = None) -> None:
        self.num_parameters = num_parameters
        self.weight = Parameter(np.full(num_parameters, init, default_dtype() if dtype is None else dtype))

    def forward(self, input: Any) -> Tensor:
        """Same shape as the input."""
        return functional.prelu(input, self.weight)

    def extra_repr(self) -> str:
        """The number of weights."""
        return f"num_parameters={self.num_parameters}"


class _ChannelDropout(Dropout):
    rank: int

    def forward(self, input: Any) -> Tensor:
        """[N, C, spatial axes], or without N, to the same shape."""
        x = as_tensor(input)
        if x.ndim not in (self.rank + 1, self.rank + 2):
            raise ShapeError(
                message(
                    f"{type(self).__name__}: the input must have {self.rank} axes after the channels",
                    operands=[("input", describe(x))],
                    location=user_location(),
                    hint="Dropout drops single elements of any shape.",
                )
            )
        if not self.training or self.p == 0.0:
            return x
        shape = (*x.shape[: x.ndim - self.rank], *(1,) * self.rank)
        return elementwise.multiply(x, functional.dropout(np.ones(shape, x.dtype), self.p, True, self.generator))


class Dropout1d(_ChannelDropout):
    """Whole channels of [N, C, L] to zero with probability p, the others times 1 / (1 - p); in training mode."""

    rank = 1


class Dropout2d(_ChannelDropout):
    """Whole channels of [N, C, H, W] to zero with probability p, the others times 1 / (1 - p); in training mode."""

    rank = 2


class Dropout3d(_ChannelDropout):
    """Whole channels of [N, C, D, H, W] to zero with probability p, the others times 1 / (1 - p); in training mode."""

    rank = 3


class AlphaDropout(Dropout):
    """Dropout for `SELU`: elements are set to its lower limit, then all are scaled to keep mean and variance
    (Klambauer et al., NeurIPS 2017)."""

    def forward(self, input: Any) -> Tensor:
        """Same shape as the input."""
        x = as_tensor(input)
        if not self.training or self.p == 0.0:
            return x
        if self.p == 1.0:
            return elementwise.where(False, x, 0)
        dropped, factor, offset = alpha_dropout_constants(self.p)
        kept = (self.generator or default_generator()).bernoulli(1.0 - self.p, x.shape)
        return elementwise.add(elementwise.multiply(elementwise.where(kept, x, dropped), factor), offset)


class Bilinear(Module):
    """y[o] = x1 @ weight[o] @ x2 + bias[o], with a weight [out, in1, in2] uniform in +-1/sqrt(in1)."""

    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        self.sizes = (in1_features, in2_features, out_features)
        dtype = default_dtype() if dtype is None else dtype
        bound = 1 / math.sqrt(max(in1_features, 1))
        self.weight = Parameter(np.zeros((out_features, in1_features, in2_features), dtype))
        init.uniform_(self.weight, -bound, bound, generator)
        self.bias = Parameter(np.zeros(out_features, dtype)) if bias else None
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound, generator)

    def forward(self, input1: Any, input2: Any) -> Tensor:
        """[..., in1] and [..., in2] to [..., out]."""
        x, y = as_tensor(input1), as_tensor(input2)
        if x.shape[:-1] != y.shape[:-1] or (x.shape[-1:], y.shape[-1:]) != ((self.sizes[0],), (self.sizes[1],)):
            raise ShapeError(
                message(
                    f"Bilinear: inputs must end in {self.sizes[0]} and {self.sizes[1]} and agree before",
                    operands=[("input1", describe(x)), ("input2", describe(y))],
                    location=user_location(),
                    hint="Make the layer for the sizes of the inputs.",
                )
            )
        found: Any = products.tensordot(x, self.weight, axes=([x.ndim - 1], [1]))
        out = products.vecdot(found, y[..., None, :])  # type: ignore[index]
        return out if self.bias is None else elementwise.add(out, self.bias)

    def extra_repr(self) -> str:
        """Sizes, and whether there is a bias."""
        return f"in1_features={self.sizes[0]}, in2_features={self.sizes[1]}, out_features={self.sizes[2]}, " + (
            f"bias={self.bias is not None}"
        )
