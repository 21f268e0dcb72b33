"""Layout, atlas and neighbor sheet of a report, on rows whose answer is known."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.api.report.atlas import atlas
from lookalike.api.report.encoded import Encoded, sample
from lookalike.api.report.kin import kin, places
from lookalike.api.report.layout import Layout, framed, layouts, principal
from lookalike.api.tiles import fitted, picture
from lookalike.training.progress import Line


def opened(uri: str) -> np.ndarray:
    head, _, code = uri.partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))


def test_principal_components_are_those_of_a_plain_decomposition() -> None:
    rows = torch.randn(40, 6, dtype=torch.float64) * torch.tensor([5.0, 3, 1, 0.5, 0.2, 0.1])
    parts, shares = principal(rows, 3)
    centered = rows.numpy() - rows.numpy().mean(0)
    _, s, vt = np.linalg.svd(centered, full_matrices=False)
    expected = centered @ vt[:3].T
    signs = np.sign(np.take_along_axis(vt[:3], np.abs(vt[:3]).argmax(1)[:, None], 1)[:, 0])
    assert np.allclose(parts.numpy(), expected * signs)
    assert np.allclose(shares.numpy(), s[:3] ** 2 / (s**2).sum())


def test_one_dimension_gets_a_second_of_zeros() -> None:
    parts, _ = principal(torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64), 50)
    assert parts.shape == (3, 2)
    assert parts[:, 1].abs().max() == 0


def test_a_frame_keeps_proportions() -> None:
    found = framed(torch.tensor([[0.0, 0.0], [4.0, 1.0], [2.0, 2.0]]))
    assert torch.allclose(found, torch.tensor([[0.0, 0.25], [1.0, 0.5], [0.5, 0.75]], dtype=torch.float64))
    assert torch.equal(framed(torch.ones(3, 2)), torch.full((3, 2), 0.5, dtype=torch.float64))


def test_places_are_packed_as_pairs_of_two_bytes() -> None:
    packed = Layout("x", "", torch.tensor([[0.0, 1.0], [0.5, 0.25]], dtype=torch.float64)).packed()
    assert np.frombuffer(base64.b64decode(packed), "<u2").tolist() == [0, 65535, 32768, 16384]


def test_tsne_keeps_groups_apart_and_gives_the_same_bits() -> None:
    pytest.importorskip("sklearn", reason="t-SNE needs scikit-learn: pip install 'lookalike[demo]'")
    centers = torch.eye(8)[[0] * 20 + [1] * 20]
    rows = centers + 0.05 * torch.randn(40, 8)
    with Line(quiet=True) as line:
        one, two = (layouts(rows, line) for _ in range(2))
    assert [layout.name for layout in one] == ["t-SNE", "PCA"]
    assert all(torch.equal(a.places, b.places) for a, b in zip(one, two, strict=True))
    for layout in one:
        far = torch.cdist(layout.places, layout.places)
        assert far[:20, 20:].min() > far[:20, :20].max()


def test_few_images_have_principal_components_alone() -> None:
    with Line(quiet=True) as line:
        assert [layout.name for layout in layouts(torch.randn(5, 4), line)] == ["PCA"]


def test_an_atlas_holds_each_picture_in_its_place() -> None:
    colors = torch.randint(0, 256, (70, 3, 1, 1), dtype=torch.uint8)
    found = atlas(colors.expand(-1, -1, 512, 512))
    assert (found.side, found.across, len(found.pages)) == (512, 4, 5)
    for number, color in enumerate(colors[:, :, 0, 0].tolist()):
        page = opened(found.pages[number // 16])
        row, column = divmod(number % 16, 4)
        tile = page[row * 512 + 100 : row * 512 + 400, column * 512 + 100 : column * 512 + 400]
        assert np.abs(tile.reshape(-1, 3).mean(0) - color).max() < 6


def test_an_atlas_keeps_its_bound() -> None:
    noise = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    whole = sum(map(len, atlas(noise).pages))
    found = atlas(noise, most_bytes=whole // 8)
    assert sum(len(base64.b64decode(page.partition(",")[2])) for page in found.pages) <= whole // 8
    assert found.side < 32


def test_fitting_keeps_proportions_and_enlarges_when_asked() -> None:
    wide = torch.zeros(3, 50, 200, dtype=torch.uint8)
    assert fitted(wide, 100).shape == (3, 25, 100)
    assert fitted(wide, 400) is wide
    assert fitted(wide, 400, enlarge=True).shape == (3, 100, 400)
    assert picture(torch.full((1, 2, 3), 7, dtype=torch.uint8)).getpixel((0, 0)) == (7, 7, 7)


def encoded(rows: torch.Tensor) -> Encoded:
    count = len(rows)
    return Encoded(
        index=torch.arange(count),
        names=[f"{i}.png" for i in range(count)],
        rows=rows,
        thumbs=torch.zeros(count, 3, 4, 4, dtype=torch.uint8),
        images=count,
        skipped=0,
    )


def test_neighbors_against_all_cosines() -> None:
    rows = torch.randn(30, 8)
    rows[7] = 2 * rows[3]  # a copy, as cosine sees it
    rows[11] = -rows.mean(0) * 50
    groups = {group.title: group.queries for group in kin(encoded(rows), seed=0)}
    cosine = torch.nn.functional.cosine_similarity(rows[:, None].double(), rows[None].double(), dim=2)
    for queries in groups.values():
        for query in queries:
            others = sorted((i for i in range(30) if i != query.place), key=lambda i: -cosine[query.place, i])
            assert [one.place for one in query.nearest] == others[:6]
            assert query.farthest.place == others[-1]
            assert query.median.place == others[14]
            assert query.nearest[0].similarity == pytest.approx(float(cosine[query.place, others[0]]), abs=2e-6)
    best = (cosine - 2 * torch.eye(30)).max(1).values
    assert {query.place for query in groups["Nearest of all"]} & {3, 7}
    assert not {3, 7} <= {query.place for query in groups["Nearest of all"]}  # a pair stands once
    assert groups["Worst"][0].place == int(best.argmin())
    typical = best[[query.place for query in groups["Typical"]]]
    assert bool(((typical - best.median()).abs() < 0.1).all())


def test_the_random_queries_are_the_seeds() -> None:
    found = encoded(torch.randn(30, 8))
    one, again, other = (kin(found, seed=seed)[0].queries for seed in (1, 1, 2))
    assert [q.place for q in one] == [q.place for q in again]
    assert [q.place for q in one] != [q.place for q in other]
    assert set(places(kin(found, seed=1))) >= {q.place for q in one}


def test_two_images_have_no_sheet() -> None:
    assert kin(encoded(torch.randn(2, 8)), seed=0) == []
    assert kin(encoded(torch.randn(3, 8)), seed=0)[0].queries[0].nearest


def test_a_sample_is_keyed_and_in_order() -> None:
    assert sample(5, 10, seed=0) == [0, 1, 2, 3, 4]
    chosen = sample(1000, 100, seed=0)
    assert len(set(chosen)) == 100
    assert chosen == sorted(chosen)
    assert chosen == sample(1000, 100, seed=0) != sample(1000, 100, seed=1)
