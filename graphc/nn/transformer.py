"""Layers and stacks of the Transformer (Vaswani et al., NeurIPS 2017). Layer 6. Names, defaults, parameters: PyTorch's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import OptionError, message
from graphc.frontend import elementwise
from graphc.frontend.promotion import as_tensor
from graphc.frontend.random import Generator
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.nn import functional, init
from graphc.nn.attention_layers import KeyValueCache, MultiheadAttention
from graphc.nn.containers import ModuleList
from graphc.nn.layers import Dropout, Linear
from graphc.nn.module import Module
from graphc.nn.normalization_layers import LayerNorm

__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]

_ACTIVATIONS: dict[str, Callable[..., Tensor]] = {"relu": functional.relu, "gelu": functional.gelu}


def _activation(given: Any) -> Any:
    if callable(given):
        return given
    if given not in _ACTIVATIONS:
        raise OptionError(
            message(
                f"there is no activation {given!r}",
                location=user_location(),
                hint="activation is 'relu', 'gelu' or a function.",
            )
        )
    return _ACTIVATIONS[given]


class _Layer(Module):
    """What encoder and decoder layers have in common: the feed-forward part and the place of the norms."""

    def _build_feedforward(
        self, d_model: int, hidden: int, dropout: float, activation: Any, bias: bool, dtype: Any, generator: Any
    ) -> None:
        self.linear1 = Linear(d_model, hidden, bias, dtype, generator=generator)
        self.dropout = Dropout(dropout, generator=generator)
        self.linear2 = Linear(hidden, d_model, bias, dtype, generator=generator)
        self.activation = _activation(activation)

    def _feedforward(self, x: Any) -> Any:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def _residual(self, x: Any, norm: Module, dropout: Module, part: Callable[[Any], Any]) -> Any:
        """x + part(norm(x)), or norm(x + part(x))."""
        if self.norm_first:
            return elementwise.add(x, dropout(part(norm(x))))
        return norm(elementwise.add(x, dropout(part(x))))


class TransformerEncoderLayer(_Layer):
    """Self-attention and a feed-forward part, each with a residual connection and a LayerNorm.

    Parameters
    ----------
    d_model, nhead, dim_feedforward
        The size of the elements, the number of heads, the hidden size.
    dropout
        The probability in training mode: of weights of attention, hidden elements and residuals.
    activation
        "relu", "gelu" or a function.
    layer_norm_eps
        Of the norms.
    batch_first
        Whether inputs are [N, L, E] and not [L, N, E].
    norm_first
        Whether norms come before the parts and not after the sums.
    bias
        Whether linear parts and norms have one.

    >>> import numpy as np
    >>> from graphc import nn
    >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> layer(np.ones((3, 5, 8), np.float32)).shape
    (3, 5, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype, generator=generator
        )
        self._build_feedforward(d_model, dim_feedforward, dropout, activation, bias, dtype, generator)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout, generator=generator)
        self.dropout2 = Dropout(dropout, generator=generator)

    def forward(
        self,
        src: Any,
        src_mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Same shape as `src`; masks and the cache as in `MultiheadAttention`."""

        def attend(x: Any) -> Any:
            return self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, True, is_causal, cache)[0]

        x = self._residual(as_tensor(src), self.norm1, self.dropout1, attend)
        found: Tensor = self._residual(x, self.norm2, self.dropout2, self._feedforward)
        return found


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to an encoder's results and a feed-forward part; parameters as in `TransformerEncoderLayer`."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        self.norm_first = norm_first
        for name in ("self_attn", "multihead_attn"):
            attention = MultiheadAttention(
                d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype, generator=generator
            )
            self.register_module(name, attention)
        self._build_feedforward(d_model, dim_feedforward, dropout, activation, bias, dtype, generator)
        for i in (1, 2, 3):
            self.register_module(f"norm{i}", LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype))
        for i in (1, 2, 3):
            self.register_module(f"dropout{i}", Dropout(dropout, generator=generator))

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Same shape as `tgt`; masks and the cache (of the self-attention) as in `MultiheadAttention`."""
        source = as_tensor(memory)

        def attend(x: Any) -> Any:
            return self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, True, tgt_is_causal, cache)[0]

        def look(x: Any) -> Any:
            padding = memory_key_padding_mask
            return self.multihead_attn(x, source, source, padding, False, memory_mask, True, memory_is_causal)[0]

        x = self._residual(as_tensor(tgt), self.norm1, self.dropout1, attend)
        x = self._residual(x, self.norm2, self.dropout2, look)
        found: Tensor = self._residual(x, self.norm3, self.dropout3, self._feedforward)
        return found


class _Stack(Module):
    """Copies of a layer one after another, and a norm."""

    def __init__(self, layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self.layers = ModuleList([copy.deepcopy(layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm

    def _run(self, x: Any, call: Callable[[Any, Any, Any], Any], caches: Any) -> Any:
        for i, layer in enumerate(self.layers):
            x = call(layer, x, None if caches is None else caches[i])
        return x if self.norm is None else self.norm(x)

    def make_caches(self, batch: int, length: int) -> ModuleList:
        """A cache for the self-attention of each layer."""
        return ModuleList([layer.self_attn.make_cache(batch, length) for layer in self.layers])


class TransformerEncoder(_Stack):
    """`num_layers` copies of an encoder layer (with the same first values), and a norm behind them."""

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self,
        src: Any,
        mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
        caches: Any = None,
    ) -> Tensor:
        """Same shape as `src`; `caches`, from `make_caches`, makes it a decoder that reads one piece after the other."""
        found: Tensor = self._run(
            src, lambda layer, x, cache: layer(x, mask, src_key_padding_mask, is_causal, cache), caches
        )
        return found


class TransformerDecoder(_Stack):
    """`num_layers` copies of a decoder layer, and a norm behind them."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        caches: Any = None,
    ) -> Tensor:
        """Same shape as `tgt`."""
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal, memory_is_causal)
        found: Tensor = self._run(tgt, lambda layer, x, cache: layer(x, memory, *masks, cache), caches)
        return found


class Transformer(Module):
    """An encoder and a decoder with norms behind them; weights are Xavier uniform at first."""

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        options = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first
        self.encoder = TransformerEncoder(
            TransformerEncoderLayer(*options, dtype, generator=generator),
            num_encoder_layers,
            LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype),
        )
        self.decoder = TransformerDecoder(
            TransformerDecoderLayer(*options, dtype, generator=generator),
            num_decoder_layers,
            LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype),
        )
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter, generator=generator)

    @staticmethod
    def generate_square_subsequent_mask(size: int, dtype: Any = np.float32) -> Tensor:
        """[size, size]: 0 on and below the diagonal, minus infinity above."""
        return as_tensor(np.triu(np.full((size, size), -np.inf, dtype), 1))

    def forward(
        self,
        src: Any,
        tgt: Any,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool = False,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """`src` and `tgt` to the shape of `tgt`."""
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        found: Tensor = self.decoder(
            tgt,
            memory,
            tgt_mask,
            memory_mask,
            tgt_key_padding_mask,
            memory_key_padding_mask,
            tgt_is_causal,
            memory_is_causal,
        )
        return found
