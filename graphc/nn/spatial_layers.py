"""Layers of convolution, pooling and resampling. Layer 6. Names, defaults and initial distributions are PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from graphc.errors import ShapeError, StructureError, message
from graphc.frontend.random import Generator
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, default_dtype
from graphc.frontend.windowing import per_axis
from graphc.nn import functional, init
from graphc.nn.module import Module, Parameter

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Fold",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "PixelShuffle",
    "PixelUnshuffle",
    "Unfold",
    "Upsample",
]


class _Convolution(Module):
    """What convolutions have in common: sizes, and a weight whose bound is 1 / sqrt(what one output element sums)."""

    rank: ClassVar[int]
    transposed: ClassVar[bool] = False
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        name = type(self).__name__
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ShapeError(
                message(
                    f"{name}: {groups} groups must divide {in_channels} input and {out_channels} output channels",
                    location=user_location(),
                    hint="groups=in_channels convolves each channel by itself.",
                )
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = per_axis(name, "kernel_size", kernel_size, self.rank, least=1)
        self.stride = per_axis(name, "stride", stride, self.rank, least=1)
        self.padding = padding if isinstance(padding, str) else per_axis(name, "padding", padding, self.rank, least=0)
        self.dilation = per_axis(name, "dilation", dilation, self.rank, least=1)
        self.groups = groups
        channels = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = (channels[0], channels[1] // groups, *self.kernel_size)
        bound = 1 / math.sqrt(max(math.prod(shape[1:]), 1))
        dtype = default_dtype() if dtype is None else dtype
        self.weight = Parameter(np.zeros(shape, dtype))
        init.uniform_(self.weight, -bound, bound, generator)
        self.bias = Parameter(np.zeros(out_channels, dtype)) if bias else None
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound, generator)

    def forward(self, input: Any) -> Tensor:
        """[N, in_channels, spatial axes], or without N, to as many axes with out_channels."""
        function = getattr(functional, f"conv{self.rank}d")
        found: Tensor = function(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return found

    def extra_repr(self) -> str:
        """Channels and sizes; what has its default is left out."""
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if isinstance(self.padding, str) or any(self.padding):
            parts.append(f"padding={self.padding!r}")
        if any(d != 1 for d in self.dilation):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)


class Conv1d(_Convolution):
    """`functional.conv1d` with a weight [out, in / groups, K] and a bias [out], both uniform in +-1/sqrt(in / groups * K).

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups
        As in `functional.conv1d`.
    bias
        Whether there is a bias.
    dtype
        Of the parameters; the default dtype if not given.
    generator
        For the initial values; the default generator if not given.
    """

    rank = 1


class Conv2d(_Convolution):
    """`functional.conv2d` with a weight [out, in / groups, KH, KW]; parameters as in `Conv1d`."""

    rank = 2


class Conv3d(_Convolution):
    """`functional.conv3d` with a weight [out, in / groups, KD, KH, KW]; parameters as in `Conv1d`."""

    rank = 3


class _Transposed(_Convolution):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            dtype,
            generator=generator,
        )
        self.output_padding = per_axis(type(self).__name__, "output_padding", output_padding, self.rank, least=0)

    def forward(self, input: Any) -> Tensor:
        """[N, in_channels, spatial axes], or without N, to as many axes with out_channels."""
        function = getattr(functional, f"conv_transpose{self.rank}d")
        found: Tensor = function(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )
        return found


class ConvTranspose1d(_Transposed):
    """`functional.conv_transpose1d` with a weight [in, out / groups, K] and a bias [out], both uniform in
    +-1/sqrt(out / groups * K); parameters as in `Conv1d`, and `output_padding`."""

    rank = 1


class ConvTranspose2d(_Transposed):
    """`functional.conv_transpose2d` with a weight [in, out / groups, KH, KW]; see `ConvTranspose1d`."""

    rank = 2


class ConvTranspose3d(_Transposed):
    """`functional.conv_transpose3d` with a weight [in, out / groups, KD, KH, KW]; see `ConvTranspose1d`."""

    rank = 3


class _Function(Module):
    """A layer without parameters: `functional.<function>` with the options that the layer was made with."""

    function: ClassVar[str]
    positional: ClassVar[tuple[str, ...]]

    def __init__(self, *args: Any, **options: Any) -> None:
        if len(args) > len(self.positional):
            raise StructureError(
                message(
                    f"{type(self).__name__}: takes at most {len(self.positional)} arguments, not {len(args)}",
                    location=user_location(),
                    hint=f"They are {', '.join(self.positional)}.",
                )
            )
        given = dict(zip(self.positional, args, strict=False))
        unknown = [name for name in options if name not in self.positional or name in given]
        if unknown:
            raise StructureError(
                message(
                    f"{type(self).__name__}: unknown or repeated options {', '.join(unknown)}",
                    location=user_location(),
                    hint=f"Options are {', '.join(self.positional)}.",
                )
            )
        self.options = {**given, **options}

    def forward(self, input: Any) -> Tensor:
        """The function of the input."""
        found: Tensor = getattr(functional, self.function)(input, **self.options)
        return found

    def extra_repr(self) -> str:
        """The options that were given."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


class _Unpool(Module):
    """The inverse of a max pooling of `rank` axes."""

    rank: ClassVar[int]

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding

    def forward(self, input: Any, indices: Any, output_size: Any = None) -> Tensor:
        """`functional.max_unpool` of the layer's rank."""
        function = getattr(functional, f"max_unpool{self.rank}d")
        found: Tensor = function(input, indices, self.kernel_size, self.stride, self.padding, output_size)
        return found

    def extra_repr(self) -> str:
        """Sizes."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_Unpool):
    """`functional.max_unpool1d` as a layer of (input, indices, output_size)."""

    rank = 1


class MaxUnpool2d(_Unpool):
    """`functional.max_unpool2d` as a layer of (input, indices, output_size)."""

    rank = 2


class MaxUnpool3d(_Unpool):
    """`functional.max_unpool3d` as a layer of (input, indices, output_size)."""

    rank = 3


_MAX = ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode")
_AVG = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")


def function_layer(name: str, function: str, positional: Sequence[str], module: str = __name__) -> type[_Function]:
    """A layer's class."""
    doc = f"`functional.{function}` as a layer; options: {', '.join(positional) or 'none'}."
    return type(
        name,
        (_Function,),
        {"__doc__": doc, "__module__": module, "function": function, "positional": tuple(positional)},
    )


MaxPool1d = function_layer("MaxPool1d", "max_pool1d", _MAX)
MaxPool2d = function_layer("MaxPool2d", "max_pool2d", _MAX)
MaxPool3d = function_layer("MaxPool3d", "max_pool3d", _MAX)
AvgPool1d = function_layer("AvgPool1d", "avg_pool1d", _AVG)
AvgPool2d = function_layer("AvgPool2d", "avg_pool2d", (*_AVG, "divisor_override"))
AvgPool3d = function_layer("AvgPool3d", "avg_pool3d", (*_AVG, "divisor_override"))
AdaptiveAvgPool1d = function_layer("AdaptiveAvgPool1d", "adaptive_avg_pool1d", ("output_size",))
AdaptiveAvgPool2d = function_layer("AdaptiveAvgPool2d", "adaptive_avg_pool2d", ("output_size",))
AdaptiveAvgPool3d = function_layer("AdaptiveAvgPool3d", "adaptive_avg_pool3d", ("output_size",))
AdaptiveMaxPool1d = function_layer("AdaptiveMaxPool1d", "adaptive_max_pool1d", ("output_size",))
AdaptiveMaxPool2d = function_layer("AdaptiveMaxPool2d", "adaptive_max_pool2d", ("output_size",))
AdaptiveMaxPool3d = function_layer("AdaptiveMaxPool3d", "adaptive_max_pool3d", ("output_size",))
Upsample = function_layer(
    "Upsample", "interpolate", ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")
)
PixelShuffle = function_layer("PixelShuffle", "pixel_shuffle", ("upscale_factor",))
PixelUnshuffle = function_layer("PixelUnshuffle", "pixel_unshuffle", ("downscale_factor",))
Unfold = function_layer("Unfold", "unfold", ("kernel_size", "dilation", "padding", "stride"))
Fold = function_layer("Fold", "fold", ("output_size", "kernel_size", "dilation", "padding", "stride"))
