"""Adam and AdamW. Layer 6."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from graphc.frontend.elementwise import FUNCTIONS, power
from graphc.frontend.promotion import convert
from graphc.frontend.tensor import Tensor
from graphc.optim.optimizer import Optimizer, ParamGroup

__all__ = ["Adam", "AdamW"]

_sqrt = FUNCTIONS["sqrt"]


def _remainder(beta: Any, steps: Any) -> Any:
    """1 - beta**t, the weight that t updates have in a moment."""
    decayed: Any = power(beta, steps)
    return 1.0 - decayed


class Adam(Optimizer):
    """Adam (Kingma and Ba, ICLR 2015).

    With t the parameter's number of updates, m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g**2:

        p -= lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)

    computed as p -= rate * m / (sqrt(v) + eps * c) with c = sqrt(1 - beta2**t) and rate = lr * c / (1 - beta1**t), which
    are float64 scalars, one each for a step. With weight decay g is g + weight_decay * p.
    """

    limits: ClassVar[dict[str, tuple[float, float]]] = {"betas": (0.0, 1.0)}
    #: Whether weight decay shrinks the parameter directly, instead of adding to the gradient.
    decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    def allocate(self, group: ParamGroup) -> None:
        """First and second moment of each parameter."""
        for p in group.params:
            self._buffer(p, "exp_avg")
            self._buffer(p, "exp_avg_sq")

    def update(self, group: ParamGroup, present: list[tuple[int, Tensor, Tensor]]) -> None:
        """One step."""
        steps = self._count(group, present)
        left1, left2 = (_remainder(beta, steps) for beta in group.rate("betas"))
        correction: Any = _sqrt(left2)
        rates = group.rate("lr") * correction / left1
        epsilons = group.rate("eps") * correction
        for i, p, grad in present:
            self._update_one(group, p, grad, rates[i], epsilons[i])

    def _update_one(self, group: ParamGroup, p: Tensor, g: Any, rate: Any, epsilon: Any) -> None:
        def scalar(x: Any) -> Any:
            return convert(x, p.dtype)

        beta1, beta2 = group.rate("betas")
        old: Any = p
        if group.uses("weight_decay"):
            decay: Any = group.rate("weight_decay")
            if self.decoupled:
                old = old * scalar(1.0 - group.rate("lr") * decay)
            else:
                g = g + scalar(decay) * p
        m, v = self.state[p]["exp_avg"], self.state[p]["exp_avg_sq"]
        new_m: Any = scalar(beta1) * m + scalar(1.0 - beta1) * g
        new_v: Any = scalar(beta2) * v + scalar(1.0 - beta2) * (g * g)
        new: Any = old - scalar(rate) * new_m / (_sqrt(new_v) + scalar(epsilon))
        m.assign(new_m)
        v.assign(new_v)
        p.assign(new)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019): p *= 1 - lr * weight_decay before the step."""

    decoupled: ClassVar[bool] = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
