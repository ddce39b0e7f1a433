"""NAdam and RAdam: Adam's moments with other steps. Layer 6."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphc.frontend.elementwise import FUNCTIONS, power, where
from graphc.frontend.promotion import convert
from graphc.frontend.tensor import Tensor
from graphc.optim.adam import Adam, pair, remainder
from graphc.optim.optimizer import ParamGroup

__all__ = ["NAdam", "RAdam"]

_sqrt = FUNCTIONS["sqrt"]


def _power(base: Any, exponent: Any) -> Any:
    return power(base, exponent)


class _Variant(Adam):
    """Adam's moments with a weight decay that `decoupled_weight_decay` makes AdamW's."""

    def _decouples(self, group: ParamGroup) -> bool:
        return group.uses("decoupled_weight_decay")


class NAdam(_Variant):
    """Adam with Nesterov's momentum (Dozat, ICLR workshop 2016), with the momentum schedule of PyTorch.

    With m and v as in Adam, mu(t) = beta1 (1 - 0.96**(t momentum_decay) / 2) and M(t) = mu(1) mu(2) ... mu(t):

        p -= lr * ((1 - mu(t)) / (1 - M(t)) g + mu(t+1) / (1 - M(t+1)) m) / (sqrt(v / (1 - beta2**t)) + eps)

    >>> import graphc as gx
    >>> from graphc import optim
    >>> w = gx.tensor([3.0], requires_grad=True)
    >>> optimizer = optim.NAdam([w], lr=0.5)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     (w * w).sum().backward()
    ...     optimizer.step()
    >>> round(w.item(), 2)
    1.8
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": pair(betas), "eps": eps, "weight_decay": weight_decay}
        options = {"momentum_decay": momentum_decay, "decoupled_weight_decay": bool(decoupled_weight_decay)}
        super(Adam, self).__init__(params, {**defaults, **options})

    def allocate(self, group: ParamGroup) -> None:
        """Both moments, and the product of a parameter's momenta so far."""
        super().allocate(group)
        for p in group.params:
            self._buffer(group, p, "mu_product", scalar=True)

    def initial(self, group: ParamGroup, name: str) -> float:
        """The product of no momenta is one."""
        return 1.0 if name == "mu_product" else 0.0

    def update(self, group: ParamGroup, present: list[tuple[int, Tensor, Tensor]]) -> None:
        """One step; what depends on the product of momenta stays in float64 until the weights are known."""
        steps = self._count(group, present)
        factors = self._factors(group, steps)
        beta1, beta2 = group.rate("betas")
        decay = group.rate("momentum_decay")
        now = beta1 * (1.0 - 0.5 * _power(0.96, steps * decay))
        following = beta1 * (1.0 - 0.5 * _power(0.96, (steps + 1.0) * decay))
        scale = group.rate("lr") * _sqrt(remainder(beta2, steps))
        for i, p, grad in present:
            product: Any = self.state[p]["mu_product"]
            new_product = product * now[i]
            weights = {
                "gradient": scale[i] * (1.0 - now[i]) / (1.0 - new_product),
                "moment": scale[i] * following[i] / (1.0 - new_product * following[i]),
            }
            product.assign(new_product)
            both = {**factors, **weights}
            self._update_one(group, i, p, grad, {name: convert(x, p.dtype) for name, x in both.items()})

    def _moved(self, i: int, old: Any, g: Any, m: Any, root: Any, f: dict[str, Any]) -> Any:
        return old - (f["gradient"] * g + f["moment"] * m) / (root + f["epsilon"][i])


class RAdam(_Variant):
    """Adam with rectified variance (Liu et al., ICLR 2020).

    With R = 2 / (1 - beta2) - 1 and r(t) = R - 2 t beta2**t / (1 - beta2**t): while r(t) <= 5 the step is
    p -= lr * m / (1 - beta1**t), without the second moment; later it is Adam's times
    sqrt((r - 4) (r - 2) R / ((R - 4) (R - 2) r)), with sqrt(v) + eps before the correction of v.

    >>> import graphc as gx
    >>> from graphc import optim
    >>> w = gx.tensor([3.0], requires_grad=True)
    >>> optimizer = optim.RAdam([w], lr=0.1)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     (w * w).sum().backward()
    ...     optimizer.step()
    >>> round(w.item(), 2)
    1.39
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": pair(betas), "eps": eps, "weight_decay": weight_decay}
        super(Adam, self).__init__(params, {**defaults, "decoupled_weight_decay": bool(decoupled_weight_decay)})

    def _factors(self, group: ParamGroup, steps: Any) -> dict[str, Any]:
        factors = super()._factors(group, steps)
        beta1, beta2 = group.rate("betas")
        rest = remainder(beta2, steps)
        limit = 2.0 / (1.0 - beta2) - 1.0
        length = limit - 2.0 * steps * _power(beta2, steps) / rest
        rectified: Any = length > 5.0
        # Where it is not used the quotient may be negative: 1 there, not a root of it.
        quotient = (length - 4.0) * (length - 2.0) * limit / ((limit - 4.0) * (limit - 2.0) * length)
        plain = group.rate("lr") / remainder(beta1, steps)
        rate = plain * _sqrt(rest) * _sqrt(where(rectified, quotient, 1.0))
        return {**factors, "plain": plain, "rate": rate, "epsilon": group.rate("eps"), "rectified": rectified}

    def _moved(self, i: int, old: Any, g: Any, m: Any, root: Any, f: dict[str, Any]) -> Any:
        step = where(f["rectified"][i], f["rate"][i] / (root + f["epsilon"]), f["plain"][i])
        return old - step * m
