"""Layers of normalisation. Layer 6. Names, defaults, parameters and buffers are PyTorch's."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from graphc.errors import ShapeError, message
from graphc.frontend import context
from graphc.frontend.promotion import as_tensor, convert, describe
from graphc.frontend.shaping import expand_dims, squeeze
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, default_dtype
from graphc.nn import functional
from graphc.nn.module import Module, Parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "RMSNorm",
]


class _Channels(Module):
    """What batch and instance normalisation have in common: a weight, a bias and running statistics for each channel."""

    ranks: ClassVar[tuple[int, ...]]
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = None,
    ) -> None:
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        dtype = default_dtype() if dtype is None else dtype
        self.weight = Parameter(np.ones(num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_features, dtype)) if affine else None
        tracked = track_running_stats
        self.register_buffer("running_mean", np.zeros(num_features, dtype) if tracked else None)
        self.register_buffer("running_var", np.ones(num_features, dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)

    def reset_running_stats(self) -> None:
        """Running means to 0, variances to 1, the count of batches to 0."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        with context.no_grad():
            for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
                buffer.assign(as_tensor(np.full(buffer.shape, value, buffer.dtype)))

    def _checked(self, input: Any) -> Tensor:
        x = as_tensor(input)
        if x.ndim not in self.ranks or x.shape[self._axis(x)] != self.num_features:
            ranks = " or ".join(str(rank) for rank in self.ranks)
            raise ShapeError(
                message(
                    f"{type(self).__name__}: the input must have rank {ranks} and {self.num_features} channels",
                    operands=[("input", describe(x))],
                    location=user_location(),
                    hint="Make the layer for the number of channels, and for the number of axes after them.",
                )
            )
        return x

    def _axis(self, x: Tensor) -> int:
        """The axis of the channels."""
        return 1

    def extra_repr(self) -> str:
        """The options."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_Channels):
    def forward(self, input: Any) -> Tensor:
        """Same shape as the input."""
        x = self._checked(input)
        momentum: Any = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            with context.no_grad():
                count: Any = self.num_batches_tracked
                self.num_batches_tracked.assign(count + 1)
                if self.momentum is None:
                    seen: Any = convert(self.num_batches_tracked, np.float64)
                    momentum = 1.0 / seen
        own = self.training or self.running_mean is None
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, own, momentum, self.eps
        )


class BatchNorm1d(_BatchNorm):
    """`functional.batch_norm` of [N, C] or [N, C, L] with a weight (ones) and a bias (zeros) for each channel.

    Parameters
    ----------
    num_features
        C.
    eps
        Added to the variance.
    momentum
        The share of a new batch in the running statistics; None for their plain average.
    affine
        Whether there are a weight and a bias.
    track_running_stats
        Whether buffers `running_mean`, `running_var` and `num_batches_tracked` are kept; evaluation mode uses them.
    dtype
        Of the parameters and buffers; the default dtype if not given.

    >>> import numpy as np
    >>> from graphc import nn
    >>> layer = nn.BatchNorm1d(2)
    >>> layer(np.array([[1.0, 2.0], [3.0, 2.0]], np.float32)).shape
    (2, 2)
    >>> layer.running_mean.tolist()
    [0.20000000298023224, 0.20000000298023224]
    """

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """`functional.batch_norm` of [N, C, H, W]; parameters as in `BatchNorm1d`."""

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """`functional.batch_norm` of [N, C, D, H, W]; parameters as in `BatchNorm1d`."""

    ranks = (5,)


class _InstanceNorm(_Channels):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    def _axis(self, x: Tensor) -> int:
        return x.ndim - max(self.ranks) + 1

    def forward(self, input: Any) -> Tensor:
        """Same shape as the input, with or without N."""
        x = self._checked(input)
        single = x.ndim == min(self.ranks)
        momentum = 0.0 if self.momentum is None else self.momentum
        own = self.training or self.running_mean is None
        y = functional.instance_norm(
            expand_dims(x, axis=0) if single else x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            own,
            momentum,
            self.eps,
        )
        return squeeze(y, axis=0) if single else y


class InstanceNorm1d(_InstanceNorm):
    """`functional.instance_norm` of [N, C, L] or [C, L]; parameters as in `BatchNorm1d`, by default without weight, bias
    and running statistics."""

    ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """`functional.instance_norm` of [N, C, H, W] or [C, H, W]; see `InstanceNorm1d`."""

    ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """`functional.instance_norm` of [N, C, D, H, W] or [C, D, H, W]; see `InstanceNorm1d`."""

    ranks = (4, 5)


class GroupNorm(Module):
    """`functional.group_norm` with a weight (ones) and a bias (zeros) for each channel."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, dtype: Any = None
    ) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise ShapeError(
                message(
                    f"GroupNorm: {num_groups} groups must divide {num_channels} channels",
                    location=user_location(),
                    hint="With one group all channels are normalised together, with as many as channels each by itself.",
                )
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        dtype = default_dtype() if dtype is None else dtype
        self.weight = Parameter(np.ones(num_channels, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_channels, dtype)) if affine else None

    def forward(self, input: Any) -> Tensor:
        """[N, C, ...], same shape as the input."""
        return functional.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The options."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class LayerNorm(Module):
    """`functional.layer_norm` over the last axes, of sizes `normalized_shape` (an integer or several), with a weight
    (ones) and a bias (zeros) of these sizes."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        self.normalized_shape = _sizes(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        dtype = default_dtype() if dtype is None else dtype
        self.weight = Parameter(np.ones(self.normalized_shape, dtype)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(self.normalized_shape, dtype)) if elementwise_affine and bias else None

    def forward(self, input: Any) -> Tensor:
        """Same shape as the input."""
        return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The options."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(Module):
    """`functional.rms_norm` over the last axes, of sizes `normalized_shape`, with a weight (ones) of these sizes."""

    weight: Parameter | None

    def __init__(
        self, normalized_shape: Any, eps: float | None = None, elementwise_affine: bool = True, dtype: Any = None
    ) -> None:
        self.normalized_shape = _sizes(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        dtype = default_dtype() if dtype is None else dtype
        self.weight = Parameter(np.ones(self.normalized_shape, dtype)) if elementwise_affine else None

    def forward(self, input: Any) -> Tensor:
        """Same shape as the input."""
        return functional.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """The options."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


def _sizes(normalized_shape: Any) -> tuple[int, ...]:
    sizes = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
    if not sizes or math.prod(sizes) < 1:
        raise ShapeError(
            message(
                f"normalized_shape is one size or several, not {normalized_shape!r}",
                location=user_location(),
                hint="Give the sizes of the input's last axes.",
            )
        )
    return sizes
