"""A table whose rows are dealt over ranks, and which is saved and loaded whole."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor, nn

from lookalike.functional.collectives import gather_rows, rank, world


class Sharded(nn.Module):
    """`rows` rows of the given shape, of which rank r of R holds r, r + R ... in the buffer `own`, at first zeros.

    The state dict holds all rows, so that any number of processes can take it up: asking for it is collective, every
    rank does it. Ranks hold different numbers here: nothing may be broadcast or averaged (see `sharded_buffers`).

    >>> table = Sharded(3, 2)
    >>> table.write(torch.tensor([2]), torch.ones(1, 2))
    >>> table.own.tolist()
    [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]
    """

    own: Tensor

    def __init__(self, rows: int, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if rows < 1:
            raise ValueError(f"a sharded table has at least 1 row, and {rows} were given")
        self.size, self.rank, self.world = rows, rank(), world()
        self.register_buffer("own", torch.zeros(len(range(self.rank, rows, self.world)), *shape, dtype=dtype))

    def places(self, index: Int64[Tensor, "B"]) -> tuple[Shaped[Tensor, "B"], Int64[Tensor, "_"]]:
        """Which of these rows of the whole table are held here, and where in `own`."""
        here = index % self.world == self.rank
        return here, index[here] // self.world

    @torch.no_grad()
    def write(self, index: Int64[Tensor, "B"], values: Shaped[Tensor, "B *row"]) -> None:
        """Replaces rows of the whole table; each rank takes those that it holds."""
        index = index.to(self.own.device)
        here, place = self.places(index)
        self.own.index_copy_(0, place, values.to(self.own)[here])

    def extra_repr(self) -> str:
        return f"rows={self.size}, shape={tuple(self.own.shape[1:])}"

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}own"] = gather_rows(self.own.detach())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        whole = state_dict.get(f"{prefix}own")
        if whole is not None and len(whole) == self.size:
            state_dict = {**state_dict, f"{prefix}own": whole[self.rank :: self.world]}
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def sharded_buffers(module: nn.Module) -> Iterable[str]:
    """Names of the buffers that differ between ranks by design: DistributedDataParallel must leave them alone."""
    return (f"{name}.own" if name else "own" for name, part in module.named_modules() if isinstance(part, Sharded))
