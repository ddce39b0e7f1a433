"""Losses as modules: each holds the options of a function of `functional` and calls it. Layer 6."""

from __future__ import annotations

from typing import Any

from graphc.frontend.tensor import Tensor
from graphc.nn import functional
from graphc.nn.module import Module

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
    "TripletMarginLoss",
]


class _Loss(Module):
    """The options of a loss."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def extra_repr(self) -> str:
        """The options."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


class MSELoss(_Loss):
    """`functional.mse_loss` with fixed options."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss."""
        return functional.mse_loss(input, target, **self.options)


class L1Loss(_Loss):
    """`functional.l1_loss` with fixed options."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss."""
        return functional.l1_loss(input, target, **self.options)


class SmoothL1Loss(_Loss):
    """`functional.smooth_l1_loss` with fixed options."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction, beta=beta)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss."""
        return functional.smooth_l1_loss(input, target, **self.options)


class HuberLoss(_Loss):
    """`functional.huber_loss` with fixed options."""

    def __init__(self, *, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction, delta=delta)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss."""
        return functional.huber_loss(input, target, **self.options)


class CrossEntropyLoss(_Loss):
    """`functional.cross_entropy` with fixed options."""

    def __init__(
        self, *, reduction: str = "mean", ignore_index: int | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss."""
        return functional.cross_entropy(input, target, **self.options)


class NLLLoss(_Loss):
    """`functional.nll_loss` with fixed options."""

    def __init__(self, *, reduction: str = "mean", ignore_index: int | None = None) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss."""
        return functional.nll_loss(input, target, **self.options)


class BCELoss(_Loss):
    """`functional.binary_cross_entropy` with fixed options."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss."""
        return functional.binary_cross_entropy(input, target, **self.options)


class BCEWithLogitsLoss(_Loss):
    """`functional.binary_cross_entropy_with_logits` with fixed options."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss."""
        return functional.binary_cross_entropy_with_logits(input, target, **self.options)


class KLDivLoss(_Loss):
    """`functional.kl_div` with fixed options."""

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction=reduction, log_target=log_target)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss."""
        return functional.kl_div(input, target, **self.options)


class HingeEmbeddingLoss(_Loss):
    """`functional.hinge_embedding_loss` with fixed options."""

    def __init__(self, *, reduction: str = "mean", margin: float = 1.0) -> None:
        super().__init__(reduction=reduction, margin=margin)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss."""
        return functional.hinge_embedding_loss(input, target, **self.options)


class CosineEmbeddingLoss(_Loss):
    """`functional.cosine_embedding_loss` with fixed options."""

    def __init__(self, *, reduction: str = "mean", margin: float = 0.0) -> None:
        super().__init__(reduction=reduction, margin=margin)

    def forward(self, input1: Any, input2: Any, target: Any) -> Tensor:
        """The loss."""
        return functional.cosine_embedding_loss(input1, input2, target, **self.options)


class TripletMarginLoss(_Loss):
    """`functional.triplet_margin_loss` with fixed options."""

    def __init__(
        self, *, reduction: str = "mean", margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False
    ) -> None:
        super().__init__(reduction=reduction, margin=margin, p=p, eps=eps, swap=swap)

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Tensor:
        """The loss."""
        return functional.triplet_margin_loss(anchor, positive, negative, **self.options)


class GaussianNLLLoss(_Loss):
    """`functional.gaussian_nll_loss` with fixed options."""

    def __init__(self, *, reduction: str = "mean", full: bool = False, eps: float = 1e-6) -> None:
        super().__init__(reduction=reduction, full=full, eps=eps)

    def forward(self, input: Any, target: Any, var: Any) -> Tensor:
        """The loss."""
        return functional.gaussian_nll_loss(input, target, var, **self.options)
