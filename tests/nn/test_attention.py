"""Attention in NumPy's words, caches against the whole sequence, encodings of positions, faults of users."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

import graphc as gx
from graphc import nn
from graphc.errors import BoundsError, OptionError, ShapeError, StructureError
from graphc.nn import functional as F

RNG = np.random.default_rng(9)


@pytest.mark.parametrize("kind", ["none", "bools", "floats", "causal"])
def test_scaled_dot_product_attention(kind: str) -> None:
    q, k, v = (RNG.standard_normal(s) for s in [(2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 2)])
    allowed = np.tril(np.ones((4, 4), bool))
    added = RNG.standard_normal((4, 4))
    options = {
        "none": {},
        "bools": {"attn_mask": allowed},
        "floats": {"attn_mask": added, "scale": 0.3},
        "causal": {"is_causal": True},
    }[kind]
    scores = q @ np.swapaxes(k, -1, -2) * options.get("scale", 5**-0.5)
    scores = {"none": scores, "floats": scores + added}.get(kind, np.where(allowed, scores, -np.inf))
    expected = special.softmax(scores, axis=-1) @ v

    def attend(q: gx.Tensor, k: gx.Tensor, v: gx.Tensor) -> gx.Tensor:
        return F.scaled_dot_product_attention(q, k, v, **options)

    for f in (attend, gx.compile(attend)):
        np.testing.assert_allclose(f(q, k, v).numpy(), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("compiled", [False, True])
def test_decoding_with_a_cache_is_the_causal_pass(compiled: bool) -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, dtype=np.float64), 2)
    x = RNG.standard_normal((3, 6, 8))
    expected = model(x, is_causal=True).numpy()
    caches = model.make_caches(3, 6)
    step = (
        (lambda piece: model(piece, caches=caches)) if not compiled else gx.compile(lambda p: model(p, caches=caches))
    )
    first = step(x[:, :2]).numpy()
    rest = [step(x[:, i : i + 1]).numpy() for i in range(2, 6)]
    np.testing.assert_allclose(np.concatenate([first, *rest], axis=1), expected, rtol=1e-10, atol=1e-12)
    with pytest.raises(BoundsError):
        step(x[:, :1])
    for cache in caches:
        cache.reset()
    np.testing.assert_allclose(step(x[:, :1]).numpy(), expected[:, :1], rtol=1e-10, atol=1e-12)
    if compiled:
        assert step.stats.compiles == 2


def test_encodings_of_positions() -> None:
    table = F.sinusoidal_encoding(7, 5, dtype=np.float64).numpy()
    assert table.shape == (7, 5)
    for t in range(7):
        for i in range(5):
            angle = t / 10000.0 ** ((i - i % 2) / 5)
            assert table[t, i] == pytest.approx((np.cos if i % 2 else np.sin)(angle), abs=1e-15)
    layer = nn.SinusoidalEncoding(4, max_len=6)
    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(gx.compile(layer)(x).numpy(), x + F.sinusoidal_encoding(3, 4).numpy(), rtol=1e-6)
    assert not layer.state_dict()
    with pytest.raises(ShapeError, match="up to 6"):
        layer(np.zeros((7, 4), np.float32))


def test_rotary_products_depend_on_differences_only() -> None:
    q, k = RNG.standard_normal((1, 6)), RNG.standard_normal((1, 6))
    rotate = nn.RotaryEmbedding()
    compiled = gx.compile(rotate)

    def product(f: object, m: int, n: int) -> float:
        return float((f(q, np.array([m])).numpy() * f(k, np.array([n])).numpy()).sum())

    for f in (rotate, compiled):
        assert product(f, 3, 1) == pytest.approx(product(f, 12, 10), abs=1e-12)
        assert product(f, 3, 1) != pytest.approx(product(f, 3, 2), abs=1e-3)
    z = (q[0, :3] + 1j * q[0, 3:]) * np.exp(1j * 2 * 10000.0 ** (-np.arange(3) / 3))
    np.testing.assert_allclose(rotate(q, np.array([2])).numpy()[0], np.r_[z.real, z.imag], rtol=1e-12)


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_out_of_the_table_is_an_error(index: int) -> None:
    layer = nn.Embedding(5, 2)
    for f in (layer, gx.compile(layer)):
        with pytest.raises(BoundsError):
            f(np.array([0, index]))


def test_faults() -> None:
    x = np.zeros((2, 3, 4), np.float32)
    with pytest.raises(ShapeError, match="divide"):
        nn.MultiheadAttention(6, 4)
    with pytest.raises(ShapeError, match=r"f32\[2, 3, 4\]"):
        nn.MultiheadAttention(6, 2, batch_first=True)(x, x, x)
    with pytest.raises(ShapeError, match="last axis"):
        F.scaled_dot_product_attention(x, x[..., :2], x)
    with pytest.raises(OptionError, match="both"):
        F.scaled_dot_product_attention(x, x, x, np.zeros((3, 3)), is_causal=True)
    with pytest.raises(ShapeError, match="even"):
        F.rotary_embedding(np.zeros((2, 3)))
    with pytest.raises(OptionError, match="relu"):
        nn.TransformerEncoderLayer(4, 2, activation="swish")
    with pytest.raises(ShapeError, match="padding_idx"):
        nn.Embedding(3, 2, padding_idx=3)
    assert nn.Embedding(3, 2, padding_idx=1).weight.numpy()[1].tolist() == [0, 0]


def test_dropout_of_weights_is_drawn_in_training_only() -> None:
    layer = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True, generator=gx.random.Generator(4))
    x = RNG.standard_normal((2, 8, 4)).astype(np.float32)
    weights = layer(x, x, x)[1].numpy()
    assert (weights == 0).any() and (layer(x, x, x)[1].numpy() != weights).any()
    layer.eval()
    np.testing.assert_allclose(layer(x, x, x)[1].numpy().sum(-1), 1, rtol=1e-5)


def test_a_mask_beside_a_cache_is_an_error() -> None:
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    x = gx.tensor(np.ones((1, 1, 4), np.float32))
    with pytest.raises(StructureError, match="cache"):
        layer(x, x, x, attn_mask=np.zeros((1, 1), bool), cache=layer.make_cache(1, 3))
