"""Stochastic gradient descent. Layer 6."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from graphc.errors import OptionError, message
from graphc.frontend.elementwise import where
from graphc.frontend.promotion import convert
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.optim.optimizer import Optimizer, ParamGroup

__all__ = ["SGD"]


def _rate(group: ParamGroup, name: str, p: Tensor) -> Any:
    """A rate in the parameter's dtype."""
    return convert(group.rate(name), p.dtype)


class SGD(Optimizer):
    """p -= lr * d, with d the gradient g, or with momentum (Sutskever et al., ICML 2013, in PyTorch's form).

    With weight decay g is g + weight_decay * p. With momentum b = momentum * b + (1 - dampening) * g (b = g at a
    parameter's first update), and d is b, or with `nesterov` g + momentum * b.

    >>> import graphc as gx
    >>> from graphc import optim
    >>> w = gx.tensor([3.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.item()
    1.5
    """

    optional: ClassVar[frozenset[str]] = frozenset({"weight_decay", "momentum", "dampening"})

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "nesterov": bool(nesterov)})

    def check_group(self, group: ParamGroup) -> None:
        """Nesterov's form is defined with momentum and without dampening."""
        if group.uses("nesterov") and (not group.uses("momentum") or group.uses("dampening")):
            raise OptionError(
                message(
                    "nesterov needs momentum, and no dampening",
                    location=user_location(),
                    hint="Give momentum=0.9, or leave nesterov out.",
                )
            )

    def allocate(self, group: ParamGroup) -> None:
        """A momentum buffer for each parameter."""
        if group.uses("momentum"):
            for p in group.params:
                self._buffer(group, p, "momentum_buffer")

    def update(self, group: ParamGroup, present: list[tuple[int, Tensor, Tensor]]) -> None:
        """One step."""
        self.check_group(group)
        first: Any = None
        if group.uses("momentum"):
            first = self._count(group, present) == 1.0
        for i, p, grad in present:
            old: Any = p
            g: Any = grad
            if group.uses("weight_decay"):
                g = g + _rate(group, "weight_decay", p) * old
            if group.uses("momentum"):
                g = self._with_momentum(group, p, g, first[i])
            p.assign(old - _rate(group, "lr", p) * g)

    def _with_momentum(self, group: ParamGroup, p: Tensor, g: Any, first: Any) -> Any:
        momentum = _rate(group, "momentum", p)
        buffer = self.state[p]["momentum_buffer"]
        share = g
        if group.uses("dampening"):
            kept = convert(1.0 - group.rate("dampening"), p.dtype)
            share = where(first, g, kept * g)
        moved = momentum * buffer + share
        buffer.assign(moved)
        return g + momentum * moved if group.uses("nesterov") else moved
