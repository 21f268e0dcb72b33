"""The exponential moving average, in place."""

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def ema_(targets: Sequence[Tensor], sources: Sequence[Tensor], momentum: float) -> None:
    """Moves each target to target * momentum + source * (1 - momentum), pairwise and in place, without gradient.

    Momentum 1 leaves every bit as it is, momentum 0 copies. A source of another dtype or on another device is
    converted first. A target must appear once: twice, it moves twice.

    >>> slow = torch.tensor([1.0, 2.0])
    >>> ema_([slow], [torch.tensor([2.0, 4.0])], momentum=0.5)
    >>> slow
    tensor([1.5000, 3.0000])

    Raises ValueError for a momentum outside [0, 1], lists that do not match, or targets that are not floating point.
    """
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"the momentum of a moving average lies in [0, 1], and {momentum} was given")
    if [t.shape for t in targets] != [s.shape for s in sources]:
        raise ValueError(_mismatch(targets, sources))
    if not all(t.is_floating_point() for t in targets):
        kinds = sorted({str(t.dtype) for t in targets if not t.is_floating_point()})
        raise ValueError(f"only floating-point tensors can be averaged, and {', '.join(kinds)} was given: copy those")
    if momentum == 1.0 or not targets:
        return
    same_kind = [
        s if s.dtype == t.dtype and s.device == t.device else s.to(t) for t, s in zip(targets, sources, strict=True)
    ]
    torch._foreach_lerp_(list(targets), same_kind, 1.0 - momentum)


def _mismatch(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> str:
    remedy = "give the source the same structure"
    if len(targets) != len(sources):
        return f"a moving average of {len(targets)} tensors cannot follow {len(sources)}: {remedy}"
    place = next(i for i, (t, s) in enumerate(zip(targets, sources, strict=True)) if t.shape != s.shape)
    mine, theirs = tuple(targets[place].shape), tuple(sources[place].shape)
    return f"tensor {place} of a moving average has the shape {mine} and cannot follow {theirs}: {remedy}"
