"""Pseudo-labels: the cluster of every image of the data set, kept up to date while the images' rows move."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lookalike.functional.clusters import Clustering, dissolved, filled, kmeans, means, nearest_center

FEW, SHARE = 128, 6  # our choice where no number is given: images of a cluster, and the part of them that is too few


class Clusters(nn.Module):
    """Labels of `size` images and centers of `count` clusters in D dimensions (Xie et al. 2020; mmselfsup, InterCLR).

    smallest: clusters of fewer images are dissolved; recenter: steps between new centers. again: epochs after which a
    method that has offline labels clusters anew; None: online labels. count None: one for 128 images; smallest None: a
    sixth of the mean size. No cluster is ever empty.

    >>> clusters = Clusters(6, 2, count=2, smallest=1)
    >>> clusters.start(torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(3, 1), torch.Generator().manual_seed(0))
    >>> clusters.sizes().tolist()
    [3, 3]

    Raises ValueError for fewer than two clusters, or where the images do not suffice for so many of this size.
    """

    label: Tensor
    center: Tensor

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        count: int | None = 10000,
        smallest: int | None = 20,
        recenter: int = 10,
        again: float | None = None,
    ) -> None:
        super().__init__()
        count = max(size // FEW, 2) if count is None else count
        smallest = max(size // (SHARE * count), 1) if smallest is None else smallest
        if count < 2:
            raise ValueError(f"{count} cluster has no other to be told apart from: give at least 2")
        if smallest < 1 or recenter < 1:
            raise ValueError(f"smallest and recenter are {smallest} and {recenter}: give 1 or more")
        if again is not None and not again > 0:
            raise ValueError(f"again is {again}: give epochs above 0, or None for online labels")
        if count * smallest > size:
            raise ValueError(
                f"{count} clusters of at least {smallest} need {count * smallest} images, and there are {size}: "
                "lower count or smallest, or leave both at null"
            )
        self.count, self.smallest, self.recenter, self.again = count, smallest, recenter, again
        self.register_buffer("label", torch.arange(size) % count)
        self.register_buffer("center", torch.zeros(count, dim))

    def sizes(self) -> Int64[Tensor, "C"]:
        """Images of each cluster."""
        return self.label.bincount(minlength=self.count)

    @torch.no_grad()
    def start(self, rows_ND: Float[Tensor, "N D"], generator: torch.Generator) -> None:
        """All images clustered anew, by k-means; empty clusters get a part of the largest."""
        label_N = kmeans(rows_ND, self.count, generator=generator)
        center_CD = means(rows_ND, label_N, torch.zeros_like(self.center))
        self._take(filled(rows_ND, Clustering(label_N, center_CD), generator=generator))

    @torch.no_grad()
    def tend(self, rows_ND: Float[Tensor, "N D"], moved: Int64[Tensor, "B"], step: int, gen: torch.Generator) -> None:
        """Online labels after step number `step`, counted from 1, which moved some of the rows.

        They go to the center with the largest product; centers are renewed when it is time; small clusters dissolve and
        take a part of the largest: the order of the official code.
        """
        self.label[moved] = nearest_center(rows_ND[moved].to(self.center.dtype), self.center)
        if step % self.recenter == 0:
            self.center.copy_(means(rows_ND, self.label, self.center))
        if bool((self.sizes() < self.smallest).any()):
            label_N = dissolved(rows_ND, Clustering(self.label, self.center), smallest=self.smallest)
            self._take(filled(rows_ND, Clustering(label_N, self.center), generator=gen))

    def _take(self, found: Clustering) -> None:
        self.label.copy_(found.label)
        self.center.copy_(found.center)

    def extra_repr(self) -> str:
        return f"size={len(self.label)}, count={self.count}, smallest={self.smallest}, again={self.again}"
