"""Score normalization in both published forms, by hand and as one more dimension."""

import pytest
import torch

from lookalike.functional.normalization import (
    ISC2021,
    SSCD,
    Normalization,
    background_level,
    with_level,
    with_one,
)


def test_both_published_forms_by_hand():
    similarity_Qk = torch.tensor([[0.9, 0.6, 0.3, 0.28, 0.26, 0.24, 0.22, 0.2, 0.18, 0.15, 0.1]])
    assert background_level(similarity_Qk, SSCD).tolist() == pytest.approx([0.6])  # the mean of the first three
    assert background_level(similarity_Qk, ISC2021).tolist() == pytest.approx([0.15])  # the tenth
    assert (SSCD.weight, ISC2021.weight) == (1.0, 2.0)
    assert (str(SSCD), str(ISC2021)) == ("1[0,2]", "2[9,9]")


@pytest.mark.parametrize("form", [SSCD, ISC2021])
def test_one_more_dimension_subtracts_the_level_from_every_score(form):
    query, reference, background = (torch.randn(n, 6, dtype=torch.float64) for n in (5, 7, 20))
    level = background_level((query @ background.T).sort(dim=1, descending=True).values, form)
    scores = with_level(query, level, form.weight) @ with_one(reference).T
    for i, q in enumerate(query):
        others = sorted((float(q @ b) for b in background), reverse=True)[form.first : form.last + 1]
        for j, r in enumerate(reference):
            expected = float(q @ r) - form.weight * sum(others) / len(others)
            assert float(scores[i, j]) == pytest.approx(expected, rel=1e-12)


def test_a_background_that_is_too_small_and_a_form_without_neighbors_are_refused():
    with pytest.raises(ValueError, match="reads 3 neighbors in the background set, which holds 2: give more"):
        background_level(torch.zeros(1, 2), SSCD)
    with pytest.raises(ValueError, match="neighbors 3 to 2 are none"):
        Normalization(first=3, last=2, weight=1.0)
