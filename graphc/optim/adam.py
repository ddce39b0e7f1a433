"""Adam and AdamW. Layer 6."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from graphc.errors import OptionError, message
from graphc.frontend.elementwise import FUNCTIONS, power
from graphc.frontend.promotion import convert
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.optim.optimizer import Optimizer, ParamGroup

__all__ = ["Adam", "AdamW", "pair", "remainder"]

_sqrt = FUNCTIONS["sqrt"]


def remainder(beta: Any, steps: Any) -> Any:
    """1 - beta**t, the weight that t updates have in a moment."""
    decayed: Any = power(beta, steps)
    return 1.0 - decayed


def pair(betas: Any) -> tuple[float, float]:
    """The two rates of `betas`; OptionError if it is something else."""
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise OptionError(
            message(
                f"betas is a pair of rates, not {betas!r}", location=user_location(), hint="For example (0.9, 0.999)."
            )
        )
    return (betas[0], betas[1])


class Adam(Optimizer):
    """Adam (Kingma and Ba, ICLR 2015).

    With t the parameter's number of updates, m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g**2:

        p -= lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)

    computed as p -= rate * m / (sqrt(v) + eps * c) with c = sqrt(1 - beta2**t) and rate = lr * c / (1 - beta1**t), which
    are float64 scalars, one each for a step. With weight decay g is g + weight_decay * p.

    >>> import graphc as gx
    >>> from graphc import optim
    >>> w = gx.tensor([3.0], requires_grad=True)
    >>> optimizer = optim.Adam([w], lr=0.5)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     (w * w).sum().backward()
    ...     optimizer.step()
    >>> round(w.item(), 2)
    1.52
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
        super().__init__(params, {"lr": lr, "betas": pair(betas), "eps": eps, "weight_decay": weight_decay})

    def allocate(self, group: ParamGroup) -> None:
        """First and second moment of each parameter."""
        for p in group.params:
            self._buffer(group, p, "exp_avg")
            self._buffer(group, p, "exp_avg_sq")

    def update(self, group: ParamGroup, present: list[tuple[int, Tensor, Tensor]]) -> None:
        """One step."""
        factors = self._factors(group, self._count(group, present))
        converted = {d: {k: convert(x, d) for k, x in factors.items()} for d in {p.dtype for _, p, _ in present}}
        for i, p, grad in present:
            self._update_one(group, i, p, grad, converted[p.dtype])

    def _factors(self, group: ParamGroup, steps: Any) -> dict[str, Any]:
        """What the updates of all parameters share, in float64; `rate` and `epsilon` have an element for each parameter."""
        beta1, beta2 = group.rate("betas")
        lr = group.rate("lr")
        correction: Any = _sqrt(remainder(beta2, steps))
        factors = {
            "beta1": beta1,
            "rest1": 1.0 - beta1,
            "beta2": beta2,
            "rest2": 1.0 - beta2,
            "rate": lr * correction / remainder(beta1, steps),
            "epsilon": group.rate("eps") * correction,
        }
        if group.uses("weight_decay"):
            decay = group.rate("weight_decay")
            factors["decay"] = 1.0 - lr * decay if self._decouples(group) else decay
        return factors

    def _decouples(self, group: ParamGroup) -> bool:
        return self.decoupled

    def _update_one(self, group: ParamGroup, i: int, p: Tensor, g: Any, f: dict[str, Any]) -> None:
        old: Any = p
        if group.uses("weight_decay"):
            if self._decouples(group):
                old = old * f["decay"]
            else:
                g = g + f["decay"] * old
        m, v = self.state[p]["exp_avg"], self.state[p]["exp_avg_sq"]
        new_m = f["beta1"] * m + f["rest1"] * g
        new_v = f["beta2"] * v + f["rest2"] * (g * g)
        new = self._moved(i, old, g, new_m, _sqrt(new_v), f)
        m.assign(new_m)
        v.assign(new_v)
        p.assign(new)

    def _moved(self, i: int, old: Any, g: Any, m: Any, root: Any, f: dict[str, Any]) -> Any:
        """The new parameter, of its gradient, its first moment and the root of the second."""
        return old - f["rate"][i] * m / (root + f["epsilon"][i])


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
