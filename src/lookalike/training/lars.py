"""LARS: SGD whose step is, tensor by tensor, a fixed fraction of the weights' norm. (You, Gitman, Ginsburg 2017)

    g' = g + decay w
    ratio = eta |w| / |g'|          1 if either norm is 0, or the group does not adapt
    inside:   v <- mu v + rate ratio g' ;  w <- w - v            SimCLR's TensorFlow code
    outside:  v <- mu v + ratio g'      ;  w <- w - rate v       BYOL, MoCo v3, SCE

The two agree until the rate changes. LARC with clip off, SwAV's choice from NVIDIA's apex, is the form outside with

    ratio = eta |w| / (|g| + decay |w|), and neither decay nor ratio if |w| or |g| is 0.
"""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """The optimizer. Parameters without a gradient are left alone, momentum included.

    params: parameters or groups; a group may hold lr, weight_decay and adapt (False: ratio 1, for biases and norms).
    norms: "joint" divides by |g + decay w|, "apart" by |g| + decay |w| (LARC). All tensors live on one device.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 1e-3,
        rate: Literal["inside", "outside"] = "outside",
        norms: Literal["joint", "apart"] = "joint",
    ) -> None:
        if lr < 0 or not 0 <= momentum < 1 or weight_decay < 0 or eta <= 0:
            raise ValueError(
                f"LARS cannot use lr={lr}, momentum={momentum}, weight_decay={weight_decay}, eta={eta}: "
                "use numbers of 0 or more, momentum below 1, eta above 0"
            )
        self.rate, self.norms = rate, norms
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta, "adapt": True}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._update(weights, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        gradients = [w.grad for w in weights if w.grad is not None]
        steps = self._steps(weights, gradients, decay, group["eta"] if group["adapt"] else None)
        if self.rate == "inside":
            torch._foreach_mul_(steps, lr)
        velocities = [self._velocity(w) for w in weights]
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, steps)
        torch._foreach_add_(weights, velocities, alpha=-1.0 if self.rate == "inside" else -lr)

    def _steps(self, weights: list[Tensor], gradients: list[Tensor], decay: float, eta: float | None) -> list[Tensor]:
        """ratio g' for each tensor, as new tensors; eta None means ratio 1."""
        decayed = list(torch._foreach_add(gradients, weights, alpha=decay))
        if eta is None:
            return decayed
        joint = self.norms == "joint"
        w_norms = torch.stack(torch._foreach_norm(weights))
        g_norms = torch.stack(torch._foreach_norm(decayed if joint else gradients))
        usable = (w_norms > 0) & (g_norms > 0)
        ratios = torch.where(usable, eta * w_norms / (g_norms if joint else g_norms + decay * w_norms), 1.0)
        if not joint:  # apex leaves such a gradient as it is
            decayed = [torch.where(u, d, g) for u, d, g in zip(usable, decayed, gradients, strict=True)]
        torch._foreach_mul_(decayed, list(ratios.unbind()))
        return decayed

    def _velocity(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
        return state["momentum_buffer"]
