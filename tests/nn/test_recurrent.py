"""Recurrent layers: NumPy's loop over steps, sequences of different lengths, code that does not grow with the length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

import graphc as gx
from graphc import nn
from graphc.errors import OptionError, ShapeError

RNG = np.random.default_rng(6)
MODES = pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])
KINDS = pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])


def steps(layer: Any, x: np.ndarray) -> list[np.ndarray]:
    """Hidden states of a layer of one direction over [L, N, size], in plain NumPy."""
    w, u, b, d = (getattr(layer, f"{n}_l0").numpy() for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h = c = np.zeros((x.shape[1], layer.hidden_size))
    found = []
    for now in x:
        a, o = now @ w.T + b, h @ u.T + d
        if layer.kind == "rnn":
            h = np.tanh(a + o)
        elif layer.kind == "lstm":
            i, f, g, s = np.split(a + o, 4, axis=1)
            c = expit(f) * c + expit(i) * np.tanh(g)
            h = expit(s) * np.tanh(c)
        else:
            (ar, az, an), (hr, hz, hn) = np.split(a, 3, axis=1), np.split(o, 3, axis=1)
            z = expit(az + hz)
            h = (1 - z) * np.tanh(an + expit(ar + hr) * hn) + z * h
        found.append(h)
    return found


@MODES
@KINDS
def test_a_layer_is_its_cell_step_by_step(kind: Any, mode: Any) -> None:
    layer = kind(3, 4, dtype=np.float64)
    x = RNG.standard_normal((6, 2, 3))
    output, last = mode(layer)(x)
    expected = steps(layer, x)
    np.testing.assert_allclose(output.numpy(), expected, rtol=1e-12, atol=1e-14)
    last = last[0] if kind is nn.LSTM else last
    np.testing.assert_allclose(last.numpy()[0], expected[-1], rtol=1e-12, atol=1e-14)


@MODES
@KINDS
def test_lengths_are_as_each_sequence_by_itself(kind: Any, mode: Any) -> None:
    layer = kind(3, 4, num_layers=2, bidirectional=True, batch_first=True, dtype=np.float64)
    lengths = np.array([5, 2, 0, 3])
    x = RNG.standard_normal((4, 5, 3))
    run = mode(lambda x, lengths: layer(x, lengths=lengths))
    output, last = run(x, lengths)
    hidden = last[0] if kind is nn.LSTM else last
    for i, length in enumerate(lengths):
        assert not output.numpy()[i, length:].any()
        if length:
            alone, end = layer(x[i, :length])
            np.testing.assert_allclose(output.numpy()[i, :length], alone.numpy(), rtol=1e-12, atol=1e-14)
            end = end[0] if kind is nn.LSTM else end
            np.testing.assert_allclose(hidden.numpy()[:, i], end.numpy(), rtol=1e-12, atol=1e-14)
    other = np.where(np.arange(5)[None, :, None] < lengths[:, None, None], x, 99.0)
    np.testing.assert_array_equal(run(other, lengths)[0].numpy(), output.numpy())


def test_code_does_not_grow_with_the_length() -> None:
    layer = nn.LSTM(3, 4)
    loss = gx.compile(lambda x: (layer(x)[0] ** 2).sum())
    sizes = [str(loss.trace(np.ones((n, 2, 3), np.float32)).graph).count("\n") for n in (4, 400)]
    assert sizes[0] == sizes[1] > 10


def test_dropout_is_between_layers_and_in_training_only() -> None:
    layer = nn.GRU(3, 8, num_layers=2, dropout=0.5, generator=gx.random.Generator(2))
    x = RNG.standard_normal((4, 2, 3)).astype(np.float32)
    assert (layer(x)[0].numpy() != layer(x)[0].numpy()).any()
    assert (layer(x)[1].numpy()[0] == layer(x)[1].numpy()[0]).all()
    layer.eval()
    assert (layer(x)[0].numpy() == layer(x)[0].numpy()).all()


def test_faults() -> None:
    layer = nn.GRU(3, 4)
    x = np.zeros((5, 2, 3), np.float32)
    with pytest.raises(ShapeError, match=r"must end in 3(.|\n)*f32\[5, 2, 2\]"):
        layer(x[..., :2])
    with pytest.raises(ShapeError, match="first state"):
        layer(x, np.zeros((1, 3, 4), np.float32))
    with pytest.raises(ShapeError, match="2 integers"):
        layer(x, lengths=np.array([1, 2, 3]))
    with pytest.raises(ShapeError, match="state must be"):
        nn.LSTMCell(3, 4)(x[0], (np.zeros(4), np.zeros(4)))
    with pytest.raises(ShapeError, match="num_layers"):
        nn.RNN(3, 4, num_layers=0)
    with pytest.raises(OptionError, match="tanh"):
        nn.RNNCell(3, 4, nonlinearity="sin")
