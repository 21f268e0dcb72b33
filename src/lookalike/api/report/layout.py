"""Two dimensions for a map of features: principal components always, t-SNE where scikit-learn is there.

N rows, D dimensions.
"""

import base64
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn.functional import normalize

from lookalike.training.progress import Line

DIMENSIONS = 50  # of the rows that t-SNE sees: what lies beyond is mostly noise, and costs time
PERPLEXITY = 30
NEIGHBORS = 8_000  # images up to which t-SNE takes a minute or two on one core
LEVELS = 65_535  # of a coordinate


@dataclass(frozen=True)
class Layout:
    """Places in [0, 1] of the larger extent, up to 65,535 levels, and what they mean."""

    name: str
    note: str
    places: Float64[Tensor, "N 2"]

    def packed(self) -> str:
        """x and y of each row as little-endian uint16, in base64."""
        levels = (self.places * LEVELS).round().numpy().astype("<u2")
        return base64.b64encode(levels.tobytes()).decode()


def layouts(rows_ND: Float[Tensor, "N D"], line: Line) -> list[Layout]:
    """The best layout first. Rows are compared by cosine: their norm does not count."""
    parts, shares = principal(normalize(rows_ND.double(), dim=1), DIMENSIONS)
    one, two = (*shares[:2].tolist(), 0.0)[:2]
    note = f"The two directions of largest variance: {one:.0%} across, {two:.0%} upwards. Distances are true to scale."
    plain = Layout("PCA", note, framed(parts[:, :2]))
    return [*_tsne(parts, line), plain]


def principal(rows_ND: Float64[Tensor, "N D"], most: int) -> tuple[Float64[Tensor, "N K"], Float64[Tensor, "J"]]:
    """The first J <= `most` principal components of each row (K = J, or 2 with zeros for J = 1), and their shares.

    Of the two signs of a component the one is taken that makes the largest entry of its direction positive.
    """
    centered = rows_ND - rows_ND.mean(0)
    values, vectors = torch.linalg.eigh(centered.T @ centered)
    count = min(most, len(values))
    values, vectors = values.flip(0)[:count].clamp_min(0), vectors.flip(1)[:, :count]
    largest = vectors.abs().argmax(0)
    vectors = vectors * vectors[largest, torch.arange(count)].sign()
    parts = torch.nn.functional.pad(centered @ vectors, (0, max(0, 2 - count)))
    return parts, values / centered.square().sum().clamp_min(torch.finfo(torch.float64).tiny)


def framed(places_N2: Float[Tensor, "N 2"]) -> Float64[Tensor, "N 2"]:
    """Moved and scaled into [0, 1], both axes alike, the shorter one centered."""
    places = places_N2.double()
    low, high = places.min(0).values, places.max(0).values
    extent = float((high - low).max())
    return (places - (low + high) / 2) / (extent if extent > 0 else 1.0) + 0.5


def _tsne(parts_NK: Float64[Tensor, "N K"], line: Line) -> list[Layout]:
    """t-SNE of the principal components (van der Maaten and Hinton, 2008), on one thread: the same bits every time."""
    count = len(parts_NK)
    if not 8 <= count <= NEIGHBORS:
        return []
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError:
        return []
    start = np.float32(parts_NK[:, :2] / parts_NK[:, 0].std().clamp_min(1e-12) * 1e-4)
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    with line.track(f"Laying out {count:,} images by t-SNE", 1) as advance, threadpool_limits(1):
        places = TSNE(init=start, perplexity=perplexity, n_jobs=1, random_state=0).fit_transform(np.float32(parts_NK))
        advance(1)
    note = f"Similar images lie together (perplexity {perplexity:.3g}); distances between groups mean little."
    return [Layout("t-SNE", note, framed(torch.from_numpy(places)))]
