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
