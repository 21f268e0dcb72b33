"""The papers' plans: equal to torchvision's functionals one by one, and made of the numbers the papers state."""

import pytest
import torch
import torchvision.transforms.v2.functional as F
from torchvision_reference import photo, reference

from lookalike.transforms import (
    AutoAugment,
    ColorJitter,
    Either,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    OverlappingCrop,
    RandomResizedCrop,
    RemoveBackground,
    Solarize,
    Views,
    byol_pair,
    digits,
    dino,
    eval_chain,
    moco_cifar,
    moco_v1,
    moco_v2,
    moco_v3,
    npid,
    npid_cifar,
    relicv2,
    ressl_multicrop,
    revisiting,
    sce_multicrop,
    sce_pair,
    sce_weak_strong,
    simclr,
    simsiam,
    stl10,
    supcon,
    swav,
    vicreg_cifar,
)

SMALL = {
    "simclr": simclr(32, strength=0.5, blur=False),
    "simclr, strong and blurred": simclr(32),
    "moco v1": moco_v1(32),
    "moco v2": moco_v2(32),
    "moco cifar": moco_cifar(),
    "byol": byol_pair(32),
    "byol without blur": byol_pair(32, blur=False),
    "sce": sce_weak_strong(),
    "supcon": supcon(),
    "stl10": stl10(32),
    "npid": npid(32),
    "sce pair": sce_pair(32),
    "swav": swav(32),
    "dino": dino(32),
    "relicv2": relicv2(32, masked=0.0),
    "simsiam": simsiam(32, blur=False),
    "moco v3": moco_v3(32),
    "vicreg": vicreg_cifar(),
}
LARGE = {
    "simclr": simclr(),
    "moco v1": moco_v1(),
    "moco v2": moco_v2(),
    "byol": byol_pair(),
    "sce": sce_multicrop(),
    "swav": swav(),
    "dino": dino(),
    "ressl": ressl_multicrop(),
}


def check(plan, images):
    views = Views(plan)
    count = len(images)
    parameters = views.draw(torch.arange(count), seed=1, epoch=(0, 0))
    pixels = views.render(images, parameters)
    for name, chain in plan.items():
        theirs = torch.stack([reference(images[row], chain, parameters.views[name], row) for row in range(count)])
        error = (pixels[name] - 255 * theirs).abs()
        assert error.mean() < 0.26  # of 255 levels: rounding to the nearest makes 0.25
        assert error.max() < 0.52  # rounding makes 0.5, ending Gaussians at 4 sigma the rest


@pytest.mark.parametrize("plan", SMALL.values(), ids=SMALL)
def test_small_views_are_torchvisions(plan):
    check(plan, photo(3, 32, 32, count=48))


@pytest.mark.parametrize("plan", LARGE.values(), ids=LARGE)
def test_large_views_are_torchvisions(plan):
    check(plan, photo(3, 256, 300, count=5))


def test_evaluation_is_the_identity_where_sizes_agree_and_torchvisions_where_not():
    views = Views({"still": eval_chain(32), "custom": eval_chain(28, 32)})
    parameters = views.draw(torch.arange(1), seed=0, epoch=(0, 0))
    image = photo(3, 32, 32)
    assert torch.equal(views.render([image], parameters, names=["still"])["still"][0], image)
    image = photo(3, 71, 48)
    theirs = F.center_crop(F.resize(image, [32], antialias=True), [28, 28])
    assert torch.equal(views.render([image], parameters)["custom"][0], theirs)


def find(chain, kind):
    return next((transform for transform in chain if isinstance(transform, kind)), None)


def test_blur_has_a_tenth_of_the_size_in_simclr_and_byol():
    for size, taps in ((224, 23), (96, 9), (32, 3)):
        assert find(simclr(size)["view/1"], GaussianBlur).kernel == taps
        assert find(byol_pair(size)["view/2"], GaussianBlur).kernel == taps


def test_simclr_strength_scales_the_jitter_and_cifar_has_no_blur():
    chain = simclr(32, strength=0.5, blur=False)["view/2"]
    assert find(chain, ColorJitter) == ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8)
    assert find(chain, GaussianBlur) is None
    assert find(chain, RandomResizedCrop) == RandomResizedCrop(32, (0.08, 1.0), interpolation="bicubic")


def test_simsiam_views_are_both_moco_v2s_and_cifar_has_no_blur():
    assert list(simsiam().values()) == [moco_v2()["query"]] * 2
    sharp = simsiam(32, blur=False)["view/2"]
    assert sharp == tuple(change for change in moco_v2(32)["key"] if not isinstance(change, GaussianBlur))
    assert len(sharp) == 4


def test_vicreg_cifar_solarizes_both_views_and_blurs_none():
    one, two = vicreg_cifar().values()
    assert one == two
    assert one[0] == RandomResizedCrop(32, (0.2, 1.0), interpolation="bicubic")
    assert find(one, ColorJitter) == ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8)
    assert find(one, Solarize) == Solarize(0.5, p=0.1)
    assert find(one, GaussianBlur) is None


def test_stl10_has_crops_of_any_size_and_turns_the_hue_of_every_view():
    one, two = stl10().values()
    assert one == two
    assert one[0] == RandomResizedCrop(64, (0.08, 1.0), interpolation="bilinear")
    assert one[1:] == (HorizontalFlip(0.5), ColorJitter(0.4, 0.4, 0.4, 0.4, p=1.0), Grayscale(0.2))


def test_moco_v3_has_byols_pair_with_other_crops_and_a_blur_without_bound():
    for name, chain in moco_v3().items():
        blur, theirs = find(chain, GaussianBlur), find(byol_pair()[name], GaussianBlur)
        assert (blur.kernel, blur.p, blur.sigma) == (None, theirs.p, theirs.sigma)
        assert chain[0] == RandomResizedCrop(224, (0.2, 1.0))
        assert [x for x in chain[1:] if x != blur] == [x for x in byol_pair()[name][1:] if x != theirs]


def test_npid_on_cifar_has_torchvisions_views_and_no_flip():
    check(npid_cifar(), photo(3, 32, 32, count=48))
    gray, jitter = Grayscale(0.2), ColorJitter(0.4, 0.4, 0.4, 0.4, p=1.0)
    assert npid_cifar()["view"] == (RandomResizedCrop(32, (0.2, 1.0)), jitter, gray)
    assert npid(32)["view"] == (RandomResizedCrop(32, (0.2, 1.0)), gray, jitter, HorizontalFlip())


def test_supcon_crops_less_than_moco_on_cifar_and_changes_as_it_does():
    one, two = supcon().values()
    assert one == two == (RandomResizedCrop(32, (0.2, 1.0)), *moco_cifar()["query"][1:])


def test_the_crops_of_ressl_are_smaller_and_smaller_and_the_weak_view_is_whole():
    weak, *strong = ressl_multicrop().values()
    assert weak == (RandomResizedCrop(224, (0.2, 1.0)), HorizontalFlip())
    assert [(chain[0].size, chain[0].scale) for chain in strong] == [
        (224, (0.2, 1.0)),
        (192, (0.172, 0.86)),
        (160, (0.143, 0.715)),
        (128, (0.114, 0.571)),
        (96, (0.086, 0.429)),
    ]
    assert all(chain[1:] == moco_v2()["query"][1:] for chain in strong)


def test_byol_pair_is_asymmetric():
    one, two = byol_pair().values()
    assert find(one, GaussianBlur).p == 1.0
    assert find(two, GaussianBlur).p == 0.1
    assert find(one, Solarize) is None
    assert find(two, Solarize) == Solarize(0.5, p=0.2)
    assert find(one, ColorJitter) == find(two, ColorJitter) == ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8)


def test_byol_pair_without_blur_differs_in_nothing_else():
    blurred, sharp = byol_pair(32), byol_pair(32, blur=False)
    for name, chain in blurred.items():
        assert sharp[name] == tuple(change for change in chain if not isinstance(change, GaussianBlur))
        assert find(chain, GaussianBlur) is not None


@pytest.mark.parametrize("plan", [*SMALL.values(), *LARGE.values()])
def test_every_view_is_flipped(plan):
    assert all(find(chain, HorizontalFlip) == HorizontalFlip(0.5) for chain in plan.values())


@pytest.mark.parametrize("channels", [1, 3])
def test_views_of_digits_are_torchvisions(channels):
    check(digits(16), photo(channels, 32, 32, count=24))


def test_digits_are_neither_mirrored_nor_colored():
    one, two = digits(16, low=0.6).values()
    assert one == two
    assert find(one, HorizontalFlip) is None
    assert one[0] == RandomResizedCrop(16, (0.6, 1.0))
    jitter = find(one, ColorJitter)
    assert (jitter.saturation, jitter.hue) == (0.0, 0.0)


def test_sce_multicrop_has_the_published_sizes_and_scales():
    crops = {name: (c[0].size, c[0].scale) for name, c in sce_multicrop().items()}
    assert crops == {
        "global/1": (224, (0.2, 1.0)),
        "global/2": (224, (0.2, 1.0)),
        "local/1": (192, (0.172, 0.86)),
        "local/2": (160, (0.143, 0.715)),
        "local/3": (128, (0.114, 0.571)),
        "local/4": (96, (0.086, 0.429)),
    }


def test_sce_multicrop_shrinks_in_proportion():
    assert [chain[0].size for chain in sce_multicrop(28).values()] == [28, 28, 24, 20, 16, 12]
    for name, chain in sce_multicrop(28).items():
        assert chain[0].scale == sce_multicrop()[name][0].scale
        assert chain[1:] == sce_multicrop()[name][1:]


def test_swav_has_the_published_sizes_and_scales():
    crops = {name: (c[0].size, c[0].scale, c[0].interpolation) for name, c in swav().items()}
    assert [name for name in crops if name.startswith("global")] == ["global/1", "global/2"]
    assert [name for name in crops if name.startswith("local")] == [f"local/{n}" for n in range(1, 7)]
    assert {crops[f"global/{n}"] for n in (1, 2)} == {(224, (0.14, 1.0), "bilinear")}
    assert {crops[f"local/{n}"] for n in range(1, 7)} == {(96, (0.05, 0.14), "bilinear")}
    for chain in swav().values():
        assert find(chain, ColorJitter) == ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8)
        assert find(chain, GaussianBlur) == GaussianBlur((0.1, 2.0), kernel=None, p=0.5)


def test_dino_has_the_published_sizes_scales_and_blurs():
    plan = dino()
    crops = {name: (c[0].size, c[0].scale, c[0].interpolation) for name, c in plan.items()}
    assert list(crops) == ["global/1", "global/2", *(f"local/{n}" for n in range(1, 9))]
    assert crops["global/1"] == crops["global/2"] == (224, (0.4, 1.0), "bicubic")
    assert {crops[f"local/{n}"] for n in range(1, 9)} == {(96, (0.05, 0.4), "bicubic")}
    blurs = {name: find(chain, GaussianBlur) for name, chain in plan.items()}
    assert {(blur.sigma, blur.kernel) for blur in blurs.values()} == {((0.1, 2.0), None)}
    assert [blurs[name].p for name in ("global/1", "global/2", "local/1")] == [1.0, 0.1, 0.5]
    assert [name for name, chain in plan.items() if find(chain, Solarize)] == ["global/2"]
    assert {find(chain, ColorJitter) for chain in plan.values()} == {ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8)}
    for_resnets = dino(low=0.14, local_high=0.14)
    assert (for_resnets["global/2"][0].scale, for_resnets["local/8"][0].scale) == ((0.14, 1.0), (0.05, 0.14))


def test_swav_without_local_views_is_the_baseline_of_two_crops():
    assert {name: chain[0].scale for name, chain in swav(local_views=0).items()} == dict.fromkeys(
        ("global/1", "global/2"), (0.08, 1.0)
    )


def test_local_views_shrink_in_proportion_or_have_the_size_they_are_given():
    assert {chain[0].size for name, chain in swav(32).items() if "local" in name} == {14}
    assert {chain[0].size for name, chain in swav(32, local_size=16).items() if "local" in name} == {16}


def test_relicv2_takes_the_background_away_from_large_views_alone():
    plan = relicv2()
    assert list(plan) == ["large/1", "large/2", "large/3", "large/4", "small/1", "small/2"]
    assert [name for name, chain in plan.items() if chain[0] == RemoveBackground(0.1)] == list(plan)[:4]
    byol = byol_pair()
    for number, chain in enumerate(plan.values()):
        if number < 4:
            assert chain[2:] == byol[f"view/{1 + number % 2}"][1:]
        assert find(chain, RandomResizedCrop).scale == ((0.14, 1.0) if number < 4 else (0.05, 0.14))
        assert bool(find(chain, Solarize)) == bool(number % 2)
    assert not any(find(chain, RemoveBackground) for chain in relicv2(masked=0.0).values())


def test_revisiting_has_the_published_crops_and_auto_augment_in_all_views_but_the_key():
    plan, colors = revisiting(), (ColorJitter(0.4, 0.4, 0.4, 0.1), Grayscale(), GaussianBlur())
    assert list(plan) == ["query", "key", "small/1", "small/2", "small/3", "small/4"]
    large = RandomResizedCrop(160, (0.2, 1.0))
    assert plan["query"][0] == plan["key"][0] == large
    assert plan["key"][1:] == (HorizontalFlip(), *colors)
    assert set(colors) == set(moco_v2()["key"][1:]) - {HorizontalFlip()}
    near = OverlappingCrop(RandomResizedCrop(96, (0.05, 0.14)), of="key", anchor=large, overlap=0.1)
    for name in ("query", "small/1", "small/4"):
        assert plan[name][1:] == (HorizontalFlip(), Either((AutoAugment(),), colors, p=0.5))
        assert plan[name][0] == (large if name == "query" else near)
    assert [chain[0].size for chain in revisiting(32, small=1).values()] == [32, 32, 19]
