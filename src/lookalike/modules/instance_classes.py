"""One trainable weight per image: the classes of an instance classifier, which move themselves, tile by tile."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.functional.classes import Classified, ClassTarget, class_contrast, class_gradients
from lookalike.functional.collectives import all_sum, gather_rows
from lookalike.functional.random import generator
from lookalike.modules.sharded import Sharded

DEVIATION = 0.01  # of first weights: bl0/PIC
BLOCK = 4096  # rows whose first weights come from one generator, for any number of ranks


class InstanceClasses(nn.Module):
    """`size` class weights of `dim` numbers, dealt over ranks, and their own SGD: v <- m v + (g + d w), w <- w - r v.

    forward gives the loss and the gradient of the views; `update` sweeps the classes once more and moves each tile as
    soon as its gradient is known, so that no optimizer, no gradient buffer and no average over ranks is needed. The
    weights are outside of gradient clipping. remember: the logits of forward are kept for `update`, which then takes
    one product instead of two, for size x views numbers of memory on all ranks together.

    momentum and weight_decay are those of the weights; rate_scale multiplies the rate that `update` is given.
    sampled: `forward` and `update` may be given some of the classes. What momentum and decay do to the others meanwhile
    is kept for each as a 2 x 2 matrix, and applied when its turn comes: exactly what a dense update would have done.

    >>> classes = InstanceClasses(10, 4)
    >>> x_BVD, target = torch.eye(4)[:2, None], ClassTarget(torch.tensor([7, 3]))
    >>> found = classes(x_BVD, target, temperature=0.2)
    >>> classes.update(x_BVD, found.log_sum, target, temperature=0.2, rate=0.001)
    >>> bool(classes(x_BVD, target, temperature=0.2).loss < found.loss)
    True

    B samples of all ranks, V views of each, D = dim, m classes that take part.
    """

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        rate_scale: float = 1.0,
        remember: bool = False,
        sampled: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.size, self.dim = size, dim
        self.momentum, self.weight_decay, self.rate_scale = momentum, weight_decay, rate_scale
        self.remember = remember
        self.weights, self.velocity = Sharded(size, dim), Sharded(size, dim)
        self.skipped = Sharded(size, 2, 2) if sampled else None
        self._logits, self._logits_of = torch.empty(0), torch.empty(0)
        self._took_part = torch.empty(0)
        self._start(seed)

    def forward(
        self,
        x_bVD: Float[Tensor, "b V D"],
        target: ClassTarget,
        *,
        temperature: float,
        among: Int64[Tensor, "m"] | None = None,
        learns: bool = True,
    ) -> Classified:
        """Loss of the views (see `class_contrast`). learns: `update` will be given these views.

        among: numbers of classes, equal on all ranks, that alone take part, besides those of the targets. They are
        brought up to date first, which does not change what they are, only how they are written down.
        """
        rows = None if among is None else self._held(among, gather_rows(target.own))
        if rows is not None:
            if self.skipped is None:
                raise ValueError("some of the classes are to take part: build InstanceClasses with sampled=True")
            self._bring_up(rows)
            self._took_part = rows
        logits = self._room(x_bVD, rows) if self.remember and learns else None
        return class_contrast(
            x_bVD, self.weights.own, target, temperature=temperature, rows=rows, logits=logits, sharded=True
        )

    @torch.no_grad()
    def update(
        self,
        x_BVD: Float[Tensor, "B V D"],
        log_sum_BV: Float[Tensor, "B V"],
        target: ClassTarget,
        *,
        temperature: float,
        rate: float,
        share: float = 1.0,
        among: Int64[Tensor, "m"] | None = None,
    ) -> None:
        """One step of SGD on `share` times the mean loss of these views, those of the global batch, on every rank.

        Raises ValueError where classes were sampled and the batch is not the one of the last forward: log-sums over
        different classes cannot share an update.
        """
        rate, rows = rate * self.rate_scale, None if among is None else self._held(among, target.own)
        if rows is not None and not torch.equal(rows, self._took_part):
            raise ValueError("classes are sampled for each micro-batch: use accumulate=1, or all classes")
        gradients = class_gradients(
            x_BVD,
            log_sum_BV,
            self.weights.own,
            target,
            temperature=temperature,
            share=share,
            rows=rows,
            logits=self._remembered(x_BVD, rows),
            sharded=True,
        )
        for part, gradient_TD in gradients:
            weight_TD, velocity_TD = self.weights.own[part], self.velocity.own[part]
            velocity_TD.mul_(self.momentum).add_(gradient_TD).add_(weight_TD, alpha=self.weight_decay)
            weight_TD.sub_(velocity_TD, alpha=rate)
            if rows is not None:  # the tile is a copy
                self.weights.own[part], self.velocity.own[part] = weight_TD, velocity_TD
        self._logits_of = torch.empty(0)
        if self.skipped is not None:
            self._note_skipped(rate, rows)

    @torch.no_grad()
    def start(self, pairs: Iterable[tuple[Int64[Tensor, "B"], Float[Tensor, "B D"]]]) -> None:
        """Weights in the direction of given rows, (index, rows) of the whole data set, as long as random ones are."""
        for index, rows in pairs:
            self.weights.write(index, normalize(rows, dim=1) * (DEVIATION * self.dim**0.5))
        self.velocity.own.zero_()

    @torch.no_grad()
    def catch_up(self) -> None:
        """Writes down what every weight is by now, also of classes that took no part for a while."""
        if self.skipped is not None:
            for rows in torch.arange(len(self.weights.own), device=self.weights.own.device).split(BLOCK):
                self._bring_up(rows)

    def _held(self, among: Tensor, own: Tensor) -> Tensor:
        """Where the classes that take part are held here: sorted, each once."""
        return self.weights.places(torch.cat([among, own]))[1].unique()

    def _bring_up(self, rows: Tensor) -> None:
        """(weight, velocity) <- what decay and momentum alone have made of them since these rows last took part."""
        assert self.skipped is not None
        matrix = self.skipped.own[rows]
        weight, velocity = self.weights.own[rows], self.velocity.own[rows]
        self.weights.own[rows] = matrix[:, :1, 0] * weight + matrix[:, :1, 1] * velocity
        self.velocity.own[rows] = matrix[:, 1:, 0] * weight + matrix[:, 1:, 1] * velocity
        self.skipped.own[rows] = torch.eye(2).to(matrix)

    def _note_skipped(self, rate: float, rows: Tensor | None) -> None:
        """One more step without a gradient for all classes that took no part: torch.optim.SGD, as a matrix."""
        assert self.skipped is not None
        decay, m, table = self.weight_decay, self.momentum, self.skipped.own
        step = table.new_tensor([[1 - rate * decay, -rate * m], [decay, m]])
        visited = slice(None) if rows is None else rows
        table.copy_(torch.matmul(step, table))
        table[visited] = torch.eye(2).to(table)

    def _room(self, x_bVD: Tensor, rows: Tensor | None) -> Tensor:
        """Memory for the logits of a batch of which these are own views; kept from step to step."""
        count = len(self.weights.own) if rows is None else len(rows)
        samples = int(all_sum(torch.tensor(float(len(x_bVD)), device=x_bVD.device)))
        columns = samples * x_bVD.shape[1]
        if self._logits.numel() < count * columns or self._logits.dtype != self.weights.own.dtype:
            self._logits = self.weights.own.new_empty(count * columns)
        self._logits_of = x_bVD.detach()
        return self._logits[: count * columns].view(count, columns)

    def _remembered(self, x_BVD: Tensor, rows: Tensor | None) -> Tensor | None:
        """The logits of these very views, if they were kept; with accumulated micro-batches they were not."""
        if not torch.equal(self._logits_of, x_BVD[self.weights.rank :: self.weights.world]):
            return None
        count, columns = len(self.weights.own) if rows is None else len(rows), x_BVD.shape[0] * x_BVD.shape[1]
        return self._logits[: count * columns].view(count, columns)

    def _start(self, seed: int) -> None:
        """First weights, equal for any number of ranks."""
        for number, index in enumerate(torch.arange(self.size).split(BLOCK)):
            drawn = torch.randn(len(index), self.dim, generator=generator("instance classes", seed, number))
            self.weights.write(index, drawn * DEVIATION)
        if self.skipped is not None:
            self.skipped.own.copy_(torch.eye(2))
