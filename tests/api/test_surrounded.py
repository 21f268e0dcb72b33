"""A run with tasks and curation around its method ends as any other: closing check, encoder, features."""

import torch

import lookalike as la
from lookalike.functional import random


def test_a_surrounded_run_ends_with_an_encoder_of_its_own(tmp_path) -> None:
    images = torch.randint(256, (12, 3, 16, 16), generator=random.generator("images"), dtype=torch.uint8)
    run = la.pretrain(
        list(images),
        recipe="simclr_small_smoke",
        overrides=["epochs=1", "batch=4"],
        with_="rotation,curation",
        out=tmp_path / "run",
    )
    assert run.encoder(images).shape == (12, 128)
    assert "an image known by another view of it, among 12 training images" in (run.path / "log.txt").read_text()
