"""Layers, with the inputs on which they are compared with PyTorch. Imports neither PyTorch nor graphc: the table is read by
both sides, `tests/nn/torch_golden.py` and `tests/nn/test_against_torch.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np

Array = np.ndarray[Any, Any]

#: Of the ten steps of gradient descent.
RATE = 0.05
STEPS = 10


@dataclass(frozen=True)
class LayerCase:
    """`nn.<layer>(*args, **options)` called as `layer(*inputs, **call)`.

    An input is a shape (normal numbers) or an array (as it is); so is a value of `call`, other objects are passed on.
    """

    layer: str
    inputs: tuple[Any, ...]
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    #: Of float32, how many ulps of a tensor's largest element its elements may be off.
    ulps: int = 64

    @property
    def name(self) -> str:
        return f"{self.layer}-{self.note}" if self.note else self.layer

    def arrays(self) -> list[Array]:
        """The inputs, in float64."""
        return [
            random(f"{self.name} input {i}", x, 1.0) if isinstance(x, tuple) else x for i, x in enumerate(self.inputs)
        ]


def random(key: str, shape: tuple[int, ...], scale: float) -> Array:
    """Normal numbers that are the same for the same key."""
    return np.random.default_rng(crc32(key.encode())).standard_normal(shape) * scale


def initial(case: LayerCase, parameter: str, shape: tuple[int, ...]) -> Array:
    """The first value of a parameter."""
    return random(f"{case.name} {parameter}", shape, 0.5)


def target(case: LayerCase, i: int, shape: tuple[int, ...]) -> Array:
    """What the i-th output shall become: the loss is the sum of the mean squares of the differences."""
    return random(f"{case.name} target {i}", shape, 1.0)


def _channels() -> list[LayerCase]:
    cases = []
    for rank, shapes in enumerate([[(5, 3), (4, 3, 5)], [(4, 3, 2, 5)], [(2, 3, 2, 3, 2)]], 1):
        for shape in shapes:
            note = f"rank{len(shape)}"
            cases.append(LayerCase(f"BatchNorm{rank}d", (shape,), (3,), note=note))
    cases += [
        LayerCase("BatchNorm2d", ((3, 2, 3, 3),), (2,), {"momentum": None}, note="average"),
        LayerCase("BatchNorm2d", ((3, 2, 3, 3),), (2,), {"affine": False, "eps": 0.1}, note="plain"),
        LayerCase("BatchNorm1d", ((6, 2),), (2,), {"track_running_stats": False}, note="untracked"),
    ]
    full = {"affine": True, "track_running_stats": True}
    for rank, shape in enumerate([(4, 3, 5), (2, 3, 2, 5), (2, 3, 2, 3, 2)], 1):
        cases.append(LayerCase(f"InstanceNorm{rank}d", (shape,), (3,)))
        cases.append(LayerCase(f"InstanceNorm{rank}d", (shape,), (3,), full, note="tracked"))
        cases.append(LayerCase(f"InstanceNorm{rank}d", (shape[1:],), (3,), {"affine": True}, note="single"))
    return cases


CASES: list[LayerCase] = [
    *_channels(),
    LayerCase("GroupNorm", ((3, 4, 5),), (2, 4)),
    LayerCase("GroupNorm", ((3, 6),), (3, 6), {"eps": 0.01}, note="rank2"),
    LayerCase("GroupNorm", ((2, 4, 3, 2),), (4, 4), {"affine": False}, note="plain"),
    LayerCase("LayerNorm", ((3, 4, 5),), (5,)),
    LayerCase("LayerNorm", ((3, 4, 5),), ((4, 5),), {"eps": 0.01}, note="two-axes"),
    LayerCase("LayerNorm", ((2, 7),), (7,), {"bias": False}, note="no-bias"),
    LayerCase("LayerNorm", ((2, 7),), (7,), {"elementwise_affine": False}, note="plain"),
    LayerCase("RMSNorm", ((3, 4, 5),), (5,)),
    LayerCase("RMSNorm", ((3, 4, 5),), ((4, 5),), {"eps": 0.01}, note="two-axes"),
    LayerCase("RMSNorm", ((2, 7),), (7,), {"elementwise_affine": False}, note="plain"),
]

#: Masks, in PyTorch's sense: of layers true where one may not look.
CAUSAL = np.triu(np.ones((4, 4), bool), 1)
ADDED = random("mask", (4, 4), 1.0)
PADDED = np.array([[False, False, False, True], [False, False, False, False]])
SQUARE = (2, 4, 6)

CASES += [
    LayerCase("Embedding", (np.array([[1, 4], [0, 1]]),), (5, 3)),
    LayerCase("Embedding", (np.array([[1, 4, 2], [0, 1, 2]]),), (5, 3), {"padding_idx": 2}, note="padding"),
    LayerCase("MultiheadAttention", (SQUARE, SQUARE, SQUARE), (6, 2), {"batch_first": True}),
    LayerCase("MultiheadAttention", ((4, 2, 6), (5, 2, 6), (5, 2, 6)), (6, 3), note="length-first"),
    LayerCase("MultiheadAttention", ((4, 6), (4, 6), (4, 6)), (6, 2), {"bias": False}, note="single"),
    LayerCase("MultiheadAttention", ((4, 2, 6), (5, 2, 3), (5, 2, 4)), (6, 2), {"kdim": 3, "vdim": 4}, note="sizes"),
    LayerCase(
        "MultiheadAttention",
        (SQUARE, SQUARE, SQUARE),
        (6, 2),
        {"batch_first": True, "add_bias_kv": True, "add_zero_attn": True},
        {"attn_mask": CAUSAL, "key_padding_mask": PADDED, "average_attn_weights": False},
        note="masks",
    ),
    LayerCase(
        "MultiheadAttention",
        (SQUARE, SQUARE, SQUARE),
        (6, 2),
        {"batch_first": True},
        {"attn_mask": ADDED, "need_weights": False},
        note="added",
    ),
]
SMALL = {"dim_feedforward": 5, "dropout": 0.0, "batch_first": True}
CASES += [
    LayerCase("TransformerEncoderLayer", (SQUARE,), (6, 2), {**SMALL, "activation": "gelu"}),
    LayerCase(
        "TransformerEncoderLayer",
        (SQUARE,),
        (6, 3),
        {**SMALL, "norm_first": True, "bias": False},
        {"src_mask": CAUSAL, "src_key_padding_mask": PADDED},
        note="norm-first",
    ),
    LayerCase(
        "TransformerDecoderLayer",
        (SQUARE, (2, 3, 6)),
        (6, 2),
        SMALL,
        {"tgt_mask": CAUSAL, "tgt_key_padding_mask": PADDED},
    ),
    LayerCase("TransformerDecoderLayer", (SQUARE, (2, 3, 6)), (6, 2), {**SMALL, "norm_first": True}, note="norm-first"),
    LayerCase(
        "Transformer",
        (SQUARE, SQUARE),
        (6, 2, 2, 2),
        SMALL,
        {"tgt_mask": CAUSAL, "src_key_padding_mask": PADDED},
        ulps=256,
    ),
]

CASES += [
    *(LayerCase(f"{kind}Cell", ((2, 3), (2, 4)), (3, 4)) for kind in ("RNN", "GRU")),
    LayerCase("RNNCell", ((3,),), (3, 4), {"bias": False, "nonlinearity": "relu"}, note="single"),
    LayerCase("GRUCell", ((2, 3),), (3, 4), {"bias": False}, note="no-state"),
    LayerCase("LSTMCell", ((2, 3),), (3, 4)),
    LayerCase("LSTMCell", ((2, 3),), (3, 4), call={"hx": (ADDED[:2], ADDED[2:])}, note="state"),
    LayerCase("RNN", ((5, 2, 3),), (3, 4), {"nonlinearity": "relu"}, note="relu"),
    LayerCase("LSTM", ((5, 2, 3),), (3, 4), call={"hx": (ADDED[:2][None], ADDED[2:][None])}, note="state"),
    LayerCase("GRU", ((5, 2, 3), (1, 2, 4)), (3, 4), note="state"),
    LayerCase("LSTM", ((5, 3),), (3, 4), {"num_layers": 2}, note="single"),
]
for kind in ("RNN", "LSTM", "GRU"):
    deep = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    CASES += [
        LayerCase(kind, ((5, 2, 3),), (3, 4)),
        LayerCase(kind, ((2, 5, 3),), (3, 2), {**deep, "bias": False}, note="deep"),
    ]

ELEMENTWISE = """CELU ELU GLU SELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU
        LogSigmoid Mish ReLU ReLU6 Sigmoid SiLU
        Softplus Softshrink Softsign Tanh Tanhshrink PReLU"""
CASES += [LayerCase(name, ((5, 6),)) for name in ELEMENTWISE.split()]
CASES += [
    *(LayerCase(name, ((3, 4),), options={"dim": 1}) for name in ("LogSoftmax", "Softmax", "Softmin")),
    LayerCase("CELU", ((5, 6),), (0.7,), note="alpha"),
    LayerCase("Threshold", ((5, 6),), (0.1, 0.5)),
    LayerCase("PReLU", ((3, 4, 2),), (4,), note="channels"),
    LayerCase("Bilinear", ((4, 3), (4, 2)), (3, 2, 5)),
    LayerCase("Linear", ((4, 3),), (3, 2)),
    LayerCase("Conv1d", ((2, 4, 7),), (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}),
    LayerCase("Conv2d", ((2, 3, 5, 6),), (3, 2, 3), {"padding": 1, "dilation": 2}),
    LayerCase("Conv3d", ((1, 2, 3, 4, 3),), (2, 2, 2)),
    LayerCase("ConvTranspose1d", ((2, 3, 4),), (3, 2, 3), {"stride": 2}),
    LayerCase("ConvTranspose2d", ((2, 3, 4, 3),), (3, 2, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    LayerCase("ConvTranspose3d", ((1, 2, 2, 3, 2),), (2, 2, 2)),
    LayerCase("MaxPool2d", ((2, 3, 5, 6),), (2,)),
    LayerCase("AvgPool2d", ((2, 3, 5, 6),), (3,), {"stride": 2, "padding": 1}),
    LayerCase("AdaptiveAvgPool2d", ((2, 3, 5, 6),), ((2, 4),)),
    LayerCase("Upsample", ((1, 2, 3, 4),), options={"scale_factor": 2, "mode": "bilinear", "align_corners": False}),
    LayerCase("PixelShuffle", ((1, 4, 2, 3),), (2,)),
    LayerCase("Flatten", ((2, 3, 4),)),
    LayerCase("Identity", ((2, 3),)),
]
