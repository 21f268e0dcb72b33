"""PCA whitening: unit variance on the background, against scikit-learn, and what cannot be whitened."""

import pytest
import torch
from sklearn.decomposition import PCA
from torch.nn.functional import normalize

from lookalike.evaluation import whitening


def background() -> torch.Tensor:
    return torch.randn(200, 8, dtype=torch.float64) @ torch.randn(8, 8, dtype=torch.float64) + 2


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("dim", [8, 3])
def test_products_are_those_of_scikit_learn(whiten, dim):
    rows, others = background(), torch.randn(5, 8, dtype=torch.float64)
    fitted = whitening(rows, dim, whiten=whiten)
    assert fitted.dim == dim
    theirs = PCA(n_components=dim, whiten=whiten).fit(normalize(rows).numpy())
    expected = normalize(torch.from_numpy(theirs.transform(normalize(others).numpy())))
    ours = fitted(others)
    torch.testing.assert_close(ours @ ours.T, expected @ expected.T, rtol=1e-8, atol=1e-8)  # signs are free


def test_each_direction_has_unit_variance_on_the_background_before_rows_are_scaled():
    rows = normalize(background())
    fitted = whitening(rows, 5)
    moved = (rows - fitted.mean) @ fitted.directions
    torch.testing.assert_close(moved.T @ moved / len(rows), torch.eye(5, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(fitted(rows).norm(dim=1), torch.ones(200, dtype=torch.float64))


def test_directions_in_which_the_background_does_not_vary_are_left_out():
    rows = torch.randn(4, 8)
    assert whitening(rows, 8).dim == 3
    with pytest.raises(ValueError, match="the 5 background rows are all equal"):
        whitening(rows[:1].expand(5, 8), 8)


def test_is_fitted_once_and_in_the_type_of_the_rows():
    fitted = whitening(background().float(), 4)
    rows = torch.randn(6, 8)
    assert fitted(rows).dtype == torch.float32
    torch.testing.assert_close(fitted(rows), torch.cat([fitted(rows[:2]), fitted(rows[2:])]))
